//! One answer being computed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::loaded::Loaded;
use super::{Control, Controls};
use crate::cache::{self, Asker, SequenceState};
use crate::decoder::{Span, Step, Wanted};
use crate::families::PREFILL_CHUNK;
use crate::sampler::Position;
use crate::scheduler::Candidate;
use crate::text::Detokenizer;
use crate::{Class, EngineError, Finish, GenerateEvent, GenerateRequest, GenerateStats};

/// A running answer.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) call: u64,
    pub(super) request: GenerateRequest,
    pub(super) control: Arc<Control>,
    /// Prompt, resumed output and new output.
    pub(super) ids: Vec<u32>,
    pub(super) state: SequenceState,
    pub(super) reserved: u64,
    /// Tokens of prompt and resumed output.
    given: usize,
    last_step: u64,
    detokenizer: Detokenizer,
    prefill_time: Duration,
    decode_time: Duration,
    /// Tokens of `given` that were in the cache from the start.
    kept: usize,
}

/// What a step of a sequence led to.
#[derive(Debug, PartialEq)]
pub(super) enum Stepped {
    /// More is to come.
    On(GenerateEvent),
    /// The step was given up; it will be computed again.
    Nothing,
    /// That was the last one.
    End(GenerateEvent, Finish),
}

impl Sequence {
    /// Checks a request against the loaded model and reserves its cache out of `budget` bytes.
    pub(super) fn new(
        call: u64,
        request: GenerateRequest,
        control: Arc<Control>,
        model: &mut Loaded,
        budget: u64,
    ) -> Result<Self, EngineError> {
        request.check()?;
        let ids: Vec<u32> = request
            .prompt
            .iter()
            .chain(&request.resume)
            .copied()
            .collect();
        let given = ids.len();
        let limit = model.info.context;
        if given >= limit as usize {
            return Err(EngineError::ContextTooLong {
                prompt: u32::try_from(given).unwrap_or(u32::MAX),
                limit,
                model: model.info.text.name.clone(),
            });
        }
        let vocabulary = model.decoder.vocabulary() as u32;
        if let Some(&id) = ids.iter().find(|&&id| id >= vocabulary) {
            return Err(EngineError::TokenOutside { id, vocabulary });
        }
        let left = request.max_out - u32::try_from(request.resume.len()).unwrap_or(u32::MAX);
        let longest = (given as u32).saturating_add(left).min(limit);
        let reserved = cache::bytes(model.decoder.shape(), longest);
        if reserved > budget {
            return Err(EngineError::NotEnoughMemory {
                need: reserved,
                have: budget,
            });
        }
        let mut detokenizer = model.text.detokenizer(request.stop.clone());
        // Its text was told where it was produced.
        detokenizer.push(&request.resume);
        // Others than the owner could tell from the time taken what was asked before.
        let state = match request.class {
            Class::Own => model.pool.adopt(&Asker::OWNER, &ids),
            Class::Paid | Class::Free | Class::Audit => SequenceState::default(),
        };
        Ok(Self {
            call,
            request,
            control,
            ids,
            reserved,
            given,
            last_step: 0,
            detokenizer,
            prefill_time: Duration::ZERO,
            decode_time: Duration::ZERO,
            kept: state.len(),
            state,
        })
    }

    pub(super) fn candidate(&self) -> Candidate {
        Candidate {
            call: self.call,
            class: self.request.class,
            runnable: !self.control.paused.load(Ordering::Relaxed),
            last_step: self.last_step,
        }
    }

    pub(super) fn cancelled(&self) -> bool {
        self.control.cancelled.load(Ordering::Relaxed)
    }

