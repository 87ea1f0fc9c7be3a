//! What a shell sees of the node: one whole snapshot on a `watch` channel.

mod network;
mod peers;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use engine::EnginePhase;
use protocol::{ModelDigest, PeerId};
use serde::{Deserialize, Serialize};

pub(crate) use self::peers::peer;
pub use self::{
    network::{DataUsed, Fix, LogLine, ReachKind, Reachability, SourceView},
    peers::{Direction, Peer, PeerRecord, Transport},
};

use crate::{
    clock, data::DataFolder, energy::MeterView, error::ErrorView, identity::Identity, node::Inner,
    serve::ServingView,
};

/// The least time between two snapshots: a running answer changes the engine's numbers with every token.
const GATHER: Duration = Duration::from_millis(100);

/// Round trips and midnight pass without an event.
const REFRESH: Duration = Duration::from_secs(15);

/// What this computer does for others: the one truth that the window, the tray and the command line draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum ServingState {
    /// Nothing is offered, nothing listens.
    Off,
    /// On its way to waiting.
    Preparing {
        /// What is being done.
        step: String,
        /// In the step's unit.
        done: u64,
        /// 0 where it is not known.
        total: u64,
    },
    /// Ready; nobody asks.
    Waiting {
        /// Since when, in milliseconds since 1970.
        since_ms: u64,
    },
    /// Answering others.
    Serving {
        /// How many at once.
        jobs: u32,
        /// All of them together.
        tokens_per_second: Option<f64>,
    },
    /// The person paused it.
    PausedByYou {
        /// Until when, in milliseconds since 1970; `None` until resumed.
        until_ms: Option<u64>,
    },
    /// The person's own answer runs, and others are computed only out of what it leaves.
    PausedOwnWork,
    /// It cannot serve until the person does something.
    Attention {
        /// What, and how.
        error: ErrorView,
    },
    /// The network fails, and it is not the person's fault.
    NetworkProblem {
        /// What is known.
        error: ErrorView,
        /// When it last worked, in milliseconds since 1970.
        last_good_ms: Option<u64>,
    },
}

/// Why a model at hand is not offered to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotOffered {
    /// Its name.
    pub model: String,
    /// One sentence.
    pub why: String,
}

/// Whether the engine's worker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineState {
    /// No worker process.
    Off,
    /// A worker starts, or a model is being loaded.
    Starting,
    /// A worker waits.
    Ready,
    /// A worker computes.
    Busy,
}

/// The engine's worker as it measured itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineStatus {
    /// What it does.
    pub state: EngineState,
    /// The instruction set that the worker computes with.
    pub worker: Option<String>,
    /// The loaded model's name.
    pub model: Option<String>,
    /// Resident memory of the worker process, bytes.
    pub memory_bytes: u64,
    /// The worker tried the network and was refused.
    pub isolated_network: bool,
    /// The worker tried files outside its folders and was refused.
    pub isolated_files: bool,
}

/// The answers to what a lender asks, as this build truly behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lender {
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

/// Everything about the node, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The program's version.
    pub version: String,
    /// The data folder.
    pub data_folder: String,
    /// This node's PeerId, by which it serves.
    pub peer_id: String,
    /// The PeerId by which it asks: another one every day, and after every start.
    pub asking_peer_id: String,
    /// The one truth about serving.
    pub serving: ServingState,
    /// Name of the model that others are answered with at this moment, or would be.
    pub serving_model: Option<String>,
    /// Names of the offered models.
    pub offered: Vec<String>,
    /// Models at hand that are not offered, each with why.
    pub not_offered: Vec<NotOffered>,
    /// Addresses that others can dial.
    pub listening: Vec<String>,
    /// Connected peers, then blocked ones.
    pub peers: Vec<Peer>,
    /// Whether and how others reach this computer.
    pub reach: Reachability,
    /// Where first peers come from, and what each source brought.
    pub sources: Vec<SourceView>,
    /// Bytes that went over the line since the start.
    pub data: DataUsed,
    /// Jobs answered for others since midnight.
    pub answered_today: u32,
    /// Tokens written for others since midnight.
    pub tokens_today: u64,
    /// Measured duration of the last switch-off.
    pub off_ms: Option<u64>,
    /// The engine's worker.
    pub engine: EngineStatus,
    /// What counts energy here, and what is drawn now.
    pub meter: MeterView,
    /// What a lender asks, answered.
    pub lender: Lender,
    /// What went wrong at the start and was survived: a settings file put aside, an identity that cannot be read.
    pub notices: Vec<ErrorView>,
}

