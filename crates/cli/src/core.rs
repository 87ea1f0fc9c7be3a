//! The node behind a command: one that runs already on the data folder, or one that is started for the command.

use std::path::PathBuf;

use node::{ErrorView, Node, NodeOptions, control::Client};

use crate::{
    failure::{self, Failure},
    output::Output,
};

/// A way to a node, the same whichever it is.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) client: Client,
    /// The data folder.
    pub(crate) data: PathBuf,
    /// The one that was started for this command.
    own: Option<Node>,
}

impl Core {
    /// Attaches to the node of the data folder, or starts one.
    ///
    /// # Errors
    /// When the folder cannot be used, or whoever holds it does not answer.
    pub(crate) async fn open(data: Option<PathBuf>, output: &mut Output) -> Result<Self, Failure> {
        let Some(data) = data.or_else(node::installed::default_data_folder) else {
            return Err(Failure::new(
                "no_home",
                "This system names no place for a program's data.",
                "name a folder with --data DIR.",
            ));
        };
        if let Some(client) = Client::attach(&data).await.map_err(|error| error.view())? {
            return Ok(Self {
                client,
                data,
                own: None,
            });
        }
        let started = Node::start(NodeOptions::new(&data))
            .await
            .map_err(|error| error.view())?;
        let core = Self {
            client: Client::in_process(&started),
            data,
            own: Some(started),
        };
        for notice in core.client.node_status().await?.notices {
            tell(output, &notice);
        }
        Ok(core)
    }

    /// Whether the node was there before this command, and stays.
    pub(crate) fn attached(&self) -> bool {
        self.own.is_none()
    }

    /// Ends the node if it was started for this command.
    pub(crate) async fn close(self) {
        if let Some(node) = self.own {
            node.stop().await;
        }
    }
}

/// Something that was survived: the command goes on.
fn tell(output: &mut Output, notice: &ErrorView) {
    failure::say_as(output, "note", notice);
}
