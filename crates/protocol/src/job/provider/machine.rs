//! The state of one job on the provider's side, and what each event does to it.

use bytes::Bytes;

use super::{
    Action, Config, Ended, EngineEvent, Event, Recorded, Welcome,
    charge::{Charge, Payer},
    judge::{Opened, Refusal, Taken, judge},
    line::Seeking,
    resume::Parked,
    run::Run,
};
use crate::{
    Clock, JobId, PeerId,
    frame::{Frame, MAX_OPEN, Phase, Pong, RefuseCode, open_frame_ms},
    job::{CloseWhy, Finish},
    quote::Bound,
    receipt::SignedReceipt,
};

/// A client's first frame is here within this time, however slowly the reader of the stream lets it come: the wait,
/// and the largest frame at the slowest rate.
pub const FIRST_FRAME_MS: u64 = open_frame_ms(MAX_OPEN);
/// The job id is on disk within this time, or the disk is not to be waited for.
pub const RECORD_MS: u64 = 10_000;
/// A countersignature comes within this time, or the receipt stays unsigned.
pub const ACK_MS: u64 = 10_000;
/// A client that does not read pauses the engine after this long,
pub const BLOCKED_PAUSE_MS: u64 = 15_000;
/// and loses its stream after this long.
pub const BLOCKED_DROP_MS: u64 = 30_000;
/// Tokens that may wait for a client that does not read, or is gone and may come back, before the engine is paused: four
/// checkpoints' worth.
pub const MAX_WAITING: usize = 256;

/// The state of one job.
#[derive(Debug)]
pub struct Provider {
    pub(super) config: Config,
    pub(super) state: State,
    pub(super) own_work: bool,
    pub(super) link: Link,
    /// How often the job was taken up.
    pub(super) resumes: u32,
    /// As what the engine was told to pause, if it was.
    pub(super) standstill: Option<Phase>,
}

/// What has become of the stream.
#[derive(Debug)]
pub(super) enum Link {
    /// The client reads.
    Flowing,
    /// Since then it does not.
    Blocked(u64),
    /// The job has no stream.
    Parked(Parked),
}

impl Link {
    /// Whether what is sent has a chance to be read.
    pub(super) fn flows(&self) -> bool {
        matches!(self, Link::Flowing)
    }

    fn is_parked(&self) -> bool {
        matches!(self, Link::Parked(_))
    }
}

#[derive(Debug)]
pub(super) enum State {
    /// The first frame has not come.
    Waiting { until: u64 },
    /// The job costs something, and no voucher has come.
    Unvouched { taken: Box<Taken>, until: u64 },
    /// Its first voucher is being judged and written to disk.
    Admitting {
        taken: Box<Taken>,
        payer: Box<Payer>,
        until: u64,
    },
    /// It is good, and has no slot yet.
    Seeking(Box<Seeking>),
    /// The job id is being written to disk, and the engine computes already.
    Recording { run: Box<Run>, until: u64 },
    /// The engine computes, or its last tokens wait to be sent.
    Running(Box<Run>),
    /// `Done` was sent.
    Signing {
        run: Box<Run>,
        receipt: Box<SignedReceipt>,
        until: u64,
    },
    /// `Close` was given.
    Ended { job: Option<JobId> },
}

impl State {
    /// The job that is being computed.
    pub(super) fn run(&mut self) -> Option<&mut Run> {
        match self {
            State::Recording { run, .. } | State::Running(run) => Some(run),
            State::Waiting { .. }
            | State::Unvouched { .. }
            | State::Admitting { .. }
            | State::Seeking(_)
            | State::Signing { .. }
            | State::Ended { .. } => None,
        }
    }
}

impl Provider {
    /// A job whose first frame has not come yet. `own_work` says whether the owner's own work runs right now.
    pub fn new(config: Config, own_work: bool, now: Clock) -> Self {
        let until = now.mono_ms.saturating_add(FIRST_FRAME_MS);
        Self {
            config,
            state: State::Waiting { until },
            own_work,
            link: Link::Flowing,
            resumes: 0,
            standstill: None,
        }
    }

