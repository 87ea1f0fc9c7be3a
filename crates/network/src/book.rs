//! The address book: peers that this node knows, kept over restarts.
//!
//! It follows Bitcoin's address manager (Heilman et al., "Eclipse Attacks on Bitcoin's Peer-to-Peer Network", USENIX Security 2015,
//! and its countermeasures). Two tables: `new`, peers we were told of, and `tried`, peers that we reached and that spoke our
//! protocol. Where a peer may stand in a table follows from a key that nobody else knows and from the networks that the peer and
//! its teller are in, so an attacker with few networks reaches few places, whatever it tells. A tried peer gives its place to
//! another only after it did not answer when it was dialled.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
};

use libp2p::{Multiaddr, PeerId};
use rand::seq::{IteratorRandom, SliceRandom};
use serde::{Deserialize, Serialize};
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
/// Version of the file.
const VERSION: u32 = 1;

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
                    .is_some_and(|entry| unix_ms.saturating_sub(entry.reached_unix_ms) < SURE_MS);
                let waits = self.challenges.iter().any(|(one, _)| *one == peer);
                if !sure && !waits && self.challenges.len() < CHALLENGES {
                    self.challenges.push_back((peer, holder));
                }
            }
        }
    }

    /// A dial to a peer came to nothing.
    pub(crate) fn failed(&mut self, peer: &PeerId, unix_ms: u64) {
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
            entry.failures == 0 || unix_ms.saturating_sub(entry.dialled_unix_ms) >= RETRY_MS
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
            entry.reached_unix_ms == 0 && unix_ms.saturating_sub(entry.dialled_unix_ms) >= RETRY_MS
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

    /// The book as a file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Text, numbers and lists: nothing in it fails to become JSON.
        serde_json::to_vec_pretty(&self.to_file()).unwrap_or_default()
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

    fn to_file(&self) -> BookFile {
        BookFile {
            version: VERSION,
            key: hex::encode(self.key),
            anchors: self.anchors.iter().map(ToString::to_string).collect(),
            peers: self
                .entries
                .iter()
                .map(|(peer, entry)| PeerLine {
                    peer: peer.to_string(),
                    addresses: entry.addresses.iter().map(ToString::to_string).collect(),
                    tried: entry.place.0 == Table::Tried,
                    bucket: entry.place.1,
                    place: entry.place.2,
                    reached_unix_ms: entry.reached_unix_ms,
                    dialled_unix_ms: entry.dialled_unix_ms,
                    failures: entry.failures,
                })
                .collect(),
        }
    }

    /// Reads a book from the bytes of a file. `None`: it is none. A peer that could not stand where it says is left out.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let file: BookFile = serde_json::from_slice(bytes).ok()?;
        if file.version != VERSION {
            return None;
        }
        let mut key = [0; 32];
        hex::decode_to_slice(&file.key, &mut key).ok()?;
        let mut book = Self::with_key(key);
        for line in file.peers.into_iter().take((2 * BUCKETS * PLACES) as usize) {
            book.take_line(line);
        }
        let anchors = file.anchors.iter().filter_map(|text| text.parse().ok());
        book.anchors = anchors
            .filter(|peer| book.entries.contains_key(peer))
            .take(ANCHORS)
            .collect();
        book.changed = false;
        Some(book)
    }

    fn take_line(&mut self, line: PeerLine) {
        let Ok(peer) = line.peer.parse::<PeerId>() else {
            return;
        };
        let addresses: Vec<Multiaddr> = line
            .addresses
            .iter()
            .filter_map(|text| text.parse().ok())
            .filter(|address| address::is_dialable(address) && address::peer_of(address).is_none())
            .take(ADDRESSES)
            .collect();
        let table = if line.tried { Table::Tried } else { Table::New };
        let place = (table, line.bucket, line.place);
        let taken = self.places.contains_key(&place) || self.entries.contains_key(&peer);
        if addresses.is_empty() || line.bucket >= BUCKETS || line.place >= PLACES || taken {
            return;
        }
        let entry = Entry {
            addresses,
            place,
            reached_unix_ms: line.reached_unix_ms,
            dialled_unix_ms: line.dialled_unix_ms,
            failures: line.failures,
        };
        self.insert(peer, entry);
    }
}

fn carrier(entry: &Entry) -> String {
    entry.addresses.first().map_or_else(String::new, carrier_of)
}

fn carrier_of(address: &Multiaddr) -> String {
    Prefix::of_carrier(address).map_or_else(|| "nowhere".to_owned(), |prefix| prefix.to_string())
}

/// The file: JSON, so that a person can read whom their computer knows.
#[derive(Serialize, Deserialize)]
struct BookFile {
    version: u32,
    /// Decides who stands where; 32 bytes in hex.
    key: String,
    anchors: Vec<String>,
    peers: Vec<PeerLine>,
}

