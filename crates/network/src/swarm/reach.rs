//! Being reached: probes, relays, holes in routers, and what strangers are told of our addresses. Also what happens when this
//! computer slept or its network changed.

mod noted;
mod relays;
mod sleep;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt;
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p::{
    Multiaddr, PeerId, autonat, dcutr, relay,
    swarm::{ConnectionId, behaviour::toggle::Toggle},
    upnp,
};
use protocol::offer::{MAX_ADDR_BYTES, MAX_ADDRS};

use self::sleep::{Looked, way_out};
use super::Loop;
use crate::{
    address::{self, Scope, Transport},
    behaviour, identity,
    log::{ClosedBecause, ConnectionChange, Path},
    peers::{Direction, unix_ms},
    reach::{
        PortState, Proof, Reach, ReachMode, ReachPolicy, Reachability, RelayServer, Relaying, Role,
        UpnpState,
    },
    relay::{HOP, Relays, Speakers},
    transport::may_reuse,
};

/// How long a node that listens waits for somebody to try its addresses before it looks for relays all the same.
const UNSURE: Duration = Duration::from_secs(20);
/// The first pause before an address that nobody reached is tried again, and the longest: it doubles. One attempt that fails may be
/// the other end's fault.
const RETRY_FIRST: Duration = Duration::from_secs(15);
const RETRY_LAST: Duration = Duration::from_secs(60 * 60);
/// What a peer that tries addresses for others speaks.
const TRIES: &str = "/libp2p/autonat/2/dial-request";
/// Addresses of interfaces that are remembered.
const INTERFACES: usize = 64;
/// Where a publicly reachable node listens besides.
const PORT_443: [&str; 4] = [
    "/ip4/0.0.0.0/udp/443/quic-v1",
    "/ip4/0.0.0.0/tcp/443",
    "/ip6/::/udp/443/quic-v1",
    "/ip6/::/tcp/443",
];

/// What this node knows of its place in the network, and does about it.
pub(super) struct Reaching {
    policy: ReachPolicy,
    role: Role,
    reach: Reach,
    relays: Relays,
    pub(super) speakers: Speakers,
    watcher: Option<IfWatcher>,
    interfaces: BTreeSet<IpAddr>,
    /// The interfaces changed, and when that is looked at.
    changed: Option<Instant>,
    looked: Looked,
    /// From which addresses packets leave for the internet, of both families.
    way_out: [Option<IpAddr>; 2],
    listening_since: Option<Instant>,
    serves_table: bool,
    /// Nodes that a place is held for here.
    reservations: HashSet<PeerId>,
    /// Connections carried here, by their ends.
    circuits: HashMap<(PeerId, PeerId), usize>,
    offers_to_relay: bool,
    /// When addresses that nobody reached are tried again, and the pause after that.
    retry: Option<(Instant, Duration)>,
    /// Why we close connections, until they are.
    because: BTreeMap<ConnectionId, ClosedBecause>,
    redial: BTreeSet<PeerId>,
}

impl Reaching {
    pub(super) fn new(policy: ReachPolicy, role: Role, speakers: Speakers) -> Self {
        let watcher = IfWatcher::new()
            .map_err(|error| tracing::warn!(%error, "the interfaces cannot be watched"))
            .ok();
        Self {
            policy,
            role,
            reach: Reach::new(policy.mode),
            relays: Relays::default(),
            speakers,
            watcher,
            interfaces: BTreeSet::new(),
            changed: None,
            looked: Looked::now(),
            way_out: way_out(),
            listening_since: None,
            serves_table: false,
            reservations: HashSet::new(),
            circuits: HashMap::new(),
            offers_to_relay: false,
            retry: None,
            because: BTreeMap::new(),
            redial: BTreeSet::new(),
        }
    }

    pub(super) fn mode(&self) -> ReachMode {
        self.policy.mode
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn interfaces(&self) -> &BTreeSet<IpAddr> {
        &self.interfaces
    }

    /// The next change of an interface. Never, where they cannot be watched. Cancel safe.
    pub(super) async fn next_interface(&mut self) -> io::Result<IfEvent> {
        match &mut self.watcher {
            Some(watcher) => watcher.select_next_some().await,
            None => std::future::pending().await,
        }
    }
}

impl Loop {
    // What is told.

