//! Qwen 2 and 2.5, and DeepSeek's distillations into them: biases on the projections into attention, and heads rotated
//! by halves.

use super::{Family, RopePairs};

pub(super) const FAMILY: Family = Family {
    rope_pairs: RopePairs::Halves,
    qkv_bias: true,
};
