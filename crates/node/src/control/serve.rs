//! The node's side of one connection.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
};

use super::{Body, Call, Hello, Reply, Request, read_line, to_line};
use crate::{
    chat::AnswerEvent,
    error::{ErrorView, NodeError},
    node::Node,
};

/// Calls of one connection that run at once. A command line has two or three.
const MAX_CALLS: usize = 64;

/// Lines that wait for the connection; the calls that make them wait beyond it.
const OUTBOX: usize = 256;

/// Serves one connection until it closes or the node stops. Answers that are being written go on without it.
pub async fn serve<C>(node: Node, connection: C)
where
    C: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, mut write) = tokio::io::split(connection);
    let (outbox, mut lines) = mpsc::channel::<Reply>(OUTBOX);
    let writing = async move {
        while let Some(reply) = lines.recv().await {
            let line = to_line(&reply).or_else(|error| {
                let body = Body::Error(ErrorView::new(
                    "internal",
                    format!("An answer cannot be written: {error}."),
                    None,
                ));
                to_line(&Reply { id: reply.id, body })
            });
            let Ok(line) = line else { return };
            if write.write_all(&line).await.is_err() || write.flush().await.is_err() {
                return;
            }
        }
    };
    let reading = read_calls(node.clone(), BufReader::new(read), outbox);
    tokio::select! {
        () = writing => {}
        () = reading => {}
        () = node.inner.stop.cancelled() => {}
    }
}

