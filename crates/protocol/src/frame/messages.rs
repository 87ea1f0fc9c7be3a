//! The messages of a job stream, field by field. The numbers are the schema: a number is never used again, and a
//! field is only ever added.

use bytes::Bytes;
use prost::Message as _;

use super::{Open, PAD_TO};

/// Bytes around the padding: its tag and length, two each at most, and the two lengths outside it that it may make
/// a byte longer.
const PAD_OVERHEAD: usize = 6;

/// One frame on the wire.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    /// The frame, if its kind is known to this version.
    #[prost(
        oneof = "Frame",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16"
    )]
    pub kind: Option<Frame>,
    /// Set by the sender of a kind that the receiver must understand.
    #[prost(bool, tag = "100")]
    pub crit: bool,
}

/// What is said on a job stream.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Frame {
    /// Client: the job.
    #[prost(message, boxed, tag = "1")]
    Open(Box<Open>),
    /// Provider: it begins.
    #[prost(message, tag = "2")]
    Accept(Accept),
    /// Provider: not now.
    #[prost(message, tag = "3")]
    Busy(Busy),
    /// Provider: no.
    #[prost(message, tag = "4")]
    Refuse(Refuse),
    /// Provider: where it is. Also its heartbeat.
    #[prost(message, tag = "5")]
    Progress(Progress),
    /// Provider: output.
    #[prost(message, tag = "6")]
    Tokens(Tokens),
    /// Provider: what it signs for so far.
    #[prost(message, tag = "7")]
    Checkpoint(Signed),
    /// Provider: the end, with its receipt.
    #[prost(message, tag = "8")]
    Done(Done),
    /// Client: the receipt, signed as well.
    #[prost(message, tag = "9")]
    Ack(Ack),
    /// Client: stop.
    #[prost(message, tag = "10")]
    Cancel(Cancel),
    /// Either side: are you there?
    #[prost(message, tag = "11")]
    Ping(Ping),
    /// Either side: I am.
    #[prost(message, tag = "12")]
    Pong(Pong),
    /// Either side: the job cannot go on.
    #[prost(message, tag = "13")]
    Error(JobError),
    /// Client: a voucher.
    #[prost(message, tag = "14")]
    Pay(Pay),
    /// Provider: it goes on once a part of the payer's grant is held for it.
    #[prost(message, tag = "15")]
    Reserve(Reserve),
    /// Client: a reservation.
    #[prost(message, tag = "16")]
    Reserved(Reserved),
}

/// The provider has the job on disk and begins.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Accept {
    /// Input tokens as the provider counts them: prompt and resume.
    #[prost(uint32, tag = "1")]
    pub n_in: u32,
    /// Output tokens computed beyond the last voucher at most; 0 for a job that costs nothing.
    #[prost(uint32, tag = "2")]
    pub stream_window: u32,
    /// Input tokens that are to be paid for ahead of being read at most; 0 for a job that costs nothing.
    #[prost(uint32, tag = "3")]
    pub chunk_tokens: u32,
    /// The provider says something at least this often before the first token.
    #[prost(uint32, tag = "4")]
    pub heartbeat_ms: u32,
    /// How long a job whose stream was cut is kept; 0: not at all.
    #[prost(uint32, tag = "5")]
    pub resume_grace_s: u32,
    /// The highest voucher that the provider held of this payer before the one that the job began with, at most
    /// [`super::MAX_VOUCHER`] bytes; empty: none.
    #[prost(bytes = "bytes", tag = "6")]
    pub last_voucher_held: Bytes,
    /// Output tokens the provider will produce at most: what was asked, or less.
    #[prost(uint32, tag = "7")]
    pub max_out: u32,
    /// Base units that count as paid for this job by now, 16 bytes big-endian; empty: none.
    #[prost(bytes = "bytes", tag = "8")]
    pub paid: Bytes,
}

/// No slot is free.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Busy {
    /// When to ask again.
    #[prost(uint32, tag = "1")]
    pub retry_after_ms: u32,
    /// Jobs that wait already.
    #[prost(uint32, tag = "2")]
    pub queue: u32,
}

/// The job is not taken, and asking again would not help.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refuse {
    /// A [`RefuseCode`].
    #[prost(enumeration = "RefuseCode", tag = "1")]
    pub code: i32,
    /// For a person, at most [`super::MAX_TEXT`] bytes.
    #[prost(string, tag = "2")]
    pub msg: String,
}

