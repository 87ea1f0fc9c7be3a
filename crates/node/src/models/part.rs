//! A file that is arriving: `FILE.part` with the bytes so far, and `FILE.part.json` with what is known of them.
//!
//! The notes say how many bytes were synced to the disk. After a crash the part is cut back to that, since a power cut may leave zeros
//! behind it; so at most [`SYNC_EVERY`], or what came in [`SYNC_AFTER`], is fetched twice.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::{
    DownloadError,
    digest::{Sha, hash_prefix},
};
use crate::data::{self, AtomicWrite};

/// Bytes between two syncs: a second of a fast line.
pub(super) const SYNC_EVERY: u64 = 32 * 1024 * 1024;

/// Time between two syncs on a slow line, where [`SYNC_EVERY`] would be a minute's wait.
const SYNC_AFTER: Duration = Duration::from_secs(3);

/// Largest notes, in bytes.
const MAX_NOTES_BYTES: u64 = 64 * 1024;

/// What is known of the bytes in a part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notes {
    /// Bytes that are on the disk for certain.
    pub(super) synced: u64,
    /// Size of the whole file.
    pub(super) size: Option<u64>,
    /// The digest that the whole file must have.
    pub(super) digest: Option<Sha>,
    /// Where the bytes came from.
    pub(super) url: Option<String>,
    /// That source's name for this version of the file.
    pub(super) etag: Option<String>,
}

/// A part, open for appending.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    file: tokio::fs::File,
    len: u64,
    hash: Sha256,
    sync_every: u64,
    synced_at: Instant,
    pub(super) notes: Notes,
}

pub(super) fn part_of(target: &Path) -> PathBuf {
    with_suffix(target, ".part")
}

fn notes_of(target: &Path) -> PathBuf {
    with_suffix(target, ".part.json")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Bytes that an earlier run left, and the size of the whole file, where there is a part to go on with.
pub(super) fn left_over(target: &Path) -> Option<(u64, Option<u64>)> {
    let len = std::fs::metadata(part_of(target)).ok()?.len();
    let notes = read_notes(target)?;
    Some((len.min(notes.synced), notes.size))
}

/// Removes a part and its notes.
pub(super) fn remove(target: &Path) -> io::Result<()> {
    for path in [part_of(target), notes_of(target)] {
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_notes(target: &Path) -> Option<Notes> {
    let text = data::read_capped(&notes_of(target), MAX_NOTES_BYTES).ok()?;
    serde_json::from_str(&text).ok()
}

impl Part {
    /// Opens the part of `target`, hashing what is there. It starts from nothing where the notes are missing or speak of another file.
    pub(super) async fn open(
        target: &Path,
        size: Option<u64>,
        digest: Option<Sha>,
        sync_every: u64,
        stop: &CancellationToken,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<Self, DownloadError> {
        let path = part_of(target);
        let disk = |error: io::Error| DownloadError::disk(&path, &error);
        let notes = read_notes(target).filter(|notes| {
            let agrees = |ours: Option<u64>, theirs: Option<u64>| {
                ours.is_none() || theirs.is_none() || ours == theirs
            };
            agrees(size, notes.size) && notes.digest == digest
        });
        let keep = notes.as_ref().map_or(0, |notes| notes.synced);
        let (hash, len) = if keep == 0 {
            (Sha256::new(), 0)
        } else {
            let (file, stop) = (path.clone(), stop.clone());
            let hashed =
                tokio::task::spawn_blocking(move || hash_prefix(&file, keep, &stop, progress))
                    .await;
            match hashed {
                Ok(Ok(hashed)) => hashed,
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => (Sha256::new(), 0),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {
                    return Err(DownloadError::Stopped);
                }
                Ok(Err(error)) => return Err(disk(error)),
                Err(_) => return Err(DownloadError::Stopped),
            }
        };
        let mut file = tokio::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .await
            .map_err(disk)?;
        file.set_len(len).await.map_err(disk)?;
        file.seek(io::SeekFrom::Start(len)).await.map_err(disk)?;
        let mut notes = if len == 0 {
            Notes::default()
        } else {
            notes.unwrap_or_default()
        };
        notes.synced = len;
        notes.digest = digest;
        notes.size = size.or(notes.size);
        Ok(Self {
            path: target.to_owned(),
            file,
            len,
            hash,
            sync_every,
            synced_at: Instant::now(),
            notes,
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Adds bytes. After a failure the file is cut back to what was counted, so that it can go on later.
    pub(super) async fn append(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        let written = self.file.write_all(bytes).await;
        if let Err(error) = written {
            return Err(self.disk(&error));
        }
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        if self.len - self.notes.synced >= self.sync_every || self.synced_at.elapsed() >= SYNC_AFTER
        {
            self.sync().await?;
        }
        Ok(())
    }

    /// Brings bytes and notes to the disk.
    pub(super) async fn sync(&mut self) -> Result<(), DownloadError> {
        let synced = match self.file.flush().await {
            Ok(()) => self.file.sync_data().await,
            Err(error) => Err(error),
        };
        synced.map_err(|error| self.disk(&error))?;
        self.notes.synced = self.len;
        self.synced_at = Instant::now();
        self.write_notes()
    }

    pub(super) fn write_notes(&self) -> Result<(), DownloadError> {
        let text = serde_json::to_string(&self.notes).unwrap_or_default();
        let path = notes_of(&self.path);
        data::write_atomically(&path, text.as_bytes(), AtomicWrite::Plain)
            .map_err(|error| DownloadError::disk(&path, &error))
    }

    /// Starts from nothing.
    pub(super) async fn restart(&mut self) -> Result<(), DownloadError> {
        let emptied = match self.file.set_len(0).await {
            Ok(()) => self.file.seek(io::SeekFrom::Start(0)).await.map(|_| ()),
            Err(error) => Err(error),
        };
        emptied.map_err(|error| self.disk(&error))?;
        self.hash = Sha256::new();
        self.len = 0;
        self.notes = Notes {
            digest: self.notes.digest,
            ..Notes::default()
        };
        self.write_notes()
    }

    /// The digest of all bytes so far.
    pub(super) fn digest(&self) -> Sha {
        Sha(self.hash.clone().finalize().into())
    }

    /// The first bytes, to see what kind of file it is.
    pub(super) async fn starts_with(&self, magic: &[u8]) -> bool {
        let path = part_of(&self.path);
        let mut first = vec![0; magic.len()];
        match tokio::fs::File::open(&path).await {
            Ok(mut file) => {
                tokio::io::AsyncReadExt::read_exact(&mut file, &mut first)
                    .await
                    .is_ok()
                    && first == magic
            }
            Err(_) => false,
        }
    }

    /// Gives the file its name: synced, renamed, the folder synced, the notes removed.
    pub(super) async fn finish(mut self) -> Result<(), DownloadError> {
        self.sync().await?;
        let (part, target) = (part_of(&self.path), self.path.clone());
        // Closed before it is renamed: some systems do not rename open files.
        drop(self.file);
        let renamed = target.clone();
        let named = tokio::task::spawn_blocking(move || -> io::Result<()> {
            std::fs::rename(&part, &renamed)?;
            super::store::sync_folder_of(&renamed);
            let _ = std::fs::remove_file(notes_of(&renamed));
            Ok(())
        });
        match named.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(DownloadError::disk(&target, &error)),
            Err(_) => Err(DownloadError::Stopped),
        }
    }

    fn disk(&self, error: &io::Error) -> DownloadError {
        DownloadError::disk(&part_of(&self.path), error)
    }
}
