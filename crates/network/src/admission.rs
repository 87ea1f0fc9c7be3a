//! Who may connect: the first behaviour of the swarm, so that what it denies no other hears of.
//!
//! Places for connections that others open are few. Each address, each household and each network of a customer may take some of
//! them. When all are taken, a newcomer gets the place of one that is worth least: never of one that works for us or for whom we
//! work, of one near by, of one that moved much, or of the only one of its network; of the rest, the youngest of the
//! network that holds most places. The rule is that of Bitcoin Core: to push an honest peer out, an attacker would have to be
//! better than it in every one of these ways.
//!
//! Connections that we open are for walks through the routing table, most of them, and of no use a moment later. A node that looks
//! for something rare would soon have opened all that it may, and could not reach what it found: the oldest that nobody uses goes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    connection_limits::ConnectionLimits,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
    },
};

use crate::{
    address::{self, Prefix},
    identity,
    limits::{Buckets, JobSlots, Rate},
    reach::{ReachMode, Role},
    traffic::Traffic,
};

/// Handshakes under way from outside. One costs about a millisecond of signatures; 32 keep a core busy for an instant.
const PENDING_IN: u32 = 32;
/// Dials under way; a search in the Kademlia table makes up to six at once, each to a few addresses.
pub(crate) const PENDING_OUT: u32 = 64;
/// Connections that others opened.
const ESTABLISHED_IN: usize = 256;
/// Of these, places that only peers get whom we know to be worth it: who worked for us, or for whom we work.
const RESERVED_IN: usize = 16;
/// Connections that we opened: enough for the routing table's nearest buckets and a handful of providers. They have places of
/// their own: nobody can take them by connecting to us.
pub(crate) const ESTABLISHED_OUT: u32 = 128;
/// Of those, kept free by closing old ones: as many as there are dials of one search at a time.
pub(crate) const ROOM_OUT: usize = 16;
/// One by QUIC, one by TCP, one through a relay, one more while the others are being replaced, and one each way while an address
/// of either end is being tried.
const ESTABLISHED_PER_PEER: u32 = 6;

/// Connections from one address (IPv4) or one /64 (IPv6) at a time. A household behind one address has a few computers.
const PER_HOUSEHOLD: usize = 8;
/// Connections from one /24 (IPv4) or /48 (IPv6) at a time: what one customer of a data centre has.
const PER_SITE: usize = 32;
/// Connections through one relay at a time: half of what a relay carries.
const PER_RELAY: usize = 32;
/// New connections from one household: ten at once, then one a second.
pub(crate) const NEW_PER_HOUSEHOLD: Rate = Rate {
    burst: 10.0,
    per_second: 1.0,
};
/// The same from this computer and its local network, where a person starts program after program. Each comes under a name of its own.
const NEW_NEAR: Rate = Rate {
    burst: 60.0,
    per_second: 6.0,
};
/// Households whose rate is remembered. One beyond that takes the place of the one that has been quiet longest.
const HOUSEHOLDS: usize = 1024;

/// Memory of this process beyond which nobody comes in. The model is not in it: the engine is a process of its own.
const MEMORY: usize = 1 << 30;
/// How often it is looked at: the system answers in some ten microseconds.
const MEMORY_EVERY: Duration = Duration::from_millis(100);

/// Connections that are never closed for a newcomer: those of the least round trip,
const KEEP_NEAR: usize = 8;
/// those that moved most bytes,
const KEEP_USED: usize = 8;
/// and one for each of so many networks that hold only one place.
const KEEP_DISTINCT: usize = 16;

/// The limits that count connections and not who they are. How many others may open is counted here in this module, where one
/// can be closed for another.
pub(crate) fn connections() -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_IN))
        .with_max_pending_outgoing(Some(PENDING_OUT))
        .with_max_established_outgoing(Some(ESTABLISHED_OUT))
        .with_max_established_per_peer(Some(ESTABLISHED_PER_PEER))
}

/// Where a connection comes from, as coarse as a limit needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    household: Prefix,
    site: Prefix,
    carrier: Prefix,
    relayed: bool,
}

