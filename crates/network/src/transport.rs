//! How bytes get from here to a peer: QUIC, or TCP with Noise and Yamux, or either through a relay; and the gate that keeps them
//! within what the policy allows.
//!
//! The gate is the lowest thing in the stack on purpose: whoever wishes to dial, from a person to a stranger's entry in a table,
//! passes it, and what it refuses sends no packet.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{
        muxing::StreamMuxerBox,
        transport::{
            Boxed, DialOpts, ListenerId, Transport, TransportError, TransportEvent,
            timeout::TransportTimeout,
        },
        upgrade::Version,
    },
    identity::Keypair,
    noise, quic, relay, tcp,
};

use crate::{
    error::NetworkError, linger::Lingering, mux::Yamux, providers, reach::ReachMode,
    traffic::Traffic,
};

/// Streams of one connection at a time, of all protocols together; a job takes one, a search a few.
const STREAMS: usize = 64;
const YAMUX: Yamux = Yamux { streams: STREAMS };
/// Bytes under way on one QUIC stream and on one connection: a job needs kilobytes, a head a piece of 256 KiB at a time.
const QUIC_STREAM_WINDOW: u32 = 2_000_000;
const QUIC_CONNECTION_WINDOW: u32 = 4_000_000;
/// A handshake that takes longer fails.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What carries bytes to a peer without a relay in between.
#[derive(Debug, Default)]
pub(crate) enum Lines {
    /// This computer's network.
    #[default]
    System,
    /// Wires inside this process.
    #[cfg(feature = "lab")]
    Wires(crate::lab::Wire),
}

impl Lines {
    /// How long a walk through the routing table may take, by the system's clock.
    pub(crate) fn query(&self) -> Duration {
        match self {
            Self::System => providers::QUERY,
            // The system's clock says nothing here.
            #[cfg(feature = "lab")]
            Self::Wires(_) => Duration::from_secs(60 * 60),
        }
    }
}

/// The whole stack, and the behaviour that its relayed part needs in the swarm.
pub(crate) fn build(
    keypair: &Keypair,
    mode: ReachMode,
    traffic: &Traffic,
    lines: Lines,
) -> Result<(Boxed<(PeerId, StreamMuxerBox)>, relay::client::Behaviour), NetworkError> {
    let (relayed, client) = relay::client::new(keypair.public().to_peer_id());
    let relayed = relayed
        .upgrade(Version::V1Lazy)
        .authenticate(noise(keypair)?)
        .multiplex(YAMUX);

    let count = |traffic: &Traffic| {
        let traffic = traffic.clone();
        move |peer, muxer: StreamMuxerBox| {
            let muxer = Lingering(traffic.counted(peer, muxer));
            (peer, StreamMuxerBox::new(muxer))
        }
    };
    let (count_direct, count_relayed) = (count(traffic), count(traffic));
    let direct = match lines {
        Lines::System => system(keypair)?,
        #[cfg(feature = "lab")]
        Lines::Wires(wire) => wire.boxed(),
    };
    let direct = direct.map(move |(peer, muxer), _| count_direct(peer, muxer));
    let relayed =
        relayed.map(move |(peer, muxer), _| count_relayed(peer, StreamMuxerBox::new(muxer)));
    let stack = relayed
        .or_transport(Gate {
            inner: direct.boxed(),
            mode,
        })
        .map(|either, _| either.into_inner());
    Ok((TransportTimeout::new(stack, HANDSHAKE).boxed(), client))
}

/// QUIC and TCP.
fn system(keypair: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetworkError> {
    // One round trip less for each of the two negotiations that TCP needs.
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise(keypair)?)
        .multiplex(YAMUX);
    let quic = quic::tokio::Transport::new({
        let mut config = quic::Config::new(keypair);
        config.max_concurrent_stream_limit = STREAMS as u32;
        config.max_stream_data = QUIC_STREAM_WINDOW;
        config.max_connection_data = QUIC_CONNECTION_WINDOW;
        config
    });
    let direct = quic
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .or_transport(tcp.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))))
        .map(|either, _| either.into_inner());
    Ok(direct.boxed())
}

fn noise(keypair: &Keypair) -> Result<noise::Config, NetworkError> {
    noise::Config::new(keypair).map_err(|error| NetworkError::Start {
        reason: error.to_string(),
    })
}

/// Lets through what the mode allows.
struct Gate {
    inner: Boxed<(PeerId, StreamMuxerBox)>,
    mode: ReachMode,
}

impl Gate {
    fn refused(address: &Multiaddr) -> TransportError<io::Error> {
        TransportError::Other(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{address} is outside of what the settings allow to be reached"),
        ))
    }
}

impl Transport for Gate {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = <Boxed<Self::Output> as Transport>::ListenerUpgrade;
    type Dial = <Boxed<Self::Output> as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        if !self.mode.may_listen(&address) {
            return Err(Self::refused(&address));
        }
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        if !self.mode.may_dial(&address) {
            return Err(Self::refused(&address));
        }
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
