//! The node: its one switch, what it answered, receipts and checks.

use serde::Serialize;
use specta::Type;

use super::energy::Meter;
use super::peers::{Peer, Reachability, SourceView};
use super::{ErrorView, maybe, number};

/// What the one switch does now.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub(crate) enum ServingState {
    Off,
    Preparing {
        step: String,
        done: f64,
        total: f64,
    },
    Waiting {
        since_ms: f64,
    },
    Serving {
        jobs: u32,
        tokens_per_second: Option<f64>,
    },
    PausedByYou {
        until_ms: Option<f64>,
    },
    PausedOwnWork,
    Attention {
        error: ErrorView,
    },
    NetworkProblem {
        error: ErrorView,
        last_good_ms: Option<f64>,
    },
}

/// A model that is not offered, and the reason.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotOffered {
    pub(crate) model: String,
    pub why: String,
}

/// What the engine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EngineState {
    Off,
    Starting,
    Ready,
    Busy,
}

/// The engine's worker process, as measured.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EngineStatus {
    pub state: EngineState,
    /// The instruction set it computes with, "AVX2" for example.
    pub worker: Option<String>,
    pub(crate) model: Option<String>,
    pub memory_bytes: f64,
    pub isolated_network: bool,
    pub isolated_files: bool,
}

/// The answers to what a lender asks, as this build truly behaves.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lender {
    /// What of a stranger's text is seen here.
    pub reads: String,
    /// What the worker that computes it can reach.
    pub reaches: String,
    /// What is kept.
    pub stores: String,
    /// What may be served.
    pub serves: String,
    /// What off means.
    pub stops: String,
}

/// The Node page, the tray, and the switch in the sidebar.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeStatus {
    pub version: String,
    pub data_folder: String,
    pub peer_id: String,
    pub serving: ServingState,
    pub serving_model: Option<String>,
    pub offered: Vec<String>,
    pub not_offered: Vec<NotOffered>,
    pub listening: Vec<String>,
    pub peers: Vec<Peer>,
    pub reach: Reachability,
    pub sources: Vec<SourceView>,
    /// Bytes over the line since the start.
    pub received_bytes: f64,
    pub sent_bytes: f64,
    pub answered_today: u32,
    pub tokens_today: f64,
    /// How long the last switch-off took, measured.
    pub off_ms: Option<f64>,
    pub engine: EngineStatus,
    pub meter: Meter,
    pub lender: Lender,
    /// What went wrong at the start and was survived.
    pub notices: Vec<ErrorView>,
}

/// How far an answered request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AnsweredState {
    Answering,
    Signed,
    Unsigned,
}

/// One request that this computer answered: count, model and time, never content.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answered {
    pub job: String,
    pub at_ms: f64,
    pub(crate) model: String,
    pub tokens_in: f64,
    pub tokens_out: f64,
    pub finish: String,
    pub state: AnsweredState,
    /// In base units; null where it was for nothing.
    pub earned: Option<String>,
    pub peer: String,
}

/// Which side of a job this computer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReceiptRole {
    Provider,
    Client,
}

/// The provider's signature under a receipt, checked again when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProviderSignature {
    Valid,
    Invalid,
}

/// The client's signature under a receipt, checked again when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClientSignature {
    Valid,
    Missing,
    Invalid,
}

/// What is known about the work itself, beyond the signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
pub(crate) enum Checked {
    #[serde(rename = "not checked")]
    NotChecked,
}

/// The receipt of one job, in the words of the protocol.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    pub job: String,
    pub role: ReceiptRole,
    pub peer: String,
    pub(crate) model: String,
    pub(crate) model_digest: String,
    /// No row names that file now.
    pub unlisted: bool,
    pub tokens_in: f64,
    /// Those of them that were in the cache.
    pub tokens_cached: f64,
    pub tokens_out: f64,
    pub finish: String,
    pub at_ms: f64,
    /// Hash over every token of the answer, in hexadecimal.
    pub chain: String,
    pub provider_signature: ProviderSignature,
    pub client_signature: ClientSignature,
    pub due: String,
    /// Whether somebody computed the answer again to compare.
    pub checked: Checked,
    /// The whole receipt, for another program to check.
    pub json: String,
}

/// How a check of the doctor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CheckState {
    Pass,
    Fail,
    Warn,
    Skip,
}

/// One check of the doctor, with its fix.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Check {
    pub name: String,
    pub state: CheckState,
    pub detail: String,
    pub fix: Option<String>,
    /// What a button beside it does; null: there is none.
    pub act: Option<CheckAct>,
}

/// What this program can do about a check, where a person says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CheckAct {
    ForgetClock,
}

