//! Row operations between the matrix products. Every row is reduced in a fixed order, so a row's result does not depend
//! on its neighbours or on the number of threads.

use crate::parallel;

const LANES: usize = 16;

/// What a value costs here, in multiply-adds of a matrix product.
const COST: usize = 8;

/// RMSNorm of every row: `x / sqrt(mean(x²) + epsilon) · weight`.
pub(crate) fn rms_norm(rows: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = vec![0.0; rows.len()];
    each_row(&mut out, weight.len(), |index, out| {
        let row = &rows[index * weight.len()..][..weight.len()];
        let inverse = 1.0 / (sum_of_squares(row) / row.len() as f32 + epsilon).sqrt();
        for ((out, value), weight) in out.iter_mut().zip(row).zip(weight) {
            *out = value * inverse * weight;
        }
    });
    out
}

/// `silu(gate) · up`, value by value, for rows of `width`.
pub(crate) fn swiglu(gate: &[f32], up: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; gate.len()];
    each_row(&mut out, width, |index, out| {
        let span = index * width..(index + 1) * width;
        for ((out, gate), up) in out.iter_mut().zip(&gate[span.clone()]).zip(&up[span]) {
            *out = gate / (1.0 + exp(-gate)) * up;
        }
    });
    out
}

/// Adds a bias to every row.
pub(crate) fn add_bias(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        add(row, bias);
    }
}

/// Adds value by value.
pub(crate) fn add(to: &mut [f32], values: &[f32]) {
    for (to, value) in to.iter_mut().zip(values) {
        *to += value;
    }
}

fn each_row(out: &mut [f32], width: usize, row: impl Fn(usize, &mut [f32]) + Sync + Send) {
    parallel::rows(
        out,
        width,
        COST * width,
        || (),
        |(), index, out| row(index, out),
    );
}

fn sum_of_squares(row: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|value| value * value).sum();
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value * value;
        }
    }
    sums.into_iter().sum::<f32>() + rest
}

/// e to the power of `x`, to 2 units in the last place; 0 below −87, and written without branches or calls so that loops
/// over it become vector code. The exponent is split as `x = n ln 2 + r`, and e^r is its Taylor polynomial to the sixth
/// degree, whose error is below 1e-7 for |r| ≤ ln 2 / 2.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // ln 2 in two parts: the first has trailing zeros, so that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 · 2^23 rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    let bounded = x.clamp(-87.0, 88.0);
    let n = (bounded * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = bounded - n * LN2_HIGH - n * LN2_LOW;
    let polynomial = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    let power = f32::from_bits(((n as i32 + 127) << 23) as u32);
    let value = polynomial * power;
    if x < -87.0 { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn norm_and_gate_are_what_they_are_called() {
        let out = rms_norm(&[3.0, 4.0], &[1.0, 2.0], 0.0);
        let root = 12.5f32.sqrt();
        assert!((out[0] - 3.0 / root).abs() < 1e-6 && (out[1] - 8.0 / root).abs() < 1e-6);
        let out = swiglu(&[1.0, -2.0], &[2.0, 3.0], 2);
        assert!((out[0] - 2.0 / (1.0 + (-1.0f32).exp())).abs() < 1e-5);
        assert!((out[1] + 6.0 / (1.0 + 2.0f32.exp())).abs() < 1e-5);
    }
}
