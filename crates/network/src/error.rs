//! What can go wrong, with the facts a screen needs to say what to do next.

use std::{io, time::Duration};

use protocol::{HeadDigest, ModelDigest, PeerId};

/// Why a call on [`Network`](crate::Network) did not do what was asked.
///
/// No variant holds text that a peer sent.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The text is neither a multiaddr nor a peer id.
    #[error(
        "`{text}` is neither an address like /ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooW… nor a peer id"
    )]
    NotAnAddress {
        /// What was given, cut to 200 characters.
        text: String,
    },
    /// A multiaddr that is well formed and that no transport here can dial or listen on.
    #[error(
        "{address} uses a transport that this program does not have; it speaks /tcp and /udp/…/quic-v1"
    )]
    UnsupportedAddress {
        /// The address as given.
        address: String,
    },
    /// The host name in a `/dns…` address has no address of the family asked for.
    #[error("the name {name} could not be resolved: {reason}")]
    NameNotResolved {
        /// The host name.
        name: String,
        /// What the system's resolver said.
        reason: String,
    },
    /// The address, or the peer behind it, is this node itself.
    #[error("{address} is this computer's own address")]
    OwnAddress {
        /// The address or peer id as given.
        address: String,
    },
    /// A peer id without an address, and none is known.
    #[error("no address is known for {peer}; give one, or an invite")]
    UnknownPeer {
        /// Who was asked for.
        peer: PeerId,
    },
    /// Nothing answers there: no route, or the connection was cut during the handshake.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// The address that was tried.
        address: String,
        /// The local reason.
        reason: String,
    },
    /// The computer answers, and says that nothing listens on that port.
    #[error("nothing listens at {address} (connection refused)")]
    Refused {
        /// The address that was tried.
        address: String,
    },
    /// A node answers there, and closed the connection before it said who it is: it has limits on how many come, from one address and
    /// in all, or it does not want us.
    #[error(
        "{address} turns this computer away: it has as many connections from here as it takes, or does not want this one"
    )]
    TurnedAway {
        /// The address that was tried.
        address: String,
    },
    /// No answer within the time given.
    #[error("{what} took longer than {} s", after.as_secs())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// Somebody else answered at this address.
    #[error("at {address} answers {found}, not {expected}")]
    WrongPeer {
        /// The address that was tried.
        address: String,
        /// Who was expected there.
        expected: PeerId,
        /// Who answered, where its identity has the form this network uses.
        found: String,
    },
    /// The peer is blocked by the user, or banned for a while after sending garbage.
    #[error("{peer} is blocked")]
    Blocked {
        /// Who.
        peer: PeerId,
    },
    /// A limit on connections was reached here.
    #[error("too many connections are open or being opened: {reason}")]
    TooManyConnections {
        /// Which limit.
        reason: String,
    },
    /// There is no connection to this peer.
    #[error("{peer} is not connected")]
    NotConnected {
        /// Who.
        peer: PeerId,
    },
    /// The peer is there and does not speak the protocol asked for.
    #[error("{peer} does not speak {protocol}")]
    Unsupported {
        /// Who.
        peer: PeerId,
        /// The protocol's name.
        protocol: &'static str,
    },
    /// The stream or the request broke before an answer was there.
    #[error("the connection to {peer} broke: {reason}")]
    Broken {
        /// Who.
        peer: PeerId,
        /// The local reason.
        reason: String,
    },
    /// The peer answered with something that is not the protocol's answer.
    #[error("{peer} sent an answer that breaks the protocol: {what}")]
    Malformed {
        /// Who.
        peer: PeerId,
        /// Which rule it broke.
        what: &'static str,
    },
    /// The peer does not hold, or does not give, the head that was asked for.
    #[error("{peer} does not have the model {model}")]
    HeadNotHeld {
        /// Who.
        peer: PeerId,
        /// The model whose head was asked for.
        model: ModelDigest,
    },
    /// The reference names a head longer than any peer may send.
    #[error("a head of {len} bytes is empty or more than the {max} bytes that a peer may send")]
    HeadTooLarge {
        /// Bytes, as the reference says.
        len: u32,
        /// The most bytes that are fetched.
        max: usize,
    },
    /// The peer holds the head and does not give it now.
    #[error("{peer} is too busy to send the head")]
    HeadBusy {
        /// Who.
        peer: PeerId,
    },
    /// The pieces come more slowly than any peer's are waited for.
    #[error("{peer} sends the head too slowly: {came} of {len} bytes in {} s", after.as_secs())]
    HeadTooSlow {
        /// Who.
        peer: PeerId,
        /// Bytes that came.
        came: u32,
        /// Bytes of the whole.
        len: u32,
        /// In which time.
        after: Duration,
    },
    /// The bytes that came are not those of the digest.
    #[error("{peer} sent a head that is not {expected}")]
    HeadDigest {
        /// Who.
        peer: PeerId,
        /// What was asked for.
        expected: HeadDigest,
    },
    /// None of the listen addresses could be opened.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The first address that failed.
        address: String,
        /// Why.
        reason: String,
    },
    /// The seed is not a usable key, or the transports could not be built.
    #[error("the network cannot start: {reason}")]
    Start {
        /// Which step failed.
        reason: String,
    },
    /// The thread of the network could not be made.
    #[error("the network's thread cannot start")]
    Thread(#[source] io::Error),
    /// More is being asked at once than the loop takes.
    #[error("too many requests of this kind are under way (at most {limit})")]
    Busy {
        /// How many may be under way.
        limit: usize,
    },
    /// The network was shut down.
    #[error("the network is shut down")]
    Closed,
}
