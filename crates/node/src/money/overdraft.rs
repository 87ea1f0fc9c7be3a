//! Overdrafts: a key that promised more than it was granted is shown to the vault where that brings more than it costs, and its case is
//! settled when its day is over.
//!
//! What was paid out of a grant counts in the vault by itself, so a voucher of this computer that is left over is proof enough. Where
//! others' reservations hold the rest of the grant, they are named beside it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chain::{
    Address, B256, Call, Final, Key, MAX_ROWS, OverdraftView, PromiseRow, SignerView, U256,
    VaultEvent, amount_text,
};
use ledger::{OpenLine, THAW_S};

use super::{
    Live,
    settle::{SettleError, prepare, sent},
};

/// A key of which the vault said nothing new is looked at again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);
/// Keys that are looked at in one round: each is a few questions to every endpoint.
const LOOKS: usize = 32;
/// A case takes two transactions: the proof, and its settlement.
const TRANSACTIONS: u128 = 2;

/// A payer and one of its keys.
type Grant = (Address, Address);

/// What this run knows of keys that owe something here.
#[derive(Debug, Default)]
pub(super) struct Overdrafts {
    keys: Mutex<BTreeMap<Grant, Seen>>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    /// When it was looked at; `None` where something happened since.
    at: Option<Instant>,
    /// The chain's time from which on there is something to do.
    due_s: Option<u64>,
    /// This computer's promise is in the case.
    shown: bool,
    /// The case was settled from here.
    settled: bool,
    /// When others' reservations were looked for.
    searched: Option<Instant>,
    /// What is not covered of what it owes, and what is done about it.
    said: Option<String>,
}

/// What a key's case asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Everything is covered, or nothing can be had any more.
    None,
    /// There is nothing to do before that time of the chain.
    Wait(u64),
    /// The promise is to be shown: what that brings, in base units.
    Show(u128),
    /// The case is to be decided, or this computer's share to be fetched.
    Settle(u128),
}

/// What a step follows from. Amounts in base units, times in seconds of the chain.
#[derive(Debug, Clone, Copy)]
struct Facts {
    now_s: u64,
    payee: Address,
    /// Promised to this computer and not claimed.
    owed: u128,
    /// What a claim would pay of it now.
    covered: u128,
    /// A share of it was paid.
    shared: bool,
    shown: bool,
    settled: bool,
    signer: SignerView,
    case: OverdraftView,
    report_reward: u128,
}

/// What a claim of a line would pay now.
pub(super) fn covered(line: &OpenLine, signer: &SignerView, now_s: u64) -> u128 {
    let state = &line.state;
    let reserved = match state.reserved_until_s > now_s {
        true => state.reserved_upto.saturating_sub(state.claimed),
        false => 0,
    };
    let open = !signer.contested && now_s < signer.until.saturating_add(THAW_S);
    let free = match open {
        true => free(signer),
        false => 0,
    };
    line.open.min(reserved.saturating_add(free))
}

/// What of a grant is neither spent nor reserved nor given back.
fn free(signer: &SignerView) -> u128 {
    match signer.thawed {
        true => 0,
        false => signer
            .granted
            .saturating_sub(signer.spent)
            .saturating_sub(signer.locked),
    }
}

impl Facts {
    fn step(&self) -> Step {
        let Self { signer, case, .. } = self;
        let reward = match case.reporter == Address::ZERO || case.reporter == self.payee {
            true => self.report_reward.min(signer.bond / 2),
            false => 0,
        };
        if case.decided {
            let fetched = self.shared || self.settled || !self.shown;
            return match fetched {
                true => Step::None,
                false => Step::Settle(self.part(case.share, case.open)),
            };
        }
        if signer.contested {
            return match self.now_s < case.mend_by {
                true if self.shown || case.reporter == self.payee => Step::Wait(case.mend_by),
                true => Step::Show(self.part(free(signer), case.open + U256::from(self.owed))),
                false => Step::Settle(reward + self.part(free(signer), case.open)),
            };
        }
        let over_s = signer.until.saturating_add(2 * THAW_S);
        if self.covered >= self.owed || self.now_s >= over_s {
            return Step::None;
        }
        if self.now_s < case.calm_until {
            return Step::Wait(case.calm_until);
        }
        Step::Show(reward + free(signer).min(self.owed))
    }

