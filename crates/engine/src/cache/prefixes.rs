//! Known prefixes: per asker a tree whose nodes are pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Asker, Cached, PAGE, Pages, first_seen};
use crate::families::Reach;
use crate::{KnownPrefix, Prefix};

/// The pages of [`PAGE`] positions of a known prefix. Its parent holds the positions before it.
#[derive(Debug)]
struct Node<P> {
    parent: Parent,
    /// Ids of the positions: `PAGE`, or fewer where a sequence ended.
    ids: Vec<u32>,
    pages: Pages<P>,
    children: Vec<u64>,
    asker: Asker,
    /// When it was last adopted or published; at least as late as that of any child.
    used: u64,
}

/// What a node hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parent {
    /// First pages of an asker.
    Root(Asker),
    /// Another node.
    Node(u64),
}

/// A known beginning.
#[derive(Debug)]
pub(super) struct Found<P> {
    pub(super) pages: Vec<Pages<P>>,
    /// Tokens in it.
    pub(super) len: usize,
    /// Of the pages before this one, those of layers with a window are not in it: nothing to come sees them.
    pub(super) left: usize,
}

/// All known prefixes of a pool.
#[derive(Debug)]
pub(super) struct Prefixes<P> {
    nodes: BTreeMap<u64, Node<P>>,
    roots: BTreeMap<Asker, Vec<u64>>,
    /// Of the next node.
    number: u64,
    now: u64,
}

impl<P> Default for Prefixes<P> {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
            roots: BTreeMap::new(),
            number: 0,
            now: 0,
        }
    }
}

impl<P> Prefixes<P> {
    /// The longest known beginning of `ids` of which everything is there that the next token sees.
    pub(super) fn longest(
        &mut self,
        asker: &Asker,
        ids: &[u32],
        window: Option<usize>,
    ) -> Found<P> {
        self.now += 1;
        let (mut pages, mut len) = (Vec::new(), 0);
        let mut parent = Parent::Root(*asker);
        while let Some((number, common)) = self.likest(parent, &ids[len..]) {
            let Some(node) = self.nodes.get_mut(&number) else {
                break;
            };
            node.used = self.now;
            pages.push(node.pages.clone());
            len += common;
            if common < PAGE {
                break;
            }
            parent = Parent::Node(number);
        }
        let mut left = 0;
        if window.is_some() {
            (len, left) = whole_window(&pages, len, window);
            pages.truncate(len.div_ceil(PAGE));
            for pages in &mut pages[..left] {
                pages.take(Reach::Window);
            }
        }
        Found { pages, len, left }
    }

    /// The longest of these beginnings that is known, and how much of it is there with everything that the next token sees.
    pub(super) fn known(
        &self,
        asker: &Asker,
        prefixes: &[Prefix],
        hasher: &blake3::Hasher,
        window: Option<usize>,
    ) -> Option<KnownPrefix> {
        let mut best: Option<(Prefix, u64)> = None;
        // Nodes to look at, each with what comes before it: tokens, and their hash.
        let roots = self.children(Parent::Root(*asker)).iter();
        let mut rest: Vec<_> = roots.map(|&root| (root, 0u32, hasher.clone())).collect();
        while let Some((number, before, mut hasher)) = rest.pop() {
            let Some(node) = self.nodes.get(&number) else {
                continue;
            };
            let mut tokens = before;
            for id in &node.ids {
                hasher.update(&id.to_le_bytes());
                tokens += 1;
                let ends_here = |prefix: &&Prefix| prefix.tokens == tokens;
                let hash = |prefix: &&Prefix| *hasher.finalize().as_bytes() == prefix.hash;
                let longer = best.is_none_or(|(best, _)| tokens > best.tokens);
                if let (true, Some(found)) = (longer, prefixes.iter().filter(ends_here).find(hash))
                {
                    best = Some((*found, number));
                }
            }
            let goes_on = prefixes.iter().any(|prefix| prefix.tokens > tokens);
            let children = node.children.iter().filter(|_| goes_on);
            rest.extend(children.map(|&child| (child, tokens, hasher.clone())));
        }
        let (prefix, number) = best?;
        let (len, _) = match window {
            None => (prefix.tokens as usize, 0),
            Some(_) => whole_window(&self.path(number), prefix.tokens as usize, window),
        };
        let tokens = u32::try_from(len).ok()?;
        Some(KnownPrefix { prefix, tokens })
    }

