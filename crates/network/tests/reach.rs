//! Whether others reach a node, what it says about it, and what it does when the ground moves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{QUIC, TCP, TestNode, open, within};
use network::{
    ClosedBecause, ConnectionChange, Direction, NetworkError, NetworkOptions, Path, ReachFix,
    ReachMode, ReachPolicy, ReachState, RefusedBecause, Role, Transport,
};
use protocol::frame::Cap;

async fn asking(seed: u8) -> TestNode {
    TestNode::with(NetworkOptions {
        listen: vec![QUIC.to_owned(), TCP.to_owned()],
        role: Role::Asking,
        reach: ReachPolicy::lab(),
        ..NetworkOptions::new([seed; 32])
    })
    .await
}

#[tokio::test]
async fn an_address_is_public_once_somebody_dialled_it_back() {
    let witness = TestNode::lab(1, &[TCP], |_| {}).await;
    let node = TestNode::lab(2, &[TCP, QUIC], |_| {}).await;
    assert_eq!(
        node.network.status().borrow().reach.state,
        ReachState::Unknown
    );
    node.connect(&witness).await;
    let status = node
        .until("both addresses", |status| {
            matches!(&status.reach.state, ReachState::Public { addrs } if addrs.len() == 2)
        })
        .await;
    assert!(status.reach.tested_unix_ms.is_some());
    assert_eq!(status.reach.fixes, []);
    let ReachState::Public { addrs } = status.reach.state else {
        unreachable!()
    };
    for at in addrs {
        assert!(
            node.addresses.iter().any(|own| own.starts_with(&at)),
            "{at}"
        );
    }
}

#[tokio::test]
async fn what_an_offer_may_name_is_where_strangers_reach_it() {
    let witness = TestNode::lab(30, &[TCP], |_| {}).await;
    let node = TestNode::lab(31, &[TCP, QUIC], |_| {}).await;
    node.connect(&witness).await;
    let status = node
        .until("both addresses", |status| {
            matches!(&status.reach.state, ReachState::Public { addrs } if addrs.len() == 2)
        })
        .await;
    let told: Vec<_> = status
        .offerable
        .iter()
        .map(|bytes| libp2p::Multiaddr::try_from(bytes.to_vec()).unwrap())
        .collect();
    assert_eq!(told.len(), 2);
    let of_listeners = |at: &libp2p::Multiaddr| {
        let at = at.to_string();
        node.addresses.iter().any(|own| own.starts_with(&at))
    };
    assert!(told.iter().all(of_listeners), "{told:?}");
    assert!(told[0].to_string().contains("quic"), "{told:?}");
    // Where the loopback is no place that strangers reach, and for who only asks, there is nothing to tell.
    let home = TestNode::listening(32, &[TCP, QUIC]).await;
    assert!(!home.addresses.is_empty());
    for quiet in [home, asking(33).await] {
        assert!(quiet.network.status().borrow().offerable.is_empty());
    }
}

#[tokio::test]
async fn who_is_not_reached_is_told_what_to_do() {
    // A router passes nothing on: the witness sees a port behind which nobody is. Here the node's own listener goes away between
    // the moment it is seen and the moment it is tried, which has to be hit. Each try has a witness that tried nobody yet.
    for seed in 4..24 {
        let witness = TestNode::lab(100 + seed, &[TCP], |_| {}).await;
        let node = TestNode::lab(seed, &[TCP], |_| {}).await;
        node.connect(&witness).await;
        node.network
            .set_listening(vec!["/p2p-circuit".to_owned()], false)
            .await
            .unwrap();
        let verdict = node.until("the verdict", |status| {
            status.reach.state == ReachState::Unreachable
        });
        if let Ok(status) = tokio::time::timeout(VERDICT, verdict).await {
            assert!(
                status.reach.fixes.contains(&ReachFix::FindRelays),
                "{:?}",
                status.reach
            );
            return;
        }
    }
    panic!("the moment was never hit");
}

/// Where the moment was hit, the verdict comes within seconds.
const VERDICT: std::time::Duration = std::time::Duration::from_secs(6);

