//! Which instructions to compute with, found at run time, and the macro that compiles plain loops for each of them.

use std::fmt;

/// An instruction set that this processor has. There is no way to make one for instructions that are missing, so code
/// that is compiled for a set may be called with a value of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Set(Level);

/// The instruction sets with code of their own, by rising speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Level {
    /// What every processor of this build's target has.
    Portable,
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The same with integer dot products of 256 bits.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 (F, BW, DQ, VL) with integer dot products.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// The same with integer dot products.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

impl Set {
    /// The set that every processor has.
    pub(crate) const PORTABLE: Self = Self(Level::Portable);

    /// All sets of this processor, the fastest last.
    pub(crate) fn available() -> Vec<Self> {
        let mut sets = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") {
                sets.push(Self(Level::Avx2));
                if has!("avxvnni") {
                    sets.push(Self(Level::AvxVnni));
                }
                if has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512dq")
                    && has!("avx512vl")
                    && has!("avx512vnni")
                {
                    sets.push(Self(Level::Avx512));
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected as has;
            if has!("neon") {
                sets.push(Self(Level::Neon));
                if has!("dotprod") {
                    sets.push(Self(Level::NeonDot));
                }
            }
        }
        sets
    }

    /// Which one it is.
    pub(crate) fn level(self) -> Level {
        self.0
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => "AVX2 with VNNI",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "AVX-512 with VNNI",
            #[cfg(target_arch = "aarch64")]
            Level::Neon => "NEON",
            #[cfg(target_arch = "aarch64")]
            Level::NeonDot => "NEON with dot products",
        })
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `a · b + c` with one rounding, by the means of an instruction set.
pub(crate) trait MulAdd {
    /// `a · b + c`, rounded once.
    fn mul_add(a: f32, b: f32, c: f32) -> f32;
}

/// For code that is compiled with fused instructions.
#[derive(Debug)]
pub(crate) struct Fused;

impl MulAdd for Fused {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// For code that must do without: the same numbers, some ten times slower. (`f32::mul_add` would be a library call here,
/// which no loop around it survives as vector code.)
#[derive(Debug)]
pub(crate) struct Emulated;

impl MulAdd for Emulated {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            return a.mul_add(b, c);
        }
        // The product of two 24-bit significands is exact in 53 bits. The sum is rounded to odd (Boldo and Melquiond,
        // "Emulation of a FMA and correctly rounded sums", 2008): so rounding it again, to 24 bits, is rounding once.
        let product = f64::from(a) * f64::from(b);
        let addend = f64::from(c);
        let sum = product + addend;
        let addend_part = sum - product;
        let error = (product - (sum - addend_part)) + (addend - addend_part);
        let bits = sum.to_bits();
        let outward = (error > 0.0) == (sum > 0.0);
        let odd = if outward {
            bits | 1
        } else {
            bits.wrapping_sub(1) | 1
        };
        let inexact = error != 0.0 && sum.is_finite() && bits & 1 == 0;
        f64::from_bits(if inexact { odd } else { bits }) as f32
    }
}

