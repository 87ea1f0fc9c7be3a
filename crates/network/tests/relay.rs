//! Nodes that nobody reaches directly: through relays, and past them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{QUIC, TCP, TestNode, open, ping, within};
use network::{
    ConnectionChange, NetworkError, NetworkOptions, ReachPolicy, ReachState, RelayClient,
    RelayState, Role,
};
use protocol::frame::{Cap, Frame, Tokens};

const ANY_RELAY: &str = "/p2p-circuit";

/// A node that others reached and that therefore carries for others: it dials a witness, which tries its addresses.
async fn relay(seed: u8, witness: &TestNode) -> TestNode {
    let relay = TestNode::lab(seed, &[TCP, QUIC], |_| {}).await;
    relay.connect(witness).await;
    relay
        .until("being reached and offering to carry", |status| {
            matches!(status.reach.state, ReachState::Public { .. }) && status.reach.relaying.offered
        })
        .await;
    relay
}

/// The first address of a node that leads through this relay.
async fn circuit(node: &TestNode, relay: &TestNode) -> String {
    let through = format!("/p2p/{}/p2p-circuit/", relay.id());
    let status = node
        .until("an address through the relay", |status| {
            status.listening.iter().any(|at| at.contains(&through))
        })
        .await;
    status
        .listening
        .into_iter()
        .find(|at| at.contains(&through))
        .unwrap()
}

async fn witness(seed: u8) -> TestNode {
    TestNode::lab(seed, &[TCP, QUIC], |_| {}).await
}

/// A provider that listens nowhere itself, its relay, and an asker that is connected to it.
async fn carried(seed: u8) -> (TestNode, TestNode, TestNode, TestNode) {
    let witness = witness(seed).await;
    let relay = relay(seed + 1, &witness).await;
    let provider = TestNode::lab(seed + 2, &[ANY_RELAY], |_| {}).await;
    provider.connect(&relay).await;
    let address = circuit(&provider, &relay).await;
    let asker = TestNode::lab(seed + 3, &[], |_| {}).await;
    assert_eq!(
        asker.network.connect(&address).await.unwrap(),
        provider.id()
    );
    (witness, relay, provider, asker)
}

#[tokio::test]
async fn a_node_without_a_listener_is_reached_through_a_relay_and_answers() {
    let (_witness, relay, mut provider, asker) = carried(1).await;
    let status = provider.network.status().borrow().clone();
    // It may have met another one by then.
    let held = status
        .reach
        .relays
        .iter()
        .find(|view| view.peer == relay.id());
    assert!(
        matches!(&status.reach.state, ReachState::Relayed { via } if via.contains(&relay.id())),
        "{:?}",
        status.reach.state
    );
    let RelayState::Held {
        max_bytes,
        max_seconds,
        ..
    } = held.unwrap().state
    else {
        panic!("{:?}", status.reach.relays);
    };
    assert_eq!((max_bytes, max_seconds), (Some(32 << 20), Some(30 * 60)));

    let stream = asker.network.open_job(&provider.id()).await.unwrap();
    assert!(stream.relayed);
    let (mut from_provider, to_provider) = stream.split();
    to_provider.send(&open(1000)).unwrap();
    let job = provider.next_job().await;
    assert!(job.relayed && job.peer == asker.id());
    let (mut from_asker, to_asker) = job.split();
    within("the first frame", from_asker.open()).await.unwrap();
    // More than the library's own relay lets through.
    let tokens = |at: u32| {
        Frame::Tokens(Tokens {
            first_index: at,
            ids: vec![at],
            pad: vec![0; 1000].into(),
            ..Tokens::default()
        })
    };
    for at in 0..500 {
        to_asker.send(&tokens(at)).unwrap();
        assert_eq!(
            within("tokens", from_provider.next(Cap::Provider))
                .await
                .unwrap(),
            tokens(at)
        );
    }

    let carrying = relay.network.status().borrow().reach.relaying;
    assert_eq!(carrying.circuits, 1);
    assert!(carrying.reservations >= 1, "{carrying:?}");
    let counted = asker.until("the bytes of the peer", |status| {
        status.peers.iter().any(|peer| {
            peer.peer == provider.id() && peer.relayed && peer.traffic.received > 500_000
        })
    });
    let status = counted.await;
    let seen = status.peers.iter().find(|peer| peer.relayed).unwrap();
    assert!(seen.addr.contains("p2p-circuit"), "{}", seen.addr);
    assert!(status.traffic.received >= seen.traffic.received);
}

