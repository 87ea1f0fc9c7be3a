//! What heads that were looked at said of their files, kept so that a chat's model has its name after a restart. A head itself may have
//! made room since.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use engine::TextInfo;
use protocol::{ModelDigest, ModelRef};
use serde::{Deserialize, Serialize};

use super::{foreign, view::HeadSays};
use crate::models::{read_kept, short_count, write_kept};

/// Files whose word is kept; the longest unused is forgotten. A person looks at a few.
const MAX_KEPT: usize = 64;

/// `community.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    file: Vec<Said>,
}

/// What one head said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    /// Of which file, hex.
    digest: String,
    /// Which head, hex.
    head: String,
    says: HeadSays,
}

/// The words of heads, the newest last.
#[derive(Debug)]
pub(super) struct Words {
    path: PathBuf,
    kept: Kept,
    /// How often they changed.
    changes: u64,
    /// The change that is on the disk, held by whoever writes.
    written: Arc<Mutex<u64>>,
}

impl Words {
    /// Reads what was kept. Whoever wrote the file, its texts are cleaned again.
    pub(super) fn open(path: PathBuf) -> Self {
        let mut kept: Kept = read_kept(&path);
        let surplus = kept.file.len().saturating_sub(MAX_KEPT);
        kept.file.drain(..surplus);
        for said in &mut kept.file {
            said.says.name = foreign::line(&said.says.name).unwrap_or_default();
            said.says.architecture = foreign::line(&said.says.architecture).unwrap_or_default();
            said.says.quant = foreign::line(&said.says.quant).unwrap_or_default();
            said.says.parameters = foreign::line(&said.says.parameters).unwrap_or_default();
        }
        Self {
            path,
            kept,
            changes: 0,
            written: Arc::default(),
        }
    }

    /// What this head said when it was looked at.
    pub(super) fn of(&self, model: &ModelRef) -> Option<HeadSays> {
        let (digest, head) = (model.digest.to_string(), model.head_sha256.to_string());
        let is_it = |said: &&Said| said.digest == digest && said.head == head;
        self.kept
            .file
            .iter()
            .find(is_it)
            .map(|said| said.says.clone())
    }

    /// The name that a file gives itself, by the head that was looked at last.
    pub(super) fn name(&self, digest: &ModelDigest) -> Option<String> {
        let digest = digest.to_string();
        let of = self.kept.file.iter().rfind(|said| said.digest == digest)?;
        Some(of.says.name.clone()).filter(|name| !name.is_empty())
    }

    /// Keeps what a head said. Returns the file's text where it changed.
    pub(super) fn keep(&mut self, model: &ModelRef, says: HeadSays) -> Option<Write> {
        let said = Said {
            digest: model.digest.to_string(),
            head: model.head_sha256.to_string(),
            says,
        };
        if self.kept.file.last() == Some(&said) {
            return None;
        }
        let is_it = |kept: &Said| kept.digest == said.digest && kept.head == said.head;
        self.kept.file.retain(|kept| !is_it(kept));
        self.kept.file.push(said);
        let surplus = self.kept.file.len().saturating_sub(MAX_KEPT);
        self.kept.file.drain(..surplus);
        self.changes += 1;
        Some(Write {
            path: self.path.clone(),
            kept: self.kept.clone(),
            change: self.changes,
            written: Arc::clone(&self.written),
        })
    }
}

/// What is to be written, in a thread that may wait for the disk.
#[derive(Debug)]
pub(super) struct Write {
    path: PathBuf,
    kept: Kept,
    change: u64,
    written: Arc<Mutex<u64>>,
}

impl Write {
    /// Writes it, unless what came later is written already. What could not be kept is asked for again after a restart.
    pub(super) fn write(&self) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written > self.change {
            return;
        }
        match write_kept(&self.path, &self.kept) {
            Ok(()) => *written = self.change,
            Err(error) => tracing::warn!(%error, "what a model's head said could not be kept"),
        }
    }
}

/// What a head says, as a screen may show it. `file`: where the head lies, whose name stands for one that says none.
pub(super) fn says(info: &TextInfo, file: &Path) -> HeadSays {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy());
    let own = (Some(info.name.as_str()) != stem.as_deref()).then_some(info.name.as_str());
    let line = |text: &str| foreign::line(text).unwrap_or_default();
    HeadSays {
        name: own.map(line).unwrap_or_default(),
        architecture: line(&info.architecture),
        parameters: short_count(info.parameters),
        quant: line(&info.quant),
        context: info.context_train,
        runs_here: info.runs_here,
        takes_chat: info.has_template && !info.embeds_only,
    }
}

#[cfg(test)]
mod tests {
    use protocol::HeadDigest;

    use super::*;

    fn model(file: u8, head: u8) -> ModelRef {
        ModelRef {
            digest: ModelDigest::new([file; 32]),
            head_len: 10,
            head_sha256: HeadDigest::new([head; 32]),
        }
    }

    fn named(name: &str) -> HeadSays {
        HeadSays {
            name: name.to_owned(),
            architecture: "llama".to_owned(),
            parameters: "1B".to_owned(),
            quant: "Q4_1".to_owned(),
            context: 2048,
            runs_here: true,
            takes_chat: true,
        }
    }

    #[test]
    fn what_heads_said_survives_and_the_oldest_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("community.toml");
        let mut words = Words::open(path.clone());
        for file in 0..MAX_KEPT as u8 + 3 {
            let write = words.keep(&model(file, 1), named("one"));
            write.unwrap().write();
        }
        let again = Words::open(path);
        assert_eq!(again.kept, words.kept);
        assert_eq!(again.kept.file.len(), MAX_KEPT);
        assert_eq!(again.of(&model(0, 1)), None);
        assert_eq!(again.of(&model(66, 1)), Some(named("one")));
        assert_eq!(again.of(&model(66, 2)), None, "another head");
    }

    #[test]
    fn a_write_that_comes_late_does_not_undo_a_newer_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("community.toml");
        let mut words = Words::open(path.clone());
        let first = words.keep(&model(1, 1), named("first")).unwrap();
        let second = words.keep(&model(2, 1), named("second")).unwrap();
        second.write();
        first.write();
        assert_eq!(Words::open(path).kept, words.kept);
    }

    #[test]
    fn the_name_is_that_of_the_head_that_was_looked_at_last() {
        let folder = tempfile::tempdir().unwrap();
        let mut words = Words::open(folder.path().join("community.toml"));
        let digest = model(1, 1).digest;
        assert_eq!(words.name(&digest), None);
        words.keep(&model(1, 1), named("first")).unwrap();
        words.keep(&model(1, 2), named("second")).unwrap();
        assert_eq!(words.name(&digest).as_deref(), Some("second"));
        assert!(words.keep(&model(1, 2), named("second")).is_none());
        words.keep(&model(1, 1), named("first")).unwrap();
        assert_eq!(words.name(&digest).as_deref(), Some("first"));
    }

    #[test]
    fn a_file_that_somebody_wrote_steers_no_screen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("community.toml");
        let kept = Kept {
            file: vec![Said {
                digest: model(1, 1).digest.to_string(),
                head: model(1, 1).head_sha256.to_string(),
                says: named("a\u{202e}\nb"),
            }],
        };
        write_kept(&path, &kept).unwrap();
        let words = Words::open(path);
        assert_eq!(words.name(&model(1, 1).digest).as_deref(), Some("a b"));
    }
}
