//! Byte-pair encoding: the bytes of a word, merged by rank.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::TextProblem;
use super::pretokenizer::Pretokenizer;
use super::vocabulary::{Vocabulary, missing};
use crate::file::Metadata;

#[derive(Debug)]
pub(super) struct Bpe {
    pretokenizer: Pretokenizer,
    /// Rank and result of a merge, by the ids of its halves.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// The piece of each single byte.
    bytes: [Option<u32>; 256],
}

impl Bpe {
    pub(super) fn from_metadata(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
    ) -> Result<Self, TextProblem> {
        let key = "tokenizer.ggml.merges";
        let list = metadata.texts(key).ok_or_else(|| missing(key))?;
        let mut merges = HashMap::with_capacity(list.len());
        let mut whole = String::new();
        for (rank, merge) in (0..).zip(list) {
            // A half may itself begin with a space in old files, so the first character is not looked at.
            let cut = merge
                .char_indices()
                .skip(1)
                .find(|&(_, character)| character == ' ');
            let Some((left, right)) = cut.map(|(at, _)| (&merge[..at], &merge[at + 1..])) else {
                continue;
            };
            whole.clear();
            whole.push_str(left);
            whole.push_str(right);
            // A merge of what is no piece can never happen.
            if let (Some(left), Some(right), Some(whole)) = (
                vocabulary.id(left),
                vocabulary.id(right),
                vocabulary.id(&whole),
            ) {
                merges.entry((left, right)).or_insert((rank, whole));
            }
        }
        let mut bytes = [None; 256];
        let mut spelling = String::new();
        for byte in 0..=255u8 {
            spelling.clear();
            spelling.push(character_of(byte));
            bytes[usize::from(byte)] = vocabulary.id(&spelling);
        }
        Ok(Self {
            pretokenizer: Pretokenizer::named(
                metadata.text("tokenizer.ggml.pre").unwrap_or("default"),
            )?,
            merges,
            bytes,
        })
    }

    pub(super) fn adds_bos(&self) -> bool {
        self.pretokenizer.adds_bos
    }

    pub(super) fn encode(&self, text: &str, vocabulary: &Vocabulary, ids: &mut Vec<u32>) {
        for word in self.pretokenizer.split(text) {
            if self.pretokenizer.whole_words {
                let spelling: String = word.bytes().map(character_of).collect();
                if let Some(id) = vocabulary.id(&spelling) {
                    ids.push(id);
                    continue;
                }
            }
            self.merge(word.as_bytes(), vocabulary, ids);
        }
    }

    /// Merges the best-ranked pair, the leftmost first, until there is none. A heap, since a word may be a megabyte.
    fn merge(&self, word: &[u8], vocabulary: &Vocabulary, ids: &mut Vec<u32>) {
        let piece = |&byte: &u8| self.bytes[usize::from(byte)].or(vocabulary.unknown);
        let mut symbols: Vec<Symbol> = word.iter().filter_map(piece).map(Symbol::new).collect();
        Symbol::chain(&mut symbols);
        let mut heap = BinaryHeap::new();
        let offer = |heap: &mut BinaryHeap<_>, symbols: &[Symbol], left: usize, right: usize| {
            let pair = (symbols[left].id, symbols[right].id);
            if let Some(&(rank, whole)) = self.merges.get(&pair) {
                heap.push(Reverse((rank, left, right, pair, whole)));
            }
        };
        for right in 1..symbols.len() {
            offer(&mut heap, &symbols, right - 1, right);
        }
        while let Some(Reverse((_, left, right, pair, whole))) = heap.pop() {
            let still = symbols[left].alive
                && symbols[right].alive
                && symbols[left].next == Some(right)
                && (symbols[left].id, symbols[right].id) == pair;
            if !still {
                continue;
            }
            symbols[left].id = whole;
            Symbol::unlink(&mut symbols, left, right);
            if let Some(before) = symbols[left].previous {
                offer(&mut heap, &symbols, before, left);
            }
            if let Some(after) = symbols[left].next {
                offer(&mut heap, &symbols, left, after);
            }
        }
        ids.extend(
            symbols
                .iter()
                .filter(|symbol| symbol.alive)
                .map(|symbol| symbol.id),
        );
    }
}

/// A link of the chain of pieces that a word is being merged into.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    id: u32,
    previous: Option<usize>,
    next: Option<usize>,
    alive: bool,
}

impl Symbol {
    fn new(id: u32) -> Self {
        Self {
            id,
            previous: None,
            next: None,
            alive: true,
        }
    }

    fn chain(symbols: &mut [Symbol]) {
        let count = symbols.len();
        for (at, symbol) in symbols.iter_mut().enumerate() {
            symbol.previous = at.checked_sub(1);
            symbol.next = (at + 1 < count).then_some(at + 1);
        }
    }

    fn unlink(symbols: &mut [Symbol], left: usize, right: usize) {
        let next = symbols[right].next;
        symbols[right].alive = false;
        symbols[left].next = next;
        if let Some(next) = next {
            symbols[next].previous = Some(left);
        }
    }
}

/// The printable character that stands for a byte in the spellings of byte-level vocabularies (GPT-2's table): itself
/// where it is printable in Latin-1, else the next free one from U+0100 on.
pub(super) fn character_of(byte: u8) -> char {
    let code = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => u32::from(byte),
        0..=0x20 => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x121 + u32::from(byte - 0x7f),
        0xad => 0x143,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that a character of such a spelling stands for.
pub(super) fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let mut seen = std::collections::BTreeSet::new();
        for byte in 0..=255u8 {
            assert_eq!(byte_of(character_of(byte)), Some(byte));
            assert!(seen.insert(character_of(byte)));
        }
        assert_eq!(character_of(b' '), 'Ġ');
        assert_eq!(character_of(b'\n'), 'Ċ');
    }
}
