//! A worker under mixed load for as long as is asked; nodes among others that come and go; and money under kills and random histories.

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    bench::sharing,
    build, fuzz,
    house::House,
    lab,
    sh::{self, Failure, stage},
    starter,
};

/// By default.
const MINUTES: f64 = 60.0;
/// By default, with `--network`: a newcomer in each ten seconds or so, which two cores keep up with.
const NETWORK_MINUTES: f64 = 20.0;
/// By default, with `--network`: three days.
pub(crate) const HOURS: f64 = 72.0;
/// By default, with `--money`, and at most: a kill takes half a minute, what comes before the kills a quarter of an hour.
const MONEY_MINUTES: f64 = 150.0;
/// By default, with `--money`.
pub(crate) const KILLS: u64 = 200;
/// What the journey of programs reads: kills, and where its random moments begin.
const KILLS_SET: &str = "DECENTRALGPT_MONEY_KILLS";
const SEED_SET: &str = "DECENTRALGPT_MONEY_SEED";
/// Kills of one journey, from a deposit to the withdrawal of everything.
const KILLS_OF_A_JOURNEY: u64 = 10;
/// Kills of a program that only writes books.
const LEDGER_KILLS: (&str, u64) = ("LEDGER_KILLS", 200);
/// The fuzz targets in which money moves, and the seconds for each.
const MACHINES: [&str; 2] = ["job_client", "job_provider"];
const MACHINES_SECONDS: u32 = 120;

/// What `minutes` does not say is the default.
pub(crate) fn soak(house: &House, minutes: Option<f64>) -> Result<(), Failure> {
    let minutes = minutes.unwrap_or(MINUTES);
    let model = stage("starter model", || starter::fetch(house))?;
    stage("worker", || sharing::build(house, "soak"))?;
    stage(&format!("mixed load for {minutes} minutes"), || {
        let mut command = sharing::example(house, "soak");
        command.arg(model).arg(minutes.to_string());
        sh::run(&mut command)
    })
}

/// Nodes among as many that come and go as in so many hours. Growth of memory, open files and logs is measured; a node that ends, and a
/// question that is not answered, fail it.
pub(crate) fn network(house: &House, hours: f64, minutes: Option<f64>) -> Result<(), Failure> {
    let minutes = minutes.unwrap_or(NETWORK_MINUTES).to_string();
    let hours = hours.to_string();
    let arguments = ["soak", "--minutes", &minutes, "--hours", &hours];
    lab::run(house, "soak-network", &arguments).map(|_| ())
}

/// Everything that tries money by chance, each time with other chances: histories of the vault and of the books, the machines of both
/// sides of a job, and both sides of paid answers killed at random moments. No journey begins after so many minutes.
pub(crate) fn money(house: &House, kills: u64, minutes: Option<f64>) -> Result<(), Failure> {
    let minutes = minutes.unwrap_or(MONEY_MINUTES);
    let time = Duration::try_from_secs_f64(minutes * 60.0)
        .map_err(|_| Failure::new(format!("{minutes} minutes are no time.")))?;
    let begun = Instant::now();
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let model = stage("starter model", || starter::fetch(house))?;
    stage("anvil", || build::npm_packages(house, "contracts"))?;
    stage("programs", || build::programs(house, false))?;
    stage("random histories of the vault", || {
        let again = [("VAULT_SEED", seed)];
        test(house, &model, "decentralgpt-protocol", "vault", &again)
    })?;
    stage("random histories of the books", || {
        test(house, &model, "decentralgpt-ledger", "money_model", &[])?;
        test(
            house,
            &model,
            "decentralgpt-ledger",
            "money_kill",
            &[LEDGER_KILLS],
        )
    })?;
    if fuzz::available(house)? {
        fuzz::fuzz(house, MACHINES_SECONDS, &MACHINES.map(str::to_owned))?;
    } else {
        println!(
            "   skipped: {} (cargo-fuzz is not installed)",
            MACHINES.join(" and ")
        );
    }
    stage(&format!("{kills} kills of programs"), || {
        let mut made = 0;
        while made < kills {
            if begun.elapsed() >= time {
                println!(
                    "   skipped: {} of the {kills} kills (the time is over)",
                    kills - made
                );
                break;
            }
            let again = [
                (KILLS_SET, KILLS_OF_A_JOURNEY),
                (SEED_SET, seed.wrapping_add(made)),
            ];
            test(house, &model, "decentralgpt-tests", "money_kill", &again)?;
            made += KILLS_OF_A_JOURNEY;
        }
        Ok(())
    })
}

/// One test program, with numbers in its environment. When it fails, they are said: with them it does the same again.
fn test(
    house: &House,
    model: &Path,
    package: &str,
    name: &str,
    numbers: &[(&str, u64)],
) -> Result<(), Failure> {
    let mut command = house.cargo([
        "test",
        "--locked",
        "--package",
        package,
        "--test",
        name,
        "--",
        "--nocapture",
    ]);
    command.env("DECENTRALGPT_STARTER", model);
    let mut line = String::new();
    for (number, value) in numbers {
        command.env(number, value.to_string());
        line += &format!("{number}={value} ");
    }
    sh::run(&mut command).map_err(|failure| {
        failure.fix(format!(
            "{line}cargo test --package {package} --test {name}"
        ))
    })
}
