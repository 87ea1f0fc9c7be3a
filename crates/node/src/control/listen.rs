//! Where the node listens for command lines: a Unix socket of mode 0600, or a named pipe.

use crate::{data::DataFolder, error::NodeError, node::Node};

/// Connections that are served at once. A person has a window and a terminal or two.
#[cfg(any(unix, windows))]
const MAX_CONNECTIONS: usize = 16;

/// Begins to listen. A folder without a place for a socket is no reason not to start: a command line then says that the
/// folder is in use.
#[cfg(unix)]
pub(crate) fn listen(node: &Node) -> Result<(), NodeError> {
    use std::os::unix::fs::PermissionsExt as _;

    let inner = &node.inner;
    let Some(path) = super::socket_path(inner.data.root()) else {
        tracing::warn!("the path of the data folder is too long for a control socket");
        return Ok(());
    };
    let failed = |source| NodeError::File {
        path: path.clone(),
        what: "opened",
        source,
    };
    // We hold the folder's lock, so a socket that is there belongs to nobody.
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = tokio::net::UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let (stop, weak) = (inner.stop.clone(), Weak::of(node));
    inner.tasks.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            match (accepted, weak.node()) {
                (Ok((connection, _)), Some(node)) if connections.len() < MAX_CONNECTIONS => {
                    connections.spawn(super::serve(node, connection));
                }
                // Closed at once: the other side says so.
                (Ok(_), _) => {}
                (Err(error), _) => {
                    tracing::warn!(%error, "the control socket does not accept");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
        connections.shutdown().await;
    });
    Ok(())
}

/// Begins to listen.
#[cfg(windows)]
pub(crate) fn listen(node: &Node) -> Result<(), NodeError> {
    use tokio::net::windows::named_pipe::ServerOptions;

    let inner = &node.inner;
    let name = super::pipe_name(inner.data.root());
    let failed = |source| NodeError::File {
        path: name.clone().into(),
        what: "opened",
        source,
    };
    // Pipes refuse other computers by default; only their creator may write to them.
    let mut next = ServerOptions::new()
        .first_pipe_instance(true)
        .create(&name)
        .map_err(failed)?;
    let (stop, weak) = (inner.stop.clone(), Weak::of(node));
    inner.tasks.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let connected = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                connected = next.connect() => connected,
            };
            let fresh = match ServerOptions::new().create(&name) {
                Ok(fresh) => fresh,
                Err(error) => {
                    tracing::warn!(%error, "the control pipe cannot be opened again");
                    break;
                }
            };
            let connection = std::mem::replace(&mut next, fresh);
            if let (Ok(()), Some(node)) = (connected, weak.node())
                && connections.len() < MAX_CONNECTIONS
            {
                connections.spawn(super::serve(node, connection));
            }
        }
        connections.shutdown().await;
    });
    Ok(())
}

/// Removes the socket's name when the node has stopped.
pub(crate) fn forget(data: &DataFolder) {
    #[cfg(unix)]
    if let Some(path) = super::socket_path(data.root()) {
        // What cannot be removed is removed at the next start.
        let _ = std::fs::remove_file(path);
    }
    #[cfg(not(unix))]
    let _ = data;
}

/// A handle that does not keep the node alive: the listener is a task of the node itself.
struct Weak(crate::node::WeakNode);

impl Weak {
    fn of(node: &Node) -> Self {
        Self(node.downgrade())
    }

    fn node(&self) -> Option<Node> {
        self.0.upgrade()
    }
}
