//! Money between real programs: a chain of the test's own, computers with wallets on it, and the accounts of both compared.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use chain::{
    Account, Address, Call, Chain, LineView, SignerView,
    dev::{Devnet, DevnetError, DevnetOptions},
};
use ledger::{AuditReport, BookRows, HeldVoucher, Ledger};
use protocol::voucher::{self, B256, Vault, Voucher};
use serde_json::Value;

use crate::{Folder, Running, Said, Serving, run};

/// Of every wallet here.
const PASSWORD: &str = "correct horse battery staple";
/// One token, in base units.
pub const UNIT: u128 = 1_000_000_000_000_000_000;
/// What an asker's account is given.
pub const PURSE: u128 = 100 * UNIT;
/// What gas is taken to cost here: little enough that a part of an answer is worth collecting.
const TOKEN_PER_GAS: u128 = 10_000_000;
/// What waits for a block waits some seconds; a test that waits for longer waits for ever.
pub const HANG: Duration = Duration::from_secs(150);
const LOOK: Duration = Duration::from_millis(200);

/// The chain, and a runtime to ask it by.
#[derive(Debug)]
pub struct World {
    devnet: Devnet,
    chain: Chain,
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
}

impl World {
    /// Says that the test is skipped where anvil is not here.
    #[must_use]
    pub fn start() -> Option<Self> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut options = DevnetOptions::default();
        options.deploy.token_per_gas = TOKEN_PER_GAS;
        let devnet = match runtime.block_on(Devnet::start(&options)) {
            Ok(devnet) => devnet,
            Err(error @ DevnetError::Missing { .. }) => {
                println!("skipped: money between programs ({error})");
                return None;
            }
            Err(error) => panic!("{error:?}"),
        };
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("devnet.toml"),
            devnet.network.to_toml().unwrap(),
        )
        .unwrap();
        let chain = {
            let _inside = runtime.enter();
            Chain::open(devnet.network.clone(), folder.path()).unwrap()
        };
        runtime.block_on(chain.reached());
        Some(Self {
            devnet,
            chain,
            runtime,
            folder,
        })
    }

    /// The network's file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("devnet.toml")
    }

    /// Where on loopback the chain is asked.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let rpc = self.devnet.network.rpc.iter();
        rpc.filter_map(|url| url.trim_end_matches('/').rsplit(':').next()?.parse().ok())
            .collect()
    }

    /// A computer with a wallet whose words were typed, coin on every account, and these settings.
    #[must_use]
    pub fn computer(&self, settings: &str) -> Folder {
        self.equip(Folder::with_settings(settings))
    }

    /// The same, on a folder that was prepared.
    #[must_use]
    pub fn equip(&self, folder: Folder) -> Folder {
        let words = folder.json(&["wallet", "new"])["words"].clone();
        let words: Vec<String> = serde_json::from_value(words).unwrap();
        // Whoever types the words has a copy: taken over, the wallet signs above a small sum.
        fs::remove_file(folder.path().join("wallet.json")).unwrap();
        let typed = folder.secret("words", &words.join(" "));
        folder.json(&["wallet", "import", "--words-file", &typed]);
        folder.json(&["networks", "use", self.file().to_str().unwrap()]);
        for account in accounts(&folder.json(&["wallet", "balance"])) {
            let set = self.devnet.set_coin(account.1, UNIT);
            self.runtime.block_on(set).unwrap();
        }
        folder
    }

    /// One that asks: [`PURSE`] came to it, and so many whole tokens of it lie in the vault.
    #[must_use]
    pub fn asker(&self, deposit: &str) -> Folder {
        self.fund(self.computer(""), deposit)
    }

    /// The same, on a computer that is here.
    #[must_use]
    pub fn fund(&self, folder: Folder, deposit: &str) -> Folder {
        self.give(folder.account("spend"), PURSE);
        folder.json(&["wallet", "deposit", deposit, "--yes"]);
        folder
    }

    /// One that answers, at this price in base units per million tokens written.
    #[must_use]
    pub fn provider(&self, model: &Path, price: u128) -> Serving {
        let settings =
            format!("serve_max_out = 256\n[money]\nmode = \"earn\"\nprice = \"{price}\"\n");
        serve(self.computer(&settings), model)
    }

    /// Tokens from the faucet, to an account.
    fn give(&self, to: Address, amount: u128) {
        let key = self.devnet.key(0).unwrap();
        for call in [
            Call::Faucet { to: key.address() },
            Call::TransferToken { to, amount },
        ] {
            self.runtime.block_on(async {
                let preview = self.chain.preview(key.address(), &call).await.unwrap();
                let id = self.chain.send(&key, preview).await.unwrap();
                self.chain.settled(id).await.unwrap();
            });
        }
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

    /// Waits until this side sees as much as any program can have seen.
    fn catch_up(&self) {
        let number = self
            .devnet
            .control("eth_blockNumber", Value::Array(Vec::new()));
        let number = self.runtime.block_on(number).unwrap();
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
        self.catch_up();
        self.runtime.block_on(self.chain.account(address)).unwrap()
    }

    /// Of the key that an asker promises by.
    #[must_use]
    pub fn signer(&self, asker: &Folder) -> SignerView {
        let (payer, signer) = (asker.account("spend"), asker.account("session"));
        self.catch_up();
        let view = self.chain.signer(payer, signer);
        self.runtime.block_on(view).unwrap().unwrap()
    }

    /// Of what an asker owes a provider.
    #[must_use]
    pub fn line(&self, asker: &Folder, provider: &Folder) -> LineView {
        let (payer, signer) = (asker.account("spend"), asker.account("session"));
        self.catch_up();
        let line = self.chain.line(payer, signer, provider.account("operator"));
        self.runtime.block_on(line).unwrap()
    }

    /// All tokens that the vault has.
    #[must_use]
    pub fn in_the_vault(&self) -> u128 {
        self.account(self.devnet.network.vault).token
    }

    /// The books of a folder whose program was ended, counted again: every sum, and every signature of a held voucher.
    ///
    /// # Panics
    /// When they do not agree.
    #[must_use]
    pub fn audited(&self, folder: &Folder) -> Books<'_> {
        let network = &self.devnet.network;
        let vault = Vault::new(network.chain_id, network.vault);
        let ledger = self.runtime.block_on(async {
            let ledger = Ledger::open(folder.path().join("ledger.db"), now_ms())
                .await
                .unwrap();
            let genuine = move |held: &HeldVoucher| genuine(held, &vault);
            let report = ledger.audit(now_ms(), genuine).await.unwrap();
            assert!(report.passed(), "{report:#?}");
            ledger
        });
        let report = self.runtime.block_on(ledger.last_audit()).unwrap();
        Books {
            world: self,
            ledger,
            report: report.unwrap(),
        }
    }
}

