//! A vote from its proposal to what a running node does by it, and a first deposit that somebody else brings: between real
//! programs, on a real development chain.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use decentralgpt_tests::{
    Folder, LONG_QUESTION, Serving,
    money::{UNIT, World, amount, earned_in_full, last_json, wait},
    run, starter,
};
use serde_json::Value;

/// Base units per million output tokens: an answer costs enough to be worth collecting.
const PRICE: u128 = 10 * UNIT;
/// In parts of 10,000.
const FEE: u128 = 500;
/// Voting begins, ends, and what was carried has waited after so many seconds on the test's chain.
const DELAY: u64 = 11;
const PERIOD: u64 = 61;
const TIMELOCK: u64 = 11;
/// What a vote changed is obeyed within this long.
const OBEYED: Duration = Duration::from_secs(60);

#[test]
fn what_a_vote_carried_is_executed_by_anybody_and_obeyed_without_a_restart() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let provider = world.provider(&model, PRICE);
    let node = provider.folder();
    let asker = world.asker("5");
    ask(&asker, &provider);
    let before = earned_in_full(node);
    let books = earned(node);
    assert_eq!(amount(&books["fees"]), 0, "{books}");
    assert_eq!(amount(&books["paidNet"]), before);
    assert_eq!(rules(node)["feeBps"], 0);
    let (id, digest) = lent(node);

    let voter = world.computer("[money]\nmode = \"lend_and_spend\"\n");
    voter.json(&["wallet", "faucet", "--yes"]);
    voter.json(&["vote", "wrap", "100", "--yes"]);
    voter.json(&["vote", "delegate", "--yes"]);
    world.pass(2);
    let listing = format!("{digest} Apache-2.0 llama {}", "ab".repeat(32));
    propose(&voter, "fee", &FEE.to_string(), "A fee");
    propose(&voter, "model_add", &listing, "List the starter");
    world.pass(DELAY);

    let open = proposals(&voter);
    assert_eq!(open.len(), 2);
    for proposal in &open {
        assert_eq!(proposal["state"], "open", "{proposal}");
        let id = proposal["id"].as_str().unwrap();
        voter.json(&["vote", "for", id, "--yes"]);
        // What was not carried is sent on by nobody.
        let early = run(&mut asker.command(&["vote", "queue", id, "--yes"]));
        early.is_a_failure_that_says(&["refuse"]);
    }
    // Before it is decided, the lender reads what it would mean here.
    let shown = proposals(node);
    let change = |what: &str| {
        let mut changes = shown.iter().map(|proposal| &proposal["changes"][0]);
        changes.find(|change| change["what"] == what).unwrap()
    };
    let fee = change("fee");
    assert_eq!(fee["used"], true);
    let meaning = fee["onThisNode"].as_str().unwrap();
    assert!(meaning.contains("would have gone to the fee"), "{meaning}");
    assert_eq!(change("model_add")["used"], true);

    world.pass(PERIOD);
    // Somebody without a vote sends both of them on.
    for (step, pause) in [("queue", TIMELOCK), ("execute", 0)] {
        for proposal in proposals(&asker) {
            assert_eq!(proposal["state"], "counting", "{proposal}");
            assert_eq!(proposal["next"], step, "{proposal}");
            let id = proposal["id"].as_str().unwrap();
            asker.json(&["vote", step, id, "--yes"]);
        }
        if pause > 0 {
            assert!(
                proposals(&asker)
                    .iter()
                    .all(|proposal| proposal["next"].is_null() && proposal["etaUnixMs"].is_u64())
            );
            world.pass(pause);
        }
    }
    let executed = Instant::now();
    wait("the lender reads the new fee", || {
        rules(node)["feeBps"] == FEE as u64
    });
    assert!(executed.elapsed() < OBEYED, "{:?}", executed.elapsed());
    let listed = rules(node)["listed"].clone();
    assert_eq!(listed[0]["model"], id.as_str(), "{listed}");
    for proposal in proposals(&voter) {
        assert_eq!(proposal["outcome"], "executed", "{proposal}");
    }

    // What is earned from now on comes without the fee, in the books, in the wallet and on the screen alike.
    ask(&asker, &provider);
    wait("the second answer is booked", || {
        let earned = earned(node);
        let parts = ["checking", "available", "tooSmall", "paidOut"];
        parts.iter().map(|part| amount(&earned[part])).sum::<u128>() > before
    });
    let after = earned_in_full(node);
    let books = earned(node);
    let fees = amount(&books["fees"]);
    assert_eq!(fees, (after - before) * FEE / 10_000);
    assert!(fees > 0);
    assert_eq!(amount(&books["paidNet"]), after - fees);
    let wallet = world.account(node.account("wallet")).token;
    assert_eq!(wallet, after - fees, "the wallet has what the screen says");
}

