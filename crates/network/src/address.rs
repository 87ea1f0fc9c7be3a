//! Which text is an address, which address can be dialled, and which one a peer may tell us of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::error::NetworkError;

/// A multiaddr longer than this is not one that this program could dial: an IPv6 address and the ids of a relay and of a peer fit.
/// It also bounds what an error message repeats.
const MAX_ADDRESS_TEXT: usize = 256;

/// How the bytes of a connection travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// QUIC version 1 over UDP.
    Quic,
    /// TCP, then Noise, then Yamux.
    Tcp,
}

impl Transport {
    /// The transport of an address that is in use.
    pub(crate) fn of(address: &Multiaddr) -> Self {
        if address.iter().any(|part| matches!(part, Protocol::QuicV1)) {
            Self::Quic
        } else {
            Self::Tcp
        }
    }
}

/// How far an IP address is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// This computer.
    Loopback,
    /// A home or office network, a link, or a carrier's inner network.
    Private,
    /// Everybody.
    Public,
}

/// Through a relay's circuit.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address
        .iter()
        .any(|part| matches!(part, Protocol::P2pCircuit))
}

/// The IP address at the front, where there is one.
pub(crate) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(IpAddr::V4(ip)),
        Some(Protocol::Ip6(ip)) => Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)),
        _ => None,
    }
}

/// Where an offer says that its peer is: the IP address of the first one that leads there directly, else of the first relay.
#[must_use]
pub fn front_ip(addresses: &[bytes::Bytes]) -> Option<IpAddr> {
    let read = |bytes: &bytes::Bytes| Multiaddr::try_from(bytes.to_vec()).ok();
    let read: Vec<_> = addresses.iter().filter_map(read).collect();
    let direct = read.iter().find(|address| !is_relayed(address));
    direct.or(read.first()).and_then(ip)
}

/// How far the address at the front is visible; `None` for a name, and for an address that is nobody's (0.0.0.0, multicast).
pub(crate) fn scope(address: &Multiaddr) -> Option<Scope> {
    match ip(address)? {
        IpAddr::V4(ip) => scope_v4(ip),
        IpAddr::V6(ip) => scope_v6(ip),
    }
}

/// How far the other end of a connection is. What a translator of one network writes, 64:ff9b:1::/48, leads nowhere from elsewhere, and
/// so is that network's when somebody tells of it; but whoever is reached through it may be anybody, and is no neighbour.
pub(crate) fn scope_of_end(remote: &Multiaddr) -> Option<Scope> {
    match ip(remote)? {
        IpAddr::V6(ip) if is_translated(ip) => Some(Scope::Public),
        IpAddr::V4(_) | IpAddr::V6(_) => scope(remote),
    }
}

/// 64:ff9b:1::/48 (RFC 8215): a translator's of one network. Where in it the IPv4 address stands is that network's choice (RFC 6052 has
/// six places), so nothing in it can be read.
fn is_translated(ip: Ipv6Addr) -> bool {
    ip.segments()[..3] == [0x64, 0xff9b, 1]
}

fn scope_v4(ip: Ipv4Addr) -> Option<Scope> {
    // 0.0.0.0/8 is this network without a name (RFC 1122), 240.0.0.0/4 was never given to anybody (RFC 1112).
    if matches!(ip.octets()[0], 0 | 240..) || ip.is_multicast() {
        return None;
    }
    // 100.64.0.0/10 is a carrier's inner network (RFC 6598).
    let carrier = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
    Some(if ip.is_loopback() {
        Scope::Loopback
    } else if ip.is_private() || ip.is_link_local() || carrier {
        Scope::Private
    } else {
        Scope::Public
    })
}

