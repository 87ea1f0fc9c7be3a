//! What can go wrong with words, keys and their files.

use std::{io, path::PathBuf};

use crate::Address;

/// Why a wallet, a key or its file cannot be used. No variant holds anything secret.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The system has no randomness to give.
    #[error("the system gave no random bytes: {0}")]
    Random(String),
    /// A phrase has another number of words.
    #[error("a phrase has 12, 15, 18, 21 or 24 words, and this one has {found}")]
    WordCount {
        /// How many came.
        found: usize,
    },
    /// A word is not in the list of BIP-39.
    #[error("word {position} is not one of the 2048 English words of BIP-39")]
    UnknownWord {
        /// Its place, from 1.
        position: usize,
    },
    /// All words are known, and their checksum is wrong.
    #[error("these words do not belong together: one is wrong, or two changed places")]
    WordChecksum,
    /// The number is no key of secp256k1, or a path has no key. No honest file holds one.
    #[error("this is not a key")]
    NotAKey,
    /// A new password is too short.
    #[error("a password has at least {least} characters")]
    PasswordShort {
        /// The bound.
        least: usize,
    },
    /// A password is too long.
    #[error("a password has at most {most} characters")]
    PasswordLong {
        /// The bound.
        most: usize,
    },
    /// The file is whole, and this password does not open it.
    #[error("the password is wrong")]
    WrongPassword,
    /// A format without a checksum of its own: the password is wrong, or the file is damaged.
    #[error("the password is wrong, or the file is damaged")]
    WrongPasswordOrDamaged,
    /// There is a wallet already, and it is never overwritten.
    #[error("there is a wallet already: {path}")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is no such file.
    #[error("there is no file {path}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A version that is not known here.
    #[error("{path} was written by a newer version of this program (format {version})")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// The file is not what it should be, or was changed.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A key file of another program is not one, or asks for what is not known or too costly here.
    #[error("this is not a Web3 key file that can be read here: {why}")]
    Foreign {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The key in the file is not that of the address written beside it.
    #[error("the key belongs to {found}, and the file says {said}")]
    OtherAddress {
        /// The address of the key.
        found: Address,
        /// The address in the file.
        said: String,
    },
    /// This wallet holds one key and no words.
    #[error("this wallet was imported as a single key and has no words")]
    NoWords,
    /// Others on this computer can read the secret.
    #[error("{path} can be read by others on this computer (mode {mode:03o})")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The derivation needs more memory than the system gives.
    #[error("{mebibytes} MiB of memory are needed to check the password, and the system gave none")]
    Memory {
        /// What was asked for.
        mebibytes: usize,
    },
    /// A file cannot be read or written.
    #[error("{path} cannot be {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// "read" or "written".
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
