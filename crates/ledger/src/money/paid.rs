//! The payer's side, read: by which promises an answer was paid.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::amount::amount;
use super::lines::{Line, Side, many};
use super::{HoldRow, JobTokens, LineKey};
use crate::handle::{blob, from_sql, to_sql};
use crate::{Job, Ledger, LedgerError};

/// What paid for one job on one line: the last voucher that was signed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPayment {
    /// Which line.
    pub line: LineKey,
    /// Who answered: a PeerId in its text form.
    pub peer: String,
    /// The model's name as shown.
    pub model: String,
    /// When the last voucher was signed, in milliseconds since 1970.
    pub at_ms: u64,
    /// What the job cost on this line, in base units: the rises of all its vouchers.
    pub paid: u128,
    /// The total of its last voucher, in base units.
    pub cumulative: u128,
    /// What that voucher pays for.
    pub work: [u8; 32],
    /// Its tokens, as far as they were paid.
    pub tokens: JobTokens,
    /// The reservation that stood on the line when it was signed.
    pub hold: Option<HoldRow>,
}

impl Ledger {
    /// What paid for a job that this computer asked for: a line each, in the order of their first vouchers. Empty where it was free.
    pub async fn job_payments(&self, job: Job) -> Result<Vec<JobPayment>, LedgerError> {
        self.call(move |connection| payments(connection, &job))
            .await
    }
}

struct Rise {
    line: i64,
    amount: u128,
    cumulative: u128,
    work: [u8; 32],
    tokens: JobTokens,
    at_ms: u64,
}

fn payments(connection: &Connection, job: &Job) -> Result<Vec<JobPayment>, LedgerError> {
    let known = connection
        .prepare_cached("SELECT id, peer, model FROM paid_job WHERE side = 'payer' AND job = ?1")?
        .query_row([job], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
            ))
        })
        .optional()?;
    let Some((id, peer, model)) = known else {
        return Ok(Vec::new());
    };
    let lines: BTreeMap<i64, Line> = Line::all(connection)?
        .into_iter()
        .filter(|line| line.side == Side::Payer)
        .map(|line| (line.id, line))
        .collect();
    let mut payments: Vec<(i64, JobPayment)> = Vec::new();
    for rise in rises(connection, id)? {
        let Some(line) = lines.get(&rise.line) else {
            continue;
        };
        let at = match payments.iter().position(|(line, _)| *line == rise.line) {
            Some(at) => at,
            None => {
                payments.push((
                    rise.line,
                    JobPayment {
                        line: line.key,
                        peer: peer.clone(),
                        model: model.clone(),
                        at_ms: rise.at_ms,
                        paid: 0,
                        cumulative: 0,
                        work: rise.work,
                        tokens: rise.tokens,
                        hold: None,
                    },
                ));
                payments.len() - 1
            }
        };
        let (_, payment) = &mut payments[at];
        payment.paid = payment.paid.saturating_add(rise.amount);
        payment.cumulative = rise.cumulative;
        payment.work = rise.work;
        payment.tokens = rise.tokens;
        payment.at_ms = rise.at_ms;
    }
    payments
        .into_iter()
        .map(|(line, payment)| {
            Ok(JobPayment {
                hold: held_at(connection, line, payment.at_ms)?,
                ..payment
            })
        })
        .collect()
}

fn rises(connection: &Connection, job: i64) -> Result<Vec<Rise>, LedgerError> {
    many(
        connection,
        "SELECT v.line, j.amount, v.cumulative, v.work, v.tokens_in, v.tokens_cached, v.tokens_out, v.at_ms
         FROM voucher v JOIN journal j ON j.voucher = v.n WHERE v.job = ?1 AND v.origin = 'signed' ORDER BY v.n",
        params![job],
        |row| {
            Ok(Rise {
                line: row.get(0)?,
                amount: amount(row, 1)?,
                cumulative: amount(row, 2)?,
                work: blob(row, 3)?,
                tokens: JobTokens {
                    input: from_sql(row.get(4)?),
                    cached: from_sql(row.get(5)?),
                    output: from_sql(row.get(6)?),
                },
                at_ms: from_sql(row.get(7)?),
            })
        },
    )
}

/// The newest reservation that was signed on a line by a moment, and was not over then.
fn held_at(connection: &Connection, line: i64, at_ms: u64) -> Result<Option<HoldRow>, LedgerError> {
    let held = many(
        connection,
        "SELECT upto, until_s, nonce FROM hold WHERE line = ?1 AND at_ms <= ?2 AND until_s > ?3
         ORDER BY nonce DESC LIMIT 1",
        params![line, to_sql(at_ms), to_sql(at_ms / 1000)],
        |row| {
            Ok(HoldRow {
                upto: amount(row, 0)?,
                until_s: from_sql(row.get(1)?),
                nonce: from_sql(row.get(2)?),
            })
        },
    )?;
    Ok(held.into_iter().next())
}
