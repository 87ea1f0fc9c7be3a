//! The worker process under models that mean no good, and under two models at once. The models are made up here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::path::{Path, PathBuf};

use engine::{
    Asker, ChatPrompt, Class, EmbedRequest, EngineError, EngineHandle, EngineOptions, EnginePhase,
    FileProblem, Finish, GenerateEvent, GenerateRequest, Generation, ModelInfo, Sampling,
    ScoreRequest,
};
use tiny::{Kind, Meta, Model, Tiny};

fn model() -> Tiny {
    let model = Model {
        architecture: "qwen2",
        layers: 2,
        hidden: 64,
        heads: 4,
        kv_heads: 2,
        feed_forward: 96,
        tied: false,
        kind: Kind::Q4_1,
    };
    Tiny::model(model, tiny::bpe())
}

fn worker_dir() -> PathBuf {
    let worker = PathBuf::from(env!("CARGO_BIN_EXE_decentralgpt-worker"));
    worker.parent().unwrap().to_owned()
}

fn engine(dir: &Path) -> EngineHandle {
    EngineHandle::new(EngineOptions {
        worker_dirs: vec![worker_dir()],
        readable: vec![dir.to_owned()],
        memory_cap: Some(512 << 20),
        ..EngineOptions::default()
    })
}

async fn end_of(mut generation: Generation) -> Result<Finish, EngineError> {
    while let Some(event) = generation.next().await {
        if let GenerateEvent::Finished { finish, .. } = event? {
            return Ok(finish);
        }
    }
    panic!("it ended without an end");
}

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
async fn the_owners_other_model_displaces_a_strangers_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.gguf"), dir.path().join("two.gguf"));
    model().write(&one);
    model().write(&two);
    let engine = engine(dir.path());
    let request = |file: &Path, class: Class| GenerateRequest {
        class,
        asker: if class.is_network() {
            Asker::Peer("stranger".into())
        } else {
            Asker::Owner
        },
        ignore_eog: true,
        max_out: 8,
        ..GenerateRequest::new(file, vec![1, 2, 3])
    };
    // A stranger's answer that stands still holds its model; the owner's next question needs another.
    let stranger = engine.generate(request(&one, Class::Free)).await.unwrap();
    stranger.pause();
    let own = engine.generate(request(&two, Class::Own)).await.unwrap();
    assert_eq!(end_of(own).await, Ok(Finish::Length));
    // It was ended for the owner, or had not begun and may do so now.
    stranger.resume();
    let outcome = end_of(stranger).await;
    assert!(
        matches!(outcome, Err(EngineError::Displaced) | Ok(Finish::Length)),
        "{outcome:?}"
    );
    // A stranger's answer waits for the owner's model to be free.
    let waits = engine.generate(request(&one, Class::Free)).await.unwrap();
    assert_eq!(end_of(waits).await, Ok(Finish::Length));
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

/// Ids and log-probabilities of an answer, and how many tokens were read for it.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    ids: Vec<u32>,
    logprobs: Vec<f32>,
    read: u32,
}

async fn answer(mut generation: Generation) -> Result<Answer, EngineError> {
    let mut answer = Answer::default();
    while let Some(event) = generation.next().await {
        match event? {
            GenerateEvent::Prefill { .. } => {}
            GenerateEvent::Tokens { ids, logprobs, .. } => {
                answer.ids.extend(ids);
                answer.logprobs.extend(logprobs.iter().map(|of| of.logprob));
            }
            GenerateEvent::Finished { stats, .. } => answer.read = stats.prefill_tokens,
        }
    }
    Ok(answer)
}

fn prompt(seed: u32, length: u32) -> Vec<u32> {
    (0..length)
        .map(|at| 1 + (seed * 37 + at * 7) % 200)
        .collect()
}

fn sampled(file: &Path, seed: u32) -> GenerateRequest {
    GenerateRequest {
        sampling: Sampling {
            temperature: 0.9,
            top_k: 40,
            repeat_penalty: 1.1,
            seed: u64::from(seed),
            ..Sampling::default()
        },
        logprobs: Some(0),
        ignore_eog: true,
        max_out: 24,
        ..GenerateRequest::new(file, prompt(seed, 10 + seed * 9))
    }
}

fn of_peer(request: GenerateRequest, name: &str) -> GenerateRequest {
    GenerateRequest {
        class: Class::Free,
        asker: Asker::Peer(name.into()),
        ..request
    }
}

