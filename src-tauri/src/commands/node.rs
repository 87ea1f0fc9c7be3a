//! The node: its one switch, what it answered, its receipts.

use tauri::State;

use super::Answer;
use crate::shell::Shell;
use crate::view::{Answered, NodeStatus, Receipt};

#[tauri::command]
#[specta::specta]
pub(crate) async fn node_status(shell: State<'_, Shell>) -> Answer<NodeStatus> {
    Ok(shell.node().await?.node_status().into())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn node_switch(shell: State<'_, Shell>, on: bool) -> Answer<NodeStatus> {
    Ok(shell.node().await?.node_switch(on).await?.into())
}

/// Pauses serving for `minutes`, or until resumed when null.
#[tauri::command]
#[specta::specta]
pub(crate) async fn node_pause(shell: State<'_, Shell>, minutes: Option<u32>) -> Answer<()> {
    Ok(shell.node().await?.node_pause(minutes).await?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn node_resume(shell: State<'_, Shell>) -> Answer<()> {
    Ok(shell.node().await?.node_resume().await?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn node_answers(shell: State<'_, Shell>, limit: u32) -> Answer<Vec<Answered>> {
    let answers = shell.node().await?.node_answers(limit).await?;
    Ok(answers.into_iter().map(Into::into).collect())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn receipt_open(shell: State<'_, Shell>, job: String) -> Answer<Receipt> {
    Ok(shell.node().await?.receipt_open(&job).await?.into())
}
