//! A worker under mixed load for as long as is asked; and money under kills.

use crate::{
    bench::sharing,
    build,
    house::House,
    sh::{self, Failure, stage},
    starter,
};

/// By default.
pub(crate) const MINUTES: f64 = 60.0;
/// By default, with `--money`.
pub(crate) const KILLS: u64 = 200;
/// What the journey reads; without it, it kills as often as CI has time for.
const KILLS_SET: &str = "DECENTRALGPT_MONEY_KILLS";

pub(crate) fn soak(house: &House, minutes: f64) -> Result<(), Failure> {
    let model = stage("starter model", || starter::fetch(house))?;
    stage("worker", || sharing::build(house, "soak"))?;
    stage(&format!("mixed load for {minutes} minutes"), || {
        let mut command = sharing::example(house, "soak");
        command.arg(model).arg(minutes.to_string());
        sh::run(&mut command)
    })
}

/// Both sides of paid answers, killed at random moments: after each kill the books are audited, in the end every unit is compared.
pub(crate) fn money(house: &House, kills: u64) -> Result<(), Failure> {
    let model = stage("starter model", || starter::fetch(house))?;
    stage("anvil", || build::npm_packages(house, "contracts"))?;
    stage("programs", || build::programs(house, false))?;
    stage(&format!("{kills} kills"), || {
        let mut command = house.cargo([
            "test",
            "--locked",
            "--package",
            "decentralgpt-tests",
            "--test",
            "money_kill",
            "--",
            "--nocapture",
        ]);
        command
            .env(KILLS_SET, kills.to_string())
            .env("DECENTRALGPT_STARTER", model);
        sh::run(&mut command)
    })
}
