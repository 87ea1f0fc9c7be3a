//! The caller's side.

use std::{
    collections::BTreeMap,
    io,
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::mpsc,
};
use zeroize::Zeroizing;

use super::{Body, Call, Hello, Reply, Request, read_line, to_wiped_line};
use crate::{
    chat::{AnswerEvent, ChatPatch, ChatSummary, ChatView, ContextUse, ExportFormat, SearchHit},
    community::{CommunityModel, CommunityView},
    doctor::Check,
    error::{ANOTHER_FOLDER, ErrorView},
    models::{ModelRow, ModelsView},
    money::{
        AskedPrice, Claims, EarningView, EarningsBy, EnergyView, Payment, Proof, VoteStatus,
        view::{MoneyStatus, TransactionView},
    },
    node::Node,
    peers::{Invite, PeerChoice},
    receipts::Receipt,
    settings::Settings,
    status::{Answered, LogLine, NodeStatus, Peer},
    wallet::{Intent, Preview, Typed, WalletStatus},
};

/// Lines that wait to be written.
const OUTBOX: usize = 32;

/// Items of one call that its caller has not taken. One that falls further behind is ended with an error, so that it
/// does not hold up the others.
const MAX_WAITING: usize = 8192;

/// Bytes that an in-process connection holds.
const DUPLEX_BYTES: usize = 256 * 1024;

/// Why nobody could be attached to.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket is there and does not answer as it should.
    #[error("the running program does not answer")]
    NoAnswer(#[source] io::Error),
    /// It is not ours to open.
    #[error("the running program belongs to another user")]
    NotAllowed,
}

impl ControlError {
    /// As a shell shows it.
    #[must_use]
    pub fn view(&self) -> ErrorView {
        let (code, fix, command) = match self {
            Self::NoAnswer(_) => (
                "control_silent",
                "Close the running program and try again.",
                None,
            ),
            Self::NotAllowed => (
                "control_refused",
                "Use a data folder of your own.",
                Some(ANOTHER_FOLDER.to_owned()),
            ),
        };
        ErrorView::new(code, crate::error::sentence(self), Some(fix.to_owned())).by(command)
    }
}

/// A connection to a node, in this process or another. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// The calls whose ends have not come. `None` once the connection is gone: nothing will come any more.
type Waiting = Mutex<Option<BTreeMap<u64, mpsc::Sender<Body>>>>;

#[derive(Debug)]
struct Shared {
    next: AtomicU64,
    outbox: mpsc::Sender<Zeroizing<Vec<u8>>>,
    waiting: Arc<Waiting>,
    _reading: tokio_util::task::AbortOnDropHandle<()>,
}

/// The items of one call, and then its result. Dropping it ends a watch; an answer that is being written goes on.
#[derive(Debug)]
pub struct Stream<T, R = ()> {
    client: Client,
    id: u64,
    bodies: mpsc::Receiver<Body>,
    ended: Option<Result<serde_json::Value, ErrorView>>,
    _types: PhantomData<fn() -> (T, R)>,
}