/// Why a job is not taken or cannot go on. A number of a later version reads as `Unspecified`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum RefuseCode {
    /// No reason that this version knows.
    Unspecified = 0,
    /// The node's owner switched it off.
    NodeOff = 1,
    /// The job names another provider.
    WrongProvider = 2,
    /// The job's time is over.
    Expired = 3,
    /// The job's time is further ahead than ten minutes.
    ExpiryTooFar = 4,
    /// The job was seen before.
    Replay = 5,
    /// The model is not served here.
    ModelUnknown = 6,
    /// More input than the context holds.
    PromptTooLong = 7,
    /// An input id is not in the vocabulary.
    BadToken = 8,
    /// The message is malformed.
    BadOpen = 9,
    /// Sampling parameters out of range.
    BadSampling = 10,
    /// A seed was asked for.
    SeedRefused = 11,
    /// This peer is not served.
    NotAllowed = 12,
    /// The job to be resumed is not here any more.
    ResumeUnknown = 13,
    /// The provider itself failed.
    Internal = 14,
    /// The engine died or refused.
    EngineFailed = 15,
    /// The job ran longer than any job may.
    TooLong = 16,
    /// The other side did not read for too long.
    Stalled = 17,
    /// The other side broke the protocol.
    Violation = 18,
    /// A voucher does not count, none came in time, or one came where nothing is paid for.
    PaymentRefused = 19,
    /// The form asked of the answer is of no known kind, too long, or cannot be held to.
    BadGrammar = 20,
    /// More log-probabilities per token than are given.
    BadLogprobs = 21,
    /// The job costs something, and the quote that would bind its prices is none of ours or is over.
    QuoteUnknown = 22,
}

/// Where the provider is.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Progress {
    /// A [`Phase`].
    #[prost(enumeration = "Phase", tag = "1")]
    pub phase: i32,
    /// How much of `total` is done, in the phase's own unit: bytes loaded, tokens read, tokens written.
    #[prost(uint64, tag = "2")]
    pub done: u64,
    /// 0 when it is not known.
    #[prost(uint64, tag = "3")]
    pub total: u64,
    /// Jobs that wait in front of this one.
    #[prost(uint32, tag = "4")]
    pub queue_pos: u32,
}

/// What a provider is doing with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Phase {
    /// Waiting for a slot. The only phase that may come before `Accept`.
    Queued = 0,
    /// Reading the model from disk.
    Loading = 1,
    /// Reading the prompt.
    Prefill = 2,
    /// Writing.
    Decode = 3,
    /// Standing still while the provider's owner uses the model.
    Paused = 4,
    /// Standing still until the client has paid for what comes next.
    Unpaid = 5,
}

/// Output tokens.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tokens {
    /// Index of the first id in the message's whole output, resumed part included.
    #[prost(uint32, tag = "1")]
    pub first_index: u32,
    /// The ids, in order.
    #[prost(uint32, repeated, tag = "2")]
    pub ids: Vec<u32>,
    /// One per id where the job asked for them; otherwise none.
    #[prost(message, repeated, tag = "3")]
    pub logprobs: Vec<TokenLogprobs>,
    /// Zeros up to a multiple of [`super::PAD_TO`].
    #[prost(bytes = "bytes", tag = "15")]
    pub pad: Bytes,
}

/// How likely a token was, by the model's own distribution: of the logits as they came, at temperature 1, without
/// penalties, filters or grammar.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TokenLogprobs {
    /// Natural logarithm of the probability of the token that was taken.
    #[prost(float, tag = "1")]
    pub logprob: f32,
    /// The likeliest tokens, at most [`super::MAX_LOGPROBS`], the likeliest first.
    #[prost(uint32, repeated, tag = "2")]
    pub top_ids: Vec<u32>,
    /// Their logarithms, one per id.
    #[prost(float, repeated, tag = "3")]
    pub top_logprobs: Vec<f32>,
}

impl Tokens {
    /// A frame of these ids, padded so that its size tells how many steps of [`PAD_TO`] bytes it takes and no more.
    pub fn padded(first_index: u32, ids: &[u32]) -> Self {
        Self::padded_with(first_index, ids, Vec::new())
    }

