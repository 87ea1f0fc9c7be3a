//! Attention of query rows over the pages of their sequences, on the processor, fused: scores, softmax and weighted values
//! of a tile of rows stay in its thread's hands, and every page is brought into the cache once per tile.
//!
//! Softmax is computed page by page with the largest score so far ("Online normalizer calculation for softmax",
//! Milakov and Gimelshein, 2018). Pages lie at fixed positions, so a row's result depends on its own query and on what it
//! sees, in one order: it is the same whether the row is computed alone or in a chunk of a prompt, on one thread or many.

use std::ops::Range;

use super::Attention;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2, Avx512};
use super::lanes::{LANES, Lanes, Plain};
use super::vectors::exp;
use crate::cache::{HostPage, PAGE, SequenceState};
use crate::decoder::Span;
use crate::kernels::{self, Level, Set};
use crate::parallel;

/// Queries that share every load of a key or value: as many as leave registers for the loads.
const GROUP: usize = 6;

/// Queries of a tile, all heads that share a key counted: their sums stay in the first cache beside a page.
const TILE: usize = 4 * GROUP;

/// What a position that a query sees costs per value of the query, in multiply-adds of a matrix product: one for its key and
/// one for its value, and what comes from memory and is used by few queries is waited for.
const COST: usize = 8;

/// A tile of rows of one sequence, and one key head with the query heads that share it.
struct Tile<'t> {
    attention: &'t Attention,
    state: &'t SequenceState<HostPage>,
    kv_head: usize,
    /// Position of the first row.
    first: usize,
    /// `[rows][heads · head_width]`, from the first row on.
    queries: &'t [f32],
    /// Per row, the outputs of the query heads.
    out: Vec<&'t mut [f32]>,
}

impl<'t> Tile<'t> {
    /// The pages that its rows see.
    fn pages(&self) -> Range<usize> {
        let window = self.attention.window.unwrap_or(usize::MAX);
        let start = (self.first + 1).saturating_sub(window);
        start / PAGE..(self.first + self.out.len()).div_ceil(PAGE)
    }

    fn page(&self, index: usize) -> HeadPage<'t> {
        let (layer, state) = (self.attention.layer, self.state);
        let page = state.page(index, self.attention.reach);
        // Only what no row sees is not there.
        HeadPage {
            keys: page.map_or(&[], |page| page.keys(layer, self.kv_head)),
            values: page.map_or(&[], |page| page.values(layer, self.kv_head)),
        }
    }
}

/// A page of a tile's head.
#[derive(Clone, Copy)]
struct HeadPage<'t> {
    /// `[head_width][PAGE]`.
    keys: &'t [f32],
    /// `[PAGE][value_width]`.
    values: &'t [f32],
}

