//! One page: the keys and values of [`PAGE`] positions in all layers of one reach, 32-bit floats.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{LANES, PAGE};
use crate::EngineError;
use crate::families::{Reach, Shape};
use crate::memory::LargePages;

/// How the floats of a page lie: `[layer][kv_head]`, and for each first its keys `[head_width][PAGE]`, transposed so
/// that a query meets all positions at once, then its values `[PAGE][value_width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    layers: usize,
    kv_heads: usize,
    head_width: usize,
    /// The head's width, rounded up to [`LANES`].
    value_width: usize,
}

impl Layout {
    /// The layout of the pages of a model's layers of that reach.
    pub fn new(shape: &Shape, reach: Reach) -> Self {
        Self {
            layers: shape.layers_of(reach),
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

/// Where a back end keeps the keys and values of [`PAGE`] positions of all layers of one reach.
pub trait PageMemory: fmt::Debug + Send + Sync + Sized {
    /// What a page is made by: its layout, and the device that it lies on.
    type Source: fmt::Debug + Send + Sync;

    /// Bytes of a page.
    fn bytes(source: &Self::Source) -> u64;

    /// A page of which nothing was written yet; what it holds is of no meaning.
    fn new(source: &Self::Source) -> Result<Self, EngineError>;

    /// Takes over what another page holds.
    fn copy_from(&mut self, other: &Self) -> Result<(), EngineError>;
}

/// A page in this machine's memory.
#[derive(Debug)]
pub struct HostPage {
    memory: LargePages,
    layout: Layout,
}

impl PageMemory for HostPage {
    type Source = Layout;

    fn bytes(layout: &Layout) -> u64 {
        (layout.floats() * size_of::<f32>()) as u64
    }

    fn new(layout: &Layout) -> Result<Self, EngineError> {
        let need = Self::bytes(layout);
        let memory = usize::try_from(need).ok().and_then(LargePages::zeroed);
        Ok(Self {
            memory: memory.ok_or(EngineError::NotEnoughMemory { need, have: 0 })?,
            layout: *layout,
        })
    }

    fn copy_from(&mut self, other: &Self) -> Result<(), EngineError> {
        self.memory
            .floats_mut()
            .copy_from_slice(other.memory.floats());
        Ok(())
    }
}

impl HostPage {
    /// Keys of a head: `[head_width][PAGE]`.
    pub(crate) fn keys(&self, layer: usize, kv_head: usize) -> &[f32] {
        let start = self.layout.start(layer, kv_head);
        &self.memory.floats()[start..][..self.layout.head_width * PAGE]
    }

    /// Values of a head: `[PAGE][value_width]`.
    pub(crate) fn values(&self, layer: usize, kv_head: usize) -> &[f32] {
        let start = self.layout.start(layer, kv_head) + self.layout.head_width * PAGE;
        &self.memory.floats()[start..][..self.layout.value_width * PAGE]
    }

    /// Writes keys and values of a head into the slots from `first` on: each `[slots][stride]`, of which the head's
    /// width counts.
    pub(crate) fn write(
        &mut self,
        (layer, kv_head): (usize, usize),
        first: usize,
        stride: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        let (start, width) = (self.layout.start(layer, kv_head), self.layout.head_width);
        let (to_keys, to_values) =
            self.memory.floats_mut()[start..][..self.layout.head()].split_at_mut(width * PAGE);
        for (at, column) in to_keys.chunks_exact_mut(PAGE).enumerate() {
            for (slot, row) in column[first..].iter_mut().zip(keys.chunks(stride)) {
                *slot = row[at];
            }
        }
        let to_values = to_values.chunks_exact_mut(self.layout.value_width);
        for (row, values) in to_values.skip(first).zip(values.chunks(stride)) {
            row[..width].copy_from_slice(&values[..width]);
        }
    }
}

/// A page that is counted.
#[derive(Debug)]
pub(super) struct Page<P> {
    pub(super) memory: P,
    counted: Counted,
}

impl<P> Page<P> {
    /// Counts a page's bytes in `living`.
    pub(super) fn new(memory: P, bytes: u64, living: &Arc<AtomicU64>) -> Self {
        living.fetch_add(bytes, Ordering::Relaxed);
        Self {
            memory,
            counted: Counted {
                bytes,
                living: living.clone(),
            },
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.counted.bytes
    }
}

/// Bytes of the living pages of a pool.
#[derive(Debug)]
struct Counted {
    bytes: u64,
    living: Arc<AtomicU64>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.living.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