    /// Whether the lists beside the ids are within their caps. Whether there is one per id is for the reader of the
    /// job to judge, who knows what was asked.
    pub(super) fn logprobs_fit(&self) -> bool {
        let cap = super::MAX_LOGPROBS as usize;
        self.logprobs.len() <= super::MAX_LOGPROB_IDS_PER_FRAME
            && self.logprobs.iter().all(|token| {
                token.top_ids.len() <= cap && token.top_ids.len() == token.top_logprobs.len()
            })
    }

    /// As [`Tokens::padded`], with log-probabilities: one per id, or none at all.
    pub fn padded_with(first_index: u32, ids: &[u32], logprobs: Vec<TokenLogprobs>) -> Self {
        let bare = Self {
            first_index,
            ids: ids.to_vec(),
            logprobs,
            pad: Bytes::new(),
        };
        let size = |tokens: &Self| {
            Envelope {
                kind: Some(Frame::Tokens(tokens.clone())),
                crit: false,
            }
            .encoded_len()
        };
        let goal = (size(&bare) + PAD_OVERHEAD).next_multiple_of(PAD_TO);
        let padded = |pad: usize| Self {
            pad: Bytes::from(vec![0; pad]),
            ..bare.clone()
        };
        // How many bytes the lengths around the padding take depends on the padding, so the first guess is measured
        // and put right by what it lacks.
        let guess = goal - size(&bare) - PAD_OVERHEAD;
        let lacks = goal.saturating_sub(size(&padded(guess)));
        padded(guess + lacks)
    }
}

/// A signed message: the exact bytes that were signed, and the signature. Decode only after verifying.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Signed {
    /// The signed bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub payload: Bytes,
    /// The provider's signature, 64 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub sig: Bytes,
}

/// The job's end.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Done {
    /// A [`crate::receipt::Receipt`].
    #[prost(message, optional, tag = "1")]
    pub receipt: Option<Signed>,
}

/// The client agrees with the receipt. What it still owed, it paid right before.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ack {
    /// The client's signature over the receipt's payload, 64 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub countersignature: Bytes,
}

/// The client wants no more. The provider ends with `Done`, and a receipt for what it sent.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Cancel {
    /// A [`CancelReason`].
    #[prost(enumeration = "CancelReason", tag = "1")]
    pub reason: i32,
}

/// Why a client cancels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum CancelReason {
    /// No reason that this version knows.
    Unspecified = 0,
    /// The person pressed stop.
    User = 1,
    /// Somebody else was faster.
    LostRace = 2,
    /// The output cannot be trusted.
    Distrust = 3,
    /// What the person wants to pay, or can, is spent.
    Unpaid = 4,
}

/// Money for what comes next. A provider ends a job that costs nothing with [`RefuseCode::PaymentRefused`] when one comes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pay {
    /// A [`crate::voucher::Voucher`], at most [`super::MAX_VOUCHER`] bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub voucher: Bytes,
    /// Behind `Open`: base units of the voucher's total that pay for this job, 16 bytes big-endian; empty: none. Means nothing
    /// elsewhere.
    #[prost(bytes = "bytes", tag = "2")]
    pub adds: Bytes,
}

/// What the payer has vouchered and the provider could not claim yet is as much as it gives credit for: the rest is to be
/// held for it on the chain.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reserve {
    /// Base units to be held beyond what is vouchered, at least; 16 bytes big-endian.
    #[prost(bytes = "bytes", tag = "1")]
    pub least: Bytes,
}

/// A part of the payer's grant for this provider alone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reserved {
    /// A [`crate::voucher::Reservation`], at most [`super::MAX_VOUCHER`] bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub reservation: Bytes,
}

/// Asks for a [`Pong`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Ping {
    /// Comes back in the answer.
    #[prost(fixed64, tag = "1")]
    pub nonce: u64,
}

/// Answers a [`Ping`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Pong {
    /// The ping's number.
    #[prost(fixed64, tag = "1")]
    pub nonce: u64,
}

/// The job ends without a receipt.
#[derive(Clone, PartialEq, prost::Message)]
pub struct JobError {
    /// A [`RefuseCode`].
    #[prost(enumeration = "RefuseCode", tag = "1")]
    pub code: i32,
    /// For a person, at most [`super::MAX_TEXT`] bytes.
    #[prost(string, tag = "2")]
    pub msg: String,
    /// When asking again makes sense; 0: not known.
    #[prost(uint32, tag = "3")]
    pub retry_after_ms: u32,
}
