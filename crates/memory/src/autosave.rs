//! Text of streaming answers on its way to the disk: gathered for half a second, then written in one transaction.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::MessageId;

/// Longest time that appended text waits before it is written. Half of the second that a crash may cost.
pub const AUTOSAVE_EVERY: Duration = Duration::from_millis(500);

/// Text that may wait, in all. Above it, it is written at once; where that fails (a full disk), [`crate::Memory::append`] refuses more.
pub const MAX_PENDING_BYTES: usize = 16 * 1024 * 1024;

/// Above this many waiting bytes there is no reason to wait for the clock.
const WRITE_AT_BYTES: usize = 64 * 1024;

/// After a failed save, the next try comes after this long: a full disk is not hammered.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Whether the autosave keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Autosave {
    /// The text is, or will be within [`AUTOSAVE_EVERY`], on disk.
    OnTime,
    /// The last save failed. The text is held in memory and tried again; [`crate::Memory::flush`] says why.
    Behind,
}

/// What waits of one message.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) text: String,
    /// The tokens that the text was made of, as they are stored.
    pub(crate) token_ids: String,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.text.len() + self.token_ids.len()
    }
}

/// What waits, per message.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    waiting: BTreeMap<MessageId, Waiting>,
    bytes: usize,
    due: Option<Instant>,
    failed: bool,
}

impl Pending {
    pub(crate) fn push(&mut self, message: MessageId, text: &str, token_ids: &[u32]) {
        let waiting = self.waiting.entry(message).or_default();
        let before = waiting.bytes();
        waiting.text.push_str(text);
        for id in token_ids {
            // Writing to a text cannot fail.
            let _ = write!(waiting.token_ids, " {id}");
        }
        self.bytes += waiting.bytes() - before;
        self.due
            .get_or_insert_with(|| Instant::now() + AUTOSAVE_EVERY);
    }

    pub(crate) fn text_of(&self, message: MessageId) -> &str {
        self.waiting
            .get(&message)
            .map_or("", |waiting| waiting.text.as_str())
    }

    pub(crate) fn token_ids_of(&self, message: MessageId) -> &str {
        self.waiting
            .get(&message)
            .map_or("", |waiting| waiting.token_ids.as_str())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&MessageId, &Waiting)> {
        self.waiting.iter()
    }

    /// Forgets one message's text after it was written or its chat removed.
    pub(crate) fn forget(&mut self, message: MessageId) {
        if let Some(waiting) = self.waiting.remove(&message) {
            self.bytes -= waiting.bytes();
        }
        if self.waiting.is_empty() {
            self.due = None;
            self.failed = false;
        }
    }

    /// All of it was written.
    pub(crate) fn clear(&mut self) {
        *self = Pending::default();
    }

    /// The save failed: all of it stays and is tried again later.
    pub(crate) fn failed(&mut self) {
        self.failed = true;
        self.due = Some(Instant::now() + RETRY_AFTER);
    }

    /// As [`Pending::failed`], where anything waits at all.
    pub(crate) fn failed_if_any(&mut self) {
        if !self.waiting.is_empty() {
            self.failed();
        }
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Enough has gathered to be written without waiting, and the last try did not just fail.
    pub(crate) fn is_large(&self) -> bool {
        !self.failed && self.bytes >= WRITE_AT_BYTES
    }

    pub(crate) fn state(&self) -> Autosave {
        if self.failed {
            Autosave::Behind
        } else {
            Autosave::OnTime
        }
    }
}
