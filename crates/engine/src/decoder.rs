//! The one decoder: RMSNorm, attention with rotary embedding and grouped heads, gated feed-forward; over a flat batch of
//! rows that belong to any number of sequences, whose states are the caller's.
//!
//! Matrix products are candle's; what lies between them are row operations of this crate. Everything is computed row by
//! row in a fixed order, so a token's result is the same in a prompt's chunk and alone, on one thread and on many (for
//! weights in the block formats; those stored as plain floats go through a general matrix product).

use std::ops::Range;
use std::sync::Arc;

use candle_core::Device;
use candle_core::quantized::QTensor;

use crate::EngineError;
use crate::attention::attend;
use crate::cache::{PAGE, PagePool, SequenceState};
use crate::families::{RopePairs, Shape};
use crate::file::ModelFile;
use crate::vectors::{add, rms_norm, swiglu};
use crate::weights::{Linear, Weights, compute, tensor_of};

/// A model ready to compute.
#[derive(Debug)]
pub struct Decoder {
    shape: Shape,
    embedding: Arc<QTensor>,
    blocks: Vec<Block>,
    norm: Vec<f32>,
    head: Linear,
    /// Angle per position of every rotated pair.
    frequencies: Vec<f64>,
}

#[derive(Debug)]
struct Block {
    attention_norm: Vec<f32>,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    feed_forward_norm: Vec<f32>,
    gate: Linear,
    up: Linear,
    down: Linear,
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
}

/// The part of a step that belongs to one sequence: its next tokens, a chunk of a prompt or a single one.
#[derive(Debug)]
pub struct Span<'a> {
    /// What was computed of the sequence so far.
    pub state: &'a mut SequenceState,
    /// The ids that follow.
    pub ids: &'a [u32],
    /// The logits that are of use.
    pub wanted: Wanted,
}

/// What comes out of a step.
#[derive(Debug)]
pub enum Step {
    /// All spans are computed. Per span its wanted rows of logits, one after the other: `[rows][vocabulary]`.
    Computed(Vec<Vec<f32>>),
    /// The caller said stop; every sequence is as before.
    Interrupted,
}

impl Decoder {
    /// Builds the decoder over a file's tensors. Nothing is read but norms and biases.
    pub fn new(file: &Arc<ModelFile>) -> Result<Self, EngineError> {
        let shape =
            Shape::from_metadata(&file.header().metadata, &file.name()).map_err(|problem| {
                match problem {
                    crate::families::ShapeProblem::Bad(problem) => file.bad(problem),
                    crate::families::ShapeProblem::Unsupported(error) => error,
                }
            })?;
        // Named before any weight is touched, whichever tensor it is.
        if let Some(entry) = file
            .header()
            .tensors
            .iter()
            .find(|entry| !crate::families::computes(entry.kind))
        {
            return Err(EngineError::UnsupportedTensor {
                name: entry.name.clone(),
                kind: entry.kind.to_string(),
            });
        }
        let weights = Weights::new(file.clone());
        let rows = weights.rows_of("token_embd.weight")? as usize;
        let embedding = weights.table("token_embd.weight", rows, shape.hidden)?;
        let head = match weights.has("output.weight") {
            true => weights.linear("output.weight", None, rows, shape.hidden)?,
            false => Weights::as_linear(&embedding, rows)?,
        };
        let blocks = (0..shape.layers).map(|layer| Block::new(&weights, &shape, layer));
        Ok(Self {
            blocks: blocks.collect::<Result<_, _>>()?,
            norm: weights.vector("output_norm.weight", shape.hidden)?,
            frequencies: frequencies(&weights, &shape)?,
            embedding,
            head,
            shape,
        })
    }

    /// The model's shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Rows of the vocabulary's table: ids below it can be computed with.
    pub fn vocabulary(&self) -> usize {
        self.head.outputs()
    }

