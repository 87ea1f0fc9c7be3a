//! An attempt at a peer: what is asked, and what each frame that comes back leads to.

use bytes::Bytes;

use super::{
    Action, AnswerPhase, AttemptEnd, AttemptId, Candidate, End, Lie, Place, Progress,
    end::Parting,
    machine::{Attempt, Client, Stage, State},
    pay::pay,
    seats::Kept,
    span::{Finished, MAX_RTT_MS, Span},
};
use crate::{
    Clock, JobId,
    frame::{
        Accept, Ack, CancelReason, Frame, MAX_OPEN, Open, Phase, Pong, ResumeOf, Sampling,
        open_frame_ms,
    },
    job::{ACCEPT_MS, Finish, OPEN_EXPIRY_MS},
    tokens,
};

/// Context string that derives the nonce of an attempt.
const NONCE_CONTEXT: &str = "decentralgpt/nonce/1";

impl Client {
    pub(super) fn connected(
        &mut self,
        id: AttemptId,
        rtt_ms: u64,
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        let Some(at) = self.find(id) else { return };
        let patience_ms = self.patience_ms();
        let State::Connecting {
            seat,
            candidate,
            kept,
            patient_until,
            ..
        } = &mut self.attempts[at].state
        else {
            return;
        };
        let (seat, candidate, patient_until) = (*seat, candidate.clone(), *patient_until);
        if let Some(kept) = kept.take() {
            let voucher = kept.span.bill.as_ref().and_then(|bill| bill.voucher);
            let frame = Frame::Open(Box::new(resume(&kept, &candidate, now)));
            self.attempts[at].state = State::Opened {
                seat,
                candidate,
                job: kept.span.job,
                asked: kept.span.max_out(),
                rtt_ms,
                until: now.mono_ms + ACCEPT_MS + rtt_ms.min(ACCEPT_MS),
                patient_until,
                kept: Some(kept),
                bill: None,
                line: None,
            };
            out.push(Action::Send { attempt: id, frame });
            // The last one may have been lost with the stream.
            return out.extend(voucher.map(|voucher| pay(id, &voucher, 0)));
        }
        let room = candidate.ctx_max.saturating_sub(self.n_in() as u32);
        let wanted = self.remaining().min(candidate.out_max).min(room);
        let asked = match self.affordable(&candidate, wanted) {
            Ok(asked) => asked,
            Err(why) => return self.end(at, why, Parting::Close, now, out),
        };
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
        let bill = self.bill(&candidate, &job, asked < wanted).map(Box::new);
        self.attempts[at].state = State::Opened {
            seat,
            candidate,
            job,
            asked,
            rtt_ms,
            until,
            patient_until: now.mono_ms + patience_ms + upload + rtt_ms.min(MAX_RTT_MS),
            kept: None,
            bill,
            line: None,
        };
        out.push(Action::Send { attempt: id, frame });
        self.sign_opening(at, now, out);
    }

