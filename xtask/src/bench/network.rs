//! What a remote answer costs against a local one. What is measured and how stands in the lab's module `remote`.

use crate::{
    house::House,
    lab,
    sh::{self, Failure, stage},
    starter,
};

/// Answers of each side, by turns; the median counts.
pub(super) const ROUNDS: usize = 7;
/// Seconds in which nothing is asked, for the traffic of an idle node.
pub(super) const IDLE_SECONDS: u64 = 120;

pub(super) fn bench(house: &House, rounds: usize, idle_seconds: u64) -> Result<(), Failure> {
    let rounds = rounds.max(1).to_string();
    let idle = idle_seconds.max(1).to_string();
    let arguments = ["remote", "--rounds", &rounds, "--idle-seconds", &idle];
    stage("starter model", || starter::fetch(house).map(|_| ()))?;
    // What is not optimised costs several times as much per token, which no person ever has.
    stage("programs, as they are shipped", || {
        sh::run(&mut house.cargo([
            "build",
            "--locked",
            "--release",
            "--package",
            "decentralgpt-cli",
            "--package",
            "decentralgpt-engine",
            "--package",
            "decentralgpt-lab",
            "--bins",
        ]))
    })?;
    let lab = house.shipped("decentralgpt-lab");
    lab::run_built(house, "network", &lab, &arguments).map(|_| ())
}
