//! The double entry: accounts, and rows that move an amount from one to another.

use rusqlite::{Connection, OptionalExtension, params};

use super::amount::{Amount, Sum, amount, hex};
use super::{Address, LineKey};
use crate::LedgerError;
use crate::handle::to_sql;

/// An account of the books. Debits raise what is owned and spent, credits what is owed and earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// Vouchered to a payee of ours, and not paid yet.
    Receivable(LineKey),
    /// What a payee of ours earned by vouchers.
    Earned(Address),
    /// What reached the payout of a payee of ours.
    PaidOut(Address),
    /// What a claim cost in the vault's fee.
    Fees(Address),
    /// What came out of gas pots.
    GasShares(Address),
    /// Vouchers that can never be paid any more.
    BadDebts(Address),
    /// Promised by a signer of ours, and not claimed yet.
    Promised(LineKey),
    /// What a payer of ours spent by vouchers.
    Spent(Address),
    /// What was granted to a signer (payer, signer) and not claimed yet.
    Grant(Address, Address),
    /// A signer's bond.
    Bond(Address, Address),
    /// A signer's gas pot.
    GasPot(Address, Address),
    /// A payer's balance in the vault that is in no grant.
    Free(Address),
    /// Where deposits come from and withdrawals go.
    Outside(Address),
    /// What ended signers gave payees for gas.
    GasGiven(Address),
    /// Bonds burnt, and grants shared out, after an overdraft.
    Penalties(Address),
    /// Promises that nobody claimed in time.
    Lapsed(Address),
    /// Vouchers that the chain or a payee shows and this book does not have.
    Unbooked(Address),
}

impl Account {
    /// Its name in the file and in statements.
    pub fn name(&self) -> String {
        let line = |kind: &str, line: &LineKey| {
            format!(
                "{kind}/{}/{}/{}",
                hex(&line.payer),
                hex(&line.signer),
                hex(&line.payee)
            )
        };
        let one = |kind: &str, address: &Address| format!("{kind}/{}", hex(address));
        let two = |kind: &str, payer: &Address, signer: &Address| {
            format!("{kind}/{}/{}", hex(payer), hex(signer))
        };
        match self {
            Self::Receivable(key) => line("receivable", key),
            Self::Promised(key) => line("promised", key),
            Self::Earned(payee) => one("earned", payee),
            Self::PaidOut(payee) => one("paid_out", payee),
            Self::Fees(payee) => one("fees", payee),
            Self::GasShares(payee) => one("gas_shares", payee),
            Self::BadDebts(payee) => one("bad_debts", payee),
            Self::Spent(payer) => one("spent", payer),
            Self::Free(payer) => one("free", payer),
            Self::Outside(payer) => one("outside", payer),
            Self::GasGiven(payer) => one("gas_given", payer),
            Self::Penalties(payer) => one("penalties", payer),
            Self::Lapsed(payer) => one("lapsed", payer),
            Self::Unbooked(owner) => one("unbooked", owner),
            Self::Grant(payer, signer) => two("grant", payer, signer),
            Self::Bond(payer, signer) => two("bond", payer, signer),
            Self::GasPot(payer, signer) => two("gas_pot", payer, signer),
        }
    }
}

/// What moved on one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// All debits.
    pub debit: u128,
    /// All credits.
    pub credit: u128,
}

/// What a row of the journal is tied to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Voucher(i64),
    Event(i64),
}

/// Moves an amount; nothing is written for nothing.
pub(super) fn post(
    connection: &Connection,
    at_ms: u64,
    kind: &str,
    debit: Account,
    credit: Account,
    moved: u128,
    source: Source,
) -> Result<(), LedgerError> {
    if moved == 0 {
        return Ok(());
    }
    let (voucher, event) = match source {
        Source::Voucher(n) => (Some(n), None),
        Source::Event(n) => (None, Some(n)),
    };
    let debit = account_id(connection, &debit)?;
    let credit = account_id(connection, &credit)?;
    connection
        .prepare_cached(
            "INSERT INTO journal (at_ms, kind, debit, credit, amount, voucher, event) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            to_sql(at_ms),
            kind,
            debit,
            credit,
            Amount(moved),
            voucher,
            event
        ])?;
    Ok(())
}

/// All that moved on an account.
pub(super) fn sums(connection: &Connection, account: &Account) -> Result<(Sum, Sum), LedgerError> {
    let id: Option<i64> = connection
        .prepare_cached("SELECT id FROM account WHERE name = ?1")?
        .query_row([account.name()], |row| row.get(0))
        .optional()?;
    let Some(id) = id else {
        return Ok((Sum::default(), Sum::default()));
    };
    let side = |column: &str| -> Result<Sum, LedgerError> {
        let sql = format!("SELECT amount FROM journal WHERE {column} = ?1");
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([id])?;
        let mut sum = Sum::default();
        while let Some(row) = rows.next()? {
            sum.add(amount(row, 0)?);
        }
        Ok(sum)
    };
    Ok((side("debit")?, side("credit")?))
}

pub(super) fn balance(connection: &Connection, account: &Account) -> Result<Balance, LedgerError> {
    let (debit, credit) = sums(connection, account)?;
    Ok(Balance {
        debit: debit.clamped(),
        credit: credit.clamped(),
    })
}

fn account_id(connection: &Connection, account: &Account) -> Result<i64, LedgerError> {
    let name = account.name();
    let known: Option<i64> = connection
        .prepare_cached("SELECT id FROM account WHERE name = ?1")?
        .query_row([&name], |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    connection
        .prepare_cached("INSERT INTO account (name) VALUES (?1)")?
        .execute([&name])?;
    Ok(connection.last_insert_rowid())
}

impl crate::Ledger {
    /// All that moved on an account.
    pub async fn balance(&self, account: Account) -> Result<Balance, LedgerError> {
        self.call(move |connection| balance(connection, &account))
            .await
    }
}
