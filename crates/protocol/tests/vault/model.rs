//! The vault once more, in plain Rust: written from what it promises, without the care for gas of the original.

use std::collections::BTreeMap;

use protocol::voucher::Address;
use revm::primitives::U256;

use crate::chain::FEE_SETTER;

pub(crate) const DAY: u64 = 24 * 60 * 60;
const THAW: u64 = 14 * DAY;
const MAX_LIFE: u64 = 365 * DAY;
const MAX_RESERVATION: u64 = 7 * DAY;
const MEND: u64 = DAY;
const BURNT: Address = {
    let mut burnt = [0; 20];
    burnt[18] = 0xde;
    burnt[19] = 0xad;
    Address::new(burnt)
};

/// What a payer's grant is to one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signer {
    pub(crate) granted: u128,
    pub(crate) spent: u128,
    pub(crate) locked: u128,
    pub(crate) until: u64,
    pub(crate) thawed: bool,
    pub(crate) contested: bool,
    pub(crate) bond: u128,
    pub(crate) gas_pot: u128,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) claimed: u128,
    pub(crate) reserved_upto: u128,
    pub(crate) reserved_until: u64,
    pub(crate) nonce: u64,
    pub(crate) gas_paid: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overdraft {
    pub(crate) round: u32,
    pub(crate) mend_by: u64,
    pub(crate) calm_until: u64,
    pub(crate) reporter: Address,
    pub(crate) promised: U256,
    pub(crate) open: U256,
    pub(crate) share: u128,
    pub(crate) decided: bool,
}

#[derive(Clone, Debug, Default)]
struct Shown {
    promised: u128,
    open: u128,
    paid: u128,
}

/// (payer, signer)
pub(crate) type Grant = (Address, Address);
/// (payer, signer, payee)
pub(crate) type LineOf = (Address, Address, Address);

/// A row of a claim, with whoever its signature really is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) payer: Address,
    pub(crate) signer: Address,
    pub(crate) cumulative: u128,
}

/// A promise as evidence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    pub(crate) payee: Address,
    pub(crate) signer: Address,
    pub(crate) amount: u128,
    /// Zero for a voucher.
    pub(crate) until: u64,
    pub(crate) nonce: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Vault {
    pub(crate) now: u64,
    gas_share: u128,
    report_reward: u128,
    pub(crate) fee_bps: u16,
    pub(crate) fee_to: Address,
    pub(crate) tokens: BTreeMap<Address, u128>,
    pub(crate) balances: BTreeMap<Address, u128>,
    pub(crate) signers: BTreeMap<Grant, Signer>,
    pub(crate) lines: BTreeMap<LineOf, Line>,
    pub(crate) overdrafts: BTreeMap<Grant, Overdraft>,
    shown: BTreeMap<(LineOf, u32), Shown>,
    pub(crate) payouts: BTreeMap<Address, Address>,
    /// The signer of its payout that a payee's claims are kept for.
    pub(crate) joined: BTreeMap<Address, Address>,
}

/// It would not be done; which of its reasons it was is the original's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

type Done<T = ()> = Result<T, Refused>;

fn must(holds: bool) -> Done {
    if holds { Ok(()) } else { Err(Refused) }
}

impl Vault {
    pub(crate) fn new(now: u64, gas_share: u128, report_reward: u128) -> Self {
        Self {
            now,
            gas_share,
            report_reward,
            ..Self::default()
        }
    }

    /// Does all of a step or nothing of it.
    pub(crate) fn whole<T>(&mut self, step: impl FnOnce(&mut Self) -> Done<T>) -> Done<T> {
        let mut next = self.clone();
        let value = step(&mut next)?;
        *self = next;
        Ok(value)
    }

    fn take(&mut self, owner: Address, amount: u128) -> Done {
        let balance = self.balances.entry(owner).or_default();
        *balance = balance.checked_sub(amount).ok_or(Refused)?;
        Ok(())
    }

    fn give(&mut self, owner: Address, amount: u128) {
        *self.balances.entry(owner).or_default() += amount;
    }

    fn signer(&mut self, grant: Grant) -> &mut Signer {
        self.signers.entry(grant).or_default()
    }

    fn known(&mut self, grant: Grant) -> Done<Signer> {
        let signer = self.signer(grant).clone();
        must(signer.until != 0)?;
        Ok(signer)
    }

