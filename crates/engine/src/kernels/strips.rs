//! The product itself, once for all formats and instruction sets: rows of activations with strips of weights.
//!
//! Of every group: the dot product in integers, exact; then in floats `t = dot · step`, `t += min · Σ activations`, and
//! `sum += t · scale of the activations`, each but the first with one rounding. An output depends on its row of weights
//! and its row of activations and on nothing else: neither on what is computed beside it nor on the instructions.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use super::activations::{Group, TILE};
use super::format::{GROUP, STRIP};
use super::isa::Isa;
use super::memory::LINE;

/// Consecutive strips of a matrix, and the rows to multiply them with.
#[derive(Debug)]
pub(super) struct Work {
    /// The first strip.
    pub(super) weights: *const u8,
    /// Bytes from strip to strip.
    pub(super) stride: usize,
    pub(super) strips: usize,
    /// Inputs; a multiple of [`GROUP`] where weights are integers.
    pub(super) inputs: usize,
    /// Of the matrix; the last strip may have fewer than [`STRIP`].
    pub(super) outputs: usize,
    /// The first strip's first output.
    pub(super) first: usize,
    /// `[tile][group][row of the tile]`; unused where weights are floats.
    pub(super) groups: *const Group,
    /// `[count][inputs]`; unused where weights are integers.
    pub(super) rows: *const f32,
    /// Rows of activations.
    pub(super) count: usize,
    /// `[count][outputs]`.
    pub(super) out: *mut f32,
}

/// A packed format, as the kernels see it.
pub(super) trait Formatted {
    /// Whether a weight of a lane is a register of its own and not a share of one: there is room then for the sums of two
    /// strips, so that each load of an activation serves both.
    const PAIRS: bool;

    /// Computes `M` rows from `row` on with `PARTS · LANES` outputs, from lane `lane` of a strip on. Where that is more
    /// than a strip has, outputs of the next one follow.
    ///
    /// # Safety
    ///
    /// As for [`strips`]; the strips are the work's, and the rows are below its count and in one tile.
    unsafe fn tile<S: Isa, const M: usize, const PARTS: usize>(
        work: &Work,
        strip: usize,
        lane: usize,
        row: usize,
    ) -> [[S::Float; PARTS]; M];
}

/// Computes the products of a work.
///
/// # Safety
///
/// The processor has the instructions of `S`, and the caller is compiled with them. The work's pointers are valid for the
/// extents that its numbers and the format name, and nobody else uses the outputs of its strips meanwhile.
#[inline(always)]
pub(super) unsafe fn strips<S: Isa, F: Formatted>(work: &Work) {
    let mut strip = 0;
    while strip < work.strips {
        let pair = F::PAIRS && S::LANES == STRIP && strip + 1 < work.strips;
        let mut row = 0;
        while row < work.count {
            let left = (TILE - row % TILE).min(work.count - row);
            // SAFETY: the caller's promises; `left` rows from `row` on are in one tile.
            unsafe {
                row += match left {
                    8.. if S::ROWS >= 8 => part::<S, F, 8>(work, strip, pair, row),
                    4.. => part::<S, F, 4>(work, strip, pair, row),
                    2.. => part::<S, F, 2>(work, strip, pair, row),
                    _ => part::<S, F, 1>(work, strip, pair, row),
                }
            }
        }
        strip += if pair { 2 } else { 1 };
    }
}

/// Computes `M` rows of a strip, or of a pair of them. Gives `M`.
///
/// # Safety
///
/// As for [`Formatted::tile`].
#[inline(always)]
unsafe fn part<S: Isa, F: Formatted, const M: usize>(
    work: &Work,
    strip: usize,
    pair: bool,
    row: usize,
) -> usize {
    // SAFETY: the caller's promises.
    unsafe {
        match (S::LANES, M) {
            (STRIP, _) if F::PAIRS && pair => lanes::<S, F, M, 2>(work, strip, row),
            // Few rows leave registers for the whole strip, whose memory is then read in one go.
            (8, ..=2) => lanes::<S, F, M, 2>(work, strip, row),
            (4, ..=1) => lanes::<S, F, M, 4>(work, strip, row),
            _ => lanes::<S, F, M, 1>(work, strip, row),
        }
    }
    M
}

