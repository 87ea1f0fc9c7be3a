//! What a peer asks before it sends a job: how soon, how fast, and at which prices.

use std::time::Duration;

use bytes::Bytes;
use protocol::{PeerId, quote::QuoteRequest};
use tokio::sync::oneshot;

/// Questions of peers under way, until the node answers each. What comes beyond is not answered.
pub(crate) const ASKED_AT_ONCE: usize = 32;
/// How long the node has. Half of what the peer waits: the rest is the way there and back.
pub(crate) const ANSWER: Duration = Duration::from_millis(protocol::quote::QUOTE_TIMEOUT_MS / 2);

/// A peer asks for a quote.
#[derive(Debug)]
pub struct QuoteAsked {
    /// Who, as its handshake proved.
    pub peer: PeerId,
    /// The job that may come.
    pub request: QuoteRequest,
    /// What the quote names the request by: taken over the bytes as they came.
    pub request_hash: [u8; 32],
    /// The signed quote, or `None` for no answer: such a model is not offered, or not to this peer.
    pub reply: oneshot::Sender<Option<Bytes>>,
}