async fn read_calls(
    node: Node,
    mut reader: impl tokio::io::AsyncBufRead + Unpin,
    outbox: mpsc::Sender<Reply>,
) {
    let mut calls: JoinSet<()> = JoinSet::new();
    let running: Arc<Mutex<BTreeMap<u64, AbortHandle>>> = Arc::default();
    loop {
        let line = tokio::select! {
            Some(_) = calls.join_next(), if !calls.is_empty() => continue,
            line = read_line(&mut reader) => line,
        };
        let Ok(Some(line)) = line else {
            // The other side is gone. What it started in the node goes on; its watches end with the set.
            return;
        };
        let call: Call = match serde_json::from_slice(&line) {
            Ok(call) => call,
            Err(error) => {
                let id = serde_json::from_slice::<Id>(&line).map_or(0, |id| id.id);
                let message = format!("This call is not understood: {error}.");
                let fix = Some("Both programs must have the same version.".to_owned());
                let body = Body::Error(ErrorView::new("bad_call", message, fix));
                if outbox.send(Reply { id, body }).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let id = call.id;
        if let Request::Forget { call } = call.request {
            if let Some(task) = lock(&running).remove(&call) {
                task.abort();
            }
            continue;
        }
        if calls.len() >= MAX_CALLS {
            let body = Body::Error(ErrorView::new(
                "too_many_calls",
                format!("{MAX_CALLS} calls are running already."),
                None,
            ));
            if outbox.send(Reply { id, body }).await.is_err() {
                return;
            }
            continue;
        }
        let (node, out) = (
            node.clone(),
            Out {
                id,
                outbox: outbox.clone(),
            },
        );
        let over = Arc::clone(&running);
        let task = calls.spawn(async move {
            let body = match answer(&node, call.request, &out).await {
                Ok(value) => Body::Done(value),
                Err(error) => Body::Error(error.view()),
            };
            out.send(body).await;
            lock(&over).remove(&id);
        });
        // One that is over already is removed with the next of its id; ids are used once.
        if !task.is_finished() {
            lock(&running).insert(id, task);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(serde::Deserialize)]
struct Id {
    id: u64,
}

/// Where the items of one call go.
struct Out {
    id: u64,
    outbox: mpsc::Sender<Reply>,
}

impl Out {
    async fn send(&self, body: Body) -> bool {
        self.outbox.send(Reply { id: self.id, body }).await.is_ok()
    }

    async fn item(&self, item: &impl Serialize) -> bool {
        match serde_json::to_value(item) {
            Ok(value) => self.send(Body::Item(value)).await,
            Err(error) => {
                tracing::warn!(%error, "an item cannot be written as JSON");
                true
            }
        }
    }

    async fn events(&self, mut events: mpsc::Receiver<AnswerEvent>) {
        while let Some(event) = events.recv().await {
            if !self.item(&event).await {
                return;
            }
        }
    }

    async fn watch<T: Serialize + Clone>(&self, mut state: watch::Receiver<T>) {
        loop {
            let now = state.borrow_and_update().clone();
            if !self.item(&now).await || state.changed().await.is_err() {
                return;
            }
        }
    }
}

fn value(value: impl Serialize) -> Result<serde_json::Value, NodeError> {
    // Our own types are maps with text keys: this cannot fail.
    Ok(serde_json::to_value(value).unwrap_or(serde_json::Value::Null))
}

async fn answer(node: &Node, request: Request, out: &Out) -> Result<serde_json::Value, NodeError> {
    match request {
        Request::Hello => value(Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
        }),
        Request::Forget { .. } => value(()),
        Request::ChatsList => value(node.chats_list().await?),
        Request::ChatsSearch { query } => value(node.chats_search(&query).await?),
        Request::ChatCreate { temporary } => value(node.chat_create(temporary).await?),
        Request::ChatOpen { chat } => value(node.chat_open(&chat).await?),
        Request::ChatRename { chat, title } => value(node.chat_rename(&chat, &title).await?),
        Request::ChatPin { chat, pinned } => value(node.chat_pin(&chat, pinned).await?),
        Request::ChatDelete { chat } => value(node.chat_delete(&chat).await?),
        Request::ChatRestore { chat } => value(node.chat_restore(&chat).await?),
        Request::ChatUpdate { chat, patch } => value(node.chat_update(&chat, *patch).await?),
        Request::ChatChoose { chat, message } => value(node.chat_choose(&chat, &message).await?),
        Request::ChatSend { chat, parent, text } => {
            out.events(node.chat_send(&chat, parent.as_deref(), text).await?)
                .await;
            value(())
        }
        Request::ChatContinue { chat, answer } => {
            out.events(node.chat_continue(&chat, &answer).await?).await;
            value(())
        }
        Request::ChatStop { chat } => value(node.chat_stop(&chat)?),
        Request::ChatContext { chat, draft } => value(node.chat_context(&chat, &draft).await?),
        Request::ChatSummarise { chat } => {
            let (new, events) = node.chat_summarise(&chat).await?;
            out.events(events).await;
            value(node.chat_open(&new).await?)
        }
        Request::ChatExport { chat, format } => value(node.chat_export(&chat, format).await?),
        Request::ModelsList => value(node.models_list()),
        Request::ModelDownload { id } => value(node.model_download(&id).await?),
        Request::ModelPause { id } => value(node.model_pause(&id).await?),
        Request::ModelCancel { id } => value(node.model_cancel(&id).await?),
        Request::ModelRemove { id } => value(node.model_remove(&id).await?),
        Request::ModelAdd { path } => value(node.model_add(&path).await?),
        Request::ModelDefault { id } => value(node.model_default(&id).await?),
        Request::ModelsMove { path } => value(node.models_move(&path).await?),
        Request::CommunityList => value(node.community_list().await),
        Request::CommunitySearch => value(node.community_search().await?),
        Request::CommunityLook { id } => value(node.community_look(&id).await?),
        Request::NodeStatus => value(node.node_status()),
        Request::NodeSwitch { on } => value(node.node_switch(on).await?),
        Request::NodePause { minutes } => value(node.node_pause(minutes).await?),
        Request::NodeResume => value(node.node_resume().await?),
        Request::NodeAnswers { limit } => value(node.node_answers(limit).await?),
        Request::ReceiptOpen { job } => value(node.receipt_open(&job).await?),
        Request::PeersConnect { text } => value(node.peers_connect(&text).await?),
        Request::PeersDisconnect { id } => value(node.peers_disconnect(&id).await?),
        Request::PeersBlock { id, blocked } => value(node.peers_block(&id, blocked).await?),
        Request::PeersInvite => value(node.peers_invite()?),
        Request::PeersLog => value(node.peers_log()),
        Request::PeersCompare { model } => value(node.peers_compare(model.as_deref())?),
        Request::PeersNewName => value(node.peers_new_name().await?),
        Request::PeersForgetRecords => value(node.peers_forget_records().await?),
        Request::PeersWoke => {
            node.peers_woke().await;
            value(())
        }
        Request::SettingsGet => value(node.settings_get()),
        Request::SettingsSet { settings } => value(node.settings_set(*settings).await?),
        Request::Doctor => value(node.doctor().await),
        Request::ForgetClock => value(node.forget_clock().await?),
        Request::MoneyStatus => value(node.money_status()),
        Request::Transactions => value(node.transactions()),
        Request::Earnings {
            from_ms,
            until_ms,
            by,
        } => value(node.earnings(from_ms, until_ms, by).await?),
        Request::EnergyUsed { from_ms, until_ms } => {
            value(node.energy_used(from_ms, until_ms).await?)
        }
        Request::ProofOpen { job } => value(node.proof_open(&job).await?),
        Request::PaymentOpen { job } => value(node.payment_open(&job).await?),
        Request::Statement { path, csv } => value(node.statement(&path, csv).await?),
        Request::MoneyPrices => value(node.money_prices()),
        Request::StartText => value(node.start_text()?),
        Request::ExportClaims { path } => value(node.export_claims(&path).await?),
        Request::VoteStatus => value(node.vote_status().await?),
        Request::SignPreview { intent } => value(node.sign_preview(&intent).await?),
        Request::SignConfirm { intent, digest } => {
            value(node.sign_confirm(&intent, &digest).await?)
        }
        Request::WalletStatus => value(node.wallet().status()),
        Request::WalletCreate { password } => value(node.wallet().create(password).await?),
        Request::WalletImportWords { words, password } => {
            value(node.wallet().import_words(words, password).await?)
        }
        Request::WalletImportKeyFile {
            text,
            file_password,
            password,
        } => value(
            node.wallet()
                .import_key_file(text, file_password, password)
                .await?,
        ),
        Request::WalletUnlock { password } => value(node.wallet().unlock(password).await?),
        Request::WalletLock => {
            node.wallet().lock();
            value(())
        }
        Request::WalletRemember { password } => value(node.wallet().remember(password).await?),
        Request::WalletForget => value(node.wallet().forget().await?),
        Request::WalletOpenRemembered => value(node.wallet().open_remembered().await?),
        Request::WalletChangePassword { old, fresh } => {
            value(node.wallet().change_password(old, fresh).await?)
        }
        Request::WalletAsk { password } => value(node.wallet().ask(password).await?),
        Request::WalletCheck { words } => value(node.wallet().check(&words).await?),
        Request::WatchStatus => {
            out.watch(node.status()).await;
            value(())
        }
        Request::WatchModels => {
            out.watch(node.models()).await;
            value(())
        }
        Request::WatchChats => {
            out.watch(node.chats()).await;
            value(())
        }
    }
}
