//! The state of one answer on the asking side, and what each event does to it.

use bytes::Bytes;

use super::{
    Action, AnswerPhase, AttemptEnd, AttemptId, Candidate, Config, End, Event, Lie, Local,
    LocalEvent, Outcome, Place, Progress, Request,
    seats::{SeatId, Seats},
    span::{Finished, Span},
};
use crate::{
    Clock, JobId,
    frame::{
        Ack, Cancel, CancelReason, Frame, MAX_OPEN, Open, Phase, Pong, Sampling, open_frame_ms,
    },
    job::{ACCEPT_MS, Finish, MAX_JOB_MS, OPEN_EXPIRY_MS},
    tokens,
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

/// Context string that derives the nonce of an attempt.
const NONCE_CONTEXT: &str = "decentralgpt/nonce/1";
/// The one who answers and the spare beside it.
const MAX_ATTEMPTS: usize = 2;

/// The state of one answer.
#[derive(Debug)]
pub struct Client {
    config: Config,
    request: Request,
    /// What the message has: the resumed part, then all that was emitted.
    output: Vec<u32>,
    seats: Seats,
    /// Live attempts, the older one first.
    attempts: Vec<Attempt>,
    next_id: AttemptId,
    stage: Stage,
    failovers: u32,
    /// A job that had begun must be replaced, and whether that was counted already.
    replacing: Option<Counted>,
    writer: Option<Place>,
    last_end: Option<AttemptEnd>,
    local_used: bool,
    /// Whether the screen was told that all candidates are busy.
    said_busy: bool,
    now_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Going,
    /// Stopped by the person; receipts are waited for until then.
    Stopping(u64),
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted(bool);

#[derive(Debug)]
struct Attempt {
    id: AttemptId,
    place: Place,
    state: State,
}

#[derive(Debug)]
enum State {
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
enum Parting {
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

    fn find(&self, id: AttemptId) -> Option<usize> {
        self.attempts.iter().position(|attempt| attempt.id == id)
    }

    fn n_in(&self) -> usize {
        self.request.prompt.len() + self.output.len()
    }

    fn emitted(&self) -> u32 {
        (self.output.len() - self.request.resume.len()) as u32
    }

    fn remaining(&self) -> u32 {
        self.request.max_out - self.emitted()
    }

    // ------------------------------------------------------------------------------------------ streams

    fn connected(&mut self, id: AttemptId, rtt_ms: u64, now: Clock, out: &mut Vec<Action>) {
        let Some(at) = self.find(id) else { return };
        let State::Connecting {
            seat, candidate, ..
        } = &self.attempts[at].state
        else {
            return;
        };
        let (seat, candidate) = (*seat, candidate.clone());
        let room = candidate.ctx_max.saturating_sub(self.n_in() as u32);
        let asked = self.remaining().min(candidate.out_max).min(room);
        let frame = Frame::Open(Box::new(self.open(id, &candidate, asked, now)));
        let bytes = frame.to_bytes();
        if bytes.len() > MAX_OPEN {
            return self.end(
                at,
                AttemptEnd::TooLarge { len: bytes.len() },
                Parting::Close,
                now,
                out,
            );
        }
        let job = JobId::new(*blake3::hash(&bytes).as_bytes());
        let upload = open_frame_ms(bytes.len()) - open_frame_ms(0);
        let until = now.mono_ms + ACCEPT_MS + upload + rtt_ms.min(ACCEPT_MS);
        self.attempts[at].state = State::Opened {
            seat,
            candidate,
            job,
            asked,
            rtt_ms,
            until,
        };
        out.push(Action::Send { attempt: id, frame });
    }

    fn open(&self, id: AttemptId, candidate: &Candidate, asked: u32, now: Clock) -> Open {
        let mut seed = [0; 36];
        seed[..32].copy_from_slice(&self.config.entropy);
        seed[32..].copy_from_slice(&id.to_le_bytes());
        Open {
            provider: Bytes::copy_from_slice(candidate.peer.as_bytes()),
            nonce: Bytes::copy_from_slice(&blake3::derive_key(NONCE_CONTEXT, &seed)),
            expires_unix_ms: now.unix_ms.saturating_add(OPEN_EXPIRY_MS),
            model_digest: Bytes::copy_from_slice(self.request.model.digest.as_bytes()),
            prompt_tokens: tokens::pack(&self.request.prompt),
            resume_tokens: tokens::pack(&self.output),
            sampling: Some(Sampling {
                seed: None,
                ..self.request.sampling
            }),
            max_out: asked,
            stop: self.request.stop.clone(),
            resume_of: None,
            ignore_eog: self.request.ignore_eog,
        }
    }

    fn frame(&mut self, at: usize, frame: Frame, now: Clock, out: &mut Vec<Action>) {
        let Attempt { id, state, .. } = &mut self.attempts[at];
        if let Frame::Ping(ping) = frame {
            out.push(Action::Send {
                attempt: *id,
                frame: Frame::Pong(Pong { nonce: ping.nonce }),
            });
            return;
        }
        match state {
            State::Opened { .. } => self.answered(at, frame, now, out),
            State::Running { span, .. } => {
                span.heard(now);
                self.running(at, frame, now, out);
            }
            // Nothing was asked yet.
            State::Connecting { .. } => self.lied(at, Lie::OutOfTurn(frame.kind()), now, out),
            State::Local { .. } => {}
        }
    }

    /// The answer to an `Open`.
    fn answered(&mut self, at: usize, frame: Frame, now: Clock, out: &mut Vec<Action>) {
        let Attempt { id, place, state } = &mut self.attempts[at];
        let State::Opened {
            seat,
            candidate,
            job,
            asked,
            rtt_ms,
            ..
        } = state
        else {
            return;
        };
        match frame {
            Frame::Accept(accept) => {
                let seat = *seat;
                let facts = (&self.request, self.output.as_slice());
                match Span::accepted(&accept, *job, candidate, facts, *asked, *rtt_ms, now) {
                    Ok(span) => {
                        let (attempt, place) = (*id, *place);
                        *state = State::Running {
                            seat,
                            span: Box::new(span),
                        };
                        self.replacing = None;
                        let phase = AnswerPhase::At(Phase::Queued);
                        out.push(Action::Progress(Progress {
                            attempt,
                            place,
                            phase,
                            done: 0,
                            total: 0,
                        }));
                    }
                    Err(lie) => self.lied(at, lie, now, out),
                }
            }
            Frame::Busy(busy) => {
                let why = AttemptEnd::Busy {
                    retry_after_ms: busy.retry_after_ms,
                };
                self.end(at, why, Parting::Close, now, out);
            }
            Frame::Refuse(refuse) => {
                let why = AttemptEnd::Refused {
                    code: refuse.code(),
                    msg: refuse.msg,
                };
                self.end(at, why, Parting::Close, now, out);
            }
            Frame::Error(error) => {
                let why = AttemptEnd::Gave {
                    code: error.code(),
                    msg: error.msg,
                };
                self.end(at, why, Parting::Close, now, out);
            }
            Frame::Pong(_) | Frame::Ping(_) => {}
            Frame::Open(_)
            | Frame::Progress(_)
            | Frame::Tokens(_)
            | Frame::Checkpoint(_)
            | Frame::Done(_)
            | Frame::Ack(_)
            | Frame::Cancel(_) => self.lied(at, Lie::OutOfTurn(frame.kind()), now, out),
        }
    }

    /// A frame of a job that was accepted.
    fn running(&mut self, at: usize, frame: Frame, now: Clock, out: &mut Vec<Action>) {
        let Attempt { id, place, state } = &mut self.attempts[at];
        let (State::Running { span, .. }, Place::Peer(peer)) = (state, &*place) else {
            return;
        };
        match frame {
            Frame::Progress(progress) => {
                if span.progress(&progress, now) {
                    let phase = AnswerPhase::At(progress.phase());
                    let (done, total) = (progress.done, progress.total);
                    out.push(Action::Progress(Progress {
                        attempt: *id,
                        place: *place,
                        phase,
                        done,
                        total,
                    }));
                }
            }
            Frame::Tokens(tokens) => match span.tokens(&tokens, &self.request, &self.output, now) {
                Ok(new) => self.emit(at, new, now, out),
                Err(lie) => self.lied(at, lie, now, out),
            },
            Frame::Checkpoint(signed) => {
                if let Err(lie) = span.checkpoint(signed, peer) {
                    self.lied(at, lie, now, out);
                }
            }
            Frame::Done(done) => {
                match span.done(&done, peer, &self.config.signer.peer_id(), &self.request) {
                    Ok(finished) => self.done(at, finished, now, out),
                    Err(lie) => self.lied(at, lie, now, out),
                }
            }
            Frame::Error(error) => {
                let why = AttemptEnd::Gave {
                    code: error.code(),
                    msg: error.msg,
                };
                self.end(at, why, Parting::Close, now, out);
            }
            Frame::Pong(_) | Frame::Ping(_) => {}
            Frame::Open(_)
            | Frame::Accept(_)
            | Frame::Busy(_)
            | Frame::Refuse(_)
            | Frame::Ack(_)
            | Frame::Cancel(_) => self.lied(at, Lie::OutOfTurn(frame.kind()), now, out),
        }
    }

    /// A receipt that holds. A job that was broken off behind its end token is whole all the same.
    fn done(&mut self, at: usize, finished: Finished, now: Clock, out: &mut Vec<Action>) {
        let Finished { mut receipt, held } = finished;
        receipt.countersign(&self.config.signer);
        let attempt = self.attempts[at].id;
        let finish = match receipt.receipt.finish {
            Finish::Abort if held.is_some() => Finish::Stop,
            finish @ (Finish::Stop | Finish::Length | Finish::StopString | Finish::Abort) => finish,
        };
        let countersignature = receipt.client_sig.clone().unwrap_or_default();
        out.push(Action::Send {
            attempt,
            frame: Frame::Ack(Ack { countersignature }),
        });
        // Emitting ends every other attempt, so this one's place in the list may change.
        self.emit(at, held.into_iter().collect(), now, out);
        out.push(Action::SpanDone {
            attempt,
            receipt: Box::new(receipt),
        });
        let Some(at) = self.find(attempt) else { return };
        match finish {
            Finish::Abort => {
                let stopping = matches!(self.stage, Stage::Stopping(_));
                let why = if stopping {
                    AttemptEnd::Stopped
                } else {
                    AttemptEnd::BrokenOff
                };
                self.end(at, why, Parting::Close, now, out);
            }
            Finish::Stop | Finish::StopString | Finish::Length => {
                self.attempts.remove(at);
                out.push(Action::Close { attempt });
                let end = if finish == Finish::Length {
                    End::Length
                } else {
                    End::Complete(finish)
                };
                self.finish(end, now, out);
            }
        }
    }

    fn lied(&mut self, at: usize, lie: Lie, now: Clock, out: &mut Vec<Action>) {
        self.end(
            at,
            AttemptEnd::Lie(lie),
            Parting::Cancel(CancelReason::Distrust),
            now,
            out,
        );
    }

    // ------------------------------------------------------------------------------------- this computer

    fn local(&mut self, at: usize, event: LocalEvent, now: Clock, out: &mut Vec<Action>) {
        let Attempt { id, place, state } = &mut self.attempts[at];
        *state = State::Local {
            until: now.mono_ms + LOCAL_STALL_MS,
        };
        let (phase, done, total) = match event {
            LocalEvent::Loading { done, total } => (Phase::Loading, done, total),
            LocalEvent::Prefill { done, total } => (Phase::Prefill, done.into(), total.into()),
            LocalEvent::Tokens { first_index, ids } => {
                return self.local_tokens(at, first_index, &ids, now, out);
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
        };
        out.push(Action::Progress(progress));
    }

    fn local_tokens(
        &mut self,
        at: usize,
        first_index: u32,
        ids: &[u32],
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
        let new = ids
            .iter()
            .copied()
            .skip(known)
            .take(self.remaining() as usize)
            .collect();
        self.emit(at, new, now, out);
    }

    // ------------------------------------------------------------------------------------ the one output

    /// Adds to the output. Whoever gives the next token wins, and everybody else is let go.
    fn emit(&mut self, at: usize, ids: Vec<u32>, now: Clock, out: &mut Vec<Action>) {
        if ids.is_empty() {
            return;
        }
        let Attempt {
            id: attempt, place, ..
        } = self.attempts[at];
        while let Some(other) = self.attempts.iter().position(|other| other.id != attempt) {
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
        self.writer = Some(place);
        self.replacing = None;
        self.output.extend_from_slice(&ids);
        out.push(Action::Emit {
            attempt,
            place,
            first_index,
            ids,
        });
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

    fn cancel(&mut self, now: Clock, out: &mut Vec<Action>) {
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

    /// Takes an attempt out, says goodbye, and notes what follows from it.
    fn end(
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

    fn finish(&mut self, end: End, now: Clock, out: &mut Vec<Action>) {
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

    // ------------------------------------------------------------------------------------------- time

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
