//! What a shell sees of money. Sums are decimal digits of base units; what is not known is `None`, never zero.

use serde::{Deserialize, Serialize};

use super::settings::Mode;
use crate::{
    error::ErrorView,
    wallet::{WalletRole, WalletState},
};

/// How sure the node is of what the chain says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChainState {
    /// Endpoints answer, and agree.
    Online,
    /// A single endpoint answers: nothing contradicts it, and nothing confirms it.
    OneOnly,
    /// They contradict one another: nothing is sent.
    Disagree,
    /// None answers: everything waits.
    Offline,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    /// Its host, without keys that an address may carry.
    pub host: String,
    /// The newest block it knows.
    pub block: Option<u64>,
    /// Why it does not count.
    pub problem: Option<String>,
}

/// The network that money is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkView {
    /// Name of its file.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Its money is worth nothing, and says so wherever it stands.
    pub test: bool,
    /// The chain's number.
    pub chain_id: u64,
    /// The token's sign.
    pub symbol: String,
    /// The sign of the coin that gas is paid in.
    pub coin: String,
    /// How sure the node is.
    pub state: ChainState,
    /// The last block that counts as final.
    pub final_block: Option<u64>,
    /// When that block was made, in seconds since 1970.
    pub final_unix_s: Option<u64>,
    /// Each endpoint.
    pub endpoints: Vec<EndpointView>,
    /// A faucet gives tokens of it.
    pub faucet: bool,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MoneyAccount {
    /// What it is for.
    pub role: WalletRole,
    /// Its address.
    pub address: String,
    /// How it follows from the words; `None` for a key of this device alone.
    pub path: Option<String>,
    /// Coin for gas.
    pub coin: Option<String>,
    /// Tokens in the account itself.
    pub token: Option<String>,
}

/// What lies in the vault for asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VaultView {
    /// In no grant: can be withdrawn at once.
    pub free: String,
    /// What this device's key was granted, ever.
    pub granted: String,
    /// What it promised, ever.
    pub promised: String,
    /// What of it was claimed.
    pub spent: String,
    /// When the grant ends, in Unix seconds; `None` before there is one.
    pub until_unix_s: Option<u64>,
    /// What is lost if the key promises too much.
    pub bond: String,
    /// What keys of this computer that have ended have left; `None` where they have nothing.
    pub ended: Option<EndedView>,
}

/// What keys that have ended have left: rests of grants, bonds and gas pots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndedView {
    /// All of it; payees may still claim of it.
    pub left: String,
    /// The part that can be taken back now.
    pub due: String,
    /// When the next part can be, in Unix seconds.
    pub next_unix_s: Option<u64>,
}

/// What was earned, in the four words and what is beneath them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EarnedView {
    /// Vouchered, and not yet sure on the chain.
    pub checking: String,
    /// Collectable.
    pub available: String,
    /// Less than collecting it costs.
    pub too_small: String,
    /// Claimed in final blocks.
    pub paid_out: String,
    /// What of that the network's fee took.
    pub fees: String,
    /// What of that reached the wallet.
    pub paid_net: String,
    /// What would reach it of what is collectable, at the fee of now; `None` while that is not known.
    pub available_net: Option<String>,
    /// Never to be collected: its signer is over for too long.
    pub lost: String,
    /// Vouchered since midnight (UTC).
    pub today: String,
    /// In the last seven days.
    pub week: String,
    /// In the last thirty.
    pub month: String,
}

/// What votes have set, as of a final block. Shares are parts of 10,000.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RulesView {
    /// The fee on claims: what is shown of earnings and what is worth claiming follow from it.
    pub fee_bps: u16,
    /// Audited jobs. Nothing here uses it.
    pub audit_rate: u16,
    /// The auditors' part of the fee. Nothing here uses it.
    pub auditor_share_bps: u16,
    /// The first slash of a stake. Nothing here uses it.
    pub slash_bps: u16,
    /// What is asked of a provider, in base units. Nothing here uses it.
    pub minimum_stake: String,
    /// The block that it was read at.
    pub block: u64,
    /// The models that are listed.
    pub listed: Vec<ListedModel>,
}

/// A model that the vote lists: a list to follow, and no permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedModel {
    /// SHA-256 of its file, in hexadecimal.
    pub digest: String,
    /// Its licence, as the list names it.
    pub licence: String,
    /// Its architecture, as the list names it.
    pub family: String,
    /// The id of its row among the models; `None`: no row here has that file.
    pub model: Option<String>,
}

/// First steps that were signed here: a deposit and a grant, for whoever brings them to the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartView {
    /// What leaves the account.
    pub deposit: String,
    /// What of it who brings it gets.
    pub fee: String,
    /// Nobody can bring it afterwards, in Unix seconds.
    pub deadline_unix_s: u64,
}

/// Where this node's claims go, as final blocks have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Joined {
    /// Its key never said where: it does so by itself, for a little coin.
    Unregistered,
    /// To the wallet's account.
    No,
    /// They stay in the vault and raise what this device's key may spend.
    Yes,
    /// To another wallet, or to another key than the one that pays here now.
    Elsewhere,
}

/// Everything about money, whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MoneyStatus {
    /// `None`: there is no money here, and everything else works.
    pub network: Option<NetworkView>,
    /// Whether the wallet can sign.
    pub wallet: WalletState,
    /// The words were asked back.
    pub backed_up: bool,
    /// When the wallet locks by itself, in milliseconds since 1970.
    pub locks_unix_ms: Option<u64>,
    /// The keychain of this computer keeps what opens it.
    pub remembered: bool,
    /// The accounts that are known.
    pub accounts: Vec<MoneyAccount>,
    /// `None` before the chain was read.
    pub vault: Option<VaultView>,
    /// What was earned; `None` where nothing can be.
    pub earned: Option<EarnedView>,
    /// What votes have set; `None` before it was read.
    pub rules: Option<RulesView>,
    /// First steps that were signed here and wait for somebody to bring them.
    pub start: Option<StartView>,
    /// Spent since midnight (UTC); `None` where nothing can be.
    pub spent_today: Option<String>,
    /// What the switch means.
    pub mode: Mode,
    /// Where claims go; `None` where there are none, or the chain does not say now.
    pub joined: Option<Joined>,
    /// What is missing, the most pressing first.
    pub problems: Vec<ErrorView>,
}

/// How a transaction stands, for a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransactionView {
    /// Its name here.
    pub id: String,
    /// What it is, in a line.
    pub title: String,
    /// Who sends it.
    pub from: String,
    /// The address that is called or paid.
    pub to: String,
    /// What leaves the account, beside the fee.
    pub leaves: Vec<crate::wallet::Leaves>,
    /// The most that it costs, of the coin's smallest unit.
    pub fee_max: String,
    /// `prepared`, `sent`, `mined`, `final`, `failed`, `replaced` or `lost`.
    pub state: String,
    /// Why it failed, or what explains that it waits.
    pub why: Option<String>,
    /// The hash of its newest form.
    pub hash: String,
    /// When it was signed, in milliseconds since 1970.
    pub sent_unix_ms: u64,
    /// It can be sent again at a higher price, or taken back.
    pub replaceable: bool,
}
