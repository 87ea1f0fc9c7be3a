//! `decentralgpt-lab`: what `cargo xtask lab` and `cargo xtask bench network` run. Its last line is what it found, as JSON; what
//! happens meanwhile goes to standard error.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
// A command-line tool: its words go to the terminal.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::{error::LabError, figures::Figures};

/// Many real programs on one machine, and their faults.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// Thirty programs on loopback, some of them broken in the middle of an answer.
    Short,
    /// The same answer over many networks.
    Matrix {
        /// How long it may take.
        #[arg(long)]
        minutes: f64,
    },
    /// A remote answer against a local one.
    Remote {
        /// Answers of each side.
        #[arg(long)]
        rounds: usize,
        /// Seconds of silence.
        #[arg(long)]
        idle_seconds: u64,
    },
    /// Ten thousand nodes in virtual time, beside real ones in this process.
    Sim {
        /// Only a few dozen, real and in virtual time.
        #[arg(long)]
        short: bool,
    },
    /// Providers behind routers alone.
    Relayed,
    /// A node that serves and one that asks, among others that come and go.
    Soak {
        /// For how long.
        #[arg(long)]
        minutes: f64,
        /// With as many of them as in so many hours.
        #[arg(long)]
        hours: f64,
    },
    /// An honest job beside peers that attack.
    Hostile {
        /// For how long.
        #[arg(long)]
        minutes: f64,
    },
}

/// A longer run is a mistake in the command line.
const MAX_MINUTES: f64 = 7.0 * 24.0 * 60.0;

fn main() -> ExitCode {
    let what = Arguments::parse().what;
    let figures = match run(what) {
        Ok(figures) => figures,
        Err(error) => {
            eprintln!("{}", chain(&error));
            return ExitCode::FAILURE;
        }
    };
    match serde_json::to_string(&figures) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the figures are no JSON: {error}");
            ExitCode::FAILURE
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

#[cfg(target_os = "linux")]
fn run(what: What) -> Result<Figures, LabError> {
    if let What::Sim { short } = what {
        return lab::simulate::run(short);
    }
    let starter = decentralgpt_tests::starter().ok_or(LabError::NoStarter)?;
    let (_folder, starter) = alone(&starter)?;
    match what {
        What::Short => {
            let small_disks = match decentralgpt_tests::disk::own_mounts() {
                Ok(()) => true,
                Err(error) => {
                    eprintln!("no mounts of its own: {error}");
                    false
                }
            };
            lab::crowd::run(&starter, small_disks)
        }
        What::Matrix { minutes } => lab::matrix::run(&starter, time(minutes)),
        What::Remote {
            rounds,
            idle_seconds,
        } => lab::remote::run(
            &starter,
            rounds,
            std::time::Duration::from_secs(idle_seconds),
        ),
        What::Sim { short } => lab::simulate::run(short),
        What::Relayed => lab::relayed::alone(&starter),
        What::Soak { minutes, hours } => {
            lab::soak::run(&starter, time(minutes), hours.clamp(0.0, MAX_MINUTES))
        }
        What::Hostile { minutes } => lab::hostile::run(&starter, time(minutes)),
    }
}

#[cfg(target_os = "linux")]
fn time(minutes: f64) -> std::time::Duration {
    std::time::Duration::from_secs_f64(minutes.clamp(0.0, MAX_MINUTES) * 60.0)
}

/// The starter in a folder with nothing else: the programs offer whatever lies beside it.
#[cfg(target_os = "linux")]
fn alone(starter: &std::path::Path) -> Result<(tempfile::TempDir, std::path::PathBuf), LabError> {
    let link = || {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join(decentralgpt_tests::STARTER_FILE);
        std::os::unix::fs::symlink(starter.canonicalize()?, &path)?;
        Ok((folder, path))
    };
    link().map_err(LabError::system("a folder for the starter cannot be made"))
}

#[cfg(not(target_os = "linux"))]
fn run(_: What) -> Result<Figures, LabError> {
    let mut figures = Figures::default();
    figures.skip("everything (the lab runs on Linux alone)");
    Ok(figures)
}