impl Origin {
    /// Of an inbound connection. One through a relay comes from the relay, whose address is in front of our own.
    fn of(local: &Multiaddr, remote: &Multiaddr) -> Option<Self> {
        let relayed = address::is_relayed(local);
        let from = if relayed { local } else { remote };
        Some(Self {
            household: Prefix::of_household(from)?,
            site: Prefix::of_site(from)?,
            carrier: Prefix::of_carrier(from)?,
            relayed,
        })
    }
}

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("too many new connections from one address")]
    Rate,
    #[error("too many connections from one address")]
    Household,
    #[error("too many connections from one network")]
    Site,
    #[error("too many connections through one relay")]
    Relay,
    #[error("all places are taken by peers that are worth more")]
    Full,
    #[error("the identity is not an Ed25519 key")]
    Identity,
    #[error("it comes from outside of what the settings allow")]
    OutOfReach,
    #[error("this node only asks, and does not know the peer")]
    Asking,
    #[error("this program uses {0} bytes of memory, more than it may")]
    Memory(usize),
}

/// How much memory this process uses, looked at now and then.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    used: usize,
    looked: Option<Instant>,
}

impl Memory {
    fn used(&mut self, now: Instant) -> usize {
        let old = self
            .looked
            .is_none_or(|at| now.saturating_duration_since(at) >= MEMORY_EVERY);
        if old {
            self.looked = Some(now);
            // A system that does not say sets no limit.
            self.used = memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem);
        }
        self.used
    }
}

#[derive(Clone, Copy, Debug)]
struct Open {
    peer: PeerId,
    origin: Option<Origin>,
    since: Instant,
    rtt: Option<Duration>,
}

/// A connection that might have to go, as the choice sees it.
#[derive(Clone, Copy, Debug)]
struct Place {
    id: ConnectionId,
    network: Option<Prefix>,
    since: Instant,
    rtt: Option<Duration>,
    moved: u64,
    at_work: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Admission {
    mode: ReachMode,
    role: Role,
    traffic: Traffic,
    jobs: JobSlots,
    new: Buckets<Prefix>,
    new_near: Buckets<Prefix>,
    /// Connections that others opened.
    open: HashMap<ConnectionId, Open>,
    /// Connections that we opened, the oldest first.
    made: VecDeque<(PeerId, ConnectionId)>,
    /// Peers with a connection of whatever direction, by how many.
    peers: HashMap<PeerId, usize>,
    /// Peers that answered for us: they find a place when strangers do not.
    valued: HashSet<PeerId>,
    closing: VecDeque<(PeerId, ConnectionId)>,
    memory: Memory,
    max_memory: usize,
}

impl Admission {
    pub(crate) fn new(mode: ReachMode, role: Role, traffic: Traffic, jobs: JobSlots) -> Self {
        Self {
            mode,
            role,
            traffic,
            jobs,
            new: Buckets::new(NEW_PER_HOUSEHOLD, HOUSEHOLDS),
            new_near: Buckets::new(NEW_NEAR, HOUSEHOLDS),
            open: HashMap::new(),
            made: VecDeque::new(),
            peers: HashMap::new(),
            valued: HashSet::new(),
            closing: VecDeque::new(),
            memory: Memory::default(),
            max_memory: MEMORY,
        }
    }

    /// What this process uses says nothing of one node.
    #[cfg(feature = "lab")]
    pub(crate) fn many_nodes_share_this_process(&mut self) {
        self.max_memory = usize::MAX;
    }

    /// A ping came back.
    pub(crate) fn pinged(&mut self, connection: ConnectionId, rtt: Duration) {
        if let Some(open) = self.open.get_mut(&connection) {
            open.rtt = Some(open.rtt.map_or(rtt, |least| least.min(rtt)));
        }
    }

    /// A peer works for us, or did. Remembered for a few hundred of them.
    pub(crate) fn value(&mut self, peer: PeerId) {
        if self.valued.len() >= ESTABLISHED_IN
            && let Some(other) = self.valued.iter().next().copied()
        {
            // Which one goes is the hasher's choice.
            self.valued.remove(&other);
        }
        self.valued.insert(peer);
    }

    /// Before one more connection of our own counts: the oldest that is of no use goes for it. Where all are of use, the limit
    /// on how many there may be says so.
    fn make_room(&mut self) {
        if self.made.len() < ESTABLISHED_OUT as usize - ROOM_OUT {
            return;
        }
        let idle = |(peer, _): &(PeerId, ConnectionId)| {
            !self.jobs.has(peer) && !self.valued.contains(peer)
        };
        if let Some(oldest) = self.made.iter().position(idle) {
            // It is over for this count from now on, so that no other one goes for the same.
            self.closing.extend(self.made.remove(oldest));
        }
    }

