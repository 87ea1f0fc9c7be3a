//! Encoders against their definition in double precision, written again and slowly, on made-up weights.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::path::Path;
use std::sync::Arc;

use engine::encoder::{Encoder, Plan, Pooling};
use engine::file::ModelFile;
use engine::text::TextModel;
use engine::{
    Asker, ChatPrompt, Class, EmbedRequest, EngineError, EngineHandle, EngineOptions, FileProblem,
    GenerateRequest, ScoreRequest,
};
use tiny::{Kind, Meta, Tiny};

const LAYERS: usize = 3;
const HIDDEN: usize = 64;
const HEADS: usize = 4;
const INNER: usize = 96;
const CONTEXT: usize = 40;
const PIECES: usize = 50;

fn bert(kind: Kind) -> Tiny {
    bert_of(kind, CONTEXT)
}

/// A vocabulary of letters, at the beginning of a word and inside.
fn letters() -> Vec<(String, Meta)> {
    let mut pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        .map(str::to_owned)
        .to_vec();
    let specials = pieces.len();
    let letters = ('a'..).take((PIECES - specials) / 2);
    for letter in letters {
        pieces.extend([format!("▁{letter}"), letter.to_string()]);
    }
    let kinds = (0..PIECES).map(|id| match id {
        1 => 2,
        id if id < specials => 3,
        _ => 1,
    });
    vec![
        ("tokenizer.ggml.model".into(), Meta::Text("bert".into())),
        (
            "tokenizer.ggml.token_type".into(),
            Meta::I32s(kinds.collect()),
        ),
        ("tokenizer.ggml.tokens".into(), Meta::Texts(pieces)),
        ("tokenizer.ggml.bos_token_id".into(), Meta::U32(2)),
        ("tokenizer.ggml.seperator_token_id".into(), Meta::U32(3)),
        ("tokenizer.ggml.unknown_token_id".into(), Meta::U32(1)),
    ]
}

fn bert_of(kind: Kind, context: usize) -> Tiny {
    let mut tiny = Tiny {
        metadata: vec![
            ("general.architecture".into(), Meta::Text("bert".into())),
            ("general.name".into(), Meta::Text("Letters".into())),
            ("bert.block_count".into(), Meta::U32(LAYERS as u32)),
            ("bert.context_length".into(), Meta::U32(context as u32)),
            ("bert.embedding_length".into(), Meta::U32(HIDDEN as u32)),
            ("bert.feed_forward_length".into(), Meta::U32(INNER as u32)),
            ("bert.attention.head_count".into(), Meta::U32(HEADS as u32)),
            ("bert.attention.layer_norm_epsilon".into(), Meta::F32(1e-12)),
            ("bert.pooling_type".into(), Meta::U32(1)),
        ],
        tensors: Vec::new(),
    };
    tiny.metadata.extend(letters());
    tiny.add("token_embd.weight", &[PIECES, HIDDEN], kind);
    tiny.add("token_types.weight", &[2, HIDDEN], Kind::F32);
    tiny.add("position_embd.weight", &[context, HIDDEN], Kind::F32);
    let norm = |tiny: &mut Tiny, name: &str| {
        tiny.add_norm(&format!("{name}.weight"), HIDDEN);
        tiny.add(&format!("{name}.bias"), &[HIDDEN], Kind::F32);
    };
    let linear = |tiny: &mut Tiny, name: &str, outputs: usize, inputs: usize| {
        tiny.add(&format!("{name}.weight"), &[outputs, inputs], kind);
        tiny.add(&format!("{name}.bias"), &[outputs], Kind::F32);
    };
    norm(&mut tiny, "token_embd_norm");
    for layer in 0..LAYERS {
        let name = |part: &str| format!("blk.{layer}.{part}");
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            linear(&mut tiny, &name(part), HIDDEN, HIDDEN);
        }
        norm(&mut tiny, &name("attn_output_norm"));
        linear(&mut tiny, &name("ffn_up"), INNER, HIDDEN);
        linear(&mut tiny, &name("ffn_down"), HIDDEN, INNER);
        norm(&mut tiny, &name("layer_output_norm"));
    }
    tiny
}

