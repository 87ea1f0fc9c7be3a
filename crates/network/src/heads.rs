//! Serving pieces of a model file's head, fetching one, and saying why it could not be fetched.
//!
//! The node names a file or hands the bytes; a piece is then read where it is asked for, so that a head of 32 MiB is never held
//! here for a peer that fetches it slowly.

mod fetch;

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{
    ModelDigest, ModelRef, PeerId,
    head::{HeadError, HeadResponse, HeadStatus, MAX_CHUNK},
};
use tokio::sync::oneshot;

pub use self::fetch::HeadProgress;
pub(crate) use self::fetch::{fetch, slowest};
use crate::error::NetworkError;

/// How long the node has to say where a head is: it looks into a table.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);
/// Pieces being read from disk at once.
pub(crate) const READS: usize = 8;
/// How long an answer of the node is used again. A fetch of pieces asks once; a model that was removed is gone soon.
const REMEMBER: Duration = Duration::from_secs(60);
/// Answers remembered: models served by one node.
const REMEMBERED: usize = 16;

/// A peer wants the head of a model.
#[derive(Debug)]
pub struct HeadRequest {
    /// Who.
    pub peer: PeerId,
    /// Which model.
    pub model: ModelDigest,
    /// Where the answer goes. Dropped, or `None`: this node does not give it.
    pub reply: oneshot::Sender<Option<HeadSource>>,
}

/// Where a head is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadSource {
    /// The first `len` bytes of a file: the model's own file, or the head alone.
    File {
        /// The file.
        path: PathBuf,
        /// Bytes of the head.
        len: u32,
    },
    /// The bytes themselves.
    Bytes(Bytes),
}

/// What the node answered lately.
#[derive(Debug, Default)]
pub(crate) struct Sources(BTreeMap<ModelDigest, (HeadSource, Instant)>);

impl Sources {
    pub(crate) fn get(&self, model: &ModelDigest, now: Instant) -> Option<HeadSource> {
        let (source, at) = self.0.get(model)?;
        (now.saturating_duration_since(*at) < REMEMBER).then(|| source.clone())
    }

    pub(crate) fn remember(&mut self, model: ModelDigest, source: HeadSource, now: Instant) {
        if self.0.len() >= REMEMBERED {
            self.0
                .retain(|_, (_, at)| now.saturating_duration_since(*at) < REMEMBER);
            if self.0.len() >= REMEMBERED {
                self.0.pop_first();
            }
        }
        self.0.insert(model, (source, now));
    }

    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

/// The piece at `offset`. Reads a disk: not for the loop's own thread.
pub(crate) fn piece(source: &HeadSource, offset: u32) -> HeadResponse {
    match source {
        HeadSource::Bytes(bytes) => HeadResponse::piece(bytes, offset),
        HeadSource::File { len, .. } if offset >= *len => HeadResponse {
            total_len: *len,
            offset,
            ..HeadResponse::without(HeadStatus::OutOfRange)
        },
        HeadSource::File { path, len } => {
            match read_at(path, offset, (*len - offset).min(MAX_CHUNK as u32)) {
                Ok(chunk) => HeadResponse {
                    total_len: *len,
                    offset,
                    chunk,
                    ..HeadResponse::without(HeadStatus::Piece)
                },
                Err(error) => {
                    tracing::warn!(%error, "a model's head cannot be read");
                    HeadResponse::without(HeadStatus::Unknown)
                }
            }
        }
    }
}

fn read_at(path: &PathBuf, offset: u32, len: u32) -> io::Result<Bytes> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset.into()))?;
    let mut chunk = vec![0; len as usize];
    file.read_exact(&mut chunk)?;
    Ok(chunk.into())
}

/// Why a peer's piece was not the one asked for, for the caller of a fetch.
pub(crate) fn refused(peer: PeerId, model: &ModelRef, error: HeadError) -> NetworkError {
    match error {
        HeadError::Status(HeadStatus::Unknown) => NetworkError::HeadNotHeld {
            peer,
            model: model.digest,
        },
        HeadError::Status(HeadStatus::Busy) => NetworkError::HeadBusy { peer },
        HeadError::Status(HeadStatus::OutOfRange | HeadStatus::Unspecified | HeadStatus::Piece) => {
            NetworkError::Malformed {
                peer,
                what: "the head has another length than the one promised",
            }
        }
        HeadError::WrongDigest => NetworkError::HeadDigest {
            peer,
            expected: model.head_sha256,
        },
        HeadError::TooLarge { len } => NetworkError::HeadTooLarge {
            len,
            max: protocol::head::MAX_HEAD,
        },
        HeadError::WrongLength { .. } => NetworkError::Malformed {
            peer,
            what: "the head has another length than the one promised",
        },
        HeadError::WrongPiece { .. } => NetworkError::Malformed {
            peer,
            what: "another piece of the head came than the one asked for",
        },
        HeadError::Undecodable => NetworkError::Malformed {
            peer,
            what: "the piece of the head cannot be decoded",
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn pieces_of_a_file_and_of_bytes_are_alike_and_end_at_the_head() {
        let whole: Vec<u8> = (0..MAX_CHUNK + 1000).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&whole).unwrap();
        file.write_all(b"weights, which are nobody's business here")
            .unwrap();
        let from_file = HeadSource::File {
            path: file.path().to_owned(),
            len: whole.len() as u32,
        };
        let from_bytes = HeadSource::Bytes(whole.into());
        for offset in [
            0,
            17,
            MAX_CHUNK as u32,
            MAX_CHUNK as u32 + 999,
            MAX_CHUNK as u32 + 1000,
            u32::MAX,
        ] {
            assert_eq!(
                piece(&from_file, offset),
                piece(&from_bytes, offset),
                "at {offset}"
            );
        }
    }

    #[test]
    fn a_file_that_is_gone_or_short_is_unknown() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"short").unwrap();
        let short = HeadSource::File {
            path: file.path().to_owned(),
            len: 100,
        };
        assert_eq!(piece(&short, 0).status(), HeadStatus::Unknown);
        let gone = HeadSource::File {
            path: "no such file".into(),
            len: 100,
        };
        assert_eq!(piece(&gone, 0).status(), HeadStatus::Unknown);
    }
}
