//! What a shell sees of money: gathered from the chain, the books and the wallet whenever one of them moves.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use chain::{Chain, SignerView, State, TxState};
use ledger::{Account, By, Earnings, EarningsQuery, Ledger, LedgerError};
use protocol::voucher::Address;
use tokio::{sync::watch, time::Instant};

use super::{
    Live, Purse,
    ended::{self, Rest},
    rules, start,
    view::{
        ChainState, EarnedView, EndedView, EndpointView, Joined, MoneyAccount, MoneyStatus,
        NetworkView, TransactionView, VaultView,
    },
};
use crate::{
    Node, clock,
    error::ErrorView,
    node::Inner,
    wallet::{Leaves, WalletRole, WalletState},
};

/// The chain is looked at again after this long even if nothing was booked: coin moves without an event of the vault.
const LOOK: Duration = Duration::from_secs(15);
/// Changes that come together are shown together.
const SETTLE: Duration = Duration::from_millis(200);
/// What was promised here is shown this long after the first promise of those that come together: an answer makes several a second.
const SPENT: Duration = Duration::from_secs(1);

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Where there is no money: everything but it works.
pub(super) fn without(inner: &Inner) -> MoneyStatus {
    let wallet = inner.wallet.status();
    MoneyStatus {
        network: None,
        wallet: wallet.state,
        backed_up: wallet.backed_up,
        locks_unix_ms: wallet.locks_unix_ms,
        remembered: wallet.remembered,
        accounts: Vec::new(),
        vault: None,
        earned: None,
        rules: None,
        start: None,
        spent_today: None,
        mode: inner.settings.borrow().money.mode,
        joined: None,
        problems: Vec::new(),
    }
}

/// Where it could not be opened.
pub(super) fn failed(inner: &Inner, why: ErrorView) -> MoneyStatus {
    MoneyStatus {
        problems: vec![why],
        ..without(inner)
    }
}

/// Shows it until the network is closed.
pub(super) async fn keep(inner: Arc<Inner>, weak: Weak<Live>) {
    while let Some(live) = weak.upgrade() {
        if show(&inner, &live).await.is_none() {
            return;
        }
        drop(live);
        tokio::time::sleep(SETTLE).await;
    }
}

/// Shows it once, and what is spent from then on, until something else moves. `None`: the node stops.
async fn show(inner: &Inner, live: &Live) -> Option<()> {
    // All of them are listened to before anything is read: what moves meanwhile is not missed.
    let mut moved = pin!(live.moved.notified());
    let mut promises = Promises::of(live.purse.as_deref(), SPENT);
    let mut wallet = inner.wallet.watch();
    let mut settings = inner.settings.subscribe();
    let mut health = live.chain.health();
    let mut transactions = live.chain.watch_transactions();
    let mut rules = live.rules.subscribe();
    wallet.borrow_and_update();
    settings.borrow_and_update();
    health.borrow_and_update();
    transactions.borrow_and_update();
    rules.borrow_and_update();
    let shown = &inner.money.status;
    if let Some(purse) = live.purse.as_deref() {
        // What was promised since the last time that it was shown: nobody listened between the two.
        show_spent(shown, &inner.ledger, purse).await;
    }
    let gathered = status(inner, live);
    let gathered = while_shown(shown, &inner.ledger, &mut promises, gathered).await;
    match with_spent(gathered, inner, live).await {
        Ok(status) => {
            shown.send_if_modified(|now| {
                // Money may have been switched off, or put on another network, while the chain was asked.
                let current = inner.money.live();
                if current.is_none_or(|current| !std::ptr::eq(Arc::as_ptr(&current), live)) {
                    return false;
                }
                let changed = *now != status;
                *now = status;
                changed
            });
        }
        Err(error) => tracing::warn!(%error, "the books cannot be read"),
    }
    let mut look = pin!(tokio::time::sleep(LOOK));
    tokio::select! {
        () = inner.stop.cancelled() => return None,
        () = &mut moved => {}
        _ = wallet.changed() => {}
        _ = settings.changed() => {}
        _ = health.changed() => {}
        _ = transactions.changed() => {}
        _ = rules.changed() => {}
        () = &mut look => {}
        never = show_each(shown, &inner.ledger, &mut promises) => match never {},
    }
    Some(())
}

