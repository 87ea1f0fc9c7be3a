//! Row operations between the matrix products. Every row is reduced in a fixed order, so a row's result does not depend
//! on its neighbours, on the number of threads or on the instruction set.

use crate::families::Activation;
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
    /// Rotates the heads of a row, the first half of each's rotated values with the second: both turns `[pairs]`.
    pub(super) fn rotate_halves(row: &mut [f32], width: usize, sines: &[f32], cosines: &[f32]) {
        for head in row.chunks_exact_mut(width) {
            let (first, second) = head.split_at_mut(sines.len());
            let turns = sines.iter().zip(cosines);
            for ((a, b), (sine, cosine)) in first.iter_mut().zip(second).zip(turns) {
                (*a, *b) = (*a * cosine - *b * sine, *a * sine + *b * cosine);
            }
        }
    }
}

vectorised! {
    /// Rotates the heads of a row, neighbour with neighbour: both turns `[2 · pairs]`, the sine of every first one negative.
    pub(super) fn rotate_neighbours(row: &mut [f32], width: usize, sines: &[f32], cosines: &[f32]) {
        let (wide_sines, last_sines) = sines.as_chunks::<LANES>();
        let (wide_cosines, last_cosines) = cosines.as_chunks::<LANES>();
        for head in row.chunks_exact_mut(width) {
            let (wide, last) = head[..sines.len()].as_chunks_mut::<LANES>();
            for (values, (sines, cosines)) in wide.iter_mut().zip(wide_sines.iter().zip(wide_cosines)) {
                let old = *values;
                for at in 0..LANES {
                    values[at] = old[at] * cosines[at] + old[at ^ 1] * sines[at];
                }
            }
            let turns = last_sines.chunks_exact(2).zip(last_cosines.chunks_exact(2));
            for (pair, (sines, cosines)) in last.chunks_exact_mut(2).zip(turns) {
                let (a, b) = (pair[0], pair[1]);
                pair[0] = a * cosines[0] + b * sines[0];
                pair[1] = b * cosines[1] + a * sines[1];
            }
        }
    }
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
    const TWICE_ROOT: f32 = 1.595_769;
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
    fn both_ways_to_rotate_are_rotations() {
        // Heads of 44 values of which 40 are rotated: more than a vector holds, and a rest.
        let row: Vec<f32> = (0..88)
            .map(|at| ((at * 37 % 101) as f32 - 50.0) / 7.0)
            .collect();
        let angle = |pair: usize| pair as f32 * 0.3 + 0.1;
        let sines: Vec<f32> = (0..20).map(|pair| angle(pair).sin()).collect();
        let cosines: Vec<f32> = (0..20).map(|pair| angle(pair).cos()).collect();
        let signed: Vec<f32> = sines.iter().flat_map(|sine| [-sine, *sine]).collect();
        let doubled: Vec<f32> = cosines.iter().flat_map(|cosine| [*cosine; 2]).collect();
        for set in Set::available() {
            let (mut halves, mut neighbours) = (row.clone(), row.clone());
            rotate_halves(set, &mut halves, 44, &sines, &cosines);
            rotate_neighbours(set, &mut neighbours, 44, &signed, &doubled);
            for head in [0, 44] {
                for pair in 0..20 {
                    let turned = |a: f32, b: f32| {
                        let (sine, cosine) = (sines[pair], cosines[pair]);
                        (a * cosine - b * sine, a * sine + b * cosine)
                    };
                    let (a, b) = (head + pair, head + pair + 20);
                    assert_eq!((halves[a], halves[b]), turned(row[a], row[b]));
                    let (a, b) = (head + 2 * pair, head + 2 * pair + 1);
                    let expected = turned(row[a], row[b]);
                    assert_eq!(neighbours[a], expected.0);
                    assert!((neighbours[b] - expected.1).abs() < 1e-5);
                }
                assert_eq!(halves[head + 40..head + 44], row[head + 40..head + 44]);
                assert_eq!(neighbours[head + 40..head + 44], row[head + 40..head + 44]);
            }
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
