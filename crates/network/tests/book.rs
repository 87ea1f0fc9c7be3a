//! The address book at work: what enters it, what leaves it, and whom a node dials first when it comes back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;

use common::{QUIC, TCP, TestNode, head, offer, within};
use network::{NetworkOptions, Sources};

async fn with_book(seed: u8, path: &Path) -> TestNode {
    TestNode::with(NetworkOptions {
        sources: Sources {
            book: Some(path.to_owned()),
            ..Sources::default()
        },
        ..NetworkOptions::new([seed; 32])
    })
    .await
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn who_was_connected_is_an_anchor_and_is_dialled_without_being_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peers.json");
    let peer = TestNode::listening(1, &[QUIC]).await;
    let node = with_book(2, &path).await;
    node.connect(&peer).await;
    node.network.shutdown().await;
    let kept: serde_json::Value = serde_json::from_str(&text(&path)).unwrap();
    assert_eq!(kept["anchors"], serde_json::json!([peer.id().to_string()]));
    assert_eq!(kept["peers"][0]["tried"], true);

    let again = with_book(2, &path).await;
    again
        .until("the anchor", |status| {
            status.peers.iter().any(|one| one.peer == peer.id())
        })
        .await;
}

#[tokio::test]
async fn an_address_where_somebody_else_answers_leaves_the_book() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peers.json");
    let peer = TestNode::listening(3, &[TCP]).await;
    let at = peer.addresses[0].clone();
    let node = with_book(4, &path).await;
    node.connect(&peer).await;
    node.network.shutdown().await;
    assert!(text(&path).contains(&peer.id().to_string()));

    // The same port, another key.
    peer.network.shutdown().await;
    let listen = at.split("/p2p/").next().unwrap();
    let other = within("the port", async {
        loop {
            let options = NetworkOptions {
                listen: vec![listen.to_owned()],
                ..NetworkOptions::new([5; 32])
            };
            // The system may keep the port for a moment.
            if let Ok(started) = network::Network::start(options).await {
                return started;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    // It is dialled at the start, and what came of it is written when the node ends.
    within("the change of the book", async {
        while text(&path).contains(&peer.id().to_string()) {
            let again = with_book(4, &path).await;
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            again.network.shutdown().await;
        }
    })
    .await;
    drop(other);
}

#[tokio::test]
async fn our_own_address_as_somebody_elses_is_not_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peers.json");
    let node = TestNode::with(NetworkOptions {
        listen: vec![QUIC.to_owned()],
        sources: Sources {
            book: Some(path.clone()),
            ..Sources::default()
        },
        ..NetworkOptions::new([6; 32])
    })
    .await;
    let liar = TestNode::listening(7, &[QUIC]).await;
    let (_, model) = head(1000, 1);
    // It says of itself that it is where the node is, in an offer that is otherwise good, and where it really is.
    let plain = |text: &str| {
        let address: libp2p::Multiaddr = text.split("/p2p/").next().unwrap().parse().unwrap();
        address.to_vec().into()
    };
    let mut lie = offer(liar.id(), model, 1);
    lie.addrs = vec![plain(&node.addresses[0]), plain(&liar.addresses[0])];
    liar.network.set_offers(vec![lie.sign(&liar.signer)]).await;
    liar.connect(&node).await;
    node.until("the offer", |status| {
        status.peers.iter().any(|one| !one.offers.is_empty())
    })
    .await;
    node.network.shutdown().await;
    let kept = text(&path);
    let own = node.addresses[0].split("/p2p/").next().unwrap();
    assert!(
        kept.contains(&liar.id().to_string()) && !kept.contains(&format!("\"{own}\"")),
        "{kept}"
    );
}
