//! The pool: how many bytes pages may take, and where known prefixes are found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::prefixes::{Found, Prefixes};
use super::{Asker, HostPage, Layout, PAGE, Page, PageMemory, Pages, SequenceState};
use crate::backend::HerePage;
use crate::families::{Reach, Shape};
use crate::{EngineError, KnownPrefix, Prefix};

/// Memory of returned pages that is kept for the next ones, in bytes: what a chat's next turn takes, so that it does not
/// wait for the system to clear pages. More goes back to the system at once.
const SPARE_BYTES: u64 = 64 << 20;

/// Bytes of pages that known prefixes may keep when no sequence reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cached {
    /// The owner's.
    pub own: u64,
    /// Those of all others together, so that a crowd never pushes out the owner's chat.
    pub others: u64,
}

impl Default for Cached {
    /// All there are.
    fn default() -> Self {
        Self {
            own: u64::MAX,
            others: u64::MAX,
        }
    }
}

/// All pages of one loaded model.
#[derive(Debug)]
pub struct PagePool<P: PageMemory = HerePage> {
    /// By the reach of layers.
    kinds: [Option<Kind<P>>; 2],
    /// Positions that layers with a window see.
    window: Option<usize>,
    capacity: u64,
    /// What known prefixes may keep.
    cached: Cached,
    living: Arc<AtomicU64>,
    prefixes: Prefixes<P>,
}

/// The pages of layers of one reach.
#[derive(Debug)]
struct Kind<P: PageMemory> {
    source: P::Source,
    bytes: u64,
    spare: Vec<P>,
}

impl PagePool<HostPage> {
    /// A pool, in this machine's memory, of at most `bytes`. Memory is taken when a page is first needed.
    pub fn new(shape: &Shape, bytes: u64) -> Self {
        Self::of(shape, bytes, |reach| Layout::new(shape, reach))
    }
}

impl<P: PageMemory> PagePool<P> {
    /// A pool for sequences of a model of that shape, of pages by those sources and at most `bytes`.
    pub fn of(shape: &Shape, bytes: u64, source: impl Fn(Reach) -> P::Source) -> Self {
        let kind = |reach| {
            (shape.layers_of(reach) > 0).then(|| {
                let source = source(reach);
                Kind {
                    bytes: P::bytes(&source),
                    source,
                    spare: Vec::new(),
                }
            })
        };
        Self {
            kinds: Reach::BOTH.map(kind),
            window: shape.local.as_ref().map(|local| local.window),
            capacity: bytes,
            cached: Cached::default(),
            living: Arc::default(),
            prefixes: Prefixes::default(),
        }
    }

    /// Changes how many bytes the pages may take. Pages in use stay, even where they are more than that.
    pub fn set_bytes(&mut self, bytes: u64) {
        self.capacity = bytes;
        self.make_room(self.living().saturating_sub(bytes));
    }

    /// Bounds the pages that known prefixes keep when no sequence reads them. Without a bound they fill the pool.
    pub fn set_cached(&mut self, cached: Cached) {
        self.cached = cached;
        self.trim();
    }

    /// Bytes of the pages of the same positions in all layers.
    pub fn page_bytes(&self) -> u64 {
        self.kinds.iter().flatten().map(|kind| kind.bytes).sum()
    }

    /// Bytes that the pages may take.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes that a sequence could still get: unused ones, and those of pages that only a cached prefix holds.
    pub fn free(&self) -> u64 {
        self.unused() + self.prefixes.unshared_bytes()
    }

    /// Bytes whose memory was never taken, or was given back to the system.
    pub fn untouched(&self) -> u64 {
        self.unused().saturating_sub(self.spare_bytes())
    }

    /// Bytes that must be free so that `tokens` more of a sequence fit.
    pub fn needed(&self, state: &SequenceState<P>, tokens: usize) -> u64 {
        if tokens == 0 {
            return 0;
        }
        // The next token may fall into a page that somebody else reads too.
        let last = state.pages.get(state.len / PAGE);
        let copied = last.map_or(0, Pages::shared_bytes);
        let pages = (state.len + tokens).div_ceil(PAGE);
        let new = pages.saturating_sub(state.pages.len()) as u64;
        new.saturating_mul(self.page_bytes()).saturating_add(copied)
    }

    /// A sequence that begins with the longest known prefix of `ids` that this asker computed before; at most
    /// `ids.len() − 1` tokens, since the last one must be computed for its logits.
    pub fn adopt(&mut self, asker: &Asker, ids: &[u32]) -> SequenceState<P> {
        let wanted = &ids[..ids.len().saturating_sub(1)];
        let Found { pages, len, left } = self.prefixes.longest(asker, wanted, self.window);
        SequenceState { pages, len, left }
    }

