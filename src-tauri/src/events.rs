//! What the page hears without asking: whole snapshots of `node`'s state, each replacing the one before.

use std::time::Duration;

use node::Node;
use serde::Serialize;
use specta::Type;
use tauri::{AppHandle, DragDropEvent};
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

/// The person drags files over the window.
#[derive(Debug, Clone, Serialize, Type, Event)]
pub(crate) struct FilesDragged(pub Dragged);

/// What became of files that were dragged over the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Type)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Dragged {
    /// They are over it.
    Over,
    /// They were let go over it. Nothing was opened: the page asks for what it wants, as of a file that was chosen.
    Dropped { paths: Vec<String> },
    /// They are gone again.
    Left,
}

impl Dragged {
    /// What the page is told of an event of the window; nothing while the files only move.
    pub(crate) fn told(event: &DragDropEvent) -> Option<Self> {
        if let DragDropEvent::Enter { .. } = event {
            Some(Self::Over)
        } else if let DragDropEvent::Drop { paths, .. } = event {
            // A path that is no text cannot be named by the page either.
            let paths = paths
                .iter()
                .filter_map(|path| path.to_str())
                .map(str::to_owned)
                .collect();
            Some(Self::Dropped { paths })
        } else if let DragDropEvent::Leave = event {
            Some(Self::Left)
        } else {
            None
        }
    }
}

/// Tells the page of files that are dragged over its window.
pub(crate) fn dragged(app: &AppHandle, event: &DragDropEvent) {
    let Some(dragged) = Dragged::told(event) else {
        return;
    };
    if let Err(error) = FilesDragged(dragged).emit(app) {
        tracing::warn!("the page was not told of dragged files: {error}");
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_told_of_dragged_files_by_their_beginning_and_their_end() {
        let position = tauri::PhysicalPosition::new(0.0, 0.0);
        let paths = vec!["/models/a.gguf".into(), "/b.txt".into()];
        let enter = DragDropEvent::Enter {
            paths: paths.clone(),
            position,
        };
        assert_eq!(Dragged::told(&enter), Some(Dragged::Over));
        assert_eq!(Dragged::told(&DragDropEvent::Over { position }), None);
        assert_eq!(Dragged::told(&DragDropEvent::Leave), Some(Dragged::Left));
        assert_eq!(
            Dragged::told(&DragDropEvent::Drop { paths, position }),
            Some(Dragged::Dropped {
                paths: vec!["/models/a.gguf".to_owned(), "/b.txt".to_owned()]
            })
        );
    }
}
