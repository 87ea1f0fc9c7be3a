//! SentencePiece: the characters of a text, merged by score; what has no piece is spelled in bytes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::vocabulary::{PieceKind, Vocabulary};

/// How SentencePiece spells a space.
pub(super) const SPACE: &str = "▁";

#[derive(Debug)]
pub(super) struct Spm {
    bytes: [Option<u32>; 256],
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
        Self {
            bytes: byte_pieces(vocabulary),
        }
    }

    /// Encodes text whose spaces have been spelled already.
    pub(super) fn encode(&self, text: &str, vocabulary: &Vocabulary, ids: &mut Vec<u32>) {
        let count = text.chars().count();
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(at, (start, character))| Symbol {
                start,
                len: character.len_utf8(),
                previous: at.checked_sub(1),
                next: (at + 1 < count).then_some(at + 1),
            })
            .collect();
        let mut heap = BinaryHeap::new();
        let offer = |heap: &mut BinaryHeap<Pair>, symbols: &[Symbol], left: usize, right: usize| {
            let start = symbols[left].start;
            let len = symbols[left].len + symbols[right].len;
            if let Some(id) = vocabulary.id(&text[start..start + len]) {
                heap.push(Pair {
                    score: vocabulary.score(id),
                    left,
                    right,
                    len,
                });
            }
        };
        for right in 1..symbols.len() {
            offer(&mut heap, &symbols, right - 1, right);
        }
        while let Some(pair) = heap.pop() {
            let (left, right) = (symbols[pair.left], symbols[pair.right]);
            if left.len == 0 || right.len == 0 || left.len + right.len != pair.len {
                continue;
            }
            symbols[pair.left].len = pair.len;
            symbols[pair.left].next = right.next;
            symbols[pair.right].len = 0;
            if let Some(next) = right.next {
                symbols[next].previous = Some(pair.left);
                offer(&mut heap, &symbols, pair.left, next);
            }
            if let Some(previous) = left.previous {
                offer(&mut heap, &symbols, previous, pair.left);
            }
        }
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
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
