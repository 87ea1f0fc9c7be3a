//! The loop that alone owns the swarm.
//!
//! It runs on a thread of its own, with a runtime of its own on which libp2p's connections and the writers of job streams run too.
//! Everything that can wake it is one [`Wake`]. Commands come from [`Network`](crate::Network), each with its reply channel; notes
//! come from the tasks it started and from the readers of job streams; the rest comes from libp2p. Each event is handled without
//! waiting: what takes time (a name, a disk, the node's answer) is a task that sends a note.

mod announce;
mod commands;
mod dial;
mod hunt;
mod jobs;
mod keep;
mod listen;
mod quotes;
mod reach;
mod renew;
mod requests;
mod routing;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, RwLock},
    time::Duration,
};

use futures::StreamExt;
use if_watch::IfEvent;
use libp2p::{PeerId, Swarm, swarm::SwarmEvent};
use protocol::{
    ModelDigest,
    head::HeadResponse,
    offer::{Offer, SignedEnvelope},
    quote::{Quote, QuoteRequest},
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    address::Target,
    behaviour::{self, Behaviour, BehaviourEvent, Parts},
    book::PeerBook,
    clocks::Clocks,
    error::NetworkError,
    handle::{Inbound, NetworkOptions},
    heads::{HeadRequest, HeadSource, Sources},
    identity,
    limits::{self, Buckets, Conduct, JobSlots, Kind, Rates},
    log::ConnectionLog,
    offers::{Book, VerifiedOffer},
    peers::{AddressBook, Connected, NetworkStatus, Peers, Refusals},
    quotes::QuoteAsked,
    relay::Speakers,
    sources::{Candidate, Source},
    streams::{IncomingJob, OpenId},
    traffic::Traffic,
    transport::Lines,
    wire::JobStream,
};

/// Threads on which connections encrypt and streams are written. Two, so that one handshake does not hold up an answer.
const RUNTIME_THREADS: usize = 2;
/// How long the runtime waits for its tasks at the end.
const RUNTIME_END: Duration = Duration::from_secs(1);
/// How long connections have to close politely at the end.
const GOODBYE: Duration = Duration::from_secs(1);
/// Notes waiting for the loop; one that does not fit is a violation uncounted or an answer unsent, never a block.
const NOTE_QUEUE: usize = 256;
/// Job streams waiting for the node. What comes beyond is told that the node is busy.
const JOB_QUEUE: usize = 64;
/// Requests for heads waiting for the node.
const HEAD_QUEUE: usize = 16;
/// Questions for quotes waiting for the node: they are answered in microseconds, or by nobody.
const QUOTE_QUEUE: usize = 32;
/// How often bans, deadlines, expiries and lost known peers are looked at.
const TICK: Duration = Duration::from_secs(1);
/// The least time between two snapshots, so that a flood of events does not become a flood of snapshots.
const STATUS_EVERY: Duration = Duration::from_millis(50);
/// Tasks that tell a peer it is refused. Beyond, a stream is reset without a word.
const REFUSALS_AT_ONCE: usize = 32;

/// One thing the loop is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    SetListening {
        listen: Vec<String>,
        mdns: bool,
        reply: oneshot::Sender<Result<Vec<String>, NetworkError>>,
    },
    Connect {
        addr: String,
        reply: oneshot::Sender<Result<protocol::PeerId, NetworkError>>,
    },
    Disconnect {
        peer: protocol::PeerId,
        reply: oneshot::Sender<()>,
    },
    SetBlocked {
        peer: protocol::PeerId,
        blocked: bool,
        reply: oneshot::Sender<()>,
    },
    OpenJob {
        peer: protocol::PeerId,
        reply: oneshot::Sender<Result<JobStream, NetworkError>>,
    },
    PullOffers {
        peer: protocol::PeerId,
        reply: oneshot::Sender<Result<Vec<Offer>, NetworkError>>,
    },
    Renew {
        peer: protocol::PeerId,
        reply: renew::Reply,
    },
    WithinReach {
        peers: Vec<protocol::PeerId>,
        reply: oneshot::Sender<Vec<protocol::PeerId>>,
    },
    SetOffers {
        offers: Vec<SignedEnvelope>,
        reply: oneshot::Sender<()>,
    },
    FindOffers {
        model: Option<ModelDigest>,
        enough: usize,
        out: mpsc::Sender<VerifiedOffer>,
    },
    HeadPiece {
        peer: protocol::PeerId,
        model: ModelDigest,
        offset: u32,
        reply: oneshot::Sender<Result<HeadResponse, NetworkError>>,
    },
    Quote {
        peer: protocol::PeerId,
        request: QuoteRequest,
        reply: oneshot::Sender<Result<Quote, NetworkError>>,
    },
    Wake {
        reply: oneshot::Sender<()>,
    },
    NetworkChanged {
        reply: oneshot::Sender<()>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
    #[cfg(feature = "lab")]
    Lab(crate::lab::Command),
}

