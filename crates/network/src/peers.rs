//! What is known of each peer: those that are connected, and addresses of those that were.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    time::{SystemTime, UNIX_EPOCH},
};

use libp2p::{
    Multiaddr,
    core::{ConnectedPoint, transport::PortUse},
    swarm::ConnectionId,
};
use protocol::{ModelDigest, PeerId};

use crate::{
    address::{self, Scope, Transport},
    clocks::PeerClocks,
    log::Path,
    reach::Reachability,
    sources::SourceStatus,
    traffic::{Bytes, Traffic},
};

/// Peers whose addresses are remembered.
const KNOWN: usize = 512;
/// Addresses remembered of one peer: what an offer may name.
const ADDRESSES: usize = 8;
/// Dials to an address at which the peer was never reached.
const FAILURES: u32 = 3;
/// Characters of a peer's own name for its program that are kept.
const AGENT: usize = 64;
/// Pings in a row without an answer after which a connection is closed.
const MISSED_PINGS: u32 = 2;

/// Everything that is true of the network now. A new one replaces it whenever something changes, at most twenty times a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkStatus {
    /// Addresses others can dial, each with `/p2p/…`, the best first. Empty: this node only dials.
    pub listening: Vec<String>,
    /// Binary multiaddrs that an offer of this node may name, without `/p2p/…`: at which strangers reach it.
    pub offerable: Vec<bytes::Bytes>,
    /// Addresses that were asked for and could not be opened, with the reason.
    pub not_listening: Vec<(String, String)>,
    /// Whether multicast DNS runs.
    pub mdns: bool,
    /// Connected peers, longest connected first.
    pub peers: Vec<PeerStatus>,
    /// Whether and how others reach this node.
    pub reach: Reachability,
    /// Bytes of all streams since the start.
    pub traffic: Bytes,
    /// Where first peers come from, and what each of the six brought.
    pub sources: Vec<SourceStatus>,
    /// What was refused since the start.
    pub refusals: Refusals,
    /// Peers that the user blocked.
    pub blocked: Vec<PeerId>,
    /// Peers that are not let in for ten minutes because they broke the protocol.
    pub banned: Vec<PeerId>,
    /// What peers' clocks say of this computer's.
    pub clocks: PeerClocks,
}

/// A connected peer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStatus {
    /// Who, as its handshake proved.
    pub peer: PeerId,
    /// The address of its other end, of the connection that new streams use.
    pub addr: String,
    /// Who dialled.
    pub direction: Direction,
    /// What carries the connection; through a relay, what carries it to the relay.
    pub transport: Transport,
    /// Whether a relay carries it.
    pub relayed: bool,
    /// Bytes of its streams since the start.
    pub traffic: Bytes,
    /// The last round trip, in milliseconds; `None` before the first ping came back.
    pub rtt_ms: Option<u32>,
    /// What it calls its program: its own word, at most 64 printable characters. `None` before it said so.
    pub agent: Option<String>,
    /// Models it offers, as far as known.
    pub offers: Vec<ModelDigest>,
    /// Since when, Unix milliseconds.
    pub since_unix_ms: u64,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The peer.
    In,
    /// This node.
    Out,
}

/// What was turned away since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Connections over a limit, or of an identity that is no Ed25519 key.
    pub connections: u64,
    /// Job streams over their peer's rate.
    pub rate: u64,
    /// Job streams for which there was no place, or whose queue was full.
    pub queue: u64,
    /// Frames and messages that broke the protocol.
    pub violations: u64,
    /// Offers that did not verify, were too old, or were too many.
    pub offers: u64,
    /// Requests for offers, heads and quotes over their peer's rate.
    pub requests: u64,
    /// Places and connections that were not carried for others.
    pub relayed: u64,
    /// Peers banned.
    pub bans: u64,
}

/// Milliseconds since 1970; 0 on a computer whose clock says less.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// What a peer calls its program, fit for a screen.
pub(crate) fn agent(text: &str) -> String {
    text.chars()
        .filter(|char| !char.is_control())
        .take(AGENT)
        .collect()
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: ConnectionId,
    /// The other end; of a connection that came through a relay, the relay's.
    pub(crate) remote: Multiaddr,
    pub(crate) direction: Direction,
    pub(crate) relayed: bool,
    /// The address of this computer from which packets went there when it was opened.
    pub(crate) source: Option<IpAddr>,
    /// We dialled, and not from the port of a listener: where the other end sees us, nobody else reaches us.
    pub(crate) from_fresh_port: bool,
    missed: u32,
}

