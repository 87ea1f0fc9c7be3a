//! The task that owns the list: it alone changes entries, records, pins and speeds, and publishes a snapshot after every change.

mod downloads;
mod files;
mod moving;
mod publish;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::ModelDigest;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    HeaderReader, Measured, Model, ModelRow, ModelsError, ModelsFolder, ModelsOptions, ModelsView,
    catalog::{Catalogue, MAX_CATALOGUE_BYTES},
    download::{Limits, Progress},
    entries::Entry,
    fit::{Computer, Graphics},
    records::{self, Pins, Records, Speeds},
    store,
    work::Ended,
};
use crate::data;

/// Downloads at once: more of them only share the line. Others wait their turn.
const MAX_DOWNLOADS: usize = 2;

/// Files hashed at once: the disk is the limit, not the processor.
const MAX_CHECKS: usize = 1;

/// Between two snapshots while something moves: as often as an eye follows a number.
const TICK: Duration = Duration::from_millis(250);

type Done<T> = oneshot::Sender<Result<T, ModelsError>>;

/// What a handle asks for.
#[derive(Debug)]
pub(super) enum Message {
    Download { id: String, done: Done<()> },
    Pause { id: String, done: Done<()> },
    Cancel { id: String, done: Done<()> },
    Remove { id: String, done: Done<()> },
    Add { path: PathBuf, done: Done<ModelRow> },
    Move { path: PathBuf, done: Done<()> },
    Shutdown { done: Done<()> },
}

/// What the rest of the node knows and the rows show.
#[derive(Debug, Clone, Default)]
pub(super) struct Outside {
    pub(super) proxy: Option<String>,
    pub(super) default_model: Option<String>,
    pub(super) loaded: Option<PathBuf>,
    pub(super) peers: BTreeMap<ModelDigest, u32>,
    pub(super) speeds: BTreeMap<String, Measured>,
    pub(super) graphics: Vec<Graphics>,
}

/// Where a handle reads.
#[derive(Debug)]
pub(super) struct Watches {
    pub(super) list: watch::Receiver<Arc<Vec<Model>>>,
    pub(super) view: watch::Receiver<ModelsView>,
    pub(super) folders: watch::Receiver<Vec<PathBuf>>,
}

/// A download that runs.
struct Job {
    progress: watch::Receiver<Progress>,
    stop: CancellationToken,
    /// What came is removed when it has stopped, and who wants to know.
    cancelled: Vec<Done<()>>,
    /// Who wants to know that it has stopped.
    paused: Vec<Done<()>>,
    samples: VecDeque<(Instant, u64)>,
}

struct Moving {
    to: PathBuf,
    done: Option<Done<()>>,
    started: bool,
}

pub(super) struct Registry {
    engine: Arc<dyn HeaderReader>,
    data: PathBuf,
    dirs: Vec<PathBuf>,
    folder: PathBuf,
    limits: Option<Limits>,
    catalogue: Catalogue,
    records: Records,
    pins: Pins,
    speeds: Speeds,
    entries: BTreeMap<String, Entry>,
    jobs: BTreeMap<String, Job>,
    checks: BTreeMap<String, watch::Receiver<u64>>,
    moving: Option<Moving>,
    tasks: JoinSet<Ended>,
    turns: Arc<Semaphore>,
    check_turns: Arc<Semaphore>,
    stop: CancellationToken,
    inbox: mpsc::Receiver<Message>,
    outside: watch::Receiver<Outside>,
    computer: (Instant, Computer),
    list: watch::Sender<Arc<Vec<Model>>>,
    view: watch::Sender<ModelsView>,
    readable: watch::Sender<Vec<PathBuf>>,
}

enum Woken {
    Message(Option<Message>),
    Outside,
    Ended(Ended),
    Tick,
}

impl Registry {
    pub(super) async fn new(
        options: ModelsOptions,
        engine: Arc<dyn HeaderReader>,
        limits: Option<Limits>,
        inbox: mpsc::Receiver<Message>,
        outside: watch::Receiver<Outside>,
    ) -> Result<(Self, Watches, Option<ModelsError>), ModelsError> {
        let (catalogue, problem) = catalogue(&options.data)?;
        let mut records: Records = records::read(&options.data.join("models.toml"));
        records.forget_missing();
        let folder = records
            .folder
            .clone()
            .unwrap_or_else(|| options.data.join("models"));
        // A folder on a disk that is not there now must not stop the chat: its models are shown as absent.
        if let Err(source) = std::fs::create_dir_all(&folder) {
            tracing::warn!(folder = %folder.display(), error = %source, "the models folder cannot be made");
            if records.folder.is_none() {
                return Err(ModelsError::File {
                    path: folder,
                    what: "made",
                    source,
                });
            }
        }
        let view = ModelsView {
            rows: Vec::new(),
            folder: ModelsFolder {
                path: folder.display().to_string(),
                used_bytes: 0,
                free_bytes: 0,
            },
            computer: String::new(),
            better: None,
        };
        let mut registry = Self {
            engine,
            dirs: options.dirs,
            folder,
            limits,
            catalogue,
            pins: records::read(&options.data.join("pins.toml")),
            speeds: records::read(&options.data.join("speeds.toml")),
            records,
            entries: BTreeMap::new(),
            jobs: BTreeMap::new(),
            checks: BTreeMap::new(),
            moving: None,
            tasks: JoinSet::new(),
            turns: Arc::new(Semaphore::new(MAX_DOWNLOADS)),
            check_turns: Arc::new(Semaphore::new(MAX_CHECKS)),
            stop: CancellationToken::new(),
            inbox,
            outside,
            computer: (Instant::now(), Computer::look()),
            list: watch::Sender::new(Arc::new(Vec::new())),
            view: watch::Sender::new(view),
            readable: watch::Sender::new(Vec::new()),
            data: options.data,
        };
        for folder in std::iter::once(&registry.folder).chain(&registry.records.moving_to) {
            store::sweep(folder);
        }
        registry.look();
        if let Some(to) = registry.records.moving_to.clone() {
            registry.moving = Some(Moving {
                to,
                done: None,
                started: false,
            });
        }
        registry.allow_reading(&[]).await;
        registry.publish();
        let watches = Watches {
            list: registry.list.subscribe(),
            view: registry.view.subscribe(),
            folders: registry.readable.subscribe(),
        };
        Ok((registry, watches, problem))
    }

