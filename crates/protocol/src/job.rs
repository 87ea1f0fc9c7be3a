//! The two sides of a job as state machines without IO: [`provider`] serves one job on one stream, [`client`] gets
//! one whole answer, over as many streams as it takes.
//!
//! Both are driven alike. The owner feeds an event and the time into `step` and carries out the actions that come
//! back, in their order; when `deadline()` passes it feeds a `Tick`. A machine is a pure function of what it was
//! fed: no clock, no randomness, no channel. After its last action (`Close` there, `Finish` here) it does nothing.
//!
//! Every wait is for progress, never for a fixed total time: a side that says something in time may take as long as
//! it needs, up to [`MAX_JOB_MS`].
//!
//! A stream that breaks does not end its job. The provider parks it for as long as its `Accept` said, at most
//! [`RESUME_GRACE_MS`]; the client comes back on a new stream with `resume_of`, is given what it missed, and the job goes
//! on with the id, the hash chain and the one receipt of its first frame. Who does not come back, or finds nobody,
//! goes on elsewhere at the same token index: there it is a job of its own, with all tokens so far as input.

pub mod client;
pub mod provider;

/// Why an output ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Finish {
    /// The model wrote an end token.
    Stop,
    /// The limit of output tokens or of the context was reached.
    Length,
    /// A stop string appeared.
    StopString,
    /// It was broken off: cancelled, switched off, cut.
    Abort,
}

impl Finish {
    /// The name used in JSON and in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::StopString => "stop_string",
            Finish::Abort => "abort",
        }
    }

    pub(crate) fn to_wire(self) -> u32 {
        match self {
            Finish::Stop => 1,
            Finish::Length => 2,
            Finish::StopString => 3,
            Finish::Abort => 4,
        }
    }

    pub(crate) fn from_wire(value: u32) -> Option<Self> {
        match value {
            1 => Some(Finish::Stop),
            2 => Some(Finish::Length),
            3 => Some(Finish::StopString),
            4 => Some(Finish::Abort),
            _ => None,
        }
    }
}

/// Why a stream ended without the machine's doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseWhy {
    /// The other side closed it in order.
    Ended,
    /// The connection broke; the text is for the log.
    Cut(String),
    /// The other side sent bytes that are no frames, or frames that do not belong here.
    Violation(crate::frame::FrameError),
}

impl std::fmt::Display for CloseWhy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CloseWhy::Ended => f.write_str("the other side closed the stream"),
            CloseWhy::Cut(why) => write!(f, "the connection broke: {why}"),
            CloseWhy::Violation(error) => write!(f, "the other side broke the protocol: {error}"),
        }
    }
}

/// No job runs longer: whatever went wrong without anybody noticing ends here.
pub const MAX_JOB_MS: u64 = 30 * 60 * 1000;
/// A job's expiry may be this far ahead: a provider remembers job ids for as long.
pub const MAX_EXPIRY_MS: u64 = 10 * 60 * 1000;
/// The expiry a client gives: half of what is allowed leaves room for clocks that differ either way.
pub const OPEN_EXPIRY_MS: u64 = 5 * 60 * 1000;
/// A provider answers an `Open` within this time, or the client looks elsewhere.
pub const ACCEPT_MS: u64 = 3_000;
/// A provider says something this often until the first token.
pub const HEARTBEAT_BEFORE_MS: u64 = 1_000;
/// And this often afterwards.
pub const HEARTBEAT_DECODE_MS: u64 = 500;
/// A job whose stream was cut is kept for this long: a machine that changes its network or wakes from a short sleep is
/// back by then.
pub const RESUME_GRACE_MS: u64 = 60_000;
/// Frames that may wait to be written to one stream before its writer counts as blocked: at a frame per 40 ms, ten seconds of an
/// answer.
pub const MAX_OUTBOUND_FRAMES: usize = 256;
/// And bytes: what one stream of Yamux holds on its way, once more.
pub const MAX_OUTBOUND_BYTES: usize = 256 << 10;
