//! Signers, lines and jobs as rows: found, begun, moved forward.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::amount::{Amount, amount};
use super::{Address, LineKey, PaidJob};
use crate::LedgerError;
use crate::handle::{blob, from_sql, to_sql};

/// Which end of a line this computer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Payer,
    Payee,
}

impl Side {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Payer => "payer",
            Self::Payee => "payee",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, LedgerError> {
        match text {
            "payer" => Ok(Self::Payer),
            "payee" => Ok(Self::Payee),
            other => Err(LedgerError::Unreadable {
                what: "the side of a line",
                value: other.to_owned(),
            }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signer {
    pub(super) id: i64,
    pub(super) payer: Address,
    pub(super) signer: Address,
    pub(super) own: bool,
    pub(super) granted: u128,
    pub(super) until_s: u64,
    pub(super) contested: bool,
    pub(super) freed: bool,
    pub(super) lost: Option<String>,
}

const SIGNER: &str = "id, payer, signer, own, granted, until_s, contested, freed, lost";

impl Signer {
    fn read(row: &Row<'_>) -> Result<Self, LedgerError> {
        Ok(Self {
            id: row.get(0)?,
            payer: blob(row, 1)?,
            signer: blob(row, 2)?,
            own: row.get(3)?,
            granted: amount(row, 4)?,
            until_s: from_sql(row.get(5)?),
            contested: row.get(6)?,
            freed: row.get(7)?,
            lost: row.get(8)?,
        })
    }

    pub(super) fn find(
        connection: &Connection,
        payer: &Address,
        signer: &Address,
    ) -> Result<Option<Self>, LedgerError> {
        let sql = format!("SELECT {SIGNER} FROM signer WHERE payer = ?1 AND signer = ?2");
        one(connection, &sql, params![payer, signer], Self::read)
    }

    pub(super) fn by_id(connection: &Connection, id: i64) -> Result<Self, LedgerError> {
        let sql = format!("SELECT {SIGNER} FROM signer WHERE id = ?1");
        one(connection, &sql, params![id], Self::read)?
            .ok_or(LedgerError::Sqlite(rusqlite::Error::QueryReturnedNoRows))
    }

    pub(super) fn all(connection: &Connection) -> Result<Vec<Self>, LedgerError> {
        let sql = format!("SELECT {SIGNER} FROM signer ORDER BY id");
        many(connection, &sql, params![], Self::read)
    }

    /// The row, made where there is none. `own` says that its book begins here.
    pub(super) fn begin(
        connection: &Connection,
        payer: &Address,
        signer: &Address,
        own: bool,
    ) -> Result<Self, LedgerError> {
        if let Some(known) = Self::find(connection, payer, signer)? {
            return Ok(known);
        }
        connection.execute(
            "INSERT INTO signer (payer, signer, own, granted, until_s) VALUES (?1, ?2, ?3, ?4, 0)",
            params![payer, signer, own, Amount(0)],
        )?;
        Self::by_id(connection, connection.last_insert_rowid())
    }

    /// The row with what final blocks say of it, to be saved. A grant only grows; its end is the chain's.
    pub(super) fn seen(
        connection: &Connection,
        payer: &Address,
        signer: &Address,
        granted: u128,
        until_s: u64,
    ) -> Result<Self, LedgerError> {
        let mut row = Self::begin(connection, payer, signer, false)?;
        row.granted = row.granted.max(granted);
        row.until_s = until_s;
        Ok(row)
    }

    pub(super) fn save(&self, connection: &Connection) -> Result<(), LedgerError> {
        connection
            .prepare_cached(
                "UPDATE signer SET granted = ?2, until_s = ?3, contested = ?4, freed = ?5, lost = ?6 WHERE id = ?1",
            )?
            .execute(params![
                self.id,
                Amount(self.granted),
                to_sql(self.until_s),
                self.contested,
                self.freed,
                self.lost
            ])?;
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) id: i64,
    pub(super) side: Side,
    pub(super) key: LineKey,
    pub(super) cumulative: u128,
    pub(super) claimed: u128,
    pub(super) shared: u128,
    pub(super) written_off: u128,
    pub(super) reserved_upto: u128,
    pub(super) reserved_until_s: u64,
    pub(super) nonce: u64,
    pub(super) released: u64,
}

const LINE: &str = "SELECT l.id, l.side, s.payer, s.signer, l.payee, l.cumulative, l.claimed, l.shared, l.written_off, \
                    l.reserved_upto, l.reserved_until_s, l.nonce, l.released \
                    FROM line l JOIN signer s ON s.id = l.signer";

impl Line {
    fn read(row: &Row<'_>) -> Result<Self, LedgerError> {
        Ok(Self {
            id: row.get(0)?,
            side: Side::parse(&row.get::<_, String>(1)?)?,
            key: LineKey {
                payer: blob(row, 2)?,
                signer: blob(row, 3)?,
                payee: blob(row, 4)?,
            },
            cumulative: amount(row, 5)?,
            claimed: amount(row, 6)?,
            shared: amount(row, 7)?,
            written_off: amount(row, 8)?,
            reserved_upto: amount(row, 9)?,
            reserved_until_s: from_sql(row.get(10)?),
            nonce: from_sql(row.get(11)?),
            released: from_sql(row.get(12)?),
        })
    }

    pub(super) fn find(
        connection: &Connection,
        side: Side,
        key: &LineKey,
    ) -> Result<Option<Self>, LedgerError> {
        let sql =
            format!("{LINE} WHERE l.side = ?1 AND s.payer = ?2 AND s.signer = ?3 AND l.payee = ?4");
        one(
            connection,
            &sql,
            params![side.as_str(), key.payer, key.signer, key.payee],
            Self::read,
        )
    }

    pub(super) fn begin(
        connection: &Connection,
        side: Side,
        key: &LineKey,
        signer: &Signer,
    ) -> Result<Self, LedgerError> {
        if let Some(known) = Self::find(connection, side, key)? {
            return Ok(known);
        }
        connection.execute(
            "INSERT INTO line (side, signer, payee, cumulative, claimed, shared, written_off, reserved_upto)
             VALUES (?1, ?2, ?3, ?4, ?4, ?4, ?4, ?4)",
            params![side.as_str(), signer.id, key.payee, Amount(0)],
        )?;
        Ok(Self {
            id: connection.last_insert_rowid(),
            side,
            key: *key,
            cumulative: 0,
            claimed: 0,
            shared: 0,
            written_off: 0,
            reserved_upto: 0,
            reserved_until_s: 0,
            nonce: 0,
            released: 0,
        })
    }

    pub(super) fn save(&self, connection: &Connection) -> Result<(), LedgerError> {
        connection
            .prepare_cached(
                "UPDATE line SET cumulative = ?2, claimed = ?3, shared = ?4, written_off = ?5, reserved_upto = ?6,
                        reserved_until_s = ?7, nonce = ?8, released = ?9 WHERE id = ?1",
            )?
            .execute(params![
                self.id,
                Amount(self.cumulative),
                Amount(self.claimed),
                Amount(self.shared),
                Amount(self.written_off),
                Amount(self.reserved_upto),
                to_sql(self.reserved_until_s),
                to_sql(self.nonce),
                to_sql(self.released),
            ])?;
        Ok(())
    }

    pub(super) fn of_signer(
        connection: &Connection,
        side: Side,
        signer: i64,
    ) -> Result<Vec<Self>, LedgerError> {
        let sql = format!("{LINE} WHERE l.side = ?1 AND l.signer = ?2 ORDER BY l.payee");
        many(connection, &sql, params![side.as_str(), signer], Self::read)
    }

    pub(super) fn of_payer(
        connection: &Connection,
        payee: &Address,
        payer: &Address,
    ) -> Result<Vec<Self>, LedgerError> {
        let sql = format!(
            "{LINE} WHERE l.side = 'payee' AND l.payee = ?1 AND s.payer = ?2 ORDER BY l.id"
        );
        many(connection, &sql, params![payee, payer], Self::read)
    }

    pub(super) fn of_payee(
        connection: &Connection,
        payee: &Address,
    ) -> Result<Vec<Self>, LedgerError> {
        let sql = format!("{LINE} WHERE l.side = 'payee' AND l.payee = ?1 ORDER BY l.id");
        many(connection, &sql, params![payee], Self::read)
    }

    pub(super) fn all(connection: &Connection) -> Result<Vec<Self>, LedgerError> {
        many(
            connection,
            &format!("{LINE} ORDER BY l.id"),
            params![],
            Self::read,
        )
    }

    /// What final blocks paid of it, by claims and by shares.
    pub(super) fn paid(&self) -> u128 {
        self.claimed
            .saturating_add(self.shared)
            .min(self.cumulative)
    }

    /// What is vouchered and neither paid nor given up.
    pub(super) fn open(&self) -> u128 {
        self.cumulative
            .saturating_sub(self.claimed)
            .saturating_sub(self.shared)
            .saturating_sub(self.written_off)
    }

    /// What a reservation in final blocks holds of it, beyond what was claimed.
    pub(super) fn reserved(&self, chain_s: u64) -> u128 {
        if self.reserved_until_s > chain_s {
            self.reserved_upto.saturating_sub(self.claimed)
        } else {
            0
        }
    }
}

/// The row of a job, made where there is none.
pub(super) fn job_row(
    connection: &Connection,
    side: Side,
    job: &PaidJob,
    at_ms: u64,
) -> Result<i64, LedgerError> {
    let known: Option<i64> = connection
        .prepare_cached("SELECT id FROM paid_job WHERE side = ?1 AND job = ?2")?
        .query_row(params![side.as_str(), job.job], |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    connection.execute(
        "INSERT INTO paid_job (side, job, at_ms, peer, model, model_digest, chat) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            side.as_str(),
            job.job,
            to_sql(at_ms),
            job.peer,
            job.model,
            job.model_digest,
            job.chat
        ],
    )?;
    Ok(connection.last_insert_rowid())
}

/// The chain's time in the last final block that was read; zero before the first.
pub(super) fn chain_time(connection: &Connection) -> Result<u64, LedgerError> {
    Ok(connection
        .prepare_cached("SELECT at_s FROM chain_head")?
        .query_row([], |row| row.get(0))
        .optional()?
        .map_or(0, from_sql))
}

pub(super) fn one<T>(
    connection: &Connection,
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
    read: impl Fn(&Row<'_>) -> Result<T, LedgerError>,
) -> Result<Option<T>, LedgerError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(read).transpose()
}

pub(super) fn many<T>(
    connection: &Connection,
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
    read: impl Fn(&Row<'_>) -> Result<T, LedgerError>,
) -> Result<Vec<T>, LedgerError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut list = Vec::new();
    while let Some(row) = rows.next()? {
        list.push(read(row)?);
    }
    Ok(list)
}
