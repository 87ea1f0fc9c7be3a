//! The state of one job on the provider's side, and what each event does to it.

use bytes::Bytes;

use super::{
    Action, Config, Ended, EngineEvent, Event, Recorded, Room,
    judge::{Refusal, Taken, judge},
    resume::Parked,
    run::Run,
};
use crate::{
    Clock, JobId, PeerId,
    frame::{Frame, JobError, MAX_OPEN, MAX_TEXT, Phase, Pong, Refuse, RefuseCode, open_frame_ms},
    job::{CloseWhy, Finish},
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
    own_work: bool,
    pub(super) link: Link,
    /// How often the job was taken up.
    pub(super) resumes: u32,
    /// Whether the engine was told to pause.
    paused: bool,
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
    fn flows(&self) -> bool {
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
    /// The job id is being written to disk.
    Recording { taken: Box<Taken>, until: u64 },
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
            paused: false,
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
            State::Waiting { until } | State::Recording { until, .. } => Some(*until),
            State::Signing { until, .. } => Some(match &self.link {
                Link::Parked(parked) => parked.until,
                Link::Flowing | Link::Blocked(_) => *until,
            }),
            State::Running(run) => Some(match &self.link {
                Link::Parked(parked) => parked.until.min(run.too_long_at()),
                Link::Blocked(since) if self.paused || run.over.is_some() => {
                    since.saturating_add(BLOCKED_DROP_MS)
                }
                Link::Blocked(since) => since.saturating_add(BLOCKED_PAUSE_MS),
                Link::Flowing => run.next_send_at().min(run.too_long_at()),
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
            State::Recording { taken, .. } => Some(taken.job),
            State::Running(run) => Some(run.job),
            State::Signing { receipt, .. } => Some(receipt.receipt.job),
            State::Ended { job } => *job,
        }
    }

    /// True while the job's slot is needed: from `Start` until the engine is through.
    pub fn is_computing(&self) -> bool {
        matches!(&self.state, State::Running(run) if run.over.is_none())
    }

    fn take(&mut self, event: Event, now: Clock, out: &mut Vec<Action>) {
        match event {
            Event::Open { from, bytes, room } => self.open(from, &bytes, room, now, out),
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
                self.pause_or_resume(now, out);
            }
            Event::Closed(why) => self.closed(why, now, out),
            Event::Tick => {}
        }
    }

    fn open(&mut self, from: PeerId, bytes: &Bytes, room: Room, now: Clock, out: &mut Vec<Action>) {
        if !matches!(self.state, State::Waiting { .. }) {
            return self.fail(RefuseCode::Violation, "a second Open", now, out);
        }
        match judge(&self.config, from, bytes, room, now) {
            Ok(taken) => {
                out.push(Action::Record {
                    job: taken.job,
                    expires_unix_ms: taken.expires_unix_ms,
                });
                let until = now.mono_ms.saturating_add(RECORD_MS);
                self.state = State::Recording {
                    taken: Box::new(taken),
                    until,
                };
            }
            Err(Refusal::Busy(busy)) => {
                out.push(Action::Send(Frame::Busy(busy)));
                self.close(Ended::Busy, out);
            }
            Err(Refusal::No(code, msg)) => self.refuse(code, &msg, out),
        }
    }

    fn recorded(&mut self, recorded: Recorded, now: Clock, out: &mut Vec<Action>) {
        if !matches!(self.state, State::Recording { .. }) {
            return;
        }
        match recorded {
            Recorded::Fresh => {
                let job = self.job();
                if let State::Recording { taken, .. } =
                    std::mem::replace(&mut self.state, State::Ended { job })
                {
                    let (run, begin) = Run::begin(*taken, &self.config, now);
                    self.state = State::Running(Box::new(run));
                    out.extend(begin);
                    self.pause_or_resume(now, out);
                }
            }
            Recorded::Seen => self.refuse(RefuseCode::Replay, "", out),
            Recorded::Failed => self.refuse(
                RefuseCode::Internal,
                "the job could not be written down",
                out,
            ),
        }
    }

    fn engine(&mut self, event: EngineEvent, now: Clock, out: &mut Vec<Action>) {
        let State::Running(run) = &mut self.state else {
            return;
        };
        if run.over.is_some() {
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
                Err(fault) => {
                    return self.fail(RefuseCode::EngineFailed, &fault.to_string(), now, out);
                }
            },
            EngineEvent::Finished(finish) => {
                run.over = Some(finish);
                false
            }
            EngineEvent::Failed(why) => return self.fail(RefuseCode::EngineFailed, &why, now, out),
        };
        if worth_saying && self.link.flows() {
            run.heartbeat(self.paused || self.own_work, now, out);
        }
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
            (State::Recording { .. }, Frame::Cancel(_) | Frame::Error(_)) => {
                self.close(Ended::Cancelled, out)
            }
            (State::Running(run), Frame::Cancel(_)) => {
                // The client is given a receipt for what it has; what it has not is forgotten.
                if run.over.replace(Finish::Abort).is_none() {
                    out.push(Action::CancelEngine);
                }
                run.forget_waiting();
            }
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
            (State::Signing { .. }, Frame::Cancel(_) | Frame::Pay(_)) => {}
            (State::Recording { .. } | State::Running(_), Frame::Pay(_)) => self.fail(
                RefuseCode::PaymentRefused,
                "nothing is paid for here",
                now,
                out,
            ),
            (State::Signing { .. }, Frame::Error(_)) => self.store_and_close(Ended::Unsigned, out),
            (
                State::Recording { .. } | State::Running(_) | State::Signing { .. },
                Frame::Open(_)
                | Frame::Accept(_)
                | Frame::Busy(_)
                | Frame::Refuse(_)
                | Frame::Progress(_)
                | Frame::Tokens(_)
                | Frame::Checkpoint(_)
                | Frame::Done(_)
                | Frame::Ack(_),
            ) => self.fail(RefuseCode::Violation, "a frame out of turn", now, out),
        }
    }

    /// Sends what is due and gives up what took too long.
    fn overdue(&mut self, now: Clock, out: &mut Vec<Action>) {
        match &self.state {
            State::Waiting { until } if now.mono_ms >= *until => {
                self.refuse(RefuseCode::BadOpen, "the first frame took too long", out);
            }
            State::Recording { until, .. } if now.mono_ms >= *until => {
                self.refuse(
                    RefuseCode::Internal,
                    "the job could not be written down",
                    out,
                );
            }
            State::Signing { until, .. } => {
                let until = match &self.link {
                    Link::Parked(parked) => parked.until,
                    Link::Flowing | Link::Blocked(_) => *until,
                };
                if now.mono_ms >= until {
                    self.store_and_close(Ended::Unsigned, out);
                }
            }
            State::Running(_) => self.overdue_running(now, out),
            State::Waiting { .. } | State::Recording { .. } | State::Ended { .. } => {}
        }
    }

    fn overdue_running(&mut self, now: Clock, out: &mut Vec<Action>) {
        self.pause_or_resume(now, out);
        let State::Running(run) = &mut self.state else {
            return;
        };
        match &self.link {
            Link::Flowing => {}
            Link::Parked(parked) => {
                if now.mono_ms >= parked.until.min(run.too_long_at()) {
                    self.give_up_waiting(now, out);
                }
                return;
            }
            Link::Blocked(since) => {
                if now.mono_ms < since.saturating_add(BLOCKED_DROP_MS) {
                    return;
                }
                if self.config.grace_ms() == 0 {
                    self.fail(RefuseCode::Stalled, "", now, out);
                } else {
                    // A network that broke without a word looks the same as a client that does not read.
                    self.closed(CloseWhy::Cut("it does not read".to_owned()), now, out);
                    self.pause_or_resume(now, out);
                }
                return;
            }
        }
        if run.over.is_none() && now.mono_ms >= run.too_long_at() {
            out.push(Action::CancelEngine);
            run.over = Some(Finish::Abort);
        }
        if run.must_flush(now) {
            run.flush(now, out);
        }
        if let Some(finish) = run.over {
            let receipt = run.receipt(&self.config, run.honest(finish), now);
            run.done(&receipt, now, out);
            let until = now.mono_ms.saturating_add(ACK_MS);
            let job = Some(run.job);
            if let State::Running(run) = std::mem::replace(&mut self.state, State::Ended { job }) {
                self.state = State::Signing {
                    run,
                    receipt: Box::new(receipt),
                    until,
                };
            }
            return;
        }
        if run.must_checkpoint(now) {
            run.checkpoint(&self.config, now, out);
        }
        if run.must_speak(now) {
            run.heartbeat(self.paused || self.own_work, now, out);
        }
    }

    /// The client hears that the owner comes first now. What the engine computes beside the owner's work is the engine's own
    /// affair: it alone knows what that costs.
    fn owner(&mut self, works: bool, now: Clock, out: &mut Vec<Action>) {
        let before = std::mem::replace(&mut self.own_work, works);
        if let State::Running(run) = &mut self.state
            && before != works
            && run.over.is_none()
            && self.link.flows()
        {
            run.heartbeat(self.paused || works, now, out);
        }
    }

    /// Nobody computes for long for a client that does not read or is gone.
    fn pause_or_resume(&mut self, now: Clock, out: &mut Vec<Action>) {
        let State::Running(run) = &mut self.state else {
            return;
        };
        let full = run.tokens_waiting() >= MAX_WAITING;
        let unread = match self.link {
            Link::Flowing => false,
            Link::Blocked(since) => full || now.mono_ms >= since.saturating_add(BLOCKED_PAUSE_MS),
            Link::Parked(_) => full,
        };
        if unread == self.paused || run.over.is_some() {
            return;
        }
        self.paused = unread;
        out.push(match unread {
            true => Action::Pause,
            false => Action::Resume,
        });
        if self.link.flows() {
            run.heartbeat(self.paused || self.own_work, now, out);
        }
    }

    /// Breaks the job off from this side and tells the client why, if it reads.
    fn fail(&mut self, code: RefuseCode, msg: &str, now: Clock, out: &mut Vec<Action>) {
        match &mut self.state {
            State::Waiting { .. } | State::Recording { .. } => self.refuse(code, msg, out),
            State::Running(run) => {
                if run.over.is_none() {
                    out.push(Action::CancelEngine);
                }
                if self.link.flows() {
                    run.flush(now, out);
                    run.checkpoint(&self.config, now, out);
                    let error = JobError {
                        code: code.into(),
                        msg: short(msg),
                        retry_after_ms: 0,
                    };
                    out.push(Action::Send(Frame::Error(error)));
                }
                self.abandon(Ended::Failed(code), now, out);
            }
            State::Signing { .. } => self.store_and_close(Ended::Unsigned, out),
            State::Ended { .. } => {}
        }
    }

    /// The client is gone for good.
    pub(super) fn leave(&mut self, why: CloseWhy, now: Clock, out: &mut Vec<Action>) {
        match &mut self.state {
            State::Waiting { .. } | State::Recording { .. } => {
                self.close(Ended::ClientGone(why), out)
            }
            State::Running(run) => {
                if run.over.is_none() {
                    out.push(Action::CancelEngine);
                }
                self.abandon(Ended::ClientGone(why), now, out);
            }
            State::Signing { .. } => self.store_and_close(Ended::Unsigned, out),
            State::Ended { .. } => {}
        }
    }

    /// Leaves a running job: what was sent is kept as a receipt nobody countersigned.
    fn abandon(&mut self, ended: Ended, now: Clock, out: &mut Vec<Action>) {
        if let State::Running(run) = &self.state
            && run.tokens_sent() > 0
        {
            out.push(Action::Store(Box::new(run.receipt(
                &self.config,
                Finish::Abort,
                now,
            ))));
        }
        self.close(ended, out);
    }

    pub(super) fn store_and_close(&mut self, ended: Ended, out: &mut Vec<Action>) {
        if let State::Signing { receipt, .. } = &self.state {
            out.push(Action::Store(receipt.clone()));
        }
        self.close(ended, out);
    }

    fn refuse(&mut self, code: RefuseCode, msg: &str, out: &mut Vec<Action>) {
        if self.link.flows() {
            out.push(Action::Send(Frame::Refuse(Refuse {
                code: code.into(),
                msg: short(msg),
            })));
        }
        self.close(Ended::Refused(code), out);
    }

    fn close(&mut self, ended: Ended, out: &mut Vec<Action>) {
        self.state = State::Ended { job: self.job() };
        out.push(Action::Close(ended));
    }
}

/// At most [`MAX_TEXT`] bytes of a message, cut between characters.
pub(super) fn short(msg: &str) -> String {
    let end = (0..=MAX_TEXT.min(msg.len()))
        .rev()
        .find(|&end| msg.is_char_boundary(end));
    msg[..end.unwrap_or(0)].to_owned()
}
