//! The task that owns the list: it alone changes entries, records, pins and speeds, and publishes a snapshot after every change.

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
    HeaderReader, Keep, Measured, Model, ModelRow, ModelsError, ModelsFolder, ModelsOptions,
    ModelsView,
    catalog::{Catalogue, CatalogueRow, MAX_CATALOGUE_BYTES},
    digest::Sha,
    download::{self, Arrived, Limits, Order, Progress, Source, Tell},
    entries::{self, Entry, Standing, ToCheck},
    error::DownloadError,
    fetch,
    fit::Computer,
    part,
    records::{self, Added, Facts, Pin, Pins, Records, Speeds},
    rows::{self, Running},
    store,
    work::{self, Ended},
};
use crate::data;

/// Downloads at once: more of them only share the line. Others wait their turn.
const MAX_DOWNLOADS: usize = 2;

/// Files hashed at once: the disk is the limit, not the processor.
const MAX_CHECKS: usize = 1;

/// Between two snapshots while something moves: as often as an eye follows a number.
const TICK: Duration = Duration::from_millis(250);

/// The rate is taken over this long: shorter jumps, longer lies.
const RATE_OVER: Duration = Duration::from_secs(5);

/// How old the memory's figures may be in a snapshot.
const LOOK_EVERY: Duration = Duration::from_secs(2);

type Done<T> = oneshot::Sender<Result<T, ModelsError>>;

/// What a handle asks for.
#[derive(Debug)]
pub(super) enum Message {
    Download {
        id: String,
        done: Done<()>,
    },
    Pause {
        id: String,
        done: Done<()>,
    },
    Cancel {
        id: String,
        done: Done<()>,
    },
    Remove {
        id: String,
        done: Done<()>,
    },
    Add {
        path: PathBuf,
        keep: Keep,
        done: Done<ModelRow>,
    },
    Move {
        path: PathBuf,
        done: Done<()>,
    },
    Shutdown {
        done: Done<()>,
    },
}

