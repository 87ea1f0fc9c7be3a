//! What is kept and told of providers, and how a walk ends.

use std::task::Waker;

use libp2p::kad::{ProviderRecord, store::RecordStore};

use super::*;

const NETWORK: &str = "decentralgpt/test";
const NOON: u64 = 20_000 * DAY_MS + DAY_MS / 2;

fn model(seed: u8) -> ModelDigest {
    ModelDigest::new([seed; 32])
}

fn provider(seed: u8) -> protocol::PeerId {
    protocol::Signer::from_seed([seed; 32]).peer_id()
}

#[test]
fn a_record_is_kept_without_addresses_its_sender_could_not_have() {
    let mut kad = Kad::new(PeerId::random(), FORGOTTEN, REQUEST);
    let (key, provider) = (
        lookup::provider_key(NETWORK, Some(&model(1)), 1, 1),
        PeerId::random(),
    );
    let addresses = [
        "/ip4/198.51.100.1/tcp/1",
        "/ip4/192.168.0.1/tcp/1",
        "/ip4/127.0.0.1/udp/1/quic-v1",
    ];
    let addresses = addresses.map(|text| text.parse().unwrap()).to_vec();
    let record =
        |key: &[u8]| ProviderRecord::new(RecordKey::new(&key), provider, addresses.clone());
    assert!(kad.store(record(&key), Scope::Public, None));
    assert_eq!(kad.addresses(provider, &key, |_| true), addresses[..1]);
    assert_eq!(kad.addresses(provider, &key, |_| false), []);
    assert!(!kad.store(record(b"short"), Scope::Public, None));
}

#[test]
fn a_stranger_is_told_of_no_neighbour() {
    let mut kad = Kad::new(PeerId::random(), FORGOTTEN, REQUEST);
    let home: Multiaddr = "/ip4/192.168.1.7/udp/4001/quic-v1".parse().unwrap();
    let far: Multiaddr = "/ip4/198.51.100.1/udp/4001/quic-v1".parse().unwrap();
    let (neighbour, both, stranger) = (PeerId::random(), PeerId::random(), PeerId::random());
    assert!(kad.set_told(Scope::Private), "it began with strangers");
    assert!(kad.add(&neighbour, home.clone()));
    assert!(kad.add(&both, home.clone()));
    kad.add(&both, far.clone());
    let key = lookup::provider_key(NETWORK, Some(&model(1)), 1, 1);
    let said = RecordKey::new(&key);
    let record = ProviderRecord {
        expires: Some(Instant::now() + RECORD_LIVES),
        ..ProviderRecord::new(said.clone(), neighbour, vec![home.clone(), far.clone()])
    };
    assert!(kad.store(record, Scope::Private, None));
    let told = |kad: &mut Kad| {
        let mut told: Vec<_> = kad
            .inner
            .kbuckets()
            .flat_map(|bucket| {
                let of: Vec<_> = bucket
                    .iter()
                    .flat_map(|entry| entry.node.value.clone().into_vec())
                    .collect();
                of
            })
            .collect();
        let records = kad.inner.store_mut().providers(&said);
        told.extend(records.into_iter().flat_map(|record| record.addresses));
        told.iter().map(address::without_peer).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut kad).iter().filter(|at| **at == home).count(), 3);
    assert!(!kad.set_told(Scope::Public));
    assert!(!told(&mut kad).contains(&home));
    assert!(kad.has(&both) && !kad.has(&neighbour));
    assert!(!kad.add(&neighbour, home.clone()), "nor while one is there");
    assert!(kad.add(&stranger, far));
    assert!(kad.set_told(Scope::Private), "the stranger has gone");
    assert!(!kad.set_told(Scope::Private), "that is said once");
    assert!(kad.add(&neighbour, home));
}

