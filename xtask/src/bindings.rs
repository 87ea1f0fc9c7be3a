//! ui/src/bindings.ts: made from the Rust commands and events, committed, and never edited by hand.

use std::process::Command;

use crate::{
    house::House,
    sh::{self, Failure},
};

/// The test of the desktop program that compares the committed file with what the commands make.
const TEST: &str = "bindings_are_current";
/// When this is set, the same test writes the file instead.
const WRITE: &str = "DECENTRALGPT_WRITE_BINDINGS";

pub(crate) fn write(house: &House) -> Result<(), Failure> {
    sh::run(test(house).env(WRITE, "1"))
}

/// # Errors
/// When the committed file is not what the commands and events of today make.
pub(crate) fn check(house: &House) -> Result<(), Failure> {
    sh::run(&mut test(house))
        .map_err(|failure| failure.fix("cargo xtask bindings, then commit ui/src/bindings.ts"))
}

fn test(house: &House) -> Command {
    // The whole workspace is selected so that dependencies keep the features they were built with.
    house.cargo([
        "test",
        "--locked",
        "--quiet",
        "--workspace",
        "--bin",
        "decentralgpt-desktop",
        "--",
        TEST,
    ])
}
