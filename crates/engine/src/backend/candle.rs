//! Graphics cards, through the tensors and quantised products of the candle library; also the processor, where tests
//! compare it with this crate's own kernels.
//!
//! Everything stays on the device between the ids and the logits. Products of weights in blocks are candle's own kernels;
//! what lies between them is written in its tensor operations, in 32-bit floats. Results are near those of the
//! processor's kernels and not equal to them: devices round activations and order sums in their own ways.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{D, DType, Device, Module as _, Tensor};

use super::{Attention, Backend, Share, Turns, Weights};
use crate::EngineError;
use crate::cache::{PAGE, PageMemory, SequenceState};
use crate::card::failed;
use crate::decoder::Span;
use crate::families::{Activation, Reach, RopePairs, Shape};
use crate::file::TensorKind;

/// A device of the candle library.
#[derive(Debug, Clone)]
pub struct Candle {
    device: Device,
}

/// Weights on the device, and their bias.
#[derive(Debug)]
pub struct DeviceMatrix {
    product: QMatMul,
    bias: Option<Tensor>,
}

/// Sines and cosines on the device, each `[rows][1][pairs]`.
#[derive(Debug)]
pub struct DeviceTurns {
    sines: Tensor,
    cosines: Tensor,
    pairs: usize,
    head_width: usize,
    style: RopePairs,
}

/// Where the pages of a model lie.
#[derive(Debug, Clone)]
pub struct DevicePages {
    device: Device,
    layers: usize,
    /// Values of the keys of one position in one layer.
    width: usize,
}

/// A page on the device: `[layer][keys, values][PAGE]` rows of `kv_heads · head_width` values.
#[derive(Debug)]
pub struct DevicePage {
    rows: Tensor,
}

impl Candle {
    /// A back end on that device.
    pub fn new(device: Device) -> Self {
        Self { device }
    }
}

impl PageMemory for DevicePage {
    type Source = DevicePages;

    fn bytes(source: &DevicePages) -> u64 {
        (source.layers * 2 * PAGE * source.width * size_of::<f32>()) as u64
    }

    fn new(source: &DevicePages) -> Result<Self, EngineError> {
        let rows = source.layers * 2 * PAGE;
        let rows = Tensor::zeros((rows, source.width), DType::F32, &source.device);
        Ok(Self {
            rows: rows.map_err(failed)?,
        })
    }

    fn copy_from(&mut self, other: &Self) -> Result<(), EngineError> {
        self.rows.slice_set(&other.rows, 0, 0).map_err(failed)
    }
}

/// The first row of a layer's keys in a page; its values follow.
fn first_row(layer: usize) -> usize {
    layer * 2 * PAGE
}

impl Backend for Candle {
    type Rows = Tensor;
    type Matrix = DeviceMatrix;
    type Vector = Tensor;
    type Turns = DeviceTurns;
    type Page = DevicePage;

    fn open() -> Result<Self, EngineError> {
        crate::card::place().map(Self::new)
    }

    fn free_bytes(&self) -> Result<Option<u64>, EngineError> {
        crate::card::free_bytes(&self.device)
    }

    fn matrix_bytes(kind: TensorKind, outputs: usize, inputs: usize) -> u64 {
        let values = (outputs as u64).saturating_mul(inputs as u64);
        match (format(kind), kind.block()) {
            // Plain floats become 32-bit ones.
            (Some(GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16), _) | (_, None) => {
                values.saturating_mul(4)
            }
            (_, Some((elements, bytes))) => values.div_ceil(elements).saturating_mul(bytes),
        }
    }

    fn page_bytes(shape: &Shape, reach: Reach) -> u64 {
        let width = shape.kv_heads * shape.head_width;
        (shape.layers_of(reach) * 2 * PAGE * width * size_of::<f32>()) as u64
    }

    fn pages(&self, shape: &Shape, reach: Reach) -> DevicePages {
        DevicePages {
            device: self.device.clone(),
            layers: shape.layers_of(reach),
            width: shape.kv_heads * shape.head_width,
        }
    }

    fn expect(&self, _: u64) {}

