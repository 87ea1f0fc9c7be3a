//! What a shell sees of the models: rows with their state and fit, the folder and its disk.

use serde::{Deserialize, Serialize};

use crate::error::ErrorView;

/// Where a model's file stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum ModelState {
    /// Not on this computer.
    Absent,
    /// On its way.
    Downloading {
        /// Bytes here.
        done: u64,
        /// Bytes in all.
        total: u64,
        /// Present rate.
        bytes_per_second: u64,
        /// At the present rate.
        seconds_left: Option<u64>,
        /// The host it comes from.
        source: String,
    },
    /// Whole, and being compared with its digest.
    Verifying {
        /// Bytes read.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Stopped by the person; goes on where it was.
    Paused {
        /// Bytes here.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It did not work.
    Failed {
        /// Why, and what to do.
        error: ErrorView,
        /// Bytes that are kept.
        done: u64,
    },
    /// On this computer, whole.
    Ready {
        /// The file.
        path: String,
        /// The engine has it in memory.
        loaded: bool,
    },
}

/// Whether this computer can run a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FitKind {
    /// With room to spare.
    Fits,
    /// It runs, and leaves little for other programs.
    Tight,
    /// It needs more memory than there is.
    TooLarge,
    /// Not enough is known of the file.
    Unknown,
}

/// Whether this computer can run a model, with the numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fit {
    /// The verdict.
    pub kind: FitKind,
    /// Memory it needs.
    pub need_bytes: u64,
    /// Memory there is.
    pub have_bytes: u64,
    /// The verdict in words.
    pub sentence: String,
}

/// What a licence says about serving others for pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServeForPay {
    /// It allows it.
    Yes,
    /// It forbids it.
    No,
    /// It was not read.
    Unknown,
}

/// The speed that was measured on this computer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// Reading a prompt.
    pub prefill_tokens_per_second: Option<f64>,
    /// Writing.
    pub decode_tokens_per_second: f64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The program's own measurement, where it made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<engine::Benchmark>,
}

/// Where a row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The catalogue of this version.
    Catalogue,
    /// The person added the file.
    Added,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelRow {
    /// Stable name in settings, chats and commands.
    pub id: String,
    /// Name for reading.
    pub name: String,
    /// Architecture family.
    pub family: String,
    /// For reading, like "135M".
    pub parameters: String,
    /// What it is good at.
    pub about: String,
    /// Size of the file.
    pub size_bytes: u64,
    /// Context it was trained for.
    pub context_max: Option<u32>,
    /// Quantisation.
    pub quant: String,
    /// Licence name.
    pub licence: String,
    /// Licence text.
    pub licence_url: Option<String>,
    /// What the licence says about serving for pay.
    pub serve_for_pay: ServeForPay,
    /// It may be offered to others by this node.
    pub may_serve: bool,
    /// Its training data is open.
    pub training_data_open: Option<bool>,
    /// It is the bundled starter.
    pub starter: bool,
    /// Where the row comes from.
    pub origin: Origin,
    /// SHA-256 of the file, hex, once pinned.
    pub digest: Option<String>,
    /// Where its file stands.
    pub state: ModelState,
    /// Whether this computer can run it.
    pub fit: Fit,
    /// Measured speed here.
    pub measured: Option<Measured>,
    /// Peers that offer it now.
    pub peers: u32,
    /// New chats use it.
    pub is_default: bool,
}

/// The folder that models lie in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelsFolder {
    /// The folder.
    pub path: String,
    /// What the models in it take.
    pub used_bytes: u64,
    /// What its disk has free.
    pub free_bytes: u64,
}

/// Everything about models, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelsView {
    /// Every known model.
    pub rows: Vec<ModelRow>,
    /// Where they lie.
    pub folder: ModelsFolder,
    /// This computer, for reading.
    pub computer: String,
    /// Id of the row that would be better than the one in use.
    pub better: Option<String>,
}
