//! Sixteen floats side by side, by the instructions of a set: what the innermost loops of attention are written in, since
//! their sums must stay in registers.

use crate::kernels::{Emulated, MulAdd as _};

/// Floats of a vector.
pub(super) const LANES: usize = 16;

/// Vectors of [`LANES`] floats.
///
/// # Safety
///
/// Functions may be called only on a processor that has the instructions, and only from a function compiled with them (all
/// are inlined into it). Pointers must be readable, or writable, for a vector; none needs alignment.
#[allow(unsafe_code)]
pub(super) unsafe trait Lanes {
    /// A vector.
    type Vector: Copy;

    /// Zeros.
    unsafe fn zero() -> Self::Vector;
    /// Reads a vector.
    unsafe fn load(from: *const f32) -> Self::Vector;
    /// Writes a vector.
    unsafe fn store(to: *mut f32, vector: Self::Vector);
    /// `a · b + c` in every lane, rounded once.
    unsafe fn mul_add(a: f32, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// Tells the memory that a vector will be read soon. Any address is allowed.
    unsafe fn prefetch(from: *const f32);
}

/// What every processor has.
pub(super) struct Plain;

// SAFETY: needs no instructions of its own.
#[allow(unsafe_code)]
unsafe impl Lanes for Plain {
    type Vector = [f32; LANES];

    #[inline(always)]
    unsafe fn zero() -> [f32; LANES] {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; LANES] {
        // SAFETY: readable, says the caller.
        unsafe { from.cast::<[f32; LANES]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, vector: [f32; LANES]) {
        // SAFETY: writable, says the caller.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(vector) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: f32, b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|lane| Emulated::mul_add(a, b[lane], c[lane]))
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    /// AVX2 with FMA: two registers a vector.
    pub(in super::super) struct Avx2;

    // SAFETY: as the trait demands, these are called where the instructions are.
    #[allow(unsafe_code)]
    unsafe impl Lanes for Avx2 {
        type Vector = [__m256; 2];

        #[inline(always)]
        unsafe fn zero() -> [__m256; 2] {
            // SAFETY: the instructions are there, says the caller; so below.
            unsafe { [_mm256_setzero_ps(); 2] }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> [__m256; 2] {
            // SAFETY: as above, and readable.
            unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: [__m256; 2]) {
            // SAFETY: as above, and writable.
            unsafe {
                _mm256_storeu_ps(to, vector[0]);
                _mm256_storeu_ps(to.add(8), vector[1]);
            }
        }

        #[inline(always)]
        unsafe fn mul_add(a: f32, b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: as above.
            unsafe {
                let a = _mm256_set1_ps(a);
                [
                    _mm256_fmadd_ps(a, b[0], c[0]),
                    _mm256_fmadd_ps(a, b[1], c[1]),
                ]
            }
        }

        #[inline(always)]
        unsafe fn prefetch(from: *const f32) {
            // SAFETY: as above; it reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
        }
    }

    /// AVX-512: one register a vector.
    pub(in super::super) struct Avx512;

    // SAFETY: as the trait demands, these are called where the instructions are.
    #[allow(unsafe_code)]
    unsafe impl Lanes for Avx512 {
        type Vector = __m512;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            // SAFETY: the instructions are there, says the caller; so below.
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            // SAFETY: as above, and readable.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: __m512) {
            // SAFETY: as above, and writable.
            unsafe { _mm512_storeu_ps(to, vector) }
        }

        #[inline(always)]
        unsafe fn mul_add(a: f32, b: __m512, c: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_fmadd_ps(_mm512_set1_ps(a), b, c) }
        }

        #[inline(always)]
        unsafe fn prefetch(from: *const f32) {
            // SAFETY: as above; it reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
        }
    }
}
