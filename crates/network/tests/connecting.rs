//! Who finds whom, over what, and what is said when it does not work.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{QUIC, TCP, TestNode, way::Way, within};
use network::{Direction, NetworkError, NetworkOptions, ReadError, Transport};
use protocol::frame::Cap;

#[tokio::test]
async fn two_nodes_meet_over_quic() {
    meet(QUIC, Transport::Quic).await;
}

#[tokio::test]
async fn two_nodes_meet_over_tcp() {
    meet(TCP, Transport::Tcp).await;
}

async fn meet(listen: &str, transport: Transport) {
    let server = TestNode::listening(1, &[listen]).await;
    let client = TestNode::dialing(2).await;
    assert!(client.network.status().borrow().listening.is_empty());
    client.connect(&server).await;

    let seen = client.until("the server with its agent and round trip", |status| {
        status
            .peers
            .iter()
            .any(|peer| peer.agent.is_some() && peer.rtt_ms.is_some())
    });
    let seen = seen.await.peers[0].clone();
    assert_eq!(
        (seen.peer, seen.direction, seen.transport),
        (server.id(), Direction::Out, transport)
    );
    assert!(
        server.addresses[0].starts_with(&seen.addr),
        "{} {}",
        server.addresses[0],
        seen.addr
    );
    assert!(seen.agent.unwrap().starts_with("decentralgpt/"));
    assert!(seen.since_unix_ms > 0);

    let seen = server
        .until("the client", |status| !status.peers.is_empty())
        .await
        .peers[0]
        .clone();
    assert_eq!(
        (seen.peer, seen.direction, seen.transport),
        (client.id(), Direction::In, transport)
    );

    // Again, by address and by id alone: the same peer, at once.
    client.connect(&server).await;
    assert_eq!(
        client
            .network
            .connect(&server.id().to_string())
            .await
            .unwrap(),
        server.id()
    );

    client.network.disconnect(&server.id()).await;
    client
        .until("the end of the connection", |status| {
            status.peers.is_empty()
        })
        .await;
    server
        .until("the end of the connection", |status| {
            status.peers.is_empty()
        })
        .await;
    // The address is remembered.
    assert_eq!(
        client
            .network
            .connect(&server.id().to_string())
            .await
            .unwrap(),
        server.id()
    );
}

#[tokio::test]
async fn an_address_without_a_peer_id_is_enough() {
    for listen in [QUIC, TCP] {
        let server = TestNode::listening(3, &[listen]).await;
        let client = TestNode::dialing(4).await;
        let (address, _) = server.addresses[0].split_once("/p2p/").unwrap();
        assert_eq!(client.network.connect(address).await.unwrap(), server.id());
    }
}

#[tokio::test]
async fn a_host_name_is_resolved() {
    let server = TestNode::listening(5, &[TCP]).await;
    let client = TestNode::dialing(6).await;
    let named = server.addresses[0].replace("/ip4/127.0.0.1", "/dns4/localhost");
    assert_eq!(client.network.connect(&named).await.unwrap(), server.id());
    let nowhere = named.replace("localhost", "no-such-host.invalid");
    let other = TestNode::dialing(7).await;
    assert!(matches!(
        other.network.connect(&nowhere).await,
        Err(NetworkError::NameNotResolved { .. })
    ));
}

#[tokio::test]
async fn every_way_to_fail_has_its_own_error() {
    let node = TestNode::listening(8, &[TCP, QUIC]).await;
    let other = TestNode::listening(9, &[TCP]).await;
    let connect = async |addr: &str| node.network.connect(addr).await;

    assert!(matches!(
        connect("what is this").await,
        Err(NetworkError::NotAnAddress { .. })
    ));
    assert!(matches!(
        connect("").await,
        Err(NetworkError::NotAnAddress { .. })
    ));
    assert!(matches!(
        connect("/ip4/127.0.0.1/tcp/80/ws").await,
        Err(NetworkError::UnsupportedAddress { .. })
    ));
    assert!(matches!(
        connect("/dnsaddr/example.invalid").await,
        Err(NetworkError::UnsupportedAddress { .. })
    ));
    assert!(matches!(
        connect(&node.addresses[0]).await,
        Err(NetworkError::OwnAddress { .. })
    ));
    let (own, _) = node.addresses[0].split_once("/p2p/").unwrap();
    assert!(matches!(
        connect(own).await,
        Err(NetworkError::OwnAddress { .. })
    ));
    assert!(matches!(
        connect(&node.id().to_string()).await,
        Err(NetworkError::OwnAddress { .. })
    ));
    let stranger = protocol::Signer::from_seed([200; 32]).peer_id();
    assert!(matches!(
        connect(&stranger.to_string()).await,
        Err(NetworkError::UnknownPeer { .. })
    ));

    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = socket.local_addr().unwrap().port();
    drop(socket);
    let refused = connect(&format!("/ip4/127.0.0.1/tcp/{free}")).await;
    assert!(
        matches!(refused, Err(NetworkError::Refused { .. })),
        "{refused:?}"
    );

    let (at, _) = other.addresses[0].split_once("/p2p/").unwrap();
    let wrong = connect(&format!("{at}/p2p/{stranger}")).await;
    assert!(
        matches!(wrong, Err(NetworkError::WrongPeer { expected, .. }) if expected == stranger),
        "{wrong:?}"
    );

    node.network.set_blocked(&other.id(), true).await;
    assert!(matches!(
        connect(&other.addresses[0]).await,
        Err(NetworkError::Blocked { .. })
    ));
    // Without its id it is recognised after the handshake.
    let blocked = connect(at).await;
    assert!(
        matches!(
            blocked,
            Err(NetworkError::TooManyConnections { .. } | NetworkError::Blocked { .. })
        ),
        "{blocked:?}"
    );
    node.network.set_blocked(&other.id(), false).await;
    assert_eq!(connect(&other.addresses[0]).await.unwrap(), other.id());
}

