//! Keys of this device that work without a person: the session key and the operator key.
//!
//! Each is random, follows from no words, and lies in a file of mode 0600, so that a computer that starts by itself can go
//! on serving and asking while the wallet stays locked. What such a key can lose is bounded elsewhere: a session key its
//! grant and bond, an operator key its float and one slash.

use std::path::{Path, PathBuf};

use alloy_primitives::Address;
use zeroize::Zeroizing;

use crate::{disk, error::WalletError, secret::Secret};

const HEADER: &str = "decentralgpt key 1";

/// Four short lines: anything longer is not ours.
const MAX_FILE_BYTES: usize = 512;

/// Whose key a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyRole {
    /// Signs vouchers of this device, unasked.
    Session,
    /// Sends claims and signs finals of this device, unasked.
    Operator,
}

impl KeyRole {
    /// As the file says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Operator => "operator",
        }
    }
}

/// A key and the file that keeps it.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
    secret: Secret,
}

impl KeyFile {
    /// Reads the key.
    ///
    /// # Errors
    /// [`WalletError::Missing`] when there is none; [`WalletError::TooOpen`]; [`WalletError::Damaged`] also for a key of the
    /// other role; [`WalletError::File`].
    pub fn read(path: &Path, role: KeyRole) -> Result<Self, WalletError> {
        let text = disk::read(path, MAX_FILE_BYTES)?;
        let damaged = |why| WalletError::Damaged {
            path: path.to_owned(),
            why,
        };
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(damaged("its first line is not that of a key"));
        }
        let mut field = |name: &str| {
            lines
                .next()
                .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '))
        };
        if field("role").ok_or(damaged("the role is missing"))? != role.name() {
            return Err(damaged("it is a key of another role"));
        }
        let digits = field("secret").ok_or(damaged("the secret is missing"))?;
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, &mut bytes[..])
            .map_err(|_| damaged("the secret is not 64 hex digits"))?;
        let secret = Secret::from_slice(&bytes[..]).map_err(|_| damaged("the secret is no key"))?;
        let said = field("address").ok_or(damaged("the address is missing"))?;
        if said != secret.address().to_checksum(None) {
            return Err(damaged("the secret does not give the address below it"));
        }
        Ok(Self {
            path: path.to_owned(),
            secret,
        })
    }

    /// Makes a new key. An existing file is never overwritten.
    ///
    /// # Errors
    /// [`WalletError::Exists`], [`WalletError::Random`], [`WalletError::File`].
    pub fn create(path: &Path, role: KeyRole) -> Result<Self, WalletError> {
        if path.exists() {
            return Err(WalletError::Exists {
                path: path.to_owned(),
            });
        }
        let secret = Secret::generate()?;
        // Large enough from the start: a buffer that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES));
        let mut digits = Zeroizing::new([0; 64]);
        // 64 digits fit 64 places.
        hex::encode_to_slice(secret.expose(), &mut digits[..]).map_err(|_| WalletError::NotAKey)?;
        text.push_str(HEADER);
        text.push_str("\nrole ");
        text.push_str(role.name());
        text.push_str("\nsecret ");
        text.extend(digits.iter().map(|digit| char::from(*digit)));
        text.push_str("\naddress ");
        text.push_str(&secret.address().to_checksum(None));
        text.push('\n');
        disk::write(path, text.as_bytes())?;
        Ok(Self {
            path: path.to_owned(),
            secret,
        })
    }

    /// Reads the key, or makes it where there is none.
    ///
    /// # Errors
    /// Those of [`KeyFile::read`] and [`KeyFile::create`].
    pub fn open_or_create(path: &Path, role: KeyRole) -> Result<Self, WalletError> {
        match Self::read(path, role) {
            Err(WalletError::Missing { .. }) => Self::create(path, role),
            read => read,
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.secret.address()
    }

    /// The key.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.key");
        let first = KeyFile::open_or_create(&path, KeyRole::Operator).unwrap();
        let second = KeyFile::open_or_create(&path, KeyRole::Operator).unwrap();
        assert_eq!(first.address(), second.address());
        assert!(matches!(
            KeyFile::create(&path, KeyRole::Operator),
            Err(WalletError::Exists { .. })
        ));
        assert!(matches!(
            KeyFile::read(&path, KeyRole::Session),
            Err(WalletError::Damaged { .. })
        ));
        assert!(!format!("{first:?}").contains(&hex::encode(first.secret().expose())));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.key");
        let key = KeyFile::create(&path, KeyRole::Session).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() - 1 {
            disk::write(&path, &whole[..length]).unwrap();
            assert!(KeyFile::read(&path, KeyRole::Session).is_err(), "{length}");
        }
        for at in 0..whole.len() - 1 {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            disk::write(&path, &changed).unwrap();
            // Another case of a hex digit is the same key.
            if let Ok(read) = KeyFile::read(&path, KeyRole::Session) {
                assert_eq!(read.address(), key.address(), "byte {at}");
            }
        }
    }
}
