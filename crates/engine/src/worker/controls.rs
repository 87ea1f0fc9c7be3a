//! What the app wants of open calls, set by the reader and seen by a step while it computes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::lock;
use crate::Class;

/// The flags of a call.
#[derive(Debug, Default)]
pub(super) struct Control {
    cancelled: AtomicBool,
    paused: AtomicBool,
}

impl Control {
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }
}

/// The flags of every open call that computes.
#[derive(Debug, Default)]
pub(super) struct Controls {
    open: Mutex<BTreeMap<u64, Arc<Control>>>,
    /// Calls of the owner's that were not looked at yet: what is done for others is given up for them.
    own_waiting: AtomicU32,
    /// Calls of anybody's that were not looked at yet.
    waiting: AtomicU32,
}

impl Controls {
    pub(super) fn open(&self, call: u64, class: Class) {
        lock(&self.open).insert(call, Arc::default());
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if class == Class::Own {
            self.own_waiting.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A call was looked at.
    pub(super) fn seen(&self, class: Class) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if class == Class::Own {
            self.own_waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn own_waits(&self) -> bool {
        self.own_waiting.load(Ordering::Relaxed) > 0
    }

    /// The flags of a call; of one that is not open, flags that nobody sets.
    pub(super) fn of(&self, call: u64) -> Arc<Control> {
        lock(&self.open).get(&call).cloned().unwrap_or_default()
    }

    pub(super) fn close(&self, call: u64) {
        lock(&self.open).remove(&call);
    }

    pub(super) fn cancel(&self, call: u64) {
        if let Some(control) = lock(&self.open).get(&call) {
            control.cancelled.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn pause(&self, call: u64, paused: bool) {
        if let Some(control) = lock(&self.open).get(&call) {
            control.paused.store(paused, Ordering::Relaxed);
        }
    }
}