#[derive(Serialize, Deserialize)]
struct PeerLine {
    peer: String,
    addresses: Vec<String>,
    tried: bool,
    bucket: u64,
    place: u64,
    reached_unix_ms: u64,
    dialled_unix_ms: u64,
    failures: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_790_000_000_000;

    fn address(carrier: u16, host: u16) -> Multiaddr {
        let ([a, b], [c, d]) = (carrier.to_be_bytes(), host.to_be_bytes());
        format!("/ip4/{}.{b}.{c}.{d}/udp/4001/quic-v1", 1 + a % 120)
            .parse()
            .unwrap()
    }

    fn site(carrier: u16) -> Teller {
        Teller::Peer(Prefix::of_carrier(&address(carrier, 1)))
    }

    fn consistent(book: &PeerBook) {
        assert_eq!(book.entries.len(), book.places.len());
        assert!(
            book.places
                .iter()
                .all(|(place, peer)| book.entries[peer].place == *place)
        );
        assert!(book.entries.len() as u64 <= 2 * BUCKETS * PLACES);
        assert!(
            book.entries
                .values()
                .all(|entry| (1..=ADDRESSES).contains(&entry.addresses.len()))
        );
        assert!(book.challenges.len() <= CHALLENGES);
        assert!(book.challenges.iter().all(|(one, holder)| {
            book.entries.contains_key(one) && book.entries.contains_key(holder)
        }));
    }

    #[test]
    fn one_carrier_that_tells_of_ten_thousand_fills_an_eighth_of_new() {
        let mut book = PeerBook::new();
        for host in 0..10_000u16 {
            book.told(PeerId::random(), &[address(host % 512, host)], site(7));
        }
        assert!(
            book.len() as u64 <= BUCKETS_PER_TELLER * PLACES,
            "{}",
            book.len()
        );
        consistent(&book);
        // Others are told of all the same.
        for teller in 100..200 {
            book.told(PeerId::random(), &[address(teller, 1)], site(teller));
        }
        assert!(book.len() > 60, "{}", book.len());
        consistent(&book);
    }

    #[test]
    fn one_carrier_that_answers_a_thousand_times_has_eight_tried_places() {
        let mut book = PeerBook::new();
        for host in 0..1000 {
            book.reached(PeerId::random(), &address(7, host), NOW);
        }
        let tried = book
            .entries
            .values()
            .filter(|entry| entry.place.0 == Table::Tried)
            .count() as u64;
        assert!(
            tried <= BUCKETS_PER_CARRIER * PLACES && tried > 0,
            "{tried}"
        );
        consistent(&book);
    }

    /// Two peers that want the same place of `tried`.
    fn rivals(book: &PeerBook) -> (Multiaddr, Multiaddr) {
        let first = address(7, 1);
        let other = (2..10_000)
            .map(|host| address(7, host))
            .find(|other| book.place_in_tried(other) == book.place_in_tried(&first));
        (first, other.unwrap())
    }

    #[test]
    fn who_holds_a_place_is_tested_before_it_goes() {
        let mut book = PeerBook::new();
        let (first, other) = rivals(&book);
        let (holder, newcomer) = (PeerId::random(), PeerId::random());
        let table = |book: &PeerBook, peer| book.entries[&peer].place.0;
        book.reached(holder, &first, NOW);
        book.reached(newcomer, &other, NOW + 1000);
        assert_eq!(table(&book, newcomer), Table::New);
        assert!(book.challenges.is_empty(), "it was there a second ago");

        let later = NOW + SURE_MS + 1;
        book.reached(newcomer, &other, later);
        assert_eq!(book.to_test(later), Some(holder));
        book.reached(holder, &first, later);
        assert_eq!(table(&book, holder), Table::Tried, "it answered");
        assert!(book.challenges.is_empty());

        let much_later = later + SURE_MS + 1;
        book.reached(newcomer, &other, much_later);
        assert_eq!(book.to_test(much_later), Some(holder));
        book.failed(&holder, much_later);
        assert_eq!(table(&book, newcomer), Table::Tried);
        assert!(book.addresses(&holder).is_empty());
        consistent(&book);
    }

    #[test]
    fn anchors_are_of_two_carriers_and_come_back() {
        let mut book = PeerBook::new();
        let peers: Vec<_> = (0..4).map(|_| PeerId::random()).collect();
        for (at, peer) in peers.iter().enumerate() {
            book.reached(
                *peer,
                &address(if at < 2 { 7 } else { at as u16 * 20 }, at as u16),
                NOW,
            );
        }
        book.set_anchors(peers.iter().copied());
        let anchors = book.anchors().to_vec();
        assert_eq!((anchors.len(), anchors[0]), (2, peers[0]));
        assert_ne!(anchors[1], peers[1], "of the same carrier");
        book.set_anchors([]);
        assert_eq!(
            book.anchors(),
            anchors,
            "a goodbye without peers keeps them"
        );
        let again = PeerBook::from_bytes(&book.take_unsaved().unwrap()).unwrap();
        assert_eq!(again.anchors(), anchors);
    }

