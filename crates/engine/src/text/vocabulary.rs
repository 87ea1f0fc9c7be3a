//! The pieces of a tokenizer: their spellings, kinds and scores, and the ids with a meaning of their own.

use std::collections::HashMap;

use super::TextProblem;
use crate::FileProblem;
use crate::file::Metadata;

/// Most pieces of a vocabulary; the largest of 2026 have 262,144.
const MAX_PIECES: usize = 1 << 20;

/// Pieces that end an answer wherever they are defined, whatever the file calls its end token. Chat models are often
/// converted with one of several end tokens named, and end their turns with another; code models end a file with theirs.
const END_SPELLINGS: [&str; 29] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<turn|>",
    "<|tool_response>",
    "<end_of_utterance>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
    "</s>",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<reponame>",
    "<|file_sep|>",
];

/// Pairs of end tokens of formats in which `<|end|>` ends one of several messages of an answer, and not the answer.
const MANY_MESSAGES: [[&str; 2]; 2] = [["<|return|>", "<|call|>"], ["<|flush|>", "<|calls|>"]];

/// Added pieces that look like markup and are what a person writes: the tags of HTML, which some vocabularies have whole.
const HTML_TAGS: [&str; 39] = [
    "a",
    "b",
    "blockquote",
    "br",
    "caption",
    "code",
    "col",
    "dd",
    "div",
    "dl",
    "dt",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "li",
    "ol",
    "p",
    "pre",
    "span",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "u",
    "ul",
    "var",
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
    /// Merges by rank over characters, bytes for the rest; spaces are spelled as in SentencePiece.
    SpelledBpe,
    /// Merges by score over characters, bytes for the rest.
    Spm,
    /// The longest pieces of each word, from its beginning on.
    WordPiece,
    /// The likeliest pieces of a whole text.
    Unigram,
}

/// The pieces of a tokenizer.
#[derive(Debug)]
pub struct Vocabulary {
    pieces: Vec<String>,
    kinds: Vec<PieceKind>,
    scores: Vec<f32>,
    /// Ids by spelling.
    ids: HashMap<String, u32>,
    pub(super) algorithm: Algorithm,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unknown: Option<u32>,
    pub(super) separator: Option<u32>,
    eog: Vec<u32>,
}

