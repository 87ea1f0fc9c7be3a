//! The head of a model's file: its tokenizer and template, without the weights. What is needed to write to a model that
//! only others can compute.

mod race;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use network::HeadProgress;
use protocol::{ModelRef, PeerId};
use sha2::{Digest as _, Sha256};

use self::race::Pace;
use super::session::Session;
use crate::{
    data::{self, AtomicWrite},
    error::NodeError,
    models::Model,
    node::Inner,
};

/// Heads that are kept. They are 2 to 32 MiB each, and fetched again in a second or two.
const MAX_KEPT: usize = 16;

impl Inner {
    /// A file that holds the head: the model's own, the kept one, or one fetched from the first peer that gives it. Nobody holds it up
    /// by sending it slowly while others offer it.
    ///
    /// # Errors
    /// [`NodeError::Head`] with the last reason.
    pub(crate) async fn head(
        &self,
        session: &Session,
        model: &ModelRef,
        name: &str,
        local: Option<&Model>,
        peers: &[PeerId],
    ) -> Result<PathBuf, NodeError> {
        if let Some(file) = local.and_then(|local| local.file.clone()) {
            return Ok(file);
        }
        let path = self
            .data
            .heads()
            .join(format!("{}.gguf", model.head_sha256));
        let (kept, wanted) = (path.clone(), *model);
        // A head that was damaged on the disk is fetched again. Once found whole, it is not read whole for every question.
        let seen = session.has_seen_head(&model.head_sha256);
        if in_thread(move || Ok(matches(&kept, &wanted, seen))).await? {
            session.saw_head(model.head_sha256);
            return Ok(path);
        }
        let failed = |source: NodeError| NodeError::Head {
            model: name.to_owned(),
            source: Box::new(source),
        };
        let fetch = |peer, progress: Arc<HeadProgress>| async move {
            self.reach(session, &peer).await?;
            let fetched = session.network.fetch_head(&peer, model, &progress).await;
            fetched.map_err(NodeError::from)
        };
        let bytes = race::first_whole(peers, model.head_len, fetch, Pace::SENSIBLE)
            .await
            .map_err(|last: Option<NodeError>| {
                failed(last.unwrap_or_else(|| NodeError::NoPeer {
                    model: name.to_owned(),
                }))
            })?;
        let (folder, to) = (self.data.heads(), path.clone());
        in_thread(move || {
            data::create_private(&folder)?;
            make_room(&folder);
            data::write_atomically(&to, &bytes, AtomicWrite::Plain)
        })
        .await
        .map_err(failed)?;
        Ok(path)
    }
}

async fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, NodeError> {
    let done = tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| NodeError::Stopping)?;
    done.map_err(|source| NodeError::File {
        path: PathBuf::from("heads"),
        what: "written",
        source,
    })
}

/// Whether this file is the head; one that was `seen` to be needs only to be as long still.
fn matches(path: &Path, model: &ModelRef, seen: bool) -> bool {
    let is_len = std::fs::metadata(path).is_ok_and(|meta| meta.len() == u64::from(model.head_len));
    let is_whole = || {
        std::fs::read(path)
            .is_ok_and(|bytes| Sha256::digest(&bytes)[..] == model.head_sha256.as_bytes()[..])
    };
    is_len && (seen || is_whole())
}

/// Removes the heads that were fetched longest ago. What cannot be removed is left: the next fetch tries again.
fn make_room(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut heads: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    heads.sort();
    let surplus = (heads.len() + 1).saturating_sub(MAX_KEPT);
    for (_, path) in heads.into_iter().take(surplus) {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_heads_make_room() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..MAX_KEPT + 3 {
            std::fs::write(folder.path().join(format!("{n:03}")), b"x").unwrap();
        }
        make_room(folder.path());
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            MAX_KEPT - 1
        );
    }

    #[test]
    fn a_damaged_head_does_not_match() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head");
        std::fs::write(&path, b"head").unwrap();
        let mut model = ModelRef {
            digest: protocol::ModelDigest::new([1; 32]),
            head_len: 4,
            head_sha256: protocol::HeadDigest::new(Sha256::digest(b"head").into()),
        };
        assert!(matches(&path, &model, false));
        model.head_len = 5;
        assert!(!matches(&path, &model, false) && !matches(&path, &model, true));
        std::fs::write(&path, b"haed").unwrap();
        model.head_len = 4;
        assert!(!matches(&path, &model, false));
        std::fs::remove_file(&path).unwrap();
        assert!(!matches(&path, &model, true), "removed to make room");
    }
}