    /// Before the handshake: whether one more may come from there.
    fn may_come(
        &mut self,
        local: &Multiaddr,
        remote: &Multiaddr,
        now: Instant,
    ) -> Result<(), Denied> {
        if self.max_memory < usize::MAX {
            let used = self.memory.used(now);
            if used > self.max_memory {
                return Err(Denied::Memory(used));
            }
        }
        let Some(origin) = Origin::of(local, remote) else {
            return Ok(());
        };
        if !origin.relayed && !self.mode.may_listen(remote) {
            return Err(Denied::OutOfReach);
        }
        let held = |what: fn(&Origin) -> Prefix| {
            let origins = self.open.values().filter_map(|open| open.origin.as_ref());
            origins
                .filter(|other| other.relayed == origin.relayed && what(other) == what(&origin))
                .count()
        };
        if origin.relayed {
            return if held(|origin| origin.household) < PER_RELAY {
                Ok(())
            } else {
                Err(Denied::Relay)
            };
        }
        if held(|origin| origin.household) >= PER_HOUSEHOLD {
            return Err(Denied::Household);
        }
        if held(|origin| origin.site) >= PER_SITE {
            return Err(Denied::Site);
        }
        let new = match self.mode.is_public(remote) {
            true => &mut self.new,
            false => &mut self.new_near,
        };
        new.take(origin.household, now).map_err(|_| Denied::Rate)
    }

