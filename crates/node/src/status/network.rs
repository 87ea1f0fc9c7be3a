//! What a shell sees of the two swarms: whether others reach this computer, where peers come from, what goes over the
//! line, and what happened to connections.
//!
//! Everything has a code, by which a window chooses its own words, and a sentence, for a terminal.

use ::network::{
    ClosedBecause, ConnectionChange, ConnectionEvent, NatKind, NetworkStatus, Path, PortState,
    ReachFix, ReachState, RefusedBecause, RelayState, Source, Traffic, UpnpState,
};
use serde::{Deserialize, Serialize};

use super::{Direction, Transport};
use crate::node::{Inner, Node};

/// Whether others reach this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReachKind {
    /// The node is off: nobody is to reach it.
    #[default]
    Off,
    /// Nobody has tried yet.
    Unknown,
    /// Directly.
    Public,
    /// Through relays alone.
    Relayed,
    /// Others tried and failed, and no relay carries connections.
    Unreachable,
}

/// Whether and how others reach this computer, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reachability {
    /// The verdict.
    pub kind: ReachKind,
    /// The verdict in a sentence.
    pub text: String,
    /// Addresses at which others reached it.
    pub addresses: Vec<String>,
    /// What the person can do, the most helpful first.
    pub fixes: Vec<Fix>,
    /// How the router names this computer to others; `None` before that is known.
    pub nat: Option<String>,
    /// What the router said when it was asked for a port.
    pub upnp: String,
    /// Whether port 443 is open here.
    pub port_443: String,
    /// Relays that hold a place for this computer, by the short form of their ids.
    pub relays: Vec<String>,
    /// Connections of others that this computer carries now; `None` where it does not offer to.
    pub carries: Option<u32>,
    /// When an address was last tried from outside, in milliseconds since 1970.
    pub tested_ms: Option<u64>,
}

/// Something that a person can do so that others reach this computer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fix {
    /// Which, for a window.
    pub code: String,
    /// What, in a sentence.
    pub text: String,
}

/// What one source of first peers brought since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    /// Which, for a window.
    pub code: String,
    /// Its name.
    pub name: String,
    /// Whether it is switched on, and there is something to look at.
    pub enabled: bool,
    /// Addresses of it that were dialled.
    pub tried: u32,
    /// Peers of this network that were met there.
    pub found: u32,
    /// When one was met last, in milliseconds since 1970.
    pub last_ok_ms: Option<u64>,
    /// What went wrong last, in the system's words.
    pub problem: Option<String>,
}

/// Bytes since the start, of streams: what a carrier counts is some percent more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataUsed {
    /// From others to here.
    pub received: u64,
    /// From here to others.
    pub sent: u64,
}

impl From<Traffic> for DataUsed {
    fn from(traffic: Traffic) -> Self {
        Self {
            received: traffic.received,
            sent: traffic.sent,
        }
    }
}

/// One thing that happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Of the swarm that serves; else of the one that asks.
    pub serving: bool,
    /// With whom; `None` where nobody proved who it is.
    pub peer: Option<String>,
    /// Who dialled.
    pub direction: Direction,
    /// What happened, for a window.
    pub code: String,
    /// What happened and why, in a sentence.
    pub text: String,
}

impl Node {
    /// What happened to connections lately, the newest first, of both swarms. Kept in memory alone; no text of a peer.
    #[must_use]
    pub fn peers_log(&self) -> Vec<LogLine> {
        let inner = &self.inner;
        let of = |events: Vec<ConnectionEvent>, serving| {
            events.into_iter().map(move |event| line(&event, serving))
        };
        let asking = of(inner.asking.now().network.log(), false);
        let serving = inner.serving.network().map(|network| network.log());
        let mut lines: Vec<LogLine> = asking
            .chain(of(serving.unwrap_or_default(), true))
            .collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.at_ms));
        lines
    }
}

