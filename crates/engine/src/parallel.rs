//! Work over threads: the only pool of the program that computes.
//!
//! A step is some hundreds of short pieces of work, one after the other. Threads wait for the next by watching a word in
//! memory for a moment and then sleep, so that inside a step nobody is woken by the system, and between steps nothing
//! runs. Each thread has a share of a piece's units and takes them in order, so that it reads memory from end to end;
//! where a thread comes late or is interrupted, the others take what it has left.

use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::Thread;

/// Multiply-adds that are worth telling the other threads of: ten microseconds of one thread, or so.
const WORTH_TELLING: usize = 500_000;

/// Looks at the word before sleeping. Between two pieces of a step pass microseconds; this is some tens of them.
const LOOKS: usize = 2_000;

/// Looks for late threads before letting the system run them.
const LOOKS_FOR_LATE: usize = 1_000;

/// Computes units `0..units` by `unit(index)`, each once, on as many threads as the work is worth. `cost` is the
/// multiply-adds of a unit.
///
/// Work inside a unit, and work while another thread has the pool, is computed by the caller alone.
pub(crate) fn run(units: usize, cost: usize, unit: impl Fn(usize) + Sync) {
    each(units, cost, |units| units.for_each(&unit));
}

/// Computes every chunk of `size` values of `out` (the last may be shorter) by `chunk(index, values)`; `cost` is the
/// multiply-adds of a chunk. The result does not depend on which thread computes which chunk.
pub(crate) fn chunks<T: Send>(
    out: &mut [T],
    size: usize,
    cost: usize,
    chunk: impl Fn(usize, &mut [T]) + Sync,
) {
    let out = Chunks::new(out, size);
    run(out.count(), cost, |index| {
        // SAFETY: every index is computed once.
        #[allow(unsafe_code)]
        chunk(index, unsafe { out.get(index) });
    });
}

/// Computes every row of `out` (of `width` values) by `row(state, index, row)`; each thread makes a state of its own.
/// `cost` is the multiply-adds of a row. The result does not depend on which thread computes which row.
pub(crate) fn rows<S>(
    out: &mut [f32],
    width: usize,
    cost: usize,
    state: impl Fn() -> S + Sync,
    row: impl Fn(&mut S, usize, &mut [f32]) + Sync,
) {
    let width = width.max(1);
    let whole = out.len() / width * width;
    // Some rows at a time, so that taking them costs little beside computing them.
    let together = WORTH_TAKING.div_ceil(cost.max(1));
    let out = Chunks::new(&mut out[..whole], together * width);
    each(out.count(), together * cost, |units| {
        let mut state = state();
        for index in units {
            // SAFETY: every index is computed once.
            #[allow(unsafe_code)]
            let values = unsafe { out.get(index) };
            for (at, values) in values.chunks_exact_mut(width).enumerate() {
                row(&mut state, index * together + at, values);
            }
        }
    });
}

/// How many threads compute.
pub(crate) fn threads() -> usize {
    pool().workers.len() + 1
}

/// Makes `threads` threads that compute, of which the caller of a function here is one. The first call counts; without one
/// there are as many as the system says it can run.
pub(crate) fn start(threads: usize) {
    POOL.get_or_init(|| Pool::new(threads));
}

/// Multiply-adds that are worth a look at a counter.
const WORTH_TAKING: usize = 50_000;

static POOL: OnceLock<Pool> = OnceLock::new();

thread_local! {
    /// This thread computes units of a piece.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

fn pool() -> &'static Pool {
    POOL.get_or_init(|| Pool::new(std::thread::available_parallelism().map_or(1, Into::into)))
}

/// Calls `work` once on every thread that takes part, with the units that it takes.
fn each(units: usize, cost: usize, work: impl Fn(&mut dyn Iterator<Item = usize>) + Sync) {
    if units > 1 && units.saturating_mul(cost) > WORTH_TELLING && !BUSY.get() {
        let pool = pool();
        if let (false, Ok(_turn)) = (pool.workers.is_empty(), pool.turn.try_lock()) {
            return pool.run(units, &work);
        }
    }
    work(&mut (0..units));
}