    /// After the handshake: whether there is a place, or somebody goes for it.
    fn may_stay(&mut self, peer: PeerId) -> Result<(), Denied> {
        let valued = self.valued.contains(&peer);
        let places = if valued {
            ESTABLISHED_IN
        } else {
            ESTABLISHED_IN - RESERVED_IN
        };
        if self.open.len() < places {
            return Ok(());
        }
        let going: HashSet<_> = self.closing.iter().map(|(_, id)| *id).collect();
        let places: Vec<_> = self
            .open
            .iter()
            .filter(|(id, _)| !going.contains(id))
            .map(|(id, open)| Place {
                id: *id,
                network: open.origin.map(|origin| origin.carrier),
                since: open.since,
                rtt: open.rtt,
                moved: self.traffic.of(&open.peer).total(),
                at_work: self.jobs.has(&open.peer) || self.valued.contains(&open.peer),
            })
            .collect();
        let victim = least_worth(places).ok_or(Denied::Full)?;
        if let Some(open) = self.open.get(&victim) {
            self.closing.push_back((open.peer, victim));
        }
        Ok(())
    }
}

/// Which connection goes for a newcomer. See the module.
fn least_worth(mut places: Vec<Place>) -> Option<ConnectionId> {
    places.retain(|place| !place.at_work);
    let keep = |places: &mut Vec<Place>, kept: usize| {
        let kept = kept.min(places.len());
        places.drain(..kept);
    };
    places.sort_by_key(|place| place.rtt.unwrap_or(Duration::MAX));
    let measured = places.iter().filter(|place| place.rtt.is_some()).count();
    keep(&mut places, KEEP_NEAR.min(measured));
    places.sort_by_key(|place| std::cmp::Reverse(place.moved));
    let used = places.iter().filter(|place| place.moved > 0).count();
    keep(&mut places, KEEP_USED.min(used));

    let mut of_network: HashMap<Option<Prefix>, usize> = HashMap::new();
    for place in &places {
        *of_network.entry(place.network).or_default() += 1;
    }
    places.sort_by_key(|place| (of_network[&place.network], place.since));
    let alone = places
        .iter()
        .take_while(|place| of_network[&place.network] == 1)
        .count();
    keep(&mut places, KEEP_DISTINCT.min(alone));
    // Of what is left the older half stays: it has proved itself by time.
    places.sort_by_key(|place| place.since);
    let older = places.len() / 2;
    keep(&mut places, older);

    let mut of_network: HashMap<Option<Prefix>, usize> = HashMap::new();
    for place in &places {
        *of_network.entry(place.network).or_default() += 1;
    }
    places
        .into_iter()
        .max_by_key(|place| (of_network[&place.network], place.network, place.since))
        .map(|place| place.id)
}

impl NetworkBehaviour for Admission {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.may_come(local, remote, Instant::now())
            .map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        identity::to_protocol(&peer).ok_or_else(|| ConnectionDenied::new(Denied::Identity))?;
        // A peer through a relay that answers for us may come directly: that is a hole being punched.
        if self.role == Role::Asking && !self.peers.contains_key(&peer) {
            return Err(ConnectionDenied::new(Denied::Asking));
        }
        self.may_stay(peer).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        identity::to_protocol(&peer).ok_or_else(|| ConnectionDenied::new(Denied::Identity))?;
        self.make_room();
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionEstablished(established) = event {
            *self.peers.entry(established.peer_id).or_default() += 1;
            let (peer, id) = (established.peer_id, established.connection_id);
            match established.endpoint {
                ConnectedPoint::Listener {
                    local_addr,
                    send_back_addr,
                } => {
                    let open = Open {
                        peer,
                        origin: Origin::of(local_addr, send_back_addr),
                        since: Instant::now(),
                        rtt: None,
                    };
                    self.open.insert(id, open);
                }
                ConnectedPoint::Dialer { .. } => self.made.push_back((peer, id)),
            }
        } else if let FromSwarm::ConnectionClosed(closed) = event {
            self.open.remove(&closed.connection_id);
            self.made.retain(|(_, id)| *id != closed.connection_id);
            if let Some(count) = self.peers.get_mut(&closed.peer_id) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.peers.remove(&closed.peer_id);
                }
            }
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.closing.pop_front() {
            Some((peer_id, id)) => Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::One(id),
            }),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn admission(mode: ReachMode, role: Role) -> Admission {
        Admission::new(mode, role, Traffic::default(), JobSlots::default())
    }

    /// As many as may come from there at one moment, each taking its place.
    fn come(admission: &mut Admission, from: impl Fn(usize) -> String, many: usize) -> usize {
        let (local, now) = (addr("/ip4/198.51.100.1/tcp/1"), Instant::now());
        (0..many)
            .filter(|at| {
                let remote = addr(&from(*at));
                let comes = admission.may_come(&local, &remote, now).is_ok();
                if comes {
                    take(
                        admission,
                        PeerId::random(),
                        Origin::of(&local, &remote),
                        now,
                    );
                }
                comes
            })
            .count()
    }

    fn take(admission: &mut Admission, peer: PeerId, origin: Option<Origin>, since: Instant) {
        let id = ConnectionId::new_unchecked(admission.open.len() + 1);
        admission.open.insert(
            id,
            Open {
                peer,
                origin,
                since,
                rtt: None,
            },
        );
    }

    #[test]
    fn an_address_a_household_and_a_site_have_each_their_share() {
        let mut one = admission(ReachMode::Internet, Role::Serving);
        assert_eq!(
            come(
                &mut one,
                |at| format!("/ip4/203.0.113.5/tcp/{}", at + 1),
                100
            ),
            PER_HOUSEHOLD
        );
        let mut house = admission(ReachMode::Internet, Role::Serving);
        assert_eq!(
            come(&mut house, |at| format!("/ip6/2001:db8::{at:x}/tcp/1"), 100),
            PER_HOUSEHOLD
        );
        let mut site = admission(ReachMode::Internet, Role::Serving);
        assert_eq!(
            come(
                &mut site,
                |at| format!("/ip4/203.0.113.{}/tcp/1", at + 1),
                200
            ),
            PER_SITE
        );
        let mut site = admission(ReachMode::Internet, Role::Serving);
        assert_eq!(
            come(
                &mut site,
                |at| format!("/ip6/2001:db8:0:{at:x}::1/tcp/1"),
                200
            ),
            PER_SITE
        );
        let mut far = admission(ReachMode::Internet, Role::Serving);
        assert_eq!(
            come(&mut far, |at| format!("/ip4/203.0.{at}.1/tcp/1"), 200),
            200
        );
    }

    #[test]
    fn new_connections_of_one_household_have_a_rate() {
        let mut limits = admission(ReachMode::Internet, Role::Serving);
        let local = addr("/ip4/198.51.100.1/tcp/1");
        let now = Instant::now();
        let mut let_in = |from: &str, now| {
            let remote = addr(from);
            (0..100)
                .take_while(|_| limits.may_come(&local, &remote, now).is_ok())
                .count()
        };
        let far = "/ip4/203.0.113.5/tcp/1";
        assert_eq!(let_in(far, now), NEW_PER_HOUSEHOLD.burst as usize);
        assert_eq!(let_in(far, now + Duration::from_secs(10)), 10);
        for near in ["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.3/tcp/1"] {
            assert_eq!(let_in(near, now), NEW_NEAR.burst as usize, "{near}");
            assert_eq!(let_in(near, now + Duration::from_secs(5)), 30, "{near}");
        }
    }

    #[test]
    fn handshakes_dials_and_connections_of_one_peer_are_counted_by_the_swarm() {
        use libp2p::{
            connection_limits, core::ConnectedPoint, swarm::behaviour::ConnectionEstablished,
        };
        let mut limits = connection_limits::Behaviour::new(connections());
        let there = addr("/ip4/203.0.113.5/tcp/1");
        let id = ConnectionId::new_unchecked;
        let come = (0..1000).take_while(|at| {
            let pending = limits.handle_pending_inbound_connection(id(*at), &there, &there);
            pending.is_ok()
        });
        assert_eq!(come.count(), PENDING_IN as usize);
        let go = (1000..2000).take_while(|at| {
            let dialled = Some(PeerId::random());
            let pending = limits.handle_pending_outbound_connection(
                id(*at),
                dialled,
                std::slice::from_ref(&there),
                Endpoint::Dialer,
            );
            pending.is_ok()
        });
        assert_eq!(go.count(), PENDING_OUT as usize);

        let endpoint = ConnectedPoint::Dialer {
            address: there.clone(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        let mut open = |peer, at| {
            let (role, port) = (Endpoint::Dialer, PortUse::Reuse);
            let stays = limits
                .handle_established_outbound_connection(id(at), peer, &there, role, port)
                .is_ok();
            if stays {
                limits.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                    peer_id: peer,
                    connection_id: id(at),
                    endpoint: &endpoint,
                    failed_addresses: &[],
                    other_established: 0,
                }));
            }
            stays
        };
        let one = PeerId::random();
        let of_one = (3000..4000).take_while(|at| open(one, *at)).count();
        assert_eq!(of_one, ESTABLISHED_PER_PEER as usize);
        let others = (4000..5000).take_while(|at| open(PeerId::random(), *at));
        assert_eq!(of_one + others.count(), ESTABLISHED_OUT as usize);
    }

    #[test]
    fn a_relay_does_not_bring_more_than_its_share_and_is_no_household() {
        let mut limits = admission(ReachMode::Internet, Role::Serving);
        let relay = "/ip4/203.0.113.5/tcp/1/p2p-circuit";
        let through = addr(&format!("/p2p/{}", PeerId::random()));
        let now = Instant::now();
        let mut let_in = 0;
        while limits.may_come(&addr(relay), &through, now).is_ok() && let_in < 1000 {
            take(
                &mut limits,
                PeerId::random(),
                Origin::of(&addr(relay), &through),
                now,
            );
            let_in += 1;
        }
        assert_eq!(let_in, PER_RELAY);
        let direct = addr("/ip4/203.0.113.5/tcp/9");
        assert!(
            limits
                .may_come(&addr("/ip4/198.51.100.1/tcp/1"), &direct, now)
                .is_ok()
        );
    }

    #[test]
    fn a_node_for_the_local_network_takes_nobody_from_outside() {
        let mut limits = admission(ReachMode::LanOnly, Role::Serving);
        let local = addr("/ip4/192.168.1.2/tcp/1");
        let now = Instant::now();
        assert!(
            limits
                .may_come(&local, &addr("/ip4/192.168.1.3/tcp/1"), now)
                .is_ok()
        );
        assert_eq!(
            limits.may_come(&local, &addr("/ip4/203.0.113.5/tcp/1"), now),
            Err(Denied::OutOfReach)
        );
    }

    #[test]
    fn nobody_comes_in_while_the_program_uses_too_much_memory() {
        let mut limits = admission(ReachMode::Internet, Role::Serving);
        let (local, remote) = (
            addr("/ip4/198.51.100.1/tcp/1"),
            addr("/ip4/203.0.113.5/tcp/1"),
        );
        let now = Instant::now();
        assert!(limits.may_come(&local, &remote, now).is_ok());
        limits.max_memory = 1;
        assert!(matches!(
            limits.may_come(&local, &remote, now),
            Err(Denied::Memory(used)) if used > 1
        ));
    }

    #[test]
    fn strangers_do_not_get_the_last_places_and_somebody_goes_for_a_newcomer() {
        let mut limits = admission(ReachMode::Internet, Role::Serving);
        let (known, now) = (PeerId::random(), Instant::now());
        limits.value(known);
        // One peer per network, all of them as old as each other, none of any use.
        for at in 0..ESTABLISHED_IN - RESERVED_IN {
            assert_eq!(limits.may_stay(PeerId::random()), Ok(()));
            let remote = addr(&format!("/ip4/100.{at}.0.1/tcp/1"));
            let origin = Origin::of(&addr("/ip4/198.51.100.1/tcp/1"), &remote);
            take(&mut limits, PeerId::random(), origin, now);
        }
        assert!(limits.closing.is_empty());
        assert_eq!(
            limits.may_stay(known),
            Ok(()),
            "there are places for those we know"
        );
        assert!(limits.closing.is_empty());
        assert_eq!(limits.may_stay(PeerId::random()), Ok(()));
        assert_eq!(limits.closing.len(), 1, "one goes for it");
        assert_eq!(limits.may_stay(PeerId::random()), Ok(()));
        assert_ne!(
            limits.closing[0], limits.closing[1],
            "not the same one twice"
        );
    }

    #[test]
    fn of_our_own_connections_the_oldest_of_no_use_goes() {
        let mut limits = admission(ReachMode::Internet, Role::Asking);
        let (useful, mut made) = (PeerId::random(), Vec::new());
        limits.value(useful);
        for at in 0..ESTABLISHED_OUT as usize {
            let peer = if at == 0 { useful } else { PeerId::random() };
            let id = ConnectionId::new_unchecked(at);
            limits.make_room();
            limits.made.push_back((peer, id));
            made.push((peer, id));
        }
        assert_eq!(limits.closing, &made[1..=ROOM_OUT]);
        for (peer, _) in &made {
            limits.value(*peer);
        }
        limits.make_room();
        assert_eq!(limits.closing.len(), ROOM_OUT, "all the others are of use");
    }

    #[test]
    fn nobody_goes_who_is_at_work() {
        let mut limits = admission(ReachMode::Internet, Role::Serving);
        for _ in 0..ESTABLISHED_IN {
            let peer = PeerId::random();
            limits.value(peer);
            take(&mut limits, peer, None, Instant::now());
        }
        assert_eq!(limits.may_stay(PeerId::random()), Err(Denied::Full));
    }

    #[test]
    fn an_attacker_with_one_network_pushes_out_its_own() {
        let start = Instant::now();
        let carrier =
            |network: u8| Prefix::of_carrier(&addr(&format!("/ip4/100.{network}.0.1/tcp/1")));
        let place = |at: usize, network: u8, age: u64| Place {
            id: ConnectionId::new_unchecked(at),
            network: carrier(network),
            since: start + Duration::from_secs(age),
            rtt: Some(Duration::from_millis(100 + at as u64)),
            moved: 0,
            at_work: false,
        };
        // Twenty honest peers of twenty networks, then two hundred of one, all of them quicker.
        let honest = (0..20).map(|at| place(at, at as u8, at as u64));
        let attack = (20..220).map(|at| Place {
            rtt: Some(Duration::from_millis(1)),
            ..place(at, 200, at as u64)
        });
        let mut places: Vec<_> = honest.chain(attack).collect();
        for _ in 0..100 {
            let victim = least_worth(places.clone()).unwrap();
            let at = places.iter().position(|place| place.id == victim).unwrap();
            assert_eq!(places[at].network, carrier(200));
            places.remove(at);
        }
    }

    #[test]
    fn who_is_near_or_moved_much_stays() {
        let start = Instant::now();
        let mut places: Vec<_> = (0..100)
            .map(|at| Place {
                id: ConnectionId::new_unchecked(at),
                network: None,
                since: start + Duration::from_secs(at as u64),
                rtt: Some(Duration::from_millis(100)),
                moved: 1,
                at_work: false,
            })
            .collect();
        // The youngest ones would be the first to go.
        places[99].rtt = Some(Duration::from_millis(1));
        places[98].moved = 1_000_000;
        places[97].at_work = true;
        assert_eq!(least_worth(places), Some(ConnectionId::new_unchecked(96)));
        assert_eq!(least_worth(Vec::new()), None);
    }
}
