//! Address translation of a home router, in the terms of RFC 4787: which outer port a flow gets (mapping), and whose packets may
//! come back through it (filtering). A function of its state and the time handed in.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use super::packet::{Flow, Protocol};

/// A mapping that is not used for this long is gone. RFC 4787 (REQ-5) asks for no less than two minutes, and home routers that give
/// less are common enough that keep-alives must not rely on more.
const LIVES: Duration = Duration::from_secs(120);
/// Outer ports are given out from here on, as routers do with high ports, and so many of them.
const FIRST_PORT: u16 = 40_000;
const PORTS: u16 = 20_000;
/// From one outer port to the next one. A symmetric router's cannot be guessed from the last, or a hole would be punched by chance.
const STEP: u16 = 1;
const SYMMETRIC_STEP: u16 = 7_919;

/// How a router translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One outer port per inner one, open to everybody.
    FullCone,
    /// One outer port per inner one, open to those addresses and ports that were sent to.
    PortRestricted,
    /// An outer port for each pair of an inner one and a destination, open to that destination.
    Symmetric,
}

/// A mapping is found by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Inner {
    protocol: Protocol,
    from: SocketAddrV4,
    /// Symmetric alone has one per destination.
    to: Option<SocketAddrV4>,
}

#[derive(Debug)]
struct Mapping {
    inner: Inner,
    /// Where it was sent to, with when last.
    sent: HashMap<SocketAddrV4, Duration>,
    used: Duration,
}

/// One router.
#[derive(Debug)]
pub struct Nat {
    kind: Kind,
    outside: Ipv4Addr,
    ports: HashMap<Inner, u16>,
    mappings: HashMap<(Protocol, u16), Mapping>,
    next: u16,
}

impl Nat {
    /// With one outer address.
    #[must_use]
    pub fn new(kind: Kind, outside: Ipv4Addr) -> Self {
        Self {
            kind,
            outside,
            ports: HashMap::new(),
            mappings: HashMap::new(),
            next: FIRST_PORT,
        }
    }

    /// Its outer address.
    #[must_use]
    pub fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// A packet leaves: who the world sees as its sender.
    pub fn leaves(&mut self, flow: Flow, now: Duration) -> SocketAddrV4 {
        let inner = Inner {
            protocol: flow.protocol,
            from: flow.from,
            to: (self.kind == Kind::Symmetric).then_some(flow.to),
        };
        let known = self.ports.get(&inner).copied().filter(|port| {
            self.mappings
                .get(&(flow.protocol, *port))
                .is_some_and(|mapping| now.saturating_sub(mapping.used) < LIVES)
        });
        let port = match known {
            Some(port) => port,
            None => self.new_port(inner),
        };
        let mapping = self
            .mappings
            .entry((flow.protocol, port))
            .or_insert_with(|| Mapping {
                inner,
                sent: HashMap::new(),
                used: now,
            });
        mapping.used = now;
        mapping.sent.insert(flow.to, now);
        SocketAddrV4::new(self.outside, port)
    }

    /// A packet arrives at the outer address: to whom inside it goes, if to anybody.
    pub fn arrives(&mut self, flow: Flow, now: Duration) -> Option<SocketAddrV4> {
        let mapping = self.mappings.get_mut(&(flow.protocol, flow.to.port()))?;
        if now.saturating_sub(mapping.used) >= LIVES {
            return None;
        }
        let open = match self.kind {
            Kind::FullCone => true,
            Kind::PortRestricted | Kind::Symmetric => mapping
                .sent
                .get(&flow.from)
                .is_some_and(|sent| now.saturating_sub(*sent) < LIVES),
        };
        // Only what leaves keeps a mapping: RFC 4787 (REQ-6) lets arrivals do so as well, and many routers do not.
        open.then_some(mapping.inner.from)
    }

    /// The router starts anew: every mapping is gone, and the ports that come are others.
    pub fn rebind(&mut self) {
        self.ports.clear();
        self.mappings.clear();
        self.next = after(self.next, 1000);
    }

    fn new_port(&mut self, inner: Inner) -> u16 {
        let port = self.next;
        let step = match self.kind {
            Kind::FullCone | Kind::PortRestricted => STEP,
            Kind::Symmetric => SYMMETRIC_STEP,
        };
        self.next = after(self.next, step);
        if let Some(old) = self.mappings.remove(&(inner.protocol, port)) {
            self.ports.remove(&old.inner);
        }
        self.ports.insert(inner, port);
        port
    }
}

