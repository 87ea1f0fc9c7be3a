//! Weights packed for the kernels, and products with them.

use std::ops::Range;

use thiserror::Error;

use super::activations::Activations;
use super::blocks::Block;
use super::format::{Format, GROUP, Plane, STRIP};
use super::memory::{LINE, Memory, Store};
use super::strips::Work;
use super::{Set, dispatch};
use crate::file::TensorKind;
use crate::parallel;

/// Why a tensor cannot become a matrix.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum PackError {
    /// There is no code for its format.
    #[error("there is no code for weights stored as {kind}")]
    Unsupported {
        /// The format's name.
        kind: String,
    },
    /// A row is no whole number of blocks, or the bytes are not the shape's.
    #[error("{bytes} bytes are not {outputs} rows of {inputs} weights stored as {kind}")]
    Shape {
        /// The format's name.
        kind: String,
        /// Bytes of the tensor.
        bytes: usize,
        /// Rows due.
        outputs: usize,
        /// Weights due in each.
        inputs: usize,
    },
    /// The system has no memory for it.
    #[error("the system has no {bytes} bytes for weights")]
    Memory {
        /// Bytes due.
        bytes: usize,
    },
}

/// Bytes of a tensor that are packed before it is said that they were: of a large one, what is packed already and what is
/// not must not both stay in memory. Threads that wait for the last of a portion lose nothing beside it.
const PORTION: usize = 2 << 20;

/// Weights (`[outputs][inputs]`), packed in strips of 16 outputs.
#[derive(Debug)]
pub(crate) struct Matrix {
    format: Format,
    outputs: usize,
    inputs: usize,
    /// Strip after strip, each block with its scales before its integers: what is read together lies together.
    strips: Memory,
}

impl Matrix {
    /// Packs a tensor's bytes into memory of a store. `taken` hears which of the bytes are packed and not looked at again.
    pub(crate) fn pack(
        store: &Store,
        kind: TensorKind,
        bytes: &[u8],
        [outputs, inputs]: [usize; 2],
        taken: &dyn Fn(Range<usize>),
    ) -> Result<Self, PackError> {
        Self::pack_as(store, format_of(kind)?, bytes, [outputs, inputs], taken)
    }

    /// Packs a tensor's bytes of a format.
    pub(super) fn pack_as(
        store: &Store,
        format: Format,
        bytes: &[u8],
        [outputs, inputs]: [usize; 2],
        taken: &dyn Fn(Range<usize>),
    ) -> Result<Self, PackError> {
        let shape = || PackError::Shape {
            kind: format.name().to_owned(),
            bytes: bytes.len(),
            outputs,
            inputs,
        };
        if row_bytes(format, inputs).and_then(|row| row.checked_mul(outputs)) != Some(bytes.len()) {
            return Err(shape());
        }
        let strip = strip_bytes(format, inputs);
        let length = outputs.div_ceil(STRIP).checked_mul(strip);
        let length = length.ok_or_else(shape)?;
        let mut matrix = Self {
            format,
            outputs,
            inputs,
            strips: store
                .take(length)
                .ok_or(PackError::Memory { bytes: length })?,
        };
        matrix.fill(bytes, strip, taken);
        Ok(matrix)
    }

    /// Bytes that a packed tensor takes; 0 for formats without code and shapes that cannot be.
    pub(crate) fn packed_bytes(kind: TensorKind, outputs: usize, inputs: usize) -> u64 {
        let Some(format) = Format::of(kind) else {
            return 0;
        };
        let strip = strip_bytes(format, inputs) as u64;
        (outputs.div_ceil(STRIP) as u64).saturating_mul(strip)
    }

    /// Outputs per row.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Inputs per row.
    #[cfg(test)]
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.strips.bytes().len()
    }

    fn fill(&mut self, bytes: &[u8], strip: usize, taken: &dyn Fn(Range<usize>)) {
        let (format, inputs) = (self.format, self.inputs);
        let row = bytes.len() / self.outputs.max(1);
        if strip == 0 || row == 0 {
            return;
        }
        let strips = (PORTION / (STRIP * row)).max(1);
        let portions = self.strips.bytes_mut().chunks_mut(strips * strip);
        for (packed, from) in portions.zip((0..).step_by(strips * STRIP * row)) {
            parallel::chunks(packed, strip, STRIP * inputs, |index, packed| {
                let rows = bytes[from + index * STRIP * row..].chunks_exact(row);
                match format.is_float() {
                    true => pack_floats(format, rows.take(STRIP), packed),
                    false => pack_integers(format, rows.take(STRIP), packed),
                }
            });
            taken(from..bytes.len().min(from + strips * STRIP * row));
        }
    }
}

/// Bytes of a packed strip: whole cache lines.
fn strip_bytes(format: Format, inputs: usize) -> usize {
    let (weights, bytes) = format.block();
    let blocks = match format.is_float() {
        true => inputs.saturating_mul(STRIP * bytes),
        false => inputs / weights * packed_block(format),
    };
    blocks.div_ceil(LINE).saturating_mul(LINE)
}

