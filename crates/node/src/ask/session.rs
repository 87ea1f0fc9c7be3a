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
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use network::{ClosedBecause, ConnectionChange, Network, NetworkOptions};
use protocol::{HeadDigest, ModelDigest, ModelRef, PeerId, Signer, offer::Offer};
use tokio::sync::watch;

use super::held::HeldQuotes;
use crate::{
    chat::Place,
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

/// A head that failed comes after the others for this long: who gives it may only have been away.
const FAILED_FOR: Duration = Duration::from_secs(600);

/// Heads that failed within that time; the oldest is forgotten.
const MAX_FAILED: usize = 64;

/// So long after this computer woke or changed its network, what breaks is not the peers' fault.
const LATELY_MS: u64 = 20_000;

/// Whether the person ever wanted anything of peers. Before that, the swarm is silent: it opens no port, dials nobody and
/// asks no source, so that a program that is used for answers of this computer alone sends nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outside {
    /// Not yet.
    Not,
    /// Yes: in an earlier run, by the settings, or just now.
    Asked,
}

impl Outside {
    /// What holds when the program starts.
    pub(crate) fn at_start(settings: &Settings, data: &DataFolder, book: &PeerBook) -> Self {
        let asked = settings.place != Place::Local
            || !book.dialable().is_empty()
            || data.met(Swarm::Asking.name()).exists();
        if asked { Self::Asked } else { Self::Not }
    }
}

/// One day's swarm and key.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) network: Network,
    identity: Identity,
    reach: Outside,
    /// When the routing table was last asked for a model.
    searched: Mutex<BTreeMap<ModelDigest, Instant>>,
    /// Quotes for what the person types.
    pub(super) held: HeldQuotes,
    /// Heads on the disk that were found to be whole.
    heads: Mutex<BTreeSet<HeadDigest>>,
    /// Heads that nobody gave, or that were none, and when.
    failed: Mutex<BTreeMap<HeadDigest, Instant>>,
    /// Draws lots that nobody else can foresee.
    lots: RandomState,
}

impl Session {
    /// Starts a swarm that serves nobody, with a key that nobody has seen. `served_as`: the name by which this computer serves.
    ///
    /// # Errors
    /// [`NodeError::Network`], [`NodeError::Identity`] when the system gives no randomness.
    pub(crate) async fn start(
        agent: &str,
        settings: &Settings,
        data: &DataFolder,
        book: &PeerBook,
        served_as: PeerId,
        reach: Outside,
    ) -> Result<Self, NodeError> {
        let identity = Identity::temporary()?;
        let blocked = book.blocked();
        let options = match reach {
            Outside::Not => NetworkOptions::new(identity.seed()),
            Outside::Asked => NetworkOptions {
                known_peers: book.dialable(),
                mdns: settings.mdns,
                other_self: Some(served_as),
                ..swarms::options(settings, data, Swarm::Asking, identity.seed())
            },
        };
        let options = NetworkOptions {
            agent: agent.to_owned(),
            ..options
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
            reach,
            searched: Mutex::default(),
            held: HeldQuotes::default(),
            heads: Mutex::default(),
            failed: Mutex::default(),
            lots: RandomState::new(),
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

    /// Whether a head on the disk was found to be whole in this session.
    pub(super) fn has_seen_head(&self, head: &HeadDigest) -> bool {
        self.heads().contains(head)
    }

    /// Notes that a head on the disk is whole.
    pub(super) fn saw_head(&self, head: HeadDigest) {
        self.heads().insert(head);
    }

    fn heads(&self) -> MutexGuard<'_, BTreeSet<HeadDigest>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a head could not be had, or is none.
    pub(crate) fn head_failed(&self, head: HeadDigest, now: Instant) {
        let mut failed = self.failed();
        failed.retain(|_, at| now.saturating_duration_since(*at) < FAILED_FOR);
        if failed.len() >= MAX_FAILED
            && let Some(oldest) = failed.iter().min_by_key(|(_, at)| **at)
        {
            let oldest = *oldest.0;
            failed.remove(&oldest);
        }
        failed.insert(head, now);
    }

    /// Whether that was so a while ago.
    pub(super) fn failed_lately(&self, head: &HeadDigest, now: Instant) -> bool {
        let failed = self.failed();
        let at = failed.get(head);
        at.is_some_and(|at| now.saturating_duration_since(*at) < FAILED_FOR)
    }

    fn failed(&self) -> MutexGuard<'_, BTreeMap<HeadDigest, Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for this head that is the same for as long as the session, and that nobody else can foresee.
    pub(super) fn lot(&self, head: &ModelRef) -> u64 {
        self.lots.hash_one(head)
    }

    /// Offers of a peer that is connected: it says when they change, and they are pulled then. What was not heard of yet
    /// costs a question more, since the peer turns away what it does not offer any more.
    pub(super) fn offers_held_of(&self, peer: &PeerId) -> Vec<Offer> {
        if !self.is_connected(peer) {
            return Vec::new();
        }
        let known = self.network.known_offers().into_iter();
        let own = known.map(|known| known.offer);
        own.filter(|offer| offer.peer == *peer).collect()
    }

    /// Whether it looks for peers at all.
    pub(super) fn is_outside(&self) -> bool {
        self.reach == Outside::Asked
    }

    /// Whether there is a connection to this peer, as far as the network has noticed.
    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        let status = self.network.status();
        let status = status.borrow();
        status.peers.iter().any(|connected| connected.peer == *peer)
    }

    /// The name of the day.
    pub(crate) fn peer_id(&self) -> PeerId {
        self.identity.peer_id()
    }
}

/// The session of now; the older ones live as long as the answers that began in them.
#[derive(Debug)]
pub(crate) struct Sessions {
    now: watch::Sender<Arc<Session>>,
    /// Held while a session is replaced, so that two who want that make one.
    change: tokio::sync::Mutex<()>,
}

impl Sessions {
    pub(crate) fn new(first: Session) -> Self {
        Self {
            now: watch::Sender::new(Arc::new(first)),
            change: tokio::sync::Mutex::default(),
        }
    }

