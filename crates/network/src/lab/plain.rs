//! The decisions of the routing table and of a search, for callers that know nothing of libp2p.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use libp2p::{
    kad::{self, ProviderRecord, RecordKey, store::RecordStore},
    multiaddr::Multiaddr,
};
use protocol::{ModelDigest, PeerId};

use super::wires;
use crate::{
    NetworkError, address::Prefix, admission, identity, providers, record_store::ProviderStore,
    search::Steps,
};

/// Where providers are found: 32 bytes in the table's space.
pub type Key = [u8; 32];
/// Connections that a node has open of those that it opened; the oldest goes for one more.
pub const CONNECTIONS_OUT: usize = admission::ESTABLISHED_OUT as usize - admission::ROOM_OUT;
/// Dials that it has under way.
pub const DIALS_OUT: usize = admission::PENDING_OUT as usize;
/// A walk through the table ends by then.
pub const QUERY: Duration = providers::QUERY;
/// A provider says again where it stands after this time, by the system's clock.
pub const SAID_AGAIN: Duration = providers::PUBLISH_EVERY;

/// How long a record lives in a simulated store: longer than any scenario.
const RECORD_LIVES: Duration = Duration::from_secs(60 * 60);

/// Whose key comes of this seed.
///
/// # Errors
/// [`NetworkError::Start`] when it gives none.
pub fn peer_of(seed: [u8; 32]) -> Result<PeerId, NetworkError> {
    let peer = identity::keypair(seed)?.public().to_peer_id();
    identity::to_protocol(&peer).ok_or(NetworkError::Closed)
}

/// Where a peer is in the table's space. `None` for an id that is no peer's.
#[must_use]
pub fn place_of(peer: &PeerId) -> Option<[u8; 32]> {
    let key = kad::KBucketKey::from(identity::to_libp2p(peer)?);
    key.hashed_bytes().try_into().ok()
}

/// Where a key is in the table's space.
#[must_use]
pub fn place_of_key(key: &Key) -> [u8; 32] {
    let key = kad::KBucketKey::new(RecordKey::new(key));
    key.hashed_bytes().try_into().unwrap_or_default()
}

/// Under which keys a provider of a model says so at this time.
#[must_use]
pub fn keys_of(network: &str, peer: &PeerId, model: ModelDigest, unix_ms: u64) -> Vec<Key> {
    providers::keys_of(network, peer, &[model], unix_ms)
        .into_iter()
        .collect()
}

/// The keys of today to look under, in random order.
#[must_use]
pub fn keys_today(network: &str, model: &ModelDigest, unix_ms: u64) -> Vec<Key> {
    providers::keys_today(network, Some(model), unix_ms).into()
}

/// The binary multiaddr of a node at this address.
#[must_use]
pub fn address(address: Ipv4Addr) -> Vec<u8> {
    wires::multiaddr(address).to_vec()
}

fn address_at(address: Ipv4Addr) -> (Multiaddr, Option<Prefix>) {
    let address = wires::multiaddr(address);
    let site = Prefix::of_site(&address);
    (address, site)
}

/// The product's store of provider records.
#[derive(Debug)]
pub struct Store(ProviderStore);

impl Store {
    /// Of this node. `None` for an id that is no peer's.
    #[must_use]
    pub fn of(local: &PeerId) -> Option<Self> {
        Some(Self(ProviderStore::new(identity::to_libp2p(local)?)))
    }

    /// Keeps a record that a provider put here from this address. False: there is no place for it.
    pub fn keep(&mut self, key: &Key, provider: &PeerId, address: Ipv4Addr) -> bool {
        let Some(provider) = identity::to_libp2p(provider) else {
            return false;
        };
        let (address, site) = address_at(address);
        let mut record = ProviderRecord::new(RecordKey::new(key), provider, vec![address]);
        record.expires = Some(Instant::now() + RECORD_LIVES);
        self.0.keep(record, site)
    }

    /// Whom it names when it is asked.
    #[must_use]
    pub fn answer(&self, key: &Key) -> Vec<PeerId> {
        self.0
            .providers(&RecordKey::new(key))
            .iter()
            .filter_map(|record| identity::to_protocol(&record.provider))
            .collect()
    }
}

/// The product's search, in the time of its caller. Walks are known by numbers.
#[derive(Debug)]
pub struct Search {
    steps: Steps<usize>,
    zero: Instant,
}

impl Search {
    /// Begins with these keys, at a time since some beginning.
    #[must_use]
    pub fn new(keys: Vec<Key>, now: Duration) -> Self {
        let zero = Instant::now();
        Self {
            steps: Steps::new(keys.into(), zero + now),
            zero,
        }
    }

    /// Looks at the time. False: it is over.
    pub fn go_on(&mut self, now: Duration) -> bool {
        self.steps.go_on(self.zero + now)
    }

    /// Keys to walk to now; each walk is to be told to [`Search::walks_to`].
    pub fn next_keys(&mut self, now: Duration) -> Vec<Key> {
        self.steps.next_keys(self.zero + now)
    }

    /// A walk began.
    pub fn walks_to(&mut self, walk: usize, key: Key) {
        self.steps.walks_to(walk, key);
    }

    /// A walk is over.
    pub fn walked(&mut self, walk: usize) {
        self.steps.walked(&walk);
    }

    /// The table named a provider.
    pub fn names(&mut self, provider: &PeerId, address: Ipv4Addr) {
        if let Some(provider) = identity::to_libp2p(provider)
            && self.steps.is_new(&provider)
        {
            let site = address_at(address).1;
            if site.is_none_or(|site| self.steps.has_room_at(&site)) {
                self.steps.names(provider, site);
            }
        }
    }

    /// A provider to dial or to ask now; it is to be told to [`Search::waits_for`].
    pub fn next_dial(&mut self) -> Option<PeerId> {
        identity::to_protocol(&self.steps.next_dial()?)
    }

    /// A peer was met. True: it is to be asked.
    pub fn meets(&mut self, peer: &PeerId) -> bool {
        identity::to_libp2p(peer).is_some_and(|peer| self.steps.meets(peer))
    }

    /// A peer was asked, or is dialled so that it can be.
    pub fn waits_for(&mut self, peer: &PeerId, now: Duration) {
        if let Some(peer) = identity::to_libp2p(peer) {
            self.steps.waits_for(peer, self.zero + now);
        }
    }

    /// A peer answered with its offers, or will not.
    pub fn heard(&mut self, peer: &PeerId) {
        if let Some(peer) = identity::to_libp2p(peer) {
            self.steps.heard(&peer);
        }
    }

    /// Whether nothing more will come of what is under way and planned.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.steps.is_exhausted()
    }
}
