//! Where the worker program is.

use std::path::PathBuf;

use crate::EngineError;

/// Its name, without the system's ending.
const NAME: &str = "decentralgpt-worker";

/// Finds the worker program in the first folder that has it.
pub fn locate_worker(dirs: &[PathBuf]) -> Result<PathBuf, EngineError> {
    let name = format!("{NAME}{}", std::env::consts::EXE_SUFFIX);
    let looked_at: Vec<PathBuf> = dirs.iter().map(|dir| dir.join(&name)).collect();
    match looked_at.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(EngineError::WorkerMissing { looked_at }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_worker_names_every_path_tried() {
        let dirs = [PathBuf::from("nowhere"), PathBuf::from("elsewhere")];
        let Err(EngineError::WorkerMissing { looked_at }) = locate_worker(&dirs) else {
            panic!("found a worker in a folder that does not exist");
        };
        assert!(looked_at.len() == 2 && looked_at[1].starts_with("elsewhere"));
    }

    #[test]
    fn the_first_folder_that_has_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("{NAME}{}", std::env::consts::EXE_SUFFIX);
        std::fs::write(dir.path().join(&name), "").unwrap();
        let dirs = [PathBuf::from("nowhere"), dir.path().to_owned()];
        assert_eq!(locate_worker(&dirs), Ok(dir.path().join(name)));
    }
}
