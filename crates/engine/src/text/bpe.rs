//! Byte-pair encoding: the bytes of a word, or its characters, merged by rank.

mod merges;

use merges::Merges;

use super::TextProblem;
use super::pretokenizer::Pretokenizer;
use super::spm::{SPACE, byte_pieces};
use super::vocabulary::{Algorithm, Vocabulary};
use crate::file::Metadata;

#[derive(Debug)]
pub(super) struct Bpe {
    pretokenizer: Pretokenizer,
    merges: Merges,
    /// The piece of each single byte.
    bytes: [Option<u32>; 256],
    /// Words are merged from characters, and not from bytes.
    of_characters: bool,
}

impl Bpe {
    pub(super) fn from_metadata(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
    ) -> Result<Self, TextProblem> {
        let of_characters = vocabulary.algorithm == Algorithm::SpelledBpe;
        let name = match metadata.text("tokenizer.ggml.pre") {
            // Its files name none, or one of another meaning.
            _ if of_characters => "gemma4",
            name => name.unwrap_or("default"),
        };
        Ok(Self {
            pretokenizer: Pretokenizer::named(name)?,
            merges: Merges::from_metadata(metadata, vocabulary)?,
            bytes: if of_characters {
                byte_pieces(vocabulary)
            } else {
                std::array::from_fn(|byte| {
                    vocabulary.id(character_of(byte as u8).encode_utf8(&mut [0; 4]))
                })
            },
            of_characters,
        })
    }

    pub(super) fn adds_bos(&self) -> bool {
        self.pretokenizer.adds_bos
    }

    pub(super) fn encode(&self, text: &str, vocabulary: &Vocabulary, ids: &mut Vec<u32>) {
        if self.of_characters {
            self.encode_characters(&text.replace(' ', SPACE), vocabulary, ids);
        } else {
            self.encode_bytes(text, vocabulary, ids);
        }
    }

    fn encode_bytes(&self, text: &str, vocabulary: &Vocabulary, ids: &mut Vec<u32>) {
        let mut spelling = String::new();
        for word in self.pretokenizer.split(text) {
            if self.pretokenizer.whole_words {
                spelling.clear();
                spelling.extend(word.bytes().map(character_of));
                if let Some(id) = vocabulary.id(&spelling) {
                    ids.push(id);
                    continue;
                }
            }
            let begun = ids.len();
            ids.extend(word.bytes().filter_map(|byte| self.byte(byte, vocabulary)));
            self.merges.apply(ids, begun);
        }
    }

    fn encode_characters(&self, text: &str, vocabulary: &Vocabulary, ids: &mut Vec<u32>) {
        for word in self.pretokenizer.split(text) {
            // Line ends are pieces by their number, for which there are no merges.
            let line_ends = word.starts_with('\n');
            if let Some(id) = vocabulary.id(word).filter(|_| line_ends) {
                ids.push(id);
                continue;
            }
            let begun = ids.len();
            for (at, character) in word.char_indices() {
                let spelling = &word[at..at + character.len_utf8()];
                match vocabulary.id(spelling) {
                    Some(id) => ids.push(id),
                    None => {
                        ids.extend(
                            spelling
                                .bytes()
                                .filter_map(|byte| self.byte(byte, vocabulary)),
                        );
                    }
                }
            }
            self.merges.apply(ids, begun);
        }
    }

    fn byte(&self, byte: u8, vocabulary: &Vocabulary) -> Option<u32> {
        self.bytes[usize::from(byte)].or(vocabulary.unknown)
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
