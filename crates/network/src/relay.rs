//! Relays (Circuit v2): those that carry connections to this node, and what this node carries for others.
//!
//! A relay sees who talks to whom, how much and when, and nothing else: the connection inside is encrypted from end to end. [`Relays`]
//! is a plain function of what it was told and the time; it decides whom to ask for a place, and whom not for a while.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, core::transport::ListenerId, multiaddr::Protocol, relay};

use crate::{
    identity,
    reach::{RelayState, RelayView},
};

/// What a peer that carries for others speaks.
pub(crate) const HOP: &str = "/libp2p/circuit/relay/0.2.0/hop";

/// Bytes that one carried connection may move, both directions together: an answer moves some 100 bytes per token, so this is
/// hours of text. The library's own 128 KiB cuts an answer in its first minute.
const CIRCUIT_BYTES: u64 = 32 << 20;
/// How long one carried connection lasts: as long as the longest job.
const CIRCUIT_LASTS: Duration = Duration::from_secs(30 * 60);
/// Connections carried at a time. At 5 kB/s each, 3 Mbit/s.
const CIRCUITS: usize = 64;
/// Of one peer, at either end.
const CIRCUITS_PER_PEER: usize = 4;
/// Nodes that a place is held for: a connection each, which counts among those that others opened.
const RESERVATIONS: usize = 256;
/// Of one peer: one by QUIC, one by TCP.
const RESERVATIONS_PER_PEER: usize = 2;
/// How long a place is held without being asked for again. Short, so that the places of laptops that were closed are free soon.
const RESERVATION_LASTS: Duration = Duration::from_secs(30 * 60);
/// Places and connections that one peer, and one address, may ask for: a burst, then one in so many seconds.
const ASKS: NonZeroU32 = NonZeroU32::new(30).unwrap();
const ASKS_REFILL: Duration = Duration::from_secs(30);
/// Peers whose kind is remembered: as many as can be connected.
const SPEAKERS: usize = 512;

/// Relays that this node wants a place at: one may go at any time.
const WANTED: usize = 2;
/// Relays that are remembered.
const CANDIDATES: usize = 64;
/// The first pause after a relay refused or was lost, and the longest: it doubles.
const PAUSE_FIRST: Duration = Duration::from_secs(30);
const PAUSE_LAST: Duration = Duration::from_secs(15 * 60);

/// Which connected peers are of this network. A peer is carried until it has shown that it is not: it introduces itself in the
/// first round trip, and the request to be carried may come in the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Speakers(Arc<Mutex<HashMap<PeerId, bool>>>);

impl Speakers {
    /// The peer said what it speaks.
    pub(crate) fn introduced(&self, peer: PeerId, is_ours: bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < SPEAKERS || known.contains_key(&peer) {
            known.insert(peer, is_ours);
        }
    }

    /// The peer is not connected any more.
    pub(crate) fn gone(&self, peer: &PeerId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(peer);
    }

    fn may_be_ours(&self, peer: &PeerId) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(peer).copied().unwrap_or(true)
    }
}

/// Carries for others, within the limits above. Offers nothing until its status is set.
pub(crate) fn server(local: PeerId, speakers: &Speakers) -> relay::Behaviour {
    let ours = || -> Box<dyn relay::RateLimiter> {
        let speakers = speakers.clone();
        Box::new(move |peer: PeerId, _: &Multiaddr, _: Instant| speakers.may_be_ours(&peer))
    };
    let config = relay::Config {
        max_reservations: RESERVATIONS,
        // The library refuses beyond one more than what it is told, here and for circuits.
        max_reservations_per_peer: RESERVATIONS_PER_PEER - 1,
        reservation_duration: RESERVATION_LASTS,
        reservation_rate_limiters: vec![ours()],
        max_circuits: CIRCUITS,
        max_circuits_per_peer: CIRCUITS_PER_PEER - 1,
        max_circuit_duration: CIRCUIT_LASTS,
        max_circuit_bytes: CIRCUIT_BYTES,
        circuit_src_rate_limiters: vec![ours()],
    };
    let config = config
        .reservation_rate_per_peer(ASKS, ASKS_REFILL)
        .reservation_rate_per_ip(ASKS, ASKS_REFILL)
        .circuit_src_per_peer(ASKS, ASKS_REFILL)
        .circuit_src_per_ip(ASKS, ASKS_REFILL);
    let mut server = relay::Behaviour::new(local, config);
    server.set_status(Some(relay::Status::Disable));
    server
}

/// Under which address a peer is reached through a relay, without the peer's own id.
pub(crate) fn circuit(relay: PeerId, at: &Multiaddr) -> Multiaddr {
    at.clone()
        .with(Protocol::P2p(relay))
        .with(Protocol::P2pCircuit)
}

#[derive(Debug)]
enum Place {
    None,
    Asked(ListenerId),
    Held {
        listener: ListenerId,
        since_unix_ms: u64,
        max_bytes: Option<u64>,
        max_seconds: Option<u64>,
    },
}

