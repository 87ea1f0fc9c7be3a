//! The line to others: over what it goes, what the router does with it, and whether the clocks at both ends agree.

use network::{NatKind, NetworkStatus, PeerStatus, PortState, ReachState, RelayState};

use super::Check;
use crate::{
    error::span,
    node::Inner,
    status::{ReachKind, Transport},
};

/// Peers whose clocks have to be heard before this computer's is taken for wrong.
const WITNESSES: usize = 3;

/// What concerns the line, in the order in which one thing depends on the other.
pub(super) fn all(inner: &Inner, kind: ReachKind) -> Vec<Check> {
    let asking = inner.asking.now().network.status().borrow().clone();
    let serving = inner.serving.network_status().borrow().clone();
    let on = kind != ReachKind::Off;
    let both = [&asking, &serving];
    vec![
        transport(Transport::Quic, on, both),
        transport(Transport::Tcp, on, both),
        relays(on, both),
        port_443(&serving),
        router(asking.reach.nat.or(serving.reach.nat)),
        clocks(both),
    ]
}

fn transport(of: Transport, on: bool, both: [&NetworkStatus; 2]) -> Check {
    let (name, part) = match of {
        Transport::Quic => ("Over QUIC (UDP)", "/quic-v1"),
        Transport::Tcp => ("Over TCP", "/tcp/"),
    };
    let direct = |text: &&String| text.contains(part) && !text.contains("/p2p-circuit");
    let [_, serving] = both;
    let listens = serving.listening.iter().any(|text| direct(&text));
    let reached = match &serving.reach.state {
        ReachState::Public { addrs } => addrs.iter().any(|text| direct(&text)),
        ReachState::Unknown | ReachState::Relayed { .. } | ReachState::Unreachable => false,
    };
    let carried = connections(both, |peer| {
        !peer.relayed && Transport::from(peer.transport) == of
    });
    let listening = match (on, listens, reached) {
        (false, _, _) => "The node is off, so nothing listens",
        (true, false, _) => "Nothing listens",
        (true, true, false) => "It listens, and nobody has reached it from outside yet",
        (true, true, true) => "It listens, and is reached from outside",
    };
    let detail = format!("{listening}; {carried}.");
    match reached || carried.any() {
        true => Check::pass(name, detail),
        false => Check::skip(name, detail),
    }
}

fn relays(on: bool, both: [&NetworkStatus; 2]) -> Check {
    let name = "Over relays";
    let [_, serving] = both;
    let held = serving
        .reach
        .relays
        .iter()
        .filter(|relay| matches!(relay.state, RelayState::Held { .. }))
        .count();
    let carried = connections(both, |peer| peer.relayed);
    let places = match (on, held) {
        (false, _) => "The node is off, so none holds a place for it".to_owned(),
        (true, 0) => "None holds a place for this computer".to_owned(),
        (true, 1) => "One holds a place for this computer".to_owned(),
        (true, held) => format!("{held} hold a place for this computer"),
    };
    let detail = format!("{places}; {carried}.");
    match held > 0 || carried.any() {
        true => Check::pass(name, detail),
        false => Check::skip(name, detail),
    }
}

fn port_443(serving: &NetworkStatus) -> Check {
    let name = "Port 443";
    match &serving.reach.port_443 {
        PortState::NotTried => Check::skip(
            name,
            "It is opened where others reach this computer at an address of its own.",
        ),
        PortState::Open => Check::pass(
            name,
            "It is open: networks that let little out let this out.",
        ),
        PortState::Refused { reason } => Check::skip(
            name,
            format!("The system did not allow it ({reason}). Everything works without."),
        ),
    }
}

fn router(nat: Option<NatKind>) -> Check {
    let name = "Router";
    match nat {
        None => Check::skip(
            name,
            "What it does with ports is not known yet: two peers have to say at which they see this computer.",
        ),
        Some(NatKind::None) => {
            Check::pass(name, "None stands between this computer and the internet.")
        }
        Some(NatKind::EndpointIndependent) => Check::pass(
            name,
            "It gives this computer one port for all peers: direct connections come about (endpoint-independent NAT).",
        ),
        Some(NatKind::EndpointDependent) => Check::warn(
            name,
            "It gives this computer another port for each peer: connections to computers behind such a router go through relays \
             (symmetric NAT).",
            "Pass a port on in the router, or switch UPnP on there. As it is, it works through relays.",
        ),
    }
}

