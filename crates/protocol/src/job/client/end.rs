//! How an attempt is taken out, what becomes of its candidate and its job, and how an answer ends.

use super::{
    Action, AttemptEnd, CloseWhy, End, Outcome, Place,
    launch::OPEN_MS,
    machine::{Attempt, Client, Counted, GIVE_UP_MS, Stage, State},
    seats::Kept,
};
use crate::{
    Clock,
    frame::{Cancel, CancelReason, Frame},
    job::MAX_JOB_MS,
};

/// What is left to be told to a stream whose attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// It is gone already.
    Gone,
    /// It is closed.
    Close,
    /// It is cancelled, then closed.
    Cancel(CancelReason),
}

impl Client {
    /// Takes an attempt out, says goodbye, and notes what follows from it.
    pub(super) fn end(
        &mut self,
        at: usize,
        why: AttemptEnd,
        parting: Parting,
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        let Attempt {
            id: attempt,
            place,
            state,
            counted: _,
        } = self.attempts.remove(at);
        // A job that is to be taken up runs at the provider as soon as that was asked for, and one in line may at any moment.
        let runs = match &state {
            State::Running { .. } | State::Local { .. } => true,
            State::Opened { kept, line, .. } => kept.is_some() || line.is_some(),
            State::Connecting { .. } => false,
        };
        say_goodbye(attempt, place, parting, runs, out);
        if let State::Opened {
            bill: Some(bill), ..
        } = &state
        {
            self.opening_lost |= bill.paid() > 0;
        }
        // That a job could not be taken up is not why it was lost.
        let tells = match &state {
            State::Connecting { kept, .. } | State::Opened { kept, .. } => kept.is_none(),
            State::Running { .. } | State::Local { .. } => true,
        };
        let (seat, begun, checkpoint) = match state {
            State::Connecting { seat, kept, .. } | State::Opened { seat, kept, .. } => {
                let again = kept.filter(|kept| {
                    self.stage == Stage::Going && is_cut(&why) && now.mono_ms < kept.until
                });
                match again {
                    Some(kept) => {
                        self.seats.keep(seat, kept.tried(), now.mono_ms);
                        (None, false, None)
                    }
                    None => (Some(seat), false, None),
                }
            }
            State::Running { seat, mut span } => {
                span.give_up_settling();
                let checkpoint = span.checkpoint.clone();
                let keep = self.stage == Stage::Going
                    && !matches!(parting, Parting::Cancel(_))
                    && is_cut(&why)
                    && span.is_resumable();
                if keep {
                    // Of one that fell silent, the way was gone when it was heard last.
                    let cut_ms = match matches!(why, AttemptEnd::Silent) {
                        true => span.heard_ms(),
                        false => now.mono_ms,
                    };
                    self.seats
                        .keep(seat, Kept::new(span, attempt, cut_ms), now.mono_ms);
                    (None, true, checkpoint)
                } else {
                    (Some(seat), true, checkpoint)
                }
            }
            State::Local { .. } => (None, true, None),
        };
        if let Some(seat) = seat {
            self.seats.give_back(seat, &why, now.mono_ms);
        }
        if begun && !self.attempts.iter().any(Attempt::begun) {
            self.replacing.get_or_insert(Counted(false));
        }
        if tells && !matches!(why, AttemptEnd::LostRace | AttemptEnd::Stopped) {
            self.last_end = Some(why.clone());
        }
        out.push(Action::AttemptEnded {
            attempt,
            place,
            why,
            checkpoint,
        });
    }

    /// All streams are taken for dead. Jobs at providers are asked for on new ones at once.
    pub(super) fn path_changed(&mut self, now: Clock, out: &mut Vec<Action>) {
        if self.stage != Stage::Going {
            return;
        }
        for at in (0..self.attempts.len()).rev() {
            if matches!(self.attempts[at].place, Place::Peer(_)) {
                self.end(at, AttemptEnd::PathChanged, Parting::Close, now, out);
            }
        }
        self.seats.hurry(now.mono_ms);
    }

    pub(super) fn finish(&mut self, end: End, now: Clock, out: &mut Vec<Action>) {
        let (why, reason) = match end {
            End::Stopped => (AttemptEnd::Stopped, CancelReason::User),
            End::Complete(_) | End::Length | End::Interrupted(_) | End::Failed(_) => {
                (AttemptEnd::LostRace, CancelReason::LostRace)
            }
        };
        while let Some(at) = self.attempts.len().checked_sub(1) {
            self.end(at, why.clone(), Parting::Cancel(reason), now, out);
        }
        self.stage = Stage::Finished;
        out.push(Action::Finish(Outcome {
            end,
            emitted: self.emitted(),
            failovers: self.failovers,
            resumes: self.resumes,
            hedged: self.hedged,
            paid: self.promised.saturating_sub(self.signing.values().sum()),
            signing: self.signing.len(),
            capped: self.capped,
        }));
    }

