//! A model in memory, and what memory it leaves for answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::texts::{Stamp, TextModels};
use crate::cache::{self, PagePool};
use crate::decoder::{Decoder, Plan};
use crate::families::Shape;
use crate::file::ModelFile;
use crate::text::TextModel;
use crate::{EngineError, LoadProgress, ModelInfo};

/// Context of a load that names none, in tokens: what a chat needs, at a price that most machines can pay.
const DEFAULT_CONTEXT: u32 = 8192;

/// The least context worth loading a model for.
const LEAST_CONTEXT: u32 = 512;

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
        let plan = Plan::of(&file)?;
        let weights = plan.weights_bytes();
        let (context, cache_budget) = admit(plan.shape(), weights, context, room)?;
        let decoder = Decoder::new(&plan, context, &mut |progress| {
            report(progress);
            Ok(())
        })?;
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
            (self.info.context, self.cache_budget) = admit(
                self.decoder.shape(),
                self.info.memory_bytes,
                Some(wanted),
                room,
            )?;
            self.pool.set_bytes(self.cache_budget);
        }
        Ok(())
    }
}

/// The context that fits and the bytes left for caches; an error when a named context, or the least useful one, does not.
fn admit(
    shape: &Shape,
    weights: u64,
    context: Option<u32>,
    room: Room,
) -> Result<(u32, u64), EngineError> {
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
