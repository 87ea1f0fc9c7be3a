//! What outlives a restart: the address book and the offers of others, read at the start and written as they change.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{Loop, requests};
use crate::{disk, offers, peers, sources::Sources};

/// How often what changed is written to disk.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// The files, and what of them is old.
#[derive(Debug)]
pub(super) struct Kept {
    book_file: Option<PathBuf>,
    offers_file: Option<PathBuf>,
    offers_saved: bool,
    /// One file is written at a time, however slow the disk.
    writing: Arc<Semaphore>,
    saved: Instant,
}

impl Kept {
    pub(super) fn new(sources: &Sources, now: Instant) -> Self {
        Self {
            book_file: sources.book.clone(),
            offers_file: sources.offers.clone(),
            offers_saved: true,
            writing: Arc::new(Semaphore::new(1)),
            saved: now,
        }
    }

    pub(super) fn offers_changed(&mut self) {
        self.offers_saved = false;
    }
}

impl Loop {
    /// Reads the offers of earlier days, before anything else runs.
    pub(super) fn load_offers(&mut self) {
        let Some(path) = self.kept.offers_file.clone() else {
            return;
        };
        let read = match disk::read(&path, offers::MAX_CACHE) {
            Ok(None) => return,
            Ok(Some(bytes)) => self
                .book
                .load_cache(bytes.into(), self.local, requests::now())
                .is_some(),
            Err(_) => false,
        };
        if !read {
            // A cache that cannot even be put aside is written over later.
            let aside = disk::set_aside(&path);
            tracing::warn!(put_aside = aside.is_ok(), "the kept offers cannot be read");
        }
        self.offers_changed();
    }

    /// What changed since it was last written.
    fn take_unsaved(&mut self) -> Vec<(PathBuf, Vec<u8>)> {
        let connected: Vec<_> = self.peers.longest_first();
        self.peer_book.set_anchors(connected);
        let book = self
            .kept
            .book_file
            .clone()
            .and_then(|path| Some((path, self.peer_book.take_unsaved()?)));
        let offers = match &self.kept.offers_file {
            Some(path) if !self.kept.offers_saved => {
                Some((path.clone(), self.book.to_cache(peers::unix_ms())))
            }
            Some(_) | None => None,
        };
        self.kept.offers_saved = true;
        book.into_iter().chain(offers).collect()
    }

    fn write_soon(&self, path: PathBuf, bytes: Vec<u8>) {
        let writing = Arc::clone(&self.kept.writing);
        self.runtime.spawn(async move {
            let Ok(permit) = writing.acquire_owned().await else {
                return;
            };
            let written = tokio::task::spawn_blocking(move || {
                let result = disk::write(&path, &bytes);
                drop(permit);
                result
            });
            if let Ok(Err(error)) = written.await {
                tracing::warn!(%error, "what is known of peers cannot be kept");
            }
        });
    }

    /// The last word to the disk.
    pub(super) async fn save_all(&mut self) {
        // What is being written is older.
        let permit = Arc::clone(&self.kept.writing).acquire_owned().await;
        let files = self.take_unsaved();
        let written = tokio::task::spawn_blocking(move || {
            files
                .into_iter()
                .try_for_each(|(path, bytes)| disk::write(&path, &bytes))
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(%error, "what is known of peers cannot be kept");
        }
        drop(permit);
    }

    pub(super) fn keep_tick(&mut self) {
        let now = Instant::now();
        let due = now.saturating_duration_since(self.kept.saved) >= SAVE_EVERY;
        // A disk that hangs gets no more to do.
        if due && self.kept.writing.available_permits() > 0 {
            self.kept.saved = now;
            for (path, bytes) in self.take_unsaved() {
                self.write_soon(path, bytes);
            }
        }
    }
}
