//! The behaviour that opens and accepts raw streams of `/decentralgpt/infer/1`.
//!
//! Owned by the swarm. It knows every connection of every peer, and opens on the best one: direct before relayed, QUIC before
//! TCP, then the newest. A connection that closes fails the opens that were under way on it and cancels the token that all of its
//! streams hold, so that a reader learns of it at once.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    io,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{ConnectedPoint, Endpoint, transport::PortUse, upgrade::ReadyUpgrade},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent,
        ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, StreamUpgradeError,
        SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};
use tokio_util::sync::CancellationToken;

use crate::{address::Transport, wire::JobStream};

/// What a job stream speaks.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/decentralgpt/infer/1");

/// A peer that has not agreed on the protocol by then is treated as gone: the client's other candidates wait on this.
pub(crate) const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Inbound streams that one connection may have handed up and the loop has not taken. Twice the 32 that may negotiate at once.
const HANDLER_QUEUE: usize = 64;

/// Opens asked for and not answered, on all connections. A person has a handful of answers running; a failover opens two.
pub(crate) const MAX_OPENS: usize = 64;

/// A stream that a peer opened, admitted by the limits, with its number of waiting jobs behind it.
#[derive(Debug)]
pub struct IncomingJob {
    /// The stream; the peer's `Open` frame is the first thing to read from it.
    pub stream: JobStream,
}

/// Names one call to [`Behaviour::open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OpenId(u64);

/// A negotiated stream and the connection it is on.
#[derive(Debug)]
pub(crate) struct RawStream {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) remote: Multiaddr,
    pub(crate) relayed: bool,
    pub(crate) stream: Stream,
    /// Cancelled when the connection closes.
    pub(crate) closed: CancellationToken,
}

/// Why no stream came of an open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("not connected")]
    NotConnected,
    #[error("no answer in time")]
    Timeout,
    #[error("the peer does not speak it")]
    Unsupported,
    #[error("the connection closed")]
    ConnectionClosed,
    #[error("{0}")]
    Io(io::Error),
    #[error("too many opens under way")]
    Busy,
}

/// What the loop hears.
#[derive(Debug)]
pub(crate) enum Event {
    /// A peer opened a stream.
    Inbound(RawStream),
    /// One of ours is open.
    Opened { id: OpenId, stream: RawStream },
    /// One of ours is not.
    Failed { id: OpenId, error: OpenError },
    /// A peer opened streams faster than they were taken; one was reset.
    Overflow { peer: PeerId },
}

#[derive(Debug)]
struct Link {
    connection: ConnectionId,
    remote: Multiaddr,
    relayed: bool,
    transport: Transport,
    closed: CancellationToken,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    /// Oldest connection first.
    links: HashMap<PeerId, Vec<Link>>,
    opens: HashMap<OpenId, (PeerId, ConnectionId)>,
    next: u64,
    events: VecDeque<ToSwarm<Event, OpenId>>,
}

impl Behaviour {
    /// Starts to open a stream; [`Event::Opened`] or [`Event::Failed`] follows.
    pub(crate) fn open(&mut self, peer: PeerId) -> Result<OpenId, OpenError> {
        if self.opens.len() >= MAX_OPENS {
            return Err(OpenError::Busy);
        }
        let links = self.links.get(&peer).ok_or(OpenError::NotConnected)?;
        let best = best_of(links.iter().map(|link| (link.relayed, link.transport)))
            .and_then(|at| links.get(at));
        let connection = best.ok_or(OpenError::NotConnected)?.connection;
        let id = OpenId(self.next);
        self.next += 1;
        self.opens.insert(id, (peer, connection));
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: id,
        });
        Ok(id)
    }

    fn add(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let relayed = endpoint.is_relayed();
        let remote = match endpoint {
            // All that is known of the other end is its relay, whose address is in front of our own.
            ConnectedPoint::Listener { local_addr, .. } if relayed => local_addr,
            ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
            ConnectedPoint::Dialer { address, .. } => address,
        };
        self.links.entry(peer).or_default().push(Link {
            connection,
            remote: remote.clone(),
            relayed,
            transport: Transport::of(remote),
            closed: CancellationToken::new(),
        });
    }

    fn remove(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(links) = self.links.get_mut(&peer) {
            links.retain(|link| {
                if link.connection == connection {
                    link.closed.cancel();
                }
                link.connection != connection
            });
            if links.is_empty() {
                self.links.remove(&peer);
            }
        }
        let events = &mut self.events;
        self.opens.retain(|id, (_, on)| {
            if *on == connection {
                events.push_back(ToSwarm::GenerateEvent(Event::Failed {
                    id: *id,
                    error: OpenError::ConnectionClosed,
                }));
            }
            *on != connection
        });
    }

    fn raw(&self, peer: PeerId, connection: ConnectionId, stream: Stream) -> Option<RawStream> {
        let link = self
            .links
            .get(&peer)?
            .iter()
            .find(|link| link.connection == connection)?;
        Some(RawStream {
            peer,
            connection,
            remote: link.remote.clone(),
            relayed: link.relayed,
            stream,
            closed: link.closed.clone(),
        })
    }
}