fn open(tiny: &Tiny) -> Result<Encoder, EngineError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("encoder.gguf");
    tiny.write(&path);
    let file = Arc::new(ModelFile::open(&path)?);
    assert!(Plan::is_for(&file));
    Encoder::new(&Plan::of(&file)?, &mut |_| Ok(()))
}

fn embed(encoder: &Encoder, ids: &[u32]) -> Vec<f32> {
    encoder.embed(ids, &|| false).unwrap().unwrap()
}

/// The definition in `f64`, one token at a time.
struct Obvious<'t>(&'t Tiny);

impl Obvious<'_> {
    fn row(&self, name: &str, index: usize, width: usize) -> Vec<f64> {
        let values = &self.0.tensor(name)[index * width..(index + 1) * width];
        values.iter().map(|&value| f64::from(value)).collect()
    }

    fn norm(&self, name: &str, row: &[f64]) -> Vec<f64> {
        let (weight, bias) = (
            self.row(&format!("{name}.weight"), 0, row.len()),
            self.row(&format!("{name}.bias"), 0, row.len()),
        );
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
        (0..row.len())
            .map(|at| (row[at] - mean) / (variance + 1e-12).sqrt() * weight[at] + bias[at])
            .collect()
    }

    fn linear(&self, name: &str, row: &[f64], outputs: usize) -> Vec<f64> {
        let bias = self.row(&format!("{name}.bias"), 0, outputs);
        (0..outputs)
            .map(|output| {
                let weights = self.row(&format!("{name}.weight"), output, row.len());
                let products = weights
                    .iter()
                    .zip(row)
                    .map(|(weight, value)| weight * value);
                products.sum::<f64>() + bias[output]
            })
            .collect()
    }

    fn rows(&self, ids: &[u32]) -> Vec<Vec<f64>> {
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<f64>>();
        let mut rows: Vec<Vec<f64>> = ids
            .iter()
            .enumerate()
            .map(|(place, &id)| {
                let token = self.row("token_embd.weight", id as usize, HIDDEN);
                let place = self.row("position_embd.weight", place, HIDDEN);
                let all = sum(
                    &sum(&token, &place),
                    &self.row("token_types.weight", 0, HIDDEN),
                );
                self.norm("token_embd_norm", &all)
            })
            .collect();
        for layer in 0..LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let project = |part: &str| -> Vec<Vec<f64>> {
                let each = rows.iter().map(|row| self.linear(&name(part), row, HIDDEN));
                each.collect()
            };
            let (query, key, value) = (project("attn_q"), project("attn_k"), project("attn_v"));
            let width = HIDDEN / HEADS;
            rows = (0..rows.len())
                .map(|token| {
                    let mut attended = vec![0.0; HIDDEN];
                    for head in 0..HEADS {
                        let part = head * width..(head + 1) * width;
                        let scores: Vec<f64> = key
                            .iter()
                            .map(|key| {
                                let products =
                                    query[token][part.clone()].iter().zip(&key[part.clone()]);
                                products.map(|(a, b)| a * b).sum::<f64>() / (width as f64).sqrt()
                            })
                            .collect();
                        let total: f64 = scores.iter().map(|score| score.exp()).sum();
                        for (score, value) in scores.iter().zip(&value) {
                            for at in part.clone() {
                                attended[at] += score.exp() / total * value[at];
                            }
                        }
                    }
                    let output = self.linear(&name("attn_output"), &attended, HIDDEN);
                    let row = self.norm(&name("attn_output_norm"), &sum(&rows[token], &output));
                    let mut inner = self.linear(&name("ffn_up"), &row, INNER);
                    inner
                        .iter_mut()
                        .for_each(|x| *x *= 0.5 * (1.0 + erf(*x / 2f64.sqrt())));
                    let down = self.linear(&name("ffn_down"), &inner, HIDDEN);
                    self.norm(&name("layer_output_norm"), &sum(&row, &down))
                })
                .collect();
        }
        rows
    }

    fn embed(&self, ids: &[u32], pooling: Pooling) -> Vec<f64> {
        let rows = self.rows(ids);
        let pooled: Vec<f64> = match pooling {
            Pooling::First => rows[0].clone(),
            Pooling::Last => rows[rows.len() - 1].clone(),
            Pooling::Mean => (0..HIDDEN)
                .map(|at| rows.iter().map(|row| row[at]).sum::<f64>() / rows.len() as f64)
                .collect(),
        };
        let length = pooled.iter().map(|x| x * x).sum::<f64>().sqrt();
        pooled.iter().map(|x| x / length).collect()
    }
}

