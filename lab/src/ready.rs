//! Data folders whose node knows its model already.
//!
//! A node that meets a file for the first time hashes it whole. Many that do so at once on a few cores would wait for one another,
//! so one does it, and the others are given what it wrote.

use std::{fs, path::Path};

use decentralgpt_tests::Folder;

use crate::error::LabError;

/// Where a node keeps the digests of files that it has seen.
const SEEN: &str = "models.toml";
/// A node waits a few seconds for files it has not seen, and then says what it knows: on a busy machine it is asked again.
const ASKED: usize = 20;

/// What a node knows of the starter.
#[derive(Debug, Clone)]
pub struct Ready {
    seen: String,
}

impl Ready {
    /// Has the real program look at the starter.
    ///
    /// # Errors
    /// [`LabError::Wrong`] when it does not come to an end.
    pub fn of(starter: &Path) -> Result<Self, LabError> {
        let folder = Folder::new();
        let seen = folder.path().join(SEEN);
        for _ in 0..ASKED {
            let mut command = folder.decentralgpt_with(starter);
            let said = decentralgpt_tests::run(command.args(["models", "list"]));
            match fs::read_to_string(&seen) {
                Ok(seen) if seen.contains("digest") => return Ok(Self { seen }),
                Ok(_) | Err(_) => eprintln!("{}", said.err.trim()),
            }
        }
        Err(LabError::Wrong(
            "the program does not come to know its model".to_owned(),
        ))
    }

    /// Writes it into a folder.
    ///
    /// # Errors
    /// [`LabError::System`].
    pub fn put_into(&self, folder: &Folder) -> Result<(), LabError> {
        fs::write(folder.path().join(SEEN), &self.seen)
            .map_err(LabError::system("a folder cannot be prepared"))
    }
}
