//! SHA-256 of files: as a value, and computed with progress.

use std::{
    fmt,
    io::{self, Read as _},
    path::Path,
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// Bytes read at once: large enough that hashing, not calling, is the work.
const PIECE: usize = 1 << 20;

/// A SHA-256, written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha(pub [u8; 32]);

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a SHA-256: 64 hex digits are expected")]
pub struct NotASha(pub String);

impl FromStr for Sha {
    type Err = NotASha;

    fn from_str(text: &str) -> Result<Self, NotASha> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| NotASha(text.chars().take(80).collect()))?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha {
    type Error = NotASha;

    fn try_from(text: String) -> Result<Self, NotASha> {
        text.parse()
    }
}

impl From<Sha> for String {
    fn from(sha: Sha) -> String {
        sha.to_string()
    }
}

/// Hashes the first `limit` bytes of a file (all of it for `u64::MAX`) and returns the running hash and how many bytes it covers.
/// `progress` is told the bytes so far. Ends with [`io::ErrorKind::Interrupted`] when `stop` is cancelled.
pub(super) fn hash_prefix(
    path: &Path,
    limit: u64,
    stop: &CancellationToken,
    mut progress: impl FnMut(u64),
) -> io::Result<(Sha256, u64)> {
    let mut file = std::fs::File::open(path)?.take(limit);
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut done = 0;
    loop {
        if stop.is_cancelled() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped"));
        }
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((hash, done));
        }
        hash.update(&piece[..read]);
        done += read as u64;
        progress(done);
    }
}

/// SHA-256 of a whole file.
pub(super) fn hash_file(
    path: &Path,
    stop: &CancellationToken,
    progress: impl FnMut(u64),
) -> io::Result<Sha> {
    let (hash, _) = hash_prefix(path, u64::MAX, stop, progress)?;
    Ok(Sha(hash.finalize().into()))
}
