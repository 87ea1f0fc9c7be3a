//! Kademlia: under which keys a model's providers are found, and the gate before addresses that strangers name.
//!
//! Only provider records are kept, no values, and each record is looked at before it is stored. Our own `start_providing` needs at
//! least one peer in the routing table to tell; peers enter it by hand, after identify showed that they speak the protocol and
//! when we know an address that we dialled.
//!
//! A model has 16 keys a day, see [`protocol::lookup`].

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    num::NonZeroUsize,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    kad::{self, BucketInserts, InboundRequest, Mode, RecordKey},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};
use protocol::{
    ModelDigest,
    lookup::{self, DAY_MS, SHARDS},
};
use rand::seq::SliceRandom;

use crate::{
    address::{self, Prefix, Scope},
    limits::{self, Buckets},
    record_store::ProviderStore,
};

/// Our own table, apart from every other network's.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new(lookup::PROTOCOL);
/// A laptop that was closed is gone from every list within the hour. libp2p's own default is two days.
const RECORD_LIVES: Duration = Duration::from_secs(60 * 60);
/// Three times within a record's life.
pub(crate) const PUBLISH_EVERY: Duration = Duration::from_secs(20 * 60);
/// How often the table is gone through and its peers are dialled: twice within the life of a record. What is asked meanwhile keeps
/// it fresh where it matters; libp2p's own five minutes would make an idle node dial its neighbourhood all day.
const REFRESH_EVERY: Duration = Duration::from_secs(30 * 60);
/// No person waits longer; who was found until then is told.
pub(crate) const QUERY: Duration = Duration::from_secs(20);
/// When libp2p itself ends a walk. It throws away what a walk found that was to lead to a record, so ours has to come first.
pub(crate) const FORGOTTEN: Duration = Duration::from_secs(60);
/// A peer that has not answered one question of a walk by then will not.
pub(crate) const REQUEST: Duration = Duration::from_secs(10);
/// Requests of one query at a time, and disjoint paths it takes: an attacker on one path does not hide what is on the others.
const PARALLEL: NonZeroUsize = NonZeroUsize::new(6).unwrap();
/// Addresses kept of one provider.
const ADDRESSES: usize = 8;
/// Peers of one site in one bucket of the routing table, and in the whole table: to surround a key takes many networks.
const PER_SITE_AND_BUCKET: usize = 2;
const PER_SITE: usize = 8;

/// How long before midnight the next day's records are there already.
const AHEAD_MS: u64 = 60 * 60 * 1000;

/// Where providers are found.
pub(crate) type Key = lookup::ProviderKey;

/// The keys under which a provider of these models says so at this time: none if it has none.
pub(crate) fn keys_of(
    network: &str,
    provider: &protocol::PeerId,
    models: &[ModelDigest],
    unix_ms: u64,
) -> BTreeSet<Key> {
    let today = unix_ms / DAY_MS;
    let days = today..=(unix_ms + AHEAD_MS) / DAY_MS;
    let any = (!models.is_empty()).then_some(None);
    let sought: Vec<_> = models.iter().map(Some).chain(any).collect();
    days.flat_map(|day| {
        let shard = lookup::shard(provider, day);
        sought
            .iter()
            .map(move |model| lookup::provider_key(network, *model, day, shard))
    })
    .collect()
}

/// Today's keys, in random order.
pub(crate) fn keys_today(
    network: &str,
    model: Option<&ModelDigest>,
    unix_ms: u64,
) -> VecDeque<Key> {
    keys_on(network, model, unix_ms / DAY_MS).into()
}

/// The keys of yesterday and tomorrow, those of the nearer day first: where nobody is found today, somebody's clock is wrong.
pub(crate) fn keys_beside(
    network: &str,
    model: Option<&ModelDigest>,
    unix_ms: u64,
) -> VecDeque<Key> {
    let today = unix_ms / DAY_MS;
    let (yesterday, tomorrow) = (today.saturating_sub(1), today + 1);
    let days = if unix_ms % DAY_MS < DAY_MS / 2 {
        [yesterday, tomorrow]
    } else {
        [tomorrow, yesterday]
    };
    days.iter()
        .flat_map(|day| keys_on(network, model, *day))
        .collect()
}