/// What the swarm that serves knows of being reached.
pub(super) fn reachability(inner: &Inner, status: &NetworkStatus) -> Reachability {
    if inner.serving.network().is_none() {
        return Reachability {
            text: "The node is off: others are not to reach it.".to_owned(),
            ..Reachability::default()
        };
    }
    let reach = &status.reach;
    let (kind, text, addresses) = match &reach.state {
        ReachState::Unknown => (
            ReachKind::Unknown,
            "Nobody has tried yet whether this computer is reached from outside.",
            Vec::new(),
        ),
        ReachState::Public { addrs } => (
            ReachKind::Public,
            "Others reach this computer directly.",
            addrs.clone(),
        ),
        ReachState::Relayed { via: _ } => (
            ReachKind::Relayed,
            "Others reach this computer through relays, which cannot read what they carry.",
            Vec::new(),
        ),
        ReachState::Unreachable => (
            ReachKind::Unreachable,
            "Others cannot reach this computer.",
            Vec::new(),
        ),
    };
    let held = |relay: &&::network::RelayView| matches!(relay.state, RelayState::Held { .. });
    let relays = reach.relays.iter().filter(held);
    Reachability {
        kind,
        text: text.to_owned(),
        addresses,
        fixes: reach
            .fixes
            .iter()
            .map(|known| fix(*known, &reach.upnp))
            .collect(),
        nat: reach.nat.map(|nat| nat_text(nat).to_owned()),
        upnp: upnp_text(&reach.upnp),
        port_443: match &reach.port_443 {
            PortState::NotTried => "Port 443 was not tried.".to_owned(),
            PortState::Open => "Port 443 is open.".to_owned(),
            PortState::Refused { reason } => format!("Port 443 was refused: {reason}."),
        },
        relays: relays.map(|relay| relay.peer.short()).collect(),
        carries: reach
            .relaying
            .offered
            .then(|| u32::try_from(reach.relaying.circuits).unwrap_or(u32::MAX)),
        tested_ms: reach.tested_unix_ms,
    }
}

/// The six sources: what both swarms found there, together.
pub(super) fn sources(asking: &NetworkStatus, serving: &NetworkStatus) -> Vec<SourceView> {
    let of = |status: &NetworkStatus, source: Source| {
        let found = status.sources.iter().find(|known| known.source == source);
        found.cloned()
    };
    Source::ALL
        .into_iter()
        .map(|source| {
            let both: Vec<_> = [of(asking, source), of(serving, source)]
                .into_iter()
                .flatten()
                .collect();
            let (code, name) = source_name(source);
            SourceView {
                code: code.to_owned(),
                name: name.to_owned(),
                enabled: both.iter().any(|one| one.enabled),
                tried: both.iter().map(|one| one.tried).sum(),
                found: both.iter().map(|one| one.found).sum(),
                last_ok_ms: both.iter().filter_map(|one| one.last_ok_unix_ms).max(),
                problem: both.into_iter().find_map(|one| one.problem),
            }
        })
        .collect()
}

/// Bytes of both swarms.
pub(super) fn data_used(asking: &NetworkStatus, serving: &NetworkStatus) -> DataUsed {
    DataUsed {
        received: asking
            .traffic
            .received
            .saturating_add(serving.traffic.received),
        sent: asking.traffic.sent.saturating_add(serving.traffic.sent),
    }
}

fn source_name(source: Source) -> (&'static str, &'static str) {
    match source {
        Source::Book => ("book", "Peers of earlier days"),
        Source::BuiltIn => ("built_in", "The list that comes with the program"),
        Source::Dnsaddr => ("dnsaddr", "Names in the DNS"),
        Source::Invited => ("invited", "Peers that you added"),
        Source::Lan => ("lan", "The local network"),
        Source::Mainline => ("mainline", "BitTorrent's public table"),
    }
}

fn fix(fix: ReachFix, upnp: &UpnpState) -> Fix {
    let (code, text) = match fix {
        ReachFix::AllowInFirewall => (
            "allow_in_firewall",
            "Allow DecentralGPT in this computer's firewall.",
        ),
        ReachFix::MapPortInRouter if *upnp == UpnpState::Off => (
            "ask_router",
            "Let this program ask your router for a port (UPnP, in the settings), or pass the listening port on to this computer by hand.",
        ),
        ReachFix::MapPortInRouter => (
            "map_port_in_router",
            "Switch on UPnP in your router, or pass the listening port on to this computer by hand.",
        ),
        ReachFix::AskCarrierForAddress => (
            "ask_carrier_for_address",
            "Your carrier shares one address among its customers: ask it for an own one, or for IPv6.",
        ),
        ReachFix::FindRelays => (
            "find_relays",
            "No peer is known that could carry connections to this computer: connect to more peers, or wait.",
        ),
        ReachFix::RelayOnly => (
            "relay_only",
            "Your router gives each peer another port, so that many reach this computer through relays alone. Another router, or \
             a port that it passes on, helps.",
        ),
    };
    Fix {
        code: code.to_owned(),
        text: text.to_owned(),
    }
}

fn nat_text(nat: NatKind) -> &'static str {
    match nat {
        NatKind::None => "No router stands between this computer and the internet.",
        NatKind::EndpointIndependent => "The router gives this computer one port for all peers.",
        NatKind::EndpointDependent => "The router gives this computer another port for each peer.",
    }
}

