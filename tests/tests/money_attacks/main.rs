//! Peers that cheat with money, between real programs on a real development chain: what it costs is at most the stated window, and
//! both books say so. docs/attacks.md lists every attack with the test that shows it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod devices;
mod payee;
mod payer;

use std::{fs, path::Path};

use chain::{
    Call, Chain, Key, Network, SignerView, Simulation, TxState,
    dev::{Devnet, DevnetError, DevnetOptions},
};
use decentralgpt_tests::{
    Folder, QUESTION, Running, SYSTEM, Said, Serving,
    money::{World, amount, wait},
    run, starter,
    wire::{self, Text},
};
use payee::{GIVEN, Payee, Till, Trick};
use payer::{Came, Payer};
use protocol::{
    frame::RefuseCode,
    receipt::work_of_job,
    voucher::{Address, B256, Vault, payee::FIRST_CREDIT_TOKENS},
};

/// Base units per million tokens: an answer is worth collecting after a few tokens.
const DEAR: u128 = 10_000_000_000_000_000_000;
/// A whole answer is worth less than the gas of collecting it.
const CHEAP: u128 = 1_000_000_000_000_000;
/// Output tokens that a provider computes beyond what is paid for.
const WINDOW: u64 = 64;

#[test]
fn a_payer_that_cheats_on_the_wire_costs_a_window_at_most() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let provider = world.provider(&model, CHEAP);
    let asker = world.asker("5");
    let held = || held_by(&provider);
    wire::block_on(async {
        let payer = Payer::new(&asker, &provider, payer::prompt(&model).await).await;

        // Vouchers of another vault, another chain, another key, another job: not a token for them.
        let elsewhere = Vault::new(31_337, Address::repeat_byte(9));
        let foreign = Vault::new(1, vault_of(&world).vault);
        for vault in [&elsewhere, &foreign] {
            let mut job = payer.open(200).await;
            let work = work_of_job(&job.id);
            job.pay(&payer.sign_in(vault, payer.payee, 0, work));
            assert_eq!(
                job.until_over().await,
                Came::Refused(RefuseCode::PaymentRefused)
            );
            assert_eq!(job.tokens, 0);
        }
        let mut job = payer.open(200).await;
        job.pay(&payer.sign_in(&payer.vault, payer.payee, 0, B256::repeat_byte(7)));
        assert_eq!(
            job.until_over().await,
            Came::Refused(RefuseCode::PaymentRefused)
        );
        assert_eq!((job.tokens, held()), (0, 0));

        // It pays for the prompt, and vanishes behind the window.
        let mut job = payer.open(200).await;
        job.pay(&payer.sign(0, &job.id));
        job.accepted().await;
        let prompt = payer.due(0);
        job.pay(&payer.sign(prompt, &job.id));
        assert_eq!(job.until_quiet().await, Came::Nothing);
        assert_eq!(job.tokens, WINDOW, "the window, and no token more");
        assert_eq!(held(), prompt);
        let first = job.open.clone();
        drop(job);

        // The same first frame again, and old or lower vouchers for a new job: nothing is computed for them.
        let mut again = payer.say(first).await;
        let id = again.id;
        again.pay(&payer.sign(prompt, &id));
        assert!(matches!(again.until_over().await, Came::Refused(_)));
        assert_eq!(again.tokens, 0);
        let mut job = payer.open(200).await;
        job.pay(&payer.sign(0, &job.id));
        let accept = job.accepted().await;
        assert!(
            !accept.last_voucher_held.is_empty(),
            "the payer is told what is held of it"
        );
        job.pay(&payer.sign(prompt / 2, &job.id));
        job.pay(&payer.sign(prompt, &job.id));
        assert_eq!(job.until_quiet().await, Came::Nothing);
        assert_eq!(
            (job.tokens, held()),
            (0, prompt),
            "a line's total pays once"
        );
        drop(job);
        payer.leave().await;
    });

    // What was given without a voucher is in the list of answers, and in no book.
    let rows = provider.folder().json(&["earnings", "--by", "job"]);
    let earned: u128 = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| amount(&row["earned"]))
        .sum();
    assert_eq!(earned, held_by(&provider));
}

