//! The settings file, and the checks that say what is wrong with this computer.

use tauri::{AppHandle, State};

use super::Answer;
use crate::shell::Shell;
use crate::signing;
use crate::view::{Check, Settings};

#[tauri::command]
#[specta::specta]
pub(crate) async fn settings_get(shell: State<'_, Shell>) -> Answer<Settings> {
    Ok(shell.node().await?.settings_get().into())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn settings_set(
    app: AppHandle,
    shell: State<'_, Shell>,
    settings: Settings,
) -> Answer<()> {
    let settings = node::Settings::from(settings);
    let appearance = signing::Appearance::from(&settings);
    shell.node().await?.settings_set(settings).await?;
    signing::wear(&app, appearance);
    Ok(())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn doctor(shell: State<'_, Shell>) -> Answer<Vec<Check>> {
    let checks = shell.node().await?.doctor().await;
    Ok(checks.into_iter().map(Into::into).collect())
}

/// Starts the clock of the list of jobs over: the page has said what is given up by it, and a person agreed.
#[tauri::command]
#[specta::specta]
pub(crate) async fn forget_clock(shell: State<'_, Shell>) -> Answer<()> {
    Ok(shell.node().await?.forget_clock().await?)
}
