//! Drafts change how fast an answer comes, and nothing of what it is. Scoring an answer drafts nothing, so that its
//! verdict on every token is the answer that would have come without.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::wire::Drafts;
use engine::{
    Asker, Class, Constraint, EngineHandle, EngineOptions, Finish, GenerateEvent, GenerateRequest,
    Generation, Sampling, ScoreRequest, Sharing,
};
use tiny::{Kind, Model, Tiny};

fn model(dir: &Path) -> PathBuf {
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
    let path = dir.join("model.gguf");
    Tiny::model(model, tiny::bpe()).write(&path);
    path
}

fn engine(dir: &Path) -> EngineHandle {
    let worker = Path::new(env!("CARGO_BIN_EXE_decentralgpt-worker"));
    EngineHandle::new(EngineOptions {
        worker_dirs: vec![worker.parent().unwrap().to_owned()],
        readable: vec![dir.to_owned()],
        memory_cap: Some(512 << 20),
        ..EngineOptions::default()
    })
}

/// How long nothing comes of an answer that stands still.
const STANDS: Duration = Duration::from_millis(300);

#[derive(Debug, Default, PartialEq)]
struct Answer {
    ids: Vec<u32>,
    text: String,
    logprobs: Vec<f32>,
    finish: Option<Finish>,
}

async fn answer(mut generation: Generation) -> Answer {
    let mut answer = Answer::default();
    while let Some(event) = generation.next().await {
        match event.unwrap() {
            GenerateEvent::Prefill { .. } => {}
            GenerateEvent::Tokens {
                first_index,
                ids,
                text,
                logprobs,
            } => {
                assert_eq!(first_index as usize, answer.ids.len(), "none is left out");
                answer.ids.extend(ids);
                answer.text.push_str(&text);
                answer.logprobs.extend(logprobs.iter().map(|of| of.logprob));
            }
            GenerateEvent::Finished { finish, stats } => {
                answer.finish = Some(finish);
                assert_eq!(stats.decode_tokens as usize, answer.ids.len());
            }
        }
    }
    answer
}

/// A prompt that says everything three times, and an answer of two to four different tokens, which repeats itself in part
/// and leaves its loops.
fn request(file: &Path, seed: u32) -> GenerateRequest {
    let once: Vec<u32> = (0..9).map(|at| 1 + (seed * 37 + at * 7) % 200).collect();
    let likely = once[..2 + seed as usize % 3].iter();
    GenerateRequest {
        sampling: Sampling {
            temperature: [0.0, 0.3, 0.6, 1.0][seed as usize % 4],
            top_k: 40,
            repeat_penalty: [1.0, 1.05][seed as usize / 4 % 2],
            seed: u64::from(seed),
            logit_bias: likely.map(|&id| (id, 30.0)).collect(),
            ..Sampling::default()
        },
        logprobs: Some(0),
        ignore_eog: true,
        max_out: 90 + seed % 7,
        ..GenerateRequest::new(file, once.repeat(3))
    }
}

/// What came of drafts, once the worker has told that it is idle.
async fn drafts(engine: &EngineHandle) -> Drafts {
    let mut stats = engine.stats();
    let idle = stats
        .wait_for(|stats| stats.own_sequences + stats.network_sequences == 0)
        .await;
    idle.unwrap().drafts
}

#[tokio::test]
async fn answers_are_bit_for_bit_those_without_drafts() {
    let dir = tempfile::tempdir().unwrap();
    let file = model(dir.path());
    let engine = engine(dir.path());
    for seed in 0..24 {
        let request = request(&file, seed);
        let said = answer(engine.generate(request.clone()).await.unwrap()).await;
        assert_eq!(said.finish, Some(Finish::Length));
        assert_eq!(said.ids.len(), request.max_out as usize);
        let claim = ScoreRequest {
            sampling: request.sampling,
            ..ScoreRequest::new(&file, request.prompt, said.ids.clone())
        };
        let scores = engine.score(claim).await.unwrap();
        for (at, (score, logprob)) in scores.iter().zip(&said.logprobs).enumerate() {
            assert_eq!(score.margin, Some(0.0), "seed {seed}, token {at}");
            assert_eq!(
                score.logprob.to_bits(),
                logprob.to_bits(),
                "seed {seed}, token {at}"
            );
        }
    }
    let drafts = drafts(&engine).await;
    assert!(
        drafts.accepted > 100 && drafts.verified > drafts.accepted,
        "right and wrong ones were among them: {drafts:?}"
    );
}

#[tokio::test]
async fn a_turn_after_a_drafted_answer_finds_what_was_computed_and_no_draft() {
    let dir = tempfile::tempdir().unwrap();
    let file = model(dir.path());
    let (engine, fresh) = (engine(dir.path()), engine(dir.path()));
    for seed in 0..8 {
        let first = request(&file, seed);
        let said = answer(engine.generate(first.clone()).await.unwrap()).await;
        let next = GenerateRequest {
            prompt: [first.prompt.as_slice(), &said.ids, &[3, 5]].concat(),
            max_out: 20,
            ..first
        };
        let cached = answer(engine.generate(next.clone()).await.unwrap()).await;
        fresh.unload().await.unwrap();
        let anew = answer(fresh.generate(next).await.unwrap()).await;
        assert_eq!(cached, anew, "seed {seed}");
    }
    assert!(drafts(&engine).await.accepted > 0);
}