/// The error function by its series, and by its limit where the series loses its digits.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    let mut term = x;
    let mut sum = x;
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn farthest(a: &[f32], b: &[f64]) -> f64 {
    let apart = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).abs());
    apart.fold(0.0, f64::max)
}

#[test]
fn vectors_are_those_of_the_definition() {
    let poolings = [(1, Pooling::Mean), (2, Pooling::First), (3, Pooling::Last)];
    for (number, pooling) in poolings {
        let mut tiny = bert(Kind::F32);
        tiny.set("bert.pooling_type", Meta::U32(number));
        let encoder = open(&tiny).unwrap();
        assert_eq!(encoder.shape().pooling, pooling);
        for count in [1, 2, 17, CONTEXT] {
            let ids: Vec<u32> = (0..count).map(|at| (at * 7 % PIECES) as u32).collect();
            let vector = embed(&encoder, &ids);
            let apart = farthest(&vector, &Obvious(&tiny).embed(&ids, pooling));
            assert!(apart < 2e-6, "{pooling:?} of {count} tokens is {apart} off");
        }
    }
}

#[test]
fn quantised_weights_give_nearly_the_same_direction() {
    for (kind, least) in [(Kind::F16, 0.9999), (Kind::Q8_0, 0.999), (Kind::Q4_1, 0.99)] {
        let tiny = bert(kind);
        let encoder = open(&tiny).unwrap();
        let ids: Vec<u32> = (0..20).map(|at| at * 3 % PIECES as u32).collect();
        let expected = Obvious(&tiny).embed(&ids, Pooling::Mean);
        let vector = embed(&encoder, &ids);
        let products = vector.iter().zip(&expected);
        let cosine: f64 = products.map(|(a, b)| f64::from(*a) * b).sum();
        assert!(cosine > least, "{kind:?}: {cosine}");
    }
}

#[test]
fn every_token_sees_every_other_and_nothing_else() {
    let encoder = open(&bert(Kind::F32)).unwrap();
    let first = embed(&encoder, &[1, 2, 3, 4]);
    let other = embed(&encoder, &[1, 2, 3, 5]);
    assert_ne!(first, other);
    assert_eq!(first, embed(&encoder, &[1, 2, 3, 4]));
    let length: f32 = first.iter().map(|value| value * value).sum();
    assert!((length - 1.0).abs() < 1e-5);
}

#[test]
fn an_interrupted_text_has_no_vector() {
    let encoder = open(&bert(Kind::F32)).unwrap();
    assert_eq!(encoder.embed(&[1, 2], &|| true).unwrap(), None);
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let encoder = open(&bert(Kind::F32)).unwrap();
    let refused = |ids: &[u32]| encoder.embed(ids, &|| false).unwrap_err();
    assert!(matches!(refused(&[]), EngineError::BadRequest { .. }));
    assert!(matches!(
        refused(&[1; CONTEXT + 1]),
        EngineError::ContextTooLong {
            prompt: 41,
            limit: 40,
            ..
        }
    ));
    assert!(matches!(
        refused(&[1, PIECES as u32]),
        EngineError::TokenOutside {
            id: 50,
            vocabulary: 50
        }
    ));
    let mut damaged = bert(Kind::F32);
    damaged.tensors.iter_mut().for_each(|tensor| {
        if tensor.name == "blk.1.ffn_up.weight" {
            tensor.values[5] = f32::NAN;
        }
    });
    let damaged = open(&damaged).unwrap().embed(&[1, 2], &|| false);
    assert!(matches!(damaged, Err(EngineError::BadNumbers { .. })));
}

