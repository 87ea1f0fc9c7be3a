//! Kademlia: what this node says it serves, and who says so of a model.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    kad::{self, GetProvidersOk, InboundRequest, QueryId, QueryResult},
};
use protocol::ModelDigest;
use tokio::sync::oneshot;

use super::Loop;
use crate::{address, identity, peers::Connected, providers};

/// Searches under way.
const SEARCHES: usize = 16;
/// Providers a search returns, and after which it ends.
const FOUND: usize = 64;
/// Providers of one search that are dialled, so that their offers can be pulled.
const DIALLED: usize = 8;
/// A search on the wire may take 20 s; its caller is answered by then even if it has not ended.
const SEARCH: Duration = Duration::from_secs(20);
/// Peers joining the table make us say again what we serve, but no more often.
const PUBLISH_PAUSE: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Search {
    model: ModelDigest,
    found: BTreeSet<PeerId>,
    dialled: usize,
    begun: Instant,
    reply: oneshot::Sender<Vec<protocol::PeerId>>,
}

/// Searches under way, and when we last said what we serve.
#[derive(Debug, Default)]
pub(super) struct Routing {
    searches: HashMap<QueryId, Search>,
    /// Somebody who has not heard of our offers joined the table.
    publish: bool,
    published: Option<Instant>,
}

impl Loop {
    pub(super) fn find_providers(
        &mut self,
        model: ModelDigest,
        reply: oneshot::Sender<Vec<protocol::PeerId>>,
    ) {
        if self.routing.searches.len() >= SEARCHES {
            // A caller that is gone needs no answer, here and below.
            return drop(reply.send(Vec::new()));
        }
        let id = self.swarm.behaviour_mut().kad.find(&model);
        let search = Search {
            model,
            found: BTreeSet::new(),
            dialled: 0,
            begun: Instant::now(),
            reply,
        };
        self.routing.searches.insert(id, search);
    }

    /// Says in the table what changed between these two sets of models.
    pub(super) fn provide(&mut self, before: &[ModelDigest], after: &[ModelDigest]) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        for model in before.iter().filter(|model| !after.contains(model)) {
            kad.withdraw(model);
        }
        for model in after.iter().filter(|model| !before.contains(model)) {
            kad.provide(model);
        }
    }

    /// A peer introduced itself: if it routes and we know where it is, it enters the table.
    pub(super) fn route_to(&mut self, peer: &PeerId) {
        let Some(connected) = self.peers.get(peer) else {
            return;
        };
        if !connected.speaks(providers::PROTOCOL.as_ref()) {
            return self.swarm.behaviour_mut().kad.remove(peer);
        }
        // Those we dialled last: they are the surest.
        let addresses: Vec<_> = self
            .addresses
            .of(peer)
            .into_iter()
            .chain(connected.dialled().cloned())
            .collect();
        for address in addresses {
            if self.swarm.behaviour_mut().kad.add(peer, address) {
                self.routing.publish = true;
            }
        }
        self.routing_tick();
    }

    pub(super) fn routing_tick(&mut self) {
        let now = Instant::now();
        let over: Vec<_> = self
            .routing
            .searches
            .iter()
            .filter(|(_, search)| {
                now.saturating_duration_since(search.begun) >= SEARCH || search.reply.is_closed()
            })
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.end_search(id);
        }
        let pause = self
            .routing
            .published
            .is_some_and(|at| now.saturating_duration_since(at) < PUBLISH_PAUSE);
        if self.routing.publish && !pause {
            self.routing.publish = false;
            self.routing.published = Some(now);
            for model in self.book.models() {
                self.swarm.behaviour_mut().kad.provide(&model);
            }
        }
    }

    pub(super) fn on_kad(&mut self, event: kad::Event) {
        if let kad::Event::InboundRequest {
            request:
                InboundRequest::AddProvider {
                    record: Some(record),
                },
        } = event
        {
            self.store_record(record);
        } else if let kad::Event::OutboundQueryProgressed {
            id,
            result: QueryResult::GetProviders(result),
            step,
            ..
        } = event
        {
            if let Ok(GetProvidersOk::FoundProviders { providers, .. }) = result {
                self.on_found(id, providers);
            }
            if step.last {
                self.end_search(id);
            }
        }
    }

    fn store_record(&mut self, record: kad::ProviderRecord) {
        let provider = record.provider;
        let Some(from) = self.peers.get(&provider).map(Connected::scope) else {
            return;
        };
        if self.record_rate.take(provider, Instant::now()).is_err() {
            self.refusals.requests += 1;
            return self.over_rate(provider);
        }
        self.swarm.behaviour_mut().kad.store(record, from);
    }

    fn on_found(&mut self, id: QueryId, found: impl IntoIterator<Item = PeerId>) {
        let local = *self.swarm.local_peer_id();
        let Some(search) = self.routing.searches.get_mut(&id) else {
            return;
        };
        let mut fresh = Vec::new();
        for provider in found {
            if provider != local && search.found.len() < FOUND && search.found.insert(provider) {
                fresh.push(provider);
            }
        }
        let model = search.model;
        let full = search.found.len() >= FOUND;
        let may_dial = DIALLED.saturating_sub(search.dialled);
        search.dialled += fresh.len().min(may_dial);
        for (at, provider) in fresh.into_iter().enumerate() {
            let addresses = self.swarm.behaviour_mut().kad.addresses(provider, &model);
            self.addresses.add(provider, addresses);
            if at < may_dial && !self.is_shut_out(&provider) {
                self.dial_known(provider);
            }
        }
        if full {
            self.end_search(id);
        }
    }

    fn end_search(&mut self, id: QueryId) {
        self.swarm.behaviour_mut().kad.stop(id);
        if let Some(search) = self.routing.searches.remove(&id) {
            let found = search
                .found
                .iter()
                .filter(|peer| !self.is_shut_out(peer))
                .filter_map(identity::to_protocol)
                .collect();
            drop(search.reply.send(found));
        }
    }

    /// Offers that a peer brought name addresses: those it may tell us of are remembered.
    pub(super) fn learn_addresses(&mut self, from: PeerId) {
        let Some(scope) = self.peers.get(&from).map(Connected::scope) else {
            return;
        };
        let Some(teller) = identity::to_protocol(&from) else {
            return;
        };
        let told: Vec<_> = self
            .book
            .offers()
            .filter(|known| known.learned_from == teller)
            .filter_map(|known| {
                Some((
                    identity::to_libp2p(&known.offer.peer)?,
                    known.offer.addrs.clone(),
                ))
            })
            .collect();
        for (peer, addresses) in told {
            let addresses = addresses
                .into_iter()
                .filter_map(|bytes| Multiaddr::try_from(bytes.to_vec()).ok())
                .map(|told| address::without_peer(&told))
                .filter(|told| address::may_tell(scope, told));
            self.addresses.add(peer, addresses);
        }
    }
}
