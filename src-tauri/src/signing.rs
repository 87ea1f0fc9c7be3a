//! The signing window: where passwords are typed, words are shown, and previews are confirmed.
//!
//! It is a window of its own with a page of its own, in a web process of its own: what a peer wrote and what the main window
//! holds never come near it. The main window may ask for it and name an intent; it hears whether that was done or
//! cancelled, and nothing else. Three things keep the two apart, each enough alone: the capability of each window, the list
//! of commands that exists for each label, and the check in each command.

use std::sync::{Mutex, MutexGuard, PoisonError};

use node::wallet::Preview;
use node::{Settings, Theme};
use serde::Serialize;
use specta::Type;
use tauri::{AppHandle, Manager, WebviewUrl, WebviewWindow, WebviewWindowBuilder};
use tokio::sync::oneshot;

use crate::app::{MAIN, is_our_page, web_data};
use crate::commands::Answer;
use crate::shell::Shell;
use crate::view::{ErrorView, Intent};

/// The window's label, as in capabilities/signing.json.
pub(crate) const LABEL: &str = "signing";

const PAGE: &str = "signing.html";

/// Room for a preview's fields without scrolling, and for 24 words in three columns.
const SIZE: (f64, f64) = (560.0, 720.0);
const LEAST: (f64, f64) = (420.0, 480.0);
/// It grows with the size of text as far as a small laptop's screen (1366 × 768) has room.
const MOST: (f64, f64) = (840.0, 720.0);

/// How a signing window ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// What was asked for was done.
    Done,
    /// Nothing was done, or not all of it.
    Cancelled,
}

/// What the window is open for; one thing at a time.
#[derive(Debug, Default)]
pub(crate) struct Signing(Mutex<Option<Current>>);

#[derive(Debug)]
struct Current {
    page: Intent,
    intent: node::wallet::Intent,
    /// The digest of the preview that the page has.
    shown: Option<String>,
    /// The wallet did what the intent asks for.
    worked: bool,
    outcome: oneshot::Sender<Outcome>,
}

impl Signing {
    fn begin(&self, page: Intent) -> Answer<oneshot::Receiver<Outcome>> {
        let intent = page.clone().try_into()?;
        let mut current = self.lock();
        if current.is_some() {
            return Err(refused(
                "signing_busy",
                "The signing window is open for something else.",
                "Finish or cancel that first.",
            ));
        }
        let (outcome, ended) = oneshot::channel();
        *current = Some(Current {
            page,
            intent,
            shown: None,
            worked: false,
            outcome,
        });
        Ok(ended)
    }

    /// What was asked for, as the page knows it and as `node` does.
    ///
    /// # Errors
    /// `signing_closed` when the window is not open for anything.
    pub(crate) fn intent(&self) -> Answer<(Intent, node::wallet::Intent)> {
        let current = self.lock();
        let current = current.as_ref().ok_or_else(closed_already)?;
        Ok((current.page.clone(), current.intent.clone()))
    }

    /// The page has this preview from now on, and can confirm no other.
    pub(crate) fn shown(&self, preview: &Preview) {
        if let Some(current) = self.lock().as_mut() {
            current.shown = Some(preview.digest.clone());
        }
    }

    /// What may be signed: the intent whose preview, and no other, the person saw.
    ///
    /// # Errors
    /// `signing_other_preview` for any other digest.
    pub(crate) fn confirmed(&self, digest: &str) -> Answer<node::wallet::Intent> {
        let current = self.lock();
        let current = current.as_ref().ok_or_else(closed_already)?;
        if current.shown.as_deref() != Some(digest) {
            return Err(refused(
                "signing_other_preview",
                "What would be signed is not what was shown.",
                "Look at it again, then confirm.",
            ));
        }
        Ok(current.intent.clone())
    }

    /// The wallet did what it was asked for.
    pub(crate) fn worked(&self) {
        if let Some(current) = self.lock().as_mut() {
            current.worked = true;
        }
    }

    /// Whether the window may end as done without a signature.
    ///
    /// # Errors
    /// `signing_not_done` before the wallet did anything, and for whatever needs a signature.
    pub(crate) fn may_finish(&self) -> Answer<()> {
        match self.lock().as_ref() {
            Some(current) if current.worked && !current.intent.is_signed() => Ok(()),
            Some(_) => Err(refused(
                "signing_not_done",
                "Nothing was done yet.",
                "Do it, or cancel.",
            )),
            None => Err(closed_already()),
        }
    }

