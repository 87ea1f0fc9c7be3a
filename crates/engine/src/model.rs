//! What is known about a model file, with and without its weights.

use serde::{Deserialize, Serialize};

/// `general.architecture` of the files that this engine computes answers with.
pub const ARCHITECTURES: [&str; 6] = ["llama", "qwen2", "qwen3", "qwen3moe", "gemma3", "phi3"];

/// What the header of a file says: enough to tokenize, to render a chat and to judge whether it would fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextInfo {
    /// `general.architecture`, such as `llama` or `qwen2`.
    pub architecture: String,
    /// Whether this engine has code for that architecture and its tokenizer.
    pub runs_here: bool,
    /// It turns texts into vectors, and produces no tokens.
    #[serde(default)]
    pub embeds_only: bool,
    /// `general.name`, or the file's name.
    pub name: String,
    /// Entries of the vocabulary.
    pub vocab_size: u32,
    /// The context it was trained for, in tokens.
    pub context_train: u32,
    /// Whether messages can be rendered (a chat template is there).
    pub has_template: bool,
    /// Ids that end an answer, ascending.
    pub eog_ids: Vec<u32>,
    /// Bytes up to the end of the tensor table (the *head* of the network's definitions).
    pub head_len: u32,
    /// SHA-256 of the head.
    pub head_sha256: [u8; 32],
    /// Number of weights, counted over the tensor table.
    pub parameters: u64,
    /// Commonest storage format by bytes, such as `Q4_1`.
    pub quant: String,
    /// Bytes of key and value cache that one token of context takes in this engine.
    pub kv_bytes_per_token: u64,
    /// Bytes of all tensors.
    pub weights_bytes: u64,
    /// Bytes needed to load it with its smallest sensible context: weights, scratch and one cache page.
    pub load_bytes: u64,
    /// False for a head without weights.
    pub has_weights: bool,
}

/// A loaded model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// What its header says.
    pub text: TextInfo,
    /// Context of this load, in tokens: prompt and output of one sequence together.
    pub context: u32,
    /// Bytes of weights in memory after load.
    pub memory_bytes: u64,
    /// How long the load took, in milliseconds; zero when it was loaded already.
    pub load_ms: u64,
}

/// How fast a model computes on this device, as measured by the worker that would do it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Benchmark {
    /// Build of the engine that measured.
    pub build: String,
    /// The processor, the instruction set that was chosen for it, and the number of threads; or the card.
    pub device: String,
    /// Tokens of a prompt read per second.
    pub prefill_tokens_per_second: f64,
    /// Tokens per second over all sequences, by how many were computed together.
    pub decode: Vec<BatchRate>,
}

/// The speed of some sequences computed together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatchRate {
    /// How many.
    pub sequences: u32,
    /// Tokens per second over all of them.
    pub tokens_per_second: f64,
}

/// How far a load has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadProgress {
    /// Bytes of weights that are in memory.
    pub done: u64,
    /// Bytes of weights in all.
    pub total: u64,
}
