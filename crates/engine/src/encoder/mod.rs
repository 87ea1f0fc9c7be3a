//! Encoders of the BERT kind: a text goes in as a whole, every token sees every other, and one vector comes out.
//!
//! As in "BERT: Pre-training of Deep Bidirectional Transformers" (Devlin et al., 2018): the sum of token, type and
//! position embeddings is normalised; each layer adds attention, normalises, adds a feed-forward part (GELU with the error
//! function), normalises. The rows of the last layer are pooled as the file says, and the vector has length one.

mod layers;

use std::sync::Arc;

pub use crate::families::bert::EncoderShape;
pub use crate::pooling::Pooling;

use crate::families::bert::{ARCHITECTURE, Size};
use crate::file::{ModelFile, TensorEntry};
use crate::kernels::{self, Activations, Matrix, Store};
use crate::pooling::Pooled;
use crate::{EngineError, FileProblem, LoadProgress, table};
use layers::{Layer, Linear, Norm, attend, gelu};

/// An encoder's file whose every tensor is understood.
#[derive(Debug)]
pub struct Plan {
    file: Arc<ModelFile>,
    shape: EncoderShape,
}

impl Plan {
    /// Whether a file is an encoder of this kind.
    pub fn is_for(file: &ModelFile) -> bool {
        file.header().metadata.text("general.architecture") == Some(ARCHITECTURE)
    }

    /// Understands a file, or says why not.
    pub fn of(file: &Arc<ModelFile>) -> Result<Self, EngineError> {
        if !file.has_weights() {
            return Err(EngineError::NoWeights {
                file: file.path().to_owned(),
            });
        }
        let shape = EncoderShape::of(file)?;
        let tensors = Tensors::of(file);
        tensors.check(&shape)?;
        let rows = tensors.entry("token_embd.weight")?.shape[0];
        Ok(Self {
            shape: EncoderShape {
                rows: usize::try_from(rows).unwrap_or(usize::MAX),
                ..shape
            },
            file: file.clone(),
        })
    }

    /// The encoder's shape.
    pub fn shape(&self) -> &EncoderShape {
        &self.shape
    }

    /// Its file.
    pub fn file(&self) -> &Arc<ModelFile> {
        &self.file
    }

    /// Bytes that the weights will take in memory.
    pub fn weights_bytes(&self) -> u64 {
        EncoderShape::resident_bytes(&self.file)
    }
}

/// A loaded encoder.
#[derive(Debug)]
pub struct Encoder {
    file: Arc<ModelFile>,
    shape: EncoderShape,
    tokens: TensorEntry,
    /// Of the first type, which all tokens of a single text have.
    of_type: Vec<f32>,
    /// `[context][hidden]`.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

impl Encoder {
    /// Takes the weights of a planned file over. `report` hears after each layer how much of the file is in memory; an
    /// error from it ends the load. Memory is admitted by the caller.
    pub fn new(
        plan: &Plan,
        report: &mut dyn FnMut(LoadProgress) -> Result<(), EngineError>,
    ) -> Result<Self, EngineError> {
        let Plan { file, shape } = plan;
        let tensors = Tensors::of(file);
        let hidden = shape.hidden;
        let bytes_of = |of: &dyn Fn(&str) -> bool| -> u64 {
            let all = file.header().tensors.iter();
            let counted = all.filter(|entry| of(&entry.name));
            counted.filter_map(TensorEntry::bytes).sum()
        };
        let total = bytes_of(&|_| true);
        let mut done = 0;
        let mut layers = Vec::with_capacity(shape.layers);
        for layer in 0..shape.layers {
            layers.push(tensors.layer(layer, shape)?);
            let prefix = format!("blk.{layer}.");
            done += bytes_of(&|name| name.starts_with(&prefix));
            report(LoadProgress { done, total })?;
        }
        let encoder = Self {
            tokens: tensors.entry("token_embd.weight")?.clone(),
            of_type: tensors.rows("token_types.weight", 1, hidden)?,
            positions: tensors.rows("position_embd.weight", shape.context, hidden)?,
            norm: tensors.norm("token_embd_norm", hidden)?,
            layers,
            shape: *shape,
            file: file.clone(),
        };
        file.loaded();
        report(LoadProgress { done: total, total })?;
        Ok(encoder)
    }

    /// Its shape.
    pub fn shape(&self) -> &EncoderShape {
        &self.shape
    }

    /// The vector of a text (of length one), from its ids with the pieces for its begin and end. `None` when it was
    /// interrupted.
    pub fn embed(
        &self,
        ids: &[u32],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        let Some(states) = self.states(ids, interrupted)? else {
            return Ok(None);
        };
        let mut pooled = Pooled::new(self.shape.pooling);
        pooled.take(&states, self.shape.hidden);
        let vector = pooled.vector();
        vector.map(Some).ok_or(EngineError::BadNumbers { index: 0 })
    }

    /// The last layer's rows of a text, `[tokens][hidden]`. `None` when it was interrupted. The numbers do not depend on
    /// the number of threads.
    pub(crate) fn states(
        &self,
        ids: &[u32],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        let hidden = self.shape.hidden;
        let mut rows = self.embedded(ids)?;
        self.norm.apply(&mut rows);
        for layer in &self.layers {
            if interrupted() {
                return Ok(None);
            }
            let seen = Activations::new(&rows, hidden);
            let [query, key, value] = &layer.projections;
            let (query, key, value) = (query.of(&seen), key.of(&seen), value.of(&seen));
            let attended = attend(&query, &key, &value, &self.shape);
            let attended = layer.output.of(&Activations::new(&attended, hidden));
            layer.attention_norm.add(&mut rows, &attended);
            let mut inner = layer.up.of(&Activations::new(&rows, hidden));
            gelu(&mut inner, self.shape.feed_forward);
            let inner = Activations::new(&inner, self.shape.feed_forward);
            layer.norm.add(&mut rows, &layer.down.of(&inner));
        }
        Ok(Some(rows))
    }

