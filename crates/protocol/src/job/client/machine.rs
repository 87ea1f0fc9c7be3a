//! The state of one answer on the asking side, and what each event does to it.

use std::collections::BTreeMap;

use super::{
    Action, AttemptEnd, AttemptId, Candidate, Config, Event, Place, Request,
    bill::{Bill, PromiseId},
    end::Parting,
    line::{Line, Shown},
    seats::{Kept, SeatId, Seats},
    span::Span,
};
use crate::{Clock, JobId, job::MAX_JOB_MS};

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

/// When the wall clock gains this much on the monotonic one, the computer slept, and its streams with it. A shorter sleep
/// leaves connections alive.
pub const SLEPT_MS: u64 = 10_000;

/// The one who answers, the spare beside it, and one more where the spare does not answer either.
pub(super) const MAX_ATTEMPTS: usize = 3;

/// The state of one answer.
#[derive(Debug)]
pub struct Client {
    pub(super) config: Config,
    pub(super) request: Request,
    /// What the message has: the resumed part, then all that was emitted.
    pub(super) output: Vec<u32>,
    pub(super) seats: Seats,
    /// Live attempts, the older one first.
    pub(super) attempts: Vec<Attempt>,
    pub(super) next_id: AttemptId,
    pub(super) stage: Stage,
    pub(super) failovers: u32,
    /// Failovers that came to nothing because the provider wrote on.
    pub(super) false_alarms: u32,
    pub(super) resumes: u32,
    /// How many tokens there were when a silent provider was last asked for its job on another way.
    pub(super) asked_again_at: Option<u32>,
    pub(super) hedged: bool,
    /// Nobody is sounded out before.
    pub(super) sound_again_at: u64,
    /// Base units promised for the answer.
    pub(super) promised: u128,
    /// Of that, what is being signed.
    pub(super) signing: BTreeMap<PromiseId, u128>,
    pub(super) next_promise: PromiseId,
    /// What was paid with a first frame was lost: it is not paid with one again.
    pub(super) opening_lost: bool,
    /// Whether it ended at what may be paid.
    pub(super) capped: bool,
    /// A job that had begun must be replaced, and whether that was counted already.
    pub(super) replacing: Option<Counted>,
    pub(super) writer: Option<Place>,
    pub(super) last_end: Option<AttemptEnd>,
    pub(super) local_used: bool,
    /// Whether the screen was told that all candidates are busy.
    pub(super) said_busy: bool,
    /// The place in line that the screen shows, as long as nothing else was told since.
    pub(super) shown_line: Option<Shown>,
    /// When the answer is of no use any more.
    pub(super) too_late_at: Option<u64>,
    now_ms: u64,
    /// Wall clock minus monotonic clock at the last step.
    ahead_ms: Option<i128>,
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
pub(super) struct Counted(pub(super) bool);

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) id: AttemptId,
    pub(super) place: Place,
    pub(super) state: State,
    /// It was counted as a failover.
    pub(super) counted: bool,
}

