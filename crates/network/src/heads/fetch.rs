//! Fetching a head piece by piece, at no less than the slowest pace that is waited for.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use protocol::{
    ModelRef, PeerId, frame,
    head::{HeadFetch, HeadResponse, HeadStatus, MAX_CHUNK, MAX_HEAD},
};
use tokio::time::{Instant, timeout_at};

use super::refused;
use crate::error::NetworkError;

/// Pieces of a head that are asked for at once: at a round trip of 100 ms this fetches 10 MB a second instead of 2.5.
const PIECES_AHEAD: usize = 4;
/// Only where the first one came within this time: on a slower link four would take from each other what one needs to come in time.
const FAST_PIECE: Duration = Duration::from_secs(2);

/// A peer that sends pieces to others is asked for the same one again after this time: it reads one in milliseconds.
const PIECE_AGAIN: Duration = Duration::from_millis(250);
/// So long it is asked for one piece: five seconds of others' pieces. Another peer may have the head as well.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// How long the first `len` bytes of a head may take: as long as a first frame of that length, which is the slowest that is waited for.
pub(crate) fn slowest(len: usize) -> Duration {
    Duration::from_millis(frame::open_frame_ms(len))
}

/// How far the fetch of a head is, and how much longer it may take: whoever fetches it knows whether another one shares the line.
#[derive(Debug, Default)]
pub struct HeadProgress {
    came: AtomicU32,
    more_ms: AtomicU64,
}

impl HeadProgress {
    /// Bytes that are here.
    #[must_use]
    pub fn came(&self) -> u32 {
        self.came.load(Ordering::Relaxed)
    }

    /// So many bytes are here.
    pub fn set_came(&self, bytes: u32) {
        self.came.store(bytes, Ordering::Relaxed);
    }

    /// Lets the whole take this much longer than it may by itself. Counts at once, also for a piece that is under way.
    pub fn allow(&self, more: Duration) {
        let more = u64::try_from(more.as_millis()).unwrap_or(u64::MAX);
        self.more_ms.fetch_add(more, Ordering::Relaxed);
    }

    /// How much longer it may take, all in all.
    #[must_use]
    pub fn allowed(&self) -> Duration {
        Duration::from_millis(self.more_ms.load(Ordering::Relaxed))
    }
}

