//! Which protocols run on every connection, and how bytes get there.

use std::time::Duration;

use libp2p::{
    Swarm, SwarmBuilder, allow_block_list, connection_limits,
    core::upgrade::Version,
    identify,
    identity::Keypair,
    mdns, noise, ping,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    tcp, yamux,
};

use crate::{
    error::NetworkError,
    limits::{self, PerAddress},
    messages::{self, Heads, Offers, Quotes},
    providers::Kad,
    streams,
};

/// Shown by identify; another network's peers are told apart by it.
const PROTOCOL_VERSION: &str = "decentralgpt/1";
/// A connection that carries nothing is closed after that: a chat has pauses of a minute.
const IDLE: Duration = Duration::from_secs(120);
/// Ping's rhythm and patience: a peer that stands still (a stopped process, a closed lid) is noticed in under a minute.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection at a time, of all protocols together; a job takes one, a search a few.
const STREAMS: usize = 64;
/// Streams of one connection that have not said their protocol yet.
const NEGOTIATING: usize = 32;
/// Bytes under way on one QUIC stream and on one connection: a job needs kilobytes, a head a piece of 256 KiB at a time.
const QUIC_STREAM_WINDOW: u32 = 2_000_000;
const QUIC_CONNECTION_WINDOW: u32 = 4_000_000;
/// A handshake that takes longer fails.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Characters of the name that this node shows.
const AGENT: usize = 64;

/// In this order, since one that denies a connection leaves state in those before it.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) per_address: PerAddress,
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(crate) kad: Kad,
    pub(crate) offers: messages::Behaviour<Offers>,
    pub(crate) heads: messages::Behaviour<Heads>,
    pub(crate) quotes: messages::Behaviour<Quotes>,
    pub(crate) streams: streams::Behaviour,
}

/// A swarm that listens nowhere yet. Must be called, and polled, inside a tokio runtime.
pub(crate) fn swarm(keypair: Keypair, agent: &str) -> Result<Swarm<Behaviour>, NetworkError> {
    let failed = |reason: String| NetworkError::Start { reason };
    let local = keypair.public().to_peer_id();
    let identify = identify::Config::new(PROTOCOL_VERSION.to_owned(), keypair.public())
        .with_agent_version(agent.chars().take(AGENT).collect())
        // Addresses of this home would travel to everybody: offers name those that may be told.
        .with_hide_listen_addrs(true)
        // Addresses that peers tell are kept in our own book, behind its own gate.
        .with_cache_size(0);
    let behaviour = Behaviour {
        per_address: PerAddress::new(),
        limits: connection_limits::Behaviour::new(limits::connections()),
        blocked: allow_block_list::Behaviour::default(),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(
            ping::Config::new()
                .with_interval(PING_EVERY)
                .with_timeout(PING_TIMEOUT),
        ),
        mdns: Toggle::from(None),
        kad: Kad::new(local),
        offers: messages::behaviour(),
        heads: messages::behaviour(),
        quotes: messages::behaviour(),
        streams: streams::Behaviour::default(),
    };
    let yamux = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS);
        config
    };
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            yamux,
        )
        .map_err(|error| failed(error.to_string()))?
        .with_quic_config(|mut config| {
            config.max_concurrent_stream_limit = STREAMS as u32;
            config.max_stream_data = QUIC_STREAM_WINDOW;
            config.max_connection_data = QUIC_CONNECTION_WINDOW;
            config
        })
        .with_behaviour(|_| behaviour)
        .map_err(|error| failed(error.to_string()))?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE)
                .with_max_negotiating_inbound_streams(NEGOTIATING)
                .with_smart_dial()
                // Saves each stream the round trip of naming its protocol. An open stream was therefore not confirmed yet: a peer
                // that does not speak the protocol, or stands still, shows when the first frame is read.
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
        })
        .with_connection_timeout(HANDSHAKE)
        .build();
    Ok(swarm)
}
