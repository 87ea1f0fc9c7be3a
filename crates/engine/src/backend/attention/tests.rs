//! Fused attention against the formula, and against itself in other company.

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
    attended_in(1, set, attention, state, queries)
}

/// In that many pieces at least.
fn attended_in(
    pieces: usize,
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
    attend_with(set, pieces, attention, &[span], queries, &mut out);
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

/// Positions of a context of several segments, the last of them short.
const LONG: usize = 2 * SEGMENT * PAGE + 77;

#[test]
fn a_long_context_is_attention_too() {
    for window in [None, Some(40), Some(SEGMENT * PAGE + 3)] {
        let shape = Shape::of_heads(6, 2, 20);
        let attention = attention(&shape, window);
        let rows = 9;
        let mut state = filled(&shape, LONG);
        state.advance(LONG - rows);
        let queries: Vec<f32> = (0..rows * 120).map(|at| value(at * 17 + 3) * 3.0).collect();
        let out = attended(kernels::set(), &attention, &mut state, &queries);
        for row in 0..rows {
            for head in 0..6 {
                let at = (row * 6 + head) * 20;
                let (end, query) = (LONG - rows + row + 1, &queries[at..at + 20]);
                let seen = end.saturating_sub(window.unwrap_or(end))..end;
                let expected = obvious(&attention, &state, query, head / 3, seen);
                for (got, expected) in out[at..at + 20].iter().zip(expected) {
                    let off = (f64::from(*got) - expected).abs();
                    assert!(off < 1e-5, "{got} for {expected}, window {window:?}");
                }
            }
        }
    }
}

#[test]
fn segments_side_by_side_are_the_same_as_one_after_the_other() {
    for window in [None, Some(40), Some(SEGMENT * PAGE + 3)] {
        let shape = Shape::of_heads(6, 2, 20);
        let attention = attention(&shape, window);
        let queries: Vec<f32> = (0..9 * 120).map(|at| value(at * 29 + 1) * 4.0).collect();
        for (rows, before) in [
            (1, LONG - 1),
            (9, LONG - 9),
            (9, SEGMENT * PAGE - 4),
            (1, 0),
        ] {
            let queries = &queries[..rows * 120];
            let in_pieces = |pieces, set| {
                let mut state = filled(&shape, LONG);
                state.advance(before);
                attended_in(pieces, set, &attention, &mut state, queries)
            };
            let whole = in_pieces(1, kernels::set());
            for set in Set::available() {
                for pieces in [1, usize::MAX] {
                    assert_eq!(
                        in_pieces(pieces, set),
                        whole,
                        "{set}, {rows} after {before}"
                    );
                }
            }
            // The last row alone.
            let mut state = filled(&shape, LONG);
            state.advance(before + rows - 1);
            let last = &queries[(rows - 1) * 120..];
            let alone = attended_in(usize::MAX, kernels::set(), &attention, &mut state, last);
            assert_eq!(alone, whole[(rows - 1) * 120..]);
        }
    }
}

#[test]
fn what_is_no_number_shows_in_every_segment() {
    let shape = Shape::of_heads(6, 1, 16);
    let attention = attention(&shape, None);
    let queries: Vec<f32> = (0..96).map(|at| value(at * 3)).collect();
    for position in [3, SEGMENT * PAGE + 1, LONG - 1] {
        for pieces in [1, usize::MAX] {
            let mut state = filled(&shape, LONG);
            let nan = [f32::NAN; 16];
            let page = state.page_mut(position, Reach::All).unwrap();
            page.write((1, 0), position % PAGE, 16, &nan, &nan);
            state.advance(LONG - 1);
            let out = attended_in(pieces, kernels::set(), &attention, &mut state, &queries);
            assert!(out.iter().all(|value| value.is_nan()), "{position}");
        }
    }
}
