//! Entrances for the fuzzer to what reads foreign bytes. Not part of the product.

use libp2p::Multiaddr;
use protocol::{NetworkId, Signer};

use crate::{
    address::{self, Scope, Target},
    book::PeerBook,
    sources::{PeerList, built_in},
};

/// The address gate: what passes as text passes as bytes, and nothing that passes for a stranger lies in a home.
///
/// # Panics
/// When it does not.
pub fn address_gate(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(Target::Address { address, .. }) = address::target(text) {
            assert!(address::is_dialable(&address));
        }
        let _ = address::listen_on(text);
        let _ = built_in::candidate(text);
    }
    let Ok(told) = Multiaddr::try_from(data.to_vec()) else {
        return;
    };
    let plain = address::without_peer(&told);
    for from in [Scope::Loopback, Scope::Private, Scope::Public] {
        if address::may_tell(from, &plain) {
            assert!(address::is_dialable(&plain) && address::scope(&plain) >= Some(from));
            assert!(matches!(
                address::target(&plain.to_string()),
                Ok(Target::Address { .. })
            ));
        }
    }
}

/// An address book: read again it is the same.
///
/// # Panics
/// When it is not.
pub fn peer_book(data: &[u8]) {
    if let Some(book) = PeerBook::from_bytes(data) {
        let kept = book.to_bytes();
        let again = PeerBook::from_bytes(&kept).map(|book| book.to_bytes());
        assert_eq!(again, Some(kept));
    }
}

/// A list of first peers: as it comes, and with a signature under it that the fuzzer could not find.
///
/// # Panics
/// When a list that was read does not read the same once more.
pub fn peer_list(data: &[u8]) {
    let maker = Signer::from_seed([7; 32]);
    let verify = |bytes: &[u8]| PeerList::verify(bytes, maker.peer_id(), &NetworkId::MAIN, 0);
    let _ = verify(data);
    let sig = hex::encode(maker.sign(built_in::DOMAIN, data));
    let signed = [data, b"sig ", sig.as_bytes(), b"\n"].concat();
    if let Ok(list) = verify(&signed) {
        assert_eq!(verify(list.sign(&maker).as_bytes()), Ok(list));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A part of an address, sound or not.
    fn part() -> impl Strategy<Value = String> {
        let four = any::<[u8; 4]>().prop_map(|ip| format!("/ip4/{}", std::net::Ipv4Addr::from(ip)));
        let home = (0u8..4, any::<u8>()).prop_map(|(net, host)| {
            let net = ["10.0.0", "192.168.1", "127.0.0", "100.64.0"][usize::from(net)];
            format!("/ip4/{net}.{host}")
        });
        let six = any::<[u8; 16]>().prop_map(|ip| format!("/ip6/{}", std::net::Ipv6Addr::from(ip)));
        let mapped = any::<[u8; 4]>()
            .prop_map(|ip| format!("/ip6/{}", std::net::Ipv4Addr::from(ip).to_ipv6_mapped()));
        let port = any::<u16>().prop_map(|port| format!("/tcp/{port}"));
        let quic = any::<u16>().prop_map(|port| format!("/udp/{port}/quic-v1"));
        let other = prop::sample::select(vec![
            "/ws",
            "/dns4/example.org",
            "/p2p-circuit",
            "/memory/1",
            "/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
            "/",
            "nonsense",
        ]);
        prop_oneof![
            four,
            home,
            six,
            mapped,
            port,
            quic,
            other.prop_map(str::to_owned)
        ]
    }

    proptest! {
        #[test]
        fn the_gate_holds_for_any_parts(parts in prop::collection::vec(part(), 0..5)) {
            let text = parts.concat();
            address_gate(text.as_bytes());
            if let Ok(address) = text.parse::<Multiaddr>() {
                address_gate(&address.to_vec());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..300)) {
            address_gate(&data);
            peer_book(&data);
            peer_list(&data);
        }
    }
}
