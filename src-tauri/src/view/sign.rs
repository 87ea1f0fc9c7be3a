//! What is asked for, and what is shown before it is signed.

use node::wallet;
use serde::{Deserialize, Serialize};
use specta::Type;

use super::ErrorView;

/// An act that needs the wallet. Amounts are decimal digits of base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub(crate) enum Intent {
    Create,
    Import,
    Unlock,
    ShowWords,
    ConfirmWords,
    Export,
    Remember,
    ChangePassword,
    Send {
        to: String,
        asset: Asset,
        amount: String,
    },
    Deposit {
        amount: String,
    },
    Withdraw {
        amount: String,
    },
    Grant {
        amount: String,
        days: u32,
    },
    EndSigner,
    RegisterPayee,
    Join,
    Unjoin,
    Delegate {
        to: String,
    },
    Wrap {
        amount: String,
    },
    Unwrap {
        amount: String,
    },
    Faucet,
    SpeedUp {
        id: String,
    },
    Cancel {
        id: String,
    },
    Vote {
        id: String,
        support: Support,
    },
    Queue {
        id: String,
    },
    Execute {
        id: String,
    },
    SignStart {
        amount: String,
        fee: String,
    },
    Relay {
        start: String,
    },
    Propose {
        title: String,
        description: String,
        changes: Vec<Change>,
    },
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Asset {
    Token,
    Coin,
}

/// A vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Support {
    Against,
    For,
    Abstain,
}

/// One parameter and its proposed value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Change {
    pub what: String,
    pub value: String,
}

impl From<Asset> for wallet::Asset {
    fn from(asset: Asset) -> Self {
        match asset {
            Asset::Token => Self::Token,
            Asset::Coin => Self::Coin,
        }
    }
}

impl From<Support> for wallet::Support {
    fn from(support: Support) -> Self {
        match support {
            Support::Against => Self::Against,
            Support::For => Self::For,
            Support::Abstain => Self::Abstain,
        }
    }
}

impl TryFrom<Intent> for wallet::Intent {
    type Error = ErrorView;

    fn try_from(intent: Intent) -> Result<Self, ErrorView> {
        let amount = |digits: String| digits.parse::<wallet::Amount>().map_err(ErrorView::from);
        Ok(match intent {
            Intent::Create => Self::Create,
            Intent::Import => Self::Import,
            Intent::Unlock => Self::Unlock,
            Intent::ShowWords => Self::ShowWords,
            Intent::ConfirmWords => Self::ConfirmWords,
            Intent::Export => Self::Export,
            Intent::Remember => Self::Remember,
            Intent::ChangePassword => Self::ChangePassword,
            Intent::Send {
                to,
                asset,
                amount: digits,
            } => Self::Send {
                to,
                asset: asset.into(),
                amount: amount(digits)?,
            },
            Intent::Deposit { amount: digits } => Self::Deposit {
                amount: amount(digits)?,
            },
            Intent::Withdraw { amount: digits } => Self::Withdraw {
                amount: amount(digits)?,
            },
            Intent::Grant {
                amount: digits,
                days,
            } => Self::Grant {
                amount: amount(digits)?,
                days,
            },
            Intent::EndSigner => Self::EndSigner,
            Intent::RegisterPayee => Self::RegisterPayee,
            Intent::Join => Self::Join,
            Intent::Unjoin => Self::Unjoin,
            Intent::Delegate { to } => Self::Delegate { to },
            Intent::Wrap { amount: digits } => Self::Wrap {
                amount: amount(digits)?,
            },
            Intent::Unwrap { amount: digits } => Self::Unwrap {
                amount: amount(digits)?,
            },
            Intent::Faucet => Self::Faucet,
            Intent::SpeedUp { id } => Self::SpeedUp { id },
            Intent::Cancel { id } => Self::Cancel { id },
            Intent::Vote { id, support } => Self::Vote {
                id,
                support: support.into(),
            },
            Intent::Queue { id } => Self::Queue { id },
            Intent::Execute { id } => Self::Execute { id },
            Intent::SignStart {
                amount: digits,
                fee,
            } => Self::SignStart {
                amount: amount(digits)?,
                fee: amount(fee)?,
            },
            Intent::Relay { start } => Self::Relay { start },
            Intent::Propose {
                title,
                description,
                changes,
            } => Self::Propose {
                title,
                description,
                changes: changes
                    .into_iter()
                    .map(|Change { what, value }| wallet::Change { what, value })
                    .collect(),
            },
        })
    }
}

