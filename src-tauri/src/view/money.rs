//! Money, as the page draws it. Amounts are decimal digits of base units: no double holds them.

use node::{
    money::{self, view as from},
    wallet,
};
use serde::Serialize;
use specta::Type;

use super::{ErrorView, maybe, number, settings::Mode};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NetworkState {
    Online,
    OneOnly,
    Disagree,
    Offline,
}

#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Endpoint {
    pub host: String,
    pub block: Option<f64>,
    pub problem: Option<String>,
}

/// The network that money is on.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkView {
    pub name: String,
    pub title: String,
    /// Every amount on it is worth nothing.
    pub test: bool,
    pub chain_id: f64,
    /// Of the token.
    pub symbol: String,
    /// Of the coin that fees are paid in.
    pub coin: String,
    pub faucet: bool,
    pub state: NetworkState,
    pub final_block: Option<f64>,
    /// When that block was made.
    pub final_unix_s: Option<f64>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WalletState {
    None,
    Locked,
    Unlocked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AccountRole {
    Wallet,
    Spend,
    Operator,
    Session,
}

#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    pub role: AccountRole,
    pub address: String,
    pub path: Option<String>,
    pub coin: Option<String>,
    pub token: Option<String>,
}

#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VaultView {
    pub free: String,
    pub granted: String,
    pub promised: String,
    pub spent: String,
    pub until_unix_s: Option<f64>,
    pub bond: String,
    /// Null where keys that have ended have nothing left.
    pub ended: Option<EndedView>,
}

/// What keys that have ended have left.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndedView {
    /// All of it; payees may still claim of it.
    pub left: String,
    /// The part that can be taken back now.
    pub due: String,
    /// When the next part can be, in Unix seconds.
    pub next_unix_s: Option<f64>,
}

#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Earned {
    pub checking: String,
    pub available: String,
    pub too_small: String,
    pub paid_out: String,
    /// What of it the network's fee took.
    pub fees: String,
    /// What of it reached the wallet.
    pub paid_net: String,
    /// What would reach it of what is available; null while the fee is not known.
    pub available_net: Option<String>,
    pub lost: String,
    pub today: String,
    pub week: String,
    pub month: String,
}

/// What votes have set. Shares are parts of 10,000.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rules {
    pub fee_bps: u16,
    pub audit_rate: u16,
    pub auditor_share_bps: u16,
    pub slash_bps: u16,
    pub minimum_stake: String,
    pub block: f64,
    pub listed: Vec<ListedModel>,
}

/// A model that the vote lists.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListedModel {
    /// SHA-256 of its file.
    pub digest: String,
    pub licence: String,
    pub family: String,
    /// The id of its row here; null: there is none.
    pub model: Option<String>,
}

impl From<from::RulesView> for Rules {
    fn from(rules: from::RulesView) -> Self {
        Self {
            fee_bps: rules.fee_bps,
            audit_rate: rules.audit_rate,
            auditor_share_bps: rules.auditor_share_bps,
            slash_bps: rules.slash_bps,
            minimum_stake: rules.minimum_stake,
            block: number(rules.block),
            listed: rules
                .listed
                .into_iter()
                .map(|listed| ListedModel {
                    digest: listed.digest,
                    licence: listed.licence,
                    family: listed.family,
                    model: listed.model,
                })
                .collect(),
        }
    }
}

/// A first deposit that was signed here and waits for somebody to bring it.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartView {
    pub deposit: String,
    /// What of it who brings it gets.
    pub fee: String,
    pub deadline_unix_s: f64,
}

/// Where this node's claims go, as final blocks have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Joined {
    /// Nowhere yet: the node's key says where by itself, for a little coin.
    Unregistered,
    /// To the wallet's account.
    No,
    /// They stay in the vault and raise what this device may spend.
    Yes,
    /// To another wallet, or for another key than the one that pays here now.
    Elsewhere,
}

impl From<from::Joined> for Joined {
    fn from(joined: from::Joined) -> Self {
        match joined {
            from::Joined::Unregistered => Self::Unregistered,
            from::Joined::No => Self::No,
            from::Joined::Yes => Self::Yes,
            from::Joined::Elsewhere => Self::Elsewhere,
        }
    }
}

/// Everything about money, whole.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MoneyStatus {
    pub network: Option<NetworkView>,
    pub wallet: WalletState,
    pub backed_up: bool,
    pub locks_unix_ms: Option<f64>,
    pub remembered: bool,
    pub accounts: Vec<Account>,
    pub vault: Option<VaultView>,
    pub earned: Option<Earned>,
    /// Null before it was read.
    pub rules: Option<Rules>,
    pub start: Option<StartView>,
    pub spent_today: Option<String>,
    pub mode: Mode,
    /// Null where there are no claims, or the chain does not say now.
    pub joined: Option<Joined>,
    pub problems: Vec<ErrorView>,
}

