//! Energy: what each job took against the figures that it follows from, and all of them, by job or by the day, against the total.

use rusqlite::{Connection, params};

use super::super::amount::hex;
use super::super::lines::many;
use super::Findings;
use crate::LedgerError;
use crate::handle::blob32;

pub(super) fn check(connection: &Connection, found: &mut Findings) -> Result<(), LedgerError> {
    // Counted by SQLite, and not by the code that wrote it.
    for (job, booked, counted) in many(
        connection,
        "SELECT job, taken_mj, CAST(CASE source WHEN 'metered' THEN max(0, drawn_mj - power_mw * share_ms / 1000)
                                                ELSE power_mw * share_ms / 1000 END AS INTEGER)
         FROM energy ORDER BY n",
        params![],
        |row| Ok((blob32(row, 0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)),
    )? {
        found.same(&booked, &counted, || format!("energy of the job {}", hex(&job)));
    }
    let (jobs, taken, counted_jobs, counted): (i64, i64, i64, i64) = connection.query_row(
        "SELECT coalesce(max(jobs), 0), coalesce(max(taken_mj), 0),
                (SELECT count(*) FROM energy) + (SELECT coalesce(sum(jobs), 0) FROM energy_day),
                (SELECT coalesce(sum(taken_mj), 0) FROM energy) + (SELECT coalesce(sum(taken_mj), 0) FROM energy_day)
         FROM energy_total",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    found.same(&jobs, &counted_jobs, || {
        "jobs whose energy is known".to_owned()
    });
    found.same(&taken, &counted, || "energy of all jobs".to_owned());
    Ok(())
}
