//! What runs beside the registry's task: hashing and opening files, moving them. Each reports how it ended.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use engine::{EngineError, TextInfo};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    DownloadError, HeaderReader, ModelRow, ModelsError,
    digest::{Sha, hash_file},
    download::Arrived,
    records::Facts,
    store,
};

/// How long a busy engine is waited for before a new file is said to be unreadable: as long as an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often it is asked in that time.
const MAX_LOOKS: u32 = 120;

/// How a task ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// A download; its file has its name.
    Download {
        id: String,
        result: Result<Arrived, DownloadError>,
    },
    /// A file was hashed and opened.
    Checked {
        id: String,
        path: PathBuf,
        result: Result<Facts, ModelsError>,
    },
    /// A file that a person wants to add.
    Added {
        path: PathBuf,
        result: Result<Facts, ModelsError>,
        done: oneshot::Sender<Result<ModelRow, ModelsError>>,
    },
    /// The folder was moved, or not.
    Moved {
        to: PathBuf,
        result: Result<(), ModelsError>,
    },
}

/// Hashes a file (unless its digest is known) and has the engine read its header.
pub(super) async fn inspect(
    engine: Arc<dyn HeaderReader>,
    path: PathBuf,
    known: Option<Sha>,
    progress: watch::Sender<u64>,
    stop: CancellationToken,
) -> Result<Facts, ModelsError> {
    // Asked of the system before the engine: its answer names what is wrong with a path.
    std::fs::File::open(&path).map_err(|source| ModelsError::File {
        path: path.clone(),
        what: "read",
        source,
    })?;
    let text = open_text(&engine, &path, &stop).await;
    // A header that the engine refuses needs no hash of the gigabytes behind it; one that no worker could read does.
    if let Err(error) = &text
        && known.is_none()
        && !is_passing(error)
    {
        return Err(not_runnable(&path, text));
    }
    let digest = match known {
        Some(digest) => digest,
        None => {
            let file = path.clone();
            let hashed = tokio::task::spawn_blocking(move || {
                hash_file(&file, &stop, |done| {
                    progress.send_replace(done);
                })
            });
            hashed
                .await
                .map_err(|_| ModelsError::Stopping)?
                .map_err(|source| ModelsError::File {
                    path: path.clone(),
                    what: "read",
                    source,
                })?
        }
    };
    let size = std::fs::metadata(&path)
        .map_err(|source| ModelsError::File {
            path: path.clone(),
            what: "read",
            source,
        })?
        .len();
    match text {
        Ok(text) if text.embeds_only => {
            let model = text.name;
            Err(not_runnable(&path, Err(EngineError::OnlyEmbeds { model })))
        }
        Ok(text) if text.runs_here && text.has_weights => Ok(facts(digest, size, text)),
        Ok(text) if !text.has_weights => Err(not_runnable(
            &path,
            Err(EngineError::NoWeights { file: path.clone() }),
        )),
        Ok(text) => {
            let refused = EngineError::UnsupportedArchitecture {
                architecture: text.architecture,
                model: text.name,
            };
            Err(not_runnable(&path, Err(refused)))
        }
        Err(error) => Err(not_runnable(&path, Err(error))),
    }
}

/// Asks the engine for a header. A worker that is busy goes on with the folders it was given at its start, so a file that this process can
/// read and the worker cannot is asked for again, for [`PATIENCE`].
async fn open_text(
    engine: &Arc<dyn HeaderReader>,
    path: &Path,
    stop: &CancellationToken,
) -> Result<TextInfo, EngineError> {
    let mut tries = 0;
    loop {
        let opened = engine.open_text(path).await;
        tries += 1;
        let pause = match &opened {
            // A worker that died over somebody else's file says nothing about this one.
            Err(error) if is_passing(error) && tries == 1 => Duration::ZERO,
            Err(EngineError::NotReadable { .. })
                if tries < MAX_LOOKS && std::fs::File::open(path).is_ok() =>
            {
                PATIENCE / MAX_LOOKS
            }
            Ok(_) | Err(_) => return opened,
        };
        tokio::select! {
            () = stop.cancelled() => return opened,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Whether an error is the worker's and not the file's.
pub(super) fn is_passing(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::WorkerDied { .. }
            | EngineError::WorkerHung { .. }
            | EngineError::WorkerStays { .. }
            | EngineError::WorkerOtherBuild { .. }
            | EngineError::OutOfMemory { .. }
            | EngineError::WorkerSpokeWrong { .. }
            | EngineError::WorkerMissing { .. }
            | EngineError::WorkerNotStarted { .. }
            | EngineError::TooManyCalls { .. }
            | EngineError::Displaced
            | EngineError::Cancelled
            | EngineError::ShutDown
    )
}

fn not_runnable(path: &Path, text: Result<TextInfo, EngineError>) -> ModelsError {
    match text {
        Err(source) => ModelsError::NotRunnable {
            path: path.to_owned(),
            source,
        },
        Ok(text) => ModelsError::NotRunnable {
            path: path.to_owned(),
            source: EngineError::UnsupportedArchitecture {
                architecture: text.architecture,
                model: text.name,
            },
        },
    }
}

fn facts(digest: Sha, size: u64, text: TextInfo) -> Facts {
    Facts {
        digest,
        size,
        name: text.name,
        architecture: text.architecture,
        runs_here: text.runs_here,
        parameters: text.parameters,
        quant: text.quant,
        context_train: text.context_train,
        head_len: text.head_len,
        head_sha256: Sha(text.head_sha256),
        kv_bytes_per_token: text.kv_bytes_per_token,
        load_bytes: text.load_bytes,
    }
}

/// Moves the folder in a thread that may wait for the disk.
pub(super) async fn move_folder(
    from: PathBuf,
    to: PathBuf,
    stop: CancellationToken,
) -> Result<(), ModelsError> {
    tokio::task::spawn_blocking(move || {
        store::move_all(&from, &to, store::Carry::Cheapest, &stop, &mut |_| Ok(()))
    })
    .await
    .map_err(|_| ModelsError::Stopping)?
}
