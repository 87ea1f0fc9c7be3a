//! Gemma 3: norms on both sides of every layer and on heads, five layers with a window to each that sees everything. The
//! norms' weights in files contain the one that the model's own code adds.

use super::{Activation, Family, PLAIN, Shape, Windows};

pub(super) const FAMILY: Family = Family {
    head_norms: true,
    post_norms: true,
    activation: Activation::Gelu,
    windows: Windows::AllButEvery(6),
    adjust,
    ..PLAIN
};

/// Base of the rotary frequencies in layers with a window.
pub(super) const LOCAL_BASE: f32 = 10_000.0;

/// Layers of the one size (27B) whose queries are scaled by the width of a head that its hidden width would give.
const SCALED_BY_HIDDEN: usize = 62;

fn adjust(shape: &mut Shape) {
    shape.embedding_scale = (shape.hidden as f32).sqrt();
    if shape.layers == SCALED_BY_HIDDEN {
        shape.attention_scale = 1.0 / ((shape.hidden / shape.heads) as f32).sqrt();
    }
}
