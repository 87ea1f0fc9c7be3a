//! What memory a load needs, and what context fits into what there is.

use super::weights::Planned;
use crate::cache::Sizes;
use crate::families::Shape;
use crate::scheduler::STEP_ROWS;

/// Context of a load that names none, in tokens: what a chat needs, at a price that most machines can pay.
const DEFAULT_CONTEXT: u32 = 8192;

/// The least context worth loading a model for.
pub(super) const LEAST_CONTEXT: u32 = 512;

/// Full contexts that a model's pages hold where there is memory: answers are seldom that long, so this serves more of them
/// than a step has rows, and leaves memory for other models.
const CONTEXTS: u64 = 8;

/// Rows of an output that are scored in one step: each has a logit for every token of the vocabulary.
pub(super) const SCORE_ROWS: u32 = 64;

/// What a load needs, before a weight is touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// Bytes of weights, scratch and logits.
    fixed: u64,
    /// What pages take.
    pages: Sizes,
    /// The least context that is worth it, in tokens.
    least: u32,
    /// The context that is wanted.
    most: u32,
}

impl Need {
    pub(super) fn of(plan: &Planned, context: Option<u32>) -> Self {
        match plan {
            Planned::Decoder(plan) => {
                let rows = (SCORE_ROWS as usize).max(STEP_ROWS);
                let logits = (rows * plan.vocabulary() * size_of::<f32>()) as u64;
                let fixed = plan.weights_bytes() + plan.shape().scratch_bytes() + logits;
                Self::with_fixed(fixed, plan.shape(), context)
            }
            // A text is computed as a whole and nothing of it is kept; positions beyond the table are none.
            Planned::Encoder(plan) => {
                let context = u32::try_from(plan.shape().context).unwrap_or(u32::MAX);
                Self {
                    fixed: plan.weights_bytes() + plan.shape().scratch_bytes(),
                    pages: Sizes::default(),
                    least: context,
                    most: context,
                }
            }
        }
    }

    /// Bytes that are taken whatever the context.
    pub(super) fn fixed_bytes(self) -> u64 {
        self.fixed
    }

    /// Of a loaded decoder that takes `fixed` bytes beside its pages.
    pub(super) fn with_fixed(fixed: u64, shape: &Shape, context: Option<u32>) -> Self {
        let trained = shape.context_train.max(1);
        let (least, most) = match context {
            Some(wanted) => (wanted.clamp(1, trained), wanted.clamp(1, trained)),
            None => (LEAST_CONTEXT.min(trained), DEFAULT_CONTEXT.min(trained)),
        };
        Self {
            fixed,
            pages: Sizes::of(shape),
            least,
            most,
        }
    }

    fn with(self, context: u32) -> u64 {
        self.fixed.saturating_add(self.pages.promise(context))
    }

    /// Bytes with the context that is wanted.
    pub(super) fn most_bytes(self) -> u64 {
        self.with(self.most)
    }

    /// Bytes with the least context.
    pub(super) fn least_bytes(self) -> u64 {
        self.with(self.least)
    }

    /// The context that fits into so many bytes, and the bytes of pages; `None` when the least does not.
    pub(super) fn fit(self, have: u64) -> Option<(u32, u64)> {
        if self.least_bytes() > have {
            return None;
        }
        let mut context = self.most;
        while self.with(context) > have {
            context = (context / 2).max(self.least);
        }
        let one = self.with(context) - self.fixed;
        Some((
            context,
            (have - self.fixed).min(one.saturating_mul(CONTEXTS)),
        ))
    }
}
