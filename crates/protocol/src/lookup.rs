//! Under which keys a model's providers are found by strangers: in the routing table, and in BitTorrent's.
//!
//! A model has [`SHARDS`] keys a day. One key would make the nodes next to it carry all its look-ups, and would let an attacker take
//! them over once and for good; sixteen that move every midnight (UTC) spread the load and make the attacker begin anew.

use sha2::{Digest as _, Sha256};

use crate::{ModelDigest, PeerId};

/// The protocol of the routing table: Kademlia as libp2p has it, apart from every other program's.
pub const PROTOCOL: &str = "/decentralgpt/kad/1";
/// What a provider key begins with, before it is hashed.
pub const DOMAIN: &str = crate::offer::DOMAIN;
/// What a key in BitTorrent's table begins with, before it is hashed.
pub const MAINLINE_DOMAIN: &str = "decentralgpt/mainline/1";
/// Keys of one model on one day. At sixteen the hottest node of the table has a ninth of the look-ups that it has at one.
pub const SHARDS: u8 = 16;
/// Milliseconds of a day. Days are those of UTC: every node has the same.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Milliseconds of a week, counted from 1970-01-01: long enough that clocks do not matter, short enough that nobody parks next to
/// its key for good.
pub const WEEK_MS: u64 = 7 * DAY_MS;
/// Stands in place of a model's digest: whoever serves anything.
const ANY: &[u8] = b"any";

/// Where providers are found: 32 bytes in the table's space.
pub type ProviderKey = [u8; 32];

/// The key of one model (`None`: of any) in the network of this name, of one day since 1970-01-01 and one shard.
pub fn provider_key(
    network: &str,
    model: Option<&ModelDigest>,
    day: u64,
    shard: u8,
) -> ProviderKey {
    let sought = model.map_or(ANY, |model| model.as_bytes().as_slice());
    Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(network)
        .chain_update(sought)
        .chain_update(day.to_be_bytes())
        .chain_update([shard])
        .finalize()
        .into()
}

/// In which of the [`SHARDS`] a provider stands on this day.
pub fn shard(provider: &PeerId, day: u64) -> u8 {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(provider.as_bytes())
        .chain_update(day.to_be_bytes())
        .finalize()
        .into();
    digest[0] >> 4
}

/// The key in BitTorrent's table (an info hash of BEP 5) of the week of this number.
pub fn mainline_key(network: &str, week: u64) -> [u8; 20] {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(MAINLINE_DOMAIN)
        .chain_update(network)
        .chain_update(week.to_be_bytes())
        .finalize()
        .into();
    let mut key = [0; 20];
    key.copy_from_slice(&digest[..20]);
    key
}