    fn matrix(
        &self,
        weights: &Weights<'_>,
        bias: Option<Vec<f32>>,
    ) -> Result<DeviceMatrix, EngineError> {
        let format = format(weights.kind).ok_or_else(|| EngineError::UnsupportedTensor {
            name: weights.name.to_owned(),
            kind: weights.kind.to_string(),
        })?;
        let product = || {
            // The library asserts that blocks are aligned, which the file's reader has made sure of.
            let bytes = Cow::Borrowed(weights.bytes);
            let storage = QStorage::from_data(bytes, &self.device, format)?;
            QMatMul::from_qtensor(QTensor::new(storage, (weights.outputs, weights.inputs))?)
        };
        Ok(DeviceMatrix {
            product: product().map_err(failed)?,
            bias: bias.map(|bias| self.vector(bias)).transpose()?,
        })
    }

    fn vector(&self, values: Vec<f32>) -> Result<Tensor, EngineError> {
        let length = values.len();
        Tensor::from_vec(values, length, &self.device).map_err(failed)
    }

    fn turns(&self, turns: Turns) -> Result<DeviceTurns, EngineError> {
        let Turns {
            values,
            pairs,
            head_width,
            style,
        } = turns;
        let shape = (values.len() / pairs.max(1), 1, pairs);
        let take = |of: fn(&(f32, f32)) -> f32| {
            Tensor::from_vec(values.iter().map(of).collect(), shape, &self.device).map_err(failed)
        };
        Ok(DeviceTurns {
            sines: take(|turn| turn.0)?,
            cosines: take(|turn| turn.1)?,
            pairs,
            head_width,
            style,
        })
    }

    fn upload(&self, rows: Vec<f32>, width: usize) -> Result<Tensor, EngineError> {
        let count = rows.len() / width.max(1);
        Tensor::from_vec(rows, (count, width), &self.device).map_err(failed)
    }

    fn download(&self, rows: Tensor) -> Result<Vec<f32>, EngineError> {
        let values = || rows.flatten_all()?.to_vec1::<f32>();
        values().map_err(failed)
    }

    fn gather(&self, rows: &Tensor, which: &[usize]) -> Result<Tensor, EngineError> {
        let gathered = || rows.index_select(&self.indices(which.iter().copied())?, 0);
        gathered().map_err(failed)
    }