/// What `gathered` gives, and what is spent shown meanwhile: the chain may take long to answer.
async fn while_shown<T>(
    shown: &watch::Sender<MoneyStatus>,
    ledger: &Ledger,
    promises: &mut Promises<'_>,
    gathered: impl Future<Output = T>,
) -> T {
    // Both go on at once: one of the two may be next in line for the purse, and would hold up the other where it stands still.
    tokio::select! {
        gathered = gathered => gathered,
        never = show_each(shown, ledger, promises) => match never {},
    }
}

/// Shows what is spent, each time that something was promised.
async fn show_each(
    shown: &watch::Sender<MoneyStatus>,
    ledger: &Ledger,
    promises: &mut Promises<'_>,
) -> Infallible {
    loop {
        let purse = promises.settled().await;
        show_spent(shown, ledger, purse).await;
    }
}

/// Adds what was spent and promised, at the very last: what is promised after it is shown by itself.
async fn with_spent(
    gathered: Result<MoneyStatus, LedgerError>,
    inner: &Inner,
    live: &Live,
) -> Result<MoneyStatus, LedgerError> {
    let mut status = gathered?;
    if let Some(purse) = &live.purse {
        status.spent_today = Some(spent_today(&inner.ledger, purse).await?);
        if let Some(vault) = &mut status.vault {
            vault.promised = purse.promised().await.to_string();
        }
    }
    Ok(status)
}

/// Promises of this computer, told a moment after the first of those that come together.
struct Promises<'a> {
    of: Option<(&'a Purse, watch::Receiver<u64>)>,
    /// When they are told.
    due: Option<Instant>,
    after: Duration,
}

impl<'a> Promises<'a> {
    fn of(purse: Option<&'a Purse>, after: Duration) -> Self {
        Self {
            of: purse.map(|purse| (purse, purse.promises())),
            due: None,
            after,
        }
    }

    /// Waits for the next ones, for ever where nothing is promised. Cancel safe.
    async fn settled(&mut self) -> &'a Purse {
        let Some((purse, made)) = &mut self.of else {
            return std::future::pending().await;
        };
        let due = match self.due {
            Some(due) => due,
            None => {
                // The sender lives in the purse: it cannot be gone.
                let _ = made.changed().await;
                *self.due.insert(Instant::now() + self.after)
            }
        };
        tokio::time::sleep_until(due).await;
        self.due = None;
        made.borrow_and_update();
        *purse
    }
}

/// Shows what was spent and promised, and leaves what the chain says as it was: asking it for each answer would take its endpoints' time.
async fn show_spent(shown: &watch::Sender<MoneyStatus>, ledger: &Ledger, purse: &Purse) {
    let spent = match spent_today(ledger, purse).await {
        Ok(spent) => Some(spent),
        Err(error) => {
            tracing::warn!(%error, "the books cannot be read");
            return;
        }
    };
    let promised = purse.promised().await.to_string();
    shown.send_if_modified(|now| {
        let vault = now.vault.as_mut().map(|vault| &mut vault.promised);
        let changed =
            now.spent_today != spent || vault.as_ref().is_some_and(|was| **was != promised);
        now.spent_today = spent;
        if let Some(vault) = vault {
            *vault = promised;
        }
        changed
    });
}

async fn spent_today(ledger: &Ledger, purse: &Purse) -> Result<String, LedgerError> {
    let now = clock::unix_ms();
    let payer = purse.payer().into_array();
    let spent = ledger.spent(payer, now - now % DAY_MS, u64::MAX).await?;
    Ok(spent.to_string())
}