/// What the signing window is open for.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    pub intent: Intent,
    pub wallet: WalletState,
    /// The words were asked back.
    pub backed_up: bool,
    pub accounts: Vec<Account>,
}

/// Whether there is a wallet, and whether it is open.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WalletState {
    None,
    Locked,
    Unlocked,
}

/// Whose key an address belongs to.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Wallet,
    Spend,
    Operator,
    Session,
}

/// One address of this node.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    pub role: Role,
    pub address: String,
    /// How it follows from the words; null for a key that follows from none.
    pub path: Option<String>,
}

impl Asked {
    pub(crate) fn new(intent: Intent, status: wallet::WalletStatus) -> Self {
        Self {
            intent,
            wallet: match status.state {
                wallet::WalletState::None => WalletState::None,
                wallet::WalletState::Locked => WalletState::Locked,
                wallet::WalletState::Unlocked => WalletState::Unlocked,
            },
            backed_up: status.backed_up,
            accounts: status
                .accounts
                .into_iter()
                .map(|account| Account {
                    role: match account.role {
                        wallet::WalletRole::Wallet => Role::Wallet,
                        wallet::WalletRole::Spend => Role::Spend,
                        wallet::WalletRole::Operator => Role::Operator,
                        wallet::WalletRole::Session => Role::Session,
                    },
                    address: account.address,
                    path: account.path,
                })
                .collect(),
        }
    }
}

/// What an intent would do. Amounts are decimal digits of base units.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Preview {
    /// Binds all of it: what is confirmed is what was shown.
    pub digest: String,
    pub title: String,
    pub to: String,
    /// The contract is one of this network.
    pub known: bool,
    pub leaves: Vec<Leaves>,
    pub fee_max: String,
    /// `None`: there is not enough.
    pub coin_after: Option<String>,
    /// `None`: there is not enough.
    pub token_after: Option<String>,
    pub fields: Vec<NamedValue>,
    pub simulation: Simulation,
    /// Why the simulation failed.
    pub reason: Option<String>,
    pub network: PreviewNetwork,
}

/// An amount that leaves.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Leaves {
    pub amount: String,
    pub symbol: String,
}

/// One field of a decoded call.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NamedValue {
    pub name: String,
    pub value: String,
}

/// What a simulation of the call said.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Simulation {
    Ok,
    Reverts,
    /// It is tried once it is signed: no endpoint can before.
    NotTried,
    /// It is signed here, and tried by who sends it.
    NotSent,
}

/// The network of a preview.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PreviewNetwork {
    pub title: String,
    /// Its amounts are worth nothing.
    pub test: bool,
    pub symbol: String,
    pub coin: String,
}

impl From<wallet::Preview> for Preview {
    fn from(preview: wallet::Preview) -> Self {
        Self {
            digest: preview.digest,
            title: preview.title,
            to: preview.to,
            known: preview.known,
            leaves: preview
                .leaves
                .into_iter()
                .map(|wallet::Leaves { amount, symbol }| Leaves { amount, symbol })
                .collect(),
            fee_max: preview.fee_max,
            coin_after: preview.coin_after,
            token_after: preview.token_after,
            fields: preview
                .fields
                .into_iter()
                .map(|wallet::NamedValue { name, value }| NamedValue { name, value })
                .collect(),
            simulation: match preview.simulation {
                wallet::Simulation::Ok => Simulation::Ok,
                wallet::Simulation::Reverts => Simulation::Reverts,
                wallet::Simulation::NotTried => Simulation::NotTried,
                wallet::Simulation::NotSent => Simulation::NotSent,
            },
            reason: preview.reason,
            network: PreviewNetwork {
                title: preview.network.title,
                test: preview.network.test,
                symbol: preview.network.symbol,
                coin: preview.network.coin,
            },
        }
    }
}
