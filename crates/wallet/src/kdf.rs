//! From a password to the key of the file: Argon2id (RFC 9106).

use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{error::WalletError, typed::Typed};

/// Bytes of a salt, as RFC 9106, section 3.1, recommends.
pub(crate) const SALT_BYTES: usize = 16;

/// What a file may ask for. Its own cost is 64 MiB and three passes; beyond four times that, opening it would be an attack
/// on the computer and no protection of the key.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 4;

/// What deriving a key costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
    pub(crate) lanes: u32,
}

impl Cost {
    /// That of a new file: RFC 9106, section 4, for computers with little memory (64 MiB, three passes), on one lane,
    /// because the derivation runs on one thread here.
    pub(crate) const STANDARD: Self = Self {
        memory_kib: 64 * 1024,
        passes: 3,
        lanes: 1,
    };

    /// Whether a file may ask for it.
    pub(crate) fn is_bearable(self) -> bool {
        self.memory_kib <= MAX_MEMORY_KIB
            && self.passes <= MAX_PASSES
            && self.lanes <= MAX_LANES
            && self.params().is_some()
    }

    fn params(self) -> Option<Params> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_BYTES)).ok()
    }
}

/// What opens one file as it is sealed now. Sealed anew, even under the same password, the file has another one.
pub struct UnlockKey(Zeroizing<[u8; KEY_BYTES]>);

/// What XChaCha20-Poly1305 takes.
pub(crate) const KEY_BYTES: usize = 32;

impl UnlockKey {
    /// From what was kept; `None` for another length.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != KEY_BYTES {
            return None;
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        key.copy_from_slice(bytes);
        Some(Self(key))
    }

    /// The key itself, for whoever keeps it. It is the caller's to wipe what it copies.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for UnlockKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnlockKey(…)")
    }
}

/// The key of a file.
///
/// # Errors
/// [`WalletError::Memory`] when the system has none; [`WalletError::PasswordLong`].
pub(crate) fn derive(
    password: &Typed,
    salt: &[u8; SALT_BYTES],
    cost: Cost,
) -> Result<UnlockKey, WalletError> {
    let password = password.password_bytes()?;
    let memory = WalletError::Memory {
        mebibytes: cost.memory_kib as usize / 1024,
    };
    let Some(params) = cost.params() else {
        return Err(memory);
    };
    let mut blocks = Vec::new();
    if blocks.try_reserve_exact(params.block_count()).is_err() {
        return Err(memory);
    }
    blocks.resize(params.block_count(), Block::new());
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let derived = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(&password, salt, &mut key[..], &mut blocks);
    // The last blocks give the key away.
    blocks.iter_mut().for_each(Block::zeroize);
    derived.map(|()| UnlockKey(key)).map_err(|_| memory)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The least that Argon2 takes, for tests whose subject is not the cost.
    pub(crate) const CHEAP: Cost = Cost {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };

    #[test]
    fn another_password_or_salt_is_another_key() {
        let key = |password: &str, salt: u8| {
            *derive(&password.into(), &[salt; SALT_BYTES], CHEAP)
                .unwrap()
                .expose()
        };
        assert_eq!(key("correct horse", 1), key("correct horse", 1));
        assert_ne!(key("correct horse", 1), key("correct horsf", 1));
        assert_ne!(key("correct horse", 1), key("correct horse", 2));
    }

    #[test]
    fn no_file_asks_for_gigabytes_or_hours() {
        assert!(Cost::STANDARD.is_bearable());
        assert!(CHEAP.is_bearable());
        for cost in [
            Cost {
                memory_kib: u32::MAX,
                ..Cost::STANDARD
            },
            Cost {
                memory_kib: MAX_MEMORY_KIB + 1,
                ..Cost::STANDARD
            },
            Cost {
                memory_kib: 0,
                ..Cost::STANDARD
            },
            Cost {
                passes: u32::MAX,
                ..Cost::STANDARD
            },
            Cost {
                passes: 0,
                ..Cost::STANDARD
            },
            Cost {
                lanes: u32::MAX,
                ..Cost::STANDARD
            },
            Cost {
                lanes: 0,
                ..Cost::STANDARD
            },
        ] {
            assert!(!cost.is_bearable(), "{cost:?}");
        }
    }
}
