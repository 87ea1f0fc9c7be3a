//! Many real programs and their faults: starts the lab, makes a table and a file of what it found, and fails where it found the
//! product wrong. Times never fail: they stand beside their goals.

mod grid;

use std::{
    borrow::Cow,
    path::Path,
    process::{Command, Stdio},
};

use clap::Subcommand;
use serde::Deserialize;

use crate::{
    bench::{self, Row},
    house::House,
    run as programs,
    sh::{self, Failure, stage},
    starter,
};

/// Minutes of the whole matrix, by default: every cell at one provider's pace.
pub(crate) const MATRIX_MINUTES: f64 = 20.0;
/// Minutes of attack, by default.
const HOSTILE_MINUTES: f64 = 10.0;

#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Thirty programs on loopback, some of them broken in the middle of an answer; what CI runs.
    Short,
    /// Ten thousand nodes in virtual time, beside five hundred real ones in one process; to target/bench/sim.json.
    Sim {
        /// Only a few dozen of both, to target/bench/sim-short.json.
        #[arg(long)]
        short: bool,
    },
    /// A node under attack, with an honest job beside it.
    Hostile {
        /// For how long.
        #[arg(long, default_value_t = HOSTILE_MINUTES)]
        minutes: f64,
    },
}

/// What the lab printed.
#[derive(Debug, Deserialize)]
pub(crate) struct Figures {
    rows: Vec<Figure>,
    /// What was not shown, by name, with the reason.
    pub(crate) skipped: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Figure {
    work: String,
    unit: String,
    ours: f64,
    peer: Option<f64>,
    peer_name: Option<String>,
    goal: Option<String>,
}

/// Without a form: the matrix of networks, for at most so many minutes.
pub(crate) fn lab(house: &House, what: Option<&Lab>, minutes: f64) -> Result<Figures, Failure> {
    match what {
        None => run(
            house,
            "lab-matrix",
            &["matrix", "--minutes", &minutes.to_string()],
        ),
        Some(Lab::Short) => run(house, "lab", &["short"]),
        Some(Lab::Sim { short: false }) => run(house, "sim", &["sim"]),
        Some(Lab::Sim { short: true }) => run(house, "sim-short", &["sim", "--short"]),
        Some(Lab::Hostile { minutes }) => run(
            house,
            "lab-hostile",
            &["hostile", "--minutes", &minutes.to_string()],
        ),
    }
}

/// Builds, runs, reports to target/bench/NAME.json, and judges what may be judged.
pub(crate) fn run(house: &House, name: &str, arguments: &[&str]) -> Result<Figures, Failure> {
    // All programs, as every other command builds them: of a part of them, dependencies would be compiled anew.
    programs::prepare(house)?;
    run_built(house, name, &house.program("decentralgpt-lab"), arguments)
}

/// The same with programs that are built already: this lab, and those beside it.
pub(crate) fn run_built(
    house: &House,
    name: &str,
    lab: &Path,
    arguments: &[&str],
) -> Result<Figures, Failure> {
    let model = house.models().join(starter::FILE);
    let figures = stage(name, || {
        let mut command = Command::new(lab);
        command.args(arguments).env("DECENTRALGPT_STARTER", &model);
        read(&output(&mut command)?)
    })?;
    bench::report(house, name, figures.rows.iter().map(Figure::row).collect())?;
    for table in grid::tables(&figures.rows) {
        println!("\n{table}");
    }
    for skipped in &figures.skipped {
        println!("   skipped: {skipped}");
    }
    judge(&figures.rows)?;
    Ok(figures)
}

/// What a program writes on standard output; its standard error is shown as it comes.
fn output(command: &mut Command) -> Result<String, Failure> {
    let line = sh::shown(command);
    println!("   $ {line}");
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| sh::not_started(&line, &error))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Failure::new(format!(
            "`{line}` ended with {}.",
            output.status
        )))
    }
}

fn read(output: &str) -> Result<Figures, Failure> {
    let line = output
        .lines()
        .rfind(|line| line.starts_with('{'))
        .unwrap_or_default();
    serde_json::from_str(line)
        .map_err(|error| Failure::new(format!("The lab's last line is not JSON: {error}.")))
}

/// A count that must be nothing is a promise; everything else is a measurement.
fn judge(rows: &[Figure]) -> Result<(), Failure> {
    let broken: Vec<String> = rows
        .iter()
        .filter(|row| row.unit == "count" && row.goal.as_deref() == Some("<= 0") && row.ours > 0.0)
        .map(|row| format!("{}: {}", row.work, row.ours))
        .collect();
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "What must never happen did: {}.",
        broken.join(", ")
    )))
}

impl Figure {
    fn row(&self) -> Row {
        Row::alone(self.work.clone(), self.unit.clone(), self.ours)
            .against(self.peer_name.as_deref().unwrap_or_default(), self.peer)
            .goal_read(self.goal.clone().map(Cow::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(work: &str, ours: f64) -> String {
        format!(
            r#"noise
{{"rows":[{{"work":"{work}","unit":"count","ours":{ours},"peer":null,"peer_name":null,"goal":"<= 0"}}],"skipped":["x (y)"]}}"#
        )
    }

    #[test]
    fn a_wrong_token_fails_the_run() {
        let figures = read(&line("tokens_wrong", 1.0)).unwrap();
        assert_eq!(figures.skipped, ["x (y)"]);
        assert!(
            judge(&figures.rows)
                .unwrap_err()
                .what
                .contains("tokens_wrong")
        );
        assert!(judge(&read(&line("tokens_wrong", 0.0)).unwrap().rows).is_ok());
        assert!(read("nothing").is_err());
    }
}
