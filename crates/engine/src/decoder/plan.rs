//! What a load will take: every tensor of a file has its place, by name and shape, before the first weight is touched.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::block::{Block, FeedForward, Gated};
use crate::backend::Backend;
use crate::families::{Scaling, Shape, ShapeProblem, computes};
use crate::file::{ModelFile, TensorEntry};
use crate::{EngineError, FileProblem};

/// A model file whose every tensor is understood.
#[derive(Debug)]
pub struct Plan {
    pub(super) file: Arc<ModelFile>,
    pub(super) shape: Shape,
    pub(super) blocks: Vec<Block<PlannedMatrix, PlannedVector>>,
    pub(super) norm: PlannedVector,
    pub(super) head: PlannedMatrix,
    /// Index of the vocabulary's table among the tensors.
    pub(super) embedding: usize,
    pub(super) divisors: Divisors,
}

/// Rows of a tensor that become a matrix.
#[derive(Debug, Clone)]
pub(crate) struct PlannedMatrix {
    /// Index among the file's tensors.
    pub(super) tensor: usize,
    /// Of all its rows, whatever its dimensions.
    pub(super) rows: Range<usize>,
    pub(super) inputs: usize,
    pub(super) bias: Option<PlannedVector>,
}

/// A tensor that becomes a row of 32-bit floats.
#[derive(Debug, Clone)]
pub(crate) struct PlannedVector {
    /// Index among the file's tensors.
    pub(super) tensor: usize,
    pub(super) length: usize,
}

/// Tensors that divide the rotary frequencies.
#[derive(Debug, Default)]
pub(super) struct Divisors {
    pub(super) always: Option<PlannedVector>,
    /// Up to the original context, and beyond it.
    pub(super) by_context: Option<(PlannedVector, PlannedVector)>,
}

impl Plan {
    /// Understands a file, or says why not.
    pub fn of(file: &Arc<ModelFile>) -> Result<Self, EngineError> {
        if !file.has_weights() {
            return Err(EngineError::NoWeights {
                file: file.path().to_owned(),
            });
        }
        let metadata = &file.header().metadata;
        let shape =
            Shape::from_metadata(metadata, &file.name()).map_err(|problem| match problem {
                ShapeProblem::Bad(problem) => file.bad(problem),
                ShapeProblem::Unsupported(error) => error,
            })?;
        let tensors = Tensors::of(file)?;
        let pairs = shape.rope.width / 2;
        let divisors = match shape.rope.scaling {
            Scaling::Long => Divisors {
                always: None,
                by_context: Some((
                    tensors.vector("rope_factors_short.weight", pairs)?,
                    tensors.vector("rope_factors_long.weight", pairs)?,
                )),
            },
            Scaling::Linear(_) | Scaling::Yarn { .. } => Divisors {
                always: tensors.vector_if_there("rope_freqs.weight", pairs)?,
                by_context: match tensors.has("rope_factors_long.weight") {
                    true => Some((
                        tensors.vector("rope_factors_short.weight", pairs)?,
                        tensors.vector("rope_factors_long.weight", pairs)?,
                    )),
                    false => None,
                },
            },
        };
        let table = "token_embd.weight";
        let embedding = tensors.find(table)?;
        // The table may have more rows than there are pieces.
        let rows = tensors.entry(embedding).shape[0] as usize;
        tensors.expect(embedding, &[rows, shape.hidden])?;
        let head = match tensors.has("output.weight") {
            true => "output.weight",
            false => table,
        };
        let plan = Self {
            embedding,
            divisors,
            blocks: (0..shape.layers)
                .map(|layer| plan_block(&tensors, &shape, layer))
                .collect::<Result<_, _>>()?,
            norm: tensors.vector("output_norm.weight", shape.hidden)?,
            head: tensors.matrix(head, rows, shape.hidden)?,
            file: file.clone(),
            shape,
        };
        tensors.refuse_others()?;
        Ok(plan)
    }

    /// The model's shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Rows of the vocabulary's table.
    pub fn vocabulary(&self) -> usize {
        self.head.rows.len()
    }

    /// Its file.
    pub fn file(&self) -> &Arc<ModelFile> {
        &self.file
    }