/// # Safety
///
/// As for [`Formatted::tile`].
#[inline(always)]
unsafe fn lanes<S: Isa, F: Formatted, const M: usize, const PARTS: usize>(
    work: &Work,
    strip: usize,
    row: usize,
) {
    for lane in (0..STRIP).step_by(PARTS * S::LANES) {
        // SAFETY: the caller's promises; outputs are written below the matrix's count alone.
        unsafe {
            let sums = F::tile::<S, M, PARTS>(work, strip, lane, row);
            for (at, sums) in sums.into_iter().enumerate() {
                for (part, sum) in sums.into_iter().enumerate() {
                    // Strips lie one after the other, as outputs do.
                    let first = work.first + strip * STRIP + lane + part * S::LANES;
                    let out = work.out.add((row + at) * work.outputs);
                    if first + S::LANES <= work.outputs {
                        S::store(out.add(first), sum);
                    } else {
                        let mut values = [0.0; STRIP];
                        S::store(values.as_mut_ptr(), sum);
                        for (output, value) in (first..work.outputs).zip(values) {
                            out.add(output).write(value);
                        }
                    }
                }
            }
        }
    }
}

/// Integers in planes `P` with scales `C`, less `2^OFFSET` (0: nothing).
pub(super) struct Integers<P, C, const OFFSET: u32>(PhantomData<(P, C)>);

/// How the integers of a group are stored.
pub(super) trait Planes {
    /// Bits of an integer.
    const BITS: usize;
    /// Bytes of a group.
    const BYTES: usize;

    /// The eight vectors of a group, in the lanes from `group` on.
    ///
    /// # Safety
    ///
    /// See [`Isa`]; a group is readable from `group − 4 · lane` on.
    unsafe fn unpack<S: Isa>(group: *const u8) -> [S::Int; 8];
}

/// How the scales of a block are stored.
pub(super) trait Scales {
    /// Groups of a block.
    const GROUPS: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// Each half of a group has a scale of its own.
    const HALVES: bool;
    /// There are minima.
    const MINS: bool;

    /// The steps and minima of a group's halves (the first of them for both where they are the same).
    ///
    /// # Safety
    ///
    /// See [`Isa`]; a block is readable from `block` on, and `group` is one of its.
    unsafe fn read<S: Isa>(block: *const u8, group: usize, lane: usize) -> Steps<S>;
}

/// Of both halves of a group: what an integer is multiplied with, and what is added.
pub(super) struct Steps<S: Isa> {
    steps: [S::Float; 2],
    mins: [S::Float; 2],
}

impl<P: Planes, C: Scales, const OFFSET: u32> Formatted for Integers<P, C, OFFSET> {
    const PAIRS: bool = false;

    #[inline(always)]
    unsafe fn tile<S: Isa, const M: usize, const PARTS: usize>(
        work: &Work,
        strip: usize,
        lane: usize,
        row: usize,
    ) -> [[S::Float; PARTS]; M] {
        let groups = work.inputs / GROUP;
        let blocks = groups / C::GROUPS;
        let lines = (P::BYTES + C::BYTES / C::GROUPS).div_ceil(LINE);
        let tile = row / TILE * TILE;
        let together = TILE.min(work.count - tile);
        // SAFETY: the caller's promises.
        unsafe {
            let mut block = work.weights.add(strip * work.stride);
            let mut ahead = block.wrapping_add(AHEAD);
            let mut activations = work.groups.add(tile * groups + row - tile);
            let mut sums = [[S::splat(0.0); PARTS]; M];
            for _ in 0..blocks {
                let mut quants = block.add(C::BYTES + 4 * lane);
                for group in 0..C::GROUPS {
                    for line in 0..lines {
                        S::prefetch(ahead.wrapping_add(LINE * line));
                    }
                    ahead = ahead.wrapping_add(P::BYTES + C::BYTES / C::GROUPS);
                    for part in 0..PARTS {
                        let weights = P::unpack::<S>(quants.add(4 * S::LANES * part));
                        let steps = C::read::<S>(block, group, lane + S::LANES * part);
                        for (at, sums) in sums.iter_mut().enumerate() {
                            let activations = &*activations.add(at);
                            let term = term::<S, P, C, OFFSET>(weights, &steps, activations);
                            let scale = S::splat(activations.scale);
                            sums[part] = S::mul_add(term, scale, sums[part]);
                        }
                    }
                    quants = quants.add(P::BYTES);
                    activations = activations.add(together);
                }
                block = block.add(C::BYTES + C::GROUPS * P::BYTES);
            }
            sums
        }
    }
}

