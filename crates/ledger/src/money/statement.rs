//! The journal, and what answers took in energy, as a file for people and their tax advisers: CSV, or JSON with one row a line.

use std::collections::VecDeque;
use std::io::{self, Write};

use rusqlite::{Connection, Row as SqlRow, params};
use serde::Serialize;
use serde_json::json;

use super::amount::{amount, hex};
use super::lines::many;
use crate::handle::{blob, from_sql, to_sql};
use crate::{Ledger, LedgerError};

/// Rows that are read at once: a statement of years is never in memory as a whole, and a job that is admitted meanwhile does not wait for it.
const PAGE: u32 = 1000;

/// How a statement is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementFormat {
    /// RFC 4180, with a head line.
    Csv,
    /// A JSON object a line.
    Json,
}

/// A row of the journal with what it is tied to.
#[derive(Debug, Serialize)]
struct StatementRow {
    /// Its number.
    n: u64,
    /// When, in milliseconds since 1970.
    at_ms: u64,
    /// What moved.
    kind: String,
    /// The account that was debited.
    debit: String,
    /// The account that was credited.
    credit: String,
    /// How much, in base units.
    #[serde(with = "super::amount::decimal")]
    amount: u128,
    /// The job of the voucher, in hexadecimal.
    job: Option<String>,
    /// Its model.
    model: Option<String>,
    /// The other side of it.
    peer: Option<String>,
    /// The voucher's total, in base units.
    cumulative: Option<String>,
    /// What the voucher pays for, in hexadecimal.
    work: Option<String>,
    /// The transaction, in hexadecimal.
    tx: Option<String>,
    /// The event's place in its block.
    log_index: Option<u64>,
    /// The block.
    block: Option<u64>,
}

/// What one answer took in energy, or what answers for nothing took in a day that is long over. It is in no account: nobody owes it to
/// anybody here.
#[derive(Debug)]
struct EnergyRow {
    /// Its number among those of its kind.
    n: u64,
    /// When it was counted to its end, or when its day began, in milliseconds since 1970.
    at_ms: u64,
    /// The job, in hexadecimal; `None` for a day.
    job: Option<String>,
    /// Answers that it stands for.
    answers: u64,
    /// Their model; `None` where the list of answers is too short to know.
    model: Option<String>,
    /// Who asked; the same, and `None` for a day.
    peer: Option<String>,
    /// The computer's meters counted it; otherwise it follows from the person's figure.
    metered: bool,
    /// What it took beyond idle, in millijoules.
    taken_mj: u64,
}

/// What energy costs the person, by their own word.
#[derive(Clone, Debug, PartialEq)]
pub struct Tariff {
    /// Of a kilowatt-hour.
    pub per_kwh: f64,
    /// What that money is called.
    pub currency: Option<String>,
}

const HEAD: &str = "n,time,kind,debit,credit,amount,job,model,peer,cumulative,work,tx,log_index,block,energy_kwh,energy_from,energy_cost,currency,answers";

/// Columns from `debit` to `amount`, and from `cumulative` to `block`: energy has nothing there.
const NO_ACCOUNTS: usize = 3;
const NO_CHAIN: usize = 5;
/// Columns of energy: the journal has nothing there.
const NO_ENERGY: usize = 5;

const MJ_PER_KWH: f64 = 3.6e9;

/// Rows that were read and not written yet.
#[derive(Debug)]
struct Pages<T> {
    held: VecDeque<T>,
    after: u64,
    over: bool,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self {
            held: VecDeque::new(),
            after: 0,
            over: false,
        }
    }
}

impl<T: Send + 'static> Pages<T> {
    /// Reads on where there is nothing left of what was read.
    async fn fill(
        &mut self,
        ledger: &Ledger,
        stretch: Stretch,
        page: fn(&Connection, Stretch, u64) -> Result<Vec<T>, LedgerError>,
        number: fn(&T) -> u64,
    ) -> Result<(), LedgerError> {
        if self.over || !self.held.is_empty() {
            return Ok(());
        }
        let after = self.after;
        let read = ledger
            .call(move |connection| page(connection, stretch, after))
            .await?;
        self.over = read.len() < PAGE as usize;
        self.after = read.last().map_or(after, number);
        self.held = read.into();
        Ok(())
    }

    fn front(&self, at_ms: fn(&T) -> u64) -> Option<u64> {
        self.held.front().map(at_ms)
    }
}

/// From where a row comes; of the same moment in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Journal,
    Days,
    Jobs,
}

/// A stretch of time, from its first millisecond since 1970 on and before its second.
type Stretch = (u64, u64);