#[test]
fn a_payer_that_ends_its_key_in_the_middle_owes_what_it_signed_and_a_window() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let provider = world.provider(&model, DEAR);
    let asker = world.asker("5");
    let reader = Reader(&world);
    let keys = (asker.account("spend"), asker.account("session"));
    let pot = reader.signer(keys).gas_pot;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (payer, mut job) = runtime.block_on(async {
        let payer = Payer::new(&asker, &provider, payer::prompt(&model).await).await;
        let mut job = payer.open(200).await;
        job.pay(&payer.sign(0, &job.id));
        job.accepted().await;
        job.pay(&payer.sign(payer.due(20), &job.id));
        assert_eq!(job.until_quiet().await, Came::Nothing);
        (payer, job)
    });
    let paid = payer.due(20);
    assert_eq!(job.tokens, 20 + WINDOW);
    // What is granted cannot be taken out: it stays for whoever was promised it.
    asker.json(&["wallet", "end-key", "--yes"]);
    let refused = run(&mut asker.command(&["wallet", "withdraw", "4", "--yes"]));
    assert!(!refused.status.success(), "{refused:?}");
    assert!(reader.signer(keys).ended);
    // The provider sees the end on the chain, and gives nothing more, whatever is signed.
    let came = runtime.block_on(job.until_over());
    assert!(matches!(came, Came::Refused(_) | Came::Done), "{came:?}");
    assert_eq!(job.tokens, 20 + WINDOW, "that window is the loss");
    runtime.block_on(async {
        let mut job = payer.open(200).await;
        job.pay(&payer.sign(paid, &job.id));
        assert_eq!(
            job.until_over().await,
            Came::Refused(RefuseCode::PaymentRefused)
        );
        assert_eq!(job.tokens, 0);
        payer.leave().await;
    });

    // All that is held is collected: the vault pays for signatures of an ended key for two weeks.
    let payee = provider.folder().account("operator");
    wait("what was signed is collected", || {
        reader.claimed(keys, payee) >= paid
    });
    let claimed = reader.claimed(keys, payee);
    assert_eq!(claimed, held_by(&provider));
    // Where it was collected behind the end, the key's pot paid for the gas.
    let gas = pot - reader.signer(keys).gas_pot;
    let wallet = provider.folder().account("wallet");
    assert_eq!(world.account(wallet).token, claimed + gas);
}

#[test]
fn a_payer_that_drains_its_grant_costs_one_credit_and_its_bond() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let provider = world.provider(&model, CHEAP);
    let asker = world.asker("5");
    let accomplice = operator(&world.computer("[money]\nmode = \"earn\"\n"));
    let reader = Reader(&world);
    let keys = (asker.account("spend"), asker.account("session"));
    let granted = reader.signer(keys).granted;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let payer = runtime
        .block_on(async { Payer::new(&asker, &provider, payer::prompt(&model).await).await });
    let drain = payer.sign_in(
        &payer.vault,
        accomplice.address(),
        granted,
        B256::repeat_byte(3),
    );
    runtime.block_on(async {
        let mut job = payer.open(200).await;
        job.pay(&payer.sign(0, &job.id));
        job.accepted().await;
        job.pay(&payer.sign(payer.due(0), &job.id));
        assert_eq!(job.until_quiet().await, Came::Nothing);
        assert_eq!(job.tokens, WINDOW);
    });
    let lost = held_by(&provider);
    let credit = u128::from(FIRST_CREDIT_TOKENS) * CHEAP / 1_000_000;
    assert!(lost > 0 && lost <= credit, "{lost} of a credit of {credit}");

    // The accomplice takes the whole grant, and nobody serves this payer any more.
    let payout = accomplice.address();
    reader.send(&accomplice, &Call::RegisterPayee { payout });
    let row = chain::ClaimRow {
        payer: drain.payer,
        cumulative: drain.cumulative,
        work: drain.work,
        signature: drain.signature(),
    };
    let payee = accomplice.address();
    reader.send(
        &accomplice,
        &Call::Claim {
            payee,
            rows: vec![row],
        },
    );
    assert_eq!(reader.signer(keys).spent, granted);
    wait("the provider knows", || {
        runtime.block_on(async {
            let mut job = payer.open(200).await;
            job.pay(&payer.sign(lost, &job.id));
            matches!(job.until_quiet().await, Came::Refused(_)) && job.tokens == 0
        })
    });
    assert_eq!(held_by(&provider), lost, "that is the loss, and no more");
    let earned = provider.folder().json(&["wallet", "balance"])["earned"].clone();
    assert_eq!(
        amount(&earned["available"]),
        0,
        "it is not called available: {earned}"
    );

    // The provider shows it by itself: what was paid out counts in the vault, so its own voucher is proof enough.
    let bond = reader.signer(keys).bond;
    assert!(bond > 0);
    wait("the provider shows it", || reader.signer(keys).contested);
    let balance = provider.folder().json(&["wallet", "balance"]);
    let problems = balance["problems"].as_array().unwrap();
    assert!(
        problems.iter().any(|said| said["code"] == "overdraft"),
        "{problems:?}"
    );
    world.pass(24 * 60 * 60 + 1);
    wait("the bond is gone", || reader.signer(keys).bond == 0);
    let reward = reader.report_reward().min(bond / 2);
    let wallet = provider.folder().account("wallet");
    wait("the costs of who showed it are in its wallet", || {
        world.account(wallet).token == reward
    });
    runtime.block_on(payer.leave());
}

