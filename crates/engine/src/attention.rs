//! Attention of query rows over one sequence's cache, on the CPU, fused: scores, softmax and weighted values of a row
//! stay in its thread's hands.
//!
//! A row's result depends on its own query and on the positions up to its own, in an order fixed by their pages; it is
//! the same whether the row is computed alone or in a chunk of a prompt, on one thread or on many.

use crate::cache::{LANES, PAGE, SequenceState};
use crate::families::Shape;
use crate::parallel;
use crate::vectors::exp;

/// Query heads that share loads of a key in the innermost loop; more would not fit the registers.
const GROUP: usize = 4;

/// Buffers of one thread.
struct Scratch {
    /// `[GROUP][positions]`.
    scores: Vec<f32>,
    /// `[GROUP][value_width]`.
    sums: Vec<f32>,
}

/// Attends `queries` (`[rows][heads · head_width]`, rotated) at the positions from `state.len()` on, whose keys and values
/// are written already. Gives `[rows][heads · head_width]`.
pub(crate) fn attend(
    shape: &Shape,
    state: &SequenceState,
    layer: usize,
    queries: &[f32],
) -> Vec<f32> {
    let (width, sharing) = (shape.head_width, shape.heads / shape.kv_heads);
    let rows = queries.len() / (shape.heads * width);
    let first = state.len();
    let value_width = width.next_multiple_of(LANES);
    let longest = (first + rows).next_multiple_of(PAGE);
    let scale = 1.0 / (width as f32).sqrt();
    let mut out = vec![0.0f32; queries.len()];
    let scratch = || Scratch {
        scores: vec![0.0; GROUP * longest],
        sums: vec![0.0; GROUP * value_width],
    };
    // Two products of every query head with every position.
    let cost = 2 * sharing * width * longest;
    // The query heads that share a key head lie side by side: one row of work each.
    parallel::rows(
        &mut out,
        sharing * width,
        cost,
        scratch,
        |scratch, index, out| {
            let (row, kv_head) = (index / shape.kv_heads, index % shape.kv_heads);
            let queries = &queries[index * sharing * width..][..sharing * width];
            let head = Head {
                state,
                layer,
                kv_head,
                width,
                scale,
                positions: first + row + 1,
            };
            let groups = queries
                .chunks(GROUP * width)
                .zip(out.chunks_mut(GROUP * width));
            for (queries, out) in groups {
                match queries.len() / width {
                    1 => head.attend::<1>(queries, scratch, out),
                    2 => head.attend::<2>(queries, scratch, out),
                    3 => head.attend::<3>(queries, scratch, out),
                    _ => head.attend::<GROUP>(queries, scratch, out),
                }
            }
        },
    );
    out
}

struct Head<'c> {
    state: &'c SequenceState,
    layer: usize,
    kv_head: usize,
    width: usize,
    scale: f32,
    /// Positions that the row sees: its own is the last.
    positions: usize,
}

impl Head<'_> {
    fn attend<const N: usize>(&self, queries: &[f32], scratch: &mut Scratch, out: &mut [f32]) {
        let pages = self.positions.div_ceil(PAGE);
        let stride = scratch.scores.len() / GROUP;
        for page in 0..pages {
            let keys = self.state.pages()[page].keys(self.layer, self.kv_head);
            let scores = page_scores::<N>(queries, keys, self.width);
            for (n, scores) in scores.iter().enumerate() {
                let row = &mut scratch.scores[n * stride + page * PAGE..][..PAGE];
                for (slot, score) in row.iter_mut().zip(scores) {
                    *slot = score * self.scale;
                }
            }
        }
        let mut totals = [0.0f32; N];
        for (n, total) in totals.iter_mut().enumerate() {
            let row = &mut scratch.scores[n * stride..][..pages * PAGE];
            row[self.positions..].fill(f32::NEG_INFINITY);
            *total = softmax(row);
        }
        let width = self.width.next_multiple_of(LANES);
        scratch.sums.fill(0.0);
        for page in 0..pages {
            let values = self.state.pages()[page].values(self.layer, self.kv_head);
            let weights: [&[f32]; N] =
                std::array::from_fn(|n| &scratch.scores[n * stride + page * PAGE..][..PAGE]);
            add_weighted::<N>(weights, values, width, &mut scratch.sums);
        }
        for (n, out) in out.chunks_exact_mut(self.width).enumerate() {
            let inverse = 1.0 / totals[n];
            for (out, sum) in out.iter_mut().zip(&scratch.sums[n * width..]) {
                *out = sum * inverse;
            }
        }
    }
}

/// Dot products of `N` queries with the keys of a page.
#[inline]
fn page_scores<const N: usize>(queries: &[f32], keys: &[f32], width: usize) -> [[f32; PAGE]; N] {
    let mut scores = [[0.0f32; PAGE]; N];
    for block in 0..PAGE / LANES {
        let mut sums = [[0.0f32; LANES]; N];
        for (at, column) in keys.chunks_exact(PAGE).enumerate() {
            let column = &column[block * LANES..][..LANES];
            for (n, sums) in sums.iter_mut().enumerate() {
                let query = queries[n * width + at];
                for (sum, key) in sums.iter_mut().zip(column) {
                    *sum = multiply_add(query, *key, *sum);
                }
            }
        }
        for (scores, sums) in scores.iter_mut().zip(sums) {
            scores[block * LANES..][..LANES].copy_from_slice(&sums);
        }
    }
    scores
}

