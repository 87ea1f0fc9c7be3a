//! Chats, their messages, and what happens while an answer is made.

use serde::{Deserialize, Serialize};
use specta::Type;

use super::{ErrorView, maybe, number};

/// Where the answers of a chat may be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    Local,
    Peer,
    Automatic,
}

/// One line of the sidebar.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatSummary {
    pub id: String,
    pub title: String,
    pub pinned: bool,
    pub created_ms: f64,
    pub updated_ms: f64,
    /// Some answer in it came from a peer's computer.
    pub remote: bool,
    /// An answer is being made now.
    pub answering: bool,
}

/// Who computed an answer from token `from_index` on.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Span {
    pub from_index: u32,
    /// Null is this computer.
    pub peer: Option<String>,
    pub receipt: Option<String>,
    /// Why the answer left the place before; null for the first span.
    pub why: Option<MoveReason>,
    /// What was paid for it, in base units; null where it cost nothing.
    #[specta(optional, type = Option<String>)]
    pub paid: Option<String>,
    /// Tokens of the question that were in the peer's cache; null where there were none.
    #[specta(optional, type = Option<f64>)]
    pub cached: Option<f64>,
}

/// Why an answer went on at another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MoveReason {
    Gone,
    Silent,
    OwnWork,
    Off,
    Failed,
    Dishonest,
    Network,
}

/// How far a message got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MessageState {
    Streaming,
    Complete,
    Stopped,
    Interrupted,
    Length,
    Failed,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    User,
    Assistant,
    System,
}

/// One message of the active path.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    pub id: String,
    pub parent: Option<String>,
    pub role: Role,
    /// The text without the model's reasoning.
    pub content: String,
    pub reasoning: Option<String>,
    pub reasoning_ms: Option<f64>,
    pub state: MessageState,
    pub error: Option<ErrorView>,
    pub(crate) model: Option<String>,
    /// No row named the model when it answered.
    pub unlisted: bool,
    pub spans: Vec<Span>,
    pub prompt_tokens: Option<u32>,
    pub output_tokens: Option<u32>,
    pub tokens_per_second: Option<f64>,
    pub first_token_ms: Option<f64>,
    pub created_ms: f64,
    /// All messages with the same parent, its own id among them, oldest first.
    pub siblings: Vec<String>,
    /// Older than the cut: the model no longer reads it.
    pub left_out: bool,
}

/// How the next token is chosen.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sampling {
    pub temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    pub repeat_penalty: f32,
    pub max_out: u32,
    /// A 64-bit number in decimal; null draws one for each answer.
    pub seed: Option<String>,
}

/// What a full context means for this chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnFull {
    Ask,
    DropOldest,
}

/// A chat with the messages of its active path, root first.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatView {
    pub id: String,
    pub title: String,
    pub pinned: bool,
    /// Never stored.
    pub temporary: bool,
    pub(crate) model: Option<String>,
    /// What to call a model that no row names; null where one does.
    pub unlisted: Option<String>,
    pub place: Place,
    /// The chosen peer; null is any.
    pub peer: Option<String>,
    /// The person said yes to sending this chat to a stranger's computer.
    pub consented: bool,
    pub system_prompt: Option<String>,
    pub sampling: Sampling,
    pub on_full: OnFull,
    pub messages: Vec<Message>,
    pub context_used: u32,
    pub context_limit: u32,
}

/// What to change about a chat: an absent field stays, null clears.
#[derive(Debug, Clone, Default, Deserialize, Type)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ChatPatch {
    #[serde(deserialize_with = "present")]
    #[specta(optional, type = Option<String>)]
    pub(crate) model: Option<Option<String>>,
    #[specta(optional, type = Place)]
    pub place: Option<Place>,
    #[serde(deserialize_with = "present")]
    #[specta(optional, type = Option<String>)]
    pub peer: Option<Option<String>>,
    #[specta(optional, type = bool)]
    pub consented: Option<bool>,
    #[serde(deserialize_with = "present")]
    #[specta(optional, type = Option<String>)]
    pub system_prompt: Option<Option<String>>,
    #[specta(optional, type = Sampling)]
    pub sampling: Option<Sampling>,
    #[specta(optional, type = OnFull)]
    pub on_full: Option<OnFull>,
}

