//! What goes on with the chain by itself: its events into the books, reservations and claims to it.
//!
//! Claims are sent by the operator key from the little coin that lies on it, without being asked for: they can only bring what
//! was earned to where the wallet said.

use std::{sync::Weak, time::Duration};

use chain::{Call, Chain, ChainError, Key, MAX_ROWS, Preview, Simulation};
use ledger::{ChainBlock, DueWhy, HeldVoucher, LedgerError, OpenLine};
use protocol::voucher::{Address, Vault, Voucher};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{
    Live,
    convert::{self, Ours},
    overdraft,
};
use crate::clock;

/// How often it is looked for something to send. What is due can wait: a voucher loses nothing while its signer lives.
const LOOK: Duration = Duration::from_secs(20);

/// How often the books are counted again; the first time at the start.
const AUDIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Follows the chain until it is stopped.
pub(super) async fn run(weak: Weak<Live>, stop: CancellationToken) {
    let Some(live) = weak.upgrade() else { return };
    let from = match live.ledger.final_block().await {
        Ok(head) => head.map_or(0, |head| head.block + 1),
        Err(error) => {
            tracing::error!(%error, "the books cannot be read, and nothing is settled");
            return;
        }
    };
    let mut events = live.chain.events(from);
    drop(live);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = tokio::time::interval(AUDIT);
    loop {
        let block = tokio::select! {
            () = stop.cancelled() => return,
            block = events.recv() => match block {
                Some(block) => Some(block),
                None => return,
            },
            _ = look.tick() => None,
            _ = count.tick() => {
                let Some(live) = weak.upgrade() else { return };
                audit(&live).await;
                continue;
            }
        };
        match block {
            Some(block) => {
                if !booked(&weak, &stop, &block).await {
                    return;
                }
            }
            None => {
                let Some(live) = weak.upgrade() else { return };
                if let Err(error) = send(&live).await {
                    tracing::debug!(%error, "nothing was sent to the chain");
                }
            }
        }
    }
}