    /// Takes an event and says what is to be done about it.
    pub fn step(&mut self, event: Event, now: Clock) -> Vec<Action> {
        let mut out = Vec::new();
        if !self.is_done() {
            self.take(event, now, &mut out);
        }
        if !self.is_done() {
            self.overdue(now, &mut out);
        }
        out
    }

    /// When to feed a [`Event::Tick`], on the monotonic clock. `None` when the machine is done.
    pub fn deadline(&self) -> Option<u64> {
        match &self.state {
            State::Waiting { until }
            | State::Unvouched { until, .. }
            | State::Admitting { until, .. }
            | State::Recording { until, .. } => Some(*until),
            State::Seeking(seeking) => Some(seeking.deadline(&self.link)),
            State::Signing { until, .. } => Some(match &self.link {
                Link::Parked(parked) => parked.until,
                Link::Flowing | Link::Blocked(_) => *until,
            }),
            State::Running(run) => Some(match &self.link {
                Link::Parked(parked) => parked.until.min(run.too_long_at()),
                Link::Blocked(since) if self.standstill.is_some() || run.over.is_some() => {
                    since.saturating_add(BLOCKED_DROP_MS)
                }
                Link::Blocked(since) => since.saturating_add(BLOCKED_PAUSE_MS),
                Link::Flowing => run
                    .unpaid_until()
                    .into_iter()
                    .chain([run.too_long_at()])
                    .fold(run.next_send_at(), u64::min),
            }),
            State::Ended { .. } => None,
        }
    }

    /// True after [`Action::Close`].
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    /// The job's id, once its first frame was understood and found good.
    pub fn job(&self) -> Option<JobId> {
        match &self.state {
            State::Waiting { .. } => None,
            State::Unvouched { taken, .. } | State::Admitting { taken, .. } => Some(taken.job),
            State::Seeking(seeking) => Some(seeking.taken.job),
            State::Recording { run, .. } | State::Running(run) => Some(run.job),
            State::Signing { receipt, .. } => Some(receipt.receipt.job),
            State::Ended { job } => *job,
        }
    }

    /// True while the job's slot is needed: from `Start` until the engine is through.
    pub fn is_computing(&self) -> bool {
        match &self.state {
            State::Running(run) => run.over.is_none(),
            State::Recording { run, .. } => run.is_started() && run.over.is_none(),
            State::Waiting { .. }
            | State::Unvouched { .. }
            | State::Admitting { .. }
            | State::Seeking(_)
            | State::Signing { .. }
            | State::Ended { .. } => false,
        }
    }

    /// Base units that what was computed for this job comes to, vouchered or not; 0 before and after.
    pub fn used(&self) -> u128 {
        self.begun().map_or(0, Run::used)
    }

    /// Output tokens of this job that were computed and that no voucher covers: they count against the window of the payer's
    /// other jobs.
    pub fn unvouchered(&self) -> u32 {
        self.begun().map_or(0, Run::unvouchered)
    }

    /// What is computed, or about to be.
    fn begun(&self) -> Option<&Run> {
        match &self.state {
            State::Recording { run, .. } | State::Running(run) => Some(run),
            State::Waiting { .. }
            | State::Unvouched { .. }
            | State::Admitting { .. }
            | State::Seeking(_)
            | State::Signing { .. }
            | State::Ended { .. } => None,
        }
    }