/// Bytes between what is read and what is fetched: a row of activations computes faster than memory answers.
const AHEAD: usize = 8192;

/// A group's share of an output, but for the scale of the activations.
///
/// # Safety
///
/// See [`Isa`].
#[inline(always)]
unsafe fn term<S: Isa, P: Planes, C: Scales, const OFFSET: u32>(
    weights: [S::Int; 8],
    steps: &Steps<S>,
    activations: &Group,
) -> S::Float {
    let quants = activations.quants.as_ptr();
    // SAFETY: the caller's promises, and a group's quants are 32 bytes.
    unsafe {
        if C::HALVES {
            let [a, b, c, d, e, f, g, h] = weights;
            let minus = activations.minus_halves;
            let first = S::dot::<4, OFFSET>(P::BITS, [a, b, c, d], quants, minus[0]);
            let second =
                S::dot::<4, OFFSET>(P::BITS, [e, f, g, h], quants.add(GROUP / 2), minus[1]);
            let term = S::mul(S::float(first), steps.steps[0]);
            let mut term = S::mul_add(S::float(second), steps.steps[1], term);
            if C::MINS {
                for (min, half) in steps.mins.into_iter().zip(activations.halves) {
                    term = S::mul_add(min, S::splat(half), term);
                }
            }
            return term;
        }
        let dot = S::float(S::dot::<8, OFFSET>(
            P::BITS,
            weights,
            quants,
            activations.minus,
        ));
        let term = S::mul(dot, steps.steps[0]);
        if C::MINS {
            return S::mul_add(steps.mins[0], S::splat(activations.sum), term);
        }
        term
    }
}

/// Eight bits each, in order.
pub(super) struct Bytes;
/// Four bits.
pub(super) struct Nibbles;
/// Four bits and one above.
pub(super) struct FiveBits;
/// Four bits and two above.
pub(super) struct SixBits;
/// Two bits.
pub(super) struct TwoBits;
/// Two bits and one above.
pub(super) struct ThreeBits;

// Arrays are filled by loops and not by `array::from_fn`, which is not inlined across units of compilation.

/// The first `N` of eight vectors as they are, and the first again in place of the others.
#[inline(always)]
unsafe fn vectors<S: Isa, const N: usize>(plane: *const u8) -> [S::Int; 8] {
    // SAFETY: the caller's promises.
    unsafe {
        let mut vectors = [S::load(plane); 8];
        for (at, vector) in vectors.iter_mut().enumerate().take(N) {
            *vector = S::load(plane.add(64 * at));
        }
        vectors
    }
}

/// Of eight vectors, four hold low nibbles and the next four high ones.
#[inline(always)]
unsafe fn nibbles<S: Isa>(plane: *const u8) -> [S::Int; 8] {
    // SAFETY: the caller's promises.
    unsafe {
        let mut vectors = vectors::<S, 4>(plane);
        for at in 0..4 {
            (vectors[at], vectors[at + 4]) =
                (S::field(vectors[at], 0, 15), S::field(vectors[at], 4, 15));
        }
        vectors
    }
}

/// Pairs of bits of four vectors in each of two, moved up by `up`.
#[inline(always)]
unsafe fn pairs<S: Isa>(plane: *const u8, up: i32) -> [S::Int; 8] {
    // SAFETY: the caller's promises.
    unsafe {
        let packed = [S::load(plane), S::load(plane.add(64))];
        let mut vectors = [packed[0]; 8];
        for (at, vector) in vectors.iter_mut().enumerate() {
            *vector = S::field(packed[at / 4], 2 * (at as i32 % 4) - up, 3 << up);
        }
        vectors
    }
}

