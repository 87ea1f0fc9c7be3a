//! Rust tests, by nextest where it is installed, else by `cargo test`, which is said.

use std::{fs, process::Command};

use super::Report;
use crate::{
    house::House,
    sh::{self, Failure},
};

/// What a test prints for a part it does not try, with the reason behind it.
const SKIPPED: &str = "skipped: ";
/// The member whose tests start programs.
const JOURNEYS: &str = "decentralgpt-tests";
/// Its tests that start none.
const RULES: &str = "house";
/// Its test that needs a display.
const WINDOW: &str = "desktop";

/// Where the random cases of property tests begin, unless the caller's environment says where. The same for everybody, so
/// that what is red in one place is red in every other; plain `cargo test` tries new cases each time.
const SEED: (&str, &str) = ("PROPTEST_RNG_SEED", "20261126");

/// Everything but the journeys.
pub(super) fn crates(house: &House) -> Result<Report, Failure> {
    if nextest() {
        return by_nextest(
            house,
            house.cargo(["nextest", "run"]),
            &[
                "--workspace",
                "-E",
                &format!("not package({JOURNEYS}) or binary({RULES})"),
            ],
        );
    }
    println!("   cargo-nextest is not installed: cargo test instead");
    let mut report = by_cargo(
        house,
        &[
            "--workspace",
            "--exclude",
            JOURNEYS,
            "--lib",
            "--bins",
            "--tests",
        ],
        &[],
    )?;
    let rules = by_cargo(
        house,
        &["--package", JOURNEYS, "--lib", "--test", RULES],
        &[],
    )?;
    report.passed += rules.passed;
    report.skipped.extend(rules.skipped);
    Ok(report)
}

/// Programs against programs, one at a time.
pub(super) fn journeys(house: &House) -> Result<Report, Failure> {
    if nextest() {
        return by_nextest(
            house,
            house.cargo(["nextest", "run"]),
            &[
                "--package",
                JOURNEYS,
                "-E",
                &format!("not binary({RULES}) and not binary({WINDOW})"),
            ],
        );
    }
    let names = journey_names(house)?;
    let mut selection = vec!["--package", JOURNEYS];
    for name in &names {
        selection.extend(["--test", name]);
    }
    by_cargo(house, &selection, &["--test-threads=1"])
}

/// The desktop test on a display and a session bus of its own.
pub(super) fn desktop(house: &House) -> Result<Report, Failure> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new("xvfb-run");
    command
        .args([
            "-a",
            "-s",
            "-screen 0 1280x800x24",
            "dbus-run-session",
            "--",
            &cargo,
        ])
        .current_dir(&house.root)
        .env("CARGO_TARGET_DIR", &house.target);
    if nextest() {
        command.args(["nextest", "run"]);
        return by_nextest(
            house,
            command,
            &["--package", JOURNEYS, "-E", &format!("binary({WINDOW})")],
        );
    }
    command.arg("test");
    counted(
        house,
        &mut command,
        &["--package", JOURNEYS, "--test", WINDOW],
        &["--test-threads=1"],
    )
}

/// Examples in documentation comments, which nextest does not run.
pub(super) fn examples(house: &House) -> Result<Report, Failure> {
    by_cargo(house, &["--doc", "--workspace"], &[]).map(|report| Report {
        passed: report.passed.max(1),
        ..report
    })
}

fn nextest() -> bool {
    sh::answers("cargo-nextest", "--version")
}

fn by_nextest(house: &House, mut command: Command, selection: &[&str]) -> Result<Report, Failure> {
    let report = house
        .root
        .join("target")
        .join("nextest")
        .join("default")
        .join("junit.xml");
    // An old report must not be counted when nextest ends before it writes one.
    let _ = fs::remove_file(&report);
    environment(house, &mut command);
    sh::run(command.arg("--locked").args(selection))?;
    let text =
        fs::read_to_string(&report).map_err(|error| Failure::io("Cannot read", &report, &error))?;
    Ok(read_junit(&text))
}

