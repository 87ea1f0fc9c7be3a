//! Qwen 3, the mixtures of experts.

use super::{Family, qwen3};

pub(super) const FAMILY: Family = Family {
    experts: true,
    ..qwen3::FAMILY
};
