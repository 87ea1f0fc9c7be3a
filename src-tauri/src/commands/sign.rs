//! What must be signed, and what must not be seen: how the main window asks for the signing window, and what the page of that
//! window may call. Each of its commands refuses every other window.

use std::io::Write as _;
use std::path::Path;

use node::wallet::Typed;
use tauri::{AppHandle, State, WebviewWindow};
use tauri_plugin_dialog::DialogExt;
use tokio::sync::oneshot;

use super::Answer;
use super::system::path_of;
use crate::shell::Shell;
use crate::signing::{self, Outcome, only_here};
use crate::view::{Asked, ErrorView, Intent, Preview};

/// Opens the signing window for `intent`; resolves when it closed. The main window's only way to a signature.
#[tauri::command]
#[specta::specta]
pub(crate) async fn sign_open(app: AppHandle, intent: Intent) -> Answer<Outcome> {
    signing::open(&app, intent).await
}

/// Wipes the wallet's keys from memory.
#[tauri::command]
#[specta::specta]
pub(crate) async fn wallet_lock(shell: State<'_, Shell>) -> Answer<()> {
    shell.node().await?.wallet().lock();
    Ok(())
}

/// Removes what the keychain of this computer keeps of the wallet: the password is asked again.
#[tauri::command]
#[specta::specta]
pub(crate) async fn wallet_forget(shell: State<'_, Shell>) -> Answer<()> {
    Ok(shell.node().await?.wallet().forget().await?)
}

/// What the window is open for.
#[tauri::command]
#[specta::specta]
pub(crate) async fn sign_intent(window: WebviewWindow, shell: State<'_, Shell>) -> Answer<Asked> {
    only_here(&window)?;
    let (intent, _) = shell.signing().intent()?;
    let node = shell.node().await?;
    // A keychain that is closed or gone is no reason not to type the password.
    if let Err(problem) = node.wallet().open_remembered().await {
        tracing::info!("the wallet was not opened by the keychain: {problem}");
    }
    Ok(Asked::new(intent, node.wallet().status()))
}

/// What the intent would do.
#[tauri::command]
#[specta::specta]
pub(crate) async fn sign_preview(
    window: WebviewWindow,
    shell: State<'_, Shell>,
) -> Answer<Preview> {
    only_here(&window)?;
    let (_, intent) = shell.signing().intent()?;
    let preview = shell.node().await?.sign_preview(&intent).await?;
    shell.signing().shown(&preview);
    Ok(preview.into())
}

/// Signs and sends what the preview of this digest said, and closes the window. The password is needed while the wallet is
/// locked.
#[tauri::command]
#[specta::specta]
pub(crate) async fn sign_confirm(
    window: WebviewWindow,
    shell: State<'_, Shell>,
    digest: String,
    password: Option<String>,
) -> Answer<()> {
    only_here(&window)?;
    let intent = shell.signing().confirmed(&digest)?;
    let node = shell.node().await?;
    if let Some(password) = password {
        node.wallet().unlock(Typed::new(password)).await?;
    }
    node.sign_confirm(&intent, &digest).await?;
    signing::finish(&window, Outcome::Done);
    Ok(())
}

/// Closes the window; nothing is signed.
#[tauri::command]
#[specta::specta]
pub(crate) async fn sign_cancel(window: WebviewWindow) -> Answer<()> {
    only_here(&window)?;
    signing::finish(&window, Outcome::Cancelled);
    Ok(())
}

/// Closes the window after the wallet did what was asked for.
#[tauri::command]
#[specta::specta]
pub(crate) async fn sign_finish(window: WebviewWindow, shell: State<'_, Shell>) -> Answer<()> {
    only_here(&window)?;
    shell.signing().may_finish()?;
    signing::finish(&window, Outcome::Done);
    Ok(())
}

/// Makes a wallet of 24 new words.
#[tauri::command]
#[specta::specta]
pub(crate) async fn wallet_create(
    window: WebviewWindow,
    shell: State<'_, Shell>,
    password: String,
) -> Answer<()> {
    only_here(&window)?;
    let password = Typed::new(password);
    shell.node().await?.wallet().create(password).await?;
    shell.signing().worked();
    Ok(())
}

/// Takes over a wallet by its words.
#[tauri::command]
#[specta::specta]
pub(crate) async fn wallet_import(
    window: WebviewWindow,
    shell: State<'_, Shell>,
    words: String,
    password: String,
) -> Answer<()> {
    only_here(&window)?;
    let (words, password) = (Typed::new(words), Typed::new(password));
    let node = shell.node().await?;
    node.wallet().import_words(words, password).await?;
    shell.signing().worked();
    Ok(())
}

