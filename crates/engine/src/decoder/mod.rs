//! The one decoder: RMSNorm, attention with rotary embedding and grouped heads, gated feed-forward; over a flat batch of
//! rows that belong to any number of sequences, whose states are the caller's.
//!
//! It says what is computed in which order; a [`Backend`] computes it. On the [`Cpu`](crate::backend::Cpu) everything is computed row by row in
//! a fixed order, so a token's result is the same in a prompt's chunk and alone, beside others or not, on one thread and
//! on many: bit for bit.

mod block;
mod experts;
mod plan;

pub use plan::Plan;

use plan::{PlannedMatrix, PlannedVector};

use std::ops::Range;
use std::sync::Arc;

use crate::backend::{Backend, Here, HerePage, Turns, Weights};
use crate::cache::{PagePool, SequenceState};
use crate::families::{Rope, Shape};
use crate::file::ModelFile;
use crate::{EngineError, LoadProgress, kernels, table};
use block::{Block, Pass};

/// Bytes of weights between two reports of a load.
const REPORT_EVERY: u64 = 16 << 20;

/// A model ready to compute.
#[derive(Debug)]
pub struct Decoder<B: Backend = Here> {
    backend: B,
    shape: Shape,
    /// Whose vocabulary's table is read row by row.
    file: Arc<ModelFile>,
    embedding: usize,
    blocks: Vec<Block<B::Matrix, B::Vector>>,
    norm: B::Vector,
    head: B::Matrix,
    vocabulary: usize,
    /// Angle per position of every rotated pair.
    frequencies: Vec<f64>,
    /// The same in layers with a window.
    local_frequencies: Option<Vec<f64>>,
    /// Positions that the frequencies are right for.
    longest: usize,
}

/// Which rows of logits a span of a step is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// None: the tokens are read.
    Nothing,
    /// That of the last token, to choose the next one by.
    Last,
    /// Those of all tokens from this index of the span's ids on, to score what was chosen.
    From(usize),
    /// No logits: the states of all tokens after the last norm, to embed a text.
    States,
}

/// The part of a step that belongs to one sequence: its next tokens, a chunk of a prompt or a single one.
#[derive(Debug)]
pub struct Span<'a, P = HerePage> {
    /// What was computed of the sequence so far.
    pub state: &'a mut SequenceState<P>,
    /// The ids that follow.
    pub ids: &'a [u32],
    /// The logits that are of use.
    pub wanted: Wanted,
}

/// What comes out of a step.
#[derive(Debug)]
pub enum Step {
    /// All spans are computed. Per span its wanted rows, one after the other: of logits `[rows][vocabulary]`, of states
    /// `[rows][hidden]`.
    Computed(Vec<Vec<f32>>),
    /// The caller said stop; every sequence is as before.
    Interrupted,
}

impl Decoder {
    /// Loads a model for this build's device: takes every weight over. `context` is the longest sequence that will be computed (models with
    /// LongRoPE compute another one up to their original context than beyond it). `report` hears of the progress in bytes
    /// of the file; an error from it ends the load.
    pub fn new(
        plan: &Plan,
        context: u32,
        report: &mut dyn FnMut(LoadProgress) -> Result<(), EngineError>,
    ) -> Result<Self, EngineError> {
        Self::on(Here::open()?, plan, context, report)
    }
}

impl<B: Backend> Decoder<B> {
    /// The same on any back end.
    pub fn on(
        backend: B,
        plan: &Plan,
        context: u32,
        report: &mut dyn FnMut(LoadProgress) -> Result<(), EngineError>,
    ) -> Result<Self, EngineError> {
        backend.expect(plan.matrix_bytes::<B>()?);
        let loading = std::cell::RefCell::new(Loading::new(&backend, plan, report));
        let matrix = |planned: &PlannedMatrix| loading.borrow_mut().matrix(planned);
        let vector = |planned: &PlannedVector| {
            let values = loading.borrow().vector(planned)?;
            backend.vector(values)
        };
        let shape = plan.shape.clone();
        let original = shape.rope.original_context;
        let divisors = match (&plan.divisors.always, &plan.divisors.by_context) {
            (Some(always), _) => Some(loading.borrow().vector(always)?),
            (None, Some((short, long))) => {
                let which = if context > original { long } else { short };
                Some(loading.borrow().vector(which)?)
            }
            (None, None) => None,
        };
        let longest = match plan.divisors.by_context {
            Some(_) if context <= original => original as usize,
            Some(_) | None => usize::MAX,
        };
        let frequencies = shape.rope.frequencies(divisors.as_deref());
        let local = shape.local.as_ref();
        let blocks = plan.blocks.iter().map(|block| block.load(matrix, vector));
        let decoder = Self {
            blocks: blocks.collect::<Result<_, _>>()?,
            norm: vector(&plan.norm)?,
            head: matrix(&plan.head)?,
            vocabulary: plan.head.rows.len(),
            local_frequencies: local.map(|local| match local.rope == shape.rope {
                true => frequencies.clone(),
                false => local.rope.frequencies(None),
            }),
            frequencies,
            longest,
            file: plan.file.clone(),
            embedding: plan.embedding,
            shape,
            backend: backend.clone(),
        };
        plan.file.loaded();
        loading.into_inner().finish()?;
        Ok(decoder)
    }

