//! The models that peers offer and no row of the list names.

use serde::Serialize;
use specta::Type;

/// The list, apart from that of the models.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CommunityView {
    /// The switch of the settings; off, there are no rows.
    pub on: bool,
    /// More may come.
    pub searching: bool,
    pub rows: Vec<CommunityModel>,
    /// Seen and not listed: the list is bounded.
    pub left_out: u32,
}

/// One file. What peers and the file itself say of it is their word.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CommunityModel {
    /// As a chat names it.
    pub id: String,
    /// The name that its file gives itself, else the start of its digest.
    pub name: String,
    pub digest: String,
    pub peers: u32,
    pub connected: u32,
    pub context_max: u32,
    pub prices: CommunityPrices,
    /// As peers say.
    pub quants: Vec<String>,
    /// As peers say; null where nobody does.
    pub speed: Option<SpeedRange>,
    /// Different ones that peers name for this file; more than one is a disagreement.
    pub heads: u32,
    /// What looking at it fetches.
    pub head_bytes: u32,
    /// Null before it was looked at.
    pub says: Option<HeadSays>,
}

/// What peers ask per million tokens, in base units.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CommunityPrices {
    pub input_low: String,
    pub input_high: String,
    pub output_low: String,
    pub output_high: String,
    /// Peers that ask nothing.
    pub free: u32,
}

/// In whole tokens per second.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SpeedRange {
    pub low: u32,
    pub high: u32,
}

/// What a file says of itself.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HeadSays {
    /// Empty where it says none.
    pub name: String,
    pub architecture: String,
    pub parameters: String,
    pub quant: String,
    pub context: u32,
    /// This engine could compute it; a peer may where it cannot.
    pub runs_here: bool,
    /// It says how a chat is written, and writes answers.
    pub takes_chat: bool,
}

impl From<node::CommunityView> for CommunityView {
    fn from(view: node::CommunityView) -> Self {
        Self {
            on: view.on,
            searching: view.searching,
            rows: view.rows.into_iter().map(Into::into).collect(),
            left_out: view.left_out,
        }
    }
}

impl From<node::CommunityModel> for CommunityModel {
    fn from(model: node::CommunityModel) -> Self {
        Self {
            id: model.id,
            name: model.name,
            digest: model.digest,
            peers: model.peers,
            connected: model.connected,
            context_max: model.context_max,
            prices: model.prices.into(),
            quants: model.quants,
            speed: model.speed.map(Into::into),
            heads: model.heads,
            head_bytes: model.head_bytes,
            says: model.says.map(Into::into),
        }
    }
}

impl From<node::CommunityPrices> for CommunityPrices {
    fn from(prices: node::CommunityPrices) -> Self {
        Self {
            input_low: prices.input_low,
            input_high: prices.input_high,
            output_low: prices.output_low,
            output_high: prices.output_high,
            free: prices.free,
        }
    }
}

impl From<node::SpeedRange> for SpeedRange {
    fn from(node::SpeedRange { low, high }: node::SpeedRange) -> Self {
        Self { low, high }
    }
}

impl From<node::HeadSays> for HeadSays {
    fn from(says: node::HeadSays) -> Self {
        Self {
            name: says.name,
            architecture: says.architecture,
            parameters: says.parameters,
            quant: says.quant,
            context: says.context,
            runs_here: says.runs_here,
            takes_chat: says.takes_chat,
        }
    }
}
