//! What an answer shows of the peers it was asked of, attempt by attempt.

use std::collections::BTreeMap;

use protocol::{
    PeerId,
    job::client::{AttemptEnd, AttemptId},
};

use crate::{
    chat::MoveReason,
    route::{Observation, Outcome, Verdict, verdict},
};

/// Tokens of which a speed is believed: the first few come in one frame.
const MIN_TIMED_TOKENS: u32 = 8;

/// One attempt at a peer, as it is timed.
#[derive(Debug)]
struct Watched {
    peer: PeerId,
    /// Milliseconds of the monotonic clock.
    opened_ms: Option<u64>,
    rtt_ms: Option<f64>,
    first_ms: Option<u64>,
    last_ms: u64,
    tokens: u32,
    /// Tokens of the first frame, which took no time that was seen.
    first_tokens: u32,
    /// Whatever ends it lies here, and not with the peer.
    ours: bool,
}

/// The attempts of one answer.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    running: BTreeMap<AttemptId, Watched>,
    /// Milliseconds after which each peer was expected to give the first token.
    expected_ms: BTreeMap<PeerId, f64>,
}

/// What is to be noted of a peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Noted {
    pub(super) peer: PeerId,
    pub(super) seen: Observation,
    pub(super) ban: bool,
}

impl Noted {
    /// What is left of it where the end lies here: what was timed.
    pub(super) fn not_blamed(mut self) -> Self {
        self.seen.outcome = Outcome::Neutral;
        self.seen.stalled = false;
        self.ban = false;
        self
    }
}

/// Whether an end counts against the peer only where this computer did not sleep or change its network.
pub(super) fn may_be_ours(why: &AttemptEnd) -> bool {
    verdict(why, true) != verdict(why, false)
}

impl Attempts {
    pub(super) fn new(expected_ms: BTreeMap<PeerId, f64>) -> Self {
        Self {
            running: BTreeMap::new(),
            expected_ms,
        }
    }

    pub(super) fn begun(&mut self, attempt: AttemptId, peer: PeerId) {
        let watched = Watched {
            peer,
            opened_ms: None,
            rtt_ms: None,
            first_ms: None,
            last_ms: 0,
            tokens: 0,
            first_tokens: 0,
            ours: false,
        };
        self.running.insert(attempt, watched);
    }

    pub(super) fn connected(&mut self, attempt: AttemptId, rtt_ms: u64, now_ms: u64) {
        if let Some(watched) = self.running.get_mut(&attempt) {
            watched.opened_ms = Some(now_ms);
            // 0 says that it is not known.
            watched.rtt_ms = (rtt_ms > 0).then_some(rtt_ms as f64);
        }
    }

    /// No stream came about, for a reason that lies here.
    pub(super) fn is_ours(&mut self, attempt: AttemptId) {
        if let Some(watched) = self.running.get_mut(&attempt) {
            watched.ours = true;
        }
    }

