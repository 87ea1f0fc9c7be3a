//! Every operation on candle's tensors, on the processor, against the same on this crate's own kernels.

use super::*;
use crate::backend::Cpu;
use crate::cache::PagePool;
use crate::decoder::Wanted;
use crate::families::{Reach, Rope, Scaling};

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_WIDTH: usize = 16;
const HIDDEN: usize = HEADS * HEAD_WIDTH;

fn shape() -> Shape {
    Shape {
        layers: 2,
        hidden: HIDDEN,
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_width: HEAD_WIDTH,
        feed_forward: 96,
        context_train: 256,
        rms_epsilon: 1e-5,
        rope: rope(RopePairs::Halves, HEAD_WIDTH),
        local: None,
        embedding_scale: 1.0,
        attention_scale: 0.25,
        activation: Activation::Silu,
        qkv_bias: false,
        head_norms: false,
        post_norms: false,
        fused: false,
        experts: None,
    }
}

fn rope(pairs: RopePairs, width: usize) -> Rope {
    Rope {
        pairs,
        width,
        base: 10_000.0,
        scaling: Scaling::Linear(1.0),
        original_context: 256,
        magnitude: 1.0,
    }
}

/// Numbers between -1 and 1.
fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Largest difference, as a share of the largest value.
fn off(expected: &[f32], found: &[f32]) -> f32 {
    assert_eq!(expected.len(), found.len());
    let size = expected
        .iter()
        .fold(0.0f32, |size, value| size.max(value.abs()));
    // The total order has NaN above every number.
    let differences = expected.iter().zip(found).map(|(a, b)| (a - b).abs());
    let worst = differences.max_by(f32::total_cmp).unwrap_or(0.0);
    worst / size
}

fn same(what: &str, of: impl Fn(&dyn Run) -> Vec<f32>) {
    let expected = of(&Cpu::default());
    let found = of(&Candle::new(Device::Cpu));
    let off = off(&expected, &found);
    assert!(off < 1e-5, "{what} is off by {off}");
}

/// The operations with plain numbers in and out, so that one test serves both back ends.
trait Run {
    fn norms(&self) -> Vec<f32>;
    fn rotates(&self, pairs: RopePairs, width: usize, normed: bool) -> Vec<f32>;
    fn gates(&self, activation: Activation) -> Vec<f32>;
    fn combines(&self) -> Vec<f32>;
    fn gathers(&self) -> Vec<f32>;
    fn multiplies(&self, kind: u32, bytes: &[u8], inputs: usize) -> Vec<f32>;
    fn attends(&self, window: Option<usize>, chunks: &[usize]) -> Vec<f32>;
}

impl<B: Backend> Run for B {
    fn norms(&self) -> Vec<f32> {
        let weight = self.vector(values(HIDDEN, 2)).unwrap();
        let mut stream = self.upload(values(3 * HIDDEN, 1), HIDDEN).unwrap();
        let addend = self.upload(values(3 * HIDDEN, 3), HIDDEN).unwrap();
        let normed = self
            .add_norm(&mut stream, Some(addend), &weight, 1e-5)
            .unwrap();
        let mut all = self.download(normed).unwrap();
        all.extend(
            self.download(self.norm(&stream, &weight, 1e-3).unwrap())
                .unwrap(),
        );
        all.extend(self.download(stream).unwrap());
        all
    }

    fn rotates(&self, pairs: RopePairs, width: usize, normed: bool) -> Vec<f32> {
        let rope = rope(pairs, width);
        let mut state = crate::cache::SequenceState::<B::Page>::default();
        let span = Span {
            state: &mut state,
            ids: &[1, 2, 3],
            wanted: Wanted::Nothing,
        };
        let turns = Turns::new(&rope, &rope.frequencies(None), HEAD_WIDTH, &[span]);
        let turns = self.turns(turns).unwrap();
        let weight = self.vector(values(HEAD_WIDTH, 5)).unwrap();
        let rows = self.upload(values(3 * HIDDEN, 4), HIDDEN).unwrap();
        let norm = normed.then_some((&weight, 1e-6));
        self.download(self.rotate(rows, norm, &turns).unwrap())
            .unwrap()
    }

    fn gates(&self, activation: Activation) -> Vec<f32> {
        let gate = values(2 * 96, 6)
            .into_iter()
            .map(|value| value * 9.0)
            .collect();
        let gate = self.upload(gate, 96).unwrap();
        let up = self.upload(values(2 * 96, 7), 96).unwrap();
        self.download(self.gate(gate, up, activation).unwrap())
            .unwrap()
    }

    fn combines(&self) -> Vec<f32> {
        let parts = [
            self.upload(values(2 * HIDDEN, 8), HIDDEN).unwrap(),
            self.upload(values(HIDDEN, 9), HIDDEN).unwrap(),
        ];
        let share = |part, row, weight| Share { part, row, weight };
        let sums = [
            vec![share(0, 1, 0.75), share(1, 0, 0.25)],
            vec![share(0, 0, 1.0)],
            vec![share(1, 0, -0.5), share(0, 1, 0.5)],
        ];
        self.download(self.combine(&parts, &sums).unwrap()).unwrap()
    }

