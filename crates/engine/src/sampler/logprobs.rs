//! Raw log-probabilities: of the model's own distribution, at temperature 1 and before biases, penalties and filters.

use super::filters::greatest;
use crate::{MAX_LOGPROBS, TokenLogprobs};

/// Those of the chosen token and of the `top` likeliest ones (at most [`MAX_LOGPROBS`]).
pub(super) fn of(logits: &[f32], chosen: u32, top: u32) -> TokenLogprobs {
    let normaliser = Normaliser::of(logits);
    let top = greatest(logits, top.min(MAX_LOGPROBS) as usize);
    TokenLogprobs {
        logprob: normaliser.logprob(logits, chosen),
        top: top
            .into_iter()
            .map(|id| (id, normaliser.logprob(logits, id)))
            .collect(),
    }
}

/// The raw log-probability of one token; −∞ for an id outside the vocabulary.
pub(super) fn of_one(logits: &[f32], id: u32) -> f32 {
    Normaliser::of(logits).logprob(logits, id)
}

/// The logarithm of the sum of all exponentials.
struct Normaliser(f64);

impl Normaliser {
    /// Sums in f64 in the order of ids; NaN counts as nothing.
    fn of(logits: &[f32]) -> Self {
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let numbers = logits.iter().filter(|logit| !logit.is_nan());
        let sum: f64 = numbers
            .map(|&logit| (f64::from(logit) - largest).exp())
            .sum();
        Self(largest + sum.ln())
    }

    fn logprob(&self, logits: &[f32], id: u32) -> f32 {
        let logit = logits.get(id as usize).copied();
        logit.map_or(f32::NEG_INFINITY, |logit| {
            (f64::from(logit) - self.0) as f32
        })
    }
}
