//! A writer of small GGUF files: any metadata, random weights.
#![allow(dead_code)] // each test file uses its part

use std::path::Path;

/// A metadata value as it is written.
#[derive(Debug, Clone)]
pub(crate) enum Meta {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
}

/// Experts of a mixture, and how many of them compute a token.
pub(crate) const EXPERTS: usize = 5;
pub(crate) const EXPERTS_USED: usize = 2;

/// How a tensor is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    F16,
    Q8_0,
    Q4_1,
}

/// A tensor: its shape outermost first, its values as they will be read back.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) kind: Kind,
    pub(crate) values: Vec<f32>,
}

/// A file in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tiny {
    pub(crate) metadata: Vec<(String, Meta)>,
    pub(crate) tensors: Vec<Tensor>,
}

/// The shape of a model to be made up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model {
    pub(crate) architecture: &'static str,
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) feed_forward: usize,
    pub(crate) tied: bool,
    pub(crate) kind: Kind,
}

impl Tiny {
    /// A model with random weights and the given tokenizer.
    pub(crate) fn model(model: Model, tokenizer: Vec<(String, Meta)>) -> Self {
        let Model {
            architecture,
            layers,
            hidden,
            heads,
            kv_heads,
            feed_forward,
            tied,
            kind,
        } = model;
        let key = |name: &str| format!("{architecture}.{name}");
        let mut metadata = vec![
            (
                "general.architecture".to_owned(),
                Meta::Text(architecture.to_owned()),
            ),
            ("general.name".to_owned(), Meta::Text("Tiny".to_owned())),
            (key("block_count"), Meta::U32(layers as u32)),
            (key("context_length"), Meta::U32(256)),
            (key("embedding_length"), Meta::U32(hidden as u32)),
            (key("feed_forward_length"), Meta::U32(feed_forward as u32)),
            (key("attention.head_count"), Meta::U32(heads as u32)),
            (key("attention.head_count_kv"), Meta::U32(kv_heads as u32)),
            (key("attention.layer_norm_rms_epsilon"), Meta::F32(1e-5)),
            (key("rope.freq_base"), Meta::F32(10_000.0)),
        ];
        metadata.extend(tokenizer);
        let pieces = metadata.iter().find_map(|(key, value)| {
            let Meta::Texts(pieces) = value else {
                return None;
            };
            (key == "tokenizer.ggml.tokens").then_some(pieces.len())
        });
        let mut tiny = Self {
            metadata,
            tensors: Vec::new(),
        };
        let pieces = pieces.unwrap();
        let (queries, keys) = (hidden, hidden / heads * kv_heads);
        let head_norms = matches!(architecture, "qwen3" | "qwen3moe" | "gemma3");
        let post_norms = architecture == "gemma3";
        let fused = architecture == "phi3";
        if architecture == "qwen3moe" {
            tiny.set(&key("expert_count"), Meta::U32(EXPERTS as u32));
            tiny.set(&key("expert_used_count"), Meta::U32(EXPERTS_USED as u32));
            let width = Meta::U32(feed_forward as u32);
            tiny.set(&key("expert_feed_forward_length"), width);
        }
        tiny.add("token_embd.weight", &[pieces, hidden], kind);
        for layer in 0..layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            tiny.add_norm(&name("attn_norm.weight"), hidden);
            if fused {
                tiny.add(
                    &name("attn_qkv.weight"),
                    &[queries + 2 * keys, hidden],
                    kind,
                );
            } else {
                tiny.add(&name("attn_q.weight"), &[queries, hidden], kind);
                tiny.add(&name("attn_k.weight"), &[keys, hidden], kind);
                tiny.add(&name("attn_v.weight"), &[keys, hidden], kind);
            }
            if architecture == "qwen2" {
                tiny.add(&name("attn_q.bias"), &[queries], Kind::F32);
                tiny.add(&name("attn_k.bias"), &[keys], Kind::F32);
                tiny.add(&name("attn_v.bias"), &[keys], Kind::F32);
            }
            if head_norms {
                tiny.add_norm(&name("attn_q_norm.weight"), hidden / heads);
                tiny.add_norm(&name("attn_k_norm.weight"), hidden / heads);
            }
            tiny.add(&name("attn_output.weight"), &[hidden, queries], kind);
            tiny.add_norm(&name("ffn_norm.weight"), hidden);
            if post_norms {
                tiny.add_norm(&name("post_attention_norm.weight"), hidden);
                tiny.add_norm(&name("post_ffw_norm.weight"), hidden);
            }
            if architecture == "qwen3moe" {
                tiny.add(&name("ffn_gate_inp.weight"), &[EXPERTS, hidden], Kind::F32);
                let inward = [EXPERTS, feed_forward, hidden];
                tiny.add(&name("ffn_gate_exps.weight"), &inward, kind);
                tiny.add(&name("ffn_up_exps.weight"), &inward, kind);
                let outward = [EXPERTS, hidden, feed_forward];
                tiny.add(&name("ffn_down_exps.weight"), &outward, kind);
                continue;
            }
            if fused {
                tiny.add(&name("ffn_up.weight"), &[2 * feed_forward, hidden], kind);
            } else {
                tiny.add(&name("ffn_gate.weight"), &[feed_forward, hidden], kind);
                tiny.add(&name("ffn_up.weight"), &[feed_forward, hidden], kind);
            }
            tiny.add(&name("ffn_down.weight"), &[hidden, feed_forward], kind);
        }
        tiny.add_norm("output_norm.weight", hidden);
        if !tied {
            tiny.add("output.weight", &[pieces, hidden], kind);
        }
        tiny
    }

    pub(crate) fn add_norm(&mut self, name: &str, length: usize) {
        self.add(name, &[length], Kind::F32);
        let values = &mut self.tensors.last_mut().unwrap().values;
        values
            .iter_mut()
            .for_each(|value| *value = 1.0 + *value * 0.2);
    }

    /// Adds divisors of rotary frequencies.
    pub(crate) fn add_divisors(&mut self, name: &str, length: usize) {
        self.add(name, &[length], Kind::F32);
        let values = &mut self.tensors.last_mut().unwrap().values;
        values.iter_mut().for_each(|value| *value += 2.0);
    }

    /// Adds a tensor of repeatable values around zero.
    pub(crate) fn add(&mut self, name: &str, shape: &[usize], kind: Kind) {
        let count: usize = shape.iter().product();
        let seed = self.tensors.len() as u32 * 7 + 1;
        let values: Vec<f32> = (0..count as u32).map(|at| random(seed, at) * 0.6).collect();
        let values = decode(kind, &encode(kind, &values), count);
        self.tensors.push(Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            kind,
            values,
        });
    }

    pub(crate) fn tensor(&self, name: &str) -> &[f32] {
        &self
            .tensors
            .iter()
            .find(|tensor| tensor.name == name)
            .unwrap()
            .values
    }

    pub(crate) fn set(&mut self, key: &str, value: Meta) {
        self.metadata.retain(|(known, _)| known != key);
        self.metadata.push((key.to_owned(), value));
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            text(&mut out, key);
            meta(&mut out, value);
        }
        let mut data: Vec<u8> = Vec::new();
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            for size in tensor.shape.iter().rev() {
                out.extend((*size as u64).to_le_bytes());
            }
            let number: u32 = match tensor.kind {
                Kind::F32 => 0,
                Kind::F16 => 1,
                Kind::Q4_1 => 3,
                Kind::Q8_0 => 8,
            };
            out.extend(number.to_le_bytes());
            data.resize(data.len().next_multiple_of(32), 0);
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(encode(tensor.kind, &tensor.values));
        }
        if !data.is_empty() {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(data);
        }
        out
    }

    pub(crate) fn write(&self, path: &Path) {
        std::fs::write(path, self.bytes()).unwrap();
    }
}

