//! The wallet's file: JSON, so that a person can see what it is and how to open it elsewhere.
//!
//! Argon2id turns the password into a key, XChaCha20-Poly1305 seals the entropy of the words (or one imported key) under
//! it. The addresses stand beside it in the clear, so that balances are seen while it is locked; they are bound to the
//! sealed part, and opening checks them against the keys. Until it is opened they are only what the file says.
//!
//! A checksum over the file tells damage from a wrong password. It is no protection from somebody who changes the file on
//! purpose: that is what the seal is for, and such a file looks like a wrong password.

use std::path::{Path, PathBuf};

use alloy_primitives::Address;
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    disk,
    error::WalletError,
    kdf::{self, Cost, SALT_BYTES, UnlockKey},
    phrase::{Account, Phrase},
    secret::Secret,
    typed::Typed,
};

const FORMAT: &str = "decentralgpt wallet";
const VERSION: u64 = 1;
const KDF: &str = "argon2id";
const CIPHER: &str = "xchacha20-poly1305";

/// A whole file has less than a kilobyte; anything much longer is not ours.
const MAX_FILE_BYTES: usize = 8192;

/// Bytes of a nonce of XChaCha20: long enough to be drawn at random each time.
const NONCE_BYTES: usize = 24;

/// Entropy of the longest phrase, or a key, and Poly1305's tag.
const MAX_SEALED_BYTES: usize = 32 + 16;

/// What a wallet is made of.
#[derive(Debug)]
pub enum Contents {
    /// Words, from which both accounts follow.
    Words(Phrase),
    /// One key from another wallet. It has no second account: what is asked is paid from it too.
    Key(Secret),
}

/// Which [`Contents`] a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Words.
    Words,
    /// One imported key.
    Key,
}

impl Contents {
    fn kind(&self) -> Kind {
        match self {
            Self::Words(_) => Kind::Words,
            Self::Key(_) => Kind::Key,
        }
    }

    /// The key of an account; of an imported key, both are the same.
    ///
    /// # Errors
    /// [`WalletError::NotAKey`], see [`Phrase::key`].
    pub fn key(&self, account: Account) -> Result<Secret, WalletError> {
        match self {
            Self::Words(phrase) => phrase.key(account),
            Self::Key(secret) => Ok(secret.clone()),
        }
    }

    fn plain(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Words(phrase) => phrase.entropy(),
            Self::Key(secret) => Zeroizing::new(secret.expose().to_vec()),
        }
    }

    fn from_plain(kind: Kind, plain: &[u8]) -> Result<Self, WalletError> {
        match kind {
            Kind::Words => Phrase::from_entropy(plain).map(Self::Words),
            Kind::Key => Secret::from_slice(plain).map(Self::Key),
        }
    }
}

/// An opened wallet: its keys, until this is dropped.
#[derive(Debug)]
pub struct Unlocked {
    wallet: Secret,
    spend: Secret,
}

impl Unlocked {
    /// Derives the keys of both accounts; the words themselves are not kept.
    ///
    /// # Errors
    /// [`WalletError::NotAKey`], see [`Phrase::key`].
    pub fn of(contents: &Contents) -> Result<Self, WalletError> {
        Ok(Self {
            wallet: contents.key(Account::Wallet)?,
            spend: contents.key(Account::Spend)?,
        })
    }

    /// The key of an account.
    #[must_use]
    pub fn key(&self, account: Account) -> &Secret {
        match account {
            Account::Wallet => &self.wallet,
            Account::Spend => &self.spend,
        }
    }
}

/// The file, read; its secret stays sealed.
#[derive(Debug, Clone)]
pub struct WalletFile {
    path: PathBuf,
    stored: Stored,
    wallet: Address,
    spend: Address,
}

/// The file as it is written. The order of the fields is that of the checksum.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: String,
    version: u64,
    bound: Bound,
    backed_up: bool,
    cipher: String,
    nonce: String,
    sealed: String,
    checksum: String,
}

/// What the seal binds: none of it can be changed without the password.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bound {
    kind: Kind,
    wallet: String,
    spend: String,
    kdf: String,
    cost: Cost,
    salt: String,
}

/// The first thing that is read: whether the rest can be understood.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u64,
}

impl WalletFile {
    /// Writes a new wallet. An existing file is never overwritten.
    ///
    /// # Errors
    /// [`WalletError::Exists`]; [`WalletError::PasswordShort`] and [`WalletError::PasswordLong`]; [`WalletError::Random`],
    /// [`WalletError::Memory`], [`WalletError::File`].
    pub fn create(path: &Path, contents: &Contents, password: &Typed) -> Result<Self, WalletError> {
        password.check_new_password()?;
        Self::create_at_cost(path, contents, password, Cost::STANDARD)
    }

