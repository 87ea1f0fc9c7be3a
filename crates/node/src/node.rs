//! Start and stop: who owns which handle, and in which order things open and close.
//!
//! [`Node`] is a handle; everything lies in one [`Inner`] that tasks share. The tasks are: the switch with its jobs
//! (`serve`), one per running answer (`ask`), the daily change of the key for asking (`ask::session`), the status and the
//! list of chats (here), the control socket (`control`). All of them end with the token `stop`, which is cancelled by
//! [`Node::stop`] or when the last handle is dropped.
//!
//! There are two swarms. One asks, with a key of its own that changes daily, and runs as long as the node. The other one
//! serves, with the stable identity; it belongs to the switch, and runs while that is on.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use engine::{EngineHandle, EngineOptions};
use ledger::Ledger;
use memory::{ChatId, Memory, MessageId};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ask::{
        Answers,
        session::{self, Outside, Session, Sessions},
        warm::Warming,
    },
    chat::ChatSummary,
    clock,
    community::Community,
    control,
    data::DataFolder,
    energy::{self, Energy},
    error::{ErrorView, NodeError},
    identity::{Identity, IdentityError},
    installed,
    models::{ModelRow, Models, ModelsOptions, ModelsView},
    money::{self, Money},
    peers::{Measurements, PeerBook, swarms},
    serve::{self, Serving},
    settings::{Settings, SettingsFile},
    status::{self, NodeStatus},
    wallet::{self, Wallet},
};

/// How long a stopping node waits for its own tasks before it drops them: an answer writes its last words in
/// milliseconds, a full disk may take longer.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// A disk that hangs has so much longer for the end of an answer: closing the file waits for it anyway.
const KEPT_WAIT: Duration = Duration::from_secs(30);

/// What a shell says when it starts a node. Everything else is in the settings.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// The data folder. Made where it is missing.
    pub data: PathBuf,
    /// Folders in which the engine's worker programs are looked for, in order.
    pub worker_dirs: Vec<PathBuf>,
    /// Further folders with models, read only: beside the binary, the bundle's, the repository's.
    pub model_dirs: Vec<PathBuf>,
    /// Name and version shown to peers.
    pub agent: String,
}