    fn norm(&self, rows: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor, EngineError> {
        norm(rows, weight, epsilon).map_err(failed)
    }

    fn add_norm(
        &self,
        stream: &mut Tensor,
        addend: Option<Tensor>,
        weight: &Tensor,
        epsilon: f32,
    ) -> Result<Tensor, EngineError> {
        if let Some(addend) = addend {
            *stream = stream.add(&addend).map_err(failed)?;
        }
        self.norm(stream, weight, epsilon)
    }

    fn project<const N: usize>(
        &self,
        rows: &Tensor,
        matrices: [&DeviceMatrix; N],
    ) -> Result<[Tensor; N], EngineError> {
        let mut outs = Vec::with_capacity(N);
        for matrix in matrices {
            let out = matrix.product.forward(rows).map_err(failed)?;
            outs.push(match &matrix.bias {
                Some(bias) => out.broadcast_add(bias).map_err(failed)?,
                None => out,
            });
        }
        outs.try_into().map_err(|_| EngineError::Compute {
            detail: "a product is missing".to_owned(),
        })
    }

    fn rotate(
        &self,
        rows: Tensor,
        norm: Option<(&Tensor, f32)>,
        turns: &DeviceTurns,
    ) -> Result<Tensor, EngineError> {
        rotate(&rows, norm, turns).map_err(failed)
    }

    fn attend(
        &self,
        attention: &Attention,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        spans: &mut [Span<'_, DevicePage>],
    ) -> Result<Tensor, EngineError> {
        let (mut start, mut outs) = (0, Vec::with_capacity(spans.len()));
        for span in spans.iter_mut().filter(|span| !span.ids.is_empty()) {
            let rows = span.ids.len();
            let of_span = |all: &Tensor| all.narrow(0, start, rows);
            write(attention, span.state, &of_span(&keys).map_err(failed)?, 0)?;
            write(attention, span.state, &of_span(&values).map_err(failed)?, 1)?;
            let queries = of_span(&queries).map_err(failed)?;
            outs.push(self.span(attention, span.state, &queries).map_err(failed)?);
            start += rows;
        }
        Tensor::cat(&outs, 0).map_err(failed)
    }

    fn gate(
        &self,
        gate: Tensor,
        up: Tensor,
        activation: Activation,
    ) -> Result<Tensor, EngineError> {
        let gated = match activation {
            Activation::Silu => gate.silu(),
            Activation::Gelu => gate.gelu(),
        };
        gated.and_then(|gated| gated.mul(&up)).map_err(failed)
    }

    fn combine(&self, parts: &[Tensor], sums: &[Vec<Share>]) -> Result<Tensor, EngineError> {
        self.sum_shares(parts, sums).map_err(failed)
    }
}

impl Candle {
    fn indices(&self, of: impl Iterator<Item = usize>) -> candle_core::Result<Tensor> {
        let indices: Vec<u32> = of.map(|index| index as u32).collect();
        let count = indices.len();
        Tensor::from_vec(indices, count, &self.device)
    }

    /// Attends the queries `[rows][heads · head_width]` of a sequence, whose keys and values are written, to all that
    /// each of them sees.
    fn span(
        &self,
        attention: &Attention,
        state: &SequenceState<DevicePage>,
        queries: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let Attention {
            heads,
            kv_heads,
            head_width,
            ..
        } = *attention;
        let rows = queries.dim(0)?;
        let (before, sharing) = (state.len(), heads / kv_heads);
        // Pages that even the first row no longer sees are left out.
        let first = match attention.window {
            Some(window) => (before + 1).saturating_sub(window) / PAGE,
            None => 0,
        };
        let (start, seen) = (first * PAGE, before + rows - first * PAGE);
        let history = |which: usize| {
            let from = first_row(attention.layer) + which * PAGE;
            let pages = (first..(before + rows).div_ceil(PAGE))
                .map(|page| match state.page(page, attention.reach) {
                    Some(page) => page.rows.narrow(0, from, PAGE),
                    None => candle_core::bail!("a page that is seen has left its window"),
                })
                .collect::<candle_core::Result<Vec<_>>>()?;
            // [kv_heads][seen][head_width]
            Tensor::cat(&pages, 0)?
                .narrow(0, 0, seen)?
                .reshape((seen, kv_heads, head_width))?
                .transpose(0, 1)?
                .contiguous()
        };
        let (keys, values) = (history(0)?, history(1)?);
        // [kv_heads][sharing · rows][head_width]
        let queries = (queries * f64::from(attention.scale))?
            .reshape((rows, kv_heads, sharing, head_width))?
            .permute((1, 2, 0, 3))?
            .contiguous()?
            .reshape((kv_heads, sharing * rows, head_width))?;
        let mut scores = queries.matmul(&keys.transpose(1, 2)?.contiguous()?)?;
        if let Some(mask) = self.mask(attention, before, rows, start, seen)? {
            scores = scores
                .reshape((kv_heads * sharing, rows, seen))?
                .broadcast_add(&mask)?
                .reshape((kv_heads, sharing * rows, seen))?;
        }
        let largest = scores.max_keepdim(D::Minus1)?;
        let powers = scores.broadcast_sub(&largest)?.exp()?;
        let shares = powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?;
        shares
            .matmul(&values)?
            .reshape((kv_heads, sharing, rows, head_width))?
            .permute((2, 0, 1, 3))?
            .contiguous()?
            .reshape((rows, heads * head_width))
    }

    /// What is added to the scores `[rows][seen]` of positions from `start` on: minus infinity where a row does not see.
    /// `None` where every row sees all.
    fn mask(
        &self,
        attention: &Attention,
        before: usize,
        rows: usize,
        start: usize,
        seen: usize,
    ) -> candle_core::Result<Option<Tensor>> {
        let sees = |row: usize, position: usize| {
            let own = before + row;
            let reach = attention.window.unwrap_or(usize::MAX);
            position <= own && own - position < reach
        };
        let all = (0..rows).flat_map(|row| (start..start + seen).map(move |at| (row, at)));
        let mask: Vec<f32> = all
            .map(|(row, at)| match sees(row, at) {
                true => 0.0,
                false => f32::NEG_INFINITY,
            })
            .collect();
        if mask.iter().all(|&added| added == 0.0) {
            return Ok(None);
        }
        Tensor::from_vec(mask, (1, rows, seen), &self.device).map(Some)
    }

    fn sum_shares(&self, parts: &[Tensor], sums: &[Vec<Share>]) -> candle_core::Result<Tensor> {
        let mut offsets = Vec::with_capacity(parts.len());
        let mut total = 0;
        for part in parts {
            offsets.push(total);
            total += part.dim(0)?;
        }
        let all = Tensor::cat(parts, 0)?;
        let most = sums.iter().map(Vec::len).max().unwrap_or(0);
        let mut sum = Tensor::zeros((sums.len(), all.dim(1)?), DType::F32, &self.device)?;
        for rank in 0..most {
            // A sum with fewer shares takes nothing of some row.
            let nothing = (0, 0.0);
            let of_rank = sums.iter().map(|shares| {
                let share = shares.get(rank);
                share.map_or(nothing, |it| (offsets[it.part] + it.row, it.weight))
            });
            let (rows, weights): (Vec<usize>, Vec<f32>) = of_rank.unzip();
            let weights = Tensor::from_vec(weights, (sums.len(), 1), &self.device)?;
            let rows = all.index_select(&self.indices(rows.into_iter())?, 0)?;
            sum = (sum + rows.broadcast_mul(&weights)?)?;
        }
        Ok(sum)
    }
}

/// Writes keys (0) or values (1) `[rows][kv_heads · head_width]` of the positions after a sequence's length.
fn write(
    attention: &Attention,
    state: &mut SequenceState<DevicePage>,
    rows: &Tensor,
    which: usize,
) -> Result<(), EngineError> {
    let count = rows.dim(0).map_err(failed)?;
    let (mut position, end) = (state.len(), state.len() + count);
    while position < end {
        let slot = position % PAGE;
        let here = (PAGE - slot).min(end - position);
        let start = position - state.len();
        let page =
            state
                .page_mut(position, attention.reach)
                .ok_or_else(|| EngineError::Compute {
                    detail: "a page without a single owner".to_owned(),
                })?;
        let to = first_row(attention.layer) + which * PAGE + slot;
        let written = rows
            .narrow(0, start, here)
            .and_then(|rows| page.rows.slice_set(&rows, 0, to));
        written.map_err(failed)?;
        position += here;
    }
    Ok(())
}

/// RMSNorm over the last dimension.
fn norm(rows: &Tensor, weight: &Tensor, epsilon: f32) -> candle_core::Result<Tensor> {
    let mean = rows.sqr()?.mean_keepdim(D::Minus1)?;
    let root = (mean + f64::from(epsilon))?.sqrt()?;
    rows.broadcast_div(&root)?.broadcast_mul(weight)
}

fn rotate(
    rows: &Tensor,
    head_norm: Option<(&Tensor, f32)>,
    turns: &DeviceTurns,
) -> candle_core::Result<Tensor> {
    let (count, width) = rows.dims2()?;
    let (pairs, head_width) = (turns.pairs, turns.head_width);
    let mut heads = rows.reshape((count, width / head_width, head_width))?;
    if let Some((weight, epsilon)) = head_norm {
        heads = norm(&heads, weight, epsilon)?;
    }
    let turned = heads.narrow(2, 0, 2 * pairs)?;
    let (a, b) = match turns.style {
        RopePairs::Halves => (turned.narrow(2, 0, pairs)?, turned.narrow(2, pairs, pairs)?),
        RopePairs::Neighbours => {
            let each = turned.reshape((count, width / head_width, pairs, 2))?;
            (
                each.narrow(3, 0, 1)?.squeeze(3)?,
                each.narrow(3, 1, 1)?.squeeze(3)?,
            )
        }
    };
    let (sines, cosines) = (&turns.sines, &turns.cosines);
    let first = (a.broadcast_mul(cosines)? - b.broadcast_mul(sines)?)?;
    let second = (a.broadcast_mul(sines)? + b.broadcast_mul(cosines)?)?;
    let turned = match turns.style {
        RopePairs::Halves => Tensor::cat(&[first, second], 2)?,
        RopePairs::Neighbours => {
            Tensor::stack(&[first, second], 3)?.reshape((count, width / head_width, 2 * pairs))?
        }
    };
    let rest = head_width - 2 * pairs;
    let heads = match rest {
        0 => turned,
        _ => Tensor::cat(&[turned, heads.narrow(2, 2 * pairs, rest)?], 2)?,
    };
    heads.reshape((count, width))
}

/// The library's name of a format.
fn format(kind: TensorKind) -> Option<GgmlDType> {
    Some(match kind.number() {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
