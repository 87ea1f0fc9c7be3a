//! Messages to token ids and back, with nothing but a file's header: tokenizer, chat template, detokenizer.

mod bpe;
mod detokenizer;
mod pretokenizer;
mod specials;
mod spm;
mod template;
mod tokenizer;
mod typed;
mod unigram;
mod vocabulary;
mod wordpiece;

use std::path::Path;
use std::sync::Arc;

pub use detokenizer::Detokenizer;
pub(crate) use detokenizer::push_bytes;
pub use template::Template;
pub use tokenizer::Tokenizer;
pub use vocabulary::{PieceKind, Vocabulary};

use crate::families::bert::{self, EncoderShape};
use crate::families::{Shape, ShapeProblem};
use crate::file::{Metadata, ModelFile, TensorKind};
use crate::{ChatPrompt, EngineError, TextInfo};

/// The text side of a model file.
#[derive(Debug)]
pub struct TextModel {
    info: TextInfo,
    tokenizer: Tokenizer,
    template: Option<Template>,
}

impl TextModel {
    /// Opens a GGUF file, or the head of one.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        Self::of(&ModelFile::open(path)?)
    }

    /// That of an open file.
    pub(crate) fn of(file: &ModelFile) -> Result<Self, EngineError> {
        let tokenizer = Tokenizer::from_metadata(&file.header().metadata)
            .map_err(|problem| problem.of(file))?;
        Ok(Self {
            info: text_info(file, tokenizer.vocabulary())?,
            template: Template::from_metadata(&file.header().metadata, tokenizer.vocabulary())?,
            tokenizer,
        })
    }

    /// What the header says.
    pub fn info(&self) -> &TextInfo {
        &self.info
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Turns a chat into the ids after which the model's message begins.
    pub fn render(&self, prompt: &ChatPrompt, path: &Path) -> Result<Vec<u32>, EngineError> {
        self.produces()?;
        let template = self
            .template
            .as_ref()
            .ok_or_else(|| EngineError::NoTemplate {
                file: path.to_owned(),
            })?;
        let marked = typed::mark(prompt, &self.tokenizer)?;
        let rendered = template.render(&marked.prompt)?;
        let (text, protected) = marked.restore(&rendered);
        Ok(self.tokenizer.encode_rendered(&text, &protected))
    }

    /// Refuses what produces or judges tokens, for a model that only embeds.
    pub fn produces(&self) -> Result<(), EngineError> {
        if self.info.embeds_only {
            return Err(EngineError::OnlyEmbeds {
                model: self.info.name.clone(),
            });
        }
        Ok(())
    }

    /// A detokenizer that ends at any of `stop`.
    pub fn detokenizer(self: &Arc<Self>, stop: Vec<String>) -> Detokenizer {
        Detokenizer::new(self.clone(), stop)
    }
}

/// What a tokenizer's metadata can get wrong, before it is known whose file it was.
#[derive(Debug)]
pub enum TextProblem {
    /// Damaged or contradictory.
    Bad(crate::FileProblem),
    /// A kind of tokenizer that is not built here.
    Unsupported {
        /// The metadata key.
        what: String,
        /// Its value.
        value: String,
    },
}

impl TextProblem {
    /// The error for a file.
    pub fn of(self, file: &ModelFile) -> EngineError {
        match self {
            TextProblem::Bad(problem) => file.bad(problem),
            TextProblem::Unsupported { what, value } => {
                EngineError::UnsupportedFeature { what, value }
            }
        }
    }
}

fn text_info(file: &ModelFile, vocabulary: &Vocabulary) -> Result<TextInfo, EngineError> {
    let header = file.header();
    let metadata = &header.metadata;
    let architecture = architecture(metadata).map_err(|problem| file.bad(problem))?;
    let embeds_only = architecture == bert::ARCHITECTURE;
    let sizes = match embeds_only {
        true => of_encoder(file)?,
        false => of_decoder(file, &architecture)?,
    };
    let runs_here = sizes.runs_here
        && header
            .tensors
            .iter()
            .all(|tensor| crate::families::computes(tensor.kind));
    let weights_bytes = header
        .tensors
        .iter()
        .filter_map(|tensor| tensor.bytes())
        .sum();
    Ok(TextInfo {
        architecture,
        runs_here,
        embeds_only,
        name: file.name(),
        vocab_size: vocabulary.len(),
        context_train: sizes.context_train,
        has_template: metadata.text("tokenizer.chat_template").is_some(),
        eog_ids: vocabulary.eog_ids().to_vec(),
        head_len: header.head_len,
        head_sha256: file.head_sha256(),
        parameters: header.tensors.iter().map(|tensor| tensor.elements()).sum(),
        quant: commonest_kind(header).to_string(),
        kv_bytes_per_token: sizes.kv_bytes_per_token,
        weights_bytes,
        load_bytes: sizes.load_bytes,
        has_weights: file.has_weights(),
    })
}

/// What a shape says of a model's size.
struct Sizes {
    runs_here: bool,
    context_train: u32,
    kv_bytes_per_token: u64,
    /// Bytes of weights in memory and of scratch.
    load_bytes: u64,
}

fn of_decoder(file: &ModelFile, architecture: &str) -> Result<Sizes, EngineError> {
    let metadata = &file.header().metadata;
    let resident = crate::families::resident_bytes(file.header());
    match Shape::from_metadata(metadata, &file.name()) {
        Ok(shape) => Ok(Sizes {
            runs_here: true,
            context_train: shape.context_train,
            kv_bytes_per_token: shape.kv_bytes_per_token(),
            load_bytes: resident.saturating_add(shape.scratch_bytes()),
        }),
        Err(ShapeProblem::Bad(problem)) => Err(file.bad(problem)),
        Err(ShapeProblem::Unsupported(_)) => Ok(Sizes {
            runs_here: false,
            context_train: metadata
                .u32(&format!("{architecture}.context_length"))
                .unwrap_or(0),
            kv_bytes_per_token: 0,
            load_bytes: resident,
        }),
    }
}

fn of_encoder(file: &ModelFile) -> Result<Sizes, EngineError> {
    let resident = EncoderShape::resident_bytes(file);
    let (runs_here, context_train, scratch) = match EncoderShape::of(file) {
        Ok(shape) => (true, shape.context as u32, shape.scratch_bytes()),
        Err(EngineError::UnsupportedFeature { .. }) => (false, 0, 0),
        Err(error) => return Err(error),
    };
    Ok(Sizes {
        runs_here,
        context_train,
        kv_bytes_per_token: 0,
        load_bytes: resident.saturating_add(scratch),
    })
}

/// `general.architecture`, which every file must carry.
pub fn architecture(metadata: &Metadata) -> Result<String, crate::FileProblem> {
    let key = "general.architecture";
    let name = metadata
        .text(key)
        .ok_or_else(|| crate::FileProblem::MissingKey {
            key: key.to_owned(),
        })?;
    Ok(name.chars().take(64).collect())
}

fn commonest_kind(header: &crate::file::Header) -> TensorKind {
    let mut bytes = std::collections::BTreeMap::new();
    for tensor in &header.tensors {
        // The embedding of a small model outweighs its layers; what people call its quantisation is the layers'.
        if tensor.name.starts_with("blk.") {
            *bytes.entry(tensor.kind.number()).or_insert(0u64) += tensor.bytes().unwrap_or(0);
        }
    }
    let most = bytes.into_iter().max_by_key(|&(_, bytes)| bytes);
    TensorKind::from_number(most.map_or(0, |(kind, _)| kind))
}