#[test]
fn a_file_that_is_not_what_it_says_is_refused_with_its_reason() {
    let changed = |change: &dyn Fn(&mut Tiny)| {
        let mut tiny = bert(Kind::F32);
        change(&mut tiny);
        open(&tiny).unwrap_err()
    };
    let missing = changed(&|tiny| {
        tiny.tensors
            .retain(|tensor| tensor.name != "blk.2.attn_k.bias")
    });
    assert!(matches!(
        missing,
        EngineError::BadFile {
            problem: FileProblem::MissingTensor { .. },
            ..
        }
    ));
    let heads = changed(&|tiny| tiny.set("bert.attention.head_count", Meta::U32(5)));
    assert!(matches!(
        heads,
        EngineError::BadFile {
            problem: FileProblem::BadValue { .. },
            ..
        }
    ));
    let huge = changed(&|tiny| tiny.set("bert.block_count", Meta::U32(u32::MAX)));
    assert!(matches!(huge, EngineError::BadFile { .. }));
    let wider = changed(&|tiny| tiny.set("bert.embedding_length", Meta::U32(128)));
    assert!(matches!(
        wider,
        EngineError::BadFile {
            problem: FileProblem::WrongShape { .. },
            ..
        }
    ));
    let longer = changed(&|tiny| tiny.set("bert.context_length", Meta::U32(41)));
    assert!(matches!(
        longer,
        EngineError::BadFile {
            problem: FileProblem::WrongShape { .. },
            ..
        }
    ));
    let ranks = changed(&|tiny| tiny.set("bert.pooling_type", Meta::U32(4)));
    assert!(matches!(ranks, EngineError::UnsupportedFeature { .. }));
    let more = changed(&|tiny| tiny.add("cls.weight", &[HIDDEN, HIDDEN], Kind::F32));
    assert!(matches!(more, EngineError::UnsupportedFeature { .. }));
    let epsilon =
        changed(&|tiny| tiny.set("bert.attention.layer_norm_epsilon", Meta::F32(f32::NAN)));
    assert!(matches!(epsilon, EngineError::BadFile { .. }));
}

fn engine(dir: &Path, memory_cap: u64) -> EngineHandle {
    let worker = Path::new(env!("CARGO_BIN_EXE_decentralgpt-worker"));
    EngineHandle::new(EngineOptions {
        worker_dirs: vec![worker.parent().unwrap().to_owned()],
        readable: vec![dir.to_owned()],
        memory_cap: Some(memory_cap),
        ..EngineOptions::default()
    })
}

const ROOMY: u64 = 512 << 20;

/// Words of the vocabulary's letters, `tokens` of them.
fn text(seed: usize, tokens: usize) -> String {
    let letter = |at: usize| char::from(b'a' + ((seed * 5 + at * 7) % 22) as u8);
    let spelled = (0..tokens).map(|at| match at % 3 {
        0 if at > 0 => format!(" {}", letter(at)),
        _ => letter(at).to_string(),
    });
    spelled.collect()
}

