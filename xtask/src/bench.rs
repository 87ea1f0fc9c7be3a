//! Measurements: medians against a named peer, shown as a table and written to target/bench/NAME.json.

mod drafts;
mod engine;
mod files;
mod measured;
mod network;
pub(crate) mod sharing;
mod sides;
mod voucher;
mod window;

use std::{borrow::Cow, fs, path::PathBuf, process::Command};

use clap::Subcommand;
use serde::Serialize;

use crate::{
    house::House,
    sh::{self, Failure},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// This engine against llama.cpp, and against any other llama-bench: the same files, threads and session.
    Engine {
        /// Rounds of each side, by turns; the median counts.
        #[arg(long, default_value_t = engine::ROUNDS)]
        rounds: usize,
        /// Threads of every side.
        #[arg(long, default_value_t = engine::THREADS)]
        threads: usize,
        /// Another llama-bench to compare with. A llama-batched-bench beside it is used as well.
        #[arg(long = "peer", value_name = "LLAMA_BENCH")]
        peers: Vec<PathBuf>,
        /// Only these files, separated by commas: starter, starter-q8_0, 1b-q4_k_m, or a format such as q4_k [default: all]
        #[arg(long, value_name = "NAMES", value_delimiter = ',')]
        files: Vec<String>,
    },
    /// A worker that its owner and a saturating network share: what each gets, and how fast it is off.
    Sharing {
        /// Questions of the owner's, each alone and beside the network.
        #[arg(long, default_value_t = sharing::ROUNDS)]
        rounds: usize,
    },
    /// A remote answer against a local one: tokens a second, first token, bytes, processor's time, traffic of idle nodes.
    Network {
        /// Answers of each side, by turns; the median counts.
        #[arg(long, default_value_t = network::ROUNDS)]
        rounds: usize,
        /// Seconds in which nothing is asked, for the traffic of idle nodes.
        #[arg(long, default_value_t = network::IDLE_SECONDS)]
        idle_seconds: u64,
    },
    /// Vouchers: signing and checking against libsecp256k1, their part of a job, gas in the vault.
    Voucher,
    /// The app as a person meets it: size of the installer, start to composer, memory at rest.
    Window {
        /// Starts that are measured; the median counts.
        #[arg(long, default_value_t = window::ROUNDS)]
        rounds: usize,
    },
}

pub(crate) fn bench(house: &House, what: &Bench) -> Result<(), Failure> {
    if let Some(load) = load().filter(|load| *load > QUIET_LOAD) {
        println!(
            "   note: other programs are busy here (load {load:.1}); both sides suffer, and not equally"
        );
    }
    match what {
        Bench::Engine {
            rounds,
            threads,
            peers,
            files,
        } => engine::bench(house, *rounds, *threads, peers, files),
        Bench::Sharing { rounds } => sharing::bench(house, *rounds),
        Bench::Network {
            rounds,
            idle_seconds,
        } => network::bench(house, *rounds, *idle_seconds),
        Bench::Voucher => voucher::bench(house),
        Bench::Window { rounds } => window::bench(house, *rounds),
    }
}

/// Above this, something else wants a core as well.
const QUIET_LOAD: f64 = 1.0;

/// The system's load over the last minute, where it tells.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg")
        .ok()?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// One measured thing.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    work: String,
    unit: Cow<'static, str>,
    ours: f64,
    /// `None` where there is nobody to compare with.
    peer: Option<f64>,
    peer_name: Option<String>,
    /// Ours to the peer's.
    ratio: Option<f64>,
    /// In ASCII, on the ratio, or on `ours` where there is no peer.
    goal: Option<Cow<'static, str>>,
}

impl Row {
    pub(crate) fn alone(
        work: impl Into<String>,
        unit: impl Into<Cow<'static, str>>,
        ours: f64,
    ) -> Self {
        Self {
            work: work.into(),
            unit: unit.into(),
            ours,
            peer: None,
            peer_name: None,
            ratio: None,
            goal: None,
        }
    }

