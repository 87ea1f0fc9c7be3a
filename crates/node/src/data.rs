//! The data folder: where everything of one node lies, and the lock that says whose it is.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// One node's folder, held by its lock until this is dropped.
#[derive(Debug)]
pub struct DataFolder {
    root: PathBuf,
    // Held, not read: closing the file gives the lock back, also when the process is killed.
    lock: Mutex<Option<File>>,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It cannot be made or written.
    #[error("the data folder {path} cannot be used")]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another node holds it.
    #[error("another DecentralGPT already uses the data folder {path}")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
}

impl DataFolder {
    /// Makes the folder where it is missing (readable by its owner alone) and takes its lock.
    ///
    /// # Errors
    /// [`DataError::InUse`] when another node, in this process or another, has it.
    pub fn open(root: &Path) -> Result<Self, DataError> {
        let unusable = |source| DataError::Unusable {
            path: root.to_owned(),
            source,
        };
        create_private(root).map_err(unusable)?;
        let root = root.canonicalize().map_err(unusable)?;
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(root.join("lock"))
            .map_err(|source| DataError::Unusable {
                path: root.clone(),
                source,
            })?;
        if !try_lock(&lock).map_err(|source| DataError::Unusable {
            path: root.clone(),
            source,
        })? {
            return Err(DataError::InUse { path: root });
        }
        // The process id helps a person who looks; nothing reads it, so a failure to write it is not an error.
        let _ = lock.set_len(0);
        let _ = writeln!(lock, "{}", std::process::id());
        Ok(Self {
            root,
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Gives the lock back before the last handle is gone.
    pub(crate) fn release(&self) {
        self.lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Conversations.
    #[must_use]
    pub fn memory(&self) -> PathBuf {
        self.root.join("memory.db")
    }

    /// Jobs seen and receipts.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger.db")
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity.key")
    }

    /// What is known of a network that money is on: its contracts and endpoints.
    #[must_use]
    pub fn network(&self, name: &str) -> PathBuf {
        self.root.join("networks").join(format!("{name}.toml"))
    }

    /// Transactions of this computer that wait on a network.
    #[must_use]
    pub fn chain(&self, name: &str) -> PathBuf {
        self.root.join("chain").join(name)
    }

    /// The person's settings.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.root.join("settings.toml")
    }

    /// Peers that were connected by hand, and blocked ones.
    #[must_use]
    pub fn peers(&self) -> PathBuf {
        self.root.join("peers.toml")
    }

    /// What was measured of the devices of this computer.
    #[must_use]
    pub fn devices(&self) -> PathBuf {
        self.root.join("devices.toml")
    }

    /// Addresses of peers that a swarm of this name met.
    #[must_use]
    pub fn met(&self, swarm: &str) -> PathBuf {
        self.root.join(format!("met-{swarm}"))
    }

    /// Offers of others that a swarm of this name knew.
    #[must_use]
    pub fn offers(&self, swarm: &str) -> PathBuf {
        self.root.join(format!("offers-{swarm}"))
    }

    /// A list of first peers in place of the program's; none unless somebody puts it there.
    #[must_use]
    pub fn first_peers(&self) -> PathBuf {
        self.root.join("first-peers.list")
    }

    /// What heads of files said of themselves that no row here names.
    #[must_use]
    pub fn community(&self) -> PathBuf {
        self.root.join("community.toml")
    }

    /// Heads of files whose weights are elsewhere.
    #[must_use]
    pub fn heads(&self) -> PathBuf {
        self.root.join("heads")
    }
}

/// Makes a folder and its parents; the folder itself is readable by its owner alone.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path)
}

fn try_lock(file: &File) -> io::Result<bool> {
    match fs4::FileExt::try_lock(file) {
        Ok(()) => Ok(true),
        Err(fs4::TryLockError::WouldBlock) => Ok(false),
        Err(fs4::TryLockError::Error(error)) => Err(error),
    }
}

/// Who may read a file that is written whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtomicWrite {
    /// Its owner alone.
    Secret,
    /// Whoever the system lets.
    Plain,
}

/// Writes a file so that a reader, also one after a crash, sees the old bytes or the new ones and never a part.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], who: AtomicWrite) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    // A part left by a crash may have other permissions: it is made anew.
    match std::fs::remove_file(&part) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(match who {
            AtomicWrite::Secret => 0o600,
            AtomicWrite::Plain => 0o644,
        });
    }
    #[cfg(not(unix))]
    let _ = who;
    let written = options.open(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| std::fs::rename(&part, path)) {
        let _ = std::fs::remove_file(&part);
        return Err(error);
    }
    // The rename is on disk only when the folder is; where folders cannot be opened (Windows) the system does it.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Reads a whole text file of at most `cap` bytes; longer or not UTF-8 is [`io::ErrorKind::InvalidData`].
pub(crate) fn read_capped(path: &Path, cap: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(cap + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > cap {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("longer than {cap} bytes"),
        ));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not text"))
}

/// Moves a file that cannot be used beside itself, under a name that is free, so that nothing is lost.
pub(crate) fn keep_aside(path: &Path) -> io::Result<PathBuf> {
    keep_aside_as(path, "broken")
}

/// The same, with a word of why.
pub(crate) fn keep_aside_as(path: &Path, why: &str) -> io::Result<PathBuf> {
    // A person does not break a file more often than this between two looks into the folder.
    const MOST_KEPT: u32 = 1000;
    for number in 1..=MOST_KEPT {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{why}-{number}"));
        let aside = PathBuf::from(name);
        if !aside.exists() {
            std::fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "too many files are kept beside it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolder::open(folder.path()).unwrap();
        assert!(matches!(
            DataFolder::open(folder.path()),
            Err(DataError::InUse { .. })
        ));
        drop(first);
        DataFolder::open(folder.path()).unwrap();
    }

    #[test]
    fn a_file_is_replaced_whole_and_a_broken_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"one", AtomicWrite::Plain).unwrap();
        write_atomically(&path, b"two", AtomicWrite::Plain).unwrap();
        assert_eq!(read_capped(&path, 10).unwrap(), "two");
        assert_eq!(
            read_capped(&path, 2).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        let aside = keep_aside(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(read_capped(&aside, 10).unwrap(), "two");
    }
}
