//! Rows that matrices are multiplied with, rounded to 8 bits once for all of them.

use std::cell::OnceCell;

use super::format::GROUP;
use super::{Set, vectorised};
use crate::parallel;

/// Rows that are computed together. Their groups lie side by side, so that a kernel reads one stream.
pub(super) const TILE: usize = 8;

/// Below it a group counts as zeros: 127 divided by it would no longer be finite.
const SMALLEST: f32 = 1e-36;

/// Rows of activations (`[count][width]`). They are rounded to 8 bits when the first matrix of integers asks.
#[derive(Debug)]
pub(crate) struct Activations<'r> {
    rows: &'r [f32],
    width: usize,
    groups: OnceCell<Vec<Group>>,
}

/// 32 neighbours of a row: `value = scale · quant`. A cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Group {
    pub(super) quants: [i8; GROUP],
    /// NaN where a value is not finite: rounding would hide it, and an answer of a damaged model would go on as nonsense.
    pub(super) scale: f32,
    /// The sum of the quants.
    pub(super) sum: f32,
    /// The sums of their halves.
    pub(super) halves: [f32; 2],
    /// The sums again, negative.
    pub(super) minus: i32,
    pub(super) minus_halves: [i32; 2],
}

impl Group {
    const ZERO: Self = Self {
        quants: [0; GROUP],
        scale: 0.0,
        sum: 0.0,
        halves: [0.0; 2],
        minus: 0,
        minus_halves: [0; 2],
    };
}

impl<'r> Activations<'r> {
    /// Rows of `width` values.
    pub(crate) fn new(rows: &'r [f32], width: usize) -> Self {
        assert!(width > 0 && rows.len().is_multiple_of(width));
        Self {
            rows,
            width,
            groups: OnceCell::new(),
        }
    }

    /// How many rows there are.
    pub(crate) fn count(&self) -> usize {
        self.rows.len() / self.width
    }

    /// Values of a row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn rows(&self) -> &'r [f32] {
        self.rows
    }

    /// The rows in groups: `[tile][group][row of the tile]`, the last tile with the rows that are left. The width is a
    /// multiple of [`GROUP`].
    pub(super) fn groups(&self, set: Set) -> &[Group] {
        self.groups.get_or_init(|| {
            assert!(self.width.is_multiple_of(GROUP));
            let (rows, width, per_row) = (self.rows, self.width, self.width / GROUP);
            let mut groups = vec![Group::ZERO; self.count() * per_row];
            // Rows of a tile are interleaved: a unit of work is a tile.
            let tile = TILE * per_row;
            parallel::chunks(&mut groups, tile, 4 * TILE * width, |index, groups| {
                let stride = groups.len() / per_row;
                let rows = rows[index * TILE * width..].chunks_exact(width);
                for (row, values) in rows.take(stride).enumerate() {
                    round(set, values, groups, row, stride);
                }
            });
            groups
        })
    }
}

vectorised! {
    /// Rounds a row into every `stride`th group from `first` on.
    fn round(values: &[f32], groups: &mut [Group], first: usize, stride: usize) {
        // Adding 1.5 · 2^23 rounds to a whole number and leaves it in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        let groups = groups[first..].iter_mut().step_by(stride);
        let (values, _) = values.as_chunks::<GROUP>();
        for (values, group) in values.iter().zip(groups) {
            // Magnitudes of floats are ordered as their bits are.
            let largest = values
                .iter()
                .fold(0, |largest: u32, value| largest.max(value.abs().to_bits()));
            let largest = f32::from_bits(largest);
            let inverse = if largest >= SMALLEST { 127.0 / largest } else { 0.0 };
            let mut whole = [0i32; GROUP];
            for (whole, value) in whole.iter_mut().zip(values) {
                let bits = (value * inverse + ROUND).to_bits();
                *whole = bits.wrapping_sub(ROUND.to_bits()).cast_signed();
            }
            for (quant, whole) in group.quants.iter_mut().zip(&whole) {
                *quant = *whole as i8;
            }
            let (first, second) = whole.split_at(GROUP / 2);
            // What is no number may overflow; it is told by the scale.
            let sum_of = |half: &[i32]| half.iter().fold(0, |sum: i32, it| sum.wrapping_add(*it));
            let halves = [sum_of(first), sum_of(second)];
            let sum = halves[0].wrapping_add(halves[1]);
            group.scale = if largest.is_finite() { largest / 127.0 } else { f32::NAN };
            group.sum = sum as f32;
            group.halves = [halves[0] as f32, halves[1] as f32];
            group.minus = sum.wrapping_neg();
            group.minus_halves = [halves[0].wrapping_neg(), halves[1].wrapping_neg()];
        }
    }
}