/// Books a block, again and again while there is no room for it: nothing after it is booked before. `false` where it cannot be
/// booked at all; the next start reads on from the same block.
async fn booked(weak: &Weak<Live>, stop: &CancellationToken, block: &chain::Final) -> bool {
    loop {
        let Some(live) = weak.upgrade() else {
            return false;
        };
        let Err(error) = book(&live, block).await else {
            live.problem
                .send_if_modified(|problem| problem.take().is_some());
            return true;
        };
        tracing::error!(%error, "a final block could not be booked, and nothing more is settled");
        live.problem.send_replace(Some(error.to_string()));
        if !matches!(
            error,
            LedgerError::DiskFull { .. } | LedgerError::Busy { .. }
        ) {
            return false;
        }
        drop(live);
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn book(live: &Live, block: &chain::Final) -> Result<(), LedgerError> {
    let ours = Ours {
        payer: live.purse.as_ref().map(|purse| purse.payer()),
        payee: live.till.as_ref().map(|till| till.payee()),
    };
    let moved = !block.events.is_empty();
    let rows: Vec<_> = block
        .events
        .iter()
        .filter_map(|happened| convert::row(happened, &ours))
        .collect();
    live.ledger
        .chain_block(ChainBlock {
            block: block.block,
            hash: block.hash.0,
            at_s: block.time,
            rows,
        })
        .await?;
    if let Some(purse) = &live.purse {
        purse.chain_moved(block.time, &block.events).await;
    }
    live.overdrafts.stirred(block);
    if let (true, Some(till)) = (moved, &live.till) {
        till.chain_moved().await;
    }
    live.moved.notify_waiters();
    Ok(())
}

/// Counts the books again, and checks the signature of every voucher that is held.
async fn audit(live: &Live) {
    let network = live.network();
    let vault = Vault::new(network.chain_id, network.vault);
    let genuine = move |held: &HeldVoucher| {
        let payee = Address::from(held.line.payee);
        Voucher::decode(&convert::voucher_bytes(held), payee)
            .and_then(|voucher| voucher.check(&vault))
            .is_ok_and(|voucher| voucher.signer() == Address::from(held.line.signer))
    };
    let report = match live.ledger.audit(clock::unix_ms(), genuine).await {
        Ok(report) => report,
        Err(error) => {
            tracing::error!(%error, "the books were not audited");
            return;
        }
    };
    for found in &report.disagreements {
        tracing::error!(
            what = found.what,
            booked = found.booked,
            counted = found.counted,
            "the books disagree"
        );
    }
    let first = report.disagreements.into_iter().next();
    live.disagrees.send_replace(first.map(|found| {
        format!(
            "{} is {}, and counts up to {}",
            found.what, found.booked, found.counted
        )
    }));
}

/// Sends what is due: the payee's registration, reservations that were given, claims, proofs of what was promised too often.
async fn send(live: &Live) -> Result<(), SettleError> {
    let (Some(till), Some(operator)) = (&live.till, &live.operator) else {
        return Ok(());
    };
    let payee = till.payee();
    // One of them after another: the next is judged by what the last one left.
    let waits = |tx: &chain::Tx| tx.from == payee && !tx.state.is_over();
    if live.chain.transactions().iter().any(waits) {
        return Ok(());
    }
    let open = live.ledger.open_lines(payee.into_array()).await?;
    if open.is_empty() && !live.spends_earnings() {
        return Ok(());
    }
    // Where it is paid, or about to be joined: the wallet joins what the payee said is its.
    if live.chain.payout(payee).await?.is_none() {
        let Some(payout) = live.payout else {
            return Ok(());
        };
        return go(
            &live.chain,
            operator,
            payee,
            &Call::RegisterPayee { payout },
        )
        .await;
    }
    for line in &open {
        if let Some(held) = live.ledger.reservation_to_bring(line.voucher.line).await? {
            let call = Call::Reserve {
                payer: Address::from(held.line.payer),
                payee,
                upto: held.upto,
                until: held.until_s,
                nonce: held.nonce,
                signature: held.signature,
            };
            match go(&live.chain, operator, payee, &call).await {
                // A payer whose reservation the chain would not take holds up nobody's claims.
                Err(SettleError::Reverts { reason, .. }) => {
                    tracing::debug!(reason, "a reservation was not brought to the chain");
                }
                other => return other,
            }
        }
    }
    let rows = due(live, &open).await?;
    if rows.is_empty() {
        if !overdraft::look(live, operator, payee, &open).await? {
            overdraft::collect(live, operator, payee).await?;
        }
        return Ok(());
    }
    let call = Call::Claim {
        payee,
        rows: rows
            .iter()
            .map(|line| convert::claim_row(&line.voucher))
            .collect(),
    };
    go(&live.chain, operator, payee, &call).await
}

/// Lines to claim now, and of which the vault has something for it: one that was drained meanwhile would cost its gas for nothing.
async fn due<'a>(live: &Live, open: &'a [OpenLine]) -> Result<Vec<&'a OpenLine>, SettleError> {
    let (now_s, worth) = (live.chain_now(), live.worth_claiming());
    let mut rows = Vec::new();
    for line in open {
        let Some(why) = line.due(worth, now_s) else {
            continue;
        };
        let key = &line.voucher.line;
        let signer = live.chain.signer(key.payer.into(), key.signer.into());
        let Some(signer) = signer.await? else {
            continue;
        };
        let pays = overdraft::covered(line, &signer, now_s);
        let enough = match why {
            DueWhy::Worth => pays >= worth,
            DueWhy::SignerEnds | DueWhy::ReservationEnds => pays > 0,
        };
        if enough {
            rows.push(line);
        }
        if rows.len() == MAX_ROWS {
            break;
        }
    }
    Ok(rows)
}

async fn go(chain: &Chain, key: &Key, from: Address, call: &Call) -> Result<(), SettleError> {
    let preview = prepare(chain, from, call).await?;
    sent(chain, key, preview).await
}

/// What would be sent, where the chain takes it and its fee is there.
pub(super) async fn prepare(
    chain: &Chain,
    from: Address,
    call: &Call,
) -> Result<Preview, SettleError> {
    let preview = chain.preview(from, call).await?;
    if let Simulation::Reverted { reason } = &preview.simulation {
        return Err(SettleError::Reverts {
            what: preview.described.title,
            reason: reason.clone(),
        });
    }
    if preview.coin_after.is_none() {
        return Err(SettleError::NoCoin {
            needs: preview.fee_max,
        });
    }
    Ok(preview)
}

pub(super) async fn sent(chain: &Chain, key: &Key, preview: Preview) -> Result<(), SettleError> {
    let title = preview.described.title.clone();
    let id = chain.send(key, preview).await?;
    tracing::info!(%id, title, at = clock::unix_ms(), "sent to the chain");
    Ok(())
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettleError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Ledger(#[from] ledger::LedgerError),
    #[error("the chain would refuse \"{what}\": {reason}")]
    Reverts { what: String, reason: String },
    #[error("the operator key has too little coin: {needs} of the smallest unit are needed")]
    NoCoin { needs: u128 },
}
