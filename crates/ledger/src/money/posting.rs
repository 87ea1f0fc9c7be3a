//! What an event of the chain changes: lines, signers, and the journal.

use rusqlite::Connection;

use super::journal::{Account, Source, post, sums};
use super::lines::{Line, Side, Signer};
use super::payer::{Lost, mark_lost};
use super::{Address, ChainEvent, LineKey, Mine};
use crate::LedgerError;

/// Books one event that was never booked before.
pub(super) fn book(
    connection: &Connection,
    event: i64,
    at_s: u64,
    mine: Mine,
    said: &ChainEvent,
) -> Result<(), LedgerError> {
    let books = Books {
        connection,
        at_ms: at_s.saturating_mul(1000),
        source: Source::Event(event),
        mine,
    };
    match *said {
        ChainEvent::Deposited { payer, amount } => books.payers(
            "deposit",
            Account::Free(payer),
            Account::Outside(payer),
            amount,
        ),
        ChainEvent::Withdrawn { payer, amount } => books.payers(
            "withdrawal",
            Account::Outside(payer),
            Account::Free(payer),
            amount,
        ),
        ChainEvent::SignerSet {
            payer,
            signer,
            granted,
            until_s,
            bond,
            gas_pot,
        } => {
            books.signer(&payer, &signer, |row| {
                row.granted = row.granted.max(granted);
                row.until_s = until_s;
            })?;
            books.raise("grant", Account::Grant(payer, signer), payer, granted)?;
            books.refill("bond", Account::Bond(payer, signer), payer, bond)?;
            books.refill("gas_pot", Account::GasPot(payer, signer), payer, gas_pot)
        }
        ChainEvent::SignerEnded {
            payer,
            signer,
            until_s,
        } => books.signer(&payer, &signer, |row| row.until_s = until_s),
        ChainEvent::OverdraftShown { payer, signer, .. } => {
            books.signer(&payer, &signer, |row| row.contested = true)
        }
        // The vault moves the end of a signer that is over to this block: its payees waited for it.
        ChainEvent::OverdraftMended { payer, signer } => books.signer(&payer, &signer, |row| {
            row.contested = false;
            row.until_s = row.until_s.max(at_s);
        }),
        ChainEvent::OverdraftDecided { payer, signer } => {
            books.signer(&payer, &signer, |row| row.until_s = at_s)?;
            books.empty(
                "penalty",
                Account::Bond(payer, signer),
                Account::Penalties(payer),
            )
        }
        ChainEvent::GrantFreed {
            payer,
            signer,
            amount,
        } => books.grant_freed(payer, signer, amount),
        ChainEvent::BondFreed {
            payer,
            signer,
            amount,
        } => {
            let bond = books.left(&Account::Bond(payer, signer))?.min(amount);
            let free = Account::Free(payer);
            books.payers("bond_freed", free, Account::Bond(payer, signer), bond)?;
            books.payers(
                "gas_pot_freed",
                free,
                Account::GasPot(payer, signer),
                amount - bond,
            )
        }
        ChainEvent::Reserved {
            payer,
            signer,
            payee,
            upto,
            until_s,
            nonce,
        } => books.reserved(key(payer, signer, payee), upto, until_s, nonce),
        ChainEvent::Released {
            payer,
            signer,
            payee,
            nonce,
        } => books.lines(key(payer, signer, payee), |line| {
            line.reserved_upto = 0;
            line.reserved_until_s = 0;
            line.released = line.released.max(nonce);
        }),
        ChainEvent::Claimed {
            payer,
            signer,
            payee,
            claimed,
            paid,
            ..
        } => books.claimed(key(payer, signer, payee), claimed, paid),
        ChainEvent::OverdraftPaid {
            payer,
            signer,
            payee,
            amount,
        } => books.shared(key(payer, signer, payee), amount),
        ChainEvent::GasShared {
            payer,
            signer,
            payee,
            amount,
        } => {
            books.payers(
                "gas_given",
                Account::GasGiven(payer),
                Account::GasPot(payer, signer),
                amount,
            )?;
            books.payees(
                "gas_share",
                Account::PaidOut(payee),
                Account::GasShares(payee),
                amount,
            )
        }
        ChainEvent::PaidOut { payee, fee, .. } => {
            books.payees("fee", Account::Fees(payee), Account::PaidOut(payee), fee)
        }
        ChainEvent::Kept {
            payer,
            payee,
            amount,
            ..
        } => {
            // What the node of another computer earns for this payer comes from outside of these books.
            let from = match mine.payee {
                true => Account::PaidOut(payee),
                false => Account::Outside(payer),
            };
            books.payers("kept", Account::Free(payer), from, amount)
        }
    }
}

