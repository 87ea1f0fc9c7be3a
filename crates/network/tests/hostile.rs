//! A peer that speaks libp2p well and our protocols badly: forged, oversized, senseless and missing answers, and floods.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm
)]

mod common;

use std::{collections::VecDeque, io, time::Duration};

use common::{QUIC, TCP, TestNode, head, offer, open, ping, within};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, StreamProtocol, Swarm, SwarmBuilder, identify, noise, ping as pings, relay,
    request_response::{self, Message, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use network::{NetworkError, ReadError};
use prost::Message as _;
use protocol::{
    PeerId, Signer,
    frame::{Cap, Frame, Tokens, delimit},
    offer::{OffersRequest, OffersResponse, SignedEnvelope},
};
use tokio::sync::mpsc;

#[tokio::test]
async fn forged_offers_are_dropped_and_counted() {
    let honest = Signer::from_seed([50; 32]);
    let (_, model) = head(1000, 1);
    let good = offer(honest.peer_id(), model, 5).sign(&honest);
    let mut other_key = good.clone();
    other_key.peer_id = Signer::from_seed([51; 32])
        .peer_id()
        .as_bytes()
        .to_vec()
        .into();
    let mut other_bytes = good.clone();
    other_bytes.payload = offer(honest.peer_id(), model, 6).sign(&honest).payload;
    // Signed well, by somebody else than it speaks for.
    let thief = Signer::from_seed([52; 32]);
    let stolen = SignedEnvelope {
        sig: thief
            .sign(protocol::offer::DOMAIN, &good.payload)
            .to_vec()
            .into(),
        peer_id: thief.peer_id().as_bytes().to_vec().into(),
        ..good.clone()
    };
    let answer = reply(vec![other_key, other_bytes, stolen, good.clone()]);

    let node = TestNode::dialing(1).await;
    let hostile = Hostile::start(2, vec![answer]).await;
    node.network.connect(&hostile.address).await.unwrap();
    let status = node
        .until("the refusals", |status| status.refusals.offers == 3)
        .await;
    assert_eq!(status.refusals.violations, 1, "once per answer");
    let known = node.network.known_offers();
    assert_eq!(known.len(), 1);
    assert_eq!(
        (known[0].offer.peer, known[0].offer.seq),
        (honest.peer_id(), 5)
    );
    assert_eq!(known[0].envelope, good);
}

#[tokio::test]
async fn an_older_offer_does_not_take_the_place_of_a_newer() {
    let provider = Signer::from_seed([60; 32]);
    let (_, model) = head(1000, 1);
    let with_seq = |seq| offer(provider.peer_id(), model, seq).sign(&provider);
    let node = TestNode::dialing(3).await;
    let hostile = Hostile::start(4, vec![reply(vec![with_seq(7)]), reply(vec![with_seq(6)])]).await;
    node.network.connect(&hostile.address).await.unwrap();
    // The node asks by itself as soon as the two know each other, and is told the newer one; only then the other is asked for.
    within("the newer one", async {
        while node.network.known_offers().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    node.network.offers(&hostile.peer).await.unwrap();
    let known = node
        .until("the refusal", |status| status.refusals.offers == 1)
        .await;
    assert_eq!(
        known.refusals.violations, 0,
        "others' clocks and caches are no crime"
    );
    assert_eq!(node.network.known_offers()[0].offer.seq, 7);
}

#[tokio::test]
async fn an_offer_that_is_over_is_not_kept() {
    let provider = Signer::from_seed([61; 32]);
    let (_, model) = head(1000, 1);
    let mut over = offer(provider.peer_id(), model, 1);
    over.issued_unix_ms -= 120_000;
    over.expires_unix_ms -= 120_000;
    let node = TestNode::dialing(5).await;
    let hostile = Hostile::start(6, vec![reply(vec![over.sign(&provider)])]).await;
    node.network.connect(&hostile.address).await.unwrap();
    node.until("the refusal", |status| status.refusals.offers == 1)
        .await;
    assert!(node.network.known_offers().is_empty());
}

#[tokio::test]
async fn a_peer_with_another_time_is_no_offender_and_tells_how_far_the_clocks_are_apart() {
    const APART_MS: u64 = 23 * 60 * 60 * 1000;
    let (_, model) = head(1000, 1);
    let node = TestNode::dialing(7).await;
    for seed in [8, 9, 10] {
        let signer = Signer::from_seed([seed; 32]);
        let mut theirs = offer(signer.peer_id(), model, 1);
        theirs.issued_unix_ms += APART_MS;
        theirs.expires_unix_ms += APART_MS;
        let hostile = Hostile::start(seed, vec![reply(vec![theirs.sign(&signer)])]).await;
        node.network.connect(&hostile.address).await.unwrap();
    }
    let status = node
        .until("what three say", |status| status.clocks.peers == 3)
        .await;
    let behind = -status.clocks.ahead_ms.unwrap();
    assert!(behind.abs_diff(APART_MS as i64) < 60_000, "{behind}");
    assert_eq!((status.refusals.offers, status.refusals.violations), (3, 0));
    assert!(node.network.known_offers().is_empty());
}

#[tokio::test]
async fn three_senseless_answers_are_a_ban() {
    let oversized = delimit(&vec![0; protocol::offer::MAX_REPLY + 1]).to_vec();
    let senseless = delimit(b"\xff\xff\xff").to_vec();
    let endless = vec![0xff; 100];
    let node = TestNode::dialing(7).await;
    let hostile = Hostile::start(8, vec![oversized, senseless, endless]).await;
    node.network.connect(&hostile.address).await.unwrap();
    // The node itself asked once on connecting; each further call asks again.
    for _ in 0..3 {
        let answer = within("an error", node.network.offers(&hostile.peer)).await;
        assert!(
            matches!(
                answer,
                Err(NetworkError::Malformed { .. }
                    | NetworkError::Broken { .. }
                    | NetworkError::NotConnected { .. })
            ),
            "{answer:?}"
        );
    }
    let status = node
        .until("the ban", |status| !status.banned.is_empty())
        .await;
    assert_eq!(
        (status.banned, status.refusals.violations),
        (vec![hostile.peer], 3)
    );
    let answer = node.network.connect(&hostile.address).await;
    assert!(
        matches!(answer, Err(NetworkError::Blocked { .. })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_peer_that_never_answers_holds_nobody_up() {
    let (_, model) = head(1000, 1);
    let node = TestNode::dialing(9).await;
    let hostile = Hostile::start(10, Vec::new()).await;
    node.network.connect(&hostile.address).await.unwrap();
    let came = network::HeadProgress::default();
    let (offers, piece) = within("both to give up", async {
        tokio::join!(
            node.network.offers(&hostile.peer),
            node.network.fetch_head(&hostile.peer, &model, &came)
        )
    })
    .await;
    assert!(
        matches!(offers, Err(NetworkError::Timeout { .. })),
        "{offers:?}"
    );
    assert!(
        matches!(piece, Err(NetworkError::Unsupported { .. })),
        "{piece:?}"
    );
}

#[tokio::test]
async fn a_flood_of_requests_is_answered_at_its_rate_and_then_banned() {
    let node = TestNode::listening(11, &[common::TCP]).await;
    let mut hostile = Hostile::start(12, vec![reply(Vec::new()); 200]).await;
    node.network.connect(&hostile.address).await.unwrap();
    // Each claims that something changed, which would make the node ask back each time.
    let request = OffersRequest {
        changed: true,
        ..OffersRequest::default()
    };
    let request = delimit(&request.encode_to_vec()).to_vec();
    let mut answered = 0;
    let banned = node.until("the ban", |status| !status.banned.is_empty());
    let flood = async {
        loop {
            hostile.requests.send(request.clone()).await.unwrap();
            match hostile.outcomes.recv().await {
                Some(true) => answered += 1,
                Some(false) => {}
                None => break,
            }
        }
    };
    let status = tokio::select! {
        status = banned => status,
        () = flood => unreachable!("the hostile peer never stops"),
    };
    assert_eq!(status.banned, [hostile.peer]);
    // The burst, and what the rate allows while the flood lasts.
    assert!((10..60).contains(&answered), "{answered}");
    assert!(status.refusals.requests >= 150, "{:?}", status.refusals);
}

#[tokio::test]
async fn ten_thousand_streams_at_once_hold_up_nobody() {
    const STREAMS: usize = 10_000;
    let mut node = TestNode::listening(20, &[TCP, QUIC]).await;
    let floods: Vec<_> = (0..2)
        .map(|at| tokio::spawn(flood(swarm(21 + at), node.addresses[0].clone(), STREAMS)))
        .collect();
    let honest = TestNode::dialing(23).await;
    // As often as an honest peer may at once.
    for _ in 0..8 {
        honest.connect(&node).await;
        let (mut from_node, to_node) = honest.network.open_job(&node.id()).await.unwrap().split();
        to_node.send(&open(10)).unwrap();
        let (mut from_honest, to_honest) = node.next_job().await.split();
        within("the first frame", from_honest.open()).await.unwrap();
        to_honest.send(&ping(1)).unwrap();
        let answer = within("an answer", from_node.next(Cap::Provider)).await;
        assert_eq!(answer.unwrap(), ping(1));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for flood in floods {
        let answered = within("the end of the flood", flood).await.unwrap();
        // What the rate allows at once, and while it lasts.
        assert!(answered <= 60, "{answered} of {STREAMS}");
    }
    // Nothing of it is left behind.
    node.until("the honest peer alone", |status| {
        status.peers.iter().all(|peer| peer.peer == honest.id())
    })
    .await;
}

/// Opens so many streams as soon as it is connected, and goes when it was thrown out or ten seconds later. Returns how many were
/// answered.
async fn flood(mut swarm: Swarm<Behaviour>, to: String, streams: usize) -> usize {
    swarm.dial(to.parse::<Multiaddr>().unwrap()).unwrap();
    let mut answered = 0;
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while let Ok(event) = tokio::time::timeout_at(until, swarm.select_next_some()).await {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                let request = delimit(&OffersRequest::default().encode_to_vec()).to_vec();
                for _ in 0..streams {
                    let offers = &mut swarm.behaviour_mut().offers;
                    offers.send_request(&peer_id, request.clone());
                }
            }
            SwarmEvent::ConnectionClosed { .. } => break,
            SwarmEvent::Behaviour(BehaviourEvent::Offers(request_response::Event::Message {
                message: Message::Response { .. },
                ..
            })) => answered += 1,
            _ => {}
        }
    }
    answered
}

#[tokio::test]
async fn who_sends_a_first_frame_drop_by_drop_is_not_waited_for() {
    let mut node = TestNode::listening(24, &[QUIC]).await;
    let slow = TestNode::dialing(25).await;
    slow.connect(&node).await;
    let (_reader, writer) = slow.network.open_job(&node.id()).await.unwrap().split();
    // Announces a kilobyte, and sends ten bytes of it a second.
    writer.send_bytes(delimit(&[0; 1024]).slice(0..10)).unwrap();
    let dripping = tokio::spawn(async move {
        while writer.send_bytes(vec![0; 10].into()).is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let (mut reader, _writer) = node.next_job().await.split();
    let answer = within("the end of patience", reader.open()).await;
    assert!(
        matches!(answer, Err(ReadError::TooSlow { after_ms }) if after_ms < 15_000),
        "{answer:?}"
    );
    dripping.abort();
}

#[tokio::test]
async fn who_announces_a_megabyte_and_sends_nothing_is_not_waited_for_any_longer() {
    let mut node = TestNode::listening(32, &[QUIC]).await;
    let silent = TestNode::dialing(33).await;
    silent.connect(&node).await;
    let (_reader, writer) = silent.network.open_job(&node.id()).await.unwrap().split();
    let announced = delimit(&[0; protocol::frame::MAX_OPEN]).slice(0..3);
    writer.send_bytes(announced).unwrap();
    let (mut reader, _writer) = node.next_job().await.split();
    let answer = within("the end of patience", reader.open()).await;
    assert_eq!(answer, Err(ReadError::TooSlow { after_ms: 10_000 }));
}

#[tokio::test]
async fn a_stream_that_is_half_closed_still_brings_the_answer() {
    for (seed, listen) in [(26, QUIC), (28, TCP)] {
        let mut node = TestNode::listening(seed, &[listen]).await;
        let asker = TestNode::dialing(seed + 1).await;
        asker.connect(&node).await;
        let (mut from_node, to_node) = asker.network.open_job(&node.id()).await.unwrap().split();
        to_node.send(&open(10)).unwrap();
        to_node.finish();
        let (mut from_asker, to_asker) = node.next_job().await.split();
        within("the first frame", from_asker.open()).await.unwrap();
        assert_eq!(
            within("its end", from_asker.next(Cap::Client)).await,
            Err(ReadError::Closed)
        );
        for nonce in 0..50 {
            to_asker.send(&ping(nonce)).unwrap();
            let frame = within("the answer", from_node.next(Cap::Provider)).await;
            assert_eq!(frame.unwrap(), ping(nonce));
        }
    }
}

#[tokio::test]
async fn who_claims_our_address_or_none_that_makes_sense_is_still_found_at_its_own() {
    let node = TestNode::listening(30, &[TCP]).await;
    let mut swarm = swarm(31);
    let hostile = Signer::from_seed([31; 32]).peer_id();
    let (ours, _) = node.addresses[0].split_once("/p2p/").unwrap();
    let relay = format!("{ours}/p2p/{}/p2p-circuit", node.id());
    for claimed in [
        ours,
        &relay,
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/0.0.0.0/tcp/4001",
        "/ip4/224.0.0.1/udp/4001/quic-v1",
        "/dns4/localhost/tcp/22",
        "/memory/1",
        "/p2p-circuit",
        "/unix/tmp",
        "/ip4/127.0.0.1/tcp/80/ws",
    ] {
        swarm.add_external_address(claimed.parse().unwrap());
    }
    let address = listen(&mut swarm).await.to_string();
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    node.network.connect(&address).await.unwrap();
    node.until("its introduction", |status| {
        status.peers.iter().any(|peer| peer.agent.is_some())
    })
    .await;
    for _ in 0..3 {
        node.network.disconnect(&hostile).await;
        node.until("its loss", |status| status.peers.is_empty())
            .await;
        // By its id alone: of all that it claimed, only where it was is left.
        let by_id = within("the peer", node.network.connect(&hostile.to_string())).await;
        assert_eq!(by_id.unwrap(), hostile);
    }
    let itself = node
        .network
        .log()
        .into_iter()
        .filter(|event| event.peer == Some(node.id()))
        .count();
    assert_eq!(itself, 0, "it never dialled itself");
}

#[tokio::test]
async fn a_relay_that_cuts_is_noticed_and_the_peer_is_reached_again() {
    let (relay_peer, relay_address) = meagre_relay(32).await;
    let mut provider = TestNode::lab(33, &["/p2p-circuit"], |_| {}).await;
    provider.network.connect(&relay_address).await.unwrap();
    let through = format!("/p2p/{relay_peer}/p2p-circuit/");
    let status = provider
        .until("a place", |status| {
            status.listening.iter().any(|at| at.contains(&through))
        })
        .await;
    let address = &status.listening[0];
    let asker = TestNode::lab(34, &[], |_| {}).await;
    for _ in 0..2 {
        asker.network.connect(address).await.unwrap();
        let (mut from_provider, to_provider) = asker
            .network
            .open_job(&provider.id())
            .await
            .unwrap()
            .split();
        to_provider.send(&open(10)).unwrap();
        let (mut from_asker, to_asker) = provider.next_job().await.split();
        within("the first frame", from_asker.open()).await.unwrap();
        let tokens = Frame::Tokens(Tokens {
            pad: vec![0; 1000].into(),
            ..Tokens::default()
        });
        let mut received = 0;
        let cut = loop {
            // A writer whose connection is gone says so.
            let _ = to_asker.send(&tokens);
            match within("tokens or the cut", from_provider.next(Cap::Provider)).await {
                Ok(_) => received += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(cut, ReadError::Closed);
        assert!((1..=MEAGRE / 1000).contains(&received), "{received}");
        let there = within("the cut over there", from_asker.next(Cap::Client)).await;
        assert_eq!(there, Err(ReadError::Closed));
        asker
            .until("the loss of the peer", |status| {
                !status.peers.iter().any(|peer| peer.peer == provider.id())
            })
            .await;
    }
}

/// Bytes after which the meagre relay cuts, both directions together.
const MEAGRE: usize = 64 << 10;

/// A relay that carries for everybody, and little.
async fn meagre_relay(seed: u8) -> (PeerId, String) {
    #[derive(NetworkBehaviour)]
    struct Behaviour {
        relay: relay::Behaviour,
        ping: pings::Behaviour,
        identify: identify::Behaviour,
        offers: request_response::Behaviour<Raw>,
    }
    let keypair = libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_behaviour(|keypair| Behaviour {
            relay: relay::Behaviour::new(
                keypair.public().to_peer_id(),
                relay::Config {
                    max_circuit_bytes: MEAGRE as u64,
                    ..relay::Config::default()
                },
            ),
            ping: pings::Behaviour::default(),
            identify: identify::Behaviour::new(identify::Config::new(
                "meagre".to_owned(),
                keypair.public(),
            )),
            offers: offers_behaviour(),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(120)))
        .build();
    let address = listen(&mut swarm).await;
    swarm.add_external_address(address.clone());
    let shown = address
        .with_p2p(*swarm.local_peer_id())
        .unwrap()
        .to_string();
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    (Signer::from_seed([seed; 32]).peer_id(), shown)
}

async fn listen<B: NetworkBehaviour>(swarm: &mut Swarm<B>) -> Multiaddr {
    swarm.listen_on(TCP.parse().unwrap()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address;
        }
    }
}

fn offers_behaviour() -> request_response::Behaviour<Raw> {
    request_response::Behaviour::new(
        [(
            StreamProtocol::new(protocol::offer::PROTOCOL),
            ProtocolSupport::Full,
        )],
        request_response::Config::default().with_max_concurrent_streams(20_000),
    )
}

fn reply(offers: Vec<SignedEnvelope>) -> Vec<u8> {
    delimit(&OffersResponse { offers }.encode_to_vec()).to_vec()
}

/// Answers requests for offers with the bytes it was given, one after the other, and then never again.
struct Hostile {
    peer: PeerId,
    address: String,
    requests: mpsc::Sender<Vec<u8>>,
    /// Whether a request was answered.
    outcomes: mpsc::Receiver<bool>,
}

impl Hostile {
    async fn start(seed: u8, answers: Vec<Vec<u8>>) -> Self {
        let mut swarm = swarm(seed);
        let address = listen(&mut swarm).await;
        let address = address
            .with_p2p(*swarm.local_peer_id())
            .unwrap()
            .to_string();
        let (requests, inbox) = mpsc::channel(1);
        let (outcome, outcomes) = mpsc::channel(64);
        tokio::spawn(run(swarm, answers.into(), inbox, outcome));
        Self {
            peer: Signer::from_seed([seed; 32]).peer_id(),
            address,
            requests,
            outcomes,
        }
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    offers: request_response::Behaviour<Raw>,
}

fn swarm(seed: u8) -> Swarm<Behaviour> {
    let keypair = libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
    SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_behaviour(|keypair| Behaviour {
            identify: identify::Behaviour::new(identify::Config::new(
                "hostile".to_owned(),
                keypair.public(),
            )),
            offers: offers_behaviour(),
        })
        .unwrap()
        .build()
}

async fn run(
    mut swarm: Swarm<Behaviour>,
    mut answers: VecDeque<Vec<u8>>,
    mut requests: mpsc::Receiver<Vec<u8>>,
    outcome: mpsc::Sender<bool>,
) {
    let mut peer = None;
    let mut unanswered = Vec::new();
    loop {
        let event = tokio::select! {
            Some(request) = requests.recv() => {
                swarm.behaviour_mut().offers.send_request(&peer.unwrap(), request);
                continue;
            }
            event = swarm.select_next_some() => event,
        };
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => peer = Some(peer_id),
            SwarmEvent::Behaviour(BehaviourEvent::Offers(request_response::Event::Message {
                message,
                ..
            })) => match message {
                Message::Request { channel, .. } => match answers.pop_front() {
                    Some(answer) => {
                        drop(swarm.behaviour_mut().offers.send_response(channel, answer))
                    }
                    None => unanswered.push(channel),
                },
                Message::Response { .. } => {
                    let _ = outcome.try_send(true);
                }
            },
            SwarmEvent::Behaviour(BehaviourEvent::Offers(
                request_response::Event::OutboundFailure { .. },
            )) => {
                let _ = outcome.try_send(false);
            }
            _ => {}
        }
    }
}

/// Writes the bytes as they are.
#[derive(Clone, Default)]
struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        all(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let bytes = all(io).await?;
        if bytes.is_empty() {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(bytes)
        }
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&request).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&response).await
    }
}

async fn all<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.read_to_end(&mut bytes).await?;
    Ok(bytes)
}