/// Takes over the key of a Web3 key file: its JSON, not its path.
#[tauri::command]
#[specta::specta]
pub(crate) async fn wallet_import_v3(
    window: WebviewWindow,
    shell: State<'_, Shell>,
    file: String,
    file_password: String,
    password: String,
) -> Answer<()> {
    only_here(&window)?;
    let [file, file_password, password] = [file, file_password, password].map(Typed::new);
    let node = shell.node().await?;
    node.wallet()
        .import_key_file(file, file_password, password)
        .await?;
    shell.signing().worked();
    Ok(())
}

/// Opens the wallet until it is idle.
#[tauri::command]
#[specta::specta]
pub(crate) async fn wallet_unlock(
    window: WebviewWindow,
    shell: State<'_, Shell>,
    password: String,
) -> Answer<()> {
    only_here(&window)?;
    let password = Typed::new(password);
    shell.node().await?.wallet().unlock(password).await?;
    shell.signing().worked();
    Ok(())
}

/// Has the keychain of this computer keep what opens the wallet.
#[tauri::command]
#[specta::specta]
pub(crate) async fn wallet_remember(
    window: WebviewWindow,
    shell: State<'_, Shell>,
    password: String,
) -> Answer<()> {
    only_here(&window)?;
    let password = Typed::new(password);
    shell.node().await?.wallet().remember(password).await?;
    shell.signing().worked();
    Ok(())
}

/// Seals the wallet under another password.
#[tauri::command]
#[specta::specta]
pub(crate) async fn wallet_change_password(
    window: WebviewWindow,
    shell: State<'_, Shell>,
    old: String,
    fresh: String,
) -> Answer<()> {
    only_here(&window)?;
    let (old, fresh) = (Typed::new(old), Typed::new(fresh));
    let node = shell.node().await?;
    node.wallet().change_password(old, fresh).await?;
    shell.signing().worked();
    Ok(())
}

/// Saves the wallet key as a Web3 key file under a password of its own; the path, or null when the person saved nothing.
#[tauri::command]
#[specta::specta]
pub(crate) async fn wallet_export(
    window: WebviewWindow,
    shell: State<'_, Shell>,
    password: String,
    file_password: String,
) -> Answer<Option<String>> {
    only_here(&window)?;
    let (password, file_password) = (Typed::new(password), Typed::new(file_password));
    let node = shell.node().await?;
    let text = node.wallet().export(password, file_password).await?;
    let (reply, chosen) = oneshot::channel();
    window
        .dialog()
        .file()
        .set_parent(&window)
        .set_title("Save the key file")
        .set_file_name("wallet-key.json")
        .save_file(|file| drop(reply.send(file)));
    let Some(path) = path_of(chosen.await.ok().flatten())? else {
        return Ok(None);
    };
    save(Path::new(&path), &text)?;
    shell.signing().worked();
    Ok(Some(path))
}

/// The words, to be written down.
#[tauri::command]
#[specta::specta]
pub(crate) async fn words_show(
    window: WebviewWindow,
    shell: State<'_, Shell>,
    password: String,
) -> Answer<Vec<String>> {
    only_here(&window)?;
    let password = Typed::new(password);
    let words = shell.node().await?.wallet().words(password).await?;
    // To show them is what was asked for; to confirm them is not done by it.
    if shell.signing().intent()?.1 != node::wallet::Intent::ConfirmWords {
        shell.signing().worked();
    }
    Ok(words.into_iter().map(str::to_owned).collect())
}

/// Which of the words are asked back, by their places from 1. The password is needed where they were not shown before.
#[tauri::command]
#[specta::specta]
pub(crate) async fn words_ask(
    window: WebviewWindow,
    shell: State<'_, Shell>,
    password: Option<String>,
) -> Answer<Vec<u32>> {
    only_here(&window)?;
    let password = password.map(Typed::new);
    let places = shell.node().await?.wallet().ask(password).await?;
    // There are 24 places at most.
    Ok(places
        .into_iter()
        .filter_map(|place| u32::try_from(place).ok())
        .collect())
}

/// Whether these are the words that were asked for. Wrong ones end the question: ask anew.
#[tauri::command]
#[specta::specta]
pub(crate) async fn words_check(
    window: WebviewWindow,
    shell: State<'_, Shell>,
    words: Vec<String>,
) -> Answer<bool> {
    only_here(&window)?;
    let words: Vec<Typed> = words.into_iter().map(Typed::new).collect();
    let right = shell.node().await?.wallet().check(&words).await?;
    if right {
        shell.signing().worked();
    }
    Ok(right)
}

/// Writes a key file that nobody but its owner may read.
fn save(path: &Path, text: &str) -> Answer<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let written = options.open(path).and_then(|mut file| {
        // One that was there before keeps its rights otherwise.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| ErrorView {
        code: "save_failed".to_owned(),
        message: format!("{} could not be written: {error}.", path.display()),
        fix: Some("Choose another folder, or make room on this disk.".to_owned()),
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_file_is_its_owners_alone_also_in_the_place_of_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        std::fs::write(&path, "notes that anybody may read").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        save(&path, "sealed").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "sealed");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