    fn end(&self, outcome: Outcome) {
        if let Some(current) = self.lock().take() {
            // The main window may be gone; then nobody waits.
            let _ = current.outcome.send(outcome);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the window for an intent, and waits until it is closed.
///
/// # Errors
/// `signing_busy` while it is open, and brings it to the front; `not_an_amount`; why the window did not open.
pub(crate) async fn open(app: &AppHandle, intent: Intent) -> Answer<Outcome> {
    let shell = app.state::<Shell>();
    // A page without a core could say nothing but that.
    let appearance = Appearance::from(&shell.node().await?.settings_get());
    let ended = match shell.signing().begin(intent) {
        Ok(ended) => ended,
        Err(error) => {
            if let Some(window) = app.get_webview_window(LABEL) {
                let _ = window.set_focus();
            }
            return Err(error);
        }
    };
    if let Err(error) = open_window(app, appearance) {
        shell.signing().end(Outcome::Cancelled);
        return Err(refused(
            "window_failed",
            &format!("The signing window did not open: {error}."),
            "Start the program again.",
        ));
    }
    Ok(ended.await.unwrap_or(Outcome::Cancelled))
}

fn open_window(app: &AppHandle, appearance: Appearance) -> tauri::Result<()> {
    let data = app.state::<Shell>().data().to_owned();
    let size = (
        (SIZE.0 * appearance.scale).clamp(SIZE.0, MOST.0),
        (SIZE.1 * appearance.scale).clamp(SIZE.1, MOST.1),
    );
    let page = WebviewUrl::App(address(appearance).into());
    let mut builder = WebviewWindowBuilder::new(app, LABEL, page)
        .title("DecentralGPT Wallet")
        .inner_size(size.0, size.1)
        .min_inner_size(LEAST.0, LEAST.1)
        .center()
        // Where the system can, what is shown here is left out of recordings of the screen.
        .content_protected(true)
        .data_directory(process_data(&data))
        .on_navigation(is_its_page);
    if let Some(main) = app.get_webview_window(MAIN) {
        builder = builder.parent(&main)?;
    }
    builder.build()?;
    Ok(())
}

/// How the window looks: its page has no command for settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Appearance {
    theme: &'static str,
    /// 1 is the normal size of text.
    scale: f64,
}

impl From<&Settings> for Appearance {
    fn from(settings: &Settings) -> Self {
        Self {
            theme: match settings.theme {
                Theme::System => "system",
                Theme::Light => "light",
                Theme::Dark => "dark",
            },
            scale: settings.text_scale,
        }
    }
}

/// It comes with the page's address.
fn address(Appearance { theme, scale }: Appearance) -> String {
    format!("{PAGE}?theme={theme}&scale={scale}")
}

/// It was changed while the window may be open. That hears no event of ours, so it is told as the document that it is.
pub(crate) fn wear(app: &AppHandle, Appearance { theme, scale }: Appearance) {
    let Some(window) = app.get_webview_window(LABEL) else {
        return;
    };
    let told = window.eval(format!(
        "document.dispatchEvent(new CustomEvent('appearance', {{ detail: {{ theme: '{theme}', scale: {scale} }} }}))"
    ));
    if let Err(error) = told {
        tracing::warn!("the signing window keeps its appearance: {error}");
    }
}

/// What makes its web process one of its own. WebKit gives each window a process; WebView2 may put windows of one page into
/// one, unless they keep their data apart.
fn process_data(data: &std::path::Path) -> std::path::PathBuf {
    if cfg!(windows) {
        data.join("webview-signing")
    } else {
        web_data(data)
    }
}

/// Whether an address is the page of this window.
pub(crate) fn is_its_page(url: &tauri::Url) -> bool {
    is_our_page(url) && url.path().trim_start_matches('/') == PAGE
}

/// Ends the window as done or cancelled.
pub(crate) fn finish(window: &WebviewWindow, outcome: Outcome) {
    end(window.app_handle(), outcome);
    if let Err(error) = window.destroy() {
        tracing::warn!("the signing window did not close: {error}");
    }
}

/// The window is gone, by whatever way.
pub(crate) fn closed(app: &AppHandle) {
    end(app, Outcome::Cancelled);
}

fn end(app: &AppHandle, outcome: Outcome) {
    let shell = app.state::<Shell>();
    shell.signing().end(outcome);
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        // Words that were shown and not asked back leave the memory with the window.
        if let Ok(node) = app.state::<Shell>().node().await {
            node.wallet().end_backup();
        }
    });
}