/// Compiles a function for every instruction set. The function gets a first argument `set: Set`, which chooses.
///
/// The body is plain Rust; loops in it become vector code where their iterations do not depend on each other (floating
/// sums must be split over lanes by hand). `S::mul_add(a, b, c)` is the fused multiply-add of the set at hand. Since
/// nothing is reordered by the compiler, the numbers are the same in every set, bit for bit. Functions called by the body
/// must be `#[inline(always)]`, or they are compiled for the slowest set; `impl MulAdd` is how they get at `mul_add`.
///
/// ```ignore
/// vectorised! {
///     /// Adds `factor · values` to `sums`.
///     pub(crate) fn add_scaled(sums: &mut [f32], values: &[f32], factor: f32) {
///         for (sum, value) in sums.iter_mut().zip(values) {
///             *sum = S::mul_add(factor, *value, *sum);
///         }
///     }
/// }
/// add_scaled(kernels::set(), &mut sums, &values, 0.5);
/// ```
///
/// Constant parameters are allowed: `fn scores<const N: usize>(…)`.
macro_rules! vectorised {
    (
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident $(<$(const $constant:ident: $kind:ty),+>)?
            ($($argument:ident: $type:ty),* $(,)?) $(-> $output:ty)? $body:block
    ) => {
        $(#[$attribute])*
        $visibility fn $name $(<$(const $constant: $kind),+>)?
            (set: $crate::kernels::Set, $($argument: $type),*) $(-> $output)?
        {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, clippy::extra_unused_type_parameters)]
            fn body<S: $crate::kernels::MulAdd $($(, const $constant: $kind)+)?>
                ($($argument: $type),*) $(-> $output)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            fn avx2 $(<$(const $constant: $kind),+>)? ($($argument: $type),*) $(-> $output)? {
                body::<$crate::kernels::Fused $($(, $constant)+)?>($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            fn avx512 $(<$(const $constant: $kind),+>)? ($($argument: $type),*) $(-> $output)? {
                body::<$crate::kernels::Fused $($(, $constant)+)?>($($argument),*)
            }

            match set.level() {
                $crate::kernels::Level::Portable => {
                    body::<$crate::kernels::Emulated $($(, $constant)+)?>($($argument),*)
                }
                // SAFETY: a set exists only where the processor has its instructions.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                $crate::kernels::Level::Avx2 | $crate::kernels::Level::AvxVnni => unsafe {
                    avx2 $(::<$($constant),+>)? ($($argument),*)
                },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                $crate::kernels::Level::Avx512 => unsafe {
                    avx512 $(::<$($constant),+>)? ($($argument),*)
                },
                // What every processor of this target has is what these loops are compiled to anyway.
                #[cfg(target_arch = "aarch64")]
                $crate::kernels::Level::Neon | $crate::kernels::Level::NeonDot => {
                    body::<$crate::kernels::Fused $($(, $constant)+)?>($($argument),*)
                }
            }
        }
    };
}

pub(crate) use vectorised;

#[cfg(test)]
mod tests {
    use super::*;

    vectorised! {
        fn weighted<const N: usize>(values: &[f32; N], weights: &[f32; N], sums: &mut [f32; N]) -> f32 {
            for ((sum, value), weight) in sums.iter_mut().zip(values).zip(weights) {
                *sum = S::mul_add(*value, *weight, *sum);
            }
            sums[N - 1]
        }
    }

    fn noise(seed: u32) -> u32 {
        let mixed = (seed ^ 0x5bd1).wrapping_mul(0x9E37_79B9).rotate_left(13);
        (mixed ^ mixed >> 15).wrapping_mul(0x85EB_CA6B)
    }

    #[test]
    fn the_emulated_sum_is_rounded_once() {
        let same = |a: f32, b: f32, c: f32| {
            let (got, expected) = (Emulated::mul_add(a, b, c), a.mul_add(b, c));
            assert!(
                got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(),
                "{a:e} · {b:e} + {c:e} = {expected:e}, and not {got:e}"
            );
        };
        for seed in 0..300_000 {
            let bits = [noise(3 * seed), noise(3 * seed + 1), noise(3 * seed + 2)];
            let [a, b, c] = bits.map(f32::from_bits);
            same(a, b, c);
            // Of like size, where rounding is a close call.
            let [a, b, c] = bits.map(|bits| f32::from_bits(bits & 0x807F_FFFF | 0x3F80_0000));
            same(a, b, c);
            same(a, b, c / 16_777_216.0);
            same(a, b, c * 33_554_432.0);
            same(a * 1e-20, b * 1e-20, c * 1e-38);
        }
        let special = [
            0.0,
            -0.0,
            1.0,
            f32::MAX,
            f32::MIN_POSITIVE,
            f32::INFINITY,
            f32::NAN,
            1e-45,
        ];
        for a in special {
            for b in special {
                for c in special {
                    same(a, b, c);
                    same(a, -b, c);
                }
            }
        }
    }

    #[test]
    fn every_set_computes_the_same() {
        let values: [f32; 37] = std::array::from_fn(|at| noise(at as u32) as f32 / 7e8);
        let weights: [f32; 37] = std::array::from_fn(|at| noise(at as u32 + 99) as f32 / -3e8);
        let start: [f32; 37] = std::array::from_fn(|at| at as f32);
        let mut expected = start;
        weighted(Set::PORTABLE, &values, &weights, &mut expected);
        for set in Set::available() {
            let mut sums = start;
            let last = weighted(set, &values, &weights, &mut sums);
            assert_eq!(sums, expected, "{set}");
            assert_eq!(last, expected[36]);
        }
    }
}
