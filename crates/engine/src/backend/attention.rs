//! Attention of query rows over the pages of their sequences, on the processor, fused: scores, softmax and weighted values
//! of a tile of rows stay in its thread's hands, and every page is brought into the cache once per tile.
//!
//! Softmax is computed page by page with the largest score so far ("Online normalizer calculation for softmax",
//! Milakov and Gimelshein, 2018), segment by segment of the context, and what the segments gave is put together in their
//! order. Pages and segments lie at fixed positions, so a row's result depends on its own query and on what it sees, in one
//! order: it is the same whether the row is computed alone or in a chunk of a prompt, on one thread or many. Where there
//! are fewer heads than threads could share evenly, the segments of a head are computed side by side.

mod sums;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::Attention;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2, Avx512};
use super::lanes::{LANES, Lanes, Plain};
use crate::cache::{HostPage, PAGE, SequenceState};
use crate::decoder::Span;
use crate::kernels::{self, Level, Set};
use crate::parallel;
use sums::{HeadPage, Seen, Sums};

/// Queries that share every load of a key or value: as many as leave registers for the loads.
const GROUP: usize = 6;

/// Queries of a tile, all heads that share a key counted: their sums stay in the first cache beside a page.
const TILE: usize = 4 * GROUP;

/// Pages of a segment: long enough that putting segments together costs little beside computing them, short enough that a
/// context of some thousands has one for every thread.
const SEGMENT: usize = 16;

/// Into how many pieces per thread a step is cut at least, where its contexts are long enough: what is left to one thread
/// in the end is short then.
const SHARES: usize = 4;

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
    /// Query heads that share the key head.
    fn sharing(&self) -> usize {
        self.attention.heads / self.attention.kv_heads
    }

    /// Positions that a row sees at most.
    fn window(&self) -> usize {
        self.attention.window.unwrap_or(usize::MAX)
    }

    /// The first position that a row sees.
    fn begin(&self, row: usize) -> usize {
        (self.first + row + 1).saturating_sub(self.window())
    }

    /// The pages that its rows see.
    fn pages(&self) -> Range<usize> {
        self.begin(0) / PAGE..(self.first + self.out.len()).div_ceil(PAGE)
    }

    /// The segments that its rows see.
    fn segments(&self) -> Range<usize> {
        let pages = self.pages();
        pages.start / SEGMENT..pages.end.div_ceil(SEGMENT)
    }

    /// The rows that see some of these pages.
    fn rows(&self, pages: Range<usize>) -> Range<usize> {
        let from = (pages.start * PAGE).saturating_sub(self.first);
        let to = (pages.end * PAGE)
            .saturating_add(self.window() - 1)
            .saturating_sub(self.first);
        from..to.min(self.out.len())
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

    /// The queries, scaled: `[row][head][head_width]`.
    #[inline(always)]
    fn scaled_queries(&self) -> Vec<f32> {
        let attention = self.attention;
        let of_head = self.sharing() * attention.head_width;
        let rows = self
            .queries
            .chunks_exact(attention.heads * attention.head_width);
        let mut queries = Vec::with_capacity(self.out.len() * of_head);
        for row in rows.take(self.out.len()) {
            let row = &row[self.kv_head * of_head..][..of_head];
            queries.extend(row.iter().map(|query| query * attention.scale));
        }
        queries
    }

    /// Sums that nothing was added to.
    fn empty(&self) -> Sums {
        let value_width = self.attention.head_width.next_multiple_of(LANES);
        Sums::new(self.out.len() * self.sharing(), value_width)
    }

    /// Puts the sums of a segment to those of the segments before it.
    #[inline(always)]
    fn put_together(&self, before: &mut Sums, segment: usize, of_segment: &Sums) {
        let sharing = self.sharing();
        for row in self.rows(segment * SEGMENT..(segment + 1) * SEGMENT) {
            let is_first = self.begin(row) / (SEGMENT * PAGE) == segment;
            for query in row * sharing..(row + 1) * sharing {
                match is_first {
                    true => before.copy(query, of_segment),
                    false => before.merge(query, of_segment),
                }
            }
        }
    }

    /// Writes the outputs.
    fn write(&mut self, sums: &Sums) {
        let width = self.attention.head_width;
        let heads = self
            .out
            .iter_mut()
            .flat_map(|row| row.chunks_exact_mut(width));
        for (query, out) in heads.enumerate() {
            sums.write(query, out);
        }
    }
}

