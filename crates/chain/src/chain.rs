//! The handle: one network, its endpoints, the tasks that follow it and that send.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use alloy::{
    primitives::{Address, Bytes},
    sol_types::SolCall,
};
use serde_json::json;
use tokio::sync::{Notify, watch};

use crate::{
    error::ChainError,
    health::{self, Health, Tip},
    network::Network,
    pending::{self, Pending},
    reason,
    rpc::{Endpoints, wire::Called},
    votes::Found,
};

/// One network, as it is known from its endpoints. Clones are the same handle; when the last is dropped, nothing is asked
/// and nothing is sent any more. What waits is on disk.
#[derive(Clone, Debug)]
pub struct Chain {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) network: Network,
    pub(crate) endpoints: Endpoints,
    pub(crate) health: watch::Sender<Health>,
    /// Looks at the chain at once.
    pub(crate) wake: Arc<Notify>,
    /// `None` before the first answer.
    tip: watch::Sender<Option<Tip>>,
    pub(crate) pending: Pending,
    /// What the events of the votes' contracts said so far.
    pub(crate) found: tokio::sync::Mutex<Found>,
    started: Mutex<bool>,
}

impl Chain {
    /// Opens a network. `folder` keeps the transactions that wait, and is this chain's alone.
    ///
    /// Without any endpoint it opens as well: everything waits, and [`Chain::health`] says so. To be called within a tokio
    /// runtime, on which its tasks run.
    ///
    /// # Errors
    /// [`ChainError::Store`] and [`ChainError::Damaged`] for the file in `folder`, [`ChainError::Endpoint`] for an address
    /// of the network that can never be asked.
    pub fn open(network: Network, folder: &Path) -> Result<Self, ChainError> {
        let endpoints = Endpoints::new(network.chain_id, &network.rpc)?;
        let pending = Pending::open(folder, network.chain_id)?;
        let inner = Arc::new(Inner {
            health: watch::Sender::new(Health::before(&endpoints)),
            network,
            endpoints,
            wake: Arc::new(Notify::new()),
            tip: watch::Sender::new(None),
            pending,
            found: tokio::sync::Mutex::default(),
            started: Mutex::new(false),
        });
        let chain = Self { inner };
        chain.start();
        Ok(chain)
    }

    fn start(&self) {
        let mut started = self
            .inner
            .started
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !*started {
            *started = true;
            tokio::spawn(health::follow(Arc::downgrade(&self.inner)));
            tokio::spawn(pending::follow(Arc::downgrade(&self.inner)));
        }
    }

    /// What the network file says.
    pub fn network(&self) -> &Network {
        &self.inner.network
    }

    /// How it stands with the endpoints and the newest blocks, now and whenever it changes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.inner.health.subscribe()
    }

    /// Looks at once, instead of at the next round.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// Waits for the first final block.
    pub async fn reached(&self) {
        let mut tip = self.inner.tip.subscribe();
        // The sender lives in `self`: it cannot be gone.
        let _ = tip.wait_for(Option::is_some).await;
    }
}

impl Inner {
    pub(crate) fn tip(&self) -> Option<Tip> {
        *self.tip.borrow()
    }

    pub(crate) fn tips(&self) -> watch::Receiver<Option<Tip>> {
        self.tip.subscribe()
    }

    pub(crate) fn set_tip(&self, tip: Tip) {
        self.tip.send_if_modified(|now| {
            let changed = *now != Some(tip);
            *now = Some(tip);
            changed
        });
    }

    /// The newest final block.
    pub(crate) fn last_final(&self) -> Result<u64, ChainError> {
        Ok(self.tip().ok_or(ChainError::NotYet)?.last_final.number)
    }

    /// What a function answers at a block.
    pub(crate) async fn read<C: SolCall>(
        &self,
        to: Address,
        call: &C,
        block: u64,
    ) -> Result<C::Return, ChainError> {
        let what = C::SIGNATURE;
        let request = json!({ "to": to, "data": Bytes::from(call.abi_encode()) });
        match self.endpoints.call(what, &request, block).await? {
            Called::Returned(data) => {
                C::abi_decode_returns(&data).map_err(|_| ChainError::Answer {
                    what: what.to_owned(),
                    problem: format!("{} bytes that are not its result", data.len()),
                })
            }
            Called::Reverted(data) => Err(ChainError::Reverted {
                what: what.to_owned(),
                reason: reason::read(&data),
            }),
        }
    }
}
