//! Saying in BitTorrent's DHT that we are here.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, multiaddr::Protocol};

use super::{Loop, Note};
use crate::{
    address, peers,
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
        let scope = entry.scope();
        let reached: Vec<Multiaddr> = self
            .dialable()
            .iter()
            .filter_map(|text| text.parse().ok())
            .map(|address| address::without_peer(&address))
            .filter(|address| address::may_tell(scope, address))
            .collect();
        let port = |address: &Multiaddr, quic: bool| match address.iter().nth(1) {
            Some(Protocol::Udp(port)) if quic => Some(port),
            Some(Protocol::Tcp(port)) if !quic => Some(port),
            _ => None,
        };
        let of = |quic| reached.iter().find_map(|address| port(address, quic));
        of(true).or_else(|| of(false))
    }
}
