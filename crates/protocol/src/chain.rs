//! The hash chain over a job's output: `h_0 = BLAKE3.derive_key("decentralgpt/out/1", job)` and
//! `h_{n+1} = BLAKE3(h_n ‖ u32le id)`. It is per token, so it does not depend on how tokens were framed.

use crate::{ChainHash, JobId};

/// Context string of the key derivation that starts a chain.
const CONTEXT: &str = "decentralgpt/out/1";

/// The chain of a job that has no output yet.
pub fn start(job: &JobId) -> ChainHash {
    ChainHash::new(blake3::derive_key(CONTEXT, job.as_bytes()))
}

/// The chain after one more token.
pub fn next(h: &ChainHash, id: u32) -> ChainHash {
    let mut link = [0; 36];
    link[..32].copy_from_slice(h.as_bytes());
    link[32..].copy_from_slice(&id.to_le_bytes());
    ChainHash::new(*blake3::hash(&link).as_bytes())
}

/// The chain after several more tokens.
pub fn extend(h: &ChainHash, ids: &[u32]) -> ChainHash {
    ids.iter().fold(*h, |h, &id| next(&h, id))
}
