//! Model families: a file each, holding only what differs. The decoder is one.

mod llama;
mod qwen2;

use crate::FileProblem;
use crate::file::{Header, Metadata, TensorKind};

/// Bounds of a model's shape. They are generous multiples of the largest open model of 2026 and keep every product of
/// them inside 64 bits.
const MAX_LAYERS: u32 = 512;
const MAX_WIDTH: u32 = 1 << 17;
const MAX_HEADS: u32 = 1024;
const MAX_HEAD_WIDTH: u32 = 512;
const MAX_CONTEXT: u32 = 1 << 24;

/// Tokens of a prompt that are computed in one step.
pub const PREFILL_CHUNK: u32 = 256;

/// How the halves of a head are paired for the rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairs {
    /// Neighbours (2i, 2i+1): GGUF files of the llama family have their rows permuted for it.
    Neighbours,
    /// The first half with the second.
    Halves,
}

/// What the decoder needs to know of a model, from metadata alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_width: usize,
    /// Width of the feed-forward layer.
    pub feed_forward: usize,
    /// Context it was trained for, in tokens.
    pub context_train: u32,
    /// Added to the mean square in RMSNorm.
    pub rms_epsilon: f32,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Values of a head that are rotated, from its beginning.
    pub rope_width: usize,
    /// Positions are divided by it (linear scaling); 1 is off.
    pub rope_divisor: f32,
    /// How values are paired.
    pub rope_pairs: RopePairs,
    /// Query, key and value projections carry a bias.
    pub qkv_bias: bool,
}

/// What differs between families that share the decoder.
#[derive(Debug, Clone, Copy)]
struct Family {
    rope_pairs: RopePairs,
    qkv_bias: bool,
}

/// Why a file's shape cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub enum ShapeProblem {
    /// Damaged or contradictory metadata.
    Bad(FileProblem),
    /// A family or feature without code here.
    Unsupported(crate::EngineError),
}

impl Shape {
    /// Reads the shape of a model named `model` (for messages).
    pub fn from_metadata(metadata: &Metadata, model: &str) -> Result<Self, ShapeProblem> {
        let architecture = crate::text::architecture(metadata).map_err(ShapeProblem::Bad)?;
        let family = match architecture.as_str() {
            "llama" => llama::FAMILY,
            "qwen2" => qwen2::FAMILY,
            _ => {
                return Err(ShapeProblem::Unsupported(
                    crate::EngineError::UnsupportedArchitecture {
                        architecture,
                        model: model.to_owned(),
                    },
                ));
            }
        };
        let key = |name: &str| format!("{architecture}.{name}");
        let number = |name: &str, high: u32| {
            metadata
                .required(&key(name), 1, high)
                .map_err(ShapeProblem::Bad)
        };
        let hidden = number("embedding_length", MAX_WIDTH)?;
        let heads = number("attention.head_count", MAX_HEADS)?;
        let kv_heads = match metadata.get(&key("attention.head_count_kv")) {
            Some(_) => number("attention.head_count_kv", heads)?,
            None => heads,
        };
        let head_width = match metadata.get(&key("attention.key_length")) {
            Some(_) => number("attention.key_length", MAX_HEAD_WIDTH)?,
            None => hidden / heads,
        };
        let rope_width = match metadata.get(&key("rope.dimension_count")) {
            Some(_) => number("rope.dimension_count", head_width)?,
            None => head_width,
        };
        let bad = |name: &str, value: String| {
            ShapeProblem::Bad(FileProblem::BadValue {
                key: key(name),
                value,
            })
        };
        if !heads.is_multiple_of(kv_heads) {
            return Err(bad(
                "attention.head_count_kv",
                format!("{kv_heads} for {heads} heads"),
            ));
        }
        if head_width == 0 || !rope_width.is_multiple_of(2) {
            return Err(bad(
                "rope.dimension_count",
                format!("{rope_width} of {head_width}"),
            ));
        }
        refuse_features(metadata, &architecture, head_width)?;
        let float = |name: &str| metadata.float(&key(name)).map(|value| value as f32);
        let rms_epsilon = float("attention.layer_norm_rms_epsilon").ok_or_else(|| {
            ShapeProblem::Bad(FileProblem::MissingKey {
                key: key("attention.layer_norm_rms_epsilon"),
            })
        })?;
        let rope_base = float("rope.freq_base").unwrap_or(10_000.0);
        let rope_divisor = rope_divisor(metadata, &architecture)?;
        for (name, value) in [
            ("attention.layer_norm_rms_epsilon", rms_epsilon),
            ("rope.freq_base", rope_base),
            ("rope.scaling.factor", rope_divisor),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(bad(name, value.to_string()));
            }
        }
        Ok(Self {
            layers: number("block_count", MAX_LAYERS)? as usize,
            hidden: hidden as usize,
            heads: heads as usize,
            kv_heads: kv_heads as usize,
            head_width: head_width as usize,
            feed_forward: number("feed_forward_length", MAX_WIDTH)? as usize,
            context_train: number("context_length", MAX_CONTEXT)?,
            rms_epsilon,
            rope_base,
            rope_width: rope_width as usize,
            rope_divisor,
            rope_pairs: family.rope_pairs,
            qkv_bias: family.qkv_bias,
        })
    }

    /// Bytes of keys and values of one token, over all layers (32-bit floats).
    pub fn kv_bytes_per_token(&self) -> u64 {
        (self.layers * 2 * self.kv_heads * self.head_width * 4) as u64
    }

    /// Bytes that a step of a full prefill chunk takes beside weights and cache.
    pub fn scratch_bytes(&self) -> u64 {
        let widest = 4 * self.hidden
            + 3 * self.feed_forward
            + (self.heads + 2 * self.kv_heads) * self.head_width;
        (widest * PREFILL_CHUNK as usize * 4) as u64
    }
}

