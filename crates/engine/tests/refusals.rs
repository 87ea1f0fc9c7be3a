//! Model files that cannot be computed: each is refused for its own reason, before a weight is touched where that can be.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::path::Path;
use std::sync::Arc;

use engine::cache::SequenceState;
use engine::decoder::{Decoder, Plan, Span, Step, Wanted};
use engine::file::ModelFile;
use engine::{EngineError, FileProblem};
use proptest::prelude::*;
use tiny::{Kind, Meta, Model, Tiny};

const FAMILIES: [&str; 6] = ["llama", "qwen2", "qwen3", "qwen3moe", "gemma3", "phi3"];

fn small(architecture: &'static str, kind: Kind) -> Tiny {
    let model = Model {
        architecture,
        layers: 2,
        hidden: 64,
        heads: 4,
        kv_heads: 2,
        feed_forward: 96,
        tied: false,
        kind,
    };
    Tiny::model(model, tiny::bpe())
}

fn plan(bytes: &[u8], dir: &Path) -> Result<Plan, EngineError> {
    let path = dir.join("tiny.gguf");
    std::fs::write(&path, bytes).unwrap();
    Plan::of(&Arc::new(ModelFile::open(&path)?))
}

fn refusal(architecture: &'static str, change: impl FnOnce(&mut Tiny)) -> EngineError {
    let mut tiny = small(architecture, Kind::F32);
    change(&mut tiny);
    let dir = tempfile::tempdir().unwrap();
    plan(&tiny.bytes(), dir.path()).expect_err("it was accepted")
}