    /// The pages of a node and of all before it, from the first on.
    fn path(&self, number: u64) -> Vec<Pages<P>> {
        let mut pages = Vec::new();
        let mut next = Some(number);
        while let Some(node) = next.and_then(|number| self.nodes.get(&number)) {
            pages.push(node.pages.clone());
            next = match node.parent {
                Parent::Root(_) => None,
                Parent::Node(above) => Some(above),
            };
        }
        pages.reverse();
        pages
    }

    /// Makes `ids` known, whose keys and values are in `pages`. What is known already keeps its pages.
    pub(super) fn insert(&mut self, asker: &Asker, ids: &[u32], pages: &[Pages<P>]) {
        self.now += 1;
        let mut parent = Parent::Root(*asker);
        for (ids, pages) in ids.chunks(PAGE).zip(pages) {
            let number = match self.likest(parent, ids) {
                // All of it is known.
                Some((number, common))
                    if common == ids.len() && self.serves(number, ids, pages) =>
                {
                    number
                }
                // An unfinished page that this one continues: the longer one serves both.
                Some((number, common)) if self.length(number) == common => {
                    if let Some(node) = self.nodes.get_mut(&number) {
                        (node.ids, node.pages) = (ids.to_vec(), pages.clone());
                    }
                    number
                }
                Some(_) | None => self.add(asker, parent, ids, pages),
            };
            if let Some(node) = self.nodes.get_mut(&number) {
                node.used = self.now;
            }
            parent = Parent::Node(number);
        }
    }

    /// Bytes of pages that no sequence holds.
    pub(super) fn unshared_bytes(&self) -> u64 {
        let nodes = self.nodes.values();
        nodes.map(|node| node.pages.unshared_bytes()).sum()
    }

    /// Forgets the longest unused prefixes until so many bytes came free, the owner's after all others; gives them.
    pub(super) fn evict(&mut self, bytes: u64) -> Vec<Pages<P>> {
        let mut freed = self.evict_of(bytes, |asker| *asker != Asker::OWNER);
        let more = bytes.saturating_sub(bytes_of(&freed));
        freed.extend(self.evict_of(more, |_| true));
        // Of what sequences read on, their windows may have moved on.
        let mut left = bytes.saturating_sub(bytes_of(&freed));
        for node in self.nodes.values_mut().filter(|node| !unshared(node)) {
            if left == 0 {
                break;
            }
            let page = node.pages.take(Reach::Window);
            match page {
                Some(page) if Arc::strong_count(&page) == 1 => {
                    left = left.saturating_sub(page.bytes());
                    freed.push(Pages([None, Some(page)]));
                }
                page => node.pages.0[Reach::Window as usize] = page,
            }
        }
        freed
    }

    /// Forgets what prefixes that no sequence reads hold beyond what they may keep, the longest unused first; gives it.
    pub(super) fn trim(&mut self, cached: Cached) -> Vec<Pages<P>> {
        let mut freed = Vec::new();
        for (owners, most) in [(true, cached.own), (false, cached.others)] {
            let is_of = |asker: &Asker| (*asker == Asker::OWNER) == owners;
            let held = self.nodes.values();
            let held = held.filter(|node| unshared(node) && is_of(&node.asker));
            let held: u64 = held.map(|node| node.pages.unshared_bytes()).sum();
            let over = held.saturating_sub(most);
            freed.extend(self.evict_of(over, is_of));
        }
        freed
    }

    fn evict_of(&mut self, bytes: u64, is_of: impl Fn(&Asker) -> bool) -> Vec<Pages<P>> {
        let (mut freed, mut came) = (Vec::new(), 0);
        while came < bytes {
            // Among equals the later made: a child is never older than its parent.
            let free = self
                .nodes
                .iter()
                .filter(|(_, node)| unshared(node) && is_of(&node.asker));
            let oldest = free.min_by_key(|&(number, node)| (node.used, std::cmp::Reverse(*number)));
            let Some((&number, _)) = oldest else {
                break;
            };
            let before = freed.len();
            self.remove(number, &mut freed);
            came += bytes_of(&freed[before..]);
        }
        freed
    }

