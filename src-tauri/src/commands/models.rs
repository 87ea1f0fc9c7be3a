//! Models: the catalogue, downloads, files from the disk.

use tauri::State;

use super::Answer;
use crate::shell::Shell;
use crate::view::{ModelRow, ModelsView};

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
