//! Folders, a catalogue and a server for the list, and a header reader that needs no engine.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use engine::{EngineError, FileProblem, TextInfo};
use futures::future::BoxFuture;

use super::{
    downloads::{limits, sha},
    server::Server,
};
use crate::models::{HeaderReader, ModelRow, ModelState, Models, ModelsOptions};

/// Says of every file that begins as a GGUF that it runs; the fifth byte can say otherwise.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) opened: AtomicUsize,
}

impl HeaderReader for Reader {
    fn set_readable(&self, _paths: Vec<PathBuf>) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn open_text<'a>(&'a self, file: &'a Path) -> BoxFuture<'a, Result<TextInfo, EngineError>> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(header(file)))
    }
}

fn header(file: &Path) -> Result<TextInfo, EngineError> {
    let bytes = std::fs::read(file).unwrap_or_default();
    if !bytes.starts_with(b"GGUF") {
        return Err(EngineError::BadFile {
            file: file.to_owned(),
            problem: FileProblem::NotGguf,
        });
    }
    if bytes.starts_with(b"GGUFmamba") {
        return Err(EngineError::UnsupportedArchitecture {
            architecture: "mamba".into(),
            model: "M".into(),
        });
    }
    Ok(TextInfo {
        architecture: "llama".into(),
        runs_here: true,
        embeds_only: false,
        name: "Tiny".into(),
        vocab_size: 4,
        context_train: 2048,
        has_template: true,
        eog_ids: vec![2],
        head_len: 4,
        head_sha256: sha(b"GGUF").0,
        parameters: 12_000_000,
        quant: "Q4_0".into(),
        kv_bytes_per_token: 1024,
        weights_bytes: bytes.len() as u64,
        load_bytes: bytes.len() as u64,
        has_weights: true,
    })
}

pub(super) struct Trial {
    pub(super) root: tempfile::TempDir,
    pub(super) server: Server,
    pub(super) reader: Arc<Reader>,
}

impl Trial {
    pub(super) async fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            server: Server::start().await,
            reader: Arc::default(),
        }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub(super) fn bundle(&self) -> PathBuf {
        self.root.path().join("bundle")
    }

    /// A catalogue of rows `(id, address, digest, serve_for_pay)`.
    pub(super) fn catalogue(&self, rows: &[(&str, &str, Option<&[u8]>, &str)]) {
        let mut text = "version = 1\n".to_owned();
        for (id, url, bytes, serve) in rows {
            text.push_str(&format!(
                "[[model]]\nid = \"{id}\"\nname = \"Model {id}\"\nfamily = \"Llama\"\narchitecture = \"llama\"\nparameters = \"1B\"\n\
                 file = \"{id}.gguf\"\nquant = \"Q4_0\"\nlicence = \"L\"\nserve_for_pay = \"{serve}\"\nserve_for_pay_reason = \"because\"\n\
                 about = \"x\"\nsources = [\"{url}\"]\ncited = [\"https://example.org\"]\n"
            ));
            if let Some(bytes) = bytes {
                text.push_str(&format!(
                    "sha256 = \"{}\"\nsize = {}\n",
                    sha(bytes),
                    bytes.len()
                ));
            }
        }
        std::fs::create_dir_all(self.data()).unwrap();
        std::fs::write(self.data().join("catalog.toml"), text).unwrap();
    }

    pub(super) async fn open(&self) -> Models {
        self.open_with(vec![self.bundle()]).await
    }

    /// With these folders beside the data folder's own.
    pub(super) async fn open_with(&self, dirs: Vec<PathBuf>) -> Models {
        let options = ModelsOptions {
            data: self.data(),
            dirs,
            proxy: Some(String::new()),
            default_model: None,
        };
        let models = Models::open_with(options, self.reader.clone(), Some(limits()))
            .await
            .unwrap();
        models.settled().await;
        models
    }

    pub(super) fn models(&self) -> PathBuf {
        self.data().join("models")
    }
}

pub(super) async fn until(
    models: &Models,
    id: &str,
    there: impl Fn(&ModelState) -> bool,
) -> ModelRow {
    let mut view = models.view();
    let row = |view: &crate::models::ModelsView| view.rows.iter().find(|row| row.id == id).cloned();
    let seen = view
        .wait_for(|view| row(view).is_some_and(|row| there(&row.state)))
        .await
        .unwrap();
    row(&seen).unwrap()
}

pub(super) fn is_ready(state: &ModelState) -> bool {
    matches!(state, ModelState::Ready { .. })
}

pub(super) fn row_of(models: &Models, id: &str) -> ModelRow {
    models
        .view()
        .borrow()
        .rows
        .iter()
        .find(|row| row.id == id)
        .cloned()
        .unwrap()
}
