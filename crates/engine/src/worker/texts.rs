//! The text thread: headers, prompts and detokenizing, for which no weights are needed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::outbox::Outbox;
use super::{crash, lock};
use crate::file::ModelFile;
use crate::request::{MAX_STOP, MAX_STOP_BYTES};
use crate::text::{Detokenizer, TextModel};
use crate::wire::{Ask, Say};
use crate::{EngineError, TextPiece};

/// Headers that stay open. A vocabulary takes some 30 MB; more than a chat's model, a served one and a peer's or two are
/// seldom in use at once.
const MAX_OPEN: usize = 4;

/// A call for the text thread.
#[derive(Debug)]
pub(super) struct TextCall {
    pub(super) call: u64,
    pub(super) ask: Ask,
}

/// Opened headers, shared with the compute thread.
#[derive(Debug, Default)]
pub(super) struct TextModels {
    /// The one used last comes last.
    open: Mutex<Vec<Opened>>,
}

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    stamp: Stamp,
    model: Arc<TextModel>,
}

/// What changes when a file is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    /// The stamp of a file; of a file that cannot be asked, one that opening it will explain.
    pub(super) fn of(path: &Path) -> Self {
        let metadata = std::fs::metadata(path).ok();
        Self {
            len: metadata.as_ref().map_or(0, |metadata| metadata.len()),
            modified: metadata.and_then(|metadata| metadata.modified().ok()),
        }
    }
}

impl TextModels {
    pub(super) fn get(&self, path: &Path) -> Result<Arc<TextModel>, EngineError> {
        self.read(path).map(|(model, _)| model)
    }

    /// The same with the file, for whoever needs both: its header is read once.
    pub(super) fn with_file(
        &self,
        path: &Path,
    ) -> Result<(Arc<TextModel>, Arc<ModelFile>), EngineError> {
        let (model, file) = self.read(path)?;
        let file = match file {
            Some(file) => file,
            None => ModelFile::open(path)?,
        };
        Ok((model, Arc::new(file)))
    }

    /// A model, and its file where that was opened for it.
    fn read(&self, path: &Path) -> Result<(Arc<TextModel>, Option<ModelFile>), EngineError> {
        let stamp = Stamp::of(path);
        let mut open = lock(&self.open);
        if let Some(at) = open
            .iter()
            .position(|opened| opened.path == path && opened.stamp == stamp)
        {
            let opened = open.remove(at);
            let model = opened.model.clone();
            open.push(opened);
            return Ok((model, None));
        }
        let file = ModelFile::open(path)?;
        let model = Arc::new(TextModel::of(&file)?);
        open.retain(|opened| opened.path != path);
        if open.len() >= MAX_OPEN {
            open.remove(0);
        }
        open.push(Opened {
            path: path.to_owned(),
            stamp,
            model: model.clone(),
        });
        Ok((model, Some(file)))
    }
}

/// The text thread's state.
#[derive(Debug)]
pub(super) struct Texts {
    models: Arc<TextModels>,
    outbox: Arc<Outbox>,
    /// Open detokenizers, by the call that opened them.
    streams: BTreeMap<u64, Detokenizer>,
}

impl Texts {
    pub(super) fn new(models: Arc<TextModels>, outbox: Arc<Outbox>) -> Self {
        Self {
            models,
            outbox,
            streams: BTreeMap::new(),
        }
    }

    pub(super) fn run(mut self, calls: &Receiver<TextCall>) {
        crash::phase("text");
        for TextCall { call, ask } in calls {
            if let Some(answer) = self.answer(call, ask) {
                self.outbox.answer(call, answer);
            }
        }
    }

    fn answer(&mut self, call: u64, ask: Ask) -> Option<Result<Say, EngineError>> {
        match ask {
            Ask::OpenText { file } => Some(
                self.models
                    .get(&file)
                    .map(|model| Say::Text(model.info().clone())),
            ),
            Ask::Render { file, prompt } => {
                let ids = self
                    .models
                    .get(&file)
                    .and_then(|model| model.render(&prompt, &file));
                Some(ids.map(Say::Ids))
            }
            Ask::StreamOpen { file, stop, seen } => Some(self.open(call, &file, stop, &seen)),
            Ask::StreamPush { stream, ids, last } => Some(self.push(stream, &ids, last)),
            Ask::StreamClose { stream } => {
                self.streams.remove(&stream);
                None
            }
            // The reader sends nothing else here.
            Ask::Configure { .. }
            | Ask::Share(_)
            | Ask::Load { .. }
            | Ask::Generate { .. }
            | Ask::Score { .. }
            | Ask::Embed { .. }
            | Ask::Benchmark { .. }
            | Ask::Know { .. }
            | Ask::Prefix(_)
            | Ask::Cancel { .. }
            | Ask::Pause { .. }
            | Ask::Resume { .. } => None,
        }
    }

    fn open(
        &mut self,
        call: u64,
        file: &Path,
        stop: Vec<String>,
        seen: &[u32],
    ) -> Result<Say, EngineError> {
        if stop.len() > MAX_STOP || stop.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
            return Err(EngineError::BadRequest {
                what: format!(
                    "stop strings: at most {MAX_STOP}, each of at most {MAX_STOP_BYTES} bytes"
                ),
            });
        }
        let mut detokenizer = self.models.get(file)?.detokenizer(stop);
        // Its text was told before.
        detokenizer.push(seen);
        self.streams.insert(call, detokenizer);
        Ok(Say::Piece(TextPiece::default()))
    }

    fn push(&mut self, stream: u64, ids: &[u32], last: bool) -> Result<Say, EngineError> {
        let detokenizer = self
            .streams
            .get_mut(&stream)
            .ok_or_else(|| EngineError::BadRequest {
                what: format!("there is no text stream {stream}"),
            })?;
        let mut piece = detokenizer.push(ids);
        if last {
            let rest = detokenizer.finish();
            piece.text.push_str(&rest.text);
            self.streams.remove(&stream);
        }
        Ok(Say::Piece(piece))
    }
}
