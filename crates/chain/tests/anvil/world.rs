//! A devnet whose blocks are made when a test says so, and what several tests do on it.

use std::time::Duration;

use chain::{
    Address, Call, Chain, Key, Network, Simulation, Start, TxId, TxState, U256,
    dev::{Devnet, DevnetOptions},
};
use tempfile::TempDir;

pub(crate) const UNIT: u128 = 1_000_000_000_000_000_000;
/// Beyond this a test hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn by_hand() -> DevnetOptions {
    DevnetOptions {
        block_time: None,
        ..DevnetOptions::default()
    }
}

/// A devnet, a chain over it, and its folder.
pub(crate) struct World {
    pub(crate) devnet: Devnet,
    pub(crate) chain: Chain,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(&by_hand()).await
    }

    pub(crate) async fn with(options: &DevnetOptions) -> Self {
        let devnet = Devnet::start(options).await.unwrap();
        let network = devnet.network.clone();
        let folder = tempfile::tempdir().unwrap();
        let chain = open(&network, &folder).await;
        Self {
            devnet,
            chain,
            folder,
        }
    }

    pub(crate) fn network(&self) -> &Network {
        &self.devnet.network
    }

    pub(crate) fn key(&self, number: usize) -> Key {
        self.devnet.key(number).unwrap()
    }

    pub(crate) fn address(&self, number: usize) -> Address {
        self.key(number).address()
    }

    /// Makes everything final that was mined.
    pub(crate) async fn finish(&self) {
        finish(&self.devnet, &self.chain).await;
    }

    pub(crate) async fn send(&self, key: &Key, call: &Call) -> TxId {
        let preview = self.chain.preview(key.address(), call).await.unwrap();
        assert_eq!(preview.simulation, Simulation::Ok, "{call:?}");
        self.chain.send(key, preview).await.unwrap()
    }

    /// Sends, and mines until nothing more is to be expected of it.
    pub(crate) async fn run(&self, number: usize, call: &Call) -> TxState {
        let id = self.send(&self.key(number), call).await;
        let state = self.settle(id).await;
        assert!(
            matches!(state, TxState::Final { .. }),
            "{state:?}: {call:?}"
        );
        state
    }

    pub(crate) async fn settle(&self, id: TxId) -> TxState {
        settle(&self.devnet, &self.chain, id).await
    }

    /// Tokens, a deposit of 500 by permit, and a signer that may spend 100 of it.
    pub(crate) async fn funded(&self, number: usize, signer: Address) {
        let key = self.key(number);
        self.run(number, &Call::Faucet { to: key.address() }).await;
        let account = self.chain.account(key.address()).await.unwrap();
        let permit = key
            .permit(self.network(), 500 * UNIT, account.token_nonce, U256::MAX)
            .unwrap();
        let start = self.start(key.address(), signer);
        self.run(
            number,
            &Call::Start {
                start,
                permit: Some(permit),
            },
        )
        .await;
    }

    pub(crate) fn start(&self, payer: Address, signer: Address) -> Start {
        Start {
            payer,
            deposit: 500 * UNIT,
            signer,
            grant: 100 * UNIT,
            until: self.now() + 30 * 86_400,
            bond: 2 * UNIT,
            gas_pot: UNIT,
            relayer_fee: 0,
            nonce: U256::from(7),
            deadline: U256::MAX,
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.chain.health().borrow().final_time.unwrap()
    }
}

pub(crate) async fn open(network: &Network, folder: &TempDir) -> Chain {
    let chain = Chain::open(network.clone(), folder.path()).unwrap();
    within(chain.reached()).await;
    chain
}

pub(crate) async fn finish(devnet: &Devnet, chain: &Chain) {
    let head = devnet
        .control("eth_blockNumber", serde_json::json!([]))
        .await
        .unwrap();
    let head = u64::from_str_radix(head.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    devnet.mine(devnet.network.confirmations).await.unwrap();
    let mut health = chain.health();
    within(async {
        while health.borrow_and_update().final_block < Some(head) {
            chain.wake();
            let _ = tokio::time::timeout(Duration::from_millis(300), health.changed()).await;
        }
    })
    .await;
}

pub(crate) async fn settle(devnet: &Devnet, chain: &Chain, id: TxId) -> TxState {
    within(async {
        loop {
            chain.wake();
            if let Ok(state) =
                tokio::time::timeout(Duration::from_millis(150), chain.settled(id)).await
            {
                // Reads after this see it.
                let state = state.unwrap();
                finish(devnet, chain).await;
                return state;
            }
            devnet.mine(1).await.unwrap();
        }
    })
    .await
}

/// Waits until a transaction is in a state.
pub(crate) async fn until(chain: &Chain, id: TxId, is: impl Fn(&TxState) -> bool) {
    let mut seen = chain.watch_transactions();
    within(async {
        loop {
            let there = seen
                .borrow_and_update()
                .iter()
                .any(|tx| tx.id == id && is(&tx.state));
            if there {
                return;
            }
            chain.wake();
            let _ = tokio::time::timeout(Duration::from_millis(200), seen.changed()).await;
        }
    })
    .await;
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it takes too long")
}
