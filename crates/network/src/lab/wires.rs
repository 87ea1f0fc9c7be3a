//! A transport inside one process, in a time of its own: connections between nodes at IPv4 addresses that no system knows, with the delay
//! of a real network and nothing else of one.
//!
//! A dial takes one round trip, as QUIC's; streams are pipes of their own; an address where nobody is takes as long to fail as a
//! handshake may.

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures::{AsyncRead, AsyncWrite, FutureExt, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent},
        transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    },
    multiaddr::Protocol,
};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::clock::{Clock, Sleep};

/// How long a dial to nobody takes: the product's patience with a handshake.
const NOBODY: Duration = Duration::from_secs(10);
/// Pieces under way on one stream.
const PIECES: usize = 64;
/// Connections that wait to be accepted, and streams of one connection.
const WAITING: usize = 256;
/// The port of every node: the address alone tells them apart.
const PORT: u16 = 4001;

/// What connects the nodes of one process.
#[derive(Clone, Debug, Default)]
pub struct Wires {
    /// In whose time bytes travel.
    pub clock: Clock,
    places: Arc<Mutex<HashMap<Ipv4Addr, Place>>>,
}

#[derive(Debug)]
struct Place {
    delay: Duration,
    /// Who listens there.
    listener: Option<(PeerId, mpsc::Sender<Arrival>)>,
}

#[derive(Debug)]
struct Arrival {
    from: Ipv4Addr,
    peer: PeerId,
    connection: Connection,
}

impl Wires {
    /// Without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How far an address is from the middle, one way. An address that nobody listens on is told as well: it is how far its
    /// silence is.
    pub fn place(&self, address: Ipv4Addr, delay: Duration) {
        let place = Place {
            delay,
            listener: None,
        };
        self.lock().insert(address, place);
    }

