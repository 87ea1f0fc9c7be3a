//! Text to ids: first the spellings of special pieces, then the model's algorithm on what lies between.

use super::TextProblem;
use super::bpe::Bpe;
use super::specials::{Scope, Specials};
use super::spm::{SPACE, Spm};
use super::unigram::Unigram;
use super::vocabulary::{Algorithm, Vocabulary};
use super::wordpiece::WordPiece;
use crate::file::Metadata;

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    scheme: Scheme,
    /// The piece that every text begins with.
    begin: Option<u32>,
    /// The piece that a text read as a whole ends with.
    end: Option<u32>,
    adds_space: bool,
    specials: Specials,
}

#[derive(Debug)]
enum Scheme {
    Bpe(Bpe),
    Spm(Spm),
    WordPiece(WordPiece),
    Unigram(Unigram),
}

impl Tokenizer {
    /// Builds it from a file's metadata.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TextProblem> {
        let vocabulary = Vocabulary::from_metadata(metadata)?;
        let (scheme, adds_bos, [adds_separator, adds_eos]) = match vocabulary.algorithm {
            Algorithm::Bpe | Algorithm::SpelledBpe => {
                let bpe = Bpe::from_metadata(metadata, &vocabulary)?;
                let adds_bos = bpe.adds_bos();
                (Scheme::Bpe(bpe), adds_bos, [false, false])
            }
            Algorithm::Spm => (Scheme::Spm(Spm::new(&vocabulary)), true, [false, false]),
            Algorithm::WordPiece => {
                let words = WordPiece::from_metadata(metadata, &vocabulary)?;
                (Scheme::WordPiece(words), true, [true, false])
            }
            Algorithm::Unigram => {
                let unigram = Unigram::from_metadata(metadata, &vocabulary)?;
                (Scheme::Unigram(unigram), false, [false, true])
            }
        };
        let says = |what: &str, otherwise: bool| {
            let key = format!("tokenizer.ggml.add_{what}");
            metadata.bool(&key).unwrap_or(otherwise)
        };
        let separator = vocabulary
            .separator
            .filter(|_| says("sep_token", adds_separator));
        let eos = vocabulary.eos.filter(|_| says("eos_token", adds_eos));
        Ok(Self {
            specials: Specials::of(&vocabulary, metadata),
            begin: vocabulary.bos.filter(|_| says("bos_token", adds_bos)),
            end: separator.or(eos),
            adds_space: says("space_prefix", true) && vocabulary.algorithm == Algorithm::Spm,
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

    /// Ids of a typed text that is read as a whole, with the begin and end pieces that the model was trained to see
    /// around one: what an embedding is made of.
    pub fn encode_document(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::from_iter(self.begin);
        ids.extend(self.encode_typed(text));
        ids.extend(self.end);
        ids
    }

    /// Ids of a template's output, begun with the begin piece where the model wants one. `protected` are byte positions
    /// (ascending) that no special spelling may reach across.
    pub fn encode_rendered(&self, text: &str, protected: &[usize]) -> Vec<u32> {
        let mut ids = self.encode(text, protected, Scope::Template);
        if let Some(begin) = self.begin.filter(|begin| ids.first() != Some(begin)) {
            ids.insert(0, begin);
        }
        ids
    }

    /// Whether the first space of an answer is an artefact of the tokenizer.
    pub(super) fn adds_space(&self) -> bool {
        self.adds_space
    }

    /// The spellings of its commands and of other added pieces.
    pub(super) fn specials(&self) -> &Specials {
        &self.specials
    }

    fn encode(&self, text: &str, protected: &[usize], scope: Scope) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut begun = 0;
        let mut at = 0;
        let mut after_special = true;
        let mut protected = protected.iter().copied().peekable();
        while let Some(next) = self.specials.next_candidate(text, at) {
            at = next;
            while protected.next_if(|&position| position <= at).is_some() {}
            let reach = protected.peek().copied().unwrap_or(usize::MAX);
            match self.specials.find(&text[at..], scope, reach - at) {
                Some(special) => {
                    self.encode_plain(&text[begun..at], after_special, &mut ids);
                    ids.push(special.id);
                    at += special.spelling.len();
                    if special.takes_space {
                        at = text.len() - text[at..].trim_ascii_start().len();
                    }
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
                    spelled.push_str(SPACE);
                }
                spelled.push_str(&text.replace(' ', SPACE));
                spm.encode(&spelled, &self.vocabulary, ids);
            }
            Scheme::WordPiece(words) => words.encode(text, &self.vocabulary, ids),
            Scheme::Unigram(unigram) => unigram.encode(text, &self.vocabulary, ids),
        }
    }
}
