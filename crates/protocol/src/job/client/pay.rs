//! What the answer's jobs cost: who may be asked at all, and the vouchers on the way.

use bytes::Bytes;

use super::{
    Action, AttemptEnd, AttemptId, Candidate, CloseWhy, Lie,
    bill::{Bill, Due, PromiseId},
    end::Parting,
    machine::{Client, State},
};
use crate::{
    Clock, JobId,
    frame::{CancelReason, Frame, Pay, Reserve, Reserved},
    job::ACCEPT_MS,
    price::{self, Terms},
    quote::QUOTE_ID,
    voucher::{Checked, Reservation, Voucher},
};

/// What is still to be paid when a job is over is signed within this time, or the answer ends without.
pub const SETTLE_MS: u64 = 3_000;

impl Client {
    /// A candidate's quote is here.
    pub(super) fn quoted(
        &mut self,
        id: AttemptId,
        (terms, quote_id, queue_pos): (Terms, [u8; QUOTE_ID], u32),
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        let Some(at) = self.find(id) else { return };
        let State::Connecting { candidate, .. } = &mut self.attempts[at].state else {
            return;
        };
        if terms.prices.exceed(&candidate.terms.prices) {
            return self.end(at, AttemptEnd::Dearer, Parting::Close, now, out);
        }
        (candidate.terms, candidate.quote_id) = (terms, Some(quote_id));
        candidate.prepaid &= queue_pos == 0;
    }

    /// Base units that may still be promised for this answer.
    fn purse(&self) -> u128 {
        self.request
            .max_cost
            .map_or(u128::MAX, |most| most.saturating_sub(self.promised))
    }

    /// How many of the tokens wanted of a candidate are asked for. Fewer where the person wants to pay no more.
    pub(super) fn affordable(&self, candidate: &Candidate, wanted: u32) -> Result<u32, AttemptEnd> {
        if candidate.terms.prices.is_free() {
            return Ok(wanted);
        }
        if candidate.quote_id.is_none() {
            return Err(AttemptEnd::NoQuote);
        }
        let (n_in, most) = (self.n_in() as u32, self.purse());
        match candidate.terms.output_for(n_in, most, wanted) {
            Some(tokens) if tokens > 0 => Ok(tokens),
            Some(_) | None => Err(AttemptEnd::TooDear {
                least: candidate.terms.due(n_in, 1),
                most,
            }),
        }
    }

    /// The payments of a job that is asked for; `None` where it costs nothing.
    pub(super) fn bill(&self, candidate: &Candidate, job: &JobId, capped: bool) -> Option<Bill> {
        let pay_to = candidate.pay_to.clone()?;
        let n_in = self.n_in() as u32;
        (!candidate.terms.prices.is_free())
            .then(|| Bill::new(job, pay_to, candidate.terms, n_in, capped))
    }

    /// Has the voucher signed that belongs to the job's first frame. It promises no more than stands already, or the first part of
    /// the prompt where that is not at stake twice.
    pub(super) fn sign_opening(&mut self, at: usize, now: Clock, out: &mut Vec<Action>) {
        let promise = self.next_promise();
        let attempt = self.attempts[at].id;
        let (alone, purse) = (self.attempts.len() == 1 && !self.opening_lost, self.purse());
        let State::Opened {
            bill: Some(bill),
            candidate,
            ..
        } = &mut self.attempts[at].state
        else {
            return;
        };
        let due = bill.opening(alone && candidate.prepaid, purse);
        let add = due.add;
        bill.promise(due, Some(promise), now);
        if add > 0 {
            self.promised = self.promised.saturating_add(add);
            self.signing.insert(promise, add);
        }
        out.push(Action::Promise {
            promise,
            attempt,
            job: bill.job,
            payee: bill.pay_to.payee,
            add,
            work: bill.work,
            totals: bill.totals(),
        });
    }

    /// Has everything signed that is due.
    pub(super) fn pay(&mut self, now: Clock, out: &mut Vec<Action>) {
        let ids: Vec<AttemptId> = self.attempts.iter().map(|attempt| attempt.id).collect();
        for id in ids {
            let Some(at) = self.find(id) else { continue };
            let State::Running { span, .. } = &self.attempts[at].state else {
                continue;
            };
            if let Some(due) = span.due(now) {
                self.promise(at, due, now, out);
            }
        }
        self.settle(now, out);
    }

    fn promise(&mut self, at: usize, due: Due, now: Clock, out: &mut Vec<Action>) {
        if due.add > self.purse() {
            let why = AttemptEnd::Unpaid("it would cost more than allowed".to_owned());
            return self.cannot_pay(at, why, now, out);
        }
        let promise = (due.add > 0).then(|| self.next_promise());
        let attempt = self.attempts[at].id;
        let State::Running { span, .. } = &mut self.attempts[at].state else {
            return;
        };
        let Some(bill) = span.bill.as_mut() else {
            return;
        };
        bill.promise(due, promise, now);
        self.promised = self.promised.saturating_add(due.add);
        if let Some(promise) = promise {
            self.signing.insert(promise, due.add);
            out.push(Action::Promise {
                promise,
                attempt,
                job: bill.job,
                payee: bill.pay_to.payee,
                add: due.add,
                work: bill.work,
                totals: bill.totals(),
            });
        }
    }