    pub(super) fn transport(&self, peer: PeerId, address: Ipv4Addr) -> Wire {
        Wire {
            wires: self.clone(),
            peer,
            address,
            listening: None,
            announced: false,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Ipv4Addr, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delay(&self, address: Ipv4Addr) -> Duration {
        self.lock()
            .get(&address)
            .map_or(Duration::ZERO, |place| place.delay)
    }
}

/// The address of a node.
pub(super) fn multiaddr(address: Ipv4Addr) -> Multiaddr {
    Multiaddr::from(address).with(Protocol::Tcp(PORT))
}

/// One node's end of the wires.
#[derive(Debug)]
pub(crate) struct Wire {
    wires: Wires,
    peer: PeerId,
    address: Ipv4Addr,
    listening: Option<(ListenerId, mpsc::Receiver<Arrival>)>,
    announced: bool,
}

type Connected = (PeerId, StreamMuxerBox);

impl Transport for Wire {
    type Output = Connected;
    type Error = io::Error;
    type ListenerUpgrade = std::future::Ready<io::Result<Connected>>;
    type Dial = BoxFuture<'static, io::Result<Connected>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        if address != multiaddr(self.address) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        let (sender, arrivals) = mpsc::channel(WAITING);
        if let Some(place) = self.wires.lock().get_mut(&self.address) {
            place.listener = Some((self.peer, sender));
        }
        self.listening = Some((id, arrivals));
        Ok(())
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        if let Some(place) = self.wires.lock().get_mut(&self.address) {
            place.listener = None;
        }
        self.listening.take().is_some()
    }

    fn dial(
        &mut self,
        to: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(Protocol::Ip4(there)) = to.iter().next() else {
            return Err(TransportError::MultiaddrNotSupported(to));
        };
        let (wires, peer, from) = (self.wires.clone(), self.peer, self.address);
        let way = wires.delay(from) + wires.delay(there);
        let dial = async move {
            wires.clock.sleep(2 * way).await;
            let listener = wires
                .lock()
                .get(&there)
                .and_then(|place| place.listener.clone());
            let Some((listening, arrivals)) = listener else {
                wires.clock.sleep(NOBODY.saturating_sub(2 * way)).await;
                return Err(io::ErrorKind::TimedOut.into());
            };
            let (here, connection) = Connection::pair(&wires.clock, way);
            let arrival = Arrival {
                from,
                peer,
                connection,
            };
            arrivals
                .try_send(arrival)
                .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok((listening, StreamMuxerBox::new(here)))
        };
        Ok(dial.boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let address = self.address;
        let announced = std::mem::replace(&mut self.announced, true);
        let Some((listener_id, arrivals)) = &mut self.listening else {
            self.announced = false;
            return Poll::Pending;
        };
        let listener_id = *listener_id;
        if !announced {
            return Poll::Ready(TransportEvent::NewAddress {
                listener_id,
                listen_addr: multiaddr(address),
            });
        }
        let Some(arrival) = ready!(arrivals.poll_recv(cx)) else {
            return Poll::Pending;
        };
        Poll::Ready(TransportEvent::Incoming {
            listener_id,
            upgrade: std::future::ready(Ok((
                arrival.peer,
                StreamMuxerBox::new(arrival.connection),
            ))),
            local_addr: multiaddr(address),
            send_back_addr: multiaddr(arrival.from),
        })
    }
}

/// One end of a connection: each stream is a pipe of its own.
#[derive(Debug)]
struct Connection {
    clock: Clock,
    way: Duration,
    opened: mpsc::Sender<Pipe>,
    incoming: mpsc::Receiver<Pipe>,
}

impl Connection {
    fn pair(clock: &Clock, way: Duration) -> (Self, Self) {
        let (here, from_there) = mpsc::channel(WAITING);
        let (there, from_here) = mpsc::channel(WAITING);
        let end = |opened, incoming| Self {
            clock: clock.clone(),
            way,
            opened,
            incoming,
        };
        (end(there, from_there), end(here, from_here))
    }
}

impl StreamMuxer for Connection {
    type Substream = Pipe;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Pipe>> {
        let pipe = ready!(self.incoming.poll_recv(cx));
        Poll::Ready(pipe.ok_or_else(|| io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Pipe>> {
        let (here, there) = Pipe::pair(&self.clock, self.way);
        let opened = self.opened.try_send(there);
        Poll::Ready(
            opened
                .map(|()| here)
                .map_err(|_| io::ErrorKind::ConnectionReset.into()),
        )
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.incoming.close();
        Poll::Ready(Ok(()))
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, io::Error>> {
        Poll::Pending
    }
}

/// One end of a stream. What is written arrives after the way's delay, in order.
#[derive(Debug)]
struct Pipe {
    clock: Clock,
    way: Duration,
    out: PollSender<(Duration, Bytes)>,
    incoming: mpsc::Receiver<(Duration, Bytes)>,
    here: Bytes,
    on_its_way: Option<(Sleep, Bytes)>,
}

impl Pipe {
    fn pair(clock: &Clock, way: Duration) -> (Self, Self) {
        let (here, from_there) = mpsc::channel(PIECES);
        let (there, from_here) = mpsc::channel(PIECES);
        let end = |out, incoming| Self {
            clock: clock.clone(),
            way,
            out: PollSender::new(out),
            incoming,
            here: Bytes::new(),
            on_its_way: None,
        };
        (end(there, from_there), end(here, from_here))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        while self.here.is_empty() {
            if let Some((due, _)) = &mut self.on_its_way {
                ready!(due.poll_unpin(cx));
                if let Some((_, piece)) = self.on_its_way.take() {
                    self.here = piece;
                }
                continue;
            }
            match ready!(self.incoming.poll_recv(cx)) {
                Some((due, piece)) => {
                    let due = self.clock.sleep_until(due);
                    self.on_its_way = Some((due, piece));
                }
                None => return Poll::Ready(Ok(0)),
            }
        }
        let length = buffer.len().min(self.here.len());
        self.here.copy_to_slice(&mut buffer[..length]);
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.out.poll_reserve(cx)).map_err(gone)?;
        let piece = (self.clock.now() + self.way, Bytes::copy_from_slice(bytes));
        self.out.send_item(piece).map_err(gone)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.out.close();
        Poll::Ready(Ok(()))
    }
}
