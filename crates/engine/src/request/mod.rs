//! What is asked of the engine, and what it answers: plain data that crosses the worker's pipe.

mod class;
mod embed;
mod prefix;
mod score;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::EngineError;
pub(crate) use class::check_asker;
pub use class::{Asker, Class, MAX_ASKER_BYTES, MAX_WEIGHT, Sharing};
pub use embed::{EmbedRequest, Embeddings, MAX_EMBED_BYTES, MAX_EMBED_TEXTS};
pub use prefix::{KnownPrefix, Prefix, PrefixRequest};
pub use score::{ScoreRequest, TokenScore};

/// Stop strings in one request: a dialogue has a few, more is a mistake or an attack on the detokenizer.
pub const MAX_STOP: usize = 16;

/// Length of one stop string in bytes: as much text is held back while it could still appear.
pub const MAX_STOP_BYTES: usize = 256;

/// Entries of a logit bias: what the OpenAI interface takes is of this order, and each is looked at for every token.
pub const MAX_LOGIT_BIAS: usize = 1024;

/// Most alternatives told per token: more is a dump of the vocabulary.
pub const MAX_LOGPROBS: u32 = 20;

/// Length of a constraint in bytes: schemas in use have some kilobytes, and compiling one costs time.
pub const MAX_CONSTRAINT_BYTES: usize = 64 << 10;

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the model.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// What a tool answered.
    Tool,
}

impl Role {
    /// The word that chat templates know it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// One message of a chat. All of it is text and nothing but text: the spelling of a control token in it stays text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// What the model thought before it said that, for templates that show it.
    #[serde(default)]
    pub reasoning: Option<String>,
    /// Calls that the model made.
    #[serde(default)]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool answers.
    #[serde(default)]
    pub tool_call_id: Option<String>,
    /// The tool that answers, or who among several speaks.
    #[serde(default)]
    pub name: Option<String>,
}

impl ChatMessage {
    /// A message of words alone.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            reasoning: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
        }
    }
}

/// A function that the model wants called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// What the answer refers to.
    pub id: Option<String>,
    /// The function.
    pub name: String,
    /// Its arguments: a JSON object, as text, which keeps the order of its keys.
    pub arguments: String,
}

/// A chat that waits for the model's next message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatPrompt {
    /// Instructions before everything else. `None` leaves it to the template, which may bring its own.
    pub system: Option<String>,
    /// The messages, oldest first.
    pub messages: Vec<ChatMessage>,
    /// Tools that the model may call: JSON objects of the form `{"type": "function", "function": {…}}`, as texts, which
    /// keep the order of their keys.
    #[serde(default)]
    pub tools: Vec<String>,
    /// Whether the model is to think first, where its template lets one choose.
    #[serde(default)]
    pub thinking: Option<bool>,
}

impl ChatPrompt {
    /// A chat of one question, without a system prompt.
    pub fn ask(question: impl Into<String>) -> Self {
        Self {
            messages: vec![ChatMessage::new(Role::User, question)],
            ..Self::default()
        }
    }
}

/// How the next token is chosen. The default is greedy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the likeliest token; 1 samples from the model's own distribution.
    pub temperature: f32,
    /// Keep the k likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of likeliest tokens whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this share of the likeliest one; 0 keeps all.
    pub min_p: f32,
    /// The seed of the noise: the same seed, prompt and settings give the same answer on the same machine.
    pub seed: u64,
    /// Divides positive and multiplies negative logits of tokens among the last 256; 1 is off.
    pub repeat_penalty: f32,
    /// Subtracted once from the logit of a token among the last 256; 0 is off.
    pub presence_penalty: f32,
    /// Subtracted per occurrence among the last 256; 0 is off.
    pub frequency_penalty: f32,
    /// Added to the logits of these ids before anything else; each id once, each value in −100 to 100.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
        }
    }
}

impl Sampling {
    /// Refuses values outside their meaning (NaN among them).
    pub fn check(&self) -> Result<(), EngineError> {
        within("temperature", self.temperature, 0.0, 10.0)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("repeat_penalty", self.repeat_penalty, 0.1, 10.0)?;
        within("presence_penalty", self.presence_penalty, -10.0, 10.0)?;
        within("frequency_penalty", self.frequency_penalty, -10.0, 10.0)?;
        if self.logit_bias.len() > MAX_LOGIT_BIAS {
            return Err(EngineError::BadRequest {
                what: format!(
                    "{} entries of logit_bias, more than {MAX_LOGIT_BIAS}",
                    self.logit_bias.len()
                ),
            });
        }
        let mut ids: Vec<u32> = self.logit_bias.iter().map(|&(id, _)| id).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(EngineError::BadRequest {
                what: format!("logit_bias names token {} twice", twice[0]),
            });
        }
        self.logit_bias
            .iter()
            .try_for_each(|&(_, bias)| within("logit_bias", bias, -100.0, 100.0))
    }
}

/// Refuses a number outside its bounds, NaN among them.
fn within(name: &str, value: f32, low: f32, high: f32) -> Result<(), EngineError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(EngineError::BadRequest {
        what: format!("{name} = {value}, outside {low} to {high}"),
    })
}

/// What the text of an answer must be. Compiled in the worker over the model's own vocabulary, within its fuel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// A JSON value that this JSON schema accepts.
    JsonSchema(String),
    /// A text of this grammar, in Lark's notation.
    Lark(String),
    /// A text that this regular expression matches as a whole.
    Regex(String),
}