impl Place {
    fn listener(&self) -> Option<ListenerId> {
        match self {
            Self::None => None,
            Self::Asked(listener) | Self::Held { listener, .. } => Some(*listener),
        }
    }
}

#[derive(Debug)]
struct Candidate {
    /// Where this node dialled it: the address that is told to others.
    address: Multiaddr,
    connected: bool,
    place: Place,
    failures: u32,
    not_before: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Relays(BTreeMap<PeerId, Candidate>);

impl Relays {
    /// A connected peer says that it carries for others, and was dialled at this address.
    pub(crate) fn offers(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        if self.0.len() >= CANDIDATES && !self.0.contains_key(&peer) {
            let Some(worst) = self.worst() else { return };
            self.0.remove(&worst);
        }
        let candidate = self.0.entry(peer).or_insert_with(|| Candidate {
            address: address.clone(),
            connected: true,
            place: Place::None,
            failures: 0,
            not_before: now,
        });
        candidate.connected = true;
        if candidate.place.listener().is_none() {
            candidate.address = address;
        }
    }

    /// A peer that carries no longer, or is not connected any more.
    pub(crate) fn withdrew(&mut self, peer: &PeerId, now: Instant) {
        let Some(candidate) = self.0.get_mut(peer) else {
            return;
        };
        candidate.connected = false;
        if candidate.place.listener().is_some() {
            candidate.fail(now);
        }
    }

    /// Whom to ask for a place now, and where it is.
    pub(crate) fn next(&self, now: Instant) -> Option<(PeerId, Multiaddr)> {
        let taken = self
            .0
            .values()
            .filter(|candidate| candidate.place.listener().is_some())
            .count();
        if taken >= WANTED {
            return None;
        }
        self.0
            .iter()
            .filter(|(_, candidate)| {
                candidate.connected
                    && candidate.place.listener().is_none()
                    && candidate.not_before <= now
            })
            .min_by_key(|(_, candidate)| (candidate.failures, candidate.not_before))
            .map(|(peer, candidate)| (*peer, candidate.address.clone()))
    }

    /// The peer is being asked.
    pub(crate) fn asked(&mut self, peer: &PeerId, listener: ListenerId) {
        if let Some(candidate) = self.0.get_mut(peer) {
            candidate.place = Place::Asked(listener);
        }
    }

    /// The peer could not be asked.
    pub(crate) fn failed(&mut self, peer: &PeerId, now: Instant) {
        if let Some(candidate) = self.0.get_mut(peer) {
            candidate.fail(now);
        }
    }

    /// The peer holds a place, for the first time or again.
    pub(crate) fn accepted(
        &mut self,
        peer: &PeerId,
        limit: Option<(Option<u64>, Option<u64>)>,
        now_unix_ms: u64,
    ) {
        let Some(candidate) = self.0.get_mut(peer) else {
            return;
        };
        let (max_bytes, max_seconds) = limit.unwrap_or_default();
        if let Some(listener) = candidate.place.listener() {
            let since_unix_ms = match candidate.place {
                Place::Held { since_unix_ms, .. } => since_unix_ms,
                Place::None | Place::Asked(_) => now_unix_ms,
            };
            candidate.failures = 0;
            candidate.place = Place::Held {
                listener,
                since_unix_ms,
                max_bytes,
                max_seconds,
            };
        }
    }

    /// The listener of a place closed: it was refused, or is lost. False when it is none of these.
    pub(crate) fn ended(&mut self, listener: ListenerId, now: Instant) -> bool {
        let of = self
            .0
            .values_mut()
            .find(|candidate| candidate.place.listener() == Some(listener));
        of.map(|candidate| candidate.fail(now)).is_some()
    }

    /// Relays whose place is held or asked for: closing the connection gives it back.
    pub(crate) fn in_use(&self) -> Vec<PeerId> {
        self.0
            .iter()
            .filter(|(_, candidate)| candidate.place.listener().is_some())
            .map(|(peer, _)| *peer)
            .collect()
    }

    /// After a change of network: every pause is over.
    pub(crate) fn hurry(&mut self, now: Instant) {
        for candidate in self.0.values_mut() {
            candidate.not_before = now;
        }
    }

    /// A relay that is not connected and whose pause is over, while places are wanted: to be dialled again.
    pub(crate) fn next_dial(&mut self, now: Instant) -> Option<PeerId> {
        if self.in_use().len() >= WANTED {
            return None;
        }
        let (peer, candidate) = self
            .0
            .iter_mut()
            .filter(|(_, candidate)| !candidate.connected && candidate.not_before <= now)
            .min_by_key(|(_, candidate)| candidate.failures)?;
        // Counted as a failure until it is connected again.
        candidate.fail(now);
        Some(*peer)
    }

    /// Addresses under which this node is reached through relays, without its own id.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Multiaddr> {
        self.0
            .iter()
            .filter(|(_, candidate)| matches!(candidate.place, Place::Held { .. }))
            .map(|(peer, candidate)| circuit(*peer, &candidate.address))
    }