/// Bytes of a packed block of integers with its scales, all rows of the strip.
fn packed_block(format: Format) -> usize {
    let (weights, _) = format.block();
    format.scale_bytes() + weights / GROUP * format.group_bytes()
}

/// One product of a [`multiply_all`].
#[derive(Debug)]
pub(crate) struct Product<'p> {
    /// The weights.
    pub(crate) matrix: &'p Matrix,
    /// `[rows][outputs]`.
    pub(crate) out: &'p mut [f32],
}

/// Multiplies rows (`[count][inputs]`) with a matrix, into `[count][outputs]`.
pub(crate) fn multiply(matrix: &Matrix, activations: &Activations<'_>, out: &mut [f32]) {
    multiply_all(super::set(), activations, &mut [Product { matrix, out }]);
}

/// Multiplies the same rows with several matrices, as one piece of work for all threads.
pub(crate) fn multiply_all(set: Set, activations: &Activations<'_>, products: &mut [Product<'_>]) {
    let count = activations.count();
    if count == 0 {
        return;
    }
    let inputs = activations.width();
    let mut parts = Vec::with_capacity(products.len());
    let mut strips = 0;
    for product in products {
        let Product { matrix, out } = product;
        assert_eq!(matrix.inputs, inputs);
        assert_eq!(out.len(), count * matrix.outputs);
        let groups = match matrix.format.is_float() {
            true => &[],
            false => activations.groups(set),
        };
        let work = Work {
            weights: matrix.strips.bytes().as_ptr(),
            stride: strip_bytes(matrix.format, inputs),
            strips: matrix.outputs.div_ceil(STRIP),
            inputs,
            outputs: matrix.outputs,
            first: 0,
            groups: groups.as_ptr(),
            rows: activations.rows().as_ptr(),
            count,
            out: out.as_mut_ptr(),
        };
        strips += work.strips;
        parts.push(Part {
            work,
            format: matrix.format,
        });
    }
    let cost = STRIP * inputs * count;
    // Some strips at a time, so that taking work costs little beside doing it.
    let together = WORTH_TAKING.div_ceil(cost.max(1));
    let together = together
        .min(strips.div_ceil(SHARES * parallel::threads()))
        .max(1)
        .next_multiple_of(if parts.iter().any(|part| part.format.is_float()) {
            PAIR
        } else {
            1
        });
    let units: Vec<(&Part, usize)> = parts
        .iter()
        .flat_map(|part| {
            (0..part.work.strips)
                .step_by(together)
                .map(move |strip| (part, strip))
        })
        .collect();
    parallel::run(units.len(), together * cost, |unit| {
        let (part, strip) = units[unit];
        // SAFETY: memory has the extent of the matrix's shape, which `pack` gave it and the assertions above compared;
        // the strips of a unit are in no other.
        #[allow(unsafe_code)]
        unsafe {
            part.compute(set, strip, together);
        }
    });
}

/// Multiply-adds that are worth a look at the shared counter.
const WORTH_TAKING: usize = 100_000;

/// Strips of floats that kernels may compute as one.
const PAIR: usize = 2;

/// Into how many pieces per thread a product is cut at least, where it has as many strips.
const SHARES: usize = 4;

/// A whole product, to be computed strip by strip.
struct Part {
    work: Work,
    format: Format,
}

// SAFETY: its pointers are read by all threads, but for `out`, of which each strip's outputs are written by one.
#[allow(unsafe_code)]
unsafe impl Sync for Part {}

impl Part {
    /// # Safety
    ///
    /// As for [`super::strips::strips`], of which this is the whole; `strip` is one of its strips.
    #[allow(unsafe_code)]
    unsafe fn compute(&self, set: Set, strip: usize, strips: usize) {
        // SAFETY: the caller's promises.
        unsafe {
            let work = Work {
                weights: self.work.weights.add(strip * self.work.stride),
                strips: strips.min(self.work.strips - strip),
                first: strip * STRIP,
                ..self.work
            };
            dispatch(set, self.format, &work);
        }
    }
}

/// Decodes row `index` of a tensor's bytes into its weights.
pub(crate) fn row(
    kind: TensorKind,
    bytes: &[u8],
    index: usize,
    out: &mut [f32],
) -> Result<(), PackError> {
    let format = format_of(kind)?;
    let row = row_bytes(format, out.len()).and_then(|length| {
        let start = index.checked_mul(length)?;
        bytes.get(start..start.checked_add(length)?)
    });
    let row = row.ok_or_else(|| PackError::Shape {
        kind: kind.to_string(),
        bytes: bytes.len(),
        outputs: index.saturating_add(1),
        inputs: out.len(),
    })?;
    let (weights, size) = format.block();
    let blocks = row.chunks_exact(size).zip(out.chunks_exact_mut(weights));
    let mut block = Block::new();
    for (bytes, out) in blocks {
        match (format, bytes) {
            (Format::F32, &[a, b, c, d]) => out[0] = f32::from_le_bytes([a, b, c, d]),
            (Format::F16, &[a, b]) => out[0] = half::f16::from_le_bytes([a, b]).to_f32(),
            (Format::BF16, &[a, b]) => out[0] = half::bf16::from_le_bytes([a, b]).to_f32(),
            _ => {
                block.read(format, bytes);
                block.weights(format, out);
            }
        }
    }
    Ok(())
}