    /// The sums of the three embeddings.
    fn embedded(&self, ids: &[u32]) -> Result<Vec<f32>, EngineError> {
        let EncoderShape {
            hidden, context, ..
        } = self.shape;
        if ids.is_empty() {
            return Err(EngineError::BadRequest {
                what: "an empty text".to_owned(),
            });
        }
        if ids.len() > context {
            return Err(EngineError::ContextTooLong {
                prompt: u32::try_from(ids.len()).unwrap_or(u32::MAX),
                limit: context as u32,
                model: self.file.name(),
            });
        }
        let mut rows = vec![0.0; ids.len() * hidden];
        let places = self.positions.chunks_exact(hidden);
        for ((row, &id), place) in rows.chunks_exact_mut(hidden).zip(ids).zip(places) {
            if id as usize >= self.shape.rows {
                return Err(EngineError::TokenOutside {
                    id,
                    vocabulary: u32::try_from(self.shape.rows).unwrap_or(u32::MAX),
                });
            }
            table::look_up(&self.file, &self.tokens, id, row)?;
            for ((value, of_type), place) in row.iter_mut().zip(&self.of_type).zip(place) {
                *value += of_type + place;
            }
        }
        Ok(rows)
    }
}

/// The tensors of a file, by name and due shape.
struct Tensors<'f> {
    file: &'f ModelFile,
    /// Where packed weights go.
    store: Store,
}

impl<'f> Tensors<'f> {
    fn of(file: &'f ModelFile) -> Self {
        Self {
            file,
            store: Store::default(),
        }
    }

    fn entry(&self, name: &str) -> Result<&TensorEntry, EngineError> {
        self.file.header().tensor(name).ok_or_else(|| {
            self.file.bad(FileProblem::MissingTensor {
                name: name.to_owned(),
            })
        })
    }

    /// Every tensor is one that is known, in its due shape and in a format that there is code for.
    fn check(&self, shape: &EncoderShape) -> Result<(), EngineError> {
        let due = shape.tensors();
        for (name, expected) in &due {
            let entry = self.entry(name)?;
            let expected: Vec<u64> = expected
                .iter()
                .zip(entry.shape.iter().chain(std::iter::repeat(&0)))
                // Tables may have more rows than are used.
                .map(|(&due, &found)| match due {
                    Size::Exactly(size) => size as u64,
                    Size::AtLeast(size) => found.max(size as u64),
                })
                .collect();
            if entry.shape != expected {
                return Err(self.file.bad(FileProblem::WrongShape {
                    name: name.clone(),
                    found: entry.shape.clone(),
                    expected,
                }));
            }
        }
        for entry in &self.file.header().tensors {
            if !crate::families::computes(entry.kind) {
                return Err(EngineError::UnsupportedTensor {
                    name: entry.name.clone(),
                    kind: entry.kind.to_string(),
                });
            }
            // It would change the calculation if it had a place.
            if !due.contains_key(&entry.name) {
                return Err(EngineError::UnsupportedFeature {
                    what: "a tensor".to_owned(),
                    value: entry.name.chars().take(64).collect(),
                });
            }
        }
        Ok(())
    }

    /// The first rows of a table, as 32-bit floats.
    fn rows(&self, name: &str, count: usize, width: usize) -> Result<Vec<f32>, EngineError> {
        let entry = self.entry(name)?;
        let bytes = self.file.tensor_bytes(entry)?;
        let mut rows = vec![0.0; count * width];
        for (index, row) in rows.chunks_exact_mut(width).enumerate() {
            kernels::row(entry.kind, bytes, index, row)
                .map_err(|problem| refused(name, &problem))?;
        }
        Ok(rows)
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm, EngineError> {
        Ok(Norm {
            weight: self.rows(&format!("{name}.weight"), 1, width)?,
            bias: self.rows(&format!("{name}.bias"), 1, width)?,
            epsilon: EncoderShape::epsilon(self.file)?,
        })
    }

    fn linear(&self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, EngineError> {
        let weight = format!("{name}.weight");
        let entry = self.entry(&weight)?;
        let bytes = self.file.tensor_bytes(entry)?;
        let taken = |part| self.file.used(entry, part);
        let matrix = Matrix::pack(&self.store, entry.kind, bytes, [outputs, inputs], &taken);
        Ok(Linear {
            matrix: matrix.map_err(|problem| refused(&weight, &problem))?,
            bias: self.rows(&format!("{name}.bias"), 1, outputs)?,
        })
    }

    fn layer(&self, layer: usize, shape: &EncoderShape) -> Result<Layer, EngineError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (hidden, inner) = (shape.hidden, shape.feed_forward);
        Ok(Layer {
            projections: [
                self.linear(&name("attn_q"), hidden, hidden)?,
                self.linear(&name("attn_k"), hidden, hidden)?,
                self.linear(&name("attn_v"), hidden, hidden)?,
            ],
            output: self.linear(&name("attn_output"), hidden, hidden)?,
            attention_norm: self.norm(&name("attn_output_norm"), hidden)?,
            up: self.linear(&name("ffn_up"), inner, hidden)?,
            down: self.linear(&name("ffn_down"), hidden, inner)?,
            norm: self.norm(&name("layer_output_norm"), hidden)?,
        })
    }
}

fn refused(name: &str, problem: &kernels::PackError) -> EngineError {
    EngineError::UnsupportedTensor {
        name: name.to_owned(),
        kind: problem.to_string(),
    }
}
