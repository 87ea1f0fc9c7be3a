//! Money on one network: opened when its file is chosen, and anew when keys or the mode of the switch change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chain::{Chain, Key, Network};
use ledger::Ledger;
use protocol::voucher::{Address, SessionKey, Vault, payee::Costs};
use tokio::sync::{Notify, watch};
use tokio_util::sync::DropGuard;

use super::{
    anew::{self, Compared},
    overdraft::Overdrafts,
    purse::{Purse, PurseError, has_ended},
    rules::{self, Rules},
    settings::Mode,
    settle, status,
    till::Till,
};
use crate::{
    clock,
    error::{ANOTHER_FOLDER, ErrorView},
    node::Inner,
    wallet::{WalletProblem, WalletRole, WalletStatus},
};

/// What could not be opened is tried again after this long: an endpoint that was away, a disk that was full.
const RETRY: Duration = Duration::from_secs(15);

/// Money on one network.
#[derive(Debug)]
pub(crate) struct Live {
    pub(super) chain: Chain,
    pub(super) ledger: Ledger,
    pub(crate) purse: Option<Arc<Purse>>,
    pub(crate) till: Option<Arc<Till>>,
    /// Sends claims.
    pub(super) operator: Option<Key>,
    /// Where claims go.
    pub(super) payout: Option<Address>,
    /// What votes have set; `None` until it was read.
    pub(super) rules: watch::Sender<Option<Rules>>,
    /// The chain turned out not to be the one that the books were written on.
    pub(super) other_chain: watch::Sender<bool>,
    /// Why nothing more is settled.
    pub(super) problem: watch::Sender<Option<String>>,
    /// What the last audit found first.
    pub(super) disagrees: watch::Sender<Option<String>>,
    /// Keys that promised more than they were granted.
    pub(super) overdrafts: Overdrafts,
    /// A final block was booked.
    pub(super) moved: Notify,
    /// Ends what settles, with the last handle.
    _settling: DropGuard,
}

/// What an opened network follows from. Another one means that it is opened anew.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Basis {
    network: String,
    mode: Mode,
    wallet: Option<String>,
    spend: Option<String>,
}

impl Live {
    /// What the network's file says.
    pub(crate) fn network(&self) -> &Network {
        self.chain.network()
    }

    /// Asking is paid from the account that claims go to.
    pub(super) fn spends_earnings(&self) -> bool {
        let payer = self.purse.as_ref().map(|purse| purse.payer());
        self.till.is_some() && payer.is_some() && payer == self.payout
    }

    /// Seconds since 1970 as final blocks have it; this computer's clock before the first of them.
    pub(super) fn chain_now(&self) -> u64 {
        let health = self.chain.health();
        let now = health.borrow().final_time;
        now.unwrap_or_else(|| clock::unix_ms() / 1000)
    }
}

/// Keeps money as the settings and the wallet have it, until the node stops.
pub(crate) async fn keep(inner: Arc<Inner>) {
    let mut settings = inner.settings.subscribe();
    let mut wallet = inner.wallet.watch();
    let mut opened: Option<Basis> = None;
    let mut chain: Option<Chain> = None;
    loop {
        let wanted = basis(
            &settings.borrow_and_update().money,
            &wallet.borrow_and_update(),
        );
        let mut retry = false;
        if wanted != opened {
            inner.money.live.send_replace(None);
            opened = None;
            if chain.as_ref().map(|chain| chain.network().name.as_str())
                != wanted.as_ref().map(|basis| basis.network.as_str())
            {
                chain = None;
            }
            match &wanted {
                None => {
                    inner.money.status.send_replace(status::without(&inner));
                }
                Some(basis) => match open(&inner, basis, chain.clone()).await {
                    Ok(live) => {
                        chain = Some(live.chain.clone());
                        inner.money.live.send_replace(Some(Arc::clone(&live)));
                        opened.clone_from(&wanted);
                        let weak = Arc::downgrade(&live);
                        inner
                            .tasks
                            .spawn(rules::keep(Arc::clone(&inner), weak.clone()));
                        inner.tasks.spawn(status::keep(Arc::clone(&inner), weak));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "money cannot be used");
                        inner
                            .money
                            .status
                            .send_replace(status::failed(&inner, error.view()));
                        // Who waits for it hears that it did not open.
                        inner.money.live.send_replace(None);
                        retry = true;
                    }
                },
            }
        }
        tokio::select! {
            () = inner.stop.cancelled() => {
                inner.money.live.send_replace(None);
                return;
            }
            changed = settings.changed() => if changed.is_err() { return },
            changed = wallet.changed() => if changed.is_err() { return },
            () = anew::outlived(inner.money.live()) => opened = None,
            () = tokio::time::sleep(RETRY), if retry => {}
        }
    }
}

