//! Vocabularies of every kind, and answers that are made of random logits over them.

use std::path::{Path, PathBuf};

use engine::file::ModelFile;
use engine::grammar::{Grammars, Matcher};
use engine::sampler::Position;
use engine::text::{PieceKind, Tokenizer, Vocabulary};
use engine::{Constraint, EngineError, Sampling};

use super::tiny::{self, Meta, Tiny};

/// A vocabulary, and what constraints need of it.
pub(super) struct Words {
    pub(super) tokenizer: Tokenizer,
    pub(super) grammars: Grammars,
    pub(super) bytes: Vec<Vec<u8>>,
    /// Pieces that are structure and end nothing.
    pub(super) commands: Vec<u32>,
}

impl Words {
    fn of(tokenizer: Tokenizer) -> Self {
        let vocabulary = tokenizer.vocabulary();
        let command = |piece: &str, kind| match kind {
            PieceKind::Normal | PieceKind::Byte => false,
            PieceKind::UserDefined => piece.starts_with(['<', '[']),
            PieceKind::Control | PieceKind::Unknown | PieceKind::Unused => true,
        };
        Self {
            bytes: vocabulary
                .pieces()
                .map(|(_, piece, kind)| spelled(&tokenizer, piece, kind))
                .collect(),
            commands: vocabulary
                .pieces()
                .filter(|&(id, piece, kind)| {
                    command(piece, kind) && !vocabulary.eog_ids().contains(&id)
                })
                .map(|(id, ..)| id)
                .collect(),
            grammars: Grammars::new(tokenizer.vocabulary()).unwrap(),
            tokenizer,
        }
    }

    pub(super) fn made_up(tokenizer: Vec<(String, Meta)>) -> Self {
        Self::of(tokenizer_of(tokenizer))
    }

    pub(super) fn starter() -> Option<Self> {
        let named = std::env::var_os("DECENTRALGPT_STARTER").map(PathBuf::from);
        let path = named.unwrap_or_else(|| {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../models/SmolLM2-135M-Instruct.Q4_1.gguf")
        });
        if !path.is_file() {
            println!("skipped: the starter model is not at {}", path.display());
            return None;
        }
        let file = ModelFile::open(&path).unwrap();
        Some(Self::of(
            Tokenizer::from_metadata(&file.header().metadata).unwrap(),
        ))
    }

    pub(super) fn vocabulary(&self) -> &Vocabulary {
        self.tokenizer.vocabulary()
    }

    pub(super) fn compile(&self, constraint: &Constraint) -> Result<Matcher, EngineError> {
        self.grammars.compile(constraint)?.wait()
    }

    pub(super) fn text(&self, ids: &[u32]) -> Vec<u8> {
        let bytes = ids.iter().flat_map(|&id| &self.bytes[id as usize]);
        bytes.copied().collect()
    }

    pub(super) fn is_end(&self, id: u32) -> bool {
        self.vocabulary().eog_ids().contains(&id)
    }

    /// Samples an answer out of random logits. The longer it gets, the likelier is what closes something.
    pub(super) fn answer(&self, matcher: &mut Matcher, sampling: &Sampling) -> Vec<u32> {
        let mut ids = Vec::new();
        for index in 0..2000 {
            let mask = matcher.mask().unwrap();
            assert!(!self.commands.iter().any(|&id| mask.allows(id)));
            let logits: Vec<f32> = (0..self.vocabulary().len())
                .map(|id| {
                    let closes = self.is_end(id)
                        || self.bytes[id as usize]
                            .iter()
                            .any(|byte| b"\"}]".contains(byte));
                    let bonus = if closes { index as f32 * 0.3 } else { 0.0 };
                    noise(sampling.seed as u32 ^ index, id) * 6.0 + bonus
                })
                .collect();
            let position = Position {
                before: &ids,
                index,
                sampling,
                mask: Some(&mask),
            };
            let id = position.choose(&logits, None).unwrap().id;
            assert!(mask.allows(id));
            matcher.advance(id).unwrap();
            if self.is_end(id) {
                assert!(matcher.is_complete());
                return ids;
            }
            ids.push(id);
        }
        panic!("no end: {}", String::from_utf8_lossy(&self.text(&ids)));
    }
}

pub(super) fn tokenizer_of(tokenizer: Vec<(String, Meta)>) -> Tokenizer {
    let tiny = Tiny {
        metadata: tokenizer,
        tensors: Vec::new(),
    };
    let header = engine::file::parse(&tiny.bytes()).unwrap();
    Tokenizer::from_metadata(&header.metadata).unwrap()
}

/// The bytes of a piece, told anew.
fn spelled(tokenizer: &Tokenizer, piece: &str, kind: PieceKind) -> Vec<u8> {
    let byte_level = tokenizer.vocabulary().id("Ġ").is_some();
    match kind {
        PieceKind::Control | PieceKind::Unknown | PieceKind::Unused => Vec::new(),
        PieceKind::Byte => vec![u8::from_str_radix(&piece[3..5], 16).unwrap()],
        PieceKind::UserDefined if byte_level => piece.as_bytes().to_vec(),
        PieceKind::Normal if byte_level => piece
            .chars()
            .flat_map(|character| match tiny::byte_of(character) {
                Some(byte) => vec![byte],
                None => character.to_string().into_bytes(),
            })
            .collect(),
        PieceKind::Normal | PieceKind::UserDefined => piece.replace('▁', " ").into_bytes(),
    }
}

/// A repeatable value in −1..1.
pub(super) fn noise(seed: u32, at: u32) -> f32 {
    let mut x = seed.wrapping_mul(0x9E37_79B9) ^ at.wrapping_mul(0x85EB_CA6B);
    x ^= x >> 15;
    x = x.wrapping_mul(0x2C1B_3C6D);
    x ^= x >> 13;
    x as f32 / u32::MAX as f32 * 2.0 - 1.0
}

pub(super) fn all_kinds() -> Vec<(&'static str, Words)> {
    let mut kinds = vec![
        ("byte-level", Words::made_up(tiny::bpe())),
        ("SentencePiece", Words::made_up(spm_with_end_twice())),
    ];
    kinds.extend(Words::starter().map(|words| ("starter", words)));
    kinds
}

/// With a second end token, which every complete text must allow as well.
pub(super) fn spm_with_end_twice() -> Vec<(String, Meta)> {
    let mut metadata = tiny::spm();
    for (key, value) in &mut metadata {
        match (key.as_str(), value) {
            ("tokenizer.ggml.tokens", Meta::Texts(pieces)) => pieces.push("<end_of_turn>".into()),
            ("tokenizer.ggml.scores", Meta::F32s(scores)) => scores.push(0.0),
            ("tokenizer.ggml.token_type", Meta::I32s(kinds)) => kinds.push(3),
            _ => {}
        }
    }
    metadata
}
