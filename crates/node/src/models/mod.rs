//! The models on this computer: which there are, where their files lie, and how they get here.
//!
//! [`Models`] is a handle on one task (`registry`) that owns the list. Calls go to it through its inbox; what it knows comes back as two
//! `watch` snapshots: rows for a shell ([`Models::view`]) and [`Model`]s for the rest of the node. Hashing, downloading and moving run in
//! tasks of their own and report to it.
//!
//! What lies where: models and their parts in `DATA/models` (or the folder they were moved to); what is remembered about them in
//! `DATA/models.toml`, `pins.toml` and `speeds.toml` (`records`). Files that came with the program, and files that a person added, stay
//! where they are.
//!
//! A file counts as here only when its SHA-256 was computed and, where one is expected, is the expected one.

mod catalog;
mod digest;
mod download;
mod entries;
mod error;
mod fetch;
mod fit;
mod part;
mod pip;
mod records;
mod registry;
mod rows;
mod store;
#[cfg(test)]
mod tests;
mod view;
mod work;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use engine::{EngineError, EngineHandle, TextInfo};
use futures::future::BoxFuture;
use protocol::{ModelDigest, ModelRef};
use tokio::sync::{mpsc, oneshot, watch};

pub use catalog::{Catalogue, CatalogueError, CatalogueRow, PipSource};
pub use digest::{NotASha, Sha};
pub use error::{DownloadError, ModelsError};
pub(crate) use fit::Graphics;
pub(crate) use records::{read as read_kept, write as write_kept};
pub(crate) use rows::short_count;
pub use view::{
    Fit, FitKind, Measured, ModelRow, ModelState, ModelsFolder, ModelsView, Origin, ServeForPay,
};

use registry::{Message, Outside, Registry};

/// Calls that may wait for the task: a person clicks, a command line asks.
const INBOX: usize = 32;

/// How long [`Models::open`] waits for files that were never hashed. The starter takes a moment, once; a larger file goes on by itself.
const SETTLE: Duration = Duration::from_secs(3);

/// Where models are looked for.
#[derive(Debug, Clone)]
pub struct ModelsOptions {
    /// The data folder; models lie in its `models` unless they were moved.
    pub data: PathBuf,
    /// Further folders, read only: beside the binary, the bundle's, the repository's `models/`.
    pub dirs: Vec<PathBuf>,
    /// Proxy for downloads; `None` is the system's, an empty text none at all.
    pub proxy: Option<String>,
    /// The person's choice for new chats.
    pub default_model: Option<String>,
}

/// What the rest of the node needs to know of one model.
#[derive(Debug, Clone)]
pub struct Model {
    /// Stable name.
    pub id: String,
    /// Name for reading.
    pub name: String,
    /// It is the bundled starter.
    pub starter: bool,
    /// Its whole file, when it is on this computer.
    pub file: Option<PathBuf>,
    /// SHA-256 of its file, as the catalogue, a pin or the file says, or said when it was last here.
    pub digest: Option<ModelDigest>,
    /// Its digest and head, once both are pinned.
    pub reference: Option<ModelRef>,
    /// Why it must not be offered to others; `None`: it may.
    pub not_served: Option<String>,
    /// The system prompt it does best with.
    pub system_prompt: Option<String>,
    /// `general.architecture` of its file.
    pub architecture: Option<String>,
    /// Context it was trained for.
    pub context_max: Option<u32>,
    /// Quantisation.
    pub quant: String,
    /// This computer has the memory for it.
    pub fits: bool,
}

/// What the list asks of the engine: to read a file's header, in the worker, where a hostile file does no harm.
pub(crate) trait HeaderReader: Send + Sync {
    /// Lets the worker read these files and folders.
    fn set_readable(&self, paths: Vec<PathBuf>) -> BoxFuture<'_, Result<(), EngineError>>;
    /// Reads a header.
    fn open_text<'a>(&'a self, file: &'a Path) -> BoxFuture<'a, Result<TextInfo, EngineError>>;
}

impl HeaderReader for EngineHandle {
    fn set_readable(&self, paths: Vec<PathBuf>) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(EngineHandle::set_readable(self, paths))
    }

    fn open_text<'a>(&'a self, file: &'a Path) -> BoxFuture<'a, Result<TextInfo, EngineError>> {
        Box::pin(EngineHandle::open_text(self, file))
    }
}

