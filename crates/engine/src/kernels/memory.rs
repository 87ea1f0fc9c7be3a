//! Memory for packed weights.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Large pages of the processors at hand. Weights are read from end to end for every token: with small pages, looking
/// addresses up costs as much as the reading.
const LARGE_PAGE: usize = 2 << 20;

/// A cache line.
const LINE: usize = 64;

/// Zeroed bytes at the start of a cache line, in large pages where the system gives them.
#[derive(Debug)]
pub(super) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain bytes with one owner.
#[allow(unsafe_code)]
unsafe impl Send for Memory {}
// SAFETY: as above; shared, they are only read.
#[allow(unsafe_code)]
unsafe impl Sync for Memory {}

impl Memory {
    /// Gives `None` where a length is beyond what a process can have.
    pub(super) fn zeroed(length: usize) -> Option<Self> {
        let alignment = if length >= LARGE_PAGE {
            LARGE_PAGE
        } else {
            LINE
        };
        let layout = Layout::from_size_align(length.max(1), alignment).ok()?;
        // SAFETY: the size is not zero.
        #[allow(unsafe_code)]
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        #[cfg(target_os = "linux")]
        if length >= LARGE_PAGE {
            // A refusal leaves small pages.
            // SAFETY: the range was allocated just now, and the advice changes no content.
            #[allow(unsafe_code)]
            unsafe {
                libc::madvise(start.as_ptr().cast(), length, libc::MADV_HUGEPAGE);
            }
        }
        Some(Self { start, layout })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: allocated and zeroed with that size, and freed with `self`.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size())
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is the only one.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size())
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        #[allow(unsafe_code)]
        unsafe {
            dealloc(self.start.as_ptr(), self.layout);
        }
    }
}
