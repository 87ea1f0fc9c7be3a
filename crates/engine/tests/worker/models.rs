//! What a model is asked for: answers, scores, vectors, measurements; and models that mean no good.

use std::path::Path;

use engine::{
    ChatPrompt, EmbedRequest, EngineError, EngineHandle, EngineOptions, EnginePhase, FileProblem,
    GenerateRequest, ModelInfo, ScoreRequest,
};

use crate::tiny::Meta;
use crate::{answer, end_of, engine, model, prompt, sampled, worker_dir};

#[tokio::test]
async fn a_template_that_eats_memory_costs_one_answer_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let (bomb, good) = (dir.path().join("bomb.gguf"), dir.path().join("good.gguf"));
    model().write(&good);
    let mut bad = model();
    let doubling = "{% set n = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}";
    bad.set("tokenizer.chat_template", Meta::Text(doubling.into()));
    bad.write(&bomb);
    let engine = engine(dir.path());
    let died = engine.render(&bomb, &ChatPrompt::ask("x")).await;
    // The fuel runs out first, or the memory does.
    assert!(
        matches!(
            died,
            Err(EngineError::Template { .. } | EngineError::WorkerDied { .. })
        ),
        "{died:?}"
    );
    assert!(
        !engine
            .render(&good, &ChatPrompt::ask("x"))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn weights_that_are_no_numbers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nan.gguf");
    let mut bad = model();
    let norm = bad
        .tensors
        .iter_mut()
        .find(|tensor| tensor.name == "output_norm.weight")
        .unwrap();
    norm.values.fill(f32::NAN);
    bad.write(&path);
    let engine = engine(dir.path());
    let generation = engine
        .generate(GenerateRequest::new(&path, vec![1, 2, 3]))
        .await
        .unwrap();
    assert_eq!(
        end_of(generation).await,
        Err(EngineError::BadNumbers { index: 0 })
    );
}