fn upnp_text(upnp: &UpnpState) -> String {
    match upnp {
        UpnpState::Off => "The router is not asked for a port.".to_owned(),
        UpnpState::Searching => "The router has not answered yet.".to_owned(),
        UpnpState::NotFound => "No router here passes ports on by UPnP.".to_owned(),
        UpnpState::NotRoutable => {
            "The router has no public address itself: it stands behind another one.".to_owned()
        }
        UpnpState::Mapped { addrs } => format!("The router passes on {}.", addrs.join(", ")),
    }
}

fn line(event: &ConnectionEvent, serving: bool) -> LogLine {
    let (code, what) = match event.what {
        ConnectionChange::Opened => ("opened", "was opened"),
        ConnectionChange::Closed(because) => (
            "closed",
            match because {
                ClosedBecause::Finished => "was closed: it was not needed any more",
                ClosedBecause::Broken => "broke",
                ClosedBecause::Silent => "was closed: the peer did not answer any more",
                ClosedBecause::NetworkChanged => {
                    "was closed: this computer slept or changed its network"
                }
            },
        ),
        ConnectionChange::Refused(because) => (
            "refused",
            match because {
                RefusedBecause::Limit => "was refused: enough are open",
                RefusedBecause::Blocked => "was refused: the peer is blocked",
                RefusedBecause::Unreachable => "did not come about: nobody answered",
                RefusedBecause::NothingListens => "did not come about: nothing listens there",
                RefusedBecause::WrongPeer => "did not come about: somebody else answered",
                RefusedBecause::Handshake => "did not come about: the handshake broke",
                RefusedBecause::Policy => "did not come about: your settings do not allow it",
            },
        ),
        ConnectionChange::Upgraded => ("upgraded", "goes directly now, no longer through a relay"),
        ConnectionChange::NotUpgraded => (
            "not_upgraded",
            "stays with its relay: a direct one did not come about",
        ),
    };
    let direction = match event.direction {
        ::network::Direction::In => Direction::In,
        ::network::Direction::Out => Direction::Out,
    };
    let peer = event.peer.map(|peer| peer.to_string());
    let whom = match (direction, event.peer) {
        (Direction::In, Some(peer)) => format!("from {}", peer.short()),
        (Direction::Out, Some(peer)) => format!("to {}", peer.short()),
        (Direction::In, None) => "from a stranger".to_owned(),
        (Direction::Out, None) => "to an address".to_owned(),
    };
    LogLine {
        at_ms: event.unix_ms,
        serving,
        peer,
        direction,
        code: code.to_owned(),
        text: format!("The connection {whom}{} {what}.", path_text(event.path)),
    }
}

fn path_text(path: Path) -> String {
    let by = |transport: ::network::Transport| match Transport::from(transport) {
        Transport::Quic => "QUIC",
        Transport::Tcp => "TCP",
    };
    match path {
        Path::Loopback(transport) => format!(" within this computer ({})", by(transport)),
        Path::Local(transport) => format!(" in the local network ({})", by(transport)),
        Path::Internet(transport) => format!(" over the internet ({})", by(transport)),
        Path::Relayed => " through a relay".to_owned(),
        Path::Unknown => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use protocol::PeerId;

    use super::*;

    #[test]
    fn a_line_of_the_log_is_a_sentence() {
        let peer = PeerId::from_public_key(&[4; 32]);
        let event = ConnectionEvent {
            unix_ms: 5,
            peer: Some(peer),
            direction: ::network::Direction::Out,
            path: Path::Internet(::network::Transport::Quic),
            what: ConnectionChange::Closed(ClosedBecause::Broken),
        };
        let line = line(&event, true);
        let expected = format!(
            "The connection to {} over the internet (QUIC) broke.",
            peer.short()
        );
        assert_eq!(line.text, expected);
        assert_eq!(
            (line.code.as_str(), line.at_ms, line.serving),
            ("closed", 5, true)
        );
    }

    #[test]
    fn a_router_that_the_program_may_not_ask_is_not_what_has_to_change() {
        let of = |upnp| fix(ReachFix::MapPortInRouter, &upnp);
        assert_eq!(of(UpnpState::Off).code, "ask_router");
        assert_eq!(of(UpnpState::NotFound).code, "map_port_in_router");
    }

    #[test]
    fn all_six_sources_are_there_also_before_anything_happened() {
        let nothing = NetworkStatus::default();
        let views = sources(&nothing, &nothing);
        let codes: Vec<&str> = views.iter().map(|view| view.code.as_str()).collect();
        assert_eq!(
            codes,
            ["invited", "book", "lan", "built_in", "dnsaddr", "mainline"]
        );
        assert!(views.iter().all(|view| !view.enabled && view.found == 0));
    }
}
