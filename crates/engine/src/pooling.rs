//! How the states of a text's tokens become its one vector, which has length one.

use crate::file::Metadata;

/// Which states make up a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token, which encoders begin every text with.
    First,
    /// That of the last token.
    Last,
}

/// A number of `pooling_type` that no code here goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// The metadata key.
    pub(crate) key: String,
    /// What stands there.
    pub(crate) value: String,
}

impl Pooling {
    /// As `ARCHITECTURE.pooling_type` numbers it; `None` where a file says nothing.
    pub(crate) fn of(metadata: &Metadata, architecture: &str) -> Result<Option<Self>, Unknown> {
        let key = format!("{architecture}.pooling_type");
        let Some(value) = metadata.get(&key) else {
            return Ok(None);
        };
        match metadata.u32(&key) {
            Some(1) => Ok(Some(Self::Mean)),
            Some(2) => Ok(Some(Self::First)),
            Some(3) => Ok(Some(Self::Last)),
            Some(_) | None => Err(Unknown {
                key,
                value: value.brief(),
            }),
        }
    }
}

/// The vector of a text whose states come in parts.
#[derive(Debug)]
pub(crate) struct Pooled {
    pooling: Pooling,
    /// Sum of the states so far, or the one that counts.
    sum: Vec<f32>,
    rows: usize,
}

impl Pooled {
    pub(crate) fn new(pooling: Pooling) -> Self {
        Self {
            pooling,
            sum: Vec::new(),
            rows: 0,
        }
    }

    /// Takes the states of the next tokens, `[tokens][hidden]`.
    pub(crate) fn take(&mut self, states: &[f32], hidden: usize) {
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

    /// Forgets what it took, for the next text or the same one again.
    pub(crate) fn clear(&mut self) {
        self.sum.clear();
        self.rows = 0;
    }

    /// The vector of what it took, and forgets that. `None` when one of its values is no number.
    pub(crate) fn vector(&mut self) -> Option<Vec<f32>> {
        self.rows = 0;
        // The length is divided away, and with it the number of rows of a mean.
        let vector = unit(std::mem::take(&mut self.sum));
        vector
            .iter()
            .all(|value| value.is_finite())
            .then_some(vector)
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
                let mut pooled = Pooled::new(pooling);
                pooled.take(before, 2);
                pooled.clear();
                pooled.take(&states, 2);
                pooled.vector()
            };
            assert_eq!(vector(&states[..4]), vector(&[]), "{pooling:?}");
        }
    }

    #[test]
    fn a_vector_becomes_one_of_length_one() {
        assert_eq!(unit(vec![3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(unit(vec![0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn a_state_that_is_no_number_has_no_vector() {
        for value in [f32::NAN, f32::INFINITY] {
            let mut pooled = Pooled::new(Pooling::Mean);
            pooled.take(&[1.0, value], 2);
            assert_eq!(pooled.vector(), None);
        }
    }
}
