//! How fast this build computes a file on this machine, without the app around it.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::gauge;
use super::loaded::{Loaded, Room};
use super::texts::TextModels;
use crate::EngineError;
use crate::cache::{Asker, PagePool, SequenceState};
use crate::decoder::{Decoder, Span, Step, Wanted};
use crate::families::PREFILL_CHUNK;

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
    /// Tokens produced per second, after an empty prompt.
    pub decode_tokens_per_second: Option<f64>,
    /// Tokens produced per second by all sequences of a batch together, after prompts of 128 tokens.
    pub batch_tokens_per_second: Option<f64>,
    /// From a chat's second question of 64 tokens, the first turn being known, to its first token, in milliseconds.
    pub turn_ms: Option<f64>,
    /// The most memory that was ever resident, in bytes.
    pub peak_rss_bytes: Option<u64>,
}

/// Loads a file and measures each part from an empty cache, as `llama-bench` does.
pub fn run(file: &Path, threads: NonZeroUsize, work: Work) -> Result<Figures, EngineError> {
    crate::parallel::start(threads.get());
    let begun = Instant::now();
    let room = Room {
        available: u64::MAX,
        cap: None,
    };
    let model = Loaded::open(file, None, room, &TextModels::default(), &mut |_| ())?;
    let load_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let mut bench = Bench {
        decoder: &model.decoder,
        pool: model.pool,
    };
    // Once unmeasured, so that threads and pages are there.
    bench.prefill(work.prompt.clamp(1, PREFILL_CHUNK as usize))?;
    Ok(Figures {
        load_ms,
        prefill_tokens_per_second: measured(work.prompt, || bench.prefill(work.prompt))?
            .map(|seconds| work.prompt as f64 / seconds),
        decode_tokens_per_second: measured(work.output, || bench.decode(1, 0, work.output))?
            .map(|seconds| work.output as f64 / seconds),
        batch_tokens_per_second: measured(work.batch, || {
            bench.decode(work.batch, BATCH_PROMPT, work.output)
        })?
        .map(|seconds| (work.batch * work.output) as f64 / seconds),
        turn_ms: measured(work.turn, || bench.second_turn(work.turn))?
            .map(|seconds| seconds * 1000.0),
        peak_rss_bytes: gauge::peak_resident(),
    })
}

/// Seconds of a part, unless it is left out.
fn measured(
    size: usize,
    part: impl FnOnce() -> Result<f64, EngineError>,
) -> Result<Option<f64>, EngineError> {
    (size > 0).then(part).transpose()
}

struct Bench<'m> {
    decoder: &'m Decoder,
    pool: PagePool,
}

impl Bench<'_> {
    /// Seconds for a prompt of so many tokens, read from an empty cache.
    fn prefill(&mut self, tokens: usize) -> Result<f64, EngineError> {
        let ids = self.ids(tokens);
        let mut state = SequenceState::default();
        let begun = Instant::now();
        self.read(&mut state, &ids)?;
        let seconds = begun.elapsed().as_secs_f64();
        self.pool.release(state);
        Ok(seconds)
    }

    /// Seconds for `steps` steps of so many sequences, each after a prompt.
    fn decode(
        &mut self,
        sequences: usize,
        prompt: usize,
        steps: usize,
    ) -> Result<f64, EngineError> {
        let mut states: Vec<SequenceState> = Vec::new();
        states.resize_with(sequences, SequenceState::default);
        let prompt = self.ids(prompt);
        for state in &mut states {
            self.read(state, &prompt)?;
        }
        let mut next = self.ids(sequences);
        let begun = Instant::now();
        for _ in 0..steps {
            let mut spans: Vec<Span<'_>> = states
                .iter_mut()
                .zip(&next)
                .map(|(state, id)| Span {
                    state,
                    ids: std::slice::from_ref(id),
                    wanted: Wanted::Last,
                })
                .collect();
            let step = self.decoder.step(&mut self.pool, &mut spans, &|| false)?;
            drop(spans);
            if let Step::Computed(rows) = step {
                next = rows.iter().map(|logits| likeliest(logits)).collect();
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        for state in states {
            self.pool.release(state);
        }
        Ok(seconds)
    }

    /// Seconds to the first token of a turn behind a chat that was read before.
    fn second_turn(&mut self, chat: usize) -> Result<f64, EngineError> {
        let ids = self.ids(chat + TURN_TOKENS);
        let mut state = SequenceState::default();
        self.read(&mut state, &ids[..chat])?;
        self.pool.retire(&Asker::OWNER, &ids[..chat], state);
        let begun = Instant::now();
        let mut state = self.pool.adopt(&Asker::OWNER, &ids);
        let known = state.len();
        self.read(&mut state, &ids[known..])?;
        let seconds = begun.elapsed().as_secs_f64();
        self.pool.release(state);
        Ok(seconds)
    }

    /// Ids of a made-up text: the time does not depend on which they are.
    fn ids(&self, count: usize) -> Vec<u32> {
        let pieces = self.decoder.vocabulary() as u32;
        (0..count as u32)
            .map(|at| at.wrapping_mul(7919).wrapping_add(13) % pieces)
            .collect()
    }

    /// Reads ids in chunks; logits are made of the last, as before a first token.
    fn read(&mut self, state: &mut SequenceState, ids: &[u32]) -> Result<(), EngineError> {
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
            self.decoder.step(&mut self.pool, &mut [span], &|| false)?;
        }
        Ok(())
    }
}

fn likeliest(logits: &[f32]) -> u32 {
    (0u32..)
        .zip(logits)
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map_or(0, |(id, _)| id)
}
