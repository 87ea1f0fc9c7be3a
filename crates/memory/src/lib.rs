//! The user's conversations, kept as trees of messages in one SQLite file.
//!
//! What it is: [`Memory`] is a handle that may be cloned. The connection behind it is owned by one thread; every method sends that
//! thread one piece of work over a bounded channel and waits for its answer.
//!
//! What it owns: the schema and its numbered migrations ([`SCHEMA_VERSION`]), the full-text index, autosave of answers that are still
//! streaming, recovery after a crash, and the final removal of deleted chats.
//!
//! What it never does: it knows no engine, no peer and no prompt. Names of models, places and peers are text to it, handed in by
//! `node`. It never changes a message that is finished: an edit, a second answer and an import are all [`Memory::insert`] at another
//! parent, so nothing that a person wrote or read can be overwritten.
//!
//! ```no_run
//! # async fn demo() -> Result<(), memory::MemoryError> {
//! use memory::{ChatSettings, Memory, NewMessage, Outcome};
//! let memory = Memory::open("memory.db").await?;
//! let chat = memory.create_chat("", ChatSettings::default()).await?;
//! let asked = memory.insert(chat.id, NewMessage::user(None, "What is the capital of France?")).await?;
//! let answer = memory.insert(chat.id, NewMessage::answer(asked.id, None)).await?;
//! memory.append(answer.id, "The capital of France", &[]).await?;
//! memory.append(answer.id, " is Paris.", &[]).await?;
//! memory.finish(answer.id, Outcome::complete()).await?;
//! # Ok(()) }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
#![warn(missing_docs)]

mod autosave;
mod chat;
mod connection;
mod error;
mod handle;
mod message;
mod schema;
mod search;
mod store;
#[cfg(test)]
mod tests;
mod tree;

pub use autosave::{AUTOSAVE_EVERY, Autosave, MAX_PENDING_BYTES};
pub use chat::{
    Chat, ChatId, ChatSettings, ChatSummary, MAX_TITLE_CHARS, OnFull, OpenChat, Place, Sampling,
};
pub use error::MemoryError;
pub use handle::{Memory, QUEUE};
pub use message::{
    MAX_CONTENT_BYTES, Message, MessageId, MessageState, ModelUsed, NewMessage, Outcome,
    PathMessage, Role, Span, Stats, StoredError,
};
pub use schema::SCHEMA_VERSION;
pub use search::{MARK_END, MARK_START, MAX_HITS, SearchHit};
pub use store::UNDO_WINDOW;