    fn children(&self, parent: Parent) -> &[u64] {
        let children = match parent {
            Parent::Root(asker) => self.roots.get(&asker),
            Parent::Node(number) => self.nodes.get(&number).map(|node| &node.children),
        };
        children.map_or(&[], Vec::as_slice)
    }

    /// The child that shares most first ids, and how many; `None` when none shares any.
    fn likest(&self, parent: Parent, ids: &[u32]) -> Option<(u64, usize)> {
        let common = |&number: &u64| {
            let known = &self.nodes.get(&number)?.ids;
            let common = known.iter().zip(ids).take_while(|(a, b)| a == b).count();
            (common > 0).then_some((number, common))
        };
        let children = self.children(parent).iter().filter_map(common);
        children.max_by_key(|&(_, common)| common)
    }

    fn length(&self, number: u64) -> usize {
        self.nodes.get(&number).map_or(0, |node| node.ids.len())
    }

    /// Whether a node that begins with these ids has all that their pages have. Of the same ids, where its own had left the
    /// window, it takes these: a node has the pages of one sequence, so that what nobody reads of it can go.
    fn serves(&mut self, number: u64, ids: &[u32], pages: &Pages<P>) -> bool {
        let Some(node) = self.nodes.get_mut(&number) else {
            return true;
        };
        if pages.of(Reach::Window).is_none() {
            return true;
        }
        if node.pages.of(Reach::Window).is_none() && node.ids.len() == ids.len() {
            node.pages = pages.clone();
        }
        node.pages.of(Reach::Window).is_some()
    }

    fn add(&mut self, asker: &Asker, parent: Parent, ids: &[u32], pages: &Pages<P>) -> u64 {
        let number = self.number;
        self.number += 1;
        let node = Node {
            parent,
            ids: ids.to_vec(),
            pages: pages.clone(),
            children: Vec::new(),
            asker: *asker,
            used: self.now,
        };
        self.nodes.insert(number, node);
        match parent {
            Parent::Root(asker) => self.roots.entry(asker).or_default().push(number),
            Parent::Node(parent) => {
                if let Some(parent) = self.nodes.get_mut(&parent) {
                    parent.children.push(number);
                }
            }
        }
        number
    }

    /// Removes a node and all that hangs on it, which could not be found without it; and what it hangs on, where that holds
    /// nothing more and leads nowhere else.
    fn remove(&mut self, number: u64, freed: &mut Vec<Pages<P>>) {
        let mut number = number;
        while let Some(Node {
            parent: Parent::Node(above),
            ..
        }) = self.nodes.get(&number)
        {
            let above = *above;
            let leads_on = self.nodes.get(&above).is_none_or(|node| {
                node.children.len() > 1 || node.pages.0.iter().any(Option::is_some)
            });
            if leads_on {
                break;
            }
            number = above;
        }
        let mut doomed = vec![number];
        if let Some(node) = self.nodes.get(&number) {
            match node.parent {
                Parent::Root(asker) => {
                    if let Some(roots) = self.roots.get_mut(&asker) {
                        roots.retain(|&other| other != number);
                        if roots.is_empty() {
                            self.roots.remove(&asker);
                        }
                    }
                }
                Parent::Node(parent) => {
                    if let Some(parent) = self.nodes.get_mut(&parent) {
                        parent.children.retain(|&other| other != number);
                    }
                }
            }
        }
        while let Some(number) = doomed.pop() {
            if let Some(node) = self.nodes.remove(&number) {
                doomed.extend(node.children);
                freed.push(node.pages);
            }
        }
    }
}

fn unshared<P>(node: &Node<P>) -> bool {
    node.pages.shared_bytes() == 0
}

/// Bytes that come free with these.
fn bytes_of<P>(pages: &[Pages<P>]) -> u64 {
    pages.iter().map(Pages::unshared_bytes).sum()
}

/// The longest part of a beginning of `len` tokens of which the window is whole, and its first page with a window.
fn whole_window<P>(pages: &[Pages<P>], len: usize, window: Option<usize>) -> (usize, usize) {
    let mut best = (0, 0);
    // Where the pages with a window begin that go on without a gap.
    let mut begin = 0;
    for (at, page) in pages.iter().enumerate() {
        if page.of(Reach::Window).is_none() {
            begin = at + 1;
        }
        let len = len.min((at + 1) * PAGE);
        let first = first_seen(window, len);
        if begin <= first {
            best = (len, first);
        }
    }
    best
}
