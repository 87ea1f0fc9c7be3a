//! The tray icon: the node's state in a line, a pause for an hour, the way back to the window, the way out.

use node::{Node, ServingState};
use tauri::menu::{Menu, MenuItem, PredefinedMenuItem};
use tauri::tray::{TrayIcon, TrayIconBuilder};
use tauri::{AppHandle, Manager, Wry};

use crate::shell::Shell;
use crate::{app, close};

/// The length of the pause that the menu offers.
const PAUSE_MINUTES: u32 = 60;

/// What the menu does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Open,
    Pause,
    Resume,
    Quit,
}

/// What the menu says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Face {
    /// The state, and what was answered today.
    line: String,
    /// What the one item about pausing does; `None` when there is nothing to pause.
    pause: Option<Action>,
}

/// The node's state in the tray's words.
fn face(serving: &ServingState, answered_today: u32) -> Face {
    let pause = Some(Action::Pause);
    let (state, pause) = match serving {
        ServingState::Off => ("Lending is off".to_owned(), None),
        ServingState::Preparing { .. } => ("Getting ready".to_owned(), None),
        ServingState::Waiting { .. } => ("Ready for others".to_owned(), pause),
        ServingState::Serving { jobs: 1, .. } => ("Answering one request".to_owned(), pause),
        ServingState::Serving { jobs, .. } => (format!("Answering {jobs} requests"), pause),
        ServingState::PausedByYou { .. } => ("Paused by you".to_owned(), Some(Action::Resume)),
        ServingState::PausedOwnWork => ("Your own answer goes first".to_owned(), pause),
        ServingState::Attention { error } => (format!("Needs attention: {}", error.message), None),
        ServingState::NetworkProblem { .. } => ("Network problem, trying again".to_owned(), pause),
    };
    let line = match answered_today {
        0 => state,
        count => format!("{state} · {count} answered today"),
    };
    Face { line, pause }
}

/// The menu item's action by its id; ids of other menus are none of ours.
fn action(id: &str) -> Option<Action> {
    match id {
        "open" => Some(Action::Open),
        "pause" => Some(Action::Pause),
        "resume" => Some(Action::Resume),
        "quit" => Some(Action::Quit),
        _ => None,
    }
}

/// Does what the person chose.
fn act(app: &AppHandle, action: Action) {
    match action {
        Action::Open => app::show(app),
        Action::Quit => close::quit(app),
        Action::Pause => pause(app, Some(PAUSE_MINUTES)),
        Action::Resume => pause(app, None),
    }
}

fn pause(app: &AppHandle, minutes: Option<u32>) {
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        let Ok(node) = app.state::<Shell>().node().await else {
            return;
        };
        if let Err(error) = set_pause(&node, minutes).await {
            tracing::warn!("the node was not paused or resumed: {error}");
        }
    });
}

/// Pauses the node for `minutes`, or resumes it.
async fn set_pause(node: &Node, minutes: Option<u32>) -> Result<(), node::NodeError> {
    match minutes {
        Some(minutes) => node.node_pause(Some(minutes)).await,
        None => node.node_resume().await,
    }
}

/// The icon and its changing items.
struct Tray {
    icon: TrayIcon<Wry>,
    menu: Menu<Wry>,
    line: MenuItem<Wry>,
    pause: MenuItem<Wry>,
    resume: MenuItem<Wry>,
}

/// Puts the icon into the tray and keeps it true. A desktop without a tray is no error: the window does everything that
/// the tray does.
pub(crate) fn install(app: &AppHandle) {
    // On Linux the icon's library is opened at run time, and its binding panics where it is not installed.
    let built = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| build(app)));
    let tray = match built {
        Ok(Ok(tray)) => tray,
        Ok(Err(error)) => return tracing::warn!("no tray icon: {error}"),
        Err(_) => return tracing::warn!("no tray icon: its library is missing"),
    };
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        let Ok(node) = app.state::<Shell>().node().await else {
            return;
        };
        let mut status = node.status();
        let mut shown = None;
        loop {
            let face = {
                let status = status.borrow_and_update();
                face(&status.serving, status.answered_today)
            };
            if shown.as_ref() != Some(&face) {
                if let Err(error) = tray.show(&face) {
                    tracing::warn!("the tray icon does not show the state: {error}");
                }
                shown = Some(face);
            }
            if status.changed().await.is_err() {
                return;
            }
        }
    });
}

