//! The job stream `/decentralgpt/infer/1`: frames, their caps, and how they are delimited.
//!
//! A frame travels as an unsigned varint length (at most four bytes, minimal form) and a protobuf message with one
//! `oneof`. [`FrameBuf`] cuts a byte stream into frames and checks a length against the [`Cap`] of the stream's
//! state before it keeps any of the frame. [`Frame::from_bytes`] then checks what the length could not tell: whether
//! this kind may come from that side, and whether it stays within the cap of its kind.
//!
//! A kind that this version does not know is skipped, unless its sender set `crit`: then the stream cannot go on.

mod buffer;
mod messages;
mod open;

pub use buffer::FrameBuf;
pub use messages::*;
pub use open::{Grammar, GrammarKind, Open, ResumeOf, Sampling};

use bytes::Bytes;
use prost::Message as _;

/// The libp2p protocol name of a job stream.
pub const PROTOCOL: &str = "/decentralgpt/infer/1";

/// The first frame of a stream holds a prompt: 250,000 tokens pack into less.
pub const MAX_OPEN: usize = 1 << 20;
/// Everything a client sends later is a signature, a reason or a number.
pub const MAX_CLIENT_FRAME: usize = 4 << 10;
/// Tokens of one flush with room for what later versions add to each token.
pub const MAX_TOKENS_FRAME: usize = 16 << 10;
/// A receipt is about 500 bytes; the rest is room for fields to come.
pub const MAX_PROVIDER_FRAME: usize = 4 << 10;

/// Token ids in one `Tokens` frame. A provider flushes at 16; a resent or delayed batch may be larger.
pub const MAX_IDS_PER_FRAME: usize = 1024;
/// Bytes of a message for a person in `Refuse` and `Error`.
pub const MAX_TEXT: usize = 200;
/// Stop strings of one job.
pub const MAX_STOP_STRINGS: usize = 8;
/// Bytes of one stop string.
pub const MAX_STOP_BYTES: usize = 128;
/// Bytes of the schema, grammar or expression of one job: what the engine compiles at most.
pub const MAX_GRAMMAR: usize = 64 << 10;
/// Likeliest tokens whose log-probabilities are told beside each token.
pub const MAX_LOGPROBS: u32 = 20;
/// Ids in one `Tokens` frame that carries log-probabilities: 64 times 20 likeliest tokens stay within
/// [`MAX_TOKENS_FRAME`].
pub const MAX_LOGPROB_IDS_PER_FRAME: usize = 64;
/// Bytes of a voucher or reservation: twice what they have, and room for another scheme of signatures.
pub const MAX_VOUCHER: usize = 512;
/// Bytes of a sum of base units.
pub const MAX_SUM: usize = 16;
/// `Tokens` frames are padded to about a multiple of this (a few bytes less at most), so that an observer of the encrypted stream does not read
/// the lengths of tokens off the sizes of packets.
pub const PAD_TO: usize = 256;

/// A client has this long to send its first frame, and then a second per [`MIN_BYTES_PER_SECOND`] bytes of it.
pub const OPEN_FRAME_MS: u64 = 10_000;
/// The slowest upload of a prompt that is waited for.
pub const MIN_BYTES_PER_SECOND: u64 = 16 << 10;

/// How long a first frame of `len` bytes may take to arrive.
pub const fn open_frame_ms(len: usize) -> u64 {
    OPEN_FRAME_MS + (len as u64) * 1000 / MIN_BYTES_PER_SECOND
}

/// What may come next on a stream: whose side is read, and in which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// A provider reads a client's first frame: `Open` and nothing else.
    Open,
    /// A provider reads what a client sends later.
    Client,
    /// A client reads what a provider sends.
    Provider,
}

impl Cap {
    /// Bytes that a frame may have here, checked on its length prefix alone.
    pub const fn bytes(self) -> usize {
        match self {
            Cap::Open => MAX_OPEN,
            Cap::Client => MAX_CLIENT_FRAME,
            Cap::Provider => MAX_TOKENS_FRAME,
        }
    }
}

/// A violation of the framing: the stream that brought it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length prefix is longer than four bytes, or not in its shortest form.
    #[error("the length in front of a frame is malformed")]
    Length,
    /// The length prefix exceeds what this state allows.
    #[error("a frame of {len} bytes came where {cap} are allowed")]
    TooLong {
        /// Bytes that the prefix, or the frame itself, has.
        len: usize,
        /// Bytes allowed.
        cap: usize,
    },
    /// The bytes are no protobuf frame.
    #[error("a frame cannot be decoded")]
    Undecodable,
    /// A kind we do not know, marked as one that must be understood.
    #[error("a frame of unknown kind must be understood")]
    UnknownCritical,
    /// A kind that does not belong to this side or state.
    #[error("a {kind} frame does not belong here")]
    Misplaced {
        /// Name of the kind.
        kind: &'static str,
    },
    /// A list or text in the frame is longer than declared.
    #[error("{field} in a {kind} frame is too long")]
    FieldTooLong {
        /// Name of the kind.
        kind: &'static str,
        /// Name of the field.
        field: &'static str,
    },
}