    pub(crate) fn free(&self, grant: Grant) -> u128 {
        self.signers
            .get(&grant)
            .filter(|signer| !signer.thawed)
            .map_or(0, |signer| signer.granted - signer.spent - signer.locked)
    }

    pub(crate) fn deposit(&mut self, from: Address, payer: Address, amount: u128) -> Done {
        must(payer != Address::ZERO && amount != 0)?;
        let tokens = self.tokens.entry(from).or_default();
        *tokens = tokens.checked_sub(amount).ok_or(Refused)?;
        self.give(payer, amount);
        Ok(())
    }

    pub(crate) fn withdraw(&mut self, payer: Address, amount: u128) -> Done {
        self.take(payer, amount)?;
        *self.tokens.entry(payer).or_default() += amount;
        Ok(())
    }

    pub(crate) fn set_signer(
        &mut self,
        grant: Grant,
        add: u128,
        until: u64,
        bond: u128,
        gas_pot: u128,
    ) -> Done {
        let now = self.now;
        let before = self.signer(grant).clone();
        let case = self.overdrafts.get(&grant).cloned().unwrap_or_default();
        let undecided = before.contested && !before.thawed && !case.decided;
        if before.until == 0 || now < before.until {
            must(until >= before.until && until > now && until <= now + MAX_LIFE)?;
            self.signer(grant).until = until;
        } else {
            must(undecided && now < case.mend_by)?;
        }
        let all = add
            .checked_add(bond)
            .and_then(|sum| sum.checked_add(gas_pot));
        self.take(grant.0, all.ok_or(Refused)?)?;
        let signer = self.signer(grant);
        signer.granted += add;
        signer.bond += bond;
        signer.gas_pot += gas_pot;
        if undecided && U256::from(signer.granted) >= case.promised {
            self.mended(grant);
        }
        Ok(())
    }

    pub(crate) fn end_signer(&mut self, grant: Grant) -> Done {
        let now = self.now;
        must(now < self.known(grant)?.until)?;
        self.signer(grant).until = now;
        Ok(())
    }

    pub(crate) fn thaw(&mut self, grant: Grant) -> Done {
        let now = self.now;
        let signer = self.known(grant)?;
        must(now >= signer.until + THAW)?;
        let decided = self.overdrafts.get(&grant).is_some_and(|case| case.decided);
        must(!signer.contested || decided)?;
        if !signer.thawed {
            self.give(grant.0, signer.granted - signer.spent);
            let signer = self.signer(grant);
            signer.thawed = true;
            signer.locked = 0;
        }
        if now >= signer.until + 2 * THAW {
            let signer = self.signer(grant);
            let amount = std::mem::take(&mut signer.bond) + std::mem::take(&mut signer.gas_pot);
            self.give(grant.0, amount);
        }
        Ok(())
    }

    pub(crate) fn register(&mut self, payee: Address, payout: Address) -> Done {
        must(payout != Address::ZERO && !self.payouts.contains_key(&payee))?;
        self.payouts.insert(payee, payout);
        Ok(())
    }

    pub(crate) fn move_payout(&mut self, from: Address, payee: Address, payout: Address) -> Done {
        self.is_payout(from, payee)?;
        must(payout != Address::ZERO)?;
        self.joined.remove(&payee);
        self.payouts.insert(payee, payout);
        Ok(())
    }

    pub(crate) fn join(
        &mut self,
        from: Address,
        payee: Address,
        signer: Address,
        until: u64,
    ) -> Done {
        self.is_payout(from, payee)?;
        self.set_signer((from, signer), 0, until, 0, 0)?;
        self.joined.insert(payee, signer);
        Ok(())
    }

    pub(crate) fn unjoin(&mut self, from: Address, payee: Address) -> Done {
        self.is_payout(from, payee)?;
        must(self.joined.remove(&payee).is_some())
    }

    fn is_payout(&self, from: Address, payee: Address) -> Done {
        must(self.payouts.get(&payee) == Some(&from))
    }

    pub(crate) fn set_fee(&mut self, from: Address, bps: u16, to: Address) -> Done {
        must(from == FEE_SETTER && bps <= 1000 && (bps == 0 || to != Address::ZERO))?;
        (self.fee_bps, self.fee_to) = (bps, to);
        Ok(())
    }

