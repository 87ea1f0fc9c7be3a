//! A message: one node of a conversation's tree.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ChatId, MemoryError};

/// Largest text of one message, in bytes. The longest context of a model known today, a million tokens, is about 4 MB of text.
pub const MAX_CONTENT_BYTES: usize = 16 * 1024 * 1024;

/// Name of a message: a UUIDv7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub(crate) Uuid);

impl MessageId {
    /// A name that nothing else has.
    pub fn fresh() -> Self {
        MessageId(Uuid::now_v7())
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MessageId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(MessageId)
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person.
    User,
    /// A model.
    Assistant,
    /// Instructions, or a summary that a chat starts from.
    System,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
        }
    }
}

impl FromStr for Role {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<Self, MemoryError> {
        match text {
            "user" => Ok(Role::User),
            "assistant" => Ok(Role::Assistant),
            "system" => Ok(Role::System),
            other => Err(MemoryError::Unreadable {
                what: "a role",
                value: other.to_owned(),
            }),
        }
    }
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// Text is still being appended. The only state in which a message can change.
    Streaming,
    /// It ended by itself.
    Complete,
    /// The person stopped it.
    Stopped,
    /// The program ended while it streamed.
    Interrupted,
    /// It reached the longest answer allowed.
    Length,
    /// It ended with an error, kept beside it.
    Failed,
}

impl MessageState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            MessageState::Streaming => "streaming",
            MessageState::Complete => "complete",
            MessageState::Stopped => "stopped",
            MessageState::Interrupted => "interrupted",
            MessageState::Length => "length",
            MessageState::Failed => "failed",
        }
    }
}

impl FromStr for MessageState {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<Self, MemoryError> {
        match text {
            "streaming" => Ok(MessageState::Streaming),
            "complete" => Ok(MessageState::Complete),
            "stopped" => Ok(MessageState::Stopped),
            "interrupted" => Ok(MessageState::Interrupted),
            "length" => Ok(MessageState::Length),
            "failed" => Ok(MessageState::Failed),
            other => Err(MemoryError::Unreadable {
                what: "the state of a message",
                value: other.to_owned(),
            }),
        }
    }
}

/// The model that wrote an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUsed {
    /// Its id in the catalogue.
    pub id: String,
    /// Its name as it was shown.
    pub name: String,
    /// SHA-256 of its file in hex, where known.
    pub digest: Option<String>,
}

/// From which output token on an answer was computed where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// Index of the first output token of this span.
    pub from_index: u32,
    /// The peer that computed it; none is this computer.
    pub peer: Option<String>,
    /// Name of the job whose receipt covers it.
    pub receipt: Option<String>,
    /// Why the answer went on here, in one word of whoever wrote it; none for the first span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What was paid for it, in base units; none where it cost nothing. Digits, since a sum does not fit a number of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid: Option<String>,
    /// Tokens of the prompt that were in the peer's cache, as its receipt says; none where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<u64>,
}

/// What was counted and timed while an answer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u32>,
    /// Tokens of the answer.
    pub output_tokens: Option<u32>,
    /// Milliseconds from the question to the first token.
    pub first_token_ms: Option<u32>,
    /// Tokens per second after the first one.
    pub tokens_per_second: Option<f64>,
    /// Milliseconds that the model spent in its reasoning.
    pub reasoning_ms: Option<u32>,
}

/// An error as it was shown: code, sentence, next step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredError {
    /// What a screen chooses by.
    pub code: String,
    /// The sentence.
    pub message: String,
    /// What the person can do.
    pub fix: Option<String>,
}

/// One node of the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// The conversation it belongs to.
    pub chat: ChatId,
    /// The message it follows; none at the root.
    pub parent: Option<MessageId>,
    /// Who speaks.
    pub role: Role,
    /// Its text as it was written or produced, reasoning included.
    pub content: String,
    /// How far it is.
    pub state: MessageState,
    /// The model that wrote it.
    pub model: Option<ModelUsed>,
    /// Where its tokens were computed, by rising `from_index`.
    pub spans: Vec<Span>,
    /// What was counted.
    pub stats: Stats,
    /// Why it failed.
    pub error: Option<StoredError>,
    /// Milliseconds since 1970.
    pub created_ms: u64,
}

/// A message on the chosen branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathMessage {
    /// The message.
    pub message: Message,
    /// All children of its parent, itself included, oldest first.
    pub siblings: Vec<MessageId>,
}

/// A message to insert.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMessage {
    /// The message it follows; none at the root.
    pub parent: Option<MessageId>,
    /// Who speaks.
    pub role: Role,
    /// Its text so far.
    pub content: String,
    /// [`MessageState::Streaming`] where text follows by [`crate::Memory::append`].
    pub state: MessageState,
    /// The model that writes it.
    pub model: Option<ModelUsed>,
    /// Where its tokens are computed.
    pub spans: Vec<Span>,
    /// What was counted, for imports.
    pub stats: Stats,
    /// Why it failed.
    pub error: Option<StoredError>,
    /// When it was written, for imports; none is now.
    pub created_ms: Option<u64>,
}

impl NewMessage {
    /// What the person wrote.
    pub fn user(parent: Option<MessageId>, content: impl Into<String>) -> Self {
        Self::finished(parent, Role::User, content)
    }

    /// An answer that is about to stream below `parent`.
    pub fn answer(parent: MessageId, model: Option<ModelUsed>) -> Self {
        NewMessage {
            state: MessageState::Streaming,
            model,
            ..Self::finished(Some(parent), Role::Assistant, "")
        }
    }

    /// A message that is complete as it is.
    pub fn finished(parent: Option<MessageId>, role: Role, content: impl Into<String>) -> Self {
        NewMessage {
            parent,
            role,
            content: content.into(),
            state: MessageState::Complete,
            model: None,
            spans: Vec::new(),
            stats: Stats::default(),
            error: None,
            created_ms: None,
        }
    }
}

/// How a streaming message ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Any state but [`MessageState::Streaming`].
    pub state: MessageState,
    /// Where its tokens were computed; none keeps what [`crate::Memory::set_spans`] stored.
    pub spans: Option<Vec<Span>>,
    /// The model, where it became known or changed only while streaming.
    pub model: Option<ModelUsed>,
    /// What was counted.
    pub stats: Stats,
    /// Why it failed.
    pub error: Option<StoredError>,
}

impl Outcome {
    /// An end of this kind, with nothing else to say.
    pub fn of(state: MessageState) -> Self {
        Outcome {
            state,
            spans: None,
            model: None,
            stats: Stats::default(),
            error: None,
        }
    }

    /// It ended by itself.
    pub fn complete() -> Self {
        Self::of(MessageState::Complete)
    }
}
