//! An answer: tokens are chosen, turned into text, and told.

use std::time::Duration;

use super::draft::{self, Acceptance, Pace};
use super::loaded::Loaded;
use super::sequence::Outcome;
use crate::grammar::{Compiling, Matcher};
use crate::sampler::Position;
use crate::text::Detokenizer;
use crate::wire::Say;
use crate::{
    EngineError, Finish, GenerateEvent, GenerateRequest, GenerateStats, Sampling, TokenLogprobs,
};

#[derive(Debug)]
pub(super) struct Answer {
    sampling: Sampling,
    max_out: u32,
    ignore_eog: bool,
    logprobs: Option<u32>,
    /// Tokens of the prompt.
    prompt: usize,
    /// Tokens of prompt and resumed output.
    given: usize,
    detokenizer: Detokenizer,
    form: Form,
    /// Tokens computed before the first new one.
    read: u32,
    /// What came of it so far.
    counts: Counts,
    acceptance: Acceptance,
    /// What the text's repetitions say will follow, of the step that is being computed.
    foreseen: Vec<u32>,
    prefill_time: Duration,
    decode_time: Duration,
}

/// What an answer has led to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// New tokens.
    pub(super) produced: u32,
    /// Tokens that were drafted.
    pub(super) drafted: u32,
    /// Those of them that were the chosen ones.
    pub(super) accepted: u32,
}

/// What the text must be.
#[derive(Debug)]
enum Form {
    /// Anything.
    Free,
    /// Not known yet: the constraint is being compiled, and these ids of the output were there before.
    Compiling(Compiling, Vec<u32>),
    /// What a constraint leaves.
    Bound(Box<Matcher>),
}

/// A token that was chosen.
struct Chosen {
    id: u32,
    /// The text that became certain with it.
    text: String,
    logprobs: Option<TokenLogprobs>,
    /// Why the answer ends with it, where it does.
    finish: Option<Finish>,
}

impl Answer {
    /// An answer to a checked request, and its ids so far.
    pub(super) fn new(
        request: GenerateRequest,
        model: &mut Loaded,
    ) -> Result<(Self, Vec<u32>), EngineError> {
        let ids = [request.prompt.as_slice(), &request.resume].concat();
        let limit = model.info.context;
        if ids.len() >= limit as usize {
            return Err(EngineError::ContextTooLong {
                prompt: u32::try_from(ids.len()).unwrap_or(u32::MAX),
                limit,
                model: model.info.text.name.clone(),
            });
        }
        let form = match &request.constraint {
            Some(constraint) => {
                let compiling = model.grammars()?.compile(constraint)?;
                Form::Compiling(compiling, request.resume.clone())
            }
            None => Form::Free,
        };
        let mut detokenizer = model.text.detokenizer(request.stop);
        // Its text was told where it was produced.
        detokenizer.push(&request.resume);
        let answer = Self {
            sampling: request.sampling,
            max_out: request.max_out,
            ignore_eog: request.ignore_eog,
            logprobs: request.logprobs,
            prompt: request.prompt.len(),
            given: ids.len(),
            detokenizer,
            form,
            read: 0,
            counts: Counts::default(),
            acceptance: Acceptance::default(),
            foreseen: Vec::new(),
            prefill_time: Duration::ZERO,
            decode_time: Duration::ZERO,
        };
        Ok((answer, ids))
    }

    /// The most tokens that it can come to have.
    pub(super) fn longest(&self, context: u32) -> u32 {
        let prompt = u32::try_from(self.prompt).unwrap_or(u32::MAX);
        prompt.saturating_add(self.max_out).min(context)
    }

    /// Whether its constraint is still being compiled: until then it cannot be computed. An error when it cannot be.
    pub(super) fn is_compiling(&mut self) -> Result<bool, EngineError> {
        let Form::Compiling(compiling, before) = &self.form else {
            return Ok(false);
        };
        let Some(compiled) = compiling.try_take() else {
            return Ok(true);
        };
        let mut matcher = compiled?;
        matcher.resume(before)?;
        self.form = Form::Bound(Box::new(matcher));
        Ok(false)
    }

    /// Counts a step.
    pub(super) fn spend(&mut self, tokens: u32, took: Duration) {
        if self.counts.produced == 0 {
            self.read += tokens;
            self.prefill_time += took;
        } else {
            self.decode_time += took;
        }
    }

    /// How far the reading of what was given has come; nothing once there is output (what is read then, is read again).
    pub(super) fn progress(&self, done: usize) -> Option<Say> {
        let progress = GenerateEvent::Prefill {
            done: done.min(self.given) as u32,
            total: self.given as u32,
        };
        (self.counts.produced == 0).then_some(Say::Event(progress))
    }

