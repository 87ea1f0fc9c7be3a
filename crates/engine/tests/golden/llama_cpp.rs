//! llama.cpp, where it is built: asked by `reference.py` through its Python binding.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Where `cargo xtask bench engine` builds it, under cargo's target folder.
const FOLDER: &str = "peers/llama-cpp-0.3.36";

/// What it is asked about one file.
#[derive(Debug, Serialize)]
pub(crate) struct Job {
    pub(crate) file: PathBuf,
    pub(crate) context: u32,
    pub(crate) tokens: u32,
    /// Whether an end token ends it.
    pub(crate) stop: bool,
    pub(crate) conversations: Vec<Vec<Message>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<usize>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) role: String,
    pub(crate) content: String,
}

/// What it said.
#[derive(Debug, Deserialize)]
pub(crate) struct Said {
    pub(crate) conversations: Vec<Answered>,
    pub(crate) perplexity: Option<Perplexity>,
}

/// How surprised it is by a text.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Perplexity {
    /// Tokens that are read from an empty cache; the second half of them is predicted.
    pub(crate) window: usize,
    /// Tokens that were predicted.
    pub(crate) tokens: usize,
    pub(crate) value: f64,
    /// The text.
    pub(crate) ids: Vec<u32>,
}

/// One conversation, rendered, tokenized and continued.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub(crate) rendered: String,
    pub(crate) prompt: Vec<u32>,
    pub(crate) greedy: Vec<u32>,
    /// How far each greedy token was ahead of the second.
    pub(crate) gaps: Vec<f32>,
}

/// A file in `references`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) file_sha256: String,
    pub(crate) conversations: Vec<Answered>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) perplexity: Option<Perplexity>,
}

impl Record {
    pub(crate) fn read(name: &str) -> Self {
        let path = Self::path(name);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap()
    }

    fn path(name: &str) -> PathBuf {
        folder().join("references").join(format!("{name}.json"))
    }
}

/// Writes what was said over what was recorded, where that is wished for.
pub(crate) fn record(name: &str, said: &Record) {
    if std::env::var_os("DECENTRALGPT_RECORD").is_some() {
        let text = serde_json::to_string(said).unwrap();
        std::fs::write(Record::path(name), text + "\n").unwrap();
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

pub(crate) fn conversations() -> Vec<Vec<Message>> {
    serde_json::from_str(include_str!("conversations.json")).unwrap()
}

/// In hex.
pub(crate) fn sha256(file: &Path) -> String {
    Sha256::digest(std::fs::read(file).unwrap())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A built llama.cpp.
#[derive(Debug)]
pub(crate) struct LlamaCpp {
    python: PathBuf,
    library: PathBuf,
    binding: PathBuf,
}

impl LlamaCpp {
    /// Looks at `$DECENTRALGPT_LLAMA_CPP_BUILT` and where the bench builds it; says so when it is not there.
    pub(crate) fn find() -> Option<Self> {
        let named = std::env::var_os("DECENTRALGPT_LLAMA_CPP_BUILT").map(PathBuf::from);
        let folder = named.unwrap_or_else(|| {
            Path::new(env!("CARGO_TARGET_TMPDIR"))
                .join("..")
                .join(FOLDER)
        });
        let found = Self {
            python: folder.join("venv/bin/python"),
            library: folder.join("build/bin"),
            binding: folder.join("source"),
        };
        let complete = found.python.exists()
            && found.library.join("libllama.so").exists()
            && found.binding.join("llama_cpp").is_dir();
        if !complete {
            println!(
                "skipped: llama.cpp is not built at {} (`cargo xtask bench engine` builds it)",
                folder.display()
            );
        }
        complete.then_some(found)
    }

    /// Its answers, in the order of the jobs.
    pub(crate) fn ask(&self, jobs: &[Job]) -> Vec<Said> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jobs.json");
        std::fs::write(&path, serde_json::to_string(jobs).unwrap()).unwrap();
        let output = Command::new(&self.python)
            .arg(folder().join("reference.py"))
            .arg(&path)
            .env("LLAMA_CPP_LIB_PATH", &self.library)
            .env("PYTHONPATH", &self.binding)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let said: Vec<Said> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(said.len(), jobs.len());
        said
    }
}
