//! The measurement that the app makes once of a model on this device.

use std::time::Duration;

use super::loaded::Loaded;
use super::speed::Speed;
use super::watchdog::{Watch, step_limit};
use crate::scheduler::STEP_TOKENS;
use crate::{BUILD, BatchRate, Benchmark, EngineError};

/// Sequences decoded together: a chat, a few, and as many as a small server has at once.
const BATCHES: [usize; 3] = [1, 4, 8];

/// Tokens of the prompt that is read: a full step.
const PROMPT: usize = STEP_TOKENS as usize;

/// Tokens read before anything is measured, so that threads, pages and weights are there.
const WARM: usize = 16;

/// Steps of a batch, and the time after which fewer do: on a slow machine the whole must stay a matter of seconds.
const STEPS: usize = 48;
const AT_MOST: Duration = Duration::from_millis(1500);

/// Measures a model; `None` when it was given up for somebody's work.
pub(super) fn run(
    model: &mut Loaded,
    device: &str,
    watch: &Watch,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Benchmark>, EngineError> {
    let limit = step_limit(None, STEP_TOKENS, model.info.text.weights_bytes);
    let context = model.info.context as usize;
    // Nobody else computes, so there is room for a full context.
    let (decoder, pool) = model.decoding()?;
    let mut speed = Speed {
        decoder,
        pool,
        go_on,
    };
    watch.begin("a measurement".to_owned(), limit);
    let measured = measure(&mut speed, context, watch, limit);
    watch.end();
    Ok(
        measured?.map(|(prefill_tokens_per_second, decode)| Benchmark {
            build: BUILD.to_owned(),
            device: device.to_owned(),
            prefill_tokens_per_second,
            decode,
        }),
    )
}

fn measure(
    speed: &mut Speed<'_>,
    room: usize,
    watch: &Watch,
    limit: Duration,
) -> Result<Option<(f64, Vec<BatchRate>)>, EngineError> {
    if speed.prefill(WARM.min(room))?.is_none() {
        return Ok(None);
    }
    watch.begin("a measured prompt".to_owned(), limit);
    let Some(prefill) = speed.prefill(PROMPT.min(room))? else {
        return Ok(None);
    };
    let mut decode = Vec::new();
    for sequences in BATCHES {
        let steps = STEPS.min(room / sequences);
        if steps == 0 {
            break;
        }
        watch.begin("a measured batch".to_owned(), limit.saturating_add(AT_MOST));
        let Some(tokens_per_second) = speed.decode(sequences, 0, steps, AT_MOST)? else {
            return Ok(None);
        };
        decode.push(BatchRate {
            sequences: sequences as u32,
            tokens_per_second,
        });
    }
    Ok(Some((prefill, decode)))
}
