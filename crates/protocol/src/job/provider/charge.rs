//! What a job costs, and how far it may go on what was paid: the payee's rules at one job.
//!
//! Two bounds hold at any time. Input is read once it is paid for, and output is computed up to the stream window beyond what is
//! paid for. And a payer owes no more than its credit in vouchers that could not be claimed yet: beyond that, a part of its grant
//! is to be held for this payee on the chain.

use bytes::Bytes;

use crate::{
    Clock, JobId,
    frame::RefuseCode,
    price::Terms,
    receipt::work_of_job,
    voucher::{
        Address, B256, Checked, Reservation, VOUCHER_BYTES, Vault, Voucher, VoucherError,
        payee::{Costs, Debt, KnownSigner, NotServed, PREFILL_STEP, SignerFacts, lacks},
    },
};

/// Where and to whom jobs are paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charging {
    /// The vault whose vouchers count.
    pub vault: Vault,
    /// The account that is paid: this provider's operator key.
    pub payee: Address,
    /// Output tokens computed beyond what was paid for, at most.
    pub stream_window: u32,
}

/// How a job stands with its payer, as the owner's books and final blocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What was paid for this job: its [part](crate::voucher::Split) of what the payer vouchered.
    pub paid: u128,
    /// Output tokens of the payer's other jobs here that no voucher covers yet: there is one window for all of them.
    pub elsewhere: u32,
    /// The signer.
    pub signer: SignerFacts,
    /// What the payer owes, over all its signers.
    pub debt: Debt,
    /// What claims and reservations cost.
    pub costs: Costs,
}

/// Why a payment does not count. The job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// What the client is told.
    pub code: RefuseCode,
    /// For a person.
    pub msg: String,
}

impl Declined {
    /// A payment that does not count for this reason.
    pub fn because(why: &dyn std::fmt::Display) -> Self {
        Self {
            code: RefuseCode::PaymentRefused,
            msg: why.to_string(),
        }
    }
}

impl From<VoucherError> for Declined {
    fn from(error: VoucherError) -> Self {
        Self::because(&error)
    }
}

impl From<NotServed> for Declined {
    fn from(error: NotServed) -> Self {
        Self::because(&error)
    }
}

/// Why a job does not go on right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// What comes next is not paid for.
    Voucher,
    /// The credit is used up; so many base units are to be held.
    Reservation(u128),
}

/// Who pays for a job.
#[derive(Clone, Debug)]
pub(super) struct Payer {
    address: Address,
    signer: KnownSigner,
    /// The total of the highest voucher that came on this job's streams.
    highest: u128,
}

impl Payer {
    /// Learns the payer from the voucher behind a first frame: signed for this job and no other.
    pub(super) fn of(
        charging: &Charging,
        job: &JobId,
        bytes: &Bytes,
    ) -> Result<(Self, Voucher<Checked>), Declined> {
        let voucher = Voucher::decode(bytes, charging.payee)?;
        if voucher.work != work_of_job(job) {
            return Err(Declined::because(&"the voucher is for other work"));
        }
        let signer = KnownSigner::of(&charging.vault, &voucher)?;
        let voucher = voucher.check_known(&charging.vault, &signer)?;
        let payer = Self {
            address: voucher.payer,
            signer,
            highest: voucher.cumulative,
        };
        Ok((payer, voucher))
    }
}

/// The payments of one job that was accepted.
#[derive(Debug)]
pub(super) struct Charge {
    charging: Charging,
    terms: Terms,
    payer: Payer,
    standing: Standing,
    /// What the payer's credit lacks; judged when the standing changes.
    lacks: Option<u128>,
    /// What a voucher may name: the job and the checkpoints that were signed.
    works: Vec<B256>,
    /// The highest voucher that was held of this payer when the job began.
    pub(super) last_held: Bytes,
    /// Since when the job stands still for want of payment.
    pub(super) waits_since: Option<u64>,
    /// Whether the client was asked for a reservation, and whether one is on its way to the chain.
    pub(super) asked: bool,
    held: bool,
}

impl Charge {
    pub(super) fn new(
        charging: Charging,
        terms: Terms,
        payer: Payer,
        job: &JobId,
        (standing, last_held): (Standing, Option<[u8; VOUCHER_BYTES]>),
        now: Clock,
    ) -> Result<Self, Declined> {
        let mut charge = Self {
            charging,
            terms,
            payer,
            standing,
            lacks: None,
            works: vec![work_of_job(job)],
            last_held: last_held.map_or_else(Bytes::new, |held| Bytes::copy_from_slice(&held)),
            waits_since: None,
            asked: false,
            held: false,
        };
        charge.stands(standing, now)?;
        Ok(charge)
    }

