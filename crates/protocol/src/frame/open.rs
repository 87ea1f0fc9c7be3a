//! The first frame of a job stream: the whole job in one message.

use bytes::Bytes;

/// A whole job. Its bytes are hashed into the job id, so it names whom it is for, when it ends, and a nonce.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Open {
    /// Peer id of the provider that is asked, 38 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub provider: Bytes,
    /// 32 bytes that make the job unique.
    #[prost(bytes = "bytes", tag = "2")]
    pub nonce: Bytes,
    /// Unix milliseconds after which the job may not begin; at most ten minutes ahead.
    #[prost(uint64, tag = "3")]
    pub expires_unix_ms: u64,
    /// The model, 32 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub model_digest: Bytes,
    /// The quote whose prices hold for this job, [`crate::quote::QUOTE_ID`] bytes; empty: none, as a job that costs
    /// nothing needs none.
    #[prost(bytes = "bytes", tag = "5")]
    pub quote_id: Bytes,
    /// The prompt's token ids, see [`crate::tokens`].
    #[prost(bytes = "bytes", tag = "6")]
    pub prompt_tokens: Bytes,
    /// Output that the message has already, from elsewhere: input of this job. See [`crate::tokens`].
    #[prost(bytes = "bytes", tag = "7")]
    pub resume_tokens: Bytes,
    /// How the next token is chosen.
    #[prost(message, optional, tag = "8")]
    pub sampling: Option<Sampling>,
    /// The form that the whole output must have, resumed part included.
    #[prost(message, optional, tag = "9")]
    pub grammar: Option<Grammar>,
    /// Output tokens wanted at most.
    #[prost(uint32, tag = "10")]
    pub max_out: u32,
    /// Milliseconds after `Accept` from which on the answer is of no use any more: the provider then breaks the job
    /// off. 0: as long as any job may take.
    #[prost(uint32, tag = "11")]
    pub deadline_ms: u32,
    /// Texts at which the output ends.
    #[prost(string, repeated, tag = "12")]
    pub stop: Vec<String>,
    /// Log-probabilities of each token and of this many of the likeliest ones, at most [`super::MAX_LOGPROBS`].
    /// Absent: none.
    #[prost(uint32, optional, tag = "13")]
    pub want_logprobs_k: Option<u32>,
    /// Asks to take up a job whose stream was cut. Only `provider` and `expires_unix_ms` count beside it: all else
    /// stands in the job's own first frame.
    #[prost(message, optional, tag = "14")]
    pub resume_of: Option<ResumeOf>,
    /// Do not end at an end token: for measurements.
    #[prost(bool, tag = "15")]
    pub ignore_eog: bool,
    /// The job may wait in line where no slot is free: then `Progress` with `Queued` comes before `Accept`. A client that does not
    /// know of lines would take that for a lie, and is told `Busy`.
    #[prost(bool, tag = "16")]
    pub may_wait: bool,
}

/// Sampling parameters as `SSR-GM1` knows them; the defaults of protobuf (all zero) mean greedy.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Sampling {
    /// 0 is greedy.
    #[prost(float, tag = "1")]
    pub temperature: f32,
    /// Keep this many of the likeliest tokens; 0 is all.
    #[prost(uint32, tag = "2")]
    pub top_k: u32,
    /// Keep the likeliest tokens of this total probability; 0 and 1 are all.
    #[prost(float, tag = "3")]
    pub top_p: f32,
    /// Drop tokens less likely than this share of the likeliest; 0 drops none.
    #[prost(float, tag = "4")]
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen; 0 and 1 are off.
    #[prost(float, tag = "5")]
    pub repeat_penalty: f32,
    /// Taken off once per token seen at all.
    #[prost(float, tag = "6")]
    pub presence_penalty: f32,
    /// Taken off per occurrence.
    #[prost(float, tag = "7")]
    pub frequency_penalty: f32,
    /// A seed of the user's choice. Nobody may choose it for a remote job: a provider refuses one.
    #[prost(uint64, optional, tag = "8")]
    pub seed: Option<u64>,
}

/// What the text of an answer must be. After a move to another provider the resumed tokens are fed to it there, so
/// it goes on where it was.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Grammar {
    /// A [`GrammarKind`].
    #[prost(enumeration = "GrammarKind", tag = "1")]
    pub kind: i32,
    /// The schema, grammar or expression, at most [`super::MAX_GRAMMAR`] bytes.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// In what a form is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum GrammarKind {
    /// No kind that this version knows: refused, since an answer without its form would be another answer.
    Unspecified = 0,
    /// A JSON value that this JSON schema accepts.
    JsonSchema = 1,
    /// A text of this grammar, in Lark's notation.
    Lark = 2,
    /// A text that this regular expression matches as a whole.
    Regex = 3,
}

/// A job that lost its stream.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ResumeOf {
    /// The job's id, 32 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub job: Bytes,
    /// The first output index that is missing.
    #[prost(uint32, tag = "2")]
    pub from_index: u32,
}