    pub(crate) fn reserve(&mut self, line: LineOf, upto: u128, until: u64, nonce: u64) -> Done {
        let (now, grant) = (self.now, (line.0, line.1));
        let signer = self.known(grant)?;
        must(now < signer.until && !signer.contested)?;
        must(until > now && until <= now + MAX_RESERVATION)?;
        let before = self.lines.get(&line).cloned().unwrap_or_default();
        must(nonce > before.nonce)?;
        if before.reserved_until > now {
            must(upto >= before.reserved_upto && until >= before.reserved_until)?;
        }
        self.unlock(line);
        let needs = upto.saturating_sub(before.claimed);
        must(needs <= self.free(grant))?;
        self.signer(grant).locked += needs;
        let line = self.lines.entry(line).or_default();
        (line.reserved_upto, line.reserved_until, line.nonce) = (upto, until, nonce);
        Ok(())
    }

    pub(crate) fn release(&mut self, from: Address, line: LineOf) -> Done<u64> {
        let now = self.now;
        let until = self.lines.entry(line).or_default().reserved_until;
        must(from == line.2 || now >= until)?;
        self.unlock(line);
        let row = self.lines.entry(line).or_default();
        (row.reserved_upto, row.reserved_until) = (0, 0);
        Ok(row.nonce)
    }

    /// Frees what a line holds of its signer, whatever the time is.
    fn unlock(&mut self, line: LineOf) {
        let row = self.lines.get(&line).cloned().unwrap_or_default();
        let signer = self.signer((line.0, line.1));
        if !signer.thawed {
            signer.locked -= row.reserved_upto.saturating_sub(row.claimed);
        }
    }

    /// What all rows paid.
    pub(crate) fn claim(&mut self, payee: Address, rows: &[Row]) -> Done<u128> {
        must(self.payouts.contains_key(&payee))?;
        let (mut for_work, mut for_gas) = (0, 0);
        for row in rows {
            let (work, gas) = self.claim_row(payee, row);
            for_work += work;
            for_gas += gas;
        }
        self.pay_out(payee, for_work, for_gas);
        Ok(for_work)
    }

    fn claim_row(&mut self, payee: Address, row: &Row) -> (u128, u128) {
        let (now, grant) = (self.now, (row.payer, row.signer));
        let signer = self.signers.get(&grant).cloned().unwrap_or_default();
        if signer.until == 0 {
            return (0, 0);
        }
        let id = (row.payer, row.signer, payee);
        let line = self.lines.entry(id).or_default().clone();
        let due = row.cumulative.saturating_sub(line.claimed);
        if due == 0 {
            return (0, 0);
        }
        let mut held = line.reserved_upto.saturating_sub(line.claimed);
        if held != 0 && line.reserved_until <= now {
            self.unlock(id);
            let line = self.lines.entry(id).or_default();
            (line.reserved_upto, line.reserved_until) = (0, 0);
            held = 0;
        }
        let mut paid = due.min(held);
        self.signer(grant).locked -= paid;
        self.signer(grant).spent += paid;
        if !signer.thawed && !signer.contested && now < signer.until + THAW {
            let more = (due - paid).min(self.free(grant));
            self.signer(grant).spent += more;
            paid += more;
        }
        if paid == 0 {
            return (0, 0);
        }
        self.lines.entry(id).or_default().claimed += paid;
        let signer = self.signer(grant).clone();
        let share = signer.gas_pot.min(self.gas_share);
        if signer.until > now || line.gas_paid || share == 0 {
            return (paid, 0);
        }
        self.lines.entry(id).or_default().gas_paid = true;
        self.signer(grant).gas_pot -= share;
        (paid, share)
    }

    fn pay_out(&mut self, payee: Address, for_work: u128, for_gas: u128) {
        let fee = for_work / 10_000 * u128::from(self.fee_bps)
            + for_work % 10_000 * u128::from(self.fee_bps) / 10_000;
        if fee != 0 {
            self.give(self.fee_to, fee);
        }
        let payout = self.payouts[&payee];
        let rest = for_work + for_gas - fee;
        let Some(signer) = self.joined.get(&payee) else {
            *self.tokens.entry(payout).or_default() += rest;
            return;
        };
        // It is the payout's in either case; only what a live signer was granted is promised to its vouchers.
        let (now, grant) = (self.now, (payout, *signer));
        let signer = self.signer(grant);
        let raised = signer.granted.checked_add(rest);
        match raised.filter(|_| now < signer.until && !signer.contested) {
            Some(granted) => signer.granted = granted,
            None => self.give(payout, rest),
        }
    }