/// All of it but what is spent, which [`with_spent`] adds.
async fn status(inner: &Inner, live: &Live) -> Result<MoneyStatus, LedgerError> {
    let now = clock::unix_ms();
    let mut status = without(inner);
    status.network = Some(network(&live.chain));
    status.accounts = accounts(inner, live).await;
    if let Some(purse) = &live.purse {
        status.vault = vault(live, purse).await;
    }
    status.earned = earned(live, now).await?;
    status.rules = live
        .rules
        .borrow()
        .as_ref()
        .map(|read| rules::view(inner, read));
    status.start = start::waiting(inner, live, &status);
    status.joined = joined(live).await;
    status.problems = problems(&status, live);
    status.problems.extend(lost_key(live).await?);
    Ok(status)
}

/// A key of this computer that pays nothing more, and could still be made to promise by whoever has it.
async fn lost_key(live: &Live) -> Result<Option<ErrorView>, LedgerError> {
    let Some(purse) = &live.purse else {
        return Ok(None);
    };
    let lost = live
        .ledger
        .lost_signers(purse.payer().into_array(), live.chain_now())
        .await?;
    Ok(lost.first().map(|lost| {
        let key = Address::from(lost.signer).to_checksum(None);
        ErrorView::new(
            "key_lost",
            format!(
                "This computer pays with a new key, since the books of the old one, {key}, are not the newest: {}.",
                lost.lost
            ),
            Some(
                "End the old key, then make a deposit or a grant for the new one.".to_owned(),
            ),
        )
        .by("decentralgpt wallet end-key".to_owned())
    }))
}

fn network(chain: &Chain) -> NetworkView {
    let network = chain.network();
    let health = chain.health();
    let health = health.borrow();
    NetworkView {
        name: network.name.clone(),
        title: network.title.clone(),
        test: network.test,
        chain_id: network.chain_id,
        symbol: network.token.symbol.clone(),
        coin: network.coin.symbol.clone(),
        state: match health.state {
            State::Online => ChainState::Online,
            State::OneOnly => ChainState::OneOnly,
            State::Disagree => ChainState::Disagree,
            State::Offline => ChainState::Offline,
        },
        final_block: health.final_block,
        final_unix_s: health.final_time,
        endpoints: health
            .endpoints
            .iter()
            .map(|endpoint| EndpointView {
                host: endpoint.url_host.clone(),
                block: endpoint.block,
                problem: endpoint.problem.clone(),
            })
            .collect(),
        faucet: network.faucet,
    }
}

/// What each account has. What the chain does not say now stays unknown, and is not taken from before.
async fn accounts(inner: &Inner, live: &Live) -> Vec<MoneyAccount> {
    let mut accounts = Vec::new();
    for account in inner.wallet.status().accounts {
        let holds = match account.address.parse::<Address>() {
            Ok(address) => live.chain.account(address).await.ok(),
            Err(_) => None,
        };
        accounts.push(MoneyAccount {
            role: account.role,
            address: account.address,
            path: account.path,
            coin: holds.map(|holds| holds.coin.to_string()),
            token: holds.map(|holds| holds.token.to_string()),
        });
    }
    accounts
}

async fn vault(live: &Live, purse: &Purse) -> Option<VaultView> {
    let payer = purse.payer();
    let account = live.chain.account(payer).await.ok()?;
    let signer = live.chain.signer(payer, purse.signer()).await.ok()?;
    let ended = ended::signers(&live.chain, &live.ledger, payer)
        .await
        .ok()?;
    let now = live.chain_now();
    let rest = Rest::sum(ended.iter().map(|(_, view)| Rest::of(view, now)));
    let of = |amount: fn(&SignerView) -> u128| signer.as_ref().map_or(0, amount).to_string();
    Some(VaultView {
        free: account.vault_balance.to_string(),
        granted: of(|signer| signer.granted),
        promised: "0".to_owned(),
        spent: of(|signer| signer.spent),
        until_unix_s: signer.as_ref().map(|signer| signer.until),
        bond: of(|signer| signer.bond),
        ended: (rest.left > 0).then(|| EndedView {
            left: rest.left.to_string(),
            due: rest.due.to_string(),
            next_unix_s: rest.next_s,
        }),
    })
}

