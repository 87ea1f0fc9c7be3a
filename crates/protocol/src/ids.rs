//! Names of peers, files and jobs: fixed-size bytes with one text form each.

use std::{borrow::Cow, fmt, str::FromStr};

use crate::base58;

/// Why a text or a byte string is not one of our ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The wrong number of bytes.
    #[error("an id of {expected} bytes was expected, {got} came")]
    Length {
        /// Bytes such an id has; of a network's name: has at most.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// The text is not base58 or hex.
    #[error("the text is not {alphabet}")]
    Text {
        /// Name of the alphabet that was expected.
        alphabet: &'static str,
    },
    /// A peer id that does not embed an Ed25519 key.
    #[error("the peer id does not hold an Ed25519 key")]
    NotEd25519,
}

/// The identity multihash and the protobuf header in front of the 32 key bytes: multihash code 0 (identity),
/// length 36, key type 1 (Ed25519), 32 bytes of key. libp2p fixes these.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// A libp2p peer id that embeds its Ed25519 public key. Text form: base58, `12D3Koo…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; PeerId::LEN]);

impl PeerId {
    /// Bytes of a peer id on the wire.
    pub const LEN: usize = 38;

    /// The id of the peer that holds this Ed25519 public key.
    pub fn from_public_key(key: &[u8; 32]) -> Self {
        let mut bytes = [0; Self::LEN];
        bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
        bytes[6..].copy_from_slice(key);
        Self(bytes)
    }

    /// Reads a peer id from its 38 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdError> {
        let bytes: [u8; Self::LEN] = bytes.try_into().map_err(|_| IdError::Length {
            expected: Self::LEN,
            got: bytes.len(),
        })?;
        if bytes[..6] != PEER_ID_PREFIX {
            return Err(IdError::NotEd25519);
        }
        Ok(Self(bytes))
    }

    /// The 38 bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The embedded Ed25519 public key, 32 bytes. It may not be a point of the curve: then nothing verifies.
    pub fn public_key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(&self.0[6..]);
        key
    }

    /// The last six characters of the text form, for a screen: all ids begin alike.
    pub fn short(&self) -> String {
        let text = self.to_string();
        text[text.len().saturating_sub(6)..].to_owned()
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base58::encode(&self.0))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl FromStr for PeerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = base58::decode(text, Self::LEN).ok_or(IdError::Text { alphabet: "base58" })?;
        Self::from_bytes(&bytes)
    }
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Bytes on the wire.
            pub const LEN: usize = 32;

            /// Names these 32 bytes.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Reads 32 bytes.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError::Length { expected: Self::LEN, got: bytes.len() })
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError::Text { alphabet: "64 hex digits" })?;
                Ok(Self(bytes))
            }
        }
    };
}

digest! {
    /// SHA-256 of a model's GGUF file; of a file in parts, SHA-256 over the parts' digests in order. Text: hex.
    ModelDigest
}
digest! {
    /// SHA-256 of a model file's head: its bytes up to the end of the tensor table. Text: hex.
    HeadDigest
}
digest! {
    /// BLAKE3 of the bytes of the frame that opened the job. Text: hex.
    JobId
}
digest! {
    /// Names an offer, see [`crate::offer::Offer::id`]. Text: hex.
    OfferId
}
digest! {
    /// One link of the hash chain over a job's output tokens, see [`crate::chain`]. Text: hex.
    ChainHash
}

/// Names a network: what is signed for one means nothing in another. At most [`NetworkId::MAX`] bytes of printable
/// ASCII.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(Cow<'static, str>);

impl NetworkId {
    /// The network that everybody is in. A lab uses another name.
    pub const MAIN: Self = Self(Cow::Borrowed("decentralgpt/1"));
    /// Bytes of a name.
    pub const MAX: usize = 64;

    /// The network of this name.
    pub fn new(name: impl Into<String>) -> Result<Self, IdError> {
        let name = name.into();
        if name.is_empty() || name.len() > Self::MAX {
            return Err(IdError::Length {
                expected: Self::MAX,
                got: name.len(),
            });
        }
        if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(IdError::Text {
                alphabet: "printable ASCII",
            });
        }
        Ok(Self(Cow::Owned(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for NetworkId {
    fn default() -> Self {
        Self::MAIN
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A model file and its head, named so that both can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelRef {
    /// The whole file.
    pub digest: ModelDigest,
    /// Bytes of the head.
    pub head_len: u32,
    /// The head's digest.
    pub head_sha256: HeadDigest,
}
