//! What a step spends its time in, by the instructions of the processor at hand.
//!
//! The same numbers come out whichever set computes them, bit for bit: integers are exact, and floats are computed lane
//! by lane in one order. [`set`] is the fastest set of this processor.
//!
//! A [`Matrix`] is a tensor's weights, packed; [`Activations`] are rows, rounded once for all the matrices that they are
//! multiplied with. [`vectorised`] compiles other loops for every set.

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod check;
mod format;
mod isa;
mod matrix;
mod memory;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod set;
mod strips;

use std::sync::OnceLock;

use half::{bf16, f16};

pub(crate) use activations::Activations;
pub(crate) use check::Selection;
pub(crate) use format::Format;
pub(crate) use matrix::{Matrix, PackError, Product, multiply, multiply_all, row, row_length};
pub(crate) use memory::Store;
pub(crate) use set::{Emulated, Fused, Level, MulAdd, Set, vectorised};
use strips::{
    Bytes, Factors, FactorsAndMins, FiveBits, Floats, Formatted, HalfFactorsAndMins, Integers,
    Nibbles, SixBits, Step, StepAndMin, ThreeBits, TwoBits, Work,
};

/// The set that this process computes with.
pub(crate) fn set() -> Set {
    select().set
}

/// What this process computes with: chosen at the first call, after every set was asked what is known already.
pub(crate) fn select() -> &'static Selection {
    static CHOSEN: OnceLock<Selection> = OnceLock::new();
    CHOSEN.get_or_init(Selection::new)
}

/// Computes a work of that format.
///
/// # Safety
///
/// As for [`strips::strips`]; the instructions are there, since the set is.
#[allow(unsafe_code)]
unsafe fn dispatch(set: Set, format: Format, work: &Work) {
    // SAFETY: the caller's promises.
    unsafe {
        match format {
            Format::F32 => run::<Floats<f32>>(set, work),
            Format::F16 => run::<Floats<f16>>(set, work),
            Format::BF16 => run::<Floats<bf16>>(set, work),
            Format::Q4_0 => run::<Integers<Nibbles, Step, 3>>(set, work),
            Format::Q4_1 => run::<Integers<Nibbles, StepAndMin, 0>>(set, work),
            Format::Q5_0 => run::<Integers<FiveBits, Step, 4>>(set, work),
            Format::Q5_1 => run::<Integers<FiveBits, StepAndMin, 0>>(set, work),
            Format::Q8_0 => run::<Integers<Bytes, Step, 7>>(set, work),
            Format::Q2K => run::<Integers<TwoBits, HalfFactorsAndMins, 0>>(set, work),
            Format::Q3K => run::<Integers<ThreeBits, Factors, 2>>(set, work),
            Format::Q4K => run::<Integers<Nibbles, FactorsAndMins, 0>>(set, work),
            Format::Q5K => run::<Integers<FiveBits, FactorsAndMins, 0>>(set, work),
            Format::Q6K => run::<Integers<SixBits, Factors, 5>>(set, work),
        }
    }
}

/// # Safety
///
/// As for [`dispatch`].
#[allow(unsafe_code)]
unsafe fn run<F: Formatted>(set: Set, work: &Work) {
    // SAFETY: the caller's promises.
    unsafe {
        match set.level() {
            Level::Portable => portable::run::<F>(work),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::run::<F>(work),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => avx2::run_vnni::<F>(work),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512::run::<F>(work),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => neon::run::<F>(work),
            #[cfg(target_arch = "aarch64")]
            Level::NeonDot => neon::run_dot::<F>(work),
        }
    }
}

#[cfg(test)]
mod tests;
