//! What happens to the logits before anything is sampled: biases, penalties, the mask.

use std::borrow::Cow;

use super::{Mask, Position};
use crate::Sampling;

/// How many of the last ids (prompt and output) the penalties look at.
const PENALTY_WINDOW: usize = 256;

/// The logits with biases, penalties and mask applied, in this order, in f32. Biases and penalties of ids outside the
/// vocabulary are ignored.
pub(super) fn adjusted<'l>(logits: &'l [f32], position: &Position<'_>) -> Cow<'l, [f32]> {
    let mut logits = Cow::Borrowed(logits);
    if !position.sampling.logit_bias.is_empty() {
        bias(logits.to_mut(), &position.sampling.logit_bias);
    }
    if penalises(position.sampling) {
        penalise(logits.to_mut(), position.before, position.sampling);
    }
    if let Some(allowed) = position.mask {
        mask(logits.to_mut(), allowed);
    }
    logits
}

fn bias(logits: &mut [f32], biases: &[(u32, f32)]) {
    for &(id, bias) in biases {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit += bias;
        }
    }
}

fn penalises(sampling: &Sampling) -> bool {
    sampling.repeat_penalty != 1.0
        || sampling.presence_penalty != 0.0
        || sampling.frequency_penalty != 0.0
}

/// Once for each distinct id of the window: positive logits are divided and others multiplied by the repetition penalty,
/// then the presence penalty is subtracted, then the frequency penalty times the id's count.
fn penalise(logits: &mut [f32], before: &[u32], sampling: &Sampling) {
    let mut window = before[before.len().saturating_sub(PENALTY_WINDOW)..].to_vec();
    window.sort_unstable();
    for same in window.chunk_by(|a, b| a == b) {
        if let Some(logit) = logits.get_mut(same[0] as usize) {
            let repeated = if *logit > 0.0 {
                *logit / sampling.repeat_penalty
            } else {
                *logit * sampling.repeat_penalty
            };
            let count = same.len() as f32;
            *logit = repeated - sampling.presence_penalty - sampling.frequency_penalty * count;
        }
    }
}

fn mask(logits: &mut [f32], mask: &Mask) {
    for (id, logit) in (0..).zip(logits) {
        if !mask.allows(id) {
            *logit = f32::NEG_INFINITY;
        }
    }
}
