//! Money between real programs on a real development chain: put in, paid for answers by the token, collected, taken out; every
//! account on the chain and in both books equal to the last unit.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use chain::{
    Call, Chain,
    dev::{Devnet, DevnetError, DevnetOptions},
};
use decentralgpt_tests::{Folder, LONG_QUESTION, Said, Serving, run, starter};
use serde_json::Value;

const PASSWORD: &str = "correct horse battery staple";
/// One token, in base units.
const UNIT: u128 = 1_000_000_000_000_000_000;
/// Base units per million output tokens: an answer of some hundred tokens costs a few thousandths of a token, and a stranger's
/// first credit is less than the bond.
const PRICE: &str = "10000000000000000000";
/// What gas is taken to cost here: little enough that an answer is worth collecting.
const TOKEN_PER_GAS: u128 = 10_000_000;
/// What the asker puts in.
const DEPOSIT: u128 = 5 * UNIT;
/// What waits for a block waits some seconds; a test that waits for longer waits for ever.
const HANG: Duration = Duration::from_secs(120);

#[test]
fn what_is_put_in_can_be_taken_out() {
    let Some(world) = World::start() else { return };
    let asker = world.asker();
    let balance = asker.json(&["wallet", "balance"]);
    let vault = &balance["vault"];
    let granted = amount(&vault["granted"]);
    let bond = amount(&vault["bond"]);
    assert_eq!(bond, DEPOSIT / 20);
    assert!(granted < DEPOSIT && granted > DEPOSIT / 10 * 9, "{vault}");
    assert_eq!(amount(&vault["promised"]), 0);
    assert_eq!(amount(&vault["free"]), 0);
    // 100 came from the faucet of the test, and what was put in is gone from the account.
    let spend = account(&balance, "spend");
    assert_eq!(amount(&spend["token"]), 100 * UNIT - DEPOSIT);

    let sent = asker.json(&["wallet", "history"]);
    assert_eq!(sent[0]["state"], "final", "{sent}");
    let refused = asker.run(&["wallet", "withdraw", "1", "--yes"]);
    refused.is_a_failure_that_says(&["refuse", "balance"]);
}

#[test]
fn answers_are_paid_by_the_token_collected_and_every_account_agrees() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let first = world.provider(&model);
    let second = world.provider(&model);
    let asker = world.asker();

    // Two answers of one, a third of the other.
    let mut paid = 0;
    for provider in [&first, &first, &second] {
        paid += asker.ask(&provider.serving.address);
    }
    let balance = asker.json(&["wallet", "balance"]);
    assert_eq!(amount(&balance["vault"]["promised"]), paid);
    assert_eq!(amount(&balance["spentToday"]), paid);

    // What the providers hold is what was promised, and it is collected without a word.
    let mut collected = 0;
    for provider in [&first, &second] {
        let earned = provider.earned_in_full();
        let rows = provider.node.json(&["earnings", "--by", "job"]);
        let rows = rows.as_array().unwrap();
        let sum: u128 = rows.iter().map(|row| amount(&row["earned"])).sum();
        assert_eq!(sum, earned);
        for row in rows {
            assert_eq!(row["state"], "paid_out", "{row}");
            let job = row["job"].as_str().unwrap();
            let proof = provider.node.json(&["earnings", "--proof", job]);
            assert_eq!(proof["signed"]["valid"], true, "{proof}");
            assert_eq!(proof["chain"]["covered"], true, "{proof}");
            assert_eq!(proof["receipt"], true, "{proof}");
        }
        let wallet =
            account(&provider.node.json(&["wallet", "balance"]), "wallet")["token"].clone();
        assert_eq!(amount(&wallet), earned, "the wallet has what was claimed");
        collected += earned;
    }
    assert_eq!(collected, paid, "not a unit is lost or made");
    let spent = amount(&asker.json(&["wallet", "balance"])["vault"]["spent"]);
    assert_eq!(spent, paid);

    // The chain itself, asked by nobody's books.
    let on_chain = world.on_chain(&asker, &[&first, &second]);
    assert_eq!(on_chain, paid);
}

/// The chain, and a runtime to ask it by.
struct World {
    devnet: Devnet,
    chain: Chain,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
    file: PathBuf,
}

