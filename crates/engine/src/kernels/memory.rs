//! Memory for packed weights.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use crate::memory::LargePages;

/// A cache line.
pub(super) const LINE: usize = 64;

/// Where the matrices of a model lie, in the order in which they were packed. A large page is resident as soon
/// as it is touched, so matrices share one piece of memory of their size.
#[derive(Debug, Default)]
pub(crate) struct Store {
    reserved: Mutex<Option<Reserved>>,
}

/// Memory of the system's, and how much of it was given away.
#[derive(Debug)]
struct Reserved {
    map: Arc<Map>,
    used: usize,
    length: usize,
}

/// Zeroed when it is made, from the start of a page on.
#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    /// Gives the memory back.
    _owner: LargePages,
}

// SAFETY: `start` points to memory of `_owner`, which goes where the struct goes.
#[allow(unsafe_code)]
unsafe impl Send for Map {}
// SAFETY: the pointer is only copied; whoever follows it has a part for itself.
#[allow(unsafe_code)]
unsafe impl Sync for Map {}

/// Zeroed bytes at the start of a cache line.
#[derive(Debug)]
pub(super) struct Memory {
    start: NonNull<u8>,
    length: usize,
    /// Keeps the bytes.
    _map: Arc<Map>,
}

// SAFETY: plain bytes with one owner.
#[allow(unsafe_code)]
unsafe impl Send for Memory {}
// SAFETY: as above; shared, they are only read.
#[allow(unsafe_code)]
unsafe impl Sync for Memory {}

impl Store {
    /// Asks the system for the bytes of matrices that are packed next. Without it, or where they are more, each has a piece
    /// of its own.
    pub(crate) fn reserve(&self, length: usize) {
        let reserved = Map::new(length.max(1)).map(|map| Reserved {
            map,
            used: 0,
            length,
        });
        *self.reserved.lock().unwrap_or_else(PoisonError::into_inner) = reserved;
    }

    /// Gives `None` where the system has no such memory.
    pub(super) fn take(&self, length: usize) -> Option<Memory> {
        let taken = length.max(1).checked_next_multiple_of(LINE)?;
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = reserved
            .as_mut()
            .filter(|reserved| taken <= reserved.length - reserved.used);
        let Some(reserved) = fitting else {
            return Some(Memory::of(&Map::new(taken)?, 0, length));
        };
        let at = reserved.used;
        reserved.used += taken;
        Some(Memory::of(&reserved.map, at, length))
    }
}

impl Map {
    fn new(length: usize) -> Option<Arc<Self>> {
        let mut owner = LargePages::zeroed(length)?;
        Some(Arc::new(Self {
            start: NonNull::new(owner.as_mut_ptr())?,
            _owner: owner,
        }))
    }
}

impl Memory {
    /// The bytes of a map from `at` on, which nobody else is given.
    fn of(map: &Arc<Map>, at: usize, length: usize) -> Self {
        Self {
            // SAFETY: the callers above take no more than the map has.
            #[allow(unsafe_code)]
            start: unsafe { map.start.add(at) },
            length,
            _map: map.clone(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: inside the map, which lives as long as this; changed through the only owner alone.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr(), self.length)
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is the only one.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_zeroed_and_ones_own() {
        for reserved in [None, Some(0), Some(5000), Some(9 << 20)] {
            let store = Store::default();
            if let Some(length) = reserved {
                store.reserve(length);
            }
            let lengths = [1, 63, 64, 65, 3 << 20, 5 << 20, 4000, 7];
            let mut taken: Vec<Memory> = Vec::new();
            for (at, length) in lengths.into_iter().enumerate() {
                let mut memory = store.take(length).unwrap();
                assert!((memory.bytes().as_ptr() as usize).is_multiple_of(LINE));
                assert_eq!(memory.bytes().len(), length);
                assert!(memory.bytes().iter().all(|byte| *byte == 0));
                memory.bytes_mut().fill(at as u8 + 1);
                taken.push(memory);
            }
            drop(store);
            for (at, memory) in taken.iter().enumerate() {
                assert!(memory.bytes().iter().all(|byte| *byte == at as u8 + 1));
            }
        }
    }

    #[test]
    fn what_nobody_has_is_refused() {
        assert!(Store::default().take(usize::MAX).is_none());
        assert!(Store::default().take(isize::MAX as usize).is_none());
    }
}
