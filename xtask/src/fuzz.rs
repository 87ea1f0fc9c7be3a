//! Fuzzing on stable Rust: every target by turns, each for the same number of seconds.

use std::{process::Command, time::Duration};

use crate::{
    house::House,
    sh::{self, Failure, stage},
};

/// By default, for each target.
pub(crate) const SECONDS_EACH: u32 = 60;
/// In `cargo xtask test`, for the build and all targets together: a cold build takes most of it.
const STAGE_IN_TEST: Duration = Duration::from_secs(240);
/// And for one target there: at most this, since the targets are run for longer by hand; and at least that, enough for the seeds.
const SECONDS_EACH_IN_TEST: std::ops::RangeInclusive<u32> = 2..=13;

pub(crate) fn fuzz(house: &House, seconds: u32, only: &[String]) -> Result<(), Failure> {
    if !available(house)? {
        return Err(
            Failure::new("cargo-fuzz is not installed.").fix("cargo install --locked cargo-fuzz")
        );
    }
    let all = targets(house)?;
    if let Some(unknown) = only
        .iter()
        .find(|name| all.iter().all(|one| one.name != **name))
    {
        let names: Vec<_> = all.iter().map(|target| target.name.as_str()).collect();
        return Err(Failure::new(format!("There is no fuzz target {unknown}."))
            .fix(format!("one of: {}", names.join(" "))));
    }
    let chosen = all
        .iter()
        .filter(|target| only.is_empty() || only.contains(&target.name));
    for target in chosen {
        stage(&format!("fuzz {} for {seconds} s", target.name), || {
            one(house, target, seconds)
        })?;
    }
    Ok(())
}

/// Whether cargo-fuzz is there. In CI it is installed first, in half a minute.
pub(crate) fn available(house: &House) -> Result<bool, Failure> {
    if sh::answers("cargo-fuzz", "--version") {
        return Ok(true);
    }
    if !house.ci {
        return Ok(false);
    }
    // Into its own build folder: cargo's default, not the product's.
    let installed =
        sh::quiet(Command::new("cargo").args(["install", "--locked", "--quiet", "cargo-fuzz"]));
    Ok(installed.is_ok())
}

/// A target of the fuzzer.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// What it needs beside the parsers: libraries that take many times longer to build with the fuzzer's flags.
    pub(crate) features: Vec<String>,
}

/// The targets that fuzz/Cargo.toml names.
pub(crate) fn targets(house: &House) -> Result<Vec<Target>, Failure> {
    let manifest = house.root.join("fuzz").join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest)
        .map_err(|error| Failure::io("Cannot read", &manifest, &error))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error| Failure::new(format!("{}: {error}", manifest.display())))?;
    let names = table
        .get("bin")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|bin| {
            let features = bin.get("required-features").and_then(toml::Value::as_array);
            Some(Target {
                name: bin.get("name")?.as_str()?.to_owned(),
                features: features
                    .into_iter()
                    .flatten()
                    .filter_map(|feature| feature.as_str().map(str::to_owned))
                    .collect(),
            })
        })
        .collect();
    Ok(names)
}

/// One target, from the small corpus in the tree where there is one.
pub(crate) fn one(house: &House, target: &Target, seconds: u32) -> Result<(), Failure> {
    let Target {
        name: target,
        features,
    } = target;
    let mut command = cargo_fuzz(house);
    command.args(["run", target]);
    if !features.is_empty() {
        command.args(["--features", &features.join(",")]);
    }
    let corpus = house.root.join("fuzz").join("corpus").join(target);
    std::fs::create_dir_all(&corpus)
        .map_err(|error| Failure::io("Cannot make", &corpus, &error))?;
    command.arg(&corpus);
    let seeds = house.root.join("fuzz").join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(&seeds);
    }
    command
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .args(["-print_final_stats=0", "-verbosity=0"]);
    sh::run(&mut command).map_err(|failure| {
        failure.fix(format!("the input that broke it lies in fuzz/artifacts/{target}: add it to the tests, then mend the parser"))
    })
}

/// Compiles every target that needs no feature, without running one.
pub(crate) fn build(house: &House) -> Result<(), Failure> {
    sh::run(cargo_fuzz(house).arg("build"))
}

/// The seconds for each of `count` targets within a whole test run, in which the build took so long.
pub(crate) fn share(count: usize, build: Duration) -> u32 {
    let count = u64::try_from(count.max(1)).unwrap_or(u64::MAX);
    let each = STAGE_IN_TEST.saturating_sub(build).as_secs() / count;
    u32::try_from(each)
        .unwrap_or(u32::MAX)
        .clamp(*SECONDS_EACH_IN_TEST.start(), *SECONDS_EACH_IN_TEST.end())
}

fn cargo_fuzz(house: &House) -> Command {
    let mut command = house.cargo(["fuzz"]);
    command
        // The address sanitizer and coverage are unstable flags; stable 1.95 obeys them with this.
        .env("RUSTC_BOOTSTRAP", "1")
        // A folder of its own: other flags would throw the product's build away.
        .env("CARGO_TARGET_DIR", house.target.join("fuzz"));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_targets_share_the_time_of_a_test_run() {
        let (shortest, longest) = SECONDS_EACH_IN_TEST.into_inner();
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        assert_eq!(share(0, minutes(0)), longest);
        assert_eq!(share(7, minutes(1)), longest);
        assert_eq!(share(6, minutes(3)), 10);
        assert_eq!(share(7, minutes(8)), shortest);
        assert_eq!(share(10_000, minutes(0)), shortest);
    }
}
