//! Who may do what how often. Everything here is a plain function of its state and the time handed in.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    connection_limits::ConnectionLimits,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

use crate::{address, identity};

/// Handshakes under way from outside. One costs about a millisecond of signatures; 32 keep a core busy for an instant.
const PENDING_IN: u32 = 32;
/// Dials under way; a search in the Kademlia table makes up to six at once, each to a few addresses.
const PENDING_OUT: u32 = 64;
/// Connections that others opened.
const ESTABLISHED_IN: u32 = 256;
/// Connections that we opened: enough for the routing table's nearest buckets and a handful of providers.
const ESTABLISHED_OUT: u32 = 128;
/// One by QUIC, one by TCP, one through a relay, and one more while the others are being replaced.
const ESTABLISHED_PER_PEER: u32 = 4;
/// In and out together. At some 100 KiB each this is 40 MB.
const ESTABLISHED: u32 = 384;

/// The limits that count connections and not who they are.
pub(crate) fn connections() -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_IN))
        .with_max_pending_outgoing(Some(PENDING_OUT))
        .with_max_established_incoming(Some(ESTABLISHED_IN))
        .with_max_established_outgoing(Some(ESTABLISHED_OUT))
        .with_max_established_per_peer(Some(ESTABLISHED_PER_PEER))
        .with_max_established(Some(ESTABLISHED))
}

/// Connections from one address (IPv4) or one /64 (IPv6) at a time. A household behind one address has a few computers.
const PER_GROUP: usize = 8;
/// New connections from one group in ten seconds: 8 computers that try QUIC and TCP at once, and a few that come again.
const NEW_PER_GROUP: Rate = Rate {
    burst: 20.0,
    per_second: 2.0,
};
/// Groups whose rate is remembered. A group beyond that takes the place of the one that has been quiet longest.
const GROUPS: usize = 1024;

/// Streams of `/decentralgpt/infer/1` from one peer: four in ten seconds keep a conversation going, eight at once let a program
/// that starts, or a person who regenerates, do so without a pause.
pub(crate) const JOBS: Rate = Rate {
    burst: 8.0,
    per_second: 0.4,
};
/// Requests for offers from one peer: one follows each change of ours, and each change of identify.
pub(crate) const OFFER_REQUESTS: Rate = Rate {
    burst: 10.0,
    per_second: 0.5,
};
/// Offers of others that one peer may bring us: its first hundred at once, then one in ten seconds, as Bitcoin does for addresses.
pub(crate) const OFFERS_RELAYED: Rate = Rate {
    burst: 100.0,
    per_second: 0.1,
};
/// Chunks of a head that one peer may fetch: 256 are two of the largest heads, then 2 MiB a second.
pub(crate) const HEAD_CHUNKS: Rate = Rate {
    burst: 256.0,
    per_second: 8.0,
};
/// Requests for quotes from one peer: one goes before each job, and a program that starts asks of several models.
pub(crate) const QUOTES: Rate = Rate {
    burst: 10.0,
    per_second: 1.0,
};
/// Provider records that one peer may put here: a provider offers a handful of models, and says so every 20 minutes.
pub(crate) const PROVIDER_RECORDS: Rate = Rate {
    burst: 32.0,
    per_second: 0.2,
};

/// Peers whose rates are remembered.
const PEERS: usize = 1024;

/// Inbound job streams of one peer at a time: one answering, one queued, and failovers that have not noticed their end yet.
const JOBS_PER_PEER: usize = 8;
/// Inbound job streams in all. Each may hold an Open of 1 MiB.
const JOBS_IN_ALL: usize = 128;

/// A peer that does this often in [`VIOLATION_WINDOW`] is banned: one bad frame may be a bug, three are not an accident.
const VIOLATIONS: usize = 3;
/// See [`VIOLATIONS`].
const VIOLATION_WINDOW: Duration = Duration::from_secs(600);
/// How long a ban lasts. Long enough to cost an attacker its connection, short enough for a client with a bug that was fixed.
pub(crate) const BAN: Duration = Duration::from_secs(600);
/// Streams refused for their rate that count as one violation: a client that is merely impatient stays far below.
pub(crate) const REFUSALS_PER_VIOLATION: u32 = 64;

/// How often something may happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// At once, after a long pause.
    pub(crate) burst: f64,
    /// In the long run.
    pub(crate) per_second: f64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// A token bucket per key, for at most `keys` keys.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Rate,
    keys: usize,
    buckets: HashMap<K, Bucket>,
}

impl<K: Copy + Eq + std::hash::Hash> Buckets<K> {
    pub(crate) fn new(rate: Rate, keys: usize) -> Self {
        Self {
            rate,
            keys,
            buckets: HashMap::new(),
        }
    }

    pub(crate) fn per_peer(rate: Rate) -> Self {
        Self::new(rate, PEERS)
    }

