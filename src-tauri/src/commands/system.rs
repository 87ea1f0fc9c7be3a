//! What the page asks of the desktop around it: dialogs, the clipboard, the browser.

use std::path::PathBuf;

use tauri::{AppHandle, State};
use tauri_plugin_dialog::{DialogExt, FilePath};
use tauri_plugin_opener::OpenerExt;
use tokio::sync::oneshot;

use super::Answer;
use crate::shell::Shell;
use crate::view::{AppInfo, ErrorView};

/// The most text that one copy or save takes: a long chat is a few megabytes, a mistake of the page could be all memory.
const TEXT_MAX: usize = 64 << 20;
/// No address that a person would follow is longer, and some desktops cut longer ones.
const LINK_MAX: usize = 2048;

/// Resolves when the core is up, or says why it cannot start.
#[tauri::command]
#[specta::specta]
pub(crate) async fn startup(shell: State<'_, Shell>) -> Answer<()> {
    shell.node().await?;
    // `cargo xtask bench window` waits for this line: the page stands, and what it asks is answered from here on.
    tracing::info!("the window is ready");
    Ok(())
}

/// What the About section says, also when the core did not start. It cannot fail; its answer has the shape of all others.
#[tauri::command]
#[specta::specta]
pub(crate) fn app_info(shell: State<'_, Shell>) -> Answer<AppInfo> {
    Ok(AppInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_folder: shell.data().display().to_string(),
        licences: env!("CARGO_PKG_LICENSE").to_owned(),
    })
}

/// The GGUF file that the person chose; null when they chose none.
#[tauri::command]
#[specta::specta]
pub(crate) async fn pick_file(app: AppHandle) -> Answer<Option<String>> {
    let (reply, chosen) = oneshot::channel();
    app.dialog()
        .file()
        .set_title("Add a model")
        .add_filter("GGUF model", &["gguf"])
        .pick_file(|file| drop(reply.send(file)));
    path_of(chosen.await.ok().flatten())
}

/// The folder that the person chose; null when they chose none.
#[tauri::command]
#[specta::specta]
pub(crate) async fn pick_folder(app: AppHandle) -> Answer<Option<String>> {
    let (reply, chosen) = oneshot::channel();
    app.dialog()
        .file()
        .set_title("Choose a folder")
        .pick_folder(|folder| drop(reply.send(folder)));
    path_of(chosen.await.ok().flatten())
}

/// Asks where to save `text`, proposing `name`, and gives the path written; null when the person saved nothing.
#[tauri::command]
#[specta::specta]
pub(crate) async fn save_text(
    app: AppHandle,
    name: String,
    text: String,
) -> Answer<Option<String>> {
    check_length(&text)?;
    let (reply, chosen) = oneshot::channel();
    app.dialog()
        .file()
        .set_title("Save")
        .set_file_name(file_name(&name))
        .save_file(|file| drop(reply.send(file)));
    let Some(path) = path_of(chosen.await.ok().flatten())? else {
        return Ok(None);
    };
    tokio::fs::write(&path, text)
        .await
        .map_err(|error| ErrorView {
            code: "save_failed".to_owned(),
            message: format!("{path} could not be written: {error}."),
            fix: Some("Choose another folder, or make room on this disk.".to_owned()),
        })?;
    Ok(Some(path))
}

/// Opens a web address in the person's browser. Only http and https: a model's text must not start a program.
#[tauri::command]
#[specta::specta]
pub(crate) fn open_link(app: AppHandle, url: String) -> Answer<()> {
    let link = web_link(&url)?;
    app.opener()
        .open_url(link.as_str(), None::<&str>)
        .map_err(|error| ErrorView {
            code: "link_failed".to_owned(),
            message: format!("The browser did not open: {error}."),
            fix: Some("Copy the address and open it yourself.".to_owned()),
        })
}

