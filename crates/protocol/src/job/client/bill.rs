//! What is paid for one job, and when: prompt ahead of being read, output behind being delivered.
//!
//! A provider that takes the money and stops has the price of one chunk of the prompt, and of no output that is not here. One voucher
//! is signed at a time; what has come meanwhile goes into the next.

use bytes::Bytes;

use super::{Lie, PayTo};
use crate::{
    Clock, JobId,
    frame::{Accept, Signed},
    price::{self, Terms, Totals},
    receipt::{work_of, work_of_job},
    voucher::{
        B256, Unchecked, Voucher,
        payee::{OPENING_TOKENS, PREFILL_CHUNK, PREFILL_STEP, VOUCHER_MS, stride},
    },
};

/// Names one thing that the owner is to sign; counts up from 0 within one answer.
pub type PromiseId = u32;

/// What the next voucher is to cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    input: u32,
    output: u32,
    /// By how much the line is to rise.
    pub(super) add: u128,
}

/// The payments of one job.
#[derive(Debug)]
pub(super) struct Bill {
    pub(super) job: JobId,
    pub(super) pay_to: PayTo,
    terms: Terms,
    n_in: u32,
    chunk: u32,
    stride: u32,
    /// Whether the job was asked for fewer tokens than wanted, since more would cost too much.
    pub(super) capped: bool,
    /// What vouchers cover, those being signed included; the input with what of it counts as cached.
    input: u32,
    output: u32,
    promised: u128,
    /// Input that was paid for with the first frame and does not count.
    lost: u32,
    /// What the provider says it has read of the prompt.
    read: u32,
    /// The job, or the last checkpoint.
    pub(super) work: B256,
    asked_ms: u64,
    pub(super) signing: Option<PromiseId>,
    pub(super) reserving: Option<PromiseId>,
    /// The last voucher that was signed for this job.
    pub(super) voucher: Option<Voucher>,
}

impl Bill {
    pub(super) fn new(job: &JobId, pay_to: PayTo, terms: Terms, n_in: u32, capped: bool) -> Self {
        Self {
            job: *job,
            pay_to,
            terms,
            n_in,
            chunk: 0,
            stride: u32::MAX,
            capped,
            input: 0,
            output: 0,
            promised: 0,
            lost: 0,
            read: 0,
            work: work_of_job(job),
            asked_ms: 0,
            signing: None,
            reserving: None,
            voucher: None,
        }
    }

    /// What the voucher behind the first frame is to cover: the first part of the prompt, where that may be paid with it and the
    /// purse has it, or nothing. What is cached costs less, and more of it is within the same sum.
    pub(super) fn opening(&self, prepaid: bool, purse: u128) -> Due {
        let most = Terms::from(self.terms.prices).due(OPENING_TOKENS, 0);
        let first = self.upto(self.terms.input_for(most, self.n_in), 0);
        match prepaid && first.add <= purse {
            true => first,
            false => self.upto(0, 0),
        }
    }

    /// Takes the provider's terms.
    pub(super) fn accepted(&mut self, accept: &Accept) -> Result<(), Lie> {
        // A shorter chunk would have us sign for every few tokens, a longer one risk more than is agreed.
        if accept.stream_window == 0
            || !(PREFILL_STEP..=PREFILL_CHUNK).contains(&accept.chunk_tokens)
        {
            return Err(Lie::WrongTerms {
                window: accept.stream_window,
                chunk: accept.chunk_tokens,
            });
        }
        let counts = price::from_bytes(&accept.paid).ok_or(Lie::WrongStatement("paid"))?;
        if counts < self.promised {
            (self.lost, self.input, self.promised) = (self.input, 0, counts);
        }
        self.chunk = accept.chunk_tokens;
        self.stride = stride(accept.stream_window);
        Ok(())
    }

    /// The voucher that the provider says it held of us, if it is above what was signed for this job: then another job of ours
    /// signed it, or our books are not what they were.
    pub(super) fn held_more(&self, held: &Bytes) -> Result<Option<Voucher<Unchecked>>, Lie> {
        let (false, Some(ours)) = (held.is_empty(), &self.voucher) else {
            return Ok(None);
        };
        let held =
            Voucher::decode(held, self.pay_to.payee).map_err(|_| Lie::WrongStatement("voucher"))?;
        if held.payer != ours.payer {
            return Err(Lie::WrongStatement("payer"));
        }
        Ok((held.cumulative > ours.cumulative).then_some(held))
    }

    /// The provider says that it has read so much of the prompt.
    pub(super) fn has_read(&mut self, done: u64) {
        let done = u32::try_from(done).unwrap_or(u32::MAX).min(self.n_in);
        self.read = self.read.max(done);
    }

    /// The provider signed for what it gave so far.
    pub(super) fn signed_for(&mut self, checkpoint: &Signed) {
        self.work = work_of(checkpoint);
    }

    /// Base units that were promised for the job, what is being signed included.
    pub(super) fn paid(&self) -> u128 {
        self.promised
    }

    /// The tokens that are paid for.
    pub(super) fn totals(&self) -> Totals {
        self.terms.totals(self.input, self.output)
    }

    /// What is to be paid now, `count` output tokens being here.
    pub(super) fn due(&self, count: u32, now_ms: u64) -> Option<Due> {
        if self.signing.is_some() || self.chunk == 0 {
            return None;
        }
        if count == 0 {
            let ahead = self.chunk.saturating_sub(self.lost).max(PREFILL_STEP);
            let input = self.read.saturating_add(ahead).min(self.n_in);
            let step = input.saturating_sub(self.input);
            let enough = step >= PREFILL_STEP || (step > 0 && input == self.n_in);
            return enough.then(|| self.upto(input, 0));
        }
        let late = self.pay_at(count).is_some_and(|at| now_ms >= at);
        let enough = count.saturating_sub(self.output) >= self.stride;
        (enough || late).then(|| self.upto(self.n_in, count))
    }

    /// When tokens that no voucher covers are to be paid, few as they are.
    pub(super) fn pay_at(&self, count: u32) -> Option<u64> {
        let waits = self.signing.is_none() && count > self.output;
        waits.then(|| self.asked_ms.saturating_add(VOUCHER_MS))
    }

    /// What is to be paid for all that came, at the job's end.
    pub(super) fn rest(&self, count: u32) -> Option<Due> {
        (count > 0 && self.signing.is_none() && (count, self.n_in) != (self.output, self.input))
            .then(|| self.upto(self.n_in, count))
    }

    fn upto(&self, input: u32, output: u32) -> Due {
        let sum = self.terms.due(input, output);
        Due {
            input,
            output,
            add: sum.saturating_sub(self.promised),
        }
    }

    /// What is due is being signed, or needs no signature since it is nothing.
    pub(super) fn promise(&mut self, due: Due, promise: Option<PromiseId>, now: Clock) {
        (self.input, self.output) = (due.input, due.output);
        self.promised = self.promised.saturating_add(due.add);
        self.signing = promise;
        self.asked_ms = now.mono_ms;
    }

    /// The most that the job may still come to cost, if it gives so many tokens.
    pub(super) fn could_cost(&self, max_out: u32) -> u128 {
        self.terms
            .due(self.n_in, max_out)
            .saturating_sub(self.promised)
    }
}
