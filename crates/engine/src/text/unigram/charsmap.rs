//! The table by which SentencePiece brings characters to one form: spellings and what each is replaced with.
//!
//! It is a double array (Aoe, "An Efficient Digital Search Algorithm by Using a Double-Array Structure", 1989) in the
//! layout of the Darts-clone library: 32-bit units, each with the byte that leads to it, an offset to those that follow,
//! and whether a spelling ends there; then the replacements, each ended by a zero.

use super::super::TextProblem;
use super::super::vocabulary::bad;
use crate::file::Metadata;

const KEY: &str = "tokenizer.ggml.precompiled_charsmap";

/// Bytes of the longest replacement that is used. Unicode's compatibility forms have none of more than 33; a file must not
/// make a short text long.
const LONGEST_REPLACEMENT: usize = 64;

/// Spellings and their replacements; a text without any stays as it is.
#[derive(Debug, Default)]
pub(super) struct CharsMap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl CharsMap {
    pub(super) fn from_metadata(metadata: &Metadata) -> Result<Self, TextProblem> {
        let Some(numbers) = metadata.numbers(KEY) else {
            return Ok(Self::default());
        };
        let wrong = || bad(KEY, format!("{} numbers", numbers.len()));
        // Bytes, or the same with a sign.
        let bytes = numbers.iter().map(|&number| match number {
            0.0..=255.0 => Some(number as u8),
            -128.0..0.0 => Some((number as i8).cast_unsigned()),
            _ => None,
        });
        let bytes: Vec<u8> = bytes.collect::<Option<_>>().ok_or_else(wrong)?;
        Self::of_bytes(&bytes).ok_or_else(wrong)
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (units, replacements) = rest.split_at_checked(length)?;
        let (units, []) = units.as_chunks::<4>() else {
            return None;
        };
        Some(Self {
            units: units.iter().copied().map(u32::from_le_bytes).collect(),
            replacements: replacements.to_vec(),
        })
    }

    /// Gives the characters of a text's form: at each place the longest spelling is replaced.
    pub(super) fn apply(&self, text: &str, give: &mut impl FnMut(char)) {
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            match self.longest(rest) {
                Some((length, replacement)) => {
                    replacement.chars().for_each(&mut *give);
                    rest = &rest[length..];
                }
                None => {
                    give(character);
                    rest = &rest[character.len_utf8()..];
                }
            }
        }
    }

    /// The longest spelling that the text begins with, in bytes, and its replacement.
    fn longest(&self, text: &str) -> Option<(usize, &str)> {
        let unit = |at: usize| self.units.get(at).copied();
        let mut at = offset(unit(0)?);
        let mut found = None;
        for (length, byte) in (1..).zip(text.bytes()) {
            at ^= usize::from(byte);
            let Some(here) =
                unit(at).filter(|here| byte != 0 && leads_here(*here) == u32::from(byte))
            else {
                break;
            };
            at ^= offset(here);
            if ends_here(here) && text.is_char_boundary(length) {
                found = unit(at).map(|value| (length, value));
            }
        }
        let (length, value) = found?;
        let replacement = self.replacement((value & !(1 << 31)) as usize)?;
        Some((length, replacement))
    }

    fn replacement(&self, start: usize) -> Option<&str> {
        let bytes = self.replacements.get(start..)?;
        let end = bytes
            .iter()
            .take(LONGEST_REPLACEMENT + 1)
            .position(|byte| *byte == 0)?;
        std::str::from_utf8(&bytes[..end]).ok()
    }
}

/// The byte by which a unit is reached; more than a byte for units that hold a value.
fn leads_here(unit: u32) -> u32 {
    unit & (1 << 31 | 0xff)
}

fn ends_here(unit: u32) -> bool {
    unit >> 8 & 1 == 1
}

/// From a unit to those that follow it. Far ones are told in steps of 256.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Ａ` becomes `a`, and `Ａb` nothing.
    fn bytes() -> Vec<u8> {
        let mut units = vec![0u32; 1024];
        let unit = |byte: u8, ends: bool, offset: u32| {
            u32::from(byte) | u32::from(ends) << 8 | offset << 10
        };
        units[0] = unit(0, false, 256);
        let mut at = 256;
        for (byte, ends) in "Ａ".bytes().zip([false, false, true]).chain([(b'b', true)]) {
            at ^= usize::from(byte);
            // So far from the unit that nothing else lies there.
            units[at] = unit(byte, ends, 512);
            at ^= 512;
            if ends {
                units[at] = 1 << 31 | if byte == b'b' { 2 } else { 0 };
            }
        }
        let mut bytes = 4096u32.to_le_bytes().to_vec();
        bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes.extend(b"a\0\0");
        bytes
    }

    fn form(map: &CharsMap, text: &str) -> String {
        let mut form = String::new();
        map.apply(text, &mut |character| form.push(character));
        form
    }

    #[test]
    fn the_longest_spelling_is_replaced() {
        let map = CharsMap::of_bytes(&bytes()).unwrap();
        assert_eq!(form(&map, "xＡcＢＡ"), "xacＢa");
        assert_eq!(form(&map, "cＡbd"), "cd");
        assert_eq!(form(&map, "\0é"), "\0é");
        assert_eq!(form(&CharsMap::default(), "Ａ"), "Ａ");
    }

    #[test]
    fn a_replacement_is_short() {
        let mut long = bytes();
        long.truncate(4 + 4096);
        long.extend([b'a'; LONGEST_REPLACEMENT]);
        let ended = [long.as_slice(), &[0]].concat();
        assert_eq!(
            form(&CharsMap::of_bytes(&ended).unwrap(), "Ａ").len(),
            LONGEST_REPLACEMENT
        );
        let longer = [long.as_slice(), b"a\0"].concat();
        assert_eq!(form(&CharsMap::of_bytes(&longer).unwrap(), "Ａ"), "Ａ");
    }

    proptest::proptest! {
        #[test]
        fn any_table_and_any_text(
            units in proptest::collection::vec(proptest::prelude::any::<u32>(), 0..600),
            replacements in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
            cut in 0usize..4, text in "\\PC*",
        ) {
            let mut bytes = (4 * units.len() as u32).to_le_bytes().to_vec();
            bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
            bytes.extend(replacements);
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Some(map) = CharsMap::of_bytes(&bytes) {
                let form = form(&map, &text);
                proptest::prop_assert!(form.len() <= text.len() * LONGEST_REPLACEMENT);
            }
        }
    }
}
