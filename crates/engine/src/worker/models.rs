//! The models in memory.

use std::path::Path;

use super::loaded::Loaded;
use super::need::Need;
use super::residency::{self, Held, Verdict};
use super::sequence::Sequence;
use super::texts::TextModels;
use super::weights::Planned;
use crate::backend::{Backend as _, Here};
use crate::{Class, EngineError, FileProblem, LoadProgress, TextInfo};

/// How a wish for a model went.
#[derive(Debug)]
pub(super) enum Got {
    /// It is loaded; its number, and whether it was before.
    Loaded { id: u64, before: bool },
    /// It can be loaded once answers that run now have ended.
    Wait,
    /// Its load was given up for the owner's work; it is to be asked for again.
    GaveUp,
}

/// The models in memory, and what memory they may take.
#[derive(Debug)]
pub(super) struct Models {
    loaded: Vec<Loaded>,
    /// The owner's limit.
    cap: Option<u64>,
    /// Numbers given so far.
    count: u64,
    /// Uses counted so far.
    uses: u64,
    /// The one that the owner's work used last.
    latest_own: Option<u64>,
}

impl Models {
    pub(super) fn new(cap: Option<u64>) -> Self {
        Self {
            loaded: Vec::new(),
            cap,
            count: 0,
            uses: 0,
            latest_own: None,
        }
    }

    pub(super) fn get(&self, id: u64) -> Option<&Loaded> {
        self.loaded.iter().find(|model| model.id == id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Loaded> {
        self.loaded.iter_mut().find(|model| model.id == id)
    }

    /// The model that was used last.
    pub(super) fn latest(&self) -> Option<&Loaded> {
        self.loaded.iter().max_by_key(|model| model.used)
    }

    /// Pages that sequences hold, over all models.
    pub(super) fn pages_in_use(&self) -> u64 {
        self.loaded.iter().map(Loaded::pages_in_use).sum()
    }

    /// The number of a file's model, if it is loaded.
    pub(super) fn find(&self, path: &Path) -> Option<u64> {
        let model = self.loaded.iter().find(|model| model.is(path));
        model.map(|model| model.id)
    }

    /// The loaded model of a file, loaded first if need be and if it may. What has to go for it is unloaded, its sequences
    /// handed to `displaced`. `report` hears how far it is and says whether to go on.
    pub(super) fn open(
        &mut self,
        wish: &Wish<'_>,
        sequences: &[Sequence],
        texts: &TextModels,
        unload: &mut dyn FnMut(u64),
        report: &mut dyn FnMut(LoadProgress) -> bool,
    ) -> Result<Got, EngineError> {
        // A file that was replaced is another model.
        let replaced = |model: &Loaded| model.path == wish.path && !model.is(wish.path);
        let busy = |id: u64| sequences.iter().any(|sequence| sequence.model == id);
        self.loaded
            .retain(|model| !replaced(model) || busy(model.id));
        if let Some(id) = self.find(wish.path) {
            let free = self.free(wish.available);
            if let Some(model) = self.get_mut(id) {
                if wish.produces {
                    model.decoding()?;
                }
                model.widen(wish.context, free)?;
            }
            self.note_use(id, wish.class);
            return Ok(Got::Loaded { id, before: true });
        }
        let (text, file) = texts.with_file(wish.path)?;
        if wish.produces {
            text.produces()?;
        }
        let plan = Planned::of(&file)?;
        has_a_row_for_every_piece(&plan, text.info())?;
        let need = Need::of(&plan, wish.context);
        let verdict = |need: u64| {
            let held: Vec<Held> = self
                .loaded
                .iter()
                .map(|model| self.held(model, sequences))
                .collect();
            residency::make_room(need, self.free(wish.available), &held, wish.class)
        };
        let verdict = match verdict(need.most_bytes()) {
            Verdict::TooLarge { .. } => verdict(need.least_bytes()),
            other @ (Verdict::Evict(_) | Verdict::Wait) => other,
        };
        let mut available = wish.available;
        match verdict {
            Verdict::TooLarge { have } => {
                return Err(EngineError::NotEnoughMemory {
                    need: need.least_bytes(),
                    have,
                });
            }
            Verdict::Wait => return Ok(Got::Wait),
            Verdict::Evict(mut evicted) => {
                evicted.sort_unstable();
                for at in evicted.into_iter().rev() {
                    let model = self.loaded.remove(at);
                    available = available.saturating_add(model.may_take() - model.not_taken());
                    unload(model.id);
                }
            }
        }
        self.count += 1;
        let have = self.free(available);
        let loaded = Loaded::open(
            self.count,
            wish.path,
            &plan,
            wish.context,
            have,
            text,
            report,
        )?;
        let Some(loaded) = loaded else {
            return Ok(Got::GaveUp);
        };
        let id = loaded.id;
        self.loaded.push(loaded);
        self.note_use(id, wish.class);
        Ok(Got::Loaded { id, before: false })
    }

    fn note_use(&mut self, id: u64, class: Class) {
        self.uses += 1;
        let uses = self.uses;
        if let Some(model) = self.get_mut(id) {
            model.used = uses;
        }
        if class == Class::Own {
            self.latest_own = Some(id);
        }
    }

    /// Bytes that one more model could take, of those `available` on the machine: what the loaded ones were promised and
    /// have not taken yet is not there for it.
    fn free(&self, available: u64) -> u64 {
        let available = free_here().unwrap_or(available);
        let promised: u64 = self.loaded.iter().map(Loaded::not_taken).sum();
        let taken: u64 = self.loaded.iter().map(Loaded::may_take).sum();
        let under_cap = self.cap.map_or(u64::MAX, |cap| cap.saturating_sub(taken));
        available.saturating_sub(promised).min(under_cap)
    }

    fn held(&self, model: &Loaded, sequences: &[Sequence]) -> Held {
        let mut on_it = sequences
            .iter()
            .filter(|sequence| sequence.model == model.id);
        Held {
            bytes: model.may_take(),
            used: model.used,
            own: on_it.clone().any(|sequence| sequence.class == Class::Own),
            busy: on_it.next().is_some(),
            latest_own: self.latest_own == Some(model.id),
        }
    }
}

/// Every piece of the tokenizer has its row in the table: answers index logits by pieces.
fn has_a_row_for_every_piece(plan: &Planned, text: &TextInfo) -> Result<(), EngineError> {
    let [found, hidden] = plan.table().map(|size| size as u64);
    let due = u64::from(text.vocab_size);
    if found >= due {
        return Ok(());
    }
    Err(plan.file().bad(FileProblem::WrongShape {
        name: "token_embd.weight".to_owned(),
        found: vec![found, hidden],
        expected: vec![due, hidden],
    }))
}

/// What is wanted of a model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) path: &'a Path,
    pub(super) context: Option<u32>,
    pub(super) class: Class,
    /// Tokens are to be produced or judged, which not every model can.
    pub(super) produces: bool,
    /// Bytes free on the machine.
    pub(super) available: u64,
}

/// Bytes free in the memory of the card, where one computes. One that does not tell them is judged by the machine's.
fn free_here() -> Option<u64> {
    Here::open()
        .and_then(|here| here.free_bytes())
        .ok()
        .flatten()
}
