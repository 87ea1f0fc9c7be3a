//! Who works on an answer next: a job that was cut is taken up, a silent or slow provider gets a spare, one that is out
//! is replaced.

use super::{
    Action, AnswerPhase, AttemptEnd, AttemptId, Candidate, End, Local, Place, Progress,
    end::Parting,
    machine::{Attempt, Client, Counted, LOCAL_STALL_MS, MAX_ATTEMPTS, Stage, State},
    seats::{Kept, SeatId},
    span::Span,
};
use crate::{Clock, frame::CancelReason};

/// Failovers of one answer. With a fourth the network is not what is wrong.
pub const MAX_FAILOVERS: u32 = 3;
/// Failovers of one answer that are not counted because the provider that had fallen silent wrote on. One that does so
/// oftener may cost others no more work.
pub const MAX_FALSE_ALARMS: u32 = 6;
/// A stream is open within this time, or somebody else is asked.
pub const OPEN_MS: u64 = 5_000;
/// A provider whose stream was cut has this long to go on by itself before a spare is asked beside it: two round trips of
/// a slow link, and still within the three seconds that a dropped provider may cost.
pub const RESUME_PATIENCE_MS: u64 = 1_000;
/// A candidate that is asked to go on with a broken answer has this long to be reached, and as long and its round trip to
/// say whether it takes the job, before another one is asked beside it. Who lives says so at once, and after the longest silence
/// that leaves time for one more within the three seconds.
pub const RESCUE_PATIENCE_MS: u64 = 400;
/// Candidates that are sounded out where whoever writes may be gone: one of them may be gone with him.
pub const SOUNDED_OUT: usize = 2;
/// What a candidate said, or did not say, when it was sounded out counts for this long, and nobody is sounded out again before: each
/// time costs a quote.
pub const SOUNDED_MS: u64 = 5_000;
/// The same at the beginning of an answer, where nothing was shown yet and a way through a relay takes its time.
pub const ANSWER_PATIENCE_MS: u64 = 2_000;
/// A provider is not hedged against before this long without any progress.
pub const HEDGE_MIN_MS: u64 = 1_500;
/// Longer inputs are never hedged: reading them twice costs somebody more than the wait.
pub const HEDGE_MAX_INPUT: usize = 8_192;

impl Client {
    /// Sees to it that somebody works on the answer, or ends it.
    pub(super) fn drive(&mut self, now: Clock, out: &mut Vec<Action>) {
        match self.stage {
            Stage::New | Stage::Finished => {}
            Stage::Stopping(until) => {
                if self.attempts.is_empty() || now.mono_ms >= until {
                    self.finish(End::Stopped, now, out);
                }
            }
            Stage::Going => self.go_on(now, out),
        }
    }

    fn go_on(&mut self, now: Clock, out: &mut Vec<Action>) {
        if self.remaining() == 0 {
            // All that was wanted is here; only its receipt may be missing. A provider that was cut off is asked for it,
            // but not waited for, and a silent one is not raced.
            if self.attempts.is_empty() && self.take_up(now, out) {
                return;
            }
            if !self
                .attempts
                .iter()
                .any(|attempt| !attempt.wants_spare(now))
            {
                self.finish(End::Length, now, out);
            }
            return;
        }
        match self.attempts.as_slice() {
            [] => self.launch_or_finish(now, out),
            [only] => {
                let (spare, hedge) = (only.wants_spare(now), self.wants_hedge(only, now));
                if only.is_doubted(now) {
                    self.sound_out(now, out);
                }
                if self.take_up(now, out) {
                    return;
                }
                if spare {
                    // Who was not asked yet comes first: a dead provider answers on no way.
                    let fresh = self.seats.fresh(self.n_in(), now.mono_ms).is_some();
                    if fresh || !self.ask_again(now, out) {
                        self.launch_beside(now, out);
                    }
                } else if hedge {
                    self.hedge(now, out);
                }
            }
            several => {
                let hopeless = several.iter().all(|attempt| attempt.wants_spare(now));
                // That another way is tried to one says nothing for the others.
                if hopeless {
                    self.ask_again(now, out);
                    self.make_room(now, out);
                    if self.attempts.len() < MAX_ATTEMPTS {
                        self.launch_beside(now, out);
                    }
                }
            }
        }
    }

