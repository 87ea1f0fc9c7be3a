//! Money between real programs on a real development chain: put in, paid for answers by the token, collected, taken out; every
//! account on the chain, in both books and on both screens equal to the last unit.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use decentralgpt_tests::{
    Folder, LONG_QUESTION, Serving,
    money::{PURSE, UNIT, World, amount, earned_in_full, last_json, serve, tokens, wait},
    run, starter,
};
use serde_json::Value;

/// Base units per million tokens written: an answer of some hundred tokens costs a few thousandths of a token, and a stranger's
/// first credit is less than the bond.
const PRICE: u128 = 10 * UNIT;
/// At this price a first credit is worth more than the bond, so a stranger gets that of 64 tokens.
const DEAR: u128 = 200 * UNIT;
/// Put in, in tokens; and the same in base units.
const DEPOSIT: &str = "5";
const DEPOSITED: u128 = 5 * UNIT;
/// Of an answer that may be lost in its middle.
const WHOLE: u32 = 200;
/// The provider is killed when this many tokens have come.
const CUT_AFTER: u64 = 24;
/// How long what an ended key left stays for its payees: the vault's own constant.
const THAW_S: u64 = 14 * 24 * 60 * 60;

#[test]
fn a_journey_from_the_deposit_to_the_withdrawal_is_equal_to_the_last_unit() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let first = world.provider(&model, PRICE);
    let second = world.provider(&model, PRICE);
    for provider in [&first, &second] {
        let figures = ["--watts", "60", "--tariff", "0.3", "--worth", "1"];
        let mut said = vec!["electricity", "--currency", "EUR"];
        said.extend(figures);
        provider.folder().json(&said);
    }
    let asker = world.asker(DEPOSIT);
    put_in(&asker);

    // One answer of the first, one that moves, one of whoever was killed.
    let mut paid = ask(&asker, &[&first]).1;
    let (killed, left, cost) = ask_and_kill(&asker, first, second);
    paid += cost;
    let held = world.audited(&killed);
    drop(held);
    let killed = serve(killed, &model);
    let (spans, cost) = ask(&asker, &[&killed]);
    assert_eq!(spans, std::slice::from_ref(&killed.peer));
    paid += cost;
    let balance = asker.json(&["wallet", "balance"]);
    assert_eq!(amount(&balance["vault"]["promised"]), paid);
    assert_eq!(amount(&balance["spentToday"]), paid);

    // What the providers hold is what was promised, and it is collected without a word.
    let providers = [&killed, &left];
    let earned: Vec<u128> = providers
        .iter()
        .map(|provider| collected(&world, &asker, provider.folder()))
        .collect();
    assert_eq!(earned.iter().sum::<u128>(), paid, "{earned:?}");
    is_net_of_energy(left.folder());
    wait("the asker sees what was claimed", || {
        amount(&asker.json(&["wallet", "balance"])["vault"]["spent"]) == paid
    });

    let (payer, signer) = (asker.account("spend"), asker.account("session"));
    withdrawn(&world, &asker, paid);
    // Nobody has more or less than that, also in the books.
    assert_eq!(world.in_the_vault(), 0);
    for (provider, earned) in [killed, left].into_iter().zip(earned) {
        let (payee, wallet) = (
            provider.folder().account("operator"),
            provider.folder().account("wallet"),
        );
        let folder = provider.killed();
        let books = world.audited(&folder);
        assert_eq!(books.held(payee, payer), earned);
        assert_eq!(books.claimed(payee, payer), earned);
        assert_eq!(world.account(wallet).token, earned);
    }
    let books = world.audited(&asker);
    let promised = books.of_payer(payer, signer).lines;
    let promised: u128 = promised.iter().map(|line| line.cumulative).sum();
    assert_eq!(promised, paid);
    // A key that has ended is granted nothing more: what is put in next is for another one.
    asker.json(&["wallet", "deposit", "1", "--yes"]);
    assert_ne!(asker.account("session"), signer);
}

/// The starter writes the last sentence of its story again and again, as long as it may.
#[test]
fn an_answer_that_goes_round_in_circles_is_stopped_before_it_costs_more() {
    const MOST: u64 = 1_200;
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let provider = world.provider(&model, PRICE);
    let asker = world.asker(DEPOSIT);
    let before = spent_today(&asker);
    let said = asker
        .asking(&[&provider], MOST as u32, LONG_QUESTION)
        .wait();
    assert_eq!(said.code(), Some(1), "{}\n{}", said.out, said.err);
    let last = last_json(&said);
    let message = &last["message"];
    assert_eq!(message["error"]["code"], "repeats_itself", "{last}");
    let written = message["outputTokens"].as_u64().unwrap();
    assert!((256..MOST).contains(&written), "{last}");
    // What was written is paid for and signed for, and no more.
    let span = &message["spans"][0];
    assert!(span["receipt"].is_string(), "{last}");
    assert_eq!(amount(&span["paid"]), spent_today(&asker) - before);
}

