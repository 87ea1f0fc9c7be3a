//! Kademlia: who says that it serves a model, and the gate before addresses that strangers name.
//!
//! Only provider records are kept, no values, and each record is looked at before it is stored. Our own `start_providing` needs at
//! least one peer in the routing table to tell; peers enter it by hand, after identify showed that they speak the protocol and
//! when we know an address that we dialled.

use std::{
    num::NonZeroUsize,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    kad::{
        self, BucketInserts, Mode, RecordKey,
        store::{MemoryStore, MemoryStoreConfig, RecordStore},
    },
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};
use protocol::ModelDigest;
use sha2::{Digest, Sha256};

use crate::address::{self, Scope};

/// Our own table, apart from every other network's.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/decentralgpt/kad/1");
/// A laptop that was closed is gone from every list within the hour. libp2p's own default is two days.
const RECORD_LIVES: Duration = Duration::from_secs(60 * 60);
/// Three times within a record's life.
const PUBLISH_EVERY: Duration = Duration::from_secs(20 * 60);
/// No person waits longer; who was found until then is told.
const QUERY: Duration = Duration::from_secs(20);
/// Requests of one query at a time, and disjoint paths it takes: an attacker on one path does not hide what is on the others.
const PARALLEL: NonZeroUsize = NonZeroUsize::new(6).unwrap();
/// Models whose providers are kept here for others.
const KEYS: usize = 4096;
/// Providers kept of each; a reply holds twenty.
const PROVIDERS_PER_KEY: usize = 64;
/// Addresses kept of one provider.
const ADDRESSES: usize = 8;

/// The key under which the providers of a model are found.
pub(crate) fn key(model: &ModelDigest) -> RecordKey {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(protocol::offer::DOMAIN)
        .chain_update(model.as_bytes())
        .finalize()
        .into();
    RecordKey::new(&digest)
}

/// libp2p's Kademlia behind [`may_dial`](Kad::reach): it is told addresses by strangers, and asks the swarm to dial them.
pub(crate) struct Kad {
    inner: kad::Behaviour<MemoryStore>,
    local: PeerId,
    reach: Scope,
}

impl Kad {
    pub(crate) fn new(local: PeerId) -> Self {
        let store = MemoryStore::with_config(
            local,
            MemoryStoreConfig {
                max_records: 0,
                max_value_bytes: 0,
                max_provided_keys: KEYS,
                max_providers_per_key: PROVIDERS_PER_KEY,
            },
        );
        let mut config = kad::Config::new(PROTOCOL);
        config
            .set_query_timeout(QUERY)
            .set_parallelism(PARALLEL)
            .disjoint_query_paths(true)
            .set_record_filtering(kad::StoreInserts::FilterBoth)
            .set_replication_interval(None)
            .set_publication_interval(None)
            .set_provider_record_ttl(Some(RECORD_LIVES))
            .set_provider_publication_interval(Some(PUBLISH_EVERY))
            .set_kbucket_inserts(BucketInserts::Manual)
            .set_caching(kad::Caching::Disabled);
        let mut inner = kad::Behaviour::with_config(local, store, config);
        inner.set_mode(Some(Mode::Client));
        Self {
            inner,
            local,
            reach: Scope::Public,
        }
    }

    /// Whether others may ask us: only while we listen.
    pub(crate) fn serve(&mut self, listening: bool) {
        self.inner.set_mode(Some(if listening {
            Mode::Server
        } else {
            Mode::Client
        }));
    }

    /// The widest scope of addresses that strangers may make us dial: those of this computer or this home only while a peer of
    /// the same is connected.
    pub(crate) fn set_reach(&mut self, reach: Scope) {
        self.reach = reach;
    }

    /// A peer that speaks the protocol, at an address that we dialled. True when it was not in the table.
    pub(crate) fn add(&mut self, peer: &PeerId, address: Multiaddr) -> bool {
        let new = !self
            .inner
            .kbucket(*peer)
            .is_some_and(|bucket| bucket.iter().any(|entry| entry.node.key.preimage() == peer));
        matches!(
            self.inner.add_address(peer, address),
            kad::RoutingUpdate::Success
        ) && new
    }

    /// An address that led to somebody else, or a peer that is blocked.
    pub(crate) fn remove(&mut self, peer: &PeerId) {
        self.inner.remove_peer(peer);
    }

    /// Says that we serve this model, now and every twenty minutes.
    pub(crate) fn provide(&mut self, model: &ModelDigest) {
        if let Err(error) = self.inner.start_providing(key(model)) {
            tracing::warn!(%error, "a provider record could not be kept");
        }
    }