fn basis(settings: &super::settings::MoneySettings, wallet: &WalletStatus) -> Option<Basis> {
    let address = |role: WalletRole| {
        let mut accounts = wallet.accounts.iter();
        accounts
            .find(|account| account.role == role)
            .map(|account| account.address.clone())
    };
    Some(Basis {
        network: settings.network.clone()?,
        mode: settings.mode,
        wallet: address(WalletRole::Wallet),
        spend: address(WalletRole::Spend),
    })
}

async fn open(
    inner: &Arc<Inner>,
    basis: &Basis,
    chain: Option<Chain>,
) -> Result<Arc<Live>, OpenError> {
    let chain = match chain {
        Some(chain) => chain,
        None => {
            let path = inner.data.network(&basis.network);
            let network = Network::load(&path).map_err(|source| OpenError::Network {
                path,
                source: Box::new(source),
            })?;
            let folder = inner.data.chain(&basis.network);
            crate::data::create_private(&folder).map_err(|source| OpenError::Folder {
                path: folder.clone(),
                source,
            })?;
            Chain::open(network, &folder)?
        }
    };
    let network = chain.network().clone();
    let vault = Vault::new(network.chain_id, network.vault);
    inner
        .ledger
        .bind_vault(network.chain_id, network.vault.into_array())
        .await?;
    let compared = anew::look(&chain, &inner.ledger).await?;
    let payout = basis.wallet.as_deref().and_then(parse);
    // One account for both: what is earned is spent.
    let payer = match basis.mode {
        Mode::LendAndSpend => payout,
        Mode::Free | Mode::Earn => basis.spend.as_deref().and_then(parse),
    };
    let purse = match payer {
        Some(payer) => purse(inner, &chain, vault.clone(), payer)
            .await?
            .map(Arc::new),
        None => None,
    };
    let (till, operator) = match (basis.mode, payout) {
        (Mode::Free, _) | (_, None) => (None, None),
        (Mode::LendAndSpend | Mode::Earn, Some(_)) => {
            let secret = inner.wallet.operator_key()?;
            let key = Key::from_secret(secret.expose())?;
            let costs = Costs {
                claim: network.in_token(network.gas.claim_row),
                reserve: network.in_token(network.gas.reserve),
            };
            let till =
                Till::open(&inner.ledger, chain.clone(), vault, key.address(), costs).await?;
            (Some(Arc::new(till)), Some(key))
        }
    };
    let stop = inner.stop.child_token();
    let live = Arc::new(Live {
        chain,
        ledger: inner.ledger.clone(),
        purse,
        till,
        operator,
        payout,
        rules: watch::Sender::new(None),
        other_chain: watch::Sender::new(false),
        problem: watch::Sender::new(None),
        disagrees: watch::Sender::new(None),
        overdrafts: Overdrafts::default(),
        moved: Notify::new(),
        _settling: stop.clone().drop_guard(),
    });
    let weak = Arc::downgrade(&live);
    inner.tasks.spawn(async move {
        // Nothing of a chain is booked before it is known to be the books' own.
        if compared == Compared::Same || anew::wait(&weak, &stop).await {
            settle::run(weak, stop).await;
        }
    });
    Ok(live)
}

/// The purse of this computer's session key. A key with a grant whose book is not here, or is not the newest, is put aside for
/// another, and so is one that has ended.
async fn purse(
    inner: &Inner,
    chain: &Chain,
    vault: Vault,
    payer: Address,
) -> Result<Option<Purse>, OpenError> {
    let mut secret = inner.wallet.session_key()?;
    let known = |signer: Address| {
        inner
            .ledger
            .payer_book(payer.into_array(), signer.into_array())
    };
    let signer = secret.address();
    match known(signer).await? {
        Some(rows) if rows.lost.is_none() && !has_ended(rows.until_s, rows.chain_s) => {}
        Some(_) => secret = inner.wallet.renew_session_key()?,
        None => {
            tokio::time::timeout(RETRY, chain.reached())
                .await
                .map_err(|_| OpenError::NotReached)?;
            if let Some(view) = chain.signer(payer, signer).await? {
                inner
                    .ledger
                    .signer_lost(
                        payer.into_array(),
                        signer.into_array(),
                        view.granted,
                        view.until,
                    )
                    .await?;
                secret = inner.wallet.renew_session_key()?;
            }
        }
    }
    let key = SessionKey::from_secret(secret.expose())?;
    if known(key.address()).await?.is_none() {
        inner
            .ledger
            .signer_begun(payer.into_array(), key.address().into_array())
            .await?;
    }
    Ok(Some(Purse::open(&inner.ledger, vault, payer, key).await?))
}

