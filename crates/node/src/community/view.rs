//! What a shell sees of the models that peers offer and no row here names.

use serde::{Deserialize, Serialize};

/// The models that peers offer and no row here names, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommunityView {
    /// Whether they are listed at all: the person's switch, off by default. Off, there are no rows.
    pub on: bool,
    /// Providers are being looked for: more rows may come.
    pub searching: bool,
    /// Those that the most peers offer first.
    pub rows: Vec<CommunityModel>,
    /// Further ones that were seen and are not listed, since the list is bounded.
    pub left_out: u32,
}

/// One file that peers offer and no row here names. Who made it, its licence and whether it is what it calls itself is not known, and nobody
/// reviewed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommunityModel {
    /// As a chat names it: `sha256:` and the digest.
    pub id: String,
    /// What to call it: the name that its file gives itself where that was read, else the start of its digest. Nobody checked it.
    pub name: String,
    /// SHA-256 of the file, hex.
    pub digest: String,
    /// Peers that offer it.
    pub peers: u32,
    /// Those of them that are connected.
    pub connected: u32,
    /// The longest context that one of them says it serves, in tokens.
    pub context_max: u32,
    /// What they ask.
    pub prices: CommunityPrices,
    /// Quantisations that they say it has; one, where they agree.
    pub quants: Vec<String>,
    /// Tokens per second that the slowest and the fastest say they write; `None` where nobody says.
    pub speed: Option<SpeedRange>,
    /// How many different heads they name for this one file. More than one: some of them are wrong.
    pub heads: u32,
    /// Bytes of the head that the most of them name: what looking at it fetches.
    pub head_bytes: u32,
    /// What that head says of its file; `None` before it was looked at.
    pub says: Option<HeadSays>,
}

/// What peers ask for one file, per million tokens, in base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommunityPrices {
    /// The lowest for reading.
    pub input_low: String,
    /// The highest for reading.
    pub input_high: String,
    /// The lowest for writing.
    pub output_low: String,
    /// The highest for writing.
    pub output_high: String,
    /// Peers that ask nothing.
    pub free: u32,
}

/// From the slowest to the fastest, in whole tokens per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpeedRange {
    /// The slowest.
    pub low: u32,
    /// The fastest.
    pub high: u32,
}

/// What a head says of its own file: the word of whoever made the file. Texts are without marks that would steer a screen, and short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadSays {
    /// What the file calls itself; empty where it says nothing.
    pub name: String,
    /// Its architecture, such as `llama`.
    pub architecture: String,
    /// For reading, like "135M"; empty where the tensor table is.
    pub parameters: String,
    /// Quantisation, by its tensor table.
    pub quant: String,
    /// Context it was trained for, in tokens.
    pub context: u32,
    /// This engine could compute it. A peer may where it cannot.
    pub runs_here: bool,
    /// It says how a chat is written and writes answers, so that it can be asked.
    pub takes_chat: bool,
}