/// The port so many steps on, from the beginning again after the last one.
fn after(port: u16, step: u16) -> u16 {
    FIRST_PORT + (port - FIRST_PORT + step) % PORTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::packet::tests::end;

    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 7);

    fn flow(from: &str, to: &str) -> Flow {
        Flow {
            protocol: Protocol::Udp,
            from: end(from),
            to: end(to),
        }
    }

    fn back(nat: &mut Nat, from: &str, to: SocketAddrV4, now: u64) -> Option<SocketAddrV4> {
        let flow = Flow {
            protocol: Protocol::Udp,
            from: end(from),
            to,
        };
        nat.arrives(flow, Duration::from_secs(now))
    }

    const HOME: &str = "192.168.0.2:5000";
    const ONE: &str = "198.18.0.1:1000";
    const OTHER_PORT: &str = "198.18.0.1:2000";
    const TWO: &str = "198.18.0.2:1000";

    #[test]
    fn a_full_cone_lets_everybody_in() {
        let mut nat = Nat::new(Kind::FullCone, OUTSIDE);
        let seen = nat.leaves(flow(HOME, ONE), Duration::ZERO);
        assert_eq!(nat.leaves(flow(HOME, TWO), Duration::ZERO), seen);
        for from in [ONE, OTHER_PORT, TWO, "198.18.0.9:9"] {
            assert_eq!(back(&mut nat, from, seen, 1), Some(end(HOME)), "{from}");
        }
        let nobodys = SocketAddrV4::new(OUTSIDE, seen.port() + 1);
        assert_eq!(back(&mut nat, ONE, nobodys, 1), None);
    }

    #[test]
    fn a_port_restricted_one_lets_in_who_was_sent_to() {
        let mut nat = Nat::new(Kind::PortRestricted, OUTSIDE);
        let seen = nat.leaves(flow(HOME, ONE), Duration::ZERO);
        assert_eq!(back(&mut nat, ONE, seen, 1), Some(end(HOME)));
        assert_eq!(back(&mut nat, OTHER_PORT, seen, 1), None);
        assert_eq!(back(&mut nat, TWO, seen, 1), None);
        // A hole is punched: the port is the same, so the other one's packet comes in now.
        assert_eq!(nat.leaves(flow(HOME, TWO), Duration::from_secs(2)), seen);
        assert_eq!(back(&mut nat, TWO, seen, 3), Some(end(HOME)));
    }

    #[test]
    fn a_symmetric_one_shows_everybody_another_port() {
        let mut nat = Nat::new(Kind::Symmetric, OUTSIDE);
        let one = nat.leaves(flow(HOME, ONE), Duration::ZERO);
        let two = nat.leaves(flow(HOME, TWO), Duration::ZERO);
        assert_ne!(one, two);
        assert_eq!(nat.leaves(flow(HOME, ONE), Duration::from_secs(1)), one);
        assert_eq!(back(&mut nat, ONE, one, 1), Some(end(HOME)));
        assert_eq!(back(&mut nat, TWO, one, 1), None, "no hole can be punched");
    }

    #[test]
    fn a_mapping_that_is_not_used_goes() {
        let mut nat = Nat::new(Kind::PortRestricted, OUTSIDE);
        let seen = nat.leaves(flow(HOME, ONE), Duration::ZERO);
        assert_eq!(back(&mut nat, ONE, seen, 119), Some(end(HOME)));
        assert_eq!(
            back(&mut nat, ONE, seen, 120),
            None,
            "arrivals do not keep it"
        );
        let kept = nat.leaves(flow(HOME, ONE), Duration::from_secs(130));
        assert_ne!(kept, seen, "the next one gets another port");
        nat.leaves(flow(HOME, ONE), Duration::from_secs(200));
        assert_eq!(back(&mut nat, ONE, kept, 310), Some(end(HOME)));
    }

    #[test]
    fn a_rebind_forgets_and_gives_other_ports() {
        for kind in [Kind::FullCone, Kind::PortRestricted, Kind::Symmetric] {
            let mut nat = Nat::new(kind, OUTSIDE);
            let before = nat.leaves(flow(HOME, ONE), Duration::ZERO);
            nat.rebind();
            assert_eq!(back(&mut nat, ONE, before, 1), None);
            let after = nat.leaves(flow(HOME, ONE), Duration::from_secs(1));
            assert_ne!(before, after);
            assert_eq!(back(&mut nat, ONE, after, 2), Some(end(HOME)));
        }
    }

    #[test]
    fn tcp_and_udp_do_not_share_a_mapping() {
        let mut nat = Nat::new(Kind::FullCone, OUTSIDE);
        let udp = nat.leaves(flow(HOME, ONE), Duration::ZERO);
        let tcp = Flow {
            protocol: Protocol::Tcp,
            ..flow(ONE, HOME)
        };
        assert_eq!(nat.arrives(Flow { to: udp, ..tcp }, Duration::ZERO), None);
    }

    #[test]
    fn ports_come_round_without_two_owners() {
        let mut nat = Nat::new(Kind::Symmetric, OUTSIDE);
        let mut now = Duration::ZERO;
        let first = nat.leaves(flow(HOME, ONE), now);
        for number in 0..u32::from(PORTS) {
            now += Duration::from_micros(1);
            let to = SocketAddrV4::new(Ipv4Addr::from(0xc612_0000 + number + 2), 7);
            let seen = nat.leaves(
                Flow {
                    to,
                    ..flow(HOME, ONE)
                },
                now,
            );
            assert!(seen.port() >= FIRST_PORT);
        }
        // The oldest lost its port, and asks for a new one.
        assert_ne!(nat.leaves(flow(HOME, ONE), now), first);
        assert_eq!(nat.ports.len(), nat.mappings.len());
    }
}
