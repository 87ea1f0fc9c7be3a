//! Where first peers come from: each source alone is enough, and without any of them a known address still works.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use common::{QUIC, TCP, TestNode, head, providers_of, signed, unix_ms, within};
use hickory_proto::{
    op::{Message, MessageType, OpCode},
    rr::{RData, Record, rdata::TXT},
};
use mainline::Testnet;
use network::{
    BuiltIn, Mainline, NetworkOptions, NetworkStatus, PeerList, Source, SourceStatus, Sources,
};
use protocol::{ModelDigest, NetworkId, Signer};

/// A provider, and the model that it offers.
async fn provider(seed: u8, listen: &str) -> (TestNode, ModelDigest) {
    let provider = TestNode::listening(seed, &[listen]).await;
    let (_, model) = head(1000, seed);
    provider
        .network
        .set_offers(vec![signed(&provider, model, 1)])
        .await;
    (provider, model.digest)
}

async fn client(seed: u8, sources: Sources) -> TestNode {
    TestNode::with(NetworkOptions {
        sources,
        ..NetworkOptions::new([seed; 32])
    })
    .await
}

/// The client knows nobody but through its one source: what it asks for at once is found, and the source has the credit.
async fn finds(client: &TestNode, provider: &TestNode, model: ModelDigest, source: Source) {
    let mut found = client.network.find_offers(Some(model), 1).await;
    let known = within("the provider's offer", found.recv())
        .await
        .expect("an offer");
    assert_eq!(
        (known.offer.peer, known.offer.model.digest),
        (provider.id(), model)
    );
    assert!(
        within("the end", found.recv()).await.is_none(),
        "one was enough"
    );
    let status = client
        .until("the source's credit", |status| of(status, source).found > 0)
        .await;
    for other in Source::ALL {
        let status = of(&status, other);
        if other == source {
            assert!(
                status.enabled && status.tried >= status.found && status.last_ok_unix_ms.is_some()
            );
        } else {
            assert_eq!(
                (status.enabled, status.tried, status.found),
                (false, 0, 0),
                "{other:?}"
            );
        }
    }
}

fn of(status: &NetworkStatus, source: Source) -> &SourceStatus {
    status
        .sources
        .iter()
        .find(|one| one.source == source)
        .expect("all six")
}

#[tokio::test]
async fn the_book_of_yesterday_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peers.json");
    let with_book = |seed| {
        let book = Some(path.clone());
        client(
            seed,
            Sources {
                book,
                ..Sources::default()
            },
        )
    };
    let (provider, model) = provider(1, QUIC).await;
    let yesterday = with_book(2).await;
    yesterday.connect(&provider).await;
    yesterday.network.shutdown().await;
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .contains(&provider.id().to_string())
    );

    let today = with_book(2).await;
    finds(&today, &provider, model, Source::Book).await;
}

#[tokio::test]
async fn a_book_of_garbage_is_put_aside_and_the_node_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peers.json");
    std::fs::write(&path, b"\xff garbage").unwrap();
    let (provider, model) = provider(3, TCP).await;
    let book = Some(path.clone());
    let node = client(
        4,
        Sources {
            book,
            ..Sources::default()
        },
    )
    .await;
    let status = node
        .until("the problem", |status| {
            of(status, Source::Book).problem.is_some()
        })
        .await;
    assert!(
        of(&status, Source::Book)
            .problem
            .as_ref()
            .unwrap()
            .contains("put aside")
    );
    node.connect(&provider).await;
    assert_eq!(providers_of(&node.network, &model).await, [provider.id()]);
    node.network.shutdown().await;
    assert_eq!(
        std::fs::read(folder.path().join("peers.json.unreadable")).unwrap(),
        b"\xff garbage"
    );
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .contains(&provider.id().to_string())
    );
}

#[tokio::test]
async fn the_built_in_list_is_enough() {
    let (provider, model) = provider(5, QUIC).await;
    let maker = Signer::from_seed([50; 32]);
    let node = client(6, built_in(&provider, &maker, &maker, 3600)).await;
    finds(&node, &provider, model, Source::BuiltIn).await;
}

