//! The swarm that asks, and its identity, which changes every day.
//!
//! Whoever answers learns the PeerId of the one who asks. A new key each day keeps the questions of two days from being
//! put together by it, and the key of what this computer serves is never used for asking. The key lies in memory alone:
//! a file would let somebody who gets hold of the disk prove which questions in a provider's books are this computer's,
//! and all that a restart loses is what a provider still had cached for the old name.
//!
//! Keys change soon after midnight UTC, everybody's in the same minutes: so the moment of a change says little about
//! which new name belongs to which old one. An answer that runs keeps the session in which it began.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use network::{ClosedBecause, ConnectionChange, Network, NetworkOptions};
use protocol::{ModelDigest, PeerId, Signer};
use tokio::sync::watch;

use crate::{
    clock,
    data::DataFolder,
    error::NodeError,
    identity::Identity,
    node::Inner,
    peers::{
        PeerBook,
        swarms::{self, Swarm},
    },
    settings::Settings,
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The changes of all computers are spread over this long after midnight, or everybody would dial at once.
const SPREAD_MS: u64 = 10 * 60 * 1000;

/// A computer that slept past midnight notices within this time.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Models that are looked for within a minute: a person has not that many chats.
const MAX_SEARCHED: usize = 64;

/// So long after this computer woke or changed its network, what breaks is not the peers' fault.
const LATELY_MS: u64 = 20_000;

/// One day's swarm and key.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) network: Network,
    identity: Identity,
    /// When the routing table was last asked for a model.
    searched: Mutex<BTreeMap<ModelDigest, Instant>>,
}

impl Session {
    /// Starts a swarm that serves nobody, with a key that nobody has seen.
    ///
    /// # Errors
    /// [`NodeError::Network`], [`NodeError::Identity`] when the system gives no randomness.
    pub(crate) async fn start(
        agent: &str,
        settings: &Settings,
        data: &DataFolder,
        book: &PeerBook,
    ) -> Result<Self, NodeError> {
        let identity = Identity::temporary()?;
        let blocked = book.blocked();
        let options = NetworkOptions {
            known_peers: book.dialable(),
            agent: agent.to_owned(),
            ..swarms::options(settings, data, Swarm::Asking, identity.seed())
        };
        let (network, inbound) = Network::start(options).await?;
        // Nothing is served here: whoever asks finds the queues closed.
        drop(inbound);
        for peer in blocked {
            network.set_blocked(&peer, true).await;
        }
        Ok(Self {
            network,
            identity,
            searched: Mutex::default(),
        })
    }

    /// Countersigns the receipts of what was asked in this session.
    pub(crate) fn signer(&self) -> Signer {
        self.identity.signer()
    }

    /// Whether a model may be looked for now: not when that was done less than `after` ago. Notes that it is done.
    pub(super) fn may_search(&self, model: ModelDigest, after: Duration, now: Instant) -> bool {
        let mut searched = self.searched.lock().unwrap_or_else(PoisonError::into_inner);
        searched.retain(|_, at| now.duration_since(*at) < after);
        if searched.contains_key(&model) || searched.len() >= MAX_SEARCHED {
            return false;
        }
        searched.insert(model, now);
        true
    }

    /// Whether this computer slept or changed its network a moment ago: cuts and silence say nothing about peers then.
    pub(super) fn path_changed_lately(&self) -> bool {
        let since = clock::unix_ms().saturating_sub(LATELY_MS);
        let because = ConnectionChange::Closed(ClosedBecause::NetworkChanged);
        let log = self.network.log();
        let mut recent = log.iter().rev().take_while(|event| event.unix_ms >= since);
        recent.any(|event| event.what == because)
    }

    /// The name of the day.
    pub(crate) fn peer_id(&self) -> PeerId {
        self.identity.peer_id()
    }
}

/// The session of now; the older ones live as long as the answers that began in them.
#[derive(Debug)]
pub(crate) struct Sessions(watch::Sender<Arc<Session>>);

impl Sessions {
    pub(crate) fn new(first: Session) -> Self {
        Self(watch::Sender::new(Arc::new(first)))
    }

    /// The session for something that begins now.
    pub(crate) fn now(&self) -> Arc<Session> {
        Arc::clone(&self.0.borrow())
    }

    /// The same, as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Session>> {
        self.0.subscribe()
    }
}

impl Inner {
    /// Takes a new key and a new swarm for whatever begins from now on.
    ///
    /// # Errors
    /// As [`Session::start`]; the old session stays.
    pub(crate) async fn new_session(&self) -> Result<(), NodeError> {
        let (settings, book) = (self.settings.borrow().clone(), self.book().clone());
        let session = Session::start(&self.agent, &settings, &self.data, &book).await?;
        let before = self.asking.0.send_replace(Arc::new(session));
        // What it learned goes to the disk; an answer that runs in it keeps its connections until it is over.
        if let Some(before) = Arc::into_inner(before) {
            before.network.shutdown().await;
        }
        Ok(())
    }
}

/// Changes the key every day until the node stops.
pub(crate) async fn keep(inner: Arc<Inner>) {
    let mut due = next_change(clock::unix_ms(), spread());
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let now = clock::unix_ms();
        if now < due {
            continue;
        }
        if let Err(error) = inner.new_session().await {
            tracing::warn!(%error, "the identity for asking could not be changed; it is tried again");
            continue;
        }
        due = next_change(now, spread());
    }
}

/// When the key changes next: this long after the next midnight UTC.
fn next_change(now_ms: u64, spread_ms: u64) -> u64 {
    (now_ms / DAY_MS + 1)
        .saturating_mul(DAY_MS)
        .saturating_add(spread_ms)
}

fn spread() -> u64 {
    let mut bytes = [0u8; 8];
    // Without randomness no key can be made either, which is said there.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes) % SPREAD_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_changes_soon_after_midnight_and_not_twice_a_day() {
        let midnight = 20_000 * DAY_MS;
        assert_eq!(next_change(midnight - 1, 5), midnight + 5);
        // Right after a change at 00:05 the next one is a day away.
        assert_eq!(next_change(midnight + 5, 7), midnight + DAY_MS + 7);
        assert!(spread() < SPREAD_MS);
    }
}
