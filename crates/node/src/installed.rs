//! Where a program finds what was installed with it, and where its data goes when nobody says.
//!
//! Every shell of one installation looks in the same places: the window, the command line and the worker lie in one
//! folder, and the bundled models in that folder's bundle.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Folders with models, instead of those beside the program; several are separated as in `PATH`, and an empty value means
/// none. For running from a repository, and for tests.
pub const MODELS_VARIABLE: &str = "DECENTRALGPT_MODELS";

/// The data folder of somebody who names none: the system's place for a program's data. `None` where the system knows no
/// home of this user.
#[must_use]
pub fn default_data_folder() -> Option<PathBuf> {
    directories::ProjectDirs::from("org", "DecentralGPT", "DecentralGPT")
        .map(|dirs| dirs.data_dir().to_owned())
}

/// Where the worker programs are looked for, in order.
#[must_use]
pub fn worker_dirs() -> Vec<PathBuf> {
    beside().map_or_else(Vec::new, |folder| bundle(&folder))
}

/// Where models are looked for beside the data folder's own, in order.
#[must_use]
pub fn model_dirs() -> Vec<PathBuf> {
    match env::var_os(MODELS_VARIABLE) {
        Some(folders) => env::split_paths(&folders)
            .filter(|folder| !folder.as_os_str().is_empty())
            .collect(),
        None => worker_dirs()
            .into_iter()
            .map(|folder| folder.join("models"))
            .collect(),
    }
}

fn beside() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.to_owned())
}

/// The folder of the programs, then where each system's installers put the rest: Debian below lib, macOS in Resources.
fn bundle(programs: &Path) -> Vec<PathBuf> {
    let mut folders = vec![programs.to_owned()];
    if let Some(prefix) = programs.parent() {
        folders.push(prefix.join("lib").join("DecentralGPT"));
        folders.push(prefix.join("Resources"));
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_program_looks_beside_itself_and_in_its_bundle() {
        let folders = bundle(Path::new("/usr/bin"));
        assert_eq!(
            folders,
            [
                Path::new("/usr/bin"),
                Path::new("/usr/lib/DecentralGPT"),
                Path::new("/usr/Resources")
            ]
        );
    }
}