#[tokio::test]
async fn a_list_that_is_over_or_of_somebody_else_brings_nobody_and_says_why() {
    let (provider, _) = provider(7, QUIC).await;
    let (maker, thief) = (Signer::from_seed([51; 32]), Signer::from_seed([52; 32]));
    for (sources, why) in [
        (built_in(&provider, &maker, &maker, -1), "ended"),
        (built_in(&provider, &maker, &thief, 3600), "not signed"),
    ] {
        let node = client(8, sources).await;
        let status = node
            .until("the problem", |status| {
                of(status, Source::BuiltIn).problem.is_some()
            })
            .await;
        let status = of(&status, Source::BuiltIn);
        assert!(
            status.problem.as_ref().unwrap().contains(why),
            "{:?}",
            status.problem
        );
        assert_eq!(status.tried, 0);
    }
}

fn built_in(provider: &TestNode, maker: &Signer, signer: &Signer, seconds: i64) -> Sources {
    let now = unix_ms() / 1000;
    let list = PeerList {
        network: NetworkId::MAIN,
        serial: 1,
        issued_unix_s: now - 10,
        expires_unix_s: now.saturating_add_signed(seconds),
        next: None,
        peers: vec![provider.addresses[0].clone()],
    };
    let built_in = BuiltIn {
        list: list.sign(signer).into(),
        maker: maker.peer_id(),
    };
    Sources {
        built_in: Some(built_in),
        ..Sources::default()
    }
}

#[tokio::test]
async fn a_name_is_enough_also_one_that_leads_to_another() {
    let (provider, model) = provider(9, TCP).await;
    let address = provider.addresses[0].clone();
    let server = name_server(move |name| match name {
        "_dnsaddr.first.test." => vec![
            "v=spf1 -all".to_owned(),
            "dnsaddr=/dnsaddr/second.test".to_owned(),
            // Round and round.
            "dnsaddr=/dnsaddr/first.test".to_owned(),
        ],
        "_dnsaddr.second.test." => vec![format!("dnsaddr={address}")],
        _ => Vec::new(),
    })
    .await;
    let sources = Sources {
        dnsaddr: vec!["first.test".to_owned()],
        dns_server: Some(server),
        ..Sources::default()
    };
    finds(
        &client(10, sources).await,
        &provider,
        model,
        Source::Dnsaddr,
    )
    .await;
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_said() {
    let server = name_server(|_| Vec::new()).await;
    let sources = Sources {
        dnsaddr: vec!["nobody.test".to_owned()],
        dns_server: Some(server),
        ..Sources::default()
    };
    let node = client(11, sources).await;
    let status = node
        .until("the problem", |status| {
            of(status, Source::Dnsaddr).problem.is_some()
        })
        .await;
    assert!(
        of(&status, Source::Dnsaddr)
            .problem
            .as_ref()
            .unwrap()
            .contains("nobody.test")
    );
}

/// A name server on the loopback that answers questions for TXT records.
async fn name_server(answers: impl Fn(&str) -> Vec<String> + Send + 'static) -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let request = Message::from_vec(&buffer[..len]).unwrap();
            let mut reply = Message::new(request.id, MessageType::Response, OpCode::Query);
            let query = request.queries[0].clone();
            for text in answers(&query.name().to_string()) {
                let data = RData::TXT(TXT::new(vec![text]));
                reply.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            }
            reply.add_query(query);
            socket
                .send_to(&reply.to_vec().unwrap(), from)
                .await
                .unwrap();
        }
    });
    at
}

#[tokio::test]
async fn an_invitation_is_enough() {
    let (provider, model) = provider(12, QUIC).await;
    let node = TestNode::with(NetworkOptions {
        known_peers: vec![provider.addresses[0].clone()],
        ..NetworkOptions::new([13; 32])
    })
    .await;
    finds(&node, &provider, model, Source::Invited).await;
}

