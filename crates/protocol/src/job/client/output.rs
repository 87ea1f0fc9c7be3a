//! The one output that all attempts write, and this computer as one of them.

use super::{
    Action, AnswerPhase, AttemptEnd, End, LocalEvent, Progress,
    end::Parting,
    launch::MAX_FALSE_ALARMS,
    machine::{Attempt, CANCEL_LINGER_MS, Client, LOCAL_STALL_MS, Stage, State},
    span::New,
};
use crate::{
    Clock,
    frame::{Cancel, CancelReason, Frame, Phase, TokenLogprobs},
    job::Finish,
};

impl Client {
    /// Adds to the output. Whoever gives the next token wins, and everybody else is let go.
    pub(super) fn emit(&mut self, at: usize, new: New, now: Clock, out: &mut Vec<Action>) {
        let New { ids, logprobs } = new;
        if ids.is_empty() {
            return;
        }
        let Attempt {
            id: attempt, place, ..
        } = self.attempts[at];
        while let Some(other) = self.attempts.iter().position(|other| other.id != attempt) {
            // A job that was taken up again has a later number than the spare, but the same place.
            let Attempt { id, counted, .. } = self.attempts[other];
            if counted && (attempt < id || self.writer == Some(place)) {
                self.false_alarm();
            }
            let why = self.why_slower(other, now);
            self.end(
                other,
                why,
                Parting::Cancel(CancelReason::LostRace),
                now,
                out,
            );
        }
        let first_index = self.output.len() as u32;
        if let Some(from) = self.writer
            && from != place
        {
            out.push(Action::Moved {
                from,
                to: place,
                index: first_index,
            });
        }
        // What is kept elsewhere is behind from now on.
        self.seats.forget_kept(now.mono_ms);
        self.writer = Some(place);
        self.replacing = None;
        self.output.extend_from_slice(&ids);
        out.push(Action::Emit {
            attempt,
            place,
            first_index,
            ids,
            logprobs,
        });
    }

    /// A spare was opened, and the one that it was opened for writes on: nothing moved.
    fn false_alarm(&mut self) {
        if self.false_alarms < MAX_FALSE_ALARMS {
            self.false_alarms += 1;
            self.failovers = self.failovers.saturating_sub(1);
        }
    }

    fn why_slower(&self, at: usize, now: Clock) -> AttemptEnd {
        match &self.attempts[at].state {
            State::Running { span, .. } if now.mono_ms >= span.silent_at() => AttemptEnd::Silent,
            State::Running { span, .. } if now.mono_ms >= span.stalled_at() => AttemptEnd::Stalled,
            State::Connecting { .. }
            | State::Opened { .. }
            | State::Running { .. }
            | State::Local { .. } => AttemptEnd::LostRace,
        }
    }

    pub(super) fn cancel(&mut self, now: Clock, out: &mut Vec<Action>) {
        if matches!(self.stage, Stage::Stopping(_) | Stage::Finished) {
            return;
        }
        self.stage = Stage::Stopping(now.mono_ms + CANCEL_LINGER_MS);
        for at in (0..self.attempts.len()).rev() {
            let attempt = self.attempts[at].id;
            match &self.attempts[at].state {
                State::Running { .. } => {
                    let reason = CancelReason::User.into();
                    out.push(Action::Send {
                        attempt,
                        frame: Frame::Cancel(Cancel { reason }),
                    });
                }
                State::Connecting { .. } | State::Opened { .. } | State::Local { .. } => {
                    self.end(
                        at,
                        AttemptEnd::Stopped,
                        Parting::Cancel(CancelReason::User),
                        now,
                        out,
                    );
                }
            }
        }
    }

    pub(super) fn local(
        &mut self,
        at: usize,
        event: LocalEvent,
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        let Attempt {
            id, place, state, ..
        } = &mut self.attempts[at];
        *state = State::Local {
            until: now.mono_ms + LOCAL_STALL_MS,
        };
        let (phase, done, total) = match event {
            LocalEvent::Loading { done, total } => (Phase::Loading, done, total),
            LocalEvent::Prefill { done, total } => (Phase::Prefill, done.into(), total.into()),
            LocalEvent::Tokens {
                first_index,
                ids,
                logprobs,
            } => {
                return self.local_tokens(at, first_index, (&ids, logprobs), now, out);
            }
            LocalEvent::Finished(Finish::Abort) => {
                let why = AttemptEnd::LocalFailed("the engine was cancelled".to_owned());
                return self.end(at, why, Parting::Gone, now, out);
            }
            LocalEvent::Finished(finish @ (Finish::Stop | Finish::StopString | Finish::Length)) => {
                self.attempts.remove(at);
                let end = if finish == Finish::Length {
                    End::Length
                } else {
                    End::Complete(finish)
                };
                return self.finish(end, now, out);
            }
            LocalEvent::Failed(why) => {
                return self.end(at, AttemptEnd::LocalFailed(why), Parting::Gone, now, out);
            }
        };
        let progress = Progress {
            attempt: *id,
            place: *place,
            phase: AnswerPhase::At(phase),
            done,
            total,
            queue_pos: 0,
        };
        out.push(Action::Progress(progress));
    }

    fn local_tokens(
        &mut self,
        at: usize,
        first_index: u32,
        (ids, logprobs): (&[u32], Vec<TokenLogprobs>),
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        let next = self.output.len();
        let known = match next.checked_sub(first_index as usize) {
            Some(known) if ids.iter().all(|&id| id < self.request.vocab_size) => known,
            Some(_) | None => {
                let why = AttemptEnd::LocalFailed(format!(
                    "tokens at index {first_index} do not fit index {next}"
                ));
                return self.end(at, why, Parting::Close, now, out);
            }
        };
        let room = self.remaining() as usize;
        let new = New {
            ids: ids.iter().copied().skip(known).take(room).collect(),
            logprobs: logprobs.into_iter().skip(known).take(room).collect(),
        };
        self.emit(at, new, now, out);
    }
}
