//! How fast this build computes a file on this machine, without the app around it.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::gauge;
use super::loaded::{Loaded, Room};
use super::texts::TextModels;
use crate::EngineError;
use crate::cache::KvCache;
use crate::decoder::Step;
use crate::families::PREFILL_CHUNK;

/// What one run measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// From nothing to ready, in milliseconds.
    pub load_ms: f64,
    /// Tokens of a prompt read per second.
    pub prefill_tokens_per_second: f64,
    /// Tokens produced per second, after an empty prompt.
    pub decode_tokens_per_second: f64,
    /// The most memory that was ever resident, in bytes.
    pub peak_rss_bytes: Option<u64>,
}

/// Loads a file, reads `prompt` tokens and produces `output` ones, each from an empty cache, as `llama-bench` does.
pub fn run(
    file: &Path,
    threads: NonZeroUsize,
    prompt: usize,
    output: usize,
) -> Result<Figures, EngineError> {
    crate::parallel::start(threads.get());
    let begun = Instant::now();
    let room = Room {
        available: u64::MAX,
        cap: None,
    };
    let model = Loaded::open(file, None, room, &TextModels::default(), &mut |_| ())?;
    let load_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let decoder = &model.decoder;
    // Any ids do: the time does not depend on which.
    let ids: Vec<u32> = (0..prompt as u32)
        .map(|at| (at * 7919 + 13) % decoder.vocabulary() as u32)
        .collect();
    // Once unmeasured, so that threads and pages are there.
    let warm = ids.len().min(PREFILL_CHUNK as usize);
    decoder.step(
        &mut KvCache::new(decoder.shape()),
        &ids[..warm.min(32)],
        true,
        &|| false,
    )?;
    let begun = Instant::now();
    let mut cache = KvCache::new(decoder.shape());
    for (at, chunk) in ids.chunks(PREFILL_CHUNK as usize).enumerate() {
        let last = (at + 1) * PREFILL_CHUNK as usize >= ids.len();
        decoder.step(&mut cache, chunk, last, &|| false)?;
    }
    let prefill = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let mut cache = KvCache::new(decoder.shape());
    let mut id = ids.first().copied().unwrap_or(0);
    for _ in 0..output {
        if let Step::Logits(logits) = decoder.step(&mut cache, &[id], true, &|| false)? {
            let best = (0u32..).zip(&logits).max_by(|a, b| a.1.total_cmp(b.1));
            id = best.map_or(0, |(id, _)| id);
        }
    }
    let decode = begun.elapsed().as_secs_f64();
    Ok(Figures {
        load_ms,
        prefill_tokens_per_second: prompt as f64 / prefill,
        decode_tokens_per_second: output as f64 / decode,
        peak_rss_bytes: gauge::peak_resident(),
    })
}