impl NodeOptions {
    /// A node in this folder that finds its worker and models where this program was installed.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            worker_dirs: installed::worker_dirs(),
            model_dirs: installed::model_dirs(),
            agent: concat!("decentralgpt/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// A handle on a running node. Clones share it; it ends with [`Node::stop`], or with its last clone.
#[derive(Debug, Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
    /// Cancels the tasks when the last handle is gone: they hold `inner`, so its own count never reaches zero alone.
    alive: Arc<tokio_util::sync::DropGuard>,
}

/// A handle that does not keep the node running.
#[derive(Debug, Clone)]
pub(crate) struct WeakNode {
    inner: Arc<Inner>,
    alive: std::sync::Weak<tokio_util::sync::DropGuard>,
}

impl WeakNode {
    /// The node, while somebody holds it.
    pub(crate) fn upgrade(&self) -> Option<Node> {
        Some(Node {
            inner: Arc::clone(&self.inner),
            alive: self.alive.upgrade()?,
        })
    }
}

/// Everything of one node.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) agent: String,
    pub(crate) worker_dirs: Vec<PathBuf>,
    pub(crate) data: DataFolder,
    pub(crate) identity: Identity,
    /// Why the identity file could not be used; the one in use is then temporary and does not serve.
    pub(crate) identity_problem: Option<ErrorView>,
    pub(crate) notices: Vec<ErrorView>,
    pub(crate) settings: watch::Sender<Settings>,
    pub(crate) settings_file: tokio::sync::Mutex<SettingsFile>,
    pub(crate) engine: EngineHandle,
    /// The swarm that asks.
    pub(crate) asking: Sessions,
    pub(crate) memory: Memory,
    pub(crate) temporary: Memory,
    pub(crate) temporary_chats: Mutex<BTreeSet<ChatId>>,
    pub(crate) ledger: Ledger,
    pub(crate) wallet: Wallet,
    pub(crate) money: Money,
    pub(crate) models: Models,
    /// What is known of models that no row of those names.
    pub(crate) community: Community,
    pub(crate) book: Mutex<PeerBook>,
    pub(crate) measured: Measurements,
    pub(crate) answers: Answers,
    pub(crate) serving: Serving,
    /// What jobs of others take.
    pub(crate) energy: Energy,
    pub(crate) status: watch::Sender<NodeStatus>,
    pub(crate) chats: watch::Sender<Vec<ChatSummary>>,
    pub(crate) chats_dirty: Notify,
    /// Per chat, the first message that the model still saw when the context was cut.
    pub(crate) cuts: Mutex<BTreeMap<ChatId, MessageId>>,
    /// Peers that were dialled because somebody typed.
    pub(crate) warming: Warming,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Node {
    /// Opens a data folder and everything in it. Nothing listens and no worker runs afterwards: asking dials, and the
    /// first answer starts the worker.
    ///
    /// # Errors
    /// [`NodeError::Data`] when the folder is held by another node or cannot be used; [`NodeError::Memory`] and
    /// [`NodeError::Ledger`] when a database is of a newer version or damaged; [`NodeError::Models`] and
    /// [`NodeError::Network`]. A bad settings, identity or peers file does not prevent the start: see
    /// [`NodeStatus::notices`].
    pub async fn start(options: NodeOptions) -> Result<Self, NodeError> {
        let NodeOptions {
            data,
            worker_dirs,
            model_dirs,
            agent,
        } = options;
        let data = DataFolder::open(&data)?;
        let mut notices = Vec::new();
        let opened = SettingsFile::open(&data.settings());
        notices.extend(opened.problem.as_ref().map(ErrorView::from));
        let settings = opened.settings;
        let first_start = !data.identity().exists();
        let (identity, identity_problem) = match Identity::open_or_create(&data.identity()) {
            Ok(identity) => (identity, None),
            // What cannot be written at all is no identity problem: nothing else of the folder would work either.
            Err(error @ (IdentityError::Write { .. } | IdentityError::Random(_))) => {
                return Err(error.into());
            }
            Err(
                error @ (IdentityError::Unreadable { .. }
                | IdentityError::TooOpen { .. }
                | IdentityError::Corrupt { .. }),
            ) => (Identity::temporary()?, Some(ErrorView::from(&error))),
        };
        notices.extend(identity_problem.clone());
        let (book, problem) = PeerBook::open(&data.peers());
        notices.extend(problem);

        let memory = Memory::open(data.memory()).await?;
        let temporary = Memory::temporary().await?;
        let ledger = Ledger::open(data.ledger(), clock::unix_ms()).await?;
        if first_start {
            ledger.nothing_was_forgotten().await?;
        }
        let engine = EngineHandle::new(EngineOptions {
            worker_dirs: worker_dirs.clone(),
            threads: settings.threads.and_then(NonZeroUsize::new),
            // The list of models knows the folders, and tells the engine.
            readable: Vec::new(),
            sharing: settings.sharing(),
            ..EngineOptions::default()
        });
        crate::data::create_private(&data.heads()).map_err(|source| NodeError::File {
            path: data.heads(),
            what: "made",
            source,
        })?;
        let models = Models::open(
            ModelsOptions {
                data: data.root().to_owned(),
                dirs: model_dirs,
                proxy: settings.proxy.clone(),
                default_model: settings.default_model.clone(),
            },
            engine.clone(),
        )
        .await?;
        notices.extend(
            models
                .catalogue_problem()
                .map(crate::models::ModelsError::view),
        );
        let measured = Measurements::open(&ledger).await?;
        let reach = Outside::at_start(&settings, &data, &book);
        let served_as = identity.peer_id();
        let asking = Session::start(&agent, &settings, &data, &book, served_as, reach).await?;

        let wallet = Wallet::open(
            &data,
            ::wallet::Keychain::of_system(),
            settings.money.lock_after(),
        );
        notices.extend(wallet.status().problem);
        let (serving, orders) = Serving::new();
        let (energy, metering) = Energy::new(&settings.money);
        let community = Community::open(data.community());
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            status: watch::Sender::new(status::first(&data, &identity, asking.peer_id(), &notices)),
            chats: watch::Sender::new(Vec::new()),
            agent,
            worker_dirs,
            data,
            identity,
            identity_problem,
            notices,
            settings: watch::Sender::new(settings),
            settings_file: tokio::sync::Mutex::new(opened.file),
            engine,
            asking: Sessions::new(asking),
            memory,
            temporary,
            temporary_chats: Mutex::default(),
            ledger,
            wallet,
            money: Money::default(),
            models,
            community,
            book: Mutex::new(book),
            measured,
            answers: Answers::default(),
            serving,
            energy,
            chats_dirty: Notify::new(),
            cuts: Mutex::default(),
            warming: Warming::default(),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        });
        inner.chats_reload().await?;
        inner.tasks.spawn(serve::run(Arc::clone(&inner), orders));
        inner.tasks.spawn(session::keep(Arc::clone(&inner)));
        inner.tasks.spawn(status::keep(Arc::clone(&inner)));
        inner.tasks.spawn(wallet::keep(Arc::clone(&inner)));
        inner.tasks.spawn(money::keep(Arc::clone(&inner)));
        inner
            .tasks
            .spawn(energy::keep(Arc::clone(&inner), metering));
        inner.tasks.spawn(Arc::clone(&inner).keep_chats());
        inner.tasks.spawn(crate::peers::keep(Arc::clone(&inner)));
        inner.tasks.spawn(crate::devices::keep(Arc::clone(&inner)));
        let node = Self {
            inner,
            alive: Arc::new(stop.drop_guard()),
        };
        control::listen(&node)?;
        Ok(node)
    }

    /// Stops everything in order: answers are ended and kept, the node is switched off and peers are told, the worker is
    /// gone and its memory with it, the databases are closed, and the folder is free. Handles that are left answer
    /// [`NodeError::Stopping`] or the error of what is closed.
    pub async fn stop(&self) {
        let inner = &self.inner;
        inner.answers.stop_all();
        inner.serving.shut_down().await;
        inner.stop.cancel();
        inner.tasks.close();
        if tokio::time::timeout(STOP_WAIT, inner.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some tasks did not end in {STOP_WAIT:?}");
        }
        inner.models.shutdown().await;
        inner.asking.now().network.shutdown().await;
        inner.engine.shutdown().await;
        // What was shown is kept, if the disk takes it at all.
        inner.answers.writers.close();
        if tokio::time::timeout(KEPT_WAIT, inner.answers.writers.wait())
            .await
            .is_err()
        {
            tracing::warn!("the end of an answer was not kept in {KEPT_WAIT:?}");
        }
        if let Err(error) = inner.memory.close().await {
            tracing::warn!(%error, "the conversations were not closed cleanly");
        }
        if let Err(error) = inner.ledger.close().await {
            tracing::warn!(%error, "the ledger was not closed cleanly");
        }
        // A temporary memory has nothing to save.
        let _ = inner.temporary.close().await;
        control::forget(&inner.data);
        inner.data.release();
    }

    pub(crate) fn downgrade(&self) -> WeakNode {
        WeakNode {
            inner: Arc::clone(&self.inner),
            alive: Arc::downgrade(&self.alive),
        }
    }

    /// Everything about the node, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<NodeStatus> {
        self.inner.status.subscribe()
    }

    /// Everything about models, as it changes.
    #[must_use]
    pub fn models(&self) -> watch::Receiver<ModelsView> {
        self.inner.models.view()
    }

    /// The sidebar, as it changes.
    #[must_use]
    pub fn chats(&self) -> watch::Receiver<Vec<ChatSummary>> {
        self.inner.chats.subscribe()
    }

    /// Cancelled when the node stops.
    #[must_use]
    pub fn stopped(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// The settings that hold now.
    #[must_use]
    pub fn settings_get(&self) -> Settings {
        self.inner.settings.borrow().clone()
    }

    /// Checks, stores and applies settings.
    ///
    /// # Errors
    /// [`NodeError::Settings`], and nothing is changed. [`NodeError::Network`] when the new listening addresses cannot
    /// be opened; the settings are stored then.
    pub async fn settings_set(&self, settings: Settings) -> Result<(), NodeError> {
        let inner = &self.inner;
        // Held until the change holds everywhere, so that two changes do not mix.
        let file = inner.settings_file.lock().await;
        let (to_write, text) = (file.clone(), settings.clone());
        tokio::task::spawn_blocking(move || to_write.write(&text))
            .await
            .map_err(|_| NodeError::Stopping)??;
        let before = inner.settings.send_replace(settings.clone());
        if before.threads != settings.threads {
            inner
                .engine
                .set_threads(settings.threads.and_then(NonZeroUsize::new))
                .await?;
        }
        if before.money.lock != settings.money.lock {
            inner.wallet.set_lock_after(settings.money.lock_after());
        }
        if before.network_share != settings.network_share {
            inner.engine.set_sharing(settings.sharing()).await?;
        }
        if before.default_model != settings.default_model {
            inner.models.set_default(settings.default_model.clone());
        }
        // The swarm that serves changes this while it runs.
        if swarms::changed(&before, &settings) || before.mdns != settings.mdns {
            inner.new_session().await?;
        }
        if before.proxy != settings.proxy {
            inner.models.set_proxy(settings.proxy.clone());
        }
        inner.serving.settings_changed().await
    }

    /// Everything about models, now.
    #[must_use]
    pub fn models_list(&self) -> ModelsView {
        self.inner.models.view().borrow().clone()
    }

    /// Starts a download, or goes on with one.
    ///
    /// # Errors
    /// [`NodeError::Models`].
    pub async fn model_download(&self, id: &str) -> Result<(), NodeError> {
        Ok(self.inner.models.download(id).await?)
    }

    /// Stops a download; what came is kept.
    ///
    /// # Errors
    /// [`NodeError::Models`].
    pub async fn model_pause(&self, id: &str) -> Result<(), NodeError> {
        Ok(self.inner.models.pause(id).await?)
    }

    /// Stops a download and removes what came.
    ///
    /// # Errors
    /// [`NodeError::Models`].
    pub async fn model_cancel(&self, id: &str) -> Result<(), NodeError> {
        Ok(self.inner.models.cancel(id).await?)
    }

    /// Removes a model's file. One that the engine has in memory is unloaded before.
    ///
    /// # Errors
    /// [`NodeError::ChatBusy`] while an answer runs on it, and [`NodeError::Models`].
    pub async fn model_remove(&self, id: &str) -> Result<(), NodeError> {
        let inner = &self.inner;
        let loaded = inner.engine.stats().borrow().model_file.clone();
        if loaded.is_some()
            && inner
                .models
                .find(id)
                .is_some_and(|model| model.file == loaded)
        {
            if inner.answers.own_work() > 0 {
                return Err(NodeError::ModelInUse);
            }
            inner.engine.unload().await?;
        }
        Ok(inner.models.remove(id).await?)
    }

    /// Adds a GGUF file from disk.
    ///
    /// # Errors
    /// [`NodeError::Models`] says exactly what is not supported.
    pub async fn model_add(&self, path: &std::path::Path) -> Result<ModelRow, NodeError> {
        Ok(self.inner.models.add(path).await?)
    }

    /// Makes a model that of new chats.
    ///
    /// # Errors
    /// [`NodeError::ModelUnknown`], and those of [`Node::settings_set`].
    pub async fn model_default(&self, id: &str) -> Result<(), NodeError> {
        if self.inner.models.find(id).is_none() {
            return Err(NodeError::ModelUnknown { id: id.to_owned() });
        }
        self.settings_set(Settings {
            default_model: Some(id.to_owned()),
            ..self.settings_get()
        })
        .await
    }

    /// Moves the models' folder.
    ///
    /// # Errors
    /// [`NodeError::Models`].
    pub async fn models_move(&self, path: &std::path::Path) -> Result<(), NodeError> {
        Ok(self.inner.models.move_to(path).await?)
    }

    /// Everything about the node, now.
    #[must_use]
    pub fn node_status(&self) -> NodeStatus {
        self.inner.status.borrow().clone()
    }

    /// Turns the node on or off. Off returns when nothing is served any more, no address listens, and the model is
    /// unloaded unless the person's own chat uses it: [`NodeStatus::off_ms`] says how long that took.
    ///
    /// # Errors
    /// [`NodeError::NoIdentity`], [`NodeError::Network`] when no address can be opened.
    pub async fn node_switch(&self, on: bool) -> Result<NodeStatus, NodeError> {
        self.inner.serving.switch(on).await?;
        status::refresh(&self.inner).await;
        Ok(self.node_status())
    }

    /// Stops answering others, for some minutes or until [`Node::node_resume`]. Running jobs are ended, and their askers
    /// told.
    ///
    /// # Errors
    /// [`NodeError::NodeOff`].
    pub async fn node_pause(&self, minutes: Option<u32>) -> Result<(), NodeError> {
        self.inner.serving.pause(minutes).await?;
        status::refresh(&self.inner).await;
        Ok(())
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// [`NodeError::NodeOff`].
    pub async fn node_resume(&self) -> Result<(), NodeError> {
        self.inner.serving.resume().await?;
        status::refresh(&self.inner).await;
        Ok(())
    }
}

impl Inner {
    /// The book of peers.
    pub(crate) fn book(&self) -> MutexGuard<'_, PeerBook> {
        // A panic while it was held leaves a book that is whole all the same: its writes are single assignments.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the book of peers in a thread that may wait for the disk.
    pub(crate) async fn write_book(&self) -> Result<(), NodeError> {
        let (path, text) = self.book().to_write();
        let text = text.map_err(|error| NodeError::File {
            path: path.clone(),
            what: "written",
            source: std::io::Error::other(error),
        })?;
        tokio::task::spawn_blocking(move || crate::peers::write_book(&path, &text))
            .await
            .map_err(|_| NodeError::Stopping)?
    }

    /// The list of chats changed: the sidebar is read again soon.
    pub(crate) fn chats_changed(&self) {
        self.chats_dirty.notify_one();
    }

    async fn chats_reload(&self) -> Result<(), NodeError> {
        let list = self.memory.chats().await?;
        self.chats
            .send_replace(list.into_iter().map(crate::chat::summary).collect());
        Ok(())
    }

    async fn keep_chats(self: Arc<Self>) {
        // Many changes at once (an answer's start touches three rows) are one reading.
        const GATHER: Duration = Duration::from_millis(30);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.chats_dirty.notified() => {}
            }
            tokio::time::sleep(GATHER).await;
            if let Err(error) = self.chats_reload().await {
                tracing::warn!(%error, "the list of chats cannot be read");
            }
        }
    }
}
