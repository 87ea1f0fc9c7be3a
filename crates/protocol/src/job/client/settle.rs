//! The payments of a span: on the way, and what is left of them when all is here.

use super::{
    Lie, SETTLE_MS,
    bill::{Bill, Due},
    span::{Finished, Span},
};
use crate::{
    Clock,
    frame::Accept,
    voucher::{Unchecked, Voucher},
};

impl Span {
    /// The same of a job that is paid for, on the terms of its `Accept`.
    pub(super) fn paid_by(
        mut self,
        bill: Option<Box<Bill>>,
        accept: &Accept,
        asked: u32,
    ) -> Result<Self, Lie> {
        self.bill = bill;
        if let Some(bill) = &mut self.bill {
            bill.accepted(accept)?;
            bill.capped &= accept.max_out == asked;
        }
        Ok(self)
    }

    /// A voucher of ours that the provider shows and that is not known here.
    pub(super) fn held_more(&self, accept: &Accept) -> Result<Option<Voucher<Unchecked>>, Lie> {
        match &self.bill {
            Some(bill) => bill.held_more(&accept.last_voucher_held),
            None => Ok(None),
        }
    }

    /// What is to be paid now.
    pub(super) fn due(&self, now: Clock) -> Option<Due> {
        let bill = self.bill.as_ref()?;
        match &self.settling {
            Some(_) => bill.rest(self.count),
            None => bill.due(self.count, now.mono_ms),
        }
    }

    /// When something is to be paid, or no longer waited for.
    pub(super) fn pays_at(&self) -> Option<u64> {
        match &self.settling {
            Some((_, until)) => Some(*until),
            None => self.bill.as_ref()?.pay_at(self.count),
        }
    }

    /// The job is over; what is left to be paid comes first.
    pub(super) fn settle(&mut self, finished: Finished, now: Clock) {
        self.settling = Some((Box::new(finished), now.mono_ms + SETTLE_MS));
    }

    pub(super) fn is_settling(&self) -> bool {
        self.settling.is_some()
    }

    /// The end, once all is paid or was waited for long enough.
    pub(super) fn settled(&mut self, now: Clock) -> Option<Finished> {
        let (_, until) = self.settling.as_ref()?;
        let paid = self
            .bill
            .as_ref()
            .is_none_or(|bill| bill.signing.is_none() && bill.rest(self.count).is_none());
        (paid || now.mono_ms >= *until)
            .then(|| self.give_up_settling())
            .flatten()
    }

    /// The end, if only payment is missing.
    pub(super) fn give_up_settling(&mut self) -> Option<Finished> {
        self.settling.take().map(|(finished, _)| *finished)
    }
}