#[test]
fn who_has_tokens_and_no_coin_signs_a_deposit_that_anybody_brings_for_a_share() {
    let Some(world) = World::start() else { return };
    let newcomer = world.computer("");
    newcomer.json(&["wallet", "faucet", "--yes"]);
    let spend = newcomer.account("spend");
    world.set_coin(spend, 0);
    let had = world.account(spend).token;
    let refused = run(&mut newcomer.command(&["wallet", "deposit", "5", "--yes"]));
    assert!(!refused.status.success(), "{refused:?}");

    let file = newcomer.path().join("first.json");
    let file = file.to_str().unwrap();
    let sign = |share: &str| {
        run(&mut newcomer.command(&[
            "wallet",
            "sign-start",
            "5",
            "--share",
            share,
            "--out",
            file,
            "--yes",
        ]))
    };
    sign("5").is_a_failure_that_says(&["nothing of this sum"]);
    let signed = sign("0.1");
    assert!(signed.status.success(), "{signed:?}");
    let waiting = newcomer.json(&["wallet", "balance"])["start"].clone();
    assert_eq!(amount(&waiting["deposit"]), 5 * UNIT, "{waiting}");
    assert_eq!(amount(&waiting["fee"]), UNIT / 10);
    // Signed is not sent.
    assert_eq!(world.account(spend).token, had);

    let relayer = world.computer("");
    let brought = run(&mut relayer.command(&["wallet", "relay", file, "--yes"]));
    assert!(brought.status.success(), "{brought:?}");
    assert_eq!(last_json(&brought)["state"], "final");
    assert_eq!(
        world.account(relayer.account("wallet")).token,
        UNIT / 10,
        "who brings it gets what was signed for"
    );
    assert_eq!(world.account(spend).token, had - 5 * UNIT);
    let signer = world.signer(&newcomer);
    let parts = signer.granted + signer.bond + signer.gas_pot + UNIT / 10;
    assert_eq!(parts, 5 * UNIT, "not a unit of the deposit is elsewhere");
    let balance = newcomer.json(&["wallet", "balance"]);
    assert_eq!(amount(&balance["vault"]["granted"]), signer.granted);
    assert!(balance["start"].is_null(), "{balance}");

    // Once, and as it was signed.
    let again = run(&mut relayer.command(&["wallet", "relay", file, "--yes"]));
    again.is_a_failure_that_says(&["refuse"]);
    let dearer = std::fs::read_to_string(file).unwrap().replace(
        &format!("\"relayerFee\": \"{}\"", UNIT / 10),
        &format!("\"relayerFee\": \"{UNIT}\""),
    );
    std::fs::write(file, dearer).unwrap();
    let changed = run(&mut relayer.command(&["wallet", "relay", file, "--yes"]));
    changed.is_a_failure_that_says(&["refuse"]);
}

fn ask(asker: &Folder, provider: &Serving) {
    let said = asker.asking(&[provider], 200, LONG_QUESTION).wait();
    assert_eq!(said.code(), Some(0), "{}\n{}", said.out, said.err);
    let finished = last_json(&said);
    assert!(finished["message"]["error"].is_null(), "{finished}");
}

fn propose(voter: &Folder, what: &str, value: &str, title: &str) {
    voter.json(&["vote", "propose", what, value, "--title", title, "--yes"]);
}

fn proposals(folder: &Folder) -> Vec<Value> {
    let status = folder.json(&["vote"]);
    status["proposals"].as_array().unwrap().clone()
}

fn earned(folder: &Folder) -> Value {
    folder.json(&["wallet", "balance"])["earned"].clone()
}

fn rules(folder: &Folder) -> Value {
    folder.json(&["wallet", "balance"])["rules"].clone()
}

/// The model that is lent: its id, and the digest of its file.
fn lent(folder: &Folder) -> (String, String) {
    let price = folder.json(&["models", "price"]);
    let id = price[0]["model"].as_str().unwrap().to_owned();
    let models = folder.json(&["models", "list"]);
    let mut rows = models["rows"].as_array().unwrap().iter();
    let row = rows.find(|row| row["id"] == id.as_str()).unwrap();
    (id, row["digest"].as_str().unwrap().to_owned())
}