fn genuine(held: &HeldVoucher, vault: &Vault) -> bool {
    let (payer, payee) = (
        Address::from(held.line.payer),
        Address::from(held.line.payee),
    );
    let bytes = voucher::encode(
        payer,
        held.cumulative,
        B256::from(held.work),
        &held.signature,
    );
    Voucher::decode(&bytes, payee)
        .and_then(|voucher| voucher.check(vault))
        .is_ok_and(|voucher| voucher.signer() == Address::from(held.line.signer))
}

fn now_ms() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Audited books, open for as long as this lives.
#[derive(Debug)]
pub struct Books<'a> {
    world: &'a World,
    ledger: Ledger,
    /// What the audit counted.
    pub report: AuditReport,
}

impl Books<'_> {
    /// What an asker's key promised, and what it was granted.
    ///
    /// # Panics
    /// When its book is not here, or is not the newest.
    #[must_use]
    pub fn of_payer(&self, payer: Address, signer: Address) -> BookRows {
        let book = self
            .ledger
            .payer_book(payer.into_array(), signer.into_array());
        let rows = self.world.runtime.block_on(book).unwrap().unwrap();
        assert_eq!(rows.lost, None);
        rows
    }

    /// The total of the highest voucher that a provider holds of a payer; zero where it holds none.
    #[must_use]
    pub fn held(&self, payee: Address, payer: Address) -> u128 {
        let last = self
            .ledger
            .last_voucher(payee.into_array(), payer.into_array());
        let held = self.world.runtime.block_on(last).unwrap();
        held.map_or(0, |held| held.cumulative)
    }

    /// What the books say that the chain paid of it.
    #[must_use]
    pub fn claimed(&self, payee: Address, payer: Address) -> u128 {
        let debt = self.ledger.debt(payee.into_array(), payer.into_array());
        self.world.runtime.block_on(debt).unwrap().claimed
    }
}