/// Divisor of positions; scalings of other kinds are refused.
fn rope_divisor(metadata: &Metadata, architecture: &str) -> Result<f32, ShapeProblem> {
    let key = format!("{architecture}.rope.scaling.type");
    let factor = metadata.float(&format!("{architecture}.rope.scaling.factor"));
    match metadata.text(&key) {
        None | Some("none") => {
            // What files of 2023 had in place of a type.
            let old = metadata.float(&format!("{architecture}.rope.scale_linear"));
            Ok(old.filter(|factor| *factor > 0.0).unwrap_or(1.0) as f32)
        }
        Some("linear") => Ok(factor.unwrap_or(1.0) as f32),
        Some(other) => Err(unsupported(key, other)),
    }
}

/// Features of llama-like files that change the calculation and are not built here.
fn refuse_features(
    metadata: &Metadata,
    architecture: &str,
    head_width: u32,
) -> Result<(), ShapeProblem> {
    let key = |name: &str| format!("{architecture}.{name}");
    if let Some(experts) = metadata
        .u32(&key("expert_count"))
        .filter(|&count| count > 0)
    {
        return Err(unsupported(key("expert_count"), &experts.to_string()));
    }
    if let Some(width) = metadata
        .u32(&key("attention.value_length"))
        .filter(|&width| width != head_width)
    {
        return Err(unsupported(
            key("attention.value_length"),
            &width.to_string(),
        ));
    }
    if metadata.bool(&key("attention.causal")) == Some(false) {
        return Err(unsupported(key("attention.causal"), "false"));
    }
    Ok(())
}

fn unsupported(what: String, value: &str) -> ShapeProblem {
    ShapeProblem::Unsupported(crate::EngineError::UnsupportedFeature {
        what,
        value: value.chars().take(64).collect(),
    })
}

/// Whether there is a kernel for weights stored like that.
pub fn computes(kind: TensorKind) -> bool {
    matches!(
        kind.to_string().as_str(),
        "F32"
            | "F16"
            | "BF16"
            | "Q4_0"
            | "Q4_1"
            | "Q5_0"
            | "Q5_1"
            | "Q8_0"
            | "Q2_K"
            | "Q3_K"
            | "Q4_K"
            | "Q5_K"
            | "Q6_K"
    )
}

/// Bytes that the weights take in memory once all have been used: mapped pages, and the copies that kernels make of
/// some formats in an order of their own.
pub fn resident_bytes(header: &Header) -> u64 {
    let resident = |tensor: &crate::file::TensorEntry| {
        let bytes = tensor.bytes().unwrap_or(0);
        match tensor.kind.to_string().as_str() {
            // Spread to 32-bit floats at load.
            "F16" | "BF16" => bytes.saturating_mul(3),
            // The copies are up to 1.34, 1.53 and 1.0 times the original.
            "Q4_K" => bytes + bytes / 3 + bytes,
            "Q6_K" => bytes + bytes / 2 + bytes,
            "Q8_0" if tensor.name != "token_embd.weight" => bytes.saturating_mul(2),
            _ => bytes,
        }
    };
    header
        .tensors
        .iter()
        .map(resident)
        .fold(0, u64::saturating_add)
}
