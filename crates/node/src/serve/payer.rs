//! For whom a job counts when places are shared out: who pays for it, or where it comes from.

use std::net::{IpAddr, Ipv6Addr};

use protocol::{PeerId, voucher::Address};

/// Whose job it is. A peer's id costs nothing, so it is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Payer {
    /// A wallet, by a voucher that it signed.
    Wallet(Address),
    /// A household, which has one address of IPv4 or a /64 of IPv6. It pays nothing.
    House(IpAddr),
    /// Whoever comes through this relay, all together: ids cost nothing, and nobody can tell households behind it apart. A relay is none
    /// that an asker could make up, since this node chose it. `None`: what has no address at all. They pay nothing.
    Relayed(Option<PeerId>),
}

impl Payer {
    /// Who asks from this multiaddr and pays nothing.
    pub(super) fn of(remote: &str) -> Self {
        // In front of the circuit stands the relay, and its own address before it.
        if let Some((relay, _)) = remote.split_once("/p2p-circuit") {
            let relay = relay.rsplit_once("/p2p/").map(|(_, relay)| relay.parse());
            return Payer::Relayed(relay.and_then(Result::ok));
        }
        let mut parts = remote.trim_start_matches('/').split('/');
        let address = match (parts.next(), parts.next()) {
            (Some("ip4" | "ip6"), Some(address)) => address.parse().ok(),
            (_, _) => None,
        };
        address.map_or(Payer::Relayed(None), |address| {
            Payer::House(household(address))
        })
    }

    pub(super) fn pays(&self) -> bool {
        match self {
            Payer::Wallet(_) => true,
            Payer::House(_) | Payer::Relayed(_) => false,
        }
    }
}

fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => {
            let network = u128::from(v6) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_household_is_an_address_or_a_network_of_sixty_four_bits() {
        let same = |a: &str, b: &str| Payer::of(a) == Payer::of(b);
        assert!(same(
            "/ip4/203.0.113.5/tcp/1",
            "/ip4/203.0.113.5/udp/2/quic-v1"
        ));
        assert!(!same("/ip4/203.0.113.5/tcp/1", "/ip4/203.0.113.6/tcp/1"));
        assert!(same(
            "/ip6/2001:db8:1:2::9/tcp/1",
            "/ip6/2001:db8:1:2:ffff::1/tcp/1"
        ));
        assert!(!same(
            "/ip6/2001:db8:1:2::9/tcp/1",
            "/ip6/2001:db8:1:3::9/tcp/1"
        ));
        assert!(same(
            "/ip6/::ffff:203.0.113.5/tcp/1",
            "/ip4/203.0.113.5/tcp/1"
        ));
    }

    #[test]
    fn who_comes_through_a_relay_counts_with_all_who_come_through_it() {
        let relay = |number: u8| protocol::Signer::from_seed([number; 32]).peer_id();
        let through = |port: u16, number: u8| {
            let relay = relay(number);
            Payer::of(&format!(
                "/ip4/203.0.113.5/tcp/{port}/p2p/{relay}/p2p-circuit"
            ))
        };
        assert_eq!(through(1, 1), Payer::Relayed(Some(relay(1))));
        assert_eq!(through(1, 1), through(2, 1));
        assert_ne!(through(1, 1), through(1, 2));
        // Without an address there is nothing to count by.
        for remote in [&format!("/p2p/{}", relay(1)), "/p2p-circuit", ""] {
            assert_eq!(Payer::of(remote), Payer::Relayed(None));
        }
        assert!(!through(1, 1).pays() && Payer::Wallet(Address::ZERO).pays());
    }
}
