//! How far this node reaches and is reached: what a person allows, and what came of it.
//!
//! [`Reach`] gathers verdicts: which of our addresses others dialled back, what the router mapped, at which port peers see us. From
//! them follow what strangers are told, whether we help others, and whether we need help ourselves. It is a plain function of what
//! it was told and the time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use libp2p::Multiaddr;
use protocol::PeerId;

use crate::address::{self, Scope, Transport};

/// Addresses whose verdict is remembered: a node has one or two, per transport and family.
const VERDICTS: usize = 32;
/// Peers whose view of our address is remembered.
const OBSERVERS: usize = 64;
/// Distinct peers that have to agree, or to differ, before a router is judged.
const WITNESSES: usize = 2;

/// Which computers this node talks to at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReachMode {
    /// Everybody.
    #[default]
    Internet,
    /// Computers of this local network. No packet goes to, and no listener is opened on, an address outside of the private
    /// ranges.
    LanOnly,
    /// As [`ReachMode::Internet`], for many nodes on one computer: addresses of the loopback count as public ones, and no router
    /// is asked for anything.
    Lab,
}

impl ReachMode {
    /// Whether a packet may be sent to this address.
    pub(crate) fn may_dial(self, address: &Multiaddr) -> bool {
        match self {
            Self::Internet | Self::Lab => true,
            Self::LanOnly => address::scope(address).is_some_and(|scope| scope != Scope::Public),
        }
    }

    /// Whether a listener may be opened on this address, and a connection taken that comes from it.
    pub(crate) fn may_listen(self, address: &Multiaddr) -> bool {
        match self {
            Self::Internet | Self::Lab => true,
            Self::LanOnly => address::scope(address).is_some_and(|scope| scope != Scope::Public),
        }
    }

    /// Whether strangers could reach such an address.
    pub(crate) fn is_public(self, address: &Multiaddr) -> bool {
        match address::scope(address) {
            Some(Scope::Public) => true,
            Some(Scope::Loopback) => self == Self::Lab,
            Some(Scope::Private) | None => false,
        }
    }
}

/// What this node is in the network for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It may listen, and serves then.
    #[default]
    Serving,
    /// It asks. It listens on ports that the system chooses and that nobody is told, since punching a hole in a router needs a
    /// listener; it announces nothing, also not in the local network, answers no routing queries and takes no connection from a stranger.
    Asking,
}

/// When a node carries connections of others, which it cannot read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayServer {
    /// Never.
    Off,
    /// While it has a public address of its own, as a rented server has: there the line is not a family's.
    #[default]
    WithOwnAddress,
    /// While others reach it at all, also behind a router that passes a port on.
    WhenReachable,
}

/// When a node asks others to carry connections to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayClient {
    /// Never.
    Off,
    /// While nobody reaches it directly.
    #[default]
    WhenUnreachable,
    /// Always, so that it stays reachable when its router forgets a port.
    Always,
}

/// What a person allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReachPolicy {
    /// Which computers this node talks to.
    pub mode: ReachMode,
    /// Ask the router to pass a port on (UPnP). Nothing is asked in [`ReachMode::Lab`], nor while no listener is in a private
    /// network.
    pub upnp: bool,
    /// Carry connections of others.
    pub relay_server: RelayServer,
    /// Let others carry connections to this node.
    pub relay_client: RelayClient,
    /// Try to turn a relayed connection into a direct one.
    pub hole_punching: bool,
    /// Listen on port 443 too, of TCP and UDP, while this node is publicly reachable: many networks let nothing else out. Where
    /// the system does not allow it, the status says so.
    pub port_443: bool,
}

impl Default for ReachPolicy {
    fn default() -> Self {
        Self {
            mode: ReachMode::default(),
            upnp: true,
            relay_server: RelayServer::default(),
            relay_client: RelayClient::default(),
            hole_punching: true,
            port_443: true,
        }
    }
}

impl ReachPolicy {
    /// That of many nodes on one computer: see [`ReachMode::Lab`].
    #[must_use]
    pub fn lab() -> Self {
        Self {
            mode: ReachMode::Lab,
            upnp: false,
            port_443: false,
            relay_server: RelayServer::WhenReachable,
            ..Self::default()
        }
    }
}