    /// The model's shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Rows of the vocabulary's table: ids below it can be computed with.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// A pool of pages for its sequences, of at most that many bytes.
    pub fn pool(&self, bytes: u64) -> PagePool<B::Page> {
        PagePool::of(&self.shape, bytes, |reach| {
            self.backend.pages(&self.shape, reach)
        })
    }

    /// Tokens of the longest sequence that it can compute: less than any number for models that must know it at load.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Computes the next ids of any number of sequences at once: every linear layer runs once over all rows. What a row
    /// gives does not depend on the others. `interrupted` is asked between the layers of a step of several rows.
    pub fn step(
        &self,
        pool: &mut PagePool<B::Page>,
        spans: &mut [Span<'_, B::Page>],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Step, EngineError> {
        let mut ids = spans.iter().flat_map(|span| span.ids);
        if let Some(&id) = ids.find(|&&id| id as usize >= self.vocabulary) {
            return Err(EngineError::TokenOutside {
                id,
                vocabulary: self.vocabulary as u32,
            });
        }
        let longest = spans.iter().map(|span| span.state.len() + span.ids.len());
        if let Some(prompt) = longest.max().filter(|&longest| longest > self.longest) {
            return Err(EngineError::ContextTooLong {
                prompt: u32::try_from(prompt).unwrap_or(u32::MAX),
                limit: u32::try_from(self.longest).unwrap_or(u32::MAX),
                model: self.file.name(),
            });
        }
        let reserved = spans
            .iter_mut()
            .try_for_each(|span| pool.reserve(span.state, span.ids.len()));
        let step = reserved.and_then(|()| self.compute(spans, interrupted));
        for span in spans {
            match &step {
                Ok(Step::Computed(_)) => {
                    span.state.advance(span.ids.len());
                    span.state.leave(pool);
                }
                Ok(Step::Interrupted) | Err(_) => {
                    let len = span.state.len();
                    span.state.truncate(pool, len);
                }
            }
        }
        step
    }

    fn compute(
        &self,
        spans: &mut [Span<'_, B::Page>],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Step, EngineError> {
        let backend = &self.backend;
        let rows: usize = spans.iter().map(|span| span.ids.len()).sum();
        let wanted = wanted_rows(spans);
        if rows == 0 {
            return Ok(Step::Computed(vec![Vec::new(); spans.len()]));
        }
        let turns = |rope: &Rope, frequencies: &[f64]| {
            backend.turns(Turns::new(rope, frequencies, self.shape.head_width, spans))
        };
        let pass = Pass {
            backend,
            shape: &self.shape,
            turns: turns(&self.shape.rope, &self.frequencies)?,
            local_turns: match (&self.shape.local, &self.local_frequencies) {
                (Some(local), Some(frequencies)) => Some(turns(&local.rope, frequencies)?),
                (Some(_) | None, _) => None,
            },
        };
        let mut stream = backend.upload(self.embed(spans)?, self.shape.hidden)?;
        let mut pending = None;
        for (layer, block) in self.blocks.iter().enumerate() {
            if rows > 1 && interrupted() {
                return Ok(Step::Interrupted);
            }
            pending = pass.block(layer, block, &mut stream, pending, spans)?;
        }
        if wanted.iter().all(Range::is_empty) {
            return Ok(Step::Computed(vec![Vec::new(); spans.len()]));
        }
        let epsilon = self.shape.rms_epsilon;
        let normed = backend.add_norm(&mut stream, pending, &self.norm, epsilon)?;
        let mut split = vec![Vec::new(); spans.len()];
        for states in [false, true] {
            // Where its rows lie among the wanted ones of all spans.
            let mut rows = Vec::new();
            let mut end = 0;
            for (span, wanted) in spans.iter().zip(&wanted) {
                let start = end;
                end += wanted.len();
                if (span.wanted == Wanted::States) == states {
                    rows.extend(start..end);
                }
            }
            if rows.is_empty() {
                continue;
            }
            let picked = backend.gather(&normed, &rows)?;
            let (mut values, width) = match states {
                true => (backend.download(picked)?, self.shape.hidden),
                false => {
                    let [logits] = backend.project(&picked, [&self.head])?;
                    (backend.download(logits)?, self.vocabulary)
                }
            };
            for ((span, wanted), split) in spans.iter().zip(&wanted).zip(&mut split).rev() {
                if (span.wanted == Wanted::States) == states {
                    *split = values.split_off(values.len() - wanted.len() * width);
                }
            }
        }
        Ok(Step::Computed(split))
    }

    /// Rows of the vocabulary's table: `[rows][hidden]`.
    fn embed(&self, spans: &[Span<'_, B::Page>]) -> Result<Vec<f32>, EngineError> {
        let entry = &self.file.header().tensors[self.embedding];
        let ids = spans.iter().flat_map(|span| span.ids);
        let rows: usize = spans.iter().map(|span| span.ids.len()).sum();
        let mut out = vec![0.0f32; rows * self.shape.hidden];
        for (row, &id) in out.chunks_exact_mut(self.shape.hidden).zip(ids) {
            table::look_up(&self.file, entry, id, row)?;
            if self.shape.embedding_scale != 1.0 {
                row.iter_mut()
                    .for_each(|value| *value *= self.shape.embedding_scale);
            }
        }
        Ok(out)
    }
}

/// Rows of a flat batch whose logits are wanted, per span.
fn wanted_rows<P>(spans: &[Span<'_, P>]) -> Vec<Range<usize>> {
    let mut end = 0;
    let rows = |span: &Span<'_, P>| {
        let start = end;
        end += span.ids.len();
        match span.wanted {
            Wanted::Nothing => end..end,
            Wanted::Last => end.saturating_sub(1).max(start)..end,
            Wanted::From(index) => start.saturating_add(index).min(end)..end,
            Wanted::States => start..end,
        }
    };
    spans.iter().map(rows).collect()
}

/// Makes planned weights into a back end's own.
struct Loading<'l, B> {
    backend: &'l B,
    plan: &'l Plan,
    report: &'l mut dyn FnMut(LoadProgress) -> Result<(), EngineError>,
    progress: LoadProgress,
    reported: u64,
}

impl<'l, B: Backend> Loading<'l, B> {
    fn new(
        backend: &'l B,
        plan: &'l Plan,
        report: &'l mut dyn FnMut(LoadProgress) -> Result<(), EngineError>,
    ) -> Self {
        let tensors = plan.file.header().tensors.iter();
        let total = tensors.filter_map(|entry| entry.bytes()).sum();
        Self {
            backend,
            plan,
            report,
            progress: LoadProgress { done: 0, total },
            reported: 0,
        }
    }

    fn matrix(&mut self, planned: &PlannedMatrix) -> Result<B::Matrix, EngineError> {
        let file = &self.plan.file;
        let entry = &file.header().tensors[planned.tensor];
        let range = planned.bytes(entry);
        let bytes = file.tensor_bytes(entry)?.get(range.clone());
        let bias = planned.bias.as_ref();
        let weights = Weights {
            kind: entry.kind,
            bytes: bytes.unwrap_or_default(),
            outputs: planned.rows.len(),
            inputs: planned.inputs,
            name: &entry.name,
            taken: &|part| file.used(entry, range.start + part.start..range.start + part.end),
        };
        let bias = bias.map(|bias| self.vector(bias)).transpose()?;
        let matrix = self.backend.matrix(&weights, bias)?;
        file.used(entry, range.clone());
        self.progress.done += range.len() as u64;
        if self.progress.done >= self.reported + REPORT_EVERY {
            self.reported = self.progress.done;
            (self.report)(self.progress)?;
        }
        Ok(matrix)
    }

    fn finish(self) -> Result<(), EngineError> {
        let total = self.progress.total;
        (self.report)(LoadProgress { done: total, total })
    }

    fn vector(&self, planned: &PlannedVector) -> Result<Vec<f32>, EngineError> {
        let entry = &self.plan.file.header().tensors[planned.tensor];
        let mut values = vec![0.0; planned.length];
        let bytes = self.plan.file.tensor_bytes(entry)?;
        kernels::row(entry.kind, bytes, 0, &mut values).map_err(compute)?;
        Ok(values)
    }
}

/// An error of the kernels.
pub(crate) fn compute(error: impl std::fmt::Display) -> EngineError {
    EngineError::Compute {
        detail: error.to_string(),
    }
}