    /// Ends the answer with what it has.
    pub(super) fn give_up(&mut self, why: AttemptEnd, now: Clock, out: &mut Vec<Action>) {
        let end = if self.emitted() > 0 {
            End::Interrupted(why)
        } else {
            End::Failed(Some(why))
        };
        self.finish(end, now, out);
    }

    /// Ends what took too long.
    pub(super) fn overdue(&mut self, now: Clock, out: &mut Vec<Action>) {
        if self.stage == Stage::Going && self.too_late_at.is_some_and(|at| now.mono_ms >= at) {
            return self.give_up(AttemptEnd::TooLate, now, out);
        }
        self.seats.expire(now.mono_ms);
        for at in (0..self.attempts.len()).rev() {
            let Some(attempt) = self.attempts.get(at) else {
                continue;
            };
            let ms = now.mono_ms;
            let late = match &attempt.state {
                State::Connecting { until, .. } if ms >= *until => {
                    let why = format!("no stream within {} s", OPEN_MS / 1000);
                    Some((AttemptEnd::ConnectFailed(why), Parting::Close))
                }
                State::Opened {
                    until,
                    line: Some(line),
                    ..
                } if ms >= *until => {
                    Some((line.given_up(ms), Parting::Cancel(CancelReason::LostRace)))
                }
                State::Opened { until, .. } if ms >= *until => {
                    Some((AttemptEnd::NoAnswer, Parting::Close))
                }
                State::Running { span, .. } if ms >= span.heard_ms() + GIVE_UP_MS => {
                    // It may live behind a connection that does not: a new one will tell.
                    Some((AttemptEnd::Silent, Parting::Close))
                }
                State::Running { span, .. } if ms >= span.accepted_ms() + MAX_JOB_MS => {
                    Some((AttemptEnd::TooLong, Parting::Cancel(CancelReason::LostRace)))
                }
                State::Local { until } if ms >= *until => Some((
                    AttemptEnd::LocalFailed("the engine stands still".to_owned()),
                    Parting::Close,
                )),
                State::Connecting { .. }
                | State::Opened { .. }
                | State::Running { .. }
                | State::Local { .. } => None,
            };
            if let Some((why, parting)) = late {
                self.end(at, why, parting, now, out);
            }
        }
    }
}

fn say_goodbye(attempt: u32, place: Place, parting: Parting, runs: bool, out: &mut Vec<Action>) {
    match (parting, place) {
        (Parting::Gone, _) => {}
        (Parting::Close | Parting::Cancel(_), Place::Local) => {
            out.push(Action::StopLocal { attempt })
        }
        (Parting::Close, Place::Peer(_)) => out.push(Action::Close { attempt }),
        (Parting::Cancel(reason), Place::Peer(_)) => {
            if runs {
                let frame = Frame::Cancel(Cancel {
                    reason: reason.into(),
                });
                out.push(Action::Send { attempt, frame });
            }
            out.push(Action::Close { attempt });
        }
    }
}

/// Whether the stream failed, and not the provider at its end as far as we know.
fn is_cut(why: &AttemptEnd) -> bool {
    match why {
        AttemptEnd::ConnectFailed(_)
        | AttemptEnd::NoAnswer
        | AttemptEnd::Busy { .. }
        | AttemptEnd::Closed(CloseWhy::Ended | CloseWhy::Cut(_))
        | AttemptEnd::Silent
        | AttemptEnd::PathChanged => true,
        AttemptEnd::Closed(CloseWhy::Violation(_))
        | AttemptEnd::Refused { .. }
        | AttemptEnd::Stalled
        | AttemptEnd::TooLong
        | AttemptEnd::TooLate
        | AttemptEnd::Gave { .. }
        | AttemptEnd::TooLarge { .. }
        | AttemptEnd::BrokenOff
        | AttemptEnd::Lie(_)
        | AttemptEnd::LocalFailed(_)
        | AttemptEnd::NoQuote
        | AttemptEnd::Dearer
        | AttemptEnd::TooDear { .. }
        | AttemptEnd::Unpaid(_)
        | AttemptEnd::LostRace
        | AttemptEnd::Stopped => false,
    }
}