    /// The session for something that begins now.
    pub(crate) fn now(&self) -> Arc<Session> {
        Arc::clone(&self.now.borrow())
    }

    /// The same, as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Session>> {
        self.now.subscribe()
    }
}

impl Inner {
    /// The session for something that concerns peers: from the first time on, the swarm looks for them.
    ///
    /// # Errors
    /// As [`Session::start`]; the silent session stays.
    pub(crate) async fn outside(&self) -> Result<Arc<Session>, NodeError> {
        let _change = self.asking.change.lock().await;
        let session = self.asking.now();
        if session.reach == Outside::Asked {
            return Ok(session);
        }
        self.replace_session(Outside::Asked).await?;
        Ok(self.asking.now())
    }

    /// Takes a new key and a new swarm for whatever begins from now on.
    ///
    /// # Errors
    /// As [`Session::start`]; the old session stays.
    pub(crate) async fn new_session(&self) -> Result<(), NodeError> {
        let _change = self.asking.change.lock().await;
        let reach = self.asking.now().reach;
        self.replace_session(reach).await
    }

    async fn replace_session(&self, reach: Outside) -> Result<(), NodeError> {
        let (settings, book) = (self.settings.borrow().clone(), self.book().clone());
        let served_as = self.identity.peer_id();
        let session =
            Session::start(&self.agent, &settings, &self.data, &book, served_as, reach).await?;
        let before = self.asking.now.send_replace(Arc::new(session));
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
    fn who_never_asked_a_peer_is_silent() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let (mut book, _) = PeerBook::open(&data.peers());
        let local = Settings::default();
        assert_eq!(Outside::at_start(&local, &data, &book), Outside::Not);
        let automatic = Settings {
            place: Place::Automatic,
            ..Settings::default()
        };
        assert_eq!(Outside::at_start(&automatic, &data, &book), Outside::Asked);
        let peer = PeerId::from_public_key(&[1; 32]);
        book.remember(&peer, &["/ip4/192.0.2.1/tcp/1".to_owned()]);
        assert_eq!(Outside::at_start(&local, &data, &book), Outside::Asked);
        let (empty, _) = PeerBook::open(&data.peers());
        std::fs::write(data.met("asking"), "").unwrap();
        assert_eq!(Outside::at_start(&local, &data, &empty), Outside::Asked);
    }

    #[test]
    fn the_key_changes_soon_after_midnight_and_not_twice_a_day() {
        let midnight = 20_000 * DAY_MS;
        assert_eq!(next_change(midnight - 1, 5), midnight + 5);
        // Right after a change at 00:05 the next one is a day away.
        assert_eq!(next_change(midnight + 5, 7), midnight + DAY_MS + 7);
        assert!(spread() < SPREAD_MS);
    }
    #[tokio::test]
    async fn a_head_that_failed_comes_last_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let (book, _) = PeerBook::open(&data.peers());
        let settings = Settings::default();
        let own = PeerId::from_public_key(&[1; 32]);
        let session = Session::start("test", &settings, &data, &book, own, Outside::Not)
            .await
            .unwrap();
        let (head, now) = (HeadDigest::new([1; 32]), Instant::now());
        session.head_failed(head, now);
        assert!(session.failed_lately(&head, now + FAILED_FOR / 2));
        assert!(!session.failed_lately(&head, now + FAILED_FOR));
        assert!(!session.failed_lately(&HeadDigest::new([2; 32]), now));
        for other in 2..=255 {
            session.head_failed(HeadDigest::new([other; 32]), now + FAILED_FOR / 4);
        }
        assert!(session.failed().len() <= MAX_FAILED);
        session.network.shutdown().await;
    }
}
