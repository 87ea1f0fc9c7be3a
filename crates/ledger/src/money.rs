//! Money: what signers of this computer promised, what its nodes hold, what the chain paid, and the books over all of it.
//!
//! Three kinds of things are written, each on disk when its method returns: a promise before it is signed, a voucher before it is served
//! on, and the events of final blocks. Every amount in the journal hangs on one of them, so that [`Ledger::audit`](crate::Ledger::audit) can
//! count it again.
//!
//! - `payer`: promises, reservations and grants of a signer that lives here; what was spent, for caps.
//! - `paid`: by which promises an answer was paid.
//! - `payee`: the highest voucher of each line, what a payer owes, what is due to be claimed.
//! - `chain`: events of final blocks, each once.
//! - `energy`: what jobs took, paid or for nothing; a row each, and a row a day of those that are long over and were for nothing.
//! - `earnings`, `statement`, `audit`: the books, read.

mod amount;
mod audit;
mod chain;
mod earnings;
mod energy;
mod journal;
mod lines;
mod paid;
mod payee;
mod payer;
mod posting;
mod statement;

pub use audit::{AuditReport, Disagreement};
pub use chain::{ChainBlock, ChainEvent, ChainRow, Head, Mine};
pub(crate) use earnings::vouchered_for;
pub use earnings::{By, EarningKey, EarningRow, Earnings, EarningsQuery, JobEarning};
pub use energy::{Drawn, EnergySum, EnergyUsed, FREE_ENERGY_MS, JobEnergy, MAX_FREE_ENERGY};
pub use journal::{Account, Balance};
pub use paid::JobPayment;
pub use payee::{Debt, DueWhy, HeldReservation, HeldVoucher, LineState, OpenLine, VoucherRow};
pub use payer::{BookLine, BookRows, Hold, HoldRow, Lost, LostSigner, Promise, Seen};
pub use statement::{StatementFormat, Tariff};

/// An account of the chain.
pub type Address = [u8; 20];

/// How long vouchers of a signer that ended can still be claimed, in seconds: the vault's own constant.
pub const THAW_S: u64 = 14 * 24 * 60 * 60;

/// (payer, signer, payee): what vouchers count up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineKey {
    /// Whose balance pays.
    pub payer: Address,
    /// Whose signature says so.
    pub signer: Address,
    /// Who is paid.
    pub payee: Address,
}

/// What a voucher is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidJob {
    /// Its name.
    pub job: crate::Job,
    /// The other side: a PeerId in its text form.
    pub peer: String,
    /// The model's name as shown.
    pub model: String,
    /// SHA-256 of the model's file.
    pub model_digest: [u8; 32],
    /// The conversation, where this computer asked.
    pub chat: Option<[u8; 16]>,
}

/// Tokens of a job so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobTokens {
    /// Of the prompt, without the cached ones.
    pub input: u64,
    /// Of the prompt, found in the cache.
    pub cached: u64,
    /// Of the answer.
    pub output: u64,
}

/// Why an entry was refused. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// It would be promised past what final blocks granted.
    #[error("{promised} of {granted} base units are promised, and {more} more were asked for")]
    PastGrant {
        /// Promised to all payees.
        promised: u128,
        /// What the chain granted.
        granted: u128,
        /// What this would add.
        more: u128,
    },
    /// The line stands higher.
    #[error("{cumulative} base units were promised on a line that stands at {line}")]
    Lower {
        /// The line's total.
        line: u128,
        /// The total of the promise.
        cumulative: u128,
    },
    /// No signer was begun on this computer under this name, so its book may lie elsewhere.
    #[error("this computer has no book of the signer {}", amount::hex(.signer))]
    NoBook {
        /// Which.
        signer: Address,
    },
    /// The signer's book is not the newest one: it has to be ended, and another begun.
    #[error("the book of this signer is not the newest: {lost}")]
    SignerLost {
        /// How that was seen.
        lost: Lost,
    },
    /// A reservation of this number or a higher one is on the line already.
    #[error("the reservation has number {nonce}, and the line is at {line}")]
    NonceUsed {
        /// The line's number.
        line: u64,
        /// The number that was handed in.
        nonce: u64,
    },
    /// The books are another vault's, perhaps on another chain.
    #[error("these books are of a vault on chain {chain_id}, and not of this one")]
    OtherVault {
        /// The chain of their vault.
        chain_id: u64,
    },
    /// The chain says two things of one place, or takes back a block that was final.
    #[error("block {block} was final and now differs")]
    FinalityBroken {
        /// Which.
        block: u64,
    },
}