fn keys_on(network: &str, model: Option<&ModelDigest>, day: u64) -> Vec<Key> {
    let mut shards: Vec<_> = (0..SHARDS).collect();
    shards.shuffle(&mut rand::rng());
    shards
        .into_iter()
        .map(|shard| lookup::provider_key(network, model, day, shard))
        .collect()
}

/// libp2p's Kademlia behind [`may_dial`](Kad::reach): it is told addresses by strangers, and asks the swarm to dial them.
pub(crate) struct Kad {
    inner: kad::Behaviour<ProviderStore>,
    local: PeerId,
    reach: Scope,
    told: Scope,
    rates: Buckets<PeerId>,
    /// A question was counted, and what comes next from libp2p is its answer.
    answering: bool,
    /// Peers that asked too often, until the loop looks.
    over_rate: Vec<PeerId>,
    /// Walks under way, and since when.
    walks: HashMap<kad::QueryId, Instant>,
    /// Nobody enters the table any more, and walks that libp2p begins by itself to fill it are ended: a scenario says who is in it.
    #[cfg(feature = "lab")]
    pub(crate) table_is_given: bool,
}

/// Peers noted as asking too often between two looks of the loop. Each noting costs its peer a connection.
const OVER_RATE: usize = 256;

impl Kad {
    /// libp2p lets a walk take `query`, and one request of it `request`.
    pub(crate) fn new(local: PeerId, query: Duration, request: Duration) -> Self {
        let mut config = kad::Config::new(PROTOCOL);
        config
            .set_query_timeout(query)
            .set_substreams_timeout(request)
            .set_parallelism(PARALLEL)
            .disjoint_query_paths(true)
            .set_record_filtering(kad::StoreInserts::FilterBoth)
            .set_replication_interval(None)
            .set_publication_interval(None)
            .set_provider_record_ttl(Some(RECORD_LIVES))
            .set_provider_publication_interval(Some(PUBLISH_EVERY))
            .set_kbucket_inserts(BucketInserts::Manual)
            .set_periodic_bootstrap_interval(Some(REFRESH_EVERY))
            .set_caching(kad::Caching::Disabled);
        let mut inner = kad::Behaviour::with_config(local, ProviderStore::new(local), config);
        inner.set_mode(Some(Mode::Client));
        Self {
            inner,
            local,
            reach: Scope::Public,
            told: Scope::Public,
            rates: Buckets::per_peer(limits::ROUTING),
            answering: false,
            over_rate: Vec::new(),
            walks: HashMap::new(),
            #[cfg(feature = "lab")]
            table_is_given: false,
        }
    }

    /// Peers that asked too often since this was called last, and lost a connection each time.
    pub(crate) fn take_over_rate(&mut self) -> Vec<PeerId> {
        std::mem::take(&mut self.over_rate)
    }

    /// Counts a question or record of a peer. True if it is one too many.
    fn is_over_rate(&mut self, peer: PeerId) -> bool {
        let over = self.rates.take(peer, Instant::now()).is_err();
        if over && self.over_rate.len() < OVER_RATE {
            self.over_rate.push(peer);
        }
        over
    }

