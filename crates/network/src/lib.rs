//! libp2p: how this computer finds others, and moves bytes between them.
//!
//! [`Network::start`] opens a swarm on a thread and a tokio runtime of its own and gives back a handle that clones, and an
//! [`Inbound`] with what strangers ask of us. Nothing listens until [`Network::set_listening`] is called with addresses (or
//! [`NetworkOptions::listen`] names some): asking only dials.
//!
//! ```no_run
//! # async fn example() -> Result<(), network::NetworkError> {
//! use network::{Network, NetworkOptions};
//!
//! let (network, _inbound) = Network::start(NetworkOptions::new([7; 32])).await?;
//! let peer = network.connect("/ip4/192.0.2.1/udp/4001/quic-v1").await?;
//! for offer in network.offers(&peer).await? {
//!     println!("{}", offer.model.digest);
//! }
//! let (mut reader, writer) = network.open_job(&peer).await?.split();
//! # Ok(()) }
//! ```
//!
//! # What is where
//!
//! | module | is |
//! |---|---|
//! | `handle` | [`Network`]: each call is one command with its own reply channel |
//! | `swarm` | the loop that alone owns the swarm; every event that can wake it is one enum |
//! | `behaviour`, `transport`, `mux`, `linger` | which libp2p protocols run, with which limits, over what |
//! | `streams`, `wire` | `/decentralgpt/infer/1`: raw streams, frames cut out of them, queues that are bounded |
//! | `offers`, `heads`, `quotes` | pulled signed offers, chunks of a file's head, quotes for a job |
//! | `providers`, `record_store`, `search` | under which keys providers are found, the records kept for others, the steps of a search |
//! | `sources`, `neighbours`, `book`, `disk` | where first peers come from, who is in this home, and who is known from earlier days |
//! | `admission`, `limits`, `guard` | who may connect, who may ask how often and is banned, where a peer may send us |
//! | `reach`, `relay` | whether others reach this node, and who carries connections to whom |
//! | `peers`, `address`, `traffic`, `log` | who is connected, which address may be dialled, how many bytes went where, what happened |
//! | `clocks` | what others say of this computer's clock |
//!
//! # What it never does
//!
//! It signs nothing and judges no price: messages, signatures and the machines of a job are in `protocol`; it never reads text or
//! tokens, touches no file but the head, the address book and the offers that the node names, and never logs what a peer sent above `debug`.
//! No remote input may panic it or make it hold more than the bounds named in each module.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod address;
mod admission;
mod behaviour;
mod book;
mod clocks;
mod disk;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod guard;
mod handle;
mod heads;
mod identity;
#[cfg(feature = "lab")]
pub mod lab;
mod limits;
mod linger;
mod log;
mod messages;
mod mux;
mod neighbours;
mod offers;
mod peers;
mod providers;
mod quotes;
mod reach;
mod record_store;
mod relay;
mod search;
mod sources;
mod streams;
mod swarm;
mod traffic;
mod transport;
mod wire;

pub use address::{Transport, front_ip};
pub use clocks::PeerClocks;
pub use error::NetworkError;
pub use handle::{Inbound, Network, NetworkOptions};
pub use heads::{HeadProgress, HeadRequest, HeadSource};
pub use log::{ClosedBecause, ConnectionChange, ConnectionEvent, Path, RefusedBecause};
pub use offers::{MAX_OWN_OFFERS, VerifiedOffer};
pub use peers::{Direction, NetworkStatus, PeerStatus, Refusals};
pub use quotes::QuoteAsked;
pub use reach::{
    NatKind, PortState, ReachFix, ReachMode, ReachPolicy, ReachState, Reachability, RelayClient,
    RelayServer, RelayState, RelayView, Relaying, Role, UpnpState,
};
pub use sources::{
    BuiltIn, ListError, MAX_DNS_NAMES, Mainline, PeerList, Source, SourceStatus, Sources,
};
pub use streams::IncomingJob;
pub use traffic::Bytes as Traffic;
pub use wire::{Flow, FrameReader, FrameWriter, JobStream, ReadError, WriteError};
