//! Lines and signers: their levels, counted from vouchers, reservations and events.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};

use super::super::amount::{Sum, amount, hex};
use super::super::chain::Booked;
use super::super::lines::{Line, Side, Signer, many};
use super::super::payer::promised_by;
use super::super::{Address, ChainEvent, LineKey};
use super::{Findings, line_name};
use crate::LedgerError;
use crate::handle::from_sql;

/// What the chain said of a line.
#[derive(Clone, Copy, Debug, Default)]
struct Chain {
    level: u128,
    claims: Sum,
    shared: Sum,
    /// The highest total that was paid at any moment.
    covered: u128,
    nonce: u64,
    released: u64,
    reserved: (u128, u64),
}

/// Checks all lines and signers, and says how many vouchers it counted.
pub(super) fn check(
    connection: &Connection,
    events: &[Booked],
    found: &mut Findings,
) -> Result<u64, LedgerError> {
    let vouchers = vouchers(connection, found)?;
    let holds = holds(connection)?;
    let chain = by_line(events);
    let freed = freed(events);
    for line in Line::all(connection)? {
        let of = |what: &str| format!("{what} of {}", line_name(&line.key));
        let said = chain
            .get(&(line.side == Side::Payer, line.key))
            .copied()
            .unwrap_or_default();
        let top = vouchers.highest.get(&line.id).copied().unwrap_or(0);
        found.same(&line.cumulative, &top.max(said.covered), || of("total"));
        found.same(&line.claimed, &said.level, || of("claimed level"));
        found.same(&Sum::from(line.shared), &said.shared, || {
            of("overdraft's share")
        });
        found.same(&said.claims, &Sum::from(said.level), || {
            of("claims, one by one and as a level,")
        });
        found.same(&line.reserved_upto, &said.reserved.0, || {
            of("reserved level")
        });
        found.same(&line.reserved_until_s, &said.reserved.1, || {
            of("reservation's end")
        });
        let held = holds.get(&line.id).copied().unwrap_or(0);
        found.same(&line.nonce, &held.max(said.nonce), || {
            of("last reservation")
        });
        // The chain has none of ours that is not booked, or the signer was lost.
        if line.side == Side::Payer && held < said.nonce && answers(connection, &line.key)? {
            found.name(of("last reservation"), held, said.nonce);
        }
        found.same(&line.released, &said.released, || of("last release"));
        if line.written_off > 0 && !freed.contains(&(line.key.payer, line.key.signer)) {
            found.name(of("written-off part"), line.written_off, 0);
        }
    }
    signers(connection, events, found)?;
    Ok(vouchers.count)
}

/// Whether the book of a line's signer is here, and the newest.
fn answers(connection: &Connection, key: &LineKey) -> Result<bool, LedgerError> {
    let signer = Signer::find(connection, &key.payer, &key.signer)?;
    Ok(signer.is_some_and(|signer| signer.own && signer.lost.is_none()))
}

struct Vouchers {
    count: u64,
    highest: BTreeMap<i64, u128>,
}

fn vouchers(connection: &Connection, found: &mut Findings) -> Result<Vouchers, LedgerError> {
    let mut statement =
        connection.prepare("SELECT n, line, cumulative FROM voucher ORDER BY line, n")?;
    let mut rows = statement.query([])?;
    let mut vouchers = Vouchers {
        count: 0,
        highest: BTreeMap::new(),
    };
    while let Some(row) = rows.next()? {
        let (n, line): (i64, i64) = (row.get(0)?, row.get(1)?);
        let cumulative = amount(row, 2)?;
        let before = vouchers.highest.insert(line, cumulative);
        if let Some(before) = before.filter(|before| *before >= cumulative) {
            found.name(
                format!("voucher {n}, which must be above the one before,"),
                cumulative,
                before,
            );
            vouchers.highest.insert(line, before);
        }
        vouchers.count += 1;
    }
    Ok(vouchers)
}

fn holds(connection: &Connection) -> Result<BTreeMap<i64, u64>, LedgerError> {
    Ok(many(
        connection,
        "SELECT line, max(nonce) FROM hold GROUP BY line",
        params![],
        |row| Ok((row.get(0)?, from_sql(row.get(1)?))),
    )?
    .into_iter()
    .collect())
}

