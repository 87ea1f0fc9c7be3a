//! What was earned by serving, per day, model or device, in which of its states every unit of it is, and what it took in energy.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::amount::{Sum, amount};
use super::energy::{self, EnergySum};
use super::lines::{Line, Side, Signer, many};
use super::{Address, JobTokens, THAW_S};
use crate::handle::{blob, from_sql, to_sql};
use crate::{Job, Ledger, LedgerError};

pub(super) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A signer with less time than this is claimed from whatever its debt, in seconds.
const CLAIM_BEFORE_S: u64 = 24 * 60 * 60;

/// What the rows of a list stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A day of the caller's time zone.
    Day,
    /// A model.
    Model,
    /// A node's operator address: one machine.
    Device,
    /// All of them together, in one row.
    Total,
}

/// Which jobs, and by what they are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarningsQuery {
    /// Jobs whose first voucher came from then on, in milliseconds since 1970,
    pub from_ms: u64,
    /// and before then.
    pub until_ms: u64,
    /// The caller's time zone, in seconds east of UTC.
    pub utc_offset_s: i32,
    /// The least debt that is worth the gas of its claim, in base units.
    pub worth: u128,
    /// The chain's time, in seconds.
    pub now_s: u64,
}

/// An amount by the states in which its units are. Their sum is what was vouchered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earnings {
    /// Vouchered while its job runs, by a signer that final blocks do not show yet, or one that an overdraft is shown of.
    #[serde(with = "super::amount::decimal")]
    pub checking: u128,
    /// Can be claimed, and is worth it.
    #[serde(with = "super::amount::decimal")]
    pub available: u128,
    /// Owed, and less than its claim costs: too small to collect yet.
    #[serde(with = "super::amount::decimal")]
    pub too_small: u128,
    /// Claimed, in final blocks.
    #[serde(with = "super::amount::decimal")]
    pub paid_out: u128,
    /// Can never be claimed any more: its signer is over for longer than the thaw.
    #[serde(with = "super::amount::decimal")]
    pub lost: u128,
}

impl Earnings {
    /// All of it.
    pub fn vouchered(&self) -> u128 {
        [
            self.checking,
            self.available,
            self.too_small,
            self.paid_out,
            self.lost,
        ]
        .into_iter()
        .sum::<Sum>()
        .clamped()
    }

    fn add(&mut self, other: &Self) {
        let sum = |ours: &mut u128, theirs: u128| *ours = ours.saturating_add(theirs);
        sum(&mut self.checking, other.checking);
        sum(&mut self.available, other.available);
        sum(&mut self.too_small, other.too_small);
        sum(&mut self.paid_out, other.paid_out);
        sum(&mut self.lost, other.lost);
    }
}

/// What one row stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarningKey {
    /// A day, by its first millisecond since 1970.
    Day(u64),
    /// A model's name as shown.
    Model(String),
    /// An operator address.
    Device(#[serde(with = "super::amount::hexadecimal")] Address),
    /// All there is.
    Total,
}

/// Sums of a day, a model, a device, or of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarningRow {
    /// Of which.
    pub key: EarningKey,
    /// Jobs that vouchers came for.
    pub jobs: u64,
    /// Tokens of their prompts, with the cached ones.
    pub tokens_in: u64,
    /// Tokens of their prompts that were in the cache.
    pub tokens_cached: u64,
    /// Tokens of their answers.
    pub tokens_out: u64,
    /// What they earned.
    pub earned: Earnings,
    /// What they took.
    pub energy: EnergySum,
}

/// What one job earned, with the voucher that proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEarning {
    /// The job: its receipt has the same name.
    pub job: Job,
    /// When its first voucher came, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who asked: a PeerId in its text form.
    pub peer: String,
    /// The model's name as shown.
    pub model: String,
    /// SHA-256 of the model's file.
    pub model_digest: [u8; 32],
    /// The node's operator address.
    pub device: Address,
    /// Whose balance pays.
    pub payer: Address,
    /// Its tokens, as far as they were vouchered.
    pub tokens: JobTokens,
    /// What it earned.
    pub earned: Earnings,
    /// What it took.
    pub energy: EnergySum,
    /// The total of its last voucher.
    pub cumulative: u128,
    /// That voucher's signature.
    pub signature: [u8; 64],
    /// What that voucher pays for.
    pub work: [u8; 32],
}