    fn create_at_cost(
        path: &Path,
        contents: &Contents,
        password: &Typed,
        cost: Cost,
    ) -> Result<Self, WalletError> {
        if path.exists() {
            return Err(WalletError::Exists {
                path: path.to_owned(),
            });
        }
        let stored = seal(contents, password, cost, false)?;
        let file = Self {
            path: path.to_owned(),
            stored,
            wallet: contents.key(Account::Wallet)?.address(),
            spend: contents.key(Account::Spend)?.address(),
        };
        file.write()?;
        Ok(file)
    }

    /// Reads a file without opening it.
    ///
    /// # Errors
    /// [`WalletError::Missing`], [`WalletError::TooOpen`], [`WalletError::Newer`], [`WalletError::Damaged`],
    /// [`WalletError::File`].
    pub fn read(path: &Path) -> Result<Self, WalletError> {
        let text = disk::read(path, MAX_FILE_BYTES)?;
        let damaged = |why| WalletError::Damaged {
            path: path.to_owned(),
            why,
        };
        let head: Head = serde_json::from_str(&text).map_err(|_| damaged("it is not a wallet"))?;
        if head.format != FORMAT {
            return Err(damaged("it is not a wallet"));
        }
        if head.version > VERSION {
            return Err(WalletError::Newer {
                path: path.to_owned(),
                version: head.version,
            });
        }
        let stored: Stored =
            serde_json::from_str(&text).map_err(|_| damaged("a part of it is missing"))?;
        if stored.checksum != stored.digest() {
            return Err(damaged("its checksum is wrong"));
        }
        if stored.version != VERSION || stored.bound.kdf != KDF || stored.cipher != CIPHER {
            return Err(damaged("it names a method that this program does not know"));
        }
        if !stored.bound.cost.is_bearable() {
            return Err(damaged("opening it would cost more than a wallet may ask"));
        }
        let address = |text: &str| {
            Address::parse_checksummed(text, None).map_err(|_| damaged("an address is wrong"))
        };
        Ok(Self {
            path: path.to_owned(),
            wallet: address(&stored.bound.wallet)?,
            spend: address(&stored.bound.spend)?,
            stored,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which contents it holds.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.stored.bound.kind
    }

    /// The address of an account, as the file says.
    #[must_use]
    pub fn address(&self, account: Account) -> Address {
        match account {
            Account::Wallet => self.wallet,
            Account::Spend => self.spend,
        }
    }

    /// Whether its owner has shown that a copy of the words exists outside of this computer. Not bound by the seal: it
    /// protects the owner from their own haste, and from nobody else.
    #[must_use]
    pub fn backed_up(&self) -> bool {
        self.stored.backed_up
    }

    /// Opens it and gives its keys.
    ///
    /// # Errors
    /// [`WalletError::WrongPassword`]; [`WalletError::Damaged`] when what it holds does not give its addresses;
    /// [`WalletError::Memory`].
    pub fn unlock(&self, password: &Typed) -> Result<Unlocked, WalletError> {
        Unlocked::of(&self.open(password)?)
    }

    /// Opens it and gives what it is made of: the words, to be shown.
    ///
    /// # Errors
    /// Those of [`WalletFile::unlock`].
    pub fn open(&self, password: &Typed) -> Result<Contents, WalletError> {
        self.contents(&self.key(password)?)?
            .ok_or(WalletError::WrongPassword)
    }

    /// What opens it in the place of its password, until it is sealed anew.
    ///
    /// # Errors
    /// Those of [`WalletFile::unlock`].
    pub fn unlock_key(&self, password: &Typed) -> Result<UnlockKey, WalletError> {
        let key = self.key(password)?;
        self.contents(&key)?.ok_or(WalletError::WrongPassword)?;
        Ok(key)
    }

    /// Opens it by what was kept of it; `None` when it was sealed anew since.
    ///
    /// # Errors
    /// [`WalletError::Damaged`] when what it holds does not give its addresses.
    pub fn unlock_with(&self, key: &UnlockKey) -> Result<Option<Unlocked>, WalletError> {
        self.contents(key)?
            .map(|contents| Unlocked::of(&contents))
            .transpose()
    }

    fn key(&self, password: &Typed) -> Result<UnlockKey, WalletError> {
        let bound = &self.stored.bound;
        let salt: [u8; SALT_BYTES] = bytes(&bound.salt).ok_or(self.damaged("its salt is wrong"))?;
        kdf::derive(password, &salt, bound.cost)
    }

    /// `None` where the key does not open it.
    fn contents(&self, key: &UnlockKey) -> Result<Option<Contents>, WalletError> {
        let damaged = |why| self.damaged(why);
        let bound = &self.stored.bound;
        let nonce: [u8; NONCE_BYTES] =
            bytes(&self.stored.nonce).ok_or(damaged("its nonce is wrong"))?;
        if self.stored.sealed.len() > 2 * MAX_SEALED_BYTES {
            return Err(damaged("its sealed part is too long"));
        }
        let sealed =
            hex::decode(&self.stored.sealed).map_err(|_| damaged("its sealed part is wrong"))?;
        let opened = XChaCha20Poly1305::new(key.expose().into()).decrypt(
            XNonce::from_slice(&nonce),
            Payload {
                msg: &sealed,
                aad: &bound.bytes(),
            },
        );
        let Ok(plain) = opened.map(Zeroizing::new) else {
            return Ok(None);
        };
        let contents = Contents::from_plain(bound.kind, &plain)
            .map_err(|_| damaged("what it holds is neither words nor a key"))?;
        for account in [Account::Wallet, Account::Spend] {
            if contents.key(account)?.address() != self.address(account) {
                return Err(damaged("its keys do not give its addresses"));
            }
        }
        Ok(Some(contents))
    }

    fn damaged(&self, why: &'static str) -> WalletError {
        WalletError::Damaged {
            path: self.path.clone(),
            why,
        }
    }

    /// Seals it anew under another password, at the cost of a new file.
    ///
    /// # Errors
    /// Those of [`WalletFile::open`] for the old password and of [`WalletFile::create`] for the new one; the file is then
    /// as it was.
    pub fn change_password(&mut self, old: &Typed, fresh: &Typed) -> Result<(), WalletError> {
        fresh.check_new_password()?;
        let contents = self.open(old)?;
        let changed = Self {
            stored: seal(&contents, fresh, Cost::STANDARD, self.backed_up())?,
            ..self.clone()
        };
        changed.write()?;
        *self = changed;
        Ok(())
    }

    /// Keeps that a copy of the words exists.
    ///
    /// # Errors
    /// [`WalletError::File`]; nothing is changed then.
    pub fn mark_backed_up(&mut self) -> Result<(), WalletError> {
        let mut marked = self.clone();
        marked.stored.backed_up = true;
        marked.stored.checksum = marked.stored.digest();
        marked.write()?;
        *self = marked;
        Ok(())
    }

    fn write(&self) -> Result<(), WalletError> {
        let mut text =
            serde_json::to_vec_pretty(&self.stored).map_err(|error| WalletError::File {
                path: self.path.clone(),
                what: "written",
                source: error.into(),
            })?;
        text.push(b'\n');
        disk::write(&self.path, &text)
    }
}

impl Bound {
    /// As the seal and the checksum take it. Plain text and numbers: writing them cannot fail.
    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&(FORMAT, VERSION, self)).unwrap_or_default()
    }
}