/// Single bits of eight vectors in one, moved up by `up`.
#[inline(always)]
unsafe fn bits<S: Isa>(plane: *const u8, up: i32) -> [S::Int; 8] {
    // SAFETY: the caller's promises.
    unsafe {
        let mut vectors = [S::load(plane); 8];
        for (at, vector) in vectors.iter_mut().enumerate() {
            *vector = S::field(*vector, at as i32 - up, 1 << up);
        }
        vectors
    }
}

#[inline(always)]
unsafe fn both<S: Isa>(mut low: [S::Int; 8], high: [S::Int; 8]) -> [S::Int; 8] {
    // SAFETY: the caller's promises.
    unsafe {
        for (low, high) in low.iter_mut().zip(high) {
            *low = S::or(*low, high);
        }
        low
    }
}

/// Names a format's planes: its bits, its vectors of 64 bytes, and how they come together.
macro_rules! planes {
    ($name:ident, $bits:literal, $vectors:literal, $group:ident => $unpacked:expr) => {
        impl Planes for $name {
            const BITS: usize = $bits;
            const BYTES: usize = 64 * $vectors;

            #[inline(always)]
            unsafe fn unpack<S: Isa>($group: *const u8) -> [S::Int; 8] {
                // SAFETY: the caller's promises.
                unsafe { $unpacked }
            }
        }
    };
}

planes!(Bytes, 8, 8, group => vectors::<S, 8>(group));
planes!(Nibbles, 4, 4, group => nibbles::<S>(group));
planes!(FiveBits, 5, 5, group => both::<S>(nibbles::<S>(group), bits::<S>(group.add(256), 4)));
planes!(SixBits, 6, 6, group => both::<S>(nibbles::<S>(group), pairs::<S>(group.add(256), 4)));
planes!(TwoBits, 2, 2, group => pairs::<S>(group, 0));
planes!(ThreeBits, 3, 3, group => both::<S>(pairs::<S>(group, 0), bits::<S>(group.add(128), 2)));

/// A step per block of 32.
pub(super) struct Step;
/// A step and a minimum per block of 32.
pub(super) struct StepAndMin;
/// A step per block of 256, a factor per 16.
pub(super) struct Factors;
/// A step and a minimum per block of 256, a factor of each per 32.
pub(super) struct FactorsAndMins;
/// A step and a minimum per block of 256, a factor of each per 16.
pub(super) struct HalfFactorsAndMins;

impl Scales for Step {
    const GROUPS: usize = 1;
    const BYTES: usize = 2 * STRIP;
    const HALVES: bool = false;
    const MINS: bool = false;

    #[inline(always)]
    unsafe fn read<S: Isa>(block: *const u8, _: usize, lane: usize) -> Steps<S> {
        // SAFETY: the caller's promises.
        unsafe {
            let step = S::load_f16(block.add(2 * lane));
            Steps {
                steps: [step; 2],
                mins: [step; 2],
            }
        }
    }
}

impl Scales for StepAndMin {
    const GROUPS: usize = 1;
    const BYTES: usize = 4 * STRIP;
    const HALVES: bool = false;
    const MINS: bool = true;

    #[inline(always)]
    unsafe fn read<S: Isa>(block: *const u8, _: usize, lane: usize) -> Steps<S> {
        // SAFETY: the caller's promises.
        unsafe {
            Steps {
                steps: [S::load_f16(block.add(2 * lane)); 2],
                mins: [S::load_f16(block.add(2 * (STRIP + lane))); 2],
            }
        }
    }
}

impl Scales for Factors {
    const GROUPS: usize = 8;
    const BYTES: usize = 18 * STRIP;
    const HALVES: bool = true;
    const MINS: bool = false;

    #[inline(always)]
    unsafe fn read<S: Isa>(block: *const u8, group: usize, lane: usize) -> Steps<S> {
        // SAFETY: the caller's promises.
        unsafe {
            let step = S::load_f16(block.add(2 * lane));
            let factors = block.add(2 * STRIP + 2 * group * STRIP + lane);
            let factor = |half: usize| S::mul(step, S::load_i8(factors.add(half * STRIP)));
            Steps {
                steps: [factor(0), factor(1)],
                mins: [step; 2],
            }
        }
    }
}

