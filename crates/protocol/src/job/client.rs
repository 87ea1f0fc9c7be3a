//! One whole answer, seen by the machine that asks for it.
//!
//! The owner makes a [`Client`] from a [`Request`], feeds [`Event::Start`] with candidates in the order of its
//! choice, and carries out what comes back. Each try is an *attempt*: a stream to a candidate, or this computer.
//! Tokens of all attempts become one output: [`Action::Emit`] gives every index exactly once, in order.
//!
//! - A candidate that refuses, is busy or cannot be reached is passed over; that is no failover. One of which nothing is
//!   heard for [`ANSWER_PATIENCE_MS`], or [`RESCUE_PATIENCE_MS`] when an answer broke, keeps its chance, and the next one is
//!   asked beside it. Where an answer broke and all who may be asked at a time say nothing, the first of them makes room.
//! - A candidate without a free slot may let the job wait in its line. The next one is asked beside it all the same; whoever takes
//!   the job first has it, and the other places are left. Nothing more is paid in line, and a place that is lost is no failover.
//! - A provider whose stream breaks is asked first to go on where it was, if it said that it keeps jobs. Whoever else
//!   there is gets his chance when that takes longer than [`RESUME_PATIENCE_MS`], and the first with the next token
//!   goes on. Until its grace is over, or somebody else has written, it is asked again and again. A computer that
//!   slept or changed its network has lost all its streams, and does the same.
//! - A provider that breaks its word, or does not know the job any more, is replaced at the index reached; so it is when
//!   this computer's engine fails. After [`MAX_FAILOVERS`] the answer ends as interrupted.
//! - Before the first token of an answer a second provider may be asked beside one that is slower than it should be,
//!   once, where [`Config::hedge`] allows it.
//! - When nothing has come for a while, those who come next are asked for a quote ([`Action::SoundOut`]): so it is known who of them
//!   lives, and has the least to do, when one is needed.
//! - A provider that falls silent keeps its chance: the spare is opened beside it, and whoever gives the next token
//!   first goes on. The same holds for one that pauses for its owner's work for longer than [`PAUSE_PATIENCE_MS`],
//!   if there is somebody to move to; if not, the answer waits as long as heartbeats come.
//! - What was accepted before a lie was found stays; the liar is not asked again for this answer.
//! - A job that costs something is asked for with a quote, and paid by vouchers that the owner signs: its prompt in chunks before
//!   it is read, its output after it came. So a provider that takes the money and stops has the price of one chunk. The first of
//!   it goes with the job's first frame, so that nobody waits a round trip for it, where nobody is in front or asked beside it; and
//!   no longer in this answer once it was lost. What the
//!   person wants to pay at most is compared with before anything is signed, and fewer tokens are asked for where it would not
//!   do. A job that is taken up goes on with what was paid; one that moves begins anew, and its input is paid for there.
//! - An end token is held back until the receipt that vouches for it is here. So a cut between the two never leaves
//!   an answer that goes on behind its end, nor a "complete" nobody signed.

mod bill;
mod end;
mod ends;
mod launch;
mod line;
mod machine;
mod output;
mod pay;
mod seats;
mod settle;
mod span;
mod streams;

pub use bill::PromiseId;
pub use ends::{AttemptEnd, End, Lie, Outcome};
pub use launch::{
    ANSWER_PATIENCE_MS, HEDGE_MAX_INPUT, HEDGE_MIN_MS, MAX_FAILOVERS, MAX_FALSE_ALARMS, OPEN_MS,
    RESCUE_PATIENCE_MS, RESUME_PATIENCE_MS, SOUNDED_MS, SOUNDED_OUT,
};
pub use line::{LINE_AGAIN_MS, MAX_LINES};
pub use machine::{
    CANCEL_LINGER_MS, Client, GIVE_UP_MS, LOCAL_STALL_MS, PAUSE_PATIENCE_MS, SLEPT_MS, STALL_MS,
};
pub use pay::SETTLE_MS;
pub use seats::{MAX_BUSY, MAX_CANDIDATES, MAX_CUTS};
pub use span::{MAX_RTT_MS, MAX_SILENCE_MS, MAX_WRITING_SILENCE_MS, MIN_SILENCE_MS};

use super::{CloseWhy, Finish};
use crate::{
    JobId, ModelRef, PeerId, Signer,
    frame::{Frame, Grammar, Phase, Sampling, Signed, TokenLogprobs},
    price::{Terms, Totals},
    quote::QUOTE_ID,
    receipt::SignedReceipt,
    voucher::{Address, B256, Checked, Reservation, Unchecked, Vault, Voucher},
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
    /// The form that the whole output must have. It goes with the answer to every place that writes a part of it.
    pub grammar: Option<Grammar>,
    /// Log-probabilities of each token, and of this many of the likeliest.
    pub want_logprobs_k: Option<u32>,
    /// Milliseconds after `Start` from which on the answer is of no use any more.
    pub deadline_ms: Option<u32>,
    /// Base units that the whole answer may cost; `None`: as much as the owner signs.
    pub max_cost: Option<u128>,
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
    /// What it asks, and what of the input its quote counts as cached.
    pub terms: Terms,
    /// Whom and where to pay. Without it, who asks for money is not asked.
    pub pay_to: Option<PayTo>,
    /// The quote that binds it to these terms, if it gave one just now.
    pub quote_id: Option<[u8; QUOTE_ID]>,
    /// Whether the voucher behind the first frame may pay for a part of the prompt: its offer says so, and no job is in front.
    pub prepaid: bool,
    /// By when, after it accepted, its first token is here in nineteen of twenty cases; `None`: not known, and it is not
    /// hedged against.
    pub first_token_p95_ms: Option<u32>,
}

