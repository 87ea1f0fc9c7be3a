//! What final blocks say, each event once, and the block up to which they were read.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::amount::{decimal, hexadecimal};
use super::lines::{Line, Side, Signer};
use super::{Address, LineKey, MoneyError, posting};
use crate::handle::{blob, from_sql, to_sql};
use crate::{Ledger, LedgerError};

/// Which of the accounts that an event names are of this computer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mine {
    /// The payer is.
    pub payer: bool,
    /// The payee is.
    pub payee: bool,
}

/// An event of the vault. Amounts are base units, times seconds of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[rustfmt::skip]
#[allow(missing_docs)] // The fields are those of the vault's events, under the same names.
pub enum ChainEvent {
    /// Tokens came into a payer's balance.
    Deposited { #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "decimal")] amount: u128 },
    /// Tokens left it.
    Withdrawn { #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "decimal")] amount: u128 },
    /// A signer was registered or raised: what it has in all.
    SignerSet {
        #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "hexadecimal")] signer: Address,
        #[serde(with = "decimal")] granted: u128, until_s: u64,
        #[serde(with = "decimal")] bond: u128, #[serde(with = "decimal")] gas_pot: u128,
    },
    /// A signer was ended.
    SignerEnded { #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "hexadecimal")] signer: Address, until_s: u64 },
    /// What an ended signer had left went back to its payer.
    GrantFreed {
        #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "hexadecimal")] signer: Address,
        #[serde(with = "decimal")] amount: u128,
    },
    /// So did its bond and gas pot.
    BondFreed {
        #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "hexadecimal")] signer: Address,
        #[serde(with = "decimal")] amount: u128,
    },
    /// A level of a line is held.
    Reserved {
        #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "hexadecimal")] signer: Address,
        #[serde(with = "hexadecimal")] payee: Address,
        #[serde(with = "decimal")] upto: u128, until_s: u64, nonce: u64,
    },
    /// Reservations of a line up to a number were given up.
    Released {
        #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "hexadecimal")] signer: Address,
        #[serde(with = "hexadecimal")] payee: Address, nonce: u64,
    },
    /// A line was paid up to a level.
    Claimed {
        #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "hexadecimal")] signer: Address,
        #[serde(with = "hexadecimal")] payee: Address,
        #[serde(with = "decimal")] claimed: u128, #[serde(with = "decimal")] paid: u128,
        #[serde(with = "hexadecimal")] work: [u8; 32],
    },
    /// An ended signer's pot paid for a claim's gas.
    GasShared {
        #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "hexadecimal")] signer: Address,
        #[serde(with = "hexadecimal")] payee: Address, #[serde(with = "decimal")] amount: u128,
    },
    /// A claim's transfer, and what the vault's fee took.
    PaidOut {
        #[serde(with = "hexadecimal")] payee: Address, #[serde(with = "hexadecimal")] payout: Address,
        #[serde(with = "decimal")] amount: u128, #[serde(with = "decimal")] fee: u128,
    },
    /// What it transferred stayed in the vault, in the payer's balance: the payee is paid out to that payer itself.
    Kept {
        #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "hexadecimal")] signer: Address,
        #[serde(with = "hexadecimal")] payee: Address, #[serde(with = "decimal")] amount: u128,
    },
    /// A signer promised more than it was granted.
    OverdraftShown { #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "hexadecimal")] signer: Address, mend_by_s: u64 },
    /// Its payer raised the grant in time.
    OverdraftMended { #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "hexadecimal")] signer: Address },
    /// It did not: the rest of the grant is shared, the bond gone.
    OverdraftDecided { #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "hexadecimal")] signer: Address },
    /// A line's share of it.
    OverdraftPaid {
        #[serde(with = "hexadecimal")] payer: Address, #[serde(with = "hexadecimal")] signer: Address,
        #[serde(with = "hexadecimal")] payee: Address, #[serde(with = "decimal")] amount: u128,
    },
}

/// An event at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRow {
    /// The transaction's hash.
    pub tx: [u8; 32],
    /// The event's place in the block.
    pub log_index: u64,
    /// Who of it is ours. Those whom the books know are it in any case.
    pub mine: Mine,
    /// What it says.
    pub event: ChainEvent,
}

/// A final block, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainBlock {
    /// Its number.
    pub block: u64,
    /// Its hash.
    pub hash: [u8; 32],
    /// Its time, in seconds.
    pub at_s: u64,
    /// The vault's events in it, in order. Those that concern nobody whom these books know are passed over.
    pub rows: Vec<ChainRow>,
}

/// The last final block that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number.
    pub block: u64,
    /// Its hash.
    pub hash: [u8; 32],
    /// Its time, in seconds.
    pub at_s: u64,
}

impl Ledger {
    /// Says whose books these are, before anything else of money is asked: the first vault that is named, for good.
    ///
    /// # Errors
    /// [`MoneyError::OtherVault`] for any other one.
    pub async fn bind_vault(&self, chain_id: u64, contract: Address) -> Result<(), LedgerError> {
        self.call(move |connection| {
            connection.execute(
                "INSERT INTO vault (one, chain_id, contract) VALUES (1, ?1, ?2) ON CONFLICT (one) DO NOTHING",
                params![to_sql(chain_id), contract],
            )?;
            let (chain, vault) =
                connection.query_row("SELECT chain_id, contract FROM vault", [], |row| {
                    Ok((from_sql(row.get(0)?), row.get::<_, Vec<u8>>(1)?))
                })?;
            if (chain, vault.as_slice()) == (chain_id, contract.as_slice()) {
                Ok(())
            } else {
                Err(MoneyError::OtherVault { chain_id: chain }.into())
            }
        })
        .await
    }

    /// Books a final block: all of its events and the block itself, or nothing. One that was booked before changes nothing.
    ///
    /// # Errors
    /// [`MoneyError::FinalityBroken`] when it says something else than a final block said before.
    pub async fn chain_block(&self, block: ChainBlock) -> Result<(), LedgerError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            for row in &block.rows {
                write_event(&transaction, &block, row)?;
            }
            move_head(&transaction, &block)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// The last final block that was booked: events are read on from the next one.
    pub async fn final_block(&self) -> Result<Option<Head>, LedgerError> {
        self.call(|connection| head(connection)).await
    }
}

fn write_event(
    connection: &Connection,
    block: &ChainBlock,
    row: &ChainRow,
) -> Result<(), LedgerError> {
    let body = serde_json::to_string(&row.event).map_err(|error| LedgerError::Unreadable {
        what: "an event of the chain",
        value: error.to_string(),
    })?;
    let known: Option<(i64, String)> = connection
        .prepare_cached("SELECT block, body FROM chain_event WHERE tx = ?1 AND log_index = ?2")?
        .query_row(params![row.tx, to_sql(row.log_index)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    if let Some((at, said)) = known {
        if from_sql(at) == block.block && said == body {
            return Ok(());
        }
        return Err(MoneyError::FinalityBroken { block: block.block }.into());
    }
    let Some(mine) = ours(connection, row)? else {
        return Ok(());
    };
    connection
        .prepare_cached(
            "INSERT INTO chain_event (block, at_s, tx, log_index, mine_payer, mine_payee, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            to_sql(block.block),
            to_sql(block.at_s),
            row.tx,
            to_sql(row.log_index),
            mine.payer,
            mine.payee,
            body
        ])?;
    posting::book(
        connection,
        connection.last_insert_rowid(),
        block.at_s,
        mine,
        &row.event,
    )
}

/// Who of an event is ours: whom the caller names, and whom these books know, whatever is switched on just now: an event is booked once and
/// never again. `None` where it is nobody's.
fn ours(connection: &Connection, row: &ChainRow) -> Result<Option<Mine>, LedgerError> {
    let parties = parties(&row.event);
    let signer = match parties {
        Parties::Signer(payer, signer) => Signer::find(connection, &payer, &signer)?,
        Parties::Line(key) => Signer::find(connection, &key.payer, &key.signer)?,
        Parties::Payer(_) | Parties::Payee(_) | Parties::Both(..) => None,
    };
    let known = |sql: &str, address: Address| -> Result<bool, LedgerError> {
        Ok(connection
            .prepare_cached(sql)?
            .query_row([address], |row| row.get(0))?)
    };
    let mut mine = row.mine;
    mine.payer |= signer.as_ref().is_some_and(|signer| signer.own);
    let known_payer = |payer| {
        known(
            "SELECT EXISTS (SELECT 1 FROM signer WHERE payer = ?1 AND own)",
            payer,
        )
    };
    let known_payee = |payee| {
        known(
            "SELECT EXISTS (SELECT 1 FROM line WHERE payee = ?1 AND side = 'payee')",
            payee,
        )
    };
    match parties {
        Parties::Payer(payer) => mine.payer |= known_payer(payer)?,
        Parties::Payee(payee) => mine.payee |= known_payee(payee)?,
        Parties::Both(payer, payee) => {
            mine.payer |= known_payer(payer)?;
            mine.payee |= known_payee(payee)?;
        }
        Parties::Line(key) => {
            mine.payee |= Line::find(connection, Side::Payee, &key)?.is_some();
        }
        Parties::Signer(..) => {}
    }
    let of_a_signer = signer.is_some() && matches!(parties, Parties::Signer(..));
    Ok((mine.payer || mine.payee || of_a_signer).then_some(mine))
}

/// Whose money an event moves.
#[derive(Clone, Copy)]
enum Parties {
    Payer(Address),
    Payee(Address),
    /// A payer and the payee that is paid out to it.
    Both(Address, Address),
    Signer(Address, Address),
    Line(LineKey),
}

fn parties(event: &ChainEvent) -> Parties {
    match *event {
        ChainEvent::Deposited { payer, .. } | ChainEvent::Withdrawn { payer, .. } => {
            Parties::Payer(payer)
        }
        ChainEvent::PaidOut { payee, .. } => Parties::Payee(payee),
        ChainEvent::Kept { payer, payee, .. } => Parties::Both(payer, payee),
        ChainEvent::SignerSet { payer, signer, .. }
        | ChainEvent::SignerEnded { payer, signer, .. }
        | ChainEvent::GrantFreed { payer, signer, .. }
        | ChainEvent::BondFreed { payer, signer, .. }
        | ChainEvent::OverdraftShown { payer, signer, .. }
        | ChainEvent::OverdraftMended { payer, signer, .. }
        | ChainEvent::OverdraftDecided { payer, signer, .. } => Parties::Signer(payer, signer),
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
        | ChainEvent::GasShared {
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
        } => Parties::Line(LineKey {
            payer,
            signer,
            payee,
        }),
    }
}

fn move_head(connection: &Connection, block: &ChainBlock) -> Result<(), LedgerError> {
    match head(connection)? {
        Some(head) if head.block == block.block && head.hash != block.hash => {
            return Err(MoneyError::FinalityBroken { block: block.block }.into());
        }
        // Read again from an earlier block: nothing moves back.
        Some(head) if head.block >= block.block => return Ok(()),
        Some(_) | None => {}
    }
    connection.execute(
        "INSERT INTO chain_head (one, block, hash, at_s) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT (one) DO UPDATE SET block = ?1, hash = ?2, at_s = max(at_s, ?3)",
        params![to_sql(block.block), block.hash, to_sql(block.at_s)],
    )?;
    Ok(())
}

fn head(connection: &Connection) -> Result<Option<Head>, LedgerError> {
    super::lines::one(
        connection,
        "SELECT block, hash, at_s FROM chain_head",
        params![],
        |row| {
            Ok(Head {
                block: from_sql(row.get(0)?),
                hash: blob(row, 1)?,
                at_s: from_sql(row.get(2)?),
            })
        },
    )
}

/// An event as it lies on disk, with its row's number.
#[derive(Debug)]
pub(super) struct Booked {
    pub(super) n: i64,
    pub(super) mine: Mine,
    pub(super) event: ChainEvent,
}

/// Every event in the order in which it was booked.
pub(super) fn booked(connection: &Connection) -> Result<Vec<Booked>, LedgerError> {
    super::lines::many(
        connection,
        "SELECT n, mine_payer, mine_payee, body FROM chain_event ORDER BY n",
        params![],
        |row| {
            let body: String = row.get(3)?;
            Ok(Booked {
                n: row.get(0)?,
                mine: Mine {
                    payer: row.get(1)?,
                    payee: row.get(2)?,
                },
                event: serde_json::from_str(&body).map_err(|_| LedgerError::Unreadable {
                    what: "an event of the chain",
                    value: body,
                })?,
            })
        },
    )
}