async fn joined(live: &Live) -> Option<Joined> {
    let payee = live.till.as_ref()?.payee();
    let Some(payout) = live.chain.payout(payee).await.ok()? else {
        return Some(Joined::Unregistered);
    };
    let signer = live.chain.joined(payee).await.ok()?;
    let spends = live
        .purse
        .as_ref()
        .map(|purse| (purse.payer(), purse.signer()));
    Some(match signer {
        None if live.payout == Some(payout) => Joined::No,
        Some(signer) if spends == Some((payout, signer)) => Joined::Yes,
        None | Some(_) => Joined::Elsewhere,
    })
}

async fn earned(live: &Live, now: u64) -> Result<Option<EarnedView>, LedgerError> {
    let Some(till) = &live.till else {
        return Ok(None);
    };
    let query = |from_ms| EarningsQuery {
        from_ms,
        until_ms: u64::MAX,
        utc_offset_s: 0,
        worth: live.worth_claiming(),
        now_s: live.chain_now(),
    };
    let today = now - now % DAY_MS;
    let sum = |from_ms| sum(live, query(from_ms));
    let ever = sum(0).await?;
    let vouchered = |earnings: &Earnings| earnings.vouchered().to_string();
    let payee = till.payee().into_array();
    let taken = live.ledger.balance(Account::Fees(payee)).await?;
    let fees = taken.debit.saturating_sub(taken.credit);
    let fee_bps = live
        .rules
        .borrow()
        .as_ref()
        .map(|rules| rules.params.fee.bps);
    Ok(Some(EarnedView {
        available_net: fee_bps.map(|bps| rules::after_fee(ever.available, bps).to_string()),
        fees: fees.to_string(),
        paid_net: ever.paid_out.saturating_sub(fees).to_string(),
        checking: ever.checking.to_string(),
        available: ever.available.to_string(),
        too_small: ever.too_small.to_string(),
        paid_out: ever.paid_out.to_string(),
        lost: ever.lost.to_string(),
        today: vouchered(&sum(today).await?),
        week: vouchered(&sum(today.saturating_sub(6 * DAY_MS)).await?),
        month: vouchered(&sum(today.saturating_sub(29 * DAY_MS)).await?),
    }))
}

async fn sum(live: &Live, query: EarningsQuery) -> Result<Earnings, LedgerError> {
    let rows = live.ledger.earnings(query, By::Device).await?;
    let mut sum = Earnings::default();
    for Earnings {
        checking,
        available,
        too_small,
        paid_out,
        lost,
    } in rows.into_iter().map(|row| row.earned)
    {
        // All of it was granted in the vault: no sum of it reaches 2^128.
        sum.checking = sum.checking.saturating_add(checking);
        sum.available = sum.available.saturating_add(available);
        sum.too_small = sum.too_small.saturating_add(too_small);
        sum.paid_out = sum.paid_out.saturating_add(paid_out);
        sum.lost = sum.lost.saturating_add(lost);
    }
    Ok(sum)
}

