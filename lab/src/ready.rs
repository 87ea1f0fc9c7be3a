//! Data folders whose node knows its model already.
//!
//! A node that meets a file for the first time hashes it whole. Many that do so at once on a few cores would wait for one another,
//! so one does it, and the others are given what it wrote.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use decentralgpt_tests::{Folder, Serving};

use crate::error::LabError;

/// Where a node keeps the digests of files that it has seen.
const SEEN: &str = "models.toml";
/// Where it keeps how fast its models are.
const SPEEDS: &str = "speeds.toml";
/// A node that lends measures its models once, between whatever it is asked: some seconds.
const MEASURED: Duration = Duration::from_secs(120);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// A node waits a few seconds for files it has not seen, and then says what it knows: on a busy machine it is asked again.
const ASKED: usize = 20;

/// What a node knows of the starter.
#[derive(Debug, Clone)]
pub struct Ready {
    seen: String,
    /// How fast it is, where that was measured.
    speeds: Option<String>,
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
                Ok(seen) if seen.contains("digest") => return Ok(Self { seen, speeds: None }),
                Ok(_) | Err(_) => eprintln!("{}", said.err.trim()),
            }
        }
        Err(LabError::Wrong(
            "the program does not come to know its model".to_owned(),
        ))
    }

    /// The same, and how fast the starter is on this computer: a node that knows that is not busy with it while it is asked.
    ///
    /// # Errors
    /// [`LabError::Wrong`] when it does not come to an end, [`LabError::System`].
    pub fn warm(starter: &Path) -> Result<Self, LabError> {
        let ready = Self::of(starter)?;
        let folder = Folder::new();
        ready.put_into(&folder)?;
        let serving = Serving::start_offering(folder, starter);
        let speeds = serving.folder().path().join(SPEEDS);
        let begun = Instant::now();
        loop {
            match fs::read_to_string(&speeds) {
                Ok(speeds) if speeds.contains("benchmark") => {
                    return Ok(Self {
                        speeds: Some(speeds),
                        ..ready
                    });
                }
                Ok(_) | Err(_) if begun.elapsed() < MEASURED => std::thread::sleep(LOOK),
                Ok(_) | Err(_) => {
                    return Err(LabError::Wrong(
                        "the program does not measure its model".to_owned(),
                    ));
                }
            }
        }
    }

    /// Writes it into a folder.
    ///
    /// # Errors
    /// [`LabError::System`].
    pub fn put_into(&self, folder: &Folder) -> Result<(), LabError> {
        let known = [(SEEN, Some(&self.seen)), (SPEEDS, self.speeds.as_ref())];
        for (file, text) in known {
            let Some(text) = text else { continue };
            fs::write(folder.path().join(file), text)
                .map_err(LabError::system("a folder cannot be prepared"))?;
        }
        Ok(())
    }
}
