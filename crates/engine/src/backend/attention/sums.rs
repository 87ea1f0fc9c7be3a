//! What softmax keeps of what was seen so far, and how a page is added to it.

use std::ops::Range;

use super::super::lanes::{LANES, Lanes};
use super::super::vectors::exp;
use crate::cache::PAGE;

/// A page of a tile's head.
#[derive(Clone, Copy)]
pub(super) struct HeadPage<'t> {
    /// `[head_width][PAGE]`.
    pub(super) keys: &'t [f32],
    /// `[PAGE][value_width]`.
    pub(super) values: &'t [f32],
}

/// Which slots of a page a query sees.
pub(super) struct Seen {
    /// Position of the tile's first row.
    pub(super) first: usize,
    /// Queries per row.
    pub(super) sharing: usize,
    pub(super) window: usize,
    /// Position of the page's first slot.
    pub(super) start: usize,
}

impl Seen {
    #[inline(always)]
    fn slots(&self, query: usize) -> Range<usize> {
        let end = self.first + query / self.sharing + 1;
        let from = end.saturating_sub(self.window).saturating_sub(self.start);
        from.min(PAGE)..(end - self.start).min(PAGE)
    }
}

/// What is known of queries after some of the pages that they see.
#[derive(Debug)]
pub(super) struct Sums {
    /// The largest score of each.
    largest: Vec<f32>,
    /// The sum of its weights, in lanes.
    totals: Vec<[f32; LANES]>,
    /// Its weighted values: `[query][value_width]`.
    values: Vec<f32>,
    value_width: usize,
}

impl Sums {
    /// Of so many queries that saw nothing.
    pub(super) fn new(queries: usize, value_width: usize) -> Self {
        Self {
            largest: vec![f32::NEG_INFINITY; queries],
            totals: vec![[0.0; LANES]; queries],
            values: vec![0.0; queries * value_width],
            value_width,
        }
    }

    /// As if nothing had been seen.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.largest.fill(f32::NEG_INFINITY);
        self.totals.fill([0.0; LANES]);
        self.values.fill(0.0);
    }

    /// Takes over what is known of a query.
    #[inline(always)]
    pub(super) fn copy(&mut self, query: usize, other: &Self) {
        self.largest[query] = other.largest[query];
        self.totals[query] = other.totals[query];
        let values = query * self.value_width..(query + 1) * self.value_width;
        self.values[values.clone()].copy_from_slice(&other.values[values]);
    }

    /// Adds what is known of a query after other pages.
    #[inline(always)]
    pub(super) fn merge(&mut self, query: usize, other: &Self) {
        let (before, after) = (self.largest[query], other.largest[query]);
        let largest = before.max(after);
        let (old, new) = (exp(before - largest), exp(after - largest));
        self.largest[query] = largest;
        for (total, added) in self.totals[query].iter_mut().zip(&other.totals[query]) {
            *total = *total * old + added * new;
        }
        let values = query * self.value_width..(query + 1) * self.value_width;
        let added = &other.values[values.clone()];
        for (value, added) in self.values[values].iter_mut().zip(added) {
            *value = *value * old + added * new;
        }
    }

    /// Writes a query's output.
    pub(super) fn write(&self, query: usize, out: &mut [f32]) {
        let inverse = 1.0 / self.totals[query].iter().sum::<f32>();
        let values = &self.values[query * self.value_width..];
        for (out, value) in out.iter_mut().zip(values) {
            *out = value * inverse;
        }
    }

    /// Adds a page for `N` of the queries (`[queries][head_width]`, scaled), from `at` on.
    ///
    /// # Safety
    ///
    /// As for the functions of [`Lanes`].
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) unsafe fn add_page<L: Lanes, const N: usize, const B: usize>(
        &mut self,
        at: usize,
        queries: &[f32],
        seen: &Seen,
        page: HeadPage<'_>,
        ahead: HeadPage<'_>,
    ) {
        let width = queries.len() / self.largest.len();
        let queries = &queries[at * width..][..N * width];
        let end = seen.slots(at + N - 1).end;
        // SAFETY: the caller's promise; so below.
        let mut weights =
            unsafe { scores::<L, N, B>(queries, page.keys, width, end, ahead.keys.as_ptr()) };
        for (n, weights) in weights.iter_mut().enumerate() {
            self.weigh(at + n, seen.slots(at + n), weights);
        }
        let width = self.value_width;
        let sums = &mut self.values[at * width..][..N * width];
        let (values, ahead) = (page.values, ahead.values.as_ptr());
        let slots = seen.slots(at);
        if (1..N).all(|n| seen.slots(at + n) == slots) {
            // SAFETY: as above.
            unsafe { add_values::<L, N, B>(&weights, slots, values, width, sums, ahead) };
            return;
        }
        // What a query does not see has no weight, but must not be touched either: it may be no number.
        for (n, sums) in sums.chunks_exact_mut(width).enumerate() {
            let (weights, slots) = ([weights[n]], seen.slots(at + n));
            // SAFETY: as above.
            unsafe { add_values::<L, 1, B>(&weights, slots, values, width, sums, ahead) };
        }
    }

    /// Turns a query's scores into weights relative to the largest so far.
    #[inline(always)]
    fn weigh(&mut self, query: usize, slots: Range<usize>, scores: &mut [f32; PAGE]) {
        scores[..slots.start].fill(f32::NEG_INFINITY);
        scores[slots.end..].fill(f32::NEG_INFINITY);
        let mut largest = [f32::NEG_INFINITY; LANES];
        for chunk in scores.as_chunks::<LANES>().0 {
            for (largest, score) in largest.iter_mut().zip(chunk) {
                *largest = if *score > *largest { *score } else { *largest };
            }
        }
        let before = self.largest[query];
        let now = largest.into_iter().fold(before, f32::max);
        if now > before {
            self.largest[query] = now;
            let factor = exp(before - now);
            for total in &mut self.totals[query] {
                *total *= factor;
            }
            for sum in &mut self.values[query * self.value_width..][..self.value_width] {
                *sum *= factor;
            }
        }
        for score in scores.iter_mut() {
            *score = exp(*score - now);
        }
        for chunk in scores.as_chunks::<LANES>().0 {
            for (total, weight) in self.totals[query].iter_mut().zip(chunk) {
                *total += weight;
            }
        }
    }
}

