//! Text to ids: first the spellings of special pieces, then the model's algorithm on what lies between.

use super::TextProblem;
use super::bpe::Bpe;
use super::spm::{SPACE, Spm};
use super::vocabulary::{Algorithm, PieceKind, Vocabulary};
use crate::file::Metadata;

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    scheme: Scheme,
    adds_bos: bool,
    adds_space: bool,
    specials: Specials,
}

#[derive(Debug)]
enum Scheme {
    Bpe(Bpe),
    Spm(Spm),
}

/// Which special spellings become their piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All of them: the text is a template's.
    Template,
    /// Those that are text themselves: a person typed it.
    Typed,
}

#[derive(Debug, Clone)]
struct Special {
    spelling: String,
    id: u32,
    /// Structure, not text: never made from what a person typed.
    command: bool,
}

/// Special pieces by their first byte, the longest first.
#[derive(Debug)]
struct Specials(Vec<Vec<Special>>);

impl Tokenizer {
    /// Builds it from a file's metadata.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TextProblem> {
        let vocabulary = Vocabulary::from_metadata(metadata)?;
        let (scheme, adds_bos, adds_space) = match vocabulary.algorithm {
            Algorithm::Bpe => {
                let bpe = Bpe::from_metadata(metadata, &vocabulary)?;
                let adds_bos = bpe.adds_bos();
                (Scheme::Bpe(bpe), adds_bos, false)
            }
            Algorithm::Spm => (Scheme::Spm(Spm::new(&vocabulary)), true, true),
        };
        Ok(Self {
            specials: Specials::of(&vocabulary),
            adds_bos: metadata
                .bool("tokenizer.ggml.add_bos_token")
                .unwrap_or(adds_bos),
            adds_space: metadata
                .bool("tokenizer.ggml.add_space_prefix")
                .unwrap_or(adds_space),
            vocabulary,
            scheme,
        })
    }

    /// Its pieces.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Ids of text that a person typed: no control piece can come out of it.
    pub fn encode_typed(&self, text: &str) -> Vec<u32> {
        self.encode(text, &[], Scope::Typed)
    }

    /// Ids of a template's output, begun with the begin piece where the model wants one. `protected` are byte positions
    /// (ascending) that no special spelling may reach across.
    pub fn encode_rendered(&self, text: &str, protected: &[usize]) -> Vec<u32> {
        let mut ids = self.encode(text, protected, Scope::Template);
        if let Some(bos) = self
            .vocabulary
            .bos
            .filter(|&bos| self.adds_bos && ids.first() != Some(&bos))
        {
            ids.insert(0, bos);
        }
        ids
    }

    /// Whether the first space of an answer is an artefact of the tokenizer.
    pub(super) fn adds_space(&self) -> bool {
        self.adds_space && matches!(self.scheme, Scheme::Spm(_))
    }

    /// Length in bytes of a command's spelling at the beginning of `text`, the longest one.
    pub(super) fn command_at(&self, text: &str, controls_only: bool) -> Option<usize> {
        let mut found = self.specials.at(text).filter(|special| {
            special.command && (!controls_only || self.kind(special.id) == Some(PieceKind::Control))
        });
        found.next().map(|special| special.spelling.len())
    }

    fn kind(&self, id: u32) -> Option<PieceKind> {
        self.vocabulary.piece(id).map(|(_, kind)| kind)
    }

    fn encode(&self, text: &str, protected: &[usize], scope: Scope) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut begun = 0;
        let mut at = 0;
        let mut after_special = true;
        let mut protected = protected.iter().copied().peekable();
        while at < text.len() {
            while protected.next_if(|&position| position <= at).is_some() {}
            let reach = protected.peek().copied().unwrap_or(usize::MAX);
            let mut found = self.specials.at(&text[at..]);
            let special = found.find(|special| {
                at + special.spelling.len() <= reach
                    && (scope == Scope::Template || !special.command)
            });
            match special {
                Some(special) => {
                    self.encode_plain(&text[begun..at], after_special, &mut ids);
                    ids.push(special.id);
                    at += special.spelling.len();
                    begun = at;
                    after_special = true;
                }
                None => at += text[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        self.encode_plain(&text[begun..], after_special, &mut ids);
        ids
    }

    fn encode_plain(&self, text: &str, after_special: bool, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        match &self.scheme {
            Scheme::Bpe(bpe) => bpe.encode(text, &self.vocabulary, ids),
            Scheme::Spm(spm) => {
                let mut spelled = String::with_capacity(text.len() + 16);
                if self.adds_space && after_special {
                    spelled.push(SPACE);
                }
                spelled.extend(
                    text.chars()
                        .map(|character| if character == ' ' { SPACE } else { character }),
                );
                spm.encode(&spelled, &self.vocabulary, ids);
            }
        }
    }
}

impl Specials {
    fn of(vocabulary: &Vocabulary) -> Self {
        let mut by_first = vec![Vec::new(); 256];
        for (id, piece, kind) in vocabulary.pieces() {
            let command = match kind {
                // Markup that structures a prompt looks like `<think>` or `[INST]`; other added pieces are text, runs of
                // spaces for example.
                PieceKind::UserDefined => {
                    piece.starts_with(['<', '[']) && piece.ends_with(['>', ']'])
                }
                PieceKind::Control => true,
                PieceKind::Normal | PieceKind::Unknown | PieceKind::Unused | PieceKind::Byte => {
                    continue;
                }
            };
            // A command of a single character could not be told from text; none is known.
            if piece.is_empty() || (command && piece.chars().nth(1).is_none()) {
                continue;
            }
            by_first[usize::from(piece.as_bytes()[0])].push(Special {
                spelling: piece.to_owned(),
                id,
                command,
            });
        }
        for same_first in &mut by_first {
            same_first.sort_by_key(|special: &Special| std::cmp::Reverse(special.spelling.len()));
        }
        Self(by_first)
    }

    /// Those that `text` begins with, the longest first.
    fn at<'s>(&'s self, text: &'s str) -> impl Iterator<Item = &'s Special> {
        let first = text
            .as_bytes()
            .first()
            .map_or(&[][..], |&byte| &self.0[usize::from(byte)]);
        first
            .iter()
            .filter(|special| text.starts_with(&special.spelling))
    }
}
