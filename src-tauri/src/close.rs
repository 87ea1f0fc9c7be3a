//! What closing the window means, and the polite end of the program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use node::ServingState;
use tauri::{AppHandle, Manager, WebviewWindow};
use tauri_plugin_dialog::{DialogExt, MessageDialogButtons, MessageDialogResult};

use crate::shell::Shell;

/// How long the node may take to say goodbye to its peers, end its worker and close its files. Beyond that the system
/// cleans up better than we do: everything on disk is written so that a crash loses nothing.
const STOP_WITHIN: Duration = Duration::from_secs(5);

const KEEP: &str = "Keep answering";
const QUIT: &str = "Stop and quit";
const CANCEL: &str = "Cancel";

/// What closing the window means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    Quit,
    Hide,
    Ask,
}

/// A node that is off has no reason to run without its window; one that is on does what the person said, once asked.
fn closing(serving: &ServingState, close_to_tray: Option<bool>) -> Closing {
    match (serving, close_to_tray) {
        (ServingState::Off, _) | (_, Some(false)) => Closing::Quit,
        (_, Some(true)) => Closing::Hide,
        (_, None) => Closing::Ask,
    }
}

/// The person asked to close the window.
pub(crate) fn requested(window: WebviewWindow) {
    tauri::async_runtime::spawn(async move {
        let app = window.app_handle().clone();
        let node = app.state::<Shell>().node().await;
        let closing = match node {
            Ok(node) => {
                let close_to_tray = node.settings_get().close_to_tray;
                closing(&node.status().borrow().serving, close_to_tray)
            }
            Err(_) => Closing::Quit,
        };
        match closing {
            Closing::Quit => quit(&app),
            Closing::Hide => hide(&window),
            Closing::Ask => ask(window),
        }
    });
}

/// Ends the program: the window goes at once, the node in its own time, bounded by [`STOP_WITHIN`]. Further calls do
/// nothing.
pub(crate) fn quit(app: &AppHandle) {
    static ENDING: AtomicBool = AtomicBool::new(false);
    if ENDING.swap(true, Ordering::SeqCst) {
        return;
    }
    for window in app.webview_windows().values() {
        hide(window);
    }
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        if let Ok(node) = app.state::<Shell>().node().await
            && tokio::time::timeout(STOP_WITHIN, node.stop())
                .await
                .is_err()
        {
            tracing::warn!("the node did not stop within {STOP_WITHIN:?}");
        }
        app.exit(0);
    });
}

fn hide(window: &WebviewWindow) {
    if let Err(error) = window.hide() {
        tracing::warn!("the window could not be hidden: {error}");
    }
}

fn ask(window: WebviewWindow) {
    let app = window.app_handle().clone();
    app.dialog()
        .message("This computer lends its models. It can go on without a window; the tray icon and starting the app again bring it back.")
        .title("Close DecentralGPT")
        .parent(&window)
        .buttons(MessageDialogButtons::YesNoCancelCustom(KEEP.to_owned(), QUIT.to_owned(), CANCEL.to_owned()))
        .show_with_result(move |answer| {
            let Some(keep) = kept(&answer) else { return };
            tauri::async_runtime::spawn(async move {
                remember(&app, keep).await;
                if keep { hide(&window) } else { quit(&app) }
            });
        });
}

/// Whether the node is to go on; `None` when the person closed nothing after all.
fn kept(answer: &MessageDialogResult) -> Option<bool> {
    match answer {
        MessageDialogResult::Yes => Some(true),
        MessageDialogResult::No => Some(false),
        MessageDialogResult::Custom(button) if button == KEEP => Some(true),
        MessageDialogResult::Custom(button) if button == QUIT => Some(false),
        MessageDialogResult::Custom(_) | MessageDialogResult::Ok | MessageDialogResult::Cancel => {
            None
        }
    }
}

/// Asked once: the answer goes into the settings, where it can be changed.
async fn remember(app: &AppHandle, keep: bool) {
    let Ok(node) = app.state::<Shell>().node().await else {
        return;
    };
    let settings = node::Settings {
        close_to_tray: Some(keep),
        ..node.settings_get()
    };
    if let Err(error) = node.settings_set(settings).await {
        tracing::warn!("what closing the window means was not saved: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_asks_only_while_serving_and_only_once() {
        let waiting = ServingState::Waiting { since_ms: 1 };
        let paused = ServingState::PausedByYou { until_ms: None };
        for chosen in [None, Some(true), Some(false)] {
            assert_eq!(closing(&ServingState::Off, chosen), Closing::Quit);
        }
        for serving in [&waiting, &paused] {
            assert_eq!(closing(serving, None), Closing::Ask);
            assert_eq!(closing(serving, Some(true)), Closing::Hide);
            assert_eq!(closing(serving, Some(false)), Closing::Quit);
        }
    }

    #[test]
    fn a_dismissed_question_changes_nothing() {
        assert_eq!(
            kept(&MessageDialogResult::Custom(KEEP.to_owned())),
            Some(true)
        );
        assert_eq!(
            kept(&MessageDialogResult::Custom(QUIT.to_owned())),
            Some(false)
        );
        assert_eq!(kept(&MessageDialogResult::Custom(CANCEL.to_owned())), None);
        assert_eq!(kept(&MessageDialogResult::Cancel), None);
    }
}
