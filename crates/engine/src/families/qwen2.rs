//! Qwen 2 and 2.5, and DeepSeek's distillations into them: biases on the projections into attention.

use super::{Family, PLAIN};

pub(super) const FAMILY: Family = Family {
    qkv_bias: true,
    ..PLAIN
};
