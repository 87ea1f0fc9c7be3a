//! Who says that it serves what, kept for others: the store behind our Kademlia.
//!
//! libp2p's own store keeps the first twenty providers of a key and ignores all later ones, so whoever comes first decides who is
//! found, and every answer is the same. This one keeps more, lets no network hold more than its share of a key, makes room
//! at the expense of the network that takes the most, and answers each question with other records. It keeps no values.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, btree_map},
    iter,
    time::Instant,
};

use libp2p::{
    Multiaddr, PeerId,
    kad::{
        K_VALUE, ProviderRecord, Record, RecordKey,
        store::{Error, RecordStore, Result},
    },
};
use rand::seq::{IndexedRandom, IteratorRandom, SliceRandom};

use crate::{
    address::{self, Prefix, Scope},
    providers::Key,
};

/// Keys kept. A key is one model, one day and one of 16 shards; of a network of 10,000 nodes some 20 keys come to each.
const KEYS: usize = 4096;
/// Providers kept of one key: of a model that 8,000 serve, each shard has 500.
const PROVIDERS_PER_KEY: usize = 512;
/// Records kept in all. At half a kilobyte each, with their addresses, 16 MiB.
const RECORDS: usize = 32 << 10;
/// Providers of one key from one site (a /24 or /48): a flat has a few computers, a rented network has hundreds.
const PER_SITE_AND_KEY: usize = 4;
/// Providers in one answer: what libp2p puts into it, and what fits into its 16 KiB.
const ANSWER: usize = K_VALUE.get();

#[derive(Debug)]
struct Kept {
    record: ProviderRecord,
    /// Where its sender was seen; `None` for one that has no IP address here.
    site: Option<Prefix>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ProviderStore {
    local: PeerId,
    keys: HashMap<RecordKey, Vec<Kept>>,
    per_site: HashMap<Option<Prefix>, usize>,
    records: usize,
    /// What this node itself provides: nobody else's records push it out.
    own: BTreeMap<Key, ProviderRecord>,
    /// Addresses nearer than this are in no answer: they are of a home whose owner told them to neighbours.
    pub(crate) told: Scope,
}

impl ProviderStore {
    pub(crate) fn new(local: PeerId) -> Self {
        Self {
            local,
            keys: HashMap::new(),
            per_site: HashMap::new(),
            records: 0,
            own: BTreeMap::new(),
            told: Scope::Public,
        }
    }

    /// Keeps a record of somebody who was seen at `site`. False: there is no place for it.
    pub(crate) fn keep(&mut self, record: ProviderRecord, site: Option<Prefix>) -> bool {
        let key = record.key.clone();
        self.forget(&key, &record.provider);
        let of_key = self.keys.get(&key);
        let of_site = of_key.map_or(0, |kept| kept.iter().filter(|one| one.site == site).count());
        if of_site >= PER_SITE_AND_KEY {
            return false;
        }
        if of_key.is_some_and(|kept| kept.len() >= PROVIDERS_PER_KEY) {
            self.make_room_in(&key);
        }
        let new_key = !self.keys.contains_key(&key);
        let full = self.records >= RECORDS || (new_key && self.keys.len() >= KEYS);
        if full && !self.make_room(site) {
            return false;
        }
        self.keys
            .entry(key)
            .or_default()
            .push(Kept { record, site });
        *self.per_site.entry(site).or_default() += 1;
        self.records += 1;
        true
    }

    /// The addresses under which this provider stands at this key.
    pub(crate) fn addresses_of(&self, key: &Key, provider: &PeerId) -> &[Multiaddr] {
        let kept = self
            .keys
            .get(key.as_slice())
            .map(Vec::as_slice)
            .unwrap_or_default();
        kept.iter()
            .find(|one| one.record.provider == *provider)
            .map(|one| one.record.addresses.as_slice())
            .unwrap_or_default()
    }

    /// Forgets what is over.
    pub(crate) fn purge(&mut self, now: Instant) {
        let (per_site, records) = (&mut self.per_site, &mut self.records);
        self.keys.retain(|_, kept| {
            kept.retain(|one| {
                let stays = !one.record.is_expired(now);
                if !stays {
                    *records -= 1;
                    discount(per_site, one.site);
                }
                stays
            });
            !kept.is_empty()
        });
    }

    /// Forgets one record of the site that has the most under this key.
    fn make_room_in(&mut self, key: &RecordKey) {
        let Some(kept) = self.keys.get(key) else {
            return;
        };
        let mut sites: HashMap<_, usize> = HashMap::new();
        for one in kept {
            *sites.entry(one.site).or_default() += 1;
        }
        let most = sites.values().copied().max().unwrap_or_default();
        let victim = kept
            .iter()
            .filter(|one| sites.get(&one.site) == Some(&most))
            .map(|one| one.record.provider)
            .choose(&mut rand::rng());
        if let Some(victim) = victim {
            self.forget(key, &victim);
        }
    }