/// Adds the values of a page, weighted, to `N` sums.
#[inline]
fn add_weighted<const N: usize>(
    weights: [&[f32]; N],
    values: &[f32],
    width: usize,
    sums: &mut [f32],
) {
    for block in (0..width).step_by(LANES) {
        let mut local = [[0.0f32; LANES]; N];
        for (n, local) in local.iter_mut().enumerate() {
            local.copy_from_slice(&sums[n * width + block..][..LANES]);
        }
        for (at, row) in values.chunks_exact(width).enumerate() {
            let row = &row[block..][..LANES];
            for (local, weights) in local.iter_mut().zip(&weights) {
                let weight = weights[at];
                for (sum, value) in local.iter_mut().zip(row) {
                    *sum = multiply_add(weight, *value, *sum);
                }
            }
        }
        for (n, local) in local.iter().enumerate() {
            sums[n * width + block..][..LANES].copy_from_slice(local);
        }
    }
}

/// Turns scores into weights and gives their sum. The number of scores is a multiple of [`LANES`].
fn softmax(scores: &mut [f32]) -> f32 {
    let mut largest = [f32::NEG_INFINITY; LANES];
    for chunk in scores.chunks_exact(LANES) {
        for (largest, score) in largest.iter_mut().zip(chunk) {
            *largest = largest.max(*score);
        }
    }
    let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0f32; LANES];
    for chunk in scores.chunks_exact_mut(LANES) {
        for (sum, score) in sums.iter_mut().zip(chunk) {
            *score = exp(*score - largest);
            *sum += *score;
        }
    }
    sums.into_iter().sum()
}

/// One rounding where the processor that this was built for has it, two elsewhere. (A call of `mul_add` without the
/// instruction would be a library call, a hundred times slower.)
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(target_feature = "fma") {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::PagePool;
    use crate::families::RopePairs;

    fn shape(heads: usize, kv_heads: usize, head_width: usize) -> Shape {
        Shape {
            layers: 2,
            hidden: heads * head_width,
            heads,
            kv_heads,
            head_width,
            feed_forward: 8,
            context_train: 512,
            rms_epsilon: 1e-5,
            rope_base: 10_000.0,
            rope_width: head_width,
            rope_divisor: 1.0,
            rope_pairs: RopePairs::Neighbours,
            qkv_bias: false,
        }
    }

    /// A repeatable value in −1..1.
    fn value(seed: usize) -> f32 {
        ((seed as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn filled(shape: &Shape, positions: usize) -> SequenceState {
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
                let page = state.page_mut(position).unwrap();
                page.write(1, head, position % PAGE, &key, &val);
            }
        }
        state
    }

    fn obvious(
        shape: &Shape,
        state: &SequenceState,
        query: &[f32],
        kv_head: usize,
        positions: usize,
    ) -> Vec<f64> {
        let key = |position: usize, at: usize| {
            f64::from(state.pages()[position / PAGE].keys(1, kv_head)[at * PAGE + position % PAGE])
        };
        let val = |position: usize, at: usize| {
            f64::from(
                state.pages()[position / PAGE].values(1, kv_head)
                    [position % PAGE * shape.head_width.next_multiple_of(LANES) + at],
            )
        };
        let score = |position: usize| -> f64 {
            let dot: f64 = (0..shape.head_width)
                .map(|at| f64::from(query[at]) * key(position, at))
                .sum();
            (dot / (shape.head_width as f64).sqrt()).exp()
        };
        let total: f64 = (0..positions).map(score).sum();
        let sum = |at: usize| {
            (0..positions)
                .map(|position| score(position) * val(position, at))
                .sum::<f64>()
        };
        (0..shape.head_width).map(|at| sum(at) / total).collect()
    }

    #[test]
    fn it_is_attention() {
        for (heads, kv_heads, width) in [(1, 1, 16), (3, 1, 8), (6, 2, 20), (9, 3, 64), (14, 2, 32)]
        {
            let shape = shape(heads, kv_heads, width);
            let mut state = filled(&shape, 75);
            state.advance(70);
            let queries: Vec<f32> = (0..5 * heads * width)
                .map(|at| value(at * 17 + 3) * 3.0)
                .collect();
            let out = attend(&shape, &state, 1, &queries);
            for row in 0..5 {
                for head in 0..heads {
                    let at = (row * heads + head) * width;
                    let kv_head = head / (heads / kv_heads);
                    let expected =
                        obvious(&shape, &state, &queries[at..at + width], kv_head, 71 + row);
                    for (got, expected) in out[at..at + width].iter().zip(expected) {
                        assert!(
                            (f64::from(*got) - expected).abs() < 1e-5,
                            "{got} for {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_is_the_same_alone_and_in_company() {
        let shape = shape(9, 3, 64);
        let width = 9 * 64;
        let queries: Vec<f32> = (0..40 * width).map(|at| value(at * 29 + 1) * 4.0).collect();
        let mut state = filled(&shape, 100);
        state.advance(60);
        let together = attend(&shape, &state, 1, &queries);
        for row in 0..40 {
            let alone = attend(&shape, &state, 1, &queries[row * width..(row + 1) * width]);
            assert_eq!(alone, together[row * width..(row + 1) * width]);
            state.advance(1);
        }
    }
}