/// A slice that threads take chunks of.
struct Chunks<T> {
    start: *mut T,
    length: usize,
    size: usize,
}

// SAFETY: whoever calls `get` has the chunk for itself.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Chunks<T> {}

impl<T> Chunks<T> {
    fn new(values: &mut [T], size: usize) -> Self {
        Self {
            start: values.as_mut_ptr(),
            length: values.len(),
            size: size.max(1),
        }
    }

    fn count(&self) -> usize {
        self.length.div_ceil(self.size)
    }

    /// # Safety
    ///
    /// The slice is still borrowed, and nobody else has the chunk of that index.
    #[allow(unsafe_code, clippy::mut_from_ref)]
    unsafe fn get(&self, index: usize) -> &mut [T] {
        assert!(index < self.count());
        let first = index * self.size;
        // SAFETY: inside the slice, and no other chunk has these values.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.start.add(first),
                self.size.min(self.length - first),
            )
        }
    }
}

struct Pool {
    /// Held by whoever has work computed.
    turn: Mutex<()>,
    workers: Vec<Worker>,
    board: &'static Board,
}

struct Worker {
    thread: Thread,
    asleep: &'static AtomicBool,
}

/// What the threads watch.
struct Board {
    /// The number of the piece of work, times [`PIECE`]; [`OPEN`] while it may be joined; and how many are in it.
    word: Apart<AtomicU64>,
    /// Per thread the next unit of its share.
    next: Vec<Apart<AtomicUsize>>,
    /// Written only while nobody may join and nobody is in it.
    piece: UnsafeCell<Piece>,
}

// SAFETY: `word` says who may touch `piece`.
#[allow(unsafe_code)]
unsafe impl Send for Board {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Board {}

/// On cache lines of its own, since processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Apart<T>(T);

const PIECE: u64 = 1 << 32;
const OPEN: u64 = 1 << 31;

/// A piece of work: a closure without its type.
#[derive(Clone, Copy)]
struct Piece {
    work: *const (),
    call: fn(*const (), &mut dyn Iterator<Item = usize>),
    units: usize,
}

impl Pool {
    fn new(threads: usize) -> Self {
        // As long as the process, since the threads are.
        let board: &'static Board = Box::leak(Box::new(Board {
            word: Apart::default(),
            next: (0..threads.max(1)).map(|_| Apart::default()).collect(),
            piece: UnsafeCell::new(Piece {
                work: std::ptr::null(),
                call: |_, _| (),
                units: 0,
            }),
        }));
        let worker = |index: usize| {
            let asleep: &'static AtomicBool = Box::leak(Box::default());
            let builder = std::thread::Builder::new().name(format!("compute-{index}"));
            let handle = builder.spawn(move || board.attend(index, asleep)).ok()?;
            Some(Worker {
                thread: handle.thread().clone(),
                asleep,
            })
        };
        Self {
            turn: Mutex::new(()),
            // A thread that cannot be had leaves its work to the others.
            workers: (1..threads).map_while(worker).collect(),
            board,
        }
    }

    /// The caller holds the turn.
    fn run<W: Fn(&mut dyn Iterator<Item = usize>) + Sync>(&self, units: usize, work: &W) {
        let board = self.board;
        let piece = Piece {
            work: std::ptr::from_ref(work).cast(),
            call: |work, units| {
                // SAFETY: `work` came from a reference to this type, which outlives the piece.
                #[allow(unsafe_code)]
                let work = unsafe { &*work.cast::<W>() };
                work(units);
            },
            units,
        };
        let number = board.word.0.load(Ordering::Relaxed) / PIECE + 1;
        // SAFETY: the last piece is closed and left by all, and the turn is the caller's.
        #[allow(unsafe_code)]
        unsafe {
            *board.piece.get() = piece;
        }
        for (thread, next) in board.next.iter().enumerate() {
            next.0
                .store(board.share(piece, thread).start, Ordering::Relaxed);
        }
        // Before the looks at who sleeps, as sleepers look at it after saying so: one of both sees the other.
        board
            .word
            .0
            .store((number * PIECE) | OPEN, Ordering::SeqCst);
        for worker in self.workers.iter().take(units - 1) {
            if worker.asleep.swap(false, Ordering::SeqCst) {
                worker.thread.unpark();
            }
        }
        board.compute(piece, 0);
        board.word.0.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while !board.word.0.load(Ordering::Acquire).is_multiple_of(OPEN) {
            looks += 1;
            match looks < LOOKS_FOR_LATE {
                true => std::hint::spin_loop(),
                false => std::thread::yield_now(),
            }
        }
    }
}