impl Vocabulary {
    pub(super) fn from_metadata(metadata: &Metadata) -> Result<Self, TextProblem> {
        let algorithm = algorithm(metadata)?;
        let key = "tokenizer.ggml.tokens";
        let pieces = metadata.texts(key).ok_or_else(|| missing(key))?.to_vec();
        if pieces.is_empty() || pieces.len() > MAX_PIECES {
            return Err(TextProblem::Bad(FileProblem::TooLarge {
                what: key.to_owned(),
                value: pieces.len() as u64,
                cap: MAX_PIECES as u64,
            }));
        }
        let kinds = kinds(metadata, &pieces)?;
        let scores = scores(metadata, pieces.len())?;
        let mut ids = HashMap::with_capacity(pieces.len());
        for (id, piece) in (0..).zip(&pieces).filter(|(_, piece)| !piece.is_empty()) {
            if ids.insert(piece.clone(), id).is_some() {
                return Err(bad(key, format!("{} twice", piece.escape_debug())));
            }
        }
        let special = |name: &str| special(metadata, name, pieces.len());
        let (bos, eos, unknown) = (special("bos")?, special("eos")?, special("unknown")?);
        // The misspelling is the format's.
        let separator = special("seperator")?;
        let ends = [eos, special("eot")?, special("eom")?];
        let eog = eog(&pieces, &kinds, ends);
        Ok(Self {
            pieces,
            kinds,
            scores,
            ids,
            algorithm,
            bos,
            eos,
            unknown,
            separator,
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
        let id = *self.ids.get(piece)?;
        becomes_text(piece, *self.kinds.get(id as usize)?).then_some(id)
    }

    /// Whether any piece is spelled so, of whatever kind.
    pub(super) fn spells(&self, piece: &str) -> bool {
        self.ids.contains_key(piece)
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

#[cfg(test)]
impl Vocabulary {
    /// A vocabulary that is merged by score; of pieces that are spelled alike the first counts.
    pub(super) fn of_scored(scored: impl Iterator<Item = (String, f32)>) -> Self {
        let mut pieces = Vec::new();
        let mut scores = Vec::new();
        let mut ids = HashMap::new();
        for (piece, score) in scored {
            ids.entry(piece.clone()).or_insert_with(|| {
                pieces.push(piece);
                scores.push(score);
                pieces.len() as u32 - 1
            });
        }
        Self {
            kinds: vec![PieceKind::Normal; pieces.len()],
            pieces,
            scores,
            ids,
            algorithm: Algorithm::Spm,
            bos: None,
            eos: None,
            unknown: None,
            separator: None,
            eog: Vec::new(),
        }
    }
}

pub(super) fn missing(key: &str) -> TextProblem {
    TextProblem::Bad(FileProblem::MissingKey {
        key: key.to_owned(),
    })
}

/// Whether a piece structures a prompt, so that what a person typed must never become it.
pub(super) fn is_command(piece: &str, kind: PieceKind) -> bool {
    match kind {
        PieceKind::Control => true,
        // Markup that structures a prompt looks like `<think>` or `[INST]`; other added pieces are text, runs of spaces
        // for example.
        PieceKind::UserDefined => {
            let markup = piece.starts_with(['<', '[']) && piece.ends_with(['>', ']']);
            let tag = piece.trim_matches(['<', '/', '>']);
            markup && !HTML_TAGS.contains(&tag)
        }
        PieceKind::Normal | PieceKind::Unknown | PieceKind::Unused | PieceKind::Byte => false,
    }
}

/// Whether merging text may lead to a piece.
fn becomes_text(piece: &str, kind: PieceKind) -> bool {
    match kind {
        PieceKind::Normal | PieceKind::Unused => true,
        PieceKind::UserDefined => !is_command(piece, kind),
        PieceKind::Unknown | PieceKind::Control | PieceKind::Byte => false,
    }
}

fn algorithm(metadata: &Metadata) -> Result<Algorithm, TextProblem> {
    let key = "tokenizer.ggml.model";
    match metadata.text(key) {
        Some("gpt2") => Ok(Algorithm::Bpe),
        Some("gemma4") => Ok(Algorithm::SpelledBpe),
        Some("llama") => Ok(Algorithm::Spm),
        Some("bert") => Ok(Algorithm::WordPiece),
        Some("t5") => Ok(Algorithm::Unigram),
        Some(other) => Err(TextProblem::Unsupported {
            what: key.to_owned(),
            value: other.chars().take(64).collect(),
        }),
        None => Err(missing(key)),
    }
}

fn special(metadata: &Metadata, name: &str, pieces: usize) -> Result<Option<u32>, TextProblem> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    match metadata.u32(&key) {
        Some(id) if id as usize >= pieces => Err(bad(&key, format!("{id} of {pieces} tokens"))),
        id => Ok(id),
    }
}

fn eog(pieces: &[String], kinds: &[PieceKind], named: [Option<u32>; 3]) -> Vec<u32> {
    let ends: HashMap<&str, u32> = (0..)
        .zip(pieces)
        .zip(kinds)
        .filter(|((_, piece), kind)| {
            matches!(kind, PieceKind::Control | PieceKind::UserDefined)
                && END_SPELLINGS.contains(&piece.as_str())
        })
        .map(|((id, piece), _)| (piece.as_str(), id))
        .collect();
    let mut eog: Vec<u32> = named
        .into_iter()
        .flatten()
        .chain(ends.values().copied())
        .collect();
    eog.sort_unstable();
    eog.dedup();
    let many = |pair: &[&str; 2]| pair.iter().all(|spelling| ends.contains_key(spelling));
    if let Some(end) = ends
        .get("<|end|>")
        .filter(|_| MANY_MESSAGES.iter().any(many))
    {
        eog.retain(|id| id != end);
    }
    eog
}

fn kinds(metadata: &Metadata, pieces: &[String]) -> Result<Vec<PieceKind>, TextProblem> {
    let key = "tokenizer.ggml.token_type";
    let numbers = match metadata.numbers(key) {
        Some(numbers) => as_long(numbers, pieces.len(), key)?,
        None => vec![1.0; pieces.len()],
    };
    let kind = |(number, piece): (f64, &String)| match number as i64 {
        2 => PieceKind::Unknown,
        3 => PieceKind::Control,
        4 => PieceKind::UserDefined,
        5 => PieceKind::Unused,
        6 => PieceKind::Byte,
        // Some converters call an end of turn text; it would then be shown, and typed.
        _ if piece.starts_with("<|") && END_SPELLINGS.contains(&piece.as_str()) => {
            PieceKind::Control
        }
        _ => PieceKind::Normal,
    };
    Ok(numbers.into_iter().zip(pieces).map(kind).collect())
}

fn scores(metadata: &Metadata, pieces: usize) -> Result<Vec<f32>, TextProblem> {
    let key = "tokenizer.ggml.scores";
    let Some(scores) = metadata.numbers(key) else {
        return Ok(Vec::new());
    };
    if scores.iter().any(|score| score.is_nan()) {
        return Err(bad(key, "not a number".to_owned()));
    }
    let scores = as_long(scores, pieces, key)?;
    Ok(scores.into_iter().map(|score| score as f32).collect())
}

fn as_long(list: Vec<f64>, pieces: usize, key: &str) -> Result<Vec<f64>, TextProblem> {
    if list.len() != pieces {
        return Err(bad(
            key,
            format!("{} entries for {pieces} tokens", list.len()),
        ));
    }
    Ok(list)
}

pub(super) fn bad(key: &str, value: String) -> TextProblem {
    TextProblem::Bad(FileProblem::BadValue {
        key: key.to_owned(),
        value,
    })
}
