//! What jobs took in energy, paid or for nothing. Nothing here is estimated: a job without a row was not measured.
//!
//! Each job has a row. Those of jobs for nothing come together in one row a day, model and source once they are older than
//! [`FREE_ENERGY_MS`] or more than [`MAX_FREE_ENERGY`] came after them: strangers could fill the disk with rows of their own. What they took
//! is in every sum as before, and in the statement by the day.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::earnings::DAY_MS;
use super::lines::many;
use crate::handle::{from_sql, to_sql};
use crate::{Job, Ledger, LedgerError, MAX_ANSWERED};

/// So long a job for nothing has a row of its own, in milliseconds: beyond the month whose sum is the longest that is shown, which so
/// has no day of which a part would count.
pub const FREE_ENERGY_MS: u64 = 35 * 24 * 60 * 60 * 1000;

/// Jobs after which one for nothing has no row of its own any more: as many as are in the list of answers, which names their models.
pub const MAX_FREE_ENERGY: u32 = MAX_ANSWERED;

/// Rows that are looked at with each new one: more than one, so that books which hold too many come down to the bound, and few enough that
/// no job waits for it.
const FOLDED_AT_ONCE: u32 = 256;

/// Milliseconds times milliwatts are microjoules: so many of them are a millijoule.
const MW_MS_PER_MJ: u128 = 1000;

/// How the energy of a job is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// The computer's meters counted it.
    Metered {
        /// Its part of what they counted while it was computed, in millijoules.
        drawn_mj: u64,
        /// What they count while nothing is computed, in milliwatts. That much would have been drawn without the job too.
        idle_mw: u64,
    },
    /// There is no meter, and the person said what computing takes.
    Stated {
        /// The person's figure, in milliwatts above what is drawn while nothing is computed.
        power_mw: u64,
    },
}

/// What one job took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobEnergy {
    /// The job.
    pub job: Job,
    /// When it was counted to its end, in milliseconds since 1970.
    pub at_ms: u64,
    /// Its part of the time in milliseconds: of n that were computed at once, each has an n-th.
    pub share_ms: u64,
    /// How its energy is known.
    pub drawn: Drawn,
}

impl JobEnergy {
    /// What it took beyond what would have been drawn without it, in millijoules.
    pub fn taken_mj(&self) -> u64 {
        let over_time = |power_mw: u64| {
            let millijoules = u128::from(power_mw) * u128::from(self.share_ms) / MW_MS_PER_MJ;
            u64::try_from(millijoules).unwrap_or(u64::MAX)
        };
        match self.drawn {
            Drawn::Metered { drawn_mj, idle_mw } => drawn_mj.saturating_sub(over_time(idle_mw)),
            Drawn::Stated { power_mw } => over_time(power_mw),
        }
    }
}

/// Energy of some jobs, and of how many of them it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergySum {
    /// Jobs that meters counted.
    pub metered: u64,
    /// Jobs whose energy follows from the person's figure.
    pub stated: u64,
    /// What all of these took, in millijoules.
    pub taken_mj: u64,
}

impl EnergySum {
    /// Jobs whose energy is known.
    pub fn known(&self) -> u64 {
        self.metered.saturating_add(self.stated)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.metered = self.metered.saturating_add(other.metered);
        self.stated = self.stated.saturating_add(other.stated);
        self.taken_mj = self.taken_mj.saturating_add(other.taken_mj);
    }
}

/// Energy of a stretch of time, of the jobs that were paid and of those that were for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnergyUsed {
    /// Of jobs that a voucher came for.
    pub paid: EnergySum,
    /// Of all others.
    pub free: EnergySum,
}

impl Ledger {
    /// What the jobs took that ended from one time on and before another, in milliseconds since 1970. Those that are kept by the day
    /// count where their day begins.
    pub async fn energy_used(
        &self,
        from_ms: u64,
        until_ms: u64,
    ) -> Result<EnergyUsed, LedgerError> {
        self.call(move |connection| {
            let mut used = EnergyUsed::default();
            for (paid, row) in many(
                connection,
                "SELECT EXISTS (SELECT 1 FROM paid_job p WHERE p.side = 'payee' AND p.job = e.job),
                        e.source = 'metered', count(*), sum(e.taken_mj)
                 FROM energy e WHERE e.at_ms >= ?1 AND e.at_ms < ?2 GROUP BY 1, 2
                 UNION ALL SELECT FALSE, source = 'metered', sum(jobs), sum(taken_mj)
                 FROM energy_day WHERE day_ms >= ?1 AND day_ms < ?2 GROUP BY 1, 2",
                params![to_sql(from_ms), to_sql(until_ms)],
                |row| Ok((row.get::<_, bool>(0)?, sum(row)?)),
            )? {
                match paid {
                    true => used.paid.add(&row),
                    false => used.free.add(&row),
                }
            }
            Ok(used)
        })
        .await
    }