impl Ledger {
    /// Writes all rows of a stretch of time, those of the journal and those of energy as time goes, and says how many. Energy has its cost
    /// where there is a `tariff`: at that of now, whenever it was used.
    ///
    /// # Errors
    /// [`LedgerError::Statement`] where `out` does not take them; what was written until then stays.
    pub async fn statement(
        &self,
        from_ms: u64,
        until_ms: u64,
        (format, tariff): (StatementFormat, Option<&Tariff>),
        mut out: impl Write + Send,
    ) -> Result<u64, LedgerError> {
        if format == StatementFormat::Csv {
            write!(out, "{HEAD}\r\n").map_err(LedgerError::Statement)?;
        }
        let _written = self.writes_statement();
        let stretch = (from_ms, until_ms);
        let (mut journal, mut days, mut jobs) =
            (Pages::default(), Pages::default(), Pages::default());
        let mut count = 0;
        loop {
            journal
                .fill(self, stretch, journal_page, |row| row.n)
                .await?;
            days.fill(self, stretch, days_page, |row| row.n).await?;
            jobs.fill(self, stretch, jobs_page, |row| row.n).await?;
            let next = [
                (Of::Journal, journal.front(|row| row.at_ms)),
                (Of::Days, days.front(|row| row.at_ms)),
                (Of::Jobs, jobs.front(|row| row.at_ms)),
            ];
            let next = next
                .into_iter()
                .filter_map(|(of, at_ms)| Some((at_ms?, of)));
            let row = next.min().and_then(|(_, of)| match of {
                Of::Journal => journal.held.pop_front().map(Row::Journal),
                Of::Days => days.held.pop_front().map(Row::Energy),
                Of::Jobs => jobs.held.pop_front().map(Row::Energy),
            });
            let Some(row) = row else {
                out.flush().map_err(LedgerError::Statement)?;
                return Ok(count);
            };
            match format {
                StatementFormat::Csv => csv(&mut out, &row, tariff),
                StatementFormat::Json => json(&mut out, &row, tariff),
            }
            .map_err(LedgerError::Statement)?;
            count += 1;
        }
    }
}

/// A line of the file.
#[derive(Debug)]
enum Row {
    Journal(StatementRow),
    Energy(EnergyRow),
}

impl EnergyRow {
    fn kwh(&self) -> f64 {
        // A figure to read: nothing is booked from it.
        self.taken_mj as f64 / MJ_PER_KWH
    }

    fn source(&self) -> &'static str {
        match self.metered {
            true => "metered",
            false => "stated",
        }
    }
}

/// Rows of the journal after the one with number `after`, in the order in which they were booked.
fn journal_page(
    connection: &Connection,
    (from_ms, until_ms): Stretch,
    after: u64,
) -> Result<Vec<StatementRow>, LedgerError> {
    many(
        connection,
        "SELECT j.n, j.at_ms, j.kind, d.name, c.name, j.amount, p.job, p.model, p.peer, v.cumulative, v.work,
                e.tx, e.log_index, e.block
         FROM journal j JOIN account d ON d.id = j.debit JOIN account c ON c.id = j.credit
         LEFT JOIN voucher v ON v.n = j.voucher LEFT JOIN paid_job p ON p.id = v.job
         LEFT JOIN chain_event e ON e.n = j.event
         WHERE j.n > ?1 AND j.at_ms >= ?2 AND j.at_ms < ?3 ORDER BY j.n LIMIT ?4",
        params![to_sql(after), to_sql(from_ms), to_sql(until_ms), PAGE],
        read,
    )
}

/// Energy by the job, after the row with number `after`, in the order in which it was counted.
fn jobs_page(
    connection: &Connection,
    (from_ms, until_ms): Stretch,
    after: u64,
) -> Result<Vec<EnergyRow>, LedgerError> {
    many(
        connection,
        "SELECT e.n, e.at_ms, e.job, 1, coalesce(p.model, a.model), coalesce(p.peer, a.peer), e.source = 'metered', e.taken_mj
         FROM energy e LEFT JOIN paid_job p ON p.side = 'payee' AND p.job = e.job
         LEFT JOIN answered a ON a.job = e.job
         WHERE e.n > ?1 AND e.at_ms >= ?2 AND e.at_ms < ?3 ORDER BY e.n LIMIT ?4",
        params![to_sql(after), to_sql(from_ms), to_sql(until_ms), PAGE],
        read_energy,
    )
}

/// Energy by the day, in the same way.
fn days_page(
    connection: &Connection,
    (from_ms, until_ms): Stretch,
    after: u64,
) -> Result<Vec<EnergyRow>, LedgerError> {
    many(
        connection,
        "SELECT n, day_ms, NULL, jobs, nullif(model, ''), NULL, source = 'metered', taken_mj
         FROM energy_day WHERE n > ?1 AND day_ms >= ?2 AND day_ms < ?3 ORDER BY n LIMIT ?4",
        params![to_sql(after), to_sql(from_ms), to_sql(until_ms), PAGE],
        read_energy,
    )
}