#[test]
fn credit_that_is_used_up_in_the_middle_of_an_answer_is_reserved_and_it_goes_on() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let provider = world.provider(&model, DEAR);
    let asker = world.asker(DEPOSIT);
    let (spans, paid) = ask(&asker, &[&provider]);
    assert_eq!(
        spans,
        std::slice::from_ref(&provider.peer),
        "it did not move"
    );
    let line = world.line(&asker, provider.folder());
    assert!(line.nonce >= 1, "{line:?}");
    assert!(
        line.reserved_upto > 64 * DEAR / 1_000_000,
        "what was reserved goes beyond the credit: {line:?}"
    );
    assert_eq!(collected(&world, &asker, provider.folder()), paid);
    // What it holds beyond what was claimed is nobody's loss: it comes back with the rest.
    assert!(world.line(&asker, provider.folder()).claimed == paid);
}

#[test]
fn the_limit_of_a_model_is_obeyed_whoever_is_asked_and_goes_before_the_one_for_all() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let dear = world.provider(&model, PRICE);
    let cheap = world.provider(&model, PRICE / 2);
    // The limit for all is one that nobody keeps.
    let asker = world.asker_on(world.computer("price_cap = \"1\"\n"), DEPOSIT);
    let rows = asker.json(&["models", "list"])["rows"].clone();
    let mut rows = rows.as_array().unwrap().iter();
    let starter = rows.find(|row| row["starter"] == true).unwrap();
    let id = starter["id"].as_str().unwrap();
    let refused = |peer: &Serving, limit: u128| {
        let said = asker.asking(&[peer], WHOLE, LONG_QUESTION).wait();
        assert_ne!(said.code(), Some(0), "{said:?}");
        let told = format!("{}{}", said.out, said.err);
        assert!(told.contains(&format!("your limit is {limit}")), "{told}");
        assert_eq!(spent_today(&asker), 0);
    };
    refused(&dear, 1);

    // A chosen peer is no exception.
    let half = tokens(PRICE / 2);
    let caps = asker.json(&["models", "cap", id, &half]);
    assert_eq!(amount(&caps["models"][id]), PRICE / 2);
    assert_eq!(amount(&caps["all"]), 1);
    refused(&dear, PRICE / 2);
    let (spans, _) = ask(&asker, &[&dear, &cheap]);
    assert_eq!(spans, std::slice::from_ref(&cheap.peer));

    asker.json(&["models", "cap", id, &tokens(PRICE)]);
    let (spans, _) = ask(&asker, &[&dear]);
    assert_eq!(spans, std::slice::from_ref(&dear.peer));
    let caps = asker.json(&["models", "cap", id, "--as-all"]);
    assert_eq!(caps["models"], serde_json::json!({}));
    let before = spent_today(&asker);
    let said = asker.asking(&[&dear, &cheap], WHOLE, LONG_QUESTION).wait();
    assert_ne!(said.code(), Some(0), "{said:?}");
    assert_eq!(spent_today(&asker), before);
}

/// What was put in stands where it should, and what is granted is not there to be taken out.
fn put_in(asker: &Folder) {
    let balance = asker.json(&["wallet", "balance"]);
    let vault = &balance["vault"];
    let granted = amount(&vault["granted"]);
    assert_eq!(amount(&vault["bond"]), DEPOSITED / 20);
    assert!(
        granted < DEPOSITED && granted > DEPOSITED / 10 * 9,
        "{vault}"
    );
    assert_eq!(amount(&vault["promised"]), 0);
    assert_eq!(amount(&vault["free"]), 0);
    let accounts = balance["accounts"].as_array().unwrap();
    let spend = accounts.iter().find(|account| account["role"] == "spend");
    assert_eq!(amount(&spend.unwrap()["token"]), PURSE - DEPOSITED);
    assert_eq!(asker.json(&["wallet", "history"])[0]["state"], "final");
    let refused = run(&mut asker.command(&["wallet", "withdraw", "1", "--yes"]));
    refused.is_a_failure_that_says(&["refuse", "balance"]);
}

/// Asks, and says who wrote the answer and what it cost: by the answer itself, which has to say the same as the books.
fn ask(asker: &Folder, peers: &[&Serving]) -> (Vec<String>, u128) {
    let before = spent_today(asker);
    let said = asker.asking(peers, WHOLE, LONG_QUESTION).wait();
    assert_eq!(said.code(), Some(0), "{}\n{}", said.out, said.err);
    finished(asker, before, &last_json(&said))
}

fn spent_today(asker: &Folder) -> u128 {
    amount(&asker.json(&["wallet", "balance"])["spentToday"])
}