#[tokio::test]
async fn a_node_for_the_local_network_reaches_nobody_outside() {
    let options = |seed| NetworkOptions {
        listen: vec![TCP.to_owned()],
        reach: ReachPolicy {
            mode: ReachMode::LanOnly,
            ..ReachPolicy::default()
        },
        ..NetworkOptions::new([seed; 32])
    };
    let (node, neighbour) = (
        TestNode::with(options(5)).await,
        TestNode::with(options(6)).await,
    );
    node.connect(&neighbour).await;
    // Documentation's addresses: were the gate open, a packet would go there and nobody would answer.
    for far in [
        "/ip4/203.0.113.1/tcp/4001",
        "/ip4/203.0.113.1/udp/4001/quic-v1",
        "/ip6/2001:db8::1/tcp/4001",
    ] {
        let begun = std::time::Instant::now();
        let answer = node.network.connect(far).await;
        assert!(
            matches!(answer, Err(NetworkError::Unreachable { .. })),
            "{far}: {answer:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(5), "nothing was sent");
    }
    let refused = node
        .network
        .log()
        .into_iter()
        .filter(|event| event.what == ConnectionChange::Refused(RefusedBecause::Policy))
        .count();
    assert_eq!(refused, 3);
    let answer = node
        .network
        .set_listening(vec!["/ip4/203.0.113.1/tcp/0".to_owned()], false)
        .await;
    assert!(
        matches!(answer, Err(NetworkError::Listen { .. })),
        "{answer:?}"
    );
    // Every interface is each one of the private ones.
    let every = node
        .network
        .set_listening(vec!["/ip4/0.0.0.0/tcp/0".to_owned()], false)
        .await
        .unwrap();
    assert!(
        every.iter().any(|at| at.starts_with("/ip4/127.0.0.1/")),
        "{every:?}"
    );
}

#[tokio::test]
async fn who_asks_is_told_to_nobody_and_takes_no_stranger() {
    let server = TestNode::lab(7, &[TCP, QUIC], |_| {}).await;
    let asker = asking(8).await;
    assert_eq!(asker.network.status().borrow().listening, [""; 0]);
    asker.connect(&server).await;
    // The port it left from is one it listens on. The server knows it, and a stranger who guesses it gets no further.
    let seen = server
        .until("the asker", |status| !status.peers.is_empty())
        .await
        .peers[0]
        .clone();
    let stranger = TestNode::lab(9, &[], |_| {}).await;
    let answer = within("an error", stranger.network.connect(&seen.addr)).await;
    assert!(answer.is_err(), "{answer:?}");
    assert!(
        asker.network.log().iter().any(|event| {
            event.direction == Direction::In
                && event.what == ConnectionChange::Refused(RefusedBecause::Policy)
        }),
        "it came as far as the asker: {:?}",
        asker.network.log()
    );
    assert_eq!(asker.network.status().borrow().peers.len(), 1);
}

#[tokio::test]
async fn after_a_sleep_everything_is_dialled_anew() {
    for listen in [TCP, QUIC] {
        let mut server = TestNode::lab(10, &[listen], |_| {}).await;
        let client = TestNode::lab(11, &[], |_| {}).await;
        client.connect(&server).await;
        let (mut from_server, to_server) =
            client.network.open_job(&server.id()).await.unwrap().split();
        to_server.send(&open(10)).unwrap();
        let (_from_client, _to_client) = server.next_job().await.split();

        client.network.wake().await;
        // A job that was running hears of it at once, which is where it is resumed.
        assert!(
            within("the cut", from_server.next(Cap::Provider))
                .await
                .is_err()
        );
        let network = client.network.clone();
        client
            .until("the peer again", |status| {
                network.log().len() >= 3 && status.peers.iter().any(|peer| peer.peer == server.id())
            })
            .await;
        let log = client.network.log();
        let changes: Vec<_> = log.iter().map(|event| event.what).collect();
        assert_eq!(
            changes,
            [
                ConnectionChange::Opened,
                ConnectionChange::Closed(ClosedBecause::NetworkChanged),
                ConnectionChange::Opened
            ]
        );
    }
}

#[tokio::test]
async fn a_change_that_moves_no_connection_cuts_none() {
    let server = TestNode::lab(12, &[TCP], |_| {}).await;
    let client = TestNode::lab(13, &[], |_| {}).await;
    client.connect(&server).await;
    client.network.network_changed().await;
    server.network.network_changed().await;
    client.connect(&server).await;
    let opened = client.network.log();
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert_eq!(
        (opened[0].peer, opened[0].what, opened[0].path),
        (
            Some(server.id()),
            ConnectionChange::Opened,
            Path::Loopback(Transport::Tcp)
        )
    );
}

#[tokio::test]
async fn the_log_says_why_nothing_came_of_it() {
    let node = TestNode::lab(14, &[], |_| {}).await;
    let other = TestNode::lab(15, &[TCP], |_| {}).await;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = socket.local_addr().unwrap().port();
    drop(socket);
    let _ = node
        .network
        .connect(&format!("/ip4/127.0.0.1/tcp/{free}"))
        .await;
    let (at, _) = other.addresses[0].split_once("/p2p/").unwrap();
    let stranger = protocol::Signer::from_seed([200; 32]).peer_id();
    let _ = node.network.connect(&format!("{at}/p2p/{stranger}")).await;
    let why: Vec<_> = node
        .network
        .log()
        .into_iter()
        .map(|event| event.what)
        .collect();
    assert_eq!(
        why,
        [
            ConnectionChange::Refused(RefusedBecause::NothingListens),
            ConnectionChange::Refused(RefusedBecause::WrongPeer)
        ]
    );
}
