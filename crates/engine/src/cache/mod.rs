//! Keys and values of sequences, in pages of fixed size out of one pool per loaded model.
//!
//! A page is owned by counted references: by the sequences that read it and by the index of known prefixes. Only a page
//! with a single owner is ever written, which the reference itself enforces: a sequence whose last page is shared gets a
//! copy before it grows into it. A page's room is free again with its last reference, however that went.
//!
//! Layers that see everything and layers with a sliding window have pages of their own: what has left the window is given
//! back while the rest of the sequence stays.
//!
//! Sequences that begin with the same ids share pages **inside one asker alone**: known prefixes hang in a tree of their
//! own per [`Asker`] and are compared by ids, so that nobody can learn from a price or a delay what another person asked.

mod page;
mod pool;
mod prefixes;

pub use page::{HostPage, Layout, PageMemory};
pub use pool::{Cached, PagePool};

use page::Page;

use std::sync::Arc;

use crate::backend::{Backend as _, Here, HerePage};
use crate::families::{PREFILL_CHUNK, Reach, Shape};

/// Positions of a page. Attention computes a page's scores side by side, so it is a multiple of what vector registers
/// hold; a sequence wastes half a page on average.
pub const PAGE: usize = 32;

/// Positions by which a sequence may become shorter and still have what its window sees: more than is ever drafted.
const SLACK: usize = PAGE;

/// Values are stored in rows of a multiple of this, so that the inner loops have no remainder.
pub(crate) const LANES: usize = 16;

/// Whose prompts these are: the owner's, or one client's. Cached prefixes never serve another asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asker([u8; 32]);

impl Asker {
    /// The owner of this computer.
    pub const OWNER: Self = Self([0; 32]);

    /// A client, by any 32 bytes that are its own (not all zero: those are the owner).
    pub fn client(id: [u8; 32]) -> Self {
        Self(id)
    }
}

/// What a sequence has computed so far: its keys and values. Families that carry a recurrent state beside them keep it
/// here too.
#[derive(Debug)]
pub struct SequenceState<P = HerePage> {
    /// At least enough for `len` positions.
    pages: Vec<Pages<P>>,
    len: usize,
    /// Of the pages before this one, those of layers with a window are gone.
    left: usize,
}

/// The pages of the same [`PAGE`] positions, by the reach of the layers whose keys and values they hold; `None` where no
/// layer sees so far, and where the window has moved on.
#[derive(Debug)]
struct Pages<P>([Option<Arc<Page<P>>>; 2]);

impl<P> Clone for Pages<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P> Pages<P> {
    fn of(&self, reach: Reach) -> Option<&Arc<Page<P>>> {
        self.0[reach as usize].as_ref()
    }

    fn take(&mut self, reach: Reach) -> Option<Arc<Page<P>>> {
        self.0[reach as usize].take()
    }

    /// Bytes of those that nobody else holds.
    fn unshared_bytes(&self) -> u64 {
        let pages = self.0.iter().flatten();
        let unshared = pages.filter(|page| Arc::strong_count(page) == 1);
        unshared.map(|page| page.bytes()).sum()
    }

    /// Bytes of those that somebody else holds too.
    fn shared_bytes(&self) -> u64 {
        let pages = self.0.iter().flatten();
        let shared = pages.filter(|page| Arc::strong_count(page) > 1);
        shared.map(|page| page.bytes()).sum()
    }
}

/// The first page of which a token at that position sees something over a window.
fn first_seen(window: Option<usize>, position: usize) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window) / PAGE)
}

impl<P> Default for SequenceState<P> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
            left: 0,
        }
    }
}

impl<P: PageMemory> SequenceState<P> {
    /// Tokens whose keys and values are complete.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets the tokens from `len` on, or all of them where the window before `len` is gone; pages without a token left go
    /// back to the pool.
    pub fn truncate(&mut self, pool: &mut PagePool<P>, len: usize) {
        self.len = self.len.min(len);
        if first_seen(pool.window(), self.len) < self.left {
            (self.len, self.left) = (0, 0);
        }
        for pages in self.pages.drain(self.len.div_ceil(PAGE)..) {
            pool.give_back(pages);
        }
    }

    /// Gives back what no token to come sees over a window.
    pub(crate) fn leave(&mut self, pool: &mut PagePool<P>) {
        let first = first_seen(pool.window(), self.len.saturating_sub(SLACK));
        for at in self.left..first {
            let gone = self.pages.get_mut(at).and_then(|it| it.take(Reach::Window));
            pool.give_back(Pages([None, gone]));
        }
        self.left = self.left.max(first);
    }

    /// Counts tokens whose keys and values were written in every layer.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
        debug_assert!(self.len <= self.pages.len() * PAGE);
    }

    /// The page of that index, which exists for every position up to what the pool reserved, but for those that left the
    /// window.
    pub(crate) fn page(&self, index: usize, reach: Reach) -> Option<&P> {
        let page = self.pages.get(index)?.of(reach)?;
        Some(&page.memory)
    }

    /// The page of a position after [`len`](Self::len), to be written. `None` unless the pool reserved it.
    pub(crate) fn page_mut(&mut self, position: usize, reach: Reach) -> Option<&mut P> {
        let pages = self.pages.get_mut(position / PAGE)?;
        let page = Arc::get_mut(pages.0[reach as usize].as_mut()?)?;
        Some(&mut page.memory)
    }
}

/// What the pages of a model's sequences take on this build's device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// A page of the layers that see everything.
    all: u64,
    /// A page of the layers with a window.
    window: u64,
    /// Most of these that a sequence holds at once: its window, and what a step reads before the next pages are given back.
    windows: u64,
}

impl Sizes {
    /// Those of a model of that shape.
    pub fn of(shape: &Shape) -> Self {
        let window = shape.local.as_ref().map_or(0, |local| local.window);
        let held = window.saturating_add(SLACK + PREFILL_CHUNK as usize);
        Self {
            all: Here::page_bytes(shape, Reach::All),
            window: Here::page_bytes(shape, Reach::Window),
            // Both ends lie inside of a page.
            windows: held.div_ceil(PAGE) as u64 + 2,
        }
    }

    /// The pages of the same positions in all layers.
    pub fn page(self) -> u64 {
        self.all + self.window
    }

    /// What a sequence of so many tokens is promised: one page more, for the one that is copied when it was shared and is
    /// grown into.
    pub fn promise(self, tokens: u32) -> u64 {
        self.bytes(tokens).saturating_add(self.page())
    }

    /// The most that a sequence of so many tokens takes.
    pub fn bytes(self, tokens: u32) -> u64 {
        let pages = u64::from(tokens).div_ceil(PAGE as u64);
        let windows = pages.min(self.windows).saturating_mul(self.window);
        pages.saturating_mul(self.all).saturating_add(windows)
    }
}
