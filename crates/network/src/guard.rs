//! A behaviour of libp2p whose dials and candidates pass through our gate.
//!
//! AutoNAT and DCUtR dial addresses that a stranger names. Without a gate that is a way to make this node knock on doors of
//! its own home, or, many nodes together, on somebody else's.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    task::{Context, Poll},
    time::Instant,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NewExternalAddrCandidate,
        THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, behaviour::ConnectionEstablished,
    },
};

use crate::{
    address,
    limits::{Buckets, Rate},
    reach::ReachMode,
};

/// Dials that one peer may cause: a node has a few addresses to try, and tries them again when its network changed.
const DIALS: Rate = Rate {
    burst: 12.0,
    per_second: 0.05,
};
/// Addresses of ours that others are asked to try. Each costs this node up to 100 KB, which the other end asks for so that nobody
/// is made to send more than he was sent; and one that does not manage is asked again by libp2p at once. What is left out is
/// tried after the pause that follows every failure.
const PROBES: Rate = Rate {
    burst: 16.0,
    per_second: 1.0 / 300.0,
};
/// Candidates that are handed on between two resets: a node has one or two per transport and family.
const CANDIDATES: usize = 32;

/// Where a peer may send us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Only to the computer that it is connected from: nobody else is knocked at.
    SameHost,
    /// To addresses that strangers can have.
    Public,
}

/// Why a dial was not made.
#[derive(Debug, thiserror::Error)]
#[error("a peer asked for a dial that it may not ask for")]
pub(crate) struct Refused;

/// See the module.
pub(crate) struct Guard<B> {
    inner: B,
    mode: ReachMode,
    rule: Rule,
    /// Dials that the behaviour asked for and that were not begun yet.
    dials: HashSet<ConnectionId>,
    /// Connections that came of its dials.
    made: HashMap<ConnectionId, PeerId>,
    rate: Buckets<PeerId>,
    /// What [`PROBES`] still allows, where the behaviour asks others to try our addresses.
    probes: Option<Buckets<()>>,
    connections: HashMap<ConnectionId, (PeerId, ConnectedPoint)>,
    candidates: HashSet<Multiaddr>,
}

impl<B: NetworkBehaviour> Guard<B> {
    pub(crate) fn new(inner: B, mode: ReachMode, rule: Rule) -> Self {
        Self {
            inner,
            mode,
            rule,
            dials: HashSet::new(),
            made: HashMap::new(),
            rate: Buckets::per_peer(DIALS),
            probes: None,
            connections: HashMap::new(),
            candidates: HashSet::new(),
        }
    }

    /// The same, of a behaviour that asks others to try our addresses: not without end.
    pub(crate) fn asking_seldom(self) -> Self {
        Self {
            probes: Some(Buckets::new(PROBES, 1)),
            ..self
        }
    }

    fn may_ask(&mut self, now: Instant) -> bool {
        self.probes
            .as_mut()
            .is_none_or(|probes| probes.take((), now).is_ok())
    }

    /// One of our own addresses that is worth trying. What peers claim to see goes nowhere else.
    pub(crate) fn candidate(&mut self, address: &Multiaddr) {
        if self.mode.is_public(address)
            && self.candidates.len() < CANDIDATES
            && self.candidates.insert(address.clone())
        {
            self.inner
                .on_swarm_event(FromSwarm::NewExternalAddrCandidate(
                    NewExternalAddrCandidate { addr: address },
                ));
        }
    }

    /// Connections to this peer at this address that the behaviour asked for: whoever has no more use for them closes them.
    pub(crate) fn made(&self, peer: &PeerId, at: &Multiaddr) -> Vec<ConnectionId> {
        let at = address::without_peer(at);
        let made = self.made.iter().filter(|(_, to)| *to == peer);
        made.map(|(id, _)| *id)
            .filter(|id| {
                self.connections.get(id).is_some_and(|(_, endpoint)| {
                    address::without_peer(endpoint.get_remote_address()) == at
                })
            })
            .collect()
    }

