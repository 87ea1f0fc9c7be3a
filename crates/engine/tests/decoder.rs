//! The decoder against a slow and obvious one in 64-bit floats, on small models with random weights.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::path::Path;
use std::sync::Arc;

use engine::cache::{PagePool, SequenceState};
use engine::decoder::{Decoder, Span, Step, Wanted};
use engine::file::ModelFile;
use tiny::{Kind, Meta, Model, Tiny};

const IDS: [u32; 40] = {
    let mut ids = [0; 40];
    let mut at = 0;
    while at < 40 {
        ids[at] = (at as u32 * 37 + 11) % 250;
        at += 1;
    }
    ids
};

fn open(tiny: &Tiny) -> (tempfile::TempDir, Decoder) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    tiny.write(&path);
    let decoder = Decoder::new(&Arc::new(ModelFile::open(&path).unwrap())).unwrap();
    (dir, decoder)
}

fn pool(decoder: &Decoder) -> PagePool {
    PagePool::new(decoder.shape(), 1 << 30)
}

fn logits(
    decoder: &Decoder,
    pool: &mut PagePool,
    state: &mut SequenceState,
    ids: &[u32],
) -> Vec<f32> {
    let span = Span {
        state,
        ids,
        wanted: Wanted::Last,
    };
    match decoder.step(pool, &mut [span], &|| false).unwrap() {
        Step::Computed(mut rows) => rows.remove(0),
        Step::Interrupted => panic!("nobody interrupted"),
    }
}

fn from_nothing(decoder: &Decoder, ids: &[u32]) -> Vec<f32> {
    logits(
        decoder,
        &mut pool(decoder),
        &mut SequenceState::default(),
        ids,
    )
}

/// The textbook model: everything from the beginning for every token, in f64.
struct Textbook<'t> {
    tiny: &'t Tiny,
    model: Model,
    base: f64,
    divisor: f64,
    factors: Option<Vec<f64>>,
}

impl Textbook<'_> {
    fn product(&self, name: &str, input: &[f64]) -> Vec<f64> {
        let weight = self.tiny.tensor(name);
        weight
            .chunks(input.len())
            .map(|row| row.iter().zip(input).map(|(w, x)| f64::from(*w) * x).sum())
            .collect()
    }

    fn norm(&self, name: &str, input: &[f64]) -> Vec<f64> {
        let mean = input.iter().map(|x| x * x).sum::<f64>() / input.len() as f64;
        let weight = self.tiny.tensor(name);
        input
            .iter()
            .zip(weight)
            .map(|(x, w)| x / (mean + 1e-5).sqrt() * f64::from(*w))
            .collect()
    }

    fn rotate(&self, heads: &mut [f64], position: usize) {
        let width = self.model.hidden / self.model.heads;
        for head in heads.chunks_mut(width) {
            let old = head.to_vec();
            for pair in 0..width / 2 {
                let factor = self.factors.as_ref().map_or(1.0, |factors| factors[pair]);
                let angle = position as f64 / self.divisor
                    * self.base.powf(-2.0 * pair as f64 / width as f64)
                    / factor;
                let (a, b) = match self.model.architecture {
                    "qwen2" => (pair, pair + width / 2),
                    _ => (2 * pair, 2 * pair + 1),
                };
                head[a] = old[a] * angle.cos() - old[b] * angle.sin();
                head[b] = old[a] * angle.sin() + old[b] * angle.cos();
            }
        }
    }

    fn projected(&self, layer: usize, part: &str, input: &[f64]) -> Vec<f64> {
        let mut out = self.product(&format!("blk.{layer}.{part}.weight"), input);
        if self.model.architecture == "qwen2" {
            let bias = self.tiny.tensor(&format!("blk.{layer}.{part}.bias"));
            out.iter_mut()
                .zip(bias)
                .for_each(|(out, bias)| *out += f64::from(*bias));
        }
        out
    }

    fn logits(&self, ids: &[u32]) -> Vec<f64> {
        let Model {
            hidden,
            heads,
            kv_heads,
            layers,
            tied,
            ..
        } = self.model;
        let width = hidden / heads;
        let table = self.tiny.tensor("token_embd.weight");
        let row = |id: u32| {
            table[id as usize * hidden..][..hidden]
                .iter()
                .map(|&x| f64::from(x))
                .collect()
        };
        let mut stream: Vec<Vec<f64>> = ids.iter().map(|&id| row(id)).collect();
        for layer in 0..layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (position, x) in stream.iter_mut().enumerate() {
                let normed = self.norm(&name("attn_norm"), x);
                let mut query = self.projected(layer, "attn_q", &normed);
                let mut key = self.projected(layer, "attn_k", &normed);
                self.rotate(&mut query, position);
                self.rotate(&mut key, position);
                keys.push(key);
                values.push(self.projected(layer, "attn_v", &normed));
                let mut attended = Vec::new();
                for head in 0..heads {
                    let at = head / (heads / kv_heads) * width;
                    let query = &query[head * width..][..width];
                    let score = |key: &Vec<f64>| {
                        let dot: f64 = query
                            .iter()
                            .zip(&key[at..at + width])
                            .map(|(q, k)| q * k)
                            .sum();
                        (dot / (width as f64).sqrt()).exp()
                    };
                    let total: f64 = keys.iter().map(score).sum();
                    attended.extend((0..width).map(|column| {
                        let sum: f64 = keys
                            .iter()
                            .zip(&values)
                            .map(|(k, v)| score(k) * v[at + column])
                            .sum();
                        sum / total
                    }));
                }
                let out = self.product(&name("attn_output"), &attended);
                x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
            }
            for x in &mut stream {
                let normed = self.norm(&name("ffn_norm"), x);
                let gate = self.product(&name("ffn_gate"), &normed);
                let up = self.product(&name("ffn_up"), &normed);
                let inner: Vec<f64> = gate
                    .iter()
                    .zip(up)
                    .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                    .collect();
                let out = self.product(&name("ffn_down"), &inner);
                x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
            }
        }
        let normed = self.norm("output_norm.weight", stream.last().unwrap());
        self.product(
            if tied {
                "token_embd.weight"
            } else {
                "output.weight"
            },
            &normed,
        )
    }
}

