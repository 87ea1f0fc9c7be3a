//! How bytes get from here to a peer: QUIC, or TCP with Noise and Yamux, or either through a relay; and the gate that keeps them
//! within what the policy allows.
//!
//! The gate is the lowest thing in the stack on purpose: whoever wishes to dial, from a person to a stranger's entry in a table,
//! passes it, and what it refuses sends no packet.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{
        muxing::StreamMuxerBox,
        transport::{
            Boxed, DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent,
            timeout::TransportTimeout,
        },
        upgrade::Version,
    },
    identity::Keypair,
    noise, quic, relay, tcp,
};

use crate::{
    address::{self, Transport as Line},
    error::NetworkError,
    linger::Lingering,
    mux::Yamux,
    reach::ReachMode,
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
    /// How long something may take by the system's clock, if it may take so long by the clock of the lines.
    pub(crate) fn patience(&self, by_the_lines: Duration) -> Duration {
        match self {
            Self::System => by_the_lines,
            // The system's clock says nothing here: a busy machine computes for minutes what takes a moment.
            #[cfg(feature = "lab")]
            Self::Wires(_) => by_the_lines.max(Duration::from_secs(60 * 60)),
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
            listens: HashMap::new(),
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

/// Whether a dial to `remote` may leave from a listener's port. Over QUIC the library takes any listener of the address's family,
/// whatever it is bound to: from the loopback no packet gets out of this computer, and of several interfaces one leads there. Over TCP,
/// and within this computer, it looks for itself.
pub(crate) fn may_reuse<'a>(
    listens: impl Iterator<Item = &'a Multiaddr>,
    remote: &Multiaddr,
) -> bool {
    let Some(ip) = address::ip(remote).filter(|_| Line::of(remote) == Line::Quic) else {
        return true;
    };
    if ip.is_loopback() {
        return true;
    }
    let bound: BTreeSet<_> = listens
        .filter(|listen| Line::of(listen) == Line::Quic)
        .filter_map(address::ip)
        .filter(|bound| bound.is_ipv4() == ip.is_ipv4() && !bound.is_unspecified())
        .collect();
    bound.len() <= 1 && !bound.iter().any(IpAddr::is_loopback)
}

/// Lets through what the mode allows, from a port that leads there.
struct Gate<T> {
    inner: T,
    mode: ReachMode,
    /// What was asked to be listened on.
    listens: HashMap<ListenerId, Multiaddr>,
}

fn refused(address: &Multiaddr) -> TransportError<io::Error> {
    TransportError::Other(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{address} is outside of what the settings allow to be reached"),
    ))
}

impl<T: Transport<Error = io::Error> + Unpin> Transport for Gate<T> {
    type Output = T::Output;
    type Error = io::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        if !self.mode.may_listen(&address) {
            return Err(refused(&address));
        }
        self.inner.listen_on(id, address.clone())?;
        self.listens.insert(id, address);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listens.remove(&id);
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        if !self.mode.may_dial(&address) {
            return Err(refused(&address));
        }
        let port_use = match options.port_use {
            PortUse::Reuse if may_reuse(self.listens.values(), &address) => PortUse::Reuse,
            PortUse::Reuse | PortUse::New => PortUse::New,
        };
        self.inner.dial(
            address,
            DialOpts {
                port_use,
                ..options
            },
        )
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let polled = Pin::new(&mut self.inner).poll(cx);
        if let Poll::Ready(TransportEvent::ListenerClosed { listener_id, .. }) = &polled {
            self.listens.remove(listener_id);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::{Endpoint, transport::dummy::DummyStream};

    use super::*;

    /// Notes from which ports it was to dial.
    #[derive(Default)]
    struct Noted(Vec<PortUse>);

    impl Transport for Noted {
        type Output = DummyStream;
        type Error = io::Error;
        type ListenerUpgrade = std::future::Pending<io::Result<DummyStream>>;
        type Dial = std::future::Pending<io::Result<DummyStream>>;

        fn listen_on(
            &mut self,
            _: ListenerId,
            _: Multiaddr,
        ) -> Result<(), TransportError<io::Error>> {
            Ok(())
        }

        fn remove_listener(&mut self, _: ListenerId) -> bool {
            true
        }

        fn dial(
            &mut self,
            _: Multiaddr,
            options: DialOpts,
        ) -> Result<Self::Dial, TransportError<io::Error>> {
            self.0.push(options.port_use);
            Ok(std::future::pending())
        }

        fn poll(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
            Poll::Pending
        }
    }

    fn from_which_port(listens: &[&str], to: &str) -> PortUse {
        let mut gate = Gate {
            inner: Noted::default(),
            mode: ReachMode::Internet,
            listens: HashMap::new(),
        };
        for listen in listens {
            gate.listen_on(ListenerId::next(), listen.parse().unwrap())
                .unwrap();
        }
        let options = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        drop(gate.dial(to.parse().unwrap(), options).unwrap());
        gate.inner.0[0]
    }

    #[test]
    fn a_listener_that_does_not_lead_there_is_not_dialled_from() {
        let outside = "/ip4/192.0.2.1/udp/4001/quic-v1";
        let near = "/ip4/127.0.0.1/udp/4001/quic-v1";
        let everywhere = "/ip4/0.0.0.0/udp/0/quic-v1";
        let (home, office) = (
            "/ip4/192.168.1.5/udp/0/quic-v1",
            "/ip4/10.0.0.5/udp/0/quic-v1",
        );
        let cases: [(&[&str], &str, PortUse); 10] = [
            (&[near], outside, PortUse::New),
            (&[near, everywhere], outside, PortUse::New),
            (&[near], near, PortUse::Reuse),
            (&[everywhere], outside, PortUse::Reuse),
            (&[home], outside, PortUse::Reuse),
            (&[home, office], outside, PortUse::New),
            (&["/ip6/::1/udp/0/quic-v1"], outside, PortUse::Reuse),
            (&["/ip4/127.0.0.1/tcp/1"], outside, PortUse::Reuse),
            (&[near], "/ip4/192.0.2.1/tcp/4001", PortUse::Reuse),
            (&[], outside, PortUse::Reuse),
        ];
        for (listens, to, port) in cases {
            assert_eq!(from_which_port(listens, to), port, "{listens:?} to {to}");
        }
    }

    #[test]
    fn a_listener_that_closed_binds_nobody() {
        let mut gate = Gate {
            inner: Noted::default(),
            mode: ReachMode::Internet,
            listens: HashMap::new(),
        };
        let id = ListenerId::next();
        gate.listen_on(id, "/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap())
            .unwrap();
        gate.remove_listener(id);
        let options = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        drop(gate.dial("/ip4/192.0.2.1/udp/1/quic-v1".parse().unwrap(), options));
        assert_eq!(gate.inner.0, [PortUse::Reuse]);
    }
}
