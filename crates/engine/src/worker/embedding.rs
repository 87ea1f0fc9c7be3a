//! Texts as vectors: the last states of each text, made one by the model's own rule.

use std::collections::VecDeque;

use super::loaded::Loaded;
use super::sequence::Outcome;
use super::weights::Weights;
use crate::pooling::Pooled;
use crate::wire::Say;
use crate::{EmbedRequest, Embeddings, EngineError};

#[derive(Debug)]
pub(super) struct Embedding {
    /// A text is computed as a whole or not at all.
    whole: bool,
    /// Ids of the texts that come later.
    later: VecDeque<Vec<u32>>,
    /// The states so far of the text that is being read.
    pooled: Pooled,
    done: Embeddings,
}

impl Embedding {
    /// A checked request on a model, and the ids of its first text.
    pub(super) fn new(
        request: &EmbedRequest,
        model: &Loaded,
    ) -> Result<(Self, Vec<u32>), EngineError> {
        let limit = model.info.context;
        let texts = request.texts.iter().map(|text| {
            let ids = model.text.tokenizer().encode_document(text);
            if ids.is_empty() {
                return Err(EngineError::BadRequest {
                    what: "a text without a single token".to_owned(),
                });
            }
            if ids.len() > limit as usize {
                return Err(EngineError::ContextTooLong {
                    prompt: u32::try_from(ids.len()).unwrap_or(u32::MAX),
                    limit,
                    model: model.info.text.name.clone(),
                });
            }
            Ok(ids)
        });
        let mut later: VecDeque<Vec<u32>> = texts.collect::<Result<_, _>>()?;
        let tokens: usize = later.iter().map(Vec::len).sum();
        let first = later.pop_front().unwrap_or_default();
        let embedding = Self {
            whole: matches!(model.weights, Weights::Encoder(_)),
            later,
            pooled: Pooled::new(model.pooling),
            done: Embeddings {
                vectors: Vec::new(),
                tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            },
        };
        Ok((embedding, first))
    }

    /// Tokens of its longest text, of which the first is given.
    pub(super) fn longest(&self, first: &[u32]) -> usize {
        let later = self.later.iter().map(Vec::len).max().unwrap_or(0);
        later.max(first.len())
    }

    /// Whether a text is computed as a whole or not at all.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Takes states, `[rows][hidden]`.
    pub(super) fn take(&mut self, states: &[f32], hidden: usize) {
        self.pooled.take(states, hidden);
    }

    /// Forgets the states of the text that is being read: they are computed again.
    pub(super) fn begin_again(&mut self) {
        self.pooled.clear();
    }

    /// Finishes the vector of a text; gives what to say, and the ids of the next text.
    pub(super) fn end_of_text(&mut self) -> Result<(Outcome, Option<Vec<u32>>), EngineError> {
        let vector = self.pooled.vector();
        let vector = vector.ok_or(EngineError::BadNumbers { index: 0 })?;
        self.done.vectors.push(vector);
        Ok(match self.later.pop_front() {
            Some(next) => (Outcome::On(None), Some(next)),
            None => {
                let said = Say::Embeddings(std::mem::take(&mut self.done));
                (Outcome::End(vec![said]), None)
            }
        })
    }
}
