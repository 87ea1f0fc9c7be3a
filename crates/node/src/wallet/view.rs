//! What a shell sees of the wallet.

use ::wallet::{Account, Kind};
use serde::{Deserialize, Serialize};

use super::State;
use crate::error::ErrorView;

/// Whether there is a wallet, and whether it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalletState {
    /// There is none.
    #[default]
    None,
    /// Its keys are sealed in the file.
    Locked,
    /// Its keys are in memory.
    Unlocked,
}

/// What the wallet was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalletKind {
    /// Words.
    Words,
    /// One key of another wallet.
    Key,
}

/// Whose key an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalletRole {
    /// Deposits, withdrawals, transfers, votes.
    Wallet,
    /// What asking is paid from.
    Spend,
    /// Sends this device's claims.
    Operator,
    /// Signs this device's vouchers.
    Session,
}

/// One address of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountView {
    /// Whose.
    pub role: WalletRole,
    /// In the mixed case of EIP-55. While the wallet is locked, what its file says.
    pub address: String,
    /// The path by which it follows from the words; `None` for a key that follows from none.
    pub path: Option<String>,
}

/// The wallet as one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WalletStatus {
    /// Whether there is one, and whether it is open.
    pub state: WalletState,
    /// What it was made of.
    pub kind: Option<WalletKind>,
    /// Whether a copy of the words was shown to exist.
    pub backed_up: bool,
    /// When it closes unless it is used, in milliseconds since 1970; `None` while it is closed, or when it never does.
    pub locks_unix_ms: Option<u64>,
    /// The keychain of this computer keeps what opens it.
    pub remembered: bool,
    /// The addresses that exist so far, the wallet's first.
    pub accounts: Vec<AccountView>,
    /// Why a file of keys cannot be used.
    pub problem: Option<ErrorView>,
}

impl State {
    pub(super) fn view(&self) -> WalletStatus {
        let mut accounts = Vec::new();
        if let Some(file) = &self.file {
            for (role, account) in [
                (WalletRole::Wallet, Account::Wallet),
                (WalletRole::Spend, Account::Spend),
            ] {
                accounts.push(AccountView {
                    role,
                    address: file.address(account).to_checksum(None),
                    path: (file.kind() == Kind::Words).then(|| account.path().to_owned()),
                });
            }
        }
        for (role, key) in [
            (WalletRole::Operator, &self.operator),
            (WalletRole::Session, &self.session),
        ] {
            if let Some(key) = key {
                accounts.push(AccountView {
                    role,
                    address: key.address().to_checksum(None),
                    path: None,
                });
            }
        }
        WalletStatus {
            state: match (&self.file, &self.open) {
                (None, _) => WalletState::None,
                (Some(_), None) => WalletState::Locked,
                (Some(_), Some(_)) => WalletState::Unlocked,
            },
            kind: self.file.as_ref().map(|file| match file.kind() {
                Kind::Words => WalletKind::Words,
                Kind::Key => WalletKind::Key,
            }),
            backed_up: self.file.as_ref().is_some_and(|file| file.backed_up()),
            locks_unix_ms: self
                .open
                .as_ref()
                .and_then(|open| open.until)
                .map(|(_, unix_ms)| unix_ms),
            remembered: self.remembered == Some(true),
            accounts,
            problem: self.problem.clone(),
        }
    }
}
