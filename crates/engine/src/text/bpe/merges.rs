//! The merges of a vocabulary, and a word merged by them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::TextProblem;
use super::super::vocabulary::{Vocabulary, bad, missing};
use crate::file::Metadata;

/// Most merges of a vocabulary; the largest of 2026 have 514,906.
const MAX_MERGES: usize = 1 << 21;

/// Words up to this many pieces are searched for their best merge from one end to the other, which for them is faster
/// than a heap. Longer ones need one: a word may be a megabyte.
const SHORT: usize = 24;

/// Which pieces become which, grouped by the left one: no hashing, so that no file can choose slow ones.
#[derive(Debug)]
pub(super) struct Merges {
    /// Where the merges of each left piece begin; one more than there are pieces.
    starts: Vec<u32>,
    /// By left piece, then by right piece.
    merges: Vec<Merge>,
}

#[derive(Debug, Clone, Copy)]
struct Merge {
    right: u32,
    rank: u32,
    whole: u32,
}

impl Merges {
    pub(super) fn from_metadata(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
    ) -> Result<Self, TextProblem> {
        let key = "tokenizer.ggml.merges";
        let list = metadata.texts(key).ok_or_else(|| missing(key))?;
        if list.len() > MAX_MERGES {
            return Err(bad(key, format!("{} entries", list.len())));
        }
        let mut by_left = Vec::with_capacity(list.len());
        let mut whole = String::new();
        for (rank, merge) in (0..).zip(list) {
            // A half may itself begin with a space in old files, so the first character is not looked at.
            let mut rest = merge.char_indices().skip(1);
            let cut = rest.find(|&(_, character)| character == ' ');
            let Some((left, right)) = cut.map(|(at, _)| (&merge[..at], &merge[at + 1..])) else {
                return Err(bad(key, format!("{} at {rank}", merge.escape_debug())));
            };
            whole.clear();
            whole.push_str(left);
            whole.push_str(right);
            if let Some(unknown) = [left, right, &whole]
                .iter()
                .find(|half| !vocabulary.spells(half))
            {
                let unknown = unknown.escape_debug();
                return Err(bad(key, format!("{unknown} at {rank}, which is no piece")));
            }
            // What is structure is never merged into.
            let ids = (
                vocabulary.id(left),
                vocabulary.id(right),
                vocabulary.id(&whole),
            );
            let (Some(left), Some(right), Some(whole)) = ids else {
                continue;
            };
            by_left.push((left, Merge { right, rank, whole }));
        }
        by_left.sort_unstable_by_key(|&(left, merge)| (left, merge.right, merge.rank));
        by_left.dedup_by_key(|&mut (left, merge)| (left, merge.right));
        let starts = (0..=vocabulary.len())
            .map(|left| by_left.partition_point(|&(other, _)| other < left) as u32);
        Ok(Self {
            starts: starts.collect(),
            merges: by_left.into_iter().map(|(_, merge)| merge).collect(),
        })
    }

    fn find(&self, left: u32, right: u32) -> Option<Merge> {
        let (start, end) = (
            *self.starts.get(left as usize)? as usize,
            *self.starts.get(left as usize + 1)? as usize,
        );
        let group = self.merges.get(start..end)?;
        let at = group
            .binary_search_by_key(&right, |merge| merge.right)
            .ok()?;
        group.get(at).copied()
    }

    /// Merges the pieces from `begun` on: the best-ranked pair, the leftmost first, until there is none.
    pub(super) fn apply(&self, ids: &mut Vec<u32>, begun: usize) {
        if ids.len() - begun <= SHORT {
            self.apply_to_short(ids, begun);
        } else {
            let merged = self.apply_to_long(&ids[begun..]);
            ids.truncate(begun);
            ids.extend(merged);
        }
    }