fn problem(architecture: &'static str, change: impl FnOnce(&mut Tiny)) -> FileProblem {
    match refusal(architecture, change) {
        EngineError::BadFile { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn families_and_features_without_code() {
    let refused = refusal("llama", |tiny| {
        tiny.set("general.architecture", Meta::Text("mamba".into()));
    });
    assert!(
        matches!(&refused, EngineError::UnsupportedArchitecture { architecture, .. } if architecture == "mamba"),
        "{refused:?}"
    );
    for (key, value) in [
        ("llama.rope.scaling.type", Meta::Text("ntk".into())),
        ("llama.expert_count", Meta::U32(8)),
        ("llama.attention.sliding_window", Meta::U32(4096)),
        ("llama.final_logit_softcapping", Meta::F32(30.0)),
        ("llama.attention.causal", Meta::Bool(false)),
        ("llama.attention.value_length", Meta::U32(8)),
        ("llama.logit_scale", Meta::F32(0.5)),
    ] {
        let refused = refusal("llama", |tiny| tiny.set(key, value));
        assert!(
            matches!(&refused, EngineError::UnsupportedFeature { what, .. } if what == key),
            "{key}: {refused:?}"
        );
    }
    // A tensor without a place stands for something that would be left out.
    let refused = refusal("llama", |tiny| {
        tiny.add("blk.0.attn_sinks.weight", &[4], Kind::F32)
    });
    assert!(
        matches!(&refused, EngineError::UnsupportedFeature { value, .. } if value == "blk.0.attn_sinks.weight"),
        "{refused:?}"
    );
}

#[test]
fn numbers_that_contradict_each_other() {
    for (family, key, value) in [
        ("llama", "llama.attention.head_count_kv", Meta::U32(3)),
        ("llama", "llama.attention.head_count", Meta::U32(0)),
        ("llama", "llama.attention.head_count", Meta::U32(1024)),
        ("llama", "llama.attention.key_length", Meta::U32(100_000)),
        ("llama", "llama.rope.dimension_count", Meta::U32(7)),
        ("llama", "llama.rope.dimension_count", Meta::U32(18)),
        ("llama", "llama.rope.freq_base", Meta::F32(-1.0)),
        (
            "llama",
            "llama.rope.scaling.factor",
            Meta::F32(f32::INFINITY),
        ),
        ("llama", "llama.context_length", Meta::U32(0)),
        ("llama", "llama.context_length", Meta::U32(u32::MAX)),
        ("llama", "llama.block_count", Meta::U32(100_000)),
        (
            "llama",
            "llama.attention.layer_norm_rms_epsilon",
            Meta::F32(f32::NAN),
        ),
        ("qwen3moe", "qwen3moe.expert_count", Meta::U32(0)),
        ("qwen3moe", "qwen3moe.expert_used_count", Meta::U32(0)),
        ("qwen3moe", "qwen3moe.expert_used_count", Meta::U32(6)),
        (
            "qwen3moe",
            "qwen3moe.expert_feed_forward_length",
            Meta::U32(0),
        ),
    ] {
        let text = format!("{value:?}");
        let problem = problem(family, |tiny| tiny.set(key, value));
        let FileProblem::BadValue { key: told, .. } = &problem else {
            panic!("{key} = {text}: {problem:?}");
        };
        assert_eq!(told, key);
    }
    let problem = problem("gemma3", |tiny| {
        tiny.set("gemma3.attention.sliding_window", Meta::U32(8));
        tiny.set("gemma3.attention.sliding_window_pattern", Meta::U32(0));
    });
    assert!(
        matches!(problem, FileProblem::BadValue { .. }),
        "{problem:?}"
    );
}

#[test]
fn tensors_that_are_missing_or_of_another_shape() {
    let dir = tempfile::tempdir().unwrap();
    for family in FAMILIES {
        let whole = small(family, Kind::F32);
        for at in 0..whole.tensors.len() {
            let name = whole.tensors[at].name.clone();
            let mut without = whole.clone();
            without.tensors.remove(at);
            match plan(&without.bytes(), dir.path()) {
                Err(EngineError::BadFile {
                    problem: FileProblem::MissingTensor { name: told },
                    ..
                }) => assert_eq!(told, name),
                // Without a head of its own a model uses its table.
                Ok(_) if name == "output.weight" => {}
                other => panic!("{family} without {name}: {other:?}"),
            }
            if name == "token_embd.weight" {
                continue;
            }
            let mut other_shape = whole.clone();
            let tensor = &mut other_shape.tensors[at];
            let inner = *tensor.shape.last().unwrap();
            tensor
                .values
                .truncate(tensor.values.len() / inner * (inner - 1));
            *tensor.shape.last_mut().unwrap() -= 1;
            match plan(&other_shape.bytes(), dir.path()) {
                Err(EngineError::BadFile {
                    problem: FileProblem::WrongShape { name: told, .. },
                    ..
                }) => assert_eq!(told, name),
                other => panic!("{family} with another {name}: {other:?}"),
            }
        }
    }
    let problem = problem("qwen3moe", |tiny| {
        tiny.set("qwen3moe.expert_count", Meta::U32(4))
    });
    assert!(
        matches!(problem, FileProblem::WrongShape { .. }),
        "{problem:?}"
    );
}

#[test]
fn weights_that_are_no_numbers_give_no_numbers() {
    let dir = tempfile::tempdir().unwrap();
    // A norm's weights are plain floats beside blocks, too.
    for (kind, name) in [
        (Kind::F32, "blk.0.attn_norm.weight"),
        (Kind::F32, "blk.1.ffn_down.weight"),
        (Kind::F32, "output.weight"),
        (Kind::Q8_0, "blk.0.attn_norm.weight"),
        (Kind::Q8_0, "blk.1.ffn_norm.weight"),
    ] {
        let mut tiny = small("llama", kind);
        let tensor = tiny.tensors.iter_mut().find(|it| it.name == name).unwrap();
        tensor.values.fill(f32::NAN);
        let plan = plan(&tiny.bytes(), dir.path()).unwrap();
        let decoder = Decoder::new(&plan, 256, &mut |_| Ok(())).unwrap();
        let logits = first_logits(&decoder, &[1, 2, 3]);
        assert!(
            logits.iter().all(|logit| logit.is_nan()),
            "{name} beside {kind:?}"
        );
    }
}

fn first_logits(decoder: &Decoder, ids: &[u32]) -> Vec<f32> {
    let (mut pool, mut state) = (decoder.pool(1 << 30), SequenceState::default());
    let span = Span {
        state: &mut state,
        ids,
        wanted: Wanted::Last,
    };
    match decoder.step(&mut pool, &mut [span], &|| false).unwrap() {
        Step::Computed(mut rows) => rows.remove(0),
        Step::Interrupted => panic!("nobody interrupted"),
    }
}

/// Writes a model in that many parts and gives the first one's path.
fn write_parts(tiny: &Tiny, count: usize, dir: &Path) -> std::path::PathBuf {
    let path = |index: usize| dir.join(format!("tiny-{:05}-of-{count:05}.gguf", index + 1));
    let per_part = tiny.tensors.len().div_ceil(count);
    for (index, tensors) in tiny.tensors.chunks(per_part).enumerate() {
        let mut part = Tiny {
            metadata: if index == 0 {
                tiny.metadata.clone()
            } else {
                Vec::new()
            },
            tensors: tensors.to_vec(),
        };
        part.set("split.no", Meta::U32(index as u32));
        part.set("split.count", Meta::U32(count as u32));
        part.set("split.tensors.count", Meta::U32(tiny.tensors.len() as u32));
        part.write(&path(index));
    }
    path(0)
}

#[test]
fn a_model_in_parts_is_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = small("qwen2", Kind::Q8_0);
    let whole = plan(&tiny.bytes(), dir.path()).unwrap();
    let whole = Decoder::new(&whole, 256, &mut |_| Ok(())).unwrap();
    let first = write_parts(&tiny, 3, dir.path());
    let file = Arc::new(ModelFile::open(&first).unwrap());
    assert_eq!(file.header().tensors.len(), tiny.tensors.len());
    let parts = Decoder::new(&Plan::of(&file).unwrap(), 256, &mut |_| Ok(())).unwrap();
    assert_eq!(
        first_logits(&parts, &[5, 6, 7]),
        first_logits(&whole, &[5, 6, 7])
    );
}

#[test]
fn parts_that_do_not_belong_together_are_named() {
    let tiny = small("qwen2", Kind::Q8_0);
    let refused = |change: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        let first = write_parts(&tiny, 3, dir.path());
        change(dir.path());
        match ModelFile::open(&first).expect_err("it was accepted") {
            EngineError::BadFile { file, problem } => (
                file.file_name().unwrap().to_str().unwrap().to_owned(),
                problem,
            ),
            other => panic!("{other:?}"),
        }
    };
    let part = |index: usize| format!("tiny-{index:05}-of-00003.gguf");
    let (file, problem) = refused(&|dir| std::fs::remove_file(dir.join(part(3))).unwrap());
    assert_eq!(file, part(3));
    assert!(matches!(problem, FileProblem::Io { .. }), "{problem:?}");
    let (file, problem) = refused(&|dir| {
        std::fs::copy(dir.join(part(3)), dir.join(part(2))).unwrap();
    });
    assert_eq!(file, part(2));
    assert!(matches!(&problem, FileProblem::BadValue { key, .. } if key == "split.no"));
    let (file, problem) = refused(&|dir| {
        let bytes = std::fs::read(dir.join(part(2))).unwrap();
        std::fs::write(dir.join(part(2)), &bytes[..bytes.len() - 64]).unwrap();
    });
    assert_eq!(file, part(2));
    assert!(
        matches!(problem, FileProblem::Truncated { .. }),
        "{problem:?}"
    );
    // Any but the first has no metadata to read the model by.
    let dir = tempfile::tempdir().unwrap();
    write_parts(&tiny, 3, dir.path());
    assert!(ModelFile::open(&dir.path().join(part(2))).is_err());
    // Nor is it known where the others are when the name does not say.
    let renamed = dir.path().join("renamed.gguf");
    std::fs::copy(dir.path().join(part(1)), &renamed).unwrap();
    let refused = ModelFile::open(&renamed).expect_err("it was accepted");
    assert!(
        matches!(&refused, EngineError::BadFile { problem: FileProblem::BadValue { key, .. }, .. } if key == "split.count"),
        "{refused:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_model_is_refused_or_computes(
        family in prop::sample::select(FAMILIES.to_vec()),
        keys in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            Just(0u32), Just(1), Just(2), Just(3), Just(15), Just(16), Just(17), Just(64), Just(u32::MAX), any::<u32>()
        ]), 0..3),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut tiny = small(family, Kind::Q8_0);
        for (at, value) in keys {
            let at = at.index(tiny.metadata.len());
            if let Meta::U32(number) = &mut tiny.metadata[at].1 {
                *number = value;
            }
        }
        let mut bytes = tiny.bytes();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(plan) = plan(&bytes, dir.path()) {
            // As admission would: what does not fit is not loaded.
            prop_assume!(plan.weights_bytes() < 64 << 20 && plan.shape().kv_bytes_per_token() < 1 << 20);
            let decoder = Decoder::new(&plan, 256, &mut |_| Ok(())).unwrap();
            let ids = [1, 2, 3].map(|id| id % decoder.vocabulary() as u32);
            first_logits(&decoder, &ids);
        }
    }
}
