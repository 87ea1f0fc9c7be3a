//! One job, seen by the machine that computes it.
//!
//! The owner makes a [`Provider`] when a stream arrives, feeds it the first frame's bytes and what it knows about
//! room for the job, and then everything that happens. The order of a good job:
//!
//! `Open` → [`Action::Seek`] → [`Event::Room`] → [`Action::Start`], [`Action::Record`] → [`Event::Recorded`] → `Accept` → engine
//! events → `Tokens`, `Checkpoint`s → `Done` → `Ack` → [`Action::Store`], [`Action::Close`].
//!
//! Where no slot is free, a job whose client knows of lines waits in one ([`Room::InLine`]): nothing is computed, written down or
//! paid for meanwhile, and a client that goes is out of it at once.
//!
//! The engine does not wait for the disk, but nothing leaves before the job is on it: what is computed until then is kept.
//!
//! Tokens enter the hash chain when they are sent, so checkpoints and the receipt cover what the client was given
//! and nothing else. A job that ends early leaves a receipt with [`Finish::Abort`] behind, for the ledger.
//!
//! A job that costs something is paid for on the way, by the stranger's vouchers. Before it is accepted, its `Open` is followed
//! by one for this very job:
//!
//! `Open` → `Pay` → [`Action::Admit`] → [`Event::Admitted`] → [`Action::Seek`] → [`Event::Room`] → [`Action::Record`] →
//! [`Event::Recorded`] → `Accept` → `Pay` → [`Action::HoldVoucher`] → [`Event::Standing`] → [`Action::Start`] → …
//!
//! The engine begins once the first part of the prompt is paid for, which the first voucher may do already, and stands still whenever
//! it is a window ahead of what is paid for. What is signed by the payer is on disk before the engine goes on.
//!
//! A job whose stream breaks is parked ([`Action::Park`]): it computes on up to [`MAX_WAITING`] tokens ahead, and
//! waits. The owner looks at the first frame of every stream with [`resumes`]; one that asks for a parked or running job is
//! fed to that job's machine as [`Event::Resumed`], all others to a new machine as [`Event::Open`].

mod charge;
mod end;
mod judge;
mod line;
mod machine;
mod overdue;
mod paid;
mod resume;
mod run;

pub use charge::{Charging, Declined, Standing};
pub use line::SEEK_MS;
pub use machine::{
    ACK_MS, BLOCKED_DROP_MS, BLOCKED_PAUSE_MS, FIRST_FRAME_MS, MAX_WAITING, Provider, RECORD_MS,
};
pub use paid::{ADMIT_MS, UNPAID_MS, VOUCHER_WAIT_MS};
pub use resume::{MAX_RESUMES, quote_of, resumes};
pub use run::{CHECKPOINT_MS, CHECKPOINT_TOKENS, FLUSH_MS, FLUSH_TOKENS};

use bytes::Bytes;

use super::{CloseWhy, Finish};
use crate::{
    JobId, ModelDigest, PeerId, Signer,
    frame::{Frame, Grammar, Refuse, RefuseCode, Sampling, TokenLogprobs},
    price::{Prices, Totals},
    quote::Bound,
    receipt::SignedReceipt,
    voucher::{Checked, Reservation, VOUCHER_BYTES, Voucher},
};

/// What a provider knows about itself; the same for all its jobs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Signs checkpoints and receipts.
    pub signer: Signer,
    /// The models that are offered.
    pub models: Vec<Served>,
    /// Output tokens of one job at most, as the owner set it.
    pub max_out: u32,
    /// The engine's name and version, for receipts.
    pub engine_build: String,
    /// Numerics class, for receipts: `A8`, `A16` or `A32`.
    pub numerics_class: String,
    /// Number format of the cache, for receipts.
    pub kv_type: String,
    /// How long a job whose stream was cut is kept, at most [`super::RESUME_GRACE_MS`]; 0: not at all.
    pub resume_grace_ms: u64,
    /// How jobs are paid for. `None`: no job whose price is not zero is taken.
    pub charging: Option<Charging>,
}