impl Client {
    /// Attaches to the node that holds a data folder. `None` when none runs.
    ///
    /// # Errors
    /// [`ControlError`] when one runs and cannot be spoken with.
    #[cfg(unix)]
    pub async fn attach(data: &Path) -> Result<Option<Self>, ControlError> {
        let Some(path) = super::socket_path(data) else {
            return Ok(None);
        };
        match tokio::net::UnixStream::connect(&path).await {
            Ok(connection) => Ok(Some(Self::over(connection))),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ControlError::NotAllowed)
            }
            Err(error) => Err(ControlError::NoAnswer(error)),
        }
    }

    /// Attaches to the node that holds a data folder. `None` when none runs.
    ///
    /// # Errors
    /// [`ControlError`] when one runs and cannot be spoken with.
    #[cfg(windows)]
    pub async fn attach(data: &Path) -> Result<Option<Self>, ControlError> {
        match tokio::net::windows::named_pipe::ClientOptions::new().open(super::pipe_name(data)) {
            Ok(connection) => Ok(Some(Self::over(connection))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ControlError::NotAllowed)
            }
            Err(error) => Err(ControlError::NoAnswer(error)),
        }
    }

    /// The same interface to a node in this process.
    #[must_use]
    pub fn in_process(node: &Node) -> Self {
        let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        node.inner.tasks.spawn(super::serve(node.clone(), theirs));
        Self::over(ours)
    }

    /// Speaks over a connection that exists already.
    #[must_use]
    pub fn over<C>(connection: C) -> Self
    where
        C: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, mut write) = tokio::io::split(connection);
        let (outbox, mut lines) = mpsc::channel::<Zeroizing<Vec<u8>>>(OUTBOX);
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                if write.write_all(&line).await.is_err() || write.flush().await.is_err() {
                    // The reading side ends as well, and tells every caller.
                    return;
                }
            }
        });
        let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(BTreeMap::new())));
        let reading = tokio::spawn(hear(BufReader::new(read), Arc::clone(&waiting)));
        Self {
            shared: Arc::new(Shared {
                next: AtomicU64::new(1),
                outbox,
                waiting,
                _reading: tokio_util::task::AbortOnDropHandle::new(reading),
            }),
        }
    }

    /// Makes a call and waits for its result; items on the way are skipped.
    ///
    /// # Errors
    /// The node's own error, or `disconnected`.
    pub async fn call<R: DeserializeOwned>(&self, request: Request) -> Result<R, ErrorView> {
        self.stream::<serde_json::Value, R>(request)
            .await?
            .finish()
            .await
    }

    /// Makes a call whose items are wanted.
    ///
    /// # Errors
    /// `disconnected`; the node's own errors come with the items.
    pub async fn stream<T: DeserializeOwned, R: DeserializeOwned>(
        &self,
        request: Request,
    ) -> Result<Stream<T, R>, ErrorView> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (sender, bodies) = mpsc::channel(MAX_WAITING);
        lock(&self.shared.waiting)
            .as_mut()
            .ok_or_else(disconnected)?
            .insert(id, sender);
        let stream = Stream {
            client: self.clone(),
            id,
            bodies,
            ended: None,
            _types: PhantomData,
        };
        let line = to_wiped_line(&Call { id, request })
            .map_err(|error| ErrorView::new("bad_call", error.to_string(), None))?;
        self.shared
            .outbox
            .send(line)
            .await
            .map_err(|_| disconnected())?;
        Ok(stream)
    }

    /// Who answers.
    ///
    /// # Errors
    /// `disconnected`.
    pub async fn hello(&self) -> Result<Hello, ErrorView> {
        self.call(Request::Hello).await
    }
}

/// One method per call, with the types of [`Node`]'s own.
macro_rules! calls {
    ($($name:ident($($arg:ident: $given:ty => $kept:expr),*) -> $result:ty = $variant:ident;)*) => {
        impl Client {
            $(
                #[doc = concat!("See [`Node::", stringify!($name), "`].\n\n# Errors\nThe node's own error, or `disconnected`.")]
                pub async fn $name(&self, $($arg: $given),*) -> Result<$result, ErrorView> {
                    self.call(Request::$variant { $($arg: $kept),* }).await
                }
            )*
        }
    };
}