    /// Bytes that its matrices will take on a device.
    pub(super) fn matrix_bytes<B: Backend>(&self) -> Result<u64, EngineError> {
        let mut sum = 0u64;
        let mut add = |matrix: &PlannedMatrix| {
            let kind = self.file.header().tensors[matrix.tensor].kind;
            sum = sum.saturating_add(B::matrix_bytes(kind, matrix.rows.len(), matrix.inputs));
            Ok(())
        };
        for block in &self.blocks {
            block.load(&mut add, |_| Ok(()))?;
        }
        add(&self.head)?;
        Ok(sum)
    }

    /// Bytes that the weights will take in memory once they are packed.
    pub fn weights_bytes(&self) -> u64 {
        crate::families::resident_bytes(self.file.header())
    }
}

fn plan_block(
    tensors: &Tensors<'_>,
    shape: &Shape,
    layer: usize,
) -> Result<Block<PlannedMatrix, PlannedVector>, EngineError> {
    let name = |part: &str| format!("blk.{layer}.{part}.weight");
    let (hidden, inner) = (shape.hidden, shape.feed_forward);
    let (queries, keys) = (
        shape.heads * shape.head_width,
        shape.kv_heads * shape.head_width,
    );
    let vector = |part: &str, length| tensors.vector(&name(part), length);
    let vector_if = |wanted: bool, part: &str, length| match wanted {
        true => vector(part, length).map(Some),
        false => Ok(None),
    };
    let matrix = |part: &str, outputs, inputs| tensors.matrix(&name(part), outputs, inputs);
    let [query, key, value] = match shape.fused {
        true => tensors.split(&name("attn_qkv"), [queries, keys, keys], hidden)?,
        false => {
            let projection = |part: &str, outputs| {
                let mut planned = matrix(part, outputs, hidden)?;
                let bias = format!("blk.{layer}.{part}.bias");
                // A bias that the family does not demand is honoured where a file has it.
                if shape.qkv_bias || tensors.has(&bias) {
                    planned.bias = Some(tensors.vector(&bias, outputs)?);
                }
                Ok(planned)
            };
            [
                projection("attn_q", queries)?,
                projection("attn_k", keys)?,
                projection("attn_v", keys)?,
            ]
        }
    };
    let feed_forward = match shape.experts {
        Some(experts) => {
            let all = |part: &str, outputs, inputs| {
                tensors.each(&name(part), experts.count, outputs, inputs)
            };
            let gates = all("ffn_gate_exps", inner, hidden)?;
            let ups = all("ffn_up_exps", inner, hidden)?;
            let downs = all("ffn_down_exps", hidden, inner)?;
            let each = gates.into_iter().zip(ups).zip(downs);
            FeedForward::Experts {
                router: matrix("ffn_gate_inp", experts.count, hidden)?,
                experts: each
                    .map(|((gate, up), down)| Gated { gate, up, down })
                    .collect(),
            }
        }
        None => {
            let [gate, up] = match shape.fused {
                true => tensors.split(&name("ffn_up"), [inner, inner], hidden)?,
                false => [
                    matrix("ffn_gate", inner, hidden)?,
                    matrix("ffn_up", inner, hidden)?,
                ],
            };
            let down = matrix("ffn_down", hidden, inner)?;
            FeedForward::Gated(Gated { gate, up, down })
        }
    };
    Ok(Block {
        attention_norm: vector("attn_norm", hidden)?,
        query,
        key,
        value,
        query_norm: vector_if(shape.head_norms, "attn_q_norm", shape.head_width)?,
        key_norm: vector_if(shape.head_norms, "attn_k_norm", shape.head_width)?,
        output: matrix("attn_output", hidden, queries)?,
        attention_post_norm: vector_if(shape.post_norms, "post_attention_norm", hidden)?,
        feed_forward_norm: vector("ffn_norm", hidden)?,
        feed_forward,
        feed_forward_post_norm: vector_if(shape.post_norms, "post_ffw_norm", hidden)?,
    })
}

/// The tensors of a file, by name and due shape.
struct Tensors<'f> {
    file: &'f ModelFile,
    by_name: BTreeMap<&'f str, usize>,
    placed: RefCell<BTreeSet<usize>>,
}

