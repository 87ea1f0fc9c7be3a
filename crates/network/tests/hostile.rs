//! A peer that speaks libp2p well and our protocols badly: forged, oversized, senseless and missing answers, and floods.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm
)]

mod common;

use std::{collections::VecDeque, io};

use common::{TestNode, head, offer, within};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, identify, noise,
    request_response::{self, Message, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use network::NetworkError;
use prost::Message as _;
use protocol::{
    PeerId, Signer,
    frame::delimit,
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
    let (offers, piece) = within("both to give up", async {
        tokio::join!(
            node.network.offers(&hostile.peer),
            node.network.fetch_head(&hostile.peer, &model)
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
        swarm.listen_on(common::TCP.parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address
                    .with_p2p(*swarm.local_peer_id())
                    .unwrap()
                    .to_string();
            }
        };
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
            offers: request_response::Behaviour::new(
                [(
                    StreamProtocol::new(protocol::offer::PROTOCOL),
                    ProtocolSupport::Full,
                )],
                request_response::Config::default(),
            ),
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
