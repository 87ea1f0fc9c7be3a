//! The address book: peers that this node knows, kept over restarts.
//!
//! It follows Bitcoin's address manager (Heilman et al., "Eclipse Attacks on Bitcoin's Peer-to-Peer Network", USENIX Security 2015,
//! and its countermeasures). Two tables: `new`, peers we were told of, and `tried`, peers that we reached and that spoke our
//! protocol. Where a peer may stand in a table follows from a key that nobody else knows and from the networks that the peer and
//! its teller are in, so an attacker with few networks reaches few places, whatever it tells. A tried peer gives its place to
//! another only after it did not answer when it was dialled.
//!
//! Times are kept over restarts, and a clock may have been wrong when one was written: one that is yet to come counts as one that
//! is as long ago.

mod file;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
};

use libp2p::{Multiaddr, PeerId};
use rand::seq::{IteratorRandom, SliceRandom};
use sha2::{Digest, Sha256};

use crate::{
    address::{self, Prefix},
    disk,
};

/// Each table has 32 buckets of 4 places: 128 peers, 256 in both.
const BUCKETS: u64 = 32;
const PLACES: u64 = 4;
/// Buckets of `new` that what one carrier's peers tell can reach: an eighth of the table.
const BUCKETS_PER_TELLER: u64 = 4;
/// Buckets of `tried` that the peers of one carrier can reach: 8 peers.
const BUCKETS_PER_CARRIER: u64 = 2;
/// Addresses kept of one peer: what an offer may name.
const ADDRESSES: usize = 8;
/// Peers that are dialled first after a restart: whoever isolates this node must also have isolated it before.
const ANCHORS: usize = 2;
/// Newcomers that wait for somebody's place to be tested.
const CHALLENGES: usize = 10;
/// Who was reached this lately keeps its place untested, as in Bitcoin.
const SURE_MS: u64 = 4 * 60 * 60 * 1000;
/// Who was dialled this lately in vain is not dialled again yet.
const RETRY_MS: u64 = 10 * 60 * 1000;
/// A peer that was never reached is given up after so many dials; one that was, after so many in a row.
const FAILURES_NEW: u32 = 3;
const FAILURES_TRIED: u32 = 10;
/// Bytes of the book on disk: 256 peers with 8 addresses of 200 characters are half of that.
pub(crate) const MAX_FILE: usize = 1 << 20;

/// Who told us of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Teller {
    /// One of this node's own sources.
    Own,
    /// A peer, in this network (`None`: one without an IP address).
    Peer(Option<Prefix>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    New,
    Tried,
}

/// A place in a table.
type Place = (Table, u64, u64);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// The one that worked last, or was told first, in front.
    addresses: Vec<Multiaddr>,
    place: Place,
    /// When it was reached and spoke our protocol, Unix milliseconds; 0: never.
    reached_unix_ms: u64,
    dialled_unix_ms: u64,
    /// Dials in a row that came to nothing.
    failures: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct PeerBook {
    key: [u8; 32],
    entries: BTreeMap<PeerId, Entry>,
    places: BTreeMap<Place, PeerId>,
    anchors: Vec<PeerId>,
    /// Newcomers in front of a place of `tried` that is taken: who wants it, and who has it.
    challenges: VecDeque<(PeerId, PeerId)>,
    changed: bool,
}

impl PeerBook {
    /// An empty book with a key of its own.
    pub(crate) fn new() -> Self {
        Self::with_key(rand::random())
    }

    fn with_key(key: [u8; 32]) -> Self {
        Self {
            key,
            entries: BTreeMap::new(),
            places: BTreeMap::new(),
            anchors: Vec::new(),
            challenges: VecDeque::new(),
            changed: false,
        }
    }

    /// Reads the book at `path`. One that cannot be read is put aside, and an empty one begins; the text says why.
    pub(crate) fn open(path: &Path) -> (Self, Option<String>) {
        let problem = match disk::read(path, MAX_FILE) {
            Ok(None) => return (Self::new(), None),
            Ok(Some(bytes)) => match Self::from_bytes(&bytes) {
                Some(book) => return (book, None),
                None => "it is no address book".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        let problem = match disk::set_aside(path) {
            Ok(aside) => format!(
                "the address book was put aside as {}: {problem}",
                aside.display()
            ),
            Err(error) => {
                format!("the address book cannot be read ({problem}) nor put aside ({error})")
            }
        };
        (Self::new(), Some(problem))
    }

    /// Somebody told us of a peer. The caller has judged the addresses.
    pub(crate) fn told(&mut self, peer: PeerId, addresses: &[Multiaddr], by: Teller) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            // What worked stays in front; what is told comes behind it as long as there is room.
            for address in addresses {
                if entry.addresses.len() < ADDRESSES && !entry.addresses.contains(address) {
                    entry.addresses.push(address.clone());
                    self.changed = true;
                }
            }
            return;
        }
        let Some(first) = addresses.first() else {
            return;
        };
        let place = self.place_in_new(first, by);
        if let Some(holder) = self.places.get(&place).copied() {
            if !self.is_given_up(&holder) {
                return;
            }
            self.remove(&holder);
        }
        let mut addresses = addresses.to_vec();
        addresses.truncate(ADDRESSES);
        self.insert(
            peer,
            Entry {
                addresses,
                place,
                reached_unix_ms: 0,
                dialled_unix_ms: 0,
                failures: 0,
            },
        );
    }

