//! One whole answer, seen by the machine that asks for it.
//!
//! The owner makes a [`Client`] from a [`Request`], feeds [`Event::Start`] with candidates in the order of its
//! choice, and carries out what comes back. Each try is an *attempt*: a stream to a candidate, or this computer.
//! Tokens of all attempts become one output: [`Action::Emit`] gives every index exactly once, in order.
//!
//! - A candidate that refuses, is busy or cannot be reached is passed over; that is no failover.
//! - A provider whose stream ends, or that breaks its word, is replaced at the index reached; so it is when this
//!   computer's engine fails. After [`MAX_FAILOVERS`] the answer ends as interrupted.
//! - A provider that falls silent keeps its chance: the spare is opened beside it, and whoever gives the next token
//!   first goes on. The same holds for one that pauses for its owner's work for longer than [`PAUSE_PATIENCE_MS`],
//!   if there is somebody to move to; if not, the answer waits as long as heartbeats come.
//! - What was accepted before a lie was found stays; the liar is not asked again for this answer.
//! - An end token is held back until the receipt that vouches for it is here. So a cut between the two never leaves
//!   an answer that goes on behind its end, nor a "complete" nobody signed.

mod machine;
mod output;
mod seats;
mod span;
mod streams;

pub use machine::{
    CANCEL_LINGER_MS, Client, GIVE_UP_MS, LOCAL_STALL_MS, MAX_FAILOVERS, OPEN_MS,
    PAUSE_PATIENCE_MS, STALL_MS,
};
pub use seats::{MAX_BUSY, MAX_CANDIDATES, MAX_CUTS};
pub use span::{MAX_SILENCE_MS, MIN_SILENCE_MS};

use super::{CloseWhy, Finish};
use crate::{
    ModelRef, PeerId, Signer,
    frame::{Frame, Phase, RefuseCode, Sampling, Signed},
    price::Prices,
    receipt::SignedReceipt,
};

/// Names an attempt within one answer; counts up from 0.
pub type AttemptId = u32;

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The model.
    pub model: ModelRef,
    /// Ids below this one are tokens; from the file's head.
    pub vocab_size: u32,
    /// End tokens; from the file's head.
    pub eog: Vec<u32>,
    /// The prompt's ids.
    pub prompt: Vec<u32>,
    /// Output that the message has already, when it is continued. The first new index is `resume.len()`.
    pub resume: Vec<u32>,
    /// Sampling parameters. A seed in it is not sent: it holds for this computer alone.
    pub sampling: Sampling,
    /// New tokens wanted at most.
    pub max_out: u32,
    /// Texts at which the output ends.
    pub stop: Vec<String>,
    /// Do not end at an end token.
    pub ignore_eog: bool,
}

/// Whether this computer may take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// Never: it lacks the weights, or the person said so.
    Never,
    /// When no candidate is left, before one that failed already is asked again.
    Fallback,
}

/// A provider that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub peer: PeerId,
    /// Tokens of context it serves.
    pub ctx_max: u32,
    /// Output tokens it gives at most.
    pub out_max: u32,
    /// What it asks.
    pub prices: Prices,
}

/// What the machine is made of besides the request.
#[derive(Clone, Debug)]
pub struct Config {
    /// Countersigns receipts; its peer id is the one the streams are opened with.
    pub signer: Signer,
    /// Whether this computer may take part.
    pub local: Local,
    /// 32 random bytes, new for every answer: nonces are derived from them.
    pub entropy: [u8; 32],
}

/// What happens to an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Begin, with candidates in the order they should be asked.
    Start(Vec<Candidate>),
    /// More candidates turned up. Known peers are ignored.
    Candidates(Vec<Candidate>),
    /// A stream is open.
    Connected {
        /// Whose.
        attempt: AttemptId,
        /// Round trip to the peer, milliseconds; 0 when not known.
        rtt_ms: u64,
    },
    /// No stream could be opened.
    ConnectFailed {
        /// Whose.
        attempt: AttemptId,
        /// For the log.
        why: String,
    },
    /// A frame came.
    Frame {
        /// On whose stream.
        attempt: AttemptId,
        /// The frame, decoded under [`crate::frame::Cap::Provider`].
        frame: Frame,
    },
    /// A stream is gone, or what came on it was no frame.
    Closed {
        /// Whose.
        attempt: AttemptId,
        /// Why.
        why: CloseWhy,
    },
    /// This computer's engine says something.
    Local {
        /// For which attempt.
        attempt: AttemptId,
        /// What.
        event: LocalEvent,
    },
    /// The person pressed stop.
    Cancel,
    /// Time passed.
    Tick,
}

