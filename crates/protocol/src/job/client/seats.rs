//! The candidates of one answer: who may be asked, who must be waited for, who is out.

use super::{
    AttemptEnd, AttemptId, Candidate, Quoted,
    bill::{Bill, PromiseId},
    launch::{RESCUE_PATIENCE_MS, SOUNDED_MS, SOUNDED_OUT},
    span::Span,
};
use crate::{PeerId, frame::RefuseCode, quote::QUOTE_LIFETIME_MS};

/// Candidates that are kept. Nobody waits for a thirty-third.
pub const MAX_CANDIDATES: usize = 32;
/// How often a candidate may be unreachable, cut or silent before it is out.
pub const MAX_CUTS: u32 = 3;
/// How often a candidate may say that it is busy before it is out.
pub const MAX_BUSY: u32 = 6;
/// The first wait before a candidate is asked again; it doubles with every cut.
const CUT_WAIT_MS: u64 = 500;
/// The longest wait before a job that was cut is asked for again: short, since a person waits, and at most thirty dials in
/// its minute of grace.
const MAX_RESUME_WAIT_MS: u64 = 2_000;
/// A quote that is older is not used: it is over by the time the job is asked for.
const QUOTE_HOLDS_MS: u64 = QUOTE_LIFETIME_MS - 1_000;
/// The shortest and longest wait that a busy provider can ask for.
const BUSY_WAIT_MS: std::ops::RangeInclusive<u64> = 250..=10_000;

#[derive(Debug)]
struct Seat {
    candidate: Candidate,
    state: SeatState,
    cuts: u32,
    busy: u32,
    /// A job of ours that runs there without a stream. Only while `Waiting`.
    kept: Option<Kept>,
    /// When its candidate's quote came.
    quoted_ms: u64,
    sounded: Option<Sounded>,
}

/// A candidate that was asked whether it is there.
#[derive(Clone, Copy, Debug)]
struct Sounded {
    asked_ms: u64,
    /// Jobs in front of the next one, as it says.
    answer: Option<u32>,
}

/// In which order candidates are taken: who said that it is there, with the least to do; who was not asked that; who was asked for
/// the job before and was busy, the longest ago first; who does not answer; who was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    There(u32),
    Unknown,
    Again(u64),
    Mute,
    Cut(u64),
}

/// A job whose stream was cut, and that its provider keeps for a while.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) span: Box<Span>,
    /// The attempt that was cut off.
    pub(super) attempt: AttemptId,
    /// When the stream was cut.
    pub(super) cut_ms: u64,
    /// Until when the provider keeps it.
    pub(super) until: u64,
    tries: u32,
}

impl Kept {
    pub(super) fn new(span: Box<Span>, attempt: AttemptId, now_ms: u64) -> Self {
        Self {
            attempt,
            until: now_ms + span.grace_ms(),
            span,
            cut_ms: now_ms,
            tries: 0,
        }
    }

    /// The same after one more try that came to nothing.
    pub(super) fn tried(self) -> Self {
        Self {
            tries: self.tries + 1,
            ..self
        }
    }