impl Scales for FactorsAndMins {
    const GROUPS: usize = 8;
    const BYTES: usize = 20 * STRIP;
    const HALVES: bool = false;
    const MINS: bool = true;

    #[inline(always)]
    unsafe fn read<S: Isa>(block: *const u8, group: usize, lane: usize) -> Steps<S> {
        // SAFETY: the caller's promises.
        unsafe {
            let factors = block.add(4 * STRIP + 2 * group * STRIP + lane);
            let step = S::mul(S::load_f16(block.add(2 * lane)), S::load_i8(factors));
            let least = S::load_f16(block.add(2 * (STRIP + lane)));
            let min = S::mul(least, S::load_i8(factors.add(STRIP)));
            Steps {
                steps: [step; 2],
                mins: [min; 2],
            }
        }
    }
}

impl Scales for HalfFactorsAndMins {
    const GROUPS: usize = 8;
    const BYTES: usize = 36 * STRIP;
    const HALVES: bool = true;
    const MINS: bool = true;

    #[inline(always)]
    unsafe fn read<S: Isa>(block: *const u8, group: usize, lane: usize) -> Steps<S> {
        // SAFETY: the caller's promises.
        unsafe {
            let step = S::load_f16(block.add(2 * lane));
            let least = S::load_f16(block.add(2 * (STRIP + lane)));
            let factors = block.add(4 * STRIP + 4 * group * STRIP + lane);
            let factor = |at: usize| S::load_i8(factors.add(at * STRIP));
            Steps {
                steps: [S::mul(step, factor(0)), S::mul(step, factor(2))],
                mins: [S::mul(least, factor(1)), S::mul(least, factor(3))],
            }
        }
    }
}

/// Floats as they are in the file, `[inputs][STRIP]`.
pub(super) struct Floats<T>(PhantomData<T>);

/// A type of float.
pub(super) trait Element {
    /// Bytes of it.
    const BYTES: usize;

    /// Reads a vector of them.
    ///
    /// # Safety
    ///
    /// See [`Isa`].
    unsafe fn load<S: Isa>(from: *const u8) -> S::Float;
}

impl Element for f32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<S: Isa>(from: *const u8) -> S::Float {
        // SAFETY: the caller's promises.
        unsafe { S::load_f32(from) }
    }
}

impl Element for half::f16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Isa>(from: *const u8) -> S::Float {
        // SAFETY: the caller's promises.
        unsafe { S::load_f16(from) }
    }
}

impl Element for half::bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Isa>(from: *const u8) -> S::Float {
        // SAFETY: the caller's promises.
        unsafe { S::load_bf16(from) }
    }
}

impl<T: Element> Formatted for Floats<T> {
    const PAIRS: bool = true;

    #[inline(always)]
    unsafe fn tile<S: Isa, const M: usize, const PARTS: usize>(
        work: &Work,
        strip: usize,
        lane: usize,
        row: usize,
    ) -> [[S::Float; PARTS]; M] {
        let bytes = STRIP * T::BYTES;
        // SAFETY: the caller's promises.
        unsafe {
            let mut parts = [work.weights.add(strip * work.stride); PARTS];
            for (part, weights) in parts.iter_mut().enumerate() {
                let lane = lane + part * S::LANES;
                *weights = weights.add(lane / STRIP * work.stride + lane % STRIP * T::BYTES);
            }
            let rows = work.rows.add(row * work.inputs);
            let mut sums = [[S::splat(0.0); PARTS]; M];
            for input in 0..work.inputs {
                let mut weights = [S::splat(0.0); PARTS];
                for (weights, part) in weights.iter_mut().zip(parts) {
                    *weights = T::load::<S>(part.add(input * bytes));
                }
                for (at, sums) in sums.iter_mut().enumerate() {
                    let activation = S::splat(*rows.add(at * work.inputs + input));
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = S::mul_add(weights, activation, *sum);
                    }
                }
            }
            sums
        }
    }
}
