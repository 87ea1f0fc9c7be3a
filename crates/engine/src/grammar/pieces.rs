//! The vocabulary as bytes.

use llguidance::toktrie::{TokRxInfo, TokTrie};

use super::problem;
use crate::text::{PieceKind, Vocabulary, push_bytes};
use crate::{ConstraintProblem, EngineError};

/// Longest piece that a constraint can use, in bytes; the tree holds no path of more than 1,024. Longer ones are runs of
/// spaces, which shorter ones spell too.
const MAX_PIECE: usize = 512;

/// Bytes of all pieces together, and so nodes of the tree, which counts them in 22 bits. The largest vocabularies of
/// 262,144 pieces have two million.
const MAX_BYTES: usize = 4_000_000;

/// The bytes of all pieces that are text, and the end tokens (marked by a byte that no text has).
pub(super) struct Pieces {
    words: Vec<Vec<u8>>,
    ends: Vec<u32>,
}

impl Pieces {
    /// The tree of them. For a large vocabulary it takes a good part of a second.
    pub(super) fn trie(&self) -> TokTrie {
        let info = TokRxInfo::new(self.words.len() as u32, self.ends[0]);
        TokTrie::from(&info, &self.words).with_eos_tokens(&self.ends)
    }
}

/// The pieces of a vocabulary.
pub(super) fn of(vocabulary: &Vocabulary) -> Result<Pieces, EngineError> {
    let ends = vocabulary.eog_ids();
    if ends.is_empty() {
        return Err(problem(ConstraintProblem::NoEndToken));
    }
    let words: Vec<Vec<u8>> = vocabulary
        .pieces()
        .map(|(id, piece, kind)| {
            if ends.binary_search(&id).is_ok() {
                return end_word(piece);
            }
            word(vocabulary, id, piece, kind)
        })
        .collect();
    if words.iter().map(Vec::len).sum::<usize>() > MAX_BYTES {
        return Err(EngineError::UnsupportedFeature {
            what: "a constraint over a vocabulary of bytes".to_owned(),
            value: format!("more than {MAX_BYTES}"),
        });
    }
    Ok(Pieces {
        words,
        ends: ends.to_vec(),
    })
}

fn end_word(piece: &str) -> Vec<u8> {
    let mut word = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    word.extend(piece.bytes());
    word.truncate(MAX_PIECE);
    word
}

/// The bytes that a piece spells; none for one that no constraint may use.
fn word(vocabulary: &Vocabulary, id: u32, piece: &str, kind: PieceKind) -> Vec<u8> {
    let text = match kind {
        PieceKind::Normal | PieceKind::Byte => true,
        // Markup of tools and thoughts is structure.
        PieceKind::UserDefined => !piece.starts_with(['<', '[']),
        PieceKind::Control | PieceKind::Unknown | PieceKind::Unused => false,
    };
    let mut bytes = Vec::new();
    if text {
        push_bytes(vocabulary, id, &mut bytes);
    }
    if bytes.len() > MAX_PIECE || bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) {
        bytes.clear();
    }
    bytes
}
