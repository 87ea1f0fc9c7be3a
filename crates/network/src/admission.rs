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
        if self.valued.len() >= ESTABLISHED_IN {
            // Which one goes is the hasher's choice; one that is connected only where all are.
            let mut valued = self.valued.iter();
            let gone = valued.clone().find(|peer| !self.peers.contains_key(peer));
            if let Some(other) = gone.or_else(|| valued.next()).copied() {
                self.valued.remove(&other);
            }
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
mod tests;
