//! The payer's side: what a signer that lives here promised, on disk before it is signed.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::amount::{Amount, Sum, amount, hex};
use super::journal::{Account, Source, post};
use super::lines::{Line, Side, Signer, chain_time, job_row, many};
use super::{Address, JobTokens, LineKey, MoneyError, PaidJob};
use crate::handle::{from_sql, to_sql};
use crate::{Ledger, LedgerError};

/// A line's new total that is about to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Which line.
    pub line: LineKey,
    /// Its new total, in base units.
    pub cumulative: u128,
    /// What it pays for: a checkpoint's digest or the job's id.
    pub work: [u8; 32],
    /// The job.
    pub job: PaidJob,
    /// Its tokens so far.
    pub tokens: JobTokens,
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

/// A reservation that is about to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Which line.
    pub line: LineKey,
    /// Up to which total, in base units.
    pub upto: u128,
    /// Until when, in seconds of the chain.
    pub until_s: u64,
    /// Its number on the line.
    pub nonce: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

/// A voucher of a signer of ours that somebody else shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which line.
    pub line: LineKey,
    /// Its total.
    pub cumulative: u128,
    /// What it pays for.
    pub work: [u8; 32],
    /// Its signature, which the caller has checked.
    pub signature: [u8; 64],
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

/// How it was seen that a signer's book is not the newest one: it was lost, copied, or restored from a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum Lost {
    /// A payee holds a higher voucher than was ever booked.
    VoucherSeen {
        /// Who holds it.
        #[serde(with = "super::amount::hexadecimal")]
        payee: Address,
        /// Its total.
        #[serde(with = "super::amount::decimal")]
        seen: u128,
        /// What was booked.
        #[serde(with = "super::amount::decimal")]
        booked: u128,
    },
    /// The chain paid more than was ever booked.
    ClaimSeen {
        /// Who was paid.
        #[serde(with = "super::amount::hexadecimal")]
        payee: Address,
        /// Up to which total.
        #[serde(with = "super::amount::decimal")]
        seen: u128,
        /// What was booked.
        #[serde(with = "super::amount::decimal")]
        booked: u128,
    },
    /// The chain holds a reservation that was never booked.
    ReservationSeen {
        /// For whom.
        #[serde(with = "super::amount::hexadecimal")]
        payee: Address,
        /// Its number.
        seen: u64,
        /// The highest number that was booked.
        booked: u64,
    },
    /// The chain granted it something, and no book of it is on this computer.
    BookMissing,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::VoucherSeen {
                payee,
                seen,
                booked,
            } => write!(
                f,
                "{} holds a voucher of {seen} base units, {booked} are booked",
                hex(payee)
            ),
            Self::ClaimSeen {
                payee,
                seen,
                booked,
            } => write!(
                f,
                "{} was paid up to {seen} base units, {booked} are booked",
                hex(payee)
            ),
            Self::ReservationSeen {
                payee,
                seen,
                booked,
            } => write!(
                f,
                "the chain has reservation {seen} for {}, {booked} is the last booked",
                hex(payee)
            ),
            Self::BookMissing => write!(f, "no book of it is on this computer"),
        }
    }
}

/// A reservation of a line that was neither given up nor is over by the chain's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldRow {
    /// Up to which total, in base units.
    pub upto: u128,
    /// Until when, in seconds of the chain.
    pub until_s: u64,
    /// Its number on the line.
    pub nonce: u64,
}

/// One line of a signer's book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookLine {
    /// For whom.
    pub payee: Address,
    /// Its total.
    pub cumulative: u128,
    /// The number of its last reservation.
    pub nonce: u64,
    /// Those that still count, in the order of their numbers.
    pub holds: Vec<HoldRow>,
}

/// A signer of this computer with which nothing more is signed, and which the chain still lets promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostSigner {
    /// Its address.
    pub signer: Address,
    /// What it was granted, in base units.
    pub granted: u128,
    /// When it ends, in seconds of the chain.
    pub until_s: u64,
    /// How it was lost.
    pub lost: Lost,
}

/// A signer's book, as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookRows {
    /// What final blocks granted it, in base units.
    pub granted: u128,
    /// When it ends, in seconds of the chain; zero before it was registered.
    pub until_s: u64,
    /// The time of the last final block that was read, in seconds.
    pub chain_s: u64,
    /// Nothing more may be signed with it.
    pub lost: Option<Lost>,
    /// Its lines, by payee.
    pub lines: Vec<BookLine>,
}