/// A byte-level tokenizer: the 256 bytes, a few merges, two control tokens.
pub(crate) fn bpe() -> Vec<(String, Meta)> {
    let mut pieces: Vec<String> = (0..=255u8)
        .map(|byte| character_of(byte).to_string())
        .collect();
    let merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r"];
    pieces.extend(merges.iter().map(|merge| merge.replacen(' ', "", 1)));
    let normal = pieces.len();
    pieces.extend([
        "<|im_start|>".to_owned(),
        "<|im_end|>".to_owned(),
        "<think>".to_owned(),
    ]);
    let mut kinds = vec![1; normal];
    kinds.extend([3, 3, 4]);
    vec![
        ("tokenizer.ggml.model".into(), Meta::Text("gpt2".into())),
        ("tokenizer.ggml.pre".into(), Meta::Text("gpt-2".into())),
        ("tokenizer.ggml.tokens".into(), Meta::Texts(pieces)),
        ("tokenizer.ggml.token_type".into(), Meta::I32s(kinds)),
        ("tokenizer.ggml.merges".into(), Meta::Texts(merges.iter().map(|&merge| merge.to_owned()).collect())),
        ("tokenizer.ggml.eos_token_id".into(), Meta::U32(normal as u32 + 1)),
        (
            "tokenizer.chat_template".into(),
            Meta::Text(
                "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
                    .into(),
            ),
        ),
    ]
}