fn key(payer: Address, signer: Address, payee: Address) -> LineKey {
    LineKey {
        payer,
        signer,
        payee,
    }
}

struct Books<'a> {
    connection: &'a Connection,
    at_ms: u64,
    source: Source,
    mine: Mine,
}

impl Books<'_> {
    fn post(
        &self,
        kind: &str,
        debit: Account,
        credit: Account,
        amount: u128,
    ) -> Result<(), LedgerError> {
        post(
            self.connection,
            self.at_ms,
            kind,
            debit,
            credit,
            amount,
            self.source,
        )
    }

    /// Posts where the payer is ours.
    fn payers(
        &self,
        kind: &str,
        debit: Account,
        credit: Account,
        amount: u128,
    ) -> Result<(), LedgerError> {
        if self.mine.payer {
            self.post(kind, debit, credit, amount)?;
        }
        Ok(())
    }

    /// Posts where the payee is ours.
    fn payees(
        &self,
        kind: &str,
        debit: Account,
        credit: Account,
        amount: u128,
    ) -> Result<(), LedgerError> {
        if self.mine.payee {
            self.post(kind, debit, credit, amount)?;
        }
        Ok(())
    }

    /// What an account has more debits than credits.
    fn left(&self, account: &Account) -> Result<u128, LedgerError> {
        let (debit, credit) = sums(self.connection, account)?;
        Ok(debit.minus(credit).clamped())
    }

    /// Fills an account up to all that was ever put into it.
    fn raise(
        &self,
        kind: &str,
        account: Account,
        payer: Address,
        total: u128,
    ) -> Result<(), LedgerError> {
        let (debit, _) = sums(self.connection, &account)?;
        let more = total.saturating_sub(debit.clamped());
        self.payers(kind, account, Account::Free(payer), more)
    }

    /// Fills an account up to what is in it now.
    fn refill(
        &self,
        kind: &str,
        account: Account,
        payer: Address,
        now: u128,
    ) -> Result<(), LedgerError> {
        let more = now.saturating_sub(self.left(&account)?);
        self.payers(kind, account, Account::Free(payer), more)
    }

    /// Moves all that is left on an account.
    fn empty(&self, kind: &str, from: Account, to: Account) -> Result<(), LedgerError> {
        let left = self.left(&from)?;
        self.payers(kind, to, from, left)
    }

    /// Changes a signer's row, where it is a payer's of ours or one whose vouchers are held.
    fn signer(
        &self,
        payer: &Address,
        signer: &Address,
        change: impl FnOnce(&mut Signer),
    ) -> Result<(), LedgerError> {
        let row = if self.mine.payer {
            Some(Signer::begin(self.connection, payer, signer, false)?)
        } else {
            Signer::find(self.connection, payer, signer)?
        };
        let Some(mut row) = row else {
            return Ok(());
        };
        change(&mut row);
        row.save(self.connection)
    }

    /// The line on one side, begun where this computer never saw it: its book may have been lost.
    fn line(&self, side: Side, key: &LineKey) -> Result<(Signer, Line), LedgerError> {
        let signer = Signer::begin(self.connection, &key.payer, &key.signer, false)?;
        let line = Line::begin(self.connection, side, key, &signer)?;
        Ok((signer, line))
    }

    /// Changes the line on each side that is ours.
    fn lines(&self, key: LineKey, change: impl Fn(&mut Line)) -> Result<(), LedgerError> {
        let sides = [
            (self.mine.payer, Side::Payer),
            (self.mine.payee, Side::Payee),
        ];
        for (_, side) in sides.into_iter().filter(|(ours, _)| *ours) {
            let (_, mut line) = self.line(side, &key)?;
            change(&mut line);
            line.save(self.connection)?;
        }
        Ok(())
    }

    fn reserved(
        &self,
        key: LineKey,
        upto: u128,
        until_s: u64,
        nonce: u64,
    ) -> Result<(), LedgerError> {
        if self.mine.payer {
            let (mut signer, line) = self.line(Side::Payer, &key)?;
            if nonce > line.nonce && signer.own {
                let lost = Lost::ReservationSeen {
                    payee: key.payee,
                    seen: nonce,
                    booked: line.nonce,
                };
                mark_lost(self.connection, &mut signer, &lost)?;
            }
        }
        self.lines(key, |line| {
            line.reserved_upto = upto;
            line.reserved_until_s = until_s;
            line.nonce = line.nonce.max(nonce);
        })
    }

    fn claimed(&self, key: LineKey, claimed: u128, paid: u128) -> Result<(), LedgerError> {
        if self.mine.payer {
            let (mut signer, mut line) = self.line(Side::Payer, &key)?;
            let booked = line.cumulative;
            if claimed > booked && signer.own {
                let lost = Lost::ClaimSeen {
                    payee: key.payee,
                    seen: claimed,
                    booked,
                };
                mark_lost(self.connection, &mut signer, &lost)?;
            }
            self.cover(&mut line, claimed)?;
            line.claimed = line.claimed.max(claimed);
            line.save(self.connection)?;
            let grant = Account::Grant(key.payer, key.signer);
            self.post("claimed", Account::Promised(key), grant, paid)?;
        }
        if self.mine.payee {
            let (_, mut line) = self.line(Side::Payee, &key)?;
            self.cover(&mut line, claimed)?;
            line.claimed = line.claimed.max(claimed);
            line.save(self.connection)?;
            let payout = Account::PaidOut(key.payee);
            self.post("claim", payout, Account::Receivable(key), paid)?;
        }
        Ok(())
    }

    fn shared(&self, key: LineKey, amount: u128) -> Result<(), LedgerError> {
        let level = |line: &Line| {
            line.claimed
                .saturating_add(line.shared)
                .saturating_add(amount)
        };
        if self.mine.payer {
            let (_, mut line) = self.line(Side::Payer, &key)?;
            let paid = level(&line);
            self.cover(&mut line, paid)?;
            line.shared = line.shared.saturating_add(amount);
            line.save(self.connection)?;
            let grant = Account::Grant(key.payer, key.signer);
            self.post("shared_out", Account::Promised(key), grant, amount)?;
        }
        if self.mine.payee {
            let (_, mut line) = self.line(Side::Payee, &key)?;
            let paid = level(&line);
            self.cover(&mut line, paid)?;
            line.shared = line.shared.saturating_add(amount);
            line.save(self.connection)?;
            let payout = Account::PaidOut(key.payee);
            self.post("share", payout, Account::Receivable(key), amount)?;
        }
        Ok(())
    }

    /// What the chain paid was vouchered, also where this book has no voucher of it.
    fn cover(&self, line: &mut Line, level: u128) -> Result<(), LedgerError> {
        let missing = level.saturating_sub(line.cumulative);
        if missing == 0 {
            return Ok(());
        }
        line.cumulative = level;
        match line.side {
            Side::Payer => self.post(
                "unbooked",
                Account::Unbooked(line.key.payer),
                Account::Promised(line.key),
                missing,
            ),
            Side::Payee => self.post(
                "unbooked",
                Account::Receivable(line.key),
                Account::Unbooked(line.key.payee),
                missing,
            ),
        }
    }

    /// Nothing more is drawn on the grant: what is open of its lines never will be.
    fn grant_freed(
        &self,
        payer: Address,
        signer: Address,
        amount: u128,
    ) -> Result<(), LedgerError> {
        self.signer(&payer, &signer, |row| row.freed = true)?;
        let grant = Account::Grant(payer, signer);
        self.payers("grant_freed", Account::Free(payer), grant, amount)?;
        // Shares of an overdraft that no payee came for.
        self.empty("penalty", grant, Account::Penalties(payer))?;
        let Some(row) = Signer::find(self.connection, &payer, &signer)? else {
            return Ok(());
        };
        for side in [Side::Payer, Side::Payee] {
            for mut line in Line::of_signer(self.connection, side, row.id)? {
                let open = line.open();
                line.written_off = line.written_off.saturating_add(open);
                line.save(self.connection)?;
                let (debit, credit) = match side {
                    Side::Payer => (Account::Promised(line.key), Account::Lapsed(payer)),
                    Side::Payee => (
                        Account::BadDebts(line.key.payee),
                        Account::Receivable(line.key),
                    ),
                };
                self.post("written_off", debit, credit, open)?;
            }
        }
        Ok(())
    }
}
