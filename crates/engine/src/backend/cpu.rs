//! The processor: rows are floats in memory, products are this crate's own.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use super::vectors::{
    add, add_scaled, gate, norm, norm_in_place, rotate_halves, rotate_neighbours,
};
use super::{Attention, Backend, Share, Turns, Weights, attention};
use crate::cache::{HostPage, Layout, PAGE, PageMemory as _, SequenceState};
use crate::decoder::{Span, compute};
use crate::families::{Activation, Reach, RopePairs, Shape};
use crate::file::TensorKind;
use crate::kernels::{self, Activations, Matrix, PackError, Product, Set, Store};
use crate::{EngineError, parallel};

/// What a value costs in a row operation, in multiply-adds of a matrix product.
const COST: usize = 8;

/// Buffers that are kept for the next operation.
const SPARE: usize = crate::families::KEPT_BUFFERS;

/// Floats of the largest buffer that is kept: a full chunk of the widest layers of models that run on a processor. What is
/// larger, such as the logits of a whole prompt, goes back to the system.
const LARGEST_SPARE: usize = 8 << 20;

/// The processor.
#[derive(Debug, Clone, Default)]
pub struct Cpu {
    spare: Arc<Spare>,
    weights: Arc<Store>,
}

/// Used buffers. A step takes and gives back hundreds; clearing fresh ones would cost as much as some of the operations.
#[derive(Debug, Default)]
struct Spare(Mutex<Vec<Vec<f32>>>);

/// Rows of floats.
#[derive(Debug)]
pub struct HostRows {
    /// Longer than the rows, perhaps.
    buffer: Vec<f32>,
    len: usize,
    width: usize,
    spare: Arc<Spare>,
}

/// Writes keys and values (each `[rows][kv_heads · head_width]`) of the positions after a sequence's length.
fn write(
    attention: &Attention,
    state: &mut SequenceState<HostPage>,
    keys: &[f32],
    values: &[f32],
) -> Result<(), EngineError> {
    let width = attention.kv_heads * attention.head_width;
    let (mut position, end) = (state.len(), state.len() + keys.len() / width);
    while position < end {
        let slot = position % PAGE;
        let rows = (PAGE - slot).min(end - position);
        let start = (position - state.len()) * width;
        let page = state
            .page_mut(position, attention.reach)
            .ok_or_else(|| compute("a page without a single owner"))?;
        for head in 0..attention.kv_heads {
            let range = start + head * attention.head_width..start + rows * width;
            let place = (attention.layer, head);
            page.write(place, slot, width, &keys[range.clone()], &values[range]);
        }
        position += rows;
    }
    Ok(())
}

/// Sines and cosines of a step's rows: `[row][pair]` where halves are paired, `[row][pair][2]` for neighbours, the sine
/// of every first one negative.
#[derive(Debug)]
pub struct HostTurns {
    sines: Vec<f32>,
    cosines: Vec<f32>,
    pairs: usize,
    head_width: usize,
    style: RopePairs,
}

impl HostTurns {
    /// Rotates the heads of the row of that index.
    fn apply(&self, set: Set, index: usize, row: &mut [f32]) {
        match self.style {
            RopePairs::Halves => {
                let of_row = index * self.pairs..(index + 1) * self.pairs;
                let (sines, cosines) = (&self.sines[of_row.clone()], &self.cosines[of_row]);
                rotate_halves(set, row, self.head_width, sines, cosines);
            }
            RopePairs::Neighbours => {
                let of_row = 2 * index * self.pairs..2 * (index + 1) * self.pairs;
                let (sines, cosines) = (&self.sines[of_row.clone()], &self.cosines[of_row]);
                rotate_neighbours(set, row, self.head_width, sines, cosines);
            }
        }
    }
}

/// Packed weights with their bias.
#[derive(Debug)]
pub struct Linear {
    matrix: Matrix,
    bias: Option<Vec<f32>>,
}

impl Cpu {
    /// Makes that many threads compute in this process, of which the caller of a step is one. The first call counts; without
    /// one there are as many as the system says it can run.
    pub fn start(threads: NonZeroUsize) {
        parallel::start(threads.get());
    }

    /// Rows whose values are of no meaning.
    fn rows(&self, count: usize, width: usize) -> HostRows {
        let len = count * width;
        let mut buffer = self.spare.take(len);
        if buffer.len() < len {
            buffer.resize(len, 0.0);
        }
        HostRows {
            buffer,
            len,
            width,
            spare: self.spare.clone(),
        }
    }
}

