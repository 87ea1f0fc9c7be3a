//! Peers: connect by address or invitation, disconnect, block, compare, and what happened to connections.

use tauri::State;

use super::Answer;
use crate::shell::Shell;
use crate::view::{Invite, Link, LogLine, Peer, PeerChoice};

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

/// Who offers a model (null: the one of new chats), best first, then those that are not taken. Nobody is asked.
#[tauri::command]
#[specta::specta]
pub(crate) async fn peers_compare(
    shell: State<'_, Shell>,
    model: Option<String>,
) -> Answer<Vec<PeerChoice>> {
    let choices = shell.node().await?.peers_compare(model.as_deref())?;
    Ok(choices.into_iter().map(Into::into).collect())
}

/// Peers are asked under another name from now on.
#[tauri::command]
#[specta::specta]
pub(crate) async fn peers_new_name(shell: State<'_, Shell>) -> Answer<()> {
    Ok(shell.node().await?.peers_new_name().await?)
}

/// Forgets what was measured of all peers, here and on the disk.
#[tauri::command]
#[specta::specta]
pub(crate) async fn peers_forget_records(shell: State<'_, Shell>) -> Answer<()> {
    Ok(shell.node().await?.peers_forget_records().await?)
}

/// All connections begin anew, as after sleep.
#[tauri::command]
#[specta::specta]
pub(crate) async fn peers_woke(shell: State<'_, Shell>) -> Answer<()> {
    shell.node().await?.peers_woke().await;
    Ok(())
}

/// What the link proposes that waits for an answer; null where none does. Nobody is dialled for it.
#[tauri::command]
#[specta::specta]
pub(crate) async fn link_waiting(shell: State<'_, Shell>) -> Answer<Option<Link>> {
    let node = shell.node().await?;
    let read = shell.links().waiting();
    Ok(read.map(|read| match read {
        Ok(invite) => node.invite_look(&invite).into(),
        Err(error) => node::NodeError::from(error).into(),
    }))
}

/// The person answered the link that waited.
#[tauri::command]
#[specta::specta]
pub(crate) fn link_done(shell: State<'_, Shell>) -> Answer<()> {
    shell.links().done();
    Ok(())
}
