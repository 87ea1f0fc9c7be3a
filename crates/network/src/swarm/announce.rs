//! Saying in BitTorrent's DHT that we are here.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, multiaddr::Protocol};

use super::{Loop, Note};
use crate::{
    address::{self, Scope},
    peers,
    sources::{Source, mainline},
};

/// How long after an announcement that failed another is tried.
const AGAIN: Duration = Duration::from_secs(60);

/// When to announce.
#[derive(Debug)]
pub(super) struct Announcing {
    running: bool,
    next: Instant,
}

impl Announcing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            running: false,
            next: now,
        }
    }
}

impl Loop {
    /// A node that is reached from outside says so every twenty minutes.
    pub(super) fn announce_to_mainline(&mut self, now: Instant) {
        let due = self.announcing.next <= now;
        let Some(entry) = self
            .hunt
            .mainline()
            .cloned()
            .filter(|_| due && !self.announcing.running)
        else {
            return;
        };
        let Some(port) = self.port_to_announce(&entry) else {
            return;
        };
        self.announcing.running = true;
        self.announcing.next = now + mainline::ANNOUNCE_EVERY;
        let (network, note) = (self.network_id.clone(), self.note.clone());
        self.runtime.spawn(async move {
            let announce =
                tokio::spawn(async move { entry.announce(&network, port, peers::unix_ms()).await });
            let problem = match announce.await {
                Ok(Ok(())) => None,
                Ok(Err(problem)) => Some(problem),
                Err(error) => Some(error.to_string()),
            };
            let _ = note.send(Note::Announced { problem }).await;
        });
    }

    pub(super) fn on_announced(&mut self, problem: Option<String>) {
        self.announcing.running = false;
        if problem.is_some() {
            self.announcing.next = Instant::now() + AGAIN;
        }
        if let Some(tally) = self.hunt.tally(Source::Mainline) {
            tally.problem = problem;
        }
        self.dirty = true;
    }

    /// The port at which who found us there would reach us: of QUIC where there is one, since both are tried at the other end.
    fn port_to_announce(&self, entry: &mainline::Entry) -> Option<u16> {
        let reached: Vec<Multiaddr> = self
            .dialable()
            .iter()
            .filter_map(|text| text.parse().ok())
            .map(|address| address::without_peer(&address))
            .collect();
        port_of(&reached, entry.scope())
    }
}

/// The port under which this computer is reached at one of these addresses: of QUIC before TCP, and not that of a relay, which is
/// another computer's.
fn port_of(reached: &[Multiaddr], scope: Scope) -> Option<u16> {
    let own: Vec<_> = reached
        .iter()
        .filter(|address| address::may_tell(scope, address) && !address::is_relayed(address))
        .collect();
    let port = |address: &Multiaddr, quic: bool| match address.iter().nth(1) {
        Some(Protocol::Udp(port)) if quic => Some(port),
        Some(Protocol::Tcp(port)) if !quic => Some(port),
        _ => None,
    };
    let of = |quic| own.iter().find_map(|address| port(address, quic));
    of(true).or_else(|| of(false))
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    #[test]
    fn the_port_that_is_announced_is_this_computer_s_own() {
        let relayed = format!(
            "/ip4/203.0.113.9/udp/443/quic-v1/p2p/{}/p2p-circuit",
            PeerId::random()
        );
        let port = |addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            port_of(&addresses, Scope::Public)
        };
        let (tcp, quic) = ("/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.1/udp/2/quic-v1");
        assert_eq!(port(&[tcp, quic]), Some(2));
        assert_eq!(port(&[&relayed, tcp]), Some(1));
        assert_eq!(port(&[&relayed, "/ip4/192.168.1.2/tcp/3"]), None);
    }
}
