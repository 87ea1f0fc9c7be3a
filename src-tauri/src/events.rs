//! What the page hears without asking: whole snapshots of `node`'s state, each replacing the one before.

use std::time::Duration;

use node::Node;
use serde::Serialize;
use specta::Type;
use tauri::AppHandle;
use tauri_specta::Event;
use tokio::sync::watch;

use crate::view::{ChatSummary, ModelsView, MoneyStatus, NodeStatus};

/// The least time between two snapshots of the same kind. A download or an answer changes its snapshot with every packet
/// and token; nobody reads figures that change more than ten times in a second.
const PACE: Duration = Duration::from_millis(100);

/// The node changed: its switch, its peers, its engine.
#[derive(Debug, Clone, Serialize, Type, Event)]
pub(crate) struct StatusChanged(pub NodeStatus);

/// The models changed: a download went on, a file came or went.
#[derive(Debug, Clone, Serialize, Type, Event)]
pub(crate) struct ModelsChanged(pub ModelsView);

/// Money changed: a block was booked, a voucher came, the wallet locked.
#[derive(Debug, Clone, Serialize, Type, Event)]
pub(crate) struct MoneyChanged(pub MoneyStatus);

/// The list of chats changed.
#[derive(Debug, Clone, Serialize, Type, Event)]
pub(crate) struct ChatsChanged(pub Vec<ChatSummary>);

/// A link was handed over, and waits to be asked for.
#[derive(Debug, Clone, Serialize, Type, Event)]
pub(crate) struct LinkArrived(pub ());

/// Sends the page every change of `node`'s snapshots, until the node is gone.
pub(crate) fn forward(app: &AppHandle, node: &Node) {
    follow(app.clone(), node.status(), |status| {
        StatusChanged(status.into())
    });
    follow(app.clone(), node.models(), |models| {
        ModelsChanged(models.into())
    });
    follow(app.clone(), node.money(), |money| {
        MoneyChanged(money.into())
    });
    follow(app.clone(), node.chats(), |chats| {
        ChatsChanged(chats.into_iter().map(Into::into).collect())
    });
}

/// Emits each new value of `source` as an event. Values that come faster than [`PACE`] are skipped, never the last one.
fn follow<T, E>(app: AppHandle, mut source: watch::Receiver<T>, event: fn(T) -> E)
where
    T: Clone + Send + Sync + 'static,
    E: Event + Clone + Serialize + Send,
{
    tauri::async_runtime::spawn(async move {
        while source.changed().await.is_ok() {
            let value = source.borrow_and_update().clone();
            if let Err(error) = event(value).emit(&app) {
                tracing::warn!("the page was not told of a change: {error}");
            }
            tokio::time::sleep(PACE).await;
        }
    });
}
