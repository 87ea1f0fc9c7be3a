//! How a real worker shares the device between its owner and a network that never stops asking. What is measured and how
//! stands in the engine's example of the same name.

use std::{path::Path, process::Command};

use serde::Deserialize;

use super::{Row, report};
use crate::{
    house::House,
    sh::{self, Failure, stage},
    starter,
};

/// Questions of the owner's, each alone and beside the network.
pub(crate) const ROUNDS: usize = 20;

#[derive(Debug, Deserialize)]
struct Figures {
    own_ttft_p95_ms: f64,
    own_ttft_p95_alone_ms: f64,
    own_tps: f64,
    own_tps_alone: f64,
    network_tps: f64,
    batch_limit_tps: f64,
    shared_part: f64,
    share: f64,
    off_seconds: f64,
}

pub(crate) fn bench(house: &House, rounds: usize) -> Result<(), Failure> {
    let model = stage("starter model", || starter::fetch(house))?;
    stage("worker", || build(house, "sharing"))?;
    let figures = stage(&format!("{} rounds", rounds.max(1)), || {
        let mut command = example(house, "sharing");
        command.arg(model).arg(rounds.max(1).to_string());
        let output = sh::quiet(&mut command)?;
        let line = output
            .lines()
            .rfind(|line| line.starts_with('{'))
            .unwrap_or_default();
        serde_json::from_str::<Figures>(line)
            .map_err(|error| Failure::new(format!("The measured line is not JSON: {error}.")))
    })?;
    report(house, "sharing", rows(&figures))
}

fn rows(figures: &Figures) -> Vec<Row> {
    let shared = |work| {
        Row::alone(work, "part", figures.shared_part)
            .against("the share that was set", Some(figures.share))
    };
    vec![
        Row::alone("own_ttft_p95", "ms", figures.own_ttft_p95_ms)
            .against("alone", Some(figures.own_ttft_p95_alone_ms))
            .goal("<= 1.10"),
        Row::alone("own_tps", "tok/s", figures.own_tps)
            .against("alone", Some(figures.own_tps_alone))
            .goal(">= 0.97"),
        Row::alone("network_idle", "tok/s", figures.network_tps)
            .against(
                "the same batch without anything around it",
                Some(figures.batch_limit_tps),
            )
            .goal(">= 0.97"),
        shared("share_low").goal(">= 0.97"),
        shared("share_high").goal("<= 1.03"),
        Row::alone("off_seconds", "s", figures.off_seconds).goal("<= 2"),
    ]
}

/// Builds the worker and an example of the engine's that drives it.
pub(crate) fn build(house: &House, name: &str) -> Result<(), Failure> {
    let package = ["build", "--locked", "--package", "decentralgpt-engine"];
    let targets = ["--bin", "decentralgpt-worker", "--example", name];
    sh::run(&mut house.cargo(package.into_iter().chain(targets)))
}

/// The example, with the worker as its first argument.
pub(crate) fn example(house: &House, name: &str) -> Command {
    example_with(house, name, &house.program("decentralgpt-worker"))
}

/// The same with another worker.
pub(crate) fn example_with(house: &House, name: &str, worker: &Path) -> Command {
    let folder = house.target.join("debug").join("examples");
    let mut command = Command::new(folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)));
    command.arg(worker);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_compared_with_what_was_set() {
        let figures = Figures {
            own_ttft_p95_ms: 110.0,
            own_ttft_p95_alone_ms: 100.0,
            own_tps: 97.0,
            own_tps_alone: 100.0,
            network_tps: 200.0,
            batch_limit_tps: 200.0,
            shared_part: 0.3,
            share: 0.3,
            off_seconds: 0.1,
        };
        let rows = rows(&figures);
        let ratio = |work: &str| {
            rows.iter()
                .find(|row| row.work == work)
                .and_then(|row| row.ratio)
        };
        assert!((ratio("share_low").unwrap() - 1.0).abs() < 1e-9);
        assert!((ratio("own_ttft_p95").unwrap() - 1.1).abs() < 1e-9);
    }
}
