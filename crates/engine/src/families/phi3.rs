//! Phi 3, 3.5 and 4: tensors of attention and gate in one piece each, every layer with a window where the file names one.

use super::{Family, PLAIN, Windows};

pub(super) const FAMILY: Family = Family {
    fused: true,
    windows: Windows::All,
    ..PLAIN
};