/// What this computer's engine says about a started attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalEvent {
    /// The model is being read from disk; bytes.
    Loading {
        /// Bytes read.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The prompt is being read; tokens.
    Prefill {
        /// Tokens read.
        done: u32,
        /// Tokens in all.
        total: u32,
    },
    /// Output.
    Tokens {
        /// Index of the first id in the message's output.
        first_index: u32,
        /// The ids.
        ids: Vec<u32>,
    },
    /// The output is over.
    Finished(Finish),
    /// The engine cannot go on.
    Failed(String),
}

/// Where tokens come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// This computer.
    Local,
    /// A peer.
    Peer(PeerId),
}

/// What the owner does for an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Open a stream to a candidate; answer with `Connected` or `ConnectFailed`.
    Connect {
        /// The new attempt.
        attempt: AttemptId,
        /// Whom to connect to.
        candidate: Candidate,
    },
    /// Write a frame.
    Send {
        /// On whose stream.
        attempt: AttemptId,
        /// The frame.
        frame: Frame,
    },
    /// Write out what was sent, then close the stream, or give up opening it. Nothing is expected of it any more.
    Close {
        /// Whose.
        attempt: AttemptId,
    },
    /// New output. Indices are contiguous over the whole answer.
    Emit {
        /// Who gave it.
        attempt: AttemptId,
        /// Where.
        place: Place,
        /// Index of the first id in the message's output.
        first_index: u32,
        /// The ids.
        ids: Vec<u32>,
    },
    /// Compute here.
    StartLocal {
        /// The new attempt.
        attempt: AttemptId,
        /// The prompt's ids.
        prompt: Vec<u32>,
        /// The output so far, to be prefilled behind the prompt.
        resume: Vec<u32>,
        /// New tokens at most.
        max_out: u32,
    },
    /// Stop computing here.
    StopLocal {
        /// Which attempt.
        attempt: AttemptId,
    },
    /// For the screen.
    Progress(Progress),
    /// The output goes on at another place. Comes right before that place's first `Emit`.
    Moved {
        /// Who wrote until now.
        from: Place,
        /// Who writes from now on.
        to: Place,
        /// The first index written there.
        index: u32,
    },
    /// An attempt is over, and it is not the one that finished the answer. For the log and for judging peers.
    AttemptEnded {
        /// Which.
        attempt: AttemptId,
        /// Where it ran.
        place: Place,
        /// Why.
        why: AttemptEnd,
        /// The last checkpoint the provider signed, if any: evidence of what it gave.
        checkpoint: Option<Signed>,
    },
    /// A provider signed for its span, we checked it against what came, and countersigned.
    SpanDone {
        /// Which attempt.
        attempt: AttemptId,
        /// The receipt with both signatures.
        receipt: Box<SignedReceipt>,
    },
    /// The answer is over. The last action.
    Finish(Outcome),
}

/// Where an answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Where it runs.
    pub place: Place,
    /// What it does.
    pub phase: AnswerPhase,
    /// How much of `total` is done, in the phase's own unit.
    pub done: u64,
    /// 0 when it is not known.
    pub total: u64,
}

/// What an attempt does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerPhase {
    /// Nobody is asked right now: the place named is busy or was cut off, and will be asked again soon.
    Waiting,
    /// Opening a stream.
    Connecting,
    /// As the provider says.
    At(Phase),
}

