//! The catalogue, the files on the disk, and what fits this computer.

use serde::Serialize;
use specta::Type;

use super::{ErrorView, maybe, number};

/// How far a model's file is.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub(crate) enum ModelState {
    Absent,
    Downloading {
        done: f64,
        total: f64,
        bytes_per_second: f64,
        seconds_left: Option<f64>,
        source: String,
    },
    Verifying {
        done: f64,
        total: f64,
    },
    Paused {
        done: f64,
        total: f64,
    },
    Failed {
        error: ErrorView,
        done: f64,
    },
    Ready {
        path: String,
        loaded: bool,
    },
}

/// Whether a model fits this computer's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FitKind {
    Fits,
    Tight,
    TooLarge,
    Unknown,
}

/// The numbers behind [`FitKind`], and the sentence to show.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fit {
    pub kind: FitKind,
    pub need_bytes: f64,
    pub have_bytes: f64,
    pub sentence: String,
}

/// What a model's licence says about serving it to others for pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServeForPay {
    Yes,
    No,
    Unknown,
}

/// Where a row came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    Catalogue,
    Added,
}

/// This computer's own measurement of a model.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    pub prefill_tokens_per_second: Option<f64>,
    pub decode_tokens_per_second: f64,
    pub at_ms: f64,
}

/// One model: of the catalogue, or added from the disk.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelRow {
    pub id: String,
    pub name: String,
    pub family: String,
    pub parameters: String,
    pub about: String,
    pub size_bytes: f64,
    pub context_max: Option<u32>,
    pub quant: String,
    pub licence: String,
    pub licence_url: Option<String>,
    pub serve_for_pay: ServeForPay,
    pub may_serve: bool,
    pub training_data_open: Option<bool>,
    pub starter: bool,
    pub origin: Origin,
    pub digest: Option<String>,
    pub state: ModelState,
    pub fit: Fit,
    pub measured: Option<Measured>,
    /// How many connected peers offer it.
    pub peers: u32,
    pub is_default: bool,
}

/// The folder that holds the weights.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelsFolder {
    pub path: String,
    pub(crate) used_bytes: f64,
    pub free_bytes: f64,
}

/// The whole Models page.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelsView {
    pub rows: Vec<ModelRow>,
    pub folder: ModelsFolder,
    /// This computer in words.
    pub computer: String,
    /// The row to suggest beside the starter.
    pub better: Option<String>,
}

same_variants!(from node::FitKind { Fits, Tight, TooLarge, Unknown });
same_variants!(from node::ServeForPay { Yes, No, Unknown });
same_variants!(from node::Origin { Catalogue, Added });

impl From<node::ModelState> for ModelState {
    fn from(state: node::ModelState) -> Self {
        match state {
            node::ModelState::Absent => Self::Absent,
            node::ModelState::Downloading {
                done,
                total,
                bytes_per_second,
                seconds_left,
                source,
            } => Self::Downloading {
                done: number(done),
                total: number(total),
                bytes_per_second: number(bytes_per_second),
                seconds_left: maybe(seconds_left),
                source,
            },
            node::ModelState::Verifying { done, total } => Self::Verifying {
                done: number(done),
                total: number(total),
            },
            node::ModelState::Paused { done, total } => Self::Paused {
                done: number(done),
                total: number(total),
            },
            node::ModelState::Failed { error, done } => Self::Failed {
                error: error.into(),
                done: number(done),
            },
            node::ModelState::Ready { path, loaded } => Self::Ready { path, loaded },
        }
    }
}

impl From<node::Fit> for Fit {
    fn from(fit: node::Fit) -> Self {
        Self {
            kind: fit.kind.into(),
            need_bytes: number(fit.need_bytes),
            have_bytes: number(fit.have_bytes),
            sentence: fit.sentence,
        }
    }
}

impl From<node::Measured> for Measured {
    fn from(measured: node::Measured) -> Self {
        Self {
            prefill_tokens_per_second: measured.prefill_tokens_per_second,
            decode_tokens_per_second: measured.decode_tokens_per_second,
            at_ms: number(measured.at_ms),
        }
    }
}

impl From<node::ModelRow> for ModelRow {
    fn from(row: node::ModelRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            family: row.family,
            parameters: row.parameters,
            about: row.about,
            size_bytes: number(row.size_bytes),
            context_max: row.context_max,
            quant: row.quant,
            licence: row.licence,
            licence_url: row.licence_url,
            serve_for_pay: row.serve_for_pay.into(),
            may_serve: row.may_serve,
            training_data_open: row.training_data_open,
            starter: row.starter,
            origin: row.origin.into(),
            digest: row.digest,
            state: row.state.into(),
            fit: row.fit.into(),
            measured: row.measured.map(Into::into),
            peers: row.peers,
            is_default: row.is_default,
        }
    }
}

impl From<node::ModelsFolder> for ModelsFolder {
    fn from(folder: node::ModelsFolder) -> Self {
        Self {
            path: folder.path,
            used_bytes: number(folder.used_bytes),
            free_bytes: number(folder.free_bytes),
        }
    }
}

impl From<node::ModelsView> for ModelsView {
    fn from(models: node::ModelsView) -> Self {
        Self {
            rows: models.rows.into_iter().map(Into::into).collect(),
            folder: models.folder.into(),
            computer: models.computer,
            better: models.better,
        }
    }
}