    fn take(&mut self, event: Event, now: Clock, out: &mut Vec<Action>) {
        match event {
            Event::Open {
                from,
                bytes,
                welcome,
                quoted,
            } => self.open(from, &bytes, (welcome, quoted), now, out),
            Event::Admitted {
                standing,
                last_held,
            } => self.admitted((standing, last_held), now, out),
            Event::Room(room) => self.room(room, now, out),
            Event::Standing(standing) => self.stands(standing, now, out),
            // The last voucher of a job that is over: its receipt is signed for all the same.
            Event::Declined(_) if matches!(self.state, State::Signing { .. }) => {}
            Event::Declined(declined) => self.fail(declined.code, &declined.msg, now, out),
            Event::Resumed { from, bytes } => self.resumed(from, &bytes, now, out),
            Event::Evicted => {
                if self.link.is_parked() {
                    self.give_up_waiting(now, out);
                }
            }
            Event::Recorded(recorded) => self.recorded(recorded, now, out),
            Event::Engine(event) => self.engine(event, now, out),
            // What a stream says that is dropped already.
            Event::Frame(_) | Event::WriteBlocked | Event::Drained | Event::Closed(_)
                if self.link.is_parked() => {}
            Event::Frame(frame) => self.frame(frame, now, out),
            Event::OwnWork(on) => self.owner(on, now, out),
            Event::Off => self.fail(RefuseCode::NodeOff, "", now, out),
            Event::WriteBlocked => {
                if self.link.flows() {
                    self.link = Link::Blocked(now.mono_ms);
                }
            }
            Event::Drained => {
                self.link = Link::Flowing;
                self.start_or_pause(now, out);
            }
            Event::Closed(why) => self.closed(why, now, out),
            Event::Tick => {}
        }
    }

    fn open(
        &mut self,
        from: PeerId,
        bytes: &Bytes,
        (welcome, quoted): (Welcome, Option<Bound>),
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        if !matches!(self.state, State::Waiting { .. }) {
            return self.fail(RefuseCode::Violation, "a second Open", now, out);
        }
        let opened = Opened {
            from,
            bytes,
            welcome,
            quoted,
        };
        match judge(&self.config, opened, now) {
            Ok(taken) if taken.terms.prices.is_free() => self.seek(Box::new(taken), None, now, out),
            Ok(taken) => self.wait_for_voucher(Box::new(taken), now),
            Err(Refusal(code, msg)) => self.refuse(code, &msg, out),
        }
    }

    /// Has the job written down. The engine need not wait for the disk: only what it says does.
    pub(super) fn record(
        &mut self,
        taken: Box<Taken>,
        charge: Option<Box<Charge>>,
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        let (job, expires_unix_ms) = (taken.job, taken.expires_unix_ms);
        self.state = State::Recording {
            run: Box::new(Run::begin(*taken, charge, now)),
            until: now.mono_ms.saturating_add(RECORD_MS),
        };
        self.start_or_pause(now, out);
        out.push(Action::Record {
            job,
            expires_unix_ms,
        });
    }

    fn recorded(&mut self, recorded: Recorded, now: Clock, out: &mut Vec<Action>) {
        if !matches!(self.state, State::Recording { .. }) {
            return;
        }
        match recorded {
            Recorded::Fresh => self.accept(now, out),
            Recorded::Seen => self.refuse(RefuseCode::Replay, "", out),
            Recorded::Failed => self.refuse(
                RefuseCode::Internal,
                "the job could not be written down",
                out,
            ),
        }
    }

    /// The job is written down, and what was computed meanwhile may go out.
    fn accept(&mut self, now: Clock, out: &mut Vec<Action>) {
        let job = self.job();
        let State::Recording { mut run, .. } =
            std::mem::replace(&mut self.state, State::Ended { job })
        else {
            return;
        };
        run.accepted(now);
        out.push(Action::Send(Frame::Accept(run.accept(&self.config))));
        let failed = run.failed.take();
        // What it stands still for, if it does, was not said yet.
        if self.standstill.is_some() {
            run.heartbeat(self.standstill, now, out);
        }
        self.state = State::Running(run);
        match failed {
            Some(why) => self.fail(RefuseCode::EngineFailed, &why, now, out),
            None => self.start_or_pause(now, out),
        }
    }

