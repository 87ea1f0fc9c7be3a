//! Prompt in, tokens out: one machine's share of the work.
//!
//! The crate has two halves. The **handle** half, always compiled, is what an app links: [`EngineHandle`] starts a
//! worker process at the first call, speaks length-capped frames with it ([`wire`]), and turns its death into one failed
//! answer. The **worker** half (feature `worker`) is the child process `decentralgpt-worker`: it alone parses model
//! files, renders templates, computes and samples. Feature `text` is the part of it that needs no tensors: file headers,
//! tokenizer, chat template, detokenizer.
//!
//! It owns the GGUF reader, the tokenizer, the kernels and the sampler of this program, and candle in its workers for
//! graphics cards. It never opens a socket, holds no
//! key and knows nothing of peers, prices or conversations: token ids and text are all that passes.
//!
//! ```no_run
//! # async fn example() -> Result<(), engine::EngineError> {
//! use engine::{ChatPrompt, EngineHandle, EngineOptions, GenerateEvent, GenerateRequest};
//!
//! let engine = EngineHandle::new(EngineOptions::default());
//! let file = std::path::Path::new("models/starter.gguf");
//! let prompt = engine.render(file, &ChatPrompt::ask("What is the capital of France?")).await?;
//! let mut answer = engine.generate(GenerateRequest::new(file, prompt)).await?;
//! while let Some(event) = answer.next().await {
//!     if let GenerateEvent::Tokens { text, .. } = event? {
//!         // shown as it comes
//!         drop(text);
//!     }
//! }
//! # Ok(()) }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod adapters;
#[cfg(feature = "worker")]
pub mod backend;
mod build;
#[cfg(feature = "worker")]
pub mod cache;
#[cfg(feature = "candle")]
mod card;
#[cfg(feature = "worker")]
pub mod decoder;
#[cfg(feature = "worker")]
pub mod encoder;
mod error;
#[cfg(feature = "text")]
pub mod families;
#[cfg(feature = "text")]
pub mod file;
#[cfg(feature = "text")]
pub mod grammar;
mod greeting;
mod handle;
#[cfg(feature = "worker")]
mod kernels;
#[cfg(feature = "worker")]
mod memory;
mod model;
#[cfg(feature = "worker")]
mod parallel;
#[cfg(feature = "text")]
mod pooling;
mod request;
#[cfg(feature = "text")]
pub mod sampler;
#[cfg(feature = "worker")]
mod sandbox;
#[cfg(feature = "worker")]
pub mod scheduler;
#[cfg(feature = "worker")]
mod table;
#[cfg(feature = "text")]
pub mod text;
pub mod wire;
#[cfg(feature = "worker")]
pub mod worker;

pub use build::BUILD;
pub use error::{ConstraintProblem, EngineError, FileProblem};
pub use greeting::Greeting;
#[cfg(feature = "worker")]
pub use greeting::greet;
pub use handle::{
    CardMeter, EngineHandle, EngineOptions, EnginePhase, EngineStats, Generation, Isolation,
    Loading, ProbedWorker, TextPiece, TextStream, WorkerKind, WorkerProgram, locate_worker,
    physical_cores, processor,
};
pub use model::{ARCHITECTURES, BatchRate, Benchmark, LoadProgress, ModelInfo, TextInfo};
pub use request::{
    Asker, ChatMessage, ChatPrompt, Class, Constraint, EmbedRequest, Embeddings, Finish,
    GenerateEvent, GenerateRequest, GenerateStats, KnownPrefix, MAX_ASKER_BYTES,
    MAX_CONSTRAINT_BYTES, MAX_EMBED_BYTES, MAX_EMBED_TEXTS, MAX_LOGIT_BIAS, MAX_LOGPROBS, MAX_STOP,
    MAX_STOP_BYTES, MAX_WEIGHT, Prefix, PrefixRequest, Role, Sampling, ScoreRequest, Sharing,
    TokenLogprobs, TokenScore, ToolCall,
};