fn scope_v6(ip: Ipv6Addr) -> Option<Scope> {
    if ip.is_unspecified() || ip.is_multicast() {
        return None;
    }
    if let Some(inside) = v4_inside(ip) {
        return scope_v4(inside);
    }
    // fc00::/7 unique local (RFC 4193), fe80::/10 link local (RFC 4291), fec0::/10 what was site local (RFC 3879).
    let (local, link) = (
        ip.segments()[0] & 0xfe00 == 0xfc00,
        matches!(ip.segments()[0] & 0xffc0, 0xfe80 | 0xfec0),
    );
    Some(if ip.is_loopback() {
        Scope::Loopback
    } else if local || link || is_translated(ip) {
        Scope::Private
    } else {
        Scope::Public
    })
}

/// The IPv4 address that a translator or a tunnel would make of this one: behind them lies the home of whoever dials it.
fn v4_inside(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        // 64:ff9b::/96 (RFC 6052): a translator's.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        // 2002::/16 (RFC 3056): 6to4.
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Addresses that tend to be in one hand: the cheapest way to be many is to be many in one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Prefix(IpAddr);

impl Prefix {
    /// What one household has: an address of IPv4, a /64 of IPv6.
    pub(crate) fn of_household(address: &Multiaddr) -> Option<Self> {
        ip(address).map(|ip| Self::cut(ip, 32, 64))
    }

    /// What one customer has: a /24 of IPv4, a /48 of IPv6 (RFC 6177).
    pub(crate) fn of_site(address: &Multiaddr) -> Option<Self> {
        ip(address).map(|ip| Self::cut(ip, 24, 48))
    }

    /// What one provider of lines or servers has: a /16 of IPv4, a /32 of IPv6.
    pub(crate) fn of_carrier(address: &Multiaddr) -> Option<Self> {
        ip(address).map(|ip| Self::cut(ip, 16, 32))
    }

    fn cut(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> Self {
        Self(match ip {
            IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) & (u32::MAX << (32 - v4_bits))).into(),
            IpAddr::V6(ip) => {
                Ipv6Addr::from(u128::from(ip) & (u128::MAX << (128 - v6_bits))).into()
            }
        })
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether somebody whom we reach at `from` may tell us of `told`. Only who is on this computer or this local network may name
/// addresses of it: otherwise a stranger could send every node of the network to scan its neighbours' homes.
pub(crate) fn may_tell(from: Scope, told: &Multiaddr) -> bool {
    scope(told).is_some_and(|scope| scope >= from) && is_dialable(told)
}

/// An IP address with TCP or with QUIC behind it, and at most a peer id after that; or such an address of a relay, with its id, and
/// a circuit.
pub(crate) fn is_dialable(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let host = matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
    host && has_transport(&mut parts) && scope(address).is_some()
}

fn has_transport<'a>(parts: &mut impl Iterator<Item = Protocol<'a>>) -> bool {
    let transport = match parts.next() {
        Some(Protocol::Tcp(port)) => port != 0,
        Some(Protocol::Udp(port)) => port != 0 && matches!(parts.next(), Some(Protocol::QuicV1)),
        _ => false,
    };
    if !transport {
        return false;
    }
    match (parts.next(), parts.next()) {
        (None | Some(Protocol::P2p(_)), None) => true,
        (Some(Protocol::P2p(_)), Some(Protocol::P2pCircuit)) => {
            matches!(parts.next(), None | Some(Protocol::P2p(_))) && parts.next().is_none()
        }
        _ => false,
    }
}

/// What a person or a file gave us to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A peer id alone.
    Peer(PeerId),
    /// An address that can be dialled as it is.
    Address {
        address: Multiaddr,
        peer: Option<PeerId>,
    },
    /// An address whose host is a name.
    Name {
        host: String,
        family: Family,
        rest: Multiaddr,
        peer: Option<PeerId>,
    },
}

/// Which addresses of a name count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
    Either,
}

impl Family {
    pub(crate) fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
            Self::Either => true,
        }
    }
}

