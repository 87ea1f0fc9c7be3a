//! Rows of the journal against the voucher or event that each is tied to.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::super::amount::{Sum, amount};
use super::super::chain::Booked;
use super::super::lines::many;
use super::super::{ChainEvent, Mine};
use super::Findings;
use crate::LedgerError;

/// Checks every row, and says how many there are.
pub(super) fn check(
    connection: &Connection,
    events: &[Booked],
    found: &mut Findings,
) -> Result<u64, LedgerError> {
    vouchers(connection, found)?;
    let mut booked: BTreeMap<(i64, String), Sum> = BTreeMap::new();
    for (event, kind, moved) in many(
        connection,
        "SELECT event, kind, amount FROM journal WHERE event IS NOT NULL",
        params![],
        |row| Ok((row.get(0)?, row.get(1)?, amount(row, 2)?)),
    )? {
        booked.entry((event, kind)).or_default().add(moved);
    }
    for event in events {
        for (kind, counted) in fixed(&event.event, event.mine) {
            let row = (event.n, kind.to_owned());
            let moved = booked.get(&row).copied().unwrap_or_default();
            found.same(&moved, &Sum::from(counted), || {
                format!("the {kind} of event {}", event.n)
            });
        }
    }
    let entries: i64 =
        connection.query_row("SELECT count(*) FROM journal", [], |row| row.get(0))?;
    Ok(crate::handle::from_sql(entries))
}

/// Each voucher has one row, which moves what it is above the one before it, or above what the chain had paid by then.
fn vouchers(connection: &Connection, found: &mut Findings) -> Result<(), LedgerError> {
    let mut statement = connection.prepare(
        "SELECT v.n, v.line, v.cumulative, j.amount, j.n FROM voucher v LEFT JOIN journal j ON j.voucher = v.n
         ORDER BY v.line, v.n, j.n",
    )?;
    let mut rows = statement.query([])?;
    let mut before: Option<(i64, i64, u128)> = None;
    while let Some(row) = rows.next()? {
        let (n, line): (i64, i64) = (row.get(0)?, row.get(1)?);
        let cumulative = amount(row, 2)?;
        let what = || format!("the entry of voucher {n}");
        let Some(_) = row.get::<_, Option<i64>>(4)? else {
            found.name(what(), "missing", cumulative);
            continue;
        };
        let moved = amount(row, 3)?;
        let stood = match before {
            Some((last, of, _)) if of == line && last == n => {
                found.name(what(), "two of them", "one");
                continue;
            }
            Some((_, of, stood)) if of == line => stood,
            Some(_) | None => 0,
        };
        let more = cumulative.saturating_sub(stood);
        // It is less where the chain had paid more than was vouchered: a book that was lost and found its place again.
        if moved > more || (moved < more && !unbooked(connection, line)?) {
            found.name(what(), moved, more);
        }
        before = Some((n, line, cumulative));
    }
    Ok(())
}

/// Whether the chain paid a line for vouchers that this book does not have.
fn unbooked(connection: &Connection, line: i64) -> Result<bool, LedgerError> {
    Ok(connection.query_row(
        "SELECT EXISTS (
             SELECT 1 FROM journal j JOIN account a ON a.id IN (j.debit, j.credit) JOIN line l ON l.id = ?1
             JOIN signer s ON s.id = l.signer
             WHERE j.kind = 'unbooked' AND j.event IS NOT NULL
               AND a.name = (CASE l.side WHEN 'payee' THEN 'receivable' ELSE 'promised' END)
                   || '/0x' || lower(hex(s.payer)) || '/0x' || lower(hex(s.signer)) || '/0x' || lower(hex(l.payee)))",
        [line],
        |row| row.get(0),
    )?)
}

/// What an event moves whatever was there before it: kinds and amounts.
fn fixed(event: &ChainEvent, mine: Mine) -> Vec<(&'static str, u128)> {
    let payer = |kind, amount| (kind, if mine.payer { amount } else { 0 });
    let payee = |kind, amount| (kind, if mine.payee { amount } else { 0 });
    match *event {
        ChainEvent::Deposited { amount, .. } => vec![payer("deposit", amount)],
        ChainEvent::Withdrawn { amount, .. } => vec![payer("withdrawal", amount)],
        ChainEvent::GrantFreed { amount, .. } => vec![payer("grant_freed", amount)],
        ChainEvent::Claimed { paid, .. } => vec![payer("claimed", paid), payee("claim", paid)],
        ChainEvent::GasShared { amount, .. } => {
            vec![payer("gas_given", amount), payee("gas_share", amount)]
        }
        ChainEvent::PaidOut { fee, .. } => vec![payee("fee", fee)],
        ChainEvent::Kept { amount, .. } => vec![payer("kept", amount)],
        ChainEvent::OverdraftPaid { amount, .. } => {
            vec![payer("shared_out", amount), payee("share", amount)]
        }
        ChainEvent::SignerSet { .. }
        | ChainEvent::SignerEnded { .. }
        | ChainEvent::BondFreed { .. }
        | ChainEvent::Reserved { .. }
        | ChainEvent::Released { .. }
        | ChainEvent::OverdraftShown { .. }
        | ChainEvent::OverdraftMended { .. }
        | ChainEvent::OverdraftDecided { .. } => vec![],
    }
}