/// Bytes of a row of so many weights in a tensor of that kind.
pub(crate) fn row_length(kind: TensorKind, inputs: usize) -> Result<usize, PackError> {
    let length = row_bytes(format_of(kind)?, inputs);
    length.ok_or_else(|| PackError::Shape {
        kind: kind.to_string(),
        bytes: 0,
        outputs: 1,
        inputs,
    })
}

fn format_of(kind: TensorKind) -> Result<Format, PackError> {
    Format::of(kind).ok_or_else(|| PackError::Unsupported {
        kind: kind.to_string(),
    })
}

/// Bytes of a row in a file, where it is a whole number of blocks.
fn row_bytes(format: Format, inputs: usize) -> Option<usize> {
    let (weights, bytes) = format.block();
    inputs
        .is_multiple_of(weights)
        .then(|| (inputs / weights).checked_mul(bytes))
        .flatten()
}

fn pack_floats<'b>(format: Format, rows: impl Iterator<Item = &'b [u8]>, packed: &mut [u8]) {
    let (_, size) = format.block();
    let mut rows: Vec<_> = rows.map(|row| row.chunks_exact(size)).collect();
    for packed in packed.chunks_exact_mut(STRIP * size) {
        for (packed, row) in packed.chunks_exact_mut(size).zip(&mut rows) {
            if let Some(value) = row.next() {
                packed.copy_from_slice(value);
            }
        }
    }
}

fn pack_integers<'b>(format: Format, rows: impl Iterator<Item = &'b [u8]>, packed: &mut [u8]) {
    let (_, size) = format.block();
    let mut rows: Vec<_> = rows.map(|row| row.chunks_exact(size)).collect();
    let mut block = Block::new();
    for packed in packed.chunks_exact_mut(packed_block(format)) {
        let (scales, quants) = packed.split_at_mut(format.scale_bytes());
        for (lane, row) in rows.iter_mut().enumerate() {
            let Some(bytes) = row.next() else {
                continue;
            };
            block.read(format, bytes);
            let groups = quants.chunks_exact_mut(format.group_bytes());
            for (integers, group) in block.quants.chunks_exact(GROUP).zip(groups) {
                pack_group(format.planes(), integers, lane, group);
            }
            pack_scales(format, &block, lane, scales);
        }
    }
}

/// Puts a row's integers of one group into its planes.
fn pack_group(planes: &[Plane], integers: &[u8], lane: usize, group: &mut [u8]) {
    let mut fours = [0u32; 8];
    for (four, bytes) in fours.iter_mut().zip(integers.as_chunks().0) {
        *four = u32::from_le_bytes(*bytes);
    }
    let mut vectors = group.chunks_exact_mut(4 * STRIP);
    let mut put = |word: u32| {
        if let Some(vector) = vectors.next() {
            vector[4 * lane..][..4].copy_from_slice(&word.to_le_bytes());
        }
    };
    let mut below = 0;
    for plane in planes {
        // Of four integers, the bits that belong to the plane.
        let field = |at: usize, mask: u32| (fours[at] >> below) & (mask * 0x0101_0101);
        match plane {
            Plane::Bytes => (0..8).for_each(|at| put(fours[at])),
            Plane::Nibbles => (0..4).for_each(|at| put(field(at, 15) | field(at + 4, 15) << 4)),
            Plane::Pairs => (0..2).for_each(|at| {
                put((0..4).fold(0, |word, share| {
                    word | field(4 * at + share, 3) << (2 * share)
                }));
            }),
            Plane::Bits => put((0..8).fold(0, |word, share| word | field(share, 1) << share)),
        }
        below += plane.bits();
    }
}

/// Puts a row's scales of one block into its place.
fn pack_scales(format: Format, block: &Block, lane: usize, scales: &mut [u8]) {
    let mut halves = scales.chunks_exact_mut(2 * STRIP);
    let mut put = |value: half::f16| {
        if let Some(values) = halves.next() {
            values[2 * lane..][..2].copy_from_slice(&value.to_le_bytes());
        }
    };
    put(block.step);
    let in_file = format.block().0;
    if format.has_mins() {
        // Minima of long blocks are subtracted in the file's terms, and added here.
        put(if in_file == GROUP {
            block.least
        } else {
            -block.least
        });
    }
    let Some(start) = (in_file > GROUP).then_some(if format.has_mins() { 4 } else { 2 } * STRIP)
    else {
        return;
    };
    let mut factors = scales[start..].chunks_exact_mut(STRIP);
    // One factor per 32 where the format repeats it for both halves.
    let step = if matches!(format, Format::Q4K | Format::Q5K) {
        2
    } else {
        1
    };
    for at in (0..block.scales.len()).step_by(step) {
        let mut put = |factor: i8| {
            if let Some(factors) = factors.next() {
                factors[lane] = factor.cast_unsigned();
            }
        };
        put(block.scales[at]);
        if format.has_mins() {
            put(block.mins[at]);
        }
    }
}