impl Frame {
    /// The frame's bytes, without a length. The same frame always gives the same bytes, so the sender of an `Open`
    /// may compute its job id from them.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(
            Envelope {
                kind: Some(self.clone()),
                crit: false,
            }
            .encode_to_vec(),
        )
    }

    /// The frame's bytes behind their length, as they travel.
    pub fn to_delimited(&self) -> Bytes {
        delimit(&self.to_bytes())
    }

    /// Decodes one frame. `None` is a kind of a later version that may be skipped.
    pub fn from_bytes(bytes: &Bytes, cap: Cap) -> Result<Option<Frame>, FrameError> {
        if bytes.len() > cap.bytes() {
            return Err(FrameError::TooLong {
                len: bytes.len(),
                cap: cap.bytes(),
            });
        }
        let envelope = Envelope::decode(bytes.clone()).map_err(|_| FrameError::Undecodable)?;
        let Some(frame) = envelope.kind else {
            return if envelope.crit {
                Err(FrameError::UnknownCritical)
            } else {
                Ok(None)
            };
        };
        frame.belongs(cap)?;
        let of_kind = if matches!(frame, Frame::Tokens(_)) {
            MAX_TOKENS_FRAME
        } else {
            MAX_PROVIDER_FRAME
        };
        if cap == Cap::Provider && bytes.len() > of_kind {
            return Err(FrameError::TooLong {
                len: bytes.len(),
                cap: of_kind,
            });
        }
        frame.lists()?;
        Ok(Some(frame))
    }

    /// The kind's name, as documents and logs write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Frame::Open(_) => "Open",
            Frame::Accept(_) => "Accept",
            Frame::Busy(_) => "Busy",
            Frame::Refuse(_) => "Refuse",
            Frame::Progress(_) => "Progress",
            Frame::Tokens(_) => "Tokens",
            Frame::Checkpoint(_) => "Checkpoint",
            Frame::Done(_) => "Done",
            Frame::Ack(_) => "Ack",
            Frame::Cancel(_) => "Cancel",
            Frame::Ping(_) => "Ping",
            Frame::Pong(_) => "Pong",
            Frame::Error(_) => "Error",
            Frame::Pay(_) => "Pay",
            Frame::Reserve(_) => "Reserve",
            Frame::Reserved(_) => "Reserved",
        }
    }

    fn belongs(&self, cap: Cap) -> Result<(), FrameError> {
        let here = match self {
            Frame::Open(_) => cap == Cap::Open,
            Frame::Ack(_) | Frame::Cancel(_) | Frame::Pay(_) | Frame::Reserved(_) => {
                cap == Cap::Client
            }
            Frame::Ping(_) | Frame::Pong(_) | Frame::Error(_) => cap != Cap::Open,
            Frame::Accept(_)
            | Frame::Busy(_)
            | Frame::Refuse(_)
            | Frame::Progress(_)
            | Frame::Tokens(_)
            | Frame::Checkpoint(_)
            | Frame::Done(_)
            | Frame::Reserve(_) => cap == Cap::Provider,
        };
        if here {
            Ok(())
        } else {
            Err(FrameError::Misplaced { kind: self.kind() })
        }
    }

    fn lists(&self) -> Result<(), FrameError> {
        let field = match self {
            Frame::Open(open) if open.stop.len() > MAX_STOP_STRINGS => "stop",
            Frame::Open(open) if open.stop.iter().any(|stop| stop.len() > MAX_STOP_BYTES) => "stop",
            Frame::Open(open)
                if open
                    .grammar
                    .as_ref()
                    .is_some_and(|grammar| grammar.text.len() > MAX_GRAMMAR) =>
            {
                "grammar"
            }
            Frame::Accept(accept) if accept.last_voucher_held.len() > MAX_VOUCHER => {
                "last_voucher_held"
            }
            Frame::Accept(accept) if accept.paid.len() > MAX_SUM => "paid",
            Frame::Tokens(tokens) if tokens.ids.len() > MAX_IDS_PER_FRAME => "ids",
            Frame::Tokens(tokens) if !tokens.logprobs_fit() => "logprobs",
            Frame::Pay(pay) if pay.voucher.len() > MAX_VOUCHER => "voucher",
            Frame::Pay(pay) if pay.adds.len() > MAX_SUM => "adds",
            Frame::Reserved(reserved) if reserved.reservation.len() > MAX_VOUCHER => "reservation",
            Frame::Reserve(reserve) if reserve.least.len() > MAX_SUM => "least",
            Frame::Refuse(refuse) if refuse.msg.len() > MAX_TEXT => "msg",
            Frame::Error(error) if error.msg.len() > MAX_TEXT => "msg",
            Frame::Open(_)
            | Frame::Accept(_)
            | Frame::Busy(_)
            | Frame::Refuse(_)
            | Frame::Progress(_)
            | Frame::Tokens(_)
            | Frame::Checkpoint(_)
            | Frame::Done(_)
            | Frame::Ack(_)
            | Frame::Cancel(_)
            | Frame::Ping(_)
            | Frame::Pong(_)
            | Frame::Error(_)
            | Frame::Pay(_)
            | Frame::Reserve(_)
            | Frame::Reserved(_) => return Ok(()),
        };
        Err(FrameError::FieldTooLong {
            kind: self.kind(),
            field,
        })
    }
}

/// Puts a length in front of a message: an unsigned varint in its shortest form.
pub fn delimit(message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(message.len() + 4);
    let mut len = message.len();
    while len >= 0x80 {
        out.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(message);
    Bytes::from(out)
}