    /// Addresses that another computer can dial, each with our id, in the order of [`for_others`]. None of a node that only asks.
    pub(super) fn dialable(&self) -> Vec<String> {
        if self.reaching.role == Role::Asking {
            return Vec::new();
        }
        let listening = self.listening.addresses().into_iter().cloned();
        let told = for_others(
            self.reaching.policy.mode,
            self.reaching.reach.proven().cloned(),
            listening,
            self.reaching.relays.addresses(),
        );
        let local = *self.swarm.local_peer_id();
        told.iter()
            .map(|address| address::with_peer(address, local).to_string())
            .collect()
    }

    /// Addresses that an offer may name: it goes from hand to hand, so there is none of this home among them.
    pub(super) fn offerable(&self) -> Vec<Bytes> {
        let reaching = &self.reaching;
        if reaching.role == Role::Asking {
            return Vec::new();
        }
        let mode = reaching.policy.mode;
        // Somebody must be the first, whose addresses nobody can try yet.
        let untried = !reaching.reach.is_public() && !reaching.reach.is_disproved();
        let listening = self.listening.addresses().into_iter().cloned();
        let told = for_others(
            mode,
            reaching.reach.proven().cloned(),
            listening.filter(|_| untried),
            reaching.relays.addresses(),
        );
        told.iter()
            .filter(|address| mode.is_public(address))
            .map(|address| Bytes::from(address.to_vec()))
            .filter(|address| address.len() <= MAX_ADDR_BYTES)
            .take(MAX_ADDRS)
            .collect()
    }

    /// For the snapshot.
    pub(super) fn reachability(&self) -> Reachability {
        let reaching = &self.reaching;
        let state = reaching.reach.state(reaching.relays.held());
        let nat = reaching.reach.nat(&reaching.interfaces);
        Reachability {
            nat,
            upnp: reaching.reach.upnp.clone(),
            relays: reaching.relays.views(),
            relaying: Relaying {
                offered: reaching.offers_to_relay,
                reservations: reaching.reservations.len(),
                circuits: reaching.circuits.values().sum(),
            },
            port_443: reaching.reach.port_443.clone(),
            tested_unix_ms: reaching.reach.tested_unix_ms(),
            fixes: reaching
                .reach
                .fixes(&state, nat, reaching.relays.has_candidates()),
            state,
        }
    }

    /// Who is connected, where we listen, or who reaches us changed: what strangers may make us dial, which of our addresses they
    /// are told, and what we do for others.
    pub(super) fn reach_changed(&mut self) {
        let (reach, widest) = (self.peers.reach(), self.peers.widest());
        let anybody = !self.peers.is_empty();
        let kad = &mut self.swarm.behaviour_mut().kad;
        kad.set_reach(reach);
        if anybody && kad.set_told(widest) {
            self.routing_again();
        }
        let tell = self.tellable();
        let told: Vec<_> = self.swarm.external_addresses().cloned().collect();
        for address in told.iter().filter(|address| !tell.contains(address)) {
            self.swarm.remove_external_address(address);
        }
        for address in tell {
            if !told.contains(&address) {
                self.swarm.add_external_address(address);
            }
        }
        self.help_others();
        self.dirty = true;
    }

    /// What peers may be told of ourselves: while one of them is a stranger, no address of this home.
    fn tellable(&self) -> BTreeSet<Multiaddr> {
        if self.reaching.role == Role::Asking {
            return BTreeSet::new();
        }
        let widest = self.peers.widest();
        let listening = self.listening.addresses().into_iter();
        listening
            .filter(|address| address::may_tell(widest, address))
            .chain(self.reaching.reach.proven())
            .cloned()
            .chain(self.reaching.relays.addresses())
            .collect()
    }

