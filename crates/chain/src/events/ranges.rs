//! Events of a contract, range by range.

use alloy::primitives::{Address, B256};

use crate::{
    error::ChainError,
    rpc::{Endpoints, compare::Range, wire::Event},
};

/// Public endpoints refuse ranges of more blocks than a few thousand.
const MOST: u64 = 2_000;

/// How many blocks are asked for at once: what the strictest endpoint was seen to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length(u64);

impl Default for Length {
    fn default() -> Self {
        Self(MOST)
    }
}

/// The events from `from` on, and the last block that they cover: as far as one question reaches, `to` at most.
pub(crate) async fn next(
    endpoints: &Endpoints,
    length: &mut Length,
    at: Address,
    topics: &[B256],
    from: u64,
    to: u64,
) -> Result<(Vec<Event>, u64), ChainError> {
    loop {
        let end = to.min(from.saturating_add(length.0 - 1));
        match endpoints.events(at, topics, from, end).await? {
            Range::Events(events) => {
                if end < to {
                    // It was as long as it may be: perhaps more is answered by now.
                    length.0 = (length.0 + length.0 / 8 + 1).min(MOST);
                }
                return Ok((events, end));
            }
            Range::TooLong => length.0 = ((end - from) / 2).max(1),
        }
    }
}