impl Ledger {
    /// Begins the book of a signer whose key was made on this computer just now. Once is enough.
    pub async fn signer_begun(&self, payer: Address, signer: Address) -> Result<(), LedgerError> {
        self.call(move |connection| {
            let known = Signer::begin(connection, &payer, &signer, true)?;
            if known.own {
                Ok(())
            } else {
                // It was seen on the chain before: its book began somewhere else.
                Err(MoneyError::NoBook { signer }.into())
            }
        })
        .await
    }

    /// The signers of this payer that are this computer's, the oldest first: those whose books began here, and those that were put aside
    /// since theirs are elsewhere. One that ended may still have something to take back.
    pub async fn signers_of(&self, payer: Address) -> Result<Vec<Address>, LedgerError> {
        self.call(move |connection| {
            let own = Signer::all(connection)?.into_iter();
            Ok(own
                .filter(|row| (row.own || row.lost.is_some()) && row.payer == payer)
                .map(|row| row.signer)
                .collect())
        })
        .await
    }

    /// What final blocks say of a signer, ours or a payer's. A grant only grows; its end is the chain's.
    pub async fn signer_seen(
        &self,
        payer: Address,
        signer: Address,
        granted: u128,
        until_s: u64,
    ) -> Result<(), LedgerError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let row = Signer::seen(&transaction, &payer, &signer, granted, until_s)?;
            row.save(&transaction)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// The book of a signer that was begun here; `None` means that its book, if there is one, lies elsewhere, and another signer is needed.
    pub async fn payer_book(
        &self,
        payer: Address,
        signer: Address,
    ) -> Result<Option<BookRows>, LedgerError> {
        self.call(move |connection| book(connection, &payer, &signer))
            .await
    }

    /// A key of this computer has a grant, and its book is not here: nothing is ever signed with it again.
    pub async fn signer_lost(
        &self,
        payer: Address,
        signer: Address,
        granted: u128,
        until_s: u64,
    ) -> Result<(), LedgerError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let mut row = Signer::seen(&transaction, &payer, &signer, granted, until_s)?;
            mark_lost(&transaction, &mut row, &Lost::BookMissing)?;
            row.save(&transaction)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Signers of this payer that were lost here and have not ended by `now_s`, the oldest first.
    pub async fn lost_signers(
        &self,
        payer: Address,
        now_s: u64,
    ) -> Result<Vec<LostSigner>, LedgerError> {
        self.call(move |connection| {
            let mut list = Vec::new();
            for row in Signer::all(connection)? {
                if row.payer != payer || row.until_s <= now_s {
                    continue;
                }
                if let Some(lost) = read_lost(&row)? {
                    list.push(LostSigner {
                        signer: row.signer,
                        granted: row.granted,
                        until_s: row.until_s,
                        lost,
                    });
                }
            }
            Ok(list)
        })
        .await
    }

    /// Books a promise. Only when this has returned may it be signed. The line's present total again is fine and adds nothing.
    ///
    /// # Errors
    /// [`MoneyError`] where the signer's grant, line or book does not allow it: a second look at what its book decided.
    pub async fn promise(&self, promise: Promise) -> Result<(), LedgerError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            write_promise(&transaction, &promise)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Books a reservation. Only when this has returned may it be signed.
    ///
    /// # Errors
    /// As [`Ledger::promise`].
    pub async fn hold(&self, hold: Hold) -> Result<(), LedgerError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            write_hold(&transaction, &hold)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// A payee shows the last voucher that it holds of ours. Where it is higher than what was booked, the signer is lost, and says so from
    /// now on.
    pub async fn own_voucher_seen(&self, seen: Seen) -> Result<Option<Lost>, LedgerError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let lost = write_seen(&transaction, &seen)?;
            transaction.commit()?;
            Ok(lost)
        })
        .await
    }

    /// What a payer promised from `from_ms` on and before `until_ms`, in base units: what the cap of a day is held against.
    pub async fn spent(
        &self,
        payer: Address,
        from_ms: u64,
        until_ms: u64,
    ) -> Result<u128, LedgerError> {
        self.call(move |connection| {
            spent(
                connection,
                "j.at_ms >= ?2 AND j.at_ms < ?3",
                params![
                    Account::Spent(payer).name(),
                    to_sql(from_ms),
                    to_sql(until_ms)
                ],
            )
        })
        .await
    }

    /// What was promised for one conversation, ever.
    pub async fn spent_in_chat(&self, payer: Address, chat: [u8; 16]) -> Result<u128, LedgerError> {
        self.call(move |connection| {
            spent(
                connection,
                "v.job IN (SELECT id FROM paid_job WHERE chat = ?2)",
                params![Account::Spent(payer).name(), chat],
            )
        })
        .await
    }
}