/// Attends `queries` (`[rows][heads · head_width]`, rotated) at the positions after their sequences' lengths, whose keys
/// and values are written already, into `out` of the same shape.
pub(super) fn attend(
    attention: &Attention,
    spans: &[Span<'_, HostPage>],
    queries: &[f32],
    out: &mut [f32],
) {
    let pieces = SHARES * parallel::threads();
    attend_with(kernels::set(), pieces, attention, spans, queries, out);
}

/// The same by a set, in that many pieces at least where contexts are long enough.
fn attend_with(
    set: Set,
    pieces: usize,
    attention: &Attention,
    spans: &[Span<'_, HostPage>],
    queries: &[f32],
    out: &mut [f32],
) {
    let (mut tiles, cost) = tiles(attention, spans, queries, out);
    if tiles.len() >= pieces || tiles.iter().all(|tile| tile.segments().len() <= 1) {
        let each = cost / tiles.len().max(1);
        let begins: Vec<HeadPage<'_>> = tiles
            .iter()
            .map(|tile| tile.page(tile.pages().start))
            .collect();
        parallel::chunks(&mut tiles, 1, each, |index, tiles| {
            // What the same thread computes next, most likely.
            let next = begins[(index + 1).min(begins.len() - 1)];
            for tile in tiles {
                let sums = sums(set, tile, tile.segments(), next);
                tile.write(&sums);
            }
        });
        return;
    }
    let mut parts: Vec<Part<'_, '_>> = tiles
        .iter()
        .flat_map(|tile| {
            let segments = tile.segments();
            segments.map(move |segment| Part {
                tile,
                segment,
                sums: None,
            })
        })
        .collect();
    let each = cost / parts.len().max(1);
    let begins: Vec<HeadPage<'_>> = parts.iter().map(Part::begin).collect();
    parallel::chunks(&mut parts, 1, each, |index, parts| {
        let next = begins[(index + 1).min(begins.len() - 1)];
        for part in parts {
            let segments = part.segment..part.segment + 1;
            part.sums = Some(sums(set, part.tile, segments, next));
        }
    });
    let mut computed = parts
        .into_iter()
        .filter_map(|part| Some((part.segment, part.sums?)))
        .collect::<Vec<_>>()
        .into_iter();
    for tile in &mut tiles {
        let mut all = tile.empty();
        for (segment, sums) in computed.by_ref().take(tile.segments().len()) {
            tile.put_together(&mut all, segment, &sums);
        }
        tile.write(&all);
    }
}

/// A segment of a tile.
struct Part<'p, 't> {
    tile: &'p Tile<'t>,
    segment: usize,
    sums: Option<Sums>,
}

impl<'t> Part<'_, 't> {
    /// Its first page.
    fn begin(&self) -> HeadPage<'t> {
        let first = self.tile.pages().start.max(self.segment * SEGMENT);
        self.tile.page(first)
    }
}

/// Cuts the rows of a step into tiles; gives what all of them cost, in multiply-adds.
fn tiles<'t>(
    attention: &'t Attention,
    spans: &'t [Span<'_, HostPage>],
    queries: &'t [f32],
    out: &'t mut [f32],
) -> (Vec<Tile<'t>>, usize) {
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
    (tiles, cost)
}

