//! Whether the chain is still the one that the books were written on. A network can be started anew under the same number and the same
//! contracts; then nothing of the old books means anything on it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use chain::{Chain, ChainError};
use ledger::{Ledger, LedgerError};
use tokio_util::sync::CancellationToken;

use super::Live;

/// A network that is there has answered by then. One that is not is looked at when it comes.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// What could not be compared is compared again after this long.
const AGAIN: Duration = Duration::from_secs(5);

/// Why the books do not go on with this chain.
#[derive(Debug, thiserror::Error)]
pub(super) enum OtherChain {
    /// A block that was final is another one.
    #[error(
        "this network was started anew: block {block}, up to which the books of this computer go, is another one now"
    )]
    Anew { block: u64 },
    /// The chain is shorter than the books.
    #[error(
        "this network has {there} final blocks, and the books of this computer go up to block {block}: its endpoints are behind, or it was started anew"
    )]
    Behind { block: u64, there: u64 },
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Whether the chain was compared with the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// They belong together, as far as there are books.
    Same,
    /// It does not answer yet.
    NotReached,
}

/// Compares them, if the chain answers soon.
///
/// # Errors
/// [`OtherChain`].
pub(super) async fn look(chain: &Chain, ledger: &Ledger) -> Result<Compared, OtherChain> {
    match tokio::time::timeout(FIRST_LOOK, compare(chain, ledger)).await {
        Ok(compared) => compared.map(|()| Compared::Same),
        Err(_) => Ok(Compared::NotReached),
    }
}

/// Waits for the chain, and compares. `false` where nothing of it is to be booked.
pub(super) async fn wait(weak: &Weak<Live>, stop: &CancellationToken) -> bool {
    loop {
        let Some((chain, ledger)) = weak
            .upgrade()
            .map(|live| (live.chain.clone(), live.ledger.clone()))
        else {
            return false;
        };
        let compared = tokio::select! {
            () = stop.cancelled() => return false,
            compared = compare(&chain, &ledger) => compared,
        };
        match compared {
            Ok(()) => return true,
            Err(OtherChain::Anew { .. } | OtherChain::Behind { .. }) => {
                if let Some(live) = weak.upgrade() {
                    live.other_chain.send_replace(true);
                }
                return false;
            }
            Err(error @ (OtherChain::Chain(_) | OtherChain::Ledger(_))) => {
                tracing::debug!(%error, "the chain was not compared with the books");
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Waits until what is open cannot go on as it is: its session key is lost or has ended, or its chain is another one.
pub(super) async fn outlived(live: Option<Arc<Live>>) {
    let Some(live) = live else {
        return std::future::pending().await;
    };
    let key = async {
        match &live.purse {
            Some(purse) => purse.over().await,
            None => std::future::pending().await,
        }
    };
    let mut other = live.other_chain.subscribe();
    tokio::select! {
        () = key => {}
        // The sender lives in `live`: it cannot be gone.
        _ = other.wait_for(|other| *other) => {}
    }
}

async fn compare(chain: &Chain, ledger: &Ledger) -> Result<(), OtherChain> {
    let Some(head) = ledger.final_block().await? else {
        return Ok(());
    };
    let mut health = chain.health();
    let there = match health.wait_for(|health| health.final_block.is_some()).await {
        Ok(health) => health.final_block.unwrap_or_default(),
        // The sender lives in `chain`: it cannot be gone.
        Err(_) => return Ok(()),
    };
    match chain.block_hash(head.block).await {
        Ok(hash) if hash == head.hash => Ok(()),
        Ok(_) => Err(OtherChain::Anew { block: head.block }),
        Err(_) if there < head.block => Err(OtherChain::Behind {
            block: head.block,
            there,
        }),
        Err(error) => Err(error.into()),
    }
}
