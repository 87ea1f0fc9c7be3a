//! The program from its first window to its last breath.

use std::path::{Path, PathBuf};

use node::NodeOptions;
use node::installed::default_data_folder;
use tauri::{AppHandle, Manager, RunEvent, WebviewWindowBuilder, WindowEvent};

use crate::shell::Shell;
use crate::{bindings, close, events, links, signing, tray};

/// The main window's label, as in tauri.conf.json.
pub(crate) const MAIN: &str = "main";

/// Opens the window on a data folder and runs until the person quits. It begins with a question where a link started it.
///
/// # Errors
/// When there is no display, or the web view cannot be made.
#[allow(
    clippy::disallowed_methods,
    reason = "generate_context! holds an exit for a broken bundle, and nothing runs yet"
)]
pub(crate) fn run(data: PathBuf, link: Option<&str>) -> tauri::Result<()> {
    let usual = default_data_folder();
    let link = link.map(str::to_owned);
    let (bindings, of_signing) = (bindings::bindings(), bindings::signing_bindings());
    let (of_main, of_signing) = (bindings.invoke_handler(), of_signing.invoke_handler());
    let context = tauri::generate_context!();
    let instance = instance_name(&context.config().identifier, &data, usual.as_deref());
    let app = tauri::Builder::default()
        // First, so that a second start ends before it touches anything.
        .plugin(
            tauri_plugin_single_instance::Builder::new()
                .callback(|app, arguments, _folder| match links::among(&arguments) {
                    Some(link) => links::arrived(app, link),
                    None => show(app),
                })
                .dbus_id(instance)
                .build(),
        )
        .plugin(
            tauri_plugin_window_state::Builder::new()
                // It opens where the main window is.
                .with_denylist(&[signing::LABEL])
                .build(),
        )
        .plugin(tauri_plugin_dialog::init())
        .plugin(
            tauri_plugin_opener::Builder::new()
                .open_js_links_on_click(false)
                .build(),
        )
        // Each window has its own commands: what the other one may call does not exist for it.
        .invoke_handler(move |invoke| {
            if invoke.message.webview_ref().label() == signing::LABEL {
                of_signing(invoke)
            } else {
                of_main(invoke)
            }
        })
        .setup(move |app| {
            bindings.mount_events(app);
            let shell = Shell::start(options(data.clone()));
            if let Some(link) = &link {
                shell.links().offer(link);
            }
            app.manage(shell);
            open_window(app.handle(), &data)?;
            tray::install(app.handle());
            tell_the_page(app.handle());
            end_with_the_system(app.handle());
            Ok(())
        })
        .on_window_event(|window, event| {
            if window.label() == signing::LABEL {
                if let WindowEvent::Destroyed = event {
                    signing::closed(window.app_handle());
                }
                return;
            }
            if let WindowEvent::CloseRequested { api, .. } = event {
                api.prevent_close();
                if let Some(window) = window.app_handle().get_webview_window(window.label()) {
                    close::requested(window);
                }
            } else if let WindowEvent::DragDrop(event) = event {
                events::dragged(window.app_handle(), event);
            }
        })
        .build(context)?;
    app.run(|app, event| {
        // macOS hands links over as events; the other systems start the program once more.
        #[cfg(target_os = "macos")]
        if let RunEvent::Opened { urls } = &event {
            for url in urls {
                links::arrived(app, url.as_str());
            }
        }
        if let RunEvent::ExitRequested {
            code: None, api, ..
        } = event
        {
            // The system asks, not we: end in order first.
            api.prevent_exit();
            close::quit(app);
        }
    });
    Ok(())
}

/// Brings the window to the front, from the tray or from behind others.
pub(crate) fn show(app: &AppHandle) {
    let Some(window) = app.get_webview_window(MAIN) else {
        return;
    };
    let shown = window
        .show()
        .and_then(|()| window.unminimize())
        .and_then(|()| window.set_focus());
    if let Err(error) = shown {
        tracing::warn!("the window could not be brought to the front: {error}");
    }
}

fn open_window(app: &AppHandle, data: &Path) -> tauri::Result<()> {
    let Some(config) = app
        .config()
        .app
        .windows
        .iter()
        .find(|window| window.label == MAIN)
    else {
        return Err(tauri::Error::WindowNotFound);
    };
    WebviewWindowBuilder::from_config(app, config)?
        // What the web view keeps belongs to the folder, like everything else of this node.
        .data_directory(web_data(data))
        // The page is ours and stays: a link that escapes the page's own handling leads nowhere.
        .on_navigation(|url| is_our_page(url) && !signing::is_its_page(url))
        .build()?;
    Ok(())
}

/// What the web view keeps, in the data folder.
pub(crate) fn web_data(data: &Path) -> PathBuf {
    data.join("webview")
}

/// Whether an address is the built page: a scheme of its own on Linux and macOS, a name of its own on Windows.
pub(crate) fn is_our_page(url: &tauri::Url) -> bool {
    match url.scheme() {
        "tauri" => true,
        "http" | "https" => url.host_str() == Some("tauri.localhost"),
        _ => false,
    }
}

fn options(data: PathBuf) -> NodeOptions {
    NodeOptions {
        agent: concat!("decentralgpt-desktop/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..NodeOptions::new(data)
    }
}

/// One window per data folder: the usual folder has the app's own name, another folder a name made of its path.
fn instance_name(identifier: &str, data: &Path, usual: Option<&Path>) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let place = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let data = place(data);
    if usual.is_some_and(|usual| data == place(usual)) {
        return identifier.to_owned();
    }
    // Not a secret and not stored: the same program finds itself again, no more.
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    format!("{identifier}.folder{:016x}", hasher.finish())
}

fn tell_the_page(app: &AppHandle) {
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        if let Ok(node) = app.state::<Shell>().node().await {
            events::forward(&app, &node);
        }
    });
}

/// Ctrl-C in the terminal, and the system's polite request at log-out, end the program like its own menu.
fn end_with_the_system(app: &AppHandle) {
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        match asked_to_end().await {
            Ok(()) => close::quit(&app),
            Err(error) => tracing::warn!("signals are not heard: {error}"),
        }
    });
}

#[cfg(unix)]
async fn asked_to_end() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn asked_to_end() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_data_folder_has_its_own_window() {
        let usual = Path::new("/home/a/.local/share/decentralgpt");
        let name = |data: &str| instance_name("org.example.app", Path::new(data), Some(usual));
        assert_eq!(name("/home/a/.local/share/decentralgpt"), "org.example.app");
        assert_ne!(name("/tmp/one"), name("/tmp/two"));
        assert_eq!(name("/tmp/one"), name("/tmp/./one"));
        assert!(
            name("/tmp/one")
                .split('.')
                .all(|part| part.starts_with(|c: char| c.is_ascii_alphabetic()))
        );
    }

    #[test]
    fn the_window_shows_our_page_and_no_other() {
        for ours in ["tauri://localhost/", "http://tauri.localhost/index.html"] {
            assert!(is_our_page(&tauri::Url::parse(ours).unwrap()), "{ours}");
        }
        for other in [
            "https://example.org/",
            "file:///etc/passwd",
            "data:text/html,x",
            "http://tauri.localhost.example.org/",
        ] {
            assert!(!is_our_page(&tauri::Url::parse(other).unwrap()), "{other}");
        }
    }
}
