//! The books of this computer: which jobs it has seen, what it answered, the receipts that both sides signed, and money.
//!
//! What it is: [`Ledger`] is a handle that may be cloned; one thread owns the SQLite connection behind it, opened with
//! `synchronous=FULL`: when a method returns, the disk has it.
//!
//! What it owns: the replay guard ([`Ledger::record_job`]), which must have a job on disk before the job is accepted; the list of what was
//! answered for others, counted and never quoted; receipts, as the bytes that were signed; what was measured of peers that were asked; and what was promised, held, claimed and earned
//! (`money`), in double entry, where nothing is ever changed or removed.
//!
//! What it never does: it checks no signature and decodes no receipt (that is `protocol`), and it asks no clock: every method that needs the
//! time is handed it, since a test and a wrong system clock are the same thing to it.
//!
//! ```no_run
//! # async fn demo() -> Result<(), ledger::LedgerError> {
//! let ledger = ledger::Ledger::open("ledger.db", 1_700_000_000_000).await?;
//! let verdict = ledger.record_job([7; 32], 1_700_000_600_000, 1_700_000_000_000).await?;
//! assert!(verdict.is_fresh());
//! # Ok(()) }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
#![warn(missing_docs)]

mod answered;
mod connection;
mod error;
mod handle;
mod measured;
mod money;
mod receipts;
mod replay;
mod schema;
#[cfg(test)]
mod tests;

// Tests in here and tests outside include the same files.
#[cfg(test)]
extern crate self as ledger;

pub use answered::{Answered, AnsweredState, MAX_ANSWERED, NewAnswer, Totals};
pub use error::LedgerError;
pub use handle::{Ledger, QUEUE};
pub use measured::{MAX_MEASURED, Measured};
pub use money::{
    Account, Address, AuditReport, Balance, BookLine, BookRows, By, ChainBlock, ChainEvent,
    ChainRow, Debt, Disagreement, Drawn, DueWhy, EarningKey, EarningRow, Earnings, EarningsQuery,
    EnergySum, EnergyUsed, FREE_ENERGY_MS, Head, HeldReservation, HeldVoucher, Hold, HoldRow,
    JobEarning, JobEnergy, JobPayment, JobTokens, LineKey, LineState, Lost, LostSigner,
    MAX_FREE_ENERGY, Mine, MoneyError, OpenLine, PaidJob, Promise, Seen, StatementFormat, THAW_S,
    Tariff, VoucherRow,
};
pub use receipts::{MAX_RECEIPT_BYTES, Receipt, ReceiptRole};
pub use replay::{JobRecord, MAX_CLOCK_JUMP_MS, MAX_EXPIRY_MS, MAX_JOBS_SEEN};
pub use schema::SCHEMA_VERSION;

/// Name of a job: BLAKE3 of its Open frame.
pub type Job = [u8; 32];
