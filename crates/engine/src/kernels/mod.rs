//! What a step spends its time in, by the instructions of the processor at hand.
//!
//! The same numbers come out whichever set computes them, bit for bit: integers are exact, and floats are computed lane
//! by lane in one order. [`set`] is the fastest set of this processor.

mod set;

use std::sync::OnceLock;

pub(crate) use set::{Emulated, Fused, Level, MulAdd, Set, vectorised};

/// The set that this process computes with.
pub(crate) fn set() -> Set {
    static CHOSEN: OnceLock<Set> = OnceLock::new();
    *CHOSEN.get_or_init(|| Set::available().pop().unwrap_or(Set::PORTABLE))
}