#[test]
fn a_payee_that_cheats_gets_what_it_gave_and_one_chunk() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let asker = world.asker("5");
    let network = vault_of(&world);
    let till = Till {
        chain_id: network.chain_id,
        vault: network.vault,
        token: network.token.address,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let reference = runtime.block_on(async {
        let text = Text::new(&model);
        let reference = text.reference().await;
        text.end().await;
        reference
    });
    let promised = || amount(&asker.json(&["wallet", "balance"])["vault"]["promised"]);
    let mut before = 0;
    for trick in [Trick::SendsNothing, Trick::Stops, Trick::OverCounts] {
        let cheat = runtime.block_on(Payee::start(trick, till.clone(), reference, &model));
        let said = ask(&asker, &[&cheat.address]);
        assert!(
            !said.status.success() || said.out.contains("\"error\":{"),
            "{trick:?}: {said:?}"
        );
        let held = runtime.block_on(cheat.end());
        assert!(held.jobs > 0, "{trick:?} was never asked");
        let given = match trick {
            Trick::SendsNothing => 0,
            Trick::Stops | Trick::OverCounts => GIVEN,
        };
        let most = u128::from(held.jobs) * payee::due(held.n_in, given);
        assert!(held.total <= most, "{trick:?}: {held:?}, {most}");
        assert!(
            held.total >= payee::due(held.n_in, 0),
            "{trick:?}: {held:?}"
        );
        // What the payer's books say is what the cheat holds, to the unit: that is the loss, and it is shown.
        assert_eq!(promised() - before, held.total, "{trick:?}");
        before = promised();
    }
}

#[test]
fn a_restored_backup_of_an_asker_promises_nothing_twice_and_gets_a_new_key() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let provider = world.provider(&model, CHEAP);
    let asker = world.asker("5");
    let books = asker.path().join("ledger.db");
    let backup = asker.path().join("backup");
    copy_books(&books, &backup);
    assert!(ask(&asker, &[&provider.address]).status.success());
    let (old, held) = (asker.account("session"), held_by(&provider));
    assert!(held > 0);

    copy_books(&backup, &books);
    let said = ask(&asker, &[&provider.address]);
    assert_eq!(
        held_by(&provider),
        held,
        "nothing is signed on old books: {said:?}"
    );
    let status = asker.json(&["wallet", "balance"]);
    let fresh = asker.account("session");
    assert_ne!(fresh, old, "another key at once");
    let problems = status["problems"].as_array().unwrap();
    assert!(
        problems.iter().any(|problem| problem["code"] == "key_lost"),
        "{problems:?}"
    );

    // The old key is ended first, though another one is in use; the new one is granted something, and pays.
    asker.json(&["wallet", "end-key", "--yes"]);
    asker.json(&["wallet", "deposit", "5", "--yes"]);
    assert!(ask(&asker, &[&provider.address]).status.success());
    let status = asker.json(&["wallet", "balance"]);
    let problems = status["problems"].as_array().unwrap();
    assert!(
        problems.iter().all(|problem| problem["code"] != "key_lost"),
        "{problems:?}"
    );
}

