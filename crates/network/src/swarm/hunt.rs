//! Keeping in touch: asks the sources for candidates while too few peers are at hand, dials them, keeps the address book.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use protocol::NetworkId;

use super::{Loop, Note};
use crate::{
    address::{self, Prefix, Scope},
    book::{PeerBook, Teller},
    handle::NetworkOptions,
    peers::{self, Direction, Word},
    providers,
    sources::{BuiltIn, Candidate, Source, SourceStatus, Tally, built_in, dnsaddr, mainline},
};

/// Peers of this network that are at hand: dialled by us and connected, or met so within [`FRESH_MS`]. Below, sources are asked. Whoever
/// came to us does not count: four that an attacker sends would keep this node from ever looking for others.
const WANTED: usize = 4;
/// A peer whose idle connection closed is at hand for this long: it would be there.
const FRESH_MS: u64 = 10 * 60 * 1000;
/// How long after the start a source is asked, if those before it brought too few: what costs others nothing comes first.
const AFTER: [(Source, Duration); 6] = [
    (Source::Invited, Duration::ZERO),
    (Source::Book, Duration::ZERO),
    (Source::Lan, Duration::ZERO),
    (Source::BuiltIn, Duration::from_secs(1)),
    (Source::Dnsaddr, Duration::from_secs(1)),
    (Source::Mainline, Duration::from_secs(2)),
];
/// Peers of the book that are dialled at a time.
const FROM_BOOK: usize = 4;
/// Dials of this module under way.
const DIALS: usize = 8;
/// Candidates waiting for a dial.
const WAITING: usize = 128;
/// A dial, and the introduction after it, take ten seconds each at most.
const DIAL: Duration = Duration::from_secs(20);
/// How often one peer of the book is dialled only to see whether it is there, as in Bitcoin.
const FEELER_EVERY: Duration = Duration::from_secs(120);
/// Addresses of peers that came to us are tried out at this rate: each dial is a handshake for both.
pub(super) const VERIFIED: crate::limits::Rate = crate::limits::Rate {
    burst: 16.0,
    per_second: 0.2,
};

/// Why a dial is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Too few peers are at hand.
    Hunt(Source),
    /// Only to see whether it is there.
    Feeler,
    /// It came to us and said that this is where it is.
    Verify,
}

#[derive(Debug)]
struct Dialled {
    why: Why,
    begun: Instant,
    /// Who is there, once the handshake is done.
    met: Option<PeerId>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Hunt {
    network: NetworkId,
    tallies: BTreeMap<Source, Tally>,
    built_in: Option<BuiltIn>,
    dnsaddr: Vec<String>,
    dns_server: Option<std::net::SocketAddr>,
    mainline: Option<mainline::Entry>,

    dials: HashMap<ConnectionId, Dialled>,
    waiting: VecDeque<(Source, Candidate)>,
    anchors_dialled: bool,
    feeler: Instant,
    /// A search has nobody to ask: pauses do not count.
    hurry: bool,
    /// When peers of ours were met, Unix milliseconds.
    met: HashMap<PeerId, u64>,
}

impl Hunt {
    /// Opens the book as well, where there is one.
    pub(super) fn new(options: &NetworkOptions) -> (Self, PeerBook) {
        let now = Instant::now();
        let sources = &options.sources;
        let (book, problem) = match &sources.book {
            Some(path) => PeerBook::open(path),
            None => (PeerBook::new(), None),
        };
        if let Some(problem) = &problem {
            tracing::warn!(problem, "the address book begins empty");
        }
        let enabled = |source| match source {
            Source::Book => sources.book.is_some(),
            Source::BuiltIn => sources.built_in.is_some(),
            Source::Dnsaddr => !sources.dnsaddr.is_empty(),
            Source::Invited => !options.known_peers.is_empty(),
            Source::Lan => false,
            Source::Mainline => sources.mainline != mainline::Mainline::Off,
        };
        let mut tallies: BTreeMap<_, _> = AFTER
            .into_iter()
            .map(|(source, after)| (source, Tally::new(enabled(source), now + after)))
            .collect();
        if let Some(tally) = tallies.get_mut(&Source::Book) {
            tally.problem = problem;
        }
        let hunt = Self {
            network: options.network_id.clone(),
            tallies,
            built_in: sources.built_in.clone(),
            dnsaddr: sources.dnsaddr.clone(),
            dns_server: sources.dns_server,
            mainline: sources.mainline.entry(),
            dials: HashMap::new(),
            waiting: VecDeque::new(),
            anchors_dialled: false,
            feeler: now + FEELER_EVERY,
            hurry: false,
            met: HashMap::new(),
        };
        (hunt, book)
    }

    pub(super) fn status(&self) -> Vec<SourceStatus> {
        let status = |source: &Source| Some(self.tallies.get(source)?.status(*source));
        Source::ALL.iter().filter_map(status).collect()
    }