/// Whether and how others reach this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reachability {
    /// The verdict.
    pub state: ReachState,
    /// What the router said.
    pub upnp: UpnpState,
    /// How the router names this node to others; `None` before two peers said at which port they see it.
    pub nat: Option<NatKind>,
    /// Relays that carry connections to this node, or are being asked to.
    pub relays: Vec<RelayView>,
    /// What this node carries for others.
    pub relaying: Relaying,
    /// Port 443.
    pub port_443: PortState,
    /// When an address was last tried from outside, Unix milliseconds.
    pub tested_unix_ms: Option<u64>,
    /// What a person can do about it, the most helpful first. Empty when there is nothing to mend.
    pub fixes: Vec<ReachFix>,
}

/// Whether others reach this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReachState {
    /// Nobody has tried yet, or this node does not listen.
    #[default]
    Unknown,
    /// Others reached it at these addresses.
    Public {
        /// Without `/p2p/…`.
        addrs: Vec<String>,
    },
    /// Only through these relays.
    Relayed {
        /// The relays that hold a place for it.
        via: Vec<PeerId>,
    },
    /// Others tried and failed, and no relay carries connections to it.
    Unreachable,
}

/// What came of asking the router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UpnpState {
    /// It is not asked.
    #[default]
    Off,
    /// It has not answered yet.
    Searching,
    /// No router in this network takes such a wish.
    NotFound,
    /// The router is itself behind another one, or behind the carrier's.
    NotRoutable,
    /// It passes these addresses on.
    Mapped {
        /// Without `/p2p/…`.
        addrs: Vec<String>,
    },
}

/// How a router names the computers behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NatKind {
    /// There is none: peers see an address that this computer has.
    None,
    /// All peers see the same port: holes can be punched (RFC 4787, endpoint-independent mapping).
    EndpointIndependent,
    /// Each peer sees another port: direct connections between two such routers do not come about (RFC 4787, address-dependent
    /// mapping, "symmetric").
    EndpointDependent,
}

/// A relay that this node uses, or asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayView {
    /// Who.
    pub peer: PeerId,
    /// Where it stands.
    pub state: RelayState,
    /// How often in a row it refused or was lost.
    pub failures: u32,
}

/// Where a relay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayState {
    /// It offers to carry, and is not needed or waits for its next turn.
    Candidate,
    /// It was asked for a place.
    Asked,
    /// It holds a place for this node.
    Held {
        /// Since when, Unix milliseconds.
        since_unix_ms: u64,
        /// The bytes after which it cuts a connection; `None`: it names no limit.
        max_bytes: Option<u64>,
        /// The seconds after which it cuts a connection; `None`: it names no limit.
        max_seconds: Option<u64>,
    },
}

/// What this node carries for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relaying {
    /// Whether it offers to.
    pub offered: bool,
    /// Nodes that it holds a place for.
    pub reservations: usize,
    /// Connections that it carries now.
    pub circuits: usize,
}

/// Whether a port that needs the system's leave could be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PortState {
    /// It was not tried.
    #[default]
    NotTried,
    /// It is open.
    Open,
    /// The system said no, with its reason.
    Refused {
        /// The system's own words.
        reason: String,
    },
}

/// What a person can do so that others reach this node. The shell has the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReachFix {
    /// Allow the program in this computer's firewall: it has a public address and nobody gets through.
    AllowInFirewall,
    /// Switch on UPnP in the router, or pass the port on by hand.
    MapPortInRouter,
    /// The carrier shares one address among its customers: ask it for an own one, or use IPv6.
    AskCarrierForAddress,
    /// Nobody is known who could carry connections: connect to more peers, or wait.
    FindRelays,
    /// The router names each peer another port: many askers can reach this node through a relay only.
    RelayOnly,
}

/// How an address came to be known as reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A peer dialled it back.
    DialledBack,
    /// The router says that it passes it on.
    Mapped,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reach {
    mode: ReachMode,
    proven: BTreeMap<Multiaddr, Proof>,
    failed: BTreeSet<Multiaddr>,
    tested_unix_ms: Option<u64>,
    observed: HashMap<(libp2p::PeerId, Transport), Multiaddr>,
    pub(crate) upnp: UpnpState,
    pub(crate) port_443: PortState,
}