/// What some segments give a tile, by the instructions of a set. `next` is fetched in the end.
fn sums(set: Set, tile: &Tile<'_>, segments: Range<usize>, next: HeadPage<'_>) -> Sums {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2(tile: &Tile<'_>, segments: Range<usize>, next: HeadPage<'_>) -> Sums {
        // SAFETY: compiled with the instructions of these lanes.
        #[allow(unsafe_code)]
        unsafe {
            sums_by::<Avx2, 1>(tile, segments, next)
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn avx512(tile: &Tile<'_>, segments: Range<usize>, next: HeadPage<'_>) -> Sums {
        // SAFETY: compiled with the instructions of these lanes.
        #[allow(unsafe_code)]
        unsafe {
            sums_by::<Avx512, 4>(tile, segments, next)
        }
    }

    match set.level() {
        // SAFETY: these lanes need no instructions of their own.
        #[allow(unsafe_code)]
        Level::Portable => unsafe { sums_by::<Plain, 1>(tile, segments, next) },
        // SAFETY: a set exists only where the processor has its instructions.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Avx2 | Level::AvxVnni => unsafe { avx2(tile, segments, next) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Avx512 => unsafe { avx512(tile, segments, next) },
        // SAFETY: these lanes need no instructions of their own: they become vectors of NEON, which this target has.
        #[cfg(target_arch = "aarch64")]
        #[allow(unsafe_code)]
        Level::Neon | Level::NeonDot => unsafe { sums_by::<Plain, 1>(tile, segments, next) },
    }
}

/// The same, `B` vectors of positions or values at a time: as many as the registers hold sums of.
///
/// # Safety
///
/// As for the functions of [`Lanes`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn sums_by<L: Lanes, const B: usize>(
    tile: &Tile<'_>,
    segments: Range<usize>,
    next: HeadPage<'_>,
) -> Sums {
    let queries = tile.scaled_queries();
    let (mut all, mut of_segment) = (tile.empty(), None);
    let last = tile.pages().end.min(segments.end * SEGMENT);
    for segment in segments.clone() {
        // The first begins the sums, the others are put to them.
        let sums = match segment == segments.start {
            true => &mut all,
            false => of_segment.get_or_insert_with(|| tile.empty()),
        };
        let pages = tile.pages().start.max(segment * SEGMENT)..last.min((segment + 1) * SEGMENT);
        for page in pages {
            let (memory, ahead) = match page + 1 < last {
                true => (tile.page(page), tile.page(page + 1)),
                false => (tile.page(page), next),
            };
            // SAFETY: the caller's promise.
            unsafe { add_page::<L, B>(tile, sums, &queries, page, memory, ahead) };
        }
        if let Some(sums) = &mut of_segment {
            tile.put_together(&mut all, segment, sums);
            sums.clear();
        }
    }
    all
}

/// Adds a page to the sums of the rows that see some of it.
///
/// # Safety
///
/// As for the functions of [`Lanes`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn add_page<L: Lanes, const B: usize>(
    tile: &Tile<'_>,
    sums: &mut Sums,
    queries: &[f32],
    page: usize,
    memory: HeadPage<'_>,
    ahead: HeadPage<'_>,
) {
    let sharing = tile.sharing();
    let seen = Seen {
        first: tile.first,
        sharing,
        window: tile.window(),
        start: page * PAGE,
    };
    let rows = tile.rows(page..page + 1);
    let (mut at, end) = (rows.start * sharing, rows.end * sharing);
    while at < end {
        let count = GROUP.min(end - at);
        // SAFETY: the caller's promise.
        unsafe {
            match count {
                1 => sums.add_page::<L, 1, B>(at, queries, &seen, memory, ahead),
                2 => sums.add_page::<L, 2, B>(at, queries, &seen, memory, ahead),
                3 => sums.add_page::<L, 3, B>(at, queries, &seen, memory, ahead),
                4 => sums.add_page::<L, 4, B>(at, queries, &seen, memory, ahead),
                5 => sums.add_page::<L, 5, B>(at, queries, &seen, memory, ahead),
                _ => sums.add_page::<L, GROUP, B>(at, queries, &seen, memory, ahead),
            }
        }
        at += count;
    }
}
