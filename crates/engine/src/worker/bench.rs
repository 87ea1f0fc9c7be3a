//! How fast this build computes a file on this machine, without the app around it.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::gauge::Peak;
use super::loaded::Loaded;
use super::speed::Speed;
use super::texts::TextModels;
use super::weights::Planned;
use crate::scheduler::STEP_TOKENS;
use crate::{EngineError, Isolation, sandbox};

/// Tokens that every sequence of a batch has read before its first step is timed.
const BATCH_PROMPT: usize = 128;

/// New tokens of a chat's second turn: a short question and its frame.
const TURN_TOKENS: usize = 64;

/// What a run is to measure; zero leaves a part out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Tokens of a prompt that is read.
    pub prompt: usize,
    /// Tokens that are produced.
    pub output: usize,
    /// Tokens that were read before them.
    pub depth: usize,
    /// Sequences that produce as many tokens each, in the same steps.
    pub batch: usize,
    /// Tokens of a chat whose next turn is begun.
    pub turn: usize,
}

/// What one run measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// From nothing to ready, in milliseconds.
    pub load_ms: f64,
    /// Tokens of a prompt read per second.
    pub prefill_tokens_per_second: Option<f64>,
    /// Tokens produced per second.
    pub decode_tokens_per_second: Option<f64>,
    /// Tokens produced per second by all sequences of a batch together, after prompts of 128 tokens.
    pub batch_tokens_per_second: Option<f64>,
    /// From a chat's second question of 64 tokens, the first turn being known, to its first token, in milliseconds.
    pub turn_ms: Option<f64>,
    /// What the process could no longer do when it opened the file.
    pub isolation: Isolation,
    /// The most memory that was ever resident, in bytes.
    pub peak_rss_bytes: Option<u64>,
}

/// A process that measures a file and can do nothing else any more.
#[derive(Debug)]
pub struct Bench {
    file: PathBuf,
    isolation: Isolation,
    peak: Peak,
}

impl Bench {
    /// Opens the device, then confines this process to the file and its folder (where its other parts lie), before a byte
    /// of the file is read: it may be a stranger's.
    pub fn confine(file: &Path, threads: NonZeroUsize) -> Result<Self, EngineError> {
        super::open_device()?;
        let peak = Peak::open();
        let mut readable = Vec::from_iter(file.parent().map(Path::to_owned));
        // One that is a link lies elsewhere; one that is not there is refused when it is opened.
        readable.extend(file.canonicalize());
        let isolation = sandbox::confine(&readable, None);
        crate::parallel::start(threads.get());
        Ok(Self {
            file: file.to_owned(),
            isolation,
            peak,
        })
    }

    /// Loads the file and measures each part from an empty cache, as `llama-bench` does.
    pub fn run(&self, work: Work) -> Result<Figures, EngineError> {
        let file = self.file.as_path();
        let begun = Instant::now();
        let (text, opened) = TextModels::default().with_file(file)?;
        let plan = Planned::of(&opened)?;
        let loaded = Loaded::open(1, file, &plan, None, u64::MAX, text, &mut |_| true)?;
        let mut model = loaded.ok_or(EngineError::Cancelled)?;
        let load_ms = begun.elapsed().as_secs_f64() * 1000.0;
        let (decoder, pool) = model.decoding()?;
        let mut speed = Speed {
            decoder,
            pool,
            go_on: &|| true,
        };
        // Once unmeasured, so that threads and pages are there.
        speed.prefill(work.prompt.clamp(1, STEP_TOKENS as usize))?;
        Ok(Figures {
            load_ms,
            isolation: self.isolation,
            prefill_tokens_per_second: measured(work.prompt, || speed.prefill(work.prompt))?,
            decode_tokens_per_second: measured(work.output, || {
                speed.decode(1, work.depth, work.output, Duration::MAX)
            })?,
            batch_tokens_per_second: measured(work.batch, || {
                speed.decode(work.batch, BATCH_PROMPT, work.output, Duration::MAX)
            })?,
            turn_ms: measured(work.turn, || speed.second_turn(work.turn, TURN_TOKENS))?
                .map(|took| took.as_secs_f64() * 1000.0),
            peak_rss_bytes: self.peak.resident(),
        })
    }
}

/// A part's figure, unless it is left out.
fn measured<T>(
    size: usize,
    part: impl FnOnce() -> Result<Option<T>, EngineError>,
) -> Result<Option<T>, EngineError> {
    if size == 0 { Ok(None) } else { part() }
}