#[tokio::test]
async fn a_relay_that_dies_is_noticed_at_both_ends_and_another_takes_its_place() {
    let witness = witness(11).await;
    let (first, second) = (relay(12, &witness).await, relay(13, &witness).await);
    let mut provider = TestNode::lab(14, &[ANY_RELAY], |_| {}).await;
    provider.connect(&first).await;
    let through_first = circuit(&provider, &first).await;
    provider.connect(&second).await;
    let through_second = circuit(&provider, &second).await;

    let asker = TestNode::lab(15, &[], |_| {}).await;
    asker.network.connect(&through_first).await.unwrap();
    let (mut from_provider, to_provider) = asker
        .network
        .open_job(&provider.id())
        .await
        .unwrap()
        .split();
    to_provider.send(&open(10)).unwrap();
    let (mut from_asker, to_asker) = provider.next_job().await.split();
    within("the first frame", from_asker.open()).await.unwrap();
    to_asker.send(&ping(1)).unwrap();
    within("a frame", from_provider.next(Cap::Provider))
        .await
        .unwrap();

    first.network.shutdown().await;
    assert!(
        within("the cut", from_provider.next(Cap::Provider))
            .await
            .is_err()
    );
    assert!(
        within("the cut over there", from_asker.next(Cap::Client))
            .await
            .is_err()
    );
    provider
        .until("only the second", |status| {
            status.reach.state
                == ReachState::Relayed {
                    via: vec![second.id()],
                }
        })
        .await;
    // Same peer, other way: this is where a job is resumed.
    asker.network.connect(&through_second).await.unwrap();
    let (_, to_provider) = asker
        .network
        .open_job(&provider.id())
        .await
        .unwrap()
        .split();
    to_provider.send(&open(10)).unwrap();
    assert_eq!(provider.next_job().await.peer, asker.id());
}

#[tokio::test]
async fn a_hole_is_punched_and_new_streams_go_straight() {
    let witness = witness(21).await;
    let relay = relay(22, &witness).await;
    // It listens, and keeps a place at a relay although it is reached.
    let mut provider = TestNode::lab(23, &[QUIC], |policy| {
        policy.relay_client = RelayClient::Always;
    })
    .await;
    provider.connect(&relay).await;
    let address = circuit(&provider, &relay).await;
    let asker = TestNode::with(NetworkOptions {
        listen: vec![QUIC.to_owned()],
        role: Role::Asking,
        reach: ReachPolicy::lab(),
        ..NetworkOptions::new([24; 32])
    })
    .await;
    asker.network.connect(&address).await.unwrap();

    let direct = asker.until("a direct connection", |status| {
        status
            .peers
            .iter()
            .any(|peer| peer.peer == provider.id() && !peer.relayed)
    });
    direct.await;
    let stream = asker.network.open_job(&provider.id()).await.unwrap();
    assert!(!stream.relayed, "direct before relayed");
    let (_, to_provider) = stream.split();
    to_provider.send(&open(10)).unwrap();
    let job = provider.next_job().await;
    assert!(!job.relayed && job.peer == asker.id());
    let upgraded = |node: &TestNode| {
        node.network
            .log()
            .iter()
            .any(|event| event.what == ConnectionChange::Upgraded)
    };
    assert!(upgraded(&asker) || upgraded(&provider));
}

#[tokio::test]
async fn who_is_not_reached_carries_for_nobody() {
    let unproven = TestNode::lab(31, &[TCP], |_| {}).await;
    let provider = TestNode::lab(32, &[ANY_RELAY], |_| {}).await;
    provider.connect(&unproven).await;
    let status = provider.network.status().borrow().clone();
    assert_eq!(status.reach.relays, [], "it does not offer to");
    let through = format!(
        "{}/p2p-circuit/p2p/{}",
        unproven.addresses[0],
        provider.id()
    );
    let asker = TestNode::lab(33, &[], |_| {}).await;
    let answer = within("no way", asker.network.connect(&through)).await;
    assert!(
        matches!(
            answer,
            Err(NetworkError::Unreachable { .. } | NetworkError::Timeout { .. })
        ),
        "{answer:?}"
    );
}

#[tokio::test]
async fn switching_off_gives_the_place_back() {
    let (_witness, relay, provider, _asker) = carried(41).await;
    provider
        .network
        .set_listening(Vec::new(), false)
        .await
        .unwrap();
    relay
        .until("the place being free", |status| {
            status.reach.relaying.reservations == 0
        })
        .await;
    provider
        .until("being off", |status| {
            status.reach.state == ReachState::Unknown && status.listening.is_empty()
        })
        .await;
}

#[tokio::test]
async fn a_relay_that_is_not_there_is_named_as_the_reason() {
    let asker = TestNode::lab(51, &[], |_| {}).await;
    let (relay, provider) = (TestNode::dialing(52).await, TestNode::dialing(53).await);
    let through = format!(
        "/ip4/127.0.0.1/tcp/1/p2p/{}/p2p-circuit/p2p/{}",
        relay.id(),
        provider.id()
    );
    let answer = within("no way", asker.network.connect(&through)).await;
    assert!(
        matches!(&answer, Err(NetworkError::Unreachable { reason, .. }) if reason.contains("relay")),
        "{answer:?}"
    );
}
