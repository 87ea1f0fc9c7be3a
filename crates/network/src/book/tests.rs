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

#[test]
fn times_of_a_clock_that_went_ahead_hold_nobody_back() {
    let mut book = PeerBook::new();
    let (peer, at) = (PeerId::random(), address(1, 1));
    let ahead = NOW + 24 * 60 * 60 * 1000;
    book.reached(peer, &at, ahead);
    book.failed(&peer, ahead);
    let chosen = |book: &PeerBook, now| book.choose(1, now, |_| false);
    assert!(chosen(&book, ahead).is_empty(), "a moment ago, in vain");
    assert_eq!(chosen(&book, NOW), [peer], "the clock was set right");
    // Nor is a place kept for a day by somebody who was reached in the future.
    let (told, at) = (PeerId::random(), address(2, 1));
    book.told(told, std::slice::from_ref(&at), site(7));
    book.failed(&told, ahead);
    assert_eq!(book.to_test(NOW), Some(told));
}

#[test]
fn what_others_say_of_where_a_peer_is_costs_it_no_place() {
    let mut book = PeerBook::new();
    let (tried, told) = (PeerId::random(), PeerId::random());
    let (home, old, lie) = (address(1, 1), address(1, 2), address(9, 1));
    book.reached(tried, &old, NOW);
    book.reached(tried, &home, NOW);
    book.told(told, std::slice::from_ref(&home), Teller::Own);
    let elsewhere = [&lie, &old];
    for _ in 0..2 * FAILURES_TRIED {
        book.failed_at(&tried, elsewhere, NOW);
        book.failed_at(&told, elsewhere, NOW);
    }
    assert_eq!(book.len(), 2);
    assert_eq!(book.choose(2, NOW, |_| false), [tried], "of one carrier");
    // Where the book has them it counts, whatever else was dialled.
    let at_home = home.clone().with_p2p(told).unwrap();
    for _ in 0..FAILURES_NEW {
        book.failed_at(&told, [&lie, &at_home], NOW);
        book.failed_at(&tried, [&lie, &home], NOW);
    }
    assert!(book.addresses(&told).is_empty() && !book.addresses(&tried).is_empty());
    for _ in FAILURES_NEW..FAILURES_TRIED {
        book.failed_at(&tried, [&home], NOW);
    }
    assert_eq!(book.len(), 0);
    consistent(&book);
}
