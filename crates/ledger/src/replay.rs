//! The replay guard: a job runs once, whatever the clock does and whenever the power goes.

use rusqlite::{Connection, params};

use crate::Job;
use crate::handle::to_sql;

/// Jobs that are remembered at once. An Open expires within ten minutes, so this is more than a hundred jobs a second, each of them
/// admitted; beyond it new ones are refused rather than old ones forgotten.
pub const MAX_JOBS_SEEN: u32 = 65_536;

/// Longest life of an Open, in milliseconds (ten minutes; docs/protocol.md, 6). A row that claims more is refused, or it could fill the table for good.
pub const MAX_EXPIRY_MS: u64 = 10 * 60 * 1000;

/// A system clock this far behind the highest one seen was set back by more than the drift of any machine: new jobs look expired until it
/// catches up, and [`JobRecord::ClockBehind`] says so.
pub const MAX_CLOCK_JUMP_MS: u64 = MAX_EXPIRY_MS;

/// What the guard says of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobRecord {
    /// Never seen; it is on disk now.
    Fresh,
    /// Seen before: it must not run again.
    Repeat,
    /// Its expiry has passed, by the highest clock ever seen.
    Expired {
        /// That clock, in milliseconds since 1970.
        clock_ms: u64,
    },
    /// Its expiry is further away than [`MAX_EXPIRY_MS`].
    TooLong,
    /// The clock handed in is more than [`MAX_CLOCK_JUMP_MS`] behind the highest one seen: it was once set wrong, then or now.
    /// [`crate::Ledger::forget_clock`] starts over.
    ClockBehind {
        /// The highest clock seen, in milliseconds since 1970.
        clock_ms: u64,
    },
    /// [`MAX_JOBS_SEEN`] jobs are waiting for their expiry.
    Full,
}

impl JobRecord {
    /// The job may be accepted.
    pub fn is_fresh(self) -> bool {
        matches!(self, JobRecord::Fresh)
    }
}

/// One transaction; committed, and so on disk, when this returns `Ok`.
pub(crate) fn record(
    connection: &mut Connection,
    job: Job,
    expires_ms: u64,
    now_ms: u64,
) -> rusqlite::Result<JobRecord> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let highest: i64 =
        transaction.query_row("SELECT highest_ms FROM clock", [], |row| row.get(0))?;
    let clock = to_sql(now_ms).max(highest);
    let clock_ms = u64::try_from(clock).unwrap_or(0);
    if clock > highest {
        transaction.execute("UPDATE clock SET highest_ms = ?1", [clock])?;
        transaction.execute("DELETE FROM job_seen WHERE expires_ms <= ?1", [clock])?;
    }
    let verdict = if clock_ms.saturating_sub(now_ms) > MAX_CLOCK_JUMP_MS {
        JobRecord::ClockBehind { clock_ms }
    } else if expires_ms <= clock_ms {
        JobRecord::Expired { clock_ms }
    } else if expires_ms - clock_ms > MAX_EXPIRY_MS {
        JobRecord::TooLong
    } else {
        insert(&transaction, job, expires_ms)?
    };
    transaction.commit()?;
    Ok(verdict)
}

fn insert(transaction: &Connection, job: Job, expires_ms: u64) -> rusqlite::Result<JobRecord> {
    let known: bool = transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM job_seen WHERE job = ?1)",
        [job],
        |row| row.get(0),
    )?;
    if known {
        return Ok(JobRecord::Repeat);
    }
    let kept: u32 = transaction.query_row("SELECT count(*) FROM job_seen", [], |row| row.get(0))?;
    if kept >= MAX_JOBS_SEEN {
        return Ok(JobRecord::Full);
    }
    transaction.execute(
        "INSERT INTO job_seen (job, expires_ms) VALUES (?1, ?2)",
        params![job, to_sql(expires_ms)],
    )?;
    Ok(JobRecord::Fresh)
}

/// Starts the guard's clock over at `now_ms`. The table is as good as lost: until ten minutes have passed an old job could be replayed,
/// which [`crate::Ledger::guarded_since_ms`] lets a caller see.
pub(crate) fn forget_clock(connection: &mut Connection, now_ms: u64) -> rusqlite::Result<()> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute(
        "UPDATE clock SET highest_ms = ?1, since_ms = ?1",
        [to_sql(now_ms)],
    )?;
    transaction.execute(
        "DELETE FROM job_seen WHERE expires_ms > ?1",
        [to_sql(now_ms.saturating_add(MAX_EXPIRY_MS))],
    )?;
    transaction.commit()
}