    pub(super) fn tally(&mut self, source: Source) -> Option<&mut Tally> {
        self.tallies.get_mut(&source)
    }

    /// Where BitTorrent's DHT is entered, if it is.
    pub(super) fn mainline(&self) -> Option<&mainline::Entry> {
        self.mainline.as_ref()
    }
}

impl Loop {
    /// Somebody waits for peers: nothing is put off any longer.
    pub(super) fn hunt_now(&mut self) {
        if self.peers.is_empty() {
            self.hunt.hurry = true;
            self.hunt_tick();
        }
    }

    /// Whether peers may turn up without anybody doing more.
    pub(super) fn is_hunting(&self) -> bool {
        let hunt = &self.hunt;
        let begun = hunt
            .dials
            .values()
            .any(|dial| matches!(dial.why, Why::Hunt(_)));
        let coming = hunt.tallies.values().any(|tally| tally.running);
        begun || coming || hunt.hurry || !hunt.waiting.is_empty()
    }

    pub(super) fn hunt_tick(&mut self) {
        let now = Instant::now();
        let over = |dial: &Dialled| now.saturating_duration_since(dial.begun) >= DIAL;
        self.hunt.dials.retain(|_, dial| !over(dial));
        if let Some(tally) = self.hunt.tally(Source::Lan) {
            tally.enabled = self.swarm.behaviour().mdns.is_enabled();
        }
        let hurry = std::mem::take(&mut self.hunt.hurry);
        if self.at_hand() < WANTED {
            for source in [
                Source::Book,
                Source::BuiltIn,
                Source::Dnsaddr,
                Source::Mainline,
            ] {
                let tally = self.hunt.tally(source);
                let due = tally.is_some_and(|tally| {
                    tally.is_due(now) || (hurry && tally.is_due_in_a_hurry(now))
                });
                if due {
                    self.ask_source(source, now);
                }
            }
            self.dial_waiting();
        } else {
            self.hunt.waiting.clear();
        }
        if self.hunt.feeler <= now {
            self.hunt.feeler = now + FEELER_EVERY;
            self.send_feeler();
        }
    }

    /// Peers of this network that we dialled and that are connected, or were a short while ago.
    fn at_hand(&mut self) -> usize {
        let now = peers::unix_ms();
        // A clock that was set back leaves times that are yet to come: they are as good as old ones.
        self.hunt.met.retain(|_, at| now.abs_diff(*at) < FRESH_MS);
        let connected = self.peers.iter().filter(|(_, peer)| {
            peer.speaks(protocol::offer::PROTOCOL)
                && peer
                    .links()
                    .iter()
                    .any(|link| link.direction == Direction::Out)
        });
        let gone = self
            .hunt
            .met
            .keys()
            .filter(|peer| self.peers.get(peer).is_none());
        connected.count() + gone.count()
    }

    fn ask_source(&mut self, source: Source, now: Instant) {
        let Some(tally) = self.hunt.tally(source) else {
            return;
        };
        tally.begin(now);
        self.dirty = true;
        let note = self.note.clone();
        let send = move |found, problem| async move {
            // A loop that is gone needs no candidates.
            let _ = note
                .send(Note::Candidates {
                    source,
                    found,
                    problem,
                })
                .await;
        };
        match source {
            Source::Book => self.ask_book(),
            Source::BuiltIn => {
                let list = self.hunt.built_in.as_ref();
                let read = list
                    .map(|list| built_in::candidates(list, &self.hunt.network, peers::unix_ms()));
                let (found, problem) = match read {
                    Some(Ok(found)) => (found, None),
                    Some(Err(error)) => (Vec::new(), Some(error.to_string())),
                    None => (Vec::new(), None),
                };
                self.on_candidates(source, found, problem);
            }
            Source::Dnsaddr => {
                let (names, server) = (self.hunt.dnsaddr.clone(), self.hunt.dns_server);
                self.runtime.spawn(async move {
                    let (found, problem) = dnsaddr::look_up(&names, server).await;
                    send(found, problem).await;
                });
            }
            Source::Mainline => {
                let Some(entry) = self.hunt.mainline.clone() else {
                    return;
                };
                let network = self.hunt.network.clone();
                self.runtime.spawn(async move {
                    // A task of its own, so that a fault in the library is its answer.
                    let look =
                        tokio::spawn(
                            async move { entry.look_up(&network, peers::unix_ms()).await },
                        );
                    let (found, problem) = match look.await {
                        Ok(Ok(found)) => (found, None),
                        Ok(Err(problem)) => (Vec::new(), Some(problem)),
                        Err(error) => (Vec::new(), Some(error.to_string())),
                    };
                    send(found, problem).await;
                });
            }
            // The user's own are dialled by the list of known peers, those of the local network as they are heard.
            Source::Invited | Source::Lan => {}
        }
    }