impl Config {
    /// How long a cut job is kept, within what is allowed.
    pub(super) fn grace_ms(&self) -> u64 {
        self.resume_grace_ms.min(super::RESUME_GRACE_MS)
    }
}

/// One model that is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The file.
    pub model: ModelDigest,
    /// Ids below this one are tokens.
    pub vocab_size: u32,
    /// Tokens of context.
    pub ctx_max: u32,
    /// What it costs now. A job costs what its quote said.
    pub prices: Prices,
    /// Digest of template and tokenizer, if known.
    pub template: Option<[u8; 32]>,
}

/// Whether a peer's jobs are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Welcome {
    /// They are.
    Yes,
    /// The node is off or about to be.
    Off,
    /// This peer is not served.
    NotAllowed,
}

/// What a slot is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The model.
    pub model: ModelDigest,
    /// Tokens that the job has at its longest: its input and all that it may write.
    pub tokens: u32,
    /// A part of the answer is there: it broke elsewhere, or is gone on with.
    pub goes_on: bool,
    /// The client may be told that it waits in line.
    pub may_wait: bool,
}

/// Whether there is a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// One is held for the job from now on.
    Free,
    /// Not yet: the job waits in line. Only for one that [may wait](Wanted::may_wait).
    InLine {
        /// Jobs that wait in front of it.
        in_front: u32,
    },
    /// Neither a slot nor a place in line; when to ask again and how many wait.
    Full {
        /// Milliseconds.
        retry_after_ms: u32,
        /// Jobs that wait.
        queue: u32,
    },
}

/// What happens to a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The first frame, without its length.
    Open {
        /// The peer at the other end, as the connection proved it.
        from: PeerId,
        /// The frame's exact bytes: the job id is their hash.
        bytes: Bytes,
        /// Whether this peer is served.
        welcome: Welcome,
        /// What the quote that the frame names by [`quote_of`] binds us to, while it does; `None`: no such quote.
        quoted: Option<Bound>,
    },
    /// Answer to [`Action::Admit`]: nothing speaks against the payer, and his voucher is on disk.
    Admitted {
        /// How the job stands.
        standing: Standing,
        /// The highest voucher held of this payer before this one, as it travels.
        last_held: Option<[u8; VOUCHER_BYTES]>,
    },
    /// Answer to [`Action::Seek`]; again whenever the place in line is another, and at last when the job leaves it.
    Room(Room),
    /// Answer to [`Action::HoldVoucher`] and [`Action::HoldReservation`] once they are on disk, and news at any other time: a claim
    /// or reservation is in a final block, a signer ended, another job of the line moved.
    Standing(Standing),
    /// Answer to all three when it does not count, or could not be written down.
    Declined(Declined),
    /// The first frame of another stream, which asks to take up this job. If it may, the new stream takes the place
    /// of the old one.
    Resumed {
        /// The peer at the other end, as the connection proved it.
        from: PeerId,
        /// The frame's exact bytes.
        bytes: Bytes,
    },
    /// The place of a job that is parked is needed for another. Does nothing to one that has its stream.
    Evicted,
    /// Answer to [`Action::Record`].
    Recorded(Recorded),
    /// The engine says something.
    Engine(EngineEvent),
    /// A later frame of the client.
    Frame(Frame),
    /// The owner's own work begins (`true`) or ends.
    OwnWork(bool),
    /// The node is switched off.
    Off,
    /// The client does not read: the outbound queue is full.
    WriteBlocked,
    /// The outbound queue has room again.
    Drained,
    /// The stream is gone.
    Closed(CloseWhy),
    /// Time passed.
    Tick,
}

/// Whether the job id could be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is new, and on disk.
    Fresh,
    /// It was there already.
    Seen,
    /// It could not be written.
    Failed,
}