fn build(app: &AppHandle) -> tauri::Result<Tray> {
    let line = MenuItem::with_id(app, "state", "DecentralGPT", false, None::<&str>)?;
    let open = MenuItem::with_id(app, "open", "Open DecentralGPT", true, None::<&str>)?;
    let pause = MenuItem::with_id(app, "pause", "Pause for an hour", true, None::<&str>)?;
    let resume = MenuItem::with_id(app, "resume", "Resume", true, None::<&str>)?;
    let quit = MenuItem::with_id(app, "quit", "Quit", true, None::<&str>)?;
    let menu = Menu::with_items(
        app,
        &[
            &line,
            &PredefinedMenuItem::separator(app)?,
            &open,
            &PredefinedMenuItem::separator(app)?,
            &quit,
        ],
    )?;
    let icon = TrayIconBuilder::with_id("main")
        .icon(tauri::include_image!("../icons/tray.png"))
        .menu(&menu)
        .tooltip("DecentralGPT")
        .on_menu_event(|app, event| {
            if let Some(action) = action(event.id().as_ref()) {
                act(app, action);
            }
        })
        .build(app)?;
    Ok(Tray {
        icon,
        menu,
        line,
        pause,
        resume,
    })
}

impl Tray {
    /// Where the item about pausing stands in the menu: under the one that opens the window.
    const PAUSE_AT: usize = 3;

    fn show(&self, face: &Face) -> tauri::Result<()> {
        self.line.set_text(&face.line)?;
        self.icon
            .set_tooltip(Some(format!("DecentralGPT: {}", face.line)))?;
        let wanted = match face.pause {
            Some(Action::Pause) => Some(&self.pause),
            Some(Action::Resume) => Some(&self.resume),
            Some(Action::Open | Action::Quit) | None => None,
        };
        for item in [&self.pause, &self.resume] {
            let there = self.menu.get(item.id()).is_some();
            let wanted = wanted.is_some_and(|wanted| wanted.id() == item.id());
            match (there, wanted) {
                (true, false) => self.menu.remove(item)?,
                (false, true) => self.menu.insert(item, Self::PAUSE_AT)?,
                (true, true) | (false, false) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_the_state_and_what_was_answered() {
        assert_eq!(face(&ServingState::Off, 0).line, "Lending is off");
        assert_eq!(
            face(&ServingState::Waiting { since_ms: 1 }, 3).line,
            "Ready for others · 3 answered today"
        );
        assert_eq!(
            face(
                &ServingState::Serving {
                    jobs: 2,
                    tokens_per_second: None
                },
                0
            )
            .line,
            "Answering 2 requests"
        );
    }

    #[test]
    fn what_can_be_paused_can_be_resumed() {
        assert_eq!(face(&ServingState::Off, 0).pause, None);
        assert_eq!(
            face(&ServingState::Waiting { since_ms: 1 }, 0).pause,
            Some(Action::Pause)
        );
        assert_eq!(
            face(&ServingState::PausedOwnWork, 0).pause,
            Some(Action::Pause)
        );
        assert_eq!(
            face(&ServingState::PausedByYou { until_ms: Some(1) }, 0).pause,
            Some(Action::Resume)
        );
    }

    #[test]
    fn every_item_does_one_thing() {
        assert_eq!(action("open"), Some(Action::Open));
        assert_eq!(action("pause"), Some(Action::Pause));
        assert_eq!(action("resume"), Some(Action::Resume));
        assert_eq!(action("quit"), Some(Action::Quit));
        assert_eq!(action("state"), None);
    }
}