impl World {
    /// Says that the test is skipped where anvil is not here.
    fn start() -> Option<Self> {
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

    /// A computer with a wallet whose words were confirmed, some coin on every account, and what `mode` says.
    fn node(&self, settings: &str) -> Node {
        let node = Node {
            folder: Folder::with_settings(settings),
        };
        let words = node.run(&["wallet", "new"]);
        let words: Vec<String> = serde_json::from_value(json(&words)["words"].clone()).unwrap();
        // Whoever types the words has a copy: taken over, the wallet signs above a small sum.
        fs::remove_file(node.folder.path().join("wallet.json")).unwrap();
        let typed = node.secret("words", &words.join(" "));
        json(&node.run(&["wallet", "import", "--words-file", &typed]));
        json(&node.run(&["networks", "use", self.file.to_str().unwrap()]));
        for account in node.json(&["wallet", "balance"])["accounts"]
            .as_array()
            .unwrap()
        {
            let address = account["address"].as_str().unwrap().parse().unwrap();
            self.runtime
                .block_on(self.devnet.set_coin(address, UNIT))
                .unwrap();
        }
        node
    }

    fn asker(&self) -> Node {
        let node = self.node("");
        let spend = account(&node.json(&["wallet", "balance"]), "spend");
        let to = spend["address"].as_str().unwrap().parse().unwrap();
        self.send(&Call::TransferToken {
            to,
            amount: 100 * UNIT,
        });
        json(&node.run(&["wallet", "deposit", "5", "--yes"]));
        node
    }

    fn provider(&self, model: &std::path::Path) -> Provider {
        let settings =
            format!("serve_max_out = 256\n[money]\nmode = \"earn\"\nprice = \"{PRICE}\"\n");
        let node = self.node(&settings);
        let folder = node.folder.path().to_owned();
        // The folder is the serving program's from here on; commands on it attach to that.
        let serving = Serving::start_in(node.folder, model);
        let node = Attached { folder };
        let began = Instant::now();
        loop {
            let offered = node.json(&["status"])["offered"].clone();
            if offered.as_array().is_some_and(|list| !list.is_empty()) {
                return Provider { node, serving };
            }
            assert!(began.elapsed() < HANG, "nothing is offered");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Sends it from the account that made the contracts, which has all tokens.
    fn send(&self, call: &Call) {
        self.runtime.block_on(async {
            let key = self.devnet.key(0).unwrap();
            if let Call::TransferToken { .. } = call {
                let faucet = Call::Faucet { to: key.address() };
                let preview = self.chain.preview(key.address(), &faucet).await.unwrap();
                let id = self.chain.send(&key, preview).await.unwrap();
                self.chain.settled(id).await.unwrap();
            }
            let preview = self.chain.preview(key.address(), call).await.unwrap();
            let id = self.chain.send(&key, preview).await.unwrap();
            self.chain.settled(id).await.unwrap();
        });
    }

    /// What the vault paid for this asker's promises to these providers.
    fn on_chain(&self, asker: &Node, providers: &[&Provider]) -> u128 {
        let address = |balance: &Value, role: &str| {
            account(balance, role)["address"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        };
        let balance = asker.json(&["wallet", "balance"]);
        let (payer, signer) = (address(&balance, "spend"), address(&balance, "session"));
        providers
            .iter()
            .map(|provider| {
                let balance = provider.node.json(&["wallet", "balance"]);
                let payee = address(&balance, "operator");
                let line = self.chain.line(payer, signer, payee);
                self.runtime.block_on(line).unwrap().claimed
            })
            .sum()
    }
}

/// A computer on which no program runs between commands.
struct Node {
    folder: Folder,
}

impl Node {
    fn run(&self, arguments: &[&str]) -> Said {
        let password = self.secret("password", PASSWORD);
        let mut command = self.folder.decentralgpt();
        command.args(arguments).arg("--json");
        if matches!(arguments[0], "wallet" | "vote") {
            command.args(["--password-file", &password]);
        }
        run(&mut command)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        json(&self.run(arguments))
    }

    /// Asks a peer, and says what the answer cost.
    fn ask(&self, address: &str) -> u128 {
        let spent = || amount(&self.json(&["wallet", "balance"])["spentToday"]);
        let before = spent();
        let said = run(self.folder.decentralgpt().args([
            "chat",
            "--json",
            "--peer",
            address,
            "--max-out",
            "200",
            LONG_QUESTION,
        ]));
        assert_eq!(said.code(), Some(0), "{}\n{}", said.out, said.err);
        let last = said.out.lines().last().unwrap();
        let finished: Value = serde_json::from_str(last).unwrap();
        assert!(finished["message"]["error"].is_null(), "{finished}");
        let spans = finished["message"]["spans"].as_array().unwrap();
        assert!(spans.last().unwrap()["receipt"].is_string(), "{finished}");
        let paid = spent() - before;
        assert!(paid > 0, "{finished}");
        paid
    }

    fn secret(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(format!("{name}.secret"));
        fs::write(&path, format!("{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }
}

/// A computer on which a program serves.
struct Provider {
    node: Attached,
    serving: Serving,
}

struct Attached {
    folder: PathBuf,
}

impl Attached {
    fn json(&self, arguments: &[&str]) -> Value {
        let mut command = std::process::Command::new(decentralgpt_tests::program("decentralgpt"));
        command
            .arg("--data")
            .arg(&self.folder)
            .args(arguments)
            .arg("--json");
        json(&run(&mut command))
    }
}

impl Provider {
    /// Waits until all that was earned is paid out, and says how much that is.
    fn earned_in_full(&self) -> u128 {
        let began = Instant::now();
        loop {
            let status = self.node.json(&["wallet", "balance"]);
            let earned = &status["earned"];
            let open = ["checking", "available", "tooSmall"]
                .iter()
                .map(|part| amount(&earned[part]))
                .sum::<u128>();
            let paid_out = amount(&earned["paidOut"]);
            if open == 0 && paid_out > 0 {
                return paid_out;
            }
            assert!(began.elapsed() < HANG, "not collected: {status:#}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

fn json(said: &Said) -> Value {
    assert!(said.status.success(), "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("no JSON: {said:?}"))
}

fn amount(value: &Value) -> u128 {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("no amount: {value}"));
    text.parse().unwrap()
}

fn account(balance: &Value, role: &str) -> Value {
    let mut accounts = balance["accounts"].as_array().unwrap().iter();
    accounts
        .find(|account| account["role"] == role)
        .unwrap_or_else(|| panic!("no {role} account: {balance:#}"))
        .clone()
}
