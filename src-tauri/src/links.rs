//! Links that the system hands over: an invite that somebody follows in a browser or a mail.
//!
//! A link is a stranger's text. It is read as soon as it comes, and what is kept of it is an invite or why it is none: it waits
//! here until the page asks for it and the person answers. Nobody is dialled by it; `peers_connect` is, once they say so.

use std::sync::{Mutex, MutexGuard, PoisonError};

use node::peers::{InviteError, InviteText, is_link, read_link};
use tauri::{AppHandle, Manager};
use tauri_specta::Event;

use crate::app;
use crate::events::LinkArrived;
use crate::shell::Shell;

/// What a link said.
pub(crate) type Read = Result<InviteText, InviteError>;

/// The one link that is asked about.
#[derive(Debug, Default)]
pub(crate) struct Links(Mutex<Option<Read>>);

impl Links {
    /// Keeps what a link said. False where another one is asked about: what stands under a hand that is about to click is
    /// never exchanged.
    pub(crate) fn offer(&self, link: &str) -> bool {
        let mut waiting = self.lock();
        if waiting.is_some() {
            return false;
        }
        *waiting = Some(read_link(link));
        true
    }

    /// What is asked about now.
    pub(crate) fn waiting(&self) -> Option<Read> {
        self.lock().clone()
    }

    /// The person answered: the next link may come.
    pub(crate) fn done(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The link of a command line: its last argument. Windows puts a link between quotes, and one with a quote in it could write
/// arguments of its own behind them.
pub(crate) fn among(arguments: &[String]) -> Option<&str> {
    arguments
        .last()
        .map(String::as_str)
        .filter(|last| is_link(last))
}

/// A link came while the program runs: the window comes to the front and shows it.
pub(crate) fn arrived(app: &AppHandle, link: &str) {
    app::show(app);
    // The system may hand one over before anything else stands.
    let Some(shell) = app.try_state::<Shell>() else {
        return;
    };
    if !shell.links().offer(link) {
        tracing::info!("a link came while another one is asked about, and was left out");
        return;
    }
    if let Err(error) = LinkArrived(()).emit(app) {
        tracing::warn!("the page was not told of a link: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_waits_until_it_is_answered_and_is_not_exchanged() {
        let links = Links::default();
        assert_eq!(links.waiting(), None);
        assert!(links.offer("decentralgpt://pay/everything"));
        assert!(!links.offer("decentralgpt://invite/2/aaaa"));
        assert_eq!(links.waiting(), Some(Err(InviteError::NoInvite)));
        links.done();
        assert!(links.offer("decentralgpt://invite/2/aaaa"));
        assert_eq!(links.waiting(), Some(Err(InviteError::Newer)));
    }

    #[test]
    fn the_last_argument_may_be_a_link_and_no_other_one() {
        let found = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
            among(&arguments).map(str::to_owned)
        };
        let link = "decentralgpt://invite/1/aaaa";
        assert_eq!(
            found(&["app", "--data", "/tmp/a", link]),
            Some(link.to_owned())
        );
        assert_eq!(found(&["app", link, "--data", "/tmp/evil"]), None);
        assert_eq!(found(&["app", "--data", "/tmp/a"]), None);
        assert_eq!(found(&[]), None);
    }

    /// The bundler's own entry names the scheme and forgets to hand the link over.
    #[test]
    fn the_entry_of_a_linux_menu_hands_the_link_over() {
        let conf: serde_json::Value =
            serde_json::from_str(include_str!("../tauri.conf.json")).unwrap();
        assert_eq!(
            conf["bundle"]["linux"]["deb"]["desktopTemplate"],
            "decentralgpt.desktop"
        );
        let entry = include_str!("../decentralgpt.desktop");
        for line in ["Exec={{exec}} %u", "MimeType={{mime_type}}"] {
            assert!(entry.lines().any(|one| one == line), "{line}");
        }
    }

    #[test]
    fn the_system_is_told_of_this_scheme_and_no_other() {
        let conf = include_str!("../tauri.conf.json");
        let conf: serde_json::Value = serde_json::from_str(conf).unwrap();
        assert_eq!(
            conf["plugins"]["deep-link"]["desktop"]["schemes"],
            serde_json::json!([node::peers::LINK_SCHEME])
        );
    }
}