    pub(super) fn window(&self) -> u32 {
        self.charging.stream_window
    }

    /// Takes what the books and the chain say now.
    pub(super) fn stands(&mut self, standing: Standing, now: Clock) -> Result<(), Declined> {
        let Standing {
            signer,
            debt,
            costs,
            ..
        } = &standing;
        self.lacks = lacks(&self.terms.prices, signer, debt, costs, now.unix_ms / 1000)?;
        if self.lacks.is_none() {
            (self.asked, self.held) = (false, false);
        }
        self.standing = standing;
        Ok(())
    }

    /// A checkpoint was signed, and may be paid for.
    pub(super) fn may_be_paid(&mut self, work: B256) {
        self.works.push(work);
    }

    /// Checks a voucher. `None`: it says nothing new.
    pub(super) fn voucher(&mut self, bytes: &Bytes) -> Result<Option<Voucher>, Declined> {
        let voucher = Voucher::decode(bytes, self.charging.payee)?;
        if voucher.payer != self.payer.address {
            return Err(Declined::because(&"the voucher is another payer's"));
        }
        // The highest one counts, so an old one that comes again does no harm.
        if voucher.cumulative <= self.payer.highest {
            return Ok(None);
        }
        if !self.works.contains(&voucher.work) {
            return Err(Declined::because(&"the voucher is for other work"));
        }
        let voucher = voucher.check_known(&self.charging.vault, &self.payer.signer)?;
        self.payer.highest = voucher.cumulative;
        Ok(Some(voucher))
    }

    /// Checks a reservation that was asked for. `None`: none was.
    pub(super) fn reservation(
        &mut self,
        bytes: &Bytes,
    ) -> Result<Option<Reservation<Checked>>, Declined> {
        if !self.asked || self.held {
            return Ok(None);
        }
        let read = Reservation::decode(bytes, self.charging.payee)?;
        let reservation = read.check(&self.charging.vault)?;
        if reservation.payer != self.payer.address
            || reservation.signer() != self.payer.signer.address()
        {
            return Err(Declined::because(&"the reservation is another payer's"));
        }
        let least = self.lacks.unwrap_or(0);
        if reservation.upto.saturating_sub(self.payer.highest) < least {
            return Err(Declined::because(&"the reservation holds too little"));
        }
        self.held = true;
        Ok(Some(reservation))
    }

    /// Output tokens that may be computed, and sent, behind `n_in` of input.
    pub(super) fn output_limit(&self, n_in: u32, max_out: u32) -> u32 {
        let window = self
            .charging
            .stream_window
            .saturating_sub(self.standing.elsewhere);
        match (self.terms).output_for(n_in, self.standing.paid, max_out) {
            Some(paid) => paid.saturating_add(window).min(max_out),
            None => 0,
        }
    }

    /// Output tokens that no voucher covers.
    pub(super) fn unvouchered(&self, n_in: u32, written: u32) -> u32 {
        let paid = (self.terms).output_for(n_in, self.standing.paid, written);
        paid.map_or(written, |paid| written - paid)
    }

    /// What is missing before a job that has read and written so much goes on.
    pub(super) fn lack(&self, read: u32, n_in: u32, written: u32, max_out: u32) -> Option<Lack> {
        if let Some(least) = self.lacks {
            return Some(Lack::Reservation(least));
        }
        let paid_for = if read < n_in && written == 0 {
            let next = read.saturating_add(PREFILL_STEP).min(n_in);
            self.terms.due(next, 0) <= self.standing.paid
        } else {
            written < self.output_limit(n_in, max_out)
        };
        (!paid_for).then_some(Lack::Voucher)
    }

    /// The client may have missed that it was asked for a reservation.
    pub(super) fn ask_again(&mut self) {
        self.asked = self.held;
    }

    /// Whether the client has something to do about what is missing, rather than the chain.
    pub(super) fn waits_for_client(&self) -> bool {
        !self.held
    }

    /// What was paid for the job.
    pub(super) fn paid(&self) -> u128 {
        self.standing.paid
    }
}
