//! Memory straight from the system, for what is read from end to end again and again: weights, keys and values.
//!
//! With small pages, looking addresses up costs as much as the reading, and nothing is fetched ahead across their borders.
//! Large ones must be asked for before the first byte is touched, which an allocator would have done to align or to clear
//! it.

use memmap2::MmapMut;

/// Zeroed bytes from the start of a page on, in large pages where the system gives them.
#[derive(Debug)]
pub(crate) struct LargePages(MmapMut);

impl LargePages {
    /// Gives `None` where the system has no such memory.
    pub(crate) fn zeroed(bytes: usize) -> Option<Self> {
        let map = MmapMut::map_anon(bytes.max(1)).ok()?;
        // A refusal leaves small pages.
        #[cfg(target_os = "linux")]
        map.advise(memmap2::Advice::HugePage).ok();
        Some(Self(map))
    }

    /// Where they start.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    /// All whole floats of the bytes.
    pub(crate) fn floats(&self) -> &[f32] {
        let floats = self.0.len() / size_of::<f32>();
        // SAFETY: a page's start is aligned for floats, any bits are one, and the bytes are borrowed as long.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.0.as_ptr().cast(), floats)
        }
    }

    /// The same, to be written.
    pub(crate) fn floats_mut(&mut self) -> &mut [f32] {
        let floats = self.0.len() / size_of::<f32>();
        // SAFETY: as above, and the borrow is the only one.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), floats)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_the_bytes() {
        let mut pages = LargePages::zeroed((3 << 20) + 6).unwrap();
        assert_eq!(pages.floats().len(), (3 << 18) + 1);
        assert!(pages.floats().iter().all(|float| *float == 0.0));
        pages.floats_mut().fill(1.5);
        assert!(pages.floats().iter().all(|float| *float == 1.5));
        assert!(LargePages::zeroed(isize::MAX as usize).is_none());
    }
}