/// Reads what [`Network::connect`](crate::Network::connect) was given.
pub(crate) fn target(text: &str) -> Result<Target, NetworkError> {
    let text = text.trim();
    let not = || NetworkError::NotAnAddress {
        text: text.chars().take(MAX_ADDRESS_TEXT).collect(),
    };
    // An empty multiaddr parses.
    if text.is_empty() || text.len() > MAX_ADDRESS_TEXT {
        return Err(not());
    }
    if let Ok(peer) = text.parse::<PeerId>() {
        return Ok(Target::Peer(peer));
    }
    let address: Multiaddr = text.parse().map_err(|_| not())?;
    let unsupported = || NetworkError::UnsupportedAddress {
        address: text.to_owned(),
    };
    let peer = peer_of(&address);
    let mut parts = address.iter();
    let named = match parts.next() {
        Some(Protocol::Dns(host)) => Some((host.into_owned(), Family::Either)),
        Some(Protocol::Dns4(host)) => Some((host.into_owned(), Family::V4)),
        Some(Protocol::Dns6(host)) => Some((host.into_owned(), Family::V6)),
        Some(Protocol::P2p(peer)) if parts.next().is_none() => return Ok(Target::Peer(peer)),
        _ => None,
    };
    match named {
        Some((host, family)) => {
            let rest: Multiaddr = address.iter().skip(1).collect();
            if has_transport(&mut parts) {
                Ok(Target::Name {
                    host,
                    family,
                    rest,
                    peer,
                })
            } else {
                Err(unsupported())
            }
        }
        // A relay has to be told whom to connect to.
        None if is_relayed(&address) && peer.is_none() => Err(unsupported()),
        None if is_dialable(&address) => Ok(Target::Address { address, peer }),
        None => Err(unsupported()),
    }
}

/// What is listened on to be reached through relays alone.
pub(crate) fn any_relay() -> Multiaddr {
    Multiaddr::empty().with(Protocol::P2pCircuit)
}

/// Reads an address to listen on; port 0 and 0.0.0.0 are fine here, and so is `/p2p-circuit`, which stands for any relay.
pub(crate) fn listen_on(text: &str) -> Result<Multiaddr, NetworkError> {
    let cut = || text.chars().take(MAX_ADDRESS_TEXT).collect::<String>();
    let address: Multiaddr = text
        .trim()
        .parse()
        .map_err(|_| NetworkError::NotAnAddress { text: cut() })?;
    if address == any_relay() {
        return Ok(address);
    }
    let mut parts = address.iter();
    let host = matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
    let transport = match parts.next() {
        Some(Protocol::Tcp(_)) => true,
        Some(Protocol::Udp(_)) => matches!(parts.next(), Some(Protocol::QuicV1)),
        _ => false,
    };
    if host && transport && parts.next().is_none() {
        Ok(address)
    } else {
        Err(NetworkError::UnsupportedAddress { address: cut() })
    }
}

/// The peer id at the end.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// The address with this peer id at its end, as it is given to somebody else.
pub(crate) fn with_peer(address: &Multiaddr, peer: PeerId) -> Multiaddr {
    if peer_of(address).is_some() {
        address.clone()
    } else {
        address.clone().with(Protocol::P2p(peer))
    }
}