    /// Says so no longer. Others find the record for an hour at most, and then nobody who offers it.
    pub(crate) fn withdraw(&mut self, model: &ModelDigest) {
        self.inner.stop_providing(&key(model));
    }

    /// Begins to look for providers.
    pub(crate) fn find(&mut self, model: &ModelDigest) -> kad::QueryId {
        self.inner.get_providers(key(model))
    }

    /// Ends a query whose caller is gone.
    pub(crate) fn stop(&mut self, query: kad::QueryId) {
        if let Some(mut query) = self.inner.query_mut(&query) {
            query.finish();
        }
    }

    /// Keeps a record that a peer put here, if it is one of ours in form. The peer itself is its provider: libp2p saw to that.
    pub(crate) fn store(&mut self, mut record: kad::ProviderRecord, from: Scope) -> bool {
        if record.key.to_vec().len() != 32 || record.provider == self.local {
            return false;
        }
        record
            .addresses
            .retain(|told| address::may_tell(from, &address::without_peer(told)));
        record.addresses.truncate(ADDRESSES);
        self.inner.store_mut().add_provider(record).is_ok()
    }

    /// Addresses of a peer that queries, the table or the records here know of, as far as they may be dialled.
    pub(crate) fn addresses(&mut self, peer: PeerId, model: &ModelDigest) -> Vec<Multiaddr> {
        let stored = self.inner.store_mut().providers(&key(model));
        let mut addresses: Vec<_> = stored
            .into_iter()
            .filter(|record| record.provider == peer)
            .flat_map(|record| record.addresses)
            .collect();
        // No dial is made: this is where a query keeps what it learned.
        let asked = ConnectionId::new_unchecked(usize::MAX);
        addresses.extend(
            self.inner
                .handle_pending_outbound_connection(asked, Some(peer), &[], Endpoint::Dialer)
                .unwrap_or_default(),
        );
        self.filtered(addresses)
    }

    fn filtered(&self, mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        addresses.retain(|told| address::may_tell(self.reach, &address::without_peer(told)));
        addresses.truncate(ADDRESSES);
        addresses
    }
}

impl NetworkBehaviour for Kad {
    type ConnectionHandler = <kad::Behaviour<MemoryStore> as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = kad::Event;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        here: &Multiaddr,
        there: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner
            .handle_pending_inbound_connection(id, here, there)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        here: &Multiaddr,
        there: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_inbound_connection(id, peer, here, there)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let told = self
            .inner
            .handle_pending_outbound_connection(id, peer, addresses, role)?;
        Ok(self.filtered(told))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::kad::ProviderRecord;

    use super::*;

    #[test]
    fn a_record_is_kept_without_addresses_its_sender_could_not_have() {
        let mut kad = Kad::new(PeerId::random());
        let (model, provider) = (ModelDigest::new([1; 32]), PeerId::random());
        let addresses = [
            "/ip4/198.51.100.1/tcp/1",
            "/ip4/192.168.0.1/tcp/1",
            "/ip4/127.0.0.1/udp/1/quic-v1",
        ];
        let addresses = addresses.map(|text| text.parse().unwrap()).to_vec();
        assert!(kad.store(
            ProviderRecord::new(key(&model), provider, addresses.clone()),
            Scope::Public
        ));
        assert_eq!(kad.addresses(provider, &model), addresses[..1]);
        assert!(!kad.store(
            ProviderRecord::new(RecordKey::new(b"short"), provider, addresses),
            Scope::Public
        ));
    }

    #[test]
    fn records_do_not_grow_without_end() {
        let mut kad = Kad::new(PeerId::random());
        let model = ModelDigest::new([1; 32]);
        for _ in 0..PROVIDERS_PER_KEY * 2 {
            kad.store(
                ProviderRecord::new(key(&model), PeerId::random(), Vec::new()),
                Scope::Public,
            );
        }
        assert_eq!(
            kad.inner.store_mut().providers(&key(&model)).len(),
            PROVIDERS_PER_KEY
        );
        for at in 0..KEYS as u32 * 2 {
            let key = RecordKey::new(&Sha256::digest(at.to_le_bytes()));
            kad.store(
                ProviderRecord::new(key, PeerId::random(), Vec::new()),
                Scope::Public,
            );
        }
        let refused = RecordKey::new(&[9; 32]);
        assert!(!kad.store(
            ProviderRecord::new(refused, PeerId::random(), Vec::new()),
            Scope::Public
        ));
    }
}
