//! Measures how a real worker shares the device between its owner and a network that never stops asking; prints one line of
//! JSON. `cargo xtask bench sharing` runs it and makes a table of it.
//!
//! `sharing WORKER MODEL ROUNDS`
#![allow(clippy::print_stdout)]

mod load;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use engine::{EngineHandle, GenerateEvent, Sharing};
use load::{Crowd, own, quantile, timed};
use serde::Serialize;

/// Strangers at once, as many as a worker's own measurement decodes together.
const STRANGERS: u64 = 8;

/// Tokens of a stranger's answer.
const OUTPUT: u32 = 128;

/// Prompt and output of the owner's questions, in tokens.
const OWN_PROMPT: usize = 200;
const OWN_OUTPUT: u32 = 96;

/// How long a rate is looked at.
const LOOK: Duration = Duration::from_secs(6);

/// The same where a share is kept: some of the bursts that it comes in.
const LOOK_AT_SHARE: Duration = Duration::from_secs(20);

/// Until what was changed has had its effect.
const SETTLE: Duration = Duration::from_millis(500);

/// The share that is set.
const SHARE: f32 = 0.3;

/// A prompt that takes a while, in tokens.
const LONG_PROMPT: usize = 6000;

#[derive(Debug, Serialize)]
struct Figures {
    own_ttft_p95_ms: f64,
    own_ttft_p95_alone_ms: f64,
    own_tps: f64,
    own_tps_alone: f64,
    network_tps: f64,
    batch_limit_tps: f64,
    shared_part: f64,
    share: f64,
    off_seconds: f64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [worker, file, rounds] = arguments.as_slice() else {
        return Err("sharing WORKER MODEL ROUNDS".into());
    };
    let rounds: usize = rounds.to_str().unwrap_or_default().parse()?;
    let workers = worker
        .parent()
        .ok_or("the worker has no folder")?
        .to_owned();
    let engine = load::engine(workers, file);
    engine.load(file, None).await?.finish().await?;
    let crowd = Crowd::gather(&engine, file, STRANGERS, OUTPUT);
    tokio::time::sleep(SETTLE).await;

    // By turns, so that a machine that is slow for a while is slow for both.
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..rounds as u64 {
        for (with, into) in [(false, &mut alone), (true, &mut beside)] {
            match with {
                true => crowd.go_on(),
                false => crowd.stand_still(),
            }
            tokio::time::sleep(SETTLE).await;
            let request = own(file, round * 2 + u64::from(with), OWN_PROMPT, OWN_OUTPUT);
            into.push(timed(&engine, request).await?);
        }
    }

    let (mut network, mut limit, mut shared) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds.div_ceil(5) {
        crowd.stand_still();
        tokio::time::sleep(SETTLE).await;
        limit.push(batch_limit(worker, file)?);
        crowd.go_on();
        tokio::time::sleep(SETTLE).await;
        let before = crowd.rate(LOOK).await;
        let sharing = Sharing {
            network_share: SHARE,
            ..Sharing::default()
        };
        engine.set_sharing(sharing).await?;
        tokio::time::sleep(SETTLE).await;
        let part = crowd.rate_of_bursts(LOOK_AT_SHARE).await;
        let part = part.ok_or("a share of the device does not come in bursts")?;
        engine.set_sharing(Sharing::default()).await?;
        tokio::time::sleep(SETTLE).await;
        let after = crowd.rate(LOOK).await;
        // Beside what it was right before and after, since machines have slow and fast minutes.
        shared.push(part / before.midpoint(after));
        network.extend([before, after]);
    }

    let mut off = Vec::new();
    for seed in 0..3 {
        off.push(off_seconds(&engine, file, seed).await?);
    }
    let first = |came: &[load::Came]| {
        quantile(
            came.iter()
                .map(|came| came.first.as_secs_f64() * 1e3)
                .collect(),
            0.95,
        )
    };
    let rate = |came: &[load::Came]| quantile(came.iter().map(|came| came.rate).collect(), 0.5);
    let figures = Figures {
        own_ttft_p95_ms: first(&beside),
        own_ttft_p95_alone_ms: first(&alone),
        own_tps: rate(&beside),
        own_tps_alone: rate(&alone),
        network_tps: quantile(network, 0.5),
        batch_limit_tps: quantile(limit, 0.5),
        shared_part: quantile(shared, 0.5),
        share: f64::from(SHARE),
        off_seconds: off.into_iter().fold(0.0, f64::max),
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// Tokens per second of as many sequences in the worker's own bench mode: nothing around the steps.
fn batch_limit(worker: &Path, file: &Path) -> Result<f64, Box<dyn Error>> {
    let count = |number: u64| number.to_string();
    let output = Command::new(worker)
        .arg("--bench")
        .arg(file)
        .args([
            "--prompt",
            "16",
            "--gen",
            &count(OUTPUT.into()),
            "--batch",
            &count(STRANGERS),
        ])
        .args(["--threads", &count(engine::physical_cores().get() as u64)])
        .output()?;
    let line: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    line["batch_tokens_per_second"]
        .as_f64()
        .ok_or_else(|| "the worker's bench line has no batch".into())
}

/// Switches the worker off in the middle of a prompt; seconds until its process, and with it its memory, is gone.
async fn off_seconds(engine: &EngineHandle, file: &Path, seed: u64) -> Result<f64, Box<dyn Error>> {
    engine.load(file, None).await?.finish().await?;
    let request = own(file, 77 + seed, LONG_PROMPT, 4);
    let mut generation = engine.generate(request).await?;
    while let Some(event) = generation.next().await {
        if matches!(event?, GenerateEvent::Prefill { done, .. } if done > 0) {
            break;
        }
    }
    let pid = engine.stats().borrow().worker_pid.ok_or("no worker runs")?;
    let begun = Instant::now();
    engine.unload().await?;
    let took = begun.elapsed().as_secs_f64();
    if cfg!(target_os = "linux") && Path::new(&format!("/proc/{pid}")).exists() {
        return Err("the worker is still there".into());
    }
    Ok(took)
}
