//! Plain libp2p with a routing table: no program of ours.

use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify,
    kad::{
        self, ProviderRecord, RecordKey,
        store::{MemoryStore, RecordStore as _},
    },
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use protocol::{
    ModelDigest, NetworkId,
    lookup::{DAY_MS, SHARDS, provider_key},
};

use super::{TestNode, unix_ms};

/// A node of it that is asked by others.
pub struct Router {
    pub address: String,
    peer: PeerId,
}

#[derive(NetworkBehaviour)]
pub struct Routes {
    pub identify: identify::Behaviour,
    pub kad: kad::Behaviour<MemoryStore>,
}

/// A node of it that listens nowhere.
pub fn routes() -> Swarm<Routes> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_quic()
        .with_behaviour(|key| {
            let local = key.public().to_peer_id();
            let table = kad::Config::new(StreamProtocol::new("/decentralgpt/kad/1"));
            let kad = kad::Behaviour::with_config(local, MemoryStore::new(local), table);
            let identify = identify::Config::new("router/1".to_owned(), key.public());
            Routes {
                identify: identify::Behaviour::new(identify),
                kad,
            }
        })
        .unwrap()
        .build()
}

/// That a provider of a model is at this address: under every key of today and of the days beside, so that the first walk of a search
/// comes upon it.
pub fn records(provider: &TestNode, model: &ModelDigest, at: Multiaddr) -> Vec<ProviderRecord> {
    let provider = PeerId::from_bytes(provider.id().as_bytes()).unwrap();
    records_of(provider, model, at)
}

/// The same of whoever has this name.
pub fn records_of(provider: PeerId, model: &ModelDigest, at: Multiaddr) -> Vec<ProviderRecord> {
    let today = unix_ms() / DAY_MS;
    let days = today - 1..=today + 1;
    let keys = days.flat_map(|day| (0..SHARDS).map(move |shard| (day, shard)));
    keys.map(|(day, shard)| {
        let key = provider_key(NetworkId::MAIN.as_str(), Some(model), day, shard);
        ProviderRecord {
            key: RecordKey::new(&key),
            provider,
            expires: Some(Instant::now() + Duration::from_secs(600)),
            addresses: vec![at.clone()],
        }
    })
    .collect()
}

impl Router {
    pub async fn start(listen: &str) -> Self {
        Self::that_keeps(listen, Vec::new(), &[]).await
    }

    /// One whose table and whose records begin with these.
    pub async fn that_keeps(listen: &str, records: Vec<ProviderRecord>, knows: &[&Self]) -> Self {
        let mut swarm = routes();
        let kad = &mut swarm.behaviour_mut().kad;
        kad.set_mode(Some(kad::Mode::Server));
        for record in records {
            kad.store_mut().add_provider(record).unwrap();
        }
        for other in knows {
            kad.add_address(&other.peer, other.address.parse().unwrap());
        }
        swarm.listen_on(listen.parse().unwrap()).unwrap();
        let peer = *swarm.local_peer_id();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break format!("{address}/p2p/{peer}");
            }
        };
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Self { address, peer }
    }
}
