//! The two clocks, read in one place.

use std::{
    sync::OnceLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use protocol::Clock;

/// Milliseconds since 1970, as far as this computer knows.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// Both clocks, for the machines of `protocol`.
pub(crate) fn now() -> Clock {
    Clock {
        mono_ms: mono_ms(),
        unix_ms: unix_ms(),
    }
}

/// The moment at which the monotonic clock shows `mono_ms`.
pub(crate) fn instant(mono_ms: u64) -> tokio::time::Instant {
    tokio::time::Instant::from_std(origin() + std::time::Duration::from_millis(mono_ms))
}

/// Midnight of today where this computer is; UTC where the system does not say.
pub(crate) fn midnight_ms() -> u64 {
    let now = time::OffsetDateTime::now_local().unwrap_or_else(|_| time::OffsetDateTime::now_utc());
    let start = now.replace_time(time::Time::MIDNIGHT).unix_timestamp();
    u64::try_from(start).map_or(0, |seconds| seconds * 1000)
}

fn mono_ms() -> u64 {
    u64::try_from(origin().elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}