    /// Asks a silent provider for its job on a stream of its own: it may live behind a way that does not. Once for each
    /// token that came last, so that one who stands still is not asked for ever. False: there is none.
    fn ask_again(&mut self, now: Clock, out: &mut Vec<Action>) -> bool {
        let emitted = self.emitted();
        let silent = self
            .attempts
            .iter()
            .position(|attempt| match &attempt.state {
                State::Running { span, .. } => {
                    now.mono_ms >= span.silent_at() && span.is_resumable() && !span.is_settling()
                }
                State::Connecting { .. } | State::Opened { .. } | State::Local { .. } => false,
            });
        let Some(silent) = silent.filter(|_| self.asked_again_at != Some(emitted)) else {
            return false;
        };
        self.asked_again_at = Some(emitted);
        self.end(silent, AttemptEnd::Silent, Parting::Close, now, out);
        self.take_up(now, out)
    }

    /// Where an answer broke and nobody who was asked says anything, the one who was asked first makes room for somebody who was not
    /// asked yet, and may be there.
    fn make_room(&mut self, now: Clock, out: &mut Vec<Action>) {
        let full = self.replacing.is_some() && self.attempts.len() == MAX_ATTEMPTS;
        if !full || self.seats.hopeful(self.n_in(), now.mono_ms).is_none() {
            return;
        }
        let mute = self
            .attempts
            .iter()
            .position(|attempt| match &attempt.state {
                State::Connecting { kept, .. } => kept.is_none(),
                // Whoever lets us wait in line says so all the time.
                State::Opened { kept, line, .. } => kept.is_none() && line.is_none(),
                State::Running { .. } | State::Local { .. } => false,
            });
        if let Some(mute) = mute {
            let parting = Parting::Cancel(CancelReason::LostRace);
            self.end(mute, AttemptEnd::LostRace, parting, now, out);
        }
    }

    /// Asks those who come next whether they are there, before they are needed: of two that live the one with less to do is taken, and
    /// nobody waits for one that is gone as well.
    fn sound_out(&mut self, now: Clock, out: &mut Vec<Action>) {
        if now.mono_ms < self.sound_again_at {
            return;
        }
        let candidates = self.seats.sound_out(self.n_in(), now.mono_ms);
        if !candidates.is_empty() {
            self.sound_again_at = now.mono_ms + SOUNDED_MS;
        }
        let sound_out = |candidate| Action::SoundOut { candidate };
        out.extend(candidates.into_iter().map(sound_out));
    }

    /// Asks somebody beside those of whom little is hoped. Where a job had begun, that is a failover.
    fn launch_beside(&mut self, now: Clock, out: &mut Vec<Action>) {
        if self.attempts.iter().any(Attempt::begun) {
            self.replacing.get_or_insert(Counted(false));
        }
        if self.replacing != Some(Counted(false)) || self.failovers < MAX_FAILOVERS {
            self.launch(now, out);
        }
    }

    /// How long a candidate that is asked now may say nothing.
    pub(super) fn patience_ms(&self) -> u64 {
        if self.replacing.is_some() {
            RESCUE_PATIENCE_MS
        } else {
            ANSWER_PATIENCE_MS
        }
    }

    fn launch_or_finish(&mut self, now: Clock, out: &mut Vec<Action>) {
        if self.take_up(now, out) {
            return;
        }
        let spent = self.replacing == Some(Counted(false)) && self.failovers >= MAX_FAILOVERS;
        if !spent && self.launch(now, out) {
            return;
        }
        if self.seats.keeps() || (!spent && self.seats.anybody_waits(self.n_in())) {
            return self.say_busy(out);
        }
        match self.last_end.clone() {
            Some(why) => self.give_up(why, now, out),
            None => self.finish(End::Failed(None), now, out),
        }
    }

    /// Asks a provider to go on with a job whose stream was cut, if there is one and its time has come. That is no
    /// failover: the job is the same.
    fn take_up(&mut self, now: Clock, out: &mut Vec<Action>) -> bool {
        let Some((seat, candidate, kept)) = self.seats.take_kept(now.mono_ms) else {
            return false;
        };
        self.connect(seat, candidate, Some(kept), now, out);
        true
    }

    /// Asks a second provider beside one that is slow to begin.
    fn hedge(&mut self, now: Clock, out: &mut Vec<Action>) {
        let seat = self.seats.fresh(self.n_in(), now.mono_ms);
        if let Some((seat, candidate)) =
            seat.and_then(|seat| Some((seat, self.seats.take(seat, now.mono_ms)?)))
        {
            self.hedged = true;
            self.connect(seat, candidate, None, now, out);
        }
    }