fn close(got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    let scale = expected
        .iter()
        .fold(0.0f64, |largest, x| largest.max(x.abs()));
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        let off = (f64::from(*got) - expected).abs();
        assert!(
            off < tolerance * scale,
            "logit {at} is {got}, not {expected}"
        );
    }
}

fn model(architecture: &'static str, kind: Kind) -> Model {
    Model {
        architecture,
        layers: 2,
        hidden: 64,
        heads: 4,
        kv_heads: 2,
        feed_forward: 96,
        tied: false,
        kind,
    }
}

fn check(model: Model, tolerance: f64, change: impl FnOnce(&mut Tiny, &mut Textbook<'_>)) {
    let mut tiny = Tiny::model(model, tiny::bpe());
    let blank = Tiny::default();
    let mut book = Textbook {
        tiny: &blank,
        model,
        base: 10_000.0,
        divisor: 1.0,
        factors: None,
    };
    change(&mut tiny, &mut book);
    let book = Textbook {
        tiny: &tiny,
        ..book
    };
    let (_dir, decoder) = open(&tiny);
    let got = from_nothing(&decoder, &IDS);
    close(&got, &book.logits(&IDS), tolerance);
}

#[test]
fn llama_with_plain_floats() {
    check(model("llama", Kind::F32), 1e-5, |_, _| ());
}

#[test]
fn qwen2_with_plain_floats() {
    check(model("qwen2", Kind::F32), 1e-5, |_, _| ());
}

#[test]
fn tied_heads_and_one_kv_head() {
    check(
        Model {
            tied: true,
            kv_heads: 1,
            ..model("llama", Kind::F32)
        },
        1e-5,
        |_, _| (),
    );
    check(
        Model {
            tied: true,
            kv_heads: 4,
            ..model("qwen2", Kind::F32)
        },
        1e-5,
        |_, _| (),
    );
}

#[test]
fn half_floats_and_blocks() {
    check(model("llama", Kind::F16), 1e-5, |_, _| ());
    // The block formats round activations to 8 bits; a wrong product is off by the whole scale.
    check(model("llama", Kind::Q8_0), 0.12, |_, _| ());
    check(model("qwen2", Kind::Q4_1), 0.12, |_, _| ());
}

#[test]
fn scaled_positions() {
    check(model("llama", Kind::F32), 1e-5, |tiny, book| {
        tiny.set("llama.rope.scaling.type", Meta::Text("linear".into()));
        tiny.set("llama.rope.scaling.factor", Meta::F32(4.0));
        tiny.set("llama.rope.freq_base", Meta::F32(500.0));
        (book.divisor, book.base) = (4.0, 500.0);
    });
    check(model("llama", Kind::F32), 1e-5, |tiny, book| {
        tiny.add("rope_freqs.weight", &[8], Kind::F32);
        let factors = &mut tiny.tensors.last_mut().unwrap().values;
        factors.iter_mut().for_each(|factor| *factor += 2.0);
        book.factors = Some(factors.iter().map(|&factor| f64::from(factor)).collect());
    });
}

#[test]
fn chunks_and_company_change_no_bit() {
    for kind in [Kind::Q8_0, Kind::Q4_1] {
        let tiny = Tiny::model(model("qwen2", kind), tiny::bpe());
        let (_dir, decoder) = open(&tiny);
        let whole = from_nothing(&decoder, &IDS);
        for chunk in [1usize, 7, 32, 33] {
            let mut pool = pool(&decoder);
            let (mut state, mut other) = (SequenceState::default(), SequenceState::default());
            let mut last = Vec::new();
            for ids in IDS.chunks(chunk) {
                // Another sequence in the same step.
                let mut spans = [
                    Span {
                        state: &mut other,
                        ids: &[3, 1, 2],
                        wanted: Wanted::From(1),
                    },
                    Span {
                        state: &mut state,
                        ids,
                        wanted: Wanted::Last,
                    },
                ];
                let Step::Computed(rows) = decoder.step(&mut pool, &mut spans, &|| false).unwrap()
                else {
                    panic!("nobody interrupted");
                };
                assert_eq!(rows[0].len(), 2 * decoder.vocabulary());
                last = rows[1].clone();
            }
            assert_eq!(last, whole, "chunks of {chunk}");
        }
    }
}

#[test]
fn an_interrupted_step_leaves_no_trace() {
    let tiny = Tiny::model(model("llama", Kind::Q8_0), tiny::bpe());
    let (_dir, decoder) = open(&tiny);
    let (mut pool, mut state) = (pool(&decoder), SequenceState::default());
    logits(&decoder, &mut pool, &mut state, &IDS[..10]);
    let free = pool.free();
    let asked = std::cell::Cell::new(0);
    let second_time = || asked.replace(asked.get() + 1) > 0;
    let span = Span {
        state: &mut state,
        ids: &IDS[10..],
        wanted: Wanted::Last,
    };
    let step = decoder.step(&mut pool, &mut [span], &second_time).unwrap();
    assert!(matches!(step, Step::Interrupted));
    assert_eq!((state.len(), pool.free()), (10, free));
    let whole = from_nothing(&decoder, &IDS);
    assert_eq!(logits(&decoder, &mut pool, &mut state, &IDS[10..]), whole);
    state.truncate(&mut pool, 5);
    assert_eq!(logits(&decoder, &mut pool, &mut state, &IDS[5..]), whole);
}

#[test]
fn what_it_cannot_do_is_named_before_a_weight_is_touched() {
    use engine::EngineError;
    let refusal = |change: &dyn Fn(&mut Tiny)| {
        let mut tiny = Tiny::model(model("llama", Kind::F32), tiny::bpe());
        change(&mut tiny);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny.gguf");
        tiny.write(&path);
        let open = |path: &Path| Decoder::new(&Arc::new(ModelFile::open(path)?));
        open(&path).expect_err("it was accepted")
    };
    let architecture =
        refusal(&|tiny| tiny.set("general.architecture", Meta::Text("mamba".into())));
    assert!(
        matches!(architecture, EngineError::UnsupportedArchitecture { architecture, .. } if architecture == "mamba")
    );
    let yarn = refusal(&|tiny| tiny.set("llama.rope.scaling.type", Meta::Text("yarn".into())));
    assert!(matches!(yarn, EngineError::UnsupportedFeature { value, .. } if value == "yarn"));
    let experts = refusal(&|tiny| tiny.set("llama.expert_count", Meta::U32(8)));
    assert!(matches!(experts, EngineError::UnsupportedFeature { .. }));
    let missing = refusal(&|tiny| {
        tiny.tensors
            .retain(|tensor| tensor.name != "blk.1.ffn_up.weight")
    });
    assert!(
        matches!(missing, EngineError::BadFile { .. }),
        "{missing:?}"
    );
    let shape = refusal(&|tiny| tiny.set("llama.feed_forward_length", Meta::U32(128)));
    assert!(matches!(shape, EngineError::BadFile { .. }), "{shape:?}");
    let heads = refusal(&|tiny| tiny.set("llama.attention.head_count_kv", Meta::U32(3)));
    assert!(matches!(heads, EngineError::BadFile { .. }), "{heads:?}");
}