/// A handle on the models. Clones share one list.
#[derive(Clone)]
pub struct Models {
    inbox: mpsc::Sender<Message>,
    outside: watch::Sender<Outside>,
    list: watch::Receiver<Arc<Vec<Model>>>,
    view: watch::Receiver<ModelsView>,
    folders: watch::Receiver<Vec<PathBuf>>,
    problem: Option<Arc<ModelsError>>,
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models")
            .field("folders", &*self.folders.borrow())
            .finish_non_exhaustive()
    }
}

impl Models {
    /// Reads the catalogue and looks at the folders.
    ///
    /// # Errors
    /// [`ModelsError::Proxy`], and [`ModelsError::File`] where the models folder cannot be made. A catalogue of the data folder that is
    /// refused is no error here ([`Models::catalogue_problem`]): the built-in one holds.
    pub async fn open(options: ModelsOptions, engine: EngineHandle) -> Result<Self, ModelsError> {
        Self::open_with(options, Arc::new(engine), None).await
    }

    async fn open_with(
        options: ModelsOptions,
        engine: Arc<dyn HeaderReader>,
        limits: Option<download::Limits>,
    ) -> Result<Self, ModelsError> {
        let (inbox, messages) = mpsc::channel(INBOX);
        let outside = watch::Sender::new(Outside {
            proxy: options.proxy.clone(),
            default_model: options.default_model.clone(),
            ..Outside::default()
        });
        let (registry, watches, problem) =
            Registry::new(options, engine, limits, messages, outside.subscribe()).await?;
        tokio::spawn(registry.run());
        let models = Self {
            inbox,
            outside,
            list: watches.list,
            view: watches.view,
            folders: watches.folders,
            problem: problem.map(Arc::new),
        };
        let _ = tokio::time::timeout(SETTLE, models.settled()).await;
        Ok(models)
    }