impl Spare {
    /// The smallest buffer that is long enough, or a new one.
    fn take(&self, len: usize) -> Vec<f32> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = spare
            .iter()
            .enumerate()
            .filter(|(_, buffer)| buffer.len() >= len);
        match fitting.min_by_key(|(_, buffer)| buffer.len()) {
            Some((index, _)) => spare.swap_remove(index),
            None => Vec::new(),
        }
    }

    fn give(&self, buffer: Vec<f32>) {
        if buffer.is_empty() || buffer.len() > LARGEST_SPARE {
            return;
        }
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push(buffer);
        if spare.len() > SPARE {
            // The smallest is the cheapest to make again.
            let smallest = spare
                .iter()
                .enumerate()
                .min_by_key(|(_, buffer)| buffer.len());
            if let Some((index, _)) = smallest {
                spare.swap_remove(index);
            }
        }
    }
}

impl Drop for HostRows {
    fn drop(&mut self) {
        self.spare.give(std::mem::take(&mut self.buffer));
    }
}

impl HostRows {
    fn values(&self) -> &[f32] {
        &self.buffer[..self.len]
    }

    fn values_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.len]
    }

    fn count(&self) -> usize {
        self.len / self.width
    }

    /// Computes every row in place.
    fn each(&mut self, row: impl Fn(usize, &mut [f32]) + Sync) {
        let width = self.width;
        let values = self.values_mut();
        parallel::rows(
            values,
            width,
            COST * width,
            || (),
            |(), index, values| {
                row(index, values);
            },
        );
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.values()[index * self.width..][..self.width]
    }
}

impl Backend for Cpu {
    type Rows = HostRows;
    type Matrix = Linear;
    type Vector = Vec<f32>;
    type Turns = HostTurns;
    type Page = HostPage;

    fn open() -> Result<Self, EngineError> {
        Ok(Self::default())
    }

    fn free_bytes(&self) -> Result<Option<u64>, EngineError> {
        Ok(None)
    }

    fn matrix_bytes(kind: TensorKind, outputs: usize, inputs: usize) -> u64 {
        Matrix::packed_bytes(kind, outputs, inputs)
    }

    fn page_bytes(shape: &Shape, reach: Reach) -> u64 {
        HostPage::bytes(&Layout::new(shape, reach))
    }

    fn pages(&self, shape: &Shape, reach: Reach) -> Layout {
        Layout::new(shape, reach)
    }

    fn expect(&self, bytes: u64) {
        // More than a process can have is refused when it is taken.
        self.weights.reserve(usize::try_from(bytes).unwrap_or(0));
    }