impl From<from::MoneyStatus> for MoneyStatus {
    fn from(status: from::MoneyStatus) -> Self {
        Self {
            network: status.network.map(Into::into),
            wallet: match status.wallet {
                wallet::WalletState::None => WalletState::None,
                wallet::WalletState::Locked => WalletState::Locked,
                wallet::WalletState::Unlocked => WalletState::Unlocked,
            },
            backed_up: status.backed_up,
            locks_unix_ms: maybe(status.locks_unix_ms),
            remembered: status.remembered,
            accounts: status
                .accounts
                .into_iter()
                .map(|account| Account {
                    role: match account.role {
                        wallet::WalletRole::Wallet => AccountRole::Wallet,
                        wallet::WalletRole::Spend => AccountRole::Spend,
                        wallet::WalletRole::Operator => AccountRole::Operator,
                        wallet::WalletRole::Session => AccountRole::Session,
                    },
                    address: account.address,
                    path: account.path,
                    coin: account.coin,
                    token: account.token,
                })
                .collect(),
            vault: status.vault.map(|vault| VaultView {
                free: vault.free,
                granted: vault.granted,
                promised: vault.promised,
                spent: vault.spent,
                until_unix_s: maybe(vault.until_unix_s),
                bond: vault.bond,
                ended: vault.ended.map(|ended| EndedView {
                    left: ended.left,
                    due: ended.due,
                    next_unix_s: maybe(ended.next_unix_s),
                }),
            }),
            earned: status.earned.map(|earned| Earned {
                checking: earned.checking,
                available: earned.available,
                too_small: earned.too_small,
                paid_out: earned.paid_out,
                fees: earned.fees,
                paid_net: earned.paid_net,
                available_net: earned.available_net,
                lost: earned.lost,
                today: earned.today,
                week: earned.week,
                month: earned.month,
            }),
            rules: status.rules.map(Into::into),
            start: status.start.map(|start| StartView {
                deposit: start.deposit,
                fee: start.fee,
                deadline_unix_s: number(start.deadline_unix_s),
            }),
            spent_today: status.spent_today,
            mode: status.mode.into(),
            joined: status.joined.map(Into::into),
            problems: status.problems.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<from::NetworkView> for NetworkView {
    fn from(network: from::NetworkView) -> Self {
        Self {
            name: network.name,
            title: network.title,
            test: network.test,
            chain_id: number(network.chain_id),
            symbol: network.symbol,
            coin: network.coin,
            faucet: network.faucet,
            state: match network.state {
                from::ChainState::Online => NetworkState::Online,
                from::ChainState::OneOnly => NetworkState::OneOnly,
                from::ChainState::Disagree => NetworkState::Disagree,
                from::ChainState::Offline => NetworkState::Offline,
            },
            final_block: maybe(network.final_block),
            final_unix_s: maybe(network.final_unix_s),
            endpoints: network
                .endpoints
                .into_iter()
                .map(|endpoint| Endpoint {
                    host: endpoint.host,
                    block: maybe(endpoint.block),
                    problem: endpoint.problem,
                })
                .collect(),
        }
    }
}

/// An amount of something.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Amount {
    pub amount: String,
    pub symbol: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TransactionState {
    Prepared,
    Sent,
    Mined,
    Final,
    Failed,
    Replaced,
    Lost,
}

/// A transaction of this computer.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TransactionView {
    pub id: String,
    pub title: String,
    pub from: String,
    pub to: String,
    pub leaves: Vec<Amount>,
    pub fee_max: String,
    pub state: TransactionState,
    pub why: Option<String>,
    pub hash: String,
    pub sent_unix_ms: f64,
    pub replaceable: bool,
}

impl From<from::TransactionView> for TransactionView {
    fn from(tx: from::TransactionView) -> Self {
        Self {
            id: tx.id,
            title: tx.title,
            from: tx.from,
            to: tx.to,
            leaves: tx
                .leaves
                .into_iter()
                .map(|leaves| Amount {
                    amount: leaves.amount,
                    symbol: leaves.symbol,
                })
                .collect(),
            fee_max: tx.fee_max,
            state: match tx.state.as_str() {
                "prepared" => TransactionState::Prepared,
                "mined" => TransactionState::Mined,
                "final" => TransactionState::Final,
                "failed" => TransactionState::Failed,
                "replaced" => TransactionState::Replaced,
                "lost" => TransactionState::Lost,
                _ => TransactionState::Sent,
            },
            why: tx.why,
            hash: tx.hash,
            sent_unix_ms: number(tx.sent_unix_ms),
            replaceable: tx.replaceable,
        }
    }
}

/// Where somebody pays to.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receiving {
    pub address: String,
    pub qr_svg: String,
}

impl From<money::Receiving> for Receiving {
    fn from(receiving: money::Receiving) -> Self {
        Self {
            address: receiving.address,
            qr_svg: receiving.qr_svg,
        }
    }
}
