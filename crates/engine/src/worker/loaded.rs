//! A model in memory, and what memory it leaves for answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::embedding::Rule;
use super::texts::Stamp;
use crate::cache::{self, Cached, PAGE, PagePool};
use crate::decoder::{Decoder, Plan};
use crate::families::Shape;
use crate::grammar::Grammars;
use crate::scheduler::STEP_ROWS;
use crate::text::TextModel;
use crate::{EngineError, LoadProgress, ModelInfo};

/// Context of a load that names none, in tokens: what a chat needs, at a price that most machines can pay.
const DEFAULT_CONTEXT: u32 = 8192;

/// The least context worth loading a model for.
const LEAST_CONTEXT: u32 = 512;

/// Full contexts that a model's pages hold where there is memory: answers are seldom that long, so this serves more of them
/// than a step has rows, and leaves memory for other models.
const CONTEXTS: u64 = 8;

/// Known prefixes of all strangers together keep this part of a context: a few short chats. It is the owner's memory.
const CACHED_FOR_OTHERS: usize = 4;

/// Rows of an output that are scored in one step: each has a logit for every token of the vocabulary.
pub(super) const SCORE_ROWS: u32 = 64;

/// What a load needs, before a weight is touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// Bytes of weights, scratch and logits.
    fixed: u64,
    /// Bytes of a page.
    page: u64,
    /// The least context that is worth it, in tokens.
    least: u32,
    /// The context that is wanted.
    most: u32,
}

impl Need {
    pub(super) fn of(plan: &Plan, context: Option<u32>) -> Self {
        let rows = (SCORE_ROWS as usize).max(STEP_ROWS);
        let logits = (rows * plan.vocabulary() * size_of::<f32>()) as u64;
        let fixed = plan.weights_bytes() + plan.shape().scratch_bytes() + logits;
        Self::with_fixed(fixed, plan.shape(), context)
    }

    fn with_fixed(fixed: u64, shape: &Shape, context: Option<u32>) -> Self {
        let trained = shape.context_train.max(1);
        let (least, most) = match context {
            Some(wanted) => (wanted.clamp(1, trained), wanted.clamp(1, trained)),
            None => (LEAST_CONTEXT.min(trained), DEFAULT_CONTEXT.min(trained)),
        };
        Self {
            fixed,
            page: cache::bytes(shape, 1),
            least,
            most,
        }
    }

    fn with(self, context: u32) -> u64 {
        // One more for the page that is copied when it was shared and is grown into.
        let pages = u64::from(context).div_ceil(PAGE as u64) + 1;
        self.fixed.saturating_add(self.page.saturating_mul(pages))
    }

    /// Bytes with the context that is wanted.
    pub(super) fn most_bytes(self) -> u64 {
        self.with(self.most)
    }

    /// Bytes with the least context.
    pub(super) fn least_bytes(self) -> u64 {
        self.with(self.least)
    }

    /// The context that fits into so many bytes, and the bytes of pages; `None` when the least does not.
    pub(super) fn fit(self, have: u64) -> Option<(u32, u64)> {
        if self.least_bytes() > have {
            return None;
        }
        let mut context = self.most;
        while self.with(context) > have {
            context = (context / 2).max(self.least);
        }
        let one = self.with(context) - self.fixed;
        Some((
            context,
            (have - self.fixed).min(one.saturating_mul(CONTEXTS)),
        ))
    }
}

/// A loaded model.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Its number, never used again.
    pub(super) id: u64,
    pub(super) path: PathBuf,
    stamp: Stamp,
    pub(super) text: Arc<TextModel>,
    pub(super) decoder: Decoder,
    pub(super) info: ModelInfo,
    /// How it embeds texts.
    pub(super) embed: Rule,
    /// Compiles constraints over its vocabulary; made when the first comes.
    grammars: Option<Grammars>,
    /// Pages of all sequences.
    pub(super) pool: PagePool,
    /// Bytes of weights and scratch.
    fixed: u64,
    /// When it was used last, by the count of uses.
    pub(super) used: u64,
}