impl Link {
    fn scope(&self) -> Option<Scope> {
        if self.relayed {
            // Where the relay is says nothing of the peer.
            return Some(Scope::Public);
        }
        address::scope_of_end(&self.remote)
    }

    /// For the log.
    pub(crate) fn path(&self) -> Path {
        if self.relayed {
            Path::Relayed
        } else {
            direct_path(&self.remote)
        }
    }

    /// What decides which connection is the best: direct, then QUIC.
    fn worth(&self) -> (bool, bool) {
        (
            !self.relayed,
            Transport::of(&self.remote) == Transport::Quic,
        )
    }
}

/// For the log, of a connection that did not come about.
pub(crate) fn path_of(endpoint: &ConnectedPoint) -> Path {
    if endpoint.is_relayed() {
        Path::Relayed
    } else {
        direct_path(endpoint.get_remote_address())
    }
}

fn direct_path(remote: &Multiaddr) -> Path {
    let transport = Transport::of(remote);
    match address::scope_of_end(remote) {
        Some(Scope::Loopback) => Path::Loopback(transport),
        Some(Scope::Private) => Path::Local(transport),
        Some(Scope::Public) => Path::Internet(transport),
        None => Path::Unknown,
    }
}

/// The address of this computer from which a packet to this one would leave now. Nothing is sent.
pub(crate) fn source_towards(remote: &Multiaddr) -> Option<IpAddr> {
    let ip = address::ip(remote)?;
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The discard port: connecting a UDP socket only asks the system for the route.
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((ip, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// A connected peer, as the loop knows it.
#[derive(Debug)]
pub(crate) struct Connected {
    links: Vec<Link>,
    since_unix_ms: u64,
    rtt_ms: Option<u32>,
    pub(crate) agent: Option<String>,
    /// The protocols it said it speaks; `None` before it did.
    pub(crate) protocols: Option<Vec<String>>,
}

impl Connected {
    /// How near the peer is: of all its connections, the nearest.
    pub(crate) fn scope(&self) -> Scope {
        self.links
            .iter()
            .filter_map(Link::scope)
            .min()
            .unwrap_or(Scope::Public)
    }

    /// False only when the peer said what it speaks, and this is not among it.
    pub(crate) fn may_speak(&self, protocol: &str) -> bool {
        self.protocols
            .as_ref()
            .is_none_or(|spoken| spoken.iter().any(|one| one == protocol))
    }

    /// The other end of its first connection.
    pub(crate) fn remote(&self) -> Option<&Multiaddr> {
        self.links.first().map(|link| &link.remote)
    }

    /// True when the peer said that it speaks this.
    pub(crate) fn speaks(&self, protocol: &str) -> bool {
        self.protocols.is_some() && self.may_speak(protocol)
    }

    /// Addresses at which we dialled it directly.
    pub(crate) fn dialled(&self) -> impl Iterator<Item = &Multiaddr> {
        self.links
            .iter()
            .filter(|link| link.direction == Direction::Out && !link.relayed)
            .map(|link| &link.remote)
    }

    /// Its connections, oldest first.
    pub(crate) fn links(&self) -> &[Link] {
        &self.links
    }

    /// Where it is seen from: `None` while only relays lead to it.
    pub(crate) fn host(&self) -> Option<IpAddr> {
        self.links
            .iter()
            .filter(|link| !link.relayed)
            .find_map(|link| address::ip(&link.remote))
    }
}

/// The peers that are connected.
#[derive(Debug, Default)]
pub(crate) struct Peers(BTreeMap<libp2p::PeerId, Connected>);

impl Peers {
    pub(crate) fn get(&self, peer: &libp2p::PeerId) -> Option<&Connected> {
        self.0.get(peer)
    }

    pub(crate) fn get_mut(&mut self, peer: &libp2p::PeerId) -> Option<&mut Connected> {
        self.0.get_mut(peer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&libp2p::PeerId, &Connected)> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, longest connected first.
    pub(crate) fn longest_first(&self) -> Vec<libp2p::PeerId> {
        let mut peers: Vec<_> = self
            .0
            .iter()
            .map(|(peer, one)| (one.since_unix_ms, *peer))
            .collect();
        peers.sort_unstable();
        peers.into_iter().map(|(_, peer)| peer).collect()
    }

    pub(crate) fn opened(
        &mut self,
        peer: libp2p::PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
    ) {
        let direction = if endpoint.is_dialer() {
            Direction::Out
        } else {
            Direction::In
        };
        let relayed = endpoint.is_relayed();
        let remote = match endpoint {
            // The other end's address is unknown then; the relay's is in front of our own.
            ConnectedPoint::Listener { local_addr, .. } if relayed => local_addr,
            ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
            ConnectedPoint::Dialer { address, .. } => address,
        };
        let remote = address::without_peer(remote);
        let source = source_towards(&remote);
        let connected = self.0.entry(peer).or_insert_with(|| Connected {
            links: Vec::new(),
            since_unix_ms: unix_ms(),
            rtt_ms: None,
            agent: None,
            protocols: None,
        });
        connected.links.push(Link {
            id,
            remote,
            direction,
            relayed,
            source,
            from_fresh_port: matches!(
                endpoint,
                ConnectedPoint::Dialer {
                    port_use: PortUse::New,
                    ..
                }
            ),
            missed: 0,
        });
    }

    /// Returns what is not there any more.
    pub(crate) fn closed(&mut self, peer: &libp2p::PeerId, id: ConnectionId) -> Option<Link> {
        let connected = self.0.get_mut(peer)?;
        let at = connected.links.iter().position(|link| link.id == id)?;
        let link = connected.links.remove(at);
        if connected.links.is_empty() {
            self.0.remove(peer);
        }
        Some(link)
    }

    /// A ping came back, or did not. True: too many did not, the connection is dead.
    pub(crate) fn pinged(
        &mut self,
        peer: &libp2p::PeerId,
        id: ConnectionId,
        rtt: Option<std::time::Duration>,
    ) -> bool {
        let Some(connected) = self.0.get_mut(peer) else {
            return false;
        };
        if let Some(rtt) = rtt {
            connected.rtt_ms = Some(u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX));
        }
        let Some(link) = connected.links.iter_mut().find(|link| link.id == id) else {
            return false;
        };
        link.missed = if rtt.is_some() { 0 } else { link.missed + 1 };
        link.missed >= MISSED_PINGS
    }

    /// Whether somebody from outside of this computer and this local network is connected.
    pub(crate) fn has_strangers(&self) -> bool {
        self.0
            .values()
            .any(|connected| connected.scope() == Scope::Public)
    }

    /// The nearest scope that any connected peer is in.
    pub(crate) fn reach(&self) -> Scope {
        self.0
            .values()
            .map(Connected::scope)
            .min()
            .unwrap_or(Scope::Public)
    }

    /// The widest scope that any connected peer is in; everybody's while nobody is connected.
    pub(crate) fn widest(&self) -> Scope {
        self.0
            .values()
            .map(Connected::scope)
            .max()
            .unwrap_or(Scope::Public)
    }

    /// For the snapshot, longest connected first.
    pub(crate) fn status(
        &self,
        traffic: &Traffic,
        offers: impl Fn(PeerId) -> Vec<ModelDigest>,
    ) -> Vec<PeerStatus> {
        let mut peers: Vec<_> = self
            .0
            .iter()
            .filter_map(|(id, connected)| {
                let peer = crate::identity::to_protocol(id)?;
                let link = connected.links.iter().max_by_key(|link| link.worth())?;
                Some(PeerStatus {
                    peer,
                    addr: link.remote.to_string(),
                    direction: link.direction,
                    transport: Transport::of(&link.remote),
                    relayed: link.relayed,
                    traffic: traffic.of(id),
                    rtt_ms: connected.rtt_ms,
                    agent: connected.agent.clone(),
                    offers: offers(peer),
                    since_unix_ms: connected.since_unix_ms,
                })
            })
            .collect();
        peers.sort_by_key(|peer| peer.since_unix_ms);
        peers
    }
}

/// Addresses of peers, the best last: where one was reached, then what it says of itself, then what others say of it.
#[derive(Debug, Default)]
pub(crate) struct AddressBook(HashMap<libp2p::PeerId, Vec<Known>>);

/// Who says that a peer is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Word {
    /// Somebody else, who may say of anybody what he likes.
    Others,
    /// The peer: it introduced itself, signed an offer, or calls in the local network.
    Own,
    /// Nobody needs to: it was reached there.
    Reached,
}

#[derive(Debug)]
struct Known {
    address: Multiaddr,
    word: Word,
    /// Dials that came to nothing since the peer was reached there.
    failures: u32,
}

impl AddressBook {
    pub(crate) fn add(
        &mut self,
        peer: libp2p::PeerId,
        addresses: impl IntoIterator<Item = Multiaddr>,
        word: Word,
    ) {
        if self.0.len() >= KNOWN
            && !self.0.contains_key(&peer)
            && let Some(other) = self.0.keys().next().copied()
        {
            // Which one goes is the hasher's choice: nobody outside can aim at one.
            self.0.remove(&other);
        }
        let known = self.0.entry(peer).or_default();
        for address in addresses {
            let address = address::without_peer(&address);
            let before = known.iter().position(|one| one.address == address);
            let before = before.map(|at| known.remove(at));
            let failures = match (&before, word) {
                (Some(before), Word::Own | Word::Others) => before.failures,
                (None, _) | (Some(_), Word::Reached) => 0,
            };
            let word = before.as_ref().map_or(word, |before| before.word.max(word));
            // Behind all that are no better: the newest of its kind.
            let at = known.partition_point(|one| one.word <= word);
            known.insert(
                at,
                Known {
                    address,
                    word,
                    failures,
                },
            );
            if known.len() > ADDRESSES {
                // What it says of itself now is worth more than the oldest place where it was once.
                let is_news = at == 0 && word == Word::Own;
                known.remove(usize::from(is_news));
            }
        }
        if known.is_empty() {
            self.0.remove(&peer);
        }
    }

    /// What is known, the best first, and of equal ones the newest.
    pub(crate) fn of(&self, peer: &libp2p::PeerId) -> Vec<Multiaddr> {
        self.0
            .get(peer)
            .map(|known| known.iter().rev().map(|one| one.address.clone()).collect())
            .unwrap_or_default()
    }

    /// Nobody answered there. When that was so often enough, an address at which the peer was once reached is worth no more than
    /// what others say, and any other is forgotten: it may be a victim's, whom we are to knock at.
    pub(crate) fn failed(&mut self, peer: &libp2p::PeerId, address: &Multiaddr) {
        let address = address::without_peer(address);
        self.retain(peer, |one| {
            one.failures += u32::from(one.address == address);
            if one.failures >= FAILURES && one.word == Word::Reached {
                (one.word, one.failures) = (Word::Others, 0);
            }
            one.failures < FAILURES
        });
        if let Some(known) = self.0.get_mut(peer) {
            known.sort_by_key(|one| one.word);
        }
    }

    /// Somebody else answered there.
    pub(crate) fn drop_address(&mut self, peer: &libp2p::PeerId, address: &Multiaddr) {
        let address = address::without_peer(address);
        self.retain(peer, |one| one.address != address);
    }

    fn retain(&mut self, peer: &libp2p::PeerId, stays: impl FnMut(&mut Known) -> bool) {
        if let Some(known) = self.0.get_mut(peer) {
            known.retain_mut(stays);
            if known.is_empty() {
                self.0.remove(peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_book_is_bounded_both_ways() {
        let mut book = AddressBook::default();
        let peer = libp2p::PeerId::random();
        let address = |port: u16| {
            format!("/ip4/192.0.2.1/tcp/{port}")
                .parse::<Multiaddr>()
                .unwrap()
        };
        book.add(peer, (1..=20).map(address), Word::Own);
        assert_eq!(book.of(&peer).len(), ADDRESSES);
        assert_eq!(book.of(&peer)[0], address(20), "the newest first");
        for _ in 0..2 * KNOWN {
            book.add(libp2p::PeerId::random(), [address(1)], Word::Own);
        }
        assert!(book.0.len() <= KNOWN);
    }

    #[test]
    fn what_others_say_of_a_peer_does_not_push_out_where_it_is() {
        let mut book = AddressBook::default();
        let peer = libp2p::PeerId::random();
        let address = |host: u16, port: u16| {
            format!("/ip4/192.0.2.{host}/tcp/{port}")
                .parse::<Multiaddr>()
                .unwrap()
        };
        let (reached, own) = (address(1, 1), address(1, 2));
        book.add(peer, [reached.clone()], Word::Reached);
        book.add(peer, [own.clone()], Word::Own);
        book.add(peer, (1..=100).map(|port| address(2, port)), Word::Others);
        let known = book.of(&peer);
        assert_eq!(known.len(), ADDRESSES);
        assert_eq!(known[..2], [reached.clone(), own.clone()]);
        // Somebody who repeats what is known makes it no worse.
        book.add(peer, [reached.clone()], Word::Others);
        assert_eq!(book.of(&peer)[0], reached);
    }

    #[test]
    fn an_address_at_which_nobody_was_ever_met_is_dialled_three_times() {
        let mut book = AddressBook::default();
        let peer = libp2p::PeerId::random();
        let [home, victim]: [Multiaddr; 2] =
            ["/ip4/192.0.2.1/tcp/1", "/ip4/198.51.100.1/tcp/80"].map(|text| text.parse().unwrap());
        book.add(peer, [home.clone()], Word::Reached);
        book.add(peer, [victim.clone()], Word::Own);
        for _ in 0..FAILURES {
            assert!(book.of(&peer).contains(&victim));
            for at in [&home, &victim] {
                book.failed(&peer, &at.clone().with_p2p(peer).unwrap());
            }
        }
        assert_eq!(
            book.of(&peer),
            [home],
            "it was there once, and may be again"
        );
    }

    #[test]
    fn where_a_peer_was_once_gives_way_to_what_it_says_now() {
        let mut book = AddressBook::default();
        let peer = libp2p::PeerId::random();
        let at =
            |port: usize| -> Multiaddr { format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap() };
        for port in 1..=ADDRESSES {
            book.add(peer, [at(port)], Word::Reached);
        }
        book.add(peer, [at(100)], Word::Others);
        assert!(
            !book.of(&peer).contains(&at(100)),
            "others' word moves nothing"
        );
        book.add(peer, [at(101)], Word::Own);
        assert!(book.of(&peer).contains(&at(101)));
        assert!(!book.of(&peer).contains(&at(1)), "the oldest place goes");
        // Where nobody answers any more comes last, and is first again when somebody does.
        for _ in 0..FAILURES {
            book.failed(&peer, &at(8));
        }
        assert_eq!(book.of(&peer).last(), Some(&at(8)));
        book.add(peer, [at(8)], Word::Reached);
        assert_eq!(book.of(&peer).first(), Some(&at(8)));
    }

    #[test]
    fn who_is_reached_through_a_translator_is_a_stranger() {
        let meets = |peers: &mut Peers, at: &str, id| {
            let endpoint = ConnectedPoint::Dialer {
                address: at.parse().unwrap(),
                role_override: libp2p::core::Endpoint::Dialer,
                port_use: PortUse::Reuse,
            };
            let peer = libp2p::PeerId::random();
            peers.opened(peer, ConnectionId::new_unchecked(id), &endpoint);
            peer
        };
        let mut peers = Peers::default();
        let stranger = meets(&mut peers, "/ip6/64:ff9b:1::c633:6407/tcp/4001", 1);
        assert_eq!(peers.get(&stranger).unwrap().scope(), Scope::Public);
        assert_eq!(
            (peers.reach(), peers.widest()),
            (Scope::Public, Scope::Public)
        );
        let home = "/ip4/192.168.1.7/tcp/1".parse().unwrap();
        assert!(!address::may_tell(peers.reach(), &home));
        // Beside a neighbour it is told of nobody at home, and the neighbour is one as before.
        meets(&mut peers, "/ip6/fd00::7/tcp/4001", 2);
        assert_eq!(
            (peers.reach(), peers.widest()),
            (Scope::Private, Scope::Public)
        );
        assert!(peers.has_strangers());
    }

    #[test]
    fn an_agent_is_fit_for_a_screen() {
        assert_eq!(
            agent("decentralgpt/0.1\u{1b}[31m\n"),
            "decentralgpt/0.1[31m"
        );
        assert_eq!(agent(&"x".repeat(1000)).len(), AGENT);
    }
}