fn by_line(events: &[Booked]) -> BTreeMap<(bool, LineKey), Chain> {
    let mut lines = BTreeMap::new();
    for booked in events {
        let Some(key) = line_of(&booked.event) else {
            continue;
        };
        for payer in [true, false] {
            let ours = if payer {
                booked.mine.payer
            } else {
                booked.mine.payee
            };
            if ours {
                take(lines.entry((payer, key)).or_default(), &booked.event);
            }
        }
    }
    lines
}

fn line_of(event: &ChainEvent) -> Option<LineKey> {
    match *event {
        ChainEvent::Reserved {
            payer,
            signer,
            payee,
            ..
        }
        | ChainEvent::Released {
            payer,
            signer,
            payee,
            ..
        }
        | ChainEvent::Claimed {
            payer,
            signer,
            payee,
            ..
        }
        | ChainEvent::OverdraftPaid {
            payer,
            signer,
            payee,
            ..
        } => Some(LineKey {
            payer,
            signer,
            payee,
        }),
        ChainEvent::Deposited { .. }
        | ChainEvent::Withdrawn { .. }
        | ChainEvent::SignerSet { .. }
        | ChainEvent::SignerEnded { .. }
        | ChainEvent::GrantFreed { .. }
        | ChainEvent::BondFreed { .. }
        | ChainEvent::GasShared { .. }
        | ChainEvent::PaidOut { .. }
        | ChainEvent::Kept { .. }
        | ChainEvent::OverdraftShown { .. }
        | ChainEvent::OverdraftMended { .. }
        | ChainEvent::OverdraftDecided { .. } => None,
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // line_of chose them.
fn take(line: &mut Chain, event: &ChainEvent) {
    match *event {
        ChainEvent::Reserved {
            upto,
            until_s,
            nonce,
            ..
        } => {
            line.reserved = (upto, until_s);
            line.nonce = line.nonce.max(nonce);
        }
        ChainEvent::Released { nonce, .. } => {
            line.reserved = (0, 0);
            line.released = line.released.max(nonce);
        }
        ChainEvent::Claimed { claimed, paid, .. } => {
            line.level = line.level.max(claimed);
            line.claims.add(paid);
            line.covered = line.covered.max(claimed);
        }
        ChainEvent::OverdraftPaid { amount, .. } => {
            line.shared.add(amount);
            let level = line.shared.plus(line.level).clamped();
            line.covered = line.covered.max(level);
        }
        _ => {}
    }
}

fn freed(events: &[Booked]) -> BTreeSet<(Address, Address)> {
    let mut freed = BTreeSet::new();
    for booked in events {
        if let ChainEvent::GrantFreed { payer, signer, .. } = booked.event {
            freed.insert((payer, signer));
        }
    }
    freed
}

fn signers(
    connection: &Connection,
    events: &[Booked],
    found: &mut Findings,
) -> Result<(), LedgerError> {
    let mut granted: BTreeMap<(Address, Address), u128> = BTreeMap::new();
    for booked in events {
        if let ChainEvent::SignerSet {
            payer,
            signer,
            granted: total,
            ..
        } = booked.event
        {
            let most = granted.entry((payer, signer)).or_default();
            *most = total.max(*most);
        }
    }
    for signer in Signer::all(connection)? {
        let said = granted
            .get(&(signer.payer, signer.signer))
            .copied()
            .unwrap_or(0);
        if signer.granted < said {
            let what = format!("grant of the signer {}", hex(&signer.signer));
            found.name(what, signer.granted, said);
        }
        // A book that is not the newest cannot answer for what was signed elsewhere.
        if signer.own && signer.lost.is_none() {
            let (promised, _) = promised_by(connection, &signer, 0)?;
            if promised > Sum::from(signer.granted) {
                let what = format!(
                    "grant of the signer {}, below its promises,",
                    hex(&signer.signer)
                );
                found.name(what, signer.granted, promised);
            }
        }
    }
    Ok(())
}
