//! What a command says where the fee is not there.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use decentralgpt_tests::{money::World, run};

#[test]
fn without_coin_for_the_fee_nothing_is_sent_and_the_next_step_is_said() {
    let Some(world) = World::start() else { return };
    let asker = world.asker("5");
    world.set_coin(asker.account("spend"), 0);
    let before = asker.json(&["wallet", "history"]);
    let said = run(&mut asker.command(&["wallet", "deposit", "1", "--yes"]));
    assert!(!said.status.success(), "{said:?}");
    let words = format!("{said:?}");
    assert!(words.contains("There is not enough"), "{words}");
    assert!(words.contains("wallet balance"), "{words}");
    assert_eq!(asker.json(&["wallet", "history"]), before);
}
