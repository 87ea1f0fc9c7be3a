//! Keys and values of sequences, in pages of fixed size out of one pool per loaded model.
//!
//! A page is owned by counted references: by the sequences that read it and by the index of known prefixes. Only a page
//! with a single owner is ever written, which the reference itself enforces: a sequence whose last page is shared gets a
//! copy before it grows into it. A page's room is free again with its last reference, however that went.
//!
//! Sequences that begin with the same ids share pages **inside one asker alone**: known prefixes hang in a tree of their
//! own per [`Asker`] and are compared by ids, so that nobody can learn from a price or a delay what another person asked.

mod page;
mod pool;
mod prefixes;

pub use page::{HostPage, Layout, PageMemory};
pub use pool::{Cached, PagePool};

pub(crate) use page::Page;

use std::sync::Arc;

use crate::backend::{Backend as _, Here, HerePage};
use crate::families::Shape;

/// Positions of a page. Attention computes a page's scores side by side, so it is a multiple of what vector registers
/// hold; a sequence wastes half a page on average.
pub const PAGE: usize = 32;

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
    pages: Vec<Arc<Page<P>>>,
    len: usize,
}

impl<P> Default for SequenceState<P> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
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

    /// Forgets the tokens from `len` on; pages without a token left go back to the pool.
    pub fn truncate(&mut self, pool: &mut PagePool<P>, len: usize) {
        self.len = self.len.min(len);
        for page in self.pages.drain(self.len.div_ceil(PAGE)..) {
            pool.give_back(page);
        }
    }

    /// Pages that the pool must have free so that `tokens` more fit.
    pub fn pages_needed(&self, tokens: usize) -> usize {
        if tokens == 0 {
            return 0;
        }
        let copied = usize::from(self.last_is_shared());
        (self.len + tokens)
            .div_ceil(PAGE)
            .saturating_sub(self.pages.len())
            + copied
    }

    /// Whether the next token falls into a page that somebody else reads too.
    fn last_is_shared(&self) -> bool {
        let last = self.pages.get(self.len / PAGE);
        last.is_some_and(|page| Arc::strong_count(page) > 1)
    }

    /// Counts tokens whose keys and values were written in every layer.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
        debug_assert!(self.len <= self.pages.len() * PAGE);
    }

    /// The page of that index, which exists for every position up to what the pool reserved.
    pub(crate) fn page(&self, index: usize) -> &P {
        &self.pages[index].memory
    }

    /// The page of a position after [`len`](Self::len), to be written. `None` unless the pool reserved it.
    pub(crate) fn page_mut(&mut self, position: usize) -> Option<&mut P> {
        let page = Arc::get_mut(self.pages.get_mut(position / PAGE)?)?;
        Some(&mut page.memory)
    }
}

/// Bytes of the pages that a sequence of that many tokens takes on this build's device.
pub fn bytes(shape: &Shape, tokens: u32) -> u64 {
    let page = Here::page_bytes(shape);
    u64::from(tokens).div_ceil(PAGE as u64).saturating_mul(page)
}
