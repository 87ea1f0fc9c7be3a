//! A small model of every family and of every way to stretch positions. Weights are random 32-bit floats: an
//! implementation that rounds activations to 8 bits somewhere would choose other tokens.

use crate::tiny::{Kind, Meta, Tiny};
use crate::vocabulary::{CHATML, GEMMA, LLAMA3, MISTRAL, PHI3, bpe, spm};

/// Context of all of them, in tokens: a multiple of what llama.cpp rounds contexts up to.
pub(crate) const CONTEXT: u32 = 512;

/// Their names, which are those of the files in `references`.
pub(crate) const NAMES: [&str; 13] = [
    "llama",
    "llama-tied-linear",
    "llama-3-factors",
    "llama-yarn",
    "qwen2",
    "qwen2-yarn",
    "qwen3",
    "qwen3-yarn",
    "qwen3moe",
    "gemma3",
    "phi3",
    "phi3-longrope-short",
    "phi3-longrope-long",
];

/// What all of them have.
struct Shape {
    architecture: &'static str,
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head_width: usize,
    feed_forward: usize,
    tied: bool,
}

const PLAIN: Shape = Shape {
    architecture: "llama",
    layers: 3,
    hidden: 64,
    heads: 4,
    kv_heads: 2,
    head_width: 16,
    feed_forward: 96,
    tied: false,
};

/// The model of that name.
pub(crate) fn model(name: &str) -> Tiny {
    match name {
        "llama" => llama(&PLAIN, bpe("llama-bpe", &LLAMA3)),
        "llama-tied-linear" => {
            let shape = Shape {
                tied: true,
                kv_heads: 1,
                ..PLAIN
            };
            let mut tiny = llama(&shape, spm(true, &MISTRAL));
            tiny.set("llama.rope.scaling.type", Meta::Text("linear".into()));
            tiny.set("llama.rope.scaling.factor", Meta::F32(4.0));
            tiny
        }
        "llama-3-factors" => {
            let mut tiny = llama(&PLAIN, bpe("llama-bpe", &LLAMA3));
            tiny.set("llama.rope.freq_base", Meta::F32(500_000.0));
            factors(
                &mut tiny,
                "rope_freqs.weight",
                &[1.0, 1.0, 1.3, 2.0, 3.7, 8.0, 8.0, 8.0],
            );
            tiny
        }
        "llama-yarn" => yarn(llama(&PLAIN, bpe("llama-bpe", &LLAMA3)), "llama"),
        "qwen2" => qwen2(true),
        "qwen2-yarn" => yarn(qwen2(false), "qwen2"),
        "qwen3" => qwen3(),
        "qwen3-yarn" => yarn(qwen3(), "qwen3"),
        "qwen3moe" => qwen3moe(),
        "gemma3" => gemma3(),
        "phi3" => phi3(),
        // The trained context decides which of the two sets of factors counts: more positions than that are wanted here
        // by the second, and not by the first.
        "phi3-longrope-short" => longrope(phi3(), CONTEXT),
        "phi3-longrope-long" => longrope(phi3(), CONTEXT / 8),
        other => panic!("there is no model {other}"),
    }
}

fn llama(shape: &Shape, tokenizer: Vec<(String, Meta)>) -> Tiny {
    let mut tiny = begun(shape, tokenizer);
    for layer in 0..shape.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        norm(&mut tiny, &name("attn_norm.weight"), shape.hidden);
        projections(&mut tiny, layer, shape);
        norm(&mut tiny, &name("ffn_norm.weight"), shape.hidden);
        feed_forward(&mut tiny, layer, shape);
    }
    ended(tiny, shape)
}

fn qwen2(tied: bool) -> Tiny {
    let shape = Shape {
        architecture: "qwen2",
        tied,
        ..PLAIN
    };
    let mut tiny = llama(&shape, bpe("qwen2", &CHATML));
    for layer in 0..shape.layers {
        for (part, length) in [
            ("attn_q", shape.heads * shape.head_width),
            ("attn_k", shape.kv_heads * shape.head_width),
            ("attn_v", shape.kv_heads * shape.head_width),
        ] {
            tiny.add(&format!("blk.{layer}.{part}.bias"), &[length], Kind::F32);
        }
    }
    tiny
}

fn qwen3() -> Tiny {
    // Heads wider than the hidden state's share.
    let shape = Shape {
        architecture: "qwen3",
        head_width: 32,
        ..PLAIN
    };
    let mut tiny = llama(&shape, bpe("qwen2", &CHATML));
    head_norms(&mut tiny, &shape);
    tiny
}

