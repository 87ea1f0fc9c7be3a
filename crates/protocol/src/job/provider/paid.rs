//! The client's side of the bargain: how a job that costs something gets its first voucher, and what each later one does.

use bytes::Bytes;

use super::{
    Action, Charging, Declined, Standing,
    charge::{Charge, Lack, Payer},
    judge::Taken,
    machine::{Provider, State},
    run::Run,
};
use crate::{
    Clock,
    frame::{Frame, Pay, RefuseCode, Reserve},
    price,
    voucher::VOUCHER_BYTES,
};

/// The voucher behind a first frame is here within this time: a client signs it at once.
pub const VOUCHER_WAIT_MS: u64 = 10_000;
/// It is judged and on disk within this time, or the disk or the chain is not to be waited for.
pub const ADMIT_MS: u64 = 10_000;
/// A client that does not pay for what comes next has this long before the job ends.
pub const UNPAID_MS: u64 = 30_000;

impl Provider {
    pub(super) fn wait_for_voucher(&mut self, taken: Box<Taken>, now: Clock) {
        self.state = State::Unvouched {
            taken,
            until: now.mono_ms.saturating_add(VOUCHER_WAIT_MS),
        };
    }

    /// A voucher came.
    pub(super) fn paid(&mut self, pay: &Pay, now: Clock, out: &mut Vec<Action>) {
        let checked = match &mut self.state {
            State::Unvouched { .. } => return self.first_voucher(pay, now, out),
            State::Running(run) => run.take_voucher(&pay.voucher),
            // What a client still owes it pays before it signs the receipt. What does not count is not waited for.
            State::Signing { run, .. } => run
                .has_price()
                .then(|| run.take_voucher(&pay.voucher).ok().flatten())
                .map_or(Ok(None), Ok),
            State::Admitting { .. } => Err(early()),
            State::Seeking(seeking) if seeking.charge.is_some() => Err(early()),
            State::Waiting { .. }
            | State::Seeking(_)
            | State::Recording { .. }
            | State::Ended { .. } => Err(unasked()),
        };
        match checked {
            Ok(Some(action)) => out.push(action),
            Ok(None) => {}
            Err(declined) => self.fail(declined.code, &declined.msg, now, out),
        }
    }

    fn first_voucher(&mut self, pay: &Pay, now: Clock, out: &mut Vec<Action>) {
        let State::Unvouched { taken, .. } = &self.state else {
            return;
        };
        let checked = self
            .config
            .charging
            .as_ref()
            .ok_or_else(unasked)
            .and_then(|charging| {
                let (payer, voucher) = Payer::of(charging, &taken.job, &pay.voucher)?;
                let adds = price::from_bytes(&pay.adds).filter(|adds| *adds <= voucher.cumulative);
                let adds = adds.ok_or_else(|| Declined::because(&"more is added than promised"))?;
                Ok((payer, voucher, adds))
            });
        match checked {
            Ok((payer, voucher, adds)) => {
                let job = taken.job;
                out.push(Action::Admit { job, voucher, adds });
                let until = now.mono_ms.saturating_add(ADMIT_MS);
                if let State::Unvouched { taken, .. } =
                    std::mem::replace(&mut self.state, State::Ended { job: Some(job) })
                {
                    self.state = State::Admitting {
                        taken,
                        payer: Box::new(payer),
                        until,
                    };
                }
            }
            Err(declined) => self.refuse(declined.code, &declined.msg, out),
        }
    }

    /// The books and the chain have nothing against the payer.
    pub(super) fn admitted(
        &mut self,
        standing: (Standing, Option<[u8; VOUCHER_BYTES]>),
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        let job = self.job();
        if !matches!(self.state, State::Admitting { .. }) {
            return;
        }
        let State::Admitting { taken, payer, .. } =
            std::mem::replace(&mut self.state, State::Ended { job })
        else {
            return;
        };
        let charge =
            self.config
                .charging
                .clone()
                .ok_or_else(unasked)
                .and_then(|charging: Charging| {
                    Charge::new(charging, taken.terms, *payer, &taken.job, standing, now)
                });
        match charge {
            Ok(charge) => self.seek(taken, Some(Box::new(charge)), now, out),
            Err(declined) => self.refuse(declined.code, &declined.msg, out),
        }
    }

