//! Yamux, with a bound on what one connection may make us hold unread.
//!
//! libp2p's own adapter leaves the library's gigabyte in place and has no way to lower it.

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    iter,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::{
    muxing::{StreamMuxer, StreamMuxerEvent},
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
};
use yamux::{Connection, ConnectionError, Mode, Stream};

/// Bytes of all streams of one connection that may wait for their readers. Each stream has 256 KiB from the start, and more only
/// while it is read as fast as it is written: that is a head on its way over a long line, a few megabytes.
const CONNECTION_WINDOW: usize = 32 << 20;

/// Makes a connection carry up to so many streams at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Yamux {
    pub(crate) streams: usize,
}

impl Yamux {
    fn over<C: AsyncRead + AsyncWrite + Unpin>(self, io: C, mode: Mode) -> Muxer<C> {
        let mut config = yamux::Config::default();
        // In this order: each number is checked against the other.
        config.set_max_num_streams(self.streams);
        config.set_max_connection_receive_window(Some(CONNECTION_WINDOW));
        Muxer {
            connection: Connection::new(io, config, mode),
            waiting: VecDeque::new(),
            most_waiting: self.streams,
            waker: None,
        }
    }
}

impl UpgradeInfo for Yamux {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = ConnectionError;
    type Future = Ready<Result<Muxer<C>, ConnectionError>>;

    fn upgrade_inbound(self, io: C, _: &'static str) -> Self::Future {
        ready(Ok(self.over(io, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = ConnectionError;
    type Future = Ready<Result<Muxer<C>, ConnectionError>>;

    fn upgrade_outbound(self, io: C, _: &'static str) -> Self::Future {
        ready(Ok(self.over(io, Mode::Client)))
    }
}

/// A connection as the swarm drives it.
#[derive(Debug)]
pub(crate) struct Muxer<C> {
    connection: Connection<C>,
    /// Streams that came while the connection was driven for the sake of the others.
    waiting: VecDeque<Stream>,
    most_waiting: usize,
    waker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin + 'static> Muxer<C> {
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        Poll::Ready(match ready!(self.connection.poll_next_inbound(cx)) {
            Some(stream) => stream,
            None => Err(ConnectionError::Closed),
        })
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + 'static> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = self.next(cx);
        if next.is_pending() {
            self.waker = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        self.connection.poll_close(cx)
    }

    /// Bytes move only while the next stream is asked for, also when nobody wants one.
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        let stream = ready!(self.next(cx))?;
        // Beyond, the stream is dropped, which resets it.
        if self.waiting.len() < self.most_waiting {
            self.waiting.push_back(stream);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
        // Others of this task have their turn before the next one.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
