//! The worker process: many askers, several models, models that mean no good, and its own end. The models are made up here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod askers;
mod models;
#[cfg(unix)]
mod other_workers;
mod process;
#[path = "../tiny/mod.rs"]
mod tiny;

use std::path::{Path, PathBuf};

use engine::{
    Asker, Class, EngineError, EngineHandle, EngineOptions, Finish, GenerateEvent, GenerateRequest,
    Generation, Sampling,
};
use tiny::{Kind, Model, Tiny};

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