    fn ask_book(&mut self) {
        let mut chosen = Vec::new();
        if !std::mem::replace(&mut self.hunt.anchors_dialled, true) {
            chosen.extend(self.peer_book.anchors().iter().copied());
        }
        let known = |peer: &PeerId| {
            self.peers.get(peer).is_some() || self.is_shut_out(peer) || chosen.contains(peer)
        };
        let more = self.peer_book.choose(FROM_BOOK, peers::unix_ms(), known);
        chosen.extend(more);
        let found = chosen
            .into_iter()
            .filter_map(|peer| {
                let address = self.peer_book.addresses(&peer).first()?.clone();
                Some(Candidate {
                    peer: Some(peer),
                    address,
                })
            })
            .collect();
        let problem = self
            .hunt
            .tally(Source::Book)
            .and_then(|tally| tally.problem.clone());
        self.on_candidates(Source::Book, found, problem);
    }

    /// A source answered.
    pub(super) fn on_candidates(
        &mut self,
        source: Source,
        found: Vec<Candidate>,
        problem: Option<String>,
    ) {
        if let Some(tally) = self.hunt.tally(source) {
            tally.end(problem);
        }
        self.dirty = true;
        for candidate in found {
            if self.is_own(&candidate.address) || self.hunt.waiting.len() >= WAITING {
                continue;
            }
            if let (Some(peer), false) = (candidate.peer, source == Source::Book) {
                self.peer_book
                    .told(peer, std::slice::from_ref(&candidate.address), Teller::Own);
            }
            self.hunt.waiting.push_back((source, candidate));
        }
        self.dial_waiting();
        self.routing_tick();
    }

    fn dial_waiting(&mut self) {
        while self.hunt.dials.len() < DIALS
            && let Some((source, candidate)) = self.hunt.waiting.pop_front()
        {
            let addresses = match &candidate.peer {
                Some(peer) => {
                    let mut known = self.peer_book.addresses(peer).to_vec();
                    known.retain(|one| *one != candidate.address);
                    known.insert(0, candidate.address);
                    known
                }
                None => vec![candidate.address],
            };
            if self.hunt_dial(candidate.peer, addresses, Why::Hunt(source))
                && let Some(tally) = self.hunt.tally(source)
            {
                tally.tried = tally.tried.saturating_add(1);
            }
        }
    }

    fn hunt_dial(&mut self, peer: Option<PeerId>, addresses: Vec<Multiaddr>, why: Why) -> bool {
        let options = match (peer, addresses.first()) {
            (_, None) => return false,
            (Some(peer), _) if peer == *self.swarm.local_peer_id() || self.is_shut_out(&peer) => {
                return false;
            }
            // From a port of its own: from our listener's to theirs there is a connection already, and a router would let in
            // what comes from where it sent something.
            (Some(peer), _) if why == Why::Verify => DialOpts::peer_id(peer)
                .condition(PeerCondition::NotDialing)
                .addresses(addresses)
                .allocate_new_port()
                .build(),
            (Some(peer), _) => DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(addresses)
                .build(),
            (None, Some(address)) => DialOpts::unknown_peer_id().address(address.clone()).build(),
        };
        let connection = options.connection_id();
        if self.swarm.dial(options).is_err() {
            return false;
        }
        self.hunt.dials.insert(
            connection,
            Dialled {
                why,
                begun: Instant::now(),
                met: None,
            },
        );
        true
    }

    /// Dials one peer of the book only to see whether it is there.
    fn send_feeler(&mut self) {
        let Some(peer) = self.peer_book.to_test(peers::unix_ms()) else {
            return;
        };
        if let Some(connected) = self.peers.get(&peer) {
            let at = connected.dialled().next().cloned();
            if let Some(at) = at {
                self.peer_book.reached(peer, &at, peers::unix_ms());
            }
            return;
        }
        let addresses = self.peer_book.addresses(&peer).to_vec();
        self.hunt_dial(Some(peer), addresses, Why::Feeler);
    }

    /// A peer that routes came to us: whether it can be found where it says is seen by dialling it there.
    pub(super) fn verify_address(&mut self, peer: &PeerId) {
        // What leads through a relay says nothing of where it is.
        let mut addresses = self.addresses.of(peer);
        addresses.retain(|address| !address::is_relayed(address));
        let dialled = self
            .peers
            .get(peer)
            .is_some_and(|peer| peer.dialled().next().is_some());
        if dialled || addresses.is_empty() || self.verify_rate.take((), Instant::now()).is_err() {
            return;
        }
        self.hunt_dial(Some(*peer), addresses, Why::Verify);
    }

