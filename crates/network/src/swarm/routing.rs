//! Finding offers, and saying where ours are.
//!
//! A search is a stream: what is known comes first, then what connected peers know, then what providers answer whom the routing
//! table names under two of the 16 keys of today, then under more. Nobody waits for the end of a walk through the table.

mod told;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

#[cfg(feature = "lab")]
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    Multiaddr, PeerId,
    kad::{self, GetProvidersOk, InboundRequest, QueryId, QueryResult},
};
use protocol::ModelDigest;
use rand::seq::IteratorRandom;
use tokio::sync::mpsc::{self, error::TrySendError};

use self::told::Tellings;
use super::Loop;
use crate::{
    address::{self, Prefix},
    identity,
    offers::VerifiedOffer,
    peers::{self, Connected, Word},
    providers::{self, Key},
    search::Steps,
};

/// Searches under way.
const SEARCHES: usize = 16;
/// Connected peers that one search asks.
const ASKED: usize = 16;
/// Peers joining the table make us say again what we serve, but no more often.
const PUBLISH_PAUSE: Duration = Duration::from_secs(2);
/// How often the records kept for others are looked through for those that are over.
const PURGE_EVERY: Duration = Duration::from_secs(60);

/// Where the offers of a search go.
pub(super) type Found = mpsc::Sender<VerifiedOffer>;

#[derive(Debug)]
struct Search {
    model: Option<ModelDigest>,
    enough: usize,
    out: Found,
    sent: BTreeSet<(protocol::PeerId, ModelDigest)>,
    steps: Steps<QueryId>,
    /// Where the table says that providers are.
    told: Tellings,
    /// Whether the keys of yesterday and tomorrow are in the plan.
    beside: bool,
}

impl Search {
    /// Hands over what is new. False: nobody wants more.
    fn hand_over(&mut self, offers: &[&VerifiedOffer]) -> bool {
        let now = peers::unix_ms();
        for known in offers {
            let wanted = self
                .model
                .is_none_or(|model| model == known.offer.model.digest);
            let id = (known.offer.peer, known.offer.model.digest);
            if !wanted || known.expired(now) || self.sent.contains(&id) {
                continue;
            }
            match self.out.try_send(VerifiedOffer::clone(known)) {
                Ok(()) => {
                    self.sent.insert(id);
                }
                // It comes again when the reader has caught up: at the next tick.
                Err(TrySendError::Full(_)) => return true,
                Err(TrySendError::Closed(_)) => return false,
            }
            if self.sent.len() >= self.enough {
                return false;
            }
        }
        !self.out.is_closed()
    }
}

/// Searches under way, and what we said of ourselves.
#[derive(Debug, Default)]
pub(super) struct Routing {
    searches: Vec<Search>,
    /// Keys under which we stand.
    provided: BTreeSet<Key>,
    /// Somebody who has not heard of our offers joined the table.
    publish: bool,
    published: Option<Instant>,
    purged: Option<Instant>,
}

impl Loop {
    pub(super) fn find_offers(&mut self, model: Option<ModelDigest>, enough: usize, out: Found) {
        // Searches that nobody waits for any more make room.
        self.searches_go_on();
        if self.routing.searches.len() >= SEARCHES {
            // Dropping the sender is an answer.
            return;
        }
        let now = self.search_time();
        let plan =
            providers::keys_today(self.network_id.as_str(), model.as_ref(), peers::unix_ms());
        let mut search = Search {
            model,
            enough: enough.max(1),
            out,
            sent: BTreeSet::new(),
            steps: Steps::new(plan, now),
            told: Tellings::default(),
            beside: false,
        };
        if !search.hand_over(&self.usable_offers()) {
            return;
        }
        // By chance, since whoever makes names for himself could make those that come first.
        let connected = self
            .peers
            .iter()
            .map(|(peer, _)| *peer)
            .sample(&mut rand::rng(), ASKED);
        for peer in connected {
            if self.pull_some(peer, model) {
                search.steps.waits_for(peer, now);
            }
        }
        self.routing.searches.push(search);
        self.hunt_now();
        self.searches_go_on();
    }

    /// Offers of peers that are neither blocked nor banned.
    fn usable_offers(&self) -> Vec<&VerifiedOffer> {
        let of_welcome = |known: &&VerifiedOffer| {
            identity::to_libp2p(&known.offer.peer).is_some_and(|peer| !self.is_shut_out(&peer))
        };
        self.book.offers().filter(of_welcome).collect()
    }

    /// The time of walks and searches.
    fn search_time(&self) -> Instant {
        #[cfg(feature = "lab")]
        if let Some(now) = self.lab.now() {
            return now;
        }
        Instant::now()
    }

