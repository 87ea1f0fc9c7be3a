//! What the clocks of others say of this computer's.
//!
//! Offers carry the time at which they were made, and one that lies in the future, or is over, is refused. So a computer whose clock is
//! wrong finds nobody, and nobody finds it. Each peer's own newest offer says what time it is there; when they agree that it is another
//! time than here, the person can be told.

use std::{collections::HashMap, time::Instant};

use libp2p::PeerId;
use protocol::{MAX_CLOCK_SKEW_MS, offer::MAX_LIFETIME_MS};

/// Peers whose clocks are remembered.
const PEERS: usize = 64;
/// An offer's age when it is read is half of the longest life of one at most: it is made anew before.
const USUAL_AGE_MS: u64 = MAX_LIFETIME_MS / 2;

/// What peers' clocks say of this computer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerClocks {
    /// Peers that were heard.
    pub peers: usize,
    /// Milliseconds by which this computer's clock is ahead of the middle one of theirs, negative where it is behind; `None` where they
    /// agree as far as it matters.
    pub ahead_ms: Option<i64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Clocks(HashMap<PeerId, Heard>);

/// What time it was at a peer.
#[derive(Clone, Copy, Debug)]
struct Heard {
    unix_ms: u64,
    at: Instant,
}

impl Clocks {
    /// A peer signed that it is this late, or was a little while ago.
    pub(crate) fn heard(&mut self, peer: PeerId, unix_ms: u64, at: Instant) {
        if self.0.len() >= PEERS
            && !self.0.contains_key(&peer)
            && let Some(other) = self.0.keys().next().copied()
        {
            // Which one goes is the hasher's choice: nobody outside can aim at one.
            self.0.remove(&other);
        }
        self.0.insert(peer, Heard { unix_ms, at });
    }

    /// What they say at this time.
    pub(crate) fn say(&self, unix_ms: u64, now: Instant) -> PeerClocks {
        let mut ahead: Vec<i64> = self
            .0
            .values()
            .map(|heard| {
                let since = now.saturating_duration_since(heard.at).as_millis();
                let there = i128::from(heard.unix_ms) + since as i128;
                // A time that somebody made up may be anything.
                i64::try_from(i128::from(unix_ms) - there).unwrap_or(i64::MAX)
            })
            .collect();
        ahead.sort_unstable();
        let right = -(MAX_CLOCK_SKEW_MS as i64)..=USUAL_AGE_MS as i64;
        let median = ahead.get(ahead.len() / 2).copied();
        PeerClocks {
            peers: ahead.len(),
            ahead_ms: median.filter(|median| !right.contains(median)),
        }
    }

    /// This computer slept: how long says no clock that stood still meanwhile.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

/// What time it is at a peer that brought an offer of its own which is over: it would have made it anew before.
pub(crate) fn of_expired(ago_ms: u64, unix_ms: u64) -> u64 {
    unix_ms.saturating_sub(ago_ms.saturating_add(USUAL_AGE_MS))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: u64 = 1_790_000_000_000;
    const HOUR: u64 = 60 * 60 * 1000;

    fn heard(times: &[u64]) -> (Clocks, Instant) {
        let (mut clocks, now) = (Clocks::default(), Instant::now());
        for time in times {
            clocks.heard(PeerId::random(), *time, now);
        }
        (clocks, now)
    }

    #[test]
    fn peers_tell_how_wrong_the_clock_is() {
        let (clocks, now) = heard(&[NOW - 23 * HOUR]);
        let ahead = PeerClocks {
            peers: 1,
            ahead_ms: Some(23 * HOUR as i64),
        };
        assert_eq!(clocks.say(NOW, now), ahead);
        let (clocks, now) = heard(&[NOW + HOUR; 3]);
        let behind = PeerClocks {
            peers: 3,
            ahead_ms: Some(-(HOUR as i64)),
        };
        assert_eq!(clocks.say(NOW, now), behind);
        assert_eq!(Clocks::default().say(NOW, now), PeerClocks::default());
    }

    #[test]
    fn offers_of_some_minutes_ago_and_one_liar_among_three_are_no_doubt() {
        let (clocks, now) = heard(&[NOW - 8 * 60_000, NOW - 60_000, u64::MAX, NOW, NOW]);
        assert_eq!(clocks.say(NOW, now).ahead_ms, None);
        for liar in [0, u64::MAX] {
            let (clocks, now) = heard(&[liar, NOW, NOW]);
            assert_eq!(clocks.say(NOW, now).ahead_ms, None);
            let (clocks, now) = heard(&[liar]);
            assert!(clocks.say(NOW, now).ahead_ms.is_some(), "and no overflow");
        }
    }

    #[test]
    fn time_goes_on_there_as_it_does_here_and_a_clock_that_was_set_is_right_at_once() {
        let (mut clocks, now) = heard(&[NOW + HOUR; 4]);
        let (later, passed) = (now + Duration::from_secs(600), 600_000);
        let ahead = |clocks: &Clocks, unix_ms| clocks.say(unix_ms, later).ahead_ms;
        assert_eq!(ahead(&clocks, NOW + passed), Some(-(HOUR as i64)));
        assert_eq!(ahead(&clocks, NOW + HOUR + passed), None);
        clocks.forget();
        assert_eq!(clocks.say(NOW, now), PeerClocks::default());
        for _ in 0..2 * PEERS {
            clocks.heard(PeerId::random(), NOW, now);
        }
        assert!(clocks.0.len() <= PEERS);
    }

    #[test]
    fn an_offer_that_is_over_says_that_the_clock_is_ahead() {
        let (clocks, now) = heard(&[of_expired(HOUR, NOW)]);
        let ahead = clocks.say(NOW, now).ahead_ms;
        assert!(ahead.is_some_and(|ahead| ahead > HOUR as i64));
    }
}
