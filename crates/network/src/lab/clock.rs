//! Time that passes only when nothing is left to compute: with it, how busy the machine is does not show in what is measured.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// The time of the wires and of searches. Clones share it. It stands still until [`Clock::jump`] is called, which is for whoever knows
/// that nothing is left to compute, as `tokio::runtime::Builder::on_thread_park` does.
#[derive(Clone, Debug)]
pub struct Clock {
    zero: Instant,
    time: Arc<Mutex<Time>>,
}

#[derive(Debug, Default)]
struct Time {
    now: Duration,
    sleeps: u64,
    waiting: BTreeMap<(Duration, u64), Waker>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            zero: Instant::now(),
            time: Arc::default(),
        }
    }
}

impl Clock {
    fn lock(&self) -> MutexGuard<'_, Time> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since it began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.lock().now
    }

    pub(crate) fn instant(&self) -> Instant {
        self.zero + self.now()
    }

    /// Goes on to the next time that somebody waits for, and wakes them.
    pub fn jump(&self) {
        let mut woken = Vec::new();
        {
            let mut time = self.lock();
            let Some((&(due, _), _)) = time.waiting.first_key_value() else {
                return;
            };
            time.now = due;
            while let Some(first) = time.waiting.first_entry()
                && first.key().0 == due
            {
                woken.push(first.remove());
            }
        }
        for waker in woken {
            waker.wake();
        }
    }

    /// Until this much time has passed.
    #[must_use]
    pub fn sleep(&self, time: Duration) -> Sleep {
        self.sleep_until(self.now() + time)
    }

    pub(super) fn sleep_until(&self, due: Duration) -> Sleep {
        let mut time = self.lock();
        time.sleeps += 1;
        Sleep {
            key: (due, time.sleeps),
            clock: self.clone(),
        }
    }
}

/// See [`Clock::sleep`].
#[derive(Debug)]
pub struct Sleep {
    key: (Duration, u64),
    clock: Clock,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut time = self.clock.lock();
        if time.now >= self.key.0 {
            return Poll::Ready(());
        }
        time.waiting.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.lock().waiting.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn it_jumps_from_one_waiting_to_the_next() {
        let clock = Clock::default();
        let (mut long, mut short) = (
            clock.sleep(Duration::from_secs(3600)),
            clock.sleep(Duration::from_secs(1)),
        );
        assert!((&mut long).now_or_never().is_none());
        assert!((&mut short).now_or_never().is_none());
        clock.jump();
        assert_eq!(clock.now(), Duration::from_secs(1));
        assert!((&mut short).now_or_never().is_some());
        drop(long);
        clock.jump();
        assert_eq!(clock.now(), Duration::from_secs(1), "nobody waits");
    }
}
