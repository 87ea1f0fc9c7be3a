//! The engine against llama.cpp: rendered chats, token ids and greedy tokens, for every family and on the starter.
//!
//! Small models are made up here, from fixed numbers; what llama.cpp makes of them was recorded by `reference.py` and lies in
//! `references`, with the digest of the file it was asked about. Where llama.cpp is built (see [`llama_cpp`]) it is asked
//! again. With `DECENTRALGPT_RECORD` set, what it says replaces the records.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod llama_cpp;
mod models;
mod starter;
#[path = "../tiny/mod.rs"]
mod tiny;
mod vocabulary;

use std::path::{Path, PathBuf};

use engine::{
    ChatMessage, ChatPrompt, EngineHandle, EngineOptions, GenerateEvent, GenerateRequest, Role,
};
use llama_cpp::{Answered, Job, LlamaCpp, Message, Record};
use models::{CONTEXT, NAMES, model};

/// Greedy tokens that are compared.
const TOKENS: u32 = 64;

macro_rules! families {
    ($($name:ident = $model:literal),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            compare($model).await;
        }
    )*};
}

families! {
    llama = "llama",
    llama_with_linear_scaling_and_a_tied_head = "llama-tied-linear",
    llama_3_with_its_factors = "llama-3-factors",
    llama_with_yarn = "llama-yarn",
    qwen2 = "qwen2",
    qwen2_with_yarn = "qwen2-yarn",
    qwen3 = "qwen3",
    qwen3_with_yarn = "qwen3-yarn",
    qwen3_with_experts = "qwen3moe",
    gemma3_with_sliding_windows = "gemma3",
    phi3 = "phi3",
    phi3_inside_its_trained_context = "phi3-longrope-short",
    phi3_beyond_its_trained_context = "phi3-longrope-long",
}

async fn compare(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(format!("{name}.gguf"));
    model(name).write(&file);
    let record = Record::read(name);
    assert_eq!(
        llama_cpp::sha256(&file),
        record.file_sha256,
        "{name}: the file is not the one that was recorded"
    );
    let engine = engine(&file);
    engine
        .load(&file, Some(CONTEXT))
        .await
        .unwrap()
        .finish()
        .await
        .unwrap();
    for (at, (messages, expected)) in llama_cpp::conversations()
        .iter()
        .zip(&record.conversations)
        .enumerate()
    {
        let prompt = engine.render(&file, &chat(messages)).await.unwrap();
        assert_eq!(
            first_difference(&prompt, &expected.prompt),
            None,
            "{name}, conversation {at}: the prompt {:?} (index, ours, llama.cpp's)",
            expected.rendered
        );
        let request = GenerateRequest {
            max_out: TOKENS,
            ignore_eog: true,
            ..GenerateRequest::new(&file, prompt)
        };
        let greedy = greedy(&engine, request).await;
        if let Some(difference @ (index, ..)) = first_difference(&greedy, &expected.greedy) {
            panic!(
                "{name}, conversation {at}: greedy tokens {difference:?} (index, ours, llama.cpp's); llama.cpp's was ahead \
                 by {:?}",
                expected.gaps.get(index)
            );
        }
    }
}

/// Where two lists of ids part, and the ids there.
fn first_difference(ours: &[u32], theirs: &[u32]) -> Option<(usize, Option<u32>, Option<u32>)> {
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    (at < ours.len().max(theirs.len()))
        .then(|| (at, ours.get(at).copied(), theirs.get(at).copied()))
}

async fn greedy(engine: &EngineHandle, request: GenerateRequest) -> Vec<u32> {
    let mut generation = engine.generate(request).await.unwrap();
    let mut out = Vec::new();
    while let Some(event) = generation.next().await {
        if let GenerateEvent::Tokens { ids, .. } = event.unwrap() {
            out.extend(ids);
        }
    }
    out
}

fn engine(file: &Path) -> EngineHandle {
    EngineHandle::new(EngineOptions {
        worker_dirs: vec![
            Path::new(env!("CARGO_BIN_EXE_decentralgpt-worker"))
                .parent()
                .unwrap()
                .to_owned(),
        ],
        readable: vec![file.parent().unwrap().to_owned()],
        ..EngineOptions::default()
    })
}

fn chat(messages: &[Message]) -> ChatPrompt {
    let role = |name: &str| match name {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => panic!("there is no role {other}"),
    };
    ChatPrompt {
        messages: messages
            .iter()
            .map(|message| ChatMessage::new(role(&message.role), &message.content))
            .collect(),
        ..ChatPrompt::default()
    }
}

#[test]
fn the_records_are_what_llama_cpp_says() {
    let Some(llama_cpp) = LlamaCpp::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = NAMES
        .iter()
        .map(|name| {
            let file = dir.path().join(format!("{name}.gguf"));
            model(name).write(&file);
            file
        })
        .collect();
    let jobs: Vec<Job> = files
        .iter()
        .map(|file| Job {
            file: file.clone(),
            context: CONTEXT,
            tokens: TOKENS,
            stop: false,
            conversations: llama_cpp::conversations(),
            text: None,
            window: None,
        })
        .collect();
    for ((name, file), said) in NAMES.iter().zip(&files).zip(llama_cpp.ask(&jobs)) {
        let said = Record {
            file_sha256: llama_cpp::sha256(file),
            conversations: said.conversations,
            perplexity: None,
        };
        llama_cpp::record(name, &said);
        let record = Record::read(name);
        assert_eq!(said.file_sha256, record.file_sha256, "{name}");
        let ids = |conversations: &[Answered]| -> Vec<(String, Vec<u32>, Vec<u32>)> {
            conversations
                .iter()
                .map(|said| {
                    (
                        said.rendered.clone(),
                        said.prompt.clone(),
                        said.greedy.clone(),
                    )
                })
                .collect()
        };
        assert_eq!(
            ids(&said.conversations),
            ids(&record.conversations),
            "{name}"
        );
        let least = said
            .conversations
            .iter()
            .flat_map(|said| &said.gaps)
            .fold(f32::INFINITY, |least, gap| least.min(*gap));
        println!("{name}: as recorded; the closest choice was {least} ahead");
    }
}
