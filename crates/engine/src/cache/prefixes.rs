//! Known prefixes: per asker a tree whose nodes are pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Asker, Cached, PAGE, Page};

/// A page of a known prefix. Its parent holds the positions before it.
#[derive(Debug)]
struct Node<P> {
    parent: Parent,
    /// Ids of the page's positions: `PAGE`, or fewer where a sequence ended.
    ids: Vec<u32>,
    page: Arc<Page<P>>,
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
    /// Pages of the longest known beginning of `ids`, and the tokens in it.
    pub(super) fn longest(&mut self, asker: &Asker, ids: &[u32]) -> (Vec<Arc<Page<P>>>, usize) {
        self.now += 1;
        let (mut pages, mut len) = (Vec::new(), 0);
        let mut parent = Parent::Root(*asker);
        while let Some((number, common)) = self.likest(parent, &ids[len..]) {
            let Some(node) = self.nodes.get_mut(&number) else {
                break;
            };
            node.used = self.now;
            pages.push(node.page.clone());
            len += common;
            if common < PAGE {
                break;
            }
            parent = Parent::Node(number);
        }
        (pages, len)
    }

    /// Makes `ids` known, whose keys and values are in `pages`. What is known already keeps its pages.
    pub(super) fn insert(&mut self, asker: &Asker, ids: &[u32], pages: &[Arc<Page<P>>]) {
        self.now += 1;
        let mut parent = Parent::Root(*asker);
        for (ids, page) in ids.chunks(PAGE).zip(pages) {
            let number = match self.likest(parent, ids) {
                // All of it is known.
                Some((number, common)) if common == ids.len() => number,
                // An unfinished page that this one continues: the longer one serves both.
                Some((number, common)) if self.length(number) == common => {
                    if let Some(node) = self.nodes.get_mut(&number) {
                        (node.ids, node.page) = (ids.to_vec(), page.clone());
                    }
                    number
                }
                Some(_) | None => self.add(asker, parent, ids, page),
            };
            if let Some(node) = self.nodes.get_mut(&number) {
                node.used = self.now;
            }
            parent = Parent::Node(number);
        }
    }

    /// Pages that no sequence holds.
    pub(super) fn unshared(&self) -> usize {
        self.nodes.values().filter(|node| unshared(node)).count()
    }

    /// Forgets the longest unused prefixes until `count` pages came free, the owner's after all others; gives them.
    pub(super) fn evict(&mut self, count: usize) -> Vec<Page<P>> {
        let mut freed = self.evict_of(count, |asker| *asker != Asker::OWNER);
        freed.extend(self.evict_of(count.saturating_sub(freed.len()), |_| true));
        freed
    }

    /// Forgets what prefixes that no sequence reads hold beyond what they may keep, the longest unused first; gives it.
    pub(super) fn trim(&mut self, cached: Cached) -> Vec<Page<P>> {
        let mut freed = Vec::new();
        for (owners, most) in [(true, cached.own), (false, cached.others)] {
            let is_of = |asker: &Asker| (*asker == Asker::OWNER) == owners;
            let held = self.nodes.values();
            let held = held.filter(|node| unshared(node) && is_of(&node.asker));
            let over = held.count().saturating_sub(most);
            freed.extend(self.evict_of(over, is_of));
        }
        freed
    }

    fn evict_of(&mut self, count: usize, is_of: impl Fn(&Asker) -> bool) -> Vec<Page<P>> {
        let mut freed = Vec::new();
        while freed.len() < count {
            // Among equals the later made: a child is never older than its parent.
            let free = self
                .nodes
                .iter()
                .filter(|(_, node)| unshared(node) && is_of(&node.asker));
            let oldest = free.min_by_key(|&(number, node)| (node.used, std::cmp::Reverse(*number)));
            let Some((&number, _)) = oldest else {
                break;
            };
            self.remove(number, &mut freed);
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

    fn add(&mut self, asker: &Asker, parent: Parent, ids: &[u32], page: &Arc<Page<P>>) -> u64 {
        let number = self.number;
        self.number += 1;
        let node = Node {
            parent,
            ids: ids.to_vec(),
            page: page.clone(),
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

    /// Removes a node and all that hangs on it, which could not be found without it.
    fn remove(&mut self, number: u64, freed: &mut Vec<Page<P>>) {
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
                freed.extend(Arc::into_inner(node.page));
            }
        }
    }
}

fn unshared<P>(node: &Node<P>) -> bool {
    Arc::strong_count(&node.page) == 1
}