fn qwen3moe() -> Tiny {
    const EXPERTS: usize = 8;
    const USED: u32 = 3;
    const EXPERT_WIDTH: usize = 32;
    let shape = Shape {
        architecture: "qwen3moe",
        ..PLAIN
    };
    let mut tiny = begun(&shape, bpe("qwen2", &CHATML));
    tiny.set("qwen3moe.expert_count", Meta::U32(EXPERTS as u32));
    tiny.set("qwen3moe.expert_used_count", Meta::U32(USED));
    tiny.set(
        "qwen3moe.expert_feed_forward_length",
        Meta::U32(EXPERT_WIDTH as u32),
    );
    for layer in 0..shape.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        norm(&mut tiny, &name("attn_norm.weight"), shape.hidden);
        projections(&mut tiny, layer, &shape);
        norm(&mut tiny, &name("ffn_norm.weight"), shape.hidden);
        let (hidden, kind) = (shape.hidden, Kind::F32);
        tiny.add(&name("ffn_gate_inp.weight"), &[EXPERTS, hidden], kind);
        tiny.add(
            &name("ffn_gate_exps.weight"),
            &[EXPERTS, EXPERT_WIDTH, hidden],
            kind,
        );
        tiny.add(
            &name("ffn_up_exps.weight"),
            &[EXPERTS, EXPERT_WIDTH, hidden],
            kind,
        );
        tiny.add(
            &name("ffn_down_exps.weight"),
            &[EXPERTS, hidden, EXPERT_WIDTH],
            kind,
        );
    }
    head_norms(&mut tiny, &shape);
    ended(tiny, &shape)
}

fn gemma3() -> Tiny {
    // Every sixth layer sees everything, the others this many tokens back.
    const WINDOW: u32 = 16;
    let shape = Shape {
        architecture: "gemma3",
        layers: 7,
        head_width: 32,
        tied: true,
        ..PLAIN
    };
    let mut tiny = begun(&shape, spm(false, &GEMMA));
    tiny.set("gemma3.attention.sliding_window", Meta::U32(WINDOW));
    tiny.set("gemma3.rope.freq_base", Meta::F32(1_000_000.0));
    tiny.set("gemma3.rope.scaling.type", Meta::Text("linear".into()));
    tiny.set("gemma3.rope.scaling.factor", Meta::F32(8.0));
    // Its rows are read eight times as large: else a token would predict itself, whatever the layers say.
    if let Some(table) = tiny.tensors.last_mut() {
        table.values.iter_mut().for_each(|value| *value *= 0.1);
    }
    for layer in 0..shape.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        norm(&mut tiny, &name("attn_norm.weight"), shape.hidden);
        projections(&mut tiny, layer, &shape);
        norm(&mut tiny, &name("post_attention_norm.weight"), shape.hidden);
        norm(&mut tiny, &name("ffn_norm.weight"), shape.hidden);
        feed_forward(&mut tiny, layer, &shape);
        norm(&mut tiny, &name("post_ffw_norm.weight"), shape.hidden);
    }
    head_norms(&mut tiny, &shape);
    ended(tiny, &shape)
}

fn phi3() -> Tiny {
    let shape = Shape {
        architecture: "phi3",
        ..PLAIN
    };
    let mut tiny = begun(&shape, spm(true, &PHI3));
    // Part of a head is not rotated.
    tiny.set("phi3.rope.dimension_count", Meta::U32(12));
    let (queries, keys) = (
        shape.heads * shape.head_width,
        shape.kv_heads * shape.head_width,
    );
    for layer in 0..shape.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (hidden, kind) = (shape.hidden, Kind::F32);
        norm(&mut tiny, &name("attn_norm.weight"), hidden);
        tiny.add(
            &name("attn_qkv.weight"),
            &[queries + 2 * keys, hidden],
            kind,
        );
        tiny.add(&name("attn_output.weight"), &[hidden, queries], kind);
        norm(&mut tiny, &name("ffn_norm.weight"), hidden);
        tiny.add(
            &name("ffn_up.weight"),
            &[2 * shape.feed_forward, hidden],
            kind,
        );
        tiny.add(
            &name("ffn_down.weight"),
            &[hidden, shape.feed_forward],
            kind,
        );
    }
    ended(tiny, &shape)
}

fn longrope(mut tiny: Tiny, trained: u32) -> Tiny {
    tiny.set(
        "phi3.rope.scaling.original_context_length",
        Meta::U32(trained),
    );
    tiny.set("phi3.rope.scaling.attn_factor", Meta::F32(1.19));
    factors(
        &mut tiny,
        "rope_factors_short.weight",
        &[1.0, 1.05, 1.1, 1.3, 1.4, 1.6],
    );
    factors(
        &mut tiny,
        "rope_factors_long.weight",
        &[1.0, 1.4, 2.6, 5.5, 12.0, 30.0],
    );
    tiny
}

