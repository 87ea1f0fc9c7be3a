//! A conversation: its name, its settings, and which of its branches is chosen.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{MessageId, PathMessage};

/// Longest title, in characters; a longer one is cut. A title is one line of a sidebar.
pub const MAX_TITLE_CHARS: usize = 200;

/// Name of a conversation: a UUIDv7, so that names sort by time of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChatId(pub(crate) Uuid);

impl ChatId {
    /// A name that nothing else has.
    pub fn fresh() -> Self {
        ChatId(Uuid::now_v7())
    }

    /// The name as 16 bytes, for what is kept beside the chats.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl fmt::Display for ChatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ChatId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(ChatId)
    }
}

/// Where the answers of a chat are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On this computer.
    #[default]
    Local,
    /// On a peer's computer.
    Peer,
    /// Wherever it goes best; to a peer only after this chat's consent.
    Automatic,
}

/// What happens when the context of the model is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// The person is asked.
    #[default]
    Ask,
    /// The oldest turns are left out of the prompt, with a mark where the cut is.
    DropOldest,
}

/// How tokens are drawn. `temperature` zero is greedy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sampling {
    /// Divides the logits; zero takes the likeliest token.
    pub temperature: f32,
    /// Keep this many likeliest tokens; zero keeps all.
    pub top_k: u32,
    /// Keep the likeliest tokens that together have this probability; one keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this share of the likeliest; zero drops none.
    pub min_p: f32,
    /// Divides the logits of tokens already seen; one changes nothing.
    pub repeat_penalty: f32,
    /// Longest answer, in tokens.
    pub max_out: u32,
    /// Seed as decimal text (64 bits do not fit a JavaScript number); none draws a new one each time.
    pub seed: Option<String>,
}

/// What is set for one chat. Fields missing in an older row take their defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChatSettings {
    /// Model by catalogue id; none is the default model.
    pub model: Option<String>,
    /// Where answers are computed.
    pub place: Place,
    /// Chosen peer; none is any.
    pub peer: Option<String>,
    /// The person agreed that a stranger's computer reads this chat.
    pub consented: bool,
    /// System prompt; none is the model's own.
    pub system_prompt: Option<String>,
    /// Sampling; none is the program's default.
    pub sampling: Option<Sampling>,
    /// What to do when the context is full.
    pub on_full: OnFull,
}

/// A conversation without its messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// Its name.
    pub id: ChatId,
    /// Title; empty until somebody gives one.
    pub title: String,
    /// Kept at the top of the list.
    pub pinned: bool,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Milliseconds since 1970 of the last message.
    pub updated_ms: u64,
    /// End of the chosen branch; none in an empty chat.
    pub leaf: Option<MessageId>,
    /// What is set for it.
    pub settings: ChatSettings,
}

/// A conversation as a list shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatSummary {
    /// The conversation.
    pub chat: Chat,
    /// Some answer came from a peer.
    pub remote: bool,
    /// Some answer is still streaming.
    pub answering: bool,
    /// Messages in all branches.
    pub messages: u32,
}

/// A conversation with its chosen branch, root first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenChat {
    /// The conversation.
    pub chat: Chat,
    /// Some answer, in any branch, came from a peer.
    pub remote: bool,
    /// The chosen branch from root to leaf, each message with its siblings.
    pub path: Vec<PathMessage>,
}
