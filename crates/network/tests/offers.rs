//! Offers: pulled, verified, passed on, withdrawn.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{QUIC, TCP, TestNode, head, offer, signed, unix_ms};
use network::NetworkError;

#[tokio::test]
async fn an_offer_is_pulled_and_verified() {
    let provider = TestNode::listening(1, &[QUIC]).await;
    let client = TestNode::dialing(2).await;
    let (_, model) = head(1000, 1);
    provider
        .network
        .set_offers(vec![signed(&provider, model, 1)])
        .await;
    client.connect(&provider).await;

    let offers = client.network.offers(&provider.id()).await.unwrap();
    assert_eq!(offers.len(), 1);
    assert_eq!((offers[0].peer, offers[0].model), (provider.id(), model));
    let known = client.network.known_offers();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].learned_from, provider.id());
    client
        .until("the offer in the status", |status| {
            status
                .peers
                .iter()
                .any(|peer| peer.offers == [model.digest])
        })
        .await;
    // Asked again: the same offer is no news and no error.
    assert_eq!(client.network.offers(&provider.id()).await.unwrap(), offers);
    assert_eq!(client.network.status().borrow().refusals.offers, 0);
}

#[tokio::test]
async fn connecting_is_enough_to_learn_offers_and_changes_are_told() {
    let provider = TestNode::listening(3, &[TCP]).await;
    let client = TestNode::dialing(4).await;
    let (model, other) = (head(1000, 1).1, head(1000, 2).1);
    provider
        .network
        .set_offers(vec![signed(&provider, model, 1)])
        .await;
    client.connect(&provider).await;
    let offered = async |models: &[protocol::ModelDigest]| {
        client
            .until("the offers", |status| {
                status.peers.iter().any(|peer| peer.offers == models)
            })
            .await;
    };
    offered(&[model.digest]).await;
    provider
        .network
        .set_offers(vec![
            signed(&provider, model, 2),
            signed(&provider, other, 1),
        ])
        .await;
    offered(&[model.digest, other.digest]).await;
    provider
        .network
        .set_offers(vec![signed(&provider, other, 2)])
        .await;
    offered(&[other.digest]).await;
    provider.network.set_offers(Vec::new()).await;
    offered(&[]).await;
    assert!(client.network.known_offers().is_empty());
    // Off and on again with the same bytes.
    provider
        .network
        .set_offers(vec![signed(&provider, other, 2)])
        .await;
    offered(&[other.digest]).await;
}