    /// Forgets one record, and its key with it, of the site that has the most of all. False when that is the newcomer's own, or
    /// when it shares each of its keys with others.
    fn make_room(&mut self, newcomer: Option<Prefix>) -> bool {
        let Some((&site, &most)) = self.per_site.iter().max_by_key(|(_, count)| **count) else {
            return false;
        };
        if self.per_site.get(&newcomer) == Some(&most) {
            return false;
        }
        let keys_are_full = self.keys.len() >= KEYS;
        let of_site = self.keys.iter().flat_map(|(key, kept)| {
            kept.iter()
                .filter(move |one| one.site == site && (!keys_are_full || kept.len() == 1))
                .map(move |one| (key.clone(), one.record.provider))
        });
        let Some((key, provider)) = of_site.choose(&mut rand::rng()) else {
            return false;
        };
        self.forget(&key, &provider);
        true
    }

    fn forget(&mut self, key: &RecordKey, provider: &PeerId) {
        let Some(kept) = self.keys.get_mut(key) else {
            return;
        };
        if let Some(at) = kept.iter().position(|one| one.record.provider == *provider) {
            let gone = kept.swap_remove(at);
            self.records -= 1;
            discount(&mut self.per_site, gone.site);
        }
        if kept.is_empty() {
            self.keys.remove(key);
        }
    }
}

fn discount(per_site: &mut HashMap<Option<Prefix>, usize>, site: Option<Prefix>) {
    if let Some(count) = per_site.get_mut(&site) {
        *count -= 1;
        if *count == 0 {
            per_site.remove(&site);
        }
    }
}

impl RecordStore for ProviderStore {
    type RecordsIter<'a> = iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = iter::Map<
        btree_map::Values<'a, Key, ProviderRecord>,
        fn(&'a ProviderRecord) -> Cow<'a, ProviderRecord>,
    >;

    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    fn put(&mut self, _: Record) -> Result<()> {
        Err(Error::MaxRecords)
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        iter::empty()
    }

    /// Only for what this node provides: records of others come through [`ProviderStore::keep`], which knows where they came from.
    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        let key = Key::try_from(record.key.as_ref()).map_err(|_| Error::ValueTooLarge)?;
        if record.provider != self.local {
            return Err(Error::MaxProvidedKeys);
        }
        self.own.insert(key, record);
        Ok(())
    }

