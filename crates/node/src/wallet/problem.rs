//! Why the wallet did not do what was asked, and what a person does next.

use ::wallet::{KeychainError, WalletError};

use crate::error::{DISK_FULL_FIX, ErrorView, is_disk_full, sentence};

/// Why the wallet did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum WalletProblem {
    /// Words, a password or a file.
    #[error(transparent)]
    File(#[from] WalletError),
    /// The keychain that should keep what opens it.
    #[error(transparent)]
    Keychain(#[from] KeychainError),
    /// The keychain did not answer.
    #[error("the keychain gave no answer for {seconds} seconds")]
    KeychainSilent {
        /// How long it was waited for.
        seconds: u64,
    },
    /// There is no wallet.
    #[error("there is no wallet yet")]
    None,
    /// There is a file, and it could not be read when the program started.
    #[error("{}", .0.message)]
    Unusable(ErrorView),
    /// Its keys are sealed.
    #[error("the wallet is locked")]
    Locked,
    /// It holds more than a small sum, and no copy of the words was shown to exist.
    #[error("this wallet signs nothing until its words are confirmed")]
    WatchOnly,
    /// Words were checked that were not asked for.
    #[error("no words are being asked for")]
    NotAsked,
    /// What was asked moves money, and no network is set up.
    #[error("no network of money is set up on this computer")]
    NoMoney,
    /// The intent is one of the wallet's own, which has nothing to preview.
    #[error("there is nothing to sign here")]
    NothingToSign,
    /// A text is no amount.
    #[error("an amount is a whole number of base units, in digits, below 2^128")]
    NotAnAmount,
    /// The node is stopping.
    #[error("the program is closing")]
    Stopping,
}

impl WalletProblem {
    /// What a shell branches on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::File(error) => match error {
                WalletError::Random(_) => "no_randomness",
                WalletError::WordCount { .. } => "words_count",
                WalletError::UnknownWord { .. } => "words_unknown",
                WalletError::WordChecksum => "words_wrong",
                WalletError::NotAKey => "not_a_key",
                WalletError::PasswordShort { .. } => "password_short",
                WalletError::PasswordLong { .. } => "password_long",
                WalletError::WrongPassword | WalletError::WrongPasswordOrDamaged => {
                    "wallet_wrong_password"
                }
                WalletError::Exists { .. } => "wallet_exists",
                WalletError::Missing { .. } => "wallet_missing",
                WalletError::Newer { .. } => "wallet_newer",
                WalletError::Damaged { .. } => "wallet_damaged",
                WalletError::Foreign { .. } => "key_file_foreign",
                WalletError::OtherAddress { .. } => "key_file_other_address",
                WalletError::NoWords => "wallet_no_words",
                WalletError::TooOpen { .. } => "wallet_too_open",
                WalletError::Memory { .. } => "not_enough_memory",
                WalletError::File { source, .. } if is_disk_full(source) => "disk_full",
                WalletError::File { .. } => "file",
            },
            Self::Keychain(error) => match error {
                KeychainError::Absent { .. } => "keychain_absent",
                KeychainError::Locked { .. } => "keychain_locked",
                KeychainError::Failed { .. } => "keychain_failed",
            },
            Self::KeychainSilent { .. } => "keychain_silent",
            Self::None => "wallet_missing",
            Self::Unusable(_) => "wallet_unusable",
            Self::Locked => "wallet_locked",
            Self::WatchOnly => "wallet_watch_only",
            Self::NotAsked => "words_not_asked",
            Self::NoMoney => "no_money",
            Self::NothingToSign => "nothing_to_sign",
            Self::NotAnAmount => "not_an_amount",
            Self::Stopping => "stopping",
        }
    }

    /// What the person can do next.
    #[must_use]
    pub fn fix(&self) -> String {
        let text = match self {
            Self::File(error) => match error {
                WalletError::Random(_) => {
                    "Start the program again; if it stays, the system is damaged."
                }
                WalletError::WordCount { .. } | WalletError::WordChecksum => {
                    "Compare the words with your copy, in their order."
                }
                WalletError::UnknownWord { .. } => "Compare this word with your copy.",
                WalletError::NotAKey => "Choose another key.",
                WalletError::PasswordShort { .. } => {
                    "Choose a longer one: a few words are easiest."
                }
                WalletError::PasswordLong { .. } => "Choose a shorter one.",
                WalletError::WrongPassword => {
                    "Type it again; nobody can reset it. With the words, the wallet can be imported anew."
                }
                WalletError::WrongPasswordOrDamaged => {
                    "Type the password of this key file again, or export it anew where it came from."
                }
                WalletError::Exists { path } => {
                    return format!(
                        "Use the one that is there. To begin with another, make sure that you have its words, and move {} away.",
                        path.display()
                    );
                }
                WalletError::Missing { .. } => "Make a wallet, or import one.",
                WalletError::Newer { path, .. } => {
                    return format!(
                        "Install the newest version of the program. {} was not touched.",
                        path.display()
                    );
                }
                WalletError::Damaged { path, .. } => {
                    return format!(
                        "Put your backup of {0} back, or move {0} away and import the wallet by its words.",
                        path.display()
                    );
                }
                WalletError::Foreign { .. } => {
                    "Export it anew where it came from, as a Web3 key file (JSON, version 3), or import the words."
                }
                WalletError::OtherAddress { .. } => {
                    "Do not use this file: the key in it is not the one that it names."
                }
                WalletError::NoWords => "Keep the key file that it came from, or export it again.",
                WalletError::TooOpen { path, .. } => {
                    return format!("Run `chmod 600 {}`, then start again.", path.display());
                }
                WalletError::Memory { .. } => "Close other programs, then try again.",
                WalletError::File { source, .. } if is_disk_full(source) => DISK_FULL_FIX,
                WalletError::File { path, .. } => {
                    return format!("Check the rights on {}.", path.display());
                }
            },
            Self::Keychain(error) => match error {
                KeychainError::Absent { .. } => {
                    "The password opens the wallet, as before. On Linux a keychain is a Secret Service in your session: GNOME Keyring, KWallet or KeePassXC."
                }
                KeychainError::Locked { .. } => "Unlock the keychain, then try again.",
                KeychainError::Failed { .. } => {
                    "The password opens the wallet, as before. Look at the keychain in your system's own program for it."
                }
            },
            Self::KeychainSilent { .. } => {
                "It may be waiting for its own password: answer it, then try again."
            }
            Self::None => "Make a wallet, or import one.",
            Self::Unusable(problem) => {
                return problem.fix.clone().unwrap_or_default();
            }
            Self::Locked => "Unlock it with its password.",
            Self::WatchOnly => "Write the words down and confirm three of them.",
            Self::NotAsked => "Begin again: show the words, or ask for them.",
            Self::NoMoney => "Everything else works without one.",
            Self::NothingToSign => "Close this window and begin again.",
            Self::NotAnAmount => "Type another amount.",
            Self::Stopping => "Start the program again.",
        };
        text.to_owned()
    }

    /// The problem as a screen shows it.
    #[must_use]
    pub fn view(&self) -> ErrorView {
        ErrorView::new(self.code(), sentence(self), Some(self.fix()))
    }
}
