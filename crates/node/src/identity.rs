//! Who this node is to its peers: an Ed25519 seed in a file that only its owner can read.
//!
//! The file is text, so that a person can see what it is: a header, the seed, and the PeerId that the seed gives. The
//! last line is the checksum: a file whose lines disagree is damaged, and is never replaced silently, because a new
//! identity would lose what the old one earned.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::data::{self, AtomicWrite};

const HEADER: &str = "decentralgpt identity 1";

/// The file has three short lines: anything longer is not ours, and is not read into memory.
const MAX_FILE_BYTES: u64 = 4096;

/// A seed and the PeerId it gives.
#[derive(Clone)]
pub struct Identity {
    seed: [u8; 32],
    peer_id: protocol::PeerId,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("peer_id", &self.peer_id.to_string())
            .finish_non_exhaustive()
    }
}

/// Why the identity file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file exists and cannot be read.
    #[error("the identity file {path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others on this computer can read the secret.
    #[error("the identity file {path} can be read by others on this computer (mode {mode:03o})")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not an identity, or is damaged.
    #[error("the identity file {path} is damaged: {why}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A new identity could not be written.
    #[error("a new identity cannot be written to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system has no randomness to give.
    #[error("the system gave no random bytes: {0}")]
    Random(String),
}

impl IdentityError {
    /// What the person can do about it.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            Self::Unreadable { path, .. } => {
                format!(
                    "Give yourself the right to read {}, then start again.",
                    path.display()
                )
            }
            Self::TooOpen { path, .. } => {
                format!("Run `chmod 600 {}`, then start again.", path.display())
            }
            Self::Corrupt { path, .. } => format!(
                "Put your backup of {0} back. Without one, move {0} away: the next start makes a new identity, and peers will not know you by the old one.",
                path.display()
            ),
            Self::Write { path, .. } => {
                format!(
                    "Make the folder of {} writable, and check that the disk is not full.",
                    path.display()
                )
            }
            Self::Random(_) => {
                "Start the program again; if it stays, the system is damaged.".to_owned()
            }
        }
    }
}

impl Identity {
    /// Reads the identity, or makes and stores a new one when there is no file.
    ///
    /// # Errors
    /// Any [`IdentityError`]; an existing file is left as it is.
    pub fn open_or_create(path: &Path) -> Result<Self, IdentityError> {
        match data::read_capped(path, MAX_FILE_BYTES) {
            Ok(text) => {
                check_mode(path)?;
                Self::parse(path, &text)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(IdentityError::Corrupt {
                    path: path.to_owned(),
                    why: "it is not a short text file",
                })
            }
            Err(source) => Err(IdentityError::Unreadable {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// An identity that is nowhere stored, for a run in which the file cannot be used.
    ///
    /// # Errors
    /// [`IdentityError::Random`].
    pub fn temporary() -> Result<Self, IdentityError> {
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(|error| IdentityError::Random(error.to_string()))?;
        Ok(Self::from_seed(seed))
    }

    /// The PeerId.
    #[must_use]
    pub fn peer_id(&self) -> protocol::PeerId {
        self.peer_id
    }

    /// The seed, for the network's handshakes.
    #[must_use]
    pub(crate) fn seed(&self) -> [u8; 32] {
        self.seed
    }

    /// What signs offers and receipts.
    #[must_use]
    pub(crate) fn signer(&self) -> protocol::Signer {
        protocol::Signer::from_seed(self.seed)
    }

    fn from_seed(seed: [u8; 32]) -> Self {
        let peer_id = protocol::Signer::from_seed(seed).peer_id();
        Self { seed, peer_id }
    }

    fn create(path: &Path) -> Result<Self, IdentityError> {
        let identity = Self::temporary()?;
        let text = format!(
            "{HEADER}\nseed {}\npeer {}\n",
            hex::encode(identity.seed),
            identity.peer_id
        );
        data::write_atomically(path, text.as_bytes(), AtomicWrite::Secret).map_err(|source| {
            IdentityError::Write {
                path: path.to_owned(),
                source,
            }
        })?;
        Ok(identity)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, IdentityError> {
        let corrupt = |why| IdentityError::Corrupt {
            path: path.to_owned(),
            why,
        };
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(corrupt("its first line is not that of an identity"));
        }
        let seed = lines
            .next()
            .and_then(|line| line.strip_prefix("seed "))
            .ok_or(corrupt("the seed is missing"))?;
        let peer = lines
            .next()
            .and_then(|line| line.strip_prefix("peer "))
            .ok_or(corrupt("the peer id is missing"))?;
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(seed.trim(), &mut bytes)
            .map_err(|_| corrupt("the seed is not 64 hex digits"))?;
        let identity = Self::from_seed(bytes);
        if identity.peer_id.to_string() != peer.trim() {
            return Err(corrupt("the seed does not give the peer id below it"));
        }
        Ok(identity)
    }
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path)
        .map_err(|source| IdentityError::Unreadable {
            path: path.to_owned(),
            source,
        })?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(IdentityError::TooOpen {
            path: path.to_owned(),
            mode,
        })
    }
}

#[cfg(not(unix))]
fn check_mode(_path: &Path) -> Result<(), IdentityError> {
    // Windows: the profile folder's access list already names the owner alone.
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        let first = Identity::open_or_create(&path).unwrap();
        let second = Identity::open_or_create(&path).unwrap();
        assert_eq!(first.peer_id().to_string(), second.peer_id().to_string());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
    }

    #[test]
    fn one_changed_digit_is_noticed_and_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        Identity::open_or_create(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, tail) = text.split_at(HEADER.len() + 10);
        let digit = if tail.starts_with('0') { "1" } else { "0" };
        let damaged = format!("{head}{digit}{}", &tail[1..]);
        std::fs::write(&path, &damaged).unwrap();
        assert!(matches!(
            Identity::open_or_create(&path),
            Err(IdentityError::Corrupt { .. })
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
    }

    #[test]
    fn garbage_is_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        for bytes in [&b""[..], b"\xff\xfe\x00", b"hello", &[b'a'; 10_000]] {
            data::write_atomically(&path, bytes, AtomicWrite::Secret).unwrap();
            assert!(matches!(
                Identity::open_or_create(&path),
                Err(IdentityError::Corrupt { .. })
            ));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_readable_secret_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        Identity::open_or_create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Identity::open_or_create(&path),
            Err(IdentityError::TooOpen { mode: 0o644, .. })
        ));
    }
}
