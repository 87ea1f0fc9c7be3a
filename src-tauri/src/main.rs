//! The desktop face of DecentralGPT: a window, a tray icon, and the commands that the page may call.
//!
//! This program owns what belongs to a desktop and nothing of the product: the window and its manners, the typed bridge
//! between the page and [`node`], dialogs, the clipboard. Everything that a person can do here, [`node`] does; the command
//! line and the window are equal faces of it. The page is hostile ground: it may call the commands of [`bindings`] and
//! nothing else, reads no file and opens no connection.
#![cfg_attr(all(not(debug_assertions), windows), windows_subsystem = "windows")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod app;
mod arguments;
mod bindings;
mod clipboard;
mod close;
mod commands;
mod events;
mod graphics;
mod links;
mod merge;
mod shell;
mod signing;
mod tray;
mod view;

use std::process::ExitCode;

use tracing::error;
use tracing_subscriber::EnvFilter;

/// What is logged when `DECENTRALGPT_LOG` says nothing: our own progress, other crates' trouble.
const LOG_DEFAULT: &str = "warn,decentralgpt_desktop=info,node=info,engine=info,network=info";

fn main() -> ExitCode {
    let arguments = match arguments::read() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("DECENTRALGPT_LOG")
                .unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT)),
        )
        .with_writer(std::io::stderr)
        .init();
    if refuses_automation() {
        error!(
            "TAURI_WEBVIEW_AUTOMATION is set: it would let another program drive this window, so the app does not start"
        );
        return ExitCode::FAILURE;
    }
    graphics::avoid_blank_window();
    let Some(data) = arguments.data.or_else(node::installed::default_data_folder) else {
        error!("this system knows no folder for a program's data: name one with --data DIR");
        return ExitCode::FAILURE;
    };
    match app::run(data, arguments.link.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("the window could not be opened: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether this build must not start because its window could be driven from outside: only builds made for tests
/// (debug builds, and release builds with the feature `webdriver`) hand their window to a driver.
fn refuses_automation() -> bool {
    let for_tests = cfg!(debug_assertions) || cfg!(feature = "webdriver");
    !for_tests && std::env::var_os("TAURI_WEBVIEW_AUTOMATION").is_some()
}
