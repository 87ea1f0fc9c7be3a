//! Receipts of both sides, kept as the bytes that were signed, with what a list needs beside them.

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use crate::handle::{blob, from_sql, to_sql};
use crate::{Job, LedgerError};

/// Largest receipt that is kept, in bytes. `protocol` makes them of a few hundred.
pub const MAX_RECEIPT_BYTES: usize = 64 * 1024;

/// Which side of the job this computer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptRole {
    /// It answered.
    Provider,
    /// It asked.
    Client,
}

impl ReceiptRole {
    fn as_str(self) -> &'static str {
        match self {
            ReceiptRole::Provider => "provider",
            ReceiptRole::Client => "client",
        }
    }

    fn parse(text: &str) -> Result<Self, LedgerError> {
        match text {
            "provider" => Ok(ReceiptRole::Provider),
            "client" => Ok(ReceiptRole::Client),
            other => Err(LedgerError::Unreadable {
                what: "the side of a receipt",
                value: other.to_owned(),
            }),
        }
    }
}

/// A receipt and what a list shows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The job.
    pub job: Job,
    /// Which side this computer was.
    pub role: ReceiptRole,
    /// The other side: a PeerId in its text form.
    pub peer: String,
    /// The model's name as shown.
    pub model: String,
    /// SHA-256 of the model's file.
    pub model_digest: [u8; 32],
    /// Tokens of the prompt.
    pub tokens_in: u32,
    /// Tokens of the answer.
    pub tokens_out: u32,
    /// How the job ended, in `protocol`'s word.
    pub finish: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The hash chain over all output tokens.
    pub chain: [u8; 32],
    /// The bytes that both sides sign.
    pub signed: Vec<u8>,
    /// The provider's Ed25519 signature.
    pub provider_signature: [u8; 64],
    /// The client's, once it came.
    pub client_signature: Option<[u8; 64]>,
}

const COLUMNS: &str = "job, role, peer, model, model_digest, tokens_in, tokens_out, finish, at_ms, chain, signed, \
                       provider_signature, client_signature";

/// Keeps a receipt. The same one with the client's signature completes it; one that says something else is refused.
pub(crate) fn store(connection: &mut Connection, receipt: &Receipt) -> Result<(), LedgerError> {
    if receipt.signed.len() > MAX_RECEIPT_BYTES {
        return Err(LedgerError::TooLarge {
            have: receipt.signed.len(),
            limit: MAX_RECEIPT_BYTES,
        });
    }
    let transaction = connection.transaction().map_err(LedgerError::Sqlite)?;
    let changed = transaction
        .execute(
            &format!(
                "INSERT INTO receipt ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
                 ON CONFLICT (job, role) DO UPDATE SET client_signature = coalesce(client_signature, excluded.client_signature)
                 WHERE signed = excluded.signed AND provider_signature = excluded.provider_signature"
            ),
            params![
                receipt.job,
                receipt.role.as_str(),
                receipt.peer,
                receipt.model,
                receipt.model_digest,
                receipt.tokens_in,
                receipt.tokens_out,
                receipt.finish,
                to_sql(receipt.at_ms),
                receipt.chain,
                receipt.signed,
                receipt.provider_signature,
                receipt.client_signature,
            ],
        )
        .map_err(LedgerError::Sqlite)?;
    if changed == 0 {
        return Err(LedgerError::OtherReceipt);
    }
    transaction.commit().map_err(LedgerError::Sqlite)
}

/// The receipts of one job, the provider's side first.
pub(crate) fn of_job(connection: &Connection, job: Job) -> Result<Vec<Receipt>, LedgerError> {
    collect(
        connection,
        &format!("SELECT {COLUMNS} FROM receipt WHERE job = ?1 ORDER BY role DESC"),
        params![job],
    )
}

/// Receipts of one side within a stretch of time, newest first.
pub(crate) fn list(
    connection: &Connection,
    role: ReceiptRole,
    from_ms: u64,
    until_ms: u64,
    limit: u32,
) -> Result<Vec<Receipt>, LedgerError> {
    collect(
        connection,
        &format!(
            "SELECT {COLUMNS} FROM receipt WHERE role = ?1 AND at_ms >= ?2 AND at_ms < ?3 ORDER BY at_ms DESC, n DESC LIMIT ?4"
        ),
        params![role.as_str(), to_sql(from_ms), to_sql(until_ms), limit],
    )
}

fn collect(
    connection: &Connection,
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
) -> Result<Vec<Receipt>, LedgerError> {
    let mut statement = connection
        .prepare_cached(sql)
        .map_err(LedgerError::Sqlite)?;
    let mut rows = statement.query(params).map_err(LedgerError::Sqlite)?;
    let mut receipts = Vec::new();
    while let Some(row) = rows.next().map_err(LedgerError::Sqlite)? {
        receipts.push(read(row)?);
    }
    Ok(receipts)
}

fn read(row: &Row<'_>) -> Result<Receipt, LedgerError> {
    let get = LedgerError::Sqlite;
    let client: Option<Vec<u8>> = row.get(12).map_err(get)?;
    Ok(Receipt {
        job: blob(row, 0)?,
        role: ReceiptRole::parse(&row.get::<_, String>(1).map_err(get)?)?,
        peer: row.get(2).map_err(get)?,
        model: row.get(3).map_err(get)?,
        model_digest: blob(row, 4)?,
        tokens_in: row.get(5).map_err(get)?,
        tokens_out: row.get(6).map_err(get)?,
        finish: row.get(7).map_err(get)?,
        at_ms: from_sql(row.get(8).map_err(get)?),
        chain: blob(row, 9)?,
        signed: row.get(10).map_err(get)?,
        provider_signature: blob(row, 11)?,
        client_signature: client.map(|_| blob(row, 12)).transpose()?,
    })
}
