//! Multicast DNS: nodes on one local network find each other and nothing else is configured; one that only asks finds the others and is
//! found by nobody. And who of the local network is in the routing table when a stranger has been there.
//!
//! The local network is one that the test makes: a network namespace with a single interface that leads nowhere. Where namespaces
//! cannot be made the test says so, and nothing is shown.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use std::process::Command;

use common::{
    QUIC, TCP, TestNode, head, providers_of,
    router::{Router, records},
    signed, within,
};
use network::{NetworkOptions, NetworkStatus, Role, Source};

/// The interface's address, of a private range.
const HOME: &str = "10.77.0.1";
/// Another address of it, which is of no home (RFC 5737).
const FAR: &str = "203.0.113.1";
/// Set for the process inside the namespace.
const INSIDE: &str = "DECENTRALGPT_TEST_LAN";

#[test]
fn neighbours_find_each_other_by_multicast() {
    in_a_home("inside");
}

#[test]
fn neighbours_are_in_the_table_again_after_a_stranger_has_gone() {
    in_a_home("inside_with_a_stranger");
}

/// Runs a test of this file in a local network of its own.
fn in_a_home(test: &str) {
    if !Command::new("unshare")
        .args(["-rn", "ip", "link"])
        .output()
        .is_ok_and(|done| done.status.success())
    {
        println!(
            "SKIPPED: no network namespace can be made here; nothing of a local network is shown"
        );
        return;
    }
    let network = format!(
        "ip link set lo up && ip link add lan type veth peer name wall && ip link set wall up && ip addr add {HOME}/24 dev lan \
         && ip addr add {FAR}/24 dev lan && ip link set lan up multicast on && ip route add 224.0.0.0/4 dev lan src {HOME} \
         && exec \"$0\" --ignored --exact {test}"
    );
    let done = Command::new("unshare")
        .args(["-rn", "sh", "-c", &network])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test]
async fn who_listens_to_this_computer_alone_is_silent_on_the_local_network() {
    let node = TestNode::with(NetworkOptions {
        listen: vec![QUIC.to_owned(), TCP.to_owned()],
        mdns: true,
        ..NetworkOptions::new([3; 32])
    })
    .await;
    assert!(!node.network.status().borrow().mdns);
}

#[tokio::test]
#[ignore = "runs inside the namespace that the other test makes"]
async fn inside() {
    assert!(std::env::var_os(INSIDE).is_some(), "only inside");
    let options = |seed| NetworkOptions {
        listen: vec![format!("/ip4/{HOME}/udp/0/quic-v1")],
        mdns: true,
        ..NetworkOptions::new([seed; 32])
    };
    let (provider, client) = (
        TestNode::with(options(1)).await,
        TestNode::with(options(2)).await,
    );
    let (_, model) = head(1000, 1);
    provider
        .network
        .set_offers(vec![signed(&provider, model, 1)])
        .await;
    let finds = async |node: &TestNode| {
        let known = within("the neighbour's offer", async {
            loop {
                let mut found = node.network.find_offers(Some(model.digest), 1).await;
                if let Some(known) = found.recv().await {
                    return known;
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        });
        assert_eq!(known.await.offer.peer, provider.id());
    };
    finds(&client).await;
    // Whoever of the two heard the other first dialled it.
    let of_lan = |node: &TestNode| {
        let status = node.network.status();
        let sources = status.borrow().sources.clone();
        sources
            .into_iter()
            .find(|one| one.source == Source::Lan)
            .unwrap()
    };
    within("the credit", async {
        while of_lan(&client).found + of_lan(&provider).found == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(of_lan(&client).enabled);
    // Who only asks hears them all but its own other self, and tells nobody where it is.
    let asker = TestNode::with(NetworkOptions {
        role: Role::Asking,
        ..options(3)
    })
    .await;
    finds(&asker).await;
    assert!(of_lan(&asker).enabled);
    within("the credit of who only asks", async {
        while of_lan(&asker).found == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    let of_the_client = TestNode::with(NetworkOptions {
        role: Role::Asking,
        other_self: Some(client.id()),
        ..options(4)
    })
    .await;
    finds(&of_the_client).await;
    let met = of_the_client.network.status().borrow().peers.clone();
    assert!(met.iter().all(|peer| peer.peer == provider.id()), "{met:?}");
    let heard = [&provider, &client].map(|node| of_lan(node).tried);
    assert!(heard.iter().all(|tried| *tried <= 1), "{heard:?}");
}

#[tokio::test]
#[ignore = "runs inside the namespace that the other test makes"]
async fn inside_with_a_stranger() {
    assert!(std::env::var_os(INSIDE).is_some(), "only inside");
    let tcp = |at: &str| format!("/ip4/{at}/tcp/0");
    let (_, model) = head(1000, 1);
    let provider = TestNode::listening(1, &[&tcp(HOME)]).await;
    provider
        .network
        .set_offers(vec![signed(&provider, model, 1)])
        .await;
    let at = provider.addresses[0].parse().unwrap();
    let kept = records(&provider, &model.digest, at);
    let neighbour = Router::that_keeps(&tcp(HOME), kept, &[]).await;
    let node = TestNode::listening(2, &[&tcp(HOME), &tcp(FAR)]).await;
    node.network.connect(&neighbour.address).await.unwrap();
    // Through the node the neighbour is found, who knows the provider.
    let finds = async |seed| {
        let asker = TestNode::dialing(seed).await;
        let of_home = |at: &&String| at.contains(HOME);
        let home = node.addresses.iter().find(of_home).unwrap();
        asker.network.connect(home).await.unwrap();
        within("the end", providers_of(&asker.network, &model.digest)).await
    };
    assert_eq!(finds(3).await, [provider.id()]);

    let stranger = TestNode::dialing(4).await;
    let from_far = |at: &&String| at.contains(FAR);
    let far = node.addresses.iter().find(from_far).unwrap();
    stranger.network.connect(far).await.unwrap();
    let is_there = |status: &NetworkStatus| {
        let mut peers = status.peers.iter();
        peers.any(|peer| peer.peer == stranger.id())
    };
    node.until("the stranger", is_there).await;
    stranger.network.shutdown().await;
    node.until("its going", |status| !is_there(status)).await;
    assert_eq!(finds(5).await, [provider.id()]);
}
