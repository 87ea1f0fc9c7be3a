//! SentencePiece: the characters of a text, merged by score; what has no piece is spelled in bytes.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::ops::Range;

use super::vocabulary::{PieceKind, Vocabulary};

/// How SentencePiece spells a space.
pub(super) const SPACE: &str = "▁";

#[derive(Debug)]
pub(super) struct Spm {
    bytes: [Option<u32>; 256],
    /// Characters that stand before a space in some piece. After any other no piece reaches across a space, so that what
    /// lies between two such places is merged by itself, in the same order as in the whole.
    before_space: BTreeSet<char>,
}

/// A stretch of the text that is one piece so far, in bytes of the text.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: usize,
    len: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that make a piece. The best score first, then the leftmost.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when they were offered: a pair of other lengths has been merged otherwise since.
    len: usize,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Spm {
    pub(super) fn new(vocabulary: &Vocabulary) -> Self {
        let before_space = |piece: &str| {
            let spaces = piece.match_indices(SPACE);
            let before = spaces.filter_map(|(at, _)| piece[..at].chars().next_back());
            before.collect::<Vec<char>>()
        };
        let pieces = vocabulary.pieces();
        Self {
            bytes: byte_pieces(vocabulary),
            before_space: pieces
                .flat_map(|(_, piece, _)| before_space(piece))
                .collect(),
        }
    }

    /// Encodes text whose spaces have been spelled already.
    pub(super) fn encode(&self, text: &str, vocabulary: &Vocabulary, ids: &mut Vec<u32>) {
        let mut merging = Merging::default();
        // Where the ids of each part are, since words come again.
        let mut known: HashMap<&str, Range<usize>> = HashMap::new();
        for part in self.parts(text) {
            if let Some(known) = known.get(part) {
                ids.extend_from_within(known.clone());
                continue;
            }
            let first = ids.len();
            self.encode_part(part, vocabulary, &mut merging, ids);
            known.insert(part, first..ids.len());
        }
    }

    /// What is merged by itself, one after the other.
    fn parts<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        let borders = text.match_indices(SPACE).map(|(at, _)| at).filter(|&at| {
            let before = text[..at].chars().next_back();
            before.is_some_and(|before| !self.before_space.contains(&before))
        });
        let mut begun = 0;
        borders.chain([text.len()]).map(move |end| {
            let part = &text[begun..end];
            begun = end;
            part
        })
    }

    fn encode_part(
        &self,
        text: &str,
        vocabulary: &Vocabulary,
        merging: &mut Merging,
        ids: &mut Vec<u32>,
    ) {
        merging.merge(text, vocabulary);
        for symbol in merging.symbols.iter().filter(|symbol| symbol.len > 0) {
            let piece = &text[symbol.start..symbol.start + symbol.len];
            match vocabulary.id(piece) {
                Some(id) => ids.push(id),
                None => {
                    let spelled = piece
                        .bytes()
                        .map(|byte| self.bytes[usize::from(byte)].or(vocabulary.unknown));
                    ids.extend(spelled.flatten());
                }
            }
        }
    }
}

/// The state of one merge after the other, so that their memory is taken once.
#[derive(Debug, Default)]
struct Merging {
    /// Those of no length were merged into others.
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Pair>,
}

impl Merging {
    /// Merges the characters of a text by score.
    fn merge(&mut self, text: &str, vocabulary: &Vocabulary) {
        self.symbols.clear();
        for (at, (start, character)) in text.char_indices().enumerate() {
            self.symbols.push(Symbol {
                start,
                len: character.len_utf8(),
                previous: at.checked_sub(1),
                next: Some(at + 1),
            });
        }
        if let Some(last) = self.symbols.last_mut() {
            last.next = None;
        }
        for right in 1..self.symbols.len() {
            self.offer(text, vocabulary, right - 1, right);
        }
        while let Some(pair) = self.heap.pop() {
            let (left, right) = (self.symbols[pair.left], self.symbols[pair.right]);
            if left.len == 0 || right.len == 0 || left.len + right.len != pair.len {
                continue;
            }
            self.symbols[pair.left].len = pair.len;
            self.symbols[pair.left].next = right.next;
            self.symbols[pair.right].len = 0;
            if let Some(next) = right.next {
                self.symbols[next].previous = Some(pair.left);
                self.offer(text, vocabulary, pair.left, next);
            }
            if let Some(previous) = left.previous {
                self.offer(text, vocabulary, previous, pair.left);
            }
        }
    }

    fn offer(&mut self, text: &str, vocabulary: &Vocabulary, left: usize, right: usize) {
        let start = self.symbols[left].start;
        let len = self.symbols[left].len + self.symbols[right].len;
        if let Some(id) = vocabulary.id(&text[start..start + len]) {
            self.heap.push(Pair {
                score: vocabulary.score(id),
                left,
                right,
                len,
            });
        }
    }
}

/// The piece of each byte, spelled as [`byte_piece`] reads it.
pub(super) fn byte_pieces(vocabulary: &Vocabulary) -> [Option<u32>; 256] {
    let mut bytes = [None; 256];
    for (id, piece, kind) in vocabulary.pieces() {
        if let Some(byte) = byte_piece(piece).filter(|_| kind == PieceKind::Byte) {
            bytes[usize::from(byte)] = Some(id);
        }
    }
    bytes
}

/// The byte that a piece such as `<0x0A>` stands for.
pub(super) fn byte_piece(piece: &str) -> Option<u8> {
    let hex = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LETTERS: [&str; 4] = ["a", "b", SPACE, "é"];

    fn words(most: usize) -> impl Strategy<Value = Vec<String>> {
        let letters = proptest::collection::vec(proptest::sample::select(LETTERS.to_vec()), 1..5);
        proptest::collection::vec(letters.prop_map(|letters| letters.concat()), 0..most)
    }

    proptest! {
        /// Pieces that reach across spaces, and such that do not.
        #[test]
        fn parts_are_merged_as_the_whole_is(
            pieces in words(24),
            scores in proptest::collection::vec(-4i8..4, 28),
            text in words(12),
        ) {
            let spelled = LETTERS.map(str::to_owned).into_iter().chain(pieces);
            let vocabulary = Vocabulary::of_scored(spelled.zip(scores.into_iter().map(f32::from)));
            let spm = Spm::new(&vocabulary);
            let text = text.concat();
            let mut in_parts = Vec::new();
            spm.encode(&text, &vocabulary, &mut in_parts);
            let mut whole = Vec::new();
            spm.encode_part(&text, &vocabulary, &mut Merging::default(), &mut whole);
            prop_assert_eq!(in_parts, whole);
        }
    }
}