impl Reach {
    pub(crate) fn new(mode: ReachMode) -> Self {
        Self {
            mode,
            proven: BTreeMap::new(),
            failed: BTreeSet::new(),
            tested_unix_ms: None,
            observed: HashMap::new(),
            upnp: UpnpState::Off,
            port_443: PortState::NotTried,
        }
    }

    /// Others reach this address. True when that is news.
    pub(crate) fn proved(&mut self, address: &Multiaddr, proof: Proof, now_unix_ms: u64) -> bool {
        let address = address::without_peer(address);
        if !self.mode.is_public(&address) {
            return false;
        }
        if proof == Proof::DialledBack {
            self.tested_unix_ms = Some(now_unix_ms);
        }
        self.failed.remove(&address);
        // A peer's word weighs more than the router's.
        if proof == Proof::Mapped && self.proven.contains_key(&address) {
            return false;
        }
        if self.proven.len() >= VERDICTS && !self.proven.contains_key(&address) {
            return false;
        }
        self.proven.insert(address, proof).is_none()
    }

    /// A peer tried this address and did not get through. What was proved before is not any more.
    pub(crate) fn disproved(&mut self, address: &Multiaddr, now_unix_ms: u64) -> bool {
        let address = address::without_peer(address);
        self.tested_unix_ms = Some(now_unix_ms);
        if self.failed.len() < VERDICTS {
            self.failed.insert(address.clone());
        }
        self.proven.remove(&address).is_some()
    }

    /// The router says that it passes this address on.
    pub(crate) fn mapped(&mut self, address: &Multiaddr, now_unix_ms: u64) {
        if self.proved(address, Proof::Mapped, now_unix_ms) || self.proven.contains_key(address) {
            let mut addrs = match &self.upnp {
                UpnpState::Mapped { addrs } => addrs.clone(),
                UpnpState::Off
                | UpnpState::Searching
                | UpnpState::NotFound
                | UpnpState::NotRoutable => Vec::new(),
            };
            addrs.push(address::without_peer(address).to_string());
            addrs.sort();
            addrs.dedup();
            self.upnp = UpnpState::Mapped { addrs };
        }
    }

    /// The router passes this address on no longer.
    pub(crate) fn unmapped(&mut self, address: &Multiaddr) -> bool {
        let address = address::without_peer(address);
        match self.proven.get(&address) {
            Some(Proof::Mapped) => self.proven.remove(&address).is_some(),
            Some(Proof::DialledBack) | None => false,
        }
    }

    /// The interfaces changed, or listeners closed: nothing of what was found out holds any more.
    pub(crate) fn forget(&mut self) {
        self.proven.clear();
        self.failed.clear();
        self.observed.clear();
        self.tested_unix_ms = None;
    }

    /// A peer says at which address it sees us, on a connection that left from a listener's port.
    pub(crate) fn seen_at(&mut self, by: libp2p::PeerId, at: &Multiaddr) {
        if !self.mode.is_public(at) || address::is_relayed(at) {
            return;
        }
        let key = (by, Transport::of(at));
        if self.observed.len() >= OBSERVERS
            && !self.observed.contains_key(&key)
            && let Some(other) = self.observed.keys().next().copied()
        {
            // Which one goes is the hasher's choice.
            self.observed.remove(&other);
        }
        self.observed.insert(key, address::without_peer(at));
    }

    /// Addresses at which peers see us and that are worth trying: those that two of them agree on, or all while there are few.
    pub(crate) fn seen(&self) -> Vec<Multiaddr> {
        let mut count: BTreeMap<&Multiaddr, usize> = BTreeMap::new();
        for at in self.observed.values() {
            *count.entry(at).or_default() += 1;
        }
        let few = self.observed.len() < 2 * WITNESSES;
        count
            .into_iter()
            .filter(|(_, seen)| few || *seen >= WITNESSES)
            .map(|(at, _)| at.clone())
            .collect()
    }

    /// When an address was last tried from outside.
    pub(crate) fn tested_unix_ms(&self) -> Option<u64> {
        self.tested_unix_ms
    }