/// Serde folds null and absent into one `None`: here a field that is present, even as null, is `Some`.
fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    field: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// What an answer is waiting for before its first token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    Connecting,
    Queued,
    Loading,
    Prefill,
}

/// What happens while an answer is made, in order, on the call's own channel.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time on its way to the page; a box would only move the bytes"
)]
#[derive(Debug, Clone, Serialize, Type)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub(crate) enum AnswerEvent {
    Started {
        chat: String,
        user: Option<Message>,
        answer: Box<Message>,
    },
    Phase {
        phase: Phase,
        done: f64,
        total: f64,
        peer: Option<String>,
    },
    /// `tokens` counts the whole answer so far.
    Text {
        append: String,
        reasoning: bool,
        tokens: u32,
    },
    /// Told before the first token that this place computes; no peer is this computer.
    Placed {
        peer: Option<String>,
        index: u32,
        /// Why no longer at the place before; null for the first.
        why: Option<MoveReason>,
    },
    Titled {
        title: String,
    },
    Finished {
        message: Box<Message>,
        context_used: u32,
        context_limit: u32,
    },
}

/// How much of the context a chat and a draft fill, in tokens.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContextUse {
    pub(crate) used: u32,
    pub limit: u32,
}

/// The form of an exported chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExportFormat {
    Markdown,
    Json,
}

/// A place where a search matched.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SearchHit {
    pub chat: String,
    pub title: String,
    /// Null when the title matched.
    pub message: Option<String>,
    /// Text around the match, each match between U+0001 and U+0002.
    pub snippet: String,
}

same_variants!(from node::Place { Local, Peer, Automatic });
same_variants!(into node::Place { Local, Peer, Automatic });
same_variants!(from node::OnFull { Ask, DropOldest });
same_variants!(into node::OnFull { Ask, DropOldest });
same_variants!(into node::ExportFormat { Markdown, Json });
same_variants!(from node::Role { User, Assistant, System });
same_variants!(from node::MessageState { Streaming, Complete, Stopped, Interrupted, Length, Failed });
same_variants!(from node::Phase { Connecting, Queued, Loading, Prefill });

impl From<node::ChatSummary> for ChatSummary {
    fn from(chat: node::ChatSummary) -> Self {
        Self {
            id: chat.id,
            title: chat.title,
            pinned: chat.pinned,
            created_ms: number(chat.created_ms),
            updated_ms: number(chat.updated_ms),
            remote: chat.remote,
            answering: chat.answering,
        }
    }
}

impl From<node::MoveReason> for MoveReason {
    fn from(reason: node::MoveReason) -> Self {
        match reason {
            node::MoveReason::Gone => Self::Gone,
            node::MoveReason::Silent => Self::Silent,
            node::MoveReason::OwnWork => Self::OwnWork,
            node::MoveReason::Off => Self::Off,
            node::MoveReason::Failed => Self::Failed,
            node::MoveReason::Dishonest => Self::Dishonest,
            node::MoveReason::Network => Self::Network,
        }
    }
}

impl From<node::Span> for Span {
    fn from(span: node::Span) -> Self {
        Self {
            from_index: span.from_index,
            peer: span.peer,
            receipt: span.receipt,
            why: span.why.map(Into::into),
            paid: span.paid,
            cached: span.cached.map(number),
        }
    }
}