#[test]
fn a_node_that_lost_its_list_of_jobs_takes_no_money_for_some_minutes() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let asker = world.asker("5");
    let provider = world.provider(&model, CHEAP);
    assert!(ask(&asker, &[&provider.address]).status.success());
    let folder = provider.killed();
    let socket = folder.path().join("control.sock");
    for file in [
        "ledger.db",
        "ledger.db-wal",
        "ledger.db-shm",
        "control.sock",
    ] {
        let _ = fs::remove_file(folder.path().join(file));
    }
    let before = amount(&asker.json(&["wallet", "balance"])["vault"]["promised"]);
    // It prints no address before it may be asked.
    let provider = Running::start(folder.decentralgpt_with(&model).arg("serve"));
    let mut address = String::new();
    wait("it says why it offers nothing", || {
        // Before that, a command would open the folder in its place.
        if !socket.exists() {
            return false;
        }
        let asked = run(folder.decentralgpt().args(["status", "--json"]));
        let status: serde_json::Value = serde_json::from_str(&asked.out).unwrap_or_default();
        let offered = status["offered"].as_array().map_or(0, Vec::len);
        assert_eq!(offered, 0, "{status}");
        address = status["listening"][0]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let why = status["notOffered"].to_string();
        why.contains("asked for money again") && !address.is_empty()
    });
    assert!(!ask(&asker, &[&address]).status.success());
    let after = amount(&asker.json(&["wallet", "balance"])["vault"]["promised"]);
    assert_eq!(after, before, "nothing is paid where nothing is offered");
    drop(provider);
}

#[test]
fn vouchers_that_were_handed_over_are_brought_by_anybody_and_pay_whoever_earned_them() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let asker = world.asker("5");
    let provider = world.provider(&model, CHEAP);
    assert!(ask(&asker, &[&provider.address]).status.success());
    let folder = provider.folder();
    let held = held_by(&provider);
    // The vault is told where claims go as soon as anything is held, worth its gas or not.
    let payout = folder.account("wallet");
    let operator = folder.account("operator");
    let reader = Reader(&world);
    let keys = (asker.account("spend"), asker.account("session"));
    wait("the payee is registered", || {
        reader.payout(operator) == Some(payout)
    });
    let file = folder.path().join("claims.json");
    let claims = folder.json(&["earnings", "--export-claims", file.to_str().unwrap()]);
    assert_eq!(amount(&claims["rows"][0]["cumulative"]), held);
    let _away = provider.killed();

    let neighbour = world.computer("");
    let mut bring = neighbour.command(&["claim", file.to_str().unwrap(), "--yes"]);
    let said = run(&mut bring);
    assert!(said.status.success(), "{said:?}");
    assert_eq!(reader.claimed(keys, operator), held);
    assert_eq!(
        world.account(payout).token,
        held,
        "the fee is the neighbour's, the money is not"
    );
    // A second time it brings nothing.
    let again = run(&mut bring);
    assert_eq!(world.account(payout).token, held, "{again:?}");
}