    /// We dialled a peer at this address, and it speaks our protocol.
    pub(crate) fn reached(&mut self, peer: PeerId, at: &Multiaddr, unix_ms: u64) {
        self.challenges.retain(|(_, holder)| *holder != peer);
        let mut entry = self.entries.get(&peer).cloned().unwrap_or_else(|| Entry {
            addresses: Vec::new(),
            place: self.place_in_new(at, Teller::Own),
            reached_unix_ms: 0,
            dialled_unix_ms: 0,
            failures: 0,
        });
        entry.addresses.retain(|one| one != at);
        entry.addresses.insert(0, at.clone());
        entry.addresses.truncate(ADDRESSES);
        (entry.reached_unix_ms, entry.dialled_unix_ms, entry.failures) = (unix_ms, unix_ms, 0);
        self.changed = true;
        if entry.place.0 == Table::Tried {
            self.entries.insert(peer, entry);
            return;
        }
        let place = self.place_in_tried(at);
        match self.places.get(&place).copied() {
            None => {
                self.remove(&peer);
                entry.place = place;
                self.insert(peer, entry);
            }
            Some(holder) => {
                // It waits in `new`, where one that was never reached gives it its place.
                let before = self
                    .places
                    .get(&entry.place)
                    .copied()
                    .filter(|one| *one != peer);
                if let Some(before) = before {
                    if self
                        .entries
                        .get(&before)
                        .is_some_and(|one| one.reached_unix_ms > 0)
                    {
                        return;
                    }
                    self.remove(&before);
                }
                self.insert(peer, entry);
                let sure = self
                    .entries
                    .get(&holder)
                    .is_some_and(|entry| unix_ms.abs_diff(entry.reached_unix_ms) < SURE_MS);
                let waits = self.challenges.iter().any(|(one, _)| *one == peer);
                if !sure && !waits && self.challenges.len() < CHALLENGES {
                    self.challenges.push_back((peer, holder));
                }
            }
        }
    }