calls! {
    chats_list() -> Vec<ChatSummary> = ChatsList;
    chats_search(query: &str => query.to_owned()) -> Vec<SearchHit> = ChatsSearch;
    chat_create(temporary: bool => temporary) -> ChatView = ChatCreate;
    chat_open(chat: &str => chat.to_owned()) -> ChatView = ChatOpen;
    chat_rename(chat: &str => chat.to_owned(), title: &str => title.to_owned()) -> () = ChatRename;
    chat_pin(chat: &str => chat.to_owned(), pinned: bool => pinned) -> () = ChatPin;
    chat_delete(chat: &str => chat.to_owned()) -> () = ChatDelete;
    chat_restore(chat: &str => chat.to_owned()) -> () = ChatRestore;
    chat_update(chat: &str => chat.to_owned(), patch: ChatPatch => Box::new(patch)) -> ChatView = ChatUpdate;
    chat_choose(chat: &str => chat.to_owned(), message: &str => message.to_owned()) -> ChatView = ChatChoose;
    chat_stop(chat: &str => chat.to_owned()) -> () = ChatStop;
    chat_context(chat: &str => chat.to_owned(), draft: &str => draft.to_owned()) -> ContextUse = ChatContext;
    chat_export(chat: &str => chat.to_owned(), format: ExportFormat => format) -> String = ChatExport;
    models_list() -> ModelsView = ModelsList;
    model_download(id: &str => id.to_owned()) -> () = ModelDownload;
    model_pause(id: &str => id.to_owned()) -> () = ModelPause;
    model_cancel(id: &str => id.to_owned()) -> () = ModelCancel;
    model_remove(id: &str => id.to_owned()) -> () = ModelRemove;
    model_add(path: &Path => path.to_owned()) -> ModelRow = ModelAdd;
    model_default(id: &str => id.to_owned()) -> () = ModelDefault;
    models_move(path: &Path => path.to_owned()) -> () = ModelsMove;
    community_list() -> CommunityView = CommunityList;
    community_search() -> () = CommunitySearch;
    community_look(id: &str => id.to_owned()) -> CommunityModel = CommunityLook;
    node_status() -> NodeStatus = NodeStatus;
    node_switch(on: bool => on) -> NodeStatus = NodeSwitch;
    node_pause(minutes: Option<u32> => minutes) -> () = NodePause;
    node_resume() -> () = NodeResume;
    node_answers(limit: u32 => limit) -> Vec<Answered> = NodeAnswers;
    receipt_open(job: &str => job.to_owned()) -> Receipt = ReceiptOpen;
    peers_connect(text: &str => text.to_owned()) -> Peer = PeersConnect;
    peers_disconnect(id: &str => id.to_owned()) -> () = PeersDisconnect;
    peers_block(id: &str => id.to_owned(), blocked: bool => blocked) -> () = PeersBlock;
    peers_invite() -> Invite = PeersInvite;
    peers_log() -> Vec<LogLine> = PeersLog;
    peers_compare(model: Option<&str> => model.map(str::to_owned)) -> Vec<PeerChoice> = PeersCompare;
    peers_new_name() -> () = PeersNewName;
    peers_forget_records() -> () = PeersForgetRecords;
    peers_woke() -> () = PeersWoke;
    settings_get() -> Settings = SettingsGet;
    settings_set(settings: Settings => Box::new(settings)) -> () = SettingsSet;
    doctor() -> Vec<Check> = Doctor;
    forget_clock() -> () = ForgetClock;
    money_status() -> MoneyStatus = MoneyStatus;
    transactions() -> Vec<TransactionView> = Transactions;
    earnings(from_ms: u64 => from_ms, until_ms: u64 => until_ms, by: EarningsBy => by) -> Vec<EarningView> = Earnings;
    energy_used(from_ms: u64 => from_ms, until_ms: u64 => until_ms) -> EnergyView = EnergyUsed;
    proof_open(job: &str => job.to_owned()) -> Proof = ProofOpen;
    payment_open(job: &str => job.to_owned()) -> Payment = PaymentOpen;
    statement(path: &Path => path.to_owned(), csv: bool => csv) -> PathBuf = Statement;
    money_prices() -> Vec<AskedPrice> = MoneyPrices;
    start_text() -> String = StartText;
    export_claims(path: &Path => path.to_owned()) -> Claims = ExportClaims;
    vote_status() -> VoteStatus = VoteStatus;
    sign_preview(intent: &Intent => Box::new(intent.clone())) -> Preview = SignPreview;
    sign_confirm(intent: &Intent => Box::new(intent.clone()), digest: &str => digest.to_owned()) -> () = SignConfirm;
}

/// The same for the methods of [`Wallet`](crate::wallet::Wallet).
macro_rules! wallet_calls {
    ($($name:ident($($arg:ident: $given:ty),*) -> $result:ty = $variant:ident, $method:literal;)*) => {
        impl Client {
            $(
                #[doc = concat!("See [`Wallet::", $method, "`](crate::wallet::Wallet::", $method, ").\n\n# Errors\nThe wallet's own problem, or `disconnected`.")]
                pub async fn $name(&self, $($arg: $given),*) -> Result<$result, ErrorView> {
                    self.call(Request::$variant { $($arg),* }).await
                }
            )*
        }
    };
}

wallet_calls! {
    wallet_status() -> WalletStatus = WalletStatus, "status";
    wallet_create(password: Typed) -> () = WalletCreate, "create";
    wallet_import_words(words: Typed, password: Typed) -> () = WalletImportWords, "import_words";
    wallet_import_key_file(text: Typed, file_password: Typed, password: Typed) -> () = WalletImportKeyFile, "import_key_file";
    wallet_unlock(password: Typed) -> () = WalletUnlock, "unlock";
    wallet_lock() -> () = WalletLock, "lock";
    wallet_remember(password: Typed) -> () = WalletRemember, "remember";
    wallet_forget() -> () = WalletForget, "forget";
    wallet_open_remembered() -> bool = WalletOpenRemembered, "open_remembered";
    wallet_change_password(old: Typed, fresh: Typed) -> () = WalletChangePassword, "change_password";
    wallet_ask(password: Option<Typed>) -> Vec<usize> = WalletAsk, "ask";
    wallet_check(words: Vec<Typed>) -> bool = WalletCheck, "check";
}

impl Client {
    /// See [`Node::chat_send`].
    ///
    /// # Errors
    /// `disconnected`; the node's own errors come with the first item.
    pub async fn chat_send(
        &self,
        chat: &str,
        parent: Option<&str>,
        text: Option<String>,
    ) -> Result<Stream<AnswerEvent>, ErrorView> {
        self.stream(Request::ChatSend {
            chat: chat.to_owned(),
            parent: parent.map(str::to_owned),
            text,
        })
        .await
    }

    /// See [`Node::chat_continue`].
    ///
    /// # Errors
    /// `disconnected`; the node's own errors come with the first item.
    pub async fn chat_continue(
        &self,
        chat: &str,
        answer: &str,
    ) -> Result<Stream<AnswerEvent>, ErrorView> {
        self.stream(Request::ChatContinue {
            chat: chat.to_owned(),
            answer: answer.to_owned(),
        })
        .await
    }

