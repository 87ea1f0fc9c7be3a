//! [`Network`]: what the rest of the program holds. Each method sends one command with its own reply channel to the loop.

use std::{
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use protocol::{
    ModelDigest, ModelRef, NetworkId, PeerId,
    offer::{Offer, SignedEnvelope},
    quote::{Quote, QuoteRequest},
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    error::NetworkError,
    heads::{self, HeadProgress, HeadRequest},
    log::{ConnectionEvent, ConnectionLog},
    offers::VerifiedOffer,
    peers::NetworkStatus,
    quotes::QuoteAsked,
    reach::{ReachPolicy, Role},
    sources::Sources,
    streams::IncomingJob,
    swarm::{Command, Loop, Running},
    wire::JobStream,
};

/// Commands waiting for the loop. A caller beyond this waits for room; the loop answers in microseconds, so 64 is a burst.
pub(crate) const COMMAND_QUEUE: usize = 64;

/// Offers of a search that wait for their reader. One that does not read gets the rest later, or never.
const FOUND_QUEUE: usize = 64;

/// How long [`Network::shutdown`] waits for the loop: it closes connections politely for one second at most.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(3);

/// The pause before a circuit is tried once more: a relay that answers is connected by then, or by the next.
const CIRCUIT_AGAIN: Duration = Duration::from_millis(500);
/// How often it is tried again. TCP and its handshakes take three round trips, which to the other side of the world is a second.
const CIRCUIT_TRIES: u32 = 2;

/// Where a node that only asks listens, so that routers can be got through.
const ASK_FROM: [&str; 4] = [
    "/ip4/0.0.0.0/udp/0/quic-v1",
    "/ip4/0.0.0.0/tcp/0",
    "/ip6/::/udp/0/quic-v1",
    "/ip6/::/tcp/0",
];

/// How a node joins.
#[derive(Clone)]
pub struct NetworkOptions {
    /// The seed of the node's Ed25519 key: the same as `protocol::Signer::from_seed` was given.
    pub signer_seed: [u8; 32],
    /// Multiaddrs to listen on from the start. Empty: this node only dials, or, if its role is [`Role::Asking`], listens on every
    /// interface at ports that nobody is told.
    pub listen: Vec<String>,
    /// Look for peers on the local network by multicast DNS and, unless the role is [`Role::Asking`], announce itself there; both only
    /// where the node listens beyond this computer. Off means that no socket for it is made.
    pub mdns: bool,
    /// The other swarm of this computer: who calls by this name in the local network is nobody to be met.
    pub other_self: Option<PeerId>,
    /// The network that this node is in; a lab uses another name.
    pub network_id: NetworkId,
    /// Where first peers may come from.
    pub sources: Sources,
    /// Addresses with `/p2p/…` (or without) that are dialled at the start and again, with growing pauses, when they are lost.
    pub known_peers: Vec<String>,
    /// Name and version shown to peers, at most 64 characters.
    pub agent: String,
    /// Which computers this node talks to, and what it does to be reached.
    pub reach: ReachPolicy,
    /// What this node is in the network for.
    pub role: Role,
}

impl NetworkOptions {
    /// A node that only dials, knows nobody and calls itself by this crate's version.
    #[must_use]
    pub fn new(signer_seed: [u8; 32]) -> Self {
        Self {
            signer_seed,
            listen: Vec::new(),
            mdns: false,
            other_self: None,
            network_id: NetworkId::MAIN,
            sources: Sources::default(),
            known_peers: Vec::new(),
            agent: concat!("decentralgpt/", env!("CARGO_PKG_VERSION")).to_owned(),
            reach: ReachPolicy::default(),
            role: Role::default(),
        }
    }
}

impl std::fmt::Debug for NetworkOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The seed is the node's identity: it does not reach a log.
        f.debug_struct("NetworkOptions")
            .field("listen", &self.listen)
            .field("mdns", &self.mdns)
            .field("other_self", &self.other_self)
            .field("network_id", &self.network_id)
            .field("sources", &self.sources)
            .field("known_peers", &self.known_peers)
            .field("agent", &self.agent)
            .field("reach", &self.reach)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// What strangers ask of this node. The queues are bounded; what does not fit is refused on the wire.
#[derive(Debug)]
pub struct Inbound {
    /// Streams of `/decentralgpt/infer/1` that peers opened.
    pub jobs: mpsc::Receiver<IncomingJob>,
    /// Heads that peers want to fetch.
    pub heads: mpsc::Receiver<HeadRequest>,
    /// Jobs that peers want a quote for.
    pub quotes: mpsc::Receiver<QuoteAsked>,
}

/// A handle on the running network. Clones share one loop; the loop ends when [`Network::shutdown`] is called or the last handle
/// is dropped.
#[derive(Clone, Debug)]
pub struct Network {
    peer_id: PeerId,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<NetworkStatus>,
    known: Arc<RwLock<Vec<VerifiedOffer>>>,
    log: ConnectionLog,
}

impl Network {
    /// Starts the loop on a thread of its own and, where [`NetworkOptions::listen`] names addresses, listens.
    ///
    /// # Errors
    /// [`NetworkError::Start`] when the key or the transports are unusable, [`NetworkError::Listen`] when none of the addresses
    /// can be opened; nothing is left running then.
    pub async fn start(options: NetworkOptions) -> Result<(Self, Inbound), NetworkError> {
        let (commands, inbox) = mpsc::channel(COMMAND_QUEUE);
        let (started, ready) = oneshot::channel();
        let (mut listen, mdns) = (options.listen.clone(), options.mdns);
        let asking = options.role == Role::Asking;
        if asking && listen.is_empty() {
            listen = ASK_FROM.map(str::to_owned).to_vec();
        }
        Loop::spawn(options, inbox, started)?;
        let running = ready.await.map_err(|_| NetworkError::Closed)??;
        let (network, inbound) = Self::of(running, commands);
        if asking {
            // Without a listener holes cannot be punched; everything else works.
            if let Err(error) = network.set_listening(listen, mdns).await {
                tracing::warn!(%error, "no port could be opened to ask from");
            }
        } else if mdns || !listen.is_empty() {
            network.set_listening(listen, mdns).await?;
        }
        Ok((network, inbound))
    }

    /// The handle on a loop that was made.
    pub(crate) fn of(running: Running, commands: mpsc::Sender<Command>) -> (Self, Inbound) {
        let network = Self {
            peer_id: running.peer_id,
            commands,
            status: running.status,
            known: running.known,
            log: running.log,
        };
        (network, running.inbound)
    }

    /// Who this node is.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Listeners, peers and counters, as one snapshot that changes as they do.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<NetworkStatus> {
        self.status.clone()
    }

    /// Makes the set of listeners equal to `listen` and turns multicast DNS on or off. Listeners that are already open for the
    /// same text stay open. Empty: nothing listens any more, published offers are withdrawn, connected peers are told, and this
    /// node answers no more routing queries.
    ///
    /// Returns the addresses another computer can dial, each with `/p2p/…`; `0.0.0.0` and `::` are expanded to the addresses of
    /// the interfaces.
    ///
    /// # Errors
    /// [`NetworkError::NotAnAddress`] and [`NetworkError::UnsupportedAddress`] before anything is changed;
    /// [`NetworkError::Listen`] when not one of the addresses could be opened.
    pub async fn set_listening(
        &self,
        listen: Vec<String>,
        mdns: bool,
    ) -> Result<Vec<String>, NetworkError> {
        self.ask(|reply| Command::SetListening {
            listen,
            mdns,
            reply,
        })
        .await?
    }

    /// Connects and waits until the peer has said which protocols it speaks; at most ten seconds. A peer that is already
    /// connected is returned at once.
    ///
    /// `addr` is a multiaddr with or without `/p2p/…`, or the id of a peer whose address is known.
    ///
    /// # Errors
    /// One variant of [`NetworkError`] per reason: not an address, unsupported, own address, unknown peer, refused, turned away,
    /// unreachable, timeout, wrong peer, blocked, too many connections.
    pub async fn connect(&self, addr: &str) -> Result<PeerId, NetworkError> {
        let addr = addr.trim().to_owned();
        let ask = async |addr| self.ask(|reply| Command::Connect { addr, reply }).await?;
        for _ in 0..CIRCUIT_TRIES {
            let begun = Instant::now();
            match ask(addr.clone()).await {
                // libp2p gives a circuit up at once when its relay is just being dialled for another reason.
                Err(NetworkError::Unreachable { address, .. })
                    if address.contains("/p2p-circuit") && begun.elapsed() < CIRCUIT_AGAIN =>
                {
                    tokio::time::sleep(CIRCUIT_AGAIN).await;
                }
                answer => return answer,
            }
        }
        ask(addr).await
    }

    /// Has another connection made to a peer that does not answer: if that succeeds, the ones before it are closed, and with
    /// them the streams on them. Until then, and if it fails, they stay as they are.
    ///
    /// # Errors
    /// As [`Network::connect`]; [`NetworkError::NotConnected`] where no address of it is known.
    pub async fn renew(&self, peer: &PeerId) -> Result<(), NetworkError> {
        let peer = *peer;
        self.ask(|reply| Command::Renew { peer, reply }).await?
    }

    /// Closes all connections to this peer. Streams on them end at once.
    pub async fn disconnect(&self, peer: &PeerId) {
        let peer = *peer;
        // A loop that is gone has no connections left.
        let _ = self.ask(|reply| Command::Disconnect { peer, reply }).await;
    }

    /// Refuses this peer from now on and closes its connections, or lets it in again. Not kept across a restart: the caller does.
    pub async fn set_blocked(&self, peer: &PeerId, blocked: bool) {
        let peer = *peer;
        let _ = self
            .ask(|reply| Command::SetBlocked {
                peer,
                blocked,
                reply,
            })
            .await;
    }

    /// Opens a stream of `/decentralgpt/infer/1` on the best connection to this peer: direct before relayed, QUIC before TCP,
    /// then the newest. At most five seconds.
    ///
    /// # Errors
    /// [`NetworkError::NotConnected`], [`NetworkError::Unsupported`], [`NetworkError::Timeout`], [`NetworkError::Broken`],
    /// [`NetworkError::Busy`].
    pub async fn open_job(&self, peer: &PeerId) -> Result<JobStream, NetworkError> {
        let peer = *peer;
        self.ask(|reply| Command::OpenJob { peer, reply }).await?
    }

    /// Asks this peer for its offers, and keeps what verifies (also those of others that it relays) in the cache. Returns the
    /// peer's own ones.
    ///
    /// # Errors
    /// [`NetworkError::NotConnected`], [`NetworkError::Unsupported`], [`NetworkError::Timeout`], [`NetworkError::Broken`],
    /// [`NetworkError::Malformed`], [`NetworkError::Busy`]. A forged or expired offer is no error: it is dropped and counted.
    pub async fn offers(&self, peer: &PeerId) -> Result<Vec<Offer>, NetworkError> {
        let peer = *peer;
        self.ask(|reply| Command::PullOffers { peer, reply })
            .await?
    }

    /// What this node publishes from now on, in place of what it published before. Connected peers are told that something
    /// changed, and pull. Empty: nothing is offered.
    pub async fn set_offers(&self, offers: Vec<SignedEnvelope>) {
        let _ = self.ask(|reply| Command::SetOffers { offers, reply }).await;
    }

    /// Those of these peers that are connected, or of whom an address is known: nobody else can be asked for anything.
    pub async fn within_reach(&self, peers: Vec<PeerId>) -> Vec<PeerId> {
        // A loop that is gone reaches nobody.
        self.ask(|reply| Command::WithinReach { peers, reply })
            .await
            .unwrap_or_default()
    }

    /// Every offer in the cache that has not expired, own ones excepted, in no particular order.
    #[must_use]
    pub fn known_offers(&self) -> Vec<VerifiedOffer> {
        let now = crate::peers::unix_ms();
        match self.known.read() {
            Ok(known) => known
                .iter()
                .filter(|known| !known.expired(now))
                .cloned()
                .collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Looks for offers of this model (`None`: of any), and hands over each as soon as it is known and verified: first those in the
    /// cache, then what connected peers tell, then what providers answer whom the Kademlia table names. The stream ends when
    /// `enough` came, when nobody is left to ask, or after 40 s; dropping it ends the search.
    ///
    /// Each provider's offer comes once. Who expects many reads along: at most 64 wait.
    pub async fn find_offers(
        &self,
        model: Option<ModelDigest>,
        enough: usize,
    ) -> mpsc::Receiver<VerifiedOffer> {
        let (out, found) = mpsc::channel(FOUND_QUEUE);
        let command = Command::FindOffers { model, enough, out };
        // A loop that is gone finds nothing: the stream ends at once.
        let _ = self.commands.send(command).await;
        found
    }

    /// Fetches the head of a model file from a peer, in chunks, and returns it if and only if its SHA-256 and length are those
    /// of `model`. A peer that has too much to do is asked again for a few seconds; one that sends less than 16 KiB a second is
    /// left, later by what `progress` allows. The bytes that are here are told to it.
    ///
    /// # Errors
    /// [`NetworkError::HeadTooLarge`] before anything is sent, [`NetworkError::HeadNotHeld`], [`NetworkError::HeadDigest`],
    /// [`NetworkError::HeadTooSlow`], and those of a request that fails.
    pub async fn fetch_head(
        &self,
        peer: &PeerId,
        model: &ModelRef,
        progress: &HeadProgress,
    ) -> Result<Vec<u8>, NetworkError> {
        let (peer, digest) = (*peer, model.digest);
        let ask = |offset| async move {
            let command = |reply| Command::HeadPiece {
                peer,
                model: digest,
                offset,
                reply,
            };
            self.ask(command).await?
        };
        heads::fetch(peer, model, ask, heads::slowest, progress).await
    }

    /// Asks a connected provider what a job would cost and when its first token would come; at most two seconds. The quote is
    /// signed by the peer, answers this very request, and has not expired.
    ///
    /// # Errors
    /// [`NetworkError::NotConnected`], [`NetworkError::Unsupported`], [`NetworkError::Timeout`], [`NetworkError::Broken`] (also
    /// of a provider that does not want the job), [`NetworkError::Malformed`], [`NetworkError::Busy`].
    pub async fn quote(
        &self,
        peer: &PeerId,
        request: &QuoteRequest,
    ) -> Result<Quote, NetworkError> {
        let (peer, request) = (*peer, request.clone());
        self.ask(|reply| Command::Quote {
            peer,
            request,
            reply,
        })
        .await?
    }

    /// What happened to connections lately, the oldest first; some hundred entries.
    #[must_use]
    pub fn log(&self) -> Vec<ConnectionEvent> {
        self.log.entries()
    }

    /// This computer woke up: every connection is taken for lost, and what was connected is dialled again. The network notices a
    /// sleep by its clocks within a second; this is for a shell that is told by the system.
    pub async fn wake(&self) {
        let _ = self.ask(|reply| Command::Wake { reply }).await;
    }

    /// The interfaces of this computer changed: connections whose way out is another one now are closed and dialled again, and what
    /// was found out about being reached is found out anew. The network watches the interfaces by itself.
    pub async fn network_changed(&self) {
        let _ = self.ask(|reply| Command::NetworkChanged { reply }).await;
    }

    /// Closes all connections politely (one second at most), then ends the loop. Later calls answer [`NetworkError::Closed`].
    pub async fn shutdown(&self) {
        let _ = tokio::time::timeout(SHUTDOWN_WAIT, self.ask(|reply| Command::Shutdown { reply }))
            .await;
    }

    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, NetworkError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| NetworkError::Closed)?;
        answer.await.map_err(|_| NetworkError::Closed)
    }
}