    pub(super) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.start_move();
            let busy = !self.jobs.is_empty() || !self.checks.is_empty();
            let woken = tokio::select! {
                message = self.inbox.recv() => Woken::Message(message),
                Ok(()) = self.outside.changed() => Woken::Outside,
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => match ended {
                    Ok(ended) => Woken::Ended(ended),
                    Err(error) => {
                        tracing::error!(%error, "a task of the models ended by itself");
                        Woken::Tick
                    }
                },
                _ = tick.tick(), if busy => Woken::Tick,
            };
            match woken {
                Woken::Message(Some(Message::Shutdown { done })) => {
                    self.shut_down().await;
                    let _ = done.send(Ok(()));
                    return;
                }
                Woken::Message(None) => return self.shut_down().await,
                Woken::Message(Some(message)) => self.answer(message).await,
                Woken::Outside => self.take_speeds(),
                Woken::Ended(ended) => self.ended(ended).await,
                Woken::Tick => {}
            }
            self.publish();
        }
    }

    async fn answer(&mut self, message: Message) {
        match message {
            Message::Download { id, done } => {
                let _ = done.send(self.download(&id));
            }
            Message::Pause { id, done } => {
                match (self.entries.contains_key(&id), self.jobs.get_mut(&id)) {
                    (_, Some(job)) => {
                        job.stop.cancel();
                        job.paused.push(done);
                    }
                    (true, None) => drop(done.send(Ok(()))),
                    (false, None) => drop(done.send(Err(ModelsError::Unknown { id }))),
                }
            }
            Message::Cancel { id, done } => match self.jobs.get_mut(&id) {
                Some(job) => {
                    job.stop.cancel();
                    job.cancelled.push(done);
                }
                None => drop(done.send(self.drop_part(&id))),
            },
            Message::Remove { id, done } => drop(done.send(self.remove(&id))),
            Message::Add { path, done } => self.add(path, done).await,
            Message::Move { path, done } => self.move_to(path, done),
            // Taken by the caller.
            Message::Shutdown { done } => drop(done.send(Ok(()))),
        }
    }

    async fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Download { id, result } => {
                let job = self.jobs.remove(&id);
                self.download_ended(&id, result);
                if let Some(job) = job {
                    for done in job.paused {
                        let _ = done.send(Ok(()));
                    }
                    for done in job.cancelled {
                        let _ = done.send(self.drop_part(&id));
                    }
                }
            }
            Ended::Checked { id, path, result } => {
                self.checks.remove(&id);
                self.checked(&id, path, result);
            }
            Ended::Added { path, result, done } => {
                let row = match result {
                    Ok(facts) => self.added(&path, facts).await,
                    Err(error) => {
                        self.allow_reading(&[]).await;
                        Err(error)
                    }
                };
                let _ = done.send(row);
            }
            Ended::Moved { to, result } => self.moved(to, result).await,
        }
    }

    /// Stops what runs; downloads keep what came.
    async fn shut_down(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(ended) = ended {
                self.ended(ended).await;
            }
        }
        if let Err(error) = self.save_records() {
            tracing::warn!(%error, "what is known of the models could not be kept");
        }
    }
}

/// The catalogue of the data folder where there is a good one, else the built-in one.
fn catalogue(data: &Path) -> Result<(Catalogue, Option<ModelsError>), ModelsError> {
    let path = data.join("catalog.toml");
    let built_in = || {
        Catalogue::built_in().map_err(|problem| ModelsError::Catalogue {
            path: PathBuf::from("of this version"),
            problem,
        })
    };
    let text = match data::read_capped(&path, MAX_CATALOGUE_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((built_in()?, None));
        }
        Err(source) => {
            return Ok((
                built_in()?,
                Some(ModelsError::File {
                    path,
                    what: "read",
                    source,
                }),
            ));
        }
    };
    match Catalogue::parse(&text) {
        Ok(catalogue) => Ok((catalogue, None)),
        Err(problem) => {
            tracing::warn!(path = %path.display(), %problem, "this catalogue is refused; the built-in one is used");
            Ok((built_in()?, Some(ModelsError::Catalogue { path, problem })))
        }
    }
}
