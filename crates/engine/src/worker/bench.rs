//! How fast this build computes a file on this machine, without the app around it.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::gauge;
use super::loaded::Loaded;
use super::speed::Speed;
use super::texts::TextModels;
use crate::EngineError;
use crate::decoder::Plan;
use crate::file::ModelFile;

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Tokens of the prompt that is read.
    pub prompt: usize,
    /// Tokens that one sequence produces.
    pub output: usize,
    /// Sequences that produce as many together; 0 measures none.
    pub batch: usize,
}

/// What one run measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// From nothing to ready, in milliseconds.
    pub load_ms: f64,
    /// Tokens of a prompt read per second.
    pub prefill_tokens_per_second: f64,
    /// Tokens produced per second, after an empty prompt.
    pub decode_tokens_per_second: f64,
    /// Tokens produced per second over all sequences of the batch.
    pub batch_tokens_per_second: Option<f64>,
    /// The most memory that was ever resident, in bytes.
    pub peak_rss_bytes: Option<u64>,
}

/// Loads a file and measures it, each figure from an empty cache, as `llama-bench` does.
pub fn run(file: &Path, threads: NonZeroUsize, sizes: Sizes) -> Result<Figures, EngineError> {
    crate::parallel::start(threads.get());
    let begun = Instant::now();
    let text = TextModels::default().get(file)?;
    let plan = Plan::of(&Arc::new(ModelFile::open(file)?))?;
    let loaded = Loaded::open(1, file, &plan, None, u64::MAX, text, &mut |_| true)?;
    let mut model = loaded.ok_or(EngineError::Cancelled)?;
    let load_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let mut speed = Speed {
        decoder: &model.decoder,
        pool: &mut model.pool,
        go_on: &|| true,
    };
    // Once unmeasured, so that threads and pages are there.
    speed.prefill(sizes.prompt.min(32))?;
    let prefill = speed.prefill(sizes.prompt)?;
    let decode = speed.decode(1, sizes.output, Duration::MAX)?;
    let batch = match sizes.batch {
        0 => None,
        batch => speed.decode(batch, sizes.output, Duration::MAX)?,
    };
    Ok(Figures {
        load_ms,
        prefill_tokens_per_second: prefill.ok_or(EngineError::Cancelled)?,
        decode_tokens_per_second: decode.ok_or(EngineError::Cancelled)?,
        batch_tokens_per_second: batch,
        peak_rss_bytes: gauge::peak_resident(),
    })
}