/// What a task or a stream tells the loop.
#[derive(Debug)]
pub(crate) enum Note {
    /// The peer sent a frame that breaks the protocol.
    Violation { peer: PeerId },
    /// A name was looked up.
    Resolved {
        target: Target,
        found: Result<Vec<IpAddr>, String>,
        reply: oneshot::Sender<Result<protocol::PeerId, NetworkError>>,
    },
    /// A source of first peers answered.
    Candidates {
        source: Source,
        found: Vec<Candidate>,
        problem: Option<String>,
    },
    /// This node's announcement in BitTorrent's DHT was made, or not.
    Announced { problem: Option<String> },
    /// Peers had their time to hear that we stop serving.
    Farewell,
    /// The node said where a head is.
    Source {
        model: ModelDigest,
        source: HeadSource,
    },
    /// A piece was read, or cannot be.
    Piece {
        channel: libp2p::request_response::ResponseChannel<bytes::Bytes>,
        response: HeadResponse,
    },
    /// The node gives a quote.
    Quote {
        channel: libp2p::request_response::ResponseChannel<bytes::Bytes>,
        quote: bytes::Bytes,
    },
}

/// Everything that can wake the loop.
// One exists at a time, on the stack: boxing the large one would allocate per event.
#[allow(clippy::large_enum_variant)]
enum Wake {
    Tick,
    Publish,
    Command(Option<Command>),
    Note(Note),
    Interface(std::io::Result<IfEvent>),
    Swarm(SwarmEvent<BehaviourEvent>),
}

/// What [`Network::start`](crate::Network::start) gets back from the thread.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) peer_id: protocol::PeerId,
    pub(crate) status: watch::Receiver<NetworkStatus>,
    pub(crate) known: Arc<RwLock<Vec<VerifiedOffer>>>,
    pub(crate) log: ConnectionLog,
    pub(crate) inbound: Inbound,
}

/// See the module.
pub(crate) struct Loop {
    swarm: Swarm<Behaviour>,
    local: protocol::PeerId,
    other_self: Option<protocol::PeerId>,
    network_id: protocol::NetworkId,
    runtime: Handle,
    inbox: mpsc::Receiver<Command>,
    notes: mpsc::Receiver<Note>,
    note: mpsc::Sender<Note>,

    status: watch::Sender<NetworkStatus>,
    known: Arc<RwLock<Vec<VerifiedOffer>>>,
    jobs: mpsc::Sender<IncomingJob>,
    heads: mpsc::Sender<HeadRequest>,
    quotes_in: mpsc::Sender<QuoteAsked>,

    peers: Peers,
    addresses: AddressBook,
    clocks: Clocks,
    book: Book,
    sources: Sources,
    listening: listen::Listening,
    reaching: reach::Reaching,
    log: ConnectionLog,
    traffic: Traffic,
    dials: dial::Dials,
    routing: routing::Routing,
    hunt: hunt::Hunt,
    kept: keep::Kept,
    announcing: announce::Announcing,
    peer_book: PeerBook,
    requests: requests::Requests,
    quotes: quotes::Quotes,
    renewals: renew::Renewals,
    opens: HashMap<OpenId, (PeerId, oneshot::Sender<Result<JobStream, NetworkError>>)>,

    conduct: Conduct,
    blocked: BTreeSet<PeerId>,
    refusals: Refusals,
    slots: JobSlots,
    refusing: Arc<Semaphore>,
    rates: Rates,
    offer_relay_rate: Buckets<PeerId>,
    record_rate: Buckets<PeerId>,
    verify_rate: Buckets<()>,

    dirty: bool,
    published: Instant,

    #[cfg(feature = "lab")]
    lab: crate::lab::Lab,
}

