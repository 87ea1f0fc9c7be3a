//! Texts as vectors.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Asker, Class, check_asker};
use crate::EngineError;

/// Texts of one call: their vectors fill half a frame at the widest model there is.
pub const MAX_EMBED_TEXTS: usize = 64;

/// Bytes of all texts of a call together: some hundred pages.
pub const MAX_EMBED_BYTES: usize = 1 << 20;

/// Texts to turn into vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedRequest {
    /// The model file; loaded when it is not yet.
    pub file: PathBuf,
    /// The texts; each must fit into the model's context.
    pub texts: Vec<String>,
    /// Whose work it is.
    pub class: Class,
    /// Who asks.
    pub asker: Asker,
}

impl EmbedRequest {
    /// Texts of the owner's.
    pub fn new(file: impl AsRef<Path>, texts: Vec<String>) -> Self {
        Self {
            file: file.as_ref().to_owned(),
            texts,
            class: Class::Own,
            asker: Asker::Owner,
        }
    }

    /// Refuses what no model could embed.
    pub fn check(&self) -> Result<(), EngineError> {
        let bytes: usize = self.texts.iter().map(String::len).sum();
        let bad = |what: String| Err(EngineError::BadRequest { what });
        if self.texts.is_empty() || self.texts.len() > MAX_EMBED_TEXTS {
            return bad(format!(
                "{} texts: 1 to {MAX_EMBED_TEXTS}",
                self.texts.len()
            ));
        }
        if bytes > MAX_EMBED_BYTES {
            return bad(format!(
                "{bytes} bytes of texts, more than {MAX_EMBED_BYTES}"
            ));
        }
        check_asker(self.class, &self.asker, 1)
    }
}

/// The vectors of texts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Embeddings {
    /// One per text, in their order, each as wide as the model and of length one.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts together.
    pub tokens: u32,
}