#[tokio::test]
async fn many_at_once_are_as_each_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let engine = engine(dir.path());
    let mut running = Vec::new();
    for seed in 0..6 {
        let name = format!("peer {seed}");
        let request = of_peer(sampled(&path, seed), &name);
        running.push(engine.generate(request).await.unwrap());
    }
    let mut together = Vec::new();
    for generation in running {
        together.push(answer(generation).await.unwrap());
    }
    engine.unload().await.unwrap();
    for (seed, together) in (0..).zip(together) {
        let alone = engine.generate(sampled(&path, seed)).await.unwrap();
        assert_eq!(answer(alone).await.unwrap(), together, "seed {seed}");
    }
}

#[tokio::test]
async fn what_one_asker_computed_serves_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let engine = engine(dir.path());
    let request = GenerateRequest {
        max_out: 2,
        ..GenerateRequest::new(&path, prompt(3, 100))
    };
    let read = async |request: GenerateRequest| {
        answer(engine.generate(request).await.unwrap())
            .await
            .unwrap()
            .read
    };
    assert_eq!(read(of_peer(request.clone(), "a")).await, 100);
    assert_eq!(
        read(request.clone()).await,
        100,
        "the owner finds nothing of a peer's"
    );
    assert_eq!(read(of_peer(request.clone(), "b")).await, 100);
    assert!(
        read(of_peer(request.clone(), "a")).await < 40,
        "who asked before does"
    );
    assert!(read(request).await < 40);
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

#[tokio::test]
async fn a_stranger_stands_aside_for_the_owner_and_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    // Room for one full context and a little more.
    let roomy = engine(dir.path());
    let info = roomy.open_text(&path).await.unwrap();
    let logits = 64 * 4 * u64::from(info.vocab_size);
    let contexts = |tokens: u64| info.load_bytes + logits + info.kv_bytes_per_token * tokens;
    let tight = EngineHandle::new(EngineOptions {
        worker_dirs: vec![worker_dir()],
        readable: vec![dir.path().to_owned()],
        memory_cap: Some(contexts(256 + 32)),
        ..EngineOptions::default()
    });
    let long = |seed| GenerateRequest {
        ignore_eog: true,
        max_out: 150,
        ..GenerateRequest::new(&path, prompt(seed, 100))
    };
    let mut stranger = tight.generate(of_peer(long(1), "a")).await.unwrap();
    stranger.pause();
    // A second of its class has no room, and is told the numbers.
    let refused = answer(tight.generate(of_peer(long(2), "b")).await.unwrap()).await;
    assert!(
        matches!(refused, Err(EngineError::NotEnoughMemory { need, have }) if need > have),
        "{refused:?}"
    );
    // With pages of its prompt in its hands it stands still again.
    stranger.resume();
    let mut begun = Vec::new();
    while begun.is_empty() {
        if let GenerateEvent::Tokens { ids, .. } = stranger.next().await.unwrap().unwrap() {
            begun = ids;
        }
    }
    stranger.pause();
    let own = answer(tight.generate(long(3)).await.unwrap())
        .await
        .unwrap();
    stranger.resume();
    let mut stranger = answer(stranger).await.unwrap();
    stranger.ids.splice(..0, begun);
    for (asked, got) in [(1, stranger), (3, own)] {
        let alone = answer(roomy.generate(long(asked)).await.unwrap())
            .await
            .unwrap();
        assert_eq!(got.ids, alone.ids);
    }
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
async fn off_is_off_in_the_middle_of_a_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let engine = engine(dir.path());
    let request = GenerateRequest::new(&path, prompt(1, 250));
    let mut generation = engine.generate(request).await.unwrap();
    assert!(matches!(
        generation.next().await,
        Some(Ok(GenerateEvent::Prefill { .. }))
    ));
    let pid = engine.stats().borrow().worker_pid.unwrap();
    engine.unload().await.unwrap();
    let outcome = answer(generation).await;
    assert!(
        matches!(outcome, Ok(_) | Err(EngineError::Cancelled)),
        "{outcome:?}"
    );
    if cfg!(target_os = "linux") {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "the process is gone"
        );
    }
}

