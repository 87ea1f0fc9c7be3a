//! Ends a worker that hangs: a step past its deadline is told by name, and the process goes.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::outbox::Outbox;
use super::{leave, lock};
use crate::EngineError;

/// Exit code of a worker that ended itself because it hung.
const HUNG: i32 = 70;

/// Time between two looks.
const TICK: Duration = Duration::from_secs(1);

/// What a step may take that was never measured, before anything is added for its size: other programs may have the
/// processor, and the system may be reading the weights from a slow disk.
const LEAST: Duration = Duration::from_secs(60);

/// Slowest machine that is waited for, in bytes of weights per second and token: a hundredth of what a processor of the
/// last decade computes.
const SLOWEST_BYTES_PER_SECOND: u64 = 1 << 28;

/// A step may take this many times what it was expected to: more than a busy machine makes of it.
const PATIENCE: u32 = 30;

/// How long a load may go on without having come further.
pub(super) const LOAD_LIMIT: Duration = Duration::from_secs(180);

/// How long a step may take: many times what steps of its size were measured to take, or what the slowest machine would
/// need for the first of its kind; in any case a minute.
pub(super) fn step_limit(expected: Option<Duration>, tokens: u32, weights_bytes: u64) -> Duration {
    let by_size = || {
        let bytes = weights_bytes.saturating_mul(u64::from(tokens.max(1)));
        Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
    };
    match expected {
        Some(expected) => LEAST.saturating_add(expected.saturating_mul(PATIENCE)),
        None => LEAST.saturating_add(by_size()),
    }
}

/// What the compute thread is doing.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Option<Watched>>);

#[derive(Debug)]
struct Watched {
    what: String,
    limit: Duration,
    gone: Duration,
}

impl Watch {
    /// Something began, or came further. `what` is told when it hangs: sizes alone, never what somebody asked.
    pub(super) fn begin(&self, what: String, limit: Duration) {
        *lock(&self.0) = Some(Watched {
            what,
            limit,
            gone: Duration::ZERO,
        });
    }

    /// It is done.
    pub(super) fn end(&self) {
        *lock(&self.0) = None;
    }

    /// Counts time that passed while this process ran.
    fn tick(&self, passed: Duration) -> Option<EngineError> {
        let mut watched = lock(&self.0);
        let watched = watched.as_mut()?;
        watched.gone += passed;
        (watched.gone > watched.limit).then(|| EngineError::WorkerHung {
            step: watched.what.clone(),
            after_s: watched.gone.as_secs(),
        })
    }
}

/// Looks once a second. Time in which the whole process stood still (it was stopped, the machine slept) is not counted: of
/// a look that comes late, two ticks are.
pub(super) fn run(watch: &Watch, outbox: &Arc<Outbox>) {
    let mut looked = Instant::now();
    loop {
        std::thread::sleep(TICK);
        let passed = looked.elapsed().min(2 * TICK);
        looked = Instant::now();
        if let Some(hung) = watch.tick(passed) {
            eprintln!("{hung}");
            outbox.last_word(hung);
            leave(HUNG);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_past_its_deadline_is_named() {
        let watch = Watch::default();
        assert_eq!(watch.tick(10 * LEAST), None, "nothing runs");
        watch.begin("a step of 3 tokens".into(), LEAST);
        assert_eq!(watch.tick(LEAST), None);
        let hung = EngineError::WorkerHung {
            step: "a step of 3 tokens".into(),
            after_s: LEAST.as_secs() + 1,
        };
        assert_eq!(watch.tick(TICK), Some(hung));
        watch.begin("another".into(), LEAST);
        assert_eq!(watch.tick(LEAST), None, "each has its own time");
        watch.end();
        assert_eq!(watch.tick(10 * LEAST), None);
    }

    #[test]
    fn the_limit_grows_with_the_step_and_never_shrinks_below_the_least() {
        assert_eq!(
            step_limit(Some(Duration::from_millis(5)), 1, 1),
            LEAST + 30 * Duration::from_millis(5)
        );
        assert!(step_limit(None, 256, 4 << 30) > step_limit(None, 1, 4 << 30));
        assert!(step_limit(None, u32::MAX, u64::MAX) >= LEAST);
        assert!(step_limit(Some(Duration::MAX), 1, 1) >= LEAST);
    }
}