    /// The longest of these beginnings that this asker computed before, and how much of it a sequence would [adopt](Self::adopt).
    /// `hasher` is empty; what hangs together is hashed once. Counts as no use: a question keeps nothing in memory.
    pub fn known(
        &self,
        asker: &Asker,
        prefixes: &[Prefix],
        hasher: &blake3::Hasher,
    ) -> Option<KnownPrefix> {
        self.prefixes.known(asker, prefixes, hasher, self.window)
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
        for pages in state.pages {
            self.give_back(pages);
        }
        self.trim();
    }

    /// Drops everything cached, and gives the memory of unused pages back to the system.
    pub fn forget(&mut self) {
        self.prefixes = Prefixes::default();
        for kind in self.kinds.iter_mut().flatten() {
            kind.spare = Vec::new();
        }
    }

    /// Gives `state` pages of its own for `tokens` positions after its length. On an error it is as before.
    pub(crate) fn reserve(
        &mut self,
        state: &mut SequenceState<P>,
        tokens: usize,
    ) -> Result<(), EngineError> {
        let need = self.needed(state, tokens);
        self.make_room(need.saturating_sub(self.unused()));
        let have = self.unused();
        if need > have {
            return Err(EngineError::NotEnoughMemory { need, have });
        }
        let last = state.len / PAGE;
        for reach in Reach::BOTH {
            let page = state.pages.get(last).and_then(|pages| pages.of(reach));
            let shared = page.filter(|page| tokens > 0 && Arc::strong_count(page) > 1);
            if let (Some(page), Some(mut copy)) =
                (shared.cloned(), self.page(reach, shared.is_some())?)
            {
                copy.memory.copy_from(&page.memory)?;
                state.pages[last].0[reach as usize] = Some(Arc::new(copy));
            }
        }
        while state.pages.len() * PAGE < state.len + tokens {
            match self.pages() {
                Ok(pages) => state.pages.push(pages),
                Err(error) => {
                    let len = state.len;
                    state.truncate(self, len);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Positions that layers with a window see; `None` where no layer has one.
    pub(super) fn window(&self) -> Option<usize> {
        self.window
    }

    /// Whether layers see so far.
    #[cfg(test)]
    fn has(&self, reach: Reach) -> bool {
        self.kinds[reach as usize].is_some()
    }

    /// Takes references back; the memory of a page is kept for others when it was the last.
    pub(super) fn give_back(&mut self, pages: Pages<P>) {
        for (reach, page) in Reach::BOTH.into_iter().zip(pages.0) {
            if let Some(page) = page.and_then(Arc::into_inner) {
                self.keep(reach, page);
            }
        }
    }

    fn keep(&mut self, reach: Reach, page: Page<P>) {
        let kept = self.spare_bytes().saturating_add(page.bytes()) <= SPARE_BYTES;
        if let Some(kind) = self.kinds[reach as usize].as_mut().filter(|_| kept) {
            kind.spare.push(page.memory);
        }
    }

    fn pages(&mut self) -> Result<Pages<P>, EngineError> {
        let [all, window] = Reach::BOTH.map(|reach| self.page(reach, true));
        Ok(Pages([all?.map(Arc::new), window?.map(Arc::new)]))
    }

    /// A page, where it is wanted and layers see so far.
    fn page(&mut self, reach: Reach, wanted: bool) -> Result<Option<Page<P>>, EngineError> {
        let Some(kind) = self.kinds[reach as usize].as_mut().filter(|_| wanted) else {
            return Ok(None);
        };
        let memory = match kind.spare.pop() {
            Some(memory) => memory,
            None => P::new(&kind.source)?,
        };
        Ok(Some(Page::new(memory, kind.bytes, &self.living)))
    }

    fn living(&self) -> u64 {
        self.living.load(Ordering::Relaxed)
    }

    fn unused(&self) -> u64 {
        self.capacity.saturating_sub(self.living())
    }

    fn spare_bytes(&self) -> u64 {
        let kinds = self.kinds.iter().flatten();
        kinds.map(|kind| kind.spare.len() as u64 * kind.bytes).sum()
    }

    /// Forgets prefixes that nobody reads down to what they may keep.
    fn trim(&mut self) {
        for pages in self.prefixes.trim(self.cached) {
            self.give_back(pages);
        }
    }

    /// Forgets prefixes until that many of their bytes are free, the longest unused first.
    fn make_room(&mut self, bytes: u64) {
        for pages in self.prefixes.evict(bytes) {
            self.give_back(pages);
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
