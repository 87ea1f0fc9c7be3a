//! Judging an answer: one pass over prompt and output, and a verdict on every token of the output.

use super::loaded::Loaded;
use super::need::SCORE_ROWS;
use super::sequence::Outcome;
use crate::decoder::Wanted;
use crate::sampler::Position;
use crate::wire::Say;
use crate::{EngineError, Sampling, ScoreRequest, TokenScore};

#[derive(Debug)]
pub(super) struct Scoring {
    sampling: Sampling,
    tolerance: f32,
    /// Index of the first token whose logits judge another: the prompt's last.
    first: usize,
    output: Vec<u32>,
    scores: Vec<TokenScore>,
}

impl Scoring {
    /// A checked request on a model, and the ids to compute: all but the last, which predicts nothing that was claimed.
    pub(super) fn new(
        request: ScoreRequest,
        model: &Loaded,
    ) -> Result<(Self, Vec<u32>), EngineError> {
        let mut ids = [request.prompt.as_slice(), &request.output].concat();
        ids.pop();
        let limit = model.info.context;
        if ids.len() > limit as usize {
            return Err(EngineError::ContextTooLong {
                prompt: u32::try_from(ids.len()).unwrap_or(u32::MAX),
                limit,
                model: model.info.text.name.clone(),
            });
        }
        let vocabulary = model.text.info().vocab_size;
        if let Some(&id) = request.output.iter().find(|&&id| id >= vocabulary) {
            return Err(EngineError::TokenOutside { id, vocabulary });
        }
        let scoring = Self {
            sampling: request.sampling,
            tolerance: request.tolerance,
            first: request.prompt.len() - 1,
            scores: Vec::with_capacity(request.output.len()),
            output: request.output,
        };
        Ok((scoring, ids))
    }

    /// The ids whose keys and values may come from a known prefix: those whose logits are not asked for.
    pub(super) fn adoptable<'i>(&self, ids: &'i [u32]) -> &'i [u32] {
        // Of these the cache leaves out the last, which is the first whose logits are wanted.
        &ids[..ids.len().min(self.first + 1)]
    }

    /// Most tokens of the next step: up to the first whose logits are wanted, and from there a few.
    pub(super) fn most(&self, from: usize) -> u32 {
        match self.first.checked_sub(from).filter(|&before| before > 0) {
            Some(before) => u32::try_from(before).unwrap_or(u32::MAX),
            None => SCORE_ROWS,
        }
    }

    pub(super) fn wanted(&self, from: usize) -> Wanted {
        if from < self.first {
            Wanted::Nothing
        } else {
            Wanted::From(0)
        }
    }

    /// Forgets the verdicts: the rows they came of are computed again.
    pub(super) fn begin_again(&mut self) {
        self.scores.clear();
    }

    /// Judges the tokens that follow the rows.
    pub(super) fn take(
        &mut self,
        ids: &[u32],
        rows: Vec<f32>,
        model: &Loaded,
    ) -> Result<Outcome, EngineError> {
        for row in rows.chunks_exact(model.weights.vocabulary()) {
            let logits = &row[..model.text.info().vocab_size as usize];
            let index = self.scores.len();
            let Some(&claimed) = self.output.get(index) else {
                break;
            };
            let position = Position {
                before: &ids[..=self.first + index],
                index: index as u32,
                sampling: &self.sampling,
                mask: None,
            };
            let bad = || EngineError::BadNumbers {
                index: index as u32,
            };
            let margin = position
                .margin(logits, claimed, self.tolerance)
                .ok_or_else(bad)?;
            let own = logits[claimed as usize];
            let likelier = (0u32..)
                .zip(logits)
                .filter(|&(id, &logit)| logit > own || (logit == own && id < claimed));
            self.scores.push(TokenScore {
                logprob: margin.logprob,
                rank: likelier.count() as u32,
                margin: Some(margin.margin).filter(|margin| margin.is_finite()),
            });
        }
        Ok(if self.scores.len() == self.output.len() {
            Outcome::End(vec![Say::Scores(std::mem::take(&mut self.scores))])
        } else {
            Outcome::On(None)
        })
    }
}
