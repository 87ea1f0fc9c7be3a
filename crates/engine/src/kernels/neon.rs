//! NEON, with or without integer dot products: a strip is four vectors.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::isa::Isa;
use super::strips::{Formatted, Work, strips};

/// `DOT`: with the dot product of four bytes a lane.
#[derive(Debug)]
pub(super) struct Neon<const DOT: bool>;

/// # Safety
///
/// The processor has the instructions; and see [`strips`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn run<F: Formatted>(work: &Work) {
    // SAFETY: the caller's promises.
    unsafe { strips::<Neon<false>, F>(work) }
}

/// # Safety
///
/// The processor has the instructions; and see [`strips`].
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn run_dot<F: Formatted>(work: &Work) {
    // SAFETY: the caller's promises.
    unsafe { strips::<Neon<true>, F>(work) }
}

// SAFETY (of every block below): instructions that the trait's contract says are there, on pointers that it says are
// readable.
unsafe impl<const DOT: bool> Isa for Neon<DOT> {
    const LANES: usize = 4;
    const ROWS: usize = 8;
    type Int = uint8x16_t;
    type Float = float32x4_t;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> uint8x16_t {
        unsafe { vld1q_u8(from) }
    }

    #[inline(always)]
    unsafe fn field(from: uint8x16_t, shift: i32, mask: u8) -> uint8x16_t {
        unsafe { vandq_u8(vshlq_u8(from, vdupq_n_s8(-shift as i8)), vdupq_n_u8(mask)) }
    }

    #[inline(always)]
    unsafe fn or(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        unsafe { vorrq_u8(a, b) }
    }

    #[inline(always)]
    unsafe fn dot<const N: usize, const OFFSET: u32>(
        bits: usize,
        weights: [uint8x16_t; N],
        activations: *const i8,
        minus: i32,
    ) -> uint8x16_t {
        unsafe {
            // Eight bits are made signed, which takes 128 off; fewer are positive as signed bytes too.
            let taken_off = bits == 8;
            let mut sum = vdupq_n_s32(if OFFSET == 0 || taken_off {
                0
            } else {
                minus << OFFSET
            });
            let mut signed = [vdupq_n_s8(0); N];
            for (signed, weights) in signed.iter_mut().zip(weights) {
                let flipped = if taken_off { 0x80 } else { 0 };
                *signed = vreinterpretq_s8_u8(veorq_u8(weights, vdupq_n_u8(flipped)));
            }
            if DOT {
                for (at, four) in signed.as_chunks().0.iter().enumerate() {
                    sum = dot_of_four(sum, four, vld1q_s8(activations.add(16 * at)));
                }
            } else {
                sum = vaddq_s32(sum, dot_by_products(bits, signed, activations));
            }
            vreinterpretq_u8_s32(sum)
        }
    }

    #[inline(always)]
    unsafe fn float(from: uint8x16_t) -> float32x4_t {
        unsafe { vcvtq_f32_s32(vreinterpretq_s32_u8(from)) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> float32x4_t {
        unsafe { vreinterpretq_f32_u8(vld1q_u8(from)) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> float32x4_t {
        unsafe { vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(from))) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> float32x4_t {
        unsafe {
            let halves = vmovl_u16(vreinterpret_u16_u8(vld1_u8(from)));
            vreinterpretq_f32_u32(vshlq_n_u32::<16>(halves))
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> float32x4_t {
        unsafe {
            let bytes = vreinterpret_s8_u32(vdup_n_u32(from.cast::<u32>().read_unaligned()));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
        }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: float32x4_t) {
        unsafe { vst1q_f32(to, value) }
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        // The intrinsic is not stable.
        unsafe {
            asm!("prfm pldl1keep, [{}]", in(reg) from, options(readonly, nostack, preserves_flags));
        }
    }
}

/// Adds to each lane the products of its weights in four vectors with sixteen inputs.
///
/// # Safety
///
/// The processor has the dot product, and the caller is compiled with it.
#[inline(always)]
unsafe fn dot_of_four(
    mut sum: int32x4_t,
    weights: &[int8x16_t; 4],
    inputs: int8x16_t,
) -> int32x4_t {
    let [a, b, c, d] = *weights;
    // The intrinsic is not stable. In one piece, since loops around many pieces are not unrolled.
    // SAFETY: registers alone are touched; the instruction is there, says the caller.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {inputs:v}.4b[0]",
            "sdot {sum:v}.4s, {b:v}.16b, {inputs:v}.4b[1]",
            "sdot {sum:v}.4s, {c:v}.16b, {inputs:v}.4b[2]",
            "sdot {sum:v}.4s, {d:v}.16b, {inputs:v}.4b[3]",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            c = in(vreg) c,
            d = in(vreg) d,
            inputs = in(vreg) inputs,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Per lane the products of its four weights a vector with four inputs each, summed, for processors without the dot
/// product.
///
/// # Safety
///
/// See [`Isa`].
#[inline(always)]
unsafe fn dot_by_products<const N: usize>(
    bits: usize,
    weights: [int8x16_t; N],
    activations: *const i8,
) -> int32x4_t {
    // Products whose sum fits 16 bits: each is at most 127 · (2^bits − 1), and of eight bits, which are signed, 127 · 128.
    let together = match bits {
        8 => 2,
        6 => 4,
        _ => 8,
    };
    // SAFETY: the caller's promises.
    unsafe {
        let mut sum = vdupq_n_s32(0);
        let mut halves = [vdupq_n_s16(0); 2];
        for (at, weights) in weights.into_iter().enumerate() {
            let four = vdupq_n_s32(activations.cast::<i32>().add(at).read_unaligned());
            let four = vreinterpretq_s8_s32(four);
            halves[0] = vmlal_s8(halves[0], vget_low_s8(weights), vget_low_s8(four));
            halves[1] = vmlal_high_s8(halves[1], weights, four);
            if (at + 1).is_multiple_of(together) || at + 1 == N {
                let pairs = [vpaddlq_s16(halves[0]), vpaddlq_s16(halves[1])];
                sum = vaddq_s32(sum, vpaddq_s32(pairs[0], pairs[1]));
                halves = [vdupq_n_s16(0); 2];
            }
        }
        sum
    }
}