    /// Computes the next chunk of what is given, or the next token.
    pub(super) fn step(
        &mut self,
        model: &mut Loaded,
        number: u64,
        controls: &Controls,
    ) -> Result<Stepped, EngineError> {
        self.last_step = number;
        let begun = Instant::now();
        let from = self.state.len();
        let to = self.ids.len().min(from + PREFILL_CHUNK as usize);
        let last = to == self.ids.len();
        let prefill = from + 1 < self.given;
        let (control, network) = (&self.control, self.request.class.is_network());
        let interrupted =
            || control.cancelled.load(Ordering::Relaxed) || (network && controls.own_waits());
        let span = Span {
            state: &mut self.state,
            ids: &self.ids[from..to],
            wanted: if last { Wanted::Last } else { Wanted::Nothing },
        };
        let step = model
            .decoder
            .step(&mut model.pool, &mut [span], &interrupted)?;
        let result = match step {
            Step::Interrupted => Ok(Stepped::Nothing),
            Step::Computed(mut rows) => match rows.pop() {
                Some(logits) if last => self.take(logits, model),
                Some(_) | None => Ok(Stepped::On(self.progress())),
            },
        };
        let spent = if prefill || self.ids.len() == self.given + 1 && self.decode_time.is_zero() {
            &mut self.prefill_time
        } else {
            &mut self.decode_time
        };
        *spent += begun.elapsed();
        result
    }

    /// How far the reading of what was given has come.
    pub(super) fn progress(&self) -> GenerateEvent {
        GenerateEvent::Prefill {
            done: self.state.len().min(self.given) as u32,
            total: self.given as u32,
        }
    }

    fn take(&mut self, mut logits: Vec<f32>, model: &Loaded) -> Result<Stepped, EngineError> {
        // Rows of the table beyond the vocabulary are padding.
        logits.truncate(model.text.info().vocab_size as usize);
        let index = (self.ids.len() - self.request.prompt.len()) as u32;
        let position = Position {
            before: &self.ids,
            index,
            sampling: &self.request.sampling,
            mask: None,
        };
        let chosen = position.choose(&logits, self.request.logprobs);
        let chosen = chosen.ok_or(EngineError::BadNumbers { index })?;
        let id = chosen.id;
        self.ids.push(id);
        let eog = !self.request.ignore_eog && model.text.info().eog_ids.binary_search(&id).is_ok();
        let mut piece = self.detokenizer.push(&[id]);
        let finish = if piece.stopped {
            Some(Finish::StopString)
        } else if eog {
            Some(Finish::Stop)
        } else if index + 1 >= self.request.max_out || self.ids.len() >= model.info.context as usize
        {
            Some(Finish::Length)
        } else {
            None
        };
        if finish.is_some() {
            piece.text.push_str(&self.detokenizer.finish().text);
        }
        let tokens = GenerateEvent::Tokens {
            first_index: index,
            ids: vec![id],
            text: piece.text,
            logprobs: chosen.logprobs.into_iter().collect(),
        };
        Ok(match finish {
            Some(finish) => Stepped::End(tokens, finish),
            None => Stepped::On(tokens),
        })
    }

    /// What is to be said when it is cancelled: the text that was held back, then the end.
    pub(super) fn cancel(&mut self) -> (Option<GenerateEvent>, GenerateEvent) {
        let held = self.detokenizer.finish().text;
        let rest = (!held.is_empty()).then(|| GenerateEvent::Tokens {
            first_index: (self.ids.len() - self.request.prompt.len()) as u32,
            ids: Vec::new(),
            text: held,
            logprobs: Vec::new(),
        });
        (rest, self.finished(Finish::Cancelled))
    }

    pub(super) fn finished(&self, finish: Finish) -> GenerateEvent {
        GenerateEvent::Finished {
            finish,
            stats: GenerateStats {
                prefill_tokens: (self.given.min(self.state.len()) - self.kept.min(self.state.len()))
                    as u32,
                prefill_ms: self.prefill_time.as_millis() as u64,
                decode_tokens: (self.ids.len() - self.given) as u32,
                decode_ms: self.decode_time.as_millis() as u64,
            },
        }
    }
}