    fn gathers(&self) -> Vec<f32> {
        let rows = self.upload(values(4 * HIDDEN, 10), HIDDEN).unwrap();
        self.download(self.gather(&rows, &[3, 0, 3]).unwrap())
            .unwrap()
    }

    fn multiplies(&self, kind: u32, bytes: &[u8], inputs: usize) -> Vec<f32> {
        let weights = Weights {
            name: "test",
            kind: TensorKind::from_number(kind),
            bytes,
            outputs: 48,
            inputs,
            taken: &|_| (),
        };
        let bias = values(48, 11);
        let matrix = self.matrix(&weights, Some(bias)).unwrap();
        let plain = self.matrix(&weights, None).unwrap();
        let rows = self.upload(values(5 * inputs, 12), inputs).unwrap();
        let [with, without] = self.project(&rows, [&matrix, &plain]).unwrap();
        let mut all = self.download(with).unwrap();
        all.extend(self.download(without).unwrap());
        all
    }

    fn attends(&self, window: Option<usize>, chunks: &[usize]) -> Vec<f32> {
        let mut pool =
            PagePool::<B::Page>::of(&shape(), 1 << 24, |reach| self.pages(&shape(), reach));
        let mut states = [
            crate::cache::SequenceState::default(),
            crate::cache::SequenceState::default(),
        ];
        let mut all = Vec::new();
        let ids = [0u32; 256];
        for (at, &rows) in chunks.iter().enumerate() {
            // The second sequence grows by one, as if it were decoded.
            let mut spans = Vec::new();
            for (state, rows) in states.iter_mut().zip([rows, 1]) {
                pool.reserve(state, rows).unwrap();
                spans.push(Span {
                    state,
                    ids: &ids[..rows],
                    wanted: Wanted::Nothing,
                });
            }
            let seed = 20 + at as u32;
            let total = rows + 1;
            let take = |width, seed| self.upload(values(total * width, seed), width).unwrap();
            for layer in 0..2 {
                let attention = Attention {
                    reach: Reach::All,
                    layer,
                    heads: HEADS,
                    kv_heads: KV_HEADS,
                    head_width: HEAD_WIDTH,
                    window,
                    scale: 0.25,
                };
                let seed = seed + 100 * layer as u32;
                let (keys, values) = (
                    take(KV_HEADS * HEAD_WIDTH, seed + 1),
                    take(KV_HEADS * HEAD_WIDTH, seed + 2),
                );
                let out = self
                    .attend(&attention, take(HIDDEN, seed), keys, values, &mut spans)
                    .unwrap();
                all.extend(self.download(out).unwrap());
            }
            for span in spans {
                span.state.advance(span.ids.len());
            }
        }
        all
    }
}

#[test]
fn norms_are_the_same() {
    same("norm", |it| it.norms());
}

#[test]
fn rotations_are_the_same_in_both_styles_and_in_part() {
    for style in [RopePairs::Halves, RopePairs::Neighbours] {
        for width in [HEAD_WIDTH, HEAD_WIDTH / 2] {
            for normed in [false, true] {
                same(&format!("{style:?} {width} {normed}"), |it| {
                    it.rotates(style, width, normed)
                });
            }
        }
    }
}

#[test]
fn gates_sums_and_chosen_rows_are_the_same() {
    same("silu", |it| it.gates(Activation::Silu));
    same("gelu", |it| it.gates(Activation::Gelu));
    same("combine", |it| it.combines());
    same("gather", |it| it.gathers());
}

#[test]
fn attention_is_the_same_over_pages_chunks_and_windows() {
    for window in [None, Some(5), Some(40)] {
        same(&format!("window {window:?}"), |it| {
            it.attends(window, &[1, 30, 7, 64, 1, 1])
        });
    }
}

#[test]
fn products_are_near_in_every_format() {
    let inputs = 512;
    let weights = Tensor::from_vec(values(48 * inputs, 13), (48, inputs), &Device::Cpu).unwrap();
    for kind in [0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 30] {
        let format = format(TensorKind::from_number(kind)).unwrap();
        let stored = QTensor::quantize(&weights, format).unwrap();
        let bytes = stored.data().unwrap();
        let expected = Cpu::default().multiplies(kind, &bytes, inputs);
        let found = Candle::new(Device::Cpu).multiplies(kind, &bytes, inputs);
        // Both round activations to 8 bits, each in blocks of its own; plain floats are not rounded.
        let bound = if matches!(kind, 0 | 1 | 30) {
            1e-5
        } else {
            0.02
        };
        let off = off(&expected, &found);
        assert!(off < bound, "{format:?} is off by {off}");
    }
}

#[test]
fn a_format_that_is_not_known_is_named() {
    let weights = Weights {
        name: "blk.0.attn_q.weight",
        kind: TensorKind::from_number(20),
        bytes: &[0; 18],
        outputs: 1,
        inputs: 32,
        taken: &|_| (),
    };
    let refused = Candle::new(Device::Cpu).matrix(&weights, None).unwrap_err();
    assert!(
        matches!(&refused, EngineError::UnsupportedTensor { name, kind } if name == "blk.0.attn_q.weight" && kind == "IQ4_NL")
    );
}