#[test]
fn a_provider_moves_to_another_shard_every_day_and_is_where_it_is_sought() {
    let providers: Vec<_> = (0..64).map(provider).collect();
    let day = NOON / DAY_MS;
    assert!(
        providers
            .iter()
            .any(|peer| lookup::shard(peer, day) != lookup::shard(peer, day + 1))
    );
    let mut met = BTreeSet::new();
    for peer in &providers {
        let keys = keys_of(NETWORK, peer, &[model(1), model(2)], NOON);
        assert_eq!(keys.len(), 3, "two models and any");
        for sought in [Some(model(1)), Some(model(2)), None] {
            let today = keys_today(NETWORK, sought.as_ref(), NOON);
            assert_eq!(today.iter().filter(|key| keys.contains(*key)).count(), 1);
        }
        met.insert(lookup::shard(peer, day));
    }
    assert!(met.len() > 10, "64 spread over the 16: {met:?}");
    assert!(keys_of(NETWORK, &providers[0], &[], NOON).is_empty());
    let elsewhere = keys_today("decentralgpt/other", Some(&model(1)), NOON);
    let keys = keys_of(NETWORK, &providers[0], &[model(1)], NOON);
    assert!(
        elsewhere.iter().all(|key| !keys.contains(key)),
        "another network has other keys"
    );
}

#[test]
fn around_midnight_nobody_is_missed() {
    let (peer, models) = (provider(1), [model(1)]);
    let midnight = NOON + DAY_MS / 2;
    let keys_at = |at| keys_of(NETWORK, &peer, &models, at);
    assert_eq!(keys_at(midnight - AHEAD_MS - 1).len(), 2);
    assert_eq!(
        keys_at(midnight - AHEAD_MS).len(),
        4,
        "tomorrow's are there an hour before"
    );
    assert_eq!(keys_at(midnight).len(), 2);
    // A client whose clock is wrong by up to a day still comes to where the provider stands.
    for off in [-23, -1, 0, 1, 23] {
        let at = midnight.saturating_add_signed(off * 60 * 60 * 1000);
        let mut sought = keys_today(NETWORK, Some(&models[0]), at);
        sought.extend(keys_beside(NETWORK, Some(&models[0]), at));
        assert_eq!(sought.len(), 48);
        assert!(
            sought.iter().any(|key| keys_at(midnight).contains(key)),
            "{off} h"
        );
    }
}

#[test]
fn a_walk_that_has_had_its_time_ends_with_whom_it_met() {
    let mut kad = Kad::new(PeerId::random(), FORGOTTEN, REQUEST);
    let address = "/ip4/198.51.100.1/tcp/1".parse().unwrap();
    assert!(kad.add(&PeerId::random(), address), "and it never answers");
    let begin = Instant::now();
    kad.provide(&lookup::provider_key(NETWORK, Some(&model(1)), 1, 1), begin);
    let mut published = |at| {
        kad.end_late_walks(at);
        let mut cx = Context::from_waker(Waker::noop());
        let mut ends = Vec::new();
        while let Poll::Ready(event) = kad.poll(&mut cx) {
            if let ToSwarm::GenerateEvent(kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::StartProviding(ended),
                ..
            }) = event
            {
                ends.push(ended.is_ok());
            }
        }
        ends
    };
    assert!(published(begin).is_empty());
    assert!(published(begin + QUERY - Duration::from_millis(1)).is_empty());
    assert_eq!(published(begin + QUERY), [true], "not a failure");
}

#[test]
fn one_site_takes_only_its_share_of_the_table() {
    let mut kad = Kad::new(PeerId::random(), FORGOTTEN, REQUEST);
    let add = |kad: &mut Kad, address: &str| {
        (0..1000)
            .filter(|_| kad.add(&PeerId::random(), address.parse().unwrap()))
            .count()
    };
    assert_eq!(add(&mut kad, "/ip4/192.0.2.1/tcp/1"), PER_SITE);
    assert!(add(&mut kad, "/ip4/198.51.100.1/tcp/1") > 0);
    let most = kad
        .inner
        .kbuckets()
        .map(|bucket| bucket.num_entries())
        .max();
    assert!(
        most.unwrap() <= 2 * PER_SITE_AND_BUCKET,
        "two from each site"
    );
}