    /// Relays that hold a place.
    pub(crate) fn held(&self) -> Vec<protocol::PeerId> {
        self.0
            .iter()
            .filter(|(_, candidate)| matches!(candidate.place, Place::Held { .. }))
            .filter_map(|(peer, _)| identity::to_protocol(peer))
            .collect()
    }

    /// Whether anybody is known to carry.
    pub(crate) fn has_candidates(&self) -> bool {
        self.0.values().any(|candidate| candidate.connected)
    }

    /// For the snapshot.
    pub(crate) fn views(&self) -> Vec<RelayView> {
        self.0
            .iter()
            .filter(|(_, candidate)| candidate.connected)
            .filter_map(|(peer, candidate)| {
                Some(RelayView {
                    peer: identity::to_protocol(peer)?,
                    failures: candidate.failures,
                    state: match candidate.place {
                        Place::None => RelayState::Candidate,
                        Place::Asked(_) => RelayState::Asked,
                        Place::Held {
                            since_unix_ms,
                            max_bytes,
                            max_seconds,
                            ..
                        } => RelayState::Held {
                            since_unix_ms,
                            max_bytes,
                            max_seconds,
                        },
                    },
                })
            })
            .collect()
    }

    /// Which one makes room for another: one that is not in use, failed most, and waits longest.
    fn worst(&self) -> Option<PeerId> {
        self.0
            .iter()
            .filter(|(_, candidate)| candidate.place.listener().is_none())
            .max_by_key(|(_, candidate)| {
                (
                    !candidate.connected,
                    candidate.failures,
                    candidate.not_before,
                )
            })
            .map(|(peer, _)| *peer)
    }
}

impl Candidate {
    fn fail(&mut self, now: Instant) {
        let pause = PAUSE_FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(PAUSE_LAST);
        self.place = Place::None;
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Multiaddr {
        format!("/ip4/198.51.100.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn two_places_are_wanted_and_a_lost_one_is_replaced_by_another_relay() {
        let (mut relays, now) = (Relays::default(), Instant::now());
        let own_key = || libp2p::identity::Keypair::generate_ed25519().public();
        let peers = [(); 3].map(|()| own_key().to_peer_id());
        for (port, peer) in peers.iter().enumerate() {
            relays.offers(*peer, at(port as u16 + 1), now);
        }
        let mut asked = Vec::new();
        while let Some((peer, _)) = relays.next(now) {
            let listener = ListenerId::next();
            relays.asked(&peer, listener);
            asked.push((peer, listener));
        }
        assert_eq!(asked.len(), WANTED);
        relays.accepted(&asked[0].0, Some((Some(1000), Some(60))), 5);
        assert_eq!(relays.addresses().count(), 1);
        assert_eq!(relays.held().len(), 1);

        // The other one refuses: the third is next, and the refuser only after its pause.
        assert!(relays.ended(asked[1].1, now));
        assert!(!relays.ended(asked[1].1, now), "once");
        let (third, _) = relays.next(now).unwrap();
        assert!(!asked.iter().any(|(peer, _)| *peer == third));
        relays.asked(&third, ListenerId::next());
        relays.withdrew(&third, now);
        assert_eq!(relays.next(now), None, "nobody is left for now");
        assert_eq!(
            relays.next(now + PAUSE_FIRST).map(|(peer, _)| peer),
            Some(asked[1].0)
        );
    }

    #[test]
    fn pauses_grow_to_a_quarter_of_an_hour_and_end_with_a_success() {
        let (mut relays, mut now) = (Relays::default(), Instant::now());
        let peer = PeerId::random();
        relays.offers(peer, at(1), now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let listener = ListenerId::next();
            relays.asked(&peer, listener);
            relays.ended(listener, now);
            let pause = relays.0[&peer].not_before - now;
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 900, 900, 900]);
        relays.asked(&peer, ListenerId::next());
        relays.accepted(&peer, None, 1);
        assert_eq!(relays.0[&peer].failures, 0);
    }

    #[test]
    fn many_candidates_do_not_push_out_one_that_is_used() {
        let (mut relays, now) = (Relays::default(), Instant::now());
        let used = PeerId::random();
        relays.offers(used, at(1), now);
        relays.asked(&used, ListenerId::next());
        for _ in 0..10 * CANDIDATES {
            relays.offers(PeerId::random(), at(2), now);
        }
        assert!(relays.0.len() <= CANDIDATES);
        assert_eq!(relays.in_use(), [used]);
    }

    #[test]
    fn a_peer_is_carried_until_it_shows_that_it_is_a_stranger() {
        let speakers = Speakers::default();
        let (ours, stranger) = (PeerId::random(), PeerId::random());
        assert!(speakers.may_be_ours(&stranger));
        speakers.introduced(stranger, false);
        speakers.introduced(ours, true);
        assert!(!speakers.may_be_ours(&stranger) && speakers.may_be_ours(&ours));
        for _ in 0..2 * SPEAKERS {
            speakers.introduced(PeerId::random(), true);
        }
        assert!(speakers.0.lock().unwrap().len() <= SPEAKERS);
    }
}