fn read(row: &SqlRow<'_>) -> Result<StatementRow, LedgerError> {
    let digest = |index: usize| -> Result<Option<String>, LedgerError> {
        let bytes: Option<Vec<u8>> = row.get(index)?;
        Ok(bytes.map(|bytes| hex(&bytes)))
    };
    let cumulative: Option<Vec<u8>> = row.get(9)?;
    Ok(StatementRow {
        n: from_sql(row.get(0)?),
        at_ms: from_sql(row.get(1)?),
        kind: row.get(2)?,
        debit: row.get(3)?,
        credit: row.get(4)?,
        amount: amount(row, 5)?,
        job: digest(6)?,
        model: row.get(7)?,
        peer: row.get(8)?,
        cumulative: cumulative
            .map(|_| blob(row, 9).map(|bytes| u128::from_be_bytes(bytes).to_string()))
            .transpose()?,
        work: digest(10)?,
        tx: digest(11)?,
        log_index: row.get::<_, Option<i64>>(12)?.map(from_sql),
        block: row.get::<_, Option<i64>>(13)?.map(from_sql),
    })
}

fn read_energy(row: &SqlRow<'_>) -> Result<EnergyRow, LedgerError> {
    let job: Option<Vec<u8>> = row.get(2)?;
    Ok(EnergyRow {
        n: from_sql(row.get(0)?),
        at_ms: from_sql(row.get(1)?),
        job: job.map(|job| hex(&job)),
        answers: from_sql(row.get(3)?),
        model: row.get(4)?,
        peer: row.get(5)?,
        metered: row.get(6)?,
        taken_mj: from_sql(row.get(7)?),
    })
}

fn json(out: &mut impl Write, row: &Row, tariff: Option<&Tariff>) -> io::Result<()> {
    match row {
        Row::Journal(row) => serde_json::to_writer(&mut *out, row)?,
        Row::Energy(row) => {
            let object = json!({
                "kind": "energy",
                "at_ms": row.at_ms,
                "job": row.job,
                "answers": row.answers,
                "model": row.model,
                "peer": row.peer,
                "energy_mj": row.taken_mj,
                "energy_from": row.source(),
                "energy_cost": tariff.map(|tariff| row.kwh() * tariff.per_kwh),
                "currency": tariff.and_then(|tariff| tariff.currency.as_deref()),
            });
            serde_json::to_writer(&mut *out, &object)?;
        }
    }
    out.write_all(b"\n")
}

fn csv(out: &mut impl Write, row: &Row, tariff: Option<&Tariff>) -> io::Result<()> {
    let cells = match row {
        Row::Journal(row) => of_journal(row),
        Row::Energy(row) => of_energy(row, tariff),
    };
    let line: Vec<String> = cells.iter().map(|field| cell(field)).collect();
    write!(out, "{}\r\n", line.join(","))
}

fn of_energy(row: &EnergyRow, tariff: Option<&Tariff>) -> Vec<String> {
    let cost = tariff.map(|tariff| format!("{:.9}", row.kwh() * tariff.per_kwh));
    let currency = tariff.and_then(|tariff| tariff.currency.clone());
    [String::new(), utc(row.at_ms), "energy".to_owned()]
        .into_iter()
        .chain(vec![String::new(); NO_ACCOUNTS])
        .chain([text(&row.job), text(&row.model), text(&row.peer)])
        .chain(vec![String::new(); NO_CHAIN])
        .chain([
            format!("{:.9}", row.kwh()),
            row.source().to_owned(),
            cost.unwrap_or_default(),
            currency.unwrap_or_default(),
            row.answers.to_string(),
        ])
        .collect()
}

fn of_journal(row: &StatementRow) -> Vec<String> {
    let number = |field: Option<u64>| field.map(|value| value.to_string()).unwrap_or_default();
    [
        row.n.to_string(),
        utc(row.at_ms),
        row.kind.clone(),
        row.debit.clone(),
        row.credit.clone(),
        row.amount.to_string(),
        text(&row.job),
        text(&row.model),
        text(&row.peer),
        text(&row.cumulative),
        text(&row.work),
        text(&row.tx),
        number(row.log_index),
        number(row.block),
    ]
    .into_iter()
    .chain(vec![String::new(); NO_ENERGY])
    .collect()
}

fn text(field: &Option<String>) -> String {
    field.clone().unwrap_or_default()
}

/// A field in quotes where it needs them. Text that a table would read as a formula is made plain: names come from strangers.
fn cell(field: &str) -> String {
    let plain = if field.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{field}")
    } else {
        field.to_owned()
    };
    if plain.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", plain.replace('"', "\"\""))
    } else {
        plain
    }
}

/// RFC 3339 to the millisecond. Years from civil days as in H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn utc(at_ms: u64) -> String {
    let (days, ms) = (at_ms / 86_400_000, at_ms % 86_400_000);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        year + era * 400 + next,
        ms / 3_600_000,
        ms / 60_000 % 60,
        ms / 1000 % 60,
        ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_everybody_reads_it() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(utc(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_cell_is_never_a_formula_and_never_two() {
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell("=1+1"), "'=1+1");
        assert_eq!(cell("a,b"), "\"a,b\"");
        assert_eq!(cell("@x\",\"y"), "\"'@x\"\",\"\"y\"");
    }
}
