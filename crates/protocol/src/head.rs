//! `/decentralgpt/head/1`: a client without the weights gets a model file's head from a peer, piece by piece.
//!
//! The client knows length and digest beforehand (catalogue row or offer), asks for one piece after another, goes on
//! at the offset it has after a cut, and believes nothing before the whole matches the digest.

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::{ModelDigest, ModelRef};

/// The libp2p protocol name.
pub const PROTOCOL: &str = "/decentralgpt/head/1";
/// Bytes of a head. The largest tokenizers of today need about 15 MiB.
pub const MAX_HEAD: usize = 32 << 20;
/// Bytes of one piece: small enough that a slow link shows progress, large enough that round trips do not count.
pub const MAX_CHUNK: usize = 256 << 10;
/// Bytes of a request.
pub const MAX_REQUEST: usize = 128;
/// Bytes of a response: a piece and the fields around it.
pub const MAX_RESPONSE: usize = MAX_CHUNK + 128;

/// Asks for a piece of a head.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeadRequest {
    /// The model, 32 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub model_digest: Bytes,
    /// First byte wanted.
    #[prost(uint32, tag = "2")]
    pub offset: u32,
}

/// A piece of a head, or why there is none.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeadResponse {
    /// A [`HeadStatus`].
    #[prost(enumeration = "HeadStatus", tag = "1")]
    pub status: i32,
    /// Bytes of the whole head.
    #[prost(uint32, tag = "2")]
    pub total_len: u32,
    /// Where the piece begins.
    #[prost(uint32, tag = "3")]
    pub offset: u32,
    /// The piece, at most [`MAX_CHUNK`] bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub chunk: Bytes,
}

/// Whether a piece came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum HeadStatus {
    /// No status that this version knows.
    Unspecified = 0,
    /// The piece is here.
    Piece = 1,
    /// The peer does not have this model.
    Unknown = 2,
    /// The offset lies behind the end.
    OutOfRange = 3,
    /// Not now.
    Busy = 4,
}

/// Why a head could not be fetched from a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The head is larger than any may be.
    #[error("a head of {len} bytes is larger than {MAX_HEAD}")]
    TooLarge {
        /// Bytes announced.
        len: u32,
    },
    /// No such message.
    #[error("the message cannot be decoded")]
    Undecodable,
    /// The peer has no piece for us.
    #[error("the peer gives no head: {0:?}")]
    Status(HeadStatus),
    /// The peer's head has another length than the one we were promised.
    #[error("the peer's head has {got} bytes instead of {expected}")]
    WrongLength {
        /// Bytes promised.
        expected: u32,
        /// Bytes of the peer's.
        got: u32,
    },
    /// The piece is not the one asked for, empty, too long or past the end.
    #[error("the peer sent another piece than the one at {expected}")]
    WrongPiece {
        /// Offset asked for.
        expected: u32,
    },
    /// The whole does not match the digest.
    #[error("the head does not match its digest")]
    WrongDigest,
}

impl HeadRequest {
    /// Reads a request and the model it names.
    pub fn from_bytes(bytes: &Bytes) -> Result<(Self, ModelDigest), HeadError> {
        if bytes.len() > MAX_REQUEST {
            return Err(HeadError::Undecodable);
        }
        let request = Self::decode(bytes.clone()).map_err(|_| HeadError::Undecodable)?;
        let digest =
            ModelDigest::from_bytes(&request.model_digest).map_err(|_| HeadError::Undecodable)?;
        Ok((request, digest))
    }
}

impl HeadResponse {
    /// Reads a response within its cap.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, HeadError> {
        if bytes.len() > MAX_RESPONSE {
            return Err(HeadError::Undecodable);
        }
        Self::decode(bytes.clone()).map_err(|_| HeadError::Undecodable)
    }

    /// What a peer that holds `head` answers to a request at `offset`.
    pub fn piece(head: &Bytes, offset: u32) -> Self {
        let total_len = u32::try_from(head.len()).unwrap_or(u32::MAX);
        let start = offset as usize;
        if start >= head.len() {
            return Self {
                status: HeadStatus::OutOfRange.into(),
                total_len,
                offset,
                chunk: Bytes::new(),
            };
        }
        let end = head.len().min(start + MAX_CHUNK);
        Self {
            status: HeadStatus::Piece.into(),
            total_len,
            offset,
            chunk: head.slice(start..end),
        }
    }

    /// An answer without a piece.
    pub fn without(status: HeadStatus) -> Self {
        Self {
            status: status.into(),
            total_len: 0,
            offset: 0,
            chunk: Bytes::new(),
        }
    }
}

/// A head that is being fetched, piece by piece in their order. It survives a cut: the rest may come from another peer. When the
/// whole does not match the digest it begins anew.
#[derive(Clone, Debug)]
pub struct HeadFetch {
    model: ModelRef,
    bytes: Vec<u8>,
}

impl HeadFetch {
    /// Begins to fetch this model's head.
    pub fn new(model: ModelRef) -> Result<Self, HeadError> {
        if model.head_len == 0 || model.head_len as usize > MAX_HEAD {
            return Err(HeadError::TooLarge {
                len: model.head_len,
            });
        }
        Ok(Self {
            model,
            bytes: Vec::new(),
        })
    }

    /// Takes a response; gives the head once it is whole and matches its digest.
    pub fn take(&mut self, response: &HeadResponse) -> Result<Option<Vec<u8>>, HeadError> {
        let status = response.status();
        if status != HeadStatus::Piece {
            return Err(HeadError::Status(status));
        }
        let (expected, got) = (self.model.head_len, response.total_len);
        if got != expected {
            return Err(HeadError::WrongLength { expected, got });
        }
        let offset = self.bytes.len();
        let len = response.chunk.len();
        if response.offset as usize != offset
            || len == 0
            || len > MAX_CHUNK
            || offset + len > expected as usize
        {
            return Err(HeadError::WrongPiece {
                expected: offset as u32,
            });
        }
        self.bytes.extend_from_slice(&response.chunk);
        if self.bytes.len() < expected as usize {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.bytes);
        if Sha256::digest(&bytes).as_slice() != self.model.head_sha256.as_bytes() {
            return Err(HeadError::WrongDigest);
        }
        Ok(Some(bytes))
    }

    /// Bytes that are here, and bytes of the whole.
    pub fn progress(&self) -> (u32, u32) {
        (self.bytes.len() as u32, self.model.head_len)
    }
}
