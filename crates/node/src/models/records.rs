//! What is remembered about models between runs: four small TOML files in the data folder, each written whole.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Measured, ModelsError, digest::Sha};
use crate::data::{self, AtomicWrite};

/// Largest of these files, in bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// What a whole file is, as it was found by hashing and opening it once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) digest: Sha,
    pub(super) size: u64,
    pub(super) name: String,
    pub(super) architecture: String,
    pub(super) runs_here: bool,
    pub(super) parameters: u64,
    pub(super) quant: String,
    pub(super) context_train: u32,
    pub(super) head_len: u32,
    pub(super) head_sha256: Sha,
    pub(super) kv_bytes_per_token: u64,
    pub(super) load_bytes: u64,
}

/// A file that was hashed: as long as size and time stay, it is not hashed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) modified_ms: u64,
    pub(super) facts: Facts,
}

/// A file that the person added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Added {
    /// The row's id; a catalogue row's own where the digest is one of the catalogue.
    pub(super) id: String,
    pub(super) path: PathBuf,
    pub(super) facts: Facts,
}

/// `models.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Records {
    /// Where models lie, when they were moved.
    pub(super) folder: Option<PathBuf>,
    /// Where they are being moved to: a run that ended in between goes on with it.
    pub(super) moving_to: Option<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) added: Vec<Added>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) seen: Vec<Seen>,
}

/// `pins.toml`: the digest that a row without one got at its first download.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Pins {
    pub(super) pin: BTreeMap<String, Pin>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pin {
    pub(super) sha256: Sha,
    pub(super) size: u64,
    pub(super) head_len: Option<u32>,
    pub(super) head_sha256: Option<Sha>,
    /// Where it came from.
    pub(super) source: String,
}

/// `speeds.toml`: what was measured on this computer, by row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Speeds {
    pub(super) speed: BTreeMap<String, Measured>,
}

/// Reads one of the files. One that cannot be read is kept aside, and the caller goes on without: each of them can be found out anew.
pub(crate) fn read<T: DeserializeOwned + Default>(path: &Path) -> T {
    let text = match data::read_capped(path, MAX_FILE_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return T::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "not readable; going on without it");
            return T::default();
        }
    };
    toml::from_str(&text).unwrap_or_else(|error| {
        let kept = data::keep_aside(path);
        tracing::warn!(path = %path.display(), ?kept, error = %error, "not understood; kept aside, going on without it");
        T::default()
    })
}

pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), ModelsError> {
    let failed = |source| ModelsError::File {
        path: path.to_owned(),
        what: "written",
        source,
    };
    let text = toml::to_string_pretty(value)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    data::write_atomically(path, text.as_bytes(), AtomicWrite::Plain).map_err(failed)
}

/// Now, in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Size and time of change of a file, the time in milliseconds since 1970.
pub(super) fn stamp(path: &Path) -> io::Result<(u64, u64)> {
    let meta = std::fs::metadata(path)?;
    let modified = meta
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok((
        meta.len(),
        u64::try_from(modified.as_millis()).unwrap_or(u64::MAX),
    ))
}

impl Records {
    /// What is known of the file that lies there now.
    pub(super) fn facts_of(&self, path: &Path) -> Option<&Facts> {
        let (size, modified_ms) = stamp(path).ok()?;
        self.seen
            .iter()
            .find(|seen| seen.path == path && seen.size == size && seen.modified_ms == modified_ms)
            .map(|seen| &seen.facts)
    }

    /// The digest of what lay there when it was last hashed.
    pub(super) fn last_digest_of(&self, path: &Path) -> Option<Sha> {
        let seen = self.seen.iter().find(|seen| seen.path == path)?;
        Some(seen.facts.digest)
    }

    /// Whether a file lies in one of these folders, or was added where it lies.
    pub(super) fn is_readable(&self, path: &Path, folders: &[PathBuf]) -> bool {
        folders.iter().any(|folder| path.parent() == Some(folder))
            || self.added.iter().any(|added| added.path == path)
    }

    /// Remembers a file that was hashed.
    pub(super) fn remember(&mut self, path: &Path, facts: &Facts) {
        self.seen.retain(|seen| seen.path != path);
        if let Ok((size, modified_ms)) = stamp(path) {
            self.seen.push(Seen {
                path: path.to_owned(),
                size,
                modified_ms,
                facts: facts.clone(),
            });
        }
    }

    /// Forgets files that are gone.
    pub(super) fn forget_missing(&mut self) {
        self.seen.retain(|seen| seen.path.exists());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_survives_the_file_and_a_bad_file_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.toml");
        let file = folder.path().join("a.gguf");
        std::fs::write(&file, b"abc").unwrap();
        let facts = Facts {
            digest: Sha([1; 32]),
            size: 3,
            name: "A".into(),
            architecture: "llama".into(),
            runs_here: true,
            parameters: 1,
            quant: "F32".into(),
            context_train: 5,
            head_len: 2,
            head_sha256: Sha([2; 32]),
            kv_bytes_per_token: 9,
            load_bytes: 10,
        };
        let mut records = Records {
            folder: Some("/somewhere".into()),
            ..Records::default()
        };
        records.remember(&file, &facts);
        write(&path, &records).unwrap();
        let again: Records = read(&path);
        assert_eq!(again, records);
        assert_eq!(again.facts_of(&file), Some(&facts));
        std::fs::write(&file, b"abcd").unwrap();
        assert_eq!(again.facts_of(&file), None);

        std::fs::write(&path, "folder = 3").unwrap();
        assert_eq!(read::<Records>(&path), Records::default());
        assert!(std::fs::read_dir(folder.path()).unwrap().any(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_string_lossy()
                .contains("broken")
        }));
    }
}
