//! What time alone does to a job: what is due is sent, what took too long is given up, the engine starts, stops and goes on.

use super::{
    Action, Ended,
    machine::{ACK_MS, BLOCKED_DROP_MS, BLOCKED_PAUSE_MS, Link, MAX_WAITING, Provider, State},
};
use crate::{
    Clock,
    frame::{Phase, RefuseCode},
    job::{CloseWhy, Finish},
};

impl Provider {
    /// Sends what is due and gives up what took too long.
    pub(super) fn overdue(&mut self, now: Clock, out: &mut Vec<Action>) {
        match &self.state {
            State::Waiting { until } if now.mono_ms >= *until => {
                self.refuse(RefuseCode::BadOpen, "the first frame took too long", out);
            }
            State::Unvouched { until, .. } if now.mono_ms >= *until => {
                self.refuse(RefuseCode::PaymentRefused, "no voucher came", out);
            }
            State::Admitting { until, .. } if now.mono_ms >= *until => {
                self.refuse(
                    RefuseCode::Internal,
                    "the voucher could not be written down",
                    out,
                );
            }
            State::Recording { until, .. } if now.mono_ms >= *until => {
                self.refuse(
                    RefuseCode::Internal,
                    "the job could not be written down",
                    out,
                );
            }
            State::Signing { until, .. } => match &self.link {
                Link::Parked(parked) if now.mono_ms >= parked.until => {
                    self.store_and_close(Ended::Unsigned, out);
                }
                // A network that broke without a word looks the same as a client that does not sign.
                Link::Flowing | Link::Blocked(_) if now.mono_ms >= *until => {
                    self.closed(CloseWhy::Cut("it does not sign".to_owned()), now, out);
                }
                Link::Parked(_) | Link::Flowing | Link::Blocked(_) => {}
            },
            State::Seeking(_) => self.overdue_seeking(now, out),
            State::Recording { .. } => self.start_or_pause(now, out),
            State::Running(_) => self.overdue_running(now, out),
            State::Waiting { .. }
            | State::Unvouched { .. }
            | State::Admitting { .. }
            | State::Ended { .. } => {}
        }
    }

    fn overdue_running(&mut self, now: Clock, out: &mut Vec<Action>) {
        self.start_or_pause(now, out);
        let standstill = self.standstill();
        let State::Running(run) = &mut self.state else {
            return;
        };
        let too_long = now.mono_ms >= run.too_long_at();
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
                    self.start_or_pause(now, out);
                    // The job's own time may be over: then nobody is waited for.
                    if too_long {
                        self.give_up_waiting(now, out);
                    }
                }
                return;
            }
        }
        if run.over.is_none() && too_long {
            run.cancel_engine(out);
            run.over = Some(Finish::Abort);
        }
        if run.must_flush(now) {
            run.flush(now, out);
        }
        if run.tokens_waiting() > 0 && (too_long || run.over == Some(Finish::Abort)) {
            // What is not paid for is not sent.
            run.over = run.over.map(|_| Finish::Abort);
            run.forget_waiting();
        }
        if run.unpaid_until().is_some_and(|until| now.mono_ms >= until) {
            return self.fail(RefuseCode::PaymentRefused, "no voucher came", now, out);
        }
        if let Some(finish) = run.over
            && run.tokens_waiting() == 0
        {
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
            run.heartbeat(standstill, now, out);
        }
    }

    /// Why nothing comes, in the client's eyes. What the engine computes beside the owner's work is the engine's own affair: it alone
    /// knows what that costs.
    pub(super) fn standstill(&self) -> Option<Phase> {
        self.standstill.or(self.own_work.then_some(Phase::Paused))
    }

    /// The client hears that the owner comes first now.
    pub(super) fn owner(&mut self, works: bool, now: Clock, out: &mut Vec<Action>) {
        let before = std::mem::replace(&mut self.own_work, works);
        let standstill = self.standstill();
        if let State::Running(run) = &mut self.state
            && before != works
            && run.over.is_none()
            && self.link.flows()
        {
            run.heartbeat(standstill, now, out);
        }
    }

    /// Nobody computes for long for a client that does not read or is gone, nor beyond what one pays for, nor for a disk that hangs.
    pub(super) fn start_or_pause(&mut self, now: Clock, out: &mut Vec<Action>) {
        let sends = self.may_send();
        let recording = matches!(self.state, State::Recording { .. });
        let Some(run) = self.state.run() else {
            return;
        };
        let unpaid = run.lacks_payment(sends, now, out);
        if run.over.is_some() || run.failed.is_some() {
            return;
        }
        if !run.is_started() && !unpaid {
            out.extend(run.start());
            // It runs until it is told otherwise.
            self.standstill = None;
        }
        let full = run.tokens_waiting() >= MAX_WAITING;
        let unread = match self.link {
            Link::Flowing => recording && full,
            Link::Blocked(since) => full || now.mono_ms >= since.saturating_add(BLOCKED_PAUSE_MS),
            Link::Parked(_) => full,
        };
        let standstill = if unread {
            Some(Phase::Paused)
        } else {
            unpaid.then_some(Phase::Unpaid)
        };
        if standstill == self.standstill {
            return;
        }
        if run.is_started() {
            match (self.standstill, standstill) {
                (None, Some(_)) => out.push(Action::Pause),
                (Some(_), None) => out.push(Action::Resume),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        self.standstill = standstill;
        if sends {
            run.heartbeat(
                standstill.or(self.own_work.then_some(Phase::Paused)),
                now,
                out,
            );
        }
    }
}