impl Ledger {
    /// Sums per day (the newest first), model or device, or one of all; no row where there was no job.
    pub async fn earnings(
        &self,
        query: EarningsQuery,
        by: By,
    ) -> Result<Vec<EarningRow>, LedgerError> {
        self.call(move |connection| grouped(connection, &query, by))
            .await
    }

    /// Job by job, the newest first.
    pub async fn job_earnings(
        &self,
        query: EarningsQuery,
        limit: u32,
    ) -> Result<Vec<JobEarning>, LedgerError> {
        self.call(move |connection| {
            let mut list = Vec::new();
            each_job(connection, &query, (None, limit), |job| list.push(job))?;
            Ok(list)
        })
        .await
    }

    /// What one job earned; `None` where no voucher came for it.
    pub async fn job_earning(
        &self,
        query: EarningsQuery,
        job: Job,
    ) -> Result<Option<JobEarning>, LedgerError> {
        self.call(move |connection| {
            let mut found = None;
            each_job(connection, &query, (Some(job), 1), |job| found = Some(job))?;
            Ok(found)
        })
        .await
    }
}

fn grouped(
    connection: &Connection,
    query: &EarningsQuery,
    by: By,
) -> Result<Vec<EarningRow>, LedgerError> {
    let mut rows: BTreeMap<EarningKey, EarningRow> = BTreeMap::new();
    each_job(connection, query, (None, u32::MAX), |job| {
        let key = match by {
            By::Day => EarningKey::Day(day_of(job.at_ms, query.utc_offset_s)),
            By::Model => EarningKey::Model(job.model.clone()),
            By::Device => EarningKey::Device(job.device),
            By::Total => EarningKey::Total,
        };
        let row = rows.entry(key.clone()).or_insert_with(|| EarningRow {
            key,
            jobs: 0,
            tokens_in: 0,
            tokens_cached: 0,
            tokens_out: 0,
            earned: Earnings::default(),
            energy: EnergySum::default(),
        });
        row.jobs += 1;
        row.tokens_in = row
            .tokens_in
            .saturating_add(job.tokens.input)
            .saturating_add(job.tokens.cached);
        row.tokens_cached = row.tokens_cached.saturating_add(job.tokens.cached);
        row.tokens_out = row.tokens_out.saturating_add(job.tokens.output);
        row.earned.add(&job.earned);
        row.energy.add(&job.energy);
    })?;
    let rows = rows.into_values();
    Ok(match by {
        By::Day => rows.rev().collect(),
        By::Model | By::Device | By::Total => rows.collect(),
    })
}

/// The first millisecond of the day in which a moment lies.
fn day_of(at_ms: u64, utc_offset_s: i32) -> u64 {
    let offset = i64::from(utc_offset_s) * 1000;
    let local = to_sql(at_ms).saturating_add(offset);
    from_sql(local - local.rem_euclid(DAY_MS) - offset)
}

/// Walks the jobs that vouchers came for, the newest first.
fn each_job(
    connection: &Connection,
    query: &EarningsQuery,
    (only, limit): (Option<Job>, u32),
    mut give: impl FnMut(JobEarning),
) -> Result<(), LedgerError> {
    let lines: BTreeMap<i64, (Line, Option<Signer>)> = Line::all(connection)?
        .into_iter()
        .filter(|line| line.side == Side::Payee)
        .map(|line| {
            let signer = Signer::find(connection, &line.key.payer, &line.key.signer)?;
            Ok((line.id, (line, signer)))
        })
        .collect::<Result<_, LedgerError>>()?;
    let mut jobs = connection.prepare_cached(
        "SELECT id, job, at_ms, peer, model, model_digest FROM paid_job
         WHERE side = 'payee' AND at_ms >= ?1 AND at_ms < ?2 AND (?4 IS NULL OR job = ?4) ORDER BY id DESC LIMIT ?3",
    )?;
    let mut rows = jobs.query(params![
        to_sql(query.from_ms),
        to_sql(query.until_ms),
        limit,
        only
    ])?;
    while let Some(row) = rows.next()? {
        let job: Job = blob(row, 1)?;
        let running = runs(connection, &job)?;
        let mut earned = Earnings::default();
        let mut last = None;
        for voucher in vouchers_of(connection, row.get(0)?)? {
            let Some((line, signer)) = lines.get(&voucher.line) else {
                continue;
            };
            split(
                &mut earned,
                line,
                state(line, signer.as_ref(), running, query),
                &voucher,
            );
            last = Some((line, voucher));
        }
        let Some((line, voucher)) = last else {
            continue;
        };
        give(JobEarning {
            energy: energy::of_job(connection, &job)?,
            job,
            at_ms: from_sql(row.get(2)?),
            peer: row.get(3)?,
            model: row.get(4)?,
            model_digest: blob(row, 5)?,
            device: line.key.payee,
            payer: line.key.payer,
            tokens: voucher.tokens,
            earned,
            cumulative: voucher.cumulative,
            signature: voucher.signature,
            work: voucher.work,
        });
    }
    Ok(())
}