impl Lender {
    /// What is true of this version.
    fn now() -> Self {
        Self {
            reads: "What others ask is computed on this computer, as the numbers of tokens. The program shows it to nobody; a \
                    person with full rights on this computer could read its memory."
                .to_owned(),
            reaches: "The process that computes has no network, no keys and no files but the models'. It measures that \
                      itself at each start."
                .to_owned(),
            stores: "What was answered is listed by count, model and time, and receipts are kept. No text is stored.".to_owned(),
            serves: "Only models whose licence allows it and whose file has a known digest. The others are listed with the reason."
                .to_owned(),
            stops: "Switching off tells the askers, closes every listening address and ends the process that computes. The time \
                    it took is shown."
                .to_owned(),
        }
    }
}

/// One job done for a peer. Never its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answered {
    /// The job's id, hex.
    pub job: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Name of the model.
    pub model: String,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Tokens written.
    pub tokens_out: u64,
    /// Why it ended.
    pub finish: String,
    /// Whether it runs, and whether the asker signed for it.
    pub state: AnsweredState,
    /// What was vouchered for it so far, in base units; `None` where it was for nothing.
    pub earned: Option<String>,
    /// Who asked.
    pub peer: String,
}

/// How far a job for a peer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnsweredState {
    /// It runs.
    Answering,
    /// Over, and the asker countersigned the receipt.
    Signed,
    /// Over, without a countersignature.
    Unsigned,
}

/// The snapshot before anything runs.
pub(crate) fn first(
    data: &DataFolder,
    identity: &Identity,
    asking: PeerId,
    notices: &[ErrorView],
) -> NodeStatus {
    NodeStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_folder: data.root().display().to_string(),
        peer_id: identity.peer_id().to_string(),
        asking_peer_id: asking.to_string(),
        serving: ServingState::Off,
        serving_model: None,
        offered: Vec::new(),
        not_offered: Vec::new(),
        listening: Vec::new(),
        peers: Vec::new(),
        reach: Reachability::default(),
        sources: Vec::new(),
        data: DataUsed::default(),
        answered_today: 0,
        tokens_today: 0,
        off_ms: None,
        engine: EngineStatus {
            state: EngineState::Off,
            worker: None,
            model: None,
            memory_bytes: 0,
            isolated_network: false,
            isolated_files: false,
        },
        meter: MeterView::default(),
        lender: Lender::now(),
        notices: notices.to_vec(),
    }
}

/// Keeps the snapshot true until the node stops.
pub(crate) async fn keep(inner: Arc<Inner>) {
    let mut engine = inner.engine.stats();
    let mut session = inner.asking.watch();
    let mut asking = session.borrow_and_update().network.status();
    let mut network = inner.serving.network_status();
    let mut serving = inner.serving.view();
    let mut meter = inner.energy.watch();
    loop {
        refresh(&inner).await;
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = tokio::time::sleep(GATHER) => {}
        }
        tokio::select! {
            () = inner.stop.cancelled() => return,
            Ok(()) = engine.changed() => {}
            Ok(()) = session.changed() => asking = session.borrow_and_update().network.status(),
            Ok(()) = asking.changed() => {}
            Ok(()) = network.changed() => {}
            Ok(()) = serving.changed() => {}
            Ok(()) = meter.changed() => {}
            () = tokio::time::sleep(REFRESH) => {}
        }
        engine.borrow_and_update();
        asking.borrow_and_update();
        network.borrow_and_update();
        serving.borrow_and_update();
        meter.borrow_and_update();
    }
}