/// Fetches the head of a model with `ask`, which asks `peer` for the piece at an offset. The first n bytes have come within
/// `allowed(n)` and what `progress` allows besides, or the fetch is given up: each piece has a time of its own as well, and without
/// this a peer could send every one of a hundred just before its end. What is here is told to `progress`.
pub(crate) async fn fetch<F>(
    peer: PeerId,
    model: &ModelRef,
    ask: impl Fn(u32) -> F,
    allowed: impl Fn(usize) -> Duration,
    progress: &HeadProgress,
) -> Result<Vec<u8>, NetworkError>
where
    F: Future<Output = Result<HeadResponse, NetworkError>>,
{
    let mut fetch = HeadFetch::new(*model).map_err(|_| NetworkError::HeadTooLarge {
        len: model.head_len,
        max: MAX_HEAD,
    })?;
    let ask = &ask;
    let piece = |offset| async move {
        let begun = Instant::now();
        loop {
            let answer = ask(offset).await?;
            // Who is busy says so at once.
            if answer.status() != HeadStatus::Busy || begun.elapsed() >= BUSY_WAIT {
                return Ok(answer);
            }
            tokio::time::sleep(PIECE_AGAIN).await;
        }
    };
    let begun = Instant::now();
    let (mut here, mut ahead) = (0, 1);
    let mut offsets = (0..model.head_len).step_by(MAX_CHUNK);
    // The first piece alone, which says how many of the others are asked for at once.
    let first: Vec<u32> = offsets.by_ref().take(1).collect();
    for offsets in [first, offsets.collect()] {
        let mut pieces = stream::iter(offsets).map(piece).buffered(ahead);
        loop {
            let after = allowed(here as usize + MAX_CHUNK) + progress.allowed();
            let Ok(next) = timeout_at(begun + after, pieces.try_next()).await else {
                // What was allowed meanwhile counts.
                if allowed(here as usize + MAX_CHUNK) + progress.allowed() > after {
                    continue;
                }
                return Err(NetworkError::HeadTooSlow {
                    peer,
                    came: here,
                    len: model.head_len,
                    after,
                });
            };
            let Some(piece) = next? else { break };
            match fetch.take(&piece) {
                Ok(Some(head)) => return Ok(head),
                Ok(None) => here = fetch.progress().0,
                Err(error) => return Err(refused(peer, model, error)),
            }
            progress.set_came(here);
        }
        if begun.elapsed() < FAST_PIECE {
            ahead = PIECES_AHEAD;
        }
    }
    Err(NetworkError::Malformed {
        peer,
        what: "the pieces of the head do not add up",
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::{HeadDigest, ModelDigest};
    use sha2::{Digest as _, Sha256};

    use super::*;

    const PIECES: usize = 40;
    /// A fiftieth of the 20 s that a piece of who is just waited for takes.
    const DRIPS: Duration = Duration::from_millis(400);
    const SLOW: Duration = Duration::from_millis(20);

    fn head() -> (Bytes, ModelRef) {
        let bytes = vec![7; PIECES * MAX_CHUNK];
        let model = ModelRef {
            digest: ModelDigest::new([1; 32]),
            head_len: bytes.len() as u32,
            head_sha256: HeadDigest::new(Sha256::digest(&bytes).into()),
        };
        (bytes.into(), model)
    }

    /// A fiftieth of the time that there is outside of a test.
    fn allowed(len: usize) -> Duration {
        slowest(len) / 50
    }

    /// Asks a peer that sends one piece after another, each after a `pause`. What came of it, and the bytes that came.
    async fn from_one_that_pauses(
        pause: Duration,
        progress: &HeadProgress,
    ) -> (Result<Vec<u8>, NetworkError>, usize) {
        let ((bytes, model), line) = (head(), tokio::sync::Mutex::new(()));
        let ask = |offset| {
            let (bytes, line) = (&bytes, &line);
            async move {
                let _turn = line.lock().await;
                tokio::time::sleep(pause).await;
                Ok(HeadResponse::piece(bytes, offset))
            }
        };
        let peer = protocol::Signer::from_seed([9; 32]).peer_id();
        let fetched = fetch(peer, &model, ask, allowed, progress).await;
        (fetched, progress.came() as usize)
    }

    #[tokio::test]
    async fn who_lets_a_head_drip_is_left_and_who_is_merely_slow_is_not() {
        // All of them would be 16 s.
        let begun = Instant::now();
        let (dripped, came) = from_one_that_pauses(DRIPS, &HeadProgress::default()).await;
        assert!(
            matches!(
                dripped,
                Err(NetworkError::HeadTooSlow { came: told, .. }) if told as usize == came
            ),
            "{:?}",
            dripped.map(|head| head.len())
        );
        assert!(came <= 2 * MAX_CHUNK && begun.elapsed() < Duration::from_secs(8));
        let (slow, came) = from_one_that_pauses(SLOW, &HeadProgress::default()).await;
        assert_eq!(slow.unwrap().len(), PIECES * MAX_CHUNK);
        assert_eq!(came, (PIECES - 1) * MAX_CHUNK, "it was seen to come");
    }

    #[tokio::test]
    async fn what_is_allowed_meanwhile_counts_for_the_piece_that_is_under_way() {
        // All of it drips in 16 s, and may take 13 without this.
        let progress = HeadProgress::default();
        let later = async {
            // The first two pieces may take 0.84 s.
            tokio::time::sleep(DRIPS).await;
            progress.allow(Duration::from_secs(15));
        };
        let (dripped, ()) = tokio::join!(from_one_that_pauses(DRIPS, &progress), later);
        assert_eq!(dripped.0.unwrap().len(), PIECES * MAX_CHUNK);
    }

    #[test]
    fn the_slowest_head_is_the_slowest_prompt() {
        assert_eq!(slowest(0), Duration::from_secs(10));
        assert_eq!(slowest(MAX_CHUNK), Duration::from_secs(26));
        assert_eq!(slowest(MAX_HEAD), Duration::from_secs(10 + 2048));
    }
}
