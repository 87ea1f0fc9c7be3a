//! One page: the keys and values of [`PAGE`] positions in all layers, 32-bit floats.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{LANES, PAGE};
use crate::families::Shape;

/// How the floats of a page lie: `[layer][kv_head]`, and for each first its keys `[head_width][PAGE]`, transposed so
/// that a query meets all positions at once, then its values `[PAGE][value_width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    layers: usize,
    kv_heads: usize,
    head_width: usize,
    /// The head's width, rounded up to [`LANES`].
    value_width: usize,
}

impl Layout {
    pub(super) fn new(shape: &Shape) -> Self {
        Self {
            layers: shape.layers,
            kv_heads: shape.kv_heads,
            head_width: shape.head_width,
            value_width: shape.head_width.next_multiple_of(LANES),
        }
    }

    /// Floats of one head in one layer.
    fn head(self) -> usize {
        PAGE * (self.head_width + self.value_width)
    }

    pub(super) fn floats(self) -> usize {
        self.layers * self.kv_heads * self.head()
    }

    fn start(self, layer: usize, kv_head: usize) -> usize {
        (layer * self.kv_heads + kv_head) * self.head()
    }
}

/// `PAGE` positions of all layers.
#[derive(Debug)]
pub(crate) struct Page {
    floats: Vec<f32>,
    layout: Layout,
    /// Pages that live, of the pool that this one belongs to.
    living: Arc<AtomicUsize>,
}

impl Page {
    /// A page counted in `living`, in the memory of a former one where given.
    pub(super) fn new(layout: Layout, memory: Option<Vec<f32>>, living: &Arc<AtomicUsize>) -> Self {
        living.fetch_add(1, Ordering::Relaxed);
        Self {
            floats: memory.unwrap_or_else(|| vec![0.0; layout.floats()]),
            layout,
            living: living.clone(),
        }
    }

    /// Its memory, for another page of the same layout.
    pub(super) fn into_memory(mut self) -> Vec<f32> {
        std::mem::take(&mut self.floats)
    }

    pub(super) fn copy_from(&mut self, other: &Self) {
        self.floats.copy_from_slice(&other.floats);
    }

    /// Bytes of a page of a model.
    pub(crate) fn bytes(shape: &Shape) -> u64 {
        (Layout::new(shape).floats() * size_of::<f32>()) as u64
    }

    /// Keys of a head: `[head_width][PAGE]`.
    pub(crate) fn keys(&self, layer: usize, kv_head: usize) -> &[f32] {
        let start = self.layout.start(layer, kv_head);
        &self.floats[start..][..self.layout.head_width * PAGE]
    }

    /// Values of a head: `[PAGE][value_width]`.
    pub(crate) fn values(&self, layer: usize, kv_head: usize) -> &[f32] {
        let start = self.layout.start(layer, kv_head) + self.layout.head_width * PAGE;
        &self.floats[start..][..self.layout.value_width * PAGE]
    }

    /// Writes the key and value (each of the head's width) of a slot.
    pub(crate) fn write(
        &mut self,
        layer: usize,
        kv_head: usize,
        slot: usize,
        key: &[f32],
        value: &[f32],
    ) {
        let (start, width) = (self.layout.start(layer, kv_head), self.layout.head_width);
        let (keys, values) = self.floats[start..][..self.layout.head()].split_at_mut(width * PAGE);
        for (column, &value) in keys.chunks_exact_mut(PAGE).zip(key) {
            column[slot] = value;
        }
        values[slot * self.layout.value_width..][..width].copy_from_slice(value);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.living.fetch_sub(1, Ordering::Relaxed);
    }
}
