//! Where the worker programs are.

use std::path::PathBuf;

use crate::EngineError;

/// What a worker program computes on. Each kind is a program of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerKind {
    /// The processor.
    Processor,
    /// NVIDIA cards, by CUDA.
    Cuda,
    /// Apple's adapters, by Metal.
    Metal,
}

impl WorkerKind {
    /// The name that people use for it.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkerKind::Processor => "the processor",
            WorkerKind::Cuda => "CUDA",
            WorkerKind::Metal => "Metal",
        }
    }

    /// The program's name, without the system's ending.
    fn stem(self) -> &'static str {
        match self {
            WorkerKind::Processor => "decentralgpt-worker",
            WorkerKind::Cuda => "decentralgpt-worker-cuda",
            WorkerKind::Metal => "decentralgpt-worker-metal",
        }
    }

    fn file_name(self) -> String {
        format!("{}{}", self.stem(), std::env::consts::EXE_SUFFIX)
    }
}

/// A worker program that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerProgram {
    /// Where it is.
    pub path: PathBuf,
    /// What it computes on.
    pub kind: WorkerKind,
}

/// Finds the worker for the processor in the first folder that has it.
pub fn locate_worker(dirs: &[PathBuf]) -> Result<PathBuf, EngineError> {
    let name = WorkerKind::Processor.file_name();
    let looked_at: Vec<PathBuf> = dirs.iter().map(|dir| dir.join(&name)).collect();
    match looked_at.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(EngineError::WorkerMissing { looked_at }),
    }
}

/// Every worker that is installed, the processor's first. Whether they run is another question.
pub(super) fn workers(dirs: &[PathBuf]) -> Result<Vec<WorkerProgram>, EngineError> {
    let mut found = vec![WorkerProgram {
        path: locate_worker(dirs)?,
        kind: WorkerKind::Processor,
    }];
    for kind in [WorkerKind::Cuda, WorkerKind::Metal] {
        let mut paths = dirs.iter().map(|dir| dir.join(kind.file_name()));
        if let Some(path) = paths.find(|path| path.is_file()) {
            found.push(WorkerProgram { path, kind });
        }
    }
    Ok(found)
}

/// The worker of the kind that was chosen, or the processor's where that is not installed.
pub(super) fn chosen_worker(
    dirs: &[PathBuf],
    chosen: WorkerKind,
) -> Result<WorkerProgram, EngineError> {
    let mut found = workers(dirs)?;
    let at = found.iter().position(|program| program.kind == chosen);
    Ok(found.swap_remove(at.unwrap_or(0)))
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
    fn a_worker_for_a_card_is_taken_only_when_it_was_chosen() {
        let dir = tempfile::tempdir().unwrap();
        for kind in [WorkerKind::Processor, WorkerKind::Cuda] {
            std::fs::write(dir.path().join(kind.file_name()), "").unwrap();
        }
        let dirs = [dir.path().to_owned()];
        let kind = |chosen| chosen_worker(&dirs, chosen).unwrap().kind;
        assert_eq!(kind(WorkerKind::Processor), WorkerKind::Processor);
        assert_eq!(kind(WorkerKind::Cuda), WorkerKind::Cuda);
        assert_eq!(kind(WorkerKind::Metal), WorkerKind::Processor);
    }

    #[test]
    fn the_first_folder_that_has_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let name = WorkerKind::Processor.file_name();
        std::fs::write(dir.path().join(&name), "").unwrap();
        let dirs = [PathBuf::from("nowhere"), dir.path().to_owned()];
        assert_eq!(locate_worker(&dirs), Ok(dir.path().join(name)));
    }
}
