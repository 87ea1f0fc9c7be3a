//! Streams that are not let go before the other end has said that it takes them.
//!
//! A protocol's name is sent together with the first message (`V1Lazy`), and confirmed later. Who sends one message, closes, and drops
//! the stream, as Kademlia does with a provider's record, never reads that confirmation. Over QUIC, dropping asks the other end to stop
//! writing; its confirmation then fails, and with it the whole stream: the message is lost. Such a stream is held until the other
//! end's first bytes have come.

use std::{
    io::{self, IoSlice, IoSliceMut},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

/// How long a stream is held: a peer that has not confirmed by then does not take it.
const HELD: Duration = Duration::from_secs(5);
/// Bytes of the confirmation that are read: its first ones are enough.
const CONFIRMATION: usize = 128;

/// A connection with such streams.
#[derive(Debug)]
pub(crate) struct Lingering<M>(pub(crate) M);

impl<M: StreamMuxer + Unpin> StreamMuxer for Lingering<M>
where
    M::Substream: Unpin + Send + 'static,
{
    type Substream = Stream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = ready!(Pin::new(&mut self.0).poll_inbound(cx))?;
        Poll::Ready(Ok(Stream::new(stream)))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = ready!(Pin::new(&mut self.0).poll_outbound(cx))?;
        Poll::Ready(Ok(Stream::new(stream)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stream<S: AsyncRead + Unpin + Send + 'static> {
    /// `None` only while it is dropped.
    inner: Option<S>,
    closed: bool,
    heard: bool,
}

impl<S: AsyncRead + Unpin + Send + 'static> Stream<S> {
    fn new(inner: S) -> Self {
        Self {
            inner: Some(inner),
            closed: false,
            heard: false,
        }
    }

    fn inner(&mut self) -> io::Result<Pin<&mut S>> {
        let inner = self.inner.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Pin::new(inner))
    }
}

impl<S: AsyncRead + Unpin + Send + 'static> Drop for Stream<S> {
    fn drop(&mut self) {
        let (true, Some(mut stream), Ok(runtime)) = (
            self.closed && !self.heard,
            self.inner.take(),
            tokio::runtime::Handle::try_current(),
        ) else {
            return;
        };
        runtime.spawn(async move {
            let mut confirmation = [0; CONFIRMATION];
            // Whatever comes, or comes not: the stream goes now.
            let _ = tokio::time::timeout(HELD, stream.read(&mut confirmation)).await;
        });
    }
}

impl<S: AsyncRead + Unpin + Send + 'static> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(self.inner()?.poll_read(cx, buffer));
        self.heard = true;
        Poll::Ready(read)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(self.inner()?.poll_read_vectored(cx, buffers));
        self.heard = true;
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write_vectored(cx, buffers)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = ready!(self.inner()?.poll_close(cx));
        self.closed = closed.is_ok();
        Poll::Ready(closed)
    }
}
