//! This engine against llama.cpp and others of its kind, on the same files, with as many threads, by turns within one
//! session, so that a machine that is slow today is slow for all.

use std::path::PathBuf;

use super::{
    Row, drafts,
    files::{File, files},
    median, report,
    sides::{Figures, Llama, ours},
};
use crate::{
    house::House,
    peers,
    sh::{self, Failure, stage},
};

/// Of each side; the table shows medians.
pub(crate) const ROUNDS: usize = 3;
/// The machines of this project have two cores; more would measure the scheduler.
pub(crate) const THREADS: usize = 2;
/// Of each side for a file that stands for a format alone: there are many of them.
const ROUNDS_OF_FORMATS: usize = 2;

pub(crate) fn bench(
    house: &House,
    rounds: usize,
    threads: usize,
    others: &[PathBuf],
    names: &[String],
) -> Result<(), Failure> {
    let files = stage("model files", || files(house, names))?;
    stage("worker, as it is shipped", || {
        sh::run(&mut house.cargo([
            "build",
            "--locked",
            "--release",
            "--package",
            "decentralgpt-engine",
            "--bin",
            "decentralgpt-worker",
        ]))
    })?;
    let mut sides = Vec::new();
    match stage(peers::NAME, || peers::llama_bench(house)) {
        Ok(path) => sides.push(Llama::open(&path, Some(peers::NAME))?),
        Err(failure) => println!(
            "   skipped: {} cannot be had here, so there is nobody to compare with ({})",
            peers::NAME,
            failure.what
        ),
    }
    for path in others {
        sides.push(Llama::open(path, None)?);
    }
    let mut rows = Vec::new();
    for file in &files {
        let rounds = if file.whole {
            rounds.max(1)
        } else {
            rounds.clamp(1, ROUNDS_OF_FORMATS)
        };
        rows.extend(stage(&file.name, || {
            of_file(house, file, rounds, threads, &sides)
        })?);
    }
    if files.iter().any(|file| file.name == "starter") {
        rows.extend(stage("drafts", || drafts::rows(house, rounds))?);
    }
    report(house, "engine", rows)
}

fn of_file(
    house: &House,
    file: &File,
    rounds: usize,
    threads: usize,
    sides: &[Llama],
) -> Result<Vec<Row>, Failure> {
    let mut own = Vec::new();
    let mut theirs: Vec<Vec<Figures>> = sides.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        own.push(ours(house, file, threads)?);
        for (side, figures) in sides.iter().zip(&mut theirs) {
            figures.push(side.figures(file, threads)?);
        }
    }
    let mut rows = Vec::new();
    for measure in &MEASURES {
        let middle = |side: &[Figures]| median(side.iter().filter_map(measure.of).collect());
        let Some(own) = middle(&own) else {
            continue;
        };
        let row = || Row::alone(format!("{}.{}", measure.work, file.name), measure.unit, own);
        if sides.is_empty() {
            rows.push(row());
        }
        for (side, figures) in sides.iter().zip(&theirs) {
            let first = side.name == peers::NAME;
            // The first stands even where it has no such figure, so that every measure has its row.
            if let Some(peer) = middle(figures).map(Some).or(first.then_some(None)) {
                let goal = goal(measure.work, &file.name, first);
                rows.push(row().against(&side.name, peer).goal(goal));
            }
        }
    }
    Ok(rows)
}

/// A figure and its name.
struct Measure {
    work: &'static str,
    unit: &'static str,
    of: fn(&Figures) -> Option<f64>,
}

const MEASURES: [Measure; 7] = [
    Measure {
        work: "prefill512",
        unit: "tok/s",
        of: |figures| figures.prefill,
    },
    Measure {
        work: "decode",
        unit: "tok/s",
        of: |figures| figures.decode,
    },
    Measure {
        work: "decode_deep",
        unit: "tok/s",
        of: |figures| figures.deep,
    },
    Measure {
        work: "batch8",
        unit: "tok/s",
        of: |figures| figures.batch,
    },
    Measure {
        work: "load",
        unit: "ms",
        of: |figures| figures.load_ms,
    },
    Measure {
        work: "rss",
        unit: "bytes",
        of: |figures| figures.rss_bytes,
    },
    Measure {
        work: "ttft_turn2",
        unit: "ms",
        of: |figures| figures.turn_ms,
    },
];

/// What the ratio to llama.cpp (`first`), or to another peer, must be.
fn goal(work: &str, file: &str, first: bool) -> Option<&'static str> {
    let whole = super::files::WHOLE.contains(&file);
    Some(match (work, file) {
        ("prefill512", "starter") if first => ">= 1.8",
        ("decode", "starter") if first => ">= 1.3",
        ("prefill512", "1b-q4_k_m") if first => ">= 1.5",
        ("decode", "1b-q4_k_m") if first => ">= 1.1",
        ("prefill512", _) if whole && !first => ">= 1.1",
        ("decode", _) if whole && !first => ">= 1.05",
        ("batch8", _) => ">= 2.5",
        ("load" | "rss", "starter") if first => "<= 1.0",
        _ => return None,
    })
}
