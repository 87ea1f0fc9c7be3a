//! A model in memory, and what memory it leaves for answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::texts::{Stamp, TextModels};
use crate::cache::{self, PagePool};
use crate::decoder::Decoder;
use crate::families::resident_bytes;
use crate::file::ModelFile;
use crate::text::TextModel;
use crate::{EngineError, LoadProgress, ModelInfo};

/// Context of a load that names none, in tokens: what a chat needs, at a price that most machines can pay.
const DEFAULT_CONTEXT: u32 = 8192;

/// The least context worth loading a model for.
const LEAST_CONTEXT: u32 = 512;

/// Bytes read ahead between two progress reports.
const REPORT_EVERY: usize = 16 << 20;

/// Distance of two reads that bring every page in.
const PAGE_BYTES: usize = 4096;

/// A loaded model.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) path: PathBuf,
    stamp: Stamp,
    pub(super) text: Arc<TextModel>,
    pub(super) decoder: Decoder,
    pub(super) info: ModelInfo,
    /// Pages of all sequences.
    pub(super) pool: PagePool,
    /// Bytes that all pages together may take.
    pub(super) cache_budget: u64,
}

/// Memory that a load may count on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes free on the machine.
    pub(super) available: u64,
    /// The owner's limit.
    pub(super) cap: Option<u64>,
}

impl Room {
    fn bytes(self) -> u64 {
        self.available.min(self.cap.unwrap_or(u64::MAX))
    }
}

impl Loaded {
    pub(super) fn open(
        path: &Path,
        context: Option<u32>,
        room: Room,
        texts: &TextModels,
        report: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, EngineError> {
        let begun = Instant::now();
        let stamp = Stamp::of(path);
        let text = texts.get(path)?;
        let file = Arc::new(ModelFile::open(path)?);
        if !file.has_weights() {
            return Err(EngineError::NoWeights {
                file: path.to_owned(),
            });
        }
        let decoder = Decoder::new(&file)?;
        let weights = resident_bytes(file.header());
        let (context, cache_budget) = admit(&decoder, weights, context, room)?;
        read_ahead(&file, report);
        Ok(Self {
            path: path.to_owned(),
            stamp,
            info: ModelInfo {
                text: text.info().clone(),
                context,
                memory_bytes: weights,
                load_ms: begun.elapsed().as_millis() as u64,
            },
            text,
            pool: PagePool::new(decoder.shape(), cache_budget),
            decoder,
            cache_budget,
        })
    }

    /// Whether this is still that file.
    pub(super) fn is(&self, path: &Path) -> bool {
        self.path == path && self.stamp == Stamp::of(path)
    }

    /// Widens the context of a load that is asked for again. Caches belong to sequences, so nothing is loaded anew.
    pub(super) fn widen(&mut self, context: Option<u32>, room: Room) -> Result<(), EngineError> {
        if let Some(wanted) = context.filter(|&wanted| wanted > self.info.context) {
            // What is loaded already is no longer among what is free.
            let room = Room {
                available: room.available.saturating_add(self.info.memory_bytes),
                ..room
            };
            (self.info.context, self.cache_budget) =
                admit(&self.decoder, self.info.memory_bytes, Some(wanted), room)?;
            self.pool.set_bytes(self.cache_budget);
        }
        Ok(())
    }
}

/// The context that fits and the bytes left for caches; an error when a named context, or the least useful one, does not.
fn admit(
    decoder: &Decoder,
    weights: u64,
    context: Option<u32>,
    room: Room,
) -> Result<(u32, u64), EngineError> {
    let shape = decoder.shape();
    let have = room.bytes();
    let fixed = weights.saturating_add(shape.scratch_bytes());
    let need = |context: u32| fixed.saturating_add(cache::bytes(shape, context));
    let trained = shape.context_train;
    let (least, most) = match context {
        Some(wanted) => (wanted.clamp(1, trained), wanted.clamp(1, trained)),
        None => (LEAST_CONTEXT.min(trained), DEFAULT_CONTEXT.min(trained)),
    };
    if need(least) > have {
        return Err(EngineError::NotEnoughMemory {
            need: need(least),
            have,
        });
    }
    let mut fits = most;
    while need(fits) > have {
        fits = (fits / 2).max(least);
    }
    Ok((fits, have - fixed))
}

/// Brings the file's pages into memory, so that the first answer does not wait for the disk, and the load can be watched.
fn read_ahead(file: &ModelFile, report: &mut dyn FnMut(LoadProgress)) {
    let bytes = file.data();
    let total = bytes.len() as u64;
    report(LoadProgress { done: 0, total });
    let mut done = 0;
    for chunk in bytes.chunks(REPORT_EVERY) {
        let touched: u8 = chunk
            .iter()
            .step_by(PAGE_BYTES)
            .fold(0, |sum, byte| sum ^ byte);
        std::hint::black_box(touched);
        done += chunk.len() as u64;
        report(LoadProgress { done, total });
    }
}
