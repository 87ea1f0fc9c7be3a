//! How attempts and answers end.

use super::CloseWhy;
use crate::{frame::RefuseCode, job::Finish};

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
    /// This computer slept, or its network changed: whatever stream was open may be dead without knowing it.
    #[error("this computer's connection changed")]
    PathChanged,
    /// Heartbeats came, but nothing moved.
    #[error("the peer stood still")]
    Stalled,
    /// It ran longer than any job may.
    #[error("the job ran for too long")]
    TooLong,
    /// The answer was wanted within a time that is over.
    #[error("the answer took longer than it may")]
    TooLate,
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
    /// It asks for money, and was not bound to a price.
    #[error("the peer gave no quote")]
    NoQuote,
    /// Its quote asks more than its offer did.
    #[error("the peer asks more than it offered")]
    Dearer,
    /// Not even one token of it may be paid for.
    #[error("one token costs {least} base units here, {most} may be spent")]
    TooDear {
        /// The input and one token.
        least: u128,
        /// What may be spent.
        most: u128,
    },
    /// What it asks cannot be paid.
    #[error("it cannot be paid: {0}")]
    Unpaid(String),
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
    /// Log-probabilities that are missing, too many, or no logarithms of probabilities.
    #[error("the log-probabilities of the token at index {index} cannot be")]
    BadLogprobs {
        /// Where.
        index: u32,
    },
    /// Input counted otherwise than we do.
    #[error("{got} input tokens were counted instead of {expected}")]
    WrongInput {
        /// Our count.
        expected: u32,
        /// The provider's.
        got: u32,
    },
    /// Other tokens counted as cached than its quote said.
    #[error("{got} input tokens were counted as cached where {expected} were quoted")]
    WrongCached {
        /// What the quote comes to.
        expected: u64,
        /// The provider's count.
        got: u64,
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
    /// Terms of payment that nobody agrees to.
    #[error("the peer asks for a window of {window} tokens and chunks of {chunk}")]
    WrongTerms {
        /// Its stream window.
        window: u32,
        /// Its chunk.
        chunk: u32,
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
    /// How often a job whose stream was cut was taken up again at the same provider.
    pub resumes: u32,
    /// Whether a second provider was asked beside a first that was slow to begin: counts against the owner's share of
    /// answers that may.
    pub hedged: bool,
    /// Base units signed for it.
    pub paid: u128,
    /// Promises of more that are being signed still. Each is answered with [`Event::Promised`](super::Event::Promised) or
    /// [`Event::NotPromised`](super::Event::NotPromised), and only then is it known what the answer cost.
    pub signing: usize,
    /// Whether it ended where it did because more was not to be paid.
    pub capped: bool,
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
