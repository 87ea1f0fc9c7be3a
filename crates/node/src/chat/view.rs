//! What a shell sees of a chat: whole snapshots, and the events of one answer while it comes.

use serde::{Deserialize, Serialize};

use crate::error::ErrorView;

/// Where an answer may be computed: the choice a person makes per chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On this computer, nowhere else.
    #[default]
    Local,
    /// On a peer's computer. Needs the chat's consent.
    Peer,
    /// Here when the model is here and fits, else on a peer's computer when the chat has consented.
    Automatic,
}

/// What happens when the conversation no longer fits the model's context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// Refuse the message with `context_full`, so that the person chooses once.
    #[default]
    Ask,
    /// Leave out the oldest turns and mark where the cut is.
    DropOldest,
}

/// One line of the sidebar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatSummary {
    /// The conversation's id.
    pub id: String,
    /// Made from the first message, or given by the person.
    pub title: String,
    /// Kept on top.
    pub pinned: bool,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Milliseconds since 1970.
    pub updated_ms: u64,
    /// Some answer in it came from a peer's computer.
    pub remote: bool,
    /// An answer is being written right now.
    pub answering: bool,
}

/// Who computed an answer from this output index on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// First output token of the span.
    pub from_index: u32,
    /// The peer; `None` is this computer.
    pub peer: Option<String>,
    /// The job whose receipt covers the span, when the peer signed one.
    pub receipt: Option<String>,
    /// Why the answer left the place before; `None` for the first one.
    pub why: Option<MoveReason>,
    /// What was paid for it, in base units; `None` where it cost nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid: Option<String>,
    /// Tokens of the prompt that were in the peer's cache, and cost less; `None` where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<u64>,
}

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The chat's instructions.
    System,
}

/// How far an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// Being written.
    Streaming,
    /// Whole. The only state that says so.
    Complete,
    /// The person stopped it.
    Stopped,
    /// The program ended, or every peer was lost, while it was written.
    Interrupted,
    /// The limit of tokens was reached.
    Length,
    /// It could not be computed; `error` says why.
    Failed,
}

/// One message of the active branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// UUIDv7.
    pub id: String,
    /// `None` at the root.
    pub parent: Option<String>,
    /// Who wrote it.
    pub role: Role,
    /// The text without the model's reasoning.
    pub content: String,
    /// What the model wrote between its think marks.
    pub reasoning: Option<String>,
    /// How long the reasoning took; known while the program that saw it runs.
    pub reasoning_ms: Option<u64>,
    /// How far it came.
    pub state: MessageState,
    /// Why it failed or broke off.
    pub error: Option<ErrorView>,
    /// Display name of the model.
    pub model: Option<String>,
    /// No row here named the model when it answered: its name is the file's own word, or made of the digest.
    #[serde(default)]
    pub unlisted: bool,
    /// Who computed which part.
    pub spans: Vec<Span>,
    /// Tokens of the rendered prompt.
    pub prompt_tokens: Option<u32>,
    /// Tokens written.
    pub output_tokens: Option<u32>,
    /// Decode speed.
    pub tokens_per_second: Option<f64>,
    /// From sending to the first token.
    pub first_token_ms: Option<u64>,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// All branches at this place, oldest first, this message among them.
    pub siblings: Vec<String>,
    /// Older than the context cut: the model no longer sees it.
    pub left_out: bool,
}

/// How the next token is chosen, and how many there may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// 0 is off.
    pub top_k: u32,
    /// 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub min_p: f32,
    /// 1 is off.
    pub repeat_penalty: f32,
    /// Most tokens an answer may have.
    pub max_out: u32,
    /// A fixed seed as a decimal `u64`; `None` draws one per answer.
    pub seed: Option<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.7,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            max_out: 1024,
            seed: None,
        }
    }
}

/// One open chat, whole: settings and the active branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatView {
    /// The conversation's id.
    pub id: String,
    /// Made from the first message, or given by the person.
    pub title: String,
    /// Kept on top.
    pub pinned: bool,
    /// Never stored.
    pub temporary: bool,
    /// `ModelRow.id`, or `sha256:` and a digest; `None` follows the default model.
    pub model: Option<String>,
    /// What to call a model that no row here names; `None` where one does.
    #[serde(default)]
    pub unlisted: Option<String>,
    /// Where answers may be computed.
    pub place: Place,
    /// The chosen peer; `None` is any.
    pub peer: Option<String>,
    /// The person agreed that a stranger's computer reads this chat.
    pub consented: bool,
    /// `None` follows the model's own.
    pub system_prompt: Option<String>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What happens when the context is full.
    pub on_full: OnFull,
    /// The active branch, root first.
    pub messages: Vec<Message>,
    /// Tokens of the last prompt and its answer; 0 before the first answer.
    pub context_used: u32,
    /// The model's context; 0 while it is not known.
    pub context_limit: u32,
}

