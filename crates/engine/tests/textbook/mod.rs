//! The textbook model: everything from the beginning for every token, in f64, one plain loop after the other.

use super::tiny::{EXPERTS_USED, Model, Tiny};

/// A model's own calculation, and what metadata makes of it.
pub(crate) struct Textbook<'t> {
    pub(crate) tiny: &'t Tiny,
    pub(crate) model: Model,
    /// Radians per position of a rotated pair; in a layer with a window where that is true.
    pub(crate) frequency: Box<dyn Fn(usize, bool) -> f64>,
    /// Rotated values are multiplied with it.
    pub(crate) magnitude: f64,
    /// Positions that a token sees in a layer, its own included.
    pub(crate) window: Box<dyn Fn(usize) -> Option<usize>>,
}

impl<'t> Textbook<'t> {
    /// A model without scaling and windows.
    pub(crate) fn plain(tiny: &'t Tiny, model: Model) -> Self {
        let width = model.hidden / model.heads;
        Self {
            tiny,
            model,
            frequency: Box::new(move |pair, _| 10_000f64.powf(-2.0 * pair as f64 / width as f64)),
            magnitude: 1.0,
            window: Box::new(|_| None),
        }
    }

    /// Logits of the last token.
    pub(crate) fn logits(&self, ids: &[u32]) -> Vec<f64> {
        let Model { hidden, layers, .. } = self.model;
        let table = self.tiny.tensor("token_embd.weight");
        let scale = if self.is("gemma3") {
            (hidden as f64).sqrt()
        } else {
            1.0
        };
        let row = |id: u32| {
            let row = &table[id as usize * hidden..][..hidden];
            row.iter().map(|&x| f64::from(x) * scale).collect()
        };
        let mut stream: Vec<Vec<f64>> = ids.iter().map(|&id| row(id)).collect();
        for layer in 0..layers {
            self.attention(layer, &mut stream);
            for x in &mut stream {
                let normed = self.norm(&format!("blk.{layer}.ffn_norm.weight"), x);
                let mut out = match self.is("qwen3moe") {
                    true => self.experts(layer, &normed),
                    false => self.feed_forward(layer, &normed),
                };
                if self.is("gemma3") {
                    out = self.norm(&format!("blk.{layer}.post_ffw_norm.weight"), &out);
                }
                add(x, &out);
            }
        }
        let normed = self.norm("output_norm.weight", &stream[ids.len() - 1]);
        let head = if self.model.tied {
            "token_embd.weight"
        } else {
            "output.weight"
        };
        product(self.tiny.tensor(head), &normed)
    }

    fn is(&self, architecture: &str) -> bool {
        self.model.architecture == architecture
    }

    fn attention(&self, layer: usize, stream: &mut [Vec<f64>]) {
        let Model {
            hidden,
            heads,
            kv_heads,
            ..
        } = self.model;
        let width = hidden / heads;
        let window = (self.window)(layer);
        let (mut keys, mut values): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
        for (position, x) in stream.iter_mut().enumerate() {
            let normed = self.norm(&format!("blk.{layer}.attn_norm.weight"), x);
            let [mut query, mut key, value] = self.projected(layer, &normed);
            self.turn(layer, "attn_q_norm", &mut query, position, window.is_some());
            self.turn(layer, "attn_k_norm", &mut key, position, window.is_some());
            keys.push(key);
            values.push(value);
            let first = (position + 1).saturating_sub(window.unwrap_or(usize::MAX));
            let mut attended = Vec::new();
            for head in 0..heads {
                let at = head / (heads / kv_heads) * width;
                let query = &query[head * width..][..width];
                let score = |key: &Vec<f64>| {
                    let key = &key[at..at + width];
                    let dot: f64 = query.iter().zip(key).map(|(q, k)| q * k).sum();
                    (dot / (width as f64).sqrt()).exp()
                };
                let total: f64 = keys[first..].iter().map(score).sum();
                attended.extend((0..width).map(|column| {
                    let seen = keys[first..].iter().zip(&values[first..]);
                    let sum: f64 = seen.map(|(k, v)| score(k) * v[at + column]).sum();
                    sum / total
                }));
            }
            let weight = self.tiny.tensor(&format!("blk.{layer}.attn_output.weight"));
            let mut out = product(weight, &attended);
            if self.is("gemma3") {
                out = self.norm(&format!("blk.{layer}.post_attention_norm.weight"), &out);
            }
            add(x, &out);
        }
    }