fn book(
    connection: &Connection,
    payer: &Address,
    signer: &Address,
) -> Result<Option<BookRows>, LedgerError> {
    let Some(row) = Signer::find(connection, payer, signer)?.filter(|row| row.own) else {
        return Ok(None);
    };
    let chain_s = chain_time(connection)?;
    let mut lines = Vec::new();
    for line in Line::of_signer(connection, Side::Payer, row.id)? {
        lines.push(BookLine {
            payee: line.key.payee,
            cumulative: line.cumulative,
            nonce: line.nonce,
            holds: live_holds(connection, &line, chain_s)?,
        });
    }
    Ok(Some(BookRows {
        granted: row.granted,
        until_s: row.until_s,
        chain_s,
        lost: read_lost(&row)?,
        lines,
    }))
}

/// The signer's row, if it may still promise.
fn alive(connection: &Connection, line: &LineKey) -> Result<Signer, LedgerError> {
    let row = Signer::find(connection, &line.payer, &line.signer)?
        .filter(|row| row.own)
        .ok_or(MoneyError::NoBook {
            signer: line.signer,
        })?;
    match read_lost(&row)? {
        Some(lost) => Err(MoneyError::SignerLost { lost }.into()),
        None => Ok(row),
    }
}

fn write_promise(connection: &Connection, promise: &Promise) -> Result<(), LedgerError> {
    let signer = alive(connection, &promise.line)?;
    let mut line = Line::begin(connection, Side::Payer, &promise.line, &signer)?;
    if promise.cumulative < line.cumulative {
        return Err(MoneyError::Lower {
            line: line.cumulative,
            cumulative: promise.cumulative,
        }
        .into());
    }
    within_grant(connection, &signer, &line, promise.cumulative)?;
    let more = promise.cumulative - line.cumulative;
    if more == 0 {
        return Ok(());
    }
    let job = job_row(connection, Side::Payer, &promise.job, promise.at_ms)?;
    connection
        .prepare_cached(
            "INSERT INTO voucher (line, origin, job, cumulative, work, tokens_in, tokens_cached, tokens_out, at_ms)
             VALUES (?1, 'signed', ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            line.id,
            job,
            Amount(promise.cumulative),
            promise.work,
            to_sql(promise.tokens.input),
            to_sql(promise.tokens.cached),
            to_sql(promise.tokens.output),
            to_sql(promise.at_ms),
        ])?;
    let voucher = connection.last_insert_rowid();
    line.cumulative = promise.cumulative;
    line.save(connection)?;
    post(
        connection,
        promise.at_ms,
        "promise",
        Account::Spent(promise.line.payer),
        Account::Promised(promise.line),
        more,
        Source::Voucher(voucher),
    )
}

fn write_hold(connection: &Connection, hold: &Hold) -> Result<(), LedgerError> {
    let signer = alive(connection, &hold.line)?;
    let mut line = Line::begin(connection, Side::Payer, &hold.line, &signer)?;
    if hold.nonce <= line.nonce {
        return Err(MoneyError::NonceUsed {
            line: line.nonce,
            nonce: hold.nonce,
        }
        .into());
    }
    within_grant(connection, &signer, &line, hold.upto)?;
    connection.execute(
        "INSERT INTO hold (line, upto, until_s, nonce, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            line.id,
            Amount(hold.upto),
            to_sql(hold.until_s),
            to_sql(hold.nonce),
            to_sql(hold.at_ms)
        ],
    )?;
    line.nonce = hold.nonce;
    line.save(connection)
}

fn write_seen(connection: &Connection, seen: &Seen) -> Result<Option<Lost>, LedgerError> {
    let mut signer = Signer::begin(connection, &seen.line.payer, &seen.line.signer, false)?;
    let mut line = Line::begin(connection, Side::Payer, &seen.line, &signer)?;
    if seen.cumulative <= line.cumulative {
        return read_lost(&signer);
    }
    let booked = line.cumulative;
    connection.execute(
        "INSERT INTO voucher (line, origin, cumulative, work, signature, tokens_in, tokens_cached, tokens_out, at_ms)
         VALUES (?1, 'seen', ?2, ?3, ?4, 0, 0, 0, ?5)",
        params![
            line.id,
            Amount(seen.cumulative),
            seen.work,
            seen.signature,
            to_sql(seen.at_ms)
        ],
    )?;
    let voucher = connection.last_insert_rowid();
    line.cumulative = seen.cumulative;
    line.save(connection)?;
    post(
        connection,
        seen.at_ms,
        "unbooked",
        Account::Unbooked(seen.line.payer),
        Account::Promised(seen.line),
        seen.cumulative - booked,
        Source::Voucher(voucher),
    )?;
    let lost = Lost::VoucherSeen {
        payee: seen.line.payee,
        seen: seen.cumulative,
        booked,
    };
    mark_lost(connection, &mut signer, &lost)?;
    read_lost(&signer)
}

