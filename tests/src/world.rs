//! A chain of the test's own: real contracts on anvil, what is asked of it, and what others do on it.

use std::{fs, path::PathBuf};

use chain::{
    Account, Address, Call, Chain, Network, TxState,
    dev::{Devnet, DevnetError, DevnetOptions},
};
use serde_json::Value;

use crate::{Folder, money::wait, run};

/// One token, in base units.
pub const UNIT: u128 = 1_000_000_000_000_000_000;
/// What gas is taken to cost here: little enough that a part of an answer is worth collecting.
const TOKEN_PER_GAS: u128 = 10_000_000;

/// The chain, and a runtime to ask it by.
#[derive(Debug)]
pub struct World {
    devnet: Devnet,
    chain: Chain,
    pub(crate) runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
}

impl World {
    /// Says that the test is skipped where anvil is not here.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(|_| {})
    }

    /// The same, of a network that is set up in another way than usual.
    ///
    /// # Panics
    /// When there is an anvil, and no network.
    #[must_use]
    pub fn start_with(set: impl FnOnce(&mut DevnetOptions)) -> Option<Self> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut options = DevnetOptions::default();
        options.deploy.token_per_gas = TOKEN_PER_GAS;
        set(&mut options);
        let devnet = match runtime.block_on(Devnet::start(&options)) {
            Ok(devnet) => devnet,
            Err(error @ DevnetError::Missing { .. }) => {
                println!("skipped: {} ({error})", crate::test_name());
                return None;
            }
            Err(error) => panic!("{error:?}"),
        };
        let folder = tempfile::tempdir().unwrap();
        let chain = {
            let _inside = runtime.enter();
            Chain::open(devnet.network.clone(), folder.path()).unwrap()
        };
        runtime.block_on(chain.reached());
        let world = Self {
            devnet,
            chain,
            runtime,
            folder,
        };
        fs::write(world.file(), world.network().to_toml().unwrap()).unwrap();
        Some(world)
    }

    /// The network's file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("devnet.toml")
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.devnet.network
    }

    /// Where on loopback the chain is asked.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let urls = self.devnet.network.rpc.iter();
        urls.filter_map(|url| url.trim_end_matches('/').rsplit(':').next()?.parse().ok())
            .collect()
    }

    /// The account that made the contracts.
    #[must_use]
    pub fn maker(&self) -> Address {
        self.devnet.key(0).unwrap().address()
    }

    /// Asks the chain.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn ask<'a, T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
        &'a self,
        question: impl FnOnce(&'a Chain) -> F,
    ) -> T {
        self.runtime.block_on(question(&self.chain)).unwrap()
    }

    /// The same, once this side sees as much as any program can have seen.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn ask_now<'a, T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
        &'a self,
        question: impl FnOnce(&'a Chain) -> F,
    ) -> T {
        self.catch_up();
        self.ask(question)
    }

    /// Asks anvil itself, past everything of ours.
    ///
    /// # Panics
    /// When it refuses.
    #[must_use]
    pub fn anvil(&self, method: &str, params: Value) -> Value {
        let asked = self.devnet.control(method, params);
        self.runtime.block_on(asked).unwrap()
    }

    /// Sends it from the account that made the contracts, and waits until nothing more can happen to it.
    ///
    /// # Panics
    /// When it does not do what it is for.
    pub fn send(&self, call: &Call) {
        let key = self.devnet.key(0).unwrap();
        let state = self.runtime.block_on(async {
            let preview = self.chain.preview(key.address(), call).await.unwrap();
            let id = self.chain.send(&key, preview).await.unwrap();
            self.chain.settled(id).await.unwrap()
        });
        assert!(
            matches!(state, TxState::Final { .. }),
            "{state:?}: {call:?}"
        );
    }

    /// Gives an account exactly this much of the coin.
    pub fn set_coin(&self, of: Address, amount: u128) {
        let set = self.devnet.set_coin(of, amount);
        self.runtime.block_on(set).unwrap();
    }

    /// Lets time pass on the chain, until it is final.
    pub fn pass(&self, seconds: u64) {
        let confirmations = self.devnet.network.confirmations;
        self.runtime.block_on(async {
            self.devnet.pass(seconds).await.unwrap();
            self.devnet.mine(confirmations).await.unwrap();
        });
    }

    fn catch_up(&self) {
        let number = self.anvil("eth_blockNumber", Value::Array(Vec::new()));
        let digits = number.as_str().unwrap().trim_start_matches("0x");
        let head = u64::from_str_radix(digits, 16).unwrap();
        let needed = head.saturating_sub(self.devnet.network.confirmations);
        let health = self.chain.health();
        wait("the newest block is final", || {
            health.borrow().final_block >= Some(needed)
        });
    }

    /// What the newest final block says of an account.
    #[must_use]
    pub fn account(&self, address: Address) -> Account {
        self.ask_now(|chain| chain.account(address))
    }

    /// Says to a computer, before its program starts, which network its money is on.
    pub fn is_known_to(&self, folder: &Folder) {
        json(folder, &["networks", "use", self.file().to_str().unwrap()]);
    }

    /// A new wallet on a computer that knows of the network.
    ///
    /// # Panics
    /// When it is not made.
    pub fn wallet_on(&self, folder: &Folder, password: &str) {
        let file = folder.secret("password", password);
        let made = json(folder, &["wallet", "new", "--password-file", &file]);
        let words: Vec<String> = serde_json::from_value(made["words"].clone()).unwrap();
        fs::remove_file(folder.path().join("wallet.json")).unwrap();
        self.wallet_of(folder, &words.join(" "), password);
    }

    /// A wallet that is taken over by its words: whoever types them has a copy, so it signs above a small sum. No file with a
    /// secret is left behind.
    ///
    /// # Panics
    /// When it is not made.
    pub fn wallet_of(&self, folder: &Folder, words: &str, password: &str) {
        let password = folder.secret("password", password);
        let words = folder.secret("words", words);
        let typed = ["--words-file", &words, "--password-file", &password];
        json(folder, &[&["wallet", "import"][..], &typed].concat());
        for file in [password, words] {
            fs::remove_file(file).unwrap();
        }
        self.is_known_to(folder);
    }
}

/// What a command says.
fn json(folder: &Folder, arguments: &[&str]) -> Value {
    let said = run(folder.decentralgpt().args(arguments).arg("--json"));
    assert!(said.status.success(), "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("no JSON: {said:?}"))
}