/// What is missing, the most pressing first.
fn problems(status: &MoneyStatus, live: &Live) -> Vec<ErrorView> {
    let mut problems = Vec::new();
    let mut say = |code: &str, message: String, fix: &str| {
        problems.push(ErrorView::new(code, message, Some(fix.to_owned())));
    };
    if let Some(why) = live.problem.borrow().clone() {
        say(
            "books_stopped",
            format!("A final block could not be booked: {why}."),
            "Free some space on the disk, then start the program again.",
        );
    }
    if let Some(what) = live.disagrees.borrow().clone() {
        say(
            "books_disagree",
            format!("The audit of the books found what does not agree: {what}."),
            "Keep a copy of the ledger's file. The log names every one of them.",
        );
    }
    if let Some(what) = live.overdrafts.said() {
        say(
            "overdraft",
            what,
            "Nothing is to be done: the computer shows it where that is worth its fee, and serves this payer no more.",
        );
    }
    let health = live.chain.health();
    let health = health.borrow();
    match health.state {
        State::Offline => say(
            "chain_offline",
            "No endpoint of the network answers. Everything about money waits.".to_owned(),
            "Look at your connection. It is tried again by itself.",
        ),
        State::Disagree => say(
            "chain_disagrees",
            health.problem.clone().unwrap_or_else(|| {
                "The endpoints of the network contradict one another.".to_owned()
            }),
            "Nothing is sent until they agree. Take the wrong one out of the network's file.",
        ),
        State::Online | State::OneOnly => {}
    }
    if status.wallet == WalletState::None {
        say(
            "no_wallet",
            "There is no wallet yet.".to_owned(),
            "Make one, or import one.",
        );
        return problems;
    }
    let of = |role: WalletRole| status.accounts.iter().find(|account| account.role == role);
    let zero = |amount: &Option<String>| amount.as_deref() == Some("0");
    let payer = live.purse.as_ref().and_then(|purse| {
        let address = purse.payer().to_checksum(None);
        let mut accounts = status.accounts.iter();
        accounts.find(|account| account.address == address)
    });
    if let (Some(payer), Some(network)) = (payer, &status.network) {
        let nothing_granted = status
            .vault
            .as_ref()
            .is_some_and(|vault| vault.granted == "0");
        if nothing_granted && zero(&payer.token) {
            say(
                "no_token",
                format!("There is no {} to pay with.", network.symbol),
                "Receive some at the account for asking, or lend this computer and earn it.",
            );
        }
        if nothing_granted && zero(&payer.coin) {
            say(
                "no_coin",
                format!(
                    "There is no {} for the fee of the first deposit.",
                    network.coin
                ),
                "Receive a little at the account for asking.",
            );
        }
    }
    if live.till.is_some() && of(WalletRole::Operator).is_some_and(|account| zero(&account.coin)) {
        say(
            "no_coin_operator",
            "The key that collects what was earned has nothing for the fee.".to_owned(),
            "Send it a little coin. What was earned waits until then, and loses nothing.",
        );
    }
    if !status.backed_up {
        say(
            "not_backed_up",
            "No copy of the wallet's words has been confirmed.".to_owned(),
            "Write the words down and confirm three of them.",
        );
    }
    problems
}

impl Node {
    /// The transactions of this computer, the newest first.
    #[must_use]
    pub fn transactions(&self) -> Vec<TransactionView> {
        let Some(live) = self.inner.money.live() else {
            return Vec::new();
        };
        let mut all: Vec<TransactionView> = live
            .chain
            .transactions()
            .into_iter()
            .map(|tx| TransactionView {
                id: tx.id.to_string(),
                title: tx.described.title.clone(),
                from: tx.from.to_checksum(None),
                to: tx.described.to.to_checksum(None),
                leaves: tx
                    .described
                    .leaves
                    .iter()
                    .map(|asset| Leaves {
                        amount: asset.amount.to_string(),
                        symbol: asset.symbol.clone(),
                    })
                    .collect(),
                fee_max: tx.fee_max.to_string(),
                state: tx.state.name().to_owned(),
                why: match &tx.state {
                    TxState::Failed { why } => Some(why.clone()),
                    TxState::Prepared
                    | TxState::Sent
                    | TxState::Mined { .. }
                    | TxState::Final { .. }
                    | TxState::Replaced
                    | TxState::Lost => tx.note.clone(),
                },
                hash: tx
                    .hashes
                    .last()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                sent_unix_ms: tx.sent_unix_ms,
                replaceable: tx.replaceable,
            })
            .collect();
        all.reverse();
        all
    }
}