/// The third of the three locks: a command of this window called from another one.
///
/// # Errors
/// `signing_elsewhere` for every other label.
pub(crate) fn only_here(window: &WebviewWindow) -> Answer<()> {
    only(window.label())
}

fn only(label: &str) -> Answer<()> {
    if label == LABEL {
        return Ok(());
    }
    tracing::error!("a window labelled {label} called a command of the signing window");
    Err(refused(
        "signing_elsewhere",
        "This is done in the signing window alone.",
        "Open it, and do it there.",
    ))
}

fn closed_already() -> ErrorView {
    refused(
        "signing_closed",
        "This window is not open for anything.",
        "Close it and begin again.",
    )
}

fn refused(code: &str, message: &str, fix: &str) -> ErrorView {
    ErrorView {
        code: code.to_owned(),
        message: message.to_owned(),
        fix: Some(fix.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T: std::fmt::Debug>(answer: Answer<T>) -> String {
        answer.unwrap_err().code
    }

    fn deposit() -> Intent {
        serde_json::from_str(r#"{"kind":"deposit","amount":"1000"}"#).unwrap()
    }

    fn preview(digest: &str) -> Preview {
        serde_json::from_value(serde_json::json!({
            "digest": digest, "title": "Deposit", "to": "0x", "known": true, "leaves": [],
            "feeMax": "1", "coinAfter": "1", "tokenAfter": "1", "fields": [], "simulation": "ok",
            "reason": null,
            "network": { "title": "Devnet", "test": true, "symbol": "DGC", "coin": "ETH" },
        }))
        .unwrap()
    }

    #[test]
    fn nothing_is_signed_but_the_preview_that_was_shown_last() {
        let signing = Signing::default();
        assert_eq!(code(signing.confirmed("a")), "signing_closed");
        let _ended = signing.begin(deposit()).unwrap();
        assert_eq!(code(signing.confirmed("a")), "signing_other_preview");
        signing.shown(&preview("a"));
        signing.confirmed("a").unwrap();
        signing.shown(&preview("b"));
        assert_eq!(code(signing.confirmed("a")), "signing_other_preview");
        signing.confirmed("b").unwrap();
        signing.end(Outcome::Cancelled);
        assert_eq!(code(signing.confirmed("b")), "signing_closed");
    }

    #[test]
    fn what_needs_a_signature_is_not_done_without_one() {
        let signing = Signing::default();
        let mut ended = signing.begin(deposit()).unwrap();
        signing.worked();
        assert_eq!(code(signing.may_finish()), "signing_not_done");
        signing.end(Outcome::Cancelled);
        assert_eq!(ended.try_recv().unwrap(), Outcome::Cancelled);

        let _ended = signing.begin(Intent::Unlock).unwrap();
        assert_eq!(code(signing.may_finish()), "signing_not_done");
        signing.worked();
        signing.may_finish().unwrap();
    }

    #[test]
    fn one_thing_at_a_time() {
        let signing = Signing::default();
        let first = signing.begin(Intent::Create).unwrap();
        assert_eq!(code(signing.begin(Intent::Unlock)), "signing_busy");
        drop(first);
        signing.end(Outcome::Done);
        signing.begin(Intent::Unlock).unwrap();
    }

    #[test]
    fn a_foreign_label_calls_nothing() {
        only(LABEL).unwrap();
        for label in [MAIN, "", "Signing", "signing2", "signing "] {
            assert_eq!(code(only(label)), "signing_elsewhere", "{label}");
        }
    }

    #[test]
    fn the_window_shows_its_page_and_no_other() {
        let its = |url: &str| is_its_page(&tauri::Url::parse(url).unwrap());
        assert!(its("tauri://localhost/signing.html"));
        assert!(its("http://tauri.localhost/signing.html"));
        for theme in [Theme::System, Theme::Light, Theme::Dark] {
            let settings = Settings {
                theme,
                text_scale: 1.25,
                ..Settings::default()
            };
            let address = address(Appearance::from(&settings));
            assert!(address.ends_with("&scale=1.25"), "{address}");
            assert!(its(&format!("tauri://localhost/{address}")));
        }
        for other in [
            "tauri://localhost/",
            "tauri://localhost/index.html",
            "tauri://localhost/a/signing.html",
            "https://example.org/signing.html",
            "data:text/html,signing.html",
        ] {
            assert!(!its(other), "{other}");
        }
    }
}