    pub(crate) fn against(mut self, name: &str, peer: Option<f64>) -> Self {
        self.ratio = peer.filter(|peer| *peer > 0.0).map(|peer| self.ours / peer);
        self.peer_name = peer.map(|_| name.to_owned());
        self.peer = peer;
        self
    }

    fn goal(self, goal: impl Into<Option<&'static str>>) -> Self {
        self.goal_read(goal.into().map(Cow::from))
    }

    /// A goal that another program named.
    pub(crate) fn goal_read(mut self, goal: Option<Cow<'static, str>>) -> Self {
        self.goal = goal;
        self
    }
}

#[derive(Debug, Serialize)]
struct Report {
    machine: String,
    cpu_flags: Vec<String>,
    commit: String,
    rows: Vec<Row>,
}

/// Prints the table and writes the file.
pub(crate) fn report(house: &House, name: &str, rows: Vec<Row>) -> Result<(), Failure> {
    let report = Report {
        machine: machine(),
        cpu_flags: cpu_flags(),
        commit: commit(house),
        rows,
    };
    println!("\n{}", report.machine);
    let names = report.rows.iter().map(|row| row.work.chars().count());
    let widest = names.max().unwrap_or_default();
    println!(
        "{:<widest$} {:>12} {:>12} {:>7}  {:<6} {:<8} peer",
        "work", "ours", "peer", "ratio", "unit", "goal"
    );
    for row in &report.rows {
        println!(
            "{:<widest$} {:>12} {:>12} {:>7}  {:<6} {:<8} {}",
            row.work,
            number(row.ours),
            row.peer.map(number).unwrap_or_else(|| "-".to_owned()),
            row.ratio
                .map(|ratio| format!("{ratio:.2}"))
                .unwrap_or_else(|| "-".to_owned()),
            row.unit,
            row.goal.as_deref().unwrap_or("-"),
            row.peer_name.as_deref().unwrap_or("-"),
        );
    }
    let folder = house.bench_folder();
    fs::create_dir_all(&folder).map_err(|error| Failure::io("Cannot make", &folder, &error))?;
    let path = folder.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(&report)
        .map_err(|error| Failure::new(format!("The report is not JSON: {error}.")))?;
    fs::write(&path, text + "\n").map_err(|error| Failure::io("Cannot write", &path, &error))?;
    println!("\nwritten to target/bench/{name}.json");
    Ok(())
}

fn number(value: f64) -> String {
    if value >= 1e5 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// The middle one; of an even count, the mean of the two in the middle. `None` of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = cpu_info("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    format!("{model}, {cores} cores, {}", std::env::consts::OS)
}

/// What of the processor's abilities decides the speed of quantised arithmetic.
fn cpu_flags() -> Vec<String> {
    const TELLING: &[&str] = &[
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512bw",
        "avx512_vnni",
        "avx_vnni",
        "avx512_bf16",
        "amx_int8",
    ];
    cpu_info("flags")
        .unwrap_or_default()
        .split_whitespace()
        .filter(|flag| TELLING.contains(flag))
        .map(str::to_owned)
        .collect()
}

fn cpu_info(key: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    text.lines()
        .find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == key))
        .map(|(_, value)| value.trim().to_owned())
}

fn commit(house: &House) -> String {
    let git = |arguments: &[&str]| {
        sh::quiet(Command::new("git").args(arguments).current_dir(&house.root))
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])
        .map(|text| text.trim().to_owned())
        .unwrap_or_default();
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])
        .is_ok_and(|text| !text.trim().is_empty());
    if changed {
        format!("{head} with changes")
    } else {
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![1.0, 2.0, 4.0, 100.0]), Some(3.0));
    }

    #[test]
    fn a_row_without_a_peer_has_no_ratio() {
        let row = Row::alone("x", "ms", 10.0).against("peer", None);
        assert_eq!((row.ratio, row.peer_name), (None, None));
        assert_eq!(
            Row::alone("x", "ms", 10.0).against("peer", Some(4.0)).ratio,
            Some(2.5)
        );
    }
}
