//! A disk that is full in the middle of paying and being paid, on either side: what cannot be written down is not signed, served on or
//! sent; it is refused with what to do; and it goes on when there is room, with not a unit lost or doubled.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use decentralgpt_tests::{
    Folder, LONG_QUESTION, Said, Serving, disk,
    money::{PURSE, UNIT, World, amount, earned_in_full, earns, serve, wait},
    run, starter,
};
use serde_json::Value;

/// Base units per million tokens written.
const PRICE: u128 = 10 * UNIT;
/// Tokens of an answer, and of one whose middle is filled.
const WHOLE: u32 = 120;
const CUT_AFTER: u64 = 16;
/// A database writes into what it holds already for a while.
const TRIES: usize = 20;

#[test]
fn a_full_disk_on_either_side_stops_what_it_must_and_loses_nothing() {
    let Some(model) = starter() else { return };
    // Before any thread of the test's is made: each has the mounts of who made it.
    if let Err(error) = disk::own_mounts() {
        println!("skipped: a full disk (no file system can be mounted here: {error})");
        return;
    }
    let Some(world) = World::start() else { return };
    let provider = world.set_up(Folder::on_small_disk(&earns(PRICE)));
    let provider = serve(provider, &model);
    let asker = world.asker_on(world.set_up(Folder::on_small_disk("")), "5");
    whole(&ask(&asker, &provider));

    // The provider cannot write a voucher down: it takes no job for money, and says to its owner why.
    let held = held_by(provider.folder());
    full(provider.folder());
    let refused = until_refused(|| ask(&asker, &provider));
    println!("the provider's disk is full: {}", refused.err);
    next_step(&refused);
    assert!(held_by(provider.folder()) >= held);
    room(provider.folder());
    whole(&ask(&asker, &provider));

    // The same in the middle of an answer.
    ask_and_fill(&asker, &provider, provider.folder());
    room(provider.folder());
    whole(&ask(&asker, &provider));

    // The asker cannot write a promise down: it signs nothing. It sends no transaction that it could forget.
    let before = sent(&asker);
    full(&asker);
    let refused = until_refused(|| ask(&asker, &provider));
    println!("the asker's disk is full: {}", refused.err);
    refused.is_a_failure_that_says(&["disk", "full"]);
    let mut deposit = asker.command(&["wallet", "deposit", "1", "--yes"]);
    let refused = until_refused(|| run(&mut deposit));
    println!("a deposit on a full disk: {}", refused.err);
    next_step(&refused);
    room(&asker);
    let after = sent(&asker);
    whole(&ask(&asker, &provider));
    ask_and_fill(&asker, &provider, &asker);
    room(&asker);
    whole(&ask(&asker, &provider));
    asker.json(&["wallet", "deposit", "1", "--yes"]);
    assert!(sent(&asker) > before.max(after), "it goes on");

    equal(&world, &asker, provider);
}

/// Everything that was promised is held, was claimed, and lies in the provider's wallet; the rest is the asker's.
fn equal(world: &World, asker: &Folder, provider: Serving) {
    let (payer, signer) = (asker.account("spend"), asker.account("session"));
    let folder = provider.folder();
    let (payee, wallet) = (folder.account("operator"), folder.account("wallet"));
    let earned = earned_in_full(folder);
    let promised = amount(&asker.json(&["wallet", "balance"])["vault"]["promised"]);
    assert_eq!(earned, promised);
    assert_eq!(world.account(wallet).token, promised);
    let folder = provider.killed();
    let books = world.audited(&folder);
    assert_eq!(books.held(payee, payer), promised);
    assert_eq!(books.claimed(payee, payer), promised);
    drop(books);
    let books = world.audited(asker);
    let lines = books.of_payer(payer, signer).lines;
    assert_eq!(
        lines.iter().map(|line| line.cumulative).sum::<u128>(),
        promised
    );
    drop(books);
    let view = world.ask_now(|chain| chain.signer(payer, signer)).unwrap();
    assert_eq!((view.spent, view.locked), (promised, 0));
    let spend = world.account(payer);
    let in_vault = view.granted - view.spent + view.bond + view.gas_pot;
    assert_eq!(
        spend.token + spend.vault_balance + in_vault + promised,
        PURSE
    );
}

fn ask(asker: &Folder, provider: &Serving) -> Said {
    let mut said = asker.asking(&[provider], WHOLE, LONG_QUESTION).wait();
    // Every question is a program with a connection of its own, and a node lets in only so many of one address in a while.
    wait("another connection is let in", || {
        let let_in = !said.out.contains("\"unreachable\"");
        if !let_in {
            said = asker.asking(&[provider], WHOLE, LONG_QUESTION).wait();
        }
        let_in
    });
    said
}

/// Fills a disk when an answer has begun. It may end whole where everything fitted in time.
fn ask_and_fill(asker: &Folder, provider: &Serving, fills: &Folder) {
    let mut chat = asker.asking(&[provider], WHOLE, LONG_QUESTION);
    let mut filled = false;
    while let Some(line) = chat.line() {
        let event: Value = serde_json::from_str(&line).unwrap();
        if !filled && event["tokens"].as_u64().unwrap_or(0) >= CUT_AFTER {
            full(fills);
            filled = true;
        }
    }
    assert!(filled, "the answer ended before its middle");
    let said = chat.wait();
    println!("filled in the middle: {:?} {}", said.code(), said.err);
    assert!(!said.err.contains("panicked"), "{said:?}");
}

fn whole(said: &Said) {
    assert_eq!(said.code(), Some(0), "{}\n{}", said.out, said.err);
    assert!(!failed(said), "{said:?}");
}

fn failed(said: &Said) -> bool {
    !said.status.success() || said.out.contains("\"error\":{")
}

fn until_refused(mut what: impl FnMut() -> Said) -> Said {
    for _ in 0..TRIES {
        let said = what();
        assert!(!said.err.contains("panicked"), "{said:?}");
        if failed(&said) {
            return said;
        }
    }
    panic!("a full disk refused nothing");
}

fn next_step(said: &Said) {
    assert!(said.err.contains("next: "), "{said:?}");
}

fn full(folder: &Folder) {
    disk::fill(folder.path()).unwrap();
}

fn room(folder: &Folder) {
    disk::make_room(folder.path()).unwrap();
    wait("there is room", || {
        std::fs::write(folder.path().join("room"), [0; 64]).is_ok()
    });
}

fn held_by(provider: &Folder) -> u128 {
    let rows = provider.json(&["earnings", "--by", "job"]);
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| amount(&row["earned"])).sum()
}

fn sent(asker: &Folder) -> usize {
    asker.json(&["wallet", "history"]).as_array().unwrap().len()
}
