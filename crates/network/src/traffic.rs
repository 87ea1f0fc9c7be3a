//! How many bytes went where: of each peer, and in all.
//!
//! Counted are the bytes of streams, in the clear: what a person pays for is some percent more.

use std::{
    collections::HashMap,
    io::{self, IoSlice, IoSliceMut},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId,
    core::muxing::{StreamMuxer, StreamMuxerEvent},
};

/// Peers whose bytes are remembered after they went, so that one who comes back keeps its count.
const REMEMBERED: usize = 1024;

/// Bytes both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// From others to here.
    pub received: u64,
    /// From here to others.
    pub sent: u64,
}

impl Bytes {
    /// Both directions.
    #[must_use]
    pub fn total(self) -> u64 {
        self.received.saturating_add(self.sent)
    }
}

#[derive(Debug, Default)]
struct Counter {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counter {
    fn read(&self) -> Bytes {
        Bytes {
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
        }
    }
}

/// All counters. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    all: Arc<Counter>,
    peers: Arc<Mutex<HashMap<PeerId, Arc<Counter>>>>,
}

impl Traffic {
    /// Since the start.
    pub(crate) fn total(&self) -> Bytes {
        self.all.read()
    }

    /// Of one peer, since the start or since it was forgotten.
    pub(crate) fn of(&self, peer: &PeerId) -> Bytes {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers
            .get(peer)
            .map(|counter| counter.read())
            .unwrap_or_default()
    }

    /// The connection of a peer, with its bytes counted.
    pub(crate) fn counted<M>(&self, peer: PeerId, muxer: M) -> Counted<M> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= REMEMBERED && !peers.contains_key(&peer) {
            // Only a connection holds a counter besides this table.
            peers.retain(|_, counter| Arc::strong_count(counter) > 1);
        }
        let of_peer = Arc::clone(peers.entry(peer).or_default());
        Counted {
            muxer,
            count: Count {
                of_peer,
                all: Arc::clone(&self.all),
            },
        }
    }
}

#[derive(Clone, Debug)]
struct Count {
    of_peer: Arc<Counter>,
    all: Arc<Counter>,
}

impl Count {
    fn received(&self, bytes: usize) {
        self.of_peer
            .received
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.all.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn sent(&self, bytes: usize) {
        self.of_peer.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.all.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A connection or a stream, with its bytes counted.
#[derive(Debug)]
pub(crate) struct Counted<T> {
    muxer: T,
    count: Count,
}

impl<M: StreamMuxer + Unpin> Counted<M> {
    fn stream(&self, stream: M::Substream) -> Counted<M::Substream> {
        Counted {
            muxer: stream,
            count: self.count.clone(),
        }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for Counted<M>
where
    M::Substream: Unpin,
{
    type Substream = Counted<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = ready!(Pin::new(&mut self.muxer).poll_inbound(cx))?;
        Poll::Ready(Ok(self.stream(stream)))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = ready!(Pin::new(&mut self.muxer).poll_outbound(cx))?;
        Poll::Ready(Ok(self.stream(stream)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.muxer).poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.muxer).poll(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.muxer).poll_read(cx, buffer))?;
        self.count.received(read);
        Poll::Ready(Ok(read))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.muxer).poll_read_vectored(cx, buffers))?;
        self.count.received(read);
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.muxer).poll_write(cx, bytes))?;
        self.count.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.muxer).poll_write_vectored(cx, buffers))?;
        self.count.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.muxer).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.muxer).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_that_went_are_forgotten_and_the_sum_is_kept() {
        let traffic = Traffic::default();
        let kept = PeerId::random();
        let connection = traffic.counted(kept, ());
        for _ in 0..2 * REMEMBERED {
            let gone = traffic.counted(PeerId::random(), ());
            gone.count.received(2);
            gone.count.sent(1);
        }
        connection.count.sent(5);
        assert!(traffic.peers.lock().unwrap().len() <= REMEMBERED);
        assert_eq!(traffic.of(&kept).sent, 5, "it is still connected");
        assert_eq!(
            traffic.total(),
            Bytes {
                received: 4 * REMEMBERED as u64,
                sent: 2 * REMEMBERED as u64 + 5
            }
        );
    }
}
