//! Texts as vectors: the decoder's last states of each text, made one by the model's own rule and of length one.

use std::collections::VecDeque;

use super::loaded::Loaded;
use super::sequence::Outcome;
use crate::file::Metadata;
use crate::wire::Say;
use crate::{EmbedRequest, Embeddings, EngineError};

/// Which states make up a vector, as `ARCHITECTURE.pooling_type` numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    Mean,
    First,
    Last,
}

/// How a model's file says that texts are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pooling: Pooling,
    begin: Option<u32>,
    end: Option<u32>,
}

impl Rule {
    /// A file without a word about it gets the mean, and what its tokenizer puts around a text anyway.
    pub(super) fn of(metadata: &Metadata, architecture: &str) -> Self {
        let around = |name: &str| {
            let adds = metadata.bool(&format!("tokenizer.ggml.add_{name}_token"));
            let id = metadata.u32(&format!("tokenizer.ggml.{name}_token_id"));
            id.filter(|_| adds == Some(true))
        };
        Self {
            pooling: match metadata.u32(&format!("{architecture}.pooling_type")) {
                Some(2) => Pooling::First,
                Some(3) => Pooling::Last,
                _ => Pooling::Mean,
            },
            begin: around("bos"),
            end: around("eos"),
        }
    }

    fn ids(self, text: Vec<u32>) -> Vec<u32> {
        self.begin.into_iter().chain(text).chain(self.end).collect()
    }
}

#[derive(Debug)]
pub(super) struct Embedding {
    pooling: Pooling,
    /// Ids of the texts that come later.
    later: VecDeque<Vec<u32>>,
    /// Sum of the states so far, or the last of them.
    sum: Vec<f32>,
    rows: usize,
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
            let ids = model.embed.ids(model.text.tokenizer().encode_typed(text));
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
            pooling: model.embed.pooling,
            later,
            sum: Vec::new(),
            rows: 0,
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

    /// Takes states, `[rows][hidden]`.
    pub(super) fn take(&mut self, states: &[f32], hidden: usize) {
        for state in states.chunks_exact(hidden) {
            self.rows += 1;
            match self.pooling {
                Pooling::Last => self.sum = state.to_vec(),
                Pooling::First if self.rows > 1 => {}
                Pooling::First => self.sum = state.to_vec(),
                Pooling::Mean => {
                    self.sum.resize(state.len(), 0.0);
                    self.sum
                        .iter_mut()
                        .zip(state)
                        .for_each(|(sum, value)| *sum += value);
                }
            }
        }
    }

    /// Forgets the states of the text that is being read: they are computed again.
    pub(super) fn begin_again(&mut self) {
        self.sum.clear();
        self.rows = 0;
    }

    /// Finishes the vector of a text; gives what to say, and the ids of the next text.
    pub(super) fn end_of_text(&mut self) -> (Outcome, Option<Vec<u32>>) {
        // The length is divided away, and with it the number of rows of a mean.
        self.done.vectors.push(unit(std::mem::take(&mut self.sum)));
        self.rows = 0;
        match self.later.pop_front() {
            Some(next) => (Outcome::On(None), Some(next)),
            None => {
                let said = Say::Embeddings(std::mem::take(&mut self.done));
                (Outcome::End(vec![said]), None)
            }
        }
    }
}

/// The vector of length one in the same direction; one of zeros stays.
fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let squares: f64 = vector.iter().map(|&value| f64::from(value).powi(2)).sum();
    if squares > 0.0 {
        let scale = 1.0 / squares.sqrt();
        for value in &mut vector {
            *value = (f64::from(*value) * scale) as f32;
        }
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_begun_again_has_the_vector_of_one_read_once() {
        let states = [1.0f32, 0.0, 0.0, 2.0, 5.0, 1.0];
        for pooling in [Pooling::Mean, Pooling::First, Pooling::Last] {
            let vector = |before: &[f32]| {
                let mut embedding = Embedding {
                    pooling,
                    later: VecDeque::new(),
                    sum: Vec::new(),
                    rows: 0,
                    done: Embeddings::default(),
                };
                embedding.take(before, 2);
                embedding.begin_again();
                embedding.take(&states, 2);
                embedding.end_of_text().0
            };
            assert_eq!(vector(&states[..4]), vector(&[]), "{pooling:?}");
        }
    }

    #[test]
    fn a_vector_becomes_one_of_length_one() {
        assert_eq!(super::unit(vec![3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(super::unit(vec![0.0, 0.0]), [0.0, 0.0]);
    }
}
