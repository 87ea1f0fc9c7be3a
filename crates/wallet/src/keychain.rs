//! The system's keychain: where a system keeps secrets for a person who has logged in.
//!
//! What is kept there is an addition: an [`UnlockKey`] opens one wallet's file in the place of its password. It is worth
//! nothing without the file, and the file opens by its password without it.
//!
//! A keychain that is locked asks its owner for a password of its own, so a call may take as long as a person does: none
//! belongs on a thread that others wait for.

use std::{path::Path, sync::Arc};

use keyring_core::{CredentialStore, Entry, Error as StoreError};
use zeroize::Zeroizing;

use crate::{
    file::WalletFile,
    kdf::{KEY_BYTES, UnlockKey},
};

/// Under which a person finds it in their system's list of secrets.
const SERVICE: &str = "DecentralGPT wallet";

/// Why a keychain did not do what was asked. No variant holds anything secret.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    /// This system has none, or none that answers here.
    #[error("there is no keychain on this computer that can be used here: {why}")]
    Absent {
        /// What the system said.
        why: String,
    },
    /// There is one, and its owner did not open it.
    #[error("the keychain is locked: {why}")]
    Locked {
        /// What the system said.
        why: String,
    },
    /// There is one, and it did not do it.
    #[error("the keychain did not do it: {why}")]
    Failed {
        /// What the system said.
        why: String,
    },
}

/// A keychain. A handle: nothing is asked of the system before a call, since a person logs in and out while a node runs.
#[derive(Debug, Clone)]
pub struct Keychain(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Given(Arc<CredentialStore>),
}

impl Keychain {
    /// That of this system: a Secret Service (GNOME Keyring, KWallet, KeePassXC) on Linux, the login keychain on macOS,
    /// the Credential Manager on Windows.
    #[must_use]
    pub fn of_system() -> Self {
        Self(Source::System)
    }

    /// Any other store of the same interface.
    #[must_use]
    pub fn of_store(store: Arc<CredentialStore>) -> Self {
        Self(Source::Given(store))
    }

    /// Keeps what opens this file, in the place of what was kept for it before.
    ///
    /// # Errors
    /// [`KeychainError`].
    pub fn keep(&self, file: &WalletFile, key: &UnlockKey) -> Result<(), KeychainError> {
        // As text: KWallet keeps nothing else.
        let mut text = Zeroizing::new([0; 2 * KEY_BYTES]);
        hex::encode_to_slice(key.expose(), &mut text[..]).map_err(|error| {
            KeychainError::Failed {
                why: error.to_string(),
            }
        })?;
        Ok(self.entry(file.path())?.set_secret(&text[..])?)
    }