    /// Computes the next ids of any number of sequences at once: every linear layer runs once over all rows. What a row
    /// gives does not depend on the others. `interrupted` is asked between the layers of a step of several rows.
    pub fn step(
        &self,
        pool: &mut PagePool,
        spans: &mut [Span<'_>],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Step, EngineError> {
        let mut ids = spans.iter().flat_map(|span| span.ids);
        if let Some(&id) = ids.find(|&&id| id as usize >= self.vocabulary()) {
            return Err(EngineError::TokenOutside {
                id,
                vocabulary: self.vocabulary() as u32,
            });
        }
        let reserved = spans
            .iter_mut()
            .try_for_each(|span| pool.reserve(span.state, span.ids.len()));
        let step = reserved.and_then(|()| self.compute(spans, interrupted));
        for span in spans {
            match &step {
                Ok(Step::Computed(_)) => span.state.advance(span.ids.len()),
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
        spans: &mut [Span<'_>],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Step, EngineError> {
        let shape = &self.shape;
        let ids: Vec<u32> = spans.iter().flat_map(|span| span.ids).copied().collect();
        let positions = spans
            .iter()
            .flat_map(|span| span.state.len()..span.state.len() + span.ids.len());
        let rotation = Rotation::new(&self.frequencies, positions, shape);
        let wanted = wanted_rows(spans);
        let mut stream = self.embed(&ids)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            if ids.len() > 1 && interrupted() {
                return Ok(Step::Interrupted);
            }
            block.attention(shape, spans, layer, &rotation, &mut stream)?;
            // Of the last block, only rows whose logits are wanted go on.
            if layer + 1 == self.blocks.len() {
                stream = wanted
                    .iter()
                    .cloned()
                    .flatten()
                    .flat_map(|row| &stream[row * shape.hidden..][..shape.hidden])
                    .copied()
                    .collect();
            }
            if !stream.is_empty() {
                block.feed_forward(shape, &mut stream)?;
            }
        }
        if stream.is_empty() {
            return Ok(Step::Computed(vec![Vec::new(); spans.len()]));
        }
        let normed = rms_norm(&stream, &self.norm, shape.rms_epsilon);
        let mut logits = self.head.forward(&tensor_of(normed, shape.hidden)?)?;
        let mut split = Vec::with_capacity(spans.len());
        for rows in wanted.iter().rev() {
            split.push(logits.split_off(logits.len() - rows.len() * self.vocabulary()));
        }
        split.reverse();
        Ok(Step::Computed(split))
    }

    fn embed(&self, ids: &[u32]) -> Result<Vec<f32>, EngineError> {
        let ids = candle_core::Tensor::new(ids, &Device::Cpu).map_err(compute)?;
        let rows = self
            .embedding
            .embedding(&ids)
            .and_then(|rows| rows.flatten_all());
        rows.and_then(|rows| rows.to_vec1()).map_err(compute)
    }
}

impl Block {
    fn new(weights: &Weights, shape: &Shape, layer: usize) -> Result<Self, EngineError> {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let linear =
            |part: &str, outputs, inputs| weights.linear(&name(part), None, outputs, inputs);
        let (queries, keys) = (
            shape.heads * shape.head_width,
            shape.kv_heads * shape.head_width,
        );
        let into_attention = |part: &str, outputs| {
            let bias = format!("blk.{layer}.{part}.bias");
            // A bias that the family does not demand is honoured where a file has it.
            let bias = (shape.qkv_bias || weights.has(&bias)).then_some(bias.as_str().to_owned());
            weights.linear(&name(part), bias.as_deref(), outputs, shape.hidden)
        };
        Ok(Self {
            attention_norm: weights.vector(&name("attn_norm"), shape.hidden)?,
            query: into_attention("attn_q", queries)?,
            key: into_attention("attn_k", keys)?,
            value: into_attention("attn_v", keys)?,
            output: linear("attn_output", shape.hidden, queries)?,
            feed_forward_norm: weights.vector(&name("ffn_norm"), shape.hidden)?,
            gate: linear("ffn_gate", shape.feed_forward, shape.hidden)?,
            up: linear("ffn_up", shape.feed_forward, shape.hidden)?,
            down: linear("ffn_down", shape.hidden, shape.feed_forward)?,
        })
    }

    fn attention(
        &self,
        shape: &Shape,
        spans: &mut [Span<'_>],
        layer: usize,
        rotation: &Rotation,
        stream: &mut [f32],
    ) -> Result<(), EngineError> {
        let normed = tensor_of(
            rms_norm(stream, &self.attention_norm, shape.rms_epsilon),
            shape.hidden,
        )?;
        let mut queries = self.query.forward(&normed)?;
        let mut keys = self.key.forward(&normed)?;
        let values = self.value.forward(&normed)?;
        rotation.apply(&mut queries, shape.heads);
        rotation.apply(&mut keys, shape.kv_heads);
        let (query_width, key_width) = (
            shape.heads * shape.head_width,
            shape.kv_heads * shape.head_width,
        );
        let (mut row, mut attended) = (0, Vec::with_capacity(queries.len()));
        for span in spans {
            let rows = row..row + span.ids.len();
            let part =
                |values: &'_ [f32], width| values[rows.start * width..rows.end * width].to_vec();
            write(
                shape,
                span.state,
                layer,
                &part(&keys, key_width),
                &part(&values, key_width),
            );
            attended.extend(attend(
                shape,
                span.state,
                layer,
                &part(&queries, query_width),
            ));
            row = rows.end;
        }
        add(
            stream,
            &self.output.forward(&tensor_of(attended, query_width)?)?,
        );
        Ok(())
    }

    fn feed_forward(&self, shape: &Shape, stream: &mut [f32]) -> Result<(), EngineError> {
        let normed = tensor_of(
            rms_norm(stream, &self.feed_forward_norm, shape.rms_epsilon),
            shape.hidden,
        )?;
        let gated = swiglu(
            &self.gate.forward(&normed)?,
            &self.up.forward(&normed)?,
            shape.feed_forward,
        );
        add(
            stream,
            &self.down.forward(&tensor_of(gated, shape.feed_forward)?)?,
        );
        Ok(())
    }
}

/// Writes the keys and values of the tokens after a sequence's length.
fn write(shape: &Shape, state: &mut SequenceState, layer: usize, keys: &[f32], values: &[f32]) {
    let heads = keys
        .chunks_exact(shape.head_width)
        .zip(values.chunks_exact(shape.head_width));
    for (index, (key, value)) in heads.enumerate() {
        let position = state.len() + index / shape.kv_heads;
        if let Some(page) = state.page_mut(position) {
            page.write(layer, index % shape.kv_heads, position % PAGE, key, value);
        }
    }
}

/// Rows of a flat batch whose logits are wanted, per span.
fn wanted_rows(spans: &[Span<'_>]) -> Vec<Range<usize>> {
    let mut end = 0;
    let rows = |span: &Span<'_>| {
        let start = end;
        end += span.ids.len();
        match span.wanted {
            Wanted::Nothing => end..end,
            Wanted::Last => end.saturating_sub(1).max(start)..end,
            Wanted::From(index) => start.saturating_add(index).min(end)..end,
        }
    };
    spans.iter().map(rows).collect()
}

/// Angles per position: `base^(−2i / width)`, divided by the linear scaling and by the file's own factors (Llama 3.1).
fn frequencies(weights: &Weights, shape: &Shape) -> Result<Vec<f64>, EngineError> {
    let pairs = shape.rope_width / 2;
    let factors = match weights.has("rope_freqs.weight") {
        true => weights.vector("rope_freqs.weight", pairs)?,
        false => vec![1.0; pairs],
    };
    let exponent = |pair: usize| -2.0 * pair as f64 / shape.rope_width as f64;
    let base = f64::from(shape.rope_base);
    let angle = |(pair, factor): (usize, f32)| {
        base.powf(exponent(pair)) / f64::from(factor * shape.rope_divisor)
    };
    Ok(factors.into_iter().enumerate().map(angle).collect())
}

/// Sines and cosines of a step's positions, shared by its layers and heads.
struct Rotation {
    /// `[row][pair]`.
    turns: Vec<(f32, f32)>,
    pairs: usize,
    head_width: usize,
    style: RopePairs,
}

impl Rotation {
    fn new(frequencies: &[f64], positions: impl Iterator<Item = usize>, shape: &Shape) -> Self {
        let turn = |position: usize, frequency: &f64| {
            let (sine, cosine) = (position as f64 * frequency).sin_cos();
            (sine as f32, cosine as f32)
        };
        Self {
            turns: positions
                .flat_map(|at| frequencies.iter().map(move |frequency| turn(at, frequency)))
                .collect(),
            pairs: frequencies.len(),
            head_width: shape.head_width,
            style: shape.rope_pairs,
        }
    }

    /// Rotates rows of `heads` heads in place.
    fn apply(&self, rows: &mut [f32], heads: usize) {
        let rows = rows.chunks_exact_mut(heads * self.head_width);
        for (row, turns) in rows.zip(self.turns.chunks_exact(self.pairs)) {
            for head in row.chunks_exact_mut(self.head_width) {
                match self.style {
                    RopePairs::Neighbours => {
                        for (pair, &(sine, cosine)) in head.chunks_exact_mut(2).zip(turns) {
                            (pair[0], pair[1]) = turned(pair[0], pair[1], sine, cosine);
                        }
                    }
                    RopePairs::Halves => {
                        let (first, second) = head[..2 * self.pairs].split_at_mut(self.pairs);
                        for ((a, b), &(sine, cosine)) in first.iter_mut().zip(second).zip(turns) {
                            (*a, *b) = turned(*a, *b, sine, cosine);
                        }
                    }
                }
            }
        }
    }
}

fn turned(a: f32, b: f32, sine: f32, cosine: f32) -> (f32, f32) {
    (a * cosine - b * sine, a * sine + b * cosine)
}
