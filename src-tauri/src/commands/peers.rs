//! Peers: connect by address or invitation, disconnect, block, and what happened to connections.

use tauri::State;

use super::Answer;
use crate::shell::Shell;
use crate::view::{Invite, LogLine, Peer};

#[tauri::command]
#[specta::specta]
pub(crate) async fn peers_connect(shell: State<'_, Shell>, text: String) -> Answer<Peer> {
    Ok(shell.node().await?.peers_connect(&text).await?.into())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn peers_disconnect(shell: State<'_, Shell>, id: String) -> Answer<()> {
    Ok(shell.node().await?.peers_disconnect(&id).await?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn peers_block(shell: State<'_, Shell>, id: String, blocked: bool) -> Answer<()> {
    Ok(shell.node().await?.peers_block(&id, blocked).await?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn peers_invite(shell: State<'_, Shell>) -> Answer<Invite> {
    Ok(shell.node().await?.peers_invite()?.into())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn peers_log(shell: State<'_, Shell>) -> Answer<Vec<LogLine>> {
    let log = shell.node().await?.peers_log();
    Ok(log.into_iter().map(Into::into).collect())
}