#[cfg(test)]
mod tests {
    use protocol::{
        JobId,
        price::Totals,
        voucher::{B256, SessionKey, Vault},
    };

    use super::*;
    use crate::money::Promising;

    const GRANTED: u128 = 1_000;
    const LIFE_S: u64 = 300 * 24 * 60 * 60;
    const HANG: Duration = Duration::from_secs(20);

    async fn purse(folder: &std::path::Path) -> (Ledger, Purse) {
        let now = clock::unix_ms();
        let ledger = Ledger::open(folder.join("ledger.db"), now).await.unwrap();
        let key = SessionKey::from_secret(&[5; 32]).unwrap();
        let (payer, signer) = (Address::repeat_byte(1), key.address().into_array());
        let of = payer.into_array();
        ledger.signer_begun(of, signer).await.unwrap();
        let until = now / 1000 + LIFE_S;
        let seen = ledger.signer_seen(of, signer, GRANTED, until);
        seen.await.unwrap();
        let vault = Vault::new(1, Address::repeat_byte(2));
        let purse = Purse::open(&ledger, vault, payer, key).await.unwrap();
        (ledger, purse)
    }

    async fn pays(purse: &Purse, add: u128) {
        let promising = Promising {
            job: JobId::new([9; 32]),
            payee: Address::repeat_byte(3),
            add,
            work: B256::repeat_byte(4),
            peer: "peer".to_owned(),
            model: "model".to_owned(),
            model_digest: [6; 32],
            chat: None,
            totals: Totals::default(),
        };
        purse.promise(promising).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_spent_is_shown_a_moment_later_and_once_for_promises_that_come_together() {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, purse) = purse(folder.path()).await;
        let shown = watch::Sender::new(MoneyStatus {
            vault: Some(VaultView {
                free: "7".to_owned(),
                granted: GRANTED.to_string(),
                promised: "0".to_owned(),
                spent: "0".to_owned(),
                until_unix_s: None,
                bond: "0".to_owned(),
                ended: None,
            }),
            ..MoneyStatus::default()
        });
        let mut looks = shown.subscribe();
        let mut promises = Promises::of(Some(&purse), Duration::from_millis(300));
        for round in 1..=2u128 {
            for _ in 0..5 {
                pays(&purse, 10).await;
            }
            let settled = tokio::time::timeout(HANG, promises.settled());
            show_spent(&shown, &ledger, settled.await.unwrap()).await;
            let status = looks.borrow_and_update().clone();
            let all = (round * 50).to_string();
            let vault = status.vault.unwrap();
            assert_eq!(status.spent_today.as_ref(), Some(&all));
            assert_eq!((vault.promised, vault.free), (all, "7".to_owned()));
        }
        // Also while the chain does not answer.
        pays(&purse, 10).await;
        let chain = std::future::pending::<()>();
        let waits = while_shown(&shown, &ledger, &mut promises, chain);
        let saw = async {
            let wanted = |status: &MoneyStatus| status.spent_today.as_deref() == Some("110");
            looks.wait_for(wanted).await.unwrap();
        };
        tokio::select! {
            () = waits => panic!("the chain does not answer"),
            () = saw => {}
            () = tokio::time::sleep(HANG) => panic!("it was not shown"),
        }
        looks.borrow_and_update();
        // Nothing more is told of promises that were shown, and nobody is told of what is the same.
        let more = tokio::time::timeout(Duration::from_millis(500), promises.settled());
        assert!(more.await.is_err());
        show_spent(&shown, &ledger, &purse).await;
        assert!(!looks.has_changed().unwrap());
        assert!(
            tokio::time::timeout(
                Duration::from_millis(50),
                Promises::of(None, SPENT).settled()
            )
            .await
            .is_err()
        );
        ledger.close().await.unwrap();
    }
}