impl Drop for Books<'_> {
    fn drop(&mut self) {
        // Whoever is started next has the file alone.
        let _ = self.world.runtime.block_on(self.ledger.close());
    }
}

/// Starts serving on a folder, and waits until a model is offered: before that every question is turned away.
///
/// # Panics
/// When nothing is offered.
#[must_use]
pub fn serve(folder: Folder, model: &Path) -> Serving {
    let serving = Serving::start_in(folder, model);
    wait("a model is offered", || {
        let offered = &serving.folder().json(&["status"])["offered"];
        offered.as_array().is_some_and(|list| !list.is_empty())
    });
    serving
}

/// Waits until everything that a provider earned is paid out, and says how much that is.
///
/// # Panics
/// When it is not.
#[must_use]
pub fn earned_in_full(provider: &Folder) -> u128 {
    let mut paid_out = 0;
    wait("all that was earned is paid out", || {
        let earned = provider.json(&["wallet", "balance"])["earned"].clone();
        let mut open = ["checking", "available", "tooSmall"].iter();
        paid_out = amount(&earned["paidOut"]);
        paid_out > 0 && open.all(|part| amount(&earned[part]) == 0)
    });
    paid_out
}

/// Looks until it is so.
///
/// # Panics
/// When it is not for so long that it never will be.
pub fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < HANG, "not in {HANG:?}: {what}");
        std::thread::sleep(LOOK);
    }
}

impl Folder {
    /// A command on it, with its wallet's password where it may need one.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.decentralgpt();
        command.args(arguments).arg("--json");
        if matches!(arguments[0], "wallet" | "vote" | "claim") {
            command.args(["--password-file", &self.secret("password", PASSWORD)]);
        }
        command
    }

    /// What a command says. Where it takes two transactions, the last one.
    ///
    /// # Panics
    /// When it fails.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = run(&mut self.command(arguments));
        assert!(said.status.success(), "{arguments:?}: {said:?}");
        last_json(&said)
    }

    /// The address of one of its keys: `wallet`, `spend`, `operator` or `session`.
    #[must_use]
    pub fn account(&self, role: &str) -> Address {
        let all = accounts(&self.json(&["wallet", "balance"]));
        let found = all.into_iter().find(|(of, _)| of == role);
        found.unwrap_or_else(|| panic!("no {role} account")).1
    }

    /// A program that asks these peers, with every event of the answer on a line of its own.
    #[must_use]
    pub fn asking(&self, peers: &[&Serving], max_out: u32, question: &str) -> Running {
        let max_out = max_out.to_string();
        let mut command = self.command(&["chat", "--temperature", "0", "--max-out", &max_out]);
        for peer in peers {
            command.args(["--peer", &peer.address]);
        }
        Running::start(command.arg(question))
    }

    /// A file that its owner alone reads.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn secret(&self, name: &str, text: &str) -> String {
        let path = self.path().join(format!("{name}.secret"));
        fs::write(&path, format!("{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }
}

/// The last line that a program printed.
#[must_use]
pub fn last_json(said: &Said) -> Value {
    let last = said.out.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("no JSON: {said:?}"))
}

/// An amount in base units, as every command writes it.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn amount(value: &Value) -> u128 {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("no amount: {value}"));
    text.parse().unwrap()
}

fn accounts(balance: &Value) -> Vec<(String, Address)> {
    let all = balance["accounts"].as_array().unwrap();
    all.iter()
        .map(|account| {
            let text = |name: &str| account[name].as_str().unwrap();
            (text("role").to_owned(), text("address").parse().unwrap())
        })
        .collect()
}
