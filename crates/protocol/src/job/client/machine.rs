//! The state of one answer on the asking side, and what each event does to it.

use super::{
    Action, AnswerPhase, AttemptEnd, AttemptId, Candidate, Config, End, Event, Local, Outcome,
    Place, Progress, Request,
    seats::{SeatId, Seats},
    span::Span,
};
use crate::{
    Clock, JobId,
    frame::{Cancel, CancelReason, Frame},
    job::MAX_JOB_MS,
};

/// Failovers of one answer. With a fourth the network is not what is wrong.
pub const MAX_FAILOVERS: u32 = 3;
/// A stream is open within this time, or somebody else is asked.
pub const OPEN_MS: u64 = 5_000;
/// How long a pause for the owner's own work is waited for before a spare is opened.
pub const PAUSE_PATIENCE_MS: u64 = 5_000;
/// Heartbeats without any change for this long: the provider stands still, and a spare is opened.
pub const STALL_MS: u64 = 60_000;
/// A silent provider with nobody to replace it is given up after this long.
pub const GIVE_UP_MS: u64 = 15_000;
/// After a stop the provider has this long to sign for what it gave. The person sees "stopped" at once.
pub const CANCEL_LINGER_MS: u64 = 500;
/// This computer's engine says something within this time: a chunk of a prompt, a piece of a file, a token.
pub const LOCAL_STALL_MS: u64 = 10 * 60 * 1000;

/// The one who answers and the spare beside it.
const MAX_ATTEMPTS: usize = 2;

