//! SSR-GM1, the canonical sampler and the only one there is.
//!
//! The noise of a token is a pure function of (seed, output index, token id): Gumbel noise out of Philox4x32-10, added to
//! the logits before taking the largest. That samples exactly from the softmax, and anyone who knows the seed and has the
//! logits can check every choice: the noise depends neither on what the filters leave nor on earlier draws.
//!
//! For output index `t` and logits `l` (f32), in this order:
//! 1. biases, penalties and the mask of a grammar ([`adjust`]);
//! 2. the allowed set `A`: the softmax of `l / T` filtered by `top_k`, then `top_p`, then `min_p` ([`filters`]); at
//!    `T = 0` all tokens that the mask leaves. A token whose logit is not a number above −∞ is never in it;
//! 3. `y_v = l_v + T · g(t, v)` with the noise `g` of [`noise`], and the token is the `v` in `A` with the largest `y_v`,
//!    the lowest id among equals.

mod adjust;
mod filters;
mod logprobs;
mod noise;
#[cfg(test)]
mod tests;

use crate::{Sampling, TokenLogprobs};
use adjust::adjusted;
use filters::Allowed;
use noise::Noise;

/// The largest gap that is told: the largest finite f16, in which a fingerprint carries it.
const LARGEST_GAP: f64 = 65_504.0;

/// The tokens that a grammar allows next: a bit for each id, the lowest bit of the first word for id 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask(Vec<u32>);

impl Mask {
    /// A mask of its words.
    pub fn new(words: Vec<u32>) -> Self {
        Self(words)
    }

    /// Whether a token is allowed; one beyond the mask is not.
    pub fn allows(&self, id: u32) -> bool {
        let word = self.0.get(id as usize / 32).copied().unwrap_or(0);
        word >> (id % 32) & 1 == 1
    }
}

/// Where in an answer a token is chosen, and all that the choice depends on beside the logits.
#[derive(Debug, Clone, Copy)]
pub struct Position<'a> {
    /// The ids so far: prompt, then output.
    pub before: &'a [u32],
    /// Output index of the token, counted over the whole answer.
    pub index: u32,
    /// How tokens are chosen.
    pub sampling: &'a Sampling,
    /// What a grammar allows here; `None` for everything.
    pub mask: Option<&'a Mask>,
}

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its id.
    pub id: u32,
    /// How far it lay above the second in `y`, at most 65,504 (also when there was no second).
    pub gap: f32,
    /// The model's own log-probabilities, where they were asked for.
    pub logprobs: Option<TokenLogprobs>,
}

impl Choice {
    /// The fingerprint of the token in a receipt: its raw log-probability and the gap, each as f16 (little-endian). `None`
    /// when log-probabilities were not asked for.
    pub fn fingerprint(&self) -> Option<[u8; 4]> {
        let logprob = half::f16::from_f32(self.logprobs.as_ref()?.logprob).to_le_bytes();
        let gap = half::f16::from_f32(self.gap).to_le_bytes();
        Some([logprob[0], logprob[1], gap[0], gap[1]])
    }
}

/// How a token that somebody else chose fits the logits that were computed here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// By how much its `y` is below the largest of the allowed set: 0 for the very token that would have been chosen here,
    /// +∞ for one that is not allowed.
    pub margin: f32,
    /// Its raw log-probability; −∞ for an id outside the vocabulary.
    pub logprob: f32,
}

impl Position<'_> {
    /// Chooses the next token from `logits` (one per id of the vocabulary). With `top_logprobs` also tells the raw
    /// log-probabilities of the chosen and of that many likeliest tokens. `None` when no allowed logit is a number, or
    /// one is +∞.
    pub fn choose(&self, logits: &[f32], top_logprobs: Option<u32>) -> Option<Choice> {
        let adjusted = adjusted(logits, self);
        let best = self.best(&adjusted, &Allowed::of(&adjusted, self.sampling)?)?;
        Some(Choice {
            id: best.id,
            gap: (best.y - best.second).min(LARGEST_GAP) as f32,
            logprobs: top_logprobs.map(|top| logprobs::of(logits, best.id, top)),
        })
    }

    /// Judges a token that somebody else chose at this position. `tolerance` is how far its logit may lie below the lowest
    /// allowed one, so that a token at the border of a filter is measured and not condemned. `None` as in
    /// [`choose`](Self::choose).
    pub fn margin(&self, logits: &[f32], claimed: u32, tolerance: f32) -> Option<Margin> {
        let adjusted = adjusted(logits, self);
        let allowed = Allowed::of(&adjusted, self.sampling)?;
        let best = self.best(&adjusted, &allowed)?;
        let logit = adjusted
            .get(claimed as usize)
            .copied()
            .filter(|logit| logit.is_finite());
        let near = logit.filter(|&logit| logit >= allowed.lowest(&adjusted) - tolerance);
        let margin = near.map_or(f64::INFINITY, |logit| {
            (best.y - self.noise().add(logit, claimed)).max(0.0)
        });
        Some(Margin {
            margin: margin as f32,
            logprob: logprobs::of_one(logits, claimed),
        })
    }

    fn noise(&self) -> Noise {
        Noise::new(self.sampling.seed, self.index, self.sampling.temperature)
    }

    /// The winner of the allowed set.
    fn best(&self, logits: &[f32], allowed: &Allowed) -> Option<Best> {
        let noise = self.noise();
        let mut best = Best::default();
        match allowed {
            Allowed::Ids(ids) => noise.offer_each(logits, ids.iter().copied(), &mut best),
            Allowed::All => noise.offer_each(logits, 0..logits.len() as u32, &mut best),
        }
        Some(best).filter(|best| best.y.is_finite())
    }
}

/// The largest `y` so far, whose it is, and the second largest.
#[derive(Debug, Clone, Copy)]
struct Best {
    y: f64,
    id: u32,
    second: f64,
}

impl Default for Best {
    fn default() -> Self {
        Self {
            y: f64::NEG_INFINITY,
            id: u32::MAX,
            second: f64::NEG_INFINITY,
        }
    }
}

impl Best {
    fn offer(&mut self, y: f64, id: u32) {
        if y > self.y || (y == self.y && id < self.id) {
            self.second = self.y;
            (self.y, self.id) = (y, id);
        } else if y > self.second {
            self.second = y;
        }
    }
}