fn by_cargo(house: &House, selection: &[&str], rest: &[&str]) -> Result<Report, Failure> {
    counted(house, &mut house.cargo(["test"]), selection, rest)
}

fn counted(
    house: &House,
    command: &mut Command,
    selection: &[&str],
    rest: &[&str],
) -> Result<Report, Failure> {
    environment(house, command);
    command
        .args(["--locked", "--no-fail-fast"])
        .args(selection)
        .args(["--", "--show-output"])
        .args(rest);
    let mut report = Report::default();
    sh::tee(command, |line| {
        if let Some(rest) = line.strip_prefix("test result: ") {
            report.passed += number_before(rest, "passed");
        }
        note_skip(line, &mut report.skipped);
    })?;
    Ok(report)
}

/// Where tests find what they would otherwise have to guess.
fn environment(house: &House, command: &mut Command) {
    let starter = house.models().join(crate::starter::FILE);
    if starter.exists() {
        command.env("DECENTRALGPT_STARTER", starter);
    }
    if std::env::var_os(SEED.0).is_none() {
        command.env(SEED.0, SEED.1);
    }
}

fn note_skip(line: &str, into: &mut Vec<String>) {
    if let Some((_, reason)) = line.split_once(SKIPPED) {
        let reason = unescape(reason.trim());
        if !reason.is_empty() && !into.contains(&reason) {
            into.push(reason);
        }
    }
}

/// Counts test cases in nextest's report. A whole XML reader would be more than four marks need.
fn read_junit(text: &str) -> Report {
    let cases = text.matches("<testcase ").count();
    let failed = text.matches("<failure ").count() + text.matches("<error ").count();
    let mut report = Report::of(cases.saturating_sub(failed));
    for case in text.split("<testcase ").skip(1) {
        if case.contains("<flakyFailure ") {
            let name = case
                .split("name=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next());
            report.unsteady.push(unescape(name.unwrap_or_default()));
        }
    }
    text.lines()
        .for_each(|line| note_skip(line, &mut report.skipped));
    report
}

fn unescape(text: &str) -> String {
    let text = text.split("</system-").next().unwrap_or_default();
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

/// The number in front of a word: 41 in `2 failed | 41 passed (43)`.
pub(super) fn number_before(text: &str, word: &str) -> usize {
    let words: Vec<&str> = text
        .split(|mark: char| !mark.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

/// The journeys' names, for `cargo test`, which cannot say "all but".
fn journey_names(house: &House) -> Result<Vec<String>, Failure> {
    let folder = house.root.join("tests").join("tests");
    let entries =
        fs::read_dir(&folder).map_err(|error| Failure::io("Cannot read", &folder, &error))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".rs")
                .map(str::to_owned)
        })
        .filter(|name| name != RULES && name != WINDOW)
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_before_their_word() {
        assert_eq!(number_before(" 41 passed (41)", "passed"), 41);
        assert_eq!(number_before(" 1 failed | 40 passed (41)", "passed"), 40);
        assert_eq!(
            number_before("ok. 7 passed; 0 failed; 1 ignored", "passed"),
            7
        );
        assert_eq!(number_before("nothing here", "passed"), 0);
    }

    #[test]
    fn a_report_is_counted_and_its_skips_are_named_once() {
        let report = read_junit(
            "<testsuite>\n<testcase name=\"a\">\n<system-out>skipped: no starter &amp; no hub</system-out></testcase>\n\
             <testcase name=\"b\"><system-err>x\nskipped: no starter &amp; no hub\n</system-err></testcase>\n\
             <testcase name=\"c\"><failure type=\"x\"/></testcase>\n\
             <testcase name=\"d\"><flakyFailure type=\"x\"/></testcase></testsuite>",
        );
        assert_eq!(report.passed, 3);
        assert_eq!(report.unsteady, ["d"]);
        assert_eq!(report.skipped, ["no starter & no hub"]);
    }
}