/// Dot products of `N` queries with the keys of a page (`[width][PAGE]`), up to those of slot `end` at least. The keys at
/// `ahead` are fetched meanwhile: pages lie anywhere, so a processor does not find the next by itself.
///
/// # Safety
///
/// As for the functions of [`Lanes`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn scores<L: Lanes, const N: usize, const B: usize>(
    queries: &[f32],
    keys: &[f32],
    width: usize,
    end: usize,
    ahead: *const f32,
) -> [[f32; PAGE]; N] {
    assert!(queries.len() >= N * width && keys.len() >= width * PAGE);
    let mut scores = [[0.0f32; PAGE]; N];
    for from in (0..end.min(PAGE)).step_by(B * LANES) {
        // SAFETY: `from` leaves room for `B` vectors in a row of `PAGE`, of which `keys` has `width`; queries have `N`
        // times `width` values; both asserted.
        unsafe {
            let mut sums = [[L::zero(); B]; N];
            for at in 0..width {
                let column = keys.as_ptr().add(at * PAGE + from);
                let mut loaded = [L::zero(); B];
                for (b, loaded) in loaded.iter_mut().enumerate() {
                    *loaded = L::load(column.add(b * LANES));
                    L::prefetch(ahead.wrapping_add(at * PAGE + from + b * LANES));
                }
                for (n, sums) in sums.iter_mut().enumerate() {
                    let query = *queries.as_ptr().add(n * width + at);
                    for b in 0..B {
                        sums[b] = L::mul_add(query, loaded[b], sums[b]);
                    }
                }
            }
            for (scores, sums) in scores.iter_mut().zip(&sums) {
                for (b, sum) in sums.iter().enumerate() {
                    L::store(scores.as_mut_ptr().add(from + b * LANES), *sum);
                }
            }
        }
    }
    scores
}

/// Adds some values of a page (`[PAGE][width]`), weighted, to `N` rows of sums. The values at `ahead` are fetched meanwhile.
///
/// # Safety
///
/// As for the functions of [`Lanes`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn add_values<L: Lanes, const N: usize, const B: usize>(
    weights: &[[f32; PAGE]; N],
    slots: Range<usize>,
    values: &[f32],
    width: usize,
    sums: &mut [f32],
    ahead: *const f32,
) {
    assert!(slots.end <= PAGE && values.len() >= PAGE * width && sums.len() >= N * width);
    let whole = width / (B * LANES) * (B * LANES);
    // SAFETY: the columns lie inside the width, a multiple of `LANES`; the rest is asserted.
    unsafe {
        for from in (0..whole).step_by(B * LANES) {
            add_columns::<L, N, B>(weights, slots.clone(), values, width, from, sums, ahead);
        }
        for from in (whole..width).step_by(LANES) {
            add_columns::<L, N, 1>(weights, slots.clone(), values, width, from, sums, ahead);
        }
    }
}

/// The `B` vectors of columns from `from` on.
///
/// # Safety
///
/// As for the functions of [`Lanes`]; the columns lie inside `width`, `slots` inside the page, `values` is a page and `sums`
/// are `N` rows of that width.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn add_columns<L: Lanes, const N: usize, const B: usize>(
    weights: &[[f32; PAGE]; N],
    slots: Range<usize>,
    values: &[f32],
    width: usize,
    from: usize,
    sums: &mut [f32],
    ahead: *const f32,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut local = [[L::zero(); B]; N];
        for (n, local) in local.iter_mut().enumerate() {
            for (b, local) in local.iter_mut().enumerate() {
                *local = L::load(sums.as_ptr().add(n * width + from + b * LANES));
            }
        }
        for slot in slots {
            let row = values.as_ptr().add(slot * width + from);
            let mut loaded = [L::zero(); B];
            for (b, loaded) in loaded.iter_mut().enumerate() {
                *loaded = L::load(row.add(b * LANES));
                L::prefetch(ahead.wrapping_add(slot * width + from + b * LANES));
            }
            for (local, weights) in local.iter_mut().zip(weights) {
                let weight = *weights.get_unchecked(slot);
                for b in 0..B {
                    local[b] = L::mul_add(weight, loaded[b], local[b]);
                }
            }
        }
        for (n, local) in local.iter().enumerate() {
            for (b, sum) in local.iter().enumerate() {
                L::store(sums.as_mut_ptr().add(n * width + from + b * LANES), *sum);
            }
        }
    }
}
