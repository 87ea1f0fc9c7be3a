//! Connecting: from what a person typed to a peer that has introduced itself, or to the reason why not.

use std::{
    collections::HashMap,
    error::Error,
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId, TransportError,
    core::ConnectedPoint,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;

use super::{Loop, Note};
use crate::{
    address::{self, Target},
    error::NetworkError,
    identity,
    peers::Word,
};

/// How long a connect may take, from the call to the peer's introduction.
const CONNECT: Duration = Duration::from_secs(10);
/// Connects under way.
const DIALS: usize = 32;
/// Of those for the network's own ends, as many as searches may have: who names providers where nobody is must not keep this node from
/// its relays.
const DIALS_TOLD: usize = 24;
/// Of those, to one provider: where it is said to be, and beside that where somebody else says it is.
const DIALS_OF_ONE: usize = 2;
/// Addresses that a name may stand for.
const RESOLVED: usize = 4;
/// Known peers that are dialled again when they are lost.
const KNOWN: usize = 64;
/// The first pause before a known peer is dialled again, and the longest: it doubles.
const REDIAL_FIRST: Duration = Duration::from_secs(5);
const REDIAL_LAST: Duration = Duration::from_secs(300);

/// What libp2p says of a circuit whose relay it could not dial, or does dial already for another reason: the word of the channel that
/// it drops then.
const RELAY_GIVEN_UP: &str = "oneshot canceled";

/// What QUIC says of an end that closes a connection on purpose while keys are being agreed on (RFC 9000, 20.1: APPLICATION_ERROR). What
/// listens there has taken the first packet, and its owner did not want the connection.
const TURNED_AWAY: &str = "closed during the handshake";

type Reply = oneshot::Sender<Result<protocol::PeerId, NetworkError>>;

/// One call to `connect`.
#[derive(Debug)]
struct Dial {
    /// What is dialled, for messages.
    address: String,
    expected: Option<PeerId>,
    /// Whom it led to, once the handshake is done.
    peer: Option<PeerId>,
    begun: Instant,
    reply: Reply,
}

/// A peer that the settings name.
#[derive(Debug)]
struct Known {
    address: Multiaddr,
    peer: Option<PeerId>,
    connection: Option<ConnectionId>,
    pause: Duration,
    next: Instant,
}

/// Connects under way, and known peers.
#[derive(Debug)]
pub(super) struct Dials {
    /// By the connection that is being made. One that has been made stays until the peer introduced itself.
    dials: HashMap<ConnectionId, Dial>,
    known: Vec<Known>,
    /// Connections that are being made for the network's own ends, and to whom where that is known; nobody waits for them by name.
    background: HashMap<ConnectionId, Option<PeerId>>,
}

impl Dials {
    pub(super) fn new(known: &[String]) -> Self {
        let now = Instant::now();
        let read = |text: &String| match address::target(text) {
            Ok(Target::Address { address, peer }) => Some(Known {
                address,
                peer,
                connection: None,
                pause: REDIAL_FIRST,
                next: now,
            }),
            Ok(Target::Peer(_) | Target::Name { .. }) | Err(_) => {
                tracing::warn!(
                    address = text,
                    "a known peer is left out: it is no address that can be dialled"
                );
                None
            }
        };
        Self {
            dials: HashMap::new(),
            known: known.iter().take(KNOWN).filter_map(read).collect(),
            background: HashMap::new(),
        }
    }
}

impl Loop {
    pub(super) fn connect(&mut self, text: &str, reply: Reply) {
        match self.check(text) {
            Ok(Target::Name {
                host,
                family,
                rest,
                peer,
            }) => self.resolve(
                Target::Name {
                    host,
                    family,
                    rest,
                    peer,
                },
                reply,
            ),
            Ok(Target::Address { address, peer }) => self.dial(vec![address], peer, reply),
            Ok(Target::Peer(peer)) => self.dial(self.addresses.of(&peer), Some(peer), reply),
            // A caller that is gone needs no answer, here and below.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Whether a peer is connected, or could be: there is an address.
    pub(super) fn is_within_reach(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some() || !self.addresses.of(peer).is_empty()
    }

    /// Everything that can be said before a packet is sent.
    fn check(&self, text: &str) -> Result<Target, NetworkError> {
        let target = address::target(text)?;
        let peer = match &target {
            Target::Peer(peer) => Some(*peer),
            Target::Address { peer, .. } | Target::Name { peer, .. } => *peer,
        };
        let own_address = matches!(&target, Target::Address { address, .. } if self.listening.has(&address::without_peer(address)));
        if own_address || peer.as_ref() == Some(self.swarm.local_peer_id()) {
            return Err(NetworkError::OwnAddress {
                address: text.to_owned(),
            });
        }
        if let Some(peer) = peer {
            let shown = identity::to_protocol(&peer).ok_or_else(|| NetworkError::NotAnAddress {
                text: text.to_owned(),
            })?;
            if self.is_shut_out(&peer) {
                return Err(NetworkError::Blocked { peer: shown });
            }
            if matches!(target, Target::Peer(_)) && !self.is_within_reach(&peer) {
                return Err(NetworkError::UnknownPeer { peer: shown });
            }
        }
        if self.dials.dials.len() >= DIALS {
            return Err(NetworkError::Busy { limit: DIALS });
        }
        Ok(target)
    }

    fn resolve(&self, target: Target, reply: Reply) {
        let note = self.note.clone();
        self.runtime.spawn(async move {
            let Target::Name { host, family, .. } = &target else {
                return;
            };
            let (host, family) = (host.clone(), *family);
            // The system's own resolver, with its own time limits; the port means nothing to it.
            let looked_up = tokio::time::timeout(CONNECT, tokio::net::lookup_host((host, 0))).await;
            let found = match looked_up {
                Ok(Ok(found)) => Ok(found
                    .map(|one| one.ip())
                    .filter(|ip| family.has(*ip))
                    .take(RESOLVED)
                    .collect()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("the resolver does not answer".to_owned()),
            };
            // A loop that is gone drops the reply, which is an answer too.
            let _ = note
                .send(Note::Resolved {
                    target,
                    found,
                    reply,
                })
                .await;
        });
    }

    pub(super) fn on_resolved(
        &mut self,
        target: Target,
        found: Result<Vec<IpAddr>, String>,
        reply: Reply,
    ) {
        let Target::Name {
            host, rest, peer, ..
        } = target
        else {
            return;
        };
        let addresses: Vec<Multiaddr> = match &found {
            Ok(found) => found
                .iter()
                .map(|ip| Multiaddr::from(*ip).iter().chain(rest.iter()).collect())
                .collect(),
            Err(_) => Vec::new(),
        };
        if addresses.is_empty() {
            let reason = found
                .err()
                .unwrap_or_else(|| "it has no address of this kind".to_owned());
            return drop(reply.send(Err(NetworkError::NameNotResolved { name: host, reason })));
        }
        self.dial(addresses, peer, reply);
    }

    fn dial(&mut self, addresses: Vec<Multiaddr>, expected: Option<PeerId>, reply: Reply) {
        let shown = addresses
            .first()
            .map_or_else(String::new, ToString::to_string);
        let begun = Instant::now();
        if let Some(peer) = expected
            && let Some(connected) = self.peers.get(&peer)
        {
            let introduced = connected.protocols.is_some();
            let dial = Dial {
                address: shown,
                expected,
                peer: Some(peer),
                begun,
                reply,
            };
            self.dials.waits(dial);
            if introduced {
                self.dial_identified(&peer);
            }
            return;
        }
        let options = match (expected, addresses.first()) {
            (Some(peer), _) => DialOpts::peer_id(peer)
                .condition(PeerCondition::Always)
                .addresses(addresses)
                .build(),
            (None, Some(address)) => unknown_peer(address.clone()),
            (None, None) => {
                return drop(reply.send(Err(NetworkError::NotAnAddress { text: shown })));
            }
        };
        let connection = options.connection_id();
        self.dials.dials.insert(
            connection,
            Dial {
                address: shown,
                expected,
                peer: None,
                begun,
                reply,
            },
        );
        if let Err(error) = self.swarm.dial(options) {
            self.dial_failed(connection, expected, &error);
        }
    }

    /// Dials a peer at the addresses that are known, for the network's own ends.
    pub(super) fn dial_known(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_none() {
            let addresses = self.addresses.of(&peer);
            self.dial_in_background(peer, addresses, PeerCondition::DisconnectedAndNotDialing);
        }
    }

    /// Dials a provider of which somebody said that it is at these addresses: there, and the first time where else it is known to be.
    /// Where it is being dialled already, that is done beside it: the other dial may lead to where it never was, and take its time.
    /// False: there is no room for it now.
    pub(super) fn dial_told(
        &mut self,
        provider: PeerId,
        told: &[Multiaddr],
        is_again: bool,
    ) -> bool {
        let under_way = self.dials.background.values();
        let of_this = under_way.filter(|one| **one == Some(provider)).count();
        // Nobody said of another place than those that are being dialled.
        if told.is_empty() && of_this > 0 {
            return true;
        }
        if of_this >= DIALS_OF_ONE || self.dials.background.len() >= DIALS_TOLD {
            return false;
        }
        if !is_again {
            let mut addresses = told.to_vec();
            for known in self.addresses.of(&provider) {
                if !addresses.contains(&known) {
                    addresses.push(known);
                }
            }
            let if_not_dialled = PeerCondition::DisconnectedAndNotDialing;
            if self.dial_in_background(provider, addresses, if_not_dialled) || told.is_empty() {
                return true;
            }
        }
        self.dial_in_background(provider, told.to_vec(), PeerCondition::Disconnected)
    }

    /// False: it is not dialled.
    fn dial_in_background(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        condition: PeerCondition,
    ) -> bool {
        if addresses.is_empty() || self.dials.background.len() >= DIALS {
            return false;
        }
        let options = DialOpts::peer_id(peer)
            .condition(condition)
            .addresses(addresses)
            .build();
        self.begin_in_background(Some(peer), options)
    }

    fn begin_in_background(&mut self, peer: Option<PeerId>, options: DialOpts) -> bool {
        let connection = options.connection_id();
        let begun = self.swarm.dial(options).is_ok();
        if begun {
            self.dials.background.insert(connection, peer);
        }
        begun
    }

    /// Whether this peer is being dialled for the network's own ends.
    pub(super) fn is_dialled_in_background(&self, peer: &PeerId) -> bool {
        let mut dialled = self.dials.background.values();
        dialled.any(|dialled| dialled.as_ref() == Some(peer))
    }

    /// Opens one more connection to a connected peer, for the network's own ends.
    pub(super) fn dial_again(&mut self, peer: PeerId, address: Multiaddr) {
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(vec![address])
            .build();
        self.begin_in_background(Some(peer), options);
    }

    pub(super) fn dial_succeeded(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        endpoint: &ConnectedPoint,
    ) {
        if !endpoint.is_dialer() {
            return;
        }
        self.dials.background.remove(&connection);
        let at = endpoint.get_remote_address().clone();
        self.addresses.add(peer, [at], Word::Reached);
        self.hunt_met(connection, peer);
        for known in &mut self.dials.known {
            if known.connection == Some(connection) {
                (known.peer, known.pause) = (Some(peer), REDIAL_FIRST);
            }
        }
        if self.renewed(connection, &peer) {
            return;
        }
        if let Some(dial) = self.dials.dials.get_mut(&connection) {
            dial.peer = Some(peer);
        }
    }

    pub(super) fn dial_failed(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        error: &DialError,
    ) {
        tracing::debug!(?peer, %error, "a dial failed");
        self.dials.background.remove(&connection);
        self.log_failed_dial(peer, error);
        if let (Some(peer), DialError::WrongPeerId { address, .. }) = (peer, error) {
            self.addresses.drop_address(&peer, address);
            self.swarm.behaviour_mut().kad.remove(&peer);
        }
        // Where nobody is connected, it says as much of this computer's network as of the address.
        if let (Some(peer), DialError::Transport(attempts)) = (peer, error)
            && !self.peers.is_empty()
        {
            for (address, _) in attempts {
                self.addresses.failed(&peer, address);
            }
        }
        match self.dials.dials.remove(&connection) {
            Some(dial) => {
                let why = reason(error, &dial.address, dial.expected);
                drop(dial.reply.send(Err(why)));
            }
            None => self.renewal_failed(connection, peer, error),
        }
        self.hunt_failed(connection, peer, error);
    }

    /// The peer introduced itself: whoever waited for it is served.
    pub(super) fn dial_identified(&mut self, peer: &PeerId) {
        let shown = identity::to_protocol(peer);
        for dial in self.dials.take(|dial| dial.peer.as_ref() == Some(peer)) {
            drop(dial.reply.send(shown.ok_or(NetworkError::Closed)));
        }
    }

    /// The last connection to a peer closed before it introduced itself.
    pub(super) fn dial_lost(&mut self, peer: &PeerId) {
        for dial in self.dials.take(|dial| dial.peer.as_ref() == Some(peer)) {
            let address = dial.address;
            let error = match address.contains("/p2p-circuit") {
                // Whoever ended it may be the relay.
                true => NetworkError::Unreachable {
                    address,
                    reason: "the connection ended right after the handshake".to_owned(),
                },
                false => NetworkError::TurnedAway { address },
            };
            drop(dial.reply.send(Err(error)));
        }
    }

    /// Known peers are dialled at once, whatever their pauses were.
    pub(super) fn hurry_known(&mut self) {
        let now = Instant::now();
        for known in &mut self.dials.known {
            (known.next, known.pause) = (now, REDIAL_FIRST);
        }
    }

    pub(super) fn dial_tick(&mut self) {
        let now = Instant::now();
        for dial in self
            .dials
            .take(|dial| now.saturating_duration_since(dial.begun) >= CONNECT)
        {
            drop(dial.reply.send(Err(NetworkError::Timeout {
                what: "connecting",
                after: CONNECT,
            })));
        }
        let mut due = Vec::new();
        for (at, known) in self.dials.known.iter_mut().enumerate() {
            let connected = known
                .peer
                .is_some_and(|peer| self.peers.get(&peer).is_some());
            if known.next <= now && !connected {
                known.next = now + known.pause;
                known.pause = (known.pause * 2).min(REDIAL_LAST);
                due.push((at, known.address.clone(), known.peer));
            }
        }
        for (at, address, peer) in due {
            let options = match peer {
                Some(peer) if self.is_shut_out(&peer) => continue,
                Some(peer) => DialOpts::peer_id(peer).addresses(vec![address]).build(),
                None => unknown_peer(address),
            };
            let connection = options.connection_id();
            if self.begin_in_background(peer, options) {
                self.dials.known[at].connection = Some(connection);
                self.hunt_invited(connection);
            }
        }
    }
}

impl Dials {
    /// One for which no connection is made. Its number is none that there will ever be, and no other one's.
    fn waits(&mut self, dial: Dial) {
        let mut number = usize::MAX;
        while self
            .dials
            .contains_key(&ConnectionId::new_unchecked(number))
        {
            number -= 1;
        }
        self.dials.insert(ConnectionId::new_unchecked(number), dial);
    }

    fn take(&mut self, which: impl Fn(&Dial) -> bool) -> Vec<Dial> {
        let of: Vec<_> = self
            .dials
            .iter()
            .filter(|(_, dial)| which(dial))
            .map(|(id, _)| *id)
            .collect();
        of.into_iter()
            .filter_map(|id| self.dials.remove(&id))
            .collect()
    }
}

/// Every dial leaves from a listener's port where there is one: only so does a router let a peer in through the same hole, and only
/// so do peers see an address that others can dial. Over QUIC such a connection ends with its listener.
fn unknown_peer(address: Multiaddr) -> DialOpts {
    DialOpts::unknown_peer_id().address(address).build()
}

/// A failed dial in words that lead somewhere.
pub(super) fn reason(error: &DialError, address: &str, expected: Option<PeerId>) -> NetworkError {
    let address = address.to_owned();
    match error {
        DialError::LocalPeerId { .. } => NetworkError::OwnAddress { address },
        DialError::WrongPeerId {
            obtained,
            address: at,
        } => match expected.as_ref().and_then(identity::to_protocol) {
            Some(expected) => NetworkError::WrongPeer {
                address: address::without_peer(at).to_string(),
                expected,
                found: obtained.to_string(),
            },
            None => NetworkError::Unreachable {
                address,
                reason: "another peer than expected answers".to_owned(),
            },
        },
        DialError::NoAddresses => NetworkError::Unreachable {
            address,
            reason: "no address is known".to_owned(),
        },
        DialError::DialPeerConditionFalse(_) | DialError::Aborted => NetworkError::Unreachable {
            address,
            reason: "the attempt was given up".to_owned(),
        },
        DialError::Denied { cause } => {
            let blocked = cause
                .downcast_ref::<libp2p::allow_block_list::Blocked>()
                .is_some();
            match expected.as_ref().and_then(identity::to_protocol) {
                Some(peer) if blocked => NetworkError::Blocked { peer },
                _ => NetworkError::TooManyConnections {
                    reason: cause.to_string(),
                },
            }
        }
        DialError::Transport(attempts) => transport_reason(attempts, address),
    }
}

/// Of several attempts the most telling one counts: refused, turned away or unsupported, then whatever the first one says.
fn transport_reason(
    attempts: &[(Multiaddr, TransportError<io::Error>)],
    address: String,
) -> NetworkError {
    let mut timed_out = false;
    let mut first = None;
    for (at, attempt) in attempts {
        match attempt {
            TransportError::MultiaddrNotSupported(at) => {
                return NetworkError::UnsupportedAddress {
                    address: at.to_string(),
                };
            }
            TransportError::Other(error) => {
                let text = innermost(error);
                if is_refused(attempt) {
                    return NetworkError::Refused {
                        address: address::without_peer(at).to_string(),
                    };
                }
                if text.contains(TURNED_AWAY) {
                    return NetworkError::TurnedAway {
                        address: address::without_peer(at).to_string(),
                    };
                }
                timed_out |= kinds(error).contains(&io::ErrorKind::TimedOut)
                    || text.to_lowercase().contains("time");
                first.get_or_insert(if text == RELAY_GIVEN_UP {
                    "its relay is not reached".to_owned()
                } else {
                    text
                });
            }
        }
    }
    if timed_out {
        return NetworkError::Timeout {
            what: "connecting",
            after: CONNECT,
        };
    }
    NetworkError::Unreachable {
        address,
        reason: first.unwrap_or_else(|| "no attempt was made".to_owned()),
    }
}

/// Whether the computer answered that nothing listens there.
pub(super) fn is_refused(error: &TransportError<io::Error>) -> bool {
    match error {
        TransportError::MultiaddrNotSupported(_) => false,
        TransportError::Other(error) => {
            kinds(error).contains(&io::ErrorKind::ConnectionRefused)
                || says_refused(&innermost(error))
        }
    }
}

/// The kinds of an IO error and of those inside it: libp2p wraps them three deep.
fn kinds(error: &io::Error) -> Vec<io::ErrorKind> {
    let mut kinds = vec![error.kind()];
    let mut inner: Option<&(dyn Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(error) = inner {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            kinds.push(io.kind());
            inner = io
                .get_ref()
                .map(|inner| inner as &(dyn Error + 'static))
                .or_else(|| io.source());
        } else {
            inner = error.source();
        }
    }
    kinds
}

/// libp2p's wrappers show the system's error and do not all let one at it: its number stands at the end of its text, here of Linux,
/// macOS and Windows.
fn says_refused(text: &str) -> bool {
    ["(os error 111)", "(os error 61)", "(os error 10061)"]
        .iter()
        .any(|number| text.ends_with(number))
}

fn innermost(error: &io::Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(error) = inner {
        text = error.to_string();
        inner = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_an_introduction_is_pushed_out_by_nobody() {
        let mut dials = Dials::new(&[]);
        let mut answers = Vec::new();
        let mut wait = |dials: &mut Dials| {
            let (reply, answer) = oneshot::channel();
            let peer = PeerId::random();
            dials.waits(Dial {
                address: String::new(),
                expected: None,
                peer: Some(peer),
                begun: Instant::now(),
                reply,
            });
            answers.push(answer);
            peer
        };
        let first = wait(&mut dials);
        wait(&mut dials);
        // The first one is served, and a third comes into its place.
        drop(dials.take(|dial| dial.peer == Some(first)));
        wait(&mut dials);
        assert_eq!(dials.dials.len(), 2);
        for answer in &mut answers[1..] {
            assert_eq!(
                answer.try_recv().err(),
                Some(oneshot::error::TryRecvError::Empty),
                "it still waits"
            );
        }
    }
}