    /// This node where it is one of them, and a random choice of the others: asked often enough, everybody is named.
    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let own = self.own.get(key.as_ref()).cloned();
        let room = ANSWER - usize::from(own.is_some());
        let now = Instant::now();
        let kept = self.keys.get(key).map(Vec::as_slice).unwrap_or_default();
        let fresh: Vec<_> = kept
            .iter()
            .filter(|one| !one.record.is_expired(now))
            .collect();
        let mut chosen: Vec<_> = fresh
            .sample(&mut rand::rng(), room)
            .map(|one| {
                let mut record = one.record.clone();
                record
                    .addresses
                    .retain(|at| address::scope(at) >= Some(self.told));
                record
            })
            .collect();
        // A sample keeps an order of its own, which would tell who came first.
        chosen.shuffle(&mut rand::rng());
        own.into_iter().chain(chosen).collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.own.values().map(Cow::Borrowed)
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        if *provider == self.local {
            self.own.remove(key.as_ref());
        } else {
            self.forget(key, provider);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    fn key(seed: u32) -> RecordKey {
        RecordKey::new(&Sha256::digest(seed.to_le_bytes()))
    }

    fn site(number: u32) -> Option<Prefix> {
        let [_, _, high, low] = number.to_be_bytes();
        let address = format!("/ip4/{}.{high}.{low}.1/tcp/1", 1 + (number >> 16));
        Prefix::of_site(&address.parse().unwrap())
    }

    fn record(key: &RecordKey) -> ProviderRecord {
        ProviderRecord {
            expires: Some(Instant::now() + Duration::from_secs(60)),
            ..ProviderRecord::new(key.clone(), PeerId::random(), Vec::new())
        }
    }

    fn counts_agree(store: &ProviderStore) {
        let records: usize = store.keys.values().map(Vec::len).sum();
        assert_eq!(records, store.records);
        assert_eq!(records, store.per_site.values().sum::<usize>());
        assert!(
            store
                .keys
                .values()
                .all(|kept| !kept.is_empty() && kept.len() <= PROVIDERS_PER_KEY)
        );
        assert!(store.keys.len() <= KEYS && records <= RECORDS);
    }

    #[test]
    fn all_of_four_hundred_are_found_by_asking_again() {
        let mut store = ProviderStore::new(PeerId::random());
        let mut all = BTreeSet::new();
        for at in 0..400 {
            let record = record(&key(1));
            all.insert(record.provider);
            assert!(store.keep(record, site(at)));
        }
        let mut found = BTreeSet::new();
        for _ in 0..400 {
            let answer = store.providers(&key(1));
            assert_eq!(answer.len(), ANSWER);
            found.extend(answer.into_iter().map(|record| record.provider));
        }
        assert_eq!(found, all);
        assert!(store.providers(&key(2)).is_empty());
    }

    #[test]
    fn one_network_has_four_places_under_a_key() {
        let mut store = ProviderStore::new(PeerId::random());
        let kept = (0..100)
            .filter(|_| store.keep(record(&key(1)), site(1)))
            .count();
        assert_eq!(kept, PER_SITE_AND_KEY);
        assert!(store.keep(record(&key(1)), site(2)), "others have theirs");
        assert!(
            store.keep(record(&key(2)), site(1)),
            "and it has its own under another key"
        );
        counts_agree(&store);
    }

    #[test]
    fn a_full_key_makes_room_where_most_are() {
        let mut store = ProviderStore::new(PeerId::random());
        // Sites of four each fill the key, then single honest ones come.
        for at in 0..PROVIDERS_PER_KEY as u32 {
            assert!(store.keep(record(&key(1)), site(at / PER_SITE_AND_KEY as u32)));
        }
        let honest: Vec<_> = (10_000..10_064)
            .map(|at| {
                let record = record(&key(1));
                let provider = record.provider;
                assert!(store.keep(record, site(at)));
                provider
            })
            .collect();
        let kept = &store.keys[&key(1)];
        let found = honest
            .iter()
            .filter(|peer| kept.iter().any(|one| one.record.provider == **peer));
        assert_eq!(found.count(), honest.len());
        counts_agree(&store);
    }

    #[test]
    fn a_flood_of_keys_does_not_keep_others_out() {
        let mut store = ProviderStore::new(PeerId::random());
        let taken = (0..2 * KEYS as u32)
            .filter(|at| store.keep(record(&key(*at)), site(1)))
            .count();
        assert_eq!(taken, KEYS, "the flood does not push out itself");
        for at in 0..100 {
            assert!(store.keep(record(&key(1_000_000 + at)), site(2 + at)));
        }
        counts_agree(&store);
    }

    #[test]
    fn what_is_over_is_neither_told_nor_kept() {
        let mut store = ProviderStore::new(PeerId::random());
        let over = ProviderRecord {
            expires: Some(Instant::now()),
            ..record(&key(1))
        };
        assert!(store.keep(over, site(1)));
        assert!(store.providers(&key(1)).is_empty());
        store.purge(Instant::now());
        assert_eq!(
            (store.records, store.keys.len(), store.per_site.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn own_records_come_first_and_nobody_else_may_bring_them() {
        let local = PeerId::random();
        let mut store = ProviderStore::new(local);
        store
            .add_provider(ProviderRecord::new(key(1), local, Vec::new()))
            .unwrap();
        assert!(store.add_provider(record(&key(1))).is_err());
        assert!(
            store
                .add_provider(ProviderRecord::new(
                    RecordKey::new(b"short"),
                    local,
                    Vec::new()
                ))
                .is_err()
        );
        for at in 0..100 {
            store.keep(record(&key(1)), site(at));
        }
        let answer = store.providers(&key(1));
        assert_eq!((answer.len(), answer[0].provider), (ANSWER, local));
        assert_eq!(store.provided().count(), 1);
        store.remove_provider(&key(1), &local);
        assert_eq!(store.provided().count(), 0);
        assert!(
            store.put(Record::new(key(1), vec![1])).is_err(),
            "no values"
        );
    }

    proptest! {
        #[test]
        fn whatever_comes_the_counts_hold(steps in prop::collection::vec((0u32..6, 0u32..4, 0u8..16, 0u8..8), 0..200)) {
            let mut store = ProviderStore::new(PeerId::random());
            let peers: Vec<_> = (0..16).map(|_| PeerId::random()).collect();
            for (at, from, peer, what) in steps {
                let record = ProviderRecord {
                    provider: peers[usize::from(peer)],
                    expires: (what == 1).then(Instant::now),
                    ..record(&key(at))
                };
                match what {
                    0 => store.purge(Instant::now()),
                    7 => store.remove_provider(&record.key, &record.provider),
                    _ => { store.keep(record, site(from)); }
                }
                counts_agree(&store);
            }
        }
    }
}
