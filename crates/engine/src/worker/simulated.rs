//! A step that never ends, so that the watchdog can be seen at work. Only builds with debug assertions have it.

use std::time::Duration;

/// Names the step that hangs, by how many were computed before it.
const STEP: &str = "DECENTRALGPT_HANG_IN_STEP";

/// What that step is let, instead of the minute that real ones have.
pub(super) const ALLOWED: Duration = Duration::from_secs(1);

/// Whether the step after so many is the one to hang in.
pub(super) fn hangs_after(steps: u64) -> bool {
    let told = std::env::var(STEP).ok();
    told.and_then(|told| told.parse().ok()) == Some(steps)
}

/// Never returns.
pub(super) fn hang() -> ! {
    loop {
        std::thread::sleep(Duration::MAX);
    }
}