impl From<node::Message> for Message {
    fn from(message: node::Message) -> Self {
        Self {
            id: message.id,
            parent: message.parent,
            role: message.role.into(),
            content: message.content,
            reasoning: message.reasoning,
            reasoning_ms: maybe(message.reasoning_ms),
            state: message.state.into(),
            error: message.error.map(Into::into),
            model: message.model,
            unlisted: message.unlisted,
            spans: message.spans.into_iter().map(Into::into).collect(),
            prompt_tokens: message.prompt_tokens,
            output_tokens: message.output_tokens,
            tokens_per_second: message.tokens_per_second,
            first_token_ms: maybe(message.first_token_ms),
            created_ms: number(message.created_ms),
            siblings: message.siblings,
            left_out: message.left_out,
        }
    }
}

impl From<node::Sampling> for Sampling {
    fn from(sampling: node::Sampling) -> Self {
        Self {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            max_out: sampling.max_out,
            seed: sampling.seed,
        }
    }
}

impl From<Sampling> for node::Sampling {
    fn from(sampling: Sampling) -> Self {
        Self {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            max_out: sampling.max_out,
            seed: sampling.seed,
        }
    }
}

impl From<node::ChatView> for ChatView {
    fn from(chat: node::ChatView) -> Self {
        Self {
            id: chat.id,
            title: chat.title,
            pinned: chat.pinned,
            temporary: chat.temporary,
            model: chat.model,
            unlisted: chat.unlisted,
            place: chat.place.into(),
            peer: chat.peer,
            consented: chat.consented,
            system_prompt: chat.system_prompt,
            sampling: chat.sampling.into(),
            on_full: chat.on_full.into(),
            messages: chat.messages.into_iter().map(Into::into).collect(),
            context_used: chat.context_used,
            context_limit: chat.context_limit,
        }
    }
}

impl From<ChatPatch> for node::ChatPatch {
    fn from(patch: ChatPatch) -> Self {
        Self {
            model: patch.model,
            place: patch.place.map(Into::into),
            peer: patch.peer,
            consented: patch.consented,
            system_prompt: patch.system_prompt,
            sampling: patch.sampling.map(Into::into),
            on_full: patch.on_full.map(Into::into),
        }
    }
}

impl From<node::AnswerEvent> for AnswerEvent {
    fn from(event: node::AnswerEvent) -> Self {
        match event {
            node::AnswerEvent::Started { chat, user, answer } => Self::Started {
                chat,
                user: user.map(Into::into),
                answer: Box::new(answer.into()),
            },
            node::AnswerEvent::Phase {
                phase,
                done,
                total,
                peer,
            } => Self::Phase {
                phase: phase.into(),
                done: number(done),
                total: number(total),
                peer,
            },
            node::AnswerEvent::Text {
                append,
                reasoning,
                tokens,
            } => Self::Text {
                append,
                reasoning,
                tokens,
            },
            node::AnswerEvent::Placed { peer, index, why } => Self::Placed {
                peer,
                index,
                why: why.map(Into::into),
            },
            node::AnswerEvent::Titled { title } => Self::Titled { title },
            node::AnswerEvent::Finished {
                message,
                context_used,
                context_limit,
            } => Self::Finished {
                message: Box::new(message.into()),
                context_used,
                context_limit,
            },
        }
    }
}

impl From<node::ContextUse> for ContextUse {
    fn from(context: node::ContextUse) -> Self {
        Self {
            used: context.used,
            limit: context.limit,
        }
    }
}

impl From<node::SearchHit> for SearchHit {
    fn from(hit: node::SearchHit) -> Self {
        Self {
            chat: hit.chat,
            title: hit.title,
            message: hit.message,
            snippet: hit.snippet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_field_stays_and_null_clears() {
        let patch: ChatPatch =
            serde_json::from_str(r#"{"model":null,"systemPrompt":"Be brief.","consented":true}"#)
                .unwrap();
        assert_eq!(patch.model, Some(None));
        assert_eq!(patch.system_prompt, Some(Some("Be brief.".to_owned())));
        assert_eq!(patch.consented, Some(true));
        assert_eq!((patch.peer, patch.place, patch.on_full), (None, None, None));
    }
}