    /// What was kept for this file; `None` where nothing was.
    ///
    /// # Errors
    /// [`KeychainError`].
    pub fn find(&self, file: &WalletFile) -> Result<Option<UnlockKey>, KeychainError> {
        let text = match self.entry(file.path())?.get_secret() {
            Ok(text) => Zeroizing::new(text),
            Err(StoreError::NoEntry) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Whatever else stands there opens nothing.
        let bytes = hex::decode(&text).map(Zeroizing::new).ok();
        Ok(bytes.and_then(|bytes| UnlockKey::from_slice(&bytes)))
    }

    /// Removes what was kept for this file; nothing is removed where nothing was.
    ///
    /// # Errors
    /// [`KeychainError`].
    pub fn forget(&self, file: &WalletFile) -> Result<(), KeychainError> {
        match self.entry(file.path())?.delete_credential() {
            Ok(()) | Err(StoreError::NoEntry) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// One entry for each place that a wallet lies in: another seal of it takes the place of the one before.
    fn entry(&self, file: &Path) -> Result<Entry, KeychainError> {
        let store = match &self.0 {
            Source::System => system()?,
            Source::Given(store) => Arc::clone(store),
        };
        let place = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        Ok(store.build(SERVICE, &place.to_string_lossy(), None)?)
    }
}

impl From<StoreError> for KeychainError {
    fn from(error: StoreError) -> Self {
        if let StoreError::NoStorageAccess(why) = &error {
            return Self::Locked {
                why: why.to_string(),
            };
        }
        // These carry what was read: it is in no text of ours.
        let reads = matches!(
            error,
            StoreError::BadEncoding(_) | StoreError::BadDataFormat(..)
        );
        let why = match reads {
            true => "what it holds cannot be read".to_owned(),
            false => error.to_string(),
        };
        Self::Failed { why }
    }
}

/// Where a system has none, connecting to it fails.
#[cfg(any(target_os = "linux", target_os = "macos", target_os = "windows"))]
fn system() -> Result<Arc<CredentialStore>, KeychainError> {
    #[cfg(target_os = "macos")]
    use apple_native_keyring_store::keychain::Store;
    #[cfg(target_os = "windows")]
    use windows_native_keyring_store::Store;
    #[cfg(target_os = "linux")]
    use zbus_secret_service_keyring_store::Store;

    let store = Store::new().map_err(|error| KeychainError::Absent {
        why: error.to_string(),
    })?;
    Ok(store)
}

#[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "windows")))]
fn system() -> Result<Arc<CredentialStore>, KeychainError> {
    Err(KeychainError::Absent {
        why: "none is known for this system".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use keyring_core::mock;

    use super::*;
    use crate::{Account, Contents, Phrase, Typed};

    fn wallet(folder: &Path) -> (WalletFile, Typed) {
        let contents = Contents::Words(Phrase::generate().unwrap());
        let password = Typed::from("correct horse battery staple");
        let file = WalletFile::create(&folder.join("wallet.json"), &contents, &password).unwrap();
        (file, password)
    }

    fn keychain() -> Keychain {
        Keychain::of_store(mock::Store::new().unwrap())
    }

    #[test]
    fn what_is_kept_opens_the_file_until_it_is_sealed_anew_or_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, password) = wallet(folder.path());
        let keychain = keychain();
        assert!(keychain.find(&file).unwrap().is_none());
        keychain.forget(&file).unwrap();

        let key = file.unlock_key(&password).unwrap();
        keychain.keep(&file, &key).unwrap();
        let found = keychain.find(&file).unwrap().unwrap();
        let opened = file.unlock_with(&found).unwrap().unwrap();
        assert_eq!(
            opened.key(Account::Wallet).address(),
            file.address(Account::Wallet)
        );

        let fresh = Typed::from("another password");
        file.change_password(&password, &fresh).unwrap();
        assert!(file.unlock_with(&found).unwrap().is_none());
        let key = file.unlock_key(&fresh).unwrap();
        keychain.keep(&file, &key).unwrap();
        let found = keychain.find(&file).unwrap().unwrap();
        assert!(file.unlock_with(&found).unwrap().is_some());

        keychain.forget(&file).unwrap();
        assert!(keychain.find(&file).unwrap().is_none());
        file.unlock(&fresh).unwrap();
    }

    #[test]
    fn a_wrong_password_gives_nothing_to_keep() {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = wallet(folder.path());
        assert!(matches!(
            file.unlock_key(&Typed::from("correct horse battery stable")),
            Err(crate::WalletError::WrongPassword)
        ));
    }

    #[test]
    fn each_wallet_has_its_own_and_what_is_no_key_opens_nothing() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ((first, password), (second, _)) = (wallet(one.path()), wallet(two.path()));
        let keychain = keychain();
        let key = first.unlock_key(&password).unwrap();
        keychain.keep(&first, &key).unwrap();
        assert!(keychain.find(&second).unwrap().is_none());
        assert!(second.unlock_with(&key).unwrap().is_none());

        let entry = keychain.entry(first.path()).unwrap();
        for garbage in [&b"zz"[..], b"", b"00ff", &[0xff; 64]] {
            entry.set_secret(garbage).unwrap();
            assert!(keychain.find(&first).unwrap().is_none());
        }
    }

    #[test]
    fn no_error_and_no_debug_shows_what_is_kept() {
        let key = UnlockKey::from_slice(&[0xab; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "UnlockKey(…)");
        let secret = b"correct horse".to_vec();
        for error in [
            StoreError::BadEncoding(secret.clone()),
            StoreError::BadDataFormat(secret, "cut".into()),
        ] {
            let shown = KeychainError::from(error);
            let shown = format!("{shown} {shown:?}");
            assert!(
                !shown.contains("horse") && !shown.contains("99, 111"),
                "{shown}"
            );
        }
    }
}