    /// Addresses at which others reached this node.
    pub(crate) fn proven(&self) -> impl Iterator<Item = &Multiaddr> {
        self.proven.keys()
    }

    /// Whether others reach this node directly.
    pub(crate) fn is_public(&self) -> bool {
        !self.proven.is_empty()
    }

    /// Whether others tried and nobody got through.
    pub(crate) fn is_disproved(&self) -> bool {
        self.proven.is_empty() && !self.failed.is_empty()
    }

    /// Whether one of the addresses at which others reach this node is this computer's own and not its router's.
    pub(crate) fn has_own_address(&self, interfaces: &BTreeSet<IpAddr>) -> bool {
        self.proven
            .keys()
            .filter_map(address::ip)
            .any(|ip| interfaces.contains(&ip))
    }

    /// How the router names this node.
    pub(crate) fn nat(&self, interfaces: &BTreeSet<IpAddr>) -> Option<NatKind> {
        let own = |at: &Multiaddr| address::ip(at).is_some_and(|ip| interfaces.contains(&ip));
        if self.observed.values().any(own) {
            return Some(NatKind::None);
        }
        // Of QUIC, where all dials leave from the listener's port: with TCP a port in use makes the system choose another.
        let seen: Vec<_> = self
            .observed
            .iter()
            .filter(|((_, transport), at)| {
                *transport == Transport::Quic && address::ip(at).is_some_and(|ip| ip.is_ipv4())
            })
            .map(|(_, at)| at)
            .collect();
        let agree = seen
            .iter()
            .any(|at| seen.iter().filter(|other| *other == at).count() >= WITNESSES);
        if agree {
            Some(NatKind::EndpointIndependent)
        } else if seen.len() >= WITNESSES {
            Some(NatKind::EndpointDependent)
        } else {
            None
        }
    }

    /// The verdict, given the relays that hold a place for this node.
    pub(crate) fn state(&self, via: Vec<PeerId>) -> ReachState {
        if self.is_public() {
            ReachState::Public {
                addrs: self.proven.keys().map(ToString::to_string).collect(),
            }
        } else if !via.is_empty() {
            ReachState::Relayed { via }
        } else if self.is_disproved() {
            ReachState::Unreachable
        } else {
            ReachState::Unknown
        }
    }