    /// Query, key and value.
    fn projected(&self, layer: usize, input: &[f64]) -> [Vec<f64>; 3] {
        if self.is("phi3") {
            let weight = self.tiny.tensor(&format!("blk.{layer}.attn_qkv.weight"));
            let mut all = product(weight, input);
            let value = all.split_off(all.len() - self.keys());
            let key = all.split_off(all.len() - self.keys());
            return [all, key, value];
        }
        ["attn_q", "attn_k", "attn_v"].map(|part| {
            let weight = self.tiny.tensor(&format!("blk.{layer}.{part}.weight"));
            let mut out = product(weight, input);
            if self.is("qwen2") {
                let bias = self.tiny.tensor(&format!("blk.{layer}.{part}.bias"));
                let bias: Vec<f64> = bias.iter().map(|&x| f64::from(x)).collect();
                add(&mut out, &bias);
            }
            out
        })
    }

    fn keys(&self) -> usize {
        self.model.hidden / self.model.heads * self.model.kv_heads
    }

    /// Norms heads where the family does, then rotates them.
    fn turn(&self, layer: usize, norm: &str, heads: &mut [f64], position: usize, local: bool) {
        let width = self.model.hidden / self.model.heads;
        for head in heads.chunks_mut(width) {
            if matches!(self.model.architecture, "qwen3" | "qwen3moe" | "gemma3") {
                let normed = self.norm(&format!("blk.{layer}.{norm}.weight"), head);
                head.copy_from_slice(&normed);
            }
            let old = head.to_vec();
            for pair in 0..width / 2 {
                let angle = position as f64 * (self.frequency)(pair, local);
                let (a, b) = match self.is("llama") {
                    true => (2 * pair, 2 * pair + 1),
                    false => (pair, pair + width / 2),
                };
                head[a] = (old[a] * angle.cos() - old[b] * angle.sin()) * self.magnitude;
                head[b] = (old[a] * angle.sin() + old[b] * angle.cos()) * self.magnitude;
            }
        }
    }

    fn feed_forward(&self, layer: usize, input: &[f64]) -> Vec<f64> {
        let weight = |part: &str| self.tiny.tensor(&format!("blk.{layer}.{part}.weight"));
        let (gate, up) = match self.is("phi3") {
            true => weight("ffn_up").split_at(self.model.feed_forward * self.model.hidden),
            false => (weight("ffn_gate"), weight("ffn_up")),
        };
        self.gated(gate, up, weight("ffn_down"), input)
    }

    fn gated(&self, gate: &[f32], up: &[f32], down: &[f32], input: &[f64]) -> Vec<f64> {
        let activated = |x: f64| match self.is("gemma3") {
            true => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }
            false => x / (1.0 + (-x).exp()),
        };
        let (gate, up) = (product(gate, input), product(up, input));
        let inner: Vec<f64> = gate
            .iter()
            .zip(up)
            .map(|(g, u)| activated(*g) * u)
            .collect();
        product(down, &inner)
    }

    fn experts(&self, layer: usize, input: &[f64]) -> Vec<f64> {
        let weight = |part: &str| self.tiny.tensor(&format!("blk.{layer}.{part}.weight"));
        let scores = product(weight("ffn_gate_inp"), input);
        let mut ranked: Vec<usize> = (0..scores.len()).collect();
        ranked.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        ranked.truncate(EXPERTS_USED);
        let total: f64 = ranked.iter().map(|&expert| scores[expert].exp()).sum();
        let size = self.model.feed_forward * self.model.hidden;
        let mut sum = vec![0.0; self.model.hidden];
        for &expert in &ranked {
            let of = |part: &str| &weight(part)[expert * size..][..size];
            let (gate, up) = (of("ffn_gate_exps"), of("ffn_up_exps"));
            let out = self.gated(gate, up, of("ffn_down_exps"), input);
            for (sum, out) in sum.iter_mut().zip(out) {
                *sum += out * scores[expert].exp() / total;
            }
        }
        sum
    }

    fn norm(&self, name: &str, input: &[f64]) -> Vec<f64> {
        let mean = input.iter().map(|x| x * x).sum::<f64>() / input.len() as f64;
        let weight = self.tiny.tensor(name);
        let normed = input.iter().zip(weight);
        normed
            .map(|(x, w)| x / (mean + 1e-5).sqrt() * f64::from(*w))
            .collect()
    }
}

fn product(weight: &[f32], input: &[f64]) -> Vec<f64> {
    weight
        .chunks(input.len())
        .map(|row| row.iter().zip(input).map(|(w, x)| f64::from(*w) * x).sum())
        .collect()
}

fn add(to: &mut [f64], values: &[f64]) {
    to.iter_mut()
        .zip(values)
        .for_each(|(to, value)| *to += value);
}
