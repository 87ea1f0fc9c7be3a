//! Accounts: both sides of each, counted from lines and events, against the sums of the journal.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::super::amount::{Sum, amount, hex};
use super::super::chain::Booked;
use super::super::journal::Account;
use super::super::lines::{Line, Side};
use super::super::{Address, ChainEvent, LineKey};
use super::Findings;
use crate::LedgerError;

/// Debits and credits.
type Sides = (Sum, Sum);

/// Checks every account that the journal names or the events say must be there.
pub(super) fn check(
    connection: &Connection,
    events: &[Booked],
    found: &mut Findings,
) -> Result<(), LedgerError> {
    let booked = booked(connection)?;
    let mut counted = Counted::default();
    for line in Line::all(connection)? {
        counted.line(&line);
    }
    for event in events {
        counted.event(event);
    }
    let counted = counted.finish();
    let names: std::collections::BTreeSet<&String> =
        booked.keys().chain(counted.accounts.keys()).collect();
    for name in names {
        let ours = booked.get(name).copied().unwrap_or_default();
        let Some(theirs) = counted.accounts.get(name).copied() else {
            if !counted.open_ended(name) {
                found.name(format!("the account {name}"), ours.0, "no such account");
            }
            continue;
        };
        found.same(&ours.0, &theirs.0, || format!("debits of {name}"));
        found.same(&ours.1, &theirs.1, || format!("credits of {name}"));
    }
    // What vouchers earned and spent is in two accounts: with a voucher in this book, and without.
    for (owner, total) in counted.earned {
        let credit = |account: Account| booked.get(&account.name()).copied().unwrap_or_default().1;
        let sum = credit(Account::Earned(owner)).and(credit(Account::Unbooked(owner)));
        found.same(&sum, &total, || {
            format!("all that {} was vouchered", hex(&owner))
        });
    }
    for (owner, total) in counted.spent {
        let debit = |account: Account| booked.get(&account.name()).copied().unwrap_or_default().0;
        let sum = debit(Account::Spent(owner)).and(debit(Account::Unbooked(owner)));
        found.same(&sum, &total, || {
            format!("all that {} vouchered", hex(&owner))
        });
    }
    for (payee, (moved, said)) in counted.payouts {
        found.same(&moved, &said, || {
            format!("transfers to the payout of {}", hex(&payee))
        });
    }
    Ok(())
}

fn booked(connection: &Connection) -> Result<BTreeMap<String, Sides>, LedgerError> {
    let mut names: BTreeMap<i64, String> = BTreeMap::new();
    let mut statement = connection.prepare("SELECT id, name FROM account")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        names.insert(row.get(0)?, row.get(1)?);
    }
    let mut sums: BTreeMap<i64, Sides> = BTreeMap::new();
    let mut statement = connection.prepare("SELECT debit, credit, amount FROM journal")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let moved = amount(row, 2)?;
        sums.entry(row.get(0)?).or_default().0.add(moved);
        sums.entry(row.get(1)?).or_default().1.add(moved);
    }
    Ok(sums
        .into_iter()
        .map(|(id, sides)| (names.remove(&id).unwrap_or_default(), sides))
        .collect())
}

#[derive(Clone, Copy, Default)]
struct SignerSums {
    granted: u128,
    drawn: Sum,
    freed: Option<u128>,
    bond: u128,
    bonds: Sum,
    gas_pot: u128,
    gas_pots: Sum,
    given: Sum,
}

#[derive(Default)]
struct Counted {
    accounts: BTreeMap<String, Sides>,
    signers: BTreeMap<(Address, Address), SignerSums>,
    earned: BTreeMap<Address, Sum>,
    spent: BTreeMap<Address, Sum>,
    payouts: BTreeMap<Address, (Sum, Sum)>,
}

impl Counted {
    fn debit(&mut self, account: Account, amount: u128) {
        if amount > 0 {
            self.accounts
                .entry(account.name())
                .or_default()
                .0
                .add(amount);
        }
    }

    fn credit(&mut self, account: Account, amount: u128) {
        if amount > 0 {
            self.accounts
                .entry(account.name())
                .or_default()
                .1
                .add(amount);
        }
    }

    fn line(&mut self, line: &Line) {
        match line.side {
            Side::Payee => {
                self.debit(Account::Receivable(line.key), line.cumulative);
                self.credit(Account::Receivable(line.key), line.written_off);
                self.debit(Account::BadDebts(line.key.payee), line.written_off);
                let earned = self.earned.entry(line.key.payee).or_default();
                earned.add(line.cumulative);
            }
            Side::Payer => {
                self.credit(Account::Promised(line.key), line.cumulative);
                self.debit(Account::Promised(line.key), line.written_off);
                self.credit(Account::Lapsed(line.key.payer), line.written_off);
                let spent = self.spent.entry(line.key.payer).or_default();
                spent.add(line.cumulative);
            }
        }
    }

    fn event(&mut self, booked: &Booked) {
        if booked.mine.payer {
            self.of_payer(&booked.event);
        }
        if booked.mine.payee {
            self.of_payee(&booked.event);
        }
        if let (
            true,
            ChainEvent::Kept {
                payer,
                payee,
                amount,
                ..
            },
        ) = (booked.mine.payer, &booked.event)
        {
            self.debit(Account::Free(*payer), *amount);
            match booked.mine.payee {
                true => self.credit(Account::PaidOut(*payee), *amount),
                false => self.credit(Account::Outside(*payer), *amount),
            }
        }
    }

