//! Transactions: signed, on disk, sent, followed until they are final.
//!
//! [`Chain::send`] signs and writes; the task of [`follow`] sends what is written, again and again until it is in a block,
//! and settles it when that block is final. A crash at any moment leaves either nothing, or a signed transaction that the
//! next start sends or finds mined. Transactions of one account that share a nonce are one slot: one of them at most is
//! ever mined, and all of their forms are looked for.

mod follow;
mod sign;
mod store;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use follow::follow;

use self::store::{Form, Record, Seen, Store};
use crate::{
    call::{Described, Request},
    chain::Chain,
    error::ChainError,
    key::Key,
    preview::{GasPrice, Preview},
};

/// Nodes keep so many of one account, and a person reads no more.
const MAX_WAITING: usize = 64;
/// Each form pays a good tenth more than the one before: so many are more than anybody will pay.
const MAX_FORMS: usize = 32;

/// One transaction: the hash of its first form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TxId(pub B256);

impl std::fmt::Display for TxId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for TxId {
    type Err = alloy::hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// How a transaction stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TxState {
    /// Signed and on disk; no endpoint has taken it yet.
    Prepared,
    /// An endpoint has taken it.
    Sent,
    /// In a block that may still be replaced.
    Mined {
        /// Which.
        block: u64,
        /// The contract refused it there; the fee is paid.
        reverted: bool,
    },
    /// In a final block, and done.
    Final {
        /// Which.
        block: u64,
    },
    /// Refused: by the endpoints, or by the contract in a final block.
    Failed {
        /// Why.
        why: String,
    },
    /// Another one of the same nonce is final: it was taken back, or sent again.
    Replaced,
    /// Its nonce was used by a transaction that this device does not know: the account is used elsewhere as well.
    Lost,
}

impl TxState {
    /// In one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Sent => "sent",
            Self::Mined { .. } => "mined",
            Self::Final { .. } => "final",
            Self::Failed { .. } => "failed",
            Self::Replaced => "replaced",
            Self::Lost => "lost",
        }
    }

    /// Nothing is to be expected of it any more.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Prepared | Self::Sent | Self::Mined { .. } => false,
            Self::Final { .. } | Self::Failed { .. } | Self::Replaced | Self::Lost => true,
        }
    }
}

/// A transaction of this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tx {
    /// Which.
    pub id: TxId,
    /// Whose.
    pub from: Address,
    /// Its number among the account's.
    pub nonce: u64,
    /// Of each signed form, the newest last.
    pub hashes: Vec<B256>,
    /// What it does, as it was shown.
    pub described: Described,
    /// The most that its newest form can cost, in the coin's smallest unit.
    pub fee_max: u128,
    /// How it stands.
    pub state: TxState,
    /// What endpoints say of it that may explain why it waits.
    pub note: Option<String>,
    /// When it was signed, in milliseconds since 1970.
    pub sent_unix_ms: u64,
    /// [`Chain::speed_up`] and [`Chain::cancel`] make sense.
    pub replaceable: bool,
}

/// What replaces it starts from this.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) from: Address,
    pub(crate) described: Described,
    pub(crate) request: Request,
    pub(crate) price: GasPrice,
}

#[derive(Debug)]
pub(crate) struct Pending {
    store: Mutex<Store>,
    seen: watch::Sender<Vec<Tx>>,
    /// One nonce is given at a time.
    giving: tokio::sync::Mutex<()>,
    /// Something new is to be sent.
    new: tokio::sync::Notify,
}

impl Chain {
    /// Signs what was shown and writes it to disk; from then on it is sent until it is final. The key is not kept.
    ///
    /// # Errors
    /// [`ChainError::PreviewChanged`], [`ChainError::PreviewOld`], [`ChainError::Reverted`] for a call that would fail,
    /// [`ChainError::Key`], [`ChainError::Store`] (then nothing is sent), [`ChainError::TooMany`]; else as
    /// [`Chain::account`].
    pub async fn send(&self, key: &Key, preview: Preview) -> Result<TxId, ChainError> {
        self.check_preview(&preview)?;
        if key.address() != preview.from {
            return Err(ChainError::Key {
                expected: preview.from,
                got: key.address(),
            });
        }
        let pending = &self.inner.pending;
        let _giving = pending.giving.lock().await;
        let id = match preview.replaces {
            Some(id) => self.add_form(key, id, &preview)?,
            None => self.add(key, preview).await?,
        };
        pending.new.notify_one();
        Ok(id)
    }

    /// Every transaction that is known here, the newest last.
    pub fn transactions(&self) -> Vec<Tx> {
        self.inner.pending.seen.borrow().clone()
    }

    /// The same, whenever one changes.
    pub fn watch_transactions(&self) -> watch::Receiver<Vec<Tx>> {
        self.inner.pending.seen.subscribe()
    }

