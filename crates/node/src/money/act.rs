//! What the person asks the wallet to do, as transactions: shown first, and signed as shown or not at all.

use std::sync::Arc;

use chain::{Key, Start};
use protocol::voucher::Address;

use super::{
    Live, Money,
    calls::{MAX_DAYS, comes_first, motion},
    votes,
};
use crate::{
    Node,
    error::{DISK_FULL_FIX, NodeError, is_disk_full},
    wallet::{
        Account, Intent, Leaves, NamedValue, Preview, PreviewNetwork, Simulation, WalletProblem,
        WalletRole,
    },
};

/// Characters of a proposal's title: its proposer wrote it, and nobody held them to a line.
const MAX_TITLE: usize = 200;
/// In the place of a title that cannot be checked.
const UNBOUND: &str = "not shown: the text that was read is not what this number stands for";

/// What is shown, kept for as long as it may be confirmed.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(super) digest: String,
    pub(super) role: WalletRole,
    pub(super) preview: chain::Preview,
    /// What the call is about, where its own fields are numbers alone.
    pub(super) about: Vec<NamedValue>,
    /// What was asked for needs another transaction after this one.
    pub(super) more: bool,
    /// A deposit whose permit is signed once it is confirmed.
    pub(super) start: Option<Start>,
}

/// Why an act was not shown or done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The wallet signs nothing now.
    #[error(transparent)]
    Wallet(#[from] WalletProblem),
    /// The chain was not reached, or refuses.
    #[error(transparent)]
    Chain(#[from] chain::ChainError),
    /// A key that is none.
    #[error(transparent)]
    Key(#[from] chain::KeyError),
    /// What was handed over cannot be brought here.
    #[error(transparent)]
    Claims(#[from] super::ClaimsError),
    /// The books cannot be read.
    #[error(transparent)]
    Ledger(#[from] ledger::LedgerError),
    /// A typing error in an address.
    #[error("{0} is no address of this chain")]
    NoAddress(String),
    /// The wallet has no such account yet.
    #[error("there is no account for this yet")]
    NoAccount,
    /// A grant of no length, or of too great a one.
    #[error("a grant lasts between 1 and {MAX_DAYS} days")]
    Days,
    /// No such number of a proposal.
    #[error("{0} is no proposal's number")]
    NoProposal(String),
    /// No such name of a transaction.
    #[error("{0} is no transaction of this computer")]
    NoTransaction(String),
    /// A parameter that is none, or a value that it cannot have.
    #[error("{what} cannot be set to {value}")]
    NoChange {
        /// Which parameter.
        what: String,
        /// Which value.
        value: String,
    },
    /// More than the account has.
    #[error("the account has less than that")]
    NotEnough,
    /// Bond, late claims and the share of who brings it take all.
    #[error("nothing of this sum would be left to spend")]
    FeeTooHigh,
    /// A text that is no signed first deposit.
    #[error("this is no signed first deposit")]
    NoStart,
    /// One of another chain or vault.
    #[error("this was signed for another network")]
    OtherNetwork,
    /// What was signed cannot be kept.
    #[error("{path} cannot be written")]
    File {
        /// Where it belongs.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Something else was shown meanwhile.
    #[error("what was shown is not what is confirmed")]
    OtherDigest,
}

impl ActError {
    /// What a shell branches on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Wallet(problem) => problem.code(),
            Self::Chain(_) => "chain",
            Self::Key(_) => "not_a_key",
            Self::Claims(_) => "claims",
            Self::Ledger(_) => "ledger_failed",
            Self::NoAddress(_) => "no_address",
            Self::NoAccount => "wallet_missing",
            Self::Days => "out_of_range",
            Self::NoProposal(_) => "no_proposal",
            Self::NoTransaction(_) => "no_transaction",
            Self::NoChange { .. } => "no_change",
            Self::NotEnough => "not_enough",
            Self::FeeTooHigh => "fee_too_high",
            Self::NoStart => "no_start",
            Self::OtherNetwork => "other_network",
            Self::File { source, .. } if is_disk_full(source) => "disk_full",
            Self::File { .. } => "file",
            Self::OtherDigest => "changed",
        }
    }

    /// What the person can do next.
    #[must_use]
    pub fn fix(&self) -> String {
        let text = match self {
            Self::Wallet(problem) => return problem.fix(),
            Self::Chain(_) => "Nothing was sent. Look at the state of the network, then try again.",
            Self::Key(_) => "Start the program again.",
            Self::Claims(_) => {
                "Choose the network that it is of, and the file as it was handed over: whoever earned it can write it again."
            }
            Self::Ledger(_) => "Nothing was sent. Look whether the disk is full.",
            Self::NoAddress(_) => "Copy the whole address again: 0x and 40 digits.",
            Self::NoAccount => "Make a wallet first.",
            Self::Days => "Choose another number of days.",
            Self::NoProposal(_) => "Open the proposal again.",
            Self::NoTransaction(_) => "Open the list of transactions again.",
            Self::NoChange { .. } => "Choose another value.",
            Self::NotEnough => "Choose a smaller sum.",
            Self::FeeTooHigh => "Deposit more, or offer a smaller share to who brings it.",
            Self::NoStart => "Copy the whole text again, from its first brace to its last.",
            Self::OtherNetwork => "Choose the network that it was signed for, then try again.",
            Self::File { source, .. } if is_disk_full(source) => DISK_FULL_FIX,
            Self::File { .. } => "Check the rights on the data folder.",
            Self::OtherDigest => "Look at it again, then confirm.",
        };
        text.to_owned()
    }
}

impl Node {
    /// What an intent would do, simulated on the chain and bound to a digest.
    ///
    /// # Errors
    /// [`NodeError::Act`]: no network, a locked wallet where a permit has to be signed, an address that is none, an endpoint
    /// that does not answer. A call that the chain would refuse is no error: the preview says so.
    pub async fn sign_preview(&self, intent: &Intent) -> Result<Preview, NodeError> {
        let live = self
            .inner
            .money
            .live()
            .filter(|_| intent.is_signed())
            .ok_or_else(|| ActError::Wallet(intent.without_money()))?;
        if let Intent::SignStart { amount, fee } = intent {
            return Ok(self.show_start(&live, amount.0, fee.0).await?);
        }
        let shown = self.show(&live, intent).await?;
        let view = view(&live, &shown);
        self.inner.money.shown(Some(shown));
        Ok(view)
    }

    /// Signs and sends exactly what the preview of this digest said.
    ///
    /// # Errors
    /// [`NodeError::Act`]: another digest, a locked wallet, a preview that is too old, words that were never confirmed.
    pub async fn sign_confirm(&self, intent: &Intent, digest: &str) -> Result<(), NodeError> {
        let live = self
            .inner
            .money
            .live()
            .ok_or_else(|| ActError::Wallet(intent.without_money()))?;
        if let Intent::SignStart { .. } = intent {
            return Ok(self.sign_start(&live, digest).await?);
        }
        let shown = self
            .inner
            .money
            .shown(None)
            .filter(|shown| shown.digest == digest)
            .ok_or(ActError::OtherDigest)?;
        let key = self.key(shown.role)?;
        if matches!(shown.role, WalletRole::Wallet | WalletRole::Spend) {
            let held = live
                .chain
                .account(key.address())
                .await
                .map_err(ActError::Chain)?;
            self.inner
                .wallet
                .signing_allowed(held.token)
                .map_err(ActError::Wallet)?;
        }
        let preview = match &shown.start {
            Some(start) => permitted(&live, &key, start, &shown.preview).await?,
            None => shown.preview,
        };
        live.chain
            .send(&key, preview)
            .await
            .map_err(ActError::Chain)?;
        Ok(())
    }

    async fn show(&self, live: &Arc<Live>, intent: &Intent) -> Result<Shown, ActError> {
        let transaction = |id: &str| {
            id.parse()
                .map_err(|_| ActError::NoTransaction(id.to_owned()))
        };
        let (role, preview, start, more) = match intent {
            Intent::SpeedUp { id } => {
                let preview = live.chain.speed_up(transaction(id)?).await?;
                (self.role_of(preview.from)?, preview, None, false)
            }
            Intent::Cancel { id } => {
                let preview = live.chain.cancel(transaction(id)?).await?;
                (self.role_of(preview.from)?, preview, None, false)
            }
            Intent::Deposit { amount } => {
                let payer = self.payer_role();
                let start = self.deposit(live, payer, amount.0).await?;
                let preview = live.chain.preview_start(&start).await?;
                (payer, preview, Some(start), false)
            }
            Intent::Create
            | Intent::Import
            | Intent::Unlock
            | Intent::ShowWords
            | Intent::ConfirmWords
            | Intent::Export
            | Intent::Remember
            | Intent::ChangePassword
            | Intent::EndSigner
            | Intent::RegisterPayee
            | Intent::Join
            | Intent::Unjoin
            | Intent::Faucet
            | Intent::Send { .. }
            | Intent::Withdraw { .. }
            | Intent::Grant { .. }
            | Intent::Delegate { .. }
            | Intent::Wrap { .. }
            | Intent::Unwrap { .. }
            | Intent::Claim { .. }
            | Intent::Vote { .. }
            | Intent::Queue { .. }
            | Intent::Execute { .. }
            | Intent::SignStart { .. }
            | Intent::Relay { .. }
            | Intent::Propose { .. } => {
                let (role, call) = self.call(live, intent).await?;
                let preview = live.chain.preview(self.address(role)?, &call).await?;
                (role, preview, None, comes_first(intent, &call))
            }
        };
        Ok(Shown {
            digest: preview.digest.to_string(),
            role,
            preview,
            about: about(live, intent).await?,
            start,
            more,
        })
    }

    /// The account that asking is paid from.
    pub(super) fn payer_role(&self) -> WalletRole {
        match self.inner.settings.borrow().money.mode {
            super::settings::Mode::LendAndSpend => WalletRole::Wallet,
            super::settings::Mode::Free | super::settings::Mode::Earn => WalletRole::Spend,
        }
    }

    pub(super) fn address(&self, role: WalletRole) -> Result<Address, ActError> {
        let status = self.inner.wallet.status();
        let mut accounts = status.accounts.iter();
        accounts
            .find(|account| account.role == role)
            .and_then(|account| account.address.parse().ok())
            .ok_or(ActError::NoAccount)
    }

    fn role_of(&self, address: Address) -> Result<WalletRole, ActError> {
        let status = self.inner.wallet.status();
        let mut accounts = status.accounts.iter();
        accounts
            .find(|account| account.address.parse() == Ok(address))
            .map(|account| account.role)
            .ok_or(ActError::NoAccount)
    }

    pub(super) fn key(&self, role: WalletRole) -> Result<Key, ActError> {
        let wallet = &self.inner.wallet;
        let secret = match role {
            WalletRole::Wallet => wallet.key(Account::Wallet)?,
            WalletRole::Spend => wallet.key(Account::Spend)?,
            WalletRole::Operator => wallet.operator_key()?,
            WalletRole::Session => wallet.session_key()?,
        };
        Ok(Key::from_secret(secret.expose())?)
    }
}

/// The transaction of a deposit that was confirmed, with a permit for exactly that sum.
async fn permitted(
    live: &Live,
    key: &Key,
    start: &Start,
    shown: &chain::Preview,
) -> Result<chain::Preview, ActError> {
    let account = live.chain.account(key.address()).await?;
    let network = live.chain.network();
    let permit = key.permit(network, start.deposit, account.token_nonce, start.deadline)?;
    match live.chain.signed_start(shown, start, permit).await {
        Err(chain::ChainError::PreviewChanged) => Err(ActError::OtherDigest),
        preview => Ok(preview?),
    }
}

impl Money {
    /// Keeps what was shown last, or takes it.
    fn shown(&self, new: Option<Shown>) -> Option<Shown> {
        let mut shown = self
            .shown
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut *shown, new)
    }
}

/// What a vote is about, in words: the proposal's title, and what its calls change. Its number, which is what is signed, binds
/// both; a text that it does not bind is an endpoint's own, and is not shown.
async fn about(live: &Live, intent: &Intent) -> Result<Vec<NamedValue>, ActError> {
    let (Intent::Vote { id, .. } | Intent::Queue { id } | Intent::Execute { id }) = intent else {
        return Ok(Vec::new());
    };
    let named = |name: &str, value: String| NamedValue {
        name: name.to_owned(),
        value,
    };
    let motion = motion(live, id).await?;
    if motion.id().to_string() != *id {
        return Ok(vec![named("Title", UNBOUND.to_owned())]);
    }
    let title = motion.title().chars().take(MAX_TITLE).collect();
    let mut about = vec![named("Title", title)];
    // The other two say their changes by themselves.
    if matches!(intent, Intent::Vote { .. }) {
        let changes = votes::changes(live, &motion.decode(live.network())).await?;
        about.extend(changes.into_iter().map(|change| named("Change", change)));
    }
    Ok(about)
}

fn view(live: &Live, shown: &Shown) -> Preview {
    let network = live.chain.network();
    let preview = &shown.preview;
    let (simulation, reason) = match &preview.simulation {
        chain::Simulation::Ok => (Simulation::Ok, None),
        chain::Simulation::NotTried => (Simulation::NotTried, None),
        chain::Simulation::Reverted { reason } => (Simulation::Reverts, Some(reason.clone())),
    };
    Preview {
        digest: shown.digest.clone(),
        title: preview.described.title.clone(),
        to: preview.described.to.to_checksum(None),
        known: preview.described.contract_known,
        leaves: preview
            .described
            .leaves
            .iter()
            .map(|asset| Leaves {
                amount: asset.amount.to_string(),
                symbol: asset.symbol.clone(),
            })
            .collect(),
        fee_max: preview.fee_max.to_string(),
        coin_after: preview.coin_after.map(|left| left.to_string()),
        token_after: preview.token_after.map(|left| left.to_string()),
        more: shown.more,
        fields: shown
            .about
            .iter()
            .cloned()
            .chain(
                preview
                    .described
                    .fields
                    .iter()
                    .map(|(name, value)| NamedValue {
                        name: name.clone(),
                        value: value.clone(),
                    }),
            )
            .collect(),
        simulation,
        reason,
        network: PreviewNetwork {
            title: network.title.clone(),
            test: network.test,
            symbol: network.token.symbol.clone(),
            coin: network.coin.symbol.clone(),
        },
    }
}
