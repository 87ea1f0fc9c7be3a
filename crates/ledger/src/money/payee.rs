//! The payee's side: the highest voucher of each line with its bytes, on disk before anything is served on it.

use rusqlite::{Connection, Row, params};

use super::amount::{Amount, Sum, amount};
use super::journal::{Account, Source, post};
use super::lines::{Line, Side, Signer, chain_time, job_row, many, one};
use super::{Address, JobTokens, LineKey, MoneyError, PaidJob, THAW_S};
use crate::handle::{blob, from_sql, to_sql};
use crate::{Ledger, LedgerError};

/// How long before a reservation's end its part is claimed, in seconds.
const CLAIM_BEFORE_S: u64 = 24 * 60 * 60;

/// A voucher that came, with a signature that the caller has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoucherRow {
    /// Which line.
    pub line: LineKey,
    /// Its total, in base units.
    pub cumulative: u128,
    /// What it pays for: a checkpoint's digest or the job's id.
    pub work: [u8; 32],
    /// The signature as the vault takes it.
    pub signature: [u8; 64],
    /// The job.
    pub job: PaidJob,
    /// Its tokens so far.
    pub tokens: JobTokens,
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

/// The highest voucher of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldVoucher {
    /// Which line.
    pub line: LineKey,
    /// Its total, in base units.
    pub cumulative: u128,
    /// What it pays for.
    pub work: [u8; 32],
    /// The signature as the vault takes it.
    pub signature: [u8; 64],
}

/// A reservation that came, with a signature that the caller has checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldReservation {
    /// Which line.
    pub line: LineKey,
    /// Up to which total, in base units.
    pub upto: u128,
    /// Until when, in seconds of the chain.
    pub until_s: u64,
    /// Its number on the line.
    pub nonce: u64,
    /// The signature as the vault takes it.
    pub signature: [u8; 64],
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

/// Where a line stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineState {
    /// The highest voucher's total.
    pub cumulative: u128,
    /// The level that final blocks paid.
    pub claimed: u128,
    /// The level that a reservation holds in final blocks; it means nothing after `reserved_until_s`.
    pub reserved_upto: u128,
    /// Its end, in seconds of the chain.
    pub reserved_until_s: u64,
    /// The number of the last reservation that was held.
    pub nonce: u64,
}

impl From<&Line> for LineState {
    fn from(line: &Line) -> Self {
        Self {
            cumulative: line.cumulative,
            claimed: line.claimed,
            reserved_upto: line.reserved_upto,
            reserved_until_s: line.reserved_until_s,
            nonce: line.nonce,
        }
    }
}

/// What one payer owes one payee, over all its signers: what credit is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Debt {
    /// Vouchered, neither paid nor reserved.
    pub open: u128,
    /// Paid in final blocks, ever.
    pub claimed: u128,
    /// Held by reservations beyond what was claimed.
    pub reserved: u128,
}

/// Why a line should be claimed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueWhy {
    /// Its debt is worth the gas.
    Worth,
    /// Its signer is over, or will be within a day.
    SignerEnds,
    /// Its reservation is over within a day.
    ReservationEnds,
}

/// A line with something left to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenLine {
    /// The voucher that claims it.
    pub voucher: HeldVoucher,
    /// Where it stands.
    pub state: LineState,
    /// What is vouchered and not paid.
    pub open: u128,
    /// When its signer ends, in seconds of the chain; `None` where final blocks said nothing of it yet.
    pub until_s: Option<u64>,
    /// An overdraft of its signer is shown and not decided: what is not reserved waits.
    pub contested: bool,
}

impl OpenLine {
    /// Whether the vault would still pay it: its signer is known in final blocks, and did not end longer than the thaw ago.
    pub fn is_claimable(&self, now_s: u64) -> bool {
        let claimable_until = self.until_s.map(|until| until.saturating_add(THAW_S));
        claimable_until.is_some_and(|until| until > now_s)
    }

    /// Whether to claim it now: `worth` is the least debt that is worth a claim's gas, `now_s` the chain's time.
    pub fn due(&self, worth: u128, now_s: u64) -> Option<DueWhy> {
        if !self.is_claimable(now_s) {
            return None;
        }
        let reserved = self
            .state
            .reserved_upto
            .min(self.state.cumulative)
            .saturating_sub(self.state.claimed);
        let live = self.state.reserved_until_s > now_s;
        if live && reserved > 0 && self.state.reserved_until_s - now_s <= CLAIM_BEFORE_S {
            return Some(DueWhy::ReservationEnds);
        }
        if self.contested {
            return None;
        }
        if self.open >= worth {
            return Some(DueWhy::Worth);
        }
        // Worth less than its gas, it is claimed all the same once the signer's pot pays for it.
        self.until_s
            .filter(|until| *until <= now_s.saturating_add(CLAIM_BEFORE_S))
            .map(|_| DueWhy::SignerEnds)
    }
}

