//! Words, keys, and the encrypted file that keeps them.
//!
//! What it is: plain functions over secrets that are wiped when they go. [`Phrase`] is the words and the keys that follow
//! from them, [`WalletFile`] the file that keeps them under a password, [`KeyFile`] a key of this device that no password
//! guards, [`Keychain`] the place where a system keeps what opens the file without its password, [`v3`] the format in which other wallets give and take one key.
//!
//! What it owns: the format of the wallet's file, and the paths by which keys follow from the words.
//!
//! What it never does: it sends nothing, prints nothing, and has no opinion on what is signed. No error and no `Debug` of
//! it holds a word, a key or a password. No file, however hostile, makes it panic or take more than 256 MiB.
//!
//! # What wiping can and cannot do
//!
//! Everything secret lives in one place on the heap and is overwritten when it is dropped; a test reads this process's
//! memory for it. Registers and stack slots that the arithmetic of a foreign crate used are overwritten by whatever runs
//! next, not by us; a page that the system has swapped out is beyond us too.
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod disk;
mod error;
mod file;
mod kdf;
mod key_file;
mod keychain;
mod phrase;
mod secret;
mod typed;
pub mod v3;

pub use alloy_primitives::Address;

pub use error::WalletError;
pub use file::{Contents, Kind, Unlocked, WalletFile};
pub use kdf::UnlockKey;
pub use key_file::{KeyFile, KeyRole};
pub use keychain::{Keychain, KeychainError};
pub use phrase::{Account, Phrase, WORDS};
pub use secret::Secret;
pub use typed::{PASSWORD_CHARACTERS, Typed};