/// What the rest of the node knows and the rows show.
#[derive(Debug, Clone, Default)]
pub(super) struct Outside {
    pub(super) proxy: Option<String>,
    pub(super) default_model: Option<String>,
    pub(super) loaded: Option<PathBuf>,
    pub(super) peers: BTreeMap<ModelDigest, u32>,
    pub(super) speeds: BTreeMap<String, Measured>,
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
            Message::Add { path, keep, done } => self.add(path, keep, done).await,
            Message::Move { path, done } => self.move_to(path, done),
            // Taken by the caller.
            Message::Shutdown { done } => drop(done.send(Ok(()))),
        }
    }

    // Downloads.

    fn download(&mut self, id: &str) -> Result<(), ModelsError> {
        if self.moving.is_some() {
            return Err(ModelsError::Moving);
        }
        let entry = self
            .entries
            .get(id)
            .ok_or_else(|| ModelsError::Unknown { id: id.to_owned() })?;
        let here = matches!(
            entry.standing,
            Standing::Ready { .. } | Standing::Checking { .. }
        );
        if here || self.jobs.contains_key(id) {
            return Ok(());
        }
        let Some(row) = entry.row.clone() else {
            return Err(ModelsError::NoSource {
                name: entry.name.clone(),
            });
        };
        let order = self.order(&row)?;
        let client = fetch::client(order.proxy.as_deref(), &order.limits)?;
        let (tell, progress) = watch::channel(Progress::Waiting);
        let stop = self.stop.child_token();
        let (turns, token, id_of_task) = (self.turns.clone(), stop.clone(), id.to_owned());
        self.tasks.spawn(async move {
            let result = tokio::select! {
                () = token.cancelled() => Err(DownloadError::Stopped),
                turn = turns.acquire_owned() => match turn {
                    Ok(turn) => {
                        let result = download::run(client, order, Tell(tell), token.clone()).await;
                        drop(turn);
                        result
                    }
                    Err(_) => Err(DownloadError::Stopped),
                },
            };
            Ended::Download {
                id: id_of_task,
                result,
            }
        });
        let job = Job {
            progress,
            stop,
            cancelled: Vec::new(),
            paused: Vec::new(),
            samples: VecDeque::new(),
        };
        self.jobs.insert(id.to_owned(), job);
        Ok(())
    }

    fn order(&self, row: &CatalogueRow) -> Result<Order, ModelsError> {
        let mut sources: Vec<Source> = row.sources.iter().cloned().map(Source::Http).collect();
        sources.extend(row.pip.clone().map(Source::Pip));
        if sources.is_empty() {
            return Err(ModelsError::NoSource {
                name: row.name.clone(),
            });
        }
        let size = entries::expected_size(row, &self.pins);
        let limits = match &self.limits {
            Some(limits) => Limits {
                size,
                ..limits.clone()
            },
            None => Limits::of(&self.folder, size),
        };
        Ok(Order {
            target: self.folder.join(&row.file),
            sources,
            digest: entries::expected(row, &self.pins),
            proxy: self.outside.borrow().proxy.clone(),
            limits,
        })
    }

    async fn arrived(&mut self, id: &str, arrived: Arrived) {
        let Some(row) = self.entries.get(id).and_then(|entry| entry.row.clone()) else {
            return;
        };
        let path = self.folder.join(&row.file);
        if row.sha256.is_none() && !self.pins.pin.contains_key(id) {
            let pin = Pin {
                sha256: arrived.digest,
                size: arrived.size,
                head_len: None,
                head_sha256: None,
                source: arrived.source.clone(),
            };
            self.pins.pin.insert(id.to_owned(), pin);
            self.save_pins();
        }
        self.check(
            ToCheck {
                id: id.to_owned(),
                path,
            },
            Some(arrived.digest),
        );
    }

    fn drop_part(&mut self, id: &str) -> Result<(), ModelsError> {
        let entry = self
            .entries
            .get_mut(id)
            .ok_or_else(|| ModelsError::Unknown { id: id.to_owned() })?;
        let Some(row) = &entry.row else { return Ok(()) };
        let target = self.folder.join(&row.file);
        part::remove(&target).map_err(|source| ModelsError::File {
            path: target,
            what: "removed",
            source,
        })?;
        if matches!(
            entry.standing,
            Standing::Left { .. } | Standing::Failed { path: None, .. }
        ) {
            entry.standing = Standing::Absent;
        }
        Ok(())
    }

    // Files.

    /// Looks at all folders anew. What is known of running work stays.
    fn look(&mut self) {
        let found = entries::look(&self.catalogue, &self.folders(), &self.records, &self.pins);
        self.entries = found.entries;
        for check in found.to_check {
            self.check(check, None);
        }
    }

    fn check(&mut self, check: ToCheck, known: Option<Sha>) {
        let total = std::fs::metadata(&check.path).map_or(0, |meta| meta.len());
        if let Some(entry) = self.entries.get_mut(&check.id) {
            entry.standing = Standing::Checking {
                path: check.path.clone(),
                done: 0,
                total,
            };
        }
        let (progress, seen) = watch::channel(0);
        self.checks.insert(check.id.clone(), seen);
        let (engine, turns, stop) = (
            self.engine.clone(),
            self.check_turns.clone(),
            self.stop.child_token(),
        );
        self.tasks.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let ToCheck { id, path } = check;
            let result = work::inspect(engine, path.clone(), known, progress, stop).await;
            Ended::Checked { id, path, result }
        });
    }

    async fn add(&mut self, path: PathBuf, keep: Keep, done: Done<ModelRow>) {
        if self.moving.is_some() && keep == Keep::Copy {
            let _ = done.send(Err(ModelsError::Moving));
            return;
        }
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(source) => {
                let _ = done.send(Err(ModelsError::File {
                    path,
                    what: "read",
                    source,
                }));
                return;
            }
        };
        self.allow_reading(std::slice::from_ref(&path)).await;
        let (engine, folder, stop) = (
            self.engine.clone(),
            self.folder.clone(),
            self.stop.child_token(),
        );
        self.tasks.spawn(async move {
            let (path, result) = work::add(engine, path, keep, folder, stop).await;
            Ended::Added { path, result, done }
        });
    }

    /// Takes a file that was added into the list: as the file of the row that has its digest, or as a row of its own.
    async fn added(&mut self, path: &Path, facts: Facts) -> Result<ModelRow, ModelsError> {
        self.records.remember(path, &facts);
        let known = self.entries.iter().find(|(_, entry)| {
            let expected = entry
                .row
                .as_ref()
                .and_then(|row| entries::expected(row, &self.pins));
            expected == Some(facts.digest)
                || entry
                    .facts()
                    .is_some_and(|here| here.digest == facts.digest)
        });
        let id = match known {
            Some((id, _)) => id.clone(),
            None => entries::free_id(path, |id| self.entries.contains_key(id)),
        };
        let ready = Standing::Ready {
            path: path.to_owned(),
            facts: Some(facts.clone()),
        };
        match self.entries.get_mut(&id) {
            Some(entry) if matches!(entry.standing, Standing::Ready { .. }) => {}
            Some(entry) => entry.standing = ready,
            None => {
                self.entries.insert(
                    id.clone(),
                    Entry {
                        row: None,
                        name: facts.name.clone(),
                        standing: ready,
                    },
                );
            }
        }
        let used = self
            .entries
            .get(&id)
            .is_some_and(|entry| entry.path() == Some(path));
        if used
            && !self
                .folders()
                .iter()
                .any(|folder| path.parent() == Some(folder))
        {
            self.records.added.retain(|added| added.path != path);
            self.records.added.push(Added {
                id: id.clone(),
                path: path.to_owned(),
                facts,
            });
        }
        self.save_records()?;
        self.allow_reading(&[]).await;
        self.publish();
        let row = self
            .view
            .borrow()
            .rows
            .iter()
            .find(|row| row.id == id)
            .cloned();
        row.ok_or(ModelsError::Unknown { id })
    }

    fn remove(&mut self, id: &str) -> Result<(), ModelsError> {
        if self.moving.is_some() {
            return Err(ModelsError::Moving);
        }
        let entry = self
            .entries
            .get(id)
            .ok_or_else(|| ModelsError::Unknown { id: id.to_owned() })?;
        let path = entry.path().map(Path::to_owned);
        if let Some(path) = &path
            && path.parent() != Some(&self.folder)
            && self.dirs.iter().any(|dir| path.parent() == Some(dir))
        {
            return Err(ModelsError::NotOurs { path: path.clone() });
        }
        if let Some(job) = self.jobs.get(id) {
            job.stop.cancel();
        }
        if let Some(path) = path.filter(|path| path.parent() == Some(&self.folder)) {
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(ModelsError::File {
                        path,
                        what: "removed",
                        source,
                    });
                }
            }
        }
        self.drop_part(id)?;
        self.records.added.retain(|added| added.id != id);
        self.records.forget_missing();
        self.save_records()?;
        match self.entries.get_mut(id) {
            Some(entry) if entry.row.is_some() => entry.standing = Standing::Absent,
            Some(_) => drop(self.entries.remove(id)),
            None => {}
        }
        Ok(())
    }

    // Moving.

    fn move_to(&mut self, to: PathBuf, done: Done<()>) {
        if self.moving.is_some() {
            let _ = done.send(Err(ModelsError::Moving));
        } else if to == self.folder {
            let _ = done.send(Ok(()));
        } else if let Err(error) = store::may_move(&self.folder, &to) {
            let _ = done.send(Err(error));
        } else {
            self.records.moving_to = Some(to.clone());
            // Noted before the first file moves: a run that ends in between is gone on with.
            if let Err(error) = self.save_records() {
                self.records.moving_to = None;
                let _ = done.send(Err(error));
                return;
            }
            for job in self.jobs.values() {
                job.stop.cancel();
            }
            self.moving = Some(Moving {
                to,
                done: Some(done),
                started: false,
            });
        }
    }

    /// Begins a move that was asked for, once no download writes any more.
    fn start_move(&mut self) {
        let Some(moving) = &mut self.moving else {
            return;
        };
        if moving.started || !self.jobs.is_empty() {
            return;
        }
        moving.started = true;
        let (from, to, done) = (self.folder.clone(), moving.to.clone(), moving.done.take());
        let stop = self.stop.child_token();
        self.tasks.spawn(async move {
            let result = work::move_folder(from, to.clone(), stop).await;
            Ended::Moved { to, result, done }
        });
    }

    async fn moved(
        &mut self,
        to: PathBuf,
        result: Result<(), ModelsError>,
    ) -> Result<(), ModelsError> {
        self.moving = None;
        let result = match result {
            Ok(()) => {
                self.records.moving_to = None;
                // Files keep size and time when they are renamed, not always when they are copied; these are the same bytes.
                let from = std::mem::replace(&mut self.folder, to.clone());
                for seen in &mut self.records.seen {
                    if seen.path.parent() == Some(&from)
                        && let Some(name) = seen.path.file_name()
                    {
                        seen.path = to.join(name);
                        if let Ok((_, modified_ms)) = records::stamp(&seen.path) {
                            seen.modified_ms = modified_ms;
                        }
                    }
                }
                self.records.folder = Some(to);
                self.save_records()
            }
            // The note stays: both folders are looked into, and the next start goes on.
            Err(error) => Err(error),
        };
        self.look();
        self.allow_reading(&[]).await;
        result
    }

    // How tasks ended.

    async fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Download { id, result } => {
                let job = self.jobs.remove(&id);
                self.download_ended(&id, result).await;
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
            Ended::Moved { to, result, done } => {
                let result = self.moved(to, result).await;
                self.publish();
                match (done, result) {
                    (Some(done), result) => drop(done.send(result)),
                    (None, Err(error)) => {
                        tracing::warn!(%error, "a move of an earlier run could not be ended")
                    }
                    (None, Ok(())) => {}
                }
            }
        }
    }

    async fn download_ended(&mut self, id: &str, result: Result<Arrived, DownloadError>) {
        let result = match result {
            Ok(arrived) => return self.arrived(id, arrived).await,
            Err(error) => error,
        };
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let Some(row) = &entry.row else { return };
        let left = part::left_over(&self.folder.join(&row.file));
        entry.standing = match (result, left) {
            (DownloadError::Stopped, None) => Standing::Absent,
            (DownloadError::Stopped, Some((done, total))) => Standing::Left {
                done,
                total: total.or(row.size),
            },
            (error, left) => {
                let done = left.map_or(0, |(done, _)| done);
                let error = ModelsError::Download {
                    name: row.name.clone(),
                    source: error,
                };
                Standing::Failed {
                    path: None,
                    error: error.view(),
                    done,
                }
            }
        };
    }

    fn checked(&mut self, id: &str, path: PathBuf, result: Result<Facts, ModelsError>) {
        let expected = self
            .entries
            .get(id)
            .and_then(|entry| entry.row.as_ref())
            .and_then(|row| entries::expected(row, &self.pins));
        let standing = match result {
            Ok(facts) => {
                self.records.remember(&path, &facts);
                match expected {
                    Some(expected) if expected != facts.digest => {
                        let name = self
                            .entries
                            .get(id)
                            .map(|entry| entry.name.clone())
                            .unwrap_or_default();
                        let error = ModelsError::WrongDigest {
                            name,
                            expected,
                            found: facts.digest,
                        };
                        Standing::Failed {
                            path: Some(path),
                            error: error.view(),
                            done: 0,
                        }
                    }
                    Some(_) | None => {
                        self.pin_facts(id, &facts, expected.is_none());
                        Standing::Ready {
                            path,
                            facts: Some(facts),
                        }
                    }
                }
            }
            Err(error) => {
                tracing::warn!(id, %error, "a model file cannot be used");
                Standing::Failed {
                    path: Some(path),
                    error: error.view(),
                    done: 0,
                }
            }
        };
        if let Err(error) = self.save_records() {
            tracing::warn!(%error, "what is known of the models could not be kept");
        }
        let stray = self
            .entries
            .get(id)
            .is_some_and(|entry| entry.row.is_none());
        if let (
            true,
            Standing::Ready {
                path,
                facts: Some(facts),
            },
        ) = (stray, &standing)
        {
            return self.stray_checked(id, path.clone(), facts.clone());
        }
        if let Some(entry) = self.entries.get_mut(id) {
            entry.standing = standing;
        }
    }

    /// A file without a row, now that its digest is known: perhaps a row's after all, perhaps one that is here already.
    fn stray_checked(&mut self, id: &str, path: PathBuf, facts: Facts) {
        let of_row = self.entries.iter().find(|(_, entry)| {
            entry
                .row
                .as_ref()
                .and_then(|row| entries::expected(row, &self.pins))
                == Some(facts.digest)
        });
        let ready = Standing::Ready {
            path,
            facts: Some(facts.clone()),
        };
        match of_row.map(|(row, _)| row.clone()) {
            Some(row) => {
                self.entries.remove(id);
                if let Some(entry) = self.entries.get_mut(&row)
                    && !matches!(entry.standing, Standing::Ready { .. })
                {
                    entry.standing = ready;
                }
            }
            None => {
                if let Some(entry) = self.entries.get_mut(id) {
                    entry.name = facts.name;
                    entry.standing = ready;
                }
            }
        }
    }

    /// Keeps the head of a row that had none, and its digest where the file was put here by hand.
    fn pin_facts(&mut self, id: &str, facts: &Facts, unpinned: bool) {
        let Some(row) = self.entries.get(id).and_then(|entry| entry.row.as_ref()) else {
            return;
        };
        if row.sha256.is_some() && row.head_sha256.is_some() {
            return;
        }
        if unpinned || row.sha256.is_some() || self.pins.pin.contains_key(id) {
            let pin = self.pins.pin.entry(id.to_owned()).or_insert_with(|| Pin {
                sha256: facts.digest,
                size: facts.size,
                head_len: None,
                head_sha256: None,
                source: "a file that was put here".to_owned(),
            });
            pin.head_len = Some(facts.head_len);
            pin.head_sha256 = Some(facts.head_sha256);
            self.save_pins();
        }
    }

    // Records and snapshots.

    fn save_records(&self) -> Result<(), ModelsError> {
        records::write(&self.data.join("models.toml"), &self.records)
    }

    fn save_pins(&self) {
        if let Err(error) = records::write(&self.data.join("pins.toml"), &self.pins) {
            tracing::warn!(%error, "a pin could not be kept");
        }
    }

    fn take_speeds(&mut self) {
        let speeds = self.outside.borrow_and_update().speeds.clone();
        let before = self.speeds.clone();
        self.speeds.speed.extend(speeds);
        if before != self.speeds
            && let Err(error) = records::write(&self.data.join("speeds.toml"), &self.speeds)
        {
            tracing::warn!(%error, "a measured speed could not be kept");
        }
    }

    /// The folders that are looked into, the one that downloads go to first.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.clone()];
        folders.extend(self.records.moving_to.clone());
        folders.extend(self.dirs.iter().cloned());
        folders.dedup();
        folders
    }

    /// Tells the engine what its worker may read: the folders, files added in place, the heads, and `also`.
    async fn allow_reading(&mut self, also: &[PathBuf]) {
        let mut paths = self.folders();
        paths.extend(self.records.added.iter().map(|added| added.path.clone()));
        self.readable.send_replace(paths.clone());
        paths.extend(also.iter().cloned());
        paths.push(self.data.join("heads"));
        if let Err(error) = self.engine.set_readable(paths).await {
            tracing::warn!(%error, "the engine was not told what it may read");
        }
    }

    fn publish(&mut self) {
        if self.computer.0.elapsed() >= LOOK_EVERY {
            self.computer = (Instant::now(), Computer::look());
        }
        for (id, seen) in &self.checks {
            if let Some(Entry {
                standing: Standing::Checking { done, .. },
                ..
            }) = self.entries.get_mut(id)
            {
                *done = *seen.borrow();
            }
        }
        let running: BTreeMap<String, Running> = self
            .jobs
            .iter_mut()
            .map(|(id, job)| (id.clone(), job.running()))
            .collect();
        let outside = self.outside.borrow().clone();
        let (mut models, mut rows) = (Vec::new(), Vec::new());
        for (id, entry) in self.in_order() {
            let fit = rows::fit_of(entry, &outside, &self.computer.1);
            models.push(rows::model(id, entry, &self.pins, &fit));
            let measured = self.speeds.speed.get(id);
            rows.push(rows::row(
                id,
                entry,
                running.get(id),
                &self.pins,
                &outside,
                measured,
                fit,
            ));
        }
        let view = ModelsView {
            better: rows::better(&rows, &self.speeds.speed),
            rows,
            folder: ModelsFolder {
                path: self.folder.display().to_string(),
                used_bytes: store::used_bytes(&self.folder),
                free_bytes: store::free_bytes(&self.folder).unwrap_or(0),
            },
            computer: self.computer.1.sentence(),
        };
        self.list.send_replace(Arc::new(models));
        self.view.send_if_modified(|before| {
            let changed = *before != view;
            *before = view;
            changed
        });
    }

    /// The catalogue in its order, then what was added, by id.
    fn in_order(&self) -> impl Iterator<Item = (&String, &Entry)> {
        let of_catalogue = self
            .catalogue
            .rows
            .iter()
            .filter_map(|row| self.entries.get_key_value(&row.id));
        let added = self.entries.iter().filter(|(_, entry)| entry.row.is_none());
        of_catalogue.chain(added)
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

impl Job {
    /// How far it is, and how fast over the last seconds.
    fn running(&mut self) -> Running {
        let progress = self.progress.borrow().clone();
        let mut bytes_per_second = 0;
        if let Progress::Fetching { done, .. } = &progress {
            let now = Instant::now();
            // A restart goes back to nothing: the samples before it say nothing about the rate.
            if self.samples.back().is_some_and(|(_, before)| before > done) {
                self.samples.clear();
            }
            self.samples.push_back((now, *done));
            while self.samples.len() > 2
                && self
                    .samples
                    .front()
                    .is_some_and(|(at, _)| now - *at > RATE_OVER)
            {
                self.samples.pop_front();
            }
            if let Some((at, before)) = self.samples.front() {
                let seconds = (now - *at).as_secs_f64();
                if seconds > 0.1 {
                    bytes_per_second = ((done - before) as f64 / seconds) as u64;
                }
            }
        }
        Running {
            progress,
            bytes_per_second,
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
