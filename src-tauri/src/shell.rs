//! What Tauri keeps for the commands: a way to the node, what is being signed, a link that waits, and the clipboard.

use std::path::{Path, PathBuf};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use node::{Node, NodeOptions};

use crate::clipboard::Clipboard;
use crate::links::Links;
use crate::signing::Signing;
use crate::view::ErrorView;

/// Handles, nothing else: the state of the product lives in [`Node`]'s own tasks.
pub(crate) struct Shell {
    data: PathBuf,
    /// The node's start, the same for everybody who asks: the window opens while it runs, and the first command waits.
    started: Shared<BoxFuture<'static, Result<Node, ErrorView>>>,
    clipboard: Clipboard,
    links: Links,
    signing: Signing,
}

impl Shell {
    /// Starts the node in the background.
    pub(crate) fn start(options: NodeOptions) -> Self {
        let data = options.data.clone();
        let task = tauri::async_runtime::spawn(Node::start(options));
        let started = async move {
            match task.await {
                Ok(Ok(node)) => Ok(node),
                Ok(Err(error)) => {
                    tracing::error!("the core did not start: {error}");
                    Err(error.into())
                }
                Err(died) => {
                    tracing::error!("the core's start ended early: {died}");
                    Err(ErrorView {
                        code: "start_failed".to_owned(),
                        message: "A part of the program ended while it started.".to_owned(),
                        fix: Some(
                            "Start the program again; the log in the terminal says more."
                                .to_owned(),
                        ),
                    })
                }
            }
        };
        Self {
            data,
            started: started.boxed().shared(),
            clipboard: Clipboard::default(),
            links: Links::default(),
            signing: Signing::default(),
        }
    }

    /// The node, once it runs.
    ///
    /// # Errors
    /// Why it did not start: another program holds the folder, a database of a newer version, …
    pub(crate) async fn node(&self) -> Result<Node, ErrorView> {
        self.started.clone().await
    }

    /// The data folder that this window was started for.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The link that waits for an answer.
    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    /// What the signing window is open for.
    pub(crate) fn signing(&self) -> &Signing {
        &self.signing
    }

    /// Puts `text` on the clipboard.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn copy(&self, text: String) -> Result<(), arboard::Error> {
        self.clipboard.copy(text)
    }
}