    pub(super) fn hunt_met(&mut self, connection: ConnectionId, peer: PeerId) {
        if let Some(dial) = self.hunt.dials.get_mut(&connection) {
            dial.met = Some(peer);
        }
    }

    /// A dial failed: the book remembers where it was a peer's fault.
    pub(super) fn hunt_failed(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        error: &DialError,
    ) {
        self.hunt.dials.remove(&connection);
        match (peer, error) {
            (Some(peer), DialError::WrongPeerId { address, .. }) => {
                self.peer_book.wrong(&peer, &address::without_peer(address));
            }
            (Some(peer), DialError::Transport(attempts)) => {
                let at = attempts.iter().map(|(address, _)| address);
                self.peer_book.failed_at(&peer, at, peers::unix_ms());
            }
            (
                _,
                DialError::Denied { .. }
                | DialError::LocalPeerId { .. }
                | DialError::DialPeerConditionFalse(_)
                | DialError::Aborted
                | DialError::WrongPeerId { .. }
                | DialError::NoAddresses
                | DialError::Transport(_),
            ) => {}
        }
        // Where it is dialled elsewhere as well, it may answer still.
        if let Some(peer) = peer
            && self.peers.get(&peer).is_none()
            && !self.is_dialled_in_background(&peer)
        {
            self.search_heard(&peer);
        } else {
            // There is room for one more dial.
            self.searches_go_on();
        }
        self.dial_waiting();
    }

    /// A peer introduced itself: whether it is one of ours shows now.
    pub(super) fn hunt_identified(&mut self, peer: PeerId) {
        let Some(connected) = self.peers.get(&peer) else {
            return;
        };
        let ours = connected.speaks(protocol::offer::PROTOCOL)
            || connected.speaks(providers::PROTOCOL.as_ref());
        let dialled: Vec<_> = connected
            .dialled()
            .filter(|at| !address::is_relayed(at))
            .cloned()
            .collect();
        let now = peers::unix_ms();
        if ours {
            if !dialled.is_empty() {
                self.hunt.met.insert(peer, now);
            }
            for at in &dialled {
                self.peer_book.reached(peer, at, now);
            }
        }
        let begun: Vec<_> = self
            .hunt
            .dials
            .iter()
            .filter(|(_, dial)| dial.met == Some(peer))
            .map(|(id, dial)| (*id, dial.why))
            .collect();
        for (connection, why) in begun {
            self.hunt.dials.remove(&connection);
            match why {
                Why::Hunt(source) if ours => {
                    if let Some(tally) = self.hunt.tally(source) {
                        tally.found(now);
                    }
                }
                // It was seen; who is not needed goes.
                Why::Feeler if self.at_hand() > WANTED => {
                    self.swarm.close_connection(connection);
                }
                // What answered there is another program.
                Why::Hunt(_) if !ours => {
                    self.swarm.close_connection(connection);
                }
                Why::Hunt(_) | Why::Feeler | Why::Verify => {}
            }
        }
        self.dirty = true;
    }

    /// A peer that the user named is being dialled.
    pub(super) fn hunt_invited(&mut self, connection: ConnectionId) {
        if let Some(tally) = self.hunt.tally(Source::Invited) {
            tally.tried = tally.tried.saturating_add(1);
        }
        self.hunt.dials.insert(
            connection,
            Dialled {
                why: Why::Hunt(Source::Invited),
                begun: Instant::now(),
                met: None,
            },
        );
    }

    /// A peer on the local network was heard of.
    pub(super) fn dial_neighbour(&mut self, peer: PeerId) {
        let addresses = self.addresses.of(&peer);
        if self.hunt_dial(Some(peer), addresses, Why::Hunt(Source::Lan))
            && let Some(tally) = self.hunt.tally(Source::Lan)
        {
            tally.tried = tally.tried.saturating_add(1);
        }
    }

    /// Somebody at `scope` told us where a peer is. What may not be told, and what is our own, is dropped.
    pub(super) fn learn(
        &mut self,
        peer: PeerId,
        mut addresses: Vec<Multiaddr>,
        scope: Scope,
        from: PeerId,
    ) {
        if peer == *self.swarm.local_peer_id() || self.is_shut_out(&peer) {
            return;
        }
        addresses.retain(|told| address::may_tell(scope, told) && !self.is_own(told));
        let site = self
            .peers
            .get(&from)
            .and_then(|from| from.remote())
            .and_then(Prefix::of_carrier);
        self.peer_book.told(peer, &addresses, Teller::Peer(site));
        self.addresses.add(peer, addresses, Word::Own);
    }

    /// An address of this node: whoever tells it to us would have us dial ourselves.
    pub(super) fn is_own(&self, address: &Multiaddr) -> bool {
        self.listening.has(address) || self.swarm.external_addresses().any(|own| own == address)
    }
}
