//! Model families: a file each, holding only what differs. The decoder is one.

pub mod bert;
mod gemma3;
mod llama;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_moe;
mod rope;

pub use rope::{Rope, RopePairs, Scaling};

use crate::FileProblem;
use crate::file::{Array, Header, Metadata, TensorKind, Value};

/// Bounds of a model's shape. They are generous multiples of the largest open model of 2026 and keep every product of
/// them inside 64 bits.
const MAX_LAYERS: u32 = 512;
const MAX_WIDTH: u32 = 1 << 17;
const MAX_HEADS: u32 = 1024;
const MAX_HEAD_WIDTH: u32 = 512;
const MAX_CONTEXT: u32 = 1 << 24;
const MAX_EXPERTS: u32 = 1024;

/// Tokens of a prompt that are computed in one step.
pub const PREFILL_CHUNK: u32 = 256;

/// Buffers of a step that are kept for the next one: as many rows as a layer has in use at once.
pub(crate) const KEPT_BUFFERS: usize = 12;

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
    /// Width of the feed-forward layer, or of one expert.
    pub feed_forward: usize,
    /// Context it was trained for, in tokens.
    pub context_train: u32,
    /// Added to the mean square in RMSNorm.
    pub rms_epsilon: f32,
    /// The rotary embedding.
    pub rope: Rope,
    /// What differs in layers that see only the last tokens.
    pub local: Option<Local>,
    /// Rows of the vocabulary's table are multiplied with it.
    pub embedding_scale: f32,
    /// Products of queries and keys are multiplied with it.
    pub attention_scale: f32,
    /// What the gate goes through.
    pub activation: Activation,
    /// Query, key and value projections carry a bias.
    pub qkv_bias: bool,
    /// Every head of queries and keys goes through an RMSNorm of its own before it is rotated.
    pub head_norms: bool,
    /// What attention and feed-forward give goes through an RMSNorm before it is added.
    pub post_norms: bool,
    /// Queries, keys and values are one tensor, and so are gate and up.
    pub fused: bool,
    /// The feed-forward layers are mixtures of experts.
    pub experts: Option<Experts>,
}

/// How far back the tokens of a layer see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To the beginning.
    All,
    /// Over a sliding window of the last tokens.
    Window,
}

impl Reach {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::All, Self::Window];
}

/// Layers with a sliding window.
#[derive(Debug, Clone, PartialEq)]
pub struct Local {
    /// Tokens that a token sees, its own included.
    pub window: usize,
    /// Which layers, first to last.
    pub layers: Vec<bool>,
    /// Their rotary embedding.
    pub rope: Rope,
}

/// A mixture of experts: per token the likeliest ones by a router's softmax, their weights made to sum to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: usize,
    /// Those that compute a token.
    pub used: usize,
}

/// The function of a gated feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// The tanh approximation of `x · Φ(x)`.
    Gelu,
}

/// What differs between families that share the decoder.
#[derive(Debug, Clone, Copy)]
struct Family {
    rope_pairs: RopePairs,
    qkv_bias: bool,
    head_norms: bool,
    post_norms: bool,
    fused: bool,
    experts: bool,
    activation: Activation,
    /// Which layers have a window where the metadata names one.
    windows: Windows,
    /// What metadata says beyond what all families share.
    adjust: fn(&mut Shape),
}

/// Which layers see only a window of the last tokens.
#[derive(Debug, Clone, Copy)]
enum Windows {
    /// None; a file that names a window is refused, since it would be computed wrongly.
    Refused,
    /// All of them.
    All,
    /// All but every n-th, which the metadata may say otherwise.
    AllButEvery(usize),
}

/// What most families have.
const PLAIN: Family = Family {
    rope_pairs: RopePairs::Halves,
    qkv_bias: false,
    head_norms: false,
    post_norms: false,
    fused: false,
    experts: false,
    activation: Activation::Silu,
    windows: Windows::Refused,
    adjust: |_| (),
};

