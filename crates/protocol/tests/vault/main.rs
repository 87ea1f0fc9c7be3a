//! The same random histories through the vault's bytecode, a plain model of it, and this crate's rules: every amount comes out equal.
//!
//! `VAULT_STEPS` asks for more of them, `VAULT_SEED` for others.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chain;
mod history;
mod model;

use history::History;

/// Steps of all histories together.
const STEPS: u64 = 100_000;
/// Steps of one: enough for signers to end, thaw and be followed by others.
const STEPS_OF_ONE: u64 = 400;

#[test]
fn the_vault_and_its_model_agree_on_random_histories() {
    let number = |name: &str, otherwise| {
        std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let (steps, seed) = (number("VAULT_STEPS", STEPS), number("VAULT_SEED", 1));
    let mut tally = history::Tally::default();
    for n in 0..steps.div_ceil(STEPS_OF_ONE) {
        let mut history = History::new(seed.wrapping_mul(1_000_003).wrapping_add(n));
        for _ in 0..STEPS_OF_ONE {
            history.step();
        }
        history.finish();
        tally.add(&history.tally);
    }
    println!("{tally:#?}");
    // Histories in which hardly anything succeeds, or nothing is ever refused, would show little.
    tally.says_something();
}
