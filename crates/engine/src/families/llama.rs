//! Llama and what was trained in its shape under the same architecture name: SmolLM2, Mistral, Yi, DeepSeek's first
//! models and its distillations into Llama.

use super::{Family, PLAIN, RopePairs};

pub(super) const FAMILY: Family = Family {
    rope_pairs: RopePairs::Neighbours,
    ..PLAIN
};