#[tokio::test]
async fn something_else_behind_the_port_is_told_apart_from_silence() {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(
                &mut stream,
                b"HTTP/1.1 400 Bad Request\r\n\r\n",
            )
            .await;
        }
    });
    let node = TestNode::dialing(10).await;
    let answer = within(
        "an error",
        node.network.connect(&format!("/ip4/127.0.0.1/tcp/{port}")),
    )
    .await;
    assert!(
        matches!(answer, Err(NetworkError::Unreachable { .. })),
        "{answer:?}"
    );

    // A UDP port that never answers.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let answer = within(
        "a timeout",
        node.network
            .connect(&format!("/ip4/127.0.0.1/udp/{port}/quic-v1")),
    )
    .await;
    assert!(
        matches!(answer, Err(NetworkError::Timeout { .. })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn one_too_many_of_a_household_hears_that_it_is_turned_away_and_comes_in_when_another_leaves()
{
    let server = TestNode::listening(60, &[QUIC]).await;
    let mut inside = Vec::new();
    let error = loop {
        let next = TestNode::dialing(61 + inside.len() as u8).await;
        match within("an answer", next.network.connect(&server.addresses[0])).await {
            Ok(_) => inside.push(next),
            Err(error) => break error,
        }
        assert!(inside.len() < 50, "everybody comes in");
    };
    assert!(
        matches!(error, NetworkError::TurnedAway { .. }),
        "{error:?}"
    );
    let places = inside.len();
    server
        .until("all of them", |status| status.peers.len() == places)
        .await;
    inside.pop().unwrap().network.shutdown().await;
    server
        .until("a free place", |status| status.peers.len() < places)
        .await;
    TestNode::dialing(120).await.connect(&server).await;
}

#[tokio::test]
async fn listening_is_switched_on_and_off_at_run_time() {
    let server = TestNode::dialing(11).await;
    let client = TestNode::dialing(12).await;
    let on = server
        .network
        .set_listening(vec![TCP.to_owned(), QUIC.to_owned()], false)
        .await
        .unwrap();
    assert_eq!(on.len(), 2);
    assert_eq!(server.network.status().borrow().listening, on);
    for address in &on {
        assert!(
            address.ends_with(&format!("/p2p/{}", server.id())),
            "{address}"
        );
        assert!(
            !address.contains("/tcp/0") && !address.contains("/udp/0"),
            "{address}"
        );
    }
    // Asked again for the same, the ports stay.
    assert_eq!(
        server
            .network
            .set_listening(vec![TCP.to_owned(), QUIC.to_owned()], false)
            .await
            .unwrap(),
        on
    );
    client.network.connect(&on[0]).await.unwrap();

    assert!(
        server
            .network
            .set_listening(Vec::new(), false)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(server.network.status().borrow().listening.is_empty());
    for address in &on {
        let late = TestNode::dialing(13).await;
        let answer = within("no connection", late.network.connect(address)).await;
        assert!(
            matches!(
                answer,
                Err(NetworkError::Refused { .. }
                    | NetworkError::Timeout { .. }
                    | NetworkError::Unreachable { .. })
            ),
            "{address}: {answer:?}"
        );
    }
    let again = server
        .network
        .set_listening(vec![TCP.to_owned()], false)
        .await
        .unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(
        TestNode::dialing(14)
            .await
            .network
            .connect(&again[0])
            .await
            .unwrap(),
        server.id()
    );
}

#[tokio::test]
async fn every_interface_is_listed_with_an_address_that_can_be_dialled() {
    let server = TestNode::dialing(15).await;
    let all = server
        .network
        .set_listening(vec!["/ip4/0.0.0.0/tcp/0".to_owned()], false)
        .await
        .unwrap();
    assert!(!all.is_empty());
    assert!(
        all.iter().all(|address| !address.contains("0.0.0.0")),
        "{all:?}"
    );
    let near = server.until("the loopback among them", |status| {
        status
            .listening
            .iter()
            .any(|address| address.starts_with("/ip4/127.0.0.1/"))
    });
    let near = near
        .await
        .listening
        .into_iter()
        .find(|address| address.starts_with("/ip4/127.0.0.1/"))
        .unwrap();
    assert_eq!(
        TestNode::dialing(16)
            .await
            .network
            .connect(&near)
            .await
            .unwrap(),
        server.id()
    );
}

#[tokio::test]
async fn a_taken_port_is_an_error_and_changes_nothing_else() {
    let node = TestNode::dialing(17).await;
    // Bound by the standard library, without the options that let two listeners share a port.
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let held = format!("/ip4/127.0.0.1/tcp/{}", holder.local_addr().unwrap().port());
    let answer = node.network.set_listening(vec![held.clone()], false).await;
    assert!(
        matches!(answer, Err(NetworkError::Listen { .. })),
        "{answer:?}"
    );
    let some = node
        .network
        .set_listening(vec![held.clone(), TCP.to_owned()], false)
        .await
        .unwrap();
    assert_eq!(some.len(), 1);
    assert_eq!(node.network.status().borrow().not_listening[0].0, held);
    let bad = node
        .network
        .set_listening(vec!["tcp 4001".to_owned()], false)
        .await;
    assert!(matches!(bad, Err(NetworkError::NotAnAddress { .. })));
    assert_eq!(node.network.status().borrow().listening, some);
}

#[tokio::test]
async fn a_known_peer_is_dialled_by_itself() {
    let server = TestNode::listening(18, &[QUIC]).await;
    let options = NetworkOptions {
        known_peers: vec![server.addresses[0].clone(), "not an address".to_owned()],
        ..NetworkOptions::new([19; 32])
    };
    let client = TestNode::with(options).await;
    client
        .until("the known peer", |status| {
            status.peers.iter().any(|peer| peer.peer == server.id())
        })
        .await;
    client.network.disconnect(&server.id()).await;
    client
        .until("its loss", |status| status.peers.is_empty())
        .await;
    client
        .until("the known peer again", |status| !status.peers.is_empty())
        .await;
}

#[tokio::test]
async fn after_shutdown_every_call_says_so_and_the_others_notice() {
    let server = TestNode::listening(20, &[TCP, QUIC]).await;
    let client = TestNode::dialing(21).await;
    client.connect(&server).await;
    server.network.shutdown().await;
    client
        .until("the end of the connection", |status| {
            status.peers.is_empty()
        })
        .await;
    assert!(matches!(
        server.network.connect(TCP).await,
        Err(NetworkError::Closed)
    ));
    assert!(matches!(
        server.network.open_job(&client.id()).await,
        Err(NetworkError::Closed)
    ));
    server.network.shutdown().await;
}

#[tokio::test]
async fn one_host_cannot_open_connections_without_end() {
    let server = TestNode::listening(22, &[TCP]).await;
    let mut clients = Vec::new();
    let mut refused = 0;
    for seed in 0..12 {
        let client = TestNode::dialing(100 + seed).await;
        refused += usize::from(client.network.connect(&server.addresses[0]).await.is_err());
        clients.push(client);
    }
    assert_eq!(refused, 4, "eight at a time from one address");
    let status = server
        .until("the count of refusals", |status| {
            status.refusals.connections > 0
        })
        .await;
    assert_eq!(status.peers.len(), 8);
}

#[tokio::test]
async fn a_connection_that_went_dead_is_replaced_by_one_that_works() {
    let mut server = TestNode::listening(40, &[TCP]).await;
    let client = TestNode::dialing(41).await;
    let way = Way::to(&server).await;
    client.network.connect(&way.address).await.unwrap();
    let (mut before, writer) = client.network.open_job(&server.id()).await.unwrap().split();
    writer.send(&common::ping(1)).unwrap();
    let there = server.next_job().await;

    way.cut();
    let (mut deaf, writer) = client.network.open_job(&server.id()).await.unwrap().split();
    writer.send(&common::ping(2)).unwrap();
    let answer = tokio::time::timeout(
        std::time::Duration::from_millis(500),
        deaf.next(Cap::Provider),
    );
    assert!(answer.await.is_err(), "nothing passes, and nobody says so");

    client.network.renew(&server.id()).await.unwrap();
    assert_eq!(
        within("the old stream's end", before.next(Cap::Provider)).await,
        Err(ReadError::Closed)
    );
    let (mut reader, writer) = client.network.open_job(&server.id()).await.unwrap().split();
    writer.send(&common::ping(3)).unwrap();
    let stream = server.next_job().await;
    assert_ne!(stream.connection, there.connection);
    let (_reader, answer) = stream.split();
    answer.send(&common::ping(4)).unwrap();
    assert_eq!(
        within("an answer", reader.next(Cap::Provider)).await,
        Ok(common::ping(4))
    );

    server
        .network
        .set_listening(Vec::new(), false)
        .await
        .unwrap();
    way.cut_for_good();
    let failed = client.network.renew(&server.id()).await;
    assert!(failed.is_err(), "nobody is there");
    let stays = client.network.status().borrow().peers.len();
    assert_eq!(stays, 1, "a renewal that fails closes nothing");
}
