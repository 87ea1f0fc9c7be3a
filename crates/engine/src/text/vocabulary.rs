//! The pieces of a tokenizer: their spellings, kinds and scores, and the ids with a meaning of their own.

use std::collections::HashMap;

use super::TextProblem;
use crate::FileProblem;
use crate::file::Metadata;

/// Most pieces of a vocabulary; the largest of 2026 have 262,144.
const MAX_PIECES: usize = 1 << 20;

/// Control tokens that end an answer wherever they are defined, whatever the file calls its end token. Chat models
/// are often converted with one of several end tokens named, and end their turns with another.
const END_SPELLINGS: [&str; 11] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<EOT>",
    "</s>",
    "<｜end▁of▁sentence｜>",
];

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// Text.
    Normal,
    /// Stands for what the vocabulary cannot spell.
    Unknown,
    /// Structure of a prompt; never text.
    Control,
    /// Added text that is found before anything is split (runs of spaces, markup of tools or thoughts).
    UserDefined,
    /// Not to be used.
    Unused,
    /// A raw byte.
    Byte,
}

/// Which algorithm makes pieces out of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Merges by rank over bytes spelled as characters.
    Bpe,
    /// Merges by score over characters, bytes for the rest.
    Spm,
}

/// The pieces of a tokenizer.
#[derive(Debug)]
pub struct Vocabulary {
    pieces: Vec<String>,
    kinds: Vec<PieceKind>,
    scores: Vec<f32>,
    /// Ids by spelling, of pieces that text may become.
    ids: HashMap<String, u32>,
    pub(super) algorithm: Algorithm,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unknown: Option<u32>,
    eog: Vec<u32>,
}

impl Vocabulary {
    pub(super) fn from_metadata(metadata: &Metadata) -> Result<Self, TextProblem> {
        let algorithm = match metadata.text("tokenizer.ggml.model") {
            Some("gpt2") => Algorithm::Bpe,
            Some("llama") => Algorithm::Spm,
            Some(other) => {
                return Err(TextProblem::Unsupported {
                    what: "tokenizer.ggml.model".to_owned(),
                    value: other.chars().take(64).collect(),
                });
            }
            None => return Err(missing("tokenizer.ggml.model")),
        };
        let key = "tokenizer.ggml.tokens";
        let pieces = metadata.texts(key).ok_or_else(|| missing(key))?.to_vec();
        if pieces.is_empty() || pieces.len() > MAX_PIECES {
            return Err(TextProblem::Bad(FileProblem::TooLarge {
                what: key.to_owned(),
                value: pieces.len() as u64,
                cap: MAX_PIECES as u64,
            }));
        }
        let kinds = kinds(metadata, pieces.len())?;
        let scores = match metadata.numbers("tokenizer.ggml.scores") {
            Some(scores) => as_long(scores, pieces.len(), "tokenizer.ggml.scores")?,
            None => Vec::new(),
        };
        let mut ids = HashMap::with_capacity(pieces.len());
        for (id, (piece, kind)) in pieces.iter().zip(&kinds).enumerate() {
            match kind {
                // The last of two equal spellings counts, as in the reference.
                PieceKind::Normal | PieceKind::UserDefined | PieceKind::Unused => {
                    ids.insert(piece.clone(), id as u32);
                }
                PieceKind::Unknown | PieceKind::Control | PieceKind::Byte => {}
            }
        }
        let special = |name: &str| {
            let id = metadata.u32(&format!("tokenizer.ggml.{name}_token_id"));
            id.filter(|&id| (id as usize) < pieces.len())
        };
        let (bos, eos, unknown) = (special("bos"), special("eos"), special("unknown"));
        let mut eog: Vec<u32> = [eos, special("eot"), special("eom")]
            .into_iter()
            .flatten()
            .collect();
        let named = pieces.iter().zip(&kinds).enumerate();
        eog.extend(named.filter_map(|(id, (piece, kind))| {
            let control = matches!(kind, PieceKind::Control | PieceKind::UserDefined);
            (control && END_SPELLINGS.contains(&piece.as_str())).then_some(id as u32)
        }));
        eog.sort_unstable();
        eog.dedup();
        Ok(Self {
            scores: scores.into_iter().map(|score| score as f32).collect(),
            pieces,
            kinds,
            ids,
            algorithm,
            bos,
            eos,
            unknown,
            eog,
        })
    }

    /// Number of pieces.
    pub fn len(&self) -> u32 {
        self.pieces.len() as u32
    }

    /// Never true: a vocabulary without pieces is refused.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Ids that end an answer, ascending.
    pub fn eog_ids(&self) -> &[u32] {
        &self.eog
    }

    /// The spelling and kind of an id.
    pub fn piece(&self, id: u32) -> Option<(&str, PieceKind)> {
        let piece = self.pieces.get(id as usize)?;
        Some((piece, *self.kinds.get(id as usize)?))
    }

    /// The id of a spelling that text may become.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.ids.get(piece).copied()
    }

    /// The score of a piece, for merging by score.
    pub fn score(&self, id: u32) -> f32 {
        self.scores.get(id as usize).copied().unwrap_or(0.0)
    }

    /// Every piece in the order of its id.
    pub fn pieces(&self) -> impl Iterator<Item = (u32, &str, PieceKind)> {
        let numbered = (0..).zip(&self.pieces).zip(&self.kinds);
        numbered.map(|((id, piece), &kind)| (id, piece.as_str(), kind))
    }
}

pub(super) fn missing(key: &str) -> TextProblem {
    TextProblem::Bad(FileProblem::MissingKey {
        key: key.to_owned(),
    })
}

fn kinds(metadata: &Metadata, pieces: usize) -> Result<Vec<PieceKind>, TextProblem> {
    let key = "tokenizer.ggml.token_type";
    let Some(numbers) = metadata.numbers(key) else {
        return Ok(vec![PieceKind::Normal; pieces]);
    };
    let numbers = as_long(numbers, pieces, key)?;
    Ok(numbers
        .into_iter()
        .map(|number| match number as i64 {
            2 => PieceKind::Unknown,
            3 => PieceKind::Control,
            4 => PieceKind::UserDefined,
            5 => PieceKind::Unused,
            6 => PieceKind::Byte,
            _ => PieceKind::Normal,
        })
        .collect())
}

fn as_long(list: Vec<f64>, pieces: usize, key: &str) -> Result<Vec<f64>, TextProblem> {
    if list.len() < pieces {
        return Err(TextProblem::Bad(FileProblem::BadValue {
            key: key.to_owned(),
            value: format!("{} entries for {pieces} tokens", list.len()),
        }));
    }
    Ok(list)
}