impl Ledger {
    /// Keeps a voucher. Only when this has returned may anything be computed on it. A lower one than is held changes nothing; what
    /// comes back is where the line stands then.
    pub async fn voucher_held(&self, voucher: VoucherRow) -> Result<LineState, LedgerError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let state = write_voucher(&transaction, &voucher)?;
            transaction.commit()?;
            Ok(state)
        })
        .await
    }

    /// Keeps a reservation until it is brought to the chain.
    ///
    /// # Errors
    /// [`MoneyError::NonceUsed`] unless its number is above the line's.
    pub async fn reservation_held(&self, held: HeldReservation) -> Result<LineState, LedgerError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let state = write_reservation(&transaction, &held)?;
            transaction.commit()?;
            Ok(state)
        })
        .await
    }

    /// Where a line of ours stands; all zero where nothing came yet.
    pub async fn line(&self, key: LineKey) -> Result<LineState, LedgerError> {
        self.call(move |connection| {
            let line = Line::find(connection, Side::Payee, &key)?;
            Ok(line.as_ref().map(LineState::from).unwrap_or_default())
        })
        .await
    }

    /// What a payer owes a payee of ours.
    pub async fn debt(&self, payee: Address, payer: Address) -> Result<Debt, LedgerError> {
        self.call(move |connection| debt(connection, &payee, &payer))
            .await
    }

    /// The voucher of this payer that came last, with whichever of its signers: what `Accept` gives back to it.
    pub async fn last_voucher(
        &self,
        payee: Address,
        payer: Address,
    ) -> Result<Option<HeldVoucher>, LedgerError> {
        self.call(move |connection| {
            one(
                connection,
                "SELECT s.payer, s.signer, l.payee, v.cumulative, v.work, v.signature
                 FROM voucher v JOIN line l ON l.id = v.line JOIN signer s ON s.id = l.signer
                 WHERE l.side = 'payee' AND l.payee = ?1 AND s.payer = ?2 ORDER BY v.n DESC LIMIT 1",
                params![payee, payer],
                read_voucher,
            )
        })
        .await
    }

    /// The reservation of a line that was held last and is not on the chain yet.
    pub async fn reservation_to_bring(
        &self,
        key: LineKey,
    ) -> Result<Option<HeldReservation>, LedgerError> {
        self.call(move |connection| {
            one(
                connection,
                "SELECT s.payer, s.signer, l.payee, h.upto, h.until_s, h.nonce, h.signature, h.at_ms
                 FROM hold h JOIN line l ON l.id = h.line JOIN signer s ON s.id = l.signer
                 WHERE l.side = 'payee' AND l.payee = ?1 AND s.payer = ?2 AND s.signer = ?3
                   AND h.nonce > l.released AND h.until_s > ?4
                   AND NOT (h.upto = l.reserved_upto AND h.until_s = l.reserved_until_s)
                 ORDER BY h.nonce DESC LIMIT 1",
                params![
                    key.payee,
                    key.payer,
                    key.signer,
                    to_sql(chain_time(connection)?)
                ],
                |row| {
                    Ok(HeldReservation {
                        line: read_key(row)?,
                        upto: amount(row, 3)?,
                        until_s: from_sql(row.get(4)?),
                        nonce: from_sql(row.get(5)?),
                        signature: blob(row, 6)?,
                        at_ms: from_sql(row.get(7)?),
                    })
                },
            )
        })
        .await
    }

    /// Lines of a payee of ours with something left to claim; [`OpenLine::due`] says which of them now.
    pub async fn open_lines(&self, payee: Address) -> Result<Vec<OpenLine>, LedgerError> {
        self.call(move |connection| open_lines(connection, &payee))
            .await
    }
}