    /// Looks at each search: hands over what is new, asks for more where that is not enough, and ends those that are over.
    pub(super) fn searches_go_on(&mut self) {
        let now = self.search_time();
        let mut searches = std::mem::take(&mut self.routing.searches);
        searches.retain_mut(|search| {
            let goes_on = self.search_goes_on(search, now);
            if !goes_on {
                for query in search.steps.walks() {
                    self.swarm.behaviour_mut().kad.stop(*query);
                }
            }
            goes_on
        });
        self.routing.searches = searches;
    }

    fn search_goes_on(&mut self, search: &mut Search, now: Instant) -> bool {
        if !search.hand_over(&self.usable_offers()) || !search.steps.go_on(now) {
            return false;
        }
        // Before anybody introduced itself the table is empty, and a query would end at once.
        let nobody = self.peers.iter().all(|(_, peer)| peer.protocols.is_none());
        if nobody && self.is_hunting() {
            return true;
        }
        for key in search.steps.next_keys(now) {
            let query = self.swarm.behaviour_mut().kad.find(&key, now);
            search.steps.walks_to(query, key);
        }
        self.dial_named(search, now);
        if search.steps.is_exhausted() && search.sent.is_empty() && !search.beside {
            search.beside = true;
            let (network, model) = (self.network_id.as_str(), search.model.as_ref());
            let keys = providers::keys_beside(network, model, peers::unix_ms());
            search.steps.plan_more(keys);
            return true;
        }
        !search.steps.is_exhausted()
    }

    /// Dials providers that the table named. Whoever there is no room for now stays named.
    fn dial_named(&mut self, search: &mut Search, now: Instant) {
        let mut later = Vec::new();
        while let Some(provider) = search.steps.next_dial() {
            let (fresh, again) = search.told.to_dial(&provider);
            if self.peers.get(&provider).is_some() {
                if self.pull_some(provider, search.model) {
                    search.steps.waits_for(provider, now);
                }
                continue;
            }
            let is_somewhere = !fresh.is_empty() || !self.addresses.of(&provider).is_empty();
            if !is_somewhere || self.is_shut_out(&provider) {
                continue;
            }
            if self.dial_told(provider, &fresh, again) {
                search.told.dialled(provider);
                search.steps.waits_for(provider, now);
            } else {
                later.push(provider);
            }
        }
        for provider in later {
            search.steps.dials_later(provider);
        }
    }

    /// A peer answered with its offers, or will not.
    pub(super) fn search_heard(&mut self, peer: &PeerId) {
        for search in &mut self.routing.searches {
            search.steps.heard(peer);
        }
        self.searches_go_on();
    }

    /// A peer introduced itself while searches are under way: it is asked for what they seek.
    pub(super) fn search_met(&mut self, peer: PeerId) {
        let now = self.search_time();
        let mut searches = std::mem::take(&mut self.routing.searches);
        for search in &mut searches {
            if search.steps.meets(peer) && self.pull_some(peer, search.model) {
                search.steps.waits_for(peer, now);
            }
        }
        self.routing.searches = searches;
        self.searches_go_on();
    }

    /// Says in the table what is to be said at this time: what we offer changed, or the day did.
    pub(super) fn provide(&mut self) {
        let wanted = providers::keys_of(
            self.network_id.as_str(),
            &self.local,
            &self.book.models(),
            peers::unix_ms(),
        );
        let now = self.search_time();
        let kad = &mut self.swarm.behaviour_mut().kad;
        for key in self.routing.provided.difference(&wanted) {
            kad.withdraw(key);
        }
        for key in wanted.difference(&self.routing.provided) {
            kad.provide(key, now);
        }
        self.routing.provided = wanted;
    }

    /// A peer introduced itself: if it routes and we know where it is, it enters the table.
    pub(super) fn route_to(&mut self, peer: &PeerId) {
        let Some(connected) = self.peers.get(peer) else {
            return;
        };
        if !connected.speaks(providers::PROTOCOL.as_ref()) {
            return self.swarm.behaviour_mut().kad.remove(peer);
        }
        // Only where we reached it ourselves: what it says of itself may be anybody's address.
        let addresses: Vec<_> = connected
            .dialled()
            .filter(|address| !address::is_relayed(address))
            .cloned()
            .collect();
        for address in addresses {
            let kad = &mut self.swarm.behaviour_mut().kad;
            self.routing.publish |= kad.add(peer, address) && kad.is_small();
        }
        if !self.swarm.behaviour_mut().kad.has(peer) {
            self.verify_address(peer);
        }
        self.routing_tick();
    }

    /// The last stranger has gone: neighbours who left the table for its sake enter it again, since they introduce themselves only once.
    pub(super) fn routing_again(&mut self) {
        let mut introduced = self.peers.longest_first();
        introduced.retain(|peer| {
            let connected = self.peers.get(peer);
            connected.is_some_and(|connected| connected.protocols.is_some())
        });
        for peer in introduced {
            self.route_to(&peer);
        }
    }

