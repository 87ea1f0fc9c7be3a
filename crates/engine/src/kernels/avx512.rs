//! AVX-512 with integer dot products: a strip is a vector.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::isa::Isa;
use super::strips::{Formatted, Work, strips};

#[derive(Debug)]
pub(super) struct Avx512;

/// # Safety
///
/// The processor has the instructions; and see [`strips`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn run<F: Formatted>(work: &Work) {
    // SAFETY: the caller's promises.
    unsafe { strips::<Avx512, F>(work) }
}

// SAFETY (of every block below): instructions that the trait's contract says are there, on pointers that it says are
// readable.
unsafe impl Isa for Avx512 {
    const LANES: usize = 16;
    const ROWS: usize = 8;
    type Int = __m512i;
    type Float = __m512;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn field(from: __m512i, shift: i32, mask: u8) -> __m512i {
        unsafe {
            let count = _mm_cvtsi32_si128(shift.abs());
            let shifted = if shift < 0 {
                _mm512_sll_epi16(from, count)
            } else {
                _mm512_srl_epi16(from, count)
            };
            _mm512_and_si512(shifted, _mm512_set1_epi8(mask.cast_signed()))
        }
    }

    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn dot<const N: usize, const OFFSET: u32>(
        _: usize,
        weights: [__m512i; N],
        activations: *const i8,
        minus: i32,
    ) -> __m512i {
        unsafe {
            let mut sum = if OFFSET == 0 {
                _mm512_setzero_si512()
            } else {
                _mm512_slli_epi32::<OFFSET>(_mm512_set1_epi32(minus))
            };
            for (at, weights) in weights.into_iter().enumerate() {
                let four = activations.cast::<i32>().add(at).read_unaligned();
                sum = _mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(four));
            }
            sum
        }
    }

    #[inline(always)]
    unsafe fn float(from: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(from) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> __m512 {
        unsafe { _mm512_loadu_ps(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> __m512 {
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m512) {
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
}
