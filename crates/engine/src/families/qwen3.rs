//! Qwen 3, the dense models: every head of queries and keys is normalised before it is rotated.

use super::{Family, PLAIN};

pub(super) const FAMILY: Family = Family {
    head_norms: true,
    ..PLAIN
};
