//! What was measured of peers that were asked: numbers per peer and model, which their reader fades.

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use crate::LedgerError;
use crate::handle::{blob32, from_sql, to_sql};

/// Peers and models that are kept. Beyond it the one that changed longest ago is forgotten: a list of everybody that
/// was ever asked helps nobody but a thief.
pub const MAX_MEASURED: u32 = 4096;

/// The numbers of one peer with one model. What they mean is their reader's business; here they are sums and weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// A PeerId in its text form.
    pub peer: String,
    /// SHA-256 of the model's file.
    pub model: [u8; 32],
    /// When it last changed, in milliseconds since 1970.
    pub at_ms: u64,
    /// Round trips in milliseconds: weighted sum, weight.
    pub rtt: (f64, f64),
    /// How late first tokens came, in milliseconds: weighted sum, weight.
    pub late: (f64, f64),
    /// Tokens per second: weighted sum, weight.
    pub tps: (f64, f64),
    /// Jobs that went well.
    pub successes: f64,
    /// Jobs that failed.
    pub failures: f64,
    /// Jobs in which the peer stood still.
    pub stalls: f64,
    /// Answers that were checked.
    pub checked: f64,
    /// Answers that were lies.
    pub lies: f64,
}

const COLUMNS: &str = "peer, model, at_ms, rtt_sum, rtt_weight, late_sum, late_weight, tps_sum, tps_weight, \
                       successes, failures, stalls, checked, lies";

/// Puts these numbers in place of what was kept of the same peer and model.
pub(crate) fn store(connection: &mut Connection, measured: &Measured) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute(
        &format!(
            "INSERT OR REPLACE INTO measured ({COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
        ),
        params![
            measured.peer,
            measured.model,
            to_sql(measured.at_ms),
            measured.rtt.0,
            measured.rtt.1,
            measured.late.0,
            measured.late.1,
            measured.tps.0,
            measured.tps.1,
            measured.successes,
            measured.failures,
            measured.stalls,
            measured.checked,
            measured.lies,
        ],
    )?;
    transaction.execute(
        "DELETE FROM measured WHERE (peer, model) IN
             (SELECT peer, model FROM measured ORDER BY at_ms DESC, peer, model LIMIT -1 OFFSET ?1)",
        [MAX_MEASURED],
    )?;
    transaction.commit()
}

/// Everything that is kept, the newest first.
pub(crate) fn list(connection: &Connection) -> Result<Vec<Measured>, LedgerError> {
    let mut statement = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM measured ORDER BY at_ms DESC"
        ))
        .map_err(LedgerError::Sqlite)?;
    let mut rows = statement.query([]).map_err(LedgerError::Sqlite)?;
    let mut list = Vec::new();
    while let Some(row) = rows.next().map_err(LedgerError::Sqlite)? {
        list.push(read(row)?);
    }
    Ok(list)
}

/// Forgets all of it.
pub(crate) fn forget(connection: &Connection) -> rusqlite::Result<usize> {
    connection.execute("DELETE FROM measured", [])
}

fn read(row: &Row<'_>) -> Result<Measured, LedgerError> {
    let number = |index: usize| row.get::<_, f64>(index).map_err(LedgerError::Sqlite);
    Ok(Measured {
        peer: row.get(0).map_err(LedgerError::Sqlite)?,
        model: blob32(row, 1)?,
        at_ms: from_sql(row.get(2).map_err(LedgerError::Sqlite)?),
        rtt: (number(3)?, number(4)?),
        late: (number(5)?, number(6)?),
        tps: (number(7)?, number(8)?),
        successes: number(9)?,
        failures: number(10)?,
        stalls: number(11)?,
        checked: number(12)?,
        lies: number(13)?,
    })
}
