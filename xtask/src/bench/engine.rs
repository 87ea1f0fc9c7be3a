//! This engine against llama.cpp, on the same file, with as many threads, by turns within one session, so that a machine
//! that is slow today is slow for both.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{Row, median, report};
use crate::{
    house::House,
    peers,
    sh::{self, Failure, stage},
    starter,
};

/// Of each side; the table shows medians.
pub(crate) const ROUNDS: usize = 5;
/// The machines of this project have two cores; more would measure the scheduler.
pub(crate) const THREADS: usize = 2;

const PREFILL: usize = 512;
const DECODE: usize = 64;
/// How often a running program's memory is read: its high-water mark only grows, so the last look before the end counts.
const LOOK: Duration = Duration::from_millis(5);

/// One side's figures of one round.
#[derive(Debug, Clone, Copy)]
struct Figures {
    prefill: f64,
    decode: f64,
    load_ms: f64,
    rss_bytes: f64,
}

pub(crate) fn bench(house: &House, rounds: usize, threads: usize) -> Result<(), Failure> {
    let model = stage("starter model", || starter::fetch(house))?;
    stage("worker", || {
        sh::run(&mut house.cargo([
            "build",
            "--locked",
            "--workspace",
            "--exclude",
            "xtask",
            "--bins",
        ]))
    })?;
    let peer = match stage(peers::NAME, || peers::llama_bench(house)) {
        Ok(path) => Some(path),
        Err(failure) => {
            println!(
                "   skipped: {} cannot be had here, so there is nobody to compare with ({})",
                peers::NAME,
                failure.what
            );
            None
        }
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=rounds.max(1) {
        stage(&format!("round {round} of {}", rounds.max(1)), || {
            ours.push(of_worker(house, &model, threads)?);
            if let Some(program) = &peer {
                theirs.push(of_llama(program, &model, threads)?);
            }
            Ok(())
        })?;
    }
    let middle = |side: &[Figures], of: fn(&Figures) -> f64| median(side.iter().map(of).collect());
    let row = |work, unit, of: fn(&Figures) -> f64| {
        Row::alone(work, unit, middle(&ours, of).unwrap_or_default())
            .against(peers::NAME, middle(&theirs, of))
    };
    let rows = vec![
        row("prefill512.starter", "tok/s", |figures| figures.prefill).goal(">= 1.0"),
        row("decode.starter", "tok/s", |figures| figures.decode).goal(">= 1.0"),
        row("load.starter", "ms", |figures| figures.load_ms).goal("<= 1.0"),
        row("rss.starter", "bytes", |figures| figures.rss_bytes).goal("<= 1.0"),
    ];
    report(house, "engine", rows)
}

/// Our worker in its bench mode.
fn of_worker(house: &House, model: &Path, threads: usize) -> Result<Figures, Failure> {
    let program = house.program("decentralgpt-worker");
    let run = |prefill: usize, decode: usize| {
        let mut command = Command::new(&program);
        command
            .arg("--bench")
            .arg(model)
            .args(["--threads", &threads.to_string()])
            .args([
                "--prompt",
                &prefill.to_string(),
                "--gen",
                &decode.to_string(),
            ]);
        measured(&mut command)
    };
    let load = run(1, 1)?;
    let work = run(PREFILL, DECODE)?;
    let line = work
        .output
        .lines()
        .rfind(|line| line.starts_with('{'))
        .unwrap_or_default();
    let figure = |name: &str| -> Result<f64, Failure> {
        let value: serde_json::Value = serde_json::from_str(line).map_err(|error| {
            Failure::new(format!("The worker's bench line is not JSON: {error}."))
        })?;
        value[name]
            .as_f64()
            .ok_or_else(|| Failure::new(format!("The worker's bench line has no {name}: {line}")))
    };
    Ok(Figures {
        prefill: figure("prefill_tokens_per_second")?,
        decode: figure("decode_tokens_per_second")?,
        load_ms: load.wall.as_secs_f64() * 1e3,
        rss_bytes: work.rss_bytes,
    })
}

fn of_llama(program: &Path, model: &Path, threads: usize) -> Result<Figures, Failure> {
    let run = |arguments: [&str; 4]| {
        let mut command = Command::new(program);
        command
            .arg("-m")
            .arg(model)
            .args(["-t", &threads.to_string(), "-r", "1", "-o", "json"])
            .args(arguments);
        measured(&mut command)
    };
    let load = {
        let mut command = Command::new(program);
        command.arg("-m").arg(model).args([
            "-t",
            &threads.to_string(),
            "-r",
            "1",
            "-o",
            "json",
            "-p",
            "1",
            "-n",
            "1",
            "--no-warmup",
        ]);
        measured(&mut command)?
    };
    let (prefill, decode) = (PREFILL.to_string(), DECODE.to_string());
    let work = run(["-p", &prefill, "-n", &decode])?;
    let tests: Vec<serde_json::Value> = serde_json::from_str(&work.output)
        .map_err(|error| Failure::new(format!("llama-bench printed no JSON: {error}.")))?;
    let speed = |field: &str| {
        tests
            .iter()
            .find(|test| test[field].as_u64().is_some_and(|count| count > 0))
            .and_then(|test| test["avg_ts"].as_f64())
            .ok_or_else(|| Failure::new(format!("llama-bench measured no {field}.")))
    };
    Ok(Figures {
        prefill: speed("n_prompt")?,
        decode: speed("n_gen")?,
        load_ms: load.wall.as_secs_f64() * 1e3,
        rss_bytes: work.rss_bytes,
    })
}

struct Measured {
    output: String,
    wall: Duration,
    rss_bytes: f64,
}

/// Runs a program to its end, with its time and its memory's high-water mark.
fn measured(command: &mut Command) -> Result<Measured, Failure> {
    let line = sh::shown(command);
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| sh::not_started(&line, &error))?;
    let status = format!("/proc/{}/status", child.id());
    let watch = std::thread::spawn(move || {
        let mut highest = 0.0;
        // The file's memory lines are gone once the program has ended, whether or not it was waited for.
        while let Some(bytes) = std::fs::read_to_string(&status)
            .ok()
            .and_then(|text| high_water(&text))
        {
            highest = bytes;
            std::thread::sleep(LOOK);
        }
        highest
    });
    let mut output = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        std::io::Read::read_to_string(&mut stdout, &mut output).map_err(|error| {
            Failure::new(format!("`{line}` printed something unreadable: {error}."))
        })?;
    }
    let ended = child
        .wait()
        .map_err(|error| sh::not_started(&line, &error))?;
    let wall = start.elapsed();
    if !ended.success() {
        return Err(Failure::new(format!("`{line}` ended with {ended}.")));
    }
    let rss_bytes = watch.join().unwrap_or_default();
    Ok(Measured {
        output,
        wall,
        rss_bytes,
    })
}

/// Peak resident bytes, from the text of /proc/PID/status.
fn high_water(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        assert_eq!(
            high_water("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n"),
            Some(2_097_152.0)
        );
        assert_eq!(high_water("State:\tZ (zombie)\n"), None);
    }
}
