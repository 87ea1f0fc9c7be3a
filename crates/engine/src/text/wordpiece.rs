//! WordPiece, as BERT and its embedding models have it: text brought to one form, cut into words, each word made of the
//! longest pieces from its beginning on, or unknown as a whole.

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::TextProblem;
use super::spm::SPACE;
use super::vocabulary::Vocabulary;
use crate::file::Metadata;

/// What text may hold and words may not: control and format characters, and what stood for broken ones.
const DROPPED: &str = r"[[\p{Cc}\p{Cf}\p{Co}\x{fffd}]--\s]+";

/// The same, and accents, which stand apart from their letters by then.
const DROPPED_WITH_ACCENTS: &str = r"[[\p{Cc}\p{Cf}\p{Co}\p{M}\x{fffd}]--\s]+";

/// A mark or an ideograph is a word by itself; other words end at these and at white space.
macro_rules! alone {
    () => {
        r"\p{P}\$\+<=>\^`\|~\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{20000}-\x{2a6df}\x{2a700}-\x{2b73f}\x{2b740}-\x{2b81f}\x{2b920}-\x{2ceaf}\x{f900}-\x{faff}\x{2f800}-\x{2fa1f}"
    };
}
const WORD: &str = concat!("[", alone!(), r"]|[^\s", alone!(), "]+");

#[derive(Debug)]
pub(super) struct WordPiece {
    dropped: Regex,
    word: Regex,
    lowers: bool,
    strips_accents: bool,
    /// Bytes of the longest piece: nothing longer is looked up.
    longest: usize,
}

impl WordPiece {
    pub(super) fn from_metadata(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
    ) -> Result<Self, TextProblem> {
        let lowers = metadata
            .bool("tokenizer.ggml.normalizer.lowercase")
            .unwrap_or(true);
        let strips_accents = metadata
            .bool("tokenizer.ggml.normalizer.strip_accents")
            .unwrap_or(lowers);
        let compile = |rule: &str| {
            // The rules are constants and a test compiles each.
            Regex::new(rule).map_err(|error| TextProblem::Unsupported {
                what: "tokenizer.ggml.model".to_owned(),
                value: error.to_string(),
            })
        };
        Ok(Self {
            dropped: compile(if strips_accents {
                DROPPED_WITH_ACCENTS
            } else {
                DROPPED
            })?,
            word: compile(WORD)?,
            lowers,
            strips_accents,
            longest: vocabulary
                .pieces()
                .map(|(_, piece, _)| piece.len())
                .max()
                .unwrap_or(0),
        })
    }

    pub(super) fn encode(&self, text: &str, vocabulary: &Vocabulary, ids: &mut Vec<u32>) {
        let text = self.normal_form(text);
        let mut spelling = String::new();
        for word in self.word.find_iter(&text) {
            spelling.clear();
            spelling.push_str(SPACE);
            spelling.push_str(word.as_str());
            let begun = ids.len();
            if !self.encode_word(&spelling, vocabulary, ids) {
                ids.truncate(begun);
                ids.extend(vocabulary.unknown);
            }
        }
    }

    fn normal_form(&self, text: &str) -> String {
        let decomposed: String = if self.strips_accents {
            text.nfd().collect()
        } else {
            text.to_owned()
        };
        let kept = self.dropped.replace_all(&decomposed, "");
        if self.lowers {
            kept.chars().flat_map(char::to_lowercase).collect()
        } else {
            kept.into_owned()
        }
    }

    /// Whether the word could be spelled to its end.
    fn encode_word(&self, word: &str, vocabulary: &Vocabulary, ids: &mut Vec<u32>) -> bool {
        let mut rest = word;
        while !rest.is_empty() {
            let mut end = rest.len().min(self.longest);
            let found = loop {
                if end == 0 {
                    return false;
                }
                if let Some(id) = rest.get(..end).and_then(|prefix| vocabulary.id(prefix)) {
                    break id;
                }
                end -= 1;
            };
            ids.push(found);
            rest = &rest[end..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_at_marks_and_ideographs() {
        let word = Regex::new(WORD).unwrap();
        let words = |text: &'static str| -> Vec<&str> {
            word.find_iter(text).map(|word| word.as_str()).collect()
        };
        assert_eq!(
            words("don't 你好 a+b"),
            ["don", "'", "t", "你", "好", "a", "+", "b"]
        );
    }

    #[test]
    fn line_ends_are_kept_for_cutting_and_control_characters_are_not() {
        for rule in [DROPPED, DROPPED_WITH_ACCENTS] {
            let dropped = Regex::new(rule).unwrap();
            assert_eq!(dropped.replace_all("a\n\u{0}b\u{ad}\t", ""), "a\nb\t");
        }
    }
}