#[tokio::test]
async fn mainline_is_enough_and_off_it_makes_no_difference() {
    let dht = tokio::task::spawn_blocking(|| {
        Testnet::builder(8)
            .bind_address(Ipv4Addr::LOCALHOST)
            .build()
            .unwrap()
    })
    .await
    .unwrap();
    let bootstrap: Vec<SocketAddr> = dht.bootstrap.iter().map(|at| at.parse().unwrap()).collect();
    let mainline = || Mainline::On {
        bootstrap: Some(bootstrap.clone()),
    };

    let provider = TestNode::with(NetworkOptions {
        listen: vec![QUIC.to_owned()],
        sources: Sources {
            mainline: mainline(),
            ..Sources::default()
        },
        ..NetworkOptions::new([14; 32])
    })
    .await;
    let (_, model) = head(1000, 14);
    provider
        .network
        .set_offers(vec![signed(&provider, model, 1)])
        .await;

    let node = client(
        15,
        Sources {
            mainline: mainline(),
            ..Sources::default()
        },
    )
    .await;
    // Its announcement takes a moment; who looks too early looks again.
    let known = within("the provider's offer", async {
        loop {
            let mut found = node.network.find_offers(Some(model.digest), 1).await;
            if let Some(known) = found.recv().await {
                return known;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    });
    assert_eq!(known.await.offer.peer, provider.id());
    let status = node
        .until("the credit", |status| {
            of(status, Source::Mainline).found > 0
        })
        .await;
    assert!(of(&status, Source::Mainline).enabled);

    let off = client(16, Sources::default()).await;
    assert!(
        within(
            "nobody",
            off.network.find_offers(Some(model.digest), 1).await.recv()
        )
        .await
        .is_none()
    );
    assert_eq!(
        off.network.connect(&provider.addresses[0]).await.unwrap(),
        provider.id()
    );
}

#[tokio::test]
async fn with_no_source_at_all_a_known_address_still_works() {
    let (provider, model) = provider(17, QUIC).await;
    let node = client(18, Sources::default()).await;
    assert!(
        node.network
            .status()
            .borrow()
            .sources
            .iter()
            .all(|source| !source.enabled)
    );
    node.connect(&provider).await;
    let mut found = node.network.find_offers(Some(model), 1).await;
    assert_eq!(
        within("the offer", found.recv()).await.unwrap().offer.peer,
        provider.id()
    );
}

#[tokio::test]
async fn offers_outlive_a_restart_and_one_altered_file_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("offers.bin");
    let with_cache = |seed| {
        let offers = Some(path.clone());
        client(
            seed,
            Sources {
                offers,
                ..Sources::default()
            },
        )
    };
    let (provider, model) = provider(19, TCP).await;
    let before = with_cache(20).await;
    before.connect(&provider).await;
    assert_eq!(providers_of(&before.network, &model).await, [provider.id()]);
    before.network.shutdown().await;

    let after = with_cache(20).await;
    assert_eq!(
        after.network.known_offers().len(),
        1,
        "at once, without a connection"
    );
    let mut found = after.network.find_offers(None, 1).await;
    assert_eq!(
        within("it", found.recv()).await.unwrap().offer.peer,
        provider.id()
    );
    after.network.shutdown().await;

    put_garbage(&path);
    let spoilt = with_cache(20).await;
    assert!(spoilt.network.known_offers().is_empty());
    spoilt.network.shutdown().await;
}

fn put_garbage(path: &Path) {
    let len = std::fs::metadata(path).unwrap().len();
    std::fs::write(path, vec![0xff; len as usize]).unwrap();
}

#[tokio::test]
async fn who_comes_uninvited_does_not_keep_a_node_from_looking_for_others() {
    let (provider, _) = provider(80, QUIC).await;
    let maker = Signer::from_seed([81; 32]);
    let list = PeerList {
        network: NetworkId::MAIN,
        serial: 1,
        issued_unix_s: unix_ms() / 1000,
        expires_unix_s: unix_ms() / 1000 + 600,
        next: None,
        peers: vec![provider.addresses[0].clone()],
    };
    let node = TestNode::with(NetworkOptions {
        listen: vec![QUIC.to_owned()],
        sources: Sources {
            built_in: Some(BuiltIn {
                list: list.sign(&maker).into(),
                maker: maker.peer_id(),
            }),
            ..Sources::default()
        },
        ..NetworkOptions::new([82; 32])
    })
    .await;
    // They are there before the list's turn comes, a second after the start.
    let strangers: Vec<_> = {
        let come = (83..87).map(async |seed| {
            let stranger = TestNode::dialing(seed).await;
            stranger.connect(&node).await;
            stranger
        });
        futures::future::join_all(come).await
    };
    node.until("the list's credit", |status| {
        of(status, Source::BuiltIn).found > 0
    })
    .await;
    assert_eq!(strangers.len(), 4);
}