impl Constraint {
    /// The schema, grammar or expression.
    pub fn source(&self) -> &str {
        match self {
            Constraint::JsonSchema(text) | Constraint::Lark(text) | Constraint::Regex(text) => text,
        }
    }
}

/// One answer to compute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerateRequest {
    /// The model file; loaded with its default context when it is not yet.
    pub file: PathBuf,
    /// Token ids of the prompt, as [`EngineHandle::render`](crate::EngineHandle::render) gives them.
    pub prompt: Vec<u32>,
    /// Output produced already (here before, or elsewhere): read as input; the output index goes on after it.
    pub resume: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most output tokens of the whole answer, those of `resume` included.
    pub max_out: u32,
    /// Texts that end the answer where they appear; they are not part of its text.
    pub stop: Vec<String>,
    /// Whose work it is.
    pub class: Class,
    /// Who asks.
    pub asker: Asker,
    /// The asker's part of the device beside other askers of the class: twice the weight, twice the time. 1 to
    /// [`MAX_WEIGHT`].
    pub weight: u16,
    /// Goes on after an end token (for measuring).
    pub ignore_eog: bool,
    /// Tells the log-probability of every token, and of this many likeliest ones in its place (0 to [`MAX_LOGPROBS`]).
    pub logprobs: Option<u32>,
    /// What the text must be.
    pub constraint: Option<Constraint>,
}

impl GenerateRequest {
    /// A greedy answer of the owner's, as long as the context allows.
    pub fn new(file: impl AsRef<Path>, prompt: Vec<u32>) -> Self {
        Self {
            file: file.as_ref().to_owned(),
            prompt,
            resume: Vec::new(),
            sampling: Sampling::default(),
            max_out: u32::MAX,
            stop: Vec::new(),
            class: Class::Own,
            asker: Asker::Owner,
            weight: 1,
            ignore_eog: false,
            logprobs: None,
            constraint: None,
        }
    }

    /// Refuses what no model could answer.
    pub fn check(&self) -> Result<(), EngineError> {
        let bad = |what: &str| {
            Err(EngineError::BadRequest {
                what: what.to_owned(),
            })
        };
        if self.prompt.is_empty() {
            return bad("an empty prompt");
        }
        if self.max_out == 0 {
            return bad("max_out = 0");
        }
        if self.resume.len() >= self.max_out as usize {
            return bad("resume is as long as max_out already");
        }
        if self.stop.len() > MAX_STOP
            || self
                .stop
                .iter()
                .any(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES)
        {
            return bad("stop strings: at most 16, each of 1 to 256 bytes");
        }
        if self.logprobs.is_some_and(|top| top > MAX_LOGPROBS) {
            return bad("logprobs: at most 20");
        }
        if let Some(constraint) = &self.constraint
            && constraint.source().len() > MAX_CONSTRAINT_BYTES
        {
            return bad("constraint: at most 64 KiB");
        }
        check_asker(self.class, &self.asker, self.weight)?;
        self.sampling.check()
    }
}

/// What a running answer reports, in this order: prefill, tokens, finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum GenerateEvent {
    /// How much of prompt and resumed output has been read, in tokens.
    Prefill {
        /// Read so far.
        done: u32,
        /// In all.
        total: u32,
    },
    /// New output. Text may lag behind ids (half a character, or what could become a stop string) and then comes with
    /// a later event, the last time with one that has no ids. An end token is among the ids and has no text.
    Tokens {
        /// Output index of the first id, counted over the whole answer.
        first_index: u32,
        /// The ids, contiguous.
        ids: Vec<u32>,
        /// The text that became certain.
        text: String,
        /// One entry per id where log-probabilities were asked for, else none.
        logprobs: Vec<TokenLogprobs>,
    },
    /// The last event of an answer that did not fail.
    Finished {
        /// Why it ended.
        finish: Finish,
        /// What it took.
        stats: GenerateStats,
    },
}

/// How likely the model held a token, and what it held likelier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprobs {
    /// Natural logarithm of its probability: of the raw logits, at temperature 1, before any filter.
    pub logprob: f32,
    /// The likeliest tokens in its place with theirs, the likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model's own end token.
    Stop,
    /// `max_out` or the context was reached.
    Length,
    /// One of the stop strings appeared.
    StopString,
    /// It was cancelled.
    Cancelled,
}

/// What an answer took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateStats {
    /// Tokens read before the first new one.
    pub prefill_tokens: u32,
    /// Time computing them, pauses excepted.
    pub prefill_ms: u64,
    /// New tokens.
    pub decode_tokens: u32,
    /// Time computing them, pauses excepted. The first new token comes out of the prefill.
    pub decode_ms: u64,
}

impl GenerateStats {
    /// New tokens per second of computing, when there were at least two.
    pub fn decode_tokens_per_second(&self) -> Option<f64> {
        let stepped = self.decode_tokens.checked_sub(1).filter(|n| *n > 0)?;
        (self.decode_ms > 0).then(|| f64::from(stepped) * 1000.0 / self.decode_ms as f64)
    }

    /// Prompt tokens per second of computing.
    pub fn prefill_tokens_per_second(&self) -> Option<f64> {
        (self.prefill_ms > 0)
            .then(|| f64::from(self.prefill_tokens) * 1000.0 / self.prefill_ms as f64)
    }
}
