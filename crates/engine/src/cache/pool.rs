//! The pool: how many pages there may be, and where known prefixes are found.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::prefixes::Prefixes;
use super::{Asker, HostPage, Layout, PAGE, Page, PageMemory, SequenceState};
use crate::EngineError;
use crate::backend::HerePage;
use crate::families::Shape;

/// Memory of returned pages that is kept for the next ones, in bytes: what a chat's next turn takes, so that it does not
/// wait for the system to clear pages. More goes back to the system at once.
const SPARE_BYTES: u64 = 64 << 20;

/// Pages that known prefixes may keep when no sequence reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cached {
    /// The owner's.
    pub own: usize,
    /// Those of all others together, so that a crowd never pushes out the owner's chat.
    pub others: usize,
}

impl Default for Cached {
    /// All there are.
    fn default() -> Self {
        Self {
            own: usize::MAX,
            others: usize::MAX,
        }
    }
}

/// All pages of one loaded model.
#[derive(Debug)]
pub struct PagePool<P: PageMemory = HerePage> {
    source: P::Source,
    page_bytes: u64,
    capacity: usize,
    /// What known prefixes may keep.
    cached: Cached,
    living: Arc<AtomicUsize>,
    spare: Vec<P>,
    prefixes: Prefixes<P>,
}

impl PagePool<HostPage> {
    /// A pool, in this machine's memory, of as many pages as fit into `bytes`. Memory is taken when a page is first
    /// needed.
    pub fn new(shape: &Shape, bytes: u64) -> Self {
        Self::of(Layout::new(shape), bytes)
    }
}

impl<P: PageMemory> PagePool<P> {
    /// A pool of as many pages of that source as fit into `bytes`.
    pub fn of(source: P::Source, bytes: u64) -> Self {
        let mut pool = Self {
            page_bytes: P::bytes(&source),
            source,
            capacity: 0,
            cached: Cached::default(),
            living: Arc::default(),
            spare: Vec::new(),
            prefixes: Prefixes::default(),
        };
        pool.set_bytes(bytes);
        pool
    }

    /// Changes how many bytes the pages may take. Pages in use stay, even where they are more than that.
    pub fn set_bytes(&mut self, bytes: u64) {
        self.capacity = usize::try_from(bytes / self.page_bytes.max(1)).unwrap_or(usize::MAX);
        let over = self.living().saturating_sub(self.capacity);
        self.make_room(over);
    }

    /// Bounds the pages that known prefixes keep when no sequence reads them. Without a bound they fill the pool.
    pub fn set_cached(&mut self, cached: Cached) {
        self.cached = cached;
        self.trim();
    }

    /// Bytes of one page.
    pub fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Pages in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Pages that a sequence could still get: unused ones, and those that only a cached prefix holds.
    pub fn free(&self) -> usize {
        let cached = self.prefixes.unshared();
        self.capacity.saturating_sub(self.living()) + cached
    }

    /// Pages whose memory was never taken, or was given back to the system.
    pub fn untouched(&self) -> usize {
        let taken = self.living() + self.spare.len();
        self.capacity.saturating_sub(taken)
    }

    /// A sequence that begins with the longest known prefix of `ids` that this asker computed before; at most
    /// `ids.len() − 1` tokens, since the last one must be computed for its logits.
    pub fn adopt(&mut self, asker: &Asker, ids: &[u32]) -> SequenceState<P> {
        let wanted = &ids[..ids.len().saturating_sub(1)];
        let (pages, len) = self.prefixes.longest(asker, wanted);
        SequenceState { pages, len }
    }

    /// Makes the full pages of a sequence findable, whose first ids are `ids`. They stay after it until room is needed.
    pub fn publish(&mut self, asker: &Asker, ids: &[u32], state: &SequenceState<P>) {
        let known = ids.len().min(state.len) / PAGE * PAGE;
        self.prefixes.insert(asker, &ids[..known], &state.pages);
    }

    /// Ends a sequence and keeps what it computed findable, as far as prefixes may keep pages; the last and partly filled
    /// page included.
    pub fn retire(&mut self, asker: &Asker, ids: &[u32], state: SequenceState<P>) {
        let known = ids.len().min(state.len);
        self.prefixes.insert(asker, &ids[..known], &state.pages);
        self.release(state);
    }

    /// Ends a sequence. Its pages are back at once, but for those that are shared or stay findable.
    pub fn release(&mut self, state: SequenceState<P>) {
        for page in state.pages {
            self.give_back(page);
        }
        self.trim();
    }

    /// Drops everything cached, and gives the memory of unused pages back to the system.
    pub fn forget(&mut self) {
        self.prefixes = Prefixes::default();
        self.spare = Vec::new();
    }

    /// Gives `state` pages of its own for `tokens` positions after its length. On an error it is as before.
    pub(crate) fn reserve(
        &mut self,
        state: &mut SequenceState<P>,
        tokens: usize,
    ) -> Result<(), EngineError> {
        let needed = state.pages_needed(tokens);
        let free = self.capacity.saturating_sub(self.living());
        self.make_room(needed.saturating_sub(free));
        let free = self.capacity.saturating_sub(self.living());
        if needed > free {
            return Err(EngineError::NotEnoughMemory {
                need: needed as u64 * self.page_bytes,
                have: free as u64 * self.page_bytes,
            });
        }
        if needed > 0 && state.last_is_shared() {
            let mut copy = self.page()?;
            let last = &mut state.pages[state.len / PAGE];
            copy.memory.copy_from(&last.memory)?;
            *last = Arc::new(copy);
        }
        while state.pages.len() * PAGE < state.len + tokens {
            match self.page() {
                Ok(page) => state.pages.push(Arc::new(page)),
                Err(error) => {
                    let len = state.len;
                    state.truncate(self, len);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes a reference back; the page's memory is kept for others when it was the last.
    pub(super) fn give_back(&mut self, page: Arc<Page<P>>) {
        if let Some(page) = Arc::into_inner(page) {
            self.keep(page);
        }
    }

    fn keep(&mut self, page: Page<P>) {
        let spare = (self.spare.len() as u64 + 1).saturating_mul(self.page_bytes);
        if spare <= SPARE_BYTES {
            self.spare.push(page.memory);
        }
    }

    fn page(&mut self) -> Result<Page<P>, EngineError> {
        let memory = match self.spare.pop() {
            Some(memory) => memory,
            None => P::new(&self.source)?,
        };
        Ok(Page::new(memory, &self.living))
    }

    fn living(&self) -> usize {
        self.living.load(Ordering::Relaxed)
    }

    /// Forgets prefixes that nobody reads down to what they may keep.
    fn trim(&mut self) {
        for page in self.prefixes.trim(self.cached) {
            self.keep(page);
        }
    }

    /// Forgets prefixes until that many of their pages are free, the longest unused first.
    fn make_room(&mut self, pages: usize) {
        for page in self.prefixes.evict(pages) {
            self.keep(page);
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