#[test]
fn a_network_that_was_started_anew_is_named_and_nothing_is_mixed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let begin = |port: Option<u16>| {
        let options = DevnetOptions {
            port,
            ..DevnetOptions::default()
        };
        match runtime.block_on(Devnet::start(&options)) {
            Ok(devnet) => Some(devnet),
            Err(error @ DevnetError::Missing { .. }) => {
                println!("skipped: a network that was started anew ({error})");
                None
            }
            Err(error) => panic!("{error:?}"),
        }
    };
    let Some(first) = begin(None) else { return };
    let port = first
        .url()
        .rsplit(':')
        .next()
        .unwrap()
        .trim_end_matches('/')
        .parse()
        .unwrap();
    let folder = Folder::new();
    let file = folder.path().join("network.toml");
    fs::write(&file, first.network.to_toml().unwrap()).unwrap();
    folder.json(&["wallet", "new"]);
    folder.json(&["networks", "use", file.to_str().unwrap()]);
    // Far enough that the new one is shorter at first.
    runtime.block_on(first.mine(60)).unwrap();
    let read = || {
        let books = runtime.block_on(async {
            let ledger = ledger::Ledger::open(folder.path().join("ledger.db"), 0)
                .await
                .unwrap();
            let head = ledger.final_block().await.unwrap();
            ledger.close().await.unwrap();
            head
        });
        books.map_or(0, |head| head.block)
    };
    wait("some of it is in the books", || {
        folder.json(&["wallet", "balance"]);
        read() > 60
    });
    let books = read();
    drop(first);

    let second = begin(Some(port)).unwrap();
    let told = || run(&mut folder.command(&["wallet", "balance"]));
    for blocks in [1, 2 * books] {
        runtime.block_on(second.mine(blocks)).unwrap();
        let said = told();
        assert!(!said.status.success(), "{said:?}");
        assert!(said.err.contains("started anew"), "{said:?}");
        assert_eq!(read(), books, "nothing of the new one is booked");
    }
}

/// The total that a provider holds, by its own list of earnings.
fn held_by(provider: &Serving) -> u128 {
    let rows = provider.folder().json(&["earnings", "--by", "job"]);
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| amount(&row["earned"]))
        .sum()
}

fn ask(asker: &Folder, peers: &[&str]) -> Said {
    let mut command = asker.command(&["chat", "--temperature", "0", "--system", SYSTEM]);
    for peer in peers {
        command.args(["--peer", peer]);
    }
    run(command.arg(QUESTION))
}

fn vault_of(world: &World) -> Network {
    Network::load(&world.file()).unwrap()
}

/// What the vault says, as of the newest block that any program can have seen.
struct Reader<'a>(&'a World);

/// Whose balance pays, and whose signature says so.
type Keys = (Address, Address);

impl Reader<'_> {
    /// What the vault's terms give at most to who shows an overdraft.
    fn report_reward(&self) -> u128 {
        self.0.ask_now(Chain::vault_terms).report_reward
    }

    fn signer(&self, (payer, signer): Keys) -> SignerView {
        let view = self.0.ask_now(|chain| chain.signer(payer, signer));
        view.unwrap()
    }

    fn claimed(&self, (payer, signer): Keys, payee: Address) -> u128 {
        let line = self.0.ask_now(|chain| chain.line(payer, signer, payee));
        line.claimed
    }

    fn payout(&self, payee: Address) -> Option<Address> {
        self.0.ask_now(|chain| chain.payout(payee))
    }

    /// Sends it, and waits until it is final.
    fn send(&self, key: &Key, call: &Call) {
        self.0.ask_now(|chain| async move {
            let preview = chain.preview(key.address(), call).await?;
            assert_eq!(preview.simulation, Simulation::Ok, "{call:?}");
            let id = chain.send(key, preview).await?;
            let state = chain.settled(id).await?;
            assert!(matches!(state, TxState::Final { .. }), "{state:?}");
            Ok::<_, chain::ChainError>(())
        });
    }
}

/// The key of a computer that collects.
fn operator(folder: &Folder) -> Key {
    let _ = folder.account("operator");
    let secret = payer::secret(&folder.path().join("operator.key"));
    Key::from_secret(&secret).unwrap()
}

fn copy_books(from: &Path, to: &Path) {
    for ending in ["", "-wal", "-shm"] {
        let name = |path: &Path| format!("{}{ending}", path.display());
        let _ = fs::remove_file(name(to));
        if Path::new(&name(from)).exists() {
            fs::copy(name(from), name(to)).unwrap();
        }
    }
}
