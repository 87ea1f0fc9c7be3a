//! Unigram, as SentencePiece has it for encoders of many languages: of all ways to spell a text in pieces the likeliest
//! ("Subword Regularization", Kudo, 2018).

mod charsmap;

use super::TextProblem;
use super::spm::SPACE;
use super::vocabulary::{PieceKind, Vocabulary};
use crate::file::Metadata;
use charsmap::CharsMap;

/// Bytes of the longest piece that is looked for. SentencePiece trains none of more than 16 characters; a file with longer
/// ones must not make every text slow.
const LONGEST_PIECE: usize = 128;

/// How much less likely than the least likely piece a character without one is, in natural logarithms (SentencePiece's).
const UNKNOWN_PENALTY: f32 = 10.0;

#[derive(Debug)]
pub(super) struct Unigram {
    charsmap: CharsMap,
    /// Bytes of the longest piece.
    longest: usize,
    /// The score of a character without a piece.
    unknown: f64,
    adds_space: bool,
    merges_spaces: bool,
}

/// The likeliest way to spell a text up to some byte.
#[derive(Debug, Clone, Copy)]
struct Best {
    score: f64,
    /// Where its last piece begins.
    start: usize,
    /// `None` where a character has no piece.
    piece: Option<u32>,
}

impl Unigram {
    pub(super) fn from_metadata(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
    ) -> Result<Self, TextProblem> {
        let text_pieces = vocabulary
            .pieces()
            .filter(|(_, _, kind)| matches!(kind, PieceKind::Normal | PieceKind::Unused));
        let longest = text_pieces.map(|(_, piece, _)| piece.len()).max();
        let normal = vocabulary
            .pieces()
            .filter(|(_, _, kind)| *kind == PieceKind::Normal);
        let least = normal.map(|(id, ..)| vocabulary.score(id));
        let least = least.fold(f32::INFINITY, f32::min).min(f32::MAX);
        let says = |what: &str, otherwise: bool| {
            let key = format!("tokenizer.ggml.{what}");
            metadata.bool(&key).unwrap_or(otherwise)
        };
        Ok(Self {
            charsmap: CharsMap::from_metadata(metadata)?,
            longest: longest.unwrap_or(0).min(LONGEST_PIECE),
            unknown: f64::from(least - UNKNOWN_PENALTY),
            adds_space: says("add_space_prefix", true),
            merges_spaces: says("remove_extra_whitespaces", false),
        })
    }

    pub(super) fn encode(&self, text: &str, vocabulary: &Vocabulary, ids: &mut Vec<u32>) {
        let spelled = self.normal_form(text);
        let mut best = vec![None::<Best>; spelled.len() + 1];
        best[0] = Some(Best {
            score: 0.0,
            start: 0,
            piece: None,
        });
        for (start, character) in spelled.char_indices() {
            // Every border of characters before was reached, at least by characters without pieces.
            let so_far = best[start].map_or(0.0, |best| best.score);
            let mut offer = |end: usize, piece: Option<u32>, score: f64| {
                let score = so_far + score;
                if best[end].is_none_or(|best| score > best.score) {
                    best[end] = Some(Best {
                        score,
                        start,
                        piece,
                    });
                }
            };
            let rest = &spelled[start..];
            let ends = rest.char_indices().map(|(at, each)| at + each.len_utf8());
            let mut alone = false;
            for length in ends.take_while(|length| *length <= self.longest) {
                if let Some(id) = vocabulary.id(&rest[..length]) {
                    alone |= length == character.len_utf8();
                    offer(start + length, Some(id), score_of(id, vocabulary));
                }
            }
            if !alone {
                offer(start + character.len_utf8(), None, self.unknown);
            }
        }
        let first = ids.len();
        let mut end = spelled.len();
        let mut after_unknown = false;
        while let Some(last) = best[end].filter(|_| end > 0) {
            match last.piece {
                Some(id) => ids.push(id),
                // Neighbours without pieces are one unknown.
                None if !after_unknown => ids.extend(vocabulary.unknown),
                None => {}
            }
            after_unknown = last.piece.is_none();
            end = last.start;
        }
        ids[first..].reverse();
    }