    /// Books what a job took, once: a job that has its row keeps it. A job is for nothing as long as no voucher came for it.
    pub async fn energy_counted(&self, energy: JobEnergy) -> Result<(), LedgerError> {
        let is_being_read = self.statements();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let (source, drawn_mj, power_mw) = match energy.drawn {
                Drawn::Metered { drawn_mj, idle_mw } => {
                    ("metered", Some(to_sql(drawn_mj)), idle_mw)
                }
                Drawn::Stated { power_mw } => ("stated", None, power_mw),
            };
            let taken_mj = to_sql(energy.taken_mj());
            let added = transaction.execute(
                "INSERT INTO energy (job, at_ms, source, share_ms, drawn_mj, power_mw, taken_mj)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (job) DO NOTHING",
                params![
                    energy.job,
                    to_sql(energy.at_ms),
                    source,
                    to_sql(energy.share_ms),
                    drawn_mj,
                    to_sql(power_mw),
                    taken_mj
                ],
            )?;
            if added == 1 {
                transaction.execute(
                    "UPDATE energy_total SET jobs = jobs + 1, taken_mj = taken_mj + ?1",
                    [taken_mj],
                )?;
                if !is_being_read() {
                    fold(&transaction, transaction.last_insert_rowid(), energy.at_ms)?;
                }
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }
}

/// Puts rows of jobs for nothing together by the day, where they are too old beside the newest row or too far before it.
/// The newest itself stays, so that no number is given twice.
fn fold(connection: &Connection, newest: i64, now_ms: u64) -> Result<(), LedgerError> {
    let old_ms = to_sql(now_ms.saturating_sub(FREE_ENERGY_MS));
    let first = newest.saturating_sub(i64::from(MAX_FREE_ENERGY));
    let rows = many(
        connection,
        "SELECT n, at_ms FROM energy WHERE n > (SELECT folded_to FROM energy_total) AND n < ?1 ORDER BY n LIMIT ?2",
        params![newest, FOLDED_AT_ONCE],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
    )?;
    // What a clock that was ahead wrote before these goes with them.
    let goes = |&&(n, at_ms): &&(i64, i64)| at_ms < old_ms || n <= first;
    let Some((to, _)) = rows.iter().rfind(goes) else {
        return Ok(());
    };
    let from: i64 =
        connection.query_row("SELECT folded_to FROM energy_total", [], |row| row.get(0))?;
    connection.execute("UPDATE energy_total SET folded_to = ?1", [to])?;
    connection.execute(
        "INSERT INTO energy_day (day_ms, model, source, jobs, taken_mj)
         SELECT e.at_ms - e.at_ms % ?3, coalesce(a.model, ''), e.source, count(*), sum(e.taken_mj)
         FROM energy e LEFT JOIN answered a ON a.job = e.job
         WHERE e.n > ?1 AND e.n <= ?2 AND NOT EXISTS (SELECT 1 FROM paid_job p WHERE p.side = 'payee' AND p.job = e.job)
         GROUP BY 1, 2, 3
         ON CONFLICT (day_ms, model, source) DO UPDATE
         SET jobs = jobs + excluded.jobs, taken_mj = taken_mj + excluded.taken_mj",
        params![from, to, DAY_MS],
    )?;
    connection.execute(
        "DELETE FROM energy WHERE n > ?1 AND n <= ?2
         AND NOT EXISTS (SELECT 1 FROM paid_job p WHERE p.side = 'payee' AND p.job = energy.job)",
        params![from, to],
    )?;
    Ok(())
}

/// How so many jobs are known, how many, and what they took: the columns after the first.
fn sum(row: &Row<'_>) -> Result<EnergySum, LedgerError> {
    let (metered, jobs): (bool, u64) = (row.get(1)?, from_sql(row.get(2)?));
    Ok(EnergySum {
        metered: if metered { jobs } else { 0 },
        stated: if metered { 0 } else { jobs },
        taken_mj: from_sql(row.get(3)?),
    })
}

/// What a job took; nothing where that is not known.
pub(super) fn of_job(connection: &Connection, job: &Job) -> Result<EnergySum, LedgerError> {
    let row = connection
        .prepare_cached("SELECT source = 'metered', taken_mj FROM energy WHERE job = ?1")?
        .query_row([job], |row| Ok((row.get::<_, bool>(0)?, row.get(1)?)))
        .optional()?;
    Ok(
        row.map_or_else(EnergySum::default, |(metered, taken_mj)| EnergySum {
            metered: u64::from(metered),
            stated: u64::from(!metered),
            taken_mj: from_sql(taken_mj),
        }),
    )
}
