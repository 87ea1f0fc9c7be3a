//! Numbered migrations. Step N brings a file of version N-1 to version N, in one transaction. A step that was released never changes.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::LedgerError;

/// The table `audit` of step 3 kept what audits found; nothing ever read it, and nothing is written to it any more. It stays: a version
/// of its own, which older programs refuse, would be a high price for an empty table.
const STEPS: &[&str] = &[
    include_str!("../migrations/0001_jobs_and_receipts.sql"),
    include_str!("../migrations/0002_measured.sql"),
    include_str!("../migrations/0003_money.sql"),
    include_str!("../migrations/0004_energy.sql"),
    include_str!("../migrations/0005_energy_days.sql"),
];

/// The version that this program writes.
pub const SCHEMA_VERSION: u32 = STEPS.len() as u32;

/// Brings the file to [`SCHEMA_VERSION`]. After a crash in between it stands at a whole version, and goes on from there.
pub(crate) fn migrate(
    connection: &mut Connection,
    path: &Path,
    application_id: i32,
) -> Result<(), LedgerError> {
    let sqlite = |error| LedgerError::from_sqlite(path, error);
    for (before, step) in (0u32..).zip(STEPS) {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(sqlite)?;
        // Read inside the transaction: two processes that open a new file at once must not both make its tables.
        let version: u32 = transaction
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(sqlite)?;
        if version > before {
            continue;
        }
        transaction.execute_batch(step).map_err(sqlite)?;
        transaction
            .pragma_update(None, "user_version", before + 1)
            .map_err(sqlite)?;
        transaction
            .pragma_update(None, "application_id", application_id)
            .map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
    }
    Ok(())
}