same_variants!(from node::EngineState { Off, Starting, Ready, Busy });
same_variants!(from node::AnsweredState { Answering, Signed, Unsigned });
same_variants!(from node::ReceiptRole { Provider, Client });
same_variants!(from node::ProviderSignature { Valid, Invalid });
same_variants!(from node::ClientSignature { Valid, Missing, Invalid });
same_variants!(from node::Checked { NotChecked });
same_variants!(from node::CheckAct { ForgetClock });
same_variants!(from node::CheckState { Pass, Fail, Warn, Skip });

impl From<node::ServingState> for ServingState {
    fn from(state: node::ServingState) -> Self {
        match state {
            node::ServingState::Off => Self::Off,
            node::ServingState::Preparing { step, done, total } => Self::Preparing {
                step,
                done: number(done),
                total: number(total),
            },
            node::ServingState::Waiting { since_ms } => Self::Waiting {
                since_ms: number(since_ms),
            },
            node::ServingState::Serving {
                jobs,
                tokens_per_second,
            } => Self::Serving {
                jobs,
                tokens_per_second,
            },
            node::ServingState::PausedByYou { until_ms } => Self::PausedByYou {
                until_ms: maybe(until_ms),
            },
            node::ServingState::PausedOwnWork => Self::PausedOwnWork,
            node::ServingState::Attention { error } => Self::Attention {
                error: error.into(),
            },
            node::ServingState::NetworkProblem {
                error,
                last_good_ms,
            } => Self::NetworkProblem {
                error: error.into(),
                last_good_ms: maybe(last_good_ms),
            },
        }
    }
}

impl From<node::NotOffered> for NotOffered {
    fn from(not_offered: node::NotOffered) -> Self {
        Self {
            model: not_offered.model,
            why: not_offered.why,
        }
    }
}

impl From<node::EngineStatus> for EngineStatus {
    fn from(engine: node::EngineStatus) -> Self {
        Self {
            state: engine.state.into(),
            worker: engine.worker,
            model: engine.model,
            memory_bytes: number(engine.memory_bytes),
            isolated_network: engine.isolated_network,
            isolated_files: engine.isolated_files,
        }
    }
}

impl From<node::Lender> for Lender {
    fn from(lender: node::Lender) -> Self {
        Self {
            reads: lender.reads,
            reaches: lender.reaches,
            stores: lender.stores,
            serves: lender.serves,
            stops: lender.stops,
        }
    }
}

impl From<node::NodeStatus> for NodeStatus {
    fn from(status: node::NodeStatus) -> Self {
        Self {
            version: status.version,
            data_folder: status.data_folder,
            peer_id: status.peer_id,
            serving: status.serving.into(),
            serving_model: status.serving_model,
            offered: status.offered,
            not_offered: status.not_offered.into_iter().map(Into::into).collect(),
            listening: status.listening,
            peers: status.peers.into_iter().map(Into::into).collect(),
            reach: status.reach.into(),
            sources: status.sources.into_iter().map(Into::into).collect(),
            received_bytes: number(status.data.received),
            sent_bytes: number(status.data.sent),
            answered_today: status.answered_today,
            tokens_today: number(status.tokens_today),
            off_ms: maybe(status.off_ms),
            engine: status.engine.into(),
            meter: status.meter.into(),
            lender: status.lender.into(),
            notices: status.notices.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<node::Answered> for Answered {
    fn from(answered: node::Answered) -> Self {
        Self {
            job: answered.job,
            at_ms: number(answered.at_ms),
            model: answered.model,
            tokens_in: number(answered.tokens_in),
            tokens_out: number(answered.tokens_out),
            finish: answered.finish,
            state: answered.state.into(),
            earned: answered.earned,
            peer: answered.peer,
        }
    }
}

impl From<node::Receipt> for Receipt {
    fn from(receipt: node::Receipt) -> Self {
        Self {
            job: receipt.job,
            role: receipt.role.into(),
            peer: receipt.peer,
            model: receipt.model,
            model_digest: receipt.model_digest,
            unlisted: receipt.unlisted,
            tokens_in: number(receipt.tokens_in),
            tokens_cached: number(receipt.tokens_cached),
            tokens_out: number(receipt.tokens_out),
            finish: receipt.finish,
            at_ms: number(receipt.at_ms),
            chain: receipt.chain,
            provider_signature: receipt.provider_signature.into(),
            client_signature: receipt.client_signature.into(),
            due: receipt.due,
            checked: receipt.checked.into(),
            json: receipt.json,
        }
    }
}

impl From<node::Check> for Check {
    fn from(check: node::Check) -> Self {
        Self {
            name: check.name,
            state: check.state.into(),
            detail: check.detail,
            fix: check.fix,
            act: check.act.map(Into::into),
        }
    }
}