    /// What was handed on.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = &Multiaddr> {
        self.candidates.iter()
    }

    /// Starts over with another behaviour of the same kind, which hears of the connections that are open.
    pub(crate) fn reset(&mut self, inner: B) {
        self.inner = inner;
        self.candidates.clear();
        for (id, (peer, endpoint)) in &self.connections {
            self.inner
                .on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                    peer_id: *peer,
                    connection_id: *id,
                    endpoint,
                    failed_addresses: &[],
                    other_established: 0,
                }));
        }
    }

    fn may_dial(&mut self, peer: Option<PeerId>, addresses: &[Multiaddr]) -> bool {
        let Some(peer) = peer else { return false };
        let hosts: Vec<IpAddr> = self
            .connections
            .values()
            .filter(|(other, _)| *other == peer)
            .filter_map(|(_, endpoint)| address::ip(endpoint.get_remote_address()))
            .collect();
        let allowed = addresses.iter().all(|told| {
            address::is_dialable(told)
                && !address::is_relayed(told)
                && self.mode.is_public(told)
                && (self.rule == Rule::Public
                    || address::ip(told).is_some_and(|ip| hosts.contains(&ip)))
        });
        allowed && !addresses.is_empty() && self.rate.take(peer, Instant::now()).is_ok()
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Guard<B> {
    type ConnectionHandler = B::ConnectionHandler;
    type ToSwarm = B::ToSwarm;

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
        if self.dials.remove(&id) {
            let Some(peer) = peer.filter(|_| self.may_dial(peer, addresses)) else {
                tracing::debug!(
                    ?peer,
                    ?addresses,
                    "a dial that a peer asked for is not made"
                );
                return Err(ConnectionDenied::new(Refused));
            };
            self.made.insert(id, peer);
        }
        self.inner
            .handle_pending_outbound_connection(id, peer, addresses, role)
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
        if let FromSwarm::NewExternalAddrCandidate(_) = event {
            // What one peer claims to see is gathered by the loop, and judged with what others see.
            return;
        }
        if let FromSwarm::ConnectionEstablished(established) = event {
            self.connections.insert(
                established.connection_id,
                (established.peer_id, established.endpoint.clone()),
            );
        } else if let FromSwarm::ConnectionClosed(closed) = event {
            self.connections.remove(&closed.connection_id);
            self.made.remove(&closed.connection_id);
        } else if let FromSwarm::DialFailure(failure) = event {
            // One that another behaviour denied was never asked about here.
            self.dials.remove(&failure.connection_id);
            self.made.remove(&failure.connection_id);
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
        loop {
            let event = std::task::ready!(self.inner.poll(cx));
            if let ToSwarm::Dial { opts } = &event {
                self.dials.insert(opts.connection_id());
            }
            if matches!(event, ToSwarm::NotifyHandler { .. }) && !self.may_ask(Instant::now()) {
                continue;
            }
            return Poll::Ready(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::swarm::{
        DialError,
        behaviour::{ConnectionClosed, DialFailure},
        dummy,
    };

    use super::*;

    fn guard(rule: Rule) -> (Guard<dummy::Behaviour>, PeerId) {
        let mut guard = Guard::new(dummy::Behaviour, ReachMode::Internet, rule);
        let peer = PeerId::random();
        let endpoint = ConnectedPoint::Listener {
            local_addr: addr("/ip4/198.51.100.1/tcp/1"),
            send_back_addr: addr("/ip4/203.0.113.5/tcp/50000"),
        };
        guard
            .connections
            .insert(ConnectionId::new_unchecked(1), (peer, endpoint));
        (guard, peer)
    }

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn nobody_is_made_to_knock_at_a_third_door() {
        let (mut guard, peer) = guard(Rule::SameHost);
        assert!(guard.may_dial(Some(peer), &[addr("/ip4/203.0.113.5/udp/4001/quic-v1")]));
        for door in [
            "/ip4/203.0.113.6/tcp/4001",
            "/ip4/192.168.1.1/tcp/80",
            "/ip4/127.0.0.1/tcp/22",
            "/dns4/example.org/tcp/80",
        ] {
            assert!(!guard.may_dial(Some(peer), &[addr(door)]), "{door}");
        }
        let two = [
            addr("/ip4/203.0.113.5/tcp/1"),
            addr("/ip4/203.0.113.6/tcp/1"),
        ];
        assert!(
            !guard.may_dial(Some(peer), &two),
            "one bad address spoils the rest"
        );
        assert!(
            !guard.may_dial(Some(PeerId::random()), &two[..1]),
            "a stranger"
        );
        assert!(!guard.may_dial(None, &two[..1]));
        assert!(!guard.may_dial(Some(peer), &[]));
    }

    #[test]
    fn a_hole_is_punched_in_public_ranges_only_and_not_without_end() {
        let (mut guard, peer) = guard(Rule::Public);
        assert!(!guard.may_dial(Some(peer), &[addr("/ip4/10.0.0.1/tcp/1")]));
        let through_another = format!("/ip4/203.0.113.9/tcp/1/p2p/{peer}/p2p-circuit");
        assert!(!guard.may_dial(Some(peer), &[addr(&through_another)]));
        let public = [addr("/ip4/203.0.113.9/udp/4001/quic-v1")];
        let made = (0..100)
            .filter(|_| guard.may_dial(Some(peer), &public))
            .count();
        assert_eq!(made, DIALS.burst as usize);
    }

    #[test]
    fn a_connection_that_was_made_to_try_an_address_is_known_until_it_closes() {
        let (mut guard, peer) = guard(Rule::SameHost);
        let tried = addr("/ip4/203.0.113.5/udp/4001/quic-v1");
        let (id, denied) = (
            ConnectionId::new_unchecked(2),
            ConnectionId::new_unchecked(3),
        );
        guard.dials.extend([id, denied]);
        let door = [tried.clone()];
        guard
            .handle_pending_outbound_connection(id, Some(peer), &door, Endpoint::Dialer)
            .unwrap();
        let endpoint = ConnectedPoint::Dialer {
            address: tried.clone().with_p2p(peer).unwrap(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        guard.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id: id,
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: 1,
        }));
        assert_eq!(guard.made(&peer, &tried), [id]);
        assert_eq!(
            guard.made(&peer, &addr("/ip4/203.0.113.5/tcp/50000")),
            [],
            "the one that it came by is not ours to close"
        );
        guard.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id: peer,
            connection_id: id,
            endpoint: &endpoint,
            cause: None,
            remaining_established: 1,
        }));
        // Another behaviour was full before this one was asked.
        guard.on_swarm_event(FromSwarm::DialFailure(DialFailure {
            peer_id: Some(peer),
            error: &DialError::Aborted,
            connection_id: denied,
        }));
        assert!(guard.made.is_empty() && guard.dials.is_empty());
    }

    #[test]
    fn others_are_asked_to_try_our_addresses_a_few_times_and_then_seldom() {
        let (guard, _) = guard(Rule::Public);
        let mut guard = guard.asking_seldom();
        let start = Instant::now();
        let asked =
            |guard: &mut Guard<_>, second: u64| guard.may_ask(start + Duration::from_secs(second));
        let at_once = (0..100).filter(|_| asked(&mut guard, 0)).count();
        assert_eq!(at_once, PROBES.burst as usize);
        let in_the_next_hour = (0..3600)
            .filter(|second| asked(&mut guard, *second))
            .count();
        assert!((11..=12).contains(&in_the_next_hour), "{in_the_next_hour}");
    }

    #[test]
    fn candidates_are_ours_public_and_few() {
        let (mut guard, _) = guard(Rule::Public);
        guard.candidate(&addr("/ip4/192.168.1.2/tcp/1"));
        assert!(guard.candidates.is_empty());
        for port in 1..1000 {
            guard.candidate(&addr(&format!("/ip4/198.51.100.1/tcp/{port}")));
        }
        assert_eq!(guard.candidates.len(), CANDIDATES);
    }
}