#[tokio::test]
async fn texts_over_the_wire_have_the_vectors_of_the_definition() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("encoder.gguf");
    let engine = engine(dir.path(), ROOMY);
    for (number, pooling) in [(1, Pooling::Mean), (2, Pooling::First), (3, Pooling::Last)] {
        let mut tiny = bert(Kind::F32);
        tiny.set("bert.pooling_type", Meta::U32(number));
        tiny.write(&path);
        engine.unload().await.unwrap();
        let texts: Vec<String> = (0..4).map(|seed| text(seed, 1 + seed * 12)).collect();
        let embedded = engine
            .embed(EmbedRequest::new(&path, texts.clone()))
            .await
            .unwrap();
        let model = TextModel::open(&path).unwrap();
        assert!(model.info().runs_here && model.info().embeds_only);
        let mut tokens = 0;
        for (text, vector) in texts.iter().zip(&embedded.vectors) {
            let ids = model.tokenizer().encode_document(text);
            assert_eq!((ids[0], ids[ids.len() - 1]), (2, 3), "begin and end");
            tokens += ids.len();
            let apart = farthest(vector, &Obvious(&tiny).embed(&ids, pooling));
            assert!(apart < 2e-6, "{pooling:?} of {text:?} is {apart} off");
            assert_eq!(
                *vector,
                embed(&open(&tiny).unwrap(), &ids),
                "bit for bit as without the worker"
            );
        }
        assert_eq!(embedded.tokens as usize, tokens);
    }
}

#[tokio::test]
async fn texts_longer_than_a_step_are_computed_whole_beside_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("encoder.gguf");
    let tiny = bert_of(Kind::Q8_0, 400);
    tiny.write(&path);
    let engine = engine(dir.path(), ROOMY);
    let texts = |asker: usize| -> Vec<String> {
        let lengths = [390, 200, 120, 1];
        let each = lengths.iter().map(|&tokens| text(asker, tokens));
        each.collect()
    };
    let requests = (0..5).map(|asker| EmbedRequest {
        class: Class::Free,
        asker: Asker::Peer(format!("peer {asker}")),
        ..EmbedRequest::new(&path, texts(asker))
    });
    let calls = requests.map(|request| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.embed(request).await })
    });
    let calls: Vec<_> = calls.collect();
    let tokenizer = TextModel::open(&path).unwrap();
    let encoder = open(&tiny).unwrap();
    for (asker, call) in calls.into_iter().enumerate() {
        let embedded = call.await.unwrap().unwrap();
        for (text, vector) in texts(asker).iter().zip(embedded.vectors) {
            let ids = tokenizer.tokenizer().encode_document(text);
            assert_eq!(vector, embed(&encoder, &ids));
        }
    }
    let too_long = engine
        .embed(EmbedRequest::new(&path, vec![text(0, 399)]))
        .await;
    assert!(
        matches!(
            too_long,
            Err(EngineError::ContextTooLong {
                prompt: 401,
                limit: 400,
                ..
            })
        ),
        "{too_long:?}"
    );
}

#[tokio::test]
async fn an_encoder_cannot_answer_and_says_so_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("encoder.gguf");
    bert(Kind::F32).write(&path);
    let engine = engine(dir.path(), ROOMY);
    let refusal = EngineError::OnlyEmbeds {
        model: "Letters".into(),
    };
    // Before it is loaded, and after.
    for _ in 0..2 {
        let chat = engine.render(&path, &ChatPrompt::ask("abc")).await;
        assert_eq!(chat, Err(refusal.clone()));
        let mut answer = engine
            .generate(GenerateRequest::new(&path, vec![2, 5, 3]))
            .await
            .unwrap();
        assert_eq!(answer.next().await, Some(Err(refusal.clone())));
        let score = ScoreRequest::new(&path, vec![2], vec![5]);
        assert_eq!(engine.score(score).await, Err(refusal.clone()));
        assert_eq!(engine.benchmark(&path).await, Err(refusal.clone()));
        let texts = vec!["abc".to_owned()];
        engine.embed(EmbedRequest::new(&path, texts)).await.unwrap();
    }
}

#[tokio::test]
async fn memory_for_an_encoder_is_admitted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("encoder.gguf");
    bert(Kind::F32).write(&path);
    let need = TextModel::open(&path).unwrap().info().load_bytes;
    let embed = async |cap: u64| {
        let request = EmbedRequest::new(&path, vec!["abc".to_owned()]);
        engine(dir.path(), cap).embed(request).await.map(drop)
    };
    assert_eq!(embed(need).await, Ok(()));
    let refused = embed(need - 1).await;
    let have = need - 1;
    assert_eq!(refused, Err(EngineError::NotEnoughMemory { need, have }));
}