#[tokio::test]
async fn what_waits_for_memory_does_not_hold_up_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.gguf"), dir.path().join("two.gguf"));
    model().write(&one);
    model().write(&two);
    let info = engine(dir.path()).open_text(&one).await.unwrap();
    // Room for one of the models.
    let tight = EngineHandle::new(EngineOptions {
        worker_dirs: vec![worker_dir()],
        readable: vec![dir.path().to_owned()],
        memory_cap: Some(info.load_bytes + (768 << 10)),
        ..EngineOptions::default()
    });
    let long = |file: &Path, seed| GenerateRequest {
        ignore_eog: true,
        max_out: 60,
        ..GenerateRequest::new(file, prompt(seed, 20))
    };
    let own = tight.generate(long(&one, 1)).await.unwrap();
    let mut standing = vec![own];
    for name in ["a", "b"] {
        let stranger = tight.generate(of_peer(long(&one, 2), name)).await.unwrap();
        standing.push(stranger);
    }
    for generation in &mut standing {
        generation.pause();
        generation.next().await.unwrap().unwrap();
    }
    // The owner's next question needs the other model, whose place the first one's answer holds.
    let waiting = tight.generate(long(&two, 3)).await.unwrap();
    let own = standing.remove(0);
    for stranger in &standing {
        stranger.resume();
    }
    let strangers = standing.into_iter().map(end_of).map(tokio::spawn);
    let ended = async {
        for stranger in strangers.collect::<Vec<_>>() {
            assert_eq!(stranger.await.unwrap(), Ok(Finish::Length));
        }
    };
    let soon = std::time::Duration::from_secs(30);
    tokio::time::timeout(soon, ended).await.expect("they go on");
    own.resume();
    assert_eq!(end_of(own).await, Ok(Finish::Length));
    assert_eq!(end_of(waiting).await, Ok(Finish::Length));
}

#[tokio::test]
async fn a_crowd_leaves_places_to_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let mut model = model();
    model.set("qwen2.context_length", Meta::U32(2048));
    model.write(&path);
    let engine = engine(dir.path());
    let request = |seed| GenerateRequest {
        ignore_eog: true,
        max_out: 60,
        ..GenerateRequest::new(&path, prompt(seed, 3))
    };
    // An answer of the owner's that stands still holds nobody up, and strangers that stand still stay.
    let mut crowd = Vec::new();
    for seed in 0..48 {
        let stranger = of_peer(request(seed), &format!("peer {seed}"));
        let stranger = engine.generate(stranger).await.unwrap();
        stranger.pause();
        crowd.push(stranger);
    }
    let refused = answer(
        engine
            .generate(of_peer(request(50), "one more"))
            .await
            .unwrap(),
    );
    assert_eq!(refused.await, Err(EngineError::TooManyCalls { limit: 48 }));
    let own = answer(engine.generate(request(51)).await.unwrap()).await;
    assert_eq!(own.unwrap().ids.len(), 60);
}

#[test]
fn a_measuring_worker_is_confined_before_it_opens_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let worker = std::process::Command::new(env!("CARGO_BIN_EXE_decentralgpt-worker"))
        .arg("--bench")
        .arg(&path)
        .args(["--prompt", "20", "--gen", "4", "--repeat", "2"])
        .output()
        .unwrap();
    let said = String::from_utf8(worker.stdout).unwrap();
    assert!(worker.status.success(), "{said}");
    assert_eq!(said.lines().count(), 2);
    for line in said.lines() {
        let figures: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(figures["prefill_tokens_per_second"].as_f64().unwrap() > 0.0);
        if cfg!(target_os = "linux") {
            assert_eq!(figures["isolation"]["files"], true, "{line}");
            assert_eq!(figures["isolation"]["network"], true, "{line}");
            assert!(figures["peak_rss_bytes"].as_u64().unwrap() > 0);
        }
    }
}

#[cfg(unix)]
mod other_workers {
    //! Programs that speak like a worker and are none of this build.

    use std::os::unix::fs::PermissionsExt as _;

    use engine::wire::{self, FromWorker, Say};
    use engine::{BUILD, Isolation};

    use super::*;

    /// A program that says these frames and then waits for its end.
    fn program(dir: &Path, says: &[Say]) -> PathBuf {
        let mut frames = Vec::new();
        for say in says {
            let frame = FromWorker {
                call: 0,
                say: say.clone(),
            };
            frames.extend(wire::encode(&frame).unwrap());
        }
        std::fs::write(dir.join("frames"), frames).unwrap();
        let path = dir.join("decentralgpt-worker");
        let frames = dir.join("frames");
        let script = format!("#!/bin/sh\n/bin/cat '{}'\nread line\n", frames.display());
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn handle(dir: &Path) -> EngineHandle {
        EngineHandle::new(EngineOptions {
            worker_dirs: vec![dir.to_owned()],
            ..EngineOptions::default()
        })
    }

    fn ready(build: &str) -> Say {
        Say::Ready {
            threads: 1,
            isolation: Isolation::default(),
            kernels: String::new(),
            build: build.to_owned(),
        }
    }

    #[tokio::test]
    async fn one_of_another_build_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for build in ["0.0.9+1234", ""] {
            let path = program(dir.path(), &[ready(build)]);
            let refused = handle(dir.path()).open_text(Path::new("x.gguf")).await;
            let expected = EngineError::WorkerOtherBuild {
                program: path,
                worker: build.to_owned(),
                app: BUILD.to_owned(),
            };
            assert_eq!(refused, Err(expected));
        }
    }