    /// The text in the form that the model was trained on: by the file's table, with spaces as pieces spell them.
    fn normal_form(&self, text: &str) -> String {
        let mut form = String::with_capacity(text.len() + text.len() / 2);
        let (mut in_word, mut begun) = (false, false);
        self.charsmap.apply(text, &mut |character| {
            if character == ' ' {
                in_word = false;
                if !self.merges_spaces {
                    form.push_str(SPACE);
                }
                return;
            }
            if !in_word && (self.merges_spaces || (self.adds_space && !begun)) {
                form.push_str(SPACE);
                begun = true;
            }
            in_word = true;
            form.push(character);
        });
        form
    }
}

/// The natural logarithm of a piece's likelihood; added pieces are preferred to all others.
fn score_of(id: u32, vocabulary: &Vocabulary) -> f64 {
    match vocabulary.piece(id) {
        Some((_, PieceKind::UserDefined)) => 0.0,
        _ => f64::from(vocabulary.score(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unigram(vocabulary: &Vocabulary, merges_spaces: bool) -> Unigram {
        let unigram = Unigram::from_metadata(&Metadata::default(), vocabulary).unwrap();
        Unigram {
            merges_spaces,
            ..unigram
        }
    }

    fn spelled(unigram: &Unigram, vocabulary: &Vocabulary, text: &str) -> Vec<String> {
        let mut ids = Vec::new();
        unigram.encode(text, vocabulary, &mut ids);
        let spelling = |id: &u32| vocabulary.piece(*id).unwrap().0.to_owned();
        ids.iter().map(spelling).collect()
    }

    fn vocabulary(pieces: &[(&str, f32)]) -> Vocabulary {
        let scored = pieces
            .iter()
            .map(|(piece, score)| ((*piece).to_owned(), *score));
        let mut vocabulary = Vocabulary::of_scored(scored);
        vocabulary.unknown = Some(0);
        vocabulary
    }

    #[test]
    fn the_likeliest_spelling_wins_and_not_the_longest_piece() {
        let pieces = [
            ("?", -9.0),
            ("▁", -2.0),
            ("a", -2.0),
            ("b", -2.0),
            ("ab", -3.0),
            ("▁ab", -8.0),
        ];
        let vocabulary = vocabulary(&pieces);
        let unigram = unigram(&vocabulary, true);
        assert_eq!(spelled(&unigram, &vocabulary, "ab"), ["▁", "ab"]);
        assert_eq!(
            spelled(&unigram, &vocabulary, "  ab   b "),
            ["▁", "ab", "▁", "b"]
        );
        assert_eq!(spelled(&unigram, &vocabulary, "   "), [""; 0]);
        assert_eq!(spelled(&unigram, &vocabulary, ""), [""; 0]);
        let text = "aéüb";
        assert_eq!(
            spelled(&unigram, &vocabulary, text),
            ["▁", "a", "?", "b"],
            "one unknown"
        );
    }

    #[test]
    fn spaces_stay_where_they_are_not_merged() {
        let vocabulary = vocabulary(&[("?", -9.0), ("▁", -1.0), ("a", -1.0)]);
        let unigram = unigram(&vocabulary, false);
        assert_eq!(
            spelled(&unigram, &vocabulary, "a  a"),
            ["▁", "a", "▁", "▁", "a"]
        );
    }

    proptest::proptest! {
        /// Against all spellings there are.
        #[test]
        fn no_spelling_is_likelier(
            scores in proptest::collection::vec(-9.0f32..-1.0, 8), text in "[ab]{0,7}",
        ) {
            let names = ["▁", "a", "b", "ab", "ba", "aab", "▁a", "bb"];
            let pieces: Vec<(&str, f32)> = names.into_iter().zip(scores).collect();
            let vocabulary = vocabulary(&pieces);
            let unigram = unigram(&vocabulary, true);
            let score = |spelling: &[String]| -> f64 {
                let each = spelling.iter().map(|piece| f64::from(vocabulary.score(vocabulary.id(piece).unwrap())));
                each.sum()
            };
            let chosen = spelled(&unigram, &vocabulary, &text);
            let whole = if text.is_empty() { String::new() } else { format!("▁{text}") };
            proptest::prop_assert_eq!(chosen.concat(), whole.clone());
            let mut open = vec![(Vec::<String>::new(), whole.as_str())];
            while let Some((spelling, rest)) = open.pop() {
                if rest.is_empty() {
                    proptest::prop_assert!(score(&spelling) <= score(&chosen) + 1e-9);
                    continue;
                }
                for name in names.iter().filter(|name| rest.starts_with(**name)) {
                    let next = [spelling.as_slice(), &[(*name).to_owned()]].concat();
                    open.push((next, &rest[name.len()..]));
                }
            }
        }
    }
}