    fn wants_hedge(&self, only: &Attempt, now: Clock) -> bool {
        match &only.state {
            State::Running { span, .. } => self.hedge_at(span).is_some_and(|at| now.mono_ms >= at),
            State::Connecting { .. } | State::Opened { .. } | State::Local { .. } => false,
        }
    }

    /// When a second provider is asked beside this one; `None`: not at all.
    pub(super) fn hedge_at(&self, span: &Span) -> Option<u64> {
        let may = self.config.hedge
            && !self.hedged
            && self.emitted() == 0
            && self.n_in() <= HEDGE_MAX_INPUT;
        may.then(|| span.first_token_due_at(HEDGE_MIN_MS)).flatten()
    }

    /// Starts the next attempt, if there is anybody: fresh candidates first, then, when nobody works yet, this
    /// computer, then those that may be asked again. Beside somebody who works, one that was busy comes before one that did not answer
    /// when it was sounded out. True if one was started.
    fn launch(&mut self, now: Clock, out: &mut Vec<Action>) -> bool {
        let n_in = self.n_in();
        // Who waits in line does nothing for the answer yet.
        let alone = self.attempts.iter().all(Attempt::is_in_line);
        // Beside candidates that were not heard yet, and with nothing lost, this computer waits for them.
        let local = self.config.local == Local::Fallback
            && !self.local_used
            && (alone || self.replacing.is_some());
        // Beside a provider that is merely slow, a busy one is tried before this computer's fans are heard.
        let seat = if local && alone {
            self.seats.fresh(n_in, now.mono_ms)
        } else {
            self.seats.next(n_in, now.mono_ms)
        };
        let candidate = seat.and_then(|seat| Some((seat, self.seats.take(seat, now.mono_ms)?)));
        if candidate.is_none() && !local {
            return false;
        }
        let counted = self.replacing == Some(Counted(false));
        if counted {
            self.failovers += 1;
            self.replacing = Some(Counted(true));
        }
        match candidate {
            Some((seat, candidate)) => self.connect(seat, candidate, None, now, out),
            None => {
                let attempt = self.next_attempt();
                self.local_used = true;
                self.replacing = None;
                out.push(Action::StartLocal {
                    attempt,
                    prompt: self.request.prompt.clone(),
                    resume: self.output.clone(),
                    max_out: self.remaining(),
                });
                let until = now.mono_ms + LOCAL_STALL_MS;
                self.attempts.push(Attempt {
                    id: attempt,
                    place: Place::Local,
                    state: State::Local { until },
                    counted: false,
                });
            }
        }
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.counted = counted;
        }
        true
    }

    fn next_attempt(&mut self) -> AttemptId {
        (self.said_busy, self.shown_line) = (false, None);
        let attempt = self.next_id;
        self.next_id += 1;
        attempt
    }

    fn connect(
        &mut self,
        seat: SeatId,
        candidate: Candidate,
        kept: Option<Kept>,
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        let attempt = self.next_attempt();
        let place = Place::Peer(candidate.peer);
        out.push(Action::Connect {
            attempt,
            candidate: candidate.clone(),
            wants_quote: kept.is_none()
                && candidate.quote_id.is_none()
                && !candidate.terms.prices.is_free(),
        });
        let phase = if kept.is_some() {
            AnswerPhase::Resuming
        } else {
            AnswerPhase::Connecting
        };
        out.push(Action::Progress(Progress {
            attempt,
            place,
            phase,
            done: 0,
            total: 0,
            queue_pos: 0,
        }));
        let patient_until = match &kept {
            Some(kept) => kept.cut_ms + RESUME_PATIENCE_MS,
            None => now.mono_ms + self.patience_ms(),
        };
        self.attempts.push(Attempt {
            id: attempt,
            place,
            state: State::Connecting {
                seat,
                candidate,
                until: now.mono_ms + OPEN_MS,
                patient_until,
                kept,
            },
            counted: false,
        });
    }

    fn say_busy(&mut self, out: &mut Vec<Action>) {
        if std::mem::replace(&mut self.said_busy, true) {
            return;
        }
        let Some(peer) = self.seats.waiting_peer(self.n_in()) else {
            return;
        };
        let (attempt, place) = (self.next_id, Place::Peer(peer));
        let phase = AnswerPhase::Waiting;
        out.push(Action::Progress(Progress {
            attempt,
            place,
            phase,
            done: 0,
            total: 0,
            queue_pos: 0,
        }));
    }
}