    /// Everything about models, as it changes.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<ModelsView> {
        self.view.clone()
    }

    /// Every known model.
    #[must_use]
    pub fn all(&self) -> Vec<Model> {
        self.list.borrow().to_vec()
    }

    /// One model by its id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Model> {
        self.list
            .borrow()
            .iter()
            .find(|model| model.id == id)
            .cloned()
    }

    /// One model by the digest of its file. Its head need not be known here.
    #[must_use]
    pub fn by_digest(&self, digest: &ModelDigest) -> Option<Model> {
        let of = |model: &&Model| model.digest == Some(*digest);
        self.list.borrow().iter().find(of).cloned()
    }

    /// Whether a row here names this file: of the catalogue, or of a file that the person added.
    #[must_use]
    pub fn lists(&self, digest: &ModelDigest) -> bool {
        let list = self.list.borrow();
        list.iter().any(|model| model.digest == Some(*digest))
    }

    /// Why the catalogue in the data folder is not used, when it is not.
    #[must_use]
    pub fn catalogue_problem(&self) -> Option<&ModelsError> {
        self.problem.as_deref()
    }

    /// Returns once no file is being hashed.
    pub async fn settled(&self) {
        let mut view = self.view.clone();
        let checking = |view: &ModelsView| {
            view.rows
                .iter()
                .any(|row| matches!(row.state, ModelState::Verifying { .. }))
        };
        // An error says that the task has ended: nothing is hashed then, either.
        let _ = view.wait_for(|view| !checking(view)).await;
    }

    /// Whether a file is being hashed, so that more may be offered in a moment.
    pub(crate) fn checking(&self) -> bool {
        let view = self.view.borrow();
        let verifying = |row: &ModelRow| matches!(row.state, ModelState::Verifying { .. });
        view.rows.iter().any(verifying)
    }

    /// The model of new chats.
    pub fn set_default(&self, id: Option<String>) {
        self.outside
            .send_modify(|outside| outside.default_model = id);
    }

    /// The proxy of downloads that start from now on.
    pub fn set_proxy(&self, proxy: Option<String>) {
        self.outside.send_modify(|outside| outside.proxy = proxy);
    }

    /// Which file the engine has in memory.
    pub fn set_loaded(&self, file: Option<PathBuf>) {
        self.outside.send_if_modified(|outside| {
            let changed = outside.loaded != file;
            outside.loaded = file;
            changed
        });
    }

    /// How many peers offer which model.
    pub fn set_peers(&self, peers: BTreeMap<ModelDigest, u32>) {
        self.outside.send_if_modified(|outside| {
            let changed = outside.peers != peers;
            outside.peers = peers;
            changed
        });
    }

    /// The graphics adapters of this computer.
    pub(crate) fn set_graphics(&self, graphics: Vec<Graphics>) {
        self.outside.send_if_modified(|outside| {
            let changed = outside.graphics != graphics;
            outside.graphics = graphics;
            changed
        });
    }

    /// A speed that was measured here, in tokens per second.
    pub fn record_speed(&self, id: &str, prefill: Option<f64>, decode: f64) {
        // A rate of nothing, or of no time, says nothing.
        if !decode.is_finite() || decode <= 0.0 {
            return;
        }
        let at_ms = records::now_ms();
        self.outside.send_modify(|outside| {
            let prefill = prefill.filter(|rate| rate.is_finite() && *rate > 0.0);
            let before = outside.speeds.get(id);
            let measured = Measured {
                prefill_tokens_per_second: prefill
                    .or_else(|| before.and_then(|before| before.prefill_tokens_per_second)),
                decode_tokens_per_second: decode,
                at_ms,
                benchmark: before.and_then(|before| before.benchmark.clone()),
            };
            outside.speeds.insert(id.to_owned(), measured);
        });
    }

    /// What the engine measured of a model on this computer.
    pub fn record_benchmark(&self, id: &str, benchmark: engine::Benchmark) {
        let one = benchmark.decode.iter().find(|rate| rate.sequences == 1);
        let Some(decode) = one.map(|rate| rate.tokens_per_second) else {
            return;
        };
        let prefill = Some(benchmark.prefill_tokens_per_second);
        self.outside.send_modify(|outside| {
            let measured = Measured {
                prefill_tokens_per_second: prefill,
                decode_tokens_per_second: decode,
                at_ms: records::now_ms(),
                benchmark: Some(benchmark),
            };
            outside.speeds.insert(id.to_owned(), measured);
        });
    }

    /// Starts a download, or goes on with one. Its progress and its errors are in [`Models::view`].
    ///
    /// # Errors
    /// [`ModelsError::Unknown`], [`ModelsError::NoSource`], [`ModelsError::Moving`], [`ModelsError::Proxy`].
    pub async fn download(&self, id: &str) -> Result<(), ModelsError> {
        let id = id.to_owned();
        self.ask(|done| Message::Download { id, done }).await
    }

    /// Stops a download; what came is kept. One that is not running is left as it is.
    ///
    /// # Errors
    /// [`ModelsError::Unknown`].
    pub async fn pause(&self, id: &str) -> Result<(), ModelsError> {
        let id = id.to_owned();
        self.ask(|done| Message::Pause { id, done }).await
    }

    /// Stops a download and removes what came.
    ///
    /// # Errors
    /// [`ModelsError::Unknown`], [`ModelsError::File`].
    pub async fn cancel(&self, id: &str) -> Result<(), ModelsError> {
        let id = id.to_owned();
        self.ask(|done| Message::Cancel { id, done }).await
    }

    /// Removes a model: its file where it lies in the models folder; only the row where the file was added in place.
    ///
    /// # Errors
    /// [`ModelsError::Unknown`], [`ModelsError::NotOurs`] for a file that came with the program, [`ModelsError::File`].
    pub async fn remove(&self, id: &str) -> Result<(), ModelsError> {
        let id = id.to_owned();
        self.ask(|done| Message::Remove { id, done }).await
    }

    /// Adds a file from disk, where it lies; removing the model forgets it and leaves the file. Returns when the engine has read its header and its digest is known.
    ///
    /// # Errors
    /// [`ModelsError::NotRunnable`] names exactly what is not supported; [`ModelsError::File`].
    pub async fn add(&self, path: &Path) -> Result<ModelRow, ModelsError> {
        let path = path.to_owned();
        self.ask(|done| Message::Add { path, done }).await
    }

    /// Moves the models to another folder and uses that from then on. Downloads are paused for it.
    ///
    /// # Errors
    /// [`ModelsError::BadFolder`], [`ModelsError::OtherFile`], [`ModelsError::NoSpace`], [`ModelsError::Moving`], [`ModelsError::File`]:
    /// every file is then whole in one of the two folders, and both are looked into.
    pub async fn move_to(&self, path: &Path) -> Result<(), ModelsError> {
        let path = path.to_owned();
        self.ask(|done| Message::Move { path, done }).await
    }

    /// Folders, and single files, that the engine's worker must be able to read.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        self.folders.borrow().clone()
    }

    /// Pauses downloads, writes what is to be remembered, and ends the task.
    pub async fn shutdown(&self) {
        let _ = self.ask(|done| Message::Shutdown { done }).await;
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, ModelsError>>) -> Message,
    ) -> Result<T, ModelsError> {
        let (done, answer) = oneshot::channel();
        self.inbox
            .send(message(done))
            .await
            .map_err(|_| ModelsError::Stopping)?;
        answer.await.map_err(|_| ModelsError::Stopping)?
    }
}
