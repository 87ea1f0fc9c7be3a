//! Entrances for the lab: decisions of the routing table as plain calls, and whole nodes by the hundred in one process.
//!
//! A node that [`start`] makes is the product's, with every protocol and limit of it, over [`Wires`] instead of this computer's
//! network. Four things differ: whom its routing table names is said by [`know`], and nobody else enters it; nobody tries whether a node is
//! reached, since there are no routers; the memory of the process, in which many share, turns nobody away; and bytes and searches live in
//! the time of a [`Clock`]. So a simulation of the same scenario can be held against it.

mod clock;
mod plain;
mod wires;

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use libp2p::{
    Multiaddr,
    kad::{self, InboundRequest},
};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::wires::Wire;
pub use self::{
    clock::{Clock, Sleep},
    plain::{
        CONNECTIONS_OUT, DIALS_OUT, Key, QUERY, SAID_AGAIN, Search, Store, address, keys_of,
        keys_today, peer_of, place_of, place_of_key,
    },
    wires::Wires,
};
use crate::{
    Inbound, Network, NetworkError, NetworkOptions, handle, identity, swarm, swarm::Loop,
    transport::Lines,
};

/// Requests of the routing table that a node was asked by others.
#[derive(Debug, Default)]
pub struct Counts {
    /// For the nearest nodes to a key.
    pub find_node: AtomicU64,
    /// For the providers of a key.
    pub get_providers: AtomicU64,
    /// To keep a record.
    pub add_provider: AtomicU64,
}

impl Counts {
    /// Everything together.
    #[must_use]
    pub fn all(&self) -> u64 {
        [&self.find_node, &self.get_providers, &self.add_provider]
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }
}

/// What a node of the lab has besides.
#[derive(Debug, Default)]
pub(crate) struct Lab {
    counts: Arc<Counts>,
    clock: Option<Clock>,
    /// It takes records and forgets them: an attacker.
    pub(crate) forgets: bool,
}

impl Lab {
    /// The time of walks and searches.
    pub(crate) fn now(&self) -> Option<Instant> {
        self.clock.as_ref().map(Clock::instant)
    }

    pub(crate) fn count(&self, event: &kad::Event) {
        let kad::Event::InboundRequest { request } = event else {
            return;
        };
        let count = match request {
            InboundRequest::FindNode { .. } => &self.counts.find_node,
            InboundRequest::GetProvider { .. } => &self.counts.get_providers,
            InboundRequest::AddProvider { .. } => &self.counts.add_provider,
            InboundRequest::GetRecord { .. } | InboundRequest::PutRecord { .. } => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the lab asks a loop to do.
#[derive(Debug)]
pub(crate) enum Command {
    Begin(Lab, oneshot::Sender<()>),
    Know(Vec<(libp2p::PeerId, Multiaddr)>, oneshot::Sender<usize>),
    Tick(oneshot::Sender<()>),
}

/// Starts a node on the current runtime. It listens at an address that [`Wires::place`] was told of.
///
/// # Errors
/// [`NetworkError`], as of [`Network::start`].
pub async fn start(
    wires: &Wires,
    options: NetworkOptions,
    address: Ipv4Addr,
    forgets: bool,
) -> Result<(Network, Inbound, Arc<Counts>), NetworkError> {
    let local = identity::keypair(options.signer_seed)?
        .public()
        .to_peer_id();
    let (commands, inbox) = mpsc::channel(handle::COMMAND_QUEUE);
    let lines = Lines::Wires(wires.transport(local, address));
    let (swarm_loop, running) = Loop::new(options, inbox, lines)?;
    tokio::spawn(swarm_loop.run());
    let (network, inbound) = Network::of(running, commands);
    let counts = Arc::new(Counts::default());
    let lab = Lab {
        counts: Arc::clone(&counts),
        clock: Some(wires.clock.clone()),
        forgets,
    };
    network
        .ask(|reply| swarm::Command::Lab(Command::Begin(lab, reply)))
        .await?;
    let listen = vec![wires::multiaddr(address).to_string()];
    network.set_listening(listen, false).await?;
    Ok((network, inbound, counts))
}

/// Puts peers into a node's routing table, as far as it takes them, and nobody else from then on. How many it took.
///
/// # Errors
/// [`NetworkError::Closed`] when the node has ended.
pub async fn know(
    network: &Network,
    peers: &[(protocol::PeerId, Ipv4Addr)],
) -> Result<usize, NetworkError> {
    let known = peers
        .iter()
        .filter_map(|(peer, address)| {
            Some((identity::to_libp2p(peer)?, wires::multiaddr(*address)))
        })
        .collect();
    network
        .ask(|reply| swarm::Command::Lab(Command::Know(known, reply)))
        .await
}

/// Has a node look at its walks and searches, as each second does.
///
/// # Errors
/// [`NetworkError::Closed`] when the node has ended.
pub async fn tick(network: &Network) -> Result<(), NetworkError> {
    network
        .ask(|reply| swarm::Command::Lab(Command::Tick(reply)))
        .await
}