#[derive(Debug)]
pub(super) enum State {
    Connecting {
        seat: SeatId,
        candidate: Candidate,
        until: u64,
        /// From when on somebody else is asked beside it.
        patient_until: u64,
        /// The job that is to be taken up.
        kept: Option<Kept>,
    },
    Opened {
        seat: SeatId,
        candidate: Candidate,
        job: JobId,
        asked: u32,
        rtt_ms: u64,
        until: u64,
        patient_until: u64,
        kept: Option<Kept>,
        /// What is paid for it, where it costs something and is new.
        bill: Option<Box<Bill>>,
        /// Its place in the provider's line.
        line: Option<Line>,
    },
    Running {
        seat: SeatId,
        span: Box<Span>,
    },
    Local {
        until: u64,
    },
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
            false_alarms: 0,
            resumes: 0,
            asked_again_at: None,
            hedged: false,
            sound_again_at: 0,
            promised: 0,
            signing: BTreeMap::new(),
            next_promise: 0,
            opening_lost: false,
            capped: false,
            replacing: None,
            writer: None,
            last_end: None,
            local_used: false,
            said_busy: false,
            shown_line: None,
            too_late_at: None,
            now_ms: 0,
            ahead_ms: None,
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
        if self.slept(now) {
            self.path_changed(now, &mut out);
        }
        self.take(event, now, &mut out);
        self.overdue(now, &mut out);
        self.pay(now, &mut out);
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
            self.seats.next_ready_after(self.n_in(), self.now_ms)
        } else {
            None
        };
        let attempts = self
            .attempts
            .iter()
            .flat_map(|attempt| match &attempt.state {
                State::Connecting {
                    until,
                    patient_until,
                    ..
                }
                | State::Opened {
                    until,
                    patient_until,
                    ..
                } => [
                    Some(*until),
                    Some(*patient_until),
                    None,
                    None,
                    None,
                    None,
                    None,
                    None,
                ],
                State::Local { until } => [Some(*until), None, None, None, None, None, None, None],
                State::Running { span, .. } => [
                    Some(span.doubted_at().max(self.sound_again_at)),
                    Some(span.silent_at()),
                    Some(span.stalled_at()),
                    span.paused_until(),
                    Some(span.heard_ms() + GIVE_UP_MS),
                    Some(span.accepted_ms() + MAX_JOB_MS),
                    self.hedge_at(span),
                    span.pays_at(),
                ],
            });
        // What lies behind was acted upon as far as it could be, and time alone does not change that.
        attempts
            .flatten()
            .chain(stopping)
            .chain(seats)
            .chain(self.too_late_at)
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
                self.seats.add(candidates, now.mono_ms);
                if self.stage == Stage::New {
                    self.stage = Stage::Going;
                    self.too_late_at = self
                        .request
                        .deadline_ms
                        .map(|ms| now.mono_ms + u64::from(ms));
                }
            }
            Event::Candidates(candidates) => self.seats.add(candidates, now.mono_ms),
            Event::NotReached { peer } => self.seats.not_reached(&peer, now.mono_ms),
            Event::Sounded { peer, quote } => self.seats.sounded(&peer, quote, now.mono_ms),
            Event::Quoted {
                attempt,
                terms,
                quote_id,
                queue_pos,
            } => self.quoted(attempt, (terms, quote_id, queue_pos), now, out),
            Event::Promised { promise, voucher } => self.promised(promise, voucher, now, out),
            Event::Reserved {
                promise,
                reservation,
            } => self.reserved(promise, &reservation, out),
            Event::NotPromised { promise, why } => self.not_promised(promise, why, now, out),
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
                    self.closed(at, why, now, out);
                }
            }
            Event::Local { attempt, event } => {
                if let Some(at) = self.find(attempt)
                    && matches!(self.attempts[at].state, State::Local { .. })
                {
                    self.local(at, event, now, out);
                }
            }
            Event::PathChanged => self.path_changed(now, out),
            Event::Cancel => self.cancel(now, out),
            Event::Tick => {}
        }
    }

    /// Whether the computer slept since the last step, as far as its clocks tell.
    fn slept(&mut self, now: Clock) -> bool {
        let ahead = i128::from(now.unix_ms) - i128::from(now.mono_ms);
        let before = self.ahead_ms.replace(ahead);
        before.is_some_and(|before| ahead - before >= i128::from(SLEPT_MS))
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
}

impl State {
    /// What is paid for its job.
    pub(super) fn bill(&mut self) -> Option<&mut Bill> {
        match self {
            State::Connecting { kept, .. } => {
                kept.as_mut().and_then(|kept| kept.span.bill.as_deref_mut())
            }
            State::Opened { kept, bill, .. } => match kept {
                Some(kept) => kept.span.bill.as_deref_mut(),
                None => bill.as_deref_mut(),
            },
            State::Running { span, .. } => span.bill.as_deref_mut(),
            State::Local { .. } => None,
        }
    }

    /// Whether its job's first frame was sent.
    pub(super) fn is_opened(&self) -> bool {
        matches!(self, State::Opened { .. } | State::Running { .. })
    }

    /// Whether its job was asked for and is no older one that is taken up, and nothing was heard of it.
    pub(super) fn is_new(&self) -> bool {
        matches!(self, State::Opened { kept: None, .. })
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self, State::Running { .. })
    }
}

impl Attempt {
    /// A job that runs, or this computer.
    pub(super) fn begun(&self) -> bool {
        match &self.state {
            State::Running { .. } | State::Local { .. } => true,
            State::Connecting { .. } | State::Opened { .. } => false,
        }
    }

    /// Whether it is time to see who else would be there.
    pub(super) fn is_doubted(&self, now: Clock) -> bool {
        match &self.state {
            State::Running { span, .. } => !span.is_settling() && now.mono_ms >= span.doubted_at(),
            State::Connecting { .. } | State::Opened { .. } | State::Local { .. } => false,
        }
    }

    /// Whether somebody else should be tried beside it.
    pub(super) fn wants_spare(&self, now: Clock) -> bool {
        match &self.state {
            State::Running { span, .. } if span.is_settling() => false,
            State::Running { span, .. } => {
                now.mono_ms >= span.silent_at()
                    || now.mono_ms >= span.stalled_at()
                    || span
                        .paused_until()
                        .is_some_and(|until| now.mono_ms >= until)
            }
            State::Connecting { patient_until, .. } | State::Opened { patient_until, .. } => {
                now.mono_ms >= *patient_until
            }
            State::Local { .. } => false,
        }
    }
}
