//! Nodes on 127.0.0.1, and what they offer. Packets never leave the loopback.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod router;
pub mod way;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use network::{Inbound, JobStream, Network, NetworkOptions, NetworkStatus, ReachPolicy};
use protocol::{
    HeadDigest, ModelDigest, ModelRef, NetworkId, PeerId, Signer,
    frame::{Frame, Open, Ping},
    offer::{Offer, SignedEnvelope},
    price::Prices,
};
use sha2::{Digest, Sha256};

pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// Not a time that is asserted: a test that waits longer hangs, and says where.
const HANG: Duration = Duration::from_secs(60);

pub struct TestNode {
    pub network: Network,
    pub inbound: Inbound,
    pub signer: Signer,
    /// Addresses to dial, with the peer id.
    pub addresses: Vec<String>,
}

impl TestNode {
    pub async fn listening(seed: u8, listen: &[&str]) -> Self {
        let options = NetworkOptions {
            listen: listen.iter().map(|&text| text.to_owned()).collect(),
            ..NetworkOptions::new([seed; 32])
        };
        Self::with(options).await
    }

    /// A node that only dials.
    pub async fn dialing(seed: u8) -> Self {
        Self::listening(seed, &[]).await
    }

    pub async fn with(options: NetworkOptions) -> Self {
        let signer = Signer::from_seed(options.signer_seed);
        let (network, inbound) = Network::start(options).await.unwrap();
        assert_eq!(network.peer_id(), signer.peer_id());
        let addresses = network.status().borrow().listening.clone();
        Self {
            network,
            inbound,
            signer,
            addresses,
        }
    }

    pub fn id(&self) -> PeerId {
        self.network.peer_id()
    }

    pub async fn connect(&self, to: &Self) {
        assert_eq!(
            self.network.connect(&to.addresses[0]).await.unwrap(),
            to.id()
        );
    }

    /// A node whose loopback counts as the internet.
    pub async fn lab(seed: u8, listen: &[&str], policy: impl FnOnce(&mut ReachPolicy)) -> Self {
        let mut options = NetworkOptions {
            listen: listen.iter().map(|&text| text.to_owned()).collect(),
            reach: ReachPolicy::lab(),
            ..NetworkOptions::new([seed; 32])
        };
        policy(&mut options.reach);
        Self::with(options).await
    }

    /// Waits until the status is as wanted.
    pub async fn until(
        &self,
        what: &str,
        wanted: impl FnMut(&NetworkStatus) -> bool,
    ) -> NetworkStatus {
        let mut status = self.network.status();
        let found = within(what, status.wait_for(wanted)).await.unwrap();
        NetworkStatus::clone(&found)
    }

    /// A stream that `from` opened here and spoke its first word on.
    pub async fn next_job(&mut self) -> JobStream {
        within("a job stream", self.inbound.jobs.recv())
            .await
            .unwrap()
            .stream
    }
}

/// Peers that a search for a model names, once it has ended.
pub async fn providers_of(network: &Network, model: &ModelDigest) -> Vec<PeerId> {
    let mut found = network.find_offers(Some(*model), 64).await;
    let mut providers = Vec::new();
    while let Some(known) = found.recv().await {
        providers.push(known.offer.peer);
    }
    providers
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64
}

/// A head of this many bytes, and the model it belongs to.
pub fn head(len: usize, seed: u8) -> (Bytes, ModelRef) {
    let head: Vec<u8> = (0..len)
        .map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed))
        .collect();
    let model = ModelRef {
        digest: ModelDigest::new([seed; 32]),
        head_len: len as u32,
        head_sha256: HeadDigest::new(Sha256::digest(&head).into()),
    };
    (head.into(), model)
}

pub fn offer(peer: PeerId, model: ModelRef, seq: u64) -> Offer {
    let now = unix_ms();
    Offer {
        network: NetworkId::MAIN,
        peer,
        addrs: Vec::new(),
        model,
        quant: "Q4_1".to_owned(),
        ctx_max: 2048,
        out_max: 512,
        parallel_slots: 1,
        features: vec!["resume".to_owned()],
        prices: Prices::default(),
        payment: None,
        binding: None,
        prefill_tps: 0,
        decode_tps: 0,
        queue_depth: 0,
        queue_max: 4,
        region: String::new(),
        software: "test".to_owned(),
        issued_unix_ms: now,
        expires_unix_ms: now + 60_000,
        seq,
        engine_class: String::new(),
        free_tokens: 512,
        proto_min: 1,
        proto_max: 1,
        vrf_key: None,
    }
}

pub fn signed(node: &TestNode, model: ModelRef, seq: u64) -> SignedEnvelope {
    offer(node.id(), model, seq).sign(&node.signer)
}

/// The first frame of a job that nobody would run.
pub fn open(bytes_of_prompt: usize) -> Frame {
    Frame::Open(Box::new(Open {
        prompt_tokens: vec![7; bytes_of_prompt].into(),
        max_out: 1,
        ..Open::default()
    }))
}

pub fn ping(nonce: u64) -> Frame {
    Frame::Ping(Ping { nonce })
}
