//! `cargo xtask`: the one entry for people and for CI. It works wherever Rust does.
//!
//! Owns: what is fetched, built, started, checked and measured, in which order, and what each step is called on screen.
//! Never: logic of the product. It starts the real programs and reads what they print.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
// A command-line tool: its words go to the terminal.
#![allow(clippy::print_stdout)]

mod bench;
mod bindings;
mod build;
mod card;
mod contracts;
mod demo;
mod deploy;
mod fuzz;
mod headless;
mod house;
mod lab;
mod package;
mod peers;
mod run;
mod sh;
mod soak;
mod starter;
mod system;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{house::House, sh::Failure};

/// Build, run, test and measure DecentralGPT Desktop.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Prepare this machine, build, and open the window; without a display, run the whole loop in the terminal.
    ///
    /// The first run installs system packages where it may (apt as root, or by sudo that asks no password), the window's
    /// npm packages and the starter model (98 MB). Each stage is named with its time.
    Run {
        /// Do not open a window: one node serves, a second one asks it, then a chat in this terminal.
        #[arg(long)]
        headless: bool,
    },
    /// Everything that CI runs, in the same order, up to the first failure.
    Test {
        /// Only the stages that need neither models, processes nor a display, or, with names, only those.
        #[arg(long)]
        quick: bool,
        /// Stages to run, by the names that the closing table shows.
        #[arg(value_name = "STAGE")]
        stages: Vec<String>,
    },
    /// A whole network on this machine, with money that is worth nothing: a chain, three computers that answer at their own
    /// prices, and the window that asks and pays. Ctrl-C ends all of it.
    Demo {
        /// Only the story, from the wallets to an open vote: no window, no chat.
        #[arg(long)]
        once: bool,
    },
    /// Measure, print a table, and write it to target/bench/NAME.json.
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
    },
    /// Feed the parsers of foreign bytes with mutated input, by turns.
    Fuzz {
        /// Seconds for each target.
        #[arg(long, default_value_t = fuzz::SECONDS_EACH)]
        seconds: u32,
        /// Only these targets.
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
    },
    /// Load a real worker with everything at once, and check that memory stays flat and nothing is lost.
    Soak {
        /// For how long, or with --money for how long at most [default: 60, with --money 150, with --network 20]
        #[arg(long)]
        minutes: Option<f64>,
        /// Instead: random histories of money, and both sides of paid answers killed at random moments; no unit is lost or doubled.
        #[arg(long)]
        money: bool,
        /// Instead: a node that serves and one that asks, among others that come and go; to target/bench/soak-network.json.
        #[arg(long, conflicts_with = "money")]
        network: bool,
        /// With --network: as many come and go as in so many hours, however long it takes.
        #[arg(long, default_value_t = soak::HOURS, requires = "network")]
        hours: f64,
        /// How many kills, with --money.
        #[arg(long, default_value_t = soak::KILLS, requires = "money")]
        kills: u64,
    },
    /// Compile the contracts, run their tests, and compare contracts/abi with what they compile to.
    Contracts {
        /// Write contracts/abi anew instead of comparing.
        #[arg(long)]
        write: bool,
    },
    /// Put the contracts on a chain, or start a chain of this machine's own with them; writes networks/NAME.toml.
    #[command(disable_help_flag = true)]
    Deploy {
        /// What the tool takes; --help shows it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Many real programs on one machine, and their faults; without a form, a matrix of networks made in software.
    Lab {
        #[command(subcommand)]
        form: Option<lab::Lab>,
        /// How long the matrix may take; the cells it does not come to are named.
        #[arg(long, default_value_t = lab::MATRIX_MINUTES)]
        minutes: f64,
    },
    /// Write ui/src/bindings.ts anew from the Rust commands and events.
    Bindings {
        /// Only compare, and fail when it differs.
        #[arg(long)]
        check: bool,
    },
    /// Make the installer of this system in target/release/bundle.
    Package {
        /// Which kinds, separated by commas [default: deb on Linux, every kind of the system elsewhere]
        #[arg(long, value_name = "KINDS")]
        bundles: Option<String>,
        /// Workers for graphics cards to pack beside the processor's.
        #[arg(long, value_enum, value_delimiter = ',')]
        cards: Vec<card::Card>,
    },
    /// Build the worker for a graphics card, and put it beside the programs of `cargo xtask run`.
    Worker {
        /// Which interface.
        #[arg(value_enum)]
        card: card::Card,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match House::open().and_then(|house| dispatch(&house, arguments.task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\n{failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(house: &House, task: Task) -> Result<(), Failure> {
    match task {
        Task::Run { headless } => run::run(house, headless),
        Task::Test { quick, stages } => test::test(house, quick, &stages),
        Task::Demo { once } => demo::demo(house, once),
        Task::Bench { what } => bench::bench(house, &what),
        Task::Fuzz { seconds, targets } => fuzz::fuzz(house, seconds, &targets),
        Task::Soak {
            money: true,
            kills,
            minutes,
            ..
        } => soak::money(house, kills, minutes),
        Task::Soak {
            network: true,
            hours,
            minutes,
            ..
        } => soak::network(house, hours, minutes),
        Task::Soak { minutes, .. } => soak::soak(house, minutes),
        Task::Contracts { write } => {
            let abi = if write {
                contracts::Abi::Write
            } else {
                contracts::Abi::Check
            };
            contracts::build(house, abi)?;
            contracts::test(house).map(|_| ())
        }
        Task::Deploy { arguments } => deploy::deploy(house, &arguments),
        Task::Lab { form, minutes } => lab::lab(house, form.as_ref(), minutes).map(|_| ()),
        Task::Bindings { check: true } => bindings::check(house),
        Task::Bindings { check: false } => bindings::write(house),
        Task::Package { bundles, cards } => package::package(house, bundles.as_deref(), &cards),
        Task::Worker { card } => {
            let beside = card::worker(house, card, "debug")?;
            println!("{}", beside.display());
            Ok(())
        }
    }
}