impl Stored {
    /// SHA-256 of everything else in the file, in hex.
    fn digest(&self) -> String {
        let rest = (
            &self.format,
            self.version,
            &self.bound,
            self.backed_up,
            &self.cipher,
            &self.nonce,
            &self.sealed,
        );
        hex::encode(Sha256::digest(
            serde_json::to_vec(&rest).unwrap_or_default(),
        ))
    }
}

fn seal(
    contents: &Contents,
    password: &Typed,
    cost: Cost,
    backed_up: bool,
) -> Result<Stored, WalletError> {
    let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
    for random in [&mut salt[..], &mut nonce[..]] {
        getrandom::fill(random).map_err(|error| WalletError::Random(error.to_string()))?;
    }
    let bound = Bound {
        kind: contents.kind(),
        wallet: contents.key(Account::Wallet)?.address().to_checksum(None),
        spend: contents.key(Account::Spend)?.address().to_checksum(None),
        kdf: KDF.to_owned(),
        cost,
        salt: hex::encode(salt),
    };
    let key = kdf::derive(password, &salt, cost)?;
    let sealed = XChaCha20Poly1305::new(key.expose().into())
        .encrypt(
            XNonce::from_slice(&nonce),
            Payload {
                msg: &contents.plain(),
                aad: &bound.bytes(),
            },
        )
        // Only a message of 256 GiB cannot be sealed.
        .map_err(|_| WalletError::NotAKey)?;
    let mut stored = Stored {
        format: FORMAT.to_owned(),
        version: VERSION,
        bound,
        backed_up,
        cipher: CIPHER.to_owned(),
        nonce: hex::encode(nonce),
        sealed: hex::encode(sealed),
        checksum: String::new(),
    };
    stored.checksum = stored.digest();
    Ok(stored)
}

fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests;