    #[tokio::test]
    async fn one_that_hung_says_in_which_step() {
        let dir = tempfile::tempdir().unwrap();
        let hung = EngineError::WorkerHung {
            step: "a step of 1 sequences and 0 tokens of prompts".into(),
            after_s: 61,
        };
        program(dir.path(), &[ready(BUILD), Say::Failed(hung.clone())]);
        let script = dir.path().join("decentralgpt-worker");
        let text = std::fs::read_to_string(&script).unwrap();
        std::fs::write(&script, text.replace("read line\n", "exit 70\n")).unwrap();
        let engine = handle(dir.path());
        assert_eq!(engine.open_text(Path::new("x.gguf")).await, Err(hung));
        assert_eq!(engine.stats().borrow().deaths, 1);
    }

    #[cfg(debug_assertions)]
    #[tokio::test]
    async fn a_worker_whose_step_never_ends_is_ended_and_another_starts() {
        let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = files.path().join("model.gguf");
        model().write(&path);
        let script = dir.path().join("decentralgpt-worker");
        let real = env!("CARGO_BIN_EXE_decentralgpt-worker");
        let text = format!("#!/bin/sh\nDECENTRALGPT_HANG_IN_STEP=3 exec '{real}' \"$@\"\n");
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let engine = EngineHandle::new(EngineOptions {
            worker_dirs: vec![dir.path().to_owned()],
            readable: vec![files.path().to_owned()],
            ..EngineOptions::default()
        });
        let request = |max_out| GenerateRequest {
            ignore_eog: true,
            max_out,
            ..GenerateRequest::new(&path, vec![1, 2, 3])
        };
        let hung = end_of(engine.generate(request(20)).await.unwrap()).await;
        assert!(
            matches!(&hung, Err(EngineError::WorkerHung { step, after_s: 1..10 }) if step.starts_with("a step of 1 sequences")),
            "{hung:?}"
        );
        assert_eq!(engine.stats().borrow().deaths, 1);
        // The next one hangs as late as this one did, and a shorter answer comes.
        let short = end_of(engine.generate(request(2)).await.unwrap()).await;
        assert_eq!(short, Ok(Finish::Length));
    }

    #[tokio::test]
    async fn calls_of_others_leave_room_for_the_owners() {
        let dir = tempfile::tempdir().unwrap();
        program(dir.path(), &[ready(BUILD)]);
        let engine = handle(dir.path());
        let request = GenerateRequest::new("x.gguf", vec![1]);
        let mut open = Vec::new();
        for _ in 0..192 {
            let of_others = of_peer(request.clone(), "a");
            open.push(engine.generate(of_others).await.unwrap());
        }
        let refused = end_of(
            engine
                .generate(of_peer(request.clone(), "a"))
                .await
                .unwrap(),
        )
        .await;
        assert_eq!(refused, Err(EngineError::TooManyCalls { limit: 192 }));
        let mut own = engine.generate(request).await.unwrap();
        let waits = std::time::Duration::from_millis(200);
        assert!(
            tokio::time::timeout(waits, own.next()).await.is_err(),
            "it is open"
        );
    }

    #[tokio::test]
    async fn what_was_measured_reaches_this_worker_and_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let script = program(dir.path(), &[ready(BUILD)]);
        let heard = dir.path().join("heard");
        let text = std::fs::read_to_string(&script).unwrap();
        let listens = format!("exec /bin/cat >> '{}'\n", heard.display());
        std::fs::write(&script, text.replace("read line\n", &listens)).unwrap();
        let engine = handle(dir.path());
        let benchmark = engine::Benchmark {
            build: BUILD.to_owned(),
            device: "X, portable, 1 threads".to_owned(),
            prefill_tokens_per_second: 10.0,
            decode: Vec::new(),
        };
        let known = |frame: &wire::ToWorker| {
            matches!(&frame.ask, wire::Ask::Know { file, benchmark: told }
                if file == Path::new("a.gguf") && *told == benchmark)
        };
        engine
            .know(Path::new("a.gguf"), benchmark.clone())
            .await
            .unwrap();
        for workers in 1..=2 {
            // Starts one, which answers nothing.
            let asked = engine.open_text(Path::new("a.gguf"));
            let soon = std::time::Duration::from_secs(20);
            let all_heard = async {
                loop {
                    let heard = std::fs::read(&heard).unwrap_or_default();
                    let mut rest = heard.as_slice();
                    let frames =
                        std::iter::from_fn(|| wire::read::<wire::ToWorker>(&mut rest).ok()?);
                    if frames.filter(|frame| known(frame)).count() == workers {
                        return;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            };
            let waited = tokio::time::timeout(soon, async {
                tokio::select! { _ = asked => {}, () = all_heard => {} }
            });
            waited.await.expect("it is told");
            engine.unload().await.unwrap();
        }
    }
}
