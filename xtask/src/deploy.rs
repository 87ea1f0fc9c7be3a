//! `cargo xtask deploy`: the contracts onto a chain, or a chain of this machine's own with them.

use crate::{
    build,
    house::House,
    sh::{self, Failure},
};

/// Builds the tool and passes everything on: it says itself what it takes.
pub(crate) fn deploy(house: &House, arguments: &[String]) -> Result<(), Failure> {
    // The chain of one's own is one of these packages.
    build::npm_packages(house, "contracts")?;
    let mut command = house.cargo([
        "run",
        "--quiet",
        "--package",
        "decentralgpt-chain",
        "--features",
        "dev",
        "--bin",
        "decentralgpt-deploy",
        "--",
    ]);
    sh::run(command.args(arguments))
}
