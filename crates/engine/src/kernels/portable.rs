//! Plain Rust, for processors without a set of their own. The definition that the others are held against.
#![allow(unsafe_code)]

use half::{bf16, f16};

use super::isa::Isa;
use super::set::{Emulated, MulAdd as _};
use super::strips::{Formatted, Work, strips};

#[derive(Debug)]
pub(super) struct Portable;

/// # Safety
///
/// See [`strips`].
pub(super) unsafe fn run<F: Formatted>(work: &Work) {
    // SAFETY: the caller's promises; there are no special instructions.
    unsafe { strips::<Portable, F>(work) }
}

/// Lanes of a vector here, as wide as what every 64-bit processor has.
const LANES: usize = 4;

// SAFETY (of every block below): pointers that the trait's contract says are readable.
unsafe impl Isa for Portable {
    const LANES: usize = LANES;
    const ROWS: usize = 4;
    type Int = [u8; 4 * LANES];
    type Float = [f32; LANES];

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Int {
        unsafe { from.cast::<Self::Int>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn field(from: Self::Int, shift: i32, mask: u8) -> Self::Int {
        from.map(|byte| {
            let shifted = if shift < 0 {
                byte << -shift
            } else {
                byte >> shift
            };
            shifted & mask
        })
    }

    #[inline(always)]
    unsafe fn or(a: Self::Int, b: Self::Int) -> Self::Int {
        std::array::from_fn(|at| a[at] | b[at])
    }

    #[inline(always)]
    unsafe fn dot<const N: usize, const OFFSET: u32>(
        _: usize,
        weights: [Self::Int; N],
        activations: *const i8,
        minus: i32,
    ) -> Self::Int {
        let mut sums = [if OFFSET == 0 { 0 } else { minus << OFFSET }; LANES];
        for (at, weights) in weights.iter().enumerate() {
            let four = unsafe { activations.add(4 * at).cast::<[i8; 4]>().read_unaligned() };
            for (lane, sum) in sums.iter_mut().enumerate() {
                for (input, activation) in four.iter().enumerate() {
                    *sum += i32::from(weights[4 * lane + input]) * i32::from(*activation);
                }
            }
        }
        let mut out = [0; 4 * LANES];
        for (out, sum) in out.as_chunks_mut().0.iter_mut().zip(sums) {
            *out = sum.to_ne_bytes();
        }
        out
    }

    #[inline(always)]
    unsafe fn float(from: Self::Int) -> Self::Float {
        let (lanes, _) = from.as_chunks();
        std::array::from_fn(|lane| i32::from_ne_bytes(lanes[lane]) as f32)
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::Float {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float {
        std::array::from_fn(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    unsafe fn mul_add(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float {
        std::array::from_fn(|lane| Emulated::mul_add(a[lane], b[lane], c[lane]))
    }

    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> Self::Float {
        unsafe { from.cast::<Self::Float>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self::Float {
        unsafe {
            from.cast::<[f16; LANES]>()
                .read_unaligned()
                .map(f16::to_f32)
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self::Float {
        unsafe {
            from.cast::<[bf16; LANES]>()
                .read_unaligned()
                .map(bf16::to_f32)
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self::Float {
        unsafe { from.cast::<[i8; LANES]>().read_unaligned().map(f32::from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: Self::Float) {
        unsafe { to.cast::<Self::Float>().write_unaligned(value) }
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
}