    /// What was paid, or what the chain says of the payer, changed.
    pub(super) fn stands(&mut self, standing: Standing, now: Clock, out: &mut Vec<Action>) {
        let stands = match &mut self.state {
            State::Recording { run, .. } | State::Running(run) => run.stands(standing, now),
            State::Seeking(seeking) => match &mut seeking.charge {
                Some(charge) => charge.stands(standing, now),
                None => Ok(()),
            },
            State::Waiting { .. }
            | State::Unvouched { .. }
            | State::Admitting { .. }
            | State::Signing { .. }
            | State::Ended { .. } => Ok(()),
        };
        match stands {
            Ok(()) => self.start_or_pause(now, out),
            Err(declined) => self.fail(declined.code, &declined.msg, now, out),
        }
    }

    /// A reservation came.
    pub(super) fn reserved(&mut self, bytes: &Bytes, now: Clock, out: &mut Vec<Action>) {
        let checked = match &mut self.state {
            State::Running(run) => run.take_reservation(bytes),
            State::Signing { .. } => Ok(None),
            State::Waiting { .. }
            | State::Unvouched { .. }
            | State::Admitting { .. }
            | State::Seeking(_)
            | State::Recording { .. }
            | State::Ended { .. } => Err(unasked()),
        };
        match checked {
            Ok(Some(action)) => out.push(action),
            Ok(None) => {}
            Err(declined) => self.fail(declined.code, &declined.msg, now, out),
        }
    }
}

impl Run {
    pub(super) fn has_price(&self) -> bool {
        self.charge.is_some()
    }

    fn take_voucher(&mut self, bytes: &Bytes) -> Result<Option<Action>, Declined> {
        let totals = self.totals();
        let charge = self.charge.as_mut().ok_or_else(unasked)?;
        let voucher = charge.voucher(bytes)?;
        Ok(voucher.map(|voucher| Action::HoldVoucher { voucher, totals }))
    }

    fn take_reservation(&mut self, bytes: &Bytes) -> Result<Option<Action>, Declined> {
        let charge = self.charge.as_mut().ok_or_else(unasked)?;
        let reservation = charge.reservation(bytes)?;
        Ok(reservation.map(|reservation| Action::HoldReservation { reservation }))
    }

    fn stands(&mut self, standing: Standing, now: Clock) -> Result<(), Declined> {
        match &mut self.charge {
            Some(charge) => charge.stands(standing, now),
            None => Ok(()),
        }
    }

    /// Whether the job stands still for want of payment. Notes since when, and asks for what a voucher does not give.
    pub(super) fn lacks_payment(&mut self, flows: bool, now: Clock, out: &mut Vec<Action>) -> bool {
        let written = self.written();
        let unsendable = self.sendable() < written;
        let Some(charge) = &mut self.charge else {
            return false;
        };
        let lack = if self.over.is_some() || written >= self.max_out {
            unsendable.then_some(Lack::Voucher)
        } else {
            charge.lack(self.read, self.n_in, written, self.max_out)
        };
        charge.waits_since = lack.map(|_| charge.waits_since.unwrap_or(now.mono_ms));
        if let Some(Lack::Reservation(least)) = lack
            && flows
            && !std::mem::replace(&mut charge.asked, true)
        {
            let least = Bytes::copy_from_slice(&price::to_bytes(least));
            self.say(Frame::Reserve(Reserve { least }), now, out);
        }
        lack.is_some()
    }

    /// When the job ends for want of payment.
    pub(super) fn unpaid_until(&self) -> Option<u64> {
        let charge = self.charge.as_ref()?;
        charge
            .waits_since
            .filter(|_| charge.waits_for_client())
            .map(|since| since.saturating_add(UNPAID_MS))
    }

    /// The client is back: it may need a moment, and may have missed what was asked.
    pub(super) fn wait_for_payment_anew(&mut self) {
        if let Some(charge) = &mut self.charge {
            charge.waits_since = None;
            charge.ask_again();
        }
    }

    pub(super) fn unvouchered(&self) -> u32 {
        self.charge
            .as_ref()
            .map_or(0, |charge| charge.unvouchered(self.n_in, self.written()))
    }
}

/// What is said to a client that pays before it was accepted.
fn early() -> Declined {
    Declined::because(&"a second voucher before the job is accepted")
}

/// What is said to a client that pays where nothing is paid for.
pub(super) fn unasked() -> Declined {
    Declined {
        code: RefuseCode::PaymentRefused,
        msg: "nothing is paid for here".to_owned(),
    }
}