impl Loop {
    /// Starts the thread. What came of it goes into `started`.
    pub(crate) fn spawn(
        options: NetworkOptions,
        inbox: mpsc::Receiver<Command>,
        started: oneshot::Sender<Result<Running, NetworkError>>,
    ) -> Result<(), NetworkError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("network-io")
            .enable_all()
            .build()
            .map_err(NetworkError::Thread)?;
        let thread = move || {
            runtime.block_on(async {
                match Self::new(options, inbox, Lines::System) {
                    Ok((swarm_loop, running)) => {
                        if started.send(Ok(running)).is_ok() {
                            swarm_loop.run().await;
                        }
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            });
            runtime.shutdown_timeout(RUNTIME_END);
        };
        std::thread::Builder::new()
            .name("network".to_owned())
            .spawn(thread)
            .map_err(NetworkError::Thread)?;
        Ok(())
    }

    pub(crate) fn new(
        options: NetworkOptions,
        inbox: mpsc::Receiver<Command>,
        lines: Lines,
    ) -> Result<(Self, Running), NetworkError> {
        let keypair = identity::keypair(options.signer_seed)?;
        let local = identity::to_protocol(&keypair.public().to_peer_id()).ok_or_else(|| {
            NetworkError::Start {
                reason: "the key is not Ed25519".to_owned(),
            }
        })?;
        let (traffic, slots, speakers) =
            (Traffic::default(), JobSlots::default(), Speakers::default());
        let swarm = behaviour::swarm(
            &keypair,
            &Parts {
                agent: &options.agent,
                policy: options.reach,
                role: options.role,
                traffic: &traffic,
                jobs: &slots,
                speakers: &speakers,
            },
            lines,
        )?;
        let (note, notes) = mpsc::channel(NOTE_QUEUE);
        let (jobs, jobs_in) = mpsc::channel(JOB_QUEUE);
        let (heads, heads_in) = mpsc::channel(HEAD_QUEUE);
        let (quotes_in, quotes_out) = mpsc::channel(QUOTE_QUEUE);
        let (status, status_out) = watch::channel(NetworkStatus::default());
        let (known, log) = (Arc::default(), ConnectionLog::default());
        let running = Running {
            peer_id: local,
            status: status_out,
            known: Arc::clone(&known),
            log: log.clone(),
            inbound: Inbound {
                jobs: jobs_in,
                heads: heads_in,
                quotes: quotes_out,
            },
        };
        let (hunt, peer_book) = hunt::Hunt::new(&options);
        let mut swarm_loop = Self {
            swarm,
            local,
            other_self: options.other_self,
            network_id: options.network_id.clone(),
            runtime: Handle::current(),
            inbox,
            notes,
            note,
            status,
            known,
            jobs,
            heads,
            quotes_in,
            peers: Peers::default(),
            addresses: AddressBook::default(),
            clocks: Clocks::default(),
            book: Book::new(options.network_id.clone()),
            sources: Sources::default(),
            listening: listen::Listening::default(),
            reaching: reach::Reaching::new(options.reach, options.role, speakers),
            log,
            traffic,
            dials: dial::Dials::new(&options.known_peers),
            routing: routing::Routing::default(),
            hunt,
            kept: keep::Kept::new(&options.sources, std::time::Instant::now()),
            announcing: announce::Announcing::new(std::time::Instant::now()),
            peer_book,
            requests: requests::Requests::default(),
            quotes: quotes::Quotes::default(),
            renewals: renew::Renewals::default(),
            opens: HashMap::new(),
            conduct: Conduct::default(),
            blocked: BTreeSet::new(),
            refusals: Refusals::default(),
            slots,
            refusing: Arc::new(Semaphore::new(REFUSALS_AT_ONCE)),
            rates: Rates::default(),
            offer_relay_rate: Buckets::per_peer(limits::OFFERS_RELAYED),
            record_rate: Buckets::per_peer(limits::PROVIDER_RECORDS),
            verify_rate: Buckets::new(hunt::VERIFIED, 1),
            dirty: false,
            published: Instant::now(),
            #[cfg(feature = "lab")]
            lab: crate::lab::Lab::default(),
        };
        swarm_loop.load_offers();
        swarm_loop.publish();
        Ok((swarm_loop, running))
    }

    pub(crate) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            // Our own wishes come first: they are few, and a peer that keeps the swarm busy must not keep its owner out.
            let wake = tokio::select! {
                biased;
                _ = tick.tick() => Wake::Tick,
                () = tokio::time::sleep_until(self.published + STATUS_EVERY), if self.dirty => Wake::Publish,
                command = self.inbox.recv() => Wake::Command(command),
                Some(note) = self.notes.recv() => Wake::Note(note),
                event = self.reaching.next_interface() => Wake::Interface(event),
                event = self.swarm.select_next_some() => Wake::Swarm(event),
            };
            match wake {
                Wake::Tick => self.on_tick(),
                Wake::Publish => self.publish(),
                Wake::Command(Some(Command::Shutdown { reply })) => {
                    self.say_goodbye().await;
                    // The caller may have stopped waiting.
                    let _ = reply.send(());
                    return;
                }
                Wake::Command(Some(command)) => self.on_command(command),
                Wake::Command(None) => return self.say_goodbye().await,
                Wake::Note(note) => self.on_note(note),
                Wake::Interface(event) => self.on_interface(event),
                Wake::Swarm(event) => self.on_swarm(event),
            }
        }
    }

    fn on_note(&mut self, note: Note) {
        match note {
            Note::Violation { peer } => self.violation(peer),
            Note::Resolved {
                target,
                found,
                reply,
            } => self.on_resolved(target, found, reply),
            Note::Candidates {
                source,
                found,
                problem,
            } => self.on_candidates(source, found, problem),
            Note::Announced { problem } => self.on_announced(problem),
            Note::Farewell => self.leave(),
            Note::Source { model, source } => {
                self.sources
                    .remember(model, source, std::time::Instant::now())
            }
            Note::Piece { channel, response } => self.on_piece(channel, &response),
            Note::Quote { channel, quote } => self.send_quote(channel, quote),
        }
    }

    fn on_tick(&mut self) {
        let now = std::time::Instant::now();
        for peer in self.conduct.pardoned(now) {
            if !self.blocked.contains(&peer) {
                self.swarm.behaviour_mut().blocked.unblock_peer(peer);
            }
            self.dirty = true;
        }
        if self.book.expire(crate::peers::unix_ms()) {
            self.offers_changed();
        }
        self.listening_tick();
        self.reach_tick();
        self.dial_tick();
        self.hunt_tick();
        self.announce_to_mainline(now);
        self.keep_tick();
        self.routing_tick();
        self.requests_tick();
    }

    /// A peer asks for something. `Err`: how long until it may.
    fn asks(&mut self, peer: PeerId, kind: Kind) -> Result<(), Duration> {
        let host = self.peers.get(&peer).and_then(Connected::host);
        self.rates.asks(peer, host, kind, std::time::Instant::now())
    }

    /// A peer broke the protocol once more.
    fn violation(&mut self, peer: PeerId) {
        self.refusals.violations += 1;
        self.dirty = true;
        if self.conduct.violation(peer, std::time::Instant::now()) {
            self.ban(peer);
        }
    }

    /// A peer asked too often once more.
    fn over_rate(&mut self, peer: PeerId) {
        self.dirty = true;
        if self.conduct.refusal(peer, std::time::Instant::now()) {
            self.ban(peer);
        }
    }

    fn ban(&mut self, peer: PeerId) {
        tracing::info!(%peer, minutes = limits::BAN.as_secs() / 60, "a peer is banned for breaking the protocol");
        self.refusals.bans += 1;
        self.shut_out(peer);
    }

    /// Lets a peer in no more; the block list closes its connections.
    fn shut_out(&mut self, peer: PeerId) {
        self.swarm.behaviour_mut().blocked.block_peer(peer);
        self.swarm.behaviour_mut().kad.remove(&peer);
        self.peer_book.remove(&peer);
        self.dirty = true;
    }

    fn is_shut_out(&self, peer: &PeerId) -> bool {
        self.blocked.contains(peer) || self.conduct.is_banned(peer)
    }

    fn offers_changed(&mut self) {
        if let Ok(mut known) = self.known.write() {
            *known = self.book.offers().cloned().collect();
        }
        self.kept.offers_changed();
        self.dirty = true;
    }

    fn publish(&mut self) {
        self.dirty = false;
        self.published = Instant::now();
        let now = crate::peers::unix_ms();
        let status = NetworkStatus {
            listening: self.dialable(),
            offerable: self.offerable(),
            not_listening: self.listening.failures(),
            mdns: self.swarm.behaviour().mdns.is_enabled(),
            peers: self
                .peers
                .status(&self.traffic, |peer| self.book.models_of(peer, now)),
            reach: self.reachability(),
            traffic: self.traffic.total(),
            sources: self.hunt.status(),
            refusals: self.refusals,
            blocked: self
                .blocked
                .iter()
                .filter_map(identity::to_protocol)
                .collect(),
            banned: self
                .conduct
                .banned()
                .filter_map(identity::to_protocol)
                .collect(),
            clocks: self.clocks.say(now, std::time::Instant::now()),
        };
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }

    /// Closes listeners and connections, and gives libp2p a moment to tell the others.
    async fn say_goodbye(&mut self) {
        self.save_all().await;
        self.close_listeners();
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // Already gone is as good.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let all_closed = async {
            while self.swarm.network_info().num_peers() > 0 {
                let event = self.swarm.select_next_some().await;
                drop(event);
            }
        };
        let _ = tokio::time::timeout(GOODBYE, all_closed).await;
        self.status.send_replace(NetworkStatus::default());
    }
}
