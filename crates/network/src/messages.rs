//! Requests and responses of libp2p's request-response, as bytes behind a length that is checked before anything is kept.
//!
//! The bytes are decoded by the loop, with the functions of `protocol`, so that a peer which sends garbage is counted by name.

use std::{io, marker::PhantomData, time::Duration};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};
use protocol::frame::{self, FrameBuf};

/// A request that has no answer by then has failed: offers are small.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests of one kind at a time on one connection, both directions.
const STREAMS_PER_CONNECTION: usize = 16;
/// Bytes read at a time.
const READ_CHUNK: usize = 8 << 10;

/// One protocol of the form "one message there, one message back".
pub(crate) trait Exchange: Clone + Send + 'static {
    const PROTOCOL: &'static str;
    const MAX_REQUEST: usize;
    const MAX_RESPONSE: usize;
    /// A request that has no answer by then has failed.
    const TIMEOUT: Duration = TIMEOUT;
}

/// `/decentralgpt/offers/1`.
#[derive(Clone, Debug)]
pub(crate) enum Offers {}

impl Exchange for Offers {
    const PROTOCOL: &'static str = protocol::offer::PROTOCOL;
    const MAX_REQUEST: usize = protocol::offer::MAX_REQUEST;
    const MAX_RESPONSE: usize = protocol::offer::MAX_REPLY;
}

/// `/decentralgpt/head/1`.
#[derive(Clone, Debug)]
pub(crate) enum Heads {}

impl Exchange for Heads {
    const PROTOCOL: &'static str = protocol::head::PROTOCOL;
    const MAX_REQUEST: usize = protocol::head::MAX_REQUEST;
    const MAX_RESPONSE: usize = protocol::head::MAX_RESPONSE;
    /// A piece at 6.5 KiB/s takes as long: half of what is left of a line of a long round trip that loses one packet in twenty, since
    /// two heads may come over it at once. How slowly the whole may come is counted where it is fetched.
    const TIMEOUT: Duration = Duration::from_secs(40);
}

/// `/decentralgpt/quote/1`.
#[derive(Clone, Debug)]
pub(crate) enum Quotes {}

impl Exchange for Quotes {
    const PROTOCOL: &'static str = protocol::quote::PROTOCOL;
    const MAX_REQUEST: usize = protocol::quote::MAX_QUOTE;
    const MAX_RESPONSE: usize = protocol::quote::MAX_QUOTE;
    const TIMEOUT: Duration = Duration::from_millis(protocol::quote::QUOTE_TIMEOUT_MS);
}

/// Cuts the bytes of an exchange out of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Codec<E>(PhantomData<E>);

/// The behaviour of one exchange.
pub(crate) type Behaviour<E> = request_response::Behaviour<Codec<E>>;
/// What the loop hears of it.
pub(crate) type Event = request_response::Event<Bytes, Bytes>;

/// Both asks and answers. A request without an answer fails after `timeout`.
pub(crate) fn behaviour<E: Exchange>(timeout: Duration) -> Behaviour<E> {
    let config = request_response::Config::default()
        .with_request_timeout(timeout)
        .with_max_concurrent_streams(STREAMS_PER_CONNECTION);
    let protocols = [(
        StreamProtocol::new(E::PROTOCOL),
        request_response::ProtocolSupport::Full,
    )];
    request_response::Behaviour::with_codec(Codec(PhantomData), protocols, config)
}

impl<E: Exchange> request_response::Codec for Codec<E> {
    type Protocol = StreamProtocol;
    type Request = Bytes;
    type Response = Bytes;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Bytes> {
        read(io, E::MAX_REQUEST).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Bytes> {
        read(io, E::MAX_RESPONSE).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Bytes,
    ) -> io::Result<()> {
        io.write_all(&frame::delimit(&request)).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Bytes,
    ) -> io::Result<()> {
        io.write_all(&frame::delimit(&response)).await
    }
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T, cap: usize) -> io::Result<Bytes> {
    let mut frames = FrameBuf::new();
    let mut chunk = vec![0; READ_CHUNK.min(cap + 4)];
    loop {
        if let Some(message) = frames
            .next_within(cap)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
        {
            return Ok(message);
        }
        let read = io.read(&mut chunk).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        frames.push(&chunk[..read]);
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_message_is_read_whole_and_nothing_else() {
        let sent = frame::delimit(&[7; 300]);
        assert_eq!(block_on(read(&mut &sent[..], 300)).unwrap(), vec![7; 300]);
        assert_eq!(
            block_on(read(&mut &sent[..], 299)).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(
            block_on(read(&mut &sent[..200], 300)).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(
            block_on(read(&mut &b""[..], 300)).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn a_length_alone_costs_nothing() {
        // Announces 200 MiB and sends two bytes.
        let lie = [0xff, 0xff, 0xff, 0x63, 1, 2];
        assert_eq!(
            block_on(read(&mut &lie[..], 1 << 10)).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