/// Puts text on the clipboard.
#[tauri::command]
#[specta::specta]
pub(crate) fn copy_text(shell: State<'_, Shell>, text: String) -> Answer<()> {
    check_length(&text)?;
    shell.copy(text).map_err(|error| ErrorView {
        code: "clipboard_failed".to_owned(),
        message: format!("The clipboard did not take the text: {error}."),
        fix: Some("Select the text and copy it with the keyboard.".to_owned()),
    })
}

/// The address as it will be opened, or why it will not be.
fn web_link(url: &str) -> Answer<tauri::Url> {
    let refused = |why: &str| ErrorView {
        code: "link_refused".to_owned(),
        message: format!("This link was not opened: {why}."),
        fix: Some("Only web addresses that begin with http:// or https:// are opened.".to_owned()),
    };
    if url.len() > LINK_MAX {
        return Err(refused("it is too long"));
    }
    let link = tauri::Url::parse(url).map_err(|_| refused("it is not an address"))?;
    match link.scheme() {
        "http" | "https"
            if link.has_host() && link.username().is_empty() && link.password().is_none() =>
        {
            Ok(link)
        }
        "http" | "https" => Err(refused("it hides a name or a password before the host")),
        scheme => Err(refused(&format!("it begins with {scheme}:"))),
    }
}

fn check_length(text: &str) -> Answer<()> {
    if text.len() > TEXT_MAX {
        return Err(ErrorView {
            code: "text_too_long".to_owned(),
            message: format!(
                "The text is {} bytes long; {TEXT_MAX} is the limit.",
                text.len()
            ),
            fix: Some("Take a part of it.".to_owned()),
        });
    }
    Ok(())
}

/// A proposed file name without anything that could lead out of the chosen folder.
fn file_name(proposed: &str) -> String {
    let kept: String = proposed
        .chars()
        .filter(|c| {
            !c.is_control() && !matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
        })
        .take(120)
        .collect();
    let kept = kept.trim_matches(['.', ' ']);
    if kept.is_empty() {
        "decentralgpt.txt".to_owned()
    } else {
        kept.to_owned()
    }
}

pub(super) fn path_of(chosen: Option<FilePath>) -> Answer<Option<String>> {
    let Some(chosen) = chosen else {
        return Ok(None);
    };
    let path: PathBuf = chosen.into_path().map_err(|error| ErrorView {
        code: "path_unusable".to_owned(),
        message: format!("The choice is no path on this computer: {error}."),
        fix: Some("Choose a file or folder on this computer.".to_owned()),
    })?;
    // The page knows paths as text: one that is not text could not come back to us unchanged.
    path.into_os_string()
        .into_string()
        .map(Some)
        .map_err(|path| ErrorView {
            code: "path_unusable".to_owned(),
            message: format!("The name of {} is not valid text.", path.display()),
            fix: Some("Rename the file or folder.".to_owned()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_addresses_are_opened() {
        assert_eq!(
            web_link("https://example.org/a?b#c").unwrap().as_str(),
            "https://example.org/a?b#c"
        );
        assert!(web_link("http://127.0.0.1:8080/").is_ok());
        for refused in [
            "file:///etc/passwd",
            "javascript:alert(1)",
            "data:text/html,x",
            "mailto:a@example.org",
            "tauri://localhost",
            "https://bank.example@evil.example/",
            "https://",
            "example.org",
            "",
        ] {
            assert_eq!(
                web_link(refused).unwrap_err().code,
                "link_refused",
                "{refused}"
            );
        }
        assert!(web_link(&format!("https://example.org/{}", "a".repeat(LINK_MAX))).is_err());
    }

    #[test]
    fn a_proposed_file_name_stays_a_name() {
        assert_eq!(file_name("Capital of France.md"), "Capital of France.md");
        assert_eq!(file_name("../../.bashrc"), "bashrc");
        assert_eq!(file_name("a/b\\c:d\n"), "abcd");
        assert_eq!(file_name("…"), "…");
        assert_eq!(file_name("///"), "decentralgpt.txt");
    }
}
