//! What the two swarms may do, by the settings: where they get their first peers from, and how far they reach.

use network::{Mainline, NetworkOptions, ReachMode, ReachPolicy, RelayServer, Role, Sources};

use super::first;
use crate::{data::DataFolder, settings::Settings};

/// Which of the two swarms: each keeps what it learned in files of its own, so that what one of them met says nothing
/// about the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swarm {
    /// The one that asks.
    Asking,
    /// The one that serves.
    Serving,
}

impl Swarm {
    /// As its files are called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Serving => "serving",
        }
    }
}

/// How a swarm joins, without its peers.
pub(crate) fn options(
    settings: &Settings,
    data: &DataFolder,
    swarm: Swarm,
    seed: [u8; 32],
) -> NetworkOptions {
    let (role, listen) = match swarm {
        Swarm::Asking => (Role::Asking, any_port(&settings.listen)),
        Swarm::Serving => (Role::Serving, settings.listen.clone()),
    };
    NetworkOptions {
        listen,
        sources: sources(settings, data, swarm),
        reach: reach(settings, swarm),
        role,
        ..NetworkOptions::new(seed)
    }
}

/// The same interfaces at ports that the system chooses: whoever asks needs no port that others know, and the chosen ones
/// are the other swarm's.
fn any_port(listen: &[String]) -> Vec<String> {
    let any = |address: &String| {
        let mut parts: Vec<&str> = address.split('/').collect();
        let at = parts
            .iter()
            .position(|part| matches!(*part, "tcp" | "udp"))?;
        *parts.get_mut(at + 1)? = "0";
        Some(parts.join("/"))
    };
    let mut addresses: Vec<String> = listen.iter().filter_map(any).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// How far a swarm reaches. The router's port and the carrying for others belong to the one that serves.
fn reach(settings: &Settings, swarm: Swarm) -> ReachPolicy {
    let serves = swarm == Swarm::Serving;
    ReachPolicy {
        mode: match settings.lan_only {
            true => ReachMode::LanOnly,
            false => ReachMode::Internet,
        },
        upnp: serves && settings.upnp,
        relay_server: match serves && settings.relay {
            true => RelayServer::default(),
            false => RelayServer::Off,
        },
        port_443: serves,
        ..ReachPolicy::default()
    }
}

/// The sources that the person allows. In the local network alone, none that reaches beyond it.
fn sources(settings: &Settings, data: &DataFolder, swarm: Swarm) -> Sources {
    let beyond = !settings.lan_only;
    let (book, offers) = (data.met(swarm.name()), data.offers(swarm.name()));
    Sources {
        book: settings.saved_peers.then_some(book),
        offers: settings.saved_peers.then_some(offers),
        built_in: match beyond {
            true => first::built_in(&data.first_peers()),
            false => None,
        },
        dnsaddr: match beyond {
            true => settings.dns_names.clone(),
            false => Vec::new(),
        },
        dns_server: None,
        mainline: match beyond && settings.mainline {
            true => Mainline::On { bootstrap: None },
            false => Mainline::Off,
        },
    }
}

/// Whether a change of settings concerns what [`options`] gives. Listening addresses of the one that serves are changed
/// while it runs.
pub(crate) fn changed(before: &Settings, after: &Settings) -> bool {
    let of = |settings: &Settings| {
        (
            settings.lan_only,
            settings.saved_peers,
            settings.mainline,
            settings.dns_names.clone(),
            settings.upnp,
            settings.relay,
        )
    };
    of(before) != of(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_listens_at_the_same_interfaces_and_other_ports() {
        let listen = [
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/127.0.0.1/tcp/4002",
            "/ip6/::1/udp/4001/quic-v1",
            "/p2p-circuit",
        ];
        let listen = listen.map(str::to_owned);
        assert_eq!(
            any_port(&listen),
            ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/udp/0/quic-v1"]
        );
    }

    #[test]
    fn each_source_has_its_switch_and_the_local_network_has_none_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let settings = Settings {
            dns_names: vec!["peers.example.org".to_owned()],
            ..Settings::default()
        };
        let maker = protocol::PeerId::from_public_key(&[1; 32]);
        std::fs::write(data.first_peers(), format!("maker {maker}\n")).unwrap();
        let all = sources(&settings, &data, Swarm::Asking);
        assert_eq!(all.built_in.as_ref().map(|list| list.maker), Some(maker));
        assert!(matches!(all.mainline, Mainline::On { bootstrap: None }));
        assert_eq!(all.dnsaddr, ["peers.example.org"]);
        let other = sources(&settings, &data, Swarm::Serving);
        assert!(all.book.is_some() && all.book != other.book && all.offers != other.offers);

        let lan = Settings {
            lan_only: true,
            ..settings.clone()
        };
        assert!(changed(&settings, &lan));
        let lan = sources(&lan, &data, Swarm::Asking);
        assert!(matches!(lan.mainline, Mainline::Off));
        assert!(lan.dnsaddr.is_empty() && lan.book.is_some() && lan.built_in.is_none());

        let off = Settings {
            saved_peers: false,
            mainline: false,
            dns_names: Vec::new(),
            ..settings.clone()
        };
        let off = sources(&off, &data, Swarm::Asking);
        assert!(off.book.is_none() && off.offers.is_none() && off.dnsaddr.is_empty());
        assert!(matches!(off.mainline, Mainline::Off));
        let reached = |settings: &Settings, swarm| reach(settings, swarm);
        assert_eq!(
            reached(&settings, Swarm::Asking).relay_server,
            RelayServer::Off
        );
        assert!(!reached(&settings, Swarm::Asking).upnp && reached(&settings, Swarm::Serving).upnp);
        let home = Settings {
            relay: false,
            upnp: false,
            lan_only: true,
            ..settings.clone()
        };
        let home = reached(&home, Swarm::Serving);
        assert_eq!(
            (home.relay_server, home.upnp, home.mode),
            (RelayServer::Off, false, ReachMode::LanOnly)
        );
        let same = Settings {
            serve_max_out: 7,
            ..settings.clone()
        };
        assert!(!changed(&settings, &same));
    }
}
