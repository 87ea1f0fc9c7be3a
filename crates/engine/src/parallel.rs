//! Rows over threads: the one place that splits a buffer between them.

use candle_core::utils::barrier_pool;

/// Computes every row of `out` (of `width` values) by `row(state, index, row)`, on all threads; each thread makes a state
/// of its own. The result does not depend on which thread computes which row.
pub(crate) fn rows<S>(
    out: &mut [f32],
    width: usize,
    state: impl Fn() -> S + Sync,
    row: impl Fn(&mut S, usize, &mut [f32]) + Sync,
) {
    let count = out.len() / width.max(1);
    let base = Base(out.as_mut_ptr());
    barrier_pool().execute_chunked(count, |range| {
        let mut state = state();
        for index in range {
            // SAFETY: `index` is below `count`, so the row lies inside `out`; the pool hands every index to one thread,
            // once, so no two rows overlap; and it returns when all are done, while `out` is still borrowed.
            #[allow(unsafe_code)]
            let values =
                unsafe { std::slice::from_raw_parts_mut(base.get().add(index * width), width) };
            row(&mut state, index, values);
        }
    });
}

/// A pointer that the pool's threads may share; see [`rows`] for why that is sound.
struct Base(*mut f32);

impl Base {
    fn get(&self) -> *mut f32 {
        self.0
    }
}

// SAFETY: only disjoint rows are made out of it, see [`rows`].
#[allow(unsafe_code)]
unsafe impl Sync for Base {}

#[cfg(test)]
mod tests {
    #[test]
    fn every_row_is_computed_once() {
        for count in [0usize, 1, 2, 7, 100] {
            let mut out = vec![0.0; count * 3];
            super::rows(
                &mut out,
                3,
                || (),
                |(), index, row| row.iter_mut().for_each(|value| *value += index as f32),
            );
            assert!(
                out.chunks(3)
                    .enumerate()
                    .all(|(index, row)| row == [index as f32; 3])
            );
        }
    }
}