    pub(crate) fn prove(&mut self, from: Address, grant: Grant, rows: &[Evidence]) -> Done {
        let now = self.now;
        let signer = self.known(grant)?;
        must(now < signer.until + 2 * THAW)?;
        let case = self.overdrafts.entry(grant).or_default().clone();
        must(!case.decided && now >= case.calm_until)?;
        must(case.mend_by == 0 || now < case.mend_by)?;
        if case.mend_by == 0 {
            // All that was paid on its lines was signed for.
            let of_signer = |(payer, signer, _): &LineOf| (*payer, *signer) == grant;
            let lines = self.lines.iter().filter(|(line, _)| of_signer(line));
            let paid = lines.map(|(_, line)| U256::from(line.claimed)).sum();
            self.overdrafts.entry(grant).or_default().promised = paid;
        }
        let mut before = Address::ZERO;
        for row in rows {
            must(row.payee > before && (row.signer == grant.1 || row.amount == 0))?;
            before = row.payee;
            self.show(grant, row)?;
        }
        let granted = U256::from(signer.granted);
        let case = self.overdrafts.entry(grant).or_default();
        must(case.promised > granted)?;
        if case.mend_by == 0 {
            case.mend_by = now + MEND;
            case.reporter = from;
            self.signer(grant).contested = true;
        }
        Ok(())
    }

    fn show(&mut self, grant: Grant, row: &Evidence) -> Done {
        let now = self.now;
        must(row.until == 0 || row.until > now)?;
        let id = (grant.0, grant.1, row.payee);
        let line = self.lines.get(&id).cloned().unwrap_or_default();
        let held = if line.reserved_until > now {
            line.reserved_upto
        } else {
            0
        };
        let brought = row.until != 0 && row.nonce <= line.nonce;
        let promised = if brought { held } else { row.amount.max(held) };
        let case = self.overdrafts.entry(grant).or_default();
        let shown = self.shown.entry((id, case.round)).or_default();
        let counted = match shown.promised {
            0 => line.claimed,
            level => level,
        };
        if promised <= counted {
            return Ok(());
        }
        let open = promised.saturating_sub(held.max(line.claimed));
        case.promised += U256::from(promised - counted);
        case.open = case.open + U256::from(open) - U256::from(shown.open);
        (shown.promised, shown.open) = (promised, open);
        Ok(())
    }

    fn mended(&mut self, grant: Grant) {
        let now = self.now;
        let case = self.overdrafts.entry(grant).or_default();
        *case = Overdraft {
            round: case.round + 1,
            calm_until: now + MEND,
            ..Overdraft::default()
        };
        let signer = self.signer(grant);
        signer.contested = false;
        signer.until = signer.until.max(now);
    }

    pub(crate) fn settle(&mut self, grant: Grant, payees: &[Address]) -> Done {
        let now = self.now;
        let case = self.overdrafts.entry(grant).or_default().clone();
        if case.mend_by == 0 {
            return Ok(());
        }
        let signer = self.signer(grant).clone();
        if !case.decided {
            if U256::from(signer.granted) >= case.promised && !signer.thawed {
                self.mended(grant);
                return Ok(());
            }
            must(now >= case.mend_by)?;
            self.overdrafts.entry(grant).or_default().decided = true;
            if !signer.thawed {
                self.signer(grant).until = now;
            }
            self.share(grant);
            let reward = (signer.bond / 2).min(self.report_reward);
            self.signer(grant).bond = 0;
            self.give(case.reporter, reward);
            self.give(BURNT, signer.bond - reward);
        }
        self.share(grant);
        for payee in payees {
            self.pay_share(grant, *payee);
        }
        Ok(())
    }

    fn share(&mut self, grant: Grant) {
        if self.signer(grant).thawed {
            return;
        }
        let free = self.free(grant);
        let case = self.overdrafts.entry(grant).or_default();
        let wants = case.open - U256::from(case.share);
        let more = U256::from(free).min(wants).to::<u128>();
        case.share += more;
        self.signer(grant).spent += more;
    }

    fn pay_share(&mut self, grant: Grant, payee: Address) {
        let case = self.overdrafts.entry(grant).or_default().clone();
        let id = ((grant.0, grant.1, payee), case.round);
        let shown = self.shown.entry(id).or_default();
        if shown.open == 0 || !self.payouts.contains_key(&payee) {
            return;
        }
        let part = U256::from(case.share) * U256::from(shown.open) / case.open;
        let amount = part.to::<u128>() - shown.paid;
        if amount != 0 {
            shown.paid += amount;
            self.pay_out(payee, amount, 0);
        }
    }
}