/// Which of the connections, oldest first and each given as (relayed, transport), a new stream goes to.
fn best_of(links: impl Iterator<Item = (bool, Transport)>) -> Option<usize> {
    links
        .enumerate()
        .max_by_key(|(age, (relayed, transport))| (!relayed, *transport == Transport::Quic, *age))
        .map(|(at, _)| at)
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionEstablished(established) = event {
            self.add(
                established.peer_id,
                established.connection_id,
                established.endpoint,
            );
        } else if let FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id,
            connection_id,
            ..
        }) = event
        {
            self.remove(peer_id, connection_id);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let event = match event {
            HandlerEvent::Inbound(stream) => self.raw(peer, connection, stream).map(Event::Inbound),
            HandlerEvent::Opened(id, stream) => {
                // An id that is gone was already answered with a failure: the late stream is dropped, which resets it.
                self.opens
                    .remove(&id)
                    .map(|_| match self.raw(peer, connection, stream) {
                        Some(stream) => Event::Opened { id, stream },
                        None => Event::Failed {
                            id,
                            error: OpenError::ConnectionClosed,
                        },
                    })
            }
            HandlerEvent::Failed(id, error) => {
                self.opens.remove(&id).map(|_| Event::Failed { id, error })
            }
            HandlerEvent::Overflow => Some(Event::Overflow { peer }),
        };
        self.events.extend(event.map(ToSwarm::GenerateEvent));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// What a connection's handler tells the behaviour.
#[derive(Debug)]
pub(crate) enum HandlerEvent {
    Inbound(Stream),
    Opened(OpenId, Stream),
    Failed(OpenId, OpenError),
    Overflow,
}

/// One per connection; holds nothing but what waits to be handed on.
#[derive(Debug, Default)]
pub(crate) struct Handler {
    opens: VecDeque<OpenId>,
    events: VecDeque<HandlerEvent>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenId;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = OpenId;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ()).with_timeout(OPEN_TIMEOUT)
    }

    fn on_behaviour_event(&mut self, id: OpenId) {
        self.opens.push_back(id);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), OpenId>,
    ) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
            protocol: stream,
            ..
        }) = event
        {
            if self.events.len() < HANDLER_QUEUE {
                self.events.push_back(HandlerEvent::Inbound(stream));
            } else if !matches!(self.events.back(), Some(HandlerEvent::Overflow)) {
                self.events.push_back(HandlerEvent::Overflow);
            }
        } else if let ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
            protocol: stream,
            info,
        }) = event
        {
            self.events.push_back(HandlerEvent::Opened(info, stream));
        } else if let ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) = event {
            self.events
                .push_back(HandlerEvent::Failed(info, open_error(error)));
        }
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, OpenId, HandlerEvent>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Some(id) = self.opens.pop_front() {
            let protocol =
                SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), id).with_timeout(OPEN_TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }
}

fn open_error(error: StreamUpgradeError<Infallible>) -> OpenError {
    match error {
        StreamUpgradeError::Timeout => OpenError::Timeout,
        StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
        StreamUpgradeError::Io(error) => OpenError::Io(error),
        StreamUpgradeError::Apply(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_to_direct_then_quic_then_newest() {
        use Transport::{Quic, Tcp};
        let best = |links: &[(bool, Transport)]| best_of(links.iter().copied());
        assert_eq!(best(&[]), None);
        assert_eq!(best(&[(false, Tcp), (true, Quic)]), Some(0));
        assert_eq!(best(&[(false, Quic), (false, Tcp)]), Some(0));
        assert_eq!(best(&[(false, Quic), (false, Tcp), (false, Quic)]), Some(2));
        assert_eq!(best(&[(true, Tcp), (true, Tcp)]), Some(1));
    }
}
