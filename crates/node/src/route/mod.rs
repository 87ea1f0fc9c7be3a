//! Which peer is asked: pure decisions over what offers claim, what was measured, and what the person allows.
//!
//! Nothing here reads a clock, draws a random number of its own, or waits. The caller hands in the time, the [`Dice`]
//! and the facts, so that the same decisions run in the program, in tests and in simulations of many nodes:
//!
//! 1. [`judge`] applies the rules that no score outweighs, and says for each peer why it is not taken ([`NotTaken`]).
//! 2. [`shortlist()`] scores the others (`score`) and keeps the best, not too many of them alike.
//! 3. [`Shortlist::draw`] picks whom to ask for a quote: two by chance, weighted by score. The chance keeps a thousand
//!    clients who read the same stale offers from running to the same peer.
//! 4. [`Shortlist::settle`] puts all in the order in which they are asked, the better quote first.
//!
//! What a job then shows goes into the [`Record`] of its peer and model, and, where the peer is at fault, into [`Bans`].
//! [`verdict`] says whose fault an end is.

mod bans;
mod beta;
mod dice;
mod filter;
mod pick;
mod record;
mod score;
mod verdict;

use std::net::IpAddr;

use protocol::{ModelDigest, PeerId, offer::Offer, price::Prices};
use serde::{Deserialize, Serialize};

pub use bans::{Bans, FIRST_BAN_MS, MAX_BAN_MS, MAX_BANS, Standing};
pub use beta::quantile as beta_quantile;
pub use dice::Dice;
pub use filter::{NotTaken, judge, within_cap};
pub use pick::{
    Draw, EXPLORED_SHARE, MAX_SMALL_OUT, PER_GROUP, PER_WALLET, Quoted, SHORTLIST, Shortlist,
    Taken, shortlist,
};
pub use record::{HALF_LIFE_JOBS, HALF_LIFE_MS, Mean, Observation, Outcome, Record};
pub use score::{Estimate, Weights, Yardstick};
pub use verdict::{Verdict, verdict};

/// What matters most when peers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// The price, then the rest.
    Cheap,
    /// Price, time and reliability alike.
    #[default]
    Balanced,
    /// The time, then the rest.
    Fast,
}

/// What the person allows, whatever the score.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The highest price per million tokens, of input or of output, in base units; `None` is any.
    pub price_cap: Option<u128>,
    /// Only peers that claim one of these regions; empty is everywhere. Upper case.
    pub regions_allow: Vec<String>,
    /// No peer that claims one of these. Upper case.
    pub regions_deny: Vec<String>,
}

/// One job, as far as the choice of a peer depends on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Want {
    /// The file that has to answer.
    pub model: ModelDigest,
    /// Input tokens.
    pub n_in: u32,
    /// Output tokens at most.
    pub max_out: u32,
    /// Output tokens that are to be expected.
    pub expected_out: u32,
    /// What the peer must be able to do, as offers name it.
    pub features: Vec<String>,
    /// What the person allows.
    pub rules: Rules,
    /// What matters most.
    pub preset: Preset,
    /// The peer that gave this chat's last answer, and how many of the input tokens it read then.
    pub sticky: Option<(PeerId, u32)>,
    /// A small share of small jobs may go to peers that nobody here has measured yet.
    pub explore: bool,
}

/// What an offer claims, as far as the choice depends on it. All of it is the provider's own word.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// The file.
    pub model: ModelDigest,
    /// Tokens of context.
    pub ctx_max: u32,
    /// Output tokens per job at most.
    pub out_max: u32,
    /// Jobs at once.
    pub slots: u32,
    /// Jobs that waited when the offer was made.
    pub queue_depth: u32,
    /// Tokens read per second; 0 is not measured.
    pub prefill_tps: u32,
    /// Tokens written per second; 0 is not measured.
    pub decode_tps: u32,
    /// Prices.
    pub prices: Prices,
    /// Where it claims to be; empty where it does not say.
    pub region: String,
    /// What it can do.
    pub features: Vec<String>,
    /// The oldest and the newest version of the job protocol it speaks.
    pub versions: (u32, u32),
    /// When the offer ends, Unix milliseconds.
    pub expires_unix_ms: u64,
}