    /// Waits until nothing is to be expected of a transaction any more.
    ///
    /// # Errors
    /// [`ChainError::UnknownTx`] for one that is not known here.
    pub async fn settled(&self, id: TxId) -> Result<TxState, ChainError> {
        let mut seen = self.watch_transactions();
        let find = |all: &Vec<Tx>| all.iter().find(|tx| tx.id == id).map(|tx| tx.state.clone());
        let all = seen
            .wait_for(|all| find(all).is_none_or(|state| state.is_over()))
            .await
            .map_err(|_| ChainError::UnknownTx(id))?;
        find(&all).ok_or(ChainError::UnknownTx(id))
    }

    async fn add(&self, key: &Key, preview: Preview) -> Result<TxId, ChainError> {
        let chain = &self.inner;
        let tip = chain.tip().ok_or(ChainError::NotYet)?;
        let on_chain = chain.endpoints.nonce(preview.from, tip.head.number).await?;
        let mut store = chain.pending.store();
        let waiting = store
            .records
            .iter()
            .filter(|record| !record.state.is_over());
        let count = waiting.clone().count();
        if count >= MAX_WAITING {
            return Err(ChainError::TooMany { count });
        }
        let taken: BTreeSet<u64> = waiting
            .filter(|record| record.from == preview.from)
            .map(|record| record.nonce)
            .collect();
        let nonce = lowest_free(on_chain, &taken);
        let form = sign::sign(key, chain.network.chain_id, nonce, &preview)?;
        let id = TxId(form.hash);
        let mut records = store.records.clone();
        records.push(Record {
            id,
            from: preview.from,
            nonce,
            described: preview.described,
            to: preview.request.to,
            value: preview.request.value,
            input: preview.request.input,
            forms: vec![form],
            state: TxState::Prepared,
            settled: false,
            note: None,
            sent_unix_ms: unix_ms(),
            seen: Some(Seen {
                block: tip.last_final.number,
                hash: tip.last_final.hash,
            }),
        });
        store.put(records)?;
        chain.pending.show(&store);
        Ok(id)
    }

    fn add_form(&self, key: &Key, id: TxId, preview: &Preview) -> Result<TxId, ChainError> {
        let chain = &self.inner;
        let mut store = chain.pending.store();
        let mut records = store.records.clone();
        let record = records
            .iter_mut()
            .find(|record| record.id == id)
            .ok_or(ChainError::UnknownTx(id))?;
        check_replaceable(record)?;
        record.forms.push(sign::sign(
            key,
            chain.network.chain_id,
            record.nonce,
            preview,
        )?);
        record.state = TxState::Prepared;
        record.note = None;
        store.put(records)?;
        chain.pending.show(&store);
        Ok(id)
    }
}

impl Pending {
    pub(crate) fn open(folder: &Path, chain_id: u64) -> Result<Self, ChainError> {
        let store = Store::open(folder, chain_id)?;
        let pending = Self {
            seen: watch::Sender::new(Vec::new()),
            giving: tokio::sync::Mutex::new(()),
            new: tokio::sync::Notify::new(),
            store: Mutex::new(store),
        };
        pending.show(&pending.store());
        Ok(pending)
    }

    pub(crate) fn replaceable(&self, id: TxId) -> Result<Waiting, ChainError> {
        let store = self.store();
        let record = store
            .records
            .iter()
            .find(|record| record.id == id)
            .ok_or(ChainError::UnknownTx(id))?;
        let newest = check_replaceable(record)?;
        Ok(Waiting {
            from: record.from,
            described: record.described.clone(),
            request: Request {
                to: record.to,
                value: record.value,
                input: record.input.clone(),
            },
            price: GasPrice {
                max_fee: newest.max_fee,
                tip: newest.tip,
            },
        })
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // Records change whole, after they were written.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, store: &Store) {
        let all: Vec<Tx> = store.records.iter().map(Tx::from).collect();
        self.seen.send_if_modified(|seen| {
            let changed = *seen != all;
            *seen = all;
            changed
        });
    }
}

/// The next nonce that nothing waits with. One that was refused leaves a gap, and whatever waits behind a gap is mined only once
/// that is filled.
fn lowest_free(on_chain: u64, taken: &BTreeSet<u64>) -> u64 {
    let mut nonce = on_chain;
    for taken in taken.range(on_chain..) {
        if *taken != nonce {
            break;
        }
        nonce = nonce.saturating_add(1);
    }
    nonce
}

/// Its newest form, where another one can still take its place.
fn check_replaceable(record: &Record) -> Result<&Form, ChainError> {
    let waits = matches!(record.state, TxState::Prepared | TxState::Sent);
    match record.forms.last() {
        Some(newest) if waits && record.forms.len() < MAX_FORMS => Ok(newest),
        _ => Err(ChainError::NotReplaceable {
            id: record.id,
            state: record.state.name(),
        }),
    }
}

impl From<&Record> for Tx {
    fn from(record: &Record) -> Self {
        Self {
            id: record.id,
            from: record.from,
            nonce: record.nonce,
            hashes: record.forms.iter().map(|form| form.hash).collect(),
            described: record.described.clone(),
            fee_max: record
                .forms
                .last()
                .map_or(0, |form| form.max_fee.saturating_mul(u128::from(form.gas))),
            state: record.state.clone(),
            note: record.note.clone(),
            sent_unix_ms: record.sent_unix_ms,
            replaceable: check_replaceable(record).is_ok(),
        }
    }
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}
