//! Text of streaming answers on its way to the disk: gathered for half a second, then written in one transaction.

use std::collections::BTreeMap;
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

/// What waits, per message.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    texts: BTreeMap<MessageId, String>,
    bytes: usize,
    due: Option<Instant>,
    failed: bool,
}

impl Pending {
    pub(crate) fn push(&mut self, message: MessageId, text: &str) {
        self.bytes += text.len();
        self.texts.entry(message).or_default().push_str(text);
        self.due
            .get_or_insert_with(|| Instant::now() + AUTOSAVE_EVERY);
    }

    pub(crate) fn of(&self, message: MessageId) -> &str {
        self.texts.get(&message).map_or("", String::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (MessageId, &str)> {
        self.texts.iter().map(|(id, text)| (*id, text.as_str()))
    }

    /// Forgets one message's text after it was written or its chat removed.
    pub(crate) fn forget(&mut self, message: MessageId) {
        if let Some(text) = self.texts.remove(&message) {
            self.bytes -= text.len();
        }
        if self.texts.is_empty() {
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
        if !self.texts.is_empty() {
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