    fn apply_to_short(&self, ids: &mut Vec<u32>, begun: usize) {
        let mut found: [Option<Merge>; SHORT] = [None; SHORT];
        for (slot, pair) in found.iter_mut().zip(ids[begun..].windows(2)) {
            *slot = self.find(pair[0], pair[1]);
        }
        loop {
            let pairs = (ids.len() - begun).saturating_sub(1);
            let ranked = found[..pairs].iter().enumerate();
            let best = ranked.filter_map(|(at, merge)| merge.map(|merge| (merge.rank, at)));
            let Some((_, at)) = best.min() else {
                return;
            };
            let Some(merge) = found[at] else {
                return;
            };
            ids[begun + at] = merge.whole;
            ids.remove(begun + at + 1);
            found.copy_within(at + 1..pairs, at);
            if at > 0 {
                found[at - 1] = self.find(ids[begun + at - 1], merge.whole);
            }
            if let Some(&after) = ids.get(begun + at + 1) {
                found[at] = self.find(merge.whole, after);
            }
        }
    }

    fn apply_to_long(&self, word: &[u32]) -> Vec<u32> {
        let mut links: Vec<Link> = (0..word.len()).map(|at| Link::new(at, word)).collect();
        let mut heap = BinaryHeap::new();
        let offer = |heap: &mut BinaryHeap<_>, links: &[Link], left: usize, right: usize| {
            let pair = (links[left].id, links[right].id);
            if let Some(merge) = self.find(pair.0, pair.1) {
                heap.push(Reverse((merge.rank, left, right, pair, merge.whole)));
            }
        };
        for right in 1..links.len() {
            offer(&mut heap, &links, right - 1, right);
        }
        while let Some(Reverse((_, left, right, pair, whole))) = heap.pop() {
            // A pair that has been merged otherwise since it was offered is passed over.
            let still = links[left].alive
                && links[left].next == Some(right)
                && (links[left].id, links[right].id) == pair;
            if !still {
                continue;
            }
            links[left].id = whole;
            Link::unlink(&mut links, left, right);
            if let Some(before) = links[left].previous {
                offer(&mut heap, &links, before, left);
            }
            if let Some(after) = links[left].next {
                offer(&mut heap, &links, left, after);
            }
        }
        let alive = links.iter().filter(|link| link.alive);
        alive.map(|link| link.id).collect()
    }
}

/// A link of the chain of pieces that a word is being merged into.
#[derive(Debug, Clone, Copy)]
struct Link {
    id: u32,
    previous: Option<usize>,
    next: Option<usize>,
    alive: bool,
}

impl Link {
    fn new(at: usize, word: &[u32]) -> Self {
        Self {
            id: word[at],
            previous: at.checked_sub(1),
            next: (at + 1 < word.len()).then_some(at + 1),
            alive: true,
        }
    }

    fn unlink(links: &mut [Self], left: usize, right: usize) {
        let next = links[right].next;
        links[right].alive = false;
        links[left].next = next;
        if let Some(next) = next {
            links[next].previous = Some(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random merges over a few pieces, both ways of applying them.
    #[test]
    fn short_and_long_words_are_merged_alike() {
        let merge = (0u32..12, 0u32..12);
        let words = (
            proptest::collection::vec(merge, 0..40),
            proptest::collection::vec(0u32..6, 0..SHORT),
        );
        proptest::proptest!(|((pairs, word) in words)| {
            let mut by_left: Vec<(u32, Merge)> = (0..)
                .zip(&pairs)
                .map(|(rank, &(left, right))| (left, Merge { right, rank, whole: (left + right + 6) % 12 }))
                .collect();
            by_left.sort_unstable_by_key(|&(left, merge)| (left, merge.right, merge.rank));
            by_left.dedup_by_key(|&mut (left, merge)| (left, merge.right));
            let merges = Merges {
                starts: (0..=12)
                    .map(|left| by_left.partition_point(|&(other, _)| other < left) as u32)
                    .collect(),
                merges: by_left.into_iter().map(|(_, merge)| merge).collect(),
            };
            let mut short = word.clone();
            merges.apply_to_short(&mut short, 0);
            proptest::prop_assert_eq!(short, merges.apply_to_long(&word));
        });
    }
}