/// A SentencePiece tokenizer: bytes, letters, and a few words with scores.
pub(crate) fn spm() -> Vec<(String, Meta)> {
    let mut pieces: Vec<(String, f32, i32)> = vec![
        ("<unk>".into(), 0.0, 2),
        ("<s>".into(), 0.0, 3),
        ("</s>".into(), 0.0, 3),
    ];
    pieces.extend((0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
    let words = [
        "▁h", "el", "lo", "▁hel", "▁hello", "▁w", "or", "▁wor", "ld", "▁world", "in", "[INST]",
        "[/INST]",
    ];
    pieces.extend(words.iter().enumerate().map(|(at, word)| {
        let kind = if word.starts_with('[') { 3 } else { 1 };
        ((*word).to_owned(), -(at as f32), kind)
    }));
    pieces.extend(
        "▁abcdefghijklmnopqrstuvwxyz[]/INST<>s.,"
            .chars()
            .map(|c| (c.to_string(), -100.0, 1)),
    );
    let mut seen = std::collections::BTreeSet::new();
    pieces.retain(|(piece, ..)| seen.insert(piece.clone()));
    vec![
        ("tokenizer.ggml.model".into(), Meta::Text("llama".into())),
        (
            "tokenizer.ggml.tokens".into(),
            Meta::Texts(pieces.iter().map(|piece| piece.0.clone()).collect()),
        ),
        (
            "tokenizer.ggml.scores".into(),
            Meta::F32s(pieces.iter().map(|piece| piece.1).collect()),
        ),
        (
            "tokenizer.ggml.token_type".into(),
            Meta::I32s(pieces.iter().map(|piece| piece.2).collect()),
        ),
        ("tokenizer.ggml.bos_token_id".into(), Meta::U32(1)),
        ("tokenizer.ggml.eos_token_id".into(), Meta::U32(2)),
        (
            "tokenizer.chat_template".into(),
            Meta::Text(
                "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
                    .into(),
            ),
        ),
    ]
}

/// The byte that a character of a byte-level spelling stands for.
pub(crate) fn byte_of(character: char) -> Option<u8> {
    (0..=255u8).find(|&byte| character_of(byte) == character)
}

/// The character that stands for a byte in byte-level pieces.
pub(crate) fn character_of(byte: u8) -> char {
    let mut next = 256u32;
    for candidate in 0..=255u8 {
        let printable = matches!(candidate, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let code = if printable {
            u32::from(candidate)
        } else {
            next
        };
        next += u32::from(!printable);
        if candidate == byte {
            return char::from_u32(code).unwrap();
        }
    }
    unreachable!()
}

/// A repeatable value in −1..1.
fn random(seed: u32, at: u32) -> f32 {
    let mut x = seed.wrapping_mul(0x9E37_79B9) ^ at.wrapping_mul(0x85EB_CA6B);
    x ^= x >> 15;
    x = x.wrapping_mul(0x2C1B_3C6D);
    x ^= x >> 12;
    x = x.wrapping_mul(0x297A_2D39);
    x ^= x >> 15;
    x as f32 / u32::MAX as f32 * 2.0 - 1.0
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn meta(out: &mut Vec<u8>, value: &Meta) {
    fn list<T>(
        out: &mut Vec<u8>,
        number: u32,
        items: &[T],
        mut item: impl FnMut(&mut Vec<u8>, &T),
    ) {
        out.extend(9u32.to_le_bytes());
        out.extend(number.to_le_bytes());
        out.extend((items.len() as u64).to_le_bytes());
        items.iter().for_each(|value| item(out, value));
    }
    match value {
        Meta::U32(value) => {
            out.extend(4u32.to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        Meta::F32(value) => {
            out.extend(6u32.to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        Meta::Bool(value) => {
            out.extend(7u32.to_le_bytes());
            out.push(u8::from(*value));
        }
        Meta::Text(value) => {
            out.extend(8u32.to_le_bytes());
            text(out, value);
        }
        Meta::Texts(items) => list(out, 8, items, |out, item| text(out, item)),
        Meta::I32s(items) => list(out, 5, items, |out, item| out.extend(item.to_le_bytes())),
        Meta::F32s(items) => list(out, 6, items, |out, item| out.extend(item.to_le_bytes())),
    }
}

fn encode(kind: Kind, values: &[f32]) -> Vec<u8> {
    let half = |value: f32| half::f16::from_f32(value).to_le_bytes();
    match kind {
        Kind::F32 => values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        Kind::F16 => values.iter().flat_map(|&value| half(value)).collect(),
        Kind::Q8_0 => values
            .chunks(32)
            .flat_map(|block| {
                let largest = block
                    .iter()
                    .fold(0.0f32, |largest, value| largest.max(value.abs()));
                let scale = half::f16::from_f32(largest / 127.0);
                let inverse = if largest > 0.0 {
                    1.0 / scale.to_f32()
                } else {
                    0.0
                };
                let quants = block
                    .iter()
                    .map(move |value| (value * inverse).round().clamp(-127.0, 127.0) as i8 as u8);
                scale
                    .to_le_bytes()
                    .into_iter()
                    .chain(quants)
                    .collect::<Vec<u8>>()
            })
            .collect(),
        Kind::Q4_1 => values
            .chunks(32)
            .flat_map(|block| {
                let low = block.iter().copied().fold(f32::INFINITY, f32::min);
                let high = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let (scale, least) = (
                    half::f16::from_f32((high - low) / 15.0),
                    half::f16::from_f32(low),
                );
                let quant = |value: f32| {
                    let inverse = if scale.to_f32() > 0.0 {
                        1.0 / scale.to_f32()
                    } else {
                        0.0
                    };
                    ((value - least.to_f32()) * inverse)
                        .round()
                        .clamp(0.0, 15.0) as u8
                };
                let mut out: Vec<u8> = scale
                    .to_le_bytes()
                    .into_iter()
                    .chain(least.to_le_bytes())
                    .collect();
                out.extend((0..16).map(|at| quant(block[at]) | quant(block[at + 16]) << 4));
                out
            })
            .collect(),
    }
}

fn decode(kind: Kind, bytes: &[u8], count: usize) -> Vec<f32> {
    let half = |bytes: &[u8]| half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
    let values: Vec<f32> = match kind {
        Kind::F32 => bytes
            .chunks(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        Kind::F16 => bytes.chunks(2).map(half).collect(),
        Kind::Q8_0 => bytes
            .chunks(34)
            .flat_map(|block| {
                block[2..]
                    .iter()
                    .map(|&quant| half(block) * f32::from(quant as i8))
                    .collect::<Vec<f32>>()
            })
            .collect(),
        Kind::Q4_1 => bytes
            .chunks(20)
            .flat_map(|block| {
                let value = |quant: u8| half(block) * f32::from(quant) + half(&block[2..]);
                let low = block[4..].iter().map(|&byte| value(byte & 15));
                low.chain(block[4..].iter().map(|&byte| value(byte >> 4)))
                    .collect::<Vec<f32>>()
            })
            .collect(),
    };
    assert_eq!(values.len(), count);
    values
}