    /// Answers routing queries and carries connections while that is of use to others: only who is reached can do either.
    fn help_others(&mut self) {
        let reaching = &self.reaching;
        let on = reaching.role == Role::Serving && self.listening.is_on();
        let listens_publicly = self
            .listening
            .addresses()
            .iter()
            .any(|address| reaching.policy.mode.is_public(address));
        let reached = reaching.reach.is_public()
            // Somebody must be the first, whom nobody can try yet.
            || (listens_publicly && !reaching.reach.is_disproved())
            // Among neighbours everybody is reached.
            || !self.peers.has_strangers();
        let serves_table = on && reached;
        let carries = match reaching.policy.relay_server {
            RelayServer::Off => false,
            RelayServer::WithOwnAddress => reaching.reach.has_own_address(&reaching.interfaces),
            RelayServer::WhenReachable => reaching.reach.is_public(),
        };
        let carries = on && carries;
        if serves_table != self.reaching.serves_table {
            self.reaching.serves_table = serves_table;
            self.swarm.behaviour_mut().kad.serve(serves_table);
        }
        if carries != self.reaching.offers_to_relay {
            self.reaching.offers_to_relay = carries;
            if let Some(server) = self.swarm.behaviour_mut().relay_server.as_mut() {
                server.set_status(Some(if carries {
                    relay::Status::Enable
                } else {
                    relay::Status::Disable
                }));
            }
        }
    }

    // Probes and the router.

    /// A listener has a new address.
    pub(super) fn new_listener(&mut self, address: &Multiaddr) {
        self.reaching
            .listening_since
            .get_or_insert_with(Instant::now);
        self.offer_candidate(address);
        self.ask_router();
    }

    /// Others are asked to try this address, unless somebody reached it since the network changed last, and are told it when a
    /// hole is punched.
    fn offer_candidate(&mut self, address: &Multiaddr) {
        let is_proven = self.reaching.reach.proven().any(|proven| proven == address);
        let behaviour = self.swarm.behaviour_mut();
        if let Some(autonat) = behaviour.autonat.as_mut()
            && !is_proven
        {
            autonat.candidate(address);
        }
        if let Some(dcutr) = behaviour.dcutr.as_mut() {
            dcutr.candidate(address);
        }
    }

    pub(super) fn on_probed(&mut self, event: &autonat::v2::client::Event) {
        tracing::debug!(address = %event.tested_addr, server = %event.server, result = ?event.result, "an address of ours was tried");
        let now = unix_ms();
        match &event.result {
            Ok(()) => {
                self.reaching
                    .reach
                    .proved(&event.tested_addr, Proof::DialledBack, now);
            }
            Err(_) => {
                self.reaching.reach.disproved(&event.tested_addr, now);
            }
        }
        self.reach_changed();
    }

    /// We tried an address of a peer. The connection was made for that alone.
    pub(super) fn on_tried(&mut self, event: &autonat::v2::server::Event) {
        tracing::debug!(client = %event.client, tested = %event.tested_addr, "a peer's address was tried");
        let server = self.swarm.behaviour().autonat_server.as_ref();
        let made = server.map_or_else(Vec::new, |server| {
            server.made(&event.client, &event.tested_addr)
        });
        for connection in made {
            self.close_because(connection, ClosedBecause::Finished);
        }
    }

    /// Lets addresses that nobody reached yet be tried once more. The library remembers a failure for ever, and an attempt whose
    /// connection broke as one that goes on; a new prober knows of neither, but only of peers that it sees being connected.
    fn try_again(&mut self, now: Instant) {
        let Some(autonat) = self.swarm.behaviour().autonat.as_ref() else {
            return;
        };
        let proven: BTreeSet<_> = self.reaching.reach.proven().collect();
        let unproven: Vec<_> = autonat
            .candidates()
            .filter(|candidate| !proven.contains(candidate))
            .cloned()
            .collect();
        let who = self
            .peers
            .iter()
            .filter(|(_, connected)| connected.speaks(TRIES))
            .find_map(|(peer, connected)| Some((*peer, connected.dialled().last()?.clone())));
        let (false, Some((peer, address))) = (unproven.is_empty(), who) else {
            self.reaching.retry = None;
            return;
        };
        let (at, pause) = *self
            .reaching
            .retry
            .get_or_insert((now + RETRY_FIRST, RETRY_FIRST * 2));
        if now < at {
            return;
        }
        self.reaching.retry = Some((now + pause, (pause * 2).min(RETRY_LAST)));
        if let Some(autonat) = self.swarm.behaviour_mut().autonat.as_mut() {
            autonat.reset(behaviour::prober());
            for candidate in &unproven {
                autonat.candidate(candidate);
            }
        }
        self.dial_again(peer, address);
    }

