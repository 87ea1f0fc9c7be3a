//! Encoders of the BERT kind: what a file's metadata says of one, and the tensors that follow from it.

use std::collections::BTreeMap;

use super::packed_bytes;
use crate::file::{ModelFile, TensorEntry};
use crate::pooling::Pooling;
use crate::{EngineError, FileProblem};

/// `general.architecture` of these files.
pub const ARCHITECTURE: &str = "bert";

/// Tables of which rows are looked up.
const TOKENS: &str = "token_embd.weight";
const POSITIONS: &str = "position_embd.weight";
const TYPES: &str = "token_types.weight";

/// Bounds of the metadata: several times the largest encoder there is (24 layers, 1,024 wide, 8,192 tokens).
const MAX_LAYERS: u32 = 128;
const MAX_HIDDEN: u32 = 16_384;
const MAX_FEED_FORWARD: u32 = 65_536;
const MAX_CONTEXT: u32 = 32_768;

/// The sizes of an encoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EncoderShape {
    /// Layers.
    pub layers: usize,
    /// Values of a row.
    pub hidden: usize,
    /// Heads, each `hidden / heads` wide.
    pub heads: usize,
    /// Values inside the feed-forward part.
    pub feed_forward: usize,
    /// Tokens of a text at most.
    pub context: usize,
    /// Rows of the token table.
    pub rows: usize,
    /// How rows become a vector.
    pub pooling: Pooling,
}

/// A dimension of a tensor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Size {
    Exactly(usize),
    AtLeast(usize),
}

impl EncoderShape {
    pub(crate) fn of(file: &ModelFile) -> Result<Self, EngineError> {
        let metadata = &file.header().metadata;
        if metadata.text("general.architecture") != Some(ARCHITECTURE) {
            let name = metadata.text("general.architecture").unwrap_or_default();
            return Err(EngineError::UnsupportedArchitecture {
                architecture: name.chars().take(64).collect(),
                model: file.name(),
            });
        }
        let number = |name: &str, high: u32| {
            let value = metadata.required(&format!("{ARCHITECTURE}.{name}"), 1, high);
            value
                .map(|value| value as usize)
                .map_err(|problem| file.bad(problem))
        };
        let hidden = number("embedding_length", MAX_HIDDEN)?;
        let heads = number("attention.head_count", MAX_HIDDEN)?;
        if !hidden.is_multiple_of(heads) {
            return Err(file.bad(FileProblem::BadValue {
                key: format!("{ARCHITECTURE}.attention.head_count"),
                value: format!("{heads} for {hidden} values"),
            }));
        }
        Self::epsilon(file)?;
        Ok(Self {
            layers: number("block_count", MAX_LAYERS)?,
            hidden,
            heads,
            feed_forward: number("feed_forward_length", MAX_FEED_FORWARD)?,
            context: number("context_length", MAX_CONTEXT)?,
            rows: 1,
            pooling: pooling(file)?,
        })
    }

    /// What is added to a variance before its root is taken.
    pub(crate) fn epsilon(file: &ModelFile) -> Result<f32, EngineError> {
        let key = format!("{ARCHITECTURE}.attention.layer_norm_epsilon");
        let epsilon = file.header().metadata.float(&key);
        let sensible = epsilon.filter(|epsilon| (0.0..=1.0).contains(epsilon));
        let epsilon = sensible.ok_or_else(|| {
            file.bad(match epsilon {
                Some(value) => FileProblem::BadValue {
                    key,
                    value: value.to_string(),
                },
                None => FileProblem::MissingKey { key },
            })
        })?;
        Ok(epsilon as f32)
    }

    /// Bytes that a text of the full context takes while it is computed: the stream, its projections and what comes of
    /// them, each beside its rounded form.
    pub fn scratch_bytes(&self) -> u64 {
        let row = 8 * self.hidden + 2 * self.feed_forward;
        (self.context * row * size_of::<f32>()) as u64
    }

    /// Bytes that the weights of a file take in memory: matrices packed for the kernels, tables as 32-bit floats, but for
    /// that of the tokens, which is read where it lies.
    pub fn resident_bytes(file: &ModelFile) -> u64 {
        let resident = |tensor: &TensorEntry| match tensor.name.as_str() {
            TOKENS => tensor.bytes().unwrap_or(0),
            POSITIONS | TYPES => tensor.elements().saturating_mul(4),
            _ => packed_bytes(tensor),
        };
        let tensors = file.header().tensors.iter();
        tensors.map(resident).fold(0, u64::saturating_add)
    }

    /// Every tensor of such a file, with its shape (outermost dimension first).
    pub(crate) fn tensors(&self) -> BTreeMap<String, Vec<Size>> {
        let mut due = BTreeMap::new();
        let hidden = Size::Exactly(self.hidden);
        let inner = Size::Exactly(self.feed_forward);
        let table = |rows| vec![Size::AtLeast(rows), hidden];
        due.insert(TOKENS.to_owned(), table(1));
        due.insert(TYPES.to_owned(), table(1));
        due.insert(POSITIONS.to_owned(), table(self.context));
        let mut pair = |name: &str, weight: Vec<Size>, bias: Size| {
            due.insert(format!("{name}.weight"), weight);
            due.insert(format!("{name}.bias"), vec![bias]);
        };
        pair("token_embd_norm", vec![hidden], hidden);
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
                pair(&name(part), vec![hidden, hidden], hidden);
            }
            pair(&name("ffn_up"), vec![inner, hidden], inner);
            pair(&name("ffn_down"), vec![hidden, inner], hidden);
            pair(&name("attn_output_norm"), vec![hidden], hidden);
            pair(&name("layer_output_norm"), vec![hidden], hidden);
        }
        due
    }
}

/// As the file says; without a word the mean, which most sentence encoders are trained with.
fn pooling(file: &ModelFile) -> Result<Pooling, EngineError> {
    let said = Pooling::of(&file.header().metadata, ARCHITECTURE);
    let said = said.map_err(|unknown| EngineError::UnsupportedFeature {
        what: unknown.key,
        value: unknown.value,
    })?;
    Ok(said.unwrap_or(Pooling::Mean))
}