/// The address without the peer id at its end. The id of a relay stays: without it nothing can be dialled.
pub(crate) fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if peer_of(&address).is_some() {
        address.pop();
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_offer_is_where_it_is_reached_directly_and_else_at_its_relay() {
        let bytes = |text: &str| bytes::Bytes::from(addr(text).to_vec());
        let circuit = bytes(&format!("/ip4/192.0.2.9/tcp/1/p2p/{PEER}/p2p-circuit"));
        let direct = bytes("/ip4/198.51.100.7/udp/1/quic-v1");
        let none = bytes::Bytes::from_static(b"\x04\x01");
        assert_eq!(
            front_ip(&[none.clone(), circuit.clone(), direct]),
            "198.51.100.7".parse().ok()
        );
        assert_eq!(front_ip(&[circuit]), "192.0.2.9".parse().ok());
        assert_eq!(front_ip(&[none]), None);
        assert_eq!(front_ip(&[bytes("/dns4/example.org/tcp/1")]), None);
    }

    #[test]
    fn what_can_be_dialled_is_told_apart() {
        for good in [
            "/ip4/192.0.2.1/tcp/4001",
            "/ip6/2001:db8::1/udp/4001/quic-v1",
            "/dns4/example.org/udp/443/quic-v1",
        ] {
            assert!(target(good).is_ok(), "{good}");
            assert!(
                target(&format!(" {good}/p2p/{PEER}\n")).is_ok(),
                "{good} with a peer"
            );
        }
        assert!(matches!(target(PEER), Ok(Target::Peer(_))));
        assert!(matches!(
            target(&format!("/p2p/{PEER}")),
            Ok(Target::Peer(_))
        ));
        for text in [
            "",
            "hello",
            "192.0.2.1:4001",
            "/ip4/300.1.1.1/tcp/1",
            "http://example.org",
            &"x".repeat(100_000),
        ] {
            assert!(
                matches!(target(text), Err(NetworkError::NotAnAddress { .. })),
                "{text:.40}"
            );
        }
        for text in [
            "/ip4/192.0.2.1/udp/4001",
            "/ip4/192.0.2.1/tcp/0",
            "/ip4/0.0.0.0/tcp/4001",
            "/ip4/192.0.2.1/tcp/80/ws",
            "/dnsaddr/example.org",
            "/memory/1",
            "/ip4/192.0.2.1",
        ] {
            assert!(
                matches!(target(text), Err(NetworkError::UnsupportedAddress { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn an_address_through_a_relay_names_both_peers() {
        let relay = format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{PEER}/p2p-circuit");
        let whole = format!("{relay}/p2p/{PEER}");
        assert!(matches!(
            target(&whole),
            Ok(Target::Address { peer: Some(_), .. })
        ));
        assert!(matches!(
            target(&relay),
            Err(NetworkError::UnsupportedAddress { .. })
        ));
        assert_eq!(without_peer(&addr(&whole)), addr(&relay));
        assert_eq!(without_peer(&addr(&relay)), addr(&relay));
        assert!(is_dialable(&addr(&relay)) && is_relayed(&addr(&relay)));
        assert!(may_tell(Scope::Public, &addr(&whole)));
        let home = whole.replace("192.0.2.1", "192.168.1.1");
        assert!(
            !may_tell(Scope::Public, &addr(&home)),
            "nor through a relay"
        );
        for bad in [
            format!("/ip4/192.0.2.1/tcp/1/p2p-circuit/p2p/{PEER}"),
            format!("{whole}/p2p-circuit/p2p/{PEER}"),
            format!("/p2p-circuit/p2p/{PEER}"),
        ] {
            assert!(!is_dialable(&addr(&bad)), "{bad}");
        }
    }

    #[test]
    fn a_stranger_may_not_name_addresses_of_a_home() {
        assert!(may_tell(Scope::Public, &addr("/ip4/198.51.100.7/tcp/1")));
        assert!(!may_tell(Scope::Public, &addr("/ip4/192.168.1.1/tcp/80")));
        assert!(!may_tell(
            Scope::Public,
            &addr("/ip6/::ffff:10.0.0.1/tcp/80")
        ));
        assert!(!may_tell(Scope::Public, &addr("/ip4/100.64.0.1/tcp/80")));
        for home in [
            "/ip6/64:ff9b::c0a8:101/tcp/80",
            "/ip6/64:ff9b:1::7f00:1/tcp/80",
            // 192.168.1.1 and 10.0.0.1 as a translator with a /48 and with a /64 writes them; read from the end they would be the internet's.
            "/ip6/64:ff9b:1:c0a8:1:100:808:808/tcp/80",
            "/ip6/64:ff9b:1:0:a:0:108:808/tcp/80",
            "/ip6/2002:a00:1::1/tcp/80",
            "/ip6/fec0::1/tcp/80",
            "/ip4/0.0.0.1/tcp/80",
            "/ip4/240.0.0.1/tcp/80",
        ] {
            assert!(!may_tell(Scope::Public, &addr(home)), "{home}");
        }
        for far in [
            "/ip6/64:ff9b::c633:6407/tcp/1",
            "/ip6/2002:c633:6407::1/tcp/1",
        ] {
            assert!(may_tell(Scope::Public, &addr(far)), "{far}");
        }
        // A neighbour may tell of what is behind the translator; who is reached through it is none.
        let translated = addr("/ip6/64:ff9b:1::c633:6407/tcp/1");
        assert_eq!(scope(&translated), Some(Scope::Private));
        assert!(may_tell(Scope::Private, &translated));
        assert_eq!(scope_of_end(&translated), Some(Scope::Public));
        for (end, near) in [
            ("/ip4/192.168.1.1/tcp/1", Scope::Private),
            ("/ip6/fe80::1/tcp/1", Scope::Private),
            ("/ip6/::1/tcp/1", Scope::Loopback),
            ("/ip4/198.51.100.7/tcp/1", Scope::Public),
        ] {
            assert_eq!(scope_of_end(&addr(end)), Some(near), "{end}");
        }
        // Next to that prefix begins the internet again.
        let beside = addr("/ip6/64:ff9b:2::c0a8:101/tcp/1");
        assert_eq!(scope(&beside), Some(Scope::Public));
        assert!(!may_tell(Scope::Private, &addr("/ip4/127.0.0.1/tcp/80")));
        assert!(may_tell(
            Scope::Private,
            &addr("/ip4/10.1.2.3/udp/9/quic-v1")
        ));
        assert!(may_tell(Scope::Loopback, &addr("/ip4/127.0.0.1/tcp/80")));
        assert!(!may_tell(Scope::Loopback, &addr("/ip4/0.0.0.0/tcp/80")));
        assert!(!may_tell(
            Scope::Loopback,
            &addr("/ip4/224.0.0.251/udp/5353/quic-v1")
        ));
    }

    #[test]
    fn neighbours_are_told_by_their_network() {
        let site = |text| Prefix::of_site(&addr(text)).unwrap();
        let carrier = |text| Prefix::of_carrier(&addr(text)).unwrap();
        assert_eq!(
            site("/ip4/192.0.2.1/tcp/1"),
            site("/ip4/192.0.2.254/udp/9/quic-v1")
        );
        assert_ne!(site("/ip4/192.0.2.1/tcp/1"), site("/ip4/192.0.3.1/tcp/1"));
        assert_eq!(
            site("/ip6/2001:db8:1:2::1/tcp/1"),
            site("/ip6/2001:db8:1:ffff::1/tcp/1")
        );
        assert_ne!(
            site("/ip6/2001:db8:1::1/tcp/1"),
            site("/ip6/2001:db8:2::1/tcp/1")
        );
        assert_eq!(
            site("/ip6/::ffff:192.0.2.7/tcp/1"),
            site("/ip4/192.0.2.1/tcp/1")
        );
        assert_eq!(
            carrier("/ip4/192.0.2.1/tcp/1"),
            carrier("/ip4/192.0.99.1/tcp/1")
        );
        assert_eq!(
            carrier("/ip6/2001:db8:1::1/tcp/1"),
            carrier("/ip6/2001:db8:2::1/tcp/1")
        );
        assert_eq!(Prefix::of_site(&addr("/memory/1")), None);
    }

    #[test]
    fn listening_takes_port_zero_and_every_interface() {
        assert!(listen_on("/ip4/0.0.0.0/udp/0/quic-v1").is_ok());
        assert!(listen_on("/ip6/::/tcp/0").is_ok());
        assert!(listen_on("/p2p-circuit").is_ok());
        assert!(matches!(
            listen_on("/ip4/0.0.0.0/udp/0"),
            Err(NetworkError::UnsupportedAddress { .. })
        ));
        assert!(matches!(
            listen_on("4001"),
            Err(NetworkError::NotAnAddress { .. })
        ));
    }
}