fn clocks(both: [&NetworkStatus; 2]) -> Check {
    let name = "Time at peers";
    // Whoever heard more knows better.
    let said = both.map(|status| status.clocks);
    let said = said.into_iter().max_by_key(|said| said.peers);
    let (peers, ahead_ms) = said.map_or((0, None), |said| (said.peers, said.ahead_ms));
    match (peers, ahead_ms) {
        (0, _) => Check::skip(name, "No peer has said what time it is there."),
        (_, None) => Check::pass(name, "It is the same as here."),
        (WITNESSES.., Some(ahead_ms)) => Check::fail(
            name,
            format!(
                "This computer's clock is {} {peers} peers': offers are refused on both sides.",
                apart(ahead_ms)
            ),
            "Set this computer's clock.",
        ),
        (_, Some(ahead_ms)) => Check::warn(
            name,
            format!(
                "This computer's clock is {} a peer's, whose offers are refused.",
                apart(ahead_ms)
            ),
            "Look at this computer's clock. Where it is right, the peer's is wrong.",
        ),
    }
}

/// "23 hours ahead of".
fn apart(ahead_ms: i64) -> String {
    let side = match ahead_ms {
        0.. => "ahead of",
        _ => "behind",
    };
    format!("{} {side}", span(ahead_ms.unsigned_abs()))
}

/// Connections, counted for a sentence.
#[derive(Clone, Copy)]
struct Connections(usize);

impl Connections {
    fn any(self) -> bool {
        self.0 > 0
    }
}

impl std::fmt::Display for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("no connection goes over it now"),
            1 => f.write_str("one connection goes over it now"),
            many => write!(f, "{many} connections go over it now"),
        }
    }
}

fn connections(both: [&NetworkStatus; 2], which: impl Fn(&PeerStatus) -> bool) -> Connections {
    let peers = both.into_iter().flat_map(|status| &status.peers);
    Connections(peers.filter(|peer| which(peer)).count())
}

#[cfg(test)]
mod tests {
    use network::{PeerClocks, Reachability};

    use super::*;
    use crate::doctor::CheckState;

    fn heard(peers: usize, ahead_ms: Option<i64>) -> NetworkStatus {
        NetworkStatus {
            clocks: PeerClocks { peers, ahead_ms },
            ..NetworkStatus::default()
        }
    }

    #[test]
    fn a_clock_that_is_wrong_is_said_with_by_how_much() {
        let hours = 23 * 60 * 60 * 1000;
        let none = NetworkStatus::default();
        let of = |status: &NetworkStatus| clocks([&none, status]);
        assert_eq!(of(&none).state, CheckState::Skip);
        assert_eq!(of(&heard(5, None)).state, CheckState::Pass);
        let wrong = of(&heard(5, Some(hours)));
        assert_eq!(wrong.state, CheckState::Fail);
        assert!(
            wrong.detail.contains("23 hours ahead of"),
            "{}",
            wrong.detail
        );
        assert!(wrong.fix.is_some());
        let doubt = of(&heard(1, Some(-hours)));
        assert_eq!(doubt.state, CheckState::Warn);
        assert!(doubt.detail.contains("23 hours behind"), "{}", doubt.detail);
    }

    #[test]
    fn each_transport_says_whether_it_listens_is_reached_and_is_used() {
        let none = NetworkStatus::default();
        let on = NetworkStatus {
            listening: vec![
                "/ip4/192.168.1.5/udp/4001/quic-v1/p2p/x".to_owned(),
                "/ip4/203.0.113.9/tcp/4001/p2p/relay/p2p-circuit/p2p/x".to_owned(),
            ],
            reach: Reachability {
                state: ReachState::Public {
                    addrs: vec!["/ip4/198.51.100.7/udp/4001/quic-v1".to_owned()],
                },
                ..Reachability::default()
            },
            ..NetworkStatus::default()
        };
        let quic = transport(Transport::Quic, true, [&none, &on]);
        assert_eq!(quic.state, CheckState::Pass);
        assert!(
            quic.detail.contains("reached from outside"),
            "{}",
            quic.detail
        );
        let tcp = transport(Transport::Tcp, true, [&none, &on]);
        assert_eq!(tcp.state, CheckState::Skip, "a relay's is not ours");
        assert!(tcp.detail.starts_with("Nothing listens"), "{}", tcp.detail);
        let off = transport(Transport::Quic, false, [&none, &none]);
        assert_eq!(off.state, CheckState::Skip);
        assert!(off.detail.contains("off"), "{}", off.detail);
    }

    #[test]
    fn a_symmetric_router_is_named_with_what_helps() {
        assert_eq!(router(None).state, CheckState::Skip);
        assert_eq!(
            router(Some(NatKind::EndpointIndependent)).state,
            CheckState::Pass
        );
        let symmetric = router(Some(NatKind::EndpointDependent));
        assert_eq!(symmetric.state, CheckState::Warn);
        assert!(symmetric.fix.is_some());
    }
}