impl Board {
    /// The units of a thread.
    fn share(&self, piece: Piece, thread: usize) -> Range<usize> {
        let (units, threads) = (piece.units, self.next.len());
        // As even as can be, without a product that could overflow.
        let start = |thread: usize| units / threads * thread + (units % threads).min(thread);
        start(thread)..start(thread + 1)
    }

    /// The life of a thread.
    fn attend(&self, thread: usize, asleep: &AtomicBool) -> ! {
        let mut last = 0;
        loop {
            let word = self.next_piece(last, asleep);
            let joined =
                self.word
                    .0
                    .compare_exchange(word, word + 1, Ordering::AcqRel, Ordering::Relaxed);
            // Somebody else joined or it was closed meanwhile.
            if joined.is_err() {
                continue;
            }
            last = word / PIECE;
            // SAFETY: this thread is in an open piece, which is not written before it has left.
            #[allow(unsafe_code)]
            let piece = unsafe { *self.piece.get() };
            self.compute(piece, thread);
            self.word.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for an open piece that is not `last`, and gives its word.
    fn next_piece(&self, last: u64, asleep: &AtomicBool) -> u64 {
        let new = |word: &u64| word & OPEN != 0 && word / PIECE != last;
        loop {
            for _ in 0..LOOKS {
                if let Some(word) = Some(self.word.0.load(Ordering::Acquire)).filter(new) {
                    return word;
                }
                std::hint::spin_loop();
            }
            asleep.store(true, Ordering::SeqCst);
            if let Some(word) = Some(self.word.0.load(Ordering::SeqCst)).filter(new) {
                asleep.store(false, Ordering::Relaxed);
                return word;
            }
            std::thread::park();
            asleep.store(false, Ordering::Relaxed);
        }
    }

    /// Computes units until none is left: the thread's own, then those of the threads after it.
    fn compute(&self, piece: Piece, thread: usize) {
        let _end = AbortIfPanicking;
        BUSY.set(true);
        let threads = self.next.len();
        let mut shares = (thread..threads).chain(0..thread);
        let mut share = shares.next();
        let mut units = std::iter::from_fn(|| {
            loop {
                let unit = self.next[share?].0.fetch_add(1, Ordering::Relaxed);
                if unit < self.share(piece, share?).end {
                    return Some(unit);
                }
                share = shares.next();
            }
        });
        (piece.call)(piece.work, &mut units);
        BUSY.set(false);
    }
}

/// Ends the process where a unit panics: other threads may be inside what the panic would take away.
struct AbortIfPanicking;

impl Drop for AbortIfPanicking {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn every_row_is_computed_once() {
        for count in [0usize, 1, 2, 7, 100, 1000] {
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

    #[test]
    fn many_pieces_from_many_threads() {
        super::start(4);
        std::thread::scope(|scope| {
            for seed in 0..4 {
                scope.spawn(move || {
                    for round in 0..3000 {
                        let units = 1 + (seed + round) % 40;
                        let counts: Vec<AtomicU32> =
                            (0..units).map(|_| AtomicU32::new(0)).collect();
                        super::run(units, 1_000_000, |unit| {
                            counts[unit].fetch_add(1, Ordering::Relaxed);
                            // Work inside a unit is done by the unit's thread.
                            super::run(2, 1_000_000, |_| {
                                counts[unit].fetch_add(1, Ordering::Relaxed);
                            });
                        });
                        assert!(
                            counts
                                .iter()
                                .all(|count| count.load(Ordering::Relaxed) == 3)
                        );
                        if round % 500 == 0 {
                            // Long enough to fall asleep.
                            std::thread::sleep(std::time::Duration::from_millis(5));
                        }
                    }
                });
            }
        });
    }
}