    /// A dial to a peer at these addresses came to nothing. It says something of the peer only where it is likeliest to be: elsewhere
    /// it may have been somebody's lie that it is there.
    pub(crate) fn failed_at<'a>(
        &mut self,
        peer: &PeerId,
        at: impl IntoIterator<Item = &'a Multiaddr>,
        unix_ms: u64,
    ) {
        let Some(likeliest) = self.addresses(peer).first().map(address::without_peer) else {
            return;
        };
        let mut at = at.into_iter().map(address::without_peer);
        if at.any(|at| at == likeliest) {
            self.failed(peer, unix_ms);
        }
    }

    /// A dial to a peer where this book has it came to nothing.
    fn failed(&mut self, peer: &PeerId, unix_ms: u64) {
        let Some(entry) = self.entries.get_mut(peer) else {
            return;
        };
        entry.dialled_unix_ms = unix_ms;
        entry.failures = entry.failures.saturating_add(1);
        self.changed = true;
        let challengers: Vec<_> = self
            .challenges
            .iter()
            .filter(|(_, holder)| holder == peer)
            .map(|(challenger, _)| *challenger)
            .collect();
        self.challenges.retain(|(_, holder)| holder != peer);
        let Some(newcomer) = challengers
            .first()
            .and_then(|one| Some((*one, self.entries.get(one)?.clone())))
        else {
            if self.is_given_up(peer) {
                self.remove(peer);
            }
            return;
        };
        self.remove(peer);
        let (challenger, mut entry) = newcomer;
        if let Some(at) = entry.addresses.first() {
            let place = self.place_in_tried(at);
            if !self.places.contains_key(&place) {
                self.remove(&challenger);
                entry.place = place;
                self.insert(challenger, entry);
            }
        }
    }

    /// Somebody else answered at this address.
    pub(crate) fn wrong(&mut self, peer: &PeerId, at: &Multiaddr) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.addresses.retain(|one| one != at);
            self.changed = true;
            if entry.addresses.is_empty() {
                self.remove(peer);
            }
        }
    }

    /// Blocked by the user, or banned.
    pub(crate) fn remove(&mut self, peer: &PeerId) {
        if let Some(entry) = self.entries.remove(peer) {
            self.places.remove(&entry.place);
            self.changed = true;
        }
        self.challenges
            .retain(|(one, holder)| one != peer && holder != peer);
        self.anchors.retain(|one| one != peer);
    }

    /// Where a peer may be, the likeliest first.
    pub(crate) fn addresses(&self, peer: &PeerId) -> &[Multiaddr] {
        self.entries
            .get(peer)
            .map(|entry| entry.addresses.as_slice())
            .unwrap_or_default()
    }

    /// The peers to be dialled first after a restart.
    pub(crate) fn anchors(&self) -> &[PeerId] {
        &self.anchors
    }

    /// Names the anchors: of the peers that are connected, the longest connected first, one of each carrier.
    pub(crate) fn set_anchors(&mut self, connected: impl IntoIterator<Item = PeerId>) {
        let mut carriers = BTreeSet::new();
        let anchors: Vec<_> = connected
            .into_iter()
            .filter(|peer| {
                let entry = self
                    .entries
                    .get(peer)
                    .filter(|entry| entry.place.0 == Table::Tried);
                entry.is_some_and(|entry| carriers.insert(carrier(entry)))
            })
            .take(ANCHORS)
            .collect();
        // Those of before are worth more than nobody.
        if !anchors.is_empty() && anchors != self.anchors {
            self.anchors = anchors;
            self.changed = true;
        }
    }

    /// Up to `count` peers to connect to: tried ones first, each of another carrier, none dialled in vain a moment ago.
    pub(crate) fn choose(
        &self,
        count: usize,
        unix_ms: u64,
        not: impl Fn(&PeerId) -> bool,
    ) -> Vec<PeerId> {
        let rested = |entry: &Entry| {
            entry.failures == 0 || unix_ms.abs_diff(entry.dialled_unix_ms) >= RETRY_MS
        };
        let mut carriers = BTreeSet::new();
        let mut chosen = Vec::new();
        for table in [Table::Tried, Table::New] {
            let mut of_table: Vec<_> = self
                .entries
                .iter()
                .filter(|(peer, entry)| entry.place.0 == table && rested(entry) && !not(peer))
                .collect();
            of_table.shuffle(&mut rand::rng());
            for (peer, entry) in of_table {
                if chosen.len() < count && carriers.insert(carrier(entry)) {
                    chosen.push(*peer);
                }
            }
        }
        chosen
    }

    /// Whom to dial only to see whether it is there: somebody whose place another wants, else somebody we were told of.
    pub(crate) fn to_test(&self, unix_ms: u64) -> Option<PeerId> {
        if let Some((_, holder)) = self.challenges.front() {
            return Some(*holder);
        }
        let untested = self.entries.iter().filter(|(_, entry)| {
            entry.reached_unix_ms == 0 && unix_ms.abs_diff(entry.dialled_unix_ms) >= RETRY_MS
        });
        untested.map(|(peer, _)| *peer).choose(&mut rand::rng())
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }

    /// The book as it is kept, if it changed since it was last asked for.
    pub(crate) fn take_unsaved(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        Some(self.to_bytes())
    }

    fn insert(&mut self, peer: PeerId, entry: Entry) {
        self.places.insert(entry.place, peer);
        self.entries.insert(peer, entry);
        self.changed = true;
    }

    fn is_given_up(&self, peer: &PeerId) -> bool {
        self.entries.get(peer).is_none_or(|entry| {
            entry.failures
                >= if entry.reached_unix_ms == 0 {
                    FAILURES_NEW
                } else {
                    FAILURES_TRIED
                }
        })
    }

    /// Bitcoin's bucket of an untested address: which of its teller's few buckets is decided by the carrier it names.
    fn place_in_new(&self, address: &Multiaddr, by: Teller) -> Place {
        let teller = match by {
            Teller::Own => "own".to_owned(),
            Teller::Peer(site) => {
                site.map_or_else(|| "nowhere".to_owned(), |site| site.to_string())
            }
        };
        let carrier = carrier_of(address);
        let which = self.number(&["new", &carrier, &teller]) % BUCKETS_PER_TELLER;
        let bucket = self.number(&["new bucket", &teller, &which.to_string()]) % BUCKETS;
        self.place(Table::New, bucket, address)
    }

    /// Bitcoin's bucket of a tested address: one of the few of its carrier.
    fn place_in_tried(&self, address: &Multiaddr) -> Place {
        let which = self.number(&["tried", &address.to_string()]) % BUCKETS_PER_CARRIER;
        let bucket =
            self.number(&["tried bucket", &carrier_of(address), &which.to_string()]) % BUCKETS;
        self.place(Table::Tried, bucket, address)
    }

    fn place(&self, table: Table, bucket: u64, address: &Multiaddr) -> Place {
        let name = if table == Table::New {
            "new place"
        } else {
            "tried place"
        };
        let place = self.number(&[name, &bucket.to_string(), &address.to_string()]) % PLACES;
        (table, bucket, place)
    }

    /// A number that nobody without the key can foresee.
    fn number(&self, parts: &[&str]) -> u64 {
        let mut hash = Sha256::new().chain_update(self.key);
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        digest
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

fn carrier(entry: &Entry) -> String {
    entry.addresses.first().map_or_else(String::new, carrier_of)
}

fn carrier_of(address: &Multiaddr) -> String {
    Prefix::of_carrier(address).map_or_else(|| "nowhere".to_owned(), |prefix| prefix.to_string())
}

#[cfg(test)]
mod tests;
