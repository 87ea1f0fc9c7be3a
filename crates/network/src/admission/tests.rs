//! Who may come, who goes for whom, and which of our own connections is over.

use super::*;

fn addr(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn admission(mode: ReachMode, role: Role) -> Admission {
    Admission::new(mode, role, Traffic::default(), JobSlots::default())
}

/// As many as may come from there at one moment, each taking its place.
fn come(admission: &mut Admission, from: impl Fn(usize) -> String, many: usize) -> usize {
    let (local, now) = (addr("/ip4/198.51.100.1/tcp/1"), Instant::now());
    (0..many)
        .filter(|at| {
            let remote = addr(&from(*at));
            let comes = admission.may_come(&local, &remote, now).is_ok();
            if comes {
                take(
                    admission,
                    PeerId::random(),
                    Origin::of(&local, &remote),
                    now,
                );
            }
            comes
        })
        .count()
}

fn take(admission: &mut Admission, peer: PeerId, origin: Option<Origin>, since: Instant) {
    let id = ConnectionId::new_unchecked(admission.open.len() + 1);
    admission.open.insert(
        id,
        Open {
            peer,
            origin,
            since,
            rtt: None,
        },
    );
}

#[test]
fn an_address_a_household_and_a_site_have_each_their_share() {
    let mut one = admission(ReachMode::Internet, Role::Serving);
    assert_eq!(
        come(
            &mut one,
            |at| format!("/ip4/203.0.113.5/tcp/{}", at + 1),
            100
        ),
        PER_HOUSEHOLD
    );
    let mut house = admission(ReachMode::Internet, Role::Serving);
    assert_eq!(
        come(&mut house, |at| format!("/ip6/2001:db8::{at:x}/tcp/1"), 100),
        PER_HOUSEHOLD
    );
    let mut site = admission(ReachMode::Internet, Role::Serving);
    assert_eq!(
        come(
            &mut site,
            |at| format!("/ip4/203.0.113.{}/tcp/1", at + 1),
            200
        ),
        PER_SITE
    );
    let mut site = admission(ReachMode::Internet, Role::Serving);
    assert_eq!(
        come(
            &mut site,
            |at| format!("/ip6/2001:db8:0:{at:x}::1/tcp/1"),
            200
        ),
        PER_SITE
    );
    let mut far = admission(ReachMode::Internet, Role::Serving);
    assert_eq!(
        come(&mut far, |at| format!("/ip4/203.0.{at}.1/tcp/1"), 200),
        200
    );
}

#[test]
fn new_connections_of_one_household_have_a_rate() {
    let mut limits = admission(ReachMode::Internet, Role::Serving);
    let local = addr("/ip4/198.51.100.1/tcp/1");
    let now = Instant::now();
    let mut let_in = |from: &str, now| {
        let remote = addr(from);
        (0..100)
            .take_while(|_| limits.may_come(&local, &remote, now).is_ok())
            .count()
    };
    let far = "/ip4/203.0.113.5/tcp/1";
    assert_eq!(let_in(far, now), NEW_PER_HOUSEHOLD.burst as usize);
    assert_eq!(let_in(far, now + Duration::from_secs(10)), 10);
    for near in ["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.3/tcp/1"] {
        assert_eq!(let_in(near, now), NEW_NEAR.burst as usize, "{near}");
        assert_eq!(let_in(near, now + Duration::from_secs(5)), 30, "{near}");
    }
}

#[test]
fn handshakes_dials_and_connections_of_one_peer_are_counted_by_the_swarm() {
    use libp2p::{
        connection_limits, core::ConnectedPoint, swarm::behaviour::ConnectionEstablished,
    };
    let mut limits = connection_limits::Behaviour::new(connections());
    let there = addr("/ip4/203.0.113.5/tcp/1");
    let id = ConnectionId::new_unchecked;
    let come = (0..1000).take_while(|at| {
        let pending = limits.handle_pending_inbound_connection(id(*at), &there, &there);
        pending.is_ok()
    });
    assert_eq!(come.count(), PENDING_IN as usize);
    let go = (1000..2000).take_while(|at| {
        let dialled = Some(PeerId::random());
        let pending = limits.handle_pending_outbound_connection(
            id(*at),
            dialled,
            std::slice::from_ref(&there),
            Endpoint::Dialer,
        );
        pending.is_ok()
    });
    assert_eq!(go.count(), PENDING_OUT as usize);

    let endpoint = ConnectedPoint::Dialer {
        address: there.clone(),
        role_override: Endpoint::Dialer,
        port_use: PortUse::Reuse,
    };
    let mut open = |peer, at| {
        let (role, port) = (Endpoint::Dialer, PortUse::Reuse);
        let stays = limits
            .handle_established_outbound_connection(id(at), peer, &there, role, port)
            .is_ok();
        if stays {
            limits.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: peer,
                connection_id: id(at),
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
        }
        stays
    };
    let one = PeerId::random();
    let of_one = (3000..4000).take_while(|at| open(one, *at)).count();
    assert_eq!(of_one, ESTABLISHED_PER_PEER as usize);
    let others = (4000..5000).take_while(|at| open(PeerId::random(), *at));
    assert_eq!(of_one + others.count(), ESTABLISHED_OUT as usize);
}

#[test]
fn a_relay_does_not_bring_more_than_its_share_and_is_no_household() {
    let mut limits = admission(ReachMode::Internet, Role::Serving);
    let relay = "/ip4/203.0.113.5/tcp/1/p2p-circuit";
    let through = addr(&format!("/p2p/{}", PeerId::random()));
    let now = Instant::now();
    let mut let_in = 0;
    while limits.may_come(&addr(relay), &through, now).is_ok() && let_in < 1000 {
        take(
            &mut limits,
            PeerId::random(),
            Origin::of(&addr(relay), &through),
            now,
        );
        let_in += 1;
    }
    assert_eq!(let_in, PER_RELAY);
    let direct = addr("/ip4/203.0.113.5/tcp/9");
    assert!(
        limits
            .may_come(&addr("/ip4/198.51.100.1/tcp/1"), &direct, now)
            .is_ok()
    );
}

#[test]
fn a_node_for_the_local_network_takes_nobody_from_outside() {
    let mut limits = admission(ReachMode::LanOnly, Role::Serving);
    let local = addr("/ip4/192.168.1.2/tcp/1");
    let now = Instant::now();
    assert!(
        limits
            .may_come(&local, &addr("/ip4/192.168.1.3/tcp/1"), now)
            .is_ok()
    );
    assert_eq!(
        limits.may_come(&local, &addr("/ip4/203.0.113.5/tcp/1"), now),
        Err(Denied::OutOfReach)
    );
}

#[test]
fn nobody_comes_in_while_the_program_uses_too_much_memory() {
    let mut limits = admission(ReachMode::Internet, Role::Serving);
    let (local, remote) = (
        addr("/ip4/198.51.100.1/tcp/1"),
        addr("/ip4/203.0.113.5/tcp/1"),
    );
    let now = Instant::now();
    assert!(limits.may_come(&local, &remote, now).is_ok());
    limits.max_memory = 1;
    assert!(matches!(
        limits.may_come(&local, &remote, now),
        Err(Denied::Memory(used)) if used > 1
    ));
}

#[test]
fn strangers_do_not_get_the_last_places_and_somebody_goes_for_a_newcomer() {
    let mut limits = admission(ReachMode::Internet, Role::Serving);
    let (known, now) = (PeerId::random(), Instant::now());
    limits.value(known);
    // One peer per network, all of them as old as each other, none of any use.
    for at in 0..ESTABLISHED_IN - RESERVED_IN {
        assert_eq!(limits.may_stay(PeerId::random()), Ok(()));
        let remote = addr(&format!("/ip4/100.{at}.0.1/tcp/1"));
        let origin = Origin::of(&addr("/ip4/198.51.100.1/tcp/1"), &remote);
        take(&mut limits, PeerId::random(), origin, now);
    }
    assert!(limits.closing.is_empty());
    assert_eq!(
        limits.may_stay(known),
        Ok(()),
        "there are places for those we know"
    );
    assert!(limits.closing.is_empty());
    assert_eq!(limits.may_stay(PeerId::random()), Ok(()));
    assert_eq!(limits.closing.len(), 1, "one goes for it");
    assert_eq!(limits.may_stay(PeerId::random()), Ok(()));
    assert_ne!(
        limits.closing[0], limits.closing[1],
        "not the same one twice"
    );
}

#[test]
fn of_our_own_connections_the_oldest_of_no_use_goes() {
    let mut limits = admission(ReachMode::Internet, Role::Asking);
    let (useful, mut made) = (PeerId::random(), Vec::new());
    limits.value(useful);
    for at in 0..ESTABLISHED_OUT as usize {
        let peer = if at == 0 { useful } else { PeerId::random() };
        let id = ConnectionId::new_unchecked(at);
        limits.make_room();
        limits.made.push_back((peer, id));
        made.push((peer, id));
    }
    assert_eq!(limits.closing, &made[1..=ROOM_OUT]);
    for (peer, _) in &made {
        limits.value(*peer);
    }
    limits.make_room();
    assert_eq!(limits.closing.len(), ROOM_OUT, "all the others are of use");
}

#[test]
fn nobody_goes_who_is_at_work() {
    let mut limits = admission(ReachMode::Internet, Role::Serving);
    for _ in 0..ESTABLISHED_IN {
        let peer = PeerId::random();
        limits.value(peer);
        take(&mut limits, peer, None, Instant::now());
    }
    assert_eq!(limits.may_stay(PeerId::random()), Err(Denied::Full));
}

#[test]
fn an_attacker_with_one_network_pushes_out_its_own() {
    let start = Instant::now();
    let carrier = |network: u8| Prefix::of_carrier(&addr(&format!("/ip4/100.{network}.0.1/tcp/1")));
    let place = |at: usize, network: u8, age: u64| Place {
        id: ConnectionId::new_unchecked(at),
        network: carrier(network),
        since: start + Duration::from_secs(age),
        rtt: Some(Duration::from_millis(100 + at as u64)),
        moved: 0,
        at_work: false,
    };
    // Twenty honest peers of twenty networks, then two hundred of one, all of them quicker.
    let honest = (0..20).map(|at| place(at, at as u8, at as u64));
    let attack = (20..220).map(|at| Place {
        rtt: Some(Duration::from_millis(1)),
        ..place(at, 200, at as u64)
    });
    let mut places: Vec<_> = honest.chain(attack).collect();
    for _ in 0..100 {
        let victim = least_worth(places.clone()).unwrap();
        let at = places.iter().position(|place| place.id == victim).unwrap();
        assert_eq!(places[at].network, carrier(200));
        places.remove(at);
    }
}

#[test]
fn who_is_near_or_moved_much_stays() {
    let start = Instant::now();
    let mut places: Vec<_> = (0..100)
        .map(|at| Place {
            id: ConnectionId::new_unchecked(at),
            network: None,
            since: start + Duration::from_secs(at as u64),
            rtt: Some(Duration::from_millis(100)),
            moved: 1,
            at_work: false,
        })
        .collect();
    // The youngest ones would be the first to go.
    places[99].rtt = Some(Duration::from_millis(1));
    places[98].moved = 1_000_000;
    places[97].at_work = true;
    assert_eq!(least_worth(places), Some(ConnectionId::new_unchecked(96)));
    assert_eq!(least_worth(Vec::new()), None);
}