#[tokio::test]
async fn changes_that_come_faster_than_peers_grant_are_told_later_and_offend_nobody() {
    let provider = TestNode::listening(50, &[QUIC]).await;
    let client = TestNode::dialing(51).await;
    client.connect(&provider).await;
    let model = head(1000, 1).1;
    // Four times what a peer may say at once.
    const LAST: u64 = 40;
    for seq in 1..=LAST {
        let offers = vec![signed(&provider, model, seq)];
        provider.network.set_offers(offers).await;
    }
    common::within("the last one", async {
        let newest = || {
            let known = client.network.known_offers();
            known.first().map(|known| known.offer.seq)
        };
        while newest() != Some(LAST) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    for node in [&provider, &client] {
        let refused = node.network.status().borrow().refusals;
        assert_eq!(refused, network::Refusals::default());
    }
}

#[tokio::test]
async fn switching_off_withdraws_what_was_offered() {
    let provider = TestNode::listening(5, &[QUIC]).await;
    let client = TestNode::dialing(6).await;
    let (_, model) = head(1000, 1);
    provider
        .network
        .set_offers(vec![signed(&provider, model, 1)])
        .await;
    client.connect(&provider).await;
    client
        .until("the offer", |status| {
            status.peers.iter().any(|peer| !peer.offers.is_empty())
        })
        .await;
    provider
        .network
        .set_listening(Vec::new(), false)
        .await
        .unwrap();
    client
        .until("the withdrawal", |status| {
            status.peers.iter().all(|peer| peer.offers.is_empty())
        })
        .await;
    assert!(client.network.known_offers().is_empty());
}

#[tokio::test]
async fn what_is_not_ours_or_not_valid_is_not_published() {
    let provider = TestNode::listening(7, &[QUIC]).await;
    let client = TestNode::dialing(8).await;
    let (_, model) = head(1000, 1);
    let mut over = offer(provider.id(), model, 1);
    (over.issued_unix_ms, over.expires_unix_ms) = (unix_ms() - 10_000, unix_ms() - 1000);
    let mut forged = signed(&provider, model, 1);
    forged.sig = vec![0; 64].into();
    provider
        .network
        .set_offers(vec![
            over.sign(&provider.signer),
            forged,
            signed(&client, model, 1),
        ])
        .await;
    client.connect(&provider).await;
    assert_eq!(client.network.offers(&provider.id()).await.unwrap(), []);
}

#[tokio::test]
async fn offers_of_others_are_passed_on_and_do_not_outlive_their_withdrawal() {
    let provider = TestNode::listening(9, &[QUIC]).await;
    let relay = TestNode::listening(10, &[QUIC]).await;
    let client = TestNode::dialing(11).await;
    let (_, model) = head(1000, 1);
    let mut own = offer(provider.id(), model, 1);
    let address: libp2p::Multiaddr = provider.addresses[0].parse().unwrap();
    own.addrs = vec![address.to_vec().into()];
    provider
        .network
        .set_offers(vec![own.sign(&provider.signer)])
        .await;
    relay.connect(&provider).await;
    relay
        .until("the offer", |status| {
            status.peers.iter().any(|peer| !peer.offers.is_empty())
        })
        .await;

    client.connect(&relay).await;
    assert_eq!(
        client.network.offers(&relay.id()).await.unwrap(),
        [],
        "it offers nothing itself"
    );
    let known = client.network.known_offers();
    assert_eq!(known.len(), 1);
    assert_eq!(
        (known[0].offer.peer, known[0].learned_from),
        (provider.id(), relay.id())
    );
    // The offer's address is enough to find its provider by id.
    let stranger = protocol::Signer::from_seed([99; 32]).peer_id();
    let asked = vec![stranger, relay.id(), provider.id()];
    assert_eq!(
        client.network.within_reach(asked).await,
        [relay.id(), provider.id()]
    );
    assert_eq!(
        client
            .network
            .connect(&provider.id().to_string())
            .await
            .unwrap(),
        provider.id()
    );
    assert_eq!(
        client.network.offers(&provider.id()).await.unwrap().len(),
        1
    );

    client
        .until("the offer", |status| {
            status.peers.iter().any(|peer| !peer.offers.is_empty())
        })
        .await;

    // The relay loses touch and still passes on what it knows; the client knows better.
    relay.network.disconnect(&provider.id()).await;
    provider.network.set_offers(Vec::new()).await;
    client
        .until("the withdrawal", |status| {
            status.peers.iter().all(|peer| peer.offers.is_empty())
        })
        .await;
    client.network.offers(&relay.id()).await.unwrap();
    assert!(client.network.known_offers().is_empty());
}

#[tokio::test]
async fn a_peer_that_is_not_connected_is_not_asked() {
    let client = TestNode::dialing(12).await;
    let stranger = protocol::Signer::from_seed([99; 32]).peer_id();
    assert!(matches!(
        client.network.offers(&stranger).await,
        Err(NetworkError::NotConnected { .. })
    ));
}

#[tokio::test]
async fn a_search_finds_through_a_relay_and_then_in_the_cache() {
    let provider = TestNode::listening(20, &[QUIC]).await;
    let relay = TestNode::listening(21, &[QUIC]).await;
    let client = TestNode::dialing(22).await;
    let (model, other) = (head(1000, 1).1, head(1000, 2).1);
    provider
        .network
        .set_offers(vec![
            signed(&provider, model, 1),
            signed(&provider, other, 1),
        ])
        .await;
    relay.connect(&provider).await;
    relay
        .until("the offers", |status| {
            status.peers.iter().any(|peer| peer.offers.len() == 2)
        })
        .await;
    client.connect(&relay).await;
    let mut found = client.network.find_offers(Some(model.digest), 8).await;
    let first = common::within("an offer", found.recv()).await.unwrap();
    assert_eq!(
        (first.offer.peer, first.offer.model),
        (provider.id(), model)
    );
    assert!(
        common::within("the end", found.recv()).await.is_none(),
        "each once, and only the model asked for"
    );
    // What is known is there at once, also when nobody answers any more.
    relay.network.shutdown().await;
    provider.network.shutdown().await;
    let mut known = client.network.find_offers(Some(model.digest), 1).await;
    assert_eq!(
        common::within("the known one", known.recv())
            .await
            .unwrap()
            .offer
            .peer,
        provider.id()
    );
}