    pub(super) fn routing_tick(&mut self) {
        let now = Instant::now();
        for peer in self.swarm.behaviour_mut().kad.take_over_rate() {
            self.refusals.requests += 1;
            self.over_rate(peer);
        }
        let walks_end = self.search_time();
        self.swarm.behaviour_mut().kad.end_late_walks(walks_end);
        self.searches_go_on();
        if self
            .routing
            .purged
            .is_none_or(|at| now.saturating_duration_since(at) >= PURGE_EVERY)
        {
            self.routing.purged = Some(now);
            self.swarm.behaviour_mut().kad.purge();
            self.provide();
        }
        let pause = self
            .routing
            .published
            .is_some_and(|at| now.saturating_duration_since(at) < PUBLISH_PAUSE);
        if self.routing.publish && !pause {
            self.routing.publish = false;
            self.routing.published = Some(now);
            self.provide();
            let walks_begin = self.search_time();
            for key in &self.routing.provided {
                self.swarm.behaviour_mut().kad.provide(key, walks_begin);
            }
        }
    }

    pub(super) fn on_kad(&mut self, event: kad::Event) {
        #[cfg(feature = "lab")]
        self.lab.count(&event);
        if let kad::Event::InboundRequest {
            request:
                InboundRequest::AddProvider {
                    record: Some(record),
                },
        } = event
        {
            #[cfg(feature = "lab")]
            if self.lab.forgets {
                return;
            }
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
                for search in &mut self.routing.searches {
                    search.steps.walked(&id);
                }
                self.searches_go_on();
            }
        }
    }

    fn store_record(&mut self, record: kad::ProviderRecord) {
        let provider = record.provider;
        let Some(connected) = self.peers.get(&provider) else {
            return;
        };
        let (from, site) = (
            connected.scope(),
            connected.remote().and_then(Prefix::of_site),
        );
        if self.record_rate.take(provider, Instant::now()).is_err() {
            self.refusals.requests += 1;
            return self.over_rate(provider);
        }
        self.swarm.behaviour_mut().kad.store(record, from, site);
    }

    fn on_found(&mut self, id: QueryId, found: impl IntoIterator<Item = PeerId>) {
        let local = *self.swarm.local_peer_id();
        let mut searches = std::mem::take(&mut self.routing.searches);
        let search = searches
            .iter_mut()
            .find_map(|search| search.steps.key_of(&id).map(|key| (search, key)));
        if let Some((search, key)) = search {
            for provider in found {
                if provider != local && !self.is_shut_out(&provider) {
                    self.named(search, provider, &key);
                }
            }
        }
        self.routing.searches = searches;
        self.searches_go_on();
    }

    /// Somebody of the table names a provider. Whoever does so first may say anything: what others say of it later counts as well.
    fn named(&mut self, search: &mut Search, provider: PeerId, key: &Key) {
        let again = search.steps.is_named_again(&provider);
        let is_sought = again && self.peers.get(&provider).is_none();
        if !is_sought && !search.steps.is_new(&provider) {
            return;
        }
        let kad = &mut self.swarm.behaviour_mut().kad;
        let is_news = |told: &Multiaddr| search.told.is_news(&provider, told);
        let mut addresses = kad.addresses(provider, key, is_news);
        let nothing_told = addresses.is_empty();
        addresses.retain(|told| !self.is_own(told));
        let has_room = |site: &Prefix| search.steps.has_room_at(site);
        let taken = search.told.take(provider, addresses, has_room);
        // Known from elsewhere, it may be named without an address.
        if taken.addresses.is_empty() && (again || !nothing_told) {
            return;
        }
        search.steps.names(provider, taken.sites);
        self.addresses.add(provider, taken.addresses, Word::Others);
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
                .collect();
            self.learn(peer, addresses, scope, from);
        }
    }
}

#[cfg(feature = "lab")]
impl Loop {
    pub(super) fn on_lab(&mut self, command: crate::lab::Command) {
        match command {
            crate::lab::Command::Begin(lab, reply) => {
                let behaviour = self.swarm.behaviour_mut();
                behaviour.admission.many_nodes_share_this_process();
                // A try has its time by the system's clock: on a busy machine, nodes would take themselves for unreached, and leave the table.
                behaviour.autonat = Toggle::from(None);
                behaviour.autonat_server = Toggle::from(None);
                self.lab = lab;
                let _ = reply.send(());
            }
            crate::lab::Command::Tick(reply) => {
                self.routing_tick();
                let _ = reply.send(());
            }
            crate::lab::Command::Know(peers, reply) => {
                let kad = &mut self.swarm.behaviour_mut().kad;
                let mut took = 0;
                for (peer, address) in peers {
                    took += usize::from(kad.add(&peer, address));
                }
                kad.table_is_given = true;
                let _ = reply.send(took);
            }
        }
    }
}
