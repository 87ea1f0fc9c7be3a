//! Where the swarms get their first peers from, by the settings.

use network::{Mainline, Sources};

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

/// The sources that the person allows. In the local network alone, none that reaches beyond it.
pub(crate) fn sources(settings: &Settings, data: &DataFolder, swarm: Swarm) -> Sources {
    let beyond = !settings.lan_only;
    let (book, offers) = match swarm {
        Swarm::Asking => (data.met("asking"), data.offers("asking")),
        Swarm::Serving => (data.met("serving"), data.offers("serving")),
    };
    Sources {
        book: settings.saved_peers.then_some(book),
        offers: settings.saved_peers.then_some(offers),
        // The program comes without a list until there are people who run such nodes.
        built_in: None,
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

/// Whether a change of settings concerns what [`sources`] gives.
pub(crate) fn changed(before: &Settings, after: &Settings) -> bool {
    let of = |settings: &Settings| {
        (
            settings.lan_only,
            settings.saved_peers,
            settings.built_in_peers,
            settings.mainline,
            settings.dns_names.clone(),
        )
    };
    of(before) != of(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_switch_and_the_local_network_has_none_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let settings = Settings {
            dns_names: vec!["peers.example.org".to_owned()],
            ..Settings::default()
        };
        let all = sources(&settings, &data, Swarm::Asking);
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
        assert!(lan.dnsaddr.is_empty() && lan.book.is_some());

        let off = Settings {
            saved_peers: false,
            mainline: false,
            dns_names: Vec::new(),
            ..settings.clone()
        };
        let off = sources(&off, &data, Swarm::Asking);
        assert!(off.book.is_none() && off.offers.is_none() && off.dnsaddr.is_empty());
        assert!(matches!(off.mainline, Mainline::Off));
        let same = Settings {
            serve_max_out: 7,
            ..settings.clone()
        };
        assert!(!changed(&settings, &same));
    }
}