    /// A stream is gone. Where all is here and only its rest is not paid, nothing is missing.
    pub(super) fn closed(&mut self, at: usize, why: CloseWhy, now: Clock, out: &mut Vec<Action>) {
        if let State::Running { span, .. } = &mut self.attempts[at].state
            && let Some(finished) = span.give_up_settling()
        {
            return self.done(at, finished, now, out);
        }
        self.end(at, AttemptEnd::Closed(why), Parting::Gone, now, out);
    }

    /// Jobs that are over end once their rest is paid, or when that takes too long.
    fn settle(&mut self, now: Clock, out: &mut Vec<Action>) {
        let ids: Vec<AttemptId> = self.attempts.iter().map(|attempt| attempt.id).collect();
        for id in ids {
            let Some(at) = self.find(id) else { continue };
            let State::Running { span, .. } = &mut self.attempts[at].state else {
                continue;
            };
            if let Some(finished) = span.settled(now) {
                self.done(at, finished, now, out);
            }
        }
    }

    fn next_promise(&mut self) -> PromiseId {
        let promise = self.next_promise;
        self.next_promise += 1;
        promise
    }

    /// A voucher was signed. One whose job lost its stream is sent when the job has another.
    pub(super) fn promised(
        &mut self,
        promise: PromiseId,
        voucher: Voucher<Checked>,
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        self.signing.remove(&promise);
        for attempt in &mut self.attempts {
            let (id, opens) = (attempt.id, attempt.state.is_new());
            let Some(bill) = attempt.state.bill() else {
                continue;
            };
            if bill.signing != Some(promise) {
                continue;
            }
            bill.signing = None;
            bill.voucher = Some(voucher);
            // Only the voucher that a job begins with says how much of it is the job's.
            let adds = if opens { bill.paid() } else { 0 };
            if let State::Opened { until, rtt_ms, .. } = &mut attempt.state {
                // The provider could not answer before.
                let answers = now.mono_ms + ACCEPT_MS + (*rtt_ms).min(ACCEPT_MS);
                *until = (*until).max(answers);
            }
            if attempt.state.is_opened() {
                out.push(pay(id, &voucher, adds));
            }
            return;
        }
        if let Some(bill) = self.seats.bill(promise) {
            (bill.signing, bill.voucher) = (None, Some(voucher));
        }
    }

    /// The owner does not sign: the books, the grant or the person say no.
    pub(super) fn not_promised(
        &mut self,
        promise: PromiseId,
        why: String,
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        if let Some(add) = self.signing.remove(&promise) {
            self.promised = self.promised.saturating_sub(add);
        }
        let names = |bill: &Bill| bill.signing == Some(promise) || bill.reserving == Some(promise);
        let at = self
            .attempts
            .iter_mut()
            .position(|attempt| attempt.state.bill().is_some_and(|bill| names(bill)));
        match at {
            Some(at) => self.cannot_pay(at, AttemptEnd::Unpaid(why), now, out),
            // It is not asked for again: what it costs cannot be paid.
            None => self.seats.cannot_pay(promise),
        }
    }

    fn cannot_pay(&mut self, at: usize, why: AttemptEnd, now: Clock, out: &mut Vec<Action>) {
        if let State::Running { span, .. } = &mut self.attempts[at].state
            && let Some(finished) = span.give_up_settling()
        {
            // All is here, and only its rest cannot be paid.
            return self.done(at, finished, now, out);
        }
        self.end(at, why, Parting::Cancel(CancelReason::Unpaid), now, out);
    }

    /// The provider asks for a reservation.
    pub(super) fn reserve(
        &mut self,
        at: usize,
        reserve: &Reserve,
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        let Some(least) = price::from_bytes(&reserve.least) else {
            return self.lied(at, Lie::WrongStatement("sum"), now, out);
        };
        let promise = self.next_promise();
        let attempt = self.attempts[at].id;
        let State::Running { span, .. } = &mut self.attempts[at].state else {
            return;
        };
        let max_out = span.max_out();
        let Some(bill) = span.bill.as_mut() else {
            return self.lied(at, Lie::OutOfTurn("Reserve"), now, out);
        };
        if bill.reserving.is_some() {
            return;
        }
        bill.reserving = Some(promise);
        out.push(Action::Reserve {
            promise,
            attempt,
            payee: bill.pay_to.payee,
            least,
            rest: bill.could_cost(max_out),
        });
    }

    /// A reservation was signed.
    pub(super) fn reserved(
        &mut self,
        promise: PromiseId,
        reservation: &Reservation<Checked>,
        out: &mut Vec<Action>,
    ) {
        for attempt in &mut self.attempts {
            let (id, runs) = (attempt.id, attempt.state.is_running());
            let Some(bill) = attempt.state.bill() else {
                continue;
            };
            if bill.reserving != Some(promise) {
                continue;
            }
            bill.reserving = None;
            if runs {
                let reservation = Bytes::copy_from_slice(&reservation.encode());
                out.push(Action::Send {
                    attempt: id,
                    frame: Frame::Reserved(Reserved { reservation }),
                });
            }
            return;
        }
        // A job that is taken up again is asked for one again.
        if let Some(bill) = self.seats.bill(promise) {
            bill.reserving = None;
        }
    }
}

/// The frame that hands a voucher over, of which so much is known to be for its job.
pub(super) fn pay(attempt: AttemptId, voucher: &Voucher, adds: u128) -> Action {
    let voucher = Bytes::copy_from_slice(&voucher.encode());
    let adds = match adds {
        0 => Bytes::new(),
        adds => Bytes::copy_from_slice(&price::to_bytes(adds)),
    };
    Action::Send {
        attempt,
        frame: Frame::Pay(Pay { voucher, adds }),
    }
}