/// Attends `queries` (`[rows][heads · head_width]`, rotated) at the positions after their sequences' lengths, whose keys
/// and values are written already, into `out` of the same shape.
pub(super) fn attend(
    attention: &Attention,
    spans: &[Span<'_, HostPage>],
    queries: &[f32],
    out: &mut [f32],
) {
    attend_with(kernels::set(), attention, spans, queries, out);
}

fn attend_with(
    set: Set,
    attention: &Attention,
    spans: &[Span<'_, HostPage>],
    queries: &[f32],
    out: &mut [f32],
) {
    let sharing = attention.heads / attention.kv_heads;
    let row_width = attention.heads * attention.head_width;
    let tile_rows = (TILE / sharing).max(1);
    let mut cells = out.chunks_exact_mut(sharing * attention.head_width);
    let (mut tiles, mut start, mut cost) = (Vec::new(), 0, 0);
    for span in spans {
        let rows = span.ids.len();
        for from in (0..rows).step_by(tile_rows) {
            let rows = tile_rows.min(rows - from);
            let first = span.state.len() + from;
            let of_tile = tiles.len();
            tiles.extend((0..attention.kv_heads).map(|kv_head| Tile {
                attention,
                state: &*span.state,
                kv_head,
                first,
                queries: &queries[(start + from) * row_width..],
                out: Vec::with_capacity(rows),
            }));
            for (at, cell) in cells.by_ref().take(rows * attention.kv_heads).enumerate() {
                tiles[of_tile + at % attention.kv_heads].out.push(cell);
            }
            let seen = attention.window.unwrap_or(usize::MAX).min(first + rows);
            cost += COST * rows * row_width * seen.next_multiple_of(PAGE);
        }
        start += rows;
    }
    // The longest first, so that no thread begins with one when the others have ended.
    tiles.sort_by_key(|tile| std::cmp::Reverse(tile.first));
    let each = cost / tiles.len().max(1);
    let begins: Vec<HeadPage<'_>> = tiles
        .iter()
        .map(|tile| tile.page(tile.pages().start))
        .collect();
    parallel::chunks(&mut tiles, 1, each, |index, tiles| {
        // What the same thread computes next, most likely.
        let next = begins[(index + 1).min(begins.len() - 1)];
        tiles.iter_mut().for_each(|tile| compute(set, tile, next));
    });
}

/// Computes a tile by the instructions of a set.
fn compute(set: Set, tile: &mut Tile<'_>, next: HeadPage<'_>) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2(tile: &mut Tile<'_>, next: HeadPage<'_>) {
        // SAFETY: compiled with the instructions of these lanes.
        #[allow(unsafe_code)]
        unsafe {
            compute_by::<Avx2, 1>(tile, next);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn avx512(tile: &mut Tile<'_>, next: HeadPage<'_>) {
        // SAFETY: compiled with the instructions of these lanes.
        #[allow(unsafe_code)]
        unsafe {
            compute_by::<Avx512, 4>(tile, next);
        }
    }

    match set.level() {
        // SAFETY: these lanes need no instructions of their own.
        #[allow(unsafe_code)]
        Level::Portable => unsafe { compute_by::<Plain, 1>(tile, next) },
        // SAFETY: a set exists only where the processor has its instructions.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Avx2 | Level::AvxVnni => unsafe { avx2(tile, next) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Avx512 => unsafe { avx512(tile, next) },
        // SAFETY: these lanes need no instructions of their own: they become vectors of NEON, which this target has.
        #[cfg(target_arch = "aarch64")]
        #[allow(unsafe_code)]
        Level::Neon | Level::NeonDot => unsafe { compute_by::<Plain, 1>(tile, next) },
    }
}

/// Computes a tile, `B` vectors of positions or values at a time: as many as the registers hold sums of. `next` is fetched
/// in the end.
///
/// # Safety
///
/// As for the functions of [`Lanes`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn compute_by<L: Lanes, const B: usize>(tile: &mut Tile<'_>, next: HeadPage<'_>) {
    let attention = tile.attention;
    let (width, rows) = (attention.head_width, tile.out.len());
    let value_width = width.next_multiple_of(LANES);
    let sharing = attention.heads / attention.kv_heads;
    let mut running = Running {
        queries: scaled_queries(tile, sharing),
        largest: vec![f32::NEG_INFINITY; rows * sharing],
        totals: vec![[0.0; LANES]; rows * sharing],
        sums: vec![0.0; rows * sharing * value_width],
        width,
        value_width,
    };
    let window = attention.window.unwrap_or(usize::MAX);
    let pages = tile.pages();
    for page in pages.clone() {
        let (memory, ahead) = match page + 1 < pages.end {
            true => (tile.page(page), tile.page(page + 1)),
            false => (tile.page(page), next),
        };
        let seen = Seen {
            first: tile.first,
            sharing,
            window,
            start: page * PAGE,
        };
        // Rows from the first that reaches the page up to the last whose window still does.
        let from = seen.start.saturating_sub(tile.first);
        let to = (seen.start + PAGE)
            .saturating_add(window - 1)
            .saturating_sub(tile.first)
            .min(rows);
        let mut at = from * sharing;
        while at < to * sharing {
            let count = GROUP.min(to * sharing - at);
            // SAFETY: the caller's promise.
            unsafe {
                match count {
                    1 => running.add_page::<L, 1, B>(at, &seen, memory, ahead),
                    2 => running.add_page::<L, 2, B>(at, &seen, memory, ahead),
                    3 => running.add_page::<L, 3, B>(at, &seen, memory, ahead),
                    4 => running.add_page::<L, 4, B>(at, &seen, memory, ahead),
                    5 => running.add_page::<L, 5, B>(at, &seen, memory, ahead),
                    _ => running.add_page::<L, GROUP, B>(at, &seen, memory, ahead),
                }
            }
            at += count;
        }
    }
    let sums = running.sums.chunks_exact(value_width).zip(&running.totals);
    let heads = tile
        .out
        .iter_mut()
        .flat_map(|row| row.chunks_exact_mut(width));
    for (out, (sums, totals)) in heads.zip(sums) {
        let inverse = 1.0 / totals.iter().sum::<f32>();
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum * inverse;
        }
    }
}

/// The queries of a tile, scaled: `[row][head][head_width]`.
#[inline(always)]
fn scaled_queries(tile: &Tile<'_>, sharing: usize) -> Vec<f32> {
    let attention = tile.attention;
    let of_head = sharing * attention.head_width;
    let rows = tile
        .queries
        .chunks_exact(attention.heads * attention.head_width);
    let mut queries = Vec::with_capacity(tile.out.len() * of_head);
    for row in rows.take(tile.out.len()) {
        let row = &row[tile.kv_head * of_head..][..of_head];
        queries.extend(row.iter().map(|query| query * attention.scale));
    }
    queries
}

/// Which slots of a page a query sees.
struct Seen {
    /// Position of the tile's first row.
    first: usize,
    /// Queries per row.
    sharing: usize,
    window: usize,
    /// Position of the page's first slot.
    start: usize,
}

impl Seen {
    #[inline(always)]
    fn slots(&self, query: usize) -> Range<usize> {
        let end = self.first + query / self.sharing + 1;
        let from = end.saturating_sub(self.window).saturating_sub(self.start);
        from.min(PAGE)..(end - self.start).min(PAGE)
    }
}

/// What is known of a tile's queries after some pages.
struct Running {
    queries: Vec<f32>,
    /// The largest score of each.
    largest: Vec<f32>,
    /// The sum of its weights, in lanes.
    totals: Vec<[f32; LANES]>,
    /// Its weighted values: `[query][value_width]`.
    sums: Vec<f32>,
    width: usize,
    value_width: usize,
}

impl Running {
    /// Adds a page for the `N` queries from `at` on.
    ///
    /// # Safety
    ///
    /// As for the functions of [`Lanes`].
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn add_page<L: Lanes, const N: usize, const B: usize>(
        &mut self,
        at: usize,
        seen: &Seen,
        page: HeadPage<'_>,
        ahead: HeadPage<'_>,
    ) {
        let queries = &self.queries[at * self.width..][..N * self.width];
        let end = seen.slots(at + N - 1).end;
        // SAFETY: the caller's promise; so below.
        let mut weights =
            unsafe { scores::<L, N, B>(queries, page.keys, self.width, end, ahead.keys.as_ptr()) };
        for (n, weights) in weights.iter_mut().enumerate() {
            self.weigh(at + n, seen.slots(at + n), weights);
        }
        let width = self.value_width;
        let sums = &mut self.sums[at * width..][..N * width];
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
            for sum in &mut self.sums[query * self.value_width..][..self.value_width] {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::PagePool;
    use crate::decoder::Wanted;
    use crate::families::{Reach, Shape};

    /// A repeatable value in −1..1.
    fn value(seed: usize) -> f32 {
        ((seed as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn filled(shape: &Shape, positions: usize) -> SequenceState<HostPage> {
        let mut state = SequenceState::default();
        PagePool::new(shape, 1 << 30)
            .reserve(&mut state, positions)
            .unwrap();
        for position in 0..positions {
            for head in 0..shape.kv_heads {
                let key: Vec<f32> = (0..shape.head_width)
                    .map(|at| value(position * 977 + head * 31 + at))
                    .collect();
                let val: Vec<f32> = (0..shape.head_width)
                    .map(|at| value(position * 53 + head * 7 + at + 9))
                    .collect();
                let page = state.page_mut(position, Reach::All).unwrap();
                page.write((1, head), position % PAGE, shape.head_width, &key, &val);
            }
        }
        state
    }

    fn attention(shape: &Shape, window: Option<usize>) -> Attention {
        Attention {
            reach: Reach::All,
            layer: 1,
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head_width: shape.head_width,
            window,
            scale: shape.attention_scale,
        }
    }

    fn attended(
        set: Set,
        attention: &Attention,
        state: &mut SequenceState<HostPage>,
        queries: &[f32],
    ) -> Vec<f32> {
        let rows = queries.len() / (attention.heads * attention.head_width);
        let ids = vec![0; rows];
        let span = Span {
            state,
            ids: &ids,
            wanted: Wanted::Nothing,
        };
        let mut out = vec![0.0; queries.len()];
        attend_with(set, attention, &[span], queries, &mut out);
        out
    }

    fn obvious(
        attention: &Attention,
        state: &SequenceState<HostPage>,
        query: &[f32],
        kv_head: usize,
        positions: Range<usize>,
    ) -> Vec<f64> {
        let width = attention.head_width;
        let key = |position: usize, at: usize| {
            let page = state
                .page(position / PAGE, Reach::All)
                .unwrap()
                .keys(1, kv_head);
            f64::from(page[at * PAGE + position % PAGE])
        };
        let val = |position: usize, at: usize| {
            let page = state
                .page(position / PAGE, Reach::All)
                .unwrap()
                .values(1, kv_head);
            f64::from(page[position % PAGE * width.next_multiple_of(LANES) + at])
        };
        let score = |position: usize| -> f64 {
            let dot: f64 = (0..width)
                .map(|at| f64::from(query[at]) * key(position, at))
                .sum();
            (dot * f64::from(attention.scale)).exp()
        };
        let total: f64 = positions.clone().map(score).sum();
        let sum = |at: usize| {
            let values = positions
                .clone()
                .map(|position| score(position) * val(position, at));
            values.sum::<f64>()
        };
        (0..width).map(|at| sum(at) / total).collect()
    }

    #[test]
    fn it_is_attention() {
        for (heads, kv_heads, width) in [
            (1, 1, 16),
            (3, 1, 8),
            (6, 2, 20),
            (9, 3, 64),
            (14, 2, 48),
            (30, 1, 16),
        ] {
            for window in [None, Some(1), Some(33), Some(70)] {
                let shape = Shape::of_heads(heads, kv_heads, width);
                let attention = attention(&shape, window);
                let mut state = filled(&shape, 77);
                state.advance(40);
                let queries: Vec<f32> = (0..37 * heads * width)
                    .map(|at| value(at * 17 + 3) * 3.0)
                    .collect();
                let out = attended(kernels::set(), &attention, &mut state, &queries);
                for row in 0..37 {
                    for head in 0..heads {
                        let at = (row * heads + head) * width;
                        let (end, query) = (41 + row, &queries[at..at + width]);
                        let seen = end.saturating_sub(window.unwrap_or(end))..end;
                        let kv_head = head / (heads / kv_heads);
                        let expected = obvious(&attention, &state, query, kv_head, seen);
                        for (got, expected) in out[at..at + width].iter().zip(expected) {
                            let off = (f64::from(*got) - expected).abs();
                            assert!(off < 1e-5, "{got} for {expected}, window {window:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_is_the_same_alone_and_in_company_and_in_every_set() {
        for (heads, kv_heads, width, window) in [(9, 3, 64, None), (4, 1, 80, Some(45))] {
            let shape = Shape::of_heads(heads, kv_heads, width);
            let attention = attention(&shape, window);
            let row = heads * width;
            let queries: Vec<f32> = (0..40 * row).map(|at| value(at * 29 + 1) * 4.0).collect();
            let fresh = || {
                let mut state = filled(&shape, 100);
                state.advance(60);
                state
            };
            let together = attended(kernels::set(), &attention, &mut fresh(), &queries);
            for set in Set::available() {
                let got = attended(set, &attention, &mut fresh(), &queries);
                assert_eq!(got, together, "{set}");
            }
            let mut state = fresh();
            for queries in queries.chunks(7 * row) {
                let at = (state.len() - 60) * row;
                let some = attended(kernels::set(), &attention, &mut state, queries);
                assert_eq!(some, together[at..at + queries.len()]);
                state.advance(queries.len() / row);
            }
        }
    }

    #[test]
    fn what_is_not_seen_is_not_touched() {
        let shape = Shape::of_heads(6, 1, 16);
        let attention = attention(&shape, Some(40));
        let queries: Vec<f32> = (0..2 * 96).map(|at| value(at * 3)).collect();
        let mut state = filled(&shape, 64);
        state.advance(60);
        let clean = attended(kernels::set(), &attention, &mut state, &queries);
        let nan = [f32::NAN; 16];
        for position in (0..21).chain(62..64) {
            let page = state.page_mut(position, Reach::All).unwrap();
            page.write((1, 0), position % PAGE, 16, &nan, &nan);
        }
        let soiled = attended(kernels::set(), &attention, &mut state, &queries);
        assert_eq!(clean, soiled);
        let page = state.page_mut(61, Reach::All).unwrap();
        page.write((1, 0), 61 % PAGE, 16, &nan, &nan);
        let soiled = attended(kernels::set(), &attention, &mut state, &queries);
        assert_eq!(soiled[..96], clean[..96]);
        assert!(soiled[96..].iter().all(|value| value.is_nan()));
    }
}
