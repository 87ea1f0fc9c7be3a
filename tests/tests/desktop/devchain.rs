//! A development chain beside the windows: real contracts on anvil, what others do on it, and computers that know of it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use chain::{
    Address, Call, Chain, Network, TxId, TxState,
    dev::{Devnet, DevnetError, DevnetOptions},
};
use decentralgpt_tests::{Folder, run};
use serde_json::Value;

/// One token, in base units.
pub(crate) const UNIT: u128 = 1_000_000_000_000_000_000;

/// What gas is taken to cost here: little enough that an answer of a few words is worth collecting.
const TOKEN_PER_GAS: u128 = 10_000_000;

/// Voting begins soon enough after a proposal to be waited for, and late enough to be seen before; it stays open for longer than
/// a test takes.
const VOTING_DELAY_S: u32 = 20;
const VOTING_PERIOD_S: u32 = 3600;

/// The chain, and a runtime to ask it by.
pub(crate) struct DevChain {
    devnet: Devnet,
    chain: Chain,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
    file: PathBuf,
}

impl DevChain {
    /// Says that the test is skipped where anvil is not here.
    pub(crate) fn start() -> Option<Self> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut options = DevnetOptions::default();
        options.deploy.token_per_gas = TOKEN_PER_GAS;
        options.deploy.voting.delay_s = VOTING_DELAY_S;
        options.deploy.voting.period_s = VOTING_PERIOD_S;
        let devnet = match runtime.block_on(Devnet::start(&options)) {
            Ok(devnet) => devnet,
            Err(error @ DevnetError::Missing { .. }) => {
                println!("skipped: money in the window ({error})");
                return None;
            }
            Err(error) => panic!("{error:?}"),
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("devnet.toml");
        fs::write(&file, devnet.network.to_toml().unwrap()).unwrap();
        let chain = {
            let _inside = runtime.enter();
            Chain::open(devnet.network.clone(), folder.path()).unwrap()
        };
        runtime.block_on(chain.reached());
        Some(Self {
            devnet,
            chain,
            runtime,
            _folder: folder,
            file,
        })
    }

    pub(crate) fn network(&self) -> &Network {
        &self.devnet.network
    }

    /// The account that made the contracts.
    pub(crate) fn maker(&self) -> Address {
        self.devnet.key(0).unwrap().address()
    }

    /// Asks the chain.
    pub(crate) fn ask<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
        &self,
        question: impl FnOnce(&Chain) -> F,
    ) -> T {
        self.runtime.block_on(question(&self.chain)).unwrap()
    }

    /// Asks anvil itself, past everything of ours.
    pub(crate) fn anvil(&self, method: &str, params: Value) -> Value {
        self.runtime
            .block_on(self.devnet.control(method, params))
            .unwrap()
    }

    /// Coin for fees.
    pub(crate) fn give_coin(&self, to: Address) {
        self.runtime
            .block_on(self.devnet.set_coin(to, UNIT))
            .unwrap();
    }

    /// Sends it from the account that made the contracts, and waits until nothing more can happen to it.
    pub(crate) fn send(&self, call: &Call) {
        let key = self.devnet.key(0).unwrap();
        let state = self.runtime.block_on(async {
            let preview = self.chain.preview(key.address(), call).await.unwrap();
            let id: TxId = self.chain.send(&key, preview).await.unwrap();
            self.chain.settled(id).await.unwrap()
        });
        assert!(
            matches!(state, TxState::Final { .. }),
            "{state:?}: {call:?}"
        );
    }

    /// Says to a computer, before its program starts, which network its money is on.
    pub(crate) fn is_known_to(&self, folder: &Folder) {
        json(folder, &["networks", "use", self.file.to_str().unwrap()]);
    }

    /// A wallet whose words somebody typed, so that it signs above a small sum.
    pub(crate) fn wallet_on(&self, folder: &Folder, password: &str) {
        let password = secret(folder, "password", password);
        let made = json(
            folder,
            &["wallet", "new", "--password-file", password.path()],
        );
        let words: Vec<String> = serde_json::from_value(made["words"].clone()).unwrap();
        fs::remove_file(folder.path().join("wallet.json")).unwrap();
        let typed = secret(folder, "words", &words.join(" "));
        json(
            folder,
            &[
                "wallet",
                "import",
                "--words-file",
                typed.path(),
                "--password-file",
                password.path(),
            ],
        );
        self.is_known_to(folder);
    }
}

/// A file of mode 0600 that is gone when the command has read it.
struct Secret(PathBuf);

impl Secret {
    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn secret(folder: &Folder, name: &str, text: &str) -> Secret {
    let path = folder.path().join(format!("{name}.secret"));
    fs::write(&path, format!("{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Secret(path)
}

fn json(folder: &Folder, arguments: &[&str]) -> Value {
    let said = run(folder.decentralgpt().args(arguments).arg("--json"));
    assert!(said.status.success(), "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("no JSON: {said:?}"))
}