struct Increment {
    line: i64,
    cumulative: u128,
    amount: u128,
    tokens: JobTokens,
    signature: [u8; 64],
    work: [u8; 32],
}

fn vouchers_of(connection: &Connection, job: i64) -> Result<Vec<Increment>, LedgerError> {
    many(
        connection,
        "SELECT v.line, v.cumulative, j.amount, v.tokens_in, v.tokens_cached, v.tokens_out, v.signature, v.work
         FROM voucher v JOIN journal j ON j.voucher = v.n WHERE v.job = ?1 AND v.origin = 'held' ORDER BY v.n",
        params![job],
        |row| {
            Ok(Increment {
                line: row.get(0)?,
                cumulative: amount(row, 1)?,
                amount: amount(row, 2)?,
                tokens: JobTokens {
                    input: from_sql(row.get(3)?),
                    cached: from_sql(row.get(4)?),
                    output: from_sql(row.get(5)?),
                },
                signature: blob(row, 6)?,
                work: blob(row, 7)?,
            })
        },
    )
}

/// What was vouchered for a job so far, in base units; `None` where no voucher came for it.
pub(crate) fn vouchered_for(
    connection: &Connection,
    job: &Job,
) -> Result<Option<u128>, LedgerError> {
    let id = connection
        .prepare_cached("SELECT id FROM paid_job WHERE side = 'payee' AND job = ?1")?
        .query_row([job], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(None) };
    let vouchers = vouchers_of(connection, id)?;
    let amounts = vouchers.iter().map(|voucher| voucher.amount);
    Ok(Some(amounts.sum::<Sum>().clamped()))
}

fn runs(connection: &Connection, job: &Job) -> Result<bool, LedgerError> {
    Ok(connection
        .prepare_cached("SELECT state = 'answering' FROM answered WHERE job = ?1")?
        .query_row([job], |row| row.get(0))
        .optional()?
        .unwrap_or(false))
}

#[derive(Clone, Copy)]
enum Open {
    Checking,
    Available,
    TooSmall,
    Lost,
}

/// In which state the open part of a line is.
fn state(line: &Line, signer: Option<&Signer>, running: bool, query: &EarningsQuery) -> Open {
    let Some(signer) = signer.filter(|signer| signer.until_s > 0) else {
        return Open::Checking;
    };
    if signer.freed || signer.until_s.saturating_add(THAW_S) <= query.now_s {
        return Open::Lost;
    }
    if running || signer.contested {
        return Open::Checking;
    }
    let ends = signer.until_s <= query.now_s.saturating_add(CLAIM_BEFORE_S);
    if line.open() >= query.worth || ends || line.reserved(query.now_s) > 0 {
        Open::Available
    } else {
        Open::TooSmall
    }
}

/// Cuts a voucher's increment at the levels up to which its line was paid, and from which it was given up.
fn split(earned: &mut Earnings, line: &Line, open: Open, voucher: &Increment) {
    let from = voucher.cumulative - voucher.amount.min(voucher.cumulative);
    let to = voucher.cumulative;
    let paid_to = line.paid().clamp(from, to);
    let lost_from = line
        .cumulative
        .saturating_sub(line.written_off)
        .clamp(paid_to, to);
    let rest = lost_from - paid_to;
    earned.add(&Earnings {
        paid_out: paid_to - from,
        lost: to - lost_from,
        ..Earnings::default()
    });
    match open {
        Open::Checking => earned.checking = earned.checking.saturating_add(rest),
        Open::Available => earned.available = earned.available.saturating_add(rest),
        Open::TooSmall => earned.too_small = earned.too_small.saturating_add(rest),
        Open::Lost => earned.lost = earned.lost.saturating_add(rest),
    }
}