/// What the engine says about a started job.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineEvent {
    /// The job waits for its turn.
    Queued {
        /// Jobs in front of it.
        in_front: u32,
    },
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
        /// Index of the first id in the message's output: the resumed tokens come before it.
        first_index: u32,
        /// The ids.
        ids: Vec<u32>,
        /// One per id where [`StartJob::logprobs`] asks for them.
        logprobs: Vec<TokenLogprobs>,
    },
    /// The output is over.
    Finished(Finish),
    /// The engine cannot go on; the text is for the log and, shortened, for the client.
    Failed(String),
}

/// What the engine is to compute.
#[derive(Clone, Debug, PartialEq)]
pub struct StartJob {
    /// The job.
    pub job: JobId,
    /// The model.
    pub model: ModelDigest,
    /// The prompt's ids.
    pub prompt: Vec<u32>,
    /// Output that exists already; the first new token has index `resume.len()`.
    pub resume: Vec<u32>,
    /// Sampling parameters, checked. The seed in it is not set: take `seed`.
    pub sampling: Sampling,
    /// The sampler's seed, derived from the job.
    pub seed: u64,
    /// New tokens at most.
    pub max_out: u32,
    /// Texts at which the output ends.
    pub stop: Vec<String>,
    /// Do not end at an end token.
    pub ignore_eog: bool,
    /// The form that the output, resumed part included, must have.
    pub grammar: Option<Grammar>,
    /// Log-probabilities of each token, and of this many of the likeliest.
    pub logprobs: Option<u32>,
}

/// What the owner does for a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write a frame, to the stream that is attached.
    Send(Frame),
    /// The stream is gone, or of no use any more: drop it. The job is kept.
    Park,
    /// The stream that asked to take up the job takes the place of the old one, which is dropped if it is still there.
    Attach,
    /// The stream that asked to take up the job may not: write this to it and close it. The job is as it was.
    Decline(Refuse),
    /// Write the job id to disk, synced, and answer with [`Event::Recorded`].
    Record {
        /// The job.
        job: JobId,
        /// When the id may be forgotten, Unix milliseconds.
        expires_unix_ms: u64,
    },
    /// Look the payer up in books and final blocks, and write his voucher to disk, synced. Answer with [`Event::Admitted`] or
    /// [`Event::Declined`].
    Admit {
        /// The job.
        job: JobId,
        /// The voucher behind its first frame. Its signature holds; whether the signer is the payer's is for the owner to know.
        voucher: Voucher<Checked>,
        /// Base units of its total that pay for this job.
        adds: u128,
    },
    /// Write a voucher to disk, synced, and answer with [`Event::Standing`] or [`Event::Declined`]. To be carried out even when
    /// `Close` follows.
    HoldVoucher {
        /// The voucher, of the payer and signer that [`Action::Admit`] named.
        voucher: Voucher<Checked>,
        /// The job's tokens so far.
        totals: Totals,
    },
    /// Write a reservation to disk and bring it to the chain; answer with [`Event::Standing`] as soon as it is on disk, and again
    /// when it counts.
    HoldReservation {
        /// The reservation, of the same payer and signer.
        reservation: Reservation<Checked>,
    },
    /// Look for a free slot, or a place in line; answer with [`Event::Room`]. What is held or waited for is given up with the job.
    Seek(Wanted),
    /// Begin to compute. May come before [`Action::Record`], and then stands for nothing yet: a job that is not fresh is
    /// cancelled.
    Start(Box<StartJob>),
    /// Compute nothing until `Resume`, but keep all that was computed.
    Pause,
    /// Go on.
    Resume,
    /// Stop computing for good.
    CancelEngine,
    /// Keep this receipt. At most once per job; it has the client's countersignature if that came.
    Store(Box<SignedReceipt>),
    /// Write out what was sent, then close the stream. The last action.
    Close(Ended),
}

/// How the job ended, for the log and the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Done, and the client countersigned.
    Signed,
    /// Done, and the client did not countersign in time.
    Unsigned,
    /// Not taken: the code that was sent.
    Refused(RefuseCode),
    /// Not taken for want of room.
    Busy,
    /// The client cancelled before the job began.
    Cancelled,
    /// The client is gone.
    ClientGone(CloseWhy),
    /// We broke it off: the code that was sent.
    Failed(RefuseCode),
}
