//! What the engine still has of earlier sequences, asked for by hashes: whoever asks need not keep what was computed for whom.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Asker;

/// A beginning of a sequence, known by its hash alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// Tokens in it.
    pub tokens: u32,
    /// `BLAKE3.derive_key(context, ids as u32le)`, by the context of the [request](PrefixRequest).
    pub hash: [u8; 32],
}

/// Asks for the longest beginning that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixRequest {
    /// Whose model.
    pub file: PathBuf,
    /// Who had it computed before: nothing of anybody else's is found.
    pub asker: Asker,
    /// The context string of the hashes.
    pub context: String,
    /// Beginnings of one sequence.
    pub prefixes: Vec<Prefix>,
}

/// The longest of the named beginnings that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPrefix {
    /// Which.
    pub prefix: Prefix,
    /// Tokens at its front that need not be computed again: all of them, or fewer where the window of some layers has moved on.
    pub tokens: u32,
}
