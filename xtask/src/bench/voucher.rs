//! What vouchers cost: to sign and check, beside libsecp256k1; as a part of the work that they pay for; and in gas on the chain.
//! The example of `protocol` of the same name measures, in one run.

use std::{collections::BTreeMap, process::Command};

use serde::Deserialize;

use super::{Row, report};
use crate::{
    house::House,
    sh::{self, Failure, stage},
    starter,
};

const PEER: &str = "libsecp256k1";
/// Tokens that the starter model makes to show its rate.
const TOKENS: &str = "128";

#[derive(Debug, Deserialize)]
struct Figures {
    tokens_per_voucher: f64,
    /// Vouchers per second on one core: ours, the peer's.
    sign: [f64; 2],
    verify: [f64; 2],
    verify_known: [f64; 2],
    /// By function; `rowN_first` and `rowN_repeat` are per row of a batch of N.
    gas: BTreeMap<String, f64>,
}

pub(crate) fn bench(house: &House) -> Result<(), Failure> {
    let model = stage("starter model", || starter::fetch(house))?;
    stage("the measuring program, and the worker", || {
        sh::run(&mut house.cargo([
            "build",
            "--locked",
            "--release",
            "--package",
            "decentralgpt-protocol",
            "--example",
            "vouchers",
        ]))?;
        sh::run(&mut house.cargo([
            "build",
            "--locked",
            "--package",
            "decentralgpt-engine",
            "--bin",
            "decentralgpt-worker",
        ]))
    })?;
    let figures = stage("vouchers", || {
        let program = house
            .target
            .join("release")
            .join("examples")
            .join(format!("vouchers{}", std::env::consts::EXE_SUFFIX));
        parse::<Figures>(&sh::quiet(&mut Command::new(program))?)
    })?;
    let tokens_per_second = stage("tokens of the starter model on one core", || {
        let mut command = Command::new(house.program("decentralgpt-worker"));
        command.arg("--bench").arg(model).args([
            "--threads",
            "1",
            "--prompt",
            "0",
            "--gen",
            TOKENS,
        ]);
        let figures = parse::<serde_json::Value>(&sh::quiet(&mut command)?)?;
        figures["decode_tokens_per_second"]
            .as_f64()
            .ok_or_else(|| Failure::new("The worker's bench line names no rate."))
    })?;
    report(house, "voucher", rows(&figures, tokens_per_second))
}

fn parse<T: for<'a> Deserialize<'a>>(output: &str) -> Result<T, Failure> {
    let line = output.lines().rfind(|line| line.starts_with('{'));
    serde_json::from_str(line.unwrap_or_default())
        .map_err(|error| Failure::new(format!("The measured line is not JSON: {error}.")))
}

fn rows(figures: &Figures, tokens_per_second: f64) -> Vec<Row> {
    let rate = |work: &str, [ours, peer]: [f64; 2]| {
        Row::alone(work, "1/s", ours).against(PEER, Some(peer))
    };
    let mut rows = vec![
        rate("sign", figures.sign),
        rate("verify", figures.verify),
        rate("verify_known.libsecp256k1", figures.verify_known).goal(">= 0.85"),
        Row::alone("share_of_job", "part", share(figures, tokens_per_second)).goal("<= 0.005"),
    ];
    rows.extend(figures.gas.iter().map(|(name, gas)| {
        Row::alone(format!("gas_{name}"), "gas", *gas)
            .goal((name == "row100_repeat").then_some("<= 30000"))
    }));
    rows
}

/// Processor time of one voucher on both sides, signed here and checked there, to that of the tokens between two vouchers. Both on one
/// core: the worker is run with one thread, so that a second of it is a second of a core.
fn share(figures: &Figures, tokens_per_second: f64) -> f64 {
    let voucher = 1.0 / figures.sign[0] + 1.0 / figures.verify_known[0];
    voucher / (figures.tokens_per_voucher / tokens_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_time_by_time() {
        let figures = Figures {
            tokens_per_voucher: 16.0,
            sign: [10_000.0, 20_000.0],
            verify: [1.0, 1.0],
            verify_known: [10_000.0, 20_000.0],
            gas: BTreeMap::from([("row100_repeat".to_owned(), 29_000.0)]),
        };
        // 0.2 ms of vouchers to 16 tokens of 10 ms each.
        assert!((share(&figures, 100.0) - 0.00125).abs() < 1e-12);
        let rows = rows(&figures, 100.0);
        let row = |work: &str| rows.iter().find(|row| row.work == work).unwrap();
        assert_eq!(row("verify_known.libsecp256k1").ratio, Some(0.5));
        assert_eq!(row("gas_row100_repeat").goal.as_deref(), Some("<= 30000"));
    }
}
