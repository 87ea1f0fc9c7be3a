//! The worker process under models that mean no good, and under two models at once. The models are made up here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::path::{Path, PathBuf};

use engine::{
    Asker, ChatPrompt, Class, EngineError, EngineHandle, EngineOptions, Finish, GenerateEvent,
    GenerateRequest, Generation,
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

fn engine(dir: &Path) -> EngineHandle {
    let worker = PathBuf::from(env!("CARGO_BIN_EXE_decentralgpt-worker"));
    EngineHandle::new(EngineOptions {
        worker_dirs: vec![worker.parent().unwrap().to_owned()],
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
