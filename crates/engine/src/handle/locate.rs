//! Which worker program to start: the one built for this processor where both are there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::EngineError;

/// A build of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerKind {
    /// For any processor of the architecture.
    Generic,
    /// For x86-64 processors with AVX2, FMA and their time's other additions.
    X86V3,
}

impl WorkerKind {
    /// The name that people use for it.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkerKind::Generic => "generic",
            WorkerKind::X86V3 => "x86-64-v3",
        }
    }

    fn file_name(self) -> String {
        let stem = match self {
            WorkerKind::Generic => "decentralgpt-worker",
            WorkerKind::X86V3 => "decentralgpt-worker-v3",
        };
        format!("{stem}{}", std::env::consts::EXE_SUFFIX)
    }
}

/// A worker program that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerProgram {
    /// Where it is.
    pub path: PathBuf,
    /// Which build it is.
    pub kind: WorkerKind,
}

/// Finds the fastest worker that this processor can run: every folder is searched for it before any is for the next.
pub fn locate_worker(dirs: &[PathBuf]) -> Result<WorkerProgram, EngineError> {
    let mut looked_at = Vec::new();
    let kinds = [
        (WorkerKind::X86V3, processor_has_v3()),
        (WorkerKind::Generic, true),
    ];
    for (kind, _) in kinds.into_iter().filter(|(_, can)| *can) {
        for dir in dirs {
            let path = dir.join(kind.file_name());
            if path.is_file() {
                return Ok(WorkerProgram { path, kind });
            }
            looked_at.push(path);
        }
    }
    Err(EngineError::WorkerMissing { looked_at })
}

/// Whether everything that `-Ctarget-cpu=x86-64-v3` lets the compiler use is there.
#[cfg(target_arch = "x86_64")]
fn processor_has_v3() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx2")
        && has!("fma")
        && has!("f16c")
        && has!("bmi1")
        && has!("bmi2")
        && has!("lzcnt")
        && has!("movbe")
        && has!("popcnt")
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_has_v3() -> bool {
    false
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
        assert!(looked_at.len() >= 2);
        assert!(looked_at.iter().any(|path| path.starts_with("elsewhere")));
    }

    #[test]
    fn the_build_for_this_processor_is_preferred() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(WorkerKind::Generic.file_name()), "").unwrap();
        let dirs = [dir.path().to_owned()];
        assert_eq!(locate_worker(&dirs).unwrap().kind, WorkerKind::Generic);
        std::fs::write(dir.path().join(WorkerKind::X86V3.file_name()), "").unwrap();
        let expected = if processor_has_v3() {
            WorkerKind::X86V3
        } else {
            WorkerKind::Generic
        };
        assert_eq!(locate_worker(&dirs).unwrap().kind, expected);
    }
}