    /// Asks the router to pass ports on, once there is a listener behind it.
    fn ask_router(&mut self) {
        let policy = self.reaching.policy;
        let behind_router = self.listening.addresses().iter().any(|address| {
            address::scope(address) == Some(Scope::Private)
                && address::ip(address).is_some_and(|ip| ip.is_ipv4())
        });
        let asks = policy.upnp
            && policy.mode == ReachMode::Internet
            && self.reaching.role == Role::Serving
            && behind_router
            && !self.swarm.behaviour().upnp.is_enabled();
        if !asks {
            return;
        }
        let mut upnp = upnp::tokio::Behaviour::default();
        self.listening.replay(&mut upnp);
        self.swarm.behaviour_mut().upnp = Toggle::from(Some(upnp));
        self.reaching.reach.upnp = UpnpState::Searching;
    }

    fn forget_router(&mut self) {
        self.swarm.behaviour_mut().upnp = Toggle::from(None);
        self.reaching.reach.upnp = UpnpState::Off;
    }

    pub(super) fn on_upnp(&mut self, event: upnp::Event) {
        let reach = &mut self.reaching.reach;
        match event {
            upnp::Event::NewExternalAddr { external_addr, .. } => {
                reach.mapped(&external_addr, unix_ms());
                self.offer_candidate(&external_addr);
            }
            upnp::Event::ExpiredExternalAddr { external_addr, .. } => {
                reach.unmapped(&external_addr);
            }
            upnp::Event::GatewayNotFound => reach.upnp = UpnpState::NotFound,
            upnp::Event::NonRoutableGateway => reach.upnp = UpnpState::NotRoutable,
        }
        self.reach_changed();
    }

    /// Port 443 could be opened.
    pub(super) fn extra_opened(&mut self) {
        self.reaching.reach.port_443 = PortState::Open;
    }

    /// Port 443 could not be opened.
    pub(super) fn extra_refused(&mut self, reason: String) {
        if self.reaching.reach.port_443 != PortState::Open {
            self.reaching.reach.port_443 = PortState::Refused { reason };
        }
        self.dirty = true;
    }

    // Peers.

    /// A peer introduced itself and says at which address it sees us.
    pub(super) fn introduced(&mut self, peer: PeerId, on: ConnectionId, sees_us_at: &Multiaddr) {
        let Some(connected) = self.peers.get(&peer) else {
            return;
        };
        let is_ours = OURS.iter().any(|protocol| connected.speaks(protocol));
        self.reaching.speakers.introduced(peer, is_ours);
        if !is_ours {
            return self.is_no_peer_of_ours(peer);
        }
        let dialled = connected.dialled().last().cloned();
        let link = connected.links().iter().find(|link| link.id == on);
        let tells = link.is_some_and(|link| {
            link.direction == Direction::Out
                && !link.from_fresh_port
                && may_reuse(self.listening.asked(), &link.remote)
                && self.may_be_ours(sees_us_at)
        });
        let carries = connected.speaks(HOP);
        let now = Instant::now();
        if tells && (self.listening.is_on() || self.reaching.role == Role::Asking) {
            self.reaching.reach.seen_at(peer, sees_us_at);
            for candidate in self.reaching.reach.seen() {
                self.offer_candidate(&candidate);
            }
        }
        match dialled {
            Some(address) if carries => self.reaching.relays.offers(peer, address, now),
            Some(_) => self.reaching.relays.withdrew(&peer, now),
            // It came to us: where others reach it is not known.
            None => {}
        }
        self.reserve();
    }

