//! One sequence of tokens being computed: an answer, an answer to judge, or texts to embed.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::answer::{Answer, Counts};
use super::controls::Control;
use super::embedding::Embedding;
use super::loaded::Loaded;
use super::scoring::Scoring;
use crate::cache::{Asker as Keyed, SequenceState};
use crate::decoder::{Span, Wanted};
use crate::scheduler::room::Claim;
use crate::scheduler::{Candidate, STEP_TOKENS};
use crate::wire::Say;
use crate::{Asker, Class, EngineError};

/// A sequence on a model.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) call: u64,
    pub(super) class: Class,
    pub(super) asker: Identity,
    pub(super) weight: u16,
    /// The model's number.
    pub(super) model: u64,
    pub(super) control: Arc<Control>,
    /// All tokens so far; those from the state's length on are still to be computed.
    pub(super) ids: Vec<u32>,
    pub(super) state: SequenceState,
    /// The last token and what is drafted to follow it, in a step that verifies a draft.
    pub(super) drafted: Vec<u32>,
    /// Bytes of pages that it was promised.
    pub(super) bytes: u64,
    /// It stands aside: its pages were needed by an earlier class.
    pub(super) aside: bool,
    /// Its constraint is still being compiled.
    pub(super) compiling: bool,
    pub(super) last_step: u64,
    pub(super) work: Work,
}

/// What a sequence is computed for.
#[derive(Debug)]
pub(super) enum Work {
    Answer(Box<Answer>),
    Scoring(Box<Scoring>),
    Embedding(Box<Embedding>),
}

/// What a step of a sequence led to.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// More is to come; this is to be said already.
    On(Option<Say>),
    /// That was the last; this is to be said.
    End(Vec<Say>),
}

/// An asker, as cache and scheduler know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// Whose prefixes it may find.
    pub(super) key: Keyed,
    /// Whose turn it is.
    pub(super) number: u64,
}

impl Identity {
    pub(super) fn of(asker: &Asker) -> Self {
        match asker {
            Asker::Owner => Self {
                key: Keyed::OWNER,
                number: 0,
            },
            Asker::Peer(name) => {
                let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
                let mut number = [0; 8];
                number.copy_from_slice(&digest[..8]);
                Self {
                    key: Keyed::client(digest),
                    number: u64::from_le_bytes(number),
                }
            }
        }
    }
}

impl Sequence {
    pub(super) fn candidate(&self) -> Candidate {
        let left = u32::try_from(self.ids.len() - self.state.len()).unwrap_or(u32::MAX);
        let whole = matches!(&self.work, Work::Embedding(embedding) if embedding.is_whole());
        Candidate {
            call: self.call,
            class: self.class,
            asker: self.asker.number,
            weight: self.weight,
            model: self.model,
            // What is computed as a whole is counted as one step, however long it is: time is what is accounted.
            left: if whole { left.min(STEP_TOKENS) } else { left },
            most: match &self.work {
                Work::Answer(_) | Work::Embedding(_) => STEP_TOKENS,
                Work::Scoring(scoring) => scoring.most(self.state.len()),
            },
            runnable: !self.aside && !self.compiling && !self.control.is_paused(),
            last_step: self.last_step,
        }
    }

    pub(super) fn claim(&self) -> Claim {
        Claim {
            call: self.call,
            class: self.class,
            bytes: self.bytes,
        }
    }

    /// Drafts at most `most` tokens that follow its next one, for a step that is computed for it. Gives its tokens of that
    /// step, one where nothing is drafted.
    pub(super) fn draft(&mut self, model: &Loaded, most: u32) -> u32 {
        let (Work::Answer(answer), [last]) = (&mut self.work, &self.ids[self.state.len()..]) else {
            return 1;
        };
        let longest = answer.longest(model.info.context) as usize;
        let longest = longest.min(self.ids.len() + 1 + most as usize);
        let draft = answer.draft(&self.ids, longest, &model.pace);
        if draft.is_empty() {
            return 1;
        }
        self.drafted.push(*last);
        self.drafted.extend(draft);
        self.drafted.len() as u32
    }

    /// Its part of a step: the next `tokens`.
    pub(super) fn span(&mut self, tokens: u32) -> Span<'_> {
        if !self.drafted.is_empty() {
            return Span {
                state: &mut self.state,
                ids: &self.drafted,
                wanted: Wanted::From(0),
            };
        }
        let from = self.state.len();
        let to = self.ids.len().min(from + tokens as usize);
        let wanted = match &self.work {
            Work::Answer(_) if to == self.ids.len() => Wanted::Last,
            Work::Answer(_) => Wanted::Nothing,
            Work::Scoring(scoring) => scoring.wanted(from),
            Work::Embedding(_) => Wanted::States,
        };
        Span {
            state: &mut self.state,
            ids: &self.ids[from..to],
            wanted,
        }
    }

    /// Takes what a step computed for it.
    pub(super) fn take(
        &mut self,
        rows: Vec<f32>,
        tokens: u32,
        took: Duration,
        model: &mut Loaded,
    ) -> Result<Outcome, EngineError> {
        match &mut self.work {
            Work::Answer(answer) => {
                answer.spend(tokens, took);
                if self.state.len() < self.ids.len() {
                    return Ok(Outcome::On(answer.progress(self.state.len())));
                }
                if answer.counts().produced == 0 {
                    model.remember(&self.asker.key, &self.ids, &self.state);
                }
                let outcome = answer.take(&mut self.ids, &rows, model);
                if !self.drafted.is_empty() {
                    // From the first token on that was not drafted right, and the last chosen one in any case.
                    self.drafted.clear();
                    model.truncate(&mut self.state, self.ids.len() - 1);
                }
                outcome
            }
            Work::Scoring(scoring) => scoring.take(&self.ids, rows, model),
            Work::Embedding(embedding) => {
                embedding.take(&rows, model.weights.hidden());
                if !embedding.is_whole() && self.state.len() < self.ids.len() {
                    return Ok(Outcome::On(None));
                }
                let (outcome, next) = embedding.end_of_text()?;
                if let Some(next) = next {
                    model.release(std::mem::take(&mut self.state));
                    self.ids = next;
                }
                Ok(outcome)
            }
        }
    }

    /// What came of it so far.
    pub(super) fn counts(&self) -> Counts {
        match &self.work {
            Work::Answer(answer) => answer.counts(),
            Work::Scoring(_) | Work::Embedding(_) => Counts::default(),
        }
    }

    /// Gives up its pages, to begin again by prefill later. What rows of steps to come will give again is forgotten.
    pub(super) fn stand_aside(&mut self) -> SequenceState {
        self.aside = true;
        self.drafted.clear();
        match &mut self.work {
            Work::Answer(_) => {}
            Work::Scoring(scoring) => scoring.begin_again(),
            Work::Embedding(embedding) => embedding.begin_again(),
        }
        std::mem::take(&mut self.state)
    }

    /// What is to be said when it is cancelled.
    pub(super) fn cancel(&mut self) -> Vec<Say> {
        match &mut self.work {
            Work::Answer(answer) => answer.cancel(),
            Work::Scoring(_) | Work::Embedding(_) => vec![Say::Failed(EngineError::Cancelled)],
        }
    }
}
