//! For whom a job counts when places are shared out: who pays for it, or where it comes from.

use std::net::{IpAddr, Ipv6Addr};

use protocol::voucher::Address;

/// Whose job it is. A peer's id costs nothing, so it is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Payer {
    /// A wallet, by a voucher that it signed.
    Wallet(Address),
    /// A household, which has one address of IPv4 or a /64 of IPv6. It pays nothing.
    House(IpAddr),
    /// Whoever comes through a relay, all together: nobody can tell them apart. They pay nothing.
    Relayed,
}

impl Payer {
    /// Who asks from this multiaddr and pays nothing.
    pub(super) fn of(remote: &str) -> Self {
        let mut parts = remote.trim_start_matches('/').split('/');
        let address = match (parts.next(), parts.next()) {
            (Some("ip4" | "ip6"), Some(address)) => address.parse().ok(),
            (_, _) => None,
        };
        let relayed = parts.any(|part| part == "p2p-circuit");
        match address {
            Some(address) if !relayed => Payer::House(household(address)),
            Some(_) | None => Payer::Relayed,
        }
    }

    pub(super) fn pays(&self) -> bool {
        match self {
            Payer::Wallet(_) => true,
            Payer::House(_) | Payer::Relayed => false,
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
    fn who_comes_through_a_relay_has_no_address_of_its_own() {
        let through = "/ip4/203.0.113.5/tcp/1/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf/p2p-circuit";
        assert_eq!(Payer::of(through), Payer::Relayed);
        assert_eq!(
            Payer::of("/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"),
            Payer::Relayed
        );
        assert_eq!(Payer::of(""), Payer::Relayed);
        assert!(!Payer::Relayed.pays() && Payer::Wallet(Address::ZERO).pays());
    }
}