impl From<&Offer> for Claims {
    fn from(offer: &Offer) -> Self {
        Self {
            model: offer.model.digest,
            ctx_max: offer.ctx_max,
            out_max: offer.out_max,
            slots: offer.parallel_slots,
            queue_depth: offer.queue_depth,
            prefill_tps: offer.prefill_tps,
            decode_tps: offer.decode_tps,
            prices: offer.prices,
            region: offer.region.clone(),
            features: offer.features.clone(),
            versions: (offer.proto_min, offer.proto_max),
            expires_unix_ms: offer.expires_unix_ms,
        }
    }
}

/// The version of the job protocol that this program speaks.
pub const VERSION: u32 = protocol::offer::PROTO;

/// A peer that may be asked, with everything the choice depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Who.
    pub peer: PeerId,
    /// What it claims.
    pub claims: Claims,
    /// What was measured of it with this model.
    pub record: Record,
    /// The round trip of an open connection, milliseconds.
    pub rtt_ms: Option<f64>,
    /// The neighbourhood of its address, where one is known and public.
    pub group: Option<Group>,
    /// Who is paid, where a binding says so.
    pub wallet: Option<[u8; 20]>,
    /// The person wants nothing of it.
    pub blocked: bool,
    /// Whether this computer can pay it, if it asks for money.
    pub payable: bool,
    /// Whether it failed lately.
    pub standing: Standing,
}

/// A block of addresses that one owner may hold cheaply: a /24 of IPv4, a /48 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// The first three bytes of an IPv4 address.
    V4([u8; 3]),
    /// The first six bytes of an IPv6 address.
    V6([u8; 6]),
}

impl Group {
    /// The group of a public address. `None` for this computer's own and for private networks: there, machines that are
    /// alike belong to one person, who wants to use all of them.
    #[must_use]
    pub fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(v4) if v4.is_loopback() || v4.is_private() || v4.is_link_local() => None,
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Some(Self::V4([a, b, c]))
            }
            IpAddr::V6(v6)
                if v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() =>
            {
                None
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, ..] = v6.octets();
                Some(Self::V6([a, b, c, d, e, f]))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod examples {
    //! A peer and a job for the tests of this module.

    use super::*;

    pub(crate) const NOW: u64 = 1_800_000_000_000;

    pub(crate) fn peer(n: u32) -> PeerId {
        let mut key = [7; 32];
        key[..4].copy_from_slice(&n.to_le_bytes());
        PeerId::from_public_key(&key)
    }

    pub(crate) fn model() -> ModelDigest {
        ModelDigest::new([5; 32])
    }

    pub(crate) fn known(n: u32) -> Known {
        let claims = Claims {
            model: model(),
            ctx_max: 8192,
            out_max: 2048,
            slots: 2,
            queue_depth: 0,
            prefill_tps: 1000,
            decode_tps: 30,
            prices: Prices::FREE,
            region: String::new(),
            features: Vec::new(),
            versions: (VERSION, VERSION),
            expires_unix_ms: NOW + 600_000,
        };
        Known {
            peer: peer(n),
            claims,
            record: Record::default(),
            rtt_ms: Some(50.0),
            group: None,
            wallet: None,
            blocked: false,
            payable: true,
            standing: Standing::Free,
        }
    }

    pub(crate) fn want() -> Want {
        Want {
            model: model(),
            n_in: 500,
            max_out: 1024,
            expected_out: 300,
            features: Vec::new(),
            rules: Rules::default(),
            preset: Preset::Balanced,
            sticky: None,
            explore: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_alike_and_a_home_network_is_not_counted() {
        let group = |text: &str| Group::of(text.parse().unwrap());
        assert_eq!(group("198.51.100.7"), group("198.51.100.250"));
        assert_ne!(group("198.51.100.7"), group("198.51.101.7"));
        assert_eq!(group("2001:db8:1:2::1"), group("2001:db8:1:ffff::9"));
        assert_ne!(group("2001:db8:1::1"), group("2001:db8:2::1"));
        assert_eq!(group("::ffff:198.51.100.7"), group("198.51.100.1"));
        for own in [
            "127.0.0.1",
            "192.168.1.4",
            "10.0.0.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            assert_eq!(group(own), None, "{own}");
        }
    }
}
