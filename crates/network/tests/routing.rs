//! Kademlia: a provider is found through a third node that both know.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm
)]

mod common;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{
    QUIC, TCP, TestNode, head, providers_of,
    router::{Router, RoutesEvent, records, records_of, routes},
    signed, within,
};
use futures::StreamExt;
use libp2p::{Multiaddr, PeerId, identify, kad, swarm::SwarmEvent};
use protocol::ModelDigest;
use tokio::{io::AsyncReadExt as _, net::TcpListener};

#[tokio::test]
async fn a_provider_is_found_through_a_third_node_over_quic() {
    find(QUIC).await;
}

#[tokio::test]
async fn a_provider_is_found_through_a_third_node_over_tcp() {
    find(TCP).await;
}

async fn find(listen: &str) {
    let third = TestNode::listening(1, &[listen]).await;
    let provider = TestNode::listening(2, &[listen]).await;
    let client = TestNode::dialing(3).await;
    let (_, model) = head(1000, 1);
    // Published before it knows anybody: said again when somebody joins its table.
    provider
        .network
        .set_offers(vec![signed(&provider, model, 1)])
        .await;
    provider.connect(&third).await;
    client.connect(&third).await;

    let found = within("the provider", async {
        loop {
            let found = providers_of(&client.network, &model.digest).await;
            if !found.is_empty() {
                return found;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(found.await, [provider.id()]);
    // Its address came with it.
    assert_eq!(
        within(
            "the connection",
            client.network.connect(&provider.id().to_string())
        )
        .await
        .unwrap(),
        provider.id()
    );
    assert_eq!(
        client.network.offers(&provider.id()).await.unwrap().len(),
        1
    );

    let unknown = ModelDigest::new([0xaa; 32]);
    assert_eq!(
        within("nobody", providers_of(&client.network, &unknown)).await,
        []
    );
}

#[tokio::test]
async fn alone_in_the_world_a_search_ends() {
    let node = TestNode::dialing(4).await;
    assert_eq!(
        within(
            "nobody",
            providers_of(&node.network, &ModelDigest::new([1; 32]))
        )
        .await,
        []
    );
}

#[tokio::test]
async fn the_table_alone_finds_all_providers_of_all_shards_over_tcp() {
    table_alone(TCP).await;
}

#[tokio::test]
async fn the_table_alone_finds_all_providers_of_all_shards_over_quic() {
    table_alone(QUIC).await;
}

async fn table_alone(listen: &str) {
    // Knows no offers, so that nothing but the table can lead to the providers.
    let router = Router::start(listen).await;
    let (_, model) = head(1000, 1);
    let mut providers = Vec::new();
    for seed in 20..32 {
        let provider = TestNode::listening(seed, &[listen]).await;
        provider
            .network
            .set_offers(vec![signed(&provider, model, 1)])
            .await;
        provider.network.connect(&router.address).await.unwrap();
        providers.push(provider);
    }
    let ids: BTreeSet<_> = providers.iter().map(TestNode::id).collect();
    let client = TestNode::dialing(40).await;
    client.network.connect(&router.address).await.unwrap();
    // Their records reach the router a moment after they connect, so one who looks too early looks again.
    for wanted in [Some(model.digest), None] {
        within("all of them", async {
            loop {
                let mut found = BTreeSet::new();
                let mut offers = client.network.find_offers(wanted, ids.len()).await;
                while let Some(known) = offers.recv().await {
                    assert!(found.insert(known.offer.peer), "each once");
                }
                if found == ids {
                    return;
                }
            }
        })
        .await;
    }
    let one = within("one of twelve", async {
        let mut offers = client.network.find_offers(None, 1).await;
        (offers.recv().await, offers.recv().await)
    });
    let (one, more) = one.await;
    assert!(one.is_some() && more.is_none(), "enough is enough");
    let unknown = ModelDigest::new([0xaa; 32]);
    let mut nobody = client.network.find_offers(Some(unknown), 1).await;
    assert!(within("the end", nobody.recv()).await.is_none());
}

#[tokio::test]
async fn who_names_a_provider_first_where_it_is_not_hides_it_from_nobody() {
    let (_, model) = head(1000, 1);
    // One that takes connections and says nothing until who dialled gives up, and a port at which nobody is.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wrong = [&silent, &nobody].map(|at| at.local_addr().unwrap().port());
    let nobodys = wrong[1];
    drop(nobody);
    let (given_up, seen) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
    let flag = Arc::clone(&given_up);
    let dialled = async {
        let (mut stream, _) = silent.accept().await.unwrap();
        seen.store(true, Ordering::Release);
        while let Ok(1..) = stream.read(&mut [0; 64]).await {}
        flag.store(true, Ordering::Release);
        std::future::pending::<()>().await;
    };
    let finds = async {
        for (seed, wrong) in (60..).zip(wrong) {
            let provider = TestNode::listening(seed, &[TCP]).await;
            provider
                .network
                .set_offers(vec![signed(&provider, model, 1)])
                .await;
            let at: Multiaddr = provider.addresses[0].parse().unwrap();
            let elsewhere = format!("/ip4/127.0.0.1/tcp/{wrong}").parse().unwrap();
            // The one who tells the truth is heard of through the one who lies, and so after it.
            let honest = Router::that_keeps(TCP, records(&provider, &model.digest, at), &[]).await;
            let lies = records(&provider, &model.digest, elsewhere);
            let liar = Router::that_keeps(TCP, lies, &[&honest]).await;
            let client = TestNode::dialing(seed + 10).await;
            client.network.connect(&liar.address).await.unwrap();
            let mut found = client.network.find_offers(Some(model.digest), 1).await;
            let offer = within("the provider", found.recv()).await.unwrap().offer;
            assert_eq!(offer.peer, provider.id());
            let waited = given_up.load(Ordering::Acquire) || !seen.load(Ordering::Acquire);
            assert!(
                wrong == nobodys || !waited,
                "nobody waits for the wrong address to fail"
            );
        }
    };
    tokio::select! {
        () = finds => {}
        () = dialled => unreachable!("it never ends"),
    }
}

#[tokio::test]
async fn who_names_many_where_nobody_answers_keeps_no_search_from_a_provider() {
    let (_, model) = head(1000, 1);
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere: Multiaddr =
        format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port())
            .parse()
            .unwrap();
    let given_up = AtomicBool::new(false);
    let dialled = async {
        let (mut stream, _) = silent.accept().await.unwrap();
        while let Ok(1..) = stream.read(&mut [0; 64]).await {}
        given_up.store(true, Ordering::Release);
        std::future::pending::<()>().await;
    };
    let finds = async {
        let provider = TestNode::listening(80, &[TCP]).await;
        let offers = vec![signed(&provider, model, 1)];
        provider.network.set_offers(offers).await;
        let at: Multiaddr = provider.addresses[0].parse().unwrap();
        let honest = Router::that_keeps(TCP, records(&provider, &model.digest, at), &[]).await;
        // As many as one search dials at a time, and the provider is one of them.
        let mut lies = records(&provider, &model.digest, elsewhere.clone());
        for _ in 1..16 {
            lies.extend(records_of(
                PeerId::random(),
                &model.digest,
                elsewhere.clone(),
            ));
        }
        let liar = Router::that_keeps(TCP, lies, &[&honest]).await;
        let client = TestNode::dialing(81).await;
        client.network.connect(&liar.address).await.unwrap();
        let mut found = client.network.find_offers(Some(model.digest), 1).await;
        let offer = within("the provider", found.recv()).await.unwrap().offer;
        assert_eq!(offer.peer, provider.id());
        assert!(!given_up.load(Ordering::Acquire), "no dial had to end");
    };
    tokio::select! {
        () = finds => {}
        () = dialled => unreachable!("it never ends"),
    }
}

#[tokio::test]
async fn searches_that_nobody_waits_for_make_room() {
    let (node, provider) = (
        TestNode::dialing(5).await,
        TestNode::listening(6, &[QUIC]).await,
    );
    let (_, model) = head(1000, 1);
    provider
        .network
        .set_offers(vec![signed(&provider, model, 1)])
        .await;
    node.connect(&provider).await;
    for seed in 0..100 {
        drop(
            node.network
                .find_offers(Some(ModelDigest::new([seed; 32])), 1)
                .await,
        );
    }
    let mut found = node.network.find_offers(Some(model.digest), 1).await;
    assert_eq!(
        within("the offer", found.recv()).await.unwrap().offer.peer,
        provider.id()
    );
}

#[tokio::test]
async fn who_asks_the_table_without_end_loses_its_connection() {
    let node = TestNode::listening(50, &[TCP]).await;
    let address: Multiaddr = node.addresses[0].parse().unwrap();
    let mut asker = routes();
    asker.dial(address.clone()).unwrap();
    let mut answered = 0;
    within("the end of the connection", async {
        loop {
            match asker.select_next_some().await {
                SwarmEvent::Behaviour(RoutesEvent::Identify(identify::Event::Received {
                    peer_id,
                    ..
                })) => {
                    let kad = &mut asker.behaviour_mut().kad;
                    kad.add_address(&peer_id, address.clone());
                    for _ in 0..8 {
                        kad.get_closest_peers(PeerId::random());
                    }
                }
                SwarmEvent::Behaviour(RoutesEvent::Kad(kad::Event::OutboundQueryProgressed {
                    stats,
                    step,
                    ..
                })) if step.last => {
                    answered += stats.num_successes();
                    let kad = &mut asker.behaviour_mut().kad;
                    kad.get_closest_peers(PeerId::random());
                }
                SwarmEvent::ConnectionClosed { .. } => return,
                _ => {}
            }
        }
    })
    .await;
    assert!(answered >= 80, "only {answered} were answered");
    let refused = node.until("what was refused", |status| status.refusals.requests > 0);
    refused.await;
    // Others are served as before.
    let client = TestNode::dialing(51).await;
    client.connect(&node).await;
    let unknown = ModelDigest::new([1; 32]);
    let nobody = providers_of(&client.network, &unknown);
    assert_eq!(within("nobody", nobody).await, []);
}
