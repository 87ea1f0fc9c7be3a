//! How a job ends: refused, broken off, left, or signed for.

use super::{
    Action, Ended,
    machine::{Provider, State},
};
use crate::{
    Clock,
    frame::{Frame, JobError, MAX_TEXT, Refuse, RefuseCode},
    job::{CloseWhy, Finish},
};

impl Provider {
    /// Breaks the job off from this side and tells the client why, if it reads.
    pub(super) fn fail(&mut self, code: RefuseCode, msg: &str, now: Clock, out: &mut Vec<Action>) {
        match &mut self.state {
            State::Waiting { .. }
            | State::Unvouched { .. }
            | State::Admitting { .. }
            | State::Seeking(_)
            | State::Recording { .. } => self.refuse(code, msg, out),
            State::Running(run) => {
                run.cancel_engine(out);
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
            State::Waiting { .. }
            | State::Unvouched { .. }
            | State::Admitting { .. }
            | State::Seeking(_)
            | State::Recording { .. } => self.close(Ended::ClientGone(why), out),
            State::Running(run) => {
                run.cancel_engine(out);
                self.abandon(Ended::ClientGone(why), now, out);
            }
            State::Signing { .. } => self.store_and_close(Ended::Unsigned, out),
            State::Ended { .. } => {}
        }
    }

    /// Leaves a running job: what was sent is kept as a receipt nobody countersigned.
    fn abandon(&mut self, ended: Ended, now: Clock, out: &mut Vec<Action>) {
        if let State::Running(run) = &self.state
            && run.is_worth_a_receipt()
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

    pub(super) fn refuse(&mut self, code: RefuseCode, msg: &str, out: &mut Vec<Action>) {
        if self.link.flows() {
            out.push(Action::Send(Frame::Refuse(Refuse {
                code: code.into(),
                msg: short(msg),
            })));
        }
        self.close(Ended::Refused(code), out);
    }

    pub(super) fn close(&mut self, ended: Ended, out: &mut Vec<Action>) {
        if let State::Recording { run, .. } = &self.state
            && run.failed.is_none()
        {
            run.cancel_engine(out);
        }
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