fn finished(asker: &Folder, before: u128, event: &Value) -> (Vec<String>, u128) {
    let message = &event["message"];
    assert!(message["error"].is_null(), "{event}");
    let spans = message["spans"].as_array().unwrap();
    assert!(spans.last().unwrap()["receipt"].is_string(), "{event}");
    let shown: u128 = spans.iter().map(|span| amount(&span["paid"])).sum();
    let paid = spent_today(asker) - before;
    assert_eq!(shown, paid, "{event}");
    let peers = spans.iter().map(|span| span["peer"].as_str().unwrap());
    (peers.map(str::to_owned).collect(), paid)
}

/// Asks both, and kills whoever answers in the middle. The folder of the one, the other one, and the cost.
fn ask_and_kill(asker: &Folder, first: Serving, second: Serving) -> (Folder, Serving, u128) {
    let before = spent_today(asker);
    let mut chat = asker.asking(&[&first, &second], WHOLE, LONG_QUESTION);
    let mut both = vec![first, second];
    let (mut writes, mut lost, mut last) = (String::new(), None, Value::Null);
    while let Some(line) = chat.line() {
        let event: Value = serde_json::from_str(&line).unwrap();
        if let Some(peer) = event["peer"].as_str() {
            writes = peer.to_owned();
        }
        let tokens = event["tokens"].as_u64().unwrap_or(0);
        if lost.is_none() && tokens >= CUT_AFTER {
            let at = both.iter().position(|peer| peer.peer == writes).unwrap();
            let killed = both.remove(at);
            let name = killed.peer.clone();
            lost = Some((killed.killed(), name));
        }
        last = event;
    }
    let (folder, name) = lost.expect("the answer ended before it could be cut");
    let left = both.pop().unwrap();
    let (spans, paid) = finished(asker, before, &last);
    assert_eq!(spans, [name, left.peer.clone()]);
    (folder, left, paid)
}

/// Waits until a provider has it all, and compares: its rows, their proofs, its wallet, and the chain asked by nobody's books.
fn collected(world: &World, asker: &Folder, provider: &Folder) -> u128 {
    let earned = earned_in_full(provider);
    let rows = provider.json(&["earnings", "--by", "job"]);
    let rows = rows.as_array().unwrap();
    let sum: u128 = rows.iter().map(|row| amount(&row["earned"])).sum();
    assert_eq!(sum, earned);
    for row in rows {
        assert_eq!(row["state"], "paid_out", "{row}");
        let job = row["job"].as_str().unwrap();
        let proof = provider.json(&["earnings", "--proof", job]);
        assert_eq!(proof["signed"]["valid"], true, "{proof}");
        assert_eq!(proof["chain"]["covered"], true, "{proof}");
    }
    assert_eq!(world.account(provider.account("wallet")).token, earned);
    assert_eq!(world.line(asker, provider).claimed, earned);
    earned
}

/// Its one answer took energy by its owner's figure, which is worth more than nothing and is taken off.
fn is_net_of_energy(provider: &Folder) {
    let rows = provider.json(&["earnings", "--by", "job"]);
    let row = &rows.as_array().unwrap()[0];
    let figure = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{row}"));
    assert_eq!((&row["metered"], &row["stated"]), (&0.into(), &1.into()));
    // Of an answer of seconds to minutes at 60 W.
    assert!((1e-6..1e-2).contains(&figure("energyKwh")), "{row}");
    assert!(
        (figure("cost") - figure("energyKwh") * 0.3).abs() < 1e-9,
        "{row}"
    );
    let gross = amount(&row["earned"]) as f64 / UNIT as f64;
    assert!(figure("net") < gross - figure("cost") + 1e-9, "{row}");
}

/// Ends the key, lets its time pass, and takes out what it left; then its bond.
fn withdrawn(world: &World, asker: &Folder, paid: u128) {
    let spend = asker.account("spend");
    let vault = asker.json(&["wallet", "balance"])["vault"].clone();
    let rest = amount(&vault["granted"]) - paid;
    asker.json(&["wallet", "end-key", "--yes"]);
    let text = tokens(rest);
    let early = run(&mut asker.command(&["wallet", "withdraw", &text, "--yes"]));
    early.is_a_failure_that_says(&["refuse", "balance"]);
    let ended = asker.json(&["wallet", "balance"])["vault"]["ended"].clone();
    assert_eq!(amount(&ended["left"]), DEPOSITED - paid);
    assert_eq!(amount(&ended["due"]), 0);

    world.pass(THAW_S);
    asker.json(&["wallet", "withdraw", &text, "--yes"]);
    assert_eq!(world.account(spend).token, PURSE - DEPOSITED + rest);
    world.pass(THAW_S);
    let bond = DEPOSITED - amount(&vault["granted"]);
    asker.json(&["wallet", "withdraw", &tokens(bond), "--yes"]);
    assert_eq!(world.account(spend).token, PURSE - paid);
    assert_eq!(world.account(spend).vault_balance, 0);
    let vault = asker.json(&["wallet", "balance"])["vault"].clone();
    assert!(vault["ended"].is_null(), "{vault}");
}
