//! The compute battery between real programs: what a computer earned pays for its own answers, without a deposit.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use decentralgpt_tests::{
    Folder, LONG_QUESTION, Serving,
    money::{UNIT, World, amount, earned_in_full, last_json, serve, wait},
    starter,
};

/// Base units per million tokens written.
const PRICE: u128 = 10 * UNIT;
/// What the first asker puts in, in tokens.
const DEPOSIT: &str = "5";
const DEPOSITED: u128 = 5 * UNIT;
/// Tokens of what is earned, and of what it pays for. The second is less than the 64 tokens that a payer without a bond owes at
/// most.
const EARNED: u32 = 200;
const SPENT: u32 = 40;

#[test]
fn what_was_earned_and_claimed_pays_for_an_answer_without_a_deposit() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let asker = world.asker(DEPOSIT);
    let other = world.provider(&model, PRICE);
    let settings =
        format!("serve_max_out = 256\n[money]\nmode = \"lend_and_spend\"\nprice = \"{PRICE}\"\n");
    let both = serve(world.computer(&settings), &model);
    let wallet = both.folder().account("wallet");

    // Its key says by itself where its claims go; the wallet joins them to what this computer may spend.
    wait("its key is registered", || joined(&both) == "no");
    both.folder().json(&["wallet", "join", "--yes"]);
    wait("it is joined in final blocks", || joined(&both) == "yes");
    assert_eq!(vault(&both, "granted"), 0);

    let earned = ask(&asker, &both, EARNED);
    assert_eq!(earned_in_full(both.folder()), earned);
    wait("its grant is what it earned", || {
        vault(&both, "granted") == earned
    });
    assert_eq!((vault(&both, "free"), vault(&both, "promised")), (0, 0));
    assert_eq!(world.account(wallet).token, 0, "nothing left the vault");
    assert_eq!(world.in_the_vault(), DEPOSITED);

    // The program that earned it spends it: no restart, no deposit.
    let spent = ask(both.folder(), &other, SPENT);
    assert_eq!(earned_in_full(other.folder()), spent);
    wait("what it spent was claimed", || {
        vault(&both, "spent") == spent
    });
    assert_eq!(vault(&both, "granted"), earned);
    assert_eq!(vault(&both, "promised"), spent);
    assert_eq!(world.account(other.folder().account("wallet")).token, spent);
    assert_eq!(world.in_the_vault(), DEPOSITED - spent);

    // Apart again, claims go to the wallet, and what was granted stays.
    both.folder().json(&["wallet", "unjoin", "--yes"]);
    wait("it is apart in final blocks", || joined(&both) == "no");
    let more = ask(&asker, &both, SPENT);
    wait("the wallet has what was claimed since", || {
        world.account(wallet).token == more
    });
    assert_eq!(earned_in_full(both.folder()), earned + more);
    assert_eq!(vault(&both, "granted"), earned);
    assert_eq!(world.in_the_vault(), DEPOSITED - spent - more);

    // Both sides of it stand in one book, and every sum counts up.
    let (payee, signer) = (
        both.folder().account("operator"),
        both.folder().account("session"),
    );
    let payer = asker.account("spend");
    let folder = both.killed();
    let books = world.audited(&folder);
    assert_eq!(books.held(payee, payer), earned + more);
    let own = books.of_payer(wallet, signer);
    assert_eq!(own.granted, earned);
    let promised: u128 = own.lines.iter().map(|line| line.cumulative).sum();
    assert_eq!(promised, spent);
}

/// Where the claims of a computer go, as it reads final blocks.
fn joined(computer: &Serving) -> String {
    let balance = computer.folder().json(&["wallet", "balance"]);
    balance["joined"].as_str().unwrap_or_default().to_owned()
}

fn vault(computer: &Serving, what: &str) -> u128 {
    amount(&computer.folder().json(&["wallet", "balance"])["vault"][what])
}

/// Asks a peer, and says what the answer cost: by the answer itself.
fn ask(asker: &Folder, peer: &Serving, max_out: u32) -> u128 {
    let said = asker.asking(&[peer], max_out, LONG_QUESTION).wait();
    assert_eq!(said.code(), Some(0), "{}\n{}", said.out, said.err);
    let message = last_json(&said)["message"].clone();
    assert!(message["error"].is_null(), "{message}");
    let spans = message["spans"].as_array().unwrap();
    assert!(spans.iter().all(|span| span["peer"] == peer.peer.as_str()));
    let paid: u128 = spans.iter().map(|span| amount(&span["paid"])).sum();
    assert!(paid > 0, "{message}");
    paid
}