/// Where a provider is paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayTo {
    /// The vault in which its vouchers count.
    pub vault: Vault,
    /// Its account.
    pub payee: Address,
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
    /// Whether a second provider may be asked beside one that is slow to begin. To be granted to one answer in twenty at
    /// most, since everybody who does it makes all wait longer.
    pub hedge: bool,
}

/// What happens to an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Begin, with candidates in the order they should be asked.
    Start(Vec<Candidate>),
    /// More candidates turned up. Known peers are ignored.
    Candidates(Vec<Candidate>),
    /// The quote that a [`Action::Connect`] asked for is here. Comes before `Connected`.
    Quoted {
        /// Whose.
        attempt: AttemptId,
        /// What it binds to.
        terms: Terms,
        /// Its name.
        quote_id: [u8; QUOTE_ID],
        /// Jobs in front of the next one.
        queue_pos: u32,
    },
    /// Answer to [`Action::Promise`]: it is on disk and signed.
    Promised {
        /// Which.
        promise: PromiseId,
        /// The voucher.
        voucher: Voucher<Checked>,
    },
    /// Answer to [`Action::Reserve`]: it is on disk and signed.
    Reserved {
        /// Which.
        promise: PromiseId,
        /// The reservation.
        reservation: Reservation<Checked>,
    },
    /// Answer to both when nothing was signed.
    NotPromised {
        /// Which.
        promise: PromiseId,
        /// For the log and the person.
        why: String,
    },
    /// A stream is open.
    Connected {
        /// Whose.
        attempt: AttemptId,
        /// Round trip to the peer, milliseconds; 0 when not known.
        rtt_ms: u64,
    },
    /// A candidate that was dialled beforehand, for the case that it is needed, is not reached: others are asked before it.
    NotReached {
        /// Who.
        peer: PeerId,
    },
    /// A candidate gave the quote that [`Action::SoundOut`] wanted.
    Sounded {
        /// Who.
        peer: PeerId,
        /// What it said.
        quote: Quoted,
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
    /// The computer woke from sleep, or its network changed. Streams that seem to be open may be dead.
    PathChanged,
    /// The person pressed stop.
    Cancel,
    /// Time passed.
    Tick,
}

/// A quote that was given beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// What it binds to.
    pub terms: Terms,
    /// Its name.
    pub quote_id: [u8; QUOTE_ID],
    /// Jobs in front of the next one.
    pub queue_pos: u32,
}

/// What this computer's engine says about a started attempt.
#[derive(Clone, Debug, PartialEq)]
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
        /// One per id where the request asks for them.
        logprobs: Vec<TokenLogprobs>,
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
    /// Open a stream to a candidate; answer with `Connected` or `ConnectFailed`. The same candidate may come again: to
    /// take up a job whose stream was cut, or to be asked anew.
    Connect {
        /// The new attempt.
        attempt: AttemptId,
        /// Whom to connect to.
        candidate: Candidate,
        /// Whether a quote is needed: to be asked for first, and told by [`Event::Quoted`]. Without one there is no stream
        /// either.
        wants_quote: bool,
    },
    /// Reach a candidate and ask it for a quote, since it may be needed in a moment. Answer with [`Event::Sounded`],
    /// [`Event::NotReached`], or not at all.
    SoundOut {
        /// Whom.
        candidate: Candidate,
    },
    /// Raise the line to this payee by so much, write that to disk, synced, sign the line's new total, and answer with
    /// [`Event::Promised`] or [`Event::NotPromised`], even when the attempt is closed meanwhile. `add` may be zero: a job
    /// may begin with what stands.
    Promise {
        /// Names the answer.
        promise: PromiseId,
        /// For which attempt.
        attempt: AttemptId,
        /// For which job.
        job: JobId,
        /// Who is paid.
        payee: Address,
        /// Base units.
        add: u128,
        /// What the voucher names.
        work: B256,
        /// The tokens of the job that are paid for with it.
        totals: Totals,
    },
    /// Hold a part of the grant for this payee, write that to disk, synced, sign it, and answer with [`Event::Reserved`] or
    /// [`Event::NotPromised`].
    Reserve {
        /// Names the answer.
        promise: PromiseId,
        /// For which attempt.
        attempt: AttemptId,
        /// Who is paid.
        payee: Address,
        /// Base units that it wants held beyond what is vouchered, at least.
        least: u128,
        /// What the job may still come to cost.
        rest: u128,
    },
    /// A payee showed a voucher of ours above what was just signed for it. Where it is above the books as well, they are not
    /// those that it was signed from: they were lost, copied or put back, and their signer signs nothing more.
    HeldMore {
        /// Who showed it.
        attempt: AttemptId,
        /// The voucher, whose signature nobody looked at yet.
        voucher: Voucher<Unchecked>,
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
        /// One per id where the request asks for them; otherwise none.
        logprobs: Vec<TokenLogprobs>,
    },
    /// Compute here. Form and log-probabilities are those of the request.
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
    /// A job whose stream was cut goes on at the same provider, with one receipt for all of it: what comes from this
    /// attempt belongs to the span of an earlier one.
    Resumed {
        /// The attempt that goes on with it.
        attempt: AttemptId,
        /// The attempt whose stream was cut.
        before: AttemptId,
    },
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
    /// Jobs that wait in front of this one, while it is in line or queued.
    pub queue_pos: u32,
}

/// What an attempt does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerPhase {
    /// Nobody is asked right now: the place named is busy or was cut off, and will be asked again soon.
    Waiting,
    /// Opening a stream.
    Connecting,
    /// In the provider's line; [`Progress::queue_pos`] wait in front.
    InLine,
    /// The stream broke; opening another to the same provider, to take the job up.
    Resuming,
    /// As the provider says.
    At(Phase),
}
