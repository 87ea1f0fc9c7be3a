//! Money between real programs: computers with wallets on a chain of the test's own, and the accounts of both compared.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use chain::{Address, Call, LineView, SignerView};
use ledger::{AuditReport, BookRows, HeldVoucher, Ledger};
use protocol::voucher::{self, B256, Vault, Voucher};
use serde_json::Value;

pub use crate::world::{UNIT, World};
use crate::{Folder, Running, Said, Serving, run};

/// Of every wallet here.
const PASSWORD: &str = "correct horse battery staple";
/// What an asker's account is given.
pub const PURSE: u128 = 100 * UNIT;
/// What waits for a block waits some seconds; a test that waits for longer waits for ever.
pub const HANG: Duration = Duration::from_secs(150);
const LOOK: Duration = Duration::from_millis(200);

impl World {
    /// A computer with a wallet whose words were typed, coin on every account, and these settings.
    #[must_use]
    pub fn computer(&self, settings: &str) -> Folder {
        self.set_up(Folder::with_settings(settings))
    }

    /// The same, on a folder that was prepared.
    #[must_use]
    pub fn set_up(&self, folder: Folder) -> Folder {
        self.wallet_on(&folder, PASSWORD);
        for account in accounts(&folder.json(&["wallet", "balance"])) {
            self.set_coin(account.1, UNIT);
        }
        folder
    }

    /// One that asks: [`PURSE`] came to it, and so many whole tokens of it lie in the vault.
    #[must_use]
    pub fn asker(&self, deposit: &str) -> Folder {
        self.asker_on(self.computer(""), deposit)
    }

    /// The same, on a computer that was set up.
    #[must_use]
    pub fn asker_on(&self, folder: Folder, deposit: &str) -> Folder {
        self.give(folder.account("spend"), PURSE);
        folder.json(&["wallet", "deposit", deposit, "--yes"]);
        folder
    }

    /// Another computer of the person whose asker this is: it took the same words over.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn second_device(&self, of: &Folder) -> Folder {
        let words = of.json(&["wallet", "words"])["words"].clone();
        let words: Vec<String> = serde_json::from_value(words).unwrap();
        let folder = Folder::new();
        self.wallet_of(&folder, &words.join(" "), PASSWORD);
        assert_eq!(folder.account("spend"), of.account("spend"));
        folder
    }

    /// One that answers, at this price in base units per million tokens written.
    #[must_use]
    pub fn provider(&self, model: &Path, price: u128) -> Serving {
        serve(self.computer(&earns(price)), model)
    }

    /// Tokens from the faucet, to an account.
    fn give(&self, to: Address, amount: u128) {
        let to_maker = Call::Faucet { to: self.maker() };
        for call in [to_maker, Call::TransferToken { to, amount }] {
            self.send(&call);
        }
    }

    /// Of the key that an asker promises by.
    #[must_use]
    pub fn signer(&self, asker: &Folder) -> SignerView {
        let (payer, signer) = (asker.account("spend"), asker.account("session"));
        self.ask_now(|chain| chain.signer(payer, signer)).unwrap()
    }

    /// Of what an asker owes a provider.
    #[must_use]
    pub fn line(&self, asker: &Folder, provider: &Folder) -> LineView {
        let (payer, signer) = (asker.account("spend"), asker.account("session"));
        let payee = provider.account("operator");
        self.ask_now(|chain| chain.line(payer, signer, payee))
    }

    /// All tokens that the vault has.
    #[must_use]
    pub fn in_the_vault(&self) -> u128 {
        self.account(self.network().vault).token
    }

    /// The books of a folder whose program was ended, counted again: every sum, and every signature of a held voucher.
    ///
    /// # Panics
    /// When they do not agree.
    #[must_use]
    pub fn audited(&self, folder: &Folder) -> Books<'_> {
        let network = self.network();
        let vault = Vault::new(network.chain_id, network.vault);
        let (ledger, report) = self.runtime.block_on(async {
            let ledger = Ledger::open(folder.path().join("ledger.db"), now_ms())
                .await
                .unwrap();
            let genuine = move |held: &HeldVoucher| genuine(held, &vault);
            let report = ledger.audit(now_ms(), genuine).await.unwrap();
            assert!(report.passed(), "{report:#?}");
            (ledger, report)
        });
        Books {
            world: self,
            ledger,
            report,
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

    /// Tokens of every answer that was given, paid or not.
    ///
    /// # Panics
    /// When they cannot be read.
    #[must_use]
    pub fn tokens_given(&self) -> u64 {
        let answered = self.ledger.answered(u32::MAX);
        let answered = self.world.runtime.block_on(answered).unwrap();
        answered.iter().map(|one| u64::from(one.tokens_out)).sum()
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

/// The settings of one that answers, at this price in base units per million tokens written.
#[must_use]
pub fn earns(price: u128) -> String {
    format!("serve_max_out = 1200\n[money]\nmode = \"earn\"\nprice = \"{price}\"\n")
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

/// Tokens as a person types them.
#[must_use]
pub fn tokens(units: u128) -> String {
    format!("{}.{:018}", units / UNIT, units % UNIT)
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