/// The state of one answer.
#[derive(Debug)]
pub struct Client {
    pub(super) config: Config,
    pub(super) request: Request,
    /// What the message has: the resumed part, then all that was emitted.
    pub(super) output: Vec<u32>,
    seats: Seats,
    /// Live attempts, the older one first.
    pub(super) attempts: Vec<Attempt>,
    next_id: AttemptId,
    pub(super) stage: Stage,
    failovers: u32,
    /// A job that had begun must be replaced, and whether that was counted already.
    pub(super) replacing: Option<Counted>,
    pub(super) writer: Option<Place>,
    last_end: Option<AttemptEnd>,
    local_used: bool,
    /// Whether the screen was told that all candidates are busy.
    said_busy: bool,
    now_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    New,
    Going,
    /// Stopped by the person; receipts are waited for until then.
    Stopping(u64),
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted(bool);

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) id: AttemptId,
    pub(super) place: Place,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    Connecting {
        seat: SeatId,
        candidate: Candidate,
        until: u64,
    },
    Opened {
        seat: SeatId,
        candidate: Candidate,
        job: JobId,
        asked: u32,
        rtt_ms: u64,
        until: u64,
    },
    Running {
        seat: SeatId,
        span: Box<Span>,
    },
    Local {
        until: u64,
    },
}

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
    /// An answer that has not begun. The request's lists are taken as they are: check prompt and stop strings against
    /// the model's context and [`crate::frame::MAX_STOP_STRINGS`] before.
    pub fn new(config: Config, request: Request) -> Self {
        Self {
            config,
            output: request.resume.clone(),
            request,
            seats: Seats::default(),
            attempts: Vec::new(),
            next_id: 0,
            stage: Stage::New,
            failovers: 0,
            replacing: None,
            writer: None,
            last_end: None,
            local_used: false,
            said_busy: false,
            now_ms: 0,
        }
    }

    /// Takes an event and says what is to be done about it.
    pub fn step(&mut self, event: Event, now: Clock) -> Vec<Action> {
        let mut out = Vec::new();
        if self.stage == Stage::Finished {
            return out;
        }
        self.now_ms = self.now_ms.max(now.mono_ms);
        let now = Clock {
            mono_ms: self.now_ms,
            ..now
        };
        self.take(event, now, &mut out);
        self.overdue(now, &mut out);
        self.drive(now, &mut out);
        out
    }

    /// When to feed a [`Event::Tick`], on the monotonic clock. `None` before `Start` and when the answer is over.
    pub fn deadline(&self) -> Option<u64> {
        let stopping = match self.stage {
            Stage::New | Stage::Finished => return None,
            Stage::Going => None,
            Stage::Stopping(until) => Some(until),
        };
        let seats = if self.attempts.len() < MAX_ATTEMPTS {
            self.seats.next_ready_at(self.n_in())
        } else {
            None
        };
        let attempts = self
            .attempts
            .iter()
            .flat_map(|attempt| match &attempt.state {
                State::Connecting { until, .. }
                | State::Opened { until, .. }
                | State::Local { until } => [Some(*until), None, None, None, None],
                State::Running { span, .. } => [
                    Some(span.silent_at()),
                    Some(span.stalled_at()),
                    span.paused_until(),
                    Some(span.heard_ms() + GIVE_UP_MS),
                    Some(span.accepted_ms() + MAX_JOB_MS),
                ],
            });
        // What lies behind was acted upon as far as it could be, and time alone does not change that.
        attempts
            .flatten()
            .chain(stopping)
            .chain(seats)
            .filter(|&at| at > self.now_ms)
            .min()
    }

    /// True after [`Action::Finish`].
    pub fn is_finished(&self) -> bool {
        self.stage == Stage::Finished
    }

    /// What the message has so far: the resumed part, then all that was emitted.
    pub fn output(&self) -> &[u32] {
        &self.output
    }

    fn take(&mut self, event: Event, now: Clock, out: &mut Vec<Action>) {
        match event {
            Event::Start(candidates) => {
                self.seats.add(candidates);
                if self.stage == Stage::New {
                    self.stage = Stage::Going;
                }
            }
            Event::Candidates(candidates) => self.seats.add(candidates),
            Event::Connected { attempt, rtt_ms } => self.connected(attempt, rtt_ms, now, out),
            Event::ConnectFailed { attempt, why } => {
                if let Some(at) = self.find(attempt)
                    && matches!(self.attempts[at].state, State::Connecting { .. })
                {
                    self.end(at, AttemptEnd::ConnectFailed(why), Parting::Gone, now, out);
                }
            }
            Event::Frame { attempt, frame } => {
                if let Some(at) = self.find(attempt) {
                    self.frame(at, frame, now, out);
                }
            }
            Event::Closed { attempt, why } => {
                if let Some(at) = self.find(attempt)
                    && !matches!(self.attempts[at].state, State::Local { .. })
                {
                    self.end(at, AttemptEnd::Closed(why), Parting::Gone, now, out);
                }
            }
            Event::Local { attempt, event } => {
                if let Some(at) = self.find(attempt)
                    && matches!(self.attempts[at].state, State::Local { .. })
                {
                    self.local(at, event, now, out);
                }
            }
            Event::Cancel => self.cancel(now, out),
            Event::Tick => {}
        }
    }

    pub(super) fn find(&self, id: AttemptId) -> Option<usize> {
        self.attempts.iter().position(|attempt| attempt.id == id)
    }

    pub(super) fn n_in(&self) -> usize {
        self.request.prompt.len() + self.output.len()
    }

    pub(super) fn emitted(&self) -> u32 {
        (self.output.len() - self.request.resume.len()) as u32
    }

    pub(super) fn remaining(&self) -> u32 {
        self.request.max_out - self.emitted()
    }

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
        } = self.attempts.remove(at);
        let (seat, begun, checkpoint) = match state {
            State::Connecting { seat, .. } => (Some(seat), false, None),
            State::Opened { seat, .. } => (Some(seat), false, None),
            State::Running { seat, span } => (Some(seat), true, span.checkpoint),
            State::Local { .. } => (None, true, None),
        };
        match (parting, place) {
            (Parting::Gone, _) => {}
            (Parting::Close | Parting::Cancel(_), Place::Local) => {
                out.push(Action::StopLocal { attempt })
            }
            (Parting::Close, Place::Peer(_)) => out.push(Action::Close { attempt }),
            (Parting::Cancel(reason), Place::Peer(_)) => {
                if begun {
                    let frame = Frame::Cancel(Cancel {
                        reason: reason.into(),
                    });
                    out.push(Action::Send { attempt, frame });
                }
                out.push(Action::Close { attempt });
            }
        }
        if let Some(seat) = seat {
            self.seats.give_back(seat, &why, now.mono_ms);
        }
        if begun && !self.attempts.iter().any(Attempt::begun) {
            self.replacing.get_or_insert(Counted(false));
        }
        if !matches!(why, AttemptEnd::LostRace | AttemptEnd::Stopped) {
            self.last_end = Some(why.clone());
        }
        out.push(Action::AttemptEnded {
            attempt,
            place,
            why,
            checkpoint,
        });
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
        }));
    }

    /// Ends what took too long.
    fn overdue(&mut self, now: Clock, out: &mut Vec<Action>) {
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
                State::Opened { until, .. } if ms >= *until => {
                    Some((AttemptEnd::NoAnswer, Parting::Close))
                }
                State::Running { span, .. } if ms >= span.heard_ms() + GIVE_UP_MS => {
                    Some((AttemptEnd::Silent, Parting::Cancel(CancelReason::LostRace)))
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

    /// Sees to it that somebody works on the answer, or ends it.
    fn drive(&mut self, now: Clock, out: &mut Vec<Action>) {
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
            // All that was wanted is here; only its receipt may be missing, and a silent provider is not raced for it.
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
            [only] if only.wants_spare(now) => {
                let counted = self.replacing.get_or_insert(Counted(false));
                if counted.0 || self.failovers < MAX_FAILOVERS {
                    self.launch(now, out);
                }
            }
            _ => {}
        }
    }

    fn launch_or_finish(&mut self, now: Clock, out: &mut Vec<Action>) {
        let spent = self.replacing == Some(Counted(false)) && self.failovers >= MAX_FAILOVERS;
        if !spent && self.launch(now, out) {
            return;
        }
        if !spent && self.seats.next_ready_at(self.n_in()).is_some() {
            return self.say_busy(out);
        }
        let why = self.last_end.clone();
        let end = match why {
            Some(why) if self.emitted() > 0 => End::Interrupted(why),
            why => End::Failed(why),
        };
        self.finish(end, now, out);
    }

    /// Starts the next attempt, if there is anybody: fresh candidates first, then, when nobody works yet, this
    /// computer, then those that may be asked again. True if one was started.
    fn launch(&mut self, now: Clock, out: &mut Vec<Action>) -> bool {
        let n_in = self.n_in();
        let local = self.config.local == Local::Fallback && !self.local_used;
        let alone = self.attempts.is_empty();
        let seat = self.seats.fresh(n_in).or_else(|| {
            // Beside a provider that is merely slow, a busy one is tried before this computer's fans are heard.
            if local && alone {
                None
            } else {
                self.seats.ready(n_in, now.mono_ms)
            }
        });
        let candidate = seat.and_then(|seat| Some((seat, self.seats.take(seat)?)));
        if candidate.is_none() && !local {
            return false;
        }
        if self.replacing == Some(Counted(false)) {
            self.failovers += 1;
            self.replacing = Some(Counted(true));
        }
        self.said_busy = false;
        let attempt = self.next_id;
        self.next_id += 1;
        match candidate {
            Some((seat, candidate)) => {
                let place = Place::Peer(candidate.peer);
                let until = now.mono_ms + OPEN_MS;
                out.push(Action::Connect {
                    attempt,
                    candidate: candidate.clone(),
                });
                let phase = AnswerPhase::Connecting;
                out.push(Action::Progress(Progress {
                    attempt,
                    place,
                    phase,
                    done: 0,
                    total: 0,
                }));
                self.attempts.push(Attempt {
                    id: attempt,
                    place,
                    state: State::Connecting {
                        seat,
                        candidate,
                        until,
                    },
                });
            }
            None => {
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
                });
            }
        }
        true
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
        }));
    }
}

impl Attempt {
    /// A job that runs, or this computer.
    fn begun(&self) -> bool {
        match &self.state {
            State::Running { .. } | State::Local { .. } => true,
            State::Connecting { .. } | State::Opened { .. } => false,
        }
    }

    /// Whether somebody else should be tried beside it.
    fn wants_spare(&self, now: Clock) -> bool {
        match &self.state {
            State::Running { span, .. } => {
                now.mono_ms >= span.silent_at()
                    || now.mono_ms >= span.stalled_at()
                    || span
                        .paused_until()
                        .is_some_and(|until| now.mono_ms >= until)
            }
            State::Connecting { .. } | State::Opened { .. } | State::Local { .. } => false,
        }
    }
}