    pub(super) fn tokens(&mut self, attempt: AttemptId, count: usize, now_ms: u64) {
        let Some(watched) = self.running.get_mut(&attempt) else {
            return;
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if watched.first_ms.is_none() {
            watched.first_ms = Some(now_ms);
            watched.first_tokens = count;
        }
        watched.last_ms = now_ms;
        watched.tokens = watched.tokens.saturating_add(count);
    }

    /// An attempt ended. `own_fault`: this computer slept or changed its network meanwhile.
    pub(super) fn ended(
        &mut self,
        attempt: AttemptId,
        why: &AttemptEnd,
        own_fault: bool,
    ) -> Option<Noted> {
        let stalled = matches!(why, AttemptEnd::Stalled);
        let ours = self.running.get(&attempt);
        let own_fault = own_fault || ours.is_some_and(|watched| watched.ours);
        let mut judged = verdict(why, own_fault);
        // Stopped by the person, after it had given what it was asked for.
        if matches!(why, AttemptEnd::Stopped) && self.gave_tokens(attempt) {
            judged.outcome = Outcome::Good;
        }
        self.note(attempt, judged, stalled)
    }

    /// An attempt gave the end of the answer.
    pub(super) fn finished(&mut self, attempt: AttemptId) -> Option<Noted> {
        let good = Verdict {
            outcome: Outcome::Good,
            ban: false,
        };
        self.note(attempt, good, false)
    }

    fn gave_tokens(&self, attempt: AttemptId) -> bool {
        let watched = self.running.get(&attempt);
        watched.is_some_and(|watched| watched.tokens > 0)
    }

    fn note(&mut self, attempt: AttemptId, judged: Verdict, stalled: bool) -> Option<Noted> {
        let watched = self.running.remove(&attempt)?;
        let timed = watched.tokens - watched.first_tokens;
        let took_s = watched
            .first_ms
            .map(|first| watched.last_ms.saturating_sub(first) as f64 / 1000.0);
        let decode_tps = took_s
            .filter(|took| timed >= MIN_TIMED_TOKENS && *took > 0.0)
            .map(|took| f64::from(timed) / took);
        let late_ms = match (
            watched.opened_ms,
            watched.first_ms,
            self.expected_ms.get(&watched.peer),
        ) {
            (Some(opened), Some(first), Some(expected)) => {
                Some(first.saturating_sub(opened) as f64 - expected)
            }
            _ => None,
        };
        // What the quote let expect holds for the first job alone.
        self.expected_ms.remove(&watched.peer);
        let seen = Observation {
            outcome: judged.outcome,
            rtt_ms: watched.rtt_ms,
            late_ms,
            decode_tps,
            stalled,
        };
        let is_empty = judged.outcome == Outcome::Neutral && watched.tokens == 0 && !judged.ban;
        (!is_empty).then_some(Noted {
            peer: watched.peer,
            seen,
            ban: judged.ban,
        })
    }
}

/// Why an answer that is told to move does, by the end of the attempt it leaves.
pub(super) fn reason(why: &AttemptEnd, own_fault: bool) -> MoveReason {
    match why {
        AttemptEnd::PathChanged => MoveReason::Network,
        AttemptEnd::ConnectFailed(_) | AttemptEnd::Closed(_) if own_fault => MoveReason::Network,
        AttemptEnd::ConnectFailed(_) | AttemptEnd::Closed(_) => MoveReason::Gone,
        AttemptEnd::NoAnswer | AttemptEnd::Silent | AttemptEnd::Stalled => MoveReason::Silent,
        // Another attempt is only begun beside one that writes when that is silent, stands still or pauses.
        AttemptEnd::LostRace => MoveReason::OwnWork,
        AttemptEnd::Lie(_) => MoveReason::Dishonest,
        AttemptEnd::Gave {
            code: protocol::frame::RefuseCode::NodeOff,
            ..
        }
        | AttemptEnd::BrokenOff => MoveReason::Off,
        AttemptEnd::Gave { .. }
        | AttemptEnd::Refused { .. }
        | AttemptEnd::Busy { .. }
        | AttemptEnd::TooLong
        | AttemptEnd::TooLate
        | AttemptEnd::TooLarge { .. }
        | AttemptEnd::LocalFailed(_)
        | AttemptEnd::NoQuote
        | AttemptEnd::Dearer
        | AttemptEnd::TooDear { .. }
        | AttemptEnd::Unpaid(_)
        | AttemptEnd::Stopped => MoveReason::Failed,
    }
}

#[cfg(test)]
mod tests {
    use protocol::job::CloseWhy;

    use super::*;

    fn peer() -> PeerId {
        PeerId::from_public_key(&[8; 32])
    }

    fn watched() -> Attempts {
        let mut attempts = Attempts::new(BTreeMap::from([(peer(), 300.0)]));
        attempts.begun(1, peer());
        attempts.connected(1, 40, 10_000);
        attempts
    }

    #[test]
    fn a_good_job_is_timed() {
        let mut attempts = watched();
        attempts.tokens(1, 4, 10_500);
        attempts.tokens(1, 10, 11_000);
        attempts.tokens(1, 10, 11_500);
        let noted = attempts.finished(1).unwrap();
        let expected = Observation {
            outcome: Outcome::Good,
            rtt_ms: Some(40.0),
            late_ms: Some(200.0),
            decode_tps: Some(20.0),
            stalled: false,
        };
        assert_eq!(
            noted,
            Noted {
                peer: peer(),
                seen: expected,
                ban: false
            }
        );
        assert_eq!(attempts.finished(1), None, "noted once");
    }

    #[test]
    fn a_cut_counts_unless_this_computer_slept() {
        let cut = AttemptEnd::Closed(CloseWhy::Ended);
        let mut attempts = watched();
        attempts.tokens(1, 1, 10_500);
        let noted = attempts.ended(1, &cut, false).unwrap();
        assert_eq!((noted.seen.outcome, noted.ban), (Outcome::Failed, true));
        assert_eq!(noted.seen.decode_tps, None, "one token is no speed");
        assert_eq!(watched().ended(1, &cut, true), None);
        let unreachable = AttemptEnd::ConnectFailed(String::new());
        let mut attempts = watched();
        assert!(attempts.ended(1, &unreachable, false).unwrap().ban);
        let mut attempts = watched();
        attempts.is_ours(1);
        assert_eq!(attempts.ended(1, &unreachable, false), None);
        assert_eq!(reason(&cut, false), MoveReason::Gone);
        assert_eq!(reason(&cut, true), MoveReason::Network);
    }

    #[test]
    fn what_says_nothing_about_the_peer_is_not_noted() {
        assert_eq!(
            watched().ended(1, &AttemptEnd::Busy { retry_after_ms: 5 }, false),
            None
        );
        assert_eq!(watched().ended(1, &AttemptEnd::Stopped, false), None);
        let mut attempts = watched();
        attempts.tokens(1, 3, 10_500);
        let noted = attempts.ended(1, &AttemptEnd::Stopped, false).unwrap();
        assert_eq!(noted.seen.outcome, Outcome::Good);
    }
}