    /// Takes one token, or says how long until there is one.
    pub(crate) fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if self.buckets.len() >= self.keys && !self.buckets.contains_key(&key) {
            self.forget_one(now);
        }
        let Rate { burst, per_second } = self.rate;
        let bucket = self.buckets.entry(key).or_insert(Bucket {
            tokens: burst,
            at: now,
        });
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * per_second;
        *bucket = Bucket {
            tokens: (bucket.tokens + gained).min(burst),
            at: now,
        };
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            Ok(())
        } else {
            Err(Duration::from_secs_f64((1.0 - bucket.tokens) / per_second))
        }
    }

    fn forget_one(&mut self, now: Instant) {
        let Rate { burst, per_second } = self.rate;
        let full_after = Duration::from_secs_f64(burst / per_second);
        self.buckets
            .retain(|_, bucket| now.saturating_duration_since(bucket.at) < full_after);
        if self.buckets.len() >= self.keys
            && let Some(oldest) = self
                .buckets
                .iter()
                .min_by_key(|(_, bucket)| bucket.at)
                .map(|(key, _)| *key)
        {
            self.buckets.remove(&oldest);
        }
    }
}

/// Counts rules that peers broke, and says who is banned.
#[derive(Debug, Default)]
pub(crate) struct Conduct {
    violations: HashMap<PeerId, VecDeque<Instant>>,
    refusals: HashMap<PeerId, u32>,
    banned: BTreeMap<PeerId, Instant>,
}

impl Conduct {
    /// One rule broken. True when that was the one too many: the peer is banned from now on.
    pub(crate) fn violation(&mut self, peer: PeerId, now: Instant) -> bool {
        if self.violations.len() >= PEERS && !self.violations.contains_key(&peer) {
            self.violations.retain(|_, times| {
                times
                    .back()
                    .is_some_and(|at| now.saturating_duration_since(*at) < VIOLATION_WINDOW)
            });
            if self.violations.len() >= PEERS {
                self.violations.clear();
            }
        }
        let times = self.violations.entry(peer).or_default();
        while times
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) >= VIOLATION_WINDOW)
        {
            times.pop_front();
        }
        times.push_back(now);
        if times.len() < VIOLATIONS {
            return false;
        }
        self.violations.remove(&peer);
        // A ban entry costs 50 bytes and needs three connections' worth of work to make.
        if self.banned.len() >= PEERS {
            self.banned.pop_first();
        }
        self.banned.insert(peer, now + BAN);
        true
    }

    /// One stream or request refused for its rate. True as [`Conduct::violation`].
    pub(crate) fn refusal(&mut self, peer: PeerId, now: Instant) -> bool {
        if self.refusals.len() >= PEERS && !self.refusals.contains_key(&peer) {
            self.refusals.clear();
        }
        let count = self.refusals.entry(peer).or_default();
        *count += 1;
        if *count < REFUSALS_PER_VIOLATION {
            return false;
        }
        self.refusals.remove(&peer);
        self.violation(peer, now)
    }

    /// Bans that are over, taken out of the list.
    pub(crate) fn pardoned(&mut self, now: Instant) -> Vec<PeerId> {
        let over: Vec<_> = self
            .banned
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in &over {
            self.banned.remove(peer);
        }
        over
    }

    pub(crate) fn is_banned(&self, peer: &PeerId) -> bool {
        self.banned.contains_key(peer)
    }

    pub(crate) fn banned(&self) -> impl Iterator<Item = &PeerId> {
        self.banned.keys()
    }
}

/// Counts the job streams that are open from outside; each holds a [`JobSlot`].
#[derive(Clone, Debug, Default)]
pub(crate) struct JobSlots(Arc<Mutex<HashMap<PeerId, usize>>>);

impl JobSlots {
    /// A place for one more stream of this peer, where there is one.
    pub(crate) fn take(&self, peer: PeerId) -> Option<JobSlot> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let in_all: usize = open.values().sum();
        let of_peer = open.entry(peer).or_default();
        if in_all >= JOBS_IN_ALL || *of_peer >= JOBS_PER_PEER {
            return None;
        }
        *of_peer += 1;
        Some(JobSlot {
            slots: self.clone(),
            peer,
        })
    }
}

/// Freed when dropped.
#[derive(Debug)]
pub(crate) struct JobSlot {
    slots: JobSlots,
    peer: PeerId,
}

impl Drop for JobSlot {
    fn drop(&mut self) {
        let mut open = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

/// The address, or for IPv6 the /64 that one household has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Group(IpAddr);

impl Group {
    fn of(address: &Multiaddr) -> Option<Self> {
        Some(Self(match address::ip(address)? {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
        }))
    }
}

/// Why a connection was not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    #[error("too many new connections from one address")]
    Rate,
    #[error("too many connections from one address")]
    Count,
    #[error("the identity is not an Ed25519 key")]
    Identity,
}

/// The first behaviour of the swarm: what it denies, no other hears of.
#[derive(Debug)]
pub(crate) struct PerAddress {
    new: Buckets<Group>,
    open: HashMap<ConnectionId, Group>,
}

impl PerAddress {
    pub(crate) fn new() -> Self {
        Self {
            new: Buckets::new(NEW_PER_GROUP, GROUPS),
            open: HashMap::new(),
        }
    }