    /// What has come of it so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Drafts what follows `ids`, at most as much as fits before `longest`: nothing unless it pays. Called before every
    /// step that is computed for this answer's next token.
    pub(super) fn draft(&mut self, ids: &[u32], longest: usize, pace: &Pace) -> Vec<u32> {
        // The first new token comes out of the prompt's step, where there is nothing to save.
        if self.counts.produced == 0 {
            return Vec::new();
        }
        // What is chosen last is not computed.
        let room = longest.saturating_sub(ids.len() + 1);
        self.foreseen = draft::look_up(ids, room.min(draft::LONGEST_DRAFT));
        let rows = pace.rows(self.acceptance, self.foreseen.len() + 1);
        let drafted = self.foreseen[..rows - 1].to_vec();
        // The first is judged also where it was not drafted.
        self.foreseen.truncate(rows.saturating_sub(1).max(1));
        drafted
    }

    /// Chooses the next token, and as many more as were drafted right. `rows` are the logits after the last token and
    /// after each drafted one.
    pub(super) fn take(
        &mut self,
        ids: &mut Vec<u32>,
        rows: &[f32],
        model: &Loaded,
    ) -> Result<Outcome, EngineError> {
        let foreseen = std::mem::take(&mut self.foreseen);
        let first_index = (ids.len() - self.prompt) as u32;
        let begun = ids.len();
        let (mut text, mut logprobs, mut finish) = (String::new(), Vec::new(), None);
        let width = model.weights.vocabulary();
        let last = (rows.len() / width).saturating_sub(1);
        self.counts.drafted += last as u32;
        for (at, logits) in rows.chunks_exact(width).enumerate() {
            let chosen = self.choose(ids, logits, model)?;
            text.push_str(&chosen.text);
            logprobs.extend(chosen.logprobs);
            finish = chosen.finish;
            let accepted = foreseen.get(at).map(|&foreseen| foreseen == chosen.id);
            if let Some(accepted) = accepted {
                self.acceptance.learn(accepted);
            }
            if accepted != Some(true) || at == last {
                break;
            }
            self.counts.accepted += 1;
            if finish.is_some() {
                break;
            }
        }
        if finish.is_some() {
            text.push_str(&self.detokenizer.finish().text);
        }
        let tokens = Say::Event(GenerateEvent::Tokens {
            first_index,
            ids: ids[begun..].to_vec(),
            text,
            logprobs,
        });
        Ok(match finish {
            Some(finish) => Outcome::End(vec![tokens, self.finished(finish)]),
            None => Outcome::On(Some(tokens)),
        })
    }

    /// Chooses one token.
    fn choose(
        &mut self,
        ids: &mut Vec<u32>,
        logits: &[f32],
        model: &Loaded,
    ) -> Result<Chosen, EngineError> {
        let info = model.text.info();
        // Rows of the table beyond the vocabulary are padding.
        let logits = &logits[..logits.len().min(info.vocab_size as usize)];
        let index = (ids.len() - self.prompt) as u32;
        let mask = match &mut self.form {
            Form::Bound(matcher) => Some(matcher.mask()?),
            Form::Free | Form::Compiling(..) => None,
        };
        let position = Position {
            before: ids,
            index,
            sampling: &self.sampling,
            mask: mask.as_ref(),
        };
        let choice = position.choose(logits, self.logprobs);
        let choice = choice.ok_or(EngineError::BadNumbers { index })?;
        if let Form::Bound(matcher) = &mut self.form {
            matcher.advance(choice.id)?;
        }
        ids.push(choice.id);
        self.counts.produced += 1;
        let eog = !self.ignore_eog && info.eog_ids.binary_search(&choice.id).is_ok();
        let piece = self.detokenizer.push(&[choice.id]);
        let finish = if piece.stopped {
            Some(Finish::StopString)
        } else if eog {
            Some(Finish::Stop)
        } else if index + 1 >= self.max_out || ids.len() >= model.info.context as usize {
            Some(Finish::Length)
        } else {
            None
        };
        Ok(Chosen {
            id: choice.id,
            text: piece.text,
            logprobs: choice.logprobs,
            finish,
        })
    }

    /// What is to be said when it is cancelled: the text that was held back, then the end.
    pub(super) fn cancel(&mut self) -> Vec<Say> {
        let held = self.detokenizer.finish().text;
        let rest = (!held.is_empty()).then(|| {
            Say::Event(GenerateEvent::Tokens {
                first_index: (self.given - self.prompt) as u32 + self.counts.produced,
                ids: Vec::new(),
                text: held,
                logprobs: Vec::new(),
            })
        });
        rest.into_iter()
            .chain([self.finished(Finish::Cancelled)])
            .collect()
    }

    fn finished(&self, finish: Finish) -> Say {
        Say::Event(GenerateEvent::Finished {
            finish,
            stats: GenerateStats {
                prefill_tokens: self.read,
                prefill_ms: self.prefill_time.as_millis() as u64,
                decode_tokens: self.counts.produced,
                decode_ms: self.decode_time.as_millis() as u64,
            },
        })
    }
}