fn yarn(mut tiny: Tiny, architecture: &str) -> Tiny {
    let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
    tiny.set(&key("type"), Meta::Text("yarn".into()));
    tiny.set(&key("factor"), Meta::F32(4.0));
    tiny.set(&key("original_context_length"), Meta::U32(CONTEXT / 8));
    tiny
}

/// Metadata, and the table of the vocabulary.
fn begun(shape: &Shape, tokenizer: Vec<(String, Meta)>) -> Tiny {
    let key = |name: &str| format!("{}.{name}", shape.architecture);
    let number = |value: usize| Meta::U32(value as u32);
    let mut tiny = Tiny::default();
    tiny.set(
        "general.architecture",
        Meta::Text(shape.architecture.into()),
    );
    tiny.set("general.name", Meta::Text("Golden".into()));
    tiny.set(&key("block_count"), number(shape.layers));
    tiny.set(&key("context_length"), Meta::U32(CONTEXT));
    tiny.set(&key("embedding_length"), number(shape.hidden));
    tiny.set(&key("feed_forward_length"), number(shape.feed_forward));
    tiny.set(&key("attention.head_count"), number(shape.heads));
    tiny.set(&key("attention.head_count_kv"), number(shape.kv_heads));
    tiny.set(&key("attention.key_length"), number(shape.head_width));
    tiny.set(&key("attention.value_length"), number(shape.head_width));
    tiny.set(&key("attention.layer_norm_rms_epsilon"), Meta::F32(1e-5));
    tiny.set(&key("rope.freq_base"), Meta::F32(10_000.0));
    tiny.metadata.extend(tokenizer);
    let pieces = pieces(&tiny);
    tiny.add("token_embd.weight", &[pieces, shape.hidden], Kind::F32);
    tiny
}

/// The norm before the head, and the head where it is not the table.
fn ended(mut tiny: Tiny, shape: &Shape) -> Tiny {
    norm(&mut tiny, "output_norm.weight", shape.hidden);
    if !shape.tied {
        let pieces = pieces(&tiny);
        tiny.add("output.weight", &[pieces, shape.hidden], Kind::F32);
    }
    tiny
}

fn projections(tiny: &mut Tiny, layer: usize, shape: &Shape) {
    let (queries, keys) = (
        shape.heads * shape.head_width,
        shape.kv_heads * shape.head_width,
    );
    for (part, rows, width) in [
        ("attn_q", queries, shape.hidden),
        ("attn_k", keys, shape.hidden),
        ("attn_v", keys, shape.hidden),
        ("attn_output", shape.hidden, queries),
    ] {
        tiny.add(
            &format!("blk.{layer}.{part}.weight"),
            &[rows, width],
            Kind::F32,
        );
    }
}

fn feed_forward(tiny: &mut Tiny, layer: usize, shape: &Shape) {
    let (inner, hidden) = (shape.feed_forward, shape.hidden);
    for (part, rows, width) in [
        ("ffn_gate", inner, hidden),
        ("ffn_up", inner, hidden),
        ("ffn_down", hidden, inner),
    ] {
        tiny.add(
            &format!("blk.{layer}.{part}.weight"),
            &[rows, width],
            Kind::F32,
        );
    }
}

fn head_norms(tiny: &mut Tiny, shape: &Shape) {
    for layer in 0..shape.layers {
        norm(
            tiny,
            &format!("blk.{layer}.attn_q_norm.weight"),
            shape.head_width,
        );
        norm(
            tiny,
            &format!("blk.{layer}.attn_k_norm.weight"),
            shape.head_width,
        );
    }
}

/// Factors around one.
fn norm(tiny: &mut Tiny, name: &str, length: usize) {
    tiny.add(name, &[length], Kind::F32);
    if let Some(tensor) = tiny.tensors.last_mut() {
        tensor
            .values
            .iter_mut()
            .for_each(|value| *value = 1.0 + *value * 0.4);
    }
}

fn factors(tiny: &mut Tiny, name: &str, values: &[f32]) {
    tiny.add(name, &[values.len()], Kind::F32);
    if let Some(tensor) = tiny.tensors.last_mut() {
        tensor.values = values.to_vec();
    }
}

fn pieces(tiny: &Tiny) -> usize {
    tiny.metadata
        .iter()
        .find_map(|(key, value)| {
            if let Meta::Texts(pieces) = value
                && key == "tokenizer.ggml.tokens"
            {
                return Some(pieces.len());
            }
            None
        })
        .unwrap()
}
