//! What computes: the few coarse operations that a decoder is made of, on one kind of device.
//!
//! [`Cpu`] runs them on this crate's kernels. A back end keeps activations, weights and pages where its device wants
//! them; ids, positions and logits pass between it and the decoder as plain numbers.

mod attention;
#[cfg(feature = "candle")]
mod candle;
mod cpu;
mod lanes;
mod vectors;

#[cfg(feature = "candle")]
pub use candle::Candle;
pub use cpu::Cpu;

/// What this build of the worker computes on: the processor, or (feature `candle`) a graphics card.
#[cfg(not(feature = "candle"))]
pub type Here = Cpu;
#[cfg(feature = "candle")]
pub type Here = Candle;

/// A page where this build keeps keys and values.
pub type HerePage = <Here as Backend>::Page;

use std::fmt;
use std::ops::Range;

use crate::EngineError;
use crate::cache::PageMemory;
use crate::decoder::Span;
use crate::families::{Activation, Reach, Rope, RopePairs, Shape};
use crate::file::TensorKind;

/// The operations of a device. Rows are `[rows][width]`; a row's result never depends on the rows beside it.
pub trait Backend: fmt::Debug + Clone + Send + Sync + Sized {
    /// Activations.
    type Rows: fmt::Debug;
    /// Weights to multiply rows with, and their bias.
    type Matrix: fmt::Debug + Send + Sync;
    /// The weights of a norm.
    type Vector: fmt::Debug + Send + Sync;
    /// Sines and cosines of a step's positions.
    type Turns: fmt::Debug;
    /// Keys and values.
    type Page: PageMemory;

    /// Opens the device, the same one every time.
    fn open() -> Result<Self, EngineError>;

    /// Bytes that are free in the device's own memory now; `None` where it computes in the machine's.
    fn free_bytes(&self) -> Result<Option<u64>, EngineError>;

    /// Bytes that a matrix will take on the device.
    fn matrix_bytes(kind: TensorKind, outputs: usize, inputs: usize) -> u64;

    /// Bytes of a page of the layers of that reach, for a model of that shape.
    fn page_bytes(shape: &Shape, reach: Reach) -> u64;

    /// What pages of the layers of that reach are made by.
    fn pages(&self, shape: &Shape, reach: Reach) -> <Self::Page as PageMemory>::Source;

    /// Says how many bytes the matrices that come next will take, by [`Backend::matrix_bytes`].
    fn expect(&self, bytes: u64);

    /// Takes a matrix over.
    fn matrix(
        &self,
        weights: &Weights<'_>,
        bias: Option<Vec<f32>>,
    ) -> Result<Self::Matrix, EngineError>;

    /// Takes a norm's weights over.
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector, EngineError>;

    /// Takes the turns of a step over.
    fn turns(&self, turns: Turns) -> Result<Self::Turns, EngineError>;

    /// Takes rows over.
    fn upload(&self, rows: Vec<f32>, width: usize) -> Result<Self::Rows, EngineError>;

    /// Gives rows back, one after the other.
    fn download(&self, rows: Self::Rows) -> Result<Vec<f32>, EngineError>;

    /// Some of the rows, in the order named; each may be named more than once.
    fn gather(&self, rows: &Self::Rows, which: &[usize]) -> Result<Self::Rows, EngineError>;

    /// RMSNorm: `x / sqrt(mean(x²) + epsilon) · weight`.
    fn norm(
        &self,
        rows: &Self::Rows,
        weight: &Self::Vector,
        epsilon: f32,
    ) -> Result<Self::Rows, EngineError>;

    /// Adds to the stream, where there is something to add, and gives its RMSNorm.
    fn add_norm(
        &self,
        stream: &mut Self::Rows,
        addend: Option<Self::Rows>,
        weight: &Self::Vector,
        epsilon: f32,
    ) -> Result<Self::Rows, EngineError>;

    /// Products of the same rows with several matrices, biases added.
    fn project<const N: usize>(
        &self,
        rows: &Self::Rows,
        matrices: [&Self::Matrix; N],
    ) -> Result<[Self::Rows; N], EngineError>;

    /// Norms every head, where weights are given with the epsilon, and rotates it.
    fn rotate(
        &self,
        rows: Self::Rows,
        norm: Option<(&Self::Vector, f32)>,
        turns: &Self::Turns,
    ) -> Result<Self::Rows, EngineError>;

    /// Writes the keys and values of a step's rows into the pages of their sequences and attends its queries, span by
    /// span, to all positions up to their own (or to the last of them, where there is a window).
    fn attend(
        &self,
        attention: &Attention,
        queries: Self::Rows,
        keys: Self::Rows,
        values: Self::Rows,
        spans: &mut [Span<'_, Self::Page>],
    ) -> Result<Self::Rows, EngineError>;

    /// `activation(gate) · up`, value by value.
    fn gate(
        &self,
        gate: Self::Rows,
        up: Self::Rows,
        activation: Activation,
    ) -> Result<Self::Rows, EngineError>;

    /// A row per list of shares: the weighted sum of rows of the parts, in the list's order.
    fn combine(&self, parts: &[Self::Rows], sums: &[Vec<Share>])
    -> Result<Self::Rows, EngineError>;
}

/// Weights as a file has them.
#[derive(Clone, Copy)]
pub struct Weights<'f> {
    /// The tensor, for messages.
    pub name: &'f str,
    /// How they are stored.
    pub kind: TensorKind,
    /// `[outputs][inputs]`.
    pub bytes: &'f [u8],
    /// Values per row of output.
    pub outputs: usize,
    /// Values per row of input.
    pub inputs: usize,
    /// Hears which of the bytes are not looked at again.
    pub taken: &'f dyn Fn(Range<usize>),
}

impl fmt::Debug for Weights<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weights")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("outputs", &self.outputs)
            .field("inputs", &self.inputs)
            .finish_non_exhaustive()
    }
}

/// What an attention layer is like.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// In which pages its keys and values lie.
    pub reach: Reach,
    /// Which of the layers of these pages it is.
    pub layer: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_width: usize,
    /// Positions that a row sees, its own included; all where there is none.
    pub window: Option<usize>,
    /// Products of queries and keys are multiplied with it.
    pub scale: f32,
}

/// A part of a sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Which part.
    pub part: usize,
    /// Which of its rows.
    pub row: usize,
    /// What the row is multiplied with.
    pub weight: f32,
}

/// Sines and cosines of the rotary embedding for every row of a step.
#[derive(Debug)]
pub struct Turns {
    /// Sine and cosine, times the embedding's magnitude: `[row][pair]`.
    pub values: Vec<(f32, f32)>,
    /// Rotated pairs of a head.
    pub pairs: usize,
    /// Width of a head.
    pub head_width: usize,
    /// How values are paired.
    pub style: RopePairs,
}

impl Turns {
    /// The turns of the positions that spans come to.
    pub fn new<P: PageMemory>(
        rope: &Rope,
        frequencies: &[f64],
        head_width: usize,
        spans: &[Span<'_, P>],
    ) -> Self {
        let magnitude = f64::from(rope.magnitude);
        let turn = |position: usize, frequency: &f64| {
            let (sine, cosine) = (position as f64 * frequency).sin_cos();
            ((sine * magnitude) as f32, (cosine * magnitude) as f32)
        };
        let positions = spans
            .iter()
            .flat_map(|span| span.state.len()..span.state.len() + span.ids.len());
        let of_row = |at| frequencies.iter().map(move |frequency| turn(at, frequency));
        Self {
            values: positions.flat_map(of_row).collect(),
            pairs: frequencies.len(),
            head_width,
            style: rope.pairs,
        }
    }
}
