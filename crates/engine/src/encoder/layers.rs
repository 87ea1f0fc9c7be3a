//! The parts of a layer, over rows (`[tokens][hidden]`). Every row is reduced in a fixed order.

use super::EncoderShape;
use crate::kernels::{Activations, Matrix, multiply};
use crate::parallel;

/// Sums that run side by side.
const LANES: usize = 16;

/// Multiply-adds that one value of GELU is worth.
const GELU_COST: usize = 16;

#[derive(Debug)]
pub(super) struct Layer {
    /// Query, key and value.
    pub(super) projections: [Linear; 3],
    pub(super) output: Linear,
    pub(super) attention_norm: Norm,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) norm: Norm,
}

/// A matrix and what is added after it.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) matrix: Matrix,
    pub(super) bias: Vec<f32>,
}

impl Linear {
    /// `[tokens][outputs]`.
    pub(super) fn of(&self, rows: &Activations<'_>) -> Vec<f32> {
        let mut out = vec![0.0; rows.count() * self.matrix.outputs()];
        multiply(&self.matrix, rows, &mut out);
        for row in out.chunks_exact_mut(self.bias.len()) {
            add(row, &self.bias);
        }
        out
    }
}

/// LayerNorm: `(x − mean) / sqrt(variance + epsilon) · weight + bias`.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) epsilon: f32,
}

impl Norm {
    /// Normalises every row.
    pub(super) fn apply(&self, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(self.weight.len()) {
            let count = row.len() as f32;
            let mean = row.iter().sum::<f32>() / count;
            row.iter_mut().for_each(|value| *value -= mean);
            let variance = dot(row, row) / count;
            let inverse = 1.0 / (variance + self.epsilon).sqrt();
            for ((value, weight), bias) in row.iter_mut().zip(&self.weight).zip(&self.bias) {
                *value = *value * inverse * weight + bias;
            }
        }
    }

    /// Adds other rows, then normalises.
    pub(super) fn add(&self, rows: &mut [f32], other: &[f32]) {
        add(rows, other);
        self.apply(rows);
    }
}

/// Attention of every token to every token: softmax of `query · key / sqrt(head width)`, over the values.
pub(super) fn attend(query: &[f32], key: &[f32], value: &[f32], shape: &EncoderShape) -> Vec<f32> {
    let (hidden, width) = (shape.hidden, shape.hidden / shape.heads);
    let tokens = query.len() / hidden;
    let scale = 1.0 / (width as f32).sqrt();
    let mut out = vec![0.0; query.len()];
    let weights = || vec![0.0f32; tokens];
    parallel::rows(
        &mut out,
        hidden,
        2 * tokens * hidden,
        weights,
        |weights, token, row| {
            let query = &query[token * hidden..][..hidden];
            for (head, out) in row.chunks_exact_mut(width).enumerate() {
                let part = |token: usize| {
                    token * hidden + head * width..token * hidden + (head + 1) * width
                };
                let query = &query[head * width..][..width];
                for (other, weight) in weights.iter_mut().enumerate() {
                    *weight = dot(query, &key[part(other)]) * scale;
                }
                softmax(weights);
                for (other, &weight) in weights.iter().enumerate() {
                    for (out, value) in out.iter_mut().zip(&value[part(other)]) {
                        *out += weight * value;
                    }
                }
            }
        },
    );
    out
}

fn softmax(values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values
        .iter_mut()
        .for_each(|value| *value = (*value - largest).exp());
    let total: f32 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= total);
}

/// `x · (1 + erf(x / √2)) / 2` (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016), value by value of rows of
/// `width`.
pub(super) fn gelu(rows: &mut [f32], width: usize) {
    parallel::rows(
        rows,
        width,
        GELU_COST * width,
        || (),
        |(), _, row| {
            for value in row {
                *value *= 0.5 * (1.0 + erf(*value * std::f32::consts::FRAC_1_SQRT_2));
            }
        },
    );
}

/// The error function to 1.5e-7 (Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26).
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let polynomial = t
        * (0.254_829_6
            + t * (-0.284_496_72 + t * (1.421_413_8 + t * (-1.453_152_1 + t * 1.061_405_4))));
    (1.0 - polynomial * (-x * x).exp()).copysign(x)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.into_iter().sum::<f32>() + rest
}

fn add(to: &mut [f32], values: &[f32]) {
    to.iter_mut()
        .zip(values)
        .for_each(|(to, value)| *to += value);
}
