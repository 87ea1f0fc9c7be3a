//! How fast this build computes a file on this machine, without the app around it.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::gauge;
use super::loaded::{Loaded, Room};
use super::texts::TextModels;
use crate::EngineError;
use crate::cache::{PagePool, SequenceState};
use crate::decoder::{Decoder, Span, Step, Wanted};
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
    let mut pool = model.pool;
    // Once unmeasured, so that threads and pages are there.
    let warm = ids.len().min(32);
    let mut state = SequenceState::default();
    last_logits(decoder, &mut pool, &mut state, &ids[..warm])?;
    pool.release(state);
    let begun = Instant::now();
    let mut state = SequenceState::default();
    last_logits(decoder, &mut pool, &mut state, &ids)?;
    let prefill = begun.elapsed().as_secs_f64();
    pool.release(state);
    let begun = Instant::now();
    let mut state = SequenceState::default();
    let mut id = ids.first().copied().unwrap_or(0);
    for _ in 0..output {
        let logits = last_logits(decoder, &mut pool, &mut state, &[id])?;
        let best = (0u32..).zip(&logits).max_by(|a, b| a.1.total_cmp(b.1));
        id = best.map_or(0, |(id, _)| id);
    }
    let decode = begun.elapsed().as_secs_f64();
    pool.release(state);
    Ok(Figures {
        load_ms,
        prefill_tokens_per_second: prompt as f64 / prefill,
        decode_tokens_per_second: output as f64 / decode,
        peak_rss_bytes: gauge::peak_resident(),
    })
}

/// Reads ids in chunks and gives the logits of the last.
fn last_logits(
    decoder: &Decoder,
    pool: &mut PagePool,
    state: &mut SequenceState,
    ids: &[u32],
) -> Result<Vec<f32>, EngineError> {
    let mut logits = Vec::new();
    let chunks = ids.len().div_ceil(PREFILL_CHUNK as usize);
    for (at, ids) in ids.chunks(PREFILL_CHUNK as usize).enumerate() {
        let wanted = if at + 1 == chunks {
            Wanted::Last
        } else {
            Wanted::Nothing
        };
        let span = Span {
            state: &mut *state,
            ids,
            wanted,
        };
        if let Step::Computed(rows) = decoder.step(pool, &mut [span], &|| false)? {
            logits = rows.into_iter().next().unwrap_or_default();
        }
    }
    Ok(logits)
}
