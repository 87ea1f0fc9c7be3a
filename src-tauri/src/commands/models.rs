//! Models: the catalogue, downloads, files from the disk.

use tauri::State;

use super::Answer;
use crate::shell::Shell;
use crate::view::{CommunityModel, CommunityView, ModelRow, ModelsView};

#[tauri::command]
#[specta::specta]
pub(crate) async fn models_list(shell: State<'_, Shell>) -> Answer<ModelsView> {
    Ok(shell.node().await?.models_list().into())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn model_download(shell: State<'_, Shell>, id: String) -> Answer<()> {
    Ok(shell.node().await?.model_download(&id).await?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn model_pause(shell: State<'_, Shell>, id: String) -> Answer<()> {
    Ok(shell.node().await?.model_pause(&id).await?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn model_cancel(shell: State<'_, Shell>, id: String) -> Answer<()> {
    Ok(shell.node().await?.model_cancel(&id).await?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn model_remove(shell: State<'_, Shell>, id: String) -> Answer<()> {
    Ok(shell.node().await?.model_remove(&id).await?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn model_add(shell: State<'_, Shell>, path: String) -> Answer<ModelRow> {
    Ok(shell.node().await?.model_add(path.as_ref()).await?.into())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn model_default(shell: State<'_, Shell>, id: String) -> Answer<()> {
    Ok(shell.node().await?.model_default(&id).await?)
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn models_move(shell: State<'_, Shell>, path: String) -> Answer<()> {
    Ok(shell.node().await?.models_move(path.as_ref()).await?)
}

/// The models that peers offer and no row here names. Nobody is asked.
#[tauri::command]
#[specta::specta]
pub(crate) async fn community_list(shell: State<'_, Shell>) -> Answer<CommunityView> {
    Ok(shell.node().await?.community_list().await.into())
}

/// Begins to look for more of them.
#[tauri::command]
#[specta::specta]
pub(crate) async fn community_search(shell: State<'_, Shell>) -> Answer<()> {
    Ok(shell.node().await?.community_search().await?)
}

/// Fetches what one of them says of itself.
#[tauri::command]
#[specta::specta]
pub(crate) async fn community_look(shell: State<'_, Shell>, id: String) -> Answer<CommunityModel> {
    Ok(shell.node().await?.community_look(&id).await?.into())
}