/// Nothing more is signed with it. The first sight of it stays.
pub(super) fn mark_lost(
    connection: &Connection,
    signer: &mut Signer,
    lost: &Lost,
) -> Result<(), LedgerError> {
    if signer.lost.is_some() {
        return Ok(());
    }
    tracing::warn!(%lost, "a signer's book is not the newest one: it must end");
    signer.lost = Some(
        serde_json::to_string(lost).map_err(|error| LedgerError::Unreadable {
            what: "why a signer is lost",
            value: error.to_string(),
        })?,
    );
    signer.save(connection)
}

fn read_lost(signer: &Signer) -> Result<Option<Lost>, LedgerError> {
    signer
        .lost
        .as_deref()
        .map(|text| {
            serde_json::from_str(text).map_err(|_| LedgerError::Unreadable {
                what: "why a signer is lost",
                value: text.to_owned(),
            })
        })
        .transpose()
}

/// Reservations that count: not given up in final blocks, and not over by their time.
fn live_holds(
    connection: &Connection,
    line: &Line,
    chain_s: u64,
) -> Result<Vec<HoldRow>, LedgerError> {
    many(
        connection,
        "SELECT upto, until_s, nonce FROM hold WHERE line = ?1 AND nonce > ?2 AND until_s > ?3 ORDER BY nonce",
        params![line.id, to_sql(line.released), to_sql(chain_s)],
        |row| {
            Ok(HoldRow {
                upto: amount(row, 0)?,
                until_s: from_sql(row.get(1)?),
                nonce: from_sql(row.get(2)?),
            })
        },
    )
}

/// What a signer may come to owe: the sum over its lines of the voucher or the live reservation, whichever is higher; and that of
/// one line.
pub(super) fn promised_by(
    connection: &Connection,
    signer: &Signer,
    line: i64,
) -> Result<(Sum, u128), LedgerError> {
    let held: BTreeMap<i64, u128> = many(
        connection,
        "SELECT h.line, max(h.upto) FROM hold h JOIN line l ON l.id = h.line
         WHERE l.side = 'payer' AND l.signer = ?1 AND h.nonce > l.released AND h.until_s > ?2 GROUP BY h.line",
        params![signer.id, to_sql(chain_time(connection)?)],
        |row| Ok((row.get(0)?, amount(row, 1)?)),
    )?
    .into_iter()
    .collect();
    let (mut all, mut of_line) = (Sum::default(), 0);
    for other in Line::of_signer(connection, Side::Payer, signer.id)? {
        let promised = other
            .cumulative
            .max(held.get(&other.id).copied().unwrap_or(0));
        all.add(promised);
        if other.id == line {
            of_line = promised;
        }
    }
    Ok((all, of_line))
}

fn within_grant(
    connection: &Connection,
    signer: &Signer,
    line: &Line,
    level: u128,
) -> Result<(), LedgerError> {
    let (promised, of_line) = promised_by(connection, signer, line.id)?;
    let more = level.saturating_sub(of_line);
    if promised.plus(more) <= Sum::from(signer.granted) {
        return Ok(());
    }
    Err(MoneyError::PastGrant {
        promised: promised.clamped(),
        granted: signer.granted,
        more,
    }
    .into())
}

/// Debits of a payer's spending that a condition on journal (j) and voucher (v) chooses.
fn spent(
    connection: &Connection,
    condition: &str,
    params: &[&dyn rusqlite::ToSql],
) -> Result<u128, LedgerError> {
    let sql = format!(
        "SELECT j.amount FROM journal j JOIN voucher v ON v.n = j.voucher
         WHERE j.debit = (SELECT id FROM account WHERE name = ?1) AND {condition}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params)?;
    let mut sum = Sum::default();
    while let Some(row) = rows.next()? {
        sum.add(amount(row, 0)?);
    }
    Ok(sum.clamped())
}
