//! Row operations between the matrix products. Every row is reduced in a fixed order, so a row's result does not depend
//! on its neighbours, on the number of threads or on the instruction set.

use super::Turns;
use crate::families::{Activation, RopePairs};
use crate::kernels::vectorised;

/// Sums that run side by side.
const LANES: usize = 16;

vectorised! {
    /// RMSNorm of a row: `x / sqrt(mean(x²) + epsilon) · weight`.
    pub(super) fn norm(row: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        let inverse = inverse_root::<S>(row, epsilon);
        for ((out, value), weight) in out.iter_mut().zip(row).zip(weight) {
            *out = value * inverse * weight;
        }
    }
}

vectorised! {
    /// The same in place.
    pub(super) fn norm_in_place(row: &mut [f32], weight: &[f32], epsilon: f32) {
        let inverse = inverse_root::<S>(row, epsilon);
        for (value, weight) in row.iter_mut().zip(weight) {
            *value = *value * inverse * weight;
        }
    }
}

vectorised! {
    /// Adds value by value.
    pub(super) fn add(to: &mut [f32], values: &[f32]) {
        for (to, value) in to.iter_mut().zip(values) {
            *to += value;
        }
    }
}

vectorised! {
    /// Adds values times a factor.
    pub(super) fn add_scaled(to: &mut [f32], values: &[f32], factor: f32) {
        for (to, value) in to.iter_mut().zip(values) {
            *to = S::mul_add(factor, *value, *to);
        }
    }
}

vectorised! {
    /// `activation(gate) · up`, into `gate`.
    pub(super) fn gate(gate: &mut [f32], up: &[f32], activation: Activation) {
        match activation {
            Activation::Silu => {
                for (gate, up) in gate.iter_mut().zip(up) {
                    *gate = *gate / (1.0 + exp(-*gate)) * up;
                }
            }
            Activation::Gelu => {
                for (gate, up) in gate.iter_mut().zip(up) {
                    *gate = gelu(*gate) * up;
                }
            }
        }
    }
}

vectorised! {
    /// Rotates the heads of a row by its turns.
    pub(super) fn rotate(row: &mut [f32], of_row: &[(f32, f32)], turns: &Turns) {
        for head in row.chunks_exact_mut(turns.head_width) {
            match turns.style {
                RopePairs::Neighbours => {
                    for (pair, &(sine, cosine)) in head.chunks_exact_mut(2).zip(of_row) {
                        (pair[0], pair[1]) = turned(pair[0], pair[1], sine, cosine);
                    }
                }
                RopePairs::Halves => {
                    let (first, second) = head[..2 * turns.pairs].split_at_mut(turns.pairs);
                    for ((a, b), &(sine, cosine)) in first.iter_mut().zip(second).zip(of_row) {
                        (*a, *b) = turned(*a, *b, sine, cosine);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn turned(a: f32, b: f32, sine: f32, cosine: f32) -> (f32, f32) {
    (a * cosine - b * sine, a * sine + b * cosine)
}

#[inline(always)]
fn inverse_root<S: crate::kernels::MulAdd>(row: &[f32], epsilon: f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum = S::mul_add(*value, *value, *sum);
        }
    }
    let rest: f32 = rest.iter().map(|value| value * value).sum();
    let total = sums.into_iter().sum::<f32>() + rest;
    1.0 / (total / row.len() as f32 + epsilon).sqrt()
}

/// `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`, the approximation that models are trained with (Hendrycks and Gimpel,
/// "Gaussian Error Linear Units", 2016). `1 + tanh(y)` is `2 / (1 + e^(−2y))`.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    const TWICE_ROOT: f32 = 1.595_769_1;
    x / (1.0 + exp(-TWICE_ROOT * (x + 0.044_715 * x * x * x)))
}

/// e to the power of `x`, to 2 units in the last place; 0 below −87, and written without branches or calls so that loops
/// over it become vector code. The exponent is split as `x = n ln 2 + r`, and e^r is its Taylor polynomial to the sixth
/// degree, whose error is below 1e-7 for |r| ≤ ln 2 / 2.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // ln 2 in two parts: the first has trailing zeros, so that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 · 2^23 rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    let bounded = x.clamp(-87.0, 88.0);
    let rounded = bounded * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = bounded - n * LN2_HIGH - n * LN2_LOW;
    let polynomial = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    // The whole number stands in the lowest bits of the sum above.
    let whole = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    let power = f32::from_bits(whole.wrapping_add(127) << 23);
    let value = polynomial * power;
    if x < -87.0 { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Set;

    #[test]
    fn exp_is_exp() {
        let mut x = -86.9f32;
        while x < 88.0 {
            let expected = f64::from(x).exp();
            let relative = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(relative < 3e-7, "exp({x}) is off by {relative}");
            x += 0.0137;
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn norm_and_gates_are_what_they_are_called() {
        let mut out = [0.0; 2];
        norm(Set::PORTABLE, &[3.0, 4.0], &[1.0, 2.0], 0.0, &mut out);
        let root = 12.5f32.sqrt();
        assert!((out[0] - 3.0 / root).abs() < 1e-6 && (out[1] - 8.0 / root).abs() < 1e-6);
        let mut silu = [1.0, -2.0];
        gate(Set::PORTABLE, &mut silu, &[2.0, 3.0], Activation::Silu);
        assert!((silu[0] - 2.0 / (1.0 + (-1.0f32).exp())).abs() < 1e-5);
        assert!((silu[1] + 6.0 / (1.0 + 2.0f32.exp())).abs() < 1e-5);
        for x in [-30.0f32, -3.0, -0.5, 0.0, 0.7, 2.0, 40.0] {
            let mut got = [x];
            gate(Set::PORTABLE, &mut got, &[1.0], Activation::Gelu);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * f64::from(x + 0.044715 * x * x * x);
            let expected = 0.5 * f64::from(x) * (1.0 + inner.tanh());
            assert!(
                (f64::from(got[0]) - expected).abs() < 1e-5,
                "{} for {expected}",
                got[0]
            );
        }
    }

    #[test]
    fn every_set_computes_the_same() {
        let row: Vec<f32> = (0..83)
            .map(|at| ((at * 37 % 101) as f32 - 50.0) / 7.0)
            .collect();
        let weight: Vec<f32> = (0..83)
            .map(|at| ((at * 29 % 89) as f32 - 40.0) / 11.0)
            .collect();
        let all = |set: Set| {
            let mut normed = vec![0.0; 83];
            norm(set, &row, &weight, 1e-5, &mut normed);
            let mut gated = row.clone();
            gate(set, &mut gated, &weight, Activation::Silu);
            let mut other = row.clone();
            gate(set, &mut other, &weight, Activation::Gelu);
            add_scaled(set, &mut other, &weight, 0.3);
            (normed, gated, other)
        };
        for set in Set::available() {
            assert_eq!(all(set), all(Set::PORTABLE), "{set}");
        }
    }
}