    fn may_come(&mut self, remote: &Multiaddr, now: Instant) -> Result<(), Denied> {
        let Some(group) = Group::of(remote) else {
            return Ok(());
        };
        if self.open.values().filter(|open| **open == group).count() >= PER_GROUP {
            return Err(Denied::Count);
        }
        self.new.take(group, now).map_err(|_| Denied::Rate)
    }
}

impl NetworkBehaviour for PerAddress {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.may_come(remote, Instant::now())
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
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionEstablished(established) = event {
            if established.endpoint.is_listener()
                && let Some(group) = Group::of(established.endpoint.get_remote_address())
            {
                self.open.insert(established.connection_id, group);
            }
        } else if let FromSwarm::ConnectionClosed(closed) = event {
            self.open.remove(&closed.connection_id);
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
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_refills_and_never_beyond_its_burst() {
        let mut buckets = Buckets::new(
            Rate {
                burst: 2.0,
                per_second: 0.5,
            },
            4,
        );
        let start = Instant::now();
        assert!(buckets.take(1, start).is_ok());
        assert!(buckets.take(1, start).is_ok());
        assert_eq!(buckets.take(1, start), Err(Duration::from_secs(2)));
        assert!(buckets.take(2, start).is_ok(), "another key has its own");
        let later = start + Duration::from_secs(2);
        assert!(buckets.take(1, later).is_ok());
        assert!(buckets.take(1, later).is_err());
        let much_later = start + Duration::from_secs(3600);
        assert_eq!(
            (0..5)
                .filter(|_| buckets.take(1, much_later).is_ok())
                .count(),
            2
        );
    }

    #[test]
    fn ten_thousand_keys_do_not_take_more_than_their_place() {
        let mut buckets = Buckets::new(JOBS, 16);
        let now = Instant::now();
        for key in 0..10_000 {
            let _ = buckets.take(key, now + Duration::from_millis(key));
            assert!(buckets.buckets.len() <= 16);
        }
    }

    #[test]
    fn the_third_violation_in_ten_minutes_bans_for_ten() {
        let mut conduct = Conduct::default();
        let (peer, start) = (PeerId::random(), Instant::now());
        assert!(!conduct.violation(peer, start));
        assert!(!conduct.violation(peer, start + Duration::from_secs(1)));
        // The first two have left the window by then.
        let later = start + VIOLATION_WINDOW + Duration::from_secs(2);
        assert!(!conduct.violation(peer, later));
        assert!(!conduct.violation(peer, later));
        assert!(conduct.violation(peer, later));
        assert!(conduct.is_banned(&peer));
        assert_eq!(
            conduct.pardoned(later + BAN - Duration::from_secs(1)),
            vec![]
        );
        assert_eq!(conduct.pardoned(later + BAN), vec![peer]);
        assert!(!conduct.is_banned(&peer));
    }

    #[test]
    fn a_flood_of_refused_streams_bans_and_a_few_do_not() {
        let mut conduct = Conduct::default();
        let (peer, now) = (PeerId::random(), Instant::now());
        let needed = VIOLATIONS as u32 * REFUSALS_PER_VIOLATION;
        assert!((1..needed).all(|_| !conduct.refusal(peer, now)));
        assert!(conduct.refusal(peer, now));
    }

    #[test]
    fn job_slots_are_given_back() {
        let slots = JobSlots::default();
        let peer = PeerId::random();
        let held: Vec<_> = (0..JOBS_PER_PEER)
            .map(|_| slots.take(peer).unwrap())
            .collect();
        assert!(slots.take(peer).is_none());
        assert!(
            slots.take(PeerId::random()).is_some(),
            "another peer is not held up"
        );
        drop(held);
        assert!(slots.take(peer).is_some());
        assert!(slots.0.lock().unwrap().len() <= 1);
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let mut limits = PerAddress::new();
        let (near, far): (Multiaddr, Multiaddr) = (
            "/ip6/2001:db8::1/tcp/1".parse().unwrap(),
            "/ip6/2001:db8:0:1::1/tcp/1".parse().unwrap(),
        );
        let now = Instant::now();
        for id in 0..PER_GROUP {
            assert!(limits.may_come(&near, now).is_ok());
            limits
                .open
                .insert(ConnectionId::new_unchecked(id), Group::of(&near).unwrap());
        }
        assert!(matches!(limits.may_come(&near, now), Err(Denied::Count)));
        assert!(limits.may_come(&far, now).is_ok());
        limits.open.clear();
        let until_denied = (0..100)
            .take_while(|_| limits.may_come(&near, now).is_ok())
            .count();
        assert!(until_denied < 20, "{until_denied}");
    }
}
