//! The network: whether others reach this node, what it offers them, and whom it knows.

use super::{Check, CheckState};
use crate::{
    node::Inner,
    status::{ReachKind, Reachability, ServingState, SourceView},
};

pub(super) async fn listening(inner: &Inner) -> Check {
    let name = "Listening";
    if matches!(inner.serving.view().borrow().state, ServingState::Off) {
        return Check::skip(
            name,
            "The node is off: nothing listens, and others cannot connect.",
        );
    }
    let addresses = inner.serving.network_status().borrow().listening.clone();
    if addresses.is_empty() {
        return Check::fail(
            name,
            "No listening address could be opened.",
            "Check the listening addresses in the settings: port 0 takes any free one.",
        );
    }
    if let Some(address) = addresses.iter().find_map(|address| tcp_address(address))
        && let Err(error) = tokio::net::TcpStream::connect(address).await
    {
        return Check::warn(
            name,
            format!("{address} does not answer on this computer: {error}."),
            "A firewall on this computer may be in the way.",
        );
    }
    Check::pass(
        name,
        format!(
            "{}. Whether it is reached from outside shows when a peer connects.",
            addresses.join(", ")
        ),
    )
}

/// The socket of a multiaddr like /ip4/127.0.0.1/tcp/4001/p2p/….
fn tcp_address(address: &str) -> Option<std::net::SocketAddr> {
    let mut parts = address.split('/').skip(1);
    let ip = match parts.next()? {
        "ip4" | "ip6" => parts.next()?.parse().ok()?,
        _ => return None,
    };
    let port = if parts.next()? == "tcp" {
        parts.next()?.parse().ok()?
    } else {
        return None;
    };
    Some(std::net::SocketAddr::new(ip, port))
}

pub(super) fn offered(inner: &Inner) -> Check {
    let name = "Offers";
    let view = inner.serving.view().borrow().clone();
    match &view.state {
        ServingState::Off => Check::skip(name, "The node is off."),
        ServingState::Attention { error } | ServingState::NetworkProblem { error, .. } => Check {
            fix: error.fix.clone(),
            ..Check::new(name, CheckState::Fail, error.message.clone())
        },
        ServingState::PausedByYou { .. } => Check::skip(name, "You paused the node."),
        ServingState::Preparing { .. }
        | ServingState::Waiting { .. }
        | ServingState::Serving { .. }
        | ServingState::PausedOwnWork => {
            let names: Vec<&str> = view
                .served
                .iter()
                .map(|served| served.name.as_str())
                .collect();
            Check::pass(name, format!("Offered: {}.", names.join(", ")))
        }
    }
}

pub(super) fn peers(inner: &Inner) -> Check {
    let name = "Peers";
    let session = inner.asking.now();
    let connected = session.network.status().borrow().peers.len();
    let known = inner.book().dialable().len();
    match (connected, known) {
        (0, 0) => Check::skip(
            name,
            "No peer is known yet. There are no built-in nodes: connect by an invite or an address.",
        ),
        (0, known) => Check::warn(
            name,
            format!("None of {known} known addresses is connected."),
            "Ask whether the nodes there are switched on, and check your own connection.",
        ),
        (connected, _) => Check::pass(name, format!("{connected} connected.")),
    }
}

pub(super) fn reached(reach: &Reachability) -> Check {
    let name = "Reached by others";
    match reach.kind {
        ReachKind::Off | ReachKind::Unknown => Check::skip(name, &reach.text),
        ReachKind::Public => Check::pass(name, &reach.text),
        ReachKind::Relayed => Check::pass(name, format!("{} {}", reach.text, reach.upnp)),
        ReachKind::Unreachable => {
            let fix = reach.fixes.first();
            let fix = fix.map_or(
                "Connect to more peers: one of them may carry connections.",
                |fix| fix.text.as_str(),
            );
            Check::warn(name, format!("{} {}", reach.text, reach.upnp), fix)
        }
    }
}

/// One source of first peers: what it brought since the start.
pub(super) fn source(source: &SourceView) -> Check {
    let name = format!("Found by: {}", source.name);
    match (&source.problem, source.found) {
        _ if !source.enabled => Check::skip(&name, "Off, or there is nothing to look at."),
        (_, found) if found > 0 => Check::pass(&name, format!("{found} met.")),
        (Some(problem), _) => Check::warn(
            &name,
            problem.clone(),
            "Any one source is enough: the others go on.",
        ),
        (None, _) => Check::skip(&name, "Nobody met there yet."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_addresses() {
        assert_eq!(
            tcp_address("/ip4/127.0.0.1/tcp/4001/p2p/x"),
            "127.0.0.1:4001".parse().ok()
        );
        assert_eq!(tcp_address("/ip6/::1/tcp/1"), "[::1]:1".parse().ok());
        assert_eq!(tcp_address("/ip4/127.0.0.1/udp/4001/quic-v1"), None);
        assert_eq!(tcp_address(""), None);
    }
}