fn write_voucher(connection: &Connection, voucher: &VoucherRow) -> Result<LineState, LedgerError> {
    // A voucher of zero says who asks, and is worth nothing: it leaves no row that a stranger could fill the disk with.
    let known = Line::find(connection, Side::Payee, &voucher.line)?;
    let stands = known.as_ref().map_or(0, |line| line.cumulative);
    if voucher.cumulative <= stands {
        return Ok(known.as_ref().map(LineState::from).unwrap_or_default());
    }
    let mut line = match known {
        Some(line) => line,
        None => {
            let signer =
                Signer::begin(connection, &voucher.line.payer, &voucher.line.signer, false)?;
            Line::begin(connection, Side::Payee, &voucher.line, &signer)?
        }
    };
    let job = job_row(connection, Side::Payee, &voucher.job, voucher.at_ms)?;
    connection
        .prepare_cached(
            "INSERT INTO voucher (line, origin, job, cumulative, work, signature, tokens_in, tokens_cached, tokens_out, at_ms)
             VALUES (?1, 'held', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            line.id,
            job,
            Amount(voucher.cumulative),
            voucher.work,
            voucher.signature,
            to_sql(voucher.tokens.input),
            to_sql(voucher.tokens.cached),
            to_sql(voucher.tokens.output),
            to_sql(voucher.at_ms),
        ])?;
    let n = connection.last_insert_rowid();
    line.cumulative = voucher.cumulative;
    line.save(connection)?;
    post(
        connection,
        voucher.at_ms,
        "voucher",
        Account::Receivable(voucher.line),
        Account::Earned(voucher.line.payee),
        voucher.cumulative - stands,
        Source::Voucher(n),
    )?;
    Ok(LineState::from(&line))
}

fn write_reservation(
    connection: &Connection,
    held: &HeldReservation,
) -> Result<LineState, LedgerError> {
    let signer = Signer::begin(connection, &held.line.payer, &held.line.signer, false)?;
    let mut line = Line::begin(connection, Side::Payee, &held.line, &signer)?;
    if held.nonce <= line.nonce {
        return Err(MoneyError::NonceUsed {
            line: line.nonce,
            nonce: held.nonce,
        }
        .into());
    }
    connection.execute(
        "INSERT INTO hold (line, upto, until_s, nonce, signature, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            line.id,
            Amount(held.upto),
            to_sql(held.until_s),
            to_sql(held.nonce),
            held.signature,
            to_sql(held.at_ms)
        ],
    )?;
    line.nonce = held.nonce;
    line.save(connection)?;
    Ok(LineState::from(&line))
}

fn debt(connection: &Connection, payee: &Address, payer: &Address) -> Result<Debt, LedgerError> {
    let chain_s = chain_time(connection)?;
    let (mut open, mut claimed, mut reserved) = (Sum::default(), Sum::default(), Sum::default());
    for line in Line::of_payer(connection, payee, payer)? {
        let held = line.reserved(chain_s);
        open.add(line.open().saturating_sub(held));
        claimed.add(line.paid());
        reserved.add(held);
    }
    Ok(Debt {
        open: open.clamped(),
        claimed: claimed.clamped(),
        reserved: reserved.clamped(),
    })
}

fn open_lines(connection: &Connection, payee: &Address) -> Result<Vec<OpenLine>, LedgerError> {
    let mut list = Vec::new();
    for line in Line::of_payee(connection, payee)? {
        if line.open() == 0 {
            continue;
        }
        let Some(voucher) = voucher_of(connection, &line)? else {
            continue;
        };
        let signer = Signer::find(connection, &line.key.payer, &line.key.signer)?;
        list.push(OpenLine {
            voucher,
            state: LineState::from(&line),
            open: line.open(),
            until_s: signer
                .as_ref()
                .map(|signer| signer.until_s)
                .filter(|until| *until > 0),
            contested: signer.is_some_and(|signer| signer.contested),
        });
    }
    Ok(list)
}

/// The highest voucher that was kept of a line.
pub(super) fn voucher_of(
    connection: &Connection,
    line: &Line,
) -> Result<Option<HeldVoucher>, LedgerError> {
    one(
        connection,
        "SELECT s.payer, s.signer, l.payee, v.cumulative, v.work, v.signature
         FROM voucher v JOIN line l ON l.id = v.line JOIN signer s ON s.id = l.signer
         WHERE v.line = ?1 AND v.origin = 'held' ORDER BY v.n DESC LIMIT 1",
        params![line.id],
        read_voucher,
    )
}

/// The highest vouchers of all lines that are held.
pub(super) fn held_vouchers(connection: &Connection) -> Result<Vec<HeldVoucher>, LedgerError> {
    many(
        connection,
        "SELECT s.payer, s.signer, l.payee, v.cumulative, v.work, v.signature
         FROM line l JOIN signer s ON s.id = l.signer
         JOIN voucher v ON v.n = (SELECT max(n) FROM voucher WHERE line = l.id)
         WHERE l.side = 'payee' ORDER BY l.id",
        params![],
        read_voucher,
    )
}

fn read_key(row: &Row<'_>) -> Result<LineKey, LedgerError> {
    Ok(LineKey {
        payer: blob(row, 0)?,
        signer: blob(row, 1)?,
        payee: blob(row, 2)?,
    })
}

fn read_voucher(row: &Row<'_>) -> Result<HeldVoucher, LedgerError> {
    Ok(HeldVoucher {
        line: read_key(row)?,
        cumulative: amount(row, 3)?,
        work: blob(row, 4)?,
        signature: blob(row, 5)?,
    })
}
