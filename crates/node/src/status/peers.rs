//! Peers as a shell sees them: who is connected, how, and what was seen of them.

use std::collections::BTreeMap;

use network::{Direction as NetworkDirection, PeerStatus};
use protocol::{ModelDigest, PeerId};
use serde::{Deserialize, Serialize};

use super::DataUsed;
use crate::{node::Inner, route::Standing};

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The peer dialled us.
    In,
    /// We dialled the peer.
    Out,
}

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// QUIC over UDP.
    Quic,
    /// TCP with Noise and Yamux.
    Tcp,
}

impl From<network::Transport> for Transport {
    fn from(transport: network::Transport) -> Self {
        match transport {
            network::Transport::Quic => Self::Quic,
            network::Transport::Tcp => Self::Tcp,
        }
    }
}

/// A peer that is connected, or that was blocked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its PeerId.
    pub id: String,
    /// A short form of the id, for reading.
    pub name: String,
    /// Where it is reached.
    pub address: String,
    /// Who opened the connection.
    pub direction: Direction,
    /// What carries it; through a relay, what carries it to the relay.
    pub transport: Transport,
    /// Through a relay, which cannot read it; else directly.
    pub relayed: bool,
    /// Bytes since the start.
    pub data: DataUsed,
    /// Last measured round trip.
    pub rtt_ms: Option<f64>,
    /// The program it says it runs.
    pub agent: String,
    /// Names of the models it offers, of those that a row here names.
    pub models: Vec<String>,
    /// How many more it offers, that no row here names.
    #[serde(default)]
    pub unlisted: u32,
    /// Milliseconds since 1970.
    pub since_ms: u64,
    /// The person wants nothing of it.
    pub blocked: bool,
    /// This computer may ask it: it is connected to the swarm that asks, which has a name of its own.
    pub asked: bool,
    /// It may ask this computer: it is connected to the swarm that serves.
    pub asks: bool,
    /// What this computer saw of it when it asked; `None` before it did, and after all that has faded.
    pub record: Option<PeerRecord>,
    /// It failed lately and is left alone until then, in milliseconds since 1970, unless nobody else is there.
    pub resting_until_ms: Option<u64>,
}

/// What this computer saw of a peer, over all its models. Older jobs count less.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerRecord {
    /// Jobs, about 30 at most: what is older has faded.
    pub jobs: u32,
    /// Those of them that failed by its fault, or in which it lied.
    pub failed: u32,
    /// Lies that were found out.
    pub lies: u32,
    /// Tokens per second that it gave.
    pub tokens_per_second: Option<f64>,
    /// How much later than it promised first tokens came; negative when they came earlier.
    pub first_token_late_ms: Option<f64>,
    /// The chance that a job goes well, as it is reckoned with: low until it has shown the opposite.
    pub reliability: f64,
}

/// A peer of the swarm that asks, as a shell sees it.
pub(crate) fn peer(
    inner: &Inner,
    status: &PeerStatus,
    names: &BTreeMap<ModelDigest, String>,
) -> Peer {
    let blocked = inner.book().is_blocked(&status.peer);
    let offers = status.offers.iter();
    let models: Vec<String> = offers
        .filter_map(|digest| names.get(digest).cloned())
        .collect();
    Peer {
        asked: true,
        record: record(inner, &status.peer),
        resting_until_ms: match inner.measured.standing(&status.peer) {
            Standing::Banned { until_ms } => Some(until_ms),
            Standing::HalfOpen | Standing::Free => None,
        },
        id: status.peer.to_string(),
        name: status.peer.short(),
        address: status.addr.clone(),
        direction: match status.direction {
            NetworkDirection::In => Direction::In,
            NetworkDirection::Out => Direction::Out,
        },
        transport: status.transport.into(),
        relayed: status.relayed,
        data: status.traffic.into(),
        rtt_ms: status.rtt_ms.map(f64::from),
        agent: status.agent.clone().unwrap_or_default(),
        unlisted: u32::try_from(status.offers.len() - models.len()).unwrap_or(u32::MAX),
        models,
        since_ms: status.since_unix_ms,
        blocked,
        asks: false,
    }
}

/// What was seen of a peer, over all its models.
fn record(inner: &Inner, peer: &PeerId) -> Option<PeerRecord> {
    let records = inner.measured.of_peer(peer);
    let mut records = records.into_iter().map(|(_, record)| record);
    let mut sum = records.find(|record| !record.is_forgotten())?;
    for record in records {
        sum.add(&record);
    }
    // Small positive numbers: a float becomes the nearest integer that holds it.
    let count = |value: f64| value.round() as u32;
    Some(PeerRecord {
        jobs: count(sum.jobs()),
        failed: count(sum.failures),
        lies: count(sum.lies),
        tokens_per_second: sum.decode_tps.value(),
        first_token_late_ms: sum.late_ms.value(),
        reliability: sum.p_ok(),
    })
}

/// Peers of both swarms, then blocked ones that are connected to neither.
pub(super) fn peers(
    inner: &Inner,
    (asking, serving): (&[PeerStatus], &[PeerStatus]),
    names: &BTreeMap<ModelDigest, String>,
) -> Vec<Peer> {
    let mut list: Vec<Peer> = asking
        .iter()
        .map(|status| peer(inner, status, names))
        .collect();
    for status in serving {
        let id = status.peer.to_string();
        match list.iter_mut().find(|listed| listed.id == id) {
            Some(listed) => {
                listed.asks = true;
                listed.data.received += status.traffic.received;
                listed.data.sent += status.traffic.sent;
            }
            None => list.push(Peer {
                asked: false,
                asks: true,
                ..peer(inner, status, names)
            }),
        }
    }
    let blocked = inner.book().blocked();
    for blocked in blocked {
        let id = blocked.to_string();
        if list.iter().all(|listed| listed.id != id) {
            list.push(Peer {
                id,
                name: blocked.short(),
                address: String::new(),
                direction: Direction::Out,
                transport: Transport::Quic,
                relayed: false,
                data: DataUsed::default(),
                rtt_ms: None,
                agent: String::new(),
                models: Vec::new(),
                unlisted: 0,
                since_ms: 0,
                blocked: true,
                asked: false,
                asks: false,
                record: record(inner, &blocked),
                resting_until_ms: None,
            });
        }
    }
    list
}