/// Puts a network's file where a node of this data folder finds it, and says its name.
///
/// # Errors
/// `network_file` where it is no network's, or cannot be kept.
pub fn keep_network(data: &Path, file: &Path) -> Result<String, ErrorView> {
    let failed = |why: String| {
        let fix = "Choose a network's file (TOML), as whoever set the network up wrote it.";
        ErrorView::new("network_file", why, Some(fix.to_owned()))
    };
    let told = |error: chain::NetworkError| failed(format!("{}: {error}.", file.display()));
    let network = Network::load(file).map_err(told)?;
    let text = network.to_toml().map_err(told)?;
    let folder = data.join("networks");
    let path = folder.join(format!("{}.toml", network.name));
    crate::data::create_private(&folder)
        .and_then(|()| {
            crate::data::write_atomically(&path, text.as_bytes(), crate::data::AtomicWrite::Plain)
        })
        .map_err(|error| failed(format!("{} cannot be written: {error}.", path.display())))?;
    Ok(network.name)
}

fn parse(address: &str) -> Option<Address> {
    address.parse().ok()
}

/// Why money cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("the network's file {path} cannot be used: {source}")]
    Network {
        path: PathBuf,
        #[source]
        source: Box<chain::NetworkError>,
    },
    #[error("the folder {path} cannot be made")]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the chain was not reached, so it is not known whether this computer's books are the newest"
    )]
    NotReached,
    #[error(transparent)]
    OtherChain(#[from] anew::OtherChain),
    #[error(transparent)]
    Chain(#[from] chain::ChainError),
    #[error(transparent)]
    Wallet(#[from] WalletProblem),
    #[error(transparent)]
    Ledger(#[from] ledger::LedgerError),
    #[error(transparent)]
    Purse(#[from] PurseError),
    #[error(transparent)]
    Session(#[from] protocol::voucher::SignerError),
    #[error(transparent)]
    Key(#[from] chain::KeyError),
}

impl OpenError {
    fn view(&self) -> ErrorView {
        match self {
            Self::Wallet(problem) => problem.view(),
            Self::Network { path, .. } => ErrorView::new(
                "network_file",
                crate::error::sentence(self),
                Some(format!(
                    "Put the network's file at {}, or choose no network in the settings.",
                    path.display()
                )),
            ),
            Self::NotReached => ErrorView::new(
                "chain_offline",
                crate::error::sentence(self),
                Some("It is tried again by itself. Everything else works meanwhile.".to_owned()),
            ),
            Self::OtherChain(anew::OtherChain::Anew { .. }) => ErrorView::new(
                "chain_anew",
                crate::error::sentence(self),
                Some(
                    "Choose another network: these books stay as they are. A network that began anew needs a data folder of its own."
                        .to_owned(),
                ),
            )
            .by(ANOTHER_FOLDER.to_owned()),
            Self::OtherChain(anew::OtherChain::Behind { .. }) => ErrorView::new(
                "chain_anew",
                crate::error::sentence(self),
                Some(
                    "It is tried again by itself. A network that began anew needs a data folder of its own."
                        .to_owned(),
                ),
            )
            .by(ANOTHER_FOLDER.to_owned()),
            Self::OtherChain(anew::OtherChain::Chain(_) | anew::OtherChain::Ledger(_))
            | Self::Folder { .. }
            | Self::Chain(_)
            | Self::Ledger(_)
            | Self::Purse(_)
            | Self::Session(_)
            | Self::Key(_) => ErrorView::new(
                "money_closed",
                crate::error::sentence(self),
                Some("It is tried again by itself. Everything else works meanwhile.".to_owned()),
            ),
        }
    }
}