    /// Whether it is worth trying what a peer sees us at. An address of this computer itself, with no router before it, is known
    /// without being told: at another port of it nobody listens.
    fn may_be_ours(&self, seen: &Multiaddr) -> bool {
        let is_own = address::ip(seen).is_some_and(|ip| self.reaching.interfaces.contains(&ip));
        !is_own || self.listening.has(&address::without_peer(seen))
    }

    /// Somebody of another network, or who does not say: there is nothing to say to each other, and it must not be carried.
    pub(super) fn is_no_peer_of_ours(&mut self, peer: PeerId) {
        self.reaching.speakers.introduced(peer, false);
        let carried = self.reaching.reservations.contains(&peer)
            || self
                .reaching
                .circuits
                .keys()
                .any(|(from, to)| *from == peer || *to == peer);
        if carried {
            // Already gone is as good.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    /// The last connection to a peer closed.
    pub(super) fn reach_gone(&mut self, peer: &PeerId) {
        self.reaching.speakers.gone(peer);
        self.reaching.relays.withdrew(peer, Instant::now());
        if self.reaching.redial.remove(peer) && !self.is_shut_out(peer) {
            self.dial_known(*peer);
        }
        self.reserve();
    }

    pub(super) fn on_hole_punched(&mut self, event: &dcutr::Event) {
        tracing::debug!(peer = %event.remote_peer_id, result = ?event.result, "a hole was tried");
        let what = match &event.result {
            Ok(_) => ConnectionChange::Upgraded,
            Err(_) => ConnectionChange::NotUpgraded,
        };
        let peer = identity::to_protocol(&event.remote_peer_id);
        self.log.add(peer, Direction::Out, Path::Relayed, what);
    }
}

/// Addresses of this node as they are worth being tried: those at which others reached it, those that look as if others could, those
/// through relays, those of its home, and last those of this computer; each kind over QUIC first.
fn for_others(
    mode: ReachMode,
    proven: impl Iterator<Item = Multiaddr>,
    listening: impl Iterator<Item = Multiaddr>,
    relayed: impl Iterator<Item = Multiaddr>,
) -> Vec<Multiaddr> {
    let listening = listening.map(|address| match address::scope(&address) {
        _ if mode.is_public(&address) => (1, address),
        Some(Scope::Loopback) => (4, address),
        Some(Scope::Private | Scope::Public) | None => (3, address),
    });
    let mut told: Vec<_> = proven
        .map(|address| (0, address))
        .chain(listening)
        .chain(relayed.map(|address| (2, address)))
        .collect();
    told.sort_by_key(|(kind, address)| (*kind, Transport::of(address) != Transport::Quic));
    let mut seen = BTreeSet::new();
    told.into_iter()
        .map(|(_, address)| address)
        .filter(|address| seen.insert(address.clone()))
        .collect()
}

/// What a peer of this network speaks at least one of.
const OURS: [&str; 3] = [
    protocol::frame::PROTOCOL,
    protocol::offer::PROTOCOL,
    protocol::quote::PROTOCOL,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_here_from_far_away_stands_before_what_leads_here_from_home() {
        let relayed = format!(
            "/ip4/203.0.113.9/udp/443/quic-v1/p2p/{}/p2p-circuit",
            PeerId::random()
        );
        let read = |texts: &[&str]| -> Vec<Multiaddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let listening = read(&[
            "/ip4/127.0.0.1/udp/1/quic-v1",
            "/ip4/192.168.1.2/tcp/2",
            "/ip4/192.168.1.2/udp/1/quic-v1",
            "/ip4/198.51.100.1/tcp/2",
            "/ip4/198.51.100.1/udp/1/quic-v1",
        ]);
        let told = for_others(
            ReachMode::Internet,
            read(&["/ip4/198.51.100.1/tcp/2"]).into_iter(),
            listening.into_iter(),
            read(&[&relayed]).into_iter(),
        );
        let expected = read(&[
            "/ip4/198.51.100.1/tcp/2",
            "/ip4/198.51.100.1/udp/1/quic-v1",
            &relayed,
            "/ip4/192.168.1.2/udp/1/quic-v1",
            "/ip4/192.168.1.2/tcp/2",
            "/ip4/127.0.0.1/udp/1/quic-v1",
        ]);
        assert_eq!(told, expected);
    }
}