#[tokio::test]
async fn a_form_and_a_stop_string_hold_inside_of_drafts() {
    let dir = tempfile::tempdir().unwrap();
    let file = model(dir.path());
    let (engine, crowded) = (engine(dir.path()), engine(dir.path()));
    let mut accepted = 0;
    for seed in 0..6 {
        let free = request(&file, seed);
        let unbiased = Sampling {
            logit_bias: Vec::new(),
            ..free.sampling.clone()
        };
        let bound = GenerateRequest {
            constraint: Some(Constraint::Regex("([abc]{2}x)*".into())),
            sampling: unbiased,
            ignore_eog: false,
            ..free.clone()
        };
        let plain = answer(engine.generate(free.clone()).await.unwrap()).await;
        let late: String = plain.text.chars().skip(60).take(3).collect();
        let stopped = GenerateRequest {
            stop: vec![late.clone()],
            ..free
        };
        for (request, is_bound) in [(bound, true), (stopped, false)] {
            let alone = answer(engine.generate(request.clone()).await.unwrap()).await;
            // Beside another one nothing is drafted.
            let beside = crowded.generate(self::request(&file, 50)).await.unwrap();
            let asked = crowded.generate(request).await.unwrap();
            let (asked, _) = tokio::join!(answer(asked), answer(beside));
            assert_eq!(alone, asked, "seed {seed}");
            if is_bound {
                let cut = alone.text.len() - alone.text.len() % 3;
                let triples = alone.text.as_bytes()[..cut].chunks(3);
                assert!(triples.clone().all(|triple| triple.ends_with(b"x")));
            } else if !late.is_empty() {
                assert!(!alone.text.contains(&late));
            }
        }
        accepted = drafts(&engine).await.accepted;
    }
    assert!(accepted > 0);
}

#[tokio::test]
async fn a_stranger_gets_no_drafts_while_the_owner_is_here() {
    let dir = tempfile::tempdir().unwrap();
    let file = model(dir.path());
    let engine = engine(dir.path());
    let of_stranger = |seed| GenerateRequest {
        class: Class::Free,
        asker: Asker::Peer("stranger".into()),
        ..request(&file, seed)
    };
    // An answer of the owner's that stands still wants nothing now, and may at any moment.
    let mut own = engine.generate(request(&file, 1)).await.unwrap();
    own.pause();
    while tokio::time::timeout(STANDS, own.next()).await.is_ok() {}
    let one = GenerateRequest {
        max_out: 1,
        ..of_stranger(3)
    };
    answer(engine.generate(one).await.unwrap()).await;
    let mut stats = engine.stats();
    let mut now = async || {
        let idle = stats.wait_for(|stats| stats.network_sequences == 0).await;
        idle.unwrap().drafts
    };
    let before = now().await;
    let said = answer(engine.generate(of_stranger(2)).await.unwrap()).await;
    assert_eq!(now().await, before);
    drop(own);
    let alone = answer(engine.generate(of_stranger(2)).await.unwrap()).await;
    assert_eq!(alone, said);
    assert!(drafts(&engine).await.verified > before.verified);
}

/// Answers in which the owner is drafted for at least once.
const ASKED_BESIDE: usize = 50;

#[tokio::test]
async fn the_owner_gets_drafts_beside_a_stranger_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = model(dir.path());
    let engine = engine(dir.path());
    // What steps of one sequence take is learned where it is computed alone.
    let alone = answer(engine.generate(request(&file, 0)).await.unwrap()).await;
    let before = drafts(&engine).await;
    let all = Sharing {
        slowdown: 1.0,
        ..Sharing::default()
    };
    engine.set_sharing(all).await.unwrap();
    let endless = GenerateRequest {
        class: Class::Free,
        asker: Asker::Peer("stranger".into()),
        max_out: 400,
        ..request(&file, 2)
    };
    // Whether a draft pays is measured, and a busy machine may measure that it does not for a while.
    for _ in 0..ASKED_BESIDE {
        let mut stranger = engine.generate(endless.clone()).await.unwrap();
        while !matches!(
            stranger.next().await,
            Some(Ok(GenerateEvent::Tokens { .. }))
        ) {}
        let beside = answer(engine.generate(request(&file, 0)).await.unwrap()).await;
        assert_eq!(beside, alone);
        drop(stranger);
        let accepted = drafts(&engine).await.accepted - before.accepted;
        if accepted > before.accepted / 2 {
            return;
        }
    }
    panic!("the owner got no drafts beside a stranger: {before:?}");
}
