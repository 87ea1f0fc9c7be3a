//! Keys and values of one sequence, in pages that are added as it grows.

use crate::families::Shape;

/// Positions of a page. Attention computes a page's scores side by side, so it is a multiple of what vector registers
/// hold; a sequence wastes half a page on average.
pub const PAGE: usize = 32;

/// Values are stored in rows of a multiple of this, so that the inner loops have no remainder.
pub const LANES: usize = 16;

/// The keys and values of one sequence: 32-bit floats.
#[derive(Debug)]
pub struct KvCache {
    pages: Vec<Page>,
    len: usize,
    layers: usize,
    kv_heads: usize,
    head_width: usize,
    value_width: usize,
}

/// `PAGE` positions of all layers.
#[derive(Debug)]
struct Page {
    /// `[layer][kv_head][head_width][PAGE]`: transposed, so that a query meets all positions of a page at once.
    keys: Vec<f32>,
    /// `[layer][kv_head][PAGE][value_width]`.
    values: Vec<f32>,
}

impl KvCache {
    /// An empty cache for a model.
    pub fn new(shape: &Shape) -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
            layers: shape.layers,
            kv_heads: shape.kv_heads,
            head_width: shape.head_width,
            value_width: value_width(shape),
        }
    }

    /// Bytes of a cache that holds that many tokens.
    pub fn bytes(shape: &Shape, tokens: u32) -> u64 {
        let per_position =
            shape.layers * shape.kv_heads * (shape.head_width + value_width(shape)) * 4;
        u64::from(tokens)
            .div_ceil(PAGE as u64)
            .saturating_mul((PAGE * per_position) as u64)
    }

    /// Tokens whose keys and values are complete.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets the tokens from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.pages.truncate(self.len.div_ceil(PAGE));
    }

    /// Makes room for more tokens after [`len`](Self::len). They count once [`advance`](Self::advance) says so.
    pub(crate) fn reserve(&mut self, tokens: usize) {
        while self.pages.len() * PAGE < self.len + tokens {
            let heads = self.layers * self.kv_heads * PAGE;
            self.pages.push(Page {
                keys: vec![0.0; heads * self.head_width],
                values: vec![0.0; heads * self.value_width],
            });
        }
    }

    /// Counts tokens whose keys and values were written in every layer.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }

    /// Writes the key and value of a position.
    pub(crate) fn write(
        &mut self,
        layer: usize,
        kv_head: usize,
        position: usize,
        key: &[f32],
        value: &[f32],
    ) {
        let head = layer * self.kv_heads + kv_head;
        let (page, slot) = (&mut self.pages[position / PAGE], position % PAGE);
        let keys = &mut page.keys[head * self.head_width * PAGE..][..self.head_width * PAGE];
        for (column, &value) in keys.chunks_exact_mut(PAGE).zip(key) {
            column[slot] = value;
        }
        let start = (head * PAGE + slot) * self.value_width;
        page.values[start..start + self.head_width].copy_from_slice(value);
    }

    /// Keys of a page: `[head_width][PAGE]`.
    pub(crate) fn keys(&self, page: usize, layer: usize, kv_head: usize) -> &[f32] {
        let head = layer * self.kv_heads + kv_head;
        &self.pages[page].keys[head * self.head_width * PAGE..][..self.head_width * PAGE]
    }

    /// Values of a page: `[PAGE][value_width]`.
    pub(crate) fn values(&self, page: usize, layer: usize, kv_head: usize) -> &[f32] {
        let head = layer * self.kv_heads + kv_head;
        &self.pages[page].values[head * PAGE * self.value_width..][..PAGE * self.value_width]
    }

    /// Width of a row of values: the head's, rounded up to [`LANES`].
    pub(crate) fn value_width(&self) -> usize {
        self.value_width
    }
}

fn value_width(shape: &Shape) -> usize {
    shape.head_width.next_multiple_of(LANES)
}
