//! Which protocols run on every connection.

use std::time::Duration;

use libp2p::{
    Swarm, allow_block_list, autonat, connection_limits,
    core::upgrade::Version,
    dcutr, identify,
    identity::Keypair,
    ping, relay,
    swarm::{self, NetworkBehaviour, behaviour::toggle::Toggle},
    upnp,
};

use crate::{
    admission::{self, Admission},
    error::NetworkError,
    guard::{Guard, Rule},
    limits::JobSlots,
    messages::{self, Exchange, Heads, Offers, Quotes},
    neighbours::Neighbours,
    providers::{self, Kad},
    reach::{ReachMode, ReachPolicy, RelayServer, Role},
    relay::{Speakers, server},
    streams,
    traffic::Traffic,
    transport::{self, Lines},
};

/// What identify calls the family of protocols. Nobody is judged by it: who is of this network shows in what it speaks.
const PROTOCOL_VERSION: &str = "decentralgpt/1";
/// A connection that carries nothing is closed after that: a chat has pauses of a minute.
const IDLE: Duration = Duration::from_secs(120);
/// Ping's rhythm and patience: a peer that stands still (a stopped process, a closed lid) is noticed in under a minute.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection that have not said their protocol yet.
const NEGOTIATING: usize = 32;
/// Characters of the name that this node shows.
const AGENT: usize = 64;
/// How often addresses that were not tried yet are given to others to try.
const PROBE: Duration = Duration::from_secs(2);

/// In this order, since one that denies a connection leaves state in those before it.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) admission: Admission,
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) autonat: Toggle<Guard<autonat::v2::client::Behaviour>>,
    pub(crate) autonat_server: Toggle<Guard<autonat::v2::server::Behaviour>>,
    pub(crate) relay_client: relay::client::Behaviour,
    pub(crate) relay_server: Toggle<relay::Behaviour>,
    pub(crate) dcutr: Toggle<Guard<dcutr::Behaviour>>,
    pub(crate) upnp: Toggle<upnp::tokio::Behaviour>,
    pub(crate) mdns: Toggle<Neighbours>,
    pub(crate) kad: Kad,
    pub(crate) offers: messages::Behaviour<Offers>,
    pub(crate) heads: messages::Behaviour<Heads>,
    pub(crate) quotes: messages::Behaviour<Quotes>,
    pub(crate) streams: streams::Behaviour,
}

/// What the swarm shares with the loop.
pub(crate) struct Parts<'a> {
    pub(crate) agent: &'a str,
    pub(crate) policy: ReachPolicy,
    pub(crate) role: Role,
    pub(crate) traffic: &'a Traffic,
    pub(crate) jobs: &'a JobSlots,
    pub(crate) speakers: &'a Speakers,
}

/// A swarm that listens nowhere yet. Must be called, and polled, inside a tokio runtime.
pub(crate) fn swarm(
    keypair: &Keypair,
    parts: &Parts<'_>,
    lines: Lines,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let local = keypair.public().to_peer_id();
    let (query, request) = (
        lines.patience(providers::FORGOTTEN),
        lines.patience(providers::REQUEST),
    );
    let exchanges =
        [Offers::TIMEOUT, Heads::TIMEOUT, Quotes::TIMEOUT].map(|limit| lines.patience(limit));
    let [offers, heads, quotes] = exchanges;
    let idle = lines.patience(IDLE);
    let (ping_every, ping_timeout) = (lines.patience(PING_EVERY), lines.patience(PING_TIMEOUT));
    let Parts { policy, role, .. } = *parts;
    let (transport, relay_client) = transport::build(keypair, policy.mode, parts.traffic, lines)?;
    let identify = identify::Config::new(PROTOCOL_VERSION.to_owned(), keypair.public())
        .with_agent_version(parts.agent.chars().take(AGENT).collect())
        // Addresses of this home would travel to everybody: offers name those that may be told.
        .with_hide_listen_addrs(true)
        // Addresses that peers tell are kept in our own book, behind its own gate.
        .with_cache_size(0);
    // In a local network there is nothing outside to be found out or got through.
    let outside = policy.mode != ReachMode::LanOnly;
    let serves = role == Role::Serving;
    let relays = serves && outside && policy.relay_server != RelayServer::Off;
    let behaviour = Behaviour {
        admission: Admission::new(policy.mode, role, parts.traffic.clone(), parts.jobs.clone()),
        limits: connection_limits::Behaviour::new(admission::connections()),
        blocked: allow_block_list::Behaviour::default(),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(
            ping::Config::new()
                .with_interval(ping_every)
                .with_timeout(ping_timeout),
        ),
        autonat: Toggle::from(
            (serves && outside)
                .then(|| Guard::new(prober(), policy.mode, Rule::Public).asking_seldom()),
        ),
        autonat_server: Toggle::from((serves && outside).then(|| {
            let server = autonat::v2::server::Behaviour::default();
            Guard::new(server, policy.mode, Rule::SameHost)
        })),
        relay_client,
        relay_server: Toggle::from(relays.then(|| server(local, parts.speakers))),
        dcutr: Toggle::from(
            (outside && policy.hole_punching)
                .then(|| Guard::new(dcutr::Behaviour::new(local), policy.mode, Rule::Public)),
        ),
        upnp: Toggle::from(None),
        mdns: Toggle::from(None),
        kad: Kad::new(local, query, request),
        offers: messages::behaviour(offers),
        heads: messages::behaviour(heads),
        quotes: messages::behaviour(quotes),
        streams: streams::Behaviour::default(),
    };
    let config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(idle)
        .with_max_negotiating_inbound_streams(NEGOTIATING)
        .with_smart_dial()
        // Saves each stream the round trip of naming its protocol. An open stream was therefore not confirmed yet: a peer
        // that does not speak the protocol, or stands still, shows when the first frame is read.
        .with_substream_upgrade_protocol_override(Version::V1Lazy);
    Ok(Swarm::new(transport, behaviour, local, config))
}

/// Asks others to try our addresses.
pub(crate) fn prober() -> autonat::v2::client::Behaviour {
    // One address at a time: each takes a connection of its own, and a peer has few.
    let config = autonat::v2::client::Config::default()
        .with_probe_interval(PROBE)
        .with_max_candidates(1);
    autonat::v2::client::Behaviour::new(rand::make_rng(), config)
}
