//! What peers say to each other and sign, and the job machines of both sides.
//!
//! This crate owns every definition that two strangers' programs must agree on to the byte:
//!
//! - [`PeerId`], the digests, [`JobId`] and the hash [`chain`] over a job's output,
//! - [`offer`]s and the envelope that signs them, and the [`binding`] of a peer to the account that is paid,
//! - the keys by which providers are [looked up](lookup),
//! - [`quote`]s: what a provider says about one job that may come,
//! - [`frame`]s of the job stream with their caps,
//! - [`receipt`]s signed by the provider and countersigned by the client, and what is [due](price),
//! - the messages by which a client without weights fetches a file's [`head`],
//! - the two [`job`] machines: [`job::provider`] serves one job, [`job::client`] gets one whole answer.
//!
//! It never does IO. There is no runtime, disk, clock or source of randomness in it: the time is handed in as
//! a [`Clock`], secrets and nonces as bytes, and a decision comes out as a value. So every refusal is a plain
//! function call in a test, and the machines run in virtual time.
//!
//! Bytes from a stranger are measured before they are kept, verified before they are decoded, and checked
//! against declared caps before they are believed. No input panics.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod base58;
pub mod binding;
pub mod chain;
pub mod frame;
pub mod head;
mod ids;
pub mod job;
pub mod lookup;
pub mod offer;
pub mod price;
pub mod quote;
pub mod receipt;
mod sign;
pub mod tokens;
pub mod voucher;

pub use ids::{
    ChainHash, HeadDigest, IdError, JobId, ModelDigest, ModelRef, NetworkId, OfferId, PeerId,
};
pub use sign::{SignatureError, Signer, verify};

/// The current time, as its caller knows it. The crate never asks for it.
///
/// Deadlines run on the monotonic clock; what is written into signed messages is wall-clock time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds on a clock that never goes back; its origin means nothing.
    pub mono_ms: u64,
    /// Milliseconds since 1970-01-01 00:00 UTC, as far as this machine knows.
    pub unix_ms: u64,
}

/// How far another machine's wall clock may be ahead of ours before what it signed counts as from the future.
/// Two minutes cover a clock that was set by hand; more would let an expired message live on.
pub const MAX_CLOCK_SKEW_MS: u64 = 2 * 60 * 1000;
