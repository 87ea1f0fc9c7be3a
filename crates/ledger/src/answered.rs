//! What this computer answered for peers: by count, model and time, never by content.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::handle::{blob32, from_sql, to_sql};
use crate::money::vouchered_for;
use crate::{Job, LedgerError};

/// Rows of the list that are kept. Older ones go, and with them the receipts of those that were for nothing: strangers could fill
/// the disk with both. A receipt of what was paid stays.
pub const MAX_ANSWERED: u32 = 100_000;

/// Whether a job is running, and whether it ended with a countersigned receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnsweredState {
    /// It runs now.
    Answering,
    /// The asker countersigned the receipt.
    Signed,
    /// It ended without the asker's signature.
    Unsigned,
}

impl AnsweredState {
    fn as_str(self) -> &'static str {
        match self {
            AnsweredState::Answering => "answering",
            AnsweredState::Signed => "signed",
            AnsweredState::Unsigned => "unsigned",
        }
    }

    fn parse(text: &str) -> Result<Self, LedgerError> {
        match text {
            "answering" => Ok(AnsweredState::Answering),
            "signed" => Ok(AnsweredState::Signed),
            "unsigned" => Ok(AnsweredState::Unsigned),
            other => Err(LedgerError::Unreadable {
                what: "the state of a job",
                value: other.to_owned(),
            }),
        }
    }
}

/// A job that starts now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAnswer {
    /// Its name.
    pub job: Job,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Who asked: a PeerId in its text form.
    pub peer: String,
    /// The model's name as shown.
    pub model: String,
    /// SHA-256 of the model's file.
    pub model_digest: [u8; 32],
}

/// A job that was, or is being, answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Its name.
    pub job: Job,
    /// When it started, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who asked.
    pub peer: String,
    /// The model's name as shown.
    pub model: String,
    /// SHA-256 of the model's file.
    pub model_digest: [u8; 32],
    /// Tokens of the prompt.
    pub tokens_in: u32,
    /// Tokens of the answer.
    pub tokens_out: u32,
    /// How it ended, in `protocol`'s word; empty while it runs.
    pub finish: String,
    /// How far it is.
    pub state: AnsweredState,
    /// What was vouchered for it so far, in base units; `None` where it was for nothing.
    pub earned: Option<u128>,
}

/// Sums over a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Jobs that ended.
    pub jobs: u64,
    /// Tokens of their prompts.
    pub tokens_in: u64,
    /// Tokens of their answers.
    pub tokens_out: u64,
}

const COLUMNS: &str = "job, at_ms, peer, model, model_digest, tokens_in, tokens_out, finish, state";

pub(crate) fn started(connection: &mut Connection, new: &NewAnswer) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute(
        "INSERT INTO answered (job, at_ms, peer, model, model_digest, state) VALUES (?1, ?2, ?3, ?4, ?5, 'answering')
         ON CONFLICT (job) DO NOTHING",
        params![new.job, to_sql(new.at_ms), new.peer, new.model, new.model_digest],
    )?;
    let oldest: Option<i64> = transaction
        .query_row(
            "SELECT n FROM answered ORDER BY n DESC LIMIT 1 OFFSET ?1",
            [MAX_ANSWERED],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(oldest) = oldest {
        transaction.execute(
            "DELETE FROM receipt WHERE role = 'provider' AND job IN (SELECT job FROM answered WHERE n <= ?1)
             AND job NOT IN (SELECT job FROM paid_job WHERE side = 'payee')",
            [oldest],
        )?;
        transaction.execute("DELETE FROM answered WHERE n <= ?1", [oldest])?;
    }
    transaction.commit()
}

pub(crate) fn ended(
    connection: &Connection,
    job: Job,
    tokens_in: u32,
    tokens_out: u32,
    finish: &str,
    state: AnsweredState,
) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE answered SET tokens_in = ?2, tokens_out = ?3, finish = ?4, state = ?5 WHERE job = ?1",
        params![job, tokens_in, tokens_out, finish, state.as_str()],
    )?;
    Ok(())
}

/// Jobs that ran when the last run ended: they ended with it, unsigned.
pub(crate) fn interrupt(connection: &Connection) -> rusqlite::Result<usize> {
    connection.execute(
        "UPDATE answered SET state = 'unsigned', finish = 'interrupted' WHERE state = 'answering'",
        [],
    )
}

pub(crate) fn list(connection: &Connection, limit: u32) -> Result<Vec<Answered>, LedgerError> {
    let mut statement = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM answered ORDER BY at_ms DESC, n DESC LIMIT ?1"
        ))
        .map_err(LedgerError::Sqlite)?;
    let mut rows = statement.query([limit]).map_err(LedgerError::Sqlite)?;
    let mut answered = Vec::new();
    while let Some(row) = rows.next().map_err(LedgerError::Sqlite)? {
        answered.push(read(connection, row)?);
    }
    Ok(answered)
}

fn read(connection: &Connection, row: &Row<'_>) -> Result<Answered, LedgerError> {
    let get = LedgerError::Sqlite;
    let job = blob32(row, 0)?;
    Ok(Answered {
        job,
        at_ms: from_sql(row.get(1).map_err(get)?),
        peer: row.get(2).map_err(get)?,
        model: row.get(3).map_err(get)?,
        model_digest: blob32(row, 4)?,
        tokens_in: row.get(5).map_err(get)?,
        tokens_out: row.get(6).map_err(get)?,
        finish: row.get(7).map_err(get)?,
        state: AnsweredState::parse(&row.get::<_, String>(8).map_err(get)?)?,
        earned: vouchered_for(connection, &job)?,
    })
}

pub(crate) fn totals(
    connection: &Connection,
    from_ms: u64,
    until_ms: u64,
) -> rusqlite::Result<Totals> {
    connection.query_row(
        "SELECT count(*), coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0) FROM answered
         WHERE at_ms >= ?1 AND at_ms < ?2 AND state <> 'answering'",
        [to_sql(from_ms), to_sql(until_ms)],
        |row| {
            Ok(Totals {
                jobs: from_sql(row.get(0)?),
                tokens_in: from_sql(row.get(1)?),
                tokens_out: from_sql(row.get(2)?),
            })
        },
    )
}
