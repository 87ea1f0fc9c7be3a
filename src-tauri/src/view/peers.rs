//! Peers: who is connected and how, how this computer is reached, where peers come from, and what happened to connections.

use serde::Serialize;
use specta::Type;

use super::{ErrorView, maybe, number};

/// Who dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    In,
    Out,
}

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Transport {
    Quic,
    Tcp,
}

/// A connected peer.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Peer {
    pub id: String,
    /// A short form of the id.
    pub name: String,
    pub address: String,
    pub direction: Direction,
    pub transport: Transport,
    pub rtt_ms: Option<f64>,
    pub agent: String,
    /// Names of the models it offers, of those that a row of the list names.
    pub(crate) models: Vec<String>,
    /// How many more it offers.
    pub unlisted: u32,
    pub since_ms: f64,
    pub blocked: bool,
    /// This computer may ask it.
    pub asked: bool,
    /// It may ask this computer.
    pub asks: bool,
    /// Through a relay, which cannot read what it carries.
    pub relayed: bool,
    pub received_bytes: f64,
    pub sent_bytes: f64,
    /// What this computer saw of it when it asked; null before it did.
    pub record: Option<PeerRecord>,
    /// It failed lately and is left alone until then.
    pub resting_until_ms: Option<f64>,
}

/// What this computer saw of a peer. Older jobs count less.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerRecord {
    pub jobs: u32,
    pub failed: u32,
    pub lies: u32,
    pub tokens_per_second: Option<f64>,
}

/// Whether others reach this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReachKind {
    Off,
    Unknown,
    Public,
    Relayed,
    Unreachable,
}

/// Whether and how others reach this computer, and what would help.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reachability {
    pub kind: ReachKind,
    pub text: String,
    /// Sentences, the most helpful first.
    pub fixes: Vec<String>,
    pub nat: Option<String>,
    pub upnp: String,
    pub relays: Vec<String>,
    /// Connections of others that go through this computer; null where it carries none.
    pub carries: Option<u32>,
    pub tested_ms: Option<f64>,
}

/// What one source of first peers brought since the start.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SourceView {
    pub code: String,
    pub name: String,
    pub enabled: bool,
    pub tried: u32,
    pub found: u32,
    pub problem: Option<String>,
}

/// One thing that happened to a connection.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogLine {
    pub at_ms: f64,
    /// Of the side that serves; else of the one that asks.
    pub serving: bool,
    pub peer: Option<String>,
    pub direction: Direction,
    pub code: String,
    pub text: String,
}

/// A peer that offers a model, as the choice among peers sees it.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerChoice {
    pub id: String,
    pub name: String,
    pub connected: bool,
    /// How often it is among those that are asked first, in 0..1.
    pub chance: f64,
    pub first_token_ms: Option<f64>,
    pub tokens_per_second: Option<f64>,
    /// The chance that a job goes well, in 0..1.
    pub reliability: f64,
    /// As it says itself; nothing proves it.
    pub region: Option<String>,
    /// Null where it is taken.
    pub not_taken: Option<String>,
}

/// What another computer needs to connect to this one.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Invite {
    pub text: String,
    /// The same as a link, which opens the app where it is installed.
    pub link: String,
    pub qr_svg: String,
    pub addresses: Vec<String>,
}

/// What a link says that the system handed over.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub(crate) enum Link {
    /// Somebody's invite.
    Invite {
        /// As it is connected with.
        text: String,
        peer: String,
        name: String,
        addresses: Vec<String>,
        /// It leads to this computer itself.
        own: bool,
        blocked: bool,
        connected: bool,
    },
    /// Nothing that this app does.
    Refused { error: ErrorView },
}

same_variants!(from node::Direction { In, Out });
same_variants!(from node::Transport { Quic, Tcp });
same_variants!(from node::ReachKind { Off, Unknown, Public, Relayed, Unreachable });

impl From<node::Peer> for Peer {
    fn from(peer: node::Peer) -> Self {
        Self {
            id: peer.id,
            name: peer.name,
            address: peer.address,
            direction: peer.direction.into(),
            transport: peer.transport.into(),
            rtt_ms: peer.rtt_ms,
            agent: peer.agent,
            models: peer.models,
            unlisted: peer.unlisted,
            since_ms: number(peer.since_ms),
            blocked: peer.blocked,
            asked: peer.asked,
            asks: peer.asks,
            relayed: peer.relayed,
            received_bytes: number(peer.data.received),
            sent_bytes: number(peer.data.sent),
            record: peer.record.map(Into::into),
            resting_until_ms: maybe(peer.resting_until_ms),
        }
    }
}

impl From<node::PeerRecord> for PeerRecord {
    fn from(record: node::PeerRecord) -> Self {
        Self {
            jobs: record.jobs,
            failed: record.failed,
            lies: record.lies,
            tokens_per_second: record.tokens_per_second,
        }
    }
}

impl From<node::Reachability> for Reachability {
    fn from(reach: node::Reachability) -> Self {
        Self {
            kind: reach.kind.into(),
            text: reach.text,
            fixes: reach.fixes.into_iter().map(|fix| fix.text).collect(),
            nat: reach.nat,
            upnp: reach.upnp,
            relays: reach.relays,
            carries: reach.carries,
            tested_ms: maybe(reach.tested_ms),
        }
    }
}

impl From<node::SourceView> for SourceView {
    fn from(source: node::SourceView) -> Self {
        Self {
            code: source.code,
            name: source.name,
            enabled: source.enabled,
            tried: source.tried,
            found: source.found,
            problem: source.problem,
        }
    }
}

impl From<node::LogLine> for LogLine {
    fn from(line: node::LogLine) -> Self {
        Self {
            at_ms: number(line.at_ms),
            serving: line.serving,
            peer: line.peer,
            direction: line.direction.into(),
            code: line.code,
            text: line.text,
        }
    }
}

impl From<node::PeerChoice> for PeerChoice {
    fn from(choice: node::PeerChoice) -> Self {
        Self {
            id: choice.id,
            name: choice.name,
            connected: choice.connected,
            chance: choice.chance,
            first_token_ms: choice.first_token_ms,
            tokens_per_second: choice.tokens_per_second,
            reliability: choice.reliability,
            region: choice.region,
            not_taken: choice.not_taken,
        }
    }
}

impl From<node::Invite> for Invite {
    fn from(invite: node::Invite) -> Self {
        Self {
            text: invite.text,
            link: invite.link,
            qr_svg: invite.qr_svg,
            addresses: invite.addresses,
        }
    }
}

impl From<node::peers::Invited> for Link {
    fn from(invited: node::peers::Invited) -> Self {
        Self::Invite {
            text: invited.text,
            peer: invited.peer,
            name: invited.name,
            addresses: invited.addresses,
            own: invited.own,
            blocked: invited.blocked,
            connected: invited.connected,
        }
    }
}

impl From<node::NodeError> for Link {
    fn from(error: node::NodeError) -> Self {
        Self::Refused {
            error: error.into(),
        }
    }
}