#[tokio::test]
async fn a_table_with_fewer_rows_than_pieces_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("short.gguf");
    let mut bad = model();
    for tensor in &mut bad.tensors {
        if matches!(tensor.name.as_str(), "token_embd.weight" | "output.weight") {
            tensor.shape[0] -= 1;
            let values = tensor.shape.iter().product();
            tensor.values.truncate(values);
        }
    }
    bad.write(&path);
    let refused = engine(dir.path())
        .score(ScoreRequest::new(&path, vec![1, 2], vec![3]))
        .await;
    assert!(
        matches!(
            refused,
            Err(EngineError::BadFile {
                problem: FileProblem::WrongShape { .. },
                ..
            })
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_context_of_nothing_or_of_everything_is_one_that_the_model_can_have() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let mut trained = model();
    trained.set("qwen2.context_length", Meta::U32(300));
    trained.write(&path);
    let context = async |wanted| {
        let engine = engine(dir.path());
        let load = engine.load(&path, Some(wanted)).await.unwrap();
        load.finish().await.unwrap().context
    };
    assert_eq!(context(0).await, 1);
    assert_eq!(context(u32::MAX).await, 300);
}

#[tokio::test]
async fn an_id_outside_the_vocabulary_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let engine = engine(dir.path());
    let generation = engine
        .generate(GenerateRequest::new(&path, vec![1, 999_999]))
        .await
        .unwrap();
    let refused = end_of(generation).await;
    assert!(
        matches!(refused, Err(EngineError::TokenOutside { id: 999_999, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_score_is_what_generating_gave_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let engine = engine(dir.path());
    for seed in 0..3 {
        let request = sampled(&path, seed);
        let said = answer(engine.generate(request.clone()).await.unwrap())
            .await
            .unwrap();
        let mut claim = ScoreRequest {
            sampling: request.sampling.clone(),
            ..ScoreRequest::new(&path, request.prompt.clone(), said.ids.clone())
        };
        let scores = engine.score(claim.clone()).await.unwrap();
        assert!(
            scores.iter().all(|score| score.margin == Some(0.0)),
            "{scores:?}"
        );
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(
            bits(scores.iter().map(|score| score.logprob).collect()),
            bits(said.logprobs)
        );
        // One wrong token shows at its place.
        claim.output[7] = (claim.output[7] + 1) % 200;
        let scores = engine.score(claim).await.unwrap();
        assert_ne!(scores[7].margin, Some(0.0));
        assert!(scores[..7].iter().all(|score| score.margin == Some(0.0)));
    }
    let outside = ScoreRequest::new(&path, vec![1], vec![999_999]);
    let refused = engine.score(outside).await;
    assert!(
        matches!(refused, Err(EngineError::TokenOutside { id: 999_999, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn who_no_longer_waits_for_a_score_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let engine = engine(dir.path());
    engine
        .load(&path, None)
        .await
        .unwrap()
        .finish()
        .await
        .unwrap();
    let request = ScoreRequest::new(&path, prompt(1, 100), prompt(2, 100));
    let asked = tokio::spawn({
        let engine = engine.clone();
        async move { engine.score(request).await }
    });
    asked.abort();
    let mut stats = engine.stats();
    stats
        .wait_for(|stats| stats.phase == EnginePhase::Ready && stats.network_sequences == 0)
        .await
        .unwrap();
}

#[tokio::test]
async fn texts_become_vectors_of_length_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let engine = engine(dir.path());
    let texts = ["the sea", "a boat on the sea", "seven"].map(str::to_owned);
    let embed = async |texts: &[String]| {
        engine
            .embed(EmbedRequest::new(&path, texts.to_vec()))
            .await
            .unwrap()
    };
    let together = embed(&texts).await;
    assert_eq!(together.vectors.len(), 3);
    for (text, vector) in texts.iter().zip(&together.vectors) {
        let length: f32 = vector.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5 && vector.len() == 64);
        assert_eq!(&embed(std::slice::from_ref(text)).await.vectors[0], vector);
    }
    assert_ne!(together.vectors[0], together.vectors[1]);
    let mut last = model();
    last.set("qwen2.pooling_type", Meta::U32(3));
    let other = dir.path().join("last.gguf");
    last.write(&other);
    let of_last = engine
        .embed(EmbedRequest::new(&other, texts.to_vec()))
        .await
        .unwrap();
    assert_ne!(
        of_last.vectors[0], together.vectors[0],
        "the file's own rule counts"
    );
}

#[tokio::test]
async fn a_measurement_has_a_rate_for_every_batch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let engine = engine(dir.path());
    let measured = engine.benchmark(&path).await.unwrap();
    assert_eq!(measured.build, engine::BUILD);
    let sequences: Vec<u32> = measured.decode.iter().map(|rate| rate.sequences).collect();
    assert_eq!(sequences, [1, 4, 8]);
    assert!(
        measured
            .decode
            .iter()
            .all(|rate| rate.tokens_per_second > 0.0)
    );
    assert!(measured.prefill_tokens_per_second > 0.0);
}

#[tokio::test]
async fn models_stay_in_memory_as_long_as_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.gguf"), dir.path().join("two.gguf"));
    model().write(&one);
    model().write(&two);
    let roomy = engine(dir.path());
    let load = async |engine: &EngineHandle, file: &Path| {
        engine
            .load(file, None)
            .await
            .unwrap()
            .finish()
            .await
            .unwrap()
    };
    let first = load(&roomy, &one).await;
    load(&roomy, &two).await;
    assert_eq!(
        load(&roomy, &one).await,
        ModelInfo {
            load_ms: 0,
            ..first.clone()
        }
    );
    // Where there is room for one, the other goes, and comes back when it is asked for.
    let tight = EngineHandle::new(EngineOptions {
        worker_dirs: vec![worker_dir()],
        readable: vec![dir.path().to_owned()],
        memory_cap: Some(first.text.load_bytes + (512 << 10)),
        ..EngineOptions::default()
    });
    for file in [&one, &two, &one] {
        let request = GenerateRequest {
            max_out: 3,
            ..GenerateRequest::new(file, vec![1, 2, 3])
        };
        assert!(answer(tight.generate(request).await.unwrap()).await.is_ok());
    }
}
