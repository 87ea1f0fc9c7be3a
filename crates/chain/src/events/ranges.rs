//! Events of a contract, range by range.

use alloy::primitives::{Address, B256};

use crate::{
    error::ChainError,
    rpc::{Endpoints, wire::Event},
};

/// Public endpoints refuse ranges of more blocks than a few thousand.
const RANGE: u64 = 2_000;

/// The events from `from` on, and the last block that they cover: as far as one question reaches, `to` at most.
///
/// A range that endpoints find too long or that answers in too many bytes is asked for again in halves.
pub(crate) async fn next(
    endpoints: &Endpoints,
    at: Address,
    topics: &[B256],
    from: u64,
    to: u64,
) -> Result<(Vec<Event>, u64), ChainError> {
    let mut end = to.min(from.saturating_add(RANGE - 1));
    loop {
        match endpoints.events(at, topics, from, end).await {
            Ok(events) => return Ok((events, end)),
            // Whatever words each endpoint has for it: a shorter range is tried before it counts as a failure.
            Err(ChainError::Offline { .. }) if end > from => end = from + (end - from) / 2,
            Err(error) => return Err(error),
        }
    }
}