/// By `general.architecture`: those of [`crate::ARCHITECTURES`], in its order.
static FAMILIES: [(&str, Family); crate::ARCHITECTURES.len()] = [
    ("llama", llama::FAMILY),
    ("qwen2", qwen2::FAMILY),
    ("qwen3", qwen3::FAMILY),
    ("qwen3moe", qwen3_moe::FAMILY),
    ("gemma3", gemma3::FAMILY),
    ("phi3", phi3::FAMILY),
];

/// Why a file's shape cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub enum ShapeProblem {
    /// Damaged or contradictory metadata.
    Bad(FileProblem),
    /// A family or feature without code here.
    Unsupported(crate::EngineError),
}

/// The keys of an architecture.
struct Keys<'m> {
    metadata: &'m Metadata,
    architecture: String,
}

impl Shape {
    /// Reads the shape of a model named `model` (for messages).
    pub fn from_metadata(metadata: &Metadata, model: &str) -> Result<Self, ShapeProblem> {
        let architecture = crate::text::architecture(metadata).map_err(ShapeProblem::Bad)?;
        let Some((_, family)) = FAMILIES.iter().find(|(name, _)| *name == architecture) else {
            return Err(ShapeProblem::Unsupported(
                crate::EngineError::UnsupportedArchitecture {
                    architecture,
                    model: model.to_owned(),
                },
            ));
        };
        let keys = Keys {
            metadata,
            architecture,
        };
        keys.refuse_features(family)?;
        let layers = keys.number("block_count", MAX_LAYERS)? as usize;
        let hidden = keys.number("embedding_length", MAX_WIDTH)?;
        let heads = keys.number("attention.head_count", MAX_HEADS)?;
        let kv_heads = keys.number_or("attention.head_count_kv", heads, heads)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(keys.bad(
                "attention.head_count_kv",
                format!("{kv_heads} for {heads} heads"),
            ));
        }
        let head_width = keys.number_or("attention.key_length", hidden / heads, MAX_HEAD_WIDTH)?;
        if head_width == 0 {
            return Err(keys.bad("attention.head_count", format!("{heads} of {hidden}")));
        }
        keys.refuse_unless("attention.value_length", f64::from(head_width))?;
        let rms_epsilon = keys.positive("attention.layer_norm_rms_epsilon", None)?;
        let context_train = keys.number("context_length", MAX_CONTEXT)?;
        let rope = Rope::read(&keys, family.rope_pairs, head_width, context_train)?;
        let experts = match family.experts {
            true => Some(keys.experts()?),
            false => None,
        };
        let feed_forward = match experts {
            Some(_) => keys.number("expert_feed_forward_length", MAX_WIDTH)?,
            None => keys.number("feed_forward_length", MAX_WIDTH)?,
        };
        let mut shape = Self {
            layers,
            hidden: hidden as usize,
            heads: heads as usize,
            kv_heads: kv_heads as usize,
            head_width: head_width as usize,
            feed_forward: feed_forward as usize,
            context_train,
            rms_epsilon,
            local: keys.local(family, layers, &rope)?,
            rope,
            embedding_scale: 1.0,
            attention_scale: 1.0 / (head_width as f32).sqrt(),
            activation: family.activation,
            qkv_bias: family.qkv_bias,
            head_norms: family.head_norms,
            post_norms: family.post_norms,
            fused: family.fused,
            experts,
        };
        (family.adjust)(&mut shape);
        Ok(shape)
    }

    /// Tokens that a token of a layer sees, its own included; `None` for all.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let local = self.local.as_ref()?;
        local.layers.get(layer)?.then_some(local.window)
    }

    /// How far the tokens of a layer see.
    pub fn reach(&self, layer: usize) -> Reach {
        match self.window(layer) {
            Some(_) => Reach::Window,
            None => Reach::All,
        }
    }

    /// How many layers before that one see as far: all of them in the end.
    pub fn before(&self, layer: usize, reach: Reach) -> usize {
        (0..layer.min(self.layers))
            .filter(|&other| self.reach(other) == reach)
            .count()
    }

    /// Layers that see so far.
    pub fn layers_of(&self, reach: Reach) -> usize {
        self.before(self.layers, reach)
    }

    /// Bytes of keys and values of one token, over all layers (32-bit floats).
    pub fn kv_bytes_per_token(&self) -> u64 {
        (self.layers * 2 * self.kv_heads * self.head_width * 4) as u64
    }

    /// Bytes that a step of a full prefill chunk takes beside weights and cache, or that are kept of it for the next one.
    pub fn scratch_bytes(&self) -> u64 {
        let used = self.experts.map_or(1, |experts| experts.used);
        let queries = self.heads * self.head_width;
        let in_use = 6 * self.hidden
            + 4 * self.feed_forward * used
            + 2 * (queries + 2 * self.kv_heads * self.head_width);
        let kept = KEPT_BUFFERS * self.hidden.max(self.feed_forward).max(queries);
        (in_use.max(kept) * PREFILL_CHUNK as usize * 4) as u64
    }
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn number(&self, name: &str, high: u32) -> Result<u32, ShapeProblem> {
        let number = self.metadata.required(&self.key(name), 1, high);
        number.map_err(ShapeProblem::Bad)
    }

    fn number_or(&self, name: &str, otherwise: u32, high: u32) -> Result<u32, ShapeProblem> {
        match self.metadata.get(&self.key(name)) {
            Some(_) => self.number(name, high),
            None => Ok(otherwise),
        }
    }

    /// A float, finite and above zero; where it is absent, the other one, or it is missed.
    fn positive(&self, name: &str, otherwise: Option<f32>) -> Result<f32, ShapeProblem> {
        let key = self.key(name);
        let missing = || ShapeProblem::Bad(FileProblem::MissingKey { key: key.clone() });
        let Some(value) = self.metadata.get(&key) else {
            return otherwise.ok_or_else(missing);
        };
        let float = self.metadata.float(&key).map(|float| float as f32);
        float
            .filter(|float| float.is_finite() && *float > 0.0)
            .ok_or_else(|| self.bad(name, value.brief()))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.metadata.text(&self.key(name))
    }

    fn bad(&self, name: &str, value: String) -> ShapeProblem {
        ShapeProblem::Bad(FileProblem::BadValue {
            key: self.key(name),
            value,
        })
    }

    fn unsupported(&self, name: &str, value: &str) -> ShapeProblem {
        ShapeProblem::Unsupported(crate::EngineError::UnsupportedFeature {
            what: self.key(name),
            value: value.chars().take(64).collect(),
        })
    }

    /// Refuses a file where a key is there and says anything else.
    fn refuse_unless(&self, name: &str, expected: f64) -> Result<(), ShapeProblem> {
        match self.metadata.get(&self.key(name)) {
            Some(value) if self.metadata.float(&self.key(name)) != Some(expected) => {
                Err(self.unsupported(name, &value.brief()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses what changes the calculation and is not built here.
    fn refuse_features(&self, family: &Family) -> Result<(), ShapeProblem> {
        if !family.experts {
            self.refuse_unless("expert_count", 0.0)?;
        }
        for name in [
            "expert_shared_count",
            "expert_group_count",
            "leading_dense_block_count",
            "attention.max_alibi_bias",
            "attention.clamp_kqv",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "nextn_predict_layers",
        ] {
            self.refuse_unless(name, 0.0)?;
        }
        for name in [
            "expert_weights_scale",
            "logit_scale",
            "residual_scale",
            "embedding_scale",
        ] {
            self.refuse_unless(name, 1.0)?;
        }
        if matches!(family.windows, Windows::Refused) {
            self.refuse_unless("attention.sliding_window", 0.0)?;
        }
        if self.metadata.bool(&self.key("attention.causal")) == Some(false) {
            return Err(self.unsupported("attention.causal", "false"));
        }
        Ok(())
    }

    fn experts(&self) -> Result<Experts, ShapeProblem> {
        let count = self.number("expert_count", MAX_EXPERTS)?;
        let used = self.number("expert_used_count", count)?;
        Ok(Experts {
            count: count as usize,
            used: used as usize,
        })
    }

    fn local(
        &self,
        family: &Family,
        layers: usize,
        global: &Rope,
    ) -> Result<Option<Local>, ShapeProblem> {
        let name = "attention.sliding_window";
        if self.metadata.float(&self.key(name)).unwrap_or(0.0) == 0.0 {
            return Ok(None);
        }
        let (which, rope) = match family.windows {
            Windows::Refused => return Ok(None),
            Windows::All => (vec![true; layers], global.clone()),
            Windows::AllButEvery(usual) => {
                let base = self.positive("rope.freq_base_swa", Some(gemma3::LOCAL_BASE))?;
                (self.pattern(usual, layers)?, global.unscaled(base))
            }
        };
        Ok(Some(Local {
            window: self.number(name, MAX_CONTEXT)? as usize,
            layers: which,
            rope,
        }))
    }

    /// Which layers have a window: as a list names them, or all but every n-th.
    fn pattern(&self, usual: usize, layers: usize) -> Result<Vec<bool>, ShapeProblem> {
        let name = "attention.sliding_window_pattern";
        if let Some(Value::Array(Array::Bool(which))) = self.metadata.get(&self.key(name)) {
            if which.len() != layers {
                return Err(self.bad(name, format!("a list of {}", which.len())));
            }
            return Ok(which.clone());
        }
        let every = self.number_or(name, usual as u32, MAX_LAYERS)? as usize;
        Ok((0..layers).map(|layer| layer % every < every - 1).collect())
    }
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

/// Bytes that the weights take in memory: packed for the kernels, and the vocabulary's table, of whose mapped pages all
/// may have been used.
pub fn resident_bytes(header: &Header) -> u64 {
    let tied = header.tensor("output.weight").is_none();
    let resident = |tensor: &crate::file::TensorEntry| {
        let mapped = tensor.bytes().unwrap_or(0);
        if tensor.name != "token_embd.weight" {
            packed_bytes(tensor)
        } else if tied {
            mapped.saturating_add(packed_bytes(tensor))
        } else {
            mapped
        }
    };
    header
        .tensors
        .iter()
        .map(resident)
        .fold(0, u64::saturating_add)
}

/// Bytes of a tensor on the device. Norms and biases become 32-bit floats.
#[cfg(feature = "worker")]
fn packed_bytes(tensor: &crate::file::TensorEntry) -> u64 {
    let Some((&inputs, outputs)) = tensor.shape.split_last() else {
        return 0;
    };
    if outputs.is_empty() {
        return inputs.saturating_mul(4);
    }
    let outputs = outputs.iter().product::<u64>();
    <crate::backend::Here as crate::backend::Backend>::matrix_bytes(
        tensor.kind,
        outputs as usize,
        inputs as usize,
    )
}

/// Without the worker's kernels nothing is packed.
#[cfg(not(feature = "worker"))]
fn packed_bytes(tensor: &crate::file::TensorEntry) -> u64 {
    tensor.bytes().unwrap_or(0)
}

#[cfg(test)]
impl Shape {
    /// A llama of that many heads, for tests of what computes with it.
    pub(crate) fn of_heads(heads: usize, kv_heads: usize, head_width: usize) -> Self {
        Self {
            layers: 2,
            hidden: heads * head_width,
            heads,
            kv_heads,
            head_width,
            feed_forward: 8,
            context_train: 512,
            rms_epsilon: 1e-5,
            rope: Rope {
                base: 10_000.0,
                width: head_width,
                pairs: RopePairs::Neighbours,
                scaling: Scaling::Linear(1.0),
                original_context: 512,
                magnitude: 1.0,
            },
            local: None,
            embedding_scale: 1.0,
            attention_scale: 1.0 / (head_width as f32).sqrt(),
            activation: Activation::Silu,
            qkv_bias: false,
            head_norms: false,
            post_norms: false,
            fused: false,
            experts: None,
        }
    }
}

#[cfg(test)]
mod tests;