impl Loaded {
    /// Loads a planned model into at most `have` bytes. `None` when `report` says to give up.
    pub(super) fn open(
        id: u64,
        path: &Path,
        plan: &Plan,
        context: Option<u32>,
        have: u64,
        text: Arc<TextModel>,
        report: &mut dyn FnMut(LoadProgress) -> bool,
    ) -> Result<Option<Self>, EngineError> {
        let begun = Instant::now();
        let stamp = Stamp::of(path);
        let need = Need::of(plan, context);
        let (context, pages) = need.fit(have).ok_or_else(|| EngineError::NotEnoughMemory {
            need: need.least_bytes(),
            have,
        })?;
        let mut gave_up = false;
        let decoder = Decoder::new(plan, context, &mut |progress| {
            gave_up = !report(progress);
            match gave_up {
                true => Err(EngineError::Cancelled),
                false => Ok(()),
            }
        });
        if gave_up {
            return Ok(None);
        }
        let decoder = decoder?;
        let pool = decoder.pool(pages);
        let mut loaded = Self {
            id,
            path: path.to_owned(),
            stamp,
            info: ModelInfo {
                text: text.info().clone(),
                context,
                memory_bytes: plan.weights_bytes(),
                load_ms: begun.elapsed().as_millis() as u64,
            },
            embed: Rule::of(&plan.file().header().metadata, &text.info().architecture),
            text,
            grammars: None,
            pool,
            decoder,
            fixed: need.fixed,
            used: 0,
        };
        loaded.bound_prefixes();
        Ok(Some(loaded))
    }

    /// Known prefixes of the owner's keep a full context, so that the next turn of the longest chat finds all of it. More
    /// would be old chats, and memory that never comes back.
    fn bound_prefixes(&mut self) {
        let own = self.pages_of(self.info.context);
        let least = self.pages_of(LEAST_CONTEXT).min(own);
        let others = (own / CACHED_FOR_OTHERS).max(least);
        self.pool.set_cached(Cached { own, others });
    }

    /// What compiles constraints for it.
    pub(super) fn grammars(&mut self) -> Result<&Grammars, EngineError> {
        let grammars = match self.grammars.take() {
            Some(grammars) => grammars,
            None => Grammars::new(self.text.tokenizer().vocabulary())?,
        };
        Ok(self.grammars.insert(grammars))
    }

    /// Whether this is still that file.
    pub(super) fn is(&self, path: &Path) -> bool {
        self.path == path && self.stamp == Stamp::of(path)
    }

    /// Widens the context of a load that is asked for again, out of `free` bytes more than it may take already. Pages
    /// belong to sequences, so nothing is loaded anew; where the weights hold for so long a context alone, it is that.
    pub(super) fn widen(&mut self, context: Option<u32>, free: u64) -> Result<(), EngineError> {
        let longest = u32::try_from(self.decoder.longest()).unwrap_or(u32::MAX);
        let wanted = context.map(|wanted| wanted.min(longest));
        let Some(wanted) = wanted.filter(|&wanted| wanted > self.info.context) else {
            return Ok(());
        };
        let need = Need::with_fixed(self.fixed, self.decoder.shape(), Some(wanted));
        let have = self.may_take().saturating_add(free);
        let (context, pages) = need.fit(have).ok_or_else(|| EngineError::NotEnoughMemory {
            need: need.least_bytes(),
            have,
        })?;
        self.info.context = context;
        let now = self.pool.capacity() as u64 * self.pool.page_bytes();
        self.pool.set_bytes(pages.max(now));
        self.bound_prefixes();
        Ok(())
    }

    /// Bytes that it may take in all.
    pub(super) fn may_take(&self) -> u64 {
        self.fixed + self.pool.capacity() as u64 * self.pool.page_bytes()
    }

    /// Bytes of that which were not taken yet.
    pub(super) fn not_taken(&self) -> u64 {
        self.pool.free() as u64 * self.pool.page_bytes()
    }

    /// Pages of a sequence of so many tokens.
    pub(super) fn pages_of(&self, tokens: u32) -> usize {
        let bytes = cache::bytes(self.decoder.shape(), tokens);
        usize::try_from(bytes / self.pool.page_bytes().max(1)).unwrap_or(usize::MAX)
    }
}