    fn engine(&mut self, event: EngineEvent, now: Clock, out: &mut Vec<Action>) {
        let (standstill, sends) = (self.standstill(), self.may_send());
        let Some(run) = self.state.run() else {
            return;
        };
        if run.over.is_some() || run.failed.is_some() {
            return;
        }
        let worth_saying = match event {
            EngineEvent::Queued { in_front } => run.queued(in_front, now),
            EngineEvent::Loading { done, total } => run.progress(Phase::Loading, done, total, now),
            EngineEvent::Prefill { done, total } => {
                run.progress(Phase::Prefill, done.into(), total.into(), now)
            }
            EngineEvent::Tokens {
                first_index,
                ids,
                logprobs,
            } => match run.computed(first_index, &ids, logprobs, now) {
                Ok(false) => false,
                Ok(true) => {
                    out.push(Action::CancelEngine);
                    run.over = Some(Finish::Length);
                    false
                }
                Err(fault) => return self.engine_failed(fault.to_string(), now, out),
            },
            EngineEvent::Finished(finish) => {
                run.over = Some(finish);
                false
            }
            EngineEvent::Failed(why) => return self.engine_failed(why, now, out),
        };
        if worth_saying && sends {
            run.heartbeat(standstill, now, out);
        }
    }

    /// Whoever asked hears of it once the job is accepted: it is no reason not to take it.
    fn engine_failed(&mut self, why: String, now: Clock, out: &mut Vec<Action>) {
        if let State::Recording { run, .. } = &mut self.state {
            run.cancel_engine(out);
            run.failed = Some(why);
            return;
        }
        self.fail(RefuseCode::EngineFailed, &why, now, out);
    }

    /// Whether something may be said to the client now.
    pub(super) fn may_send(&self) -> bool {
        self.link.flows() && matches!(self.state, State::Running(_))
    }

    fn frame(&mut self, frame: Frame, now: Clock, out: &mut Vec<Action>) {
        match (&mut self.state, frame) {
            (State::Ended { .. }, _) | (_, Frame::Pong(_)) => {}
            (State::Waiting { .. }, _) => {
                self.refuse(RefuseCode::BadOpen, "the first frame is an Open", out)
            }
            (_, Frame::Ping(ping)) => {
                // One for one: who floods pings has to read as much as he writes.
                if self.link.flows() {
                    out.push(Action::Send(Frame::Pong(Pong { nonce: ping.nonce })));
                }
            }
            (
                State::Unvouched { .. }
                | State::Admitting { .. }
                | State::Seeking(_)
                | State::Recording { .. },
                Frame::Cancel(_) | Frame::Error(_),
            ) => self.close(Ended::Cancelled, out),
            (State::Running(run), Frame::Cancel(_)) => {
                // The client is given a receipt for what it has; what it has not is forgotten.
                run.cancel_engine(out);
                run.over = Some(Finish::Abort);
                run.forget_waiting();
            }
            (_, Frame::Pay(pay)) => self.paid(&pay, now, out),
            (_, Frame::Reserved(reserved)) => self.reserved(&reserved.reservation, now, out),
            (State::Running(_), Frame::Error(error)) => {
                self.leave(CloseWhy::Cut(error.msg), now, out)
            }
            (State::Signing { receipt, .. }, Frame::Ack(ack)) => {
                let signed = receipt.add_countersignature(&ack.countersignature).is_ok();
                self.store_and_close(
                    if signed {
                        Ended::Signed
                    } else {
                        Ended::Unsigned
                    },
                    out,
                );
            }
            // It crossed our Done on the way.
            (State::Signing { .. }, Frame::Cancel(_)) => {}
            (State::Signing { .. }, Frame::Error(_)) => self.store_and_close(Ended::Unsigned, out),
            (
                State::Unvouched { .. }
                | State::Admitting { .. }
                | State::Seeking(_)
                | State::Recording { .. }
                | State::Running(_)
                | State::Signing { .. },
                Frame::Open(_)
                | Frame::Accept(_)
                | Frame::Busy(_)
                | Frame::Refuse(_)
                | Frame::Progress(_)
                | Frame::Tokens(_)
                | Frame::Checkpoint(_)
                | Frame::Done(_)
                | Frame::Reserve(_)
                | Frame::Ack(_),
            ) => self.fail(RefuseCode::Violation, "a frame out of turn", now, out),
        }
    }
}
