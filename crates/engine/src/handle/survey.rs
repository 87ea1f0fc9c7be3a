//! What could compute here, asked of the worker programs.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::child;
use super::locate::{self, WorkerKind, WorkerProgram, locate_worker};
use crate::EngineError;
use crate::adapters::{Answer, Candidate, Device, Inventory, Probe, Rates, Source};
use crate::greeting::Greeting;

/// How long a source may take. A card that sleeps is awake within two seconds; a driver that hangs never answers.
const LOOK: Duration = Duration::from_secs(10);

/// How long a worker may take to open its device and check itself. A first start compiles the driver's kernels.
const GREET: Duration = Duration::from_secs(60);

/// How long a measurement may take: a model of 40 GB is read from a slow disk in five minutes.
const MEASURE: Duration = Duration::from_secs(600);

/// A worker program, and what it said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedWorker {
    /// Which program.
    pub program: WorkerProgram,
    /// What it computes on and that its self-check passed, or why it cannot be used.
    pub greeting: Result<Greeting, String>,
}

impl ProbedWorker {
    /// It among others, with what it was measured at.
    pub fn candidate(&self, rates: Option<Rates>) -> Candidate {
        match &self.greeting {
            Ok(greeting) => Candidate {
                device: greeting.device.clone(),
                probe: rates.map_or(Probe::Unmeasured, Probe::Measured),
            },
            Err(why) => Candidate {
                device: match self.program.kind {
                    WorkerKind::Processor => Device::Processor,
                    WorkerKind::Cuda | WorkerKind::Metal => Device::Adapter {
                        name: format!("The worker for {}", self.program.kind.as_str()),
                        memory: None,
                        software: false,
                    },
                },
                probe: Probe::Refused(why.clone()),
            },
        }
    }
}

/// Asks every source of this system, each in a process of its own.
pub(super) async fn adapters(dirs: &[PathBuf]) -> Result<Inventory, EngineError> {
    let program = locate_worker(dirs)?;
    let mut answers = Vec::new();
    for &source in Source::HERE {
        answers.push((source, ask(&program, source).await));
    }
    Ok(Inventory::of(answers))
}

async fn ask(program: &Path, source: Source) -> Answer {
    let arguments = ["--inventory", source.argument()].map(OsStr::new);
    match child::answer(program, &arguments, LOOK).await {
        Ok(answer) => parse(&answer).unwrap_or_else(Answer::Failed),
        Err(error) => Answer::Failed(first_line(&error)),
    }
}

/// Starts every worker that is installed, lets it check itself, and ends it. The processor's is the first.
pub(super) async fn workers(dirs: &[PathBuf]) -> Result<Vec<ProbedWorker>, EngineError> {
    let mut probed = Vec::new();
    for program in locate::workers(dirs)? {
        let answer = child::answer(&program.path, &["--greet".as_ref()], GREET).await;
        let greeting = answer
            .map_err(|error| first_line(&error))
            .and_then(|answer| parse::<Greeting>(&answer))
            .and_then(|greeting| greeting.fits(program.kind));
        probed.push(ProbedWorker { program, greeting });
    }
    Ok(probed)
}

/// Lets a worker compute with a model file, and gives its rates.
pub(super) async fn measure(
    program: &WorkerProgram,
    file: &Path,
    threads: NonZeroUsize,
) -> Result<Rates, EngineError> {
    let threads = threads.to_string();
    let arguments = [
        "--bench".as_ref(),
        file.as_os_str(),
        "--threads".as_ref(),
        threads.as_ref(),
    ];
    let answer = child::answer(&program.path, &arguments, MEASURE).await?;
    parse::<Rates>(&answer).map_err(|detail| EngineError::WorkerSpokeWrong { detail })
}

/// What is said first is the reason; what follows, as a rule, is how to use the program.
fn first_line(error: &EngineError) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T, String> {
    serde_json::from_slice(answer).map_err(|error| format!("it answered nonsense: {error}"))
}