    fn wait_ms(&self) -> u64 {
        match self.tries {
            0 => 0,
            tries => (CUT_WAIT_MS << (tries - 1).min(8)).min(MAX_RESUME_WAIT_MS),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SeatState {
    Fresh,
    InUse,
    /// May be asked again from this time on.
    Waiting(u64),
    Out,
}

#[derive(Debug, Default)]
pub(super) struct Seats(Vec<Seat>);

/// Names a seat.
pub(super) type SeatId = usize;

impl Seats {
    /// Adds candidates that are not known yet, behind the others.
    pub(super) fn add(&mut self, candidates: Vec<Candidate>, now_ms: u64) {
        for candidate in candidates {
            let known = self
                .0
                .iter()
                .any(|seat| seat.candidate.peer == candidate.peer);
            if known || self.0.len() >= MAX_CANDIDATES {
                continue;
            }
            let state = if candidate.terms.prices.is_free() || candidate.pay_to.is_some() {
                SeatState::Fresh
            } else {
                SeatState::Out
            };
            self.0.push(Seat {
                candidate,
                state,
                cuts: 0,
                busy: 0,
                kept: None,
                quoted_ms: now_ms,
                sounded: None,
            });
        }
    }

    /// The next candidates that were not asked for the job yet, to be asked whether they are there.
    pub(super) fn sound_out(&mut self, n_in: usize, now_ms: u64) -> Vec<Candidate> {
        let fresh = |seat: &&mut Seat| seat.state == SeatState::Fresh && fits(seat, n_in);
        let next = self.0.iter_mut().filter(fresh).take(SOUNDED_OUT);
        next.map(|seat| {
            seat.sounded = Some(Sounded {
                asked_ms: now_ms,
                answer: None,
            });
            seat.candidate.clone()
        })
        .collect()
    }

    /// A candidate is there, at these prices. Who has become dearer is out: the person saw another price.
    pub(super) fn sounded(&mut self, peer: &PeerId, quoted: Quoted, now_ms: u64) {
        let seat = self.0.iter_mut().find(|seat| seat.candidate.peer == *peer);
        let Some(seat) = seat.filter(|seat| seat.state == SeatState::Fresh) else {
            return;
        };
        if quoted.terms.prices.exceed(&seat.candidate.terms.prices) {
            seat.state = SeatState::Out;
            return;
        }
        if !quoted.terms.prices.is_free() {
            seat.candidate.quote_id = Some(quoted.quote_id);
        }
        seat.candidate.prepaid &= quoted.queue_pos == 0;
        (seat.candidate.terms, seat.quoted_ms) = (quoted.terms, now_ms);
        seat.sounded = Some(Sounded {
            asked_ms: now_ms,
            answer: Some(quoted.queue_pos),
        });
    }

    /// Notes that a candidate does not answer the dial, unless it was asked already.
    pub(super) fn not_reached(&mut self, peer: &PeerId, now_ms: u64) {
        let seat = self.0.iter_mut().find(|seat| seat.candidate.peer == *peer);
        if let Some(seat) = seat.filter(|seat| seat.state == SeatState::Fresh) {
            seat.cut(now_ms);
        }
    }

    /// The next candidate that was not asked yet and has room for more than `n_in` tokens.
    pub(super) fn fresh(&self, n_in: usize, now_ms: u64) -> Option<SeatId> {
        self.best(n_in, now_ms, |seat| seat.state == SeatState::Fresh)
    }

    /// The same, where that one may be there.
    pub(super) fn hopeful(&self, n_in: usize, now_ms: u64) -> Option<SeatId> {
        let hopeful =
            |seat: &Seat| seat.state == SeatState::Fresh && seat.rank(now_ms) < Some(Rank::Mute);
        self.best(n_in, now_ms, hopeful)
    }

    /// The next candidate, those included that may be asked again.
    pub(super) fn next(&self, n_in: usize, now_ms: u64) -> Option<SeatId> {
        self.best(n_in, now_ms, |_| true)
    }

    fn best(&self, n_in: usize, now_ms: u64, of: impl Fn(&Seat) -> bool) -> Option<SeatId> {
        let seats = self.0.iter().enumerate();
        seats
            .filter(|(_, seat)| fits(seat, n_in) && of(seat))
            .filter_map(|(id, seat)| Some((id, seat.rank(now_ms)?)))
            .min_by_key(|&(_, rank)| rank)
            .map(|(id, _)| id)
    }

    /// Whether anybody may be asked again, now or later.
    pub(super) fn anybody_waits(&self, n_in: usize) -> bool {
        self.waiting(n_in).next().is_some()
    }

    /// When the next candidate may be asked again, of those whose time has not come. Who may be asked already, and is not, must not
    /// hide the others.
    pub(super) fn next_ready_after(&self, n_in: usize, now_ms: u64) -> Option<u64> {
        let times = self.waiting(n_in).map(|(_, at)| at);
        times.filter(|&at| at > now_ms).min()
    }

    fn waiting(&self, n_in: usize) -> impl Iterator<Item = (SeatId, u64)> {
        self.0
            .iter()
            .enumerate()
            .filter(move |(_, seat)| seat.kept.is_some() || fits(seat, n_in))
            .filter_map(|(id, seat)| match seat.state {
                SeatState::Waiting(at) => Some((id, at)),
                SeatState::Fresh | SeatState::InUse | SeatState::Out => None,
            })
    }

    pub(super) fn take(&mut self, id: SeatId, now_ms: u64) -> Option<Candidate> {
        let seat = self.0.get_mut(id)?;
        if now_ms >= seat.quoted_ms + QUOTE_HOLDS_MS {
            seat.candidate.quote_id = None;
        }
        seat.state = SeatState::InUse;
        Some(seat.candidate.clone())
    }

    /// Keeps the job of a candidate whose stream was cut.
    pub(super) fn keep(&mut self, id: SeatId, kept: Kept, now_ms: u64) {
        if let Some(seat) = self.0.get_mut(id) {
            seat.candidate.quote_id = None;
            seat.state = SeatState::Waiting(now_ms + kept.wait_ms());
            seat.kept = Some(kept);
        }
    }

    /// What is paid for the kept job for which something is being signed.
    pub(super) fn bill(&mut self, promise: PromiseId) -> Option<&mut Bill> {
        self.0
            .iter_mut()
            .filter_map(|seat| seat.kept.as_mut()?.span.bill.as_deref_mut())
            .find(|bill| bill.signing == Some(promise) || bill.reserving == Some(promise))
    }

    /// Forgets the kept job that cannot be paid.
    pub(super) fn cannot_pay(&mut self, promise: PromiseId) {
        let names = |kept: &Kept| {
            kept.span.bill.as_ref().is_some_and(|bill| {
                bill.signing == Some(promise) || bill.reserving == Some(promise)
            })
        };
        for seat in &mut self.0 {
            if seat.kept.as_ref().is_some_and(names) {
                (seat.kept, seat.state) = (None, SeatState::Out);
            }
        }
    }

    /// Whether a job is kept somewhere.
    pub(super) fn keeps(&self) -> bool {
        self.0.iter().any(|seat| seat.kept.is_some())
    }

    /// The kept job whose turn has come.
    pub(super) fn take_kept(&mut self, now_ms: u64) -> Option<(SeatId, Candidate, Kept)> {
        let ready = |seat: &Seat| matches!(seat.state, SeatState::Waiting(at) if at <= now_ms);
        let id = self
            .0
            .iter()
            .position(|seat| seat.kept.is_some() && ready(seat))?;
        let seat = self.0.get_mut(id)?;
        let kept = seat.kept.take()?;
        seat.state = SeatState::InUse;
        Some((id, seat.candidate.clone(), kept))
    }

    /// Forgets every kept job: somebody else has gone on.
    pub(super) fn forget_kept(&mut self, now_ms: u64) {
        self.forget_if(now_ms, |_| true);
    }

    /// Forgets kept jobs that their providers have forgotten by now.
    pub(super) fn expire(&mut self, now_ms: u64) {
        self.forget_if(now_ms, |kept| kept.until <= now_ms);
    }

    fn forget_if(&mut self, now_ms: u64, forget: impl Fn(&Kept) -> bool) {
        for seat in &mut self.0 {
            if seat.kept.as_ref().is_some_and(&forget) {
                seat.kept = None;
                seat.cut(now_ms);
            }
        }
    }

    /// Kept jobs may be asked for at once: the network is another one.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        for seat in &mut self.0 {
            if seat.kept.is_some() {
                seat.state = SeatState::Waiting(now_ms);
            }
        }
    }

    /// Decides what becomes of a candidate whose attempt ended.
    pub(super) fn give_back(&mut self, id: SeatId, why: &AttemptEnd, now_ms: u64) {
        let Some(seat) = self.0.get_mut(id) else {
            return;
        };
        // A quote holds for seconds, and once.
        seat.candidate.quote_id = None;
        seat.state = match why {
            AttemptEnd::Busy { retry_after_ms } => {
                seat.busy += 1;
                let wait =
                    u64::from(*retry_after_ms).clamp(*BUSY_WAIT_MS.start(), *BUSY_WAIT_MS.end());
                if seat.busy < MAX_BUSY {
                    SeatState::Waiting(now_ms + wait)
                } else {
                    SeatState::Out
                }
            }
            // It did nothing wrong.
            AttemptEnd::LostRace | AttemptEnd::PathChanged => SeatState::Waiting(now_ms),
            AttemptEnd::Gave {
                code: RefuseCode::EngineFailed | RefuseCode::Internal | RefuseCode::Stalled,
                ..
            }
            | AttemptEnd::ConnectFailed(_)
            | AttemptEnd::NoAnswer
            | AttemptEnd::Closed(super::CloseWhy::Ended | super::CloseWhy::Cut(_))
            | AttemptEnd::Silent
            | AttemptEnd::Stalled
            | AttemptEnd::BrokenOff
            | AttemptEnd::Refused {
                // Its quote was used up by the time that passed.
                code: RefuseCode::ResumeUnknown | RefuseCode::QuoteUnknown,
                ..
            }
            | AttemptEnd::NoQuote => return seat.cut(now_ms),
            AttemptEnd::Gave { .. }
            | AttemptEnd::Closed(super::CloseWhy::Violation(_))
            | AttemptEnd::Refused { .. }
            | AttemptEnd::TooLong
            | AttemptEnd::TooLate
            | AttemptEnd::TooLarge { .. }
            | AttemptEnd::Lie(_)
            | AttemptEnd::LocalFailed(_)
            | AttemptEnd::Dearer
            | AttemptEnd::TooDear { .. }
            | AttemptEnd::Unpaid(_)
            | AttemptEnd::Stopped => SeatState::Out,
        };
    }

    /// Whom we wait for.
    pub(super) fn waiting_peer(&self, n_in: usize) -> Option<PeerId> {
        self.waiting(n_in)
            .min_by_key(|&(_, at)| at)
            .and_then(|(id, _)| self.0.get(id))
            .map(|seat| seat.candidate.peer)
    }
}

impl Sounded {
    fn counts(&self, now_ms: u64) -> bool {
        now_ms < self.asked_ms + SOUNDED_MS
    }
}

impl Seat {
    /// `None` where it is not to be asked now.
    fn rank(&self, now_ms: u64) -> Option<Rank> {
        match self.state {
            SeatState::Fresh => Some(self.rank_of_fresh(now_ms)),
            SeatState::Waiting(at) if at > now_ms || self.kept.is_some() => None,
            SeatState::Waiting(at) if self.cuts == 0 => Some(Rank::Again(at)),
            SeatState::Waiting(at) => Some(Rank::Cut(at)),
            SeatState::InUse | SeatState::Out => None,
        }
    }

    fn rank_of_fresh(&self, now_ms: u64) -> Rank {
        match self.sounded.filter(|sounded| sounded.counts(now_ms)) {
            Some(Sounded {
                answer: Some(in_front),
                ..
            }) => Rank::There(in_front),
            Some(Sounded { asked_ms, .. }) if now_ms >= asked_ms + RESCUE_PATIENCE_MS => Rank::Mute,
            Some(_) | None => Rank::Unknown,
        }
    }

    /// It was cut off once more: it waits longer, or is out.
    fn cut(&mut self, now_ms: u64) {
        let wait = CUT_WAIT_MS << self.cuts.min(MAX_CUTS);
        self.cuts += 1;
        self.state = if self.cuts < MAX_CUTS {
            SeatState::Waiting(now_ms + wait)
        } else {
            SeatState::Out
        };
    }
}

fn fits(seat: &Seat, n_in: usize) -> bool {
    seat.candidate.ctx_max as usize > n_in && seat.candidate.out_max > 0
}