    #[test]
    fn who_never_answers_is_given_up_and_wrong_addresses_go() {
        let mut book = PeerBook::new();
        let peer = PeerId::random();
        book.told(peer, &[address(1, 1), address(1, 2)], Teller::Own);
        book.wrong(&peer, &address(1, 1));
        assert_eq!(book.addresses(&peer), [address(1, 2)]);
        assert_eq!(book.to_test(NOW), Some(peer));
        for at in 0..u64::from(FAILURES_NEW) {
            assert_eq!(book.len(), 1);
            book.failed(&peer, NOW + at);
            assert!(
                book.choose(8, NOW + at, |_| false).is_empty(),
                "not at once again"
            );
        }
        assert_eq!(book.len(), 0);
        book.told(peer, &[address(1, 1)], Teller::Own);
        book.wrong(&peer, &address(1, 1));
        assert_eq!(book.len(), 0);
    }

    #[test]
    fn what_is_chosen_comes_from_different_carriers_and_tried_ones_first() {
        let mut book = PeerBook::new();
        let tried = PeerId::random();
        book.reached(tried, &address(3, 1), NOW);
        for carrier in 20..60 {
            book.told(PeerId::random(), &[address(carrier, 1)], site(carrier));
            book.told(PeerId::random(), &[address(carrier, 2)], site(carrier));
        }
        let chosen = book.choose(8, NOW, |_| false);
        assert_eq!((chosen.len(), chosen[0]), (8, tried));
        let carriers: BTreeSet<_> = chosen
            .iter()
            .map(|peer| carrier(&book.entries[peer]))
            .collect();
        assert_eq!(carriers.len(), 8);
        assert!(!book.choose(8, NOW, |peer| *peer == tried).contains(&tried));
    }

    #[test]
    fn it_is_the_same_after_a_restart_and_garbage_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.json");
        let (mut book, problem) = PeerBook::open(&path);
        assert_eq!((book.len(), problem), (0, None));
        assert!(book.take_unsaved().is_none(), "nothing to keep");
        for carrier in 0..50 {
            book.told(PeerId::random(), &[address(carrier, 1)], site(carrier));
            book.reached(PeerId::random(), &address(carrier, 2), NOW);
        }
        disk::write(&path, &book.take_unsaved().unwrap()).unwrap();
        let (again, problem) = PeerBook::open(&path);
        assert_eq!(problem, None);
        assert_eq!(
            (again.key, &again.entries, &again.places),
            (book.key, &book.entries, &book.places)
        );

        for garbage in [&b"garbage"[..], b"{}", b"\xff\x00", &[b'['; 100_000]] {
            disk::write(&path, garbage).unwrap();
            let (empty, problem) = PeerBook::open(&path);
            assert_eq!(empty.len(), 0);
            assert!(problem.unwrap().contains("put aside"));
            assert!(!path.exists());
            let aside = path.with_file_name("peers.json.unreadable");
            assert_eq!(
                std::fs::read(aside).unwrap(),
                garbage,
                "nothing is thrown away"
            );
        }
    }

    proptest! {
        // Each case of the last one takes hundreds of steps.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_a_book_or_none(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Some(book) = PeerBook::from_bytes(&bytes) {
                consistent(&book);
            }
        }

        #[test]
        fn a_file_altered_anywhere_is_a_book_or_none(at in 0usize..4000, byte: u8) {
            let mut book = PeerBook::new();
            for carrier in 0..8 {
                book.reached(PeerId::random(), &address(carrier, 2), NOW);
            }
            let mut bytes = book.take_unsaved().unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Some(mut book) = PeerBook::from_bytes(&bytes) {
                consistent(&book);
                book.changed = true;
                let again = PeerBook::from_bytes(&book.take_unsaved().unwrap()).unwrap();
                prop_assert_eq!(again.entries, book.entries);
            }
        }

        #[test]
        fn whatever_happens_it_stays_whole(steps in prop::collection::vec((0u8..6, 0usize..24, 0u16..4, 0u16..40, 0u64..40), 0..300)) {
            let peers: Vec<_> = (0..24).map(|_| PeerId::random()).collect();
            let mut book = PeerBook::new();
            let mut now = NOW;
            for (what, peer, carrier, host, hours) in steps {
                let (peer, at) = (peers[peer], address(carrier, host));
                now += hours * 60 * 60 * 1000 / 4;
                match what {
                    0 | 1 => book.told(peer, &[at], site(host)),
                    2 => book.reached(peer, &at, now),
                    3 => book.failed(&peer, now),
                    4 => book.wrong(&peer, &at),
                    _ => book.remove(&peer),
                }
                consistent(&book);
            }
        }
    }
}
