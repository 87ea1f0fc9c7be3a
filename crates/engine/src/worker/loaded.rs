//! A model in memory, and what memory it leaves for answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::draft::Pace;
use super::need::{LEAST_CONTEXT, Need};
use super::sequence::Identity;
use super::texts::Stamp;
use super::weights::{Planned, Weights};
use crate::cache::{Asker, Cached, PagePool, SequenceState, Sizes};
use crate::decoder::Decoder;
use crate::grammar::Grammars;
use crate::pooling::Pooling;
use crate::text::TextModel;
use crate::{EngineError, KnownPrefix, LoadProgress, ModelInfo, PrefixRequest};

/// Known prefixes of all strangers together keep this part of a context: a few short chats. It is the owner's memory.
const CACHED_FOR_OTHERS: u64 = 4;

/// A loaded model.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Its number, never used again.
    pub(super) id: u64,
    pub(super) path: PathBuf,
    stamp: Stamp,
    pub(super) text: Arc<TextModel>,
    pub(super) weights: Weights,
    pub(super) info: ModelInfo,
    /// How the states of a text become a vector.
    pub(super) pooling: Pooling,
    /// Compiles constraints over its vocabulary; made when the first comes.
    grammars: Option<Grammars>,
    /// What steps of one sequence take.
    pub(super) pace: Pace,
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
        plan: &Planned,
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
        let weights = Weights::load(plan, context, pages, &mut |progress| {
            gave_up = !report(progress);
            match gave_up {
                true => Err(EngineError::Cancelled),
                false => Ok(()),
            }
        });
        if gave_up {
            return Ok(None);
        }
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
            pooling: plan.pooling(),
            text,
            grammars: None,
            weights: weights?,
            pace: Pace::default(),
            fixed: need.fixed_bytes(),
            used: 0,
        };
        loaded.bound_prefixes();
        Ok(Some(loaded))
    }

    /// Known prefixes of the owner's keep a full context, so that the next turn of the longest chat finds all of it. More
    /// would be old chats, and memory that never comes back.
    fn bound_prefixes(&mut self) {
        let own = self.sizes().bytes(self.info.context);
        let least = self.sizes().bytes(LEAST_CONTEXT).min(own);
        let others = (own / CACHED_FOR_OTHERS).max(least);
        if let Some(pool) = self.weights.pool_mut() {
            pool.set_cached(Cached { own, others });
        }
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
        let Weights::Decoder { decoder, pool } = &mut self.weights else {
            return Ok(());
        };
        let longest = u32::try_from(decoder.longest()).unwrap_or(u32::MAX);
        let wanted = context.map(|wanted| wanted.min(longest));
        let Some(wanted) = wanted.filter(|&wanted| wanted > self.info.context) else {
            return Ok(());
        };
        let need = Need::with_fixed(self.fixed, decoder.shape(), Some(wanted));
        let now = pool.capacity();
        let have = (self.fixed + now).saturating_add(free);
        let (context, pages) = need.fit(have).ok_or_else(|| EngineError::NotEnoughMemory {
            need: need.least_bytes(),
            have,
        })?;
        self.info.context = context;
        pool.set_bytes(pages.max(now));
        self.bound_prefixes();
        Ok(())
    }

    /// What computes its tokens, and their pages. An error for a model that only embeds.
    pub(super) fn decoding(&mut self) -> Result<(&Decoder, &mut PagePool), EngineError> {
        match &mut self.weights {
            Weights::Decoder { decoder, pool } => Ok((decoder, pool)),
            Weights::Encoder(_) => Err(EngineError::OnlyEmbeds {
                model: self.info.text.name.clone(),
            }),
        }
    }

    /// Bytes that it may take in all.
    pub(super) fn may_take(&self) -> u64 {
        self.fixed + self.capacity()
    }

    /// Bytes of that which were not taken yet.
    pub(super) fn not_taken(&self) -> u64 {
        self.weights.pool().map_or(0, PagePool::untouched)
    }

    /// Bytes of pages in all; none where sequences need none.
    pub(super) fn capacity(&self) -> u64 {
        self.weights.pool().map_or(0, PagePool::capacity)
    }

    /// Pages that sequences hold, those of all layers counted as one.
    pub(super) fn pages_in_use(&self) -> u64 {
        let used = |pool: &PagePool| {
            let bytes = pool.capacity().saturating_sub(pool.free());
            bytes.div_ceil(pool.page_bytes().max(1))
        };
        self.weights.pool().map_or(0, used)
    }

    /// Bytes of pages that a sequence of so many tokens is promised.
    pub(super) fn promise(&self, tokens: u32) -> u64 {
        self.sizes().promise(tokens)
    }

    /// What of a sequence its asker computed before.
    pub(super) fn adopt(&mut self, asker: &Asker, ids: &[u32]) -> SequenceState {
        let pool = self.weights.pool_mut();
        pool.map_or_else(SequenceState::default, |pool| pool.adopt(asker, ids))
    }

    /// What is known of a beginning that its asker computed before.
    pub(super) fn known(&self, request: &PrefixRequest) -> Option<KnownPrefix> {
        let asker = Identity::of(&request.asker).key;
        let hasher = blake3::Hasher::new_derive_key(&request.context);
        let pool = self.weights.pool()?;
        pool.known(&asker, &request.prefixes, &hasher)
    }

    /// Ends a sequence; what it computed stays findable for its asker as long as there is room.
    pub(super) fn retire(&mut self, asker: &Asker, ids: &[u32], state: SequenceState) {
        if let Some(pool) = self.weights.pool_mut() {
            pool.retire(asker, ids, state);
        }
    }

    /// Makes a prompt findable whose answer moves its window on, so that another answer to it need not read it again.
    pub(super) fn remember(&mut self, asker: &Asker, ids: &[u32], state: &SequenceState) {
        if let Weights::Decoder { decoder, pool } = &mut self.weights
            && decoder.shape().local.is_some()
        {
            pool.publish(asker, ids, state);
        }
    }

    /// Forgets what was computed of a sequence from `len` on.
    pub(super) fn truncate(&mut self, state: &mut SequenceState, len: usize) {
        if let Some(pool) = self.weights.pool_mut() {
            state.truncate(pool, len);
        }
    }

    /// Ends a sequence that nobody will continue.
    pub(super) fn release(&mut self, state: SequenceState) {
        if let Some(pool) = self.weights.pool_mut() {
            pool.release(state);
        }
    }

    /// What its pages take; nothing where sequences need none.
    fn sizes(&self) -> Sizes {
        match &self.weights {
            Weights::Decoder { decoder, .. } => Sizes::of(decoder.shape()),
            Weights::Encoder(_) => Sizes::default(),
        }
    }
}
