//! Rows over threads.
//!
//! By work stealing: a step consists of hundreds of short products, and where every one of them waits for every thread (as
//! candle's own pool does), a machine that is busy with something else makes an answer ten times slower. Here a thread
//! that comes late finds the work done by the others.

use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::ParallelSliceMut as _;

/// Multiply-adds that are worth handing to another thread: some tens of microseconds.
const WORTH_A_THREAD: usize = 200_000;

/// Computes every row of `out` (of `width` values) by `row(state, index, row)`; each thread makes a state of its own.
/// `cost` is the multiply-adds of a row. The result does not depend on which thread computes which row.
pub(crate) fn rows<S>(
    out: &mut [f32],
    width: usize,
    cost: usize,
    state: impl Fn() -> S + Sync + Send,
    row: impl Fn(&mut S, usize, &mut [f32]) + Sync + Send,
) {
    let width = width.max(1);
    let together = WORTH_A_THREAD.div_ceil(cost.max(1));
    if out.len() / width <= together {
        let mut state = state();
        out.chunks_exact_mut(width)
            .enumerate()
            .for_each(|(index, values)| row(&mut state, index, values));
        return;
    }
    out.par_chunks_exact_mut(width)
        .enumerate()
        .with_min_len(together)
        .for_each_init(state, |state, (index, values)| row(state, index, values));
}

/// Makes the calling thread one of `threads` that compute. Once per process.
pub(crate) fn start(threads: usize) {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .use_current_thread();
    // An error says that there is a pool already, which then serves.
    pool.build_global().ok();
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_row_is_computed_once() {
        for count in [0usize, 1, 2, 7, 100] {
            let mut out = vec![0.0; count * 3];
            super::rows(
                &mut out,
                3,
                100_000,
                || (),
                |(), index, row| {
                    row.iter_mut().for_each(|value| *value += index as f32);
                },
            );
            assert!(
                out.chunks(3)
                    .enumerate()
                    .all(|(index, row)| row == [index as f32; 3])
            );
        }
    }
}