/// Makes a snapshot of now. It is sent only when it differs.
pub(crate) async fn refresh(inner: &Inner) {
    let midnight = clock::midnight_ms();
    let totals = match inner.ledger.totals(midnight, u64::MAX / 2).await {
        Ok(totals) => Some(totals),
        Err(error) => {
            tracing::debug!(%error, "the totals of today are not known");
            None
        }
    };
    let names = names(inner);
    let serving = inner.serving.view().borrow().clone();
    let engine = engine_status(inner);
    let session = inner.asking.now();
    let asking = session.network.status().borrow().clone();
    let network = inner.serving.network_status().borrow().clone();
    let peers = self::peers::peers(inner, (&asking.peers, &network.peers), &names);
    let reach = self::network::reachability(inner, &network);
    let sources = self::network::sources(&asking, &network);
    let data = self::network::data_used(&asking, &network);
    let listening = network.listening;
    let asking_peer_id = session.peer_id().to_string();
    inner.status.send_if_modified(|status| {
        let mut now = status.clone();
        let ServingView {
            state,
            served,
            not_offered,
            off_ms,
            ..
        } = serving;
        now.serving_model = match &state {
            ServingState::Off
            | ServingState::Attention { .. }
            | ServingState::NetworkProblem { .. } => None,
            ServingState::Preparing { .. }
            | ServingState::Waiting { .. }
            | ServingState::Serving { .. }
            | ServingState::PausedByYou { .. }
            | ServingState::PausedOwnWork => {
                let loaded = engine
                    .model
                    .as_ref()
                    .filter(|model| served.iter().any(|served| served.name == **model));
                loaded
                    .cloned()
                    .or_else(|| served.first().map(|served| served.name.clone()))
            }
        };
        now.serving = state;
        now.offered = served.iter().map(|served| served.name.clone()).collect();
        now.not_offered = not_offered;
        now.off_ms = off_ms;
        now.engine = engine;
        now.meter = inner.energy.view();
        now.listening = listening;
        now.asking_peer_id = asking_peer_id;
        now.reach = reach;
        now.sources = sources;
        now.data = data;
        now.peers = peers;
        if let Some(totals) = totals {
            now.answered_today = u32::try_from(totals.jobs).unwrap_or(u32::MAX);
            now.tokens_today = totals.tokens_out;
        }
        let changed = now != *status;
        *status = now;
        changed
    });
}

/// Names of the models that are known here, by digest.
pub(crate) fn names(inner: &Inner) -> BTreeMap<ModelDigest, String> {
    let models = inner.models.all().into_iter();
    models
        .filter_map(|model| Some((model.digest?, model.name)))
        .collect()
}

fn engine_status(inner: &Inner) -> EngineStatus {
    let stats = inner.engine.stats();
    let stats = stats.borrow();
    // The name a person knows it by is that of the list of models, not the one in the file.
    let known = inner
        .models
        .all()
        .into_iter()
        .find(|model| model.file.is_some() && model.file == stats.model_file);
    EngineStatus {
        state: match stats.phase {
            EnginePhase::Off => EngineState::Off,
            EnginePhase::Starting | EnginePhase::Loading(_) => EngineState::Starting,
            EnginePhase::Ready => EngineState::Ready,
            EnginePhase::Busy => EngineState::Busy,
        },
        worker: stats.kernels.clone(),
        model: known
            .map(|model| model.name)
            .or_else(|| stats.model_name.clone()),
        memory_bytes: stats.rss_bytes.unwrap_or(0),
        isolated_network: stats.isolation.network,
        isolated_files: stats.isolation.files,
    }
}
