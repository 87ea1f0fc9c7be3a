//! Chats: list, search, change, send, stop.

use tauri::State;
use tauri::ipc::Channel;

use super::Answer;
use crate::merge;
use crate::shell::Shell;
use crate::view::{
    AnswerEvent, ChatPatch, ChatSummary, ChatView, ContextUse, ExportFormat, SearchHit,
};

#[tauri::command]
#[specta::specta]
pub(crate) async fn chats_list(shell: State<'_, Shell>) -> Answer<Vec<ChatSummary>> {
    let chats = shell.node().await?.chats_list().await?;
    Ok(chats.into_iter().map(Into::into).collect())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn chats_search(shell: State<'_, Shell>, query: String) -> Answer<Vec<SearchHit>> {
    let hits = shell.node().await?.chats_search(&query).await?;
    Ok(hits.into_iter().map(Into::into).collect())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_create(shell: State<'_, Shell>, temporary: bool) -> Answer<ChatView> {
    Ok(shell.node().await?.chat_create(temporary).await?.into())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_open(shell: State<'_, Shell>, chat: String) -> Answer<ChatView> {
    Ok(shell.node().await?.chat_open(&chat).await?.into())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_rename(
    shell: State<'_, Shell>,
    chat: String,
    title: String,
) -> Answer<()> {
    Ok(shell.node().await?.chat_rename(&chat, &title).await?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_pin(shell: State<'_, Shell>, chat: String, pinned: bool) -> Answer<()> {
    Ok(shell.node().await?.chat_pin(&chat, pinned).await?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_delete(shell: State<'_, Shell>, chat: String) -> Answer<()> {
    Ok(shell.node().await?.chat_delete(&chat).await?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_restore(shell: State<'_, Shell>, chat: String) -> Answer<()> {
    Ok(shell.node().await?.chat_restore(&chat).await?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_update(
    shell: State<'_, Shell>,
    chat: String,
    patch: ChatPatch,
) -> Answer<ChatView> {
    Ok(shell
        .node()
        .await?
        .chat_update(&chat, patch.into())
        .await?
        .into())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_choose(
    shell: State<'_, Shell>,
    chat: String,
    message: String,
) -> Answer<ChatView> {
    Ok(shell
        .node()
        .await?
        .chat_choose(&chat, &message)
        .await?
        .into())
}

/// Sends `text` below `parent`, or regenerates below it when `text` is null. Resolves when the answer is finished.
#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_send(
    shell: State<'_, Shell>,
    chat: String,
    parent: Option<String>,
    text: Option<String>,
    on_event: Channel<AnswerEvent>,
) -> Answer<()> {
    let events = shell
        .node()
        .await?
        .chat_send(&chat, parent.as_deref(), text)
        .await?;
    merge::forward(events, &on_event).await;
    Ok(())
}

/// Goes on with an answer that ended too early. Resolves when it is finished.
#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_continue(
    shell: State<'_, Shell>,
    chat: String,
    answer: String,
    on_event: Channel<AnswerEvent>,
) -> Answer<()> {
    let events = shell.node().await?.chat_continue(&chat, &answer).await?;
    merge::forward(events, &on_event).await;
    Ok(())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_stop(shell: State<'_, Shell>, chat: String) -> Answer<()> {
    Ok(shell.node().await?.chat_stop(&chat)?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_context(
    shell: State<'_, Shell>,
    chat: String,
    draft: String,
) -> Answer<ContextUse> {
    Ok(shell
        .node()
        .await?
        .chat_context(&chat, &draft)
        .await?
        .into())
}

/// A new chat that starts from a summary of this one.
#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_summarise(
    shell: State<'_, Shell>,
    chat: String,
    on_event: Channel<AnswerEvent>,
) -> Answer<ChatView> {
    let node = shell.node().await?;
    let (new, events) = node.chat_summarise(&chat).await?;
    merge::forward(events, &on_event).await;
    Ok(node.chat_open(&new).await?.into())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn chat_export(
    shell: State<'_, Shell>,
    chat: String,
    format: ExportFormat,
) -> Answer<String> {
    Ok(shell
        .node()
        .await?
        .chat_export(&chat, format.into())
        .await?)
}
