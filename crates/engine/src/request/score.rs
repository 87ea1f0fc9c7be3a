//! Judging what somebody else says this model produced.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Asker, Class, Sampling, check_asker, within};
use crate::EngineError;

/// An answer to be judged: one pass over prompt and output in which the model sees at every place the tokens that were
/// claimed before it. On the instruction set that produced it, every number is bit for bit the one it was chosen by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreRequest {
    /// The model file; loaded when it is not yet.
    pub file: PathBuf,
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// The ids that are said to be its answer, from output index 0 on.
    pub output: Vec<u32>,
    /// How they are said to have been chosen, seed included.
    pub sampling: Sampling,
    /// How far below the lowest logit that the filters leave a token may lie and still be measured: filters flip with the
    /// last bit of a logit, which differs between kinds of machines.
    pub tolerance: f32,
    /// Whose work it is.
    pub class: Class,
    /// Who asks.
    pub asker: Asker,
}

impl ScoreRequest {
    /// A check of the owner's, in the last class, of a greedy answer.
    pub fn new(file: impl AsRef<Path>, prompt: Vec<u32>, output: Vec<u32>) -> Self {
        Self {
            file: file.as_ref().to_owned(),
            prompt,
            output,
            sampling: Sampling::default(),
            tolerance: 0.0,
            class: Class::Audit,
            asker: Asker::Owner,
        }
    }

    /// Refuses what cannot be judged.
    pub fn check(&self) -> Result<(), EngineError> {
        if self.prompt.is_empty() || self.output.is_empty() {
            return Err(EngineError::BadRequest {
                what: "an empty prompt or an empty output to score".to_owned(),
            });
        }
        within("tolerance", self.tolerance, 0.0, 1e6)?;
        check_asker(self.class, &self.asker, 1)?;
        self.sampling.check()
    }
}

/// What a token of an output is found to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TokenScore {
    /// Natural logarithm of its probability: of the raw logits, at temperature 1, before any filter.
    pub logprob: f32,
    /// How many tokens the model held likelier, before noise and filters.
    pub rank: u32,
    /// By how much the sampler's value of it is below the value of the token that the sampler takes here: 0 for that very
    /// token. `None` where the filters leave no room for it, by more than the tolerance.
    pub margin: Option<f32>,
}
