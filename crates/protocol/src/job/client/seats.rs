//! The candidates of one answer: who may be asked, who must be waited for, who is out.

use super::{AttemptEnd, Candidate};
use crate::{PeerId, frame::RefuseCode};

/// Candidates that are kept. Nobody waits for a thirty-third.
pub const MAX_CANDIDATES: usize = 32;
/// How often a candidate may be unreachable, cut or silent before it is out.
pub const MAX_CUTS: u32 = 3;
/// How often a candidate may say that it is busy before it is out.
pub const MAX_BUSY: u32 = 6;
/// The first wait before a candidate is asked again; it doubles with every cut.
const CUT_WAIT_MS: u64 = 500;
/// The shortest and longest wait that a busy provider can ask for.
const BUSY_WAIT_MS: std::ops::RangeInclusive<u64> = 250..=10_000;

#[derive(Debug)]
struct Seat {
    candidate: Candidate,
    state: SeatState,
    cuts: u32,
    busy: u32,
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
    pub(super) fn add(&mut self, candidates: Vec<Candidate>) {
        for candidate in candidates {
            let known = self
                .0
                .iter()
                .any(|seat| seat.candidate.peer == candidate.peer);
            if known || self.0.len() >= MAX_CANDIDATES {
                continue;
            }
            // There is no way to pay yet, so who asks for money is not asked.
            let state = if candidate.prices.is_free() {
                SeatState::Fresh
            } else {
                SeatState::Out
            };
            self.0.push(Seat {
                candidate,
                state,
                cuts: 0,
                busy: 0,
            });
        }
    }

    /// The next candidate that was not asked yet and has room for more than `n_in` tokens.
    pub(super) fn fresh(&self, n_in: usize) -> Option<SeatId> {
        self.0
            .iter()
            .position(|seat| seat.state == SeatState::Fresh && fits(seat, n_in))
    }

    /// The candidate that has waited longest for being asked again.
    pub(super) fn ready(&self, n_in: usize, now_ms: u64) -> Option<SeatId> {
        self.waiting(n_in)
            .filter(|&(_, at)| at <= now_ms)
            .min_by_key(|&(_, at)| at)
            .map(|(id, _)| id)
    }

    /// When the next candidate may be asked again.
    pub(super) fn next_ready_at(&self, n_in: usize) -> Option<u64> {
        self.waiting(n_in).map(|(_, at)| at).min()
    }

    fn waiting(&self, n_in: usize) -> impl Iterator<Item = (SeatId, u64)> {
        self.0
            .iter()
            .enumerate()
            .filter(move |(_, seat)| fits(seat, n_in))
            .filter_map(|(id, seat)| match seat.state {
                SeatState::Waiting(at) => Some((id, at)),
                SeatState::Fresh | SeatState::InUse | SeatState::Out => None,
            })
    }

    pub(super) fn take(&mut self, id: SeatId) -> Option<Candidate> {
        let seat = self.0.get_mut(id)?;
        seat.state = SeatState::InUse;
        Some(seat.candidate.clone())
    }

    /// Decides what becomes of a candidate whose attempt ended.
    pub(super) fn give_back(&mut self, id: SeatId, why: &AttemptEnd, now_ms: u64) {
        let Some(seat) = self.0.get_mut(id) else {
            return;
        };
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
            AttemptEnd::LostRace => SeatState::Waiting(now_ms),
            AttemptEnd::Gave {
                code: RefuseCode::EngineFailed | RefuseCode::Internal | RefuseCode::Stalled,
                ..
            }
            | AttemptEnd::ConnectFailed(_)
            | AttemptEnd::NoAnswer
            | AttemptEnd::Closed(super::CloseWhy::Ended | super::CloseWhy::Cut(_))
            | AttemptEnd::Silent
            | AttemptEnd::Stalled
            | AttemptEnd::BrokenOff => {
                let wait = CUT_WAIT_MS << seat.cuts.min(MAX_CUTS);
                seat.cuts += 1;
                if seat.cuts < MAX_CUTS {
                    SeatState::Waiting(now_ms + wait)
                } else {
                    SeatState::Out
                }
            }
            AttemptEnd::Gave { .. }
            | AttemptEnd::Closed(super::CloseWhy::Violation(_))
            | AttemptEnd::Refused { .. }
            | AttemptEnd::TooLong
            | AttemptEnd::TooLarge { .. }
            | AttemptEnd::Lie(_)
            | AttemptEnd::LocalFailed(_)
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

fn fits(seat: &Seat, n_in: usize) -> bool {
    seat.candidate.ctx_max as usize > n_in && seat.candidate.out_max > 0
}