    #[allow(clippy::wildcard_enum_match_arm)] // The others move nothing of a payer's.
    fn of_payer(&mut self, event: &ChainEvent) {
        match *event {
            ChainEvent::Deposited { payer, amount } => {
                self.debit(Account::Free(payer), amount);
                self.credit(Account::Outside(payer), amount);
            }
            ChainEvent::Withdrawn { payer, amount } => {
                self.debit(Account::Outside(payer), amount);
                self.credit(Account::Free(payer), amount);
            }
            ChainEvent::SignerSet {
                payer,
                signer,
                granted,
                bond,
                gas_pot,
                ..
            } => {
                let sums = self.signers.entry((payer, signer)).or_default();
                let more = [
                    granted.saturating_sub(sums.granted),
                    bond.saturating_sub(sums.bond),
                    gas_pot.saturating_sub(sums.gas_pot),
                ];
                sums.granted = sums.granted.max(granted);
                (sums.bond, sums.gas_pot) = (bond, gas_pot);
                sums.bonds.add(more[1]);
                sums.gas_pots.add(more[2]);
                for amount in more {
                    self.credit(Account::Free(payer), amount);
                }
            }
            ChainEvent::Claimed {
                payer,
                signer,
                payee,
                paid: amount,
                ..
            }
            | ChainEvent::OverdraftPaid {
                payer,
                signer,
                payee,
                amount,
            } => {
                let line = LineKey {
                    payer,
                    signer,
                    payee,
                };
                self.debit(Account::Promised(line), amount);
                let sums = self.signers.entry((payer, signer)).or_default();
                sums.drawn.add(amount);
            }
            ChainEvent::GasShared {
                payer,
                signer,
                amount,
                ..
            } => {
                self.debit(Account::GasGiven(payer), amount);
                let sums = self.signers.entry((payer, signer)).or_default();
                sums.gas_pot = sums.gas_pot.saturating_sub(amount);
                sums.given.add(amount);
            }
            ChainEvent::GrantFreed {
                payer,
                signer,
                amount,
            } => {
                self.debit(Account::Free(payer), amount);
                self.signers.entry((payer, signer)).or_default().freed = Some(amount);
            }
            ChainEvent::BondFreed {
                payer,
                signer,
                amount,
            } => {
                self.debit(Account::Free(payer), amount);
                let sums = self.signers.entry((payer, signer)).or_default();
                let bond = sums.bond.min(amount);
                sums.given.add(amount - bond);
                sums.gas_pot = sums.gas_pot.saturating_sub(amount - bond);
                sums.bond -= bond;
            }
            ChainEvent::OverdraftDecided { payer, signer } => {
                let sums = self.signers.entry((payer, signer)).or_default();
                let burnt = std::mem::take(&mut sums.bond);
                self.debit(Account::Penalties(payer), burnt);
            }
            _ => {}
        }
    }

    #[allow(clippy::wildcard_enum_match_arm)] // The others move nothing of a payee's.
    fn of_payee(&mut self, event: &ChainEvent) {
        match *event {
            ChainEvent::Claimed {
                payer,
                signer,
                payee,
                paid: amount,
                ..
            }
            | ChainEvent::OverdraftPaid {
                payer,
                signer,
                payee,
                amount,
            } => {
                let line = LineKey {
                    payer,
                    signer,
                    payee,
                };
                self.credit(Account::Receivable(line), amount);
                self.debit(Account::PaidOut(payee), amount);
                self.payouts.entry(payee).or_default().0.add(amount);
            }
            ChainEvent::GasShared { payee, amount, .. } => {
                self.debit(Account::PaidOut(payee), amount);
                self.credit(Account::GasShares(payee), amount);
                self.payouts.entry(payee).or_default().0.add(amount);
            }
            ChainEvent::PaidOut {
                payee, amount, fee, ..
            } => {
                self.debit(Account::Fees(payee), fee);
                self.credit(Account::PaidOut(payee), fee);
                let said = &mut self.payouts.entry(payee).or_default().1;
                said.add(amount);
                said.add(fee);
            }
            _ => {}
        }
    }

    /// What is known of a signer only at its end.
    fn finish(mut self) -> Self {
        for ((payer, signer), sums) in std::mem::take(&mut self.signers) {
            let grant = Account::Grant(payer, signer);
            self.debit(grant, sums.granted);
            let mut drawn = sums.drawn;
            if let Some(freed) = sums.freed {
                drawn.add(freed);
                // Shares of an overdraft that nobody came for.
                let rest = Sum::from(sums.granted).minus(drawn).clamped();
                self.debit(Account::Penalties(payer), rest);
                drawn.add(rest);
            }
            self.credit(grant, drawn.clamped());
            let bond = Account::Bond(payer, signer);
            self.debit(bond, sums.bonds.clamped());
            let gone = sums.bonds.minus(Sum::from(sums.bond));
            self.credit(bond, gone.clamped());
            let pot = Account::GasPot(payer, signer);
            self.debit(pot, sums.gas_pots.clamped());
            self.credit(pot, sums.given.clamped());
        }
        self
    }

    /// Accounts that are checked with another one beside them.
    fn open_ended(&self, name: &str) -> bool {
        self.earned
            .keys()
            .flat_map(|owner| [Account::Earned(*owner), Account::Unbooked(*owner)])
            .chain(
                self.spent
                    .keys()
                    .flat_map(|owner| [Account::Spent(*owner), Account::Unbooked(*owner)]),
            )
            .any(|account| account.name() == name)
    }
}
