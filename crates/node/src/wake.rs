//! Notices that this computer slept. Connections look open afterwards, and nothing comes over them any more.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

use crate::node::Inner;

/// How often the clocks are compared: a person who opens the lid waits no longer than this for the answer to go on.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The wall clock may be set by hand or by the network; nobody sleeps for less than this.
const MIN_SLEEP: Duration = Duration::from_secs(5);

/// A look that comes this much too late, by the clock that may stand still in sleep: the program itself was stopped.
const MAX_DELAY: Duration = Duration::from_secs(20);

/// So long after waking, cuts and silence say nothing about peers.
const LATELY: Duration = Duration::from_secs(20);

/// When this computer last woke.
#[derive(Debug)]
pub(crate) struct Woke(watch::Receiver<Option<Instant>>);

impl Woke {
    /// Waits for the next time.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether that was a moment ago.
    pub(crate) fn lately(&self) -> bool {
        self.0.borrow().is_some_and(|woke| woke.elapsed() < LATELY)
    }
}

impl Inner {
    /// To be told from now on.
    pub(crate) fn woke(&self) -> Woke {
        Woke(self.wakes.subscribe())
    }

    /// This computer woke, or its network changed: whatever hangs on connections begins anew.
    pub(crate) fn wake(&self) {
        self.wakes.send_replace(Some(Instant::now()));
    }
}

/// Compares the clocks until the node stops.
pub(crate) async fn keep(inner: Arc<Inner>) {
    let mut before = (Instant::now(), SystemTime::now());
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let now = (Instant::now(), SystemTime::now());
        let mono = now.0.duration_since(before.0);
        // A wall clock that went back says nothing about sleep.
        let wall = now.1.duration_since(before.1).unwrap_or_default();
        before = now;
        if slept(mono, wall) {
            tracing::info!(?mono, ?wall, "this computer slept");
            inner.wake();
        }
    }
}

/// Whether the computer slept between two looks that lie so far apart, by the clock that may stand still in sleep and by
/// the one on the wall.
fn slept(mono: Duration, wall: Duration) -> bool {
    wall.saturating_sub(mono) >= MIN_SLEEP || mono >= LOOK_EVERY + MAX_DELAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_shows_in_either_clock() {
        let s = Duration::from_secs;
        assert!(!slept(s(2), s(2)));
        assert!(!slept(s(7), s(7)), "a busy computer is not a sleeping one");
        assert!(!slept(s(2), s(0)), "the wall clock went back");
        assert!(slept(s(2), s(3600)), "the monotonic clock stood still");
        assert!(
            slept(s(3600), s(3600)),
            "it did not, or the program was stopped"
        );
    }
}