    /// This computer's part of what there is to share.
    fn part(&self, share: u128, open: U256) -> u128 {
        if open.is_zero() {
            return 0;
        }
        let part = U256::from(share) * U256::from(self.owed) / open;
        u128::try_from(part).unwrap_or(u128::MAX).min(self.owed)
    }
}

impl Overdrafts {
    /// What is not covered of what is owed here, and what is done about it: of the first key of which there is something to say.
    pub(super) fn said(&self) -> Option<String> {
        self.keys().values().find_map(|seen| seen.said.clone())
    }

    /// Final blocks said something of these keys: those that owe something here are looked at again.
    pub(super) fn stirred(&self, block: &Final) {
        let mut keys = self.keys();
        for happened in &block.events {
            if let Some(grant) = grant_of(&happened.event)
                && let Some(seen) = keys.get_mut(&grant)
            {
                seen.at = None;
                if let VaultEvent::OverdraftMended { .. } = happened.event {
                    (seen.shown, seen.settled) = (false, false);
                }
            }
        }
    }

    fn seen(&self, grant: Grant) -> Seen {
        self.keys().get(&grant).cloned().unwrap_or_default()
    }

    fn note(&self, grant: Grant, change: impl FnOnce(&mut Seen)) {
        change(self.keys().entry(grant).or_default());
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<Grant, Seen>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn is_due(&self, now_s: u64) -> bool {
        let old = self.at.is_none_or(|at| at.elapsed() >= LOOK_AGAIN);
        old || self.due_s.is_some_and(|due| now_s >= due)
    }
}

/// Looks at keys that owe something here, and sends one transaction at most: whether it did.
pub(super) async fn look(
    live: &Live,
    operator: &Key,
    payee: Address,
    open: &[OpenLine],
) -> Result<bool, SettleError> {
    let now_s = live.chain_now();
    live.overdrafts
        .keys()
        .retain(|known, _| open.iter().any(|line| grant(line) == *known));
    let due = open
        .iter()
        .filter(|line| live.overdrafts.seen(grant(line)).is_due(now_s));
    for line in due.take(LOOKS) {
        let grant = grant(line);
        let facts = facts(live, payee, line, now_s).await?;
        let did = match &facts {
            Some(facts) => act(live, operator, line, facts).await?,
            None => Did::Nothing,
        };
        live.overdrafts.note(grant, |seen| {
            seen.at = Some(Instant::now());
            seen.due_s = match did {
                Did::Waits(until_s) => Some(until_s),
                Did::Nothing | Did::Cannot(_) | Did::Sent { .. } => None,
            };
            seen.said = facts.and_then(|facts| Some(told(live, grant, &facts, did.said()?)));
            if let Did::Sent { settles } = did {
                (seen.shown, seen.settled) = (true, settles);
            }
        });
        if let Did::Sent { .. } = did {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What came of a look.
#[derive(Debug)]
enum Did {
    Nothing,
    Waits(u64),
    Cannot(String),
    Sent { settles: bool },
}

impl Did {
    fn said(&self) -> Option<&str> {
        Some(match self {
            Self::Nothing => return None,
            Self::Waits(_) => "a case is open, and waits for its day",
            Self::Cannot(why) => why,
            Self::Sent { settles: true } => "its case is being settled",
            Self::Sent { settles: false } => "it is being shown to the vault",
        })
    }
}

async fn act(
    live: &Live,
    operator: &Key,
    line: &OpenLine,
    facts: &Facts,
) -> Result<Did, SettleError> {
    let (payer, signer) = grant(line);
    let (call, brings, times) = match facts.step() {
        Step::None => return Ok(Did::Nothing),
        Step::Wait(until_s) => return Ok(Did::Waits(until_s)),
        Step::Show(brings) => match proof(live, line, facts).await? {
            Some(rows) => (
                Call::ProveOverdraft {
                    payer,
                    signer,
                    rows,
                },
                brings,
                TRANSACTIONS,
            ),
            None => {
                let hidden =
                    "what its key promised to others is not public, so nothing can be shown yet";
                return Ok(Did::Cannot(hidden.to_owned()));
            }
        },
        Step::Settle(brings) => (
            Call::SettleOverdraft {
                payer,
                signer,
                payees: vec![facts.payee],
            },
            brings,
            1,
        ),
    };
    let preview = match prepare(&live.chain, facts.payee, &call).await {
        Ok(preview) => preview,
        Err(SettleError::Reverts { reason, .. }) => return Ok(Did::Cannot(reason)),
        Err(error) => return Err(error),
    };
    let costs = live.network().in_token(preview.gas).saturating_mul(times);
    if brings <= costs {
        return Ok(Did::Cannot(format!(
            "showing it would cost about {} and bring {}",
            amount(live, costs),
            amount(live, brings)
        )));
    }
    sent(&live.chain, operator, preview).await?;
    Ok(Did::Sent {
        settles: matches!(call, Call::SettleOverdraft { .. }),
    })
}

async fn facts(
    live: &Live,
    payee: Address,
    line: &OpenLine,
    now_s: u64,
) -> Result<Option<Facts>, SettleError> {
    let (payer, signer) = grant(line);
    let Some(view) = live.chain.signer(payer, signer).await? else {
        return Ok(None);
    };
    let covered = covered(line, &view, now_s);
    if covered >= line.open && !view.contested {
        return Ok(None);
    }
    let case = live.chain.overdraft(payer, signer).await?;
    let on_chain = live.chain.line(payer, signer, payee).await?;
    let owed = line.voucher.cumulative.saturating_sub(on_chain.claimed);
    let seen = live.overdrafts.seen((payer, signer));
    Ok(Some(Facts {
        now_s,
        payee,
        owed,
        covered,
        shared: line.open < owed,
        shown: seen.shown,
        settled: seen.settled,
        signer: view,
        case,
        report_reward: live.chain.vault_terms().await?.report_reward,
    }))
}

/// The promises that show the overdraft; `None` where they are not known.
async fn proof(
    live: &Live,
    line: &OpenLine,
    facts: &Facts,
) -> Result<Option<Vec<PromiseRow>>, SettleError> {
    let grant = grant(line);
    let mut rows = vec![PromiseRow {
        payee: facts.payee,
        amount: line.voucher.cumulative,
        until: 0,
        nonce: 0,
        work: B256::from(line.voucher.work),
        signature: line.voucher.signature,
    }];
    let signer = &facts.signer;
    let promised = signer.spent.saturating_add(facts.owed);
    if signer.contested || promised > signer.granted {
        return Ok(Some(rows));
    }
    // What was locked at the time may have been for others. Whether it is enough is the vault's to say.
    let searched = live.overdrafts.seen(grant).searched;
    let recent = searched.is_some_and(|at| at.elapsed() < LOOK_AGAIN);
    if signer.locked == 0 || recent {
        return Ok(None);
    }
    live.overdrafts
        .note(grant, |seen| seen.searched = Some(Instant::now()));
    let held = live.chain.reserved_payees(grant.0, grant.1).await?;
    let others = held.into_iter().filter(|held| *held != facts.payee);
    rows.extend(others.take(MAX_ROWS - 1).map(PromiseRow::held));
    Ok(Some(rows))
}

/// Brings what lies on the operator key to where claims go, one step at a time: whether something was sent.
pub(super) async fn collect(
    live: &Live,
    operator: &Key,
    payee: Address,
) -> Result<bool, SettleError> {
    let Some(payout) = live.payout else {
        return Ok(false);
    };
    let account = live.chain.account(payee).await?;
    let call = match (account.vault_balance, account.token) {
        (0, 0) => return Ok(false),
        (0, amount) => Call::TransferToken { to: payout, amount },
        (amount, _) => Call::Withdraw { amount },
    };
    let amount = account.vault_balance.max(account.token);
    let preview = prepare(&live.chain, payee, &call).await?;
    let costs = live.network().in_token(preview.gas);
    if amount <= costs.saturating_mul(TRANSACTIONS) {
        return Ok(false);
    }
    sent(&live.chain, operator, preview).await?;
    Ok(true)
}

fn grant(line: &OpenLine) -> Grant {
    let key = &line.voucher.line;
    (Address::from(key.payer), Address::from(key.signer))
}

fn told(live: &Live, (payer, _): Grant, facts: &Facts, why: &str) -> String {
    format!(
        "{} signed for more than it was granted, and {} of what it owes this computer is not covered: {why}.",
        payer.to_checksum(None),
        amount(live, facts.owed.saturating_sub(facts.covered)),
    )
}

fn amount(live: &Live, units: u128) -> String {
    let token = &live.network().token;
    amount_text(U256::from(units), token.decimals, &token.symbol)
}

/// The key whose grant, reservations or case an event changes.
fn grant_of(event: &VaultEvent) -> Option<Grant> {
    match event {
        VaultEvent::SignerSet { payer, signer, .. }
        | VaultEvent::SignerEnded { payer, signer, .. }
        | VaultEvent::GrantFreed { payer, signer, .. }
        | VaultEvent::BondFreed { payer, signer, .. }
        | VaultEvent::Reserved { payer, signer, .. }
        | VaultEvent::Released { payer, signer, .. }
        | VaultEvent::Claimed { payer, signer, .. }
        | VaultEvent::OverdraftShown { payer, signer, .. }
        | VaultEvent::OverdraftMended { payer, signer }
        | VaultEvent::OverdraftDecided { payer, signer, .. }
        | VaultEvent::OverdraftPaid { payer, signer, .. } => Some((*payer, *signer)),
        VaultEvent::Deposited { .. }
        | VaultEvent::Withdrawn { .. }
        | VaultEvent::PayeeSet { .. }
        | VaultEvent::Joined { .. }
        | VaultEvent::Unjoined { .. }
        | VaultEvent::GasShared { .. }
        | VaultEvent::PaidOut { .. }
        | VaultEvent::Kept { .. }
        | VaultEvent::FeeSet { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Address = Address::repeat_byte(1);
    const NOW: u64 = 1_000_000;

    fn drained() -> Facts {
        Facts {
            now_s: NOW,
            payee: ME,
            owed: 30,
            covered: 0,
            shared: false,
            shown: false,
            settled: false,
            signer: SignerView {
                granted: 100,
                spent: 100,
                locked: 0,
                until: NOW + 100,
                bond: 8,
                gas_pot: 0,
                ended: false,
                thawed: false,
                contested: false,
            },
            case: OverdraftView {
                mend_by: 0,
                calm_until: 0,
                reporter: Address::ZERO,
                promised: U256::ZERO,
                open: U256::ZERO,
                share: 0,
                decided: false,
            },
            report_reward: 5,
        }
    }

    #[test]
    fn what_is_short_is_shown_for_half_the_bond_at_most() {
        assert_eq!(drained().step(), Step::Show(4));
        let rich = Facts {
            signer: SignerView {
                bond: 100,
                ..drained().signer
            },
            ..drained()
        };
        assert_eq!(rich.step(), Step::Show(5));
        let covered = Facts {
            covered: 30,
            ..drained()
        };
        assert_eq!(covered.step(), Step::None);
        let late = Facts {
            now_s: NOW + 100 + 2 * THAW_S,
            ..drained()
        };
        assert_eq!(late.step(), Step::None, "the vault takes no proof any more");
        let calm = Facts {
            case: OverdraftView {
                calm_until: NOW + 9,
                ..drained().case
            },
            ..drained()
        };
        assert_eq!(calm.step(), Step::Wait(NOW + 9));
    }

    #[test]
    fn a_case_is_joined_waited_for_and_settled() {
        let open = |reporter, mend_by| Facts {
            signer: SignerView {
                spent: 40,
                contested: true,
                ..drained().signer
            },
            case: OverdraftView {
                mend_by,
                reporter,
                open: U256::from(90),
                ..drained().case
            },
            ..drained()
        };
        let other = Address::repeat_byte(9);
        // A quarter of the 60 that are left, and no reward: somebody else showed it.
        assert_eq!(open(other, NOW + 5).step(), Step::Show(15));
        let joined = Facts {
            shown: true,
            ..open(other, NOW + 5)
        };
        assert_eq!(joined.step(), Step::Wait(NOW + 5));
        assert_eq!(open(ME, NOW + 5).step(), Step::Wait(NOW + 5));
        // A third of what is left, and the reward.
        assert_eq!(open(ME, NOW).step(), Step::Settle(4 + 20));
        assert_eq!(open(other, NOW).step(), Step::Settle(20));
    }

    #[test]
    fn a_share_is_fetched_once() {
        let decided = Facts {
            shown: true,
            case: OverdraftView {
                mend_by: NOW,
                open: U256::from(90),
                share: 60,
                decided: true,
                ..drained().case
            },
            ..drained()
        };
        assert_eq!(decided.step(), Step::Settle(20));
        for fetched in [
            Facts {
                settled: true,
                ..decided
            },
            Facts {
                shared: true,
                ..decided
            },
            Facts {
                shown: false,
                ..decided
            },
        ] {
            assert_eq!(fetched.step(), Step::None);
        }
    }
}