/// Why an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttemptEnd {
    /// No stream.
    #[error("the peer could not be reached: {0}")]
    ConnectFailed(String),
    /// No answer to the opening frame in time.
    #[error("the peer did not answer in time")]
    NoAnswer,
    /// It does not take the job.
    #[error("the peer refused: {code:?} {msg}")]
    Refused {
        /// Why.
        code: RefuseCode,
        /// For a person.
        msg: String,
    },
    /// It has no room.
    #[error("the peer is busy, ask again in {retry_after_ms} ms")]
    Busy {
        /// When to ask again.
        retry_after_ms: u32,
    },
    /// The stream ended.
    #[error("{0}")]
    Closed(CloseWhy),
    /// Nothing came for too long, and another one was faster.
    #[error("the peer fell silent")]
    Silent,
    /// Heartbeats came, but nothing moved.
    #[error("the peer stood still")]
    Stalled,
    /// It ran longer than any job may.
    #[error("the job ran for too long")]
    TooLong,
    /// The provider said that it cannot go on.
    #[error("the peer gave up: {code:?} {msg}")]
    Gave {
        /// Why.
        code: RefuseCode,
        /// For a person.
        msg: String,
    },
    /// The prompt packs into more than an opening frame may hold.
    #[error("the prompt is too long to be sent: {len} bytes")]
    TooLarge {
        /// Bytes of the opening frame.
        len: usize,
    },
    /// It ended the job early, with a receipt for what it gave.
    #[error("the peer broke the job off")]
    BrokenOff,
    /// It broke its word.
    #[error(transparent)]
    Lie(#[from] Lie),
    /// This computer's engine failed.
    #[error("this computer could not go on: {0}")]
    LocalFailed(String),
    /// Another attempt was faster.
    #[error("another one was faster")]
    LostRace,
    /// The answer was stopped or is over.
    #[error("the answer was stopped")]
    Stopped,
}

/// How a provider broke its word. Each of these ends the attempt, and the peer is not asked again for this answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    /// Tokens at another index than the next.
    #[error("tokens came at index {got} instead of {expected}")]
    WrongIndex {
        /// The next one.
        expected: u32,
        /// The one that came.
        got: u32,
    },
    /// A token was sent twice, and differs.
    #[error("the token at index {index} came twice and differs")]
    Contradiction {
        /// Which.
        index: u32,
    },
    /// No such token.
    #[error("token {id} is outside a vocabulary of {vocab}")]
    OutsideVocabulary {
        /// The id.
        id: u32,
        /// Ids there are.
        vocab: u32,
    },
    /// More tokens than were allowed.
    #[error("more than {max_out} tokens came")]
    TooManyTokens {
        /// Tokens allowed.
        max_out: u32,
    },
    /// Tokens behind the end token.
    #[error("tokens came behind the end")]
    BehindTheEnd,
    /// A `Tokens` frame without tokens.
    #[error("a frame of tokens held none")]
    NoTokens,
    /// Input counted otherwise than we do.
    #[error("{got} input tokens were counted instead of {expected}")]
    WrongInput {
        /// Our count.
        expected: u32,
        /// The provider's.
        got: u32,
    },
    /// A signature does not hold, or what is signed cannot be read.
    #[error("what the peer signed does not hold: {0}")]
    BadSignature(crate::receipt::ReceiptError),
    /// A signed statement about another job, peer, model, prompt, sampler or seed.
    #[error("the peer signed for another {0}")]
    WrongStatement(&'static str),
    /// Token counts that differ from what came.
    #[error("the peer signed for {got} tokens where {expected} came")]
    WrongTotals {
        /// What came.
        expected: u64,
        /// What was signed.
        got: u64,
    },
    /// The hash chain differs from the one over what came.
    #[error("the peer signed for other tokens than it sent")]
    BrokenChain,
    /// The sum differs from what the totals give.
    #[error("the peer asks {got} where {expected} is due")]
    WrongDue {
        /// What is due.
        expected: u128,
        /// What was asked.
        got: u128,
    },
    /// A finish that cannot be.
    #[error("the peer says the output ended by {0:?}, which it did not")]
    WrongFinish(Finish),
    /// A frame that has no place in this state.
    #[error("a {0} frame came out of turn")]
    OutOfTurn(&'static str),
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Tokens emitted since `Start`.
    pub emitted: u32,
    /// Failovers on the way.
    pub failovers: u32,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It is whole: by an end token or a stop string, and signed for where a provider wrote the end.
    Complete(Finish),
    /// The limit of tokens or of the context was reached.
    Length,
    /// The person stopped it.
    Stopped,
    /// It broke off after some tokens; the last attempt's reason.
    Interrupted(AttemptEnd),
    /// Nothing came; the last attempt's reason, or `None` when there was nobody to ask.
    Failed(Option<AttemptEnd>),
}
