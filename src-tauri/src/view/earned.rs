//! What was earned and what was paid, with their proofs, as the page draws it. Amounts are decimal digits of base units.

use node::money;
use serde::{Deserialize, Serialize};
use specta::Type;

use super::{maybe, number};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EarningsBy {
    Job,
    Day,
    Model,
    Device,
    Total,
}

impl From<EarningsBy> for money::EarningsBy {
    fn from(by: EarningsBy) -> Self {
        match by {
            EarningsBy::Job => Self::Job,
            EarningsBy::Day => Self::Day,
            EarningsBy::Model => Self::Model,
            EarningsBy::Device => Self::Device,
            EarningsBy::Total => Self::Total,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EarningState {
    Checking,
    Available,
    TooSmall,
    PaidOut,
    Lost,
}

/// Fields that a grouping puts together are null.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EarningRow {
    pub job: Option<String>,
    pub day: Option<f64>,
    pub at_unix_ms: Option<f64>,
    pub model: Option<String>,
    pub device: Option<String>,
    pub jobs: f64,
    pub tokens_in: f64,
    pub tokens_out: f64,
    pub earned: String,
    /// Of the jobs whose energy is known; null where none is.
    pub energy_kwh: Option<f64>,
    /// Jobs that meters counted.
    pub metered: f64,
    /// Jobs that the person's own figure stands for.
    pub stated: f64,
    /// In the person's own money; null where it cannot be said.
    pub cost: Option<f64>,
    /// What is left after the fee and that cost; null where it cannot be said.
    pub net: Option<f64>,
    pub state: Option<EarningState>,
}

impl From<money::EarningView> for EarningRow {
    fn from(row: money::EarningView) -> Self {
        Self {
            job: row.job,
            day: maybe(row.day),
            at_unix_ms: maybe(row.at_unix_ms),
            model: row.model,
            device: row.device,
            jobs: number(row.jobs),
            tokens_in: number(row.tokens_in),
            tokens_out: number(row.tokens_out),
            earned: row.earned,
            energy_kwh: row.energy_kwh,
            metered: number(row.metered),
            stated: number(row.stated),
            cost: row.cost,
            net: row.net,
            state: row.state.map(|state| match state {
                money::EarningState::Checking => EarningState::Checking,
                money::EarningState::Available => EarningState::Available,
                money::EarningState::TooSmall => EarningState::TooSmall,
                money::EarningState::PaidOut => EarningState::PaidOut,
                money::EarningState::Lost => EarningState::Lost,
            }),
        }
    }
}

/// A voucher.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignedView {
    pub payer: String,
    pub payee: String,
    pub signer: String,
    pub vault: String,
    pub chain_id: f64,
    pub cumulative: String,
    pub work: String,
    pub signature: String,
    pub valid: bool,
}

/// What final blocks say of its line.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OnChain {
    pub claimed: String,
    pub covered: bool,
    pub block: f64,
    pub checked_unix_ms: f64,
    pub endpoints: u32,
}

/// What proves the earnings of one job.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Proof {
    pub job: String,
    pub receipt: bool,
    pub signed: Option<SignedView>,
    /// Null: not checked.
    pub chain: Option<OnChain>,
}

impl From<money::Proof> for Proof {
    fn from(proof: money::Proof) -> Self {
        Self {
            job: proof.job,
            receipt: proof.receipt,
            signed: proof.signed.map(|signed| SignedView {
                payer: signed.payer,
                payee: signed.payee,
                signer: signed.signer,
                vault: signed.vault,
                chain_id: number(signed.chain_id),
                cumulative: signed.cumulative,
                work: signed.work,
                signature: signed.signature,
                valid: signed.valid,
            }),
            chain: proof.chain.map(Into::into),
        }
    }
}

impl From<money::ChainView> for OnChain {
    fn from(chain: money::ChainView) -> Self {
        Self {
            claimed: chain.claimed,
            covered: chain.covered,
            block: number(chain.block),
            checked_unix_ms: number(chain.checked_unix_ms),
            endpoints: chain.endpoints,
        }
    }
}

/// What paid for an answer.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Payment {
    pub job: String,
    pub receipt: bool,
    /// Empty: it cost nothing.
    pub vouchers: Vec<PaidVoucher>,
}

/// A voucher that was signed here.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PaidVoucher {
    pub payer: String,
    pub payee: String,
    pub signer: String,
    pub vault: String,
    pub chain_id: f64,
    pub at_unix_ms: f64,
    pub paid: String,
    pub cumulative: String,
    pub work: String,
    /// Made anew and checked; null where that key is not here any more.
    pub signature: Option<String>,
    pub reservation: Option<ReservationView>,
    /// Null: not checked.
    pub chain: Option<OnChain>,
}

/// The reservation that stood when a voucher was signed.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReservationView {
    pub upto: String,
    pub until_unix_s: f64,
    pub nonce: f64,
    pub signature: Option<String>,
}

impl From<money::Payment> for Payment {
    fn from(payment: money::Payment) -> Self {
        Self {
            job: payment.job,
            receipt: payment.receipt,
            vouchers: payment.vouchers.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<money::PaidVoucher> for PaidVoucher {
    fn from(voucher: money::PaidVoucher) -> Self {
        Self {
            payer: voucher.payer,
            payee: voucher.payee,
            signer: voucher.signer,
            vault: voucher.vault,
            chain_id: number(voucher.chain_id),
            at_unix_ms: number(voucher.at_unix_ms),
            paid: voucher.paid,
            cumulative: voucher.cumulative,
            work: voucher.work,
            signature: voucher.signature,
            reservation: voucher.reservation.map(|held| ReservationView {
                upto: held.upto,
                until_unix_s: number(held.until_unix_s),
                nonce: number(held.nonce),
                signature: held.signature,
            }),
            chain: voucher.chain.map(Into::into),
        }
    }
}
