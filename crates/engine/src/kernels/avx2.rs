//! AVX2, with or without integer dot products: a strip is two vectors.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::isa::Isa;
use super::strips::{Formatted, Work, strips};

/// `VNNI`: with the 256-bit integer dot product.
#[derive(Debug)]
pub(super) struct Avx2<const VNNI: bool>;

/// # Safety
///
/// The processor has the instructions; and see [`strips`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<F: Formatted>(work: &Work) {
    // SAFETY: the caller's promises.
    unsafe { strips::<Avx2<false>, F>(work) }
}

/// # Safety
///
/// The processor has the instructions; and see [`strips`].
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(super) unsafe fn run_vnni<F: Formatted>(work: &Work) {
    // SAFETY: the caller's promises.
    unsafe { strips::<Avx2<true>, F>(work) }
}

// SAFETY (of every block below): instructions that the trait's contract says are there, on pointers that it says are
// readable.
unsafe impl<const VNNI: bool> Isa for Avx2<VNNI> {
    const LANES: usize = 8;
    const ROWS: usize = 8;
    type Int = __m256i;
    type Float = __m256;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn field(from: __m256i, shift: i32, mask: u8) -> __m256i {
        unsafe {
            let count = _mm_cvtsi32_si128(shift.abs());
            let shifted = if shift < 0 {
                _mm256_sll_epi16(from, count)
            } else {
                _mm256_srl_epi16(from, count)
            };
            _mm256_and_si256(shifted, _mm256_set1_epi8(mask.cast_signed()))
        }
    }

    #[inline(always)]
    unsafe fn or(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_or_si256(a, b) }
    }

    #[inline(always)]
    unsafe fn dot<const N: usize, const OFFSET: u32>(
        bits: usize,
        weights: [__m256i; N],
        activations: *const i8,
        minus: i32,
    ) -> __m256i {
        // Pairs of products that fit 16 bits, added up: each is at most 2 · 127 · (2^bits − 1). Eight bits are made signed
        // first, and a pair is at most 2 · 127 · 128.
        let together = match bits {
            8 => 1,
            6 => 2,
            5 => 4,
            _ => 8,
        };
        unsafe {
            let mut sum = if OFFSET == 0 || bits == 8 && !VNNI {
                _mm256_setzero_si256()
            } else {
                _mm256_sll_epi32(_mm256_set1_epi32(minus), _mm_cvtsi32_si128(OFFSET as i32))
            };
            let four =
                |at: usize| _mm256_set1_epi32(activations.cast::<i32>().add(at).read_unaligned());
            if VNNI {
                for (at, weights) in weights.into_iter().enumerate() {
                    sum = _mm256_dpbusd_avx_epi32(sum, weights, four(at));
                }
                return sum;
            }
            let mut pairs = _mm256_setzero_si256();
            for (at, weights) in weights.into_iter().enumerate() {
                let products = if bits == 8 {
                    let signed = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
                    _mm256_maddubs_epi16(
                        _mm256_abs_epi8(signed),
                        _mm256_sign_epi8(four(at), signed),
                    )
                } else {
                    _mm256_maddubs_epi16(weights, four(at))
                };
                pairs = _mm256_add_epi16(pairs, products);
                if (at + 1).is_multiple_of(together) || at + 1 == N {
                    let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                    sum = _mm256_add_epi32(sum, fours);
                    pairs = _mm256_setzero_si256();
                }
            }
            sum
        }
    }

    #[inline(always)]
    unsafe fn float(from: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(from) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> __m256 {
        unsafe { _mm256_loadu_ps(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> __m256 {
        unsafe {
            let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m256) {
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
}