/// What to change of a chat: absent fields stay as they are.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChatPatch {
    /// Outer `None`: unchanged. Inner `None`: follow the default model.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub model: Option<Option<String>>,
    /// Where answers may be computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Inner `None`: any peer.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub peer: Option<Option<String>>,
    /// The person's consent for this chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consented: Option<bool>,
    /// Inner `None`: the model's own.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub system_prompt: Option<Option<String>>,
    /// How tokens are chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// What happens when the context is full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_full: Option<OnFull>,
}

/// A field that stands in the text is `Some`, also when it is `null`: so "set to nothing" differs from "leave".
fn present<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

/// What an answer waits for before its first token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A peer is being reached.
    Connecting,
    /// The work waits its turn; `done` is its place in the peer's line, from 1 on, and 0 where there is none.
    Queued,
    /// Weights are being read; `done` and `total` are bytes.
    Loading,
    /// The prompt is being read; `done` and `total` are tokens.
    Prefill,
}

/// Why an answer went on at another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveReason {
    /// The peer's connection was cut.
    Gone,
    /// The peer fell silent, or stood still.
    Silent,
    /// The peer's owner began to use the model.
    OwnWork,
    /// The peer's node was switched off.
    Off,
    /// The peer could not go on.
    Failed,
    /// What the peer sent was a lie that was found out.
    Dishonest,
    /// This computer slept, or changed its network.
    Network,
}

impl MoveReason {
    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Silent => "silent",
            Self::OwnWork => "own_work",
            Self::Off => "off",
            Self::Failed => "failed",
            Self::Dishonest => "dishonest",
            Self::Network => "network",
        }
    }

    /// Reads what [`MoveReason::as_str`] gave; `None` for a word of another version.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Gone,
            Self::Silent,
            Self::OwnWork,
            Self::Off,
            Self::Failed,
            Self::Dishonest,
            Self::Network,
        ];
        all.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// What happens during one answer, in order. `Started` is first, `Finished` last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "the large ones come twice per answer, and a shell takes them apart"
)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum AnswerEvent {
    /// The messages exist.
    Started {
        /// The conversation.
        chat: String,
        /// The new message of the person; `None` when an answer is made again.
        user: Option<Message>,
        /// The answer, still empty.
        answer: Message,
    },
    /// Progress before the next token.
    Phase {
        /// Which wait it is.
        phase: Phase,
        /// In the phase's unit.
        done: u64,
        /// 0 where it is not known.
        total: u64,
        /// The peer that works on it; `None` is this computer.
        peer: Option<String>,
    },
    /// More text.
    Text {
        /// What to append.
        append: String,
        /// It belongs to the reasoning.
        reasoning: bool,
        /// Output tokens so far.
        tokens: u32,
    },
    /// Where the tokens from here on are computed: told before the first of them, and again when the answer goes on
    /// elsewhere, at the same token.
    Placed {
        /// `None` is this computer.
        peer: Option<String>,
        /// The first token that this place computes.
        index: u32,
        /// Why not at the place before any more; `None` for the first one.
        why: Option<MoveReason>,
    },
    /// The chat got its title.
    Titled {
        /// The title.
        title: String,
    },
    /// The end, whatever it was: `message.state` says.
    Finished {
        /// The answer as it is stored.
        message: Message,
        /// As in [`ChatView::context_used`].
        context_used: u32,
        /// As in [`ChatView::context_limit`].
        context_limit: u32,
    },
}

/// How full the context is with a draft in the composer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextUse {
    /// Tokens of the prompt as it would be sent.
    pub used: u32,
    /// The model's context; 0 while it is not known.
    pub limit: u32,
}

/// One found place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchHit {
    /// The conversation.
    pub chat: String,
    /// Its title.
    pub title: String,
    /// The message; `None` when the title matched.
    pub message: Option<String>,
    /// Text around the match, which stands between U+0001 and U+0002.
    pub snippet: String,
}

/// A form a chat can be taken away in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// The active branch, for reading.
    Markdown,
    /// Every branch, for a program.
    Json,
}