    fn matrix(&self, weights: &Weights<'_>, bias: Option<Vec<f32>>) -> Result<Linear, EngineError> {
        let &Weights {
            kind,
            bytes,
            outputs,
            inputs,
            taken,
            ..
        } = weights;
        let matrix = Matrix::pack(&self.weights, kind, bytes, [outputs, inputs], taken);
        let refused = |problem| match problem {
            PackError::Memory { bytes } => EngineError::NotEnoughMemory {
                need: bytes as u64,
                have: 0,
            },
            PackError::Unsupported { .. } | PackError::Shape { .. } => {
                EngineError::UnsupportedTensor {
                    name: weights.name.to_owned(),
                    kind: kind.to_string(),
                }
            }
        };
        Ok(Linear {
            matrix: matrix.map_err(refused)?,
            bias,
        })
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>, EngineError> {
        Ok(values)
    }

    fn turns(&self, turns: Turns) -> Result<HostTurns, EngineError> {
        let values = turns.values.iter();
        let (sines, cosines) = match turns.style {
            RopePairs::Halves => values.copied().unzip(),
            RopePairs::Neighbours => values
                .flat_map(|&(sine, cosine)| [(-sine, cosine), (sine, cosine)])
                .unzip(),
        };
        Ok(HostTurns {
            sines,
            cosines,
            pairs: turns.pairs,
            head_width: turns.head_width,
            style: turns.style,
        })
    }

    fn upload(&self, rows: Vec<f32>, width: usize) -> Result<HostRows, EngineError> {
        Ok(HostRows {
            len: rows.len(),
            buffer: rows,
            width,
            spare: self.spare.clone(),
        })
    }

    fn download(&self, mut rows: HostRows) -> Result<Vec<f32>, EngineError> {
        let mut values = std::mem::take(&mut rows.buffer);
        values.truncate(rows.len);
        Ok(values)
    }

    fn gather(&self, rows: &HostRows, which: &[usize]) -> Result<HostRows, EngineError> {
        let mut out = self.rows(which.len(), rows.width);
        let to = out.values_mut().chunks_exact_mut(rows.width);
        for (to, &index) in to.zip(which) {
            to.copy_from_slice(rows.row(index));
        }
        Ok(out)
    }

    fn norm(
        &self,
        rows: &HostRows,
        weight: &Vec<f32>,
        epsilon: f32,
    ) -> Result<HostRows, EngineError> {
        let mut out = self.rows(rows.count(), rows.width);
        let set = kernels::set();
        out.each(|index, out| norm(set, rows.row(index), weight, epsilon, out));
        Ok(out)
    }

    fn add_norm(
        &self,
        stream: &mut HostRows,
        addend: Option<HostRows>,
        weight: &Vec<f32>,
        epsilon: f32,
    ) -> Result<HostRows, EngineError> {
        if let Some(addend) = addend {
            let set = kernels::set();
            stream.each(|index, row| add(set, row, addend.row(index)));
        }
        self.norm(stream, weight, epsilon)
    }

    fn project<const N: usize>(
        &self,
        rows: &HostRows,
        matrices: [&Linear; N],
    ) -> Result<[HostRows; N], EngineError> {
        let set = kernels::set();
        let mut outs = matrices.map(|linear| self.rows(rows.count(), linear.matrix.outputs()));
        let products = outs.iter_mut().zip(matrices);
        let mut products: Vec<Product<'_>> = products
            .map(|(out, linear)| Product {
                matrix: &linear.matrix,
                out: out.values_mut(),
            })
            .collect();
        let activations = Activations::new(rows.values(), rows.width);
        kernels::multiply_all(set, &activations, &mut products);
        for (out, linear) in outs.iter_mut().zip(matrices) {
            if let Some(bias) = &linear.bias {
                out.each(|_, row| add(set, row, bias));
            }
        }
        Ok(outs)
    }

    fn rotate(
        &self,
        mut rows: HostRows,
        norm: Option<(&Vec<f32>, f32)>,
        turns: &HostTurns,
    ) -> Result<HostRows, EngineError> {
        let set = kernels::set();
        rows.each(|index, row| {
            if let Some((weight, epsilon)) = norm {
                for head in row.chunks_exact_mut(turns.head_width) {
                    norm_in_place(set, head, weight, epsilon);
                }
            }
            turns.apply(set, index, row);
        });
        Ok(rows)
    }

    fn attend(
        &self,
        attention: &Attention,
        queries: HostRows,
        keys: HostRows,
        values: HostRows,
        spans: &mut [Span<'_, HostPage>],
    ) -> Result<HostRows, EngineError> {
        let (mut keys_left, mut values_left) = (keys.values(), values.values());
        for span in spans.iter_mut() {
            let floats = span.ids.len() * keys.width;
            let (of_keys, of_values);
            (of_keys, keys_left) = keys_left.split_at(floats);
            (of_values, values_left) = values_left.split_at(floats);
            write(attention, span.state, of_keys, of_values)?;
        }
        let mut out = self.rows(queries.count(), queries.width);
        attention::attend(attention, spans, queries.values(), out.values_mut());
        Ok(out)
    }

    fn gate(
        &self,
        mut gated: HostRows,
        up: HostRows,
        activation: Activation,
    ) -> Result<HostRows, EngineError> {
        let set = kernels::set();
        gated.each(|index, row| gate(set, row, up.row(index), activation));
        Ok(gated)
    }

    fn combine(&self, parts: &[HostRows], sums: &[Vec<Share>]) -> Result<HostRows, EngineError> {
        let width = parts.first().map_or(0, |part| part.width);
        let mut out = self.rows(sums.len(), width.max(1));
        let set = kernels::set();
        out.each(|index, row| {
            row.fill(0.0);
            for share in &sums[index] {
                add_scaled(set, row, parts[share.part].row(share.row), share.weight);
            }
        });
        Ok(out)
    }
}