    /// What a person can do.
    pub(crate) fn fixes(
        &self,
        state: &ReachState,
        nat: Option<NatKind>,
        has_candidates: bool,
    ) -> Vec<ReachFix> {
        let (relayed, unreachable) = match state {
            ReachState::Public { .. } | ReachState::Unknown => return Vec::new(),
            ReachState::Relayed { .. } => (true, false),
            ReachState::Unreachable => (false, true),
        };
        let mut fixes = Vec::new();
        if nat == Some(NatKind::None) {
            fixes.push(ReachFix::AllowInFirewall);
        } else {
            match self.upnp {
                UpnpState::NotRoutable => fixes.push(ReachFix::AskCarrierForAddress),
                UpnpState::Off | UpnpState::NotFound | UpnpState::Searching => {
                    fixes.push(ReachFix::MapPortInRouter);
                }
                // It passes the port on, and nobody gets through: what is left is this computer's own firewall.
                UpnpState::Mapped { .. } => fixes.push(ReachFix::AllowInFirewall),
            }
        }
        if unreachable && !has_candidates {
            fixes.push(ReachFix::FindRelays);
        }
        if relayed && nat == Some(NatKind::EndpointDependent) {
            fixes.push(ReachFix::RelayOnly);
        }
        fixes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_for_the_local_network_leaves_it_never() {
        let lan = ReachMode::LanOnly;
        for near in [
            "/ip4/192.168.1.5/tcp/1",
            "/ip4/10.0.0.1/udp/1/quic-v1",
            "/ip6/fe80::1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip4/127.0.0.1/tcp/1",
        ] {
            assert!(
                lan.may_dial(&addr(near)) && lan.may_listen(&addr(near)),
                "{near}"
            );
        }
        for far in [
            "/ip4/198.51.100.1/tcp/1",
            "/ip6/2001:db8::1/udp/1/quic-v1",
            "/dns4/example.org/tcp/1",
            "/ip4/0.0.0.0/tcp/1",
            "/ip6/::/tcp/1",
        ] {
            assert!(
                !lan.may_dial(&addr(far)) && !lan.may_listen(&addr(far)),
                "{far}"
            );
        }
    }

    #[test]
    fn the_verdict_follows_what_was_tried() {
        let mut reach = Reach::new(ReachMode::Internet);
        assert_eq!(reach.state(Vec::new()), ReachState::Unknown);
        let (outer, inner) = (
            addr("/ip4/198.51.100.7/tcp/1"),
            addr("/ip4/192.168.1.2/tcp/1"),
        );
        assert!(
            !reach.proved(&inner, Proof::DialledBack, 1),
            "nobody outside sees that one"
        );
        assert!(!reach.disproved(&outer, 2));
        assert_eq!(reach.state(Vec::new()), ReachState::Unreachable);
        assert!(reach.proved(&outer, Proof::DialledBack, 3));
        assert!(!reach.proved(&outer, Proof::DialledBack, 4), "no news");
        assert_eq!(
            reach.state(Vec::new()),
            ReachState::Public {
                addrs: vec![outer.to_string()]
            }
        );
        assert_eq!(reach.tested_unix_ms, Some(4));
        assert!(
            !reach.unmapped(&outer),
            "the router's word does not outweigh a peer's"
        );
        assert!(reach.disproved(&outer, 5));
        assert_eq!(reach.state(Vec::new()), ReachState::Unreachable);
        reach.forget();
        assert_eq!(reach.state(Vec::new()), ReachState::Unknown);
    }

    #[test]
    fn a_router_is_judged_by_what_two_peers_see() {
        let (none, own) = (
            BTreeSet::new(),
            BTreeSet::from(["198.51.100.7".parse().unwrap()]),
        );
        let see = |ports: &[u16]| {
            let mut reach = Reach::new(ReachMode::Internet);
            for port in ports {
                let at = addr(&format!("/ip4/198.51.100.7/udp/{port}/quic-v1"));
                reach.seen_at(libp2p::PeerId::random(), &at);
            }
            reach
        };
        assert_eq!(see(&[4001]).nat(&none), None);
        assert_eq!(
            see(&[4001, 4001]).nat(&none),
            Some(NatKind::EndpointIndependent)
        );
        assert_eq!(
            see(&[4001, 4002]).nat(&none),
            Some(NatKind::EndpointDependent)
        );
        assert_eq!(see(&[4001]).nat(&own), Some(NatKind::None));
        assert_eq!(see(&[4001, 4002]).seen().len(), 2, "of few, all");
        assert_eq!(
            see(&[4001, 4001, 4001, 5000]).seen().len(),
            1,
            "one liar among four names nothing that is tried"
        );
        let mut reach = Reach::new(ReachMode::Internet);
        for _ in 0..2 * OBSERVERS {
            reach.seen_at(libp2p::PeerId::random(), &addr("/ip4/198.51.100.7/tcp/1"));
        }
        assert!(reach.observed.len() <= OBSERVERS);
    }

    #[test]
    fn what_to_do_fits_what_is_wrong() {
        let mut reach = Reach::new(ReachMode::Internet);
        let fixes =
            |reach: &Reach, nat, candidates| reach.fixes(&reach.state(Vec::new()), nat, candidates);
        assert_eq!(fixes(&reach, None, false), []);
        reach.disproved(&addr("/ip4/198.51.100.7/tcp/1"), 1);
        assert_eq!(
            fixes(&reach, Some(NatKind::None), true),
            [ReachFix::AllowInFirewall]
        );
        reach.upnp = UpnpState::NotFound;
        assert_eq!(
            fixes(&reach, Some(NatKind::EndpointIndependent), false),
            [ReachFix::MapPortInRouter, ReachFix::FindRelays]
        );
        reach.upnp = UpnpState::NotRoutable;
        assert_eq!(fixes(&reach, None, true), [ReachFix::AskCarrierForAddress]);
        reach.proved(&addr("/ip4/198.51.100.7/tcp/1"), Proof::DialledBack, 2);
        assert_eq!(fixes(&reach, None, false), []);
    }
}