    pub(super) fn open(
        &self,
        id: AttemptId,
        candidate: &Candidate,
        asked: u32,
        now: Clock,
    ) -> Open {
        Open {
            provider: Bytes::copy_from_slice(candidate.peer.as_bytes()),
            nonce: Bytes::copy_from_slice(&self.nonce(id)),
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
            quote_id: candidate
                .quote_id
                .map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id)),
            grammar: self.request.grammar.clone(),
            deadline_ms: self.too_late_at.map_or(0, |at| {
                // 0 would mean no deadline at all.
                u32::try_from(at.saturating_sub(now.mono_ms).max(1)).unwrap_or(u32::MAX)
            }),
            want_logprobs_k: self.request.want_logprobs_k,
            ignore_eog: self.request.ignore_eog,
            may_wait: true,
        }
    }

    fn nonce(&self, id: AttemptId) -> [u8; 32] {
        let mut seed = [0; 36];
        seed[..32].copy_from_slice(&self.config.entropy);
        seed[32..].copy_from_slice(&id.to_le_bytes());
        blake3::derive_key(NONCE_CONTEXT, &seed)
    }

    pub(super) fn frame(&mut self, at: usize, frame: Frame, now: Clock, out: &mut Vec<Action>) {
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
            // It has said its last word, and what it is waiting for is on its way.
            State::Running { span, .. } if span.is_settling() => {}
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
        match frame {
            Frame::Accept(accept) => self.accepted(at, &accept, now, out),
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
            Frame::Progress(progress) => self.in_line(at, &progress, now, out),
            Frame::Pong(_) | Frame::Ping(_) => {}
            Frame::Open(_)
            | Frame::Tokens(_)
            | Frame::Checkpoint(_)
            | Frame::Done(_)
            | Frame::Ack(_)
            | Frame::Cancel(_)
            | Frame::Pay(_)
            | Frame::Reserve(_)
            | Frame::Reserved(_) => self.lied(at, Lie::OutOfTurn(frame.kind()), now, out),
        }
    }

    /// The provider takes the job, or takes it up again.
    fn accepted(&mut self, at: usize, accept: &Accept, now: Clock, out: &mut Vec<Action>) {
        let nonce = self.nonce(self.attempts[at].id);
        let Attempt {
            id, place, state, ..
        } = &mut self.attempts[at];
        let State::Opened {
            seat,
            candidate,
            job,
            asked,
            rtt_ms,
            kept,
            bill,
            ..
        } = state
        else {
            return;
        };
        let before = kept.as_ref().map(|kept| kept.attempt);
        let span = match kept.take() {
            Some(Kept { mut span, .. }) => span.resumed(accept, *rtt_ms, now).map(|()| span),
            None => {
                let facts = (&self.request, self.output.as_slice(), &nonce);
                Span::accepted(accept, *job, candidate, facts, *asked, *rtt_ms, now)
                    .and_then(|span| span.paid_by(bill.take(), accept, *asked))
                    .map(Box::new)
            }
        };
        let span = span.and_then(|span| Ok((span.held_more(accept)?, span)));
        match span {
            Ok((held_more, span)) => {
                *state = State::Running { seat: *seat, span };
                self.replacing = None;
                let attempt = *id;
                out.extend(held_more.map(|voucher| Action::HeldMore { attempt, voucher }));
                if let Some(before) = before {
                    self.resumes += 1;
                    out.push(Action::Resumed {
                        attempt: *id,
                        before,
                    });
                }
                out.push(Action::Progress(Progress {
                    attempt: *id,
                    place: *place,
                    phase: AnswerPhase::At(Phase::Queued),
                    done: 0,
                    total: 0,
                    queue_pos: 0,
                }));
                self.leave_lines(now, out);
            }
            Err(lie) => self.lied(at, lie, now, out),
        }
    }

    /// A frame of a job that was accepted.
    fn running(&mut self, at: usize, frame: Frame, now: Clock, out: &mut Vec<Action>) {
        let Attempt {
            id, place, state, ..
        } = &mut self.attempts[at];
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
                        queue_pos: progress.queue_pos,
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
                    Ok(finished) if span.bill.is_some() => span.settle(finished, now),
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
            Frame::Reserve(reserve) => self.reserve(at, &reserve, now, out),
            Frame::Pong(_) | Frame::Ping(_) => {}
            Frame::Open(_)
            | Frame::Accept(_)
            | Frame::Busy(_)
            | Frame::Refuse(_)
            | Frame::Ack(_)
            | Frame::Cancel(_)
            | Frame::Pay(_)
            | Frame::Reserved(_) => self.lied(at, Lie::OutOfTurn(frame.kind()), now, out),
        }
    }

    /// A receipt that holds. A job that was broken off behind its end token is whole all the same.
    pub(super) fn done(
        &mut self,
        at: usize,
        finished: Finished,
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        let Finished { mut receipt, held } = finished;
        receipt.countersign(&self.config.signer);
        let attempt = self.attempts[at].id;
        let capped = (self.attempts[at].state.bill()).is_some_and(|bill| bill.capped);
        let finish = match receipt.receipt.finish {
            Finish::Abort if !held.ids.is_empty() => Finish::Stop,
            finish @ (Finish::Stop | Finish::Length | Finish::StopString | Finish::Abort) => finish,
        };
        let countersignature = receipt.client_sig.clone().unwrap_or_default();
        out.push(Action::Send {
            attempt,
            frame: Frame::Ack(Ack { countersignature }),
        });
        // Emitting ends every other attempt, so this one's place in the list may change.
        self.emit(at, held, now, out);
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
                self.capped = capped && finish == Finish::Length && self.remaining() > 0;
                self.finish(end, now, out);
            }
        }
    }

    pub(super) fn lied(&mut self, at: usize, lie: Lie, now: Clock, out: &mut Vec<Action>) {
        self.end(
            at,
            AttemptEnd::Lie(lie),
            Parting::Cancel(CancelReason::Distrust),
            now,
            out,
        );
    }
}

/// Asks for a job whose stream was cut. What it is stands in its own first frame.
fn resume(kept: &Kept, candidate: &Candidate, now: Clock) -> Open {
    Open {
        provider: Bytes::copy_from_slice(candidate.peer.as_bytes()),
        expires_unix_ms: now.unix_ms.saturating_add(OPEN_EXPIRY_MS),
        resume_of: Some(ResumeOf {
            job: Bytes::copy_from_slice(kept.span.job.as_bytes()),
            from_index: kept.span.next_index(),
        }),
        ..Open::default()
    }
}