    /// libp2p tells of a question without saying whose it is, and hands over the answer right behind it: whoever asked too often
    /// gets the end of its connection instead.
    fn limited(
        &mut self,
        event: ToSwarm<kad::Event, THandlerInEvent<Self>>,
    ) -> ToSwarm<kad::Event, THandlerInEvent<Self>> {
        let mut close = None;
        let answering = std::mem::take(&mut self.answering);
        if let ToSwarm::GenerateEvent(kad::Event::InboundRequest { request }) = &event {
            match request {
                InboundRequest::AddProvider {
                    record: Some(record),
                } => {
                    close = Some((record.provider, CloseConnection::All));
                }
                InboundRequest::FindNode { .. }
                | InboundRequest::GetProvider { .. }
                | InboundRequest::AddProvider { record: None }
                | InboundRequest::GetRecord { .. }
                | InboundRequest::PutRecord { .. } => self.answering = true,
            }
        } else if let ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection),
            ..
        } = &event
            && answering
        {
            close = Some((*peer_id, CloseConnection::One(*connection)));
        }
        match close {
            Some((peer_id, connection)) if self.is_over_rate(peer_id) => ToSwarm::CloseConnection {
                peer_id,
                connection,
            },
            Some(_) | None => event,
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

    /// The widest scope that any connected peer is in: what is nearer than that goes from the table, and into no answer. True when what is
    /// nearer than before may be told now: who had to go for a stranger's sake has a place again.
    pub(crate) fn set_told(&mut self, widest: Scope) -> bool {
        let before = std::mem::replace(&mut self.told, widest);
        if before == widest {
            return false;
        }
        self.inner.store_mut().told = widest;
        let nearer: Vec<_> = self
            .inner
            .kbuckets()
            .flat_map(|bucket| {
                let entries: Vec<_> = bucket
                    .iter()
                    .map(|entry| (*entry.node.key.preimage(), entry.node.value.clone()))
                    .collect();
                entries
            })
            .flat_map(|(peer, addresses)| {
                addresses.into_vec().into_iter().map(move |at| (peer, at))
            })
            .filter(|(_, at)| !address::may_tell(widest, &address::without_peer(at)))
            .collect();
        for (peer, at) in nearer {
            self.inner.remove_address(&peer, &at);
        }
        widest < before
    }

    /// A peer that speaks the protocol, at an address that we dialled. True when it is in the table now and was not before. An address of
    /// this home does not enter it while a stranger is connected, who could ask for it.
    pub(crate) fn add(&mut self, peer: &PeerId, address: Multiaddr) -> bool {
        if !address::may_tell(self.told, &address::without_peer(&address)) {
            return false;
        }
        let new = !self.has(peer);
        #[cfg(feature = "lab")]
        if new && self.table_is_given {
            return false;
        }
        if new && !self.has_place_for(peer, &address) {
            return false;
        }
        matches!(
            self.inner.add_address(peer, address),
            kad::RoutingUpdate::Success
        ) && new
    }

    /// Whether this peer is in the table.
    pub(crate) fn has(&mut self, peer: &PeerId) -> bool {
        self.inner
            .kbucket(*peer)
            .is_some_and(|bucket| bucket.iter().any(|entry| entry.node.key.preimage() == peer))
    }

    /// Whether the table holds no more peers than one record goes to: each one that joins is then one who should hear of ours.
    pub(crate) fn is_small(&mut self) -> bool {
        let entries: usize = self
            .inner
            .kbuckets()
            .map(|bucket| bucket.num_entries())
            .sum();
        entries <= kad::K_VALUE.get()
    }

    fn has_place_for(&mut self, peer: &PeerId, address: &Multiaddr) -> bool {
        let Some(site) = Prefix::of_site(address) else {
            return true;
        };
        let distance = kad::KBucketKey::from(self.local).distance(&kad::KBucketKey::from(*peer));
        let (mut in_table, mut in_bucket) = (0, 0);
        for bucket in self.inner.kbuckets() {
            let of_site = bucket
                .iter()
                .filter(|entry| {
                    entry
                        .node
                        .value
                        .iter()
                        .any(|one| Prefix::of_site(one) == Some(site))
                })
                .count();
            in_table += of_site;
            if bucket.contains(&distance) {
                in_bucket = of_site;
            }
        }
        in_table < PER_SITE && in_bucket < PER_SITE_AND_BUCKET
    }

    /// An address that led to somebody else, or a peer that is blocked.
    pub(crate) fn remove(&mut self, peer: &PeerId) {
        self.inner.remove_peer(peer);
    }

    /// Says that we stand under this key, now and every twenty minutes.
    pub(crate) fn provide(&mut self, key: &Key, now: Instant) {
        match self.inner.start_providing(RecordKey::new(key)) {
            Ok(walk) => {
                self.walks.insert(walk, now);
            }
            Err(error) => tracing::warn!(%error, "a provider record could not be kept"),
        }
    }

    /// Says so no longer. Others find the record for an hour at most, and then nobody who offers it.
    pub(crate) fn withdraw(&mut self, key: &Key) {
        self.inner.stop_providing(&RecordKey::new(key));
    }

    /// Begins to look for providers.
    pub(crate) fn find(&mut self, key: &Key, now: Instant) -> kad::QueryId {
        let walk = self.inner.get_providers(RecordKey::new(key));
        self.walks.insert(walk, now);
        walk
    }

    /// Ends the walks that have had their time. A record that a walk was to lead to goes to the nearest of those that answered: where
    /// many of a table are gone, that is most walks, and whoever waited for all of them would not be found.
    pub(crate) fn end_late_walks(&mut self, now: Instant) {
        let begun = std::mem::take(&mut self.walks);
        for mut walk in self.inner.iter_queries_mut() {
            // Those that libp2p begins, to say again where we stand, are noticed here.
            let mut since = begun.get(&walk.id()).copied().unwrap_or(now);
            if now.saturating_duration_since(since) >= QUERY {
                walk.finish();
                // What comes next of it has the same number: the record's way, or the next part of the table.
                since = now;
            }
            self.walks.insert(walk.id(), since);
        }
    }

    /// Forgets records that are over.
    pub(crate) fn purge(&mut self) {
        self.inner.store_mut().purge(Instant::now());
    }

    /// Ends a query whose caller is gone.
    pub(crate) fn stop(&mut self, query: kad::QueryId) {
        if let Some(mut query) = self.inner.query_mut(&query) {
            query.finish();
        }
    }

    /// Keeps a record that a peer at `site` put here, if it is one of ours in form. The peer itself is its provider: libp2p saw
    /// to that.
    pub(crate) fn store(
        &mut self,
        mut record: kad::ProviderRecord,
        from: Scope,
        site: Option<Prefix>,
    ) -> bool {
        if record.key.as_ref().len() != size_of::<Key>() || record.provider == self.local {
            return false;
        }
        record
            .addresses
            .retain(|told| address::may_tell(from, &address::without_peer(told)));
        record.addresses.truncate(ADDRESSES);
        self.inner.store_mut().keep(record, site)
    }

    /// Addresses of a peer that queries, the table or the records here know of, as far as they may be dialled and are `wanted`.
    pub(crate) fn addresses(
        &mut self,
        peer: PeerId,
        key: &Key,
        wanted: impl Fn(&Multiaddr) -> bool,
    ) -> Vec<Multiaddr> {
        let stored = self.inner.store_mut().addresses_of(key, &peer);
        let mut addresses = stored.to_vec();
        // No dial is made: this is where a query keeps what it learned.
        let asked = ConnectionId::new_unchecked(usize::MAX);
        addresses.extend(
            self.inner
                .handle_pending_outbound_connection(asked, Some(peer), &[], Endpoint::Dialer)
                .unwrap_or_default(),
        );
        // Before they are cut to a few: what is not wanted must not take the place of what is.
        addresses.retain(wanted);
        self.filtered(addresses)
    }

    /// Polls, and gives up what libp2p begins by itself to fill the table.
    #[cfg(feature = "lab")]
    fn poll_without_filling(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<kad::Event, THandlerInEvent<Self>>> {
        let mut fills = false;
        loop {
            let polled = self.inner.poll(cx);
            let mut other = false;
            for mut query in self.inner.iter_queries_mut() {
                if matches!(query.info(), kad::QueryInfo::Bootstrap { .. }) {
                    query.finish();
                    fills = true;
                } else {
                    other = true;
                }
            }
            let acts = matches!(
                polled,
                Poll::Ready(ToSwarm::Dial { .. } | ToSwarm::NotifyHandler { .. })
            );
            // Its first steps, where nobody else can have asked for them.
            if !(fills && acts && !other) {
                return polled;
            }
        }
    }

    fn filtered(&self, mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        addresses.retain(|told| address::may_tell(self.reach, &address::without_peer(told)));
        addresses.truncate(ADDRESSES);
        addresses
    }
}

impl NetworkBehaviour for Kad {
    type ConnectionHandler = <kad::Behaviour<ProviderStore> as NetworkBehaviour>::ConnectionHandler;
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
        // What it knows of our listeners it would tell to whoever asks for our own records; external addresses may be told.
        if matches!(event, FromSwarm::NewListenAddr(_)) {
            return;
        }
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
        #[cfg(feature = "lab")]
        if self.table_is_given {
            let polled = self.poll_without_filling(cx);
            return polled.map(|event| self.limited(event));
        }
        self.inner.poll(cx).map(|event| self.limited(event))
    }
}

#[cfg(test)]
mod tests;