impl<'f> Tensors<'f> {
    fn of(file: &'f ModelFile) -> Result<Self, EngineError> {
        let tensors = &file.header().tensors;
        if let Some(entry) = tensors.iter().find(|entry| !computes(entry.kind)) {
            return Err(EngineError::UnsupportedTensor {
                name: entry.name.clone(),
                kind: entry.kind.to_string(),
            });
        }
        let by_name = tensors.iter().enumerate();
        Ok(Self {
            file,
            by_name: by_name
                .map(|(index, entry)| (entry.name.as_str(), index))
                .collect(),
            placed: RefCell::default(),
        })
    }

    fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    fn entry(&self, index: usize) -> &'f TensorEntry {
        &self.file.header().tensors[index]
    }

    fn find(&self, name: &str) -> Result<usize, EngineError> {
        let index = self.by_name.get(name).copied();
        let index = index.ok_or_else(|| {
            self.file.bad(FileProblem::MissingTensor {
                name: name.to_owned(),
            })
        })?;
        self.placed.borrow_mut().insert(index);
        Ok(index)
    }

    fn expect(&self, index: usize, shape: &[usize]) -> Result<(), EngineError> {
        let entry = self.entry(index);
        let expected: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
        if entry.shape == expected {
            return Ok(());
        }
        Err(self.file.bad(FileProblem::WrongShape {
            name: entry.name.clone(),
            found: entry.shape.clone(),
            expected,
        }))
    }

    fn matrix(
        &self,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<PlannedMatrix, EngineError> {
        let [matrix] = self.split(name, [outputs], inputs)?;
        Ok(matrix)
    }

    /// A tensor whose rows are several matrices, one after the other.
    fn split<const N: usize>(
        &self,
        name: &str,
        outputs: [usize; N],
        inputs: usize,
    ) -> Result<[PlannedMatrix; N], EngineError> {
        let tensor = self.find(name)?;
        self.expect(tensor, &[outputs.iter().sum(), inputs])?;
        let mut start = 0;
        Ok(outputs.map(|outputs| {
            let rows = start..start + outputs;
            start = rows.end;
            PlannedMatrix {
                tensor,
                rows,
                inputs,
                bias: None,
            }
        }))
    }

    /// A tensor of three dimensions whose outermost counts matrices.
    fn each(
        &self,
        name: &str,
        count: usize,
        outputs: usize,
        inputs: usize,
    ) -> Result<Vec<PlannedMatrix>, EngineError> {
        let tensor = self.find(name)?;
        self.expect(tensor, &[count, outputs, inputs])?;
        let planned = |index| PlannedMatrix {
            tensor,
            rows: index * outputs..(index + 1) * outputs,
            inputs,
            bias: None,
        };
        Ok((0..count).map(planned).collect())
    }

    fn vector(&self, name: &str, length: usize) -> Result<PlannedVector, EngineError> {
        let tensor = self.find(name)?;
        self.expect(tensor, &[length])?;
        Ok(PlannedVector { tensor, length })
    }

    fn vector_if_there(
        &self,
        name: &str,
        length: usize,
    ) -> Result<Option<PlannedVector>, EngineError> {
        match self.has(name) {
            true => self.vector(name, length).map(Some),
            false => Ok(None),
        }
    }

    /// A tensor that has no place would change the calculation if it had one.
    fn refuse_others(&self) -> Result<(), EngineError> {
        let placed = self.placed.borrow();
        let all = self.file.header().tensors.iter().enumerate();
        match all.into_iter().find(|(index, _)| !placed.contains(index)) {
            None => Ok(()),
            Some((_, entry)) => Err(EngineError::UnsupportedFeature {
                what: "a tensor".to_owned(),
                value: entry.name.chars().take(64).collect(),
            }),
        }
    }
}

impl PlannedMatrix {
    /// Bytes of its rows inside its tensor.
    pub(super) fn bytes(&self, entry: &TensorEntry) -> Range<usize> {
        let all = entry.shape.iter().rev().skip(1).product::<u64>().max(1);
        let row = (entry.bytes().unwrap_or(0) / all) as usize;
        self.rows.start * row..self.rows.end * row
    }
}
