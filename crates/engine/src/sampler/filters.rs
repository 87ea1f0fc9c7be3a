//! The allowed set: the softmax filtered by `top_k`, then `top_p`, then `min_p`.

use std::cmp::Ordering;

use crate::Sampling;

/// Classes of nearly equal logits by which the whole vocabulary is put in order; only the one in which `top_p` is reached
/// is sorted.
const CLASSES: usize = 4096;

/// Logits further below the best than this, in units of the temperature, are one class: together they weigh nothing.
const SPAN: f64 = 40.0;

/// The tokens that may be chosen.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Allowed {
    /// Every one whose logit is a number.
    All,
    /// These.
    Ids(Vec<u32>),
}

impl Allowed {
    /// Filters adjusted logits. `None` when there is no largest finite one.
    pub(super) fn of(logits: &[f32], sampling: &Sampling) -> Option<Self> {
        let best = largest(logits)?;
        let top_k = Some(sampling.top_k as usize).filter(|&k| k > 0 && k < logits.len());
        let filters = top_k.is_some() || sampling.top_p < 1.0 || sampling.min_p > 0.0;
        if sampling.temperature == 0.0 || !filters {
            return Some(Self::All);
        }
        let softmax = Softmax {
            logits,
            best: f64::from(best),
            temperature: f64::from(sampling.temperature),
        };
        let kept = top_k.map(|k| greatest(logits, k));
        let mut ids = match kept {
            Some(ids) if sampling.top_p < 1.0 => softmax.nucleus_of(ids, sampling.top_p),
            Some(ids) => ids,
            None if sampling.top_p < 1.0 => softmax.nucleus(sampling.top_p),
            None => softmax.likely(sampling.min_p),
        };
        if sampling.min_p > 0.0 {
            // The likeliest token has the weight 1.
            ids.retain(|&id| softmax.weight(id) >= f64::from(sampling.min_p));
        }
        Some(Self::Ids(ids))
    }

    /// The lowest logit that is allowed.
    pub(super) fn lowest(&self, logits: &[f32]) -> f32 {
        let finite = |lowest: f32, logit: f32| {
            if logit.is_finite() {
                lowest.min(logit)
            } else {
                lowest
            }
        };
        match self {
            Allowed::All => logits.iter().copied().fold(f32::INFINITY, finite),
            Allowed::Ids(ids) => {
                let allowed = ids.iter().map(|&id| logits[id as usize]);
                allowed.fold(f32::INFINITY, finite)
            }
        }
    }
}

/// Weights relative to the likeliest token's.
struct Softmax<'l> {
    logits: &'l [f32],
    best: f64,
    temperature: f64,
}

impl Softmax<'_> {
    fn weight(&self, id: u32) -> f64 {
        self.weight_of(self.logits[id as usize])
    }

    fn weight_of(&self, logit: f32) -> f64 {
        ((f64::from(logit) - self.best) / self.temperature).exp()
    }

    /// The smallest prefix of `ids`, the likeliest first, whose weights reach the share `top_p` of them all; at least one.
    fn nucleus_of(&self, mut ids: Vec<u32>, top_p: f32) -> Vec<u32> {
        let total: f64 = ids.iter().map(|&id| self.weight(id)).sum();
        let length = self.reach(&ids, f64::from(top_p) * total);
        ids.truncate(length);
        ids
    }

    /// The same of the whole vocabulary, in the order of ids.
    fn nucleus(&self, top_p: f32) -> Vec<u32> {
        let finite = || {
            let numbered = (0u32..).zip(self.logits.iter().copied());
            numbered.filter(|(_, logit)| logit.is_finite())
        };
        let lowest = finite().fold(self.best, |lowest, (_, logit)| lowest.min(f64::from(logit)));
        let span = (self.best - lowest).min(SPAN * self.temperature);
        let scale = (CLASSES - 1) as f64 / span.max(f64::MIN_POSITIVE);
        let class =
            |logit: f32| (((self.best - f64::from(logit)) * scale) as usize).min(CLASSES - 1);
        let mut weights = vec![0.0; CLASSES];
        for (_, logit) in finite() {
            weights[class(logit)] += self.weight_of(logit);
        }
        let mut missing = f64::from(top_p) * weights.iter().sum::<f64>();
        let mut border = 0;
        while border < CLASSES - 1 && weights[border] < missing {
            missing -= weights[border];
            border += 1;
        }
        let mut last: Vec<u32> = finite()
            .filter(|&(_, logit)| class(logit) == border)
            .map(|(id, _)| id)
            .collect();
        last.sort_unstable_by(|a, b| by_rank(self.logits, *a, *b));
        last.truncate(self.reach(&last, missing));
        let reached = |id| {
            let edge = last.last();
            edge.is_some_and(|&edge| by_rank(self.logits, id, edge) != Ordering::Greater)
        };
        finite()
            .filter(|&(id, logit)| match class(logit).cmp(&border) {
                Ordering::Less => true,
                Ordering::Equal => reached(id),
                Ordering::Greater => false,
            })
            .map(|(id, _)| id)
            .collect()
    }

    /// How many of `ids` it takes until their weights sum to `wanted`; at least one, all when rounding keeps them below.
    fn reach(&self, ids: &[u32], wanted: f64) -> usize {
        let mut sum = 0.0;
        let last = ids.iter().position(|&id| {
            sum += self.weight(id);
            sum >= wanted
        });
        last.map_or(ids.len(), |last| last + 1)
    }

    /// Ids that `min_p` may keep: a little more than those it does, found without their weights.
    fn likely(&self, min_p: f32) -> Vec<u32> {
        let floor = self.best + self.temperature * (f64::from(min_p).ln() - 1e-6);
        let ids = (0..).zip(self.logits);
        ids.filter(|(_, logit)| f64::from(**logit) >= floor)
            .map(|(id, _)| id)
            .collect()
    }
}

/// The largest logit; `None` when there is none that is a number above −∞, or it is +∞.
fn largest(logits: &[f32]) -> Option<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    Some(largest).filter(|logit| logit.is_finite())
}

/// The `count` ids with the greatest finite logits, the greatest first, the lowest id among equals.
pub(super) fn greatest(logits: &[f32], count: usize) -> Vec<u32> {
    if count == 0 {
        return Vec::new();
    }
    let mut ids: Vec<u32> = Vec::with_capacity(2 * count.min(logits.len()));
    // Ids come in order, so one whose logit only equals that of the last kept one is behind it.
    let mut floor = f32::NEG_INFINITY;
    for (id, &logit) in (0..).zip(logits) {
        if logit > floor && logit.is_finite() {
            ids.push(id);
            if ids.len() == 2 * count {
                ids.select_nth_unstable_by(count - 1, |a, b| by_rank(logits, *a, *b));
                ids.truncate(count);
                floor = logits[ids[count - 1] as usize];
            }
        }
    }
    ids.sort_unstable_by(|a, b| by_rank(logits, *a, *b));
    ids.truncate(count);
    ids
}

/// The likelier first, the lowest id among equals.
fn by_rank(logits: &[f32], a: u32, b: u32) -> Ordering {
    let by_logit = logits[b as usize].partial_cmp(&logits[a as usize]);
    by_logit.unwrap_or(Ordering::Equal).then(a.cmp(&b))
}