    /// See [`Node::chat_summarise`]; the result is the new chat.
    ///
    /// # Errors
    /// `disconnected`; the node's own errors come with the first item.
    pub async fn chat_summarise(
        &self,
        chat: &str,
    ) -> Result<Stream<AnswerEvent, ChatView>, ErrorView> {
        self.stream(Request::ChatSummarise {
            chat: chat.to_owned(),
        })
        .await
    }

    /// See [`Node::status`].
    ///
    /// # Errors
    /// `disconnected`.
    pub async fn status(&self) -> Result<Stream<NodeStatus>, ErrorView> {
        self.stream(Request::WatchStatus).await
    }

    /// See [`Node::models`].
    ///
    /// # Errors
    /// `disconnected`.
    pub async fn models(&self) -> Result<Stream<ModelsView>, ErrorView> {
        self.stream(Request::WatchModels).await
    }

    /// See [`Node::chats`].
    ///
    /// # Errors
    /// `disconnected`.
    pub async fn chats(&self) -> Result<Stream<Vec<ChatSummary>>, ErrorView> {
        self.stream(Request::WatchChats).await
    }
}

impl<T: DeserializeOwned, R: DeserializeOwned> Stream<T, R> {
    /// The next item; `None` after the last one. Cancel safe.
    ///
    /// # Errors
    /// The node's own error, which ends the call; `disconnected`, also for a caller that fell thousands of items behind.
    pub async fn next(&mut self) -> Result<Option<T>, ErrorView> {
        if self.ended.is_none() {
            match self.bodies.recv().await {
                Some(Body::Item(item)) => return Ok(Some(from_value(item)?)),
                Some(Body::Done(value)) => self.ended = Some(Ok(value)),
                Some(Body::Error(error)) => self.ended = Some(Err(error)),
                None => self.ended = Some(Err(disconnected())),
            }
        }
        match &self.ended {
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(_)) | None => Ok(None),
        }
    }

    /// Waits for the end, skipping items, and gives the result.
    ///
    /// # Errors
    /// As [`Stream::next`].
    pub async fn finish(mut self) -> Result<R, ErrorView> {
        while self.ended.is_none() {
            match self.bodies.recv().await {
                Some(Body::Item(_)) => {}
                Some(Body::Done(value)) => self.ended = Some(Ok(value)),
                Some(Body::Error(error)) => self.ended = Some(Err(error)),
                None => self.ended = Some(Err(disconnected())),
            }
        }
        match self.ended.take() {
            Some(Ok(value)) => from_value(value),
            Some(Err(error)) => Err(error),
            None => Err(disconnected()),
        }
    }
}

impl<T, R> Drop for Stream<T, R> {
    fn drop(&mut self) {
        let waited = lock(&self.client.shared.waiting)
            .as_mut()
            .and_then(|waiting| waiting.remove(&self.id));
        let over = waited.is_none() || self.ended.is_some();
        if !over
            && let Ok(line) = to_wiped_line(&Call {
                id: 0,
                request: Request::Forget { call: self.id },
            })
        {
            // With a full outbox the other side goes on sending items that nobody waits for, until the call ends.
            let _ = self.client.shared.outbox.try_send(line);
        }
    }
}

async fn hear(mut reader: impl tokio::io::AsyncBufRead + Unpin, waiting: Arc<Waiting>) {
    while let Ok(Some(line)) = read_line(&mut reader).await {
        let Ok(reply) = serde_json::from_slice::<Reply>(&line) else {
            tracing::debug!("a line from the node is not understood");
            continue;
        };
        let mut waiting = lock(&waiting);
        let Some(waiting) = waiting.as_mut() else {
            return;
        };
        let Some(caller) = waiting.get(&reply.id) else {
            continue;
        };
        let last = matches!(reply.body, Body::Done(_) | Body::Error(_));
        // A caller that is too far behind loses the call: its channel closes behind what it has.
        if caller.try_send(reply.body).is_err() || last {
            waiting.remove(&reply.id);
        }
    }
    *lock(&waiting) = None;
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, Option<BTreeMap<u64, mpsc::Sender<Body>>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn from_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, ErrorView> {
    serde_json::from_value(value).map_err(|error| {
        let fix = Some("Both programs must have the same version.".to_owned());
        ErrorView::new(
            "bad_answer",
            format!("The running program answered in a form that is not known: {error}."),
            fix,
        )
    })
}

fn disconnected() -> ErrorView {
    ErrorView::new(
        "disconnected",
        "The running program closed the connection.",
        Some("Start it again.".to_owned()),
    )
}
