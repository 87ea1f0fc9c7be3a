//! The starter against llama.cpp. Both round activations to 8 bits, each in its way, so that close choices may differ.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::GenerateRequest;
use engine::cache::{SequenceState, Sizes};
use engine::decoder::{Decoder, Plan, Span, Step, Wanted};
use engine::file::ModelFile;
use serde::Deserialize;

use crate::llama_cpp::{self, Job, LlamaCpp, Message, Record};
use crate::vocabulary::TEXT;
use crate::{TOKENS, chat, engine, first_difference, greedy};

const NAME: &str = "starter";

/// The chats it is asked. With no system prompt its template brings one that it does badly with.
#[derive(Debug, Deserialize)]
struct Chats {
    /// Where llama.cpp's every choice is well ahead of the next: there the tokens must be the same.
    sure: Vec<Vec<Message>>,
    /// Where some choices are nearly even, so that the rounding decides.
    open: Vec<Vec<Message>>,
}

impl Chats {
    fn read() -> Self {
        serde_json::from_str(include_str!("starter.json")).unwrap()
    }

    fn all(&self) -> Vec<Vec<Message>> {
        self.sure.iter().chain(&self.open).cloned().collect()
    }
}

/// Sure answers that must be the same, token by token, of ten.
const MUST_AGREE: usize = 9;

/// How far the second-best token of llama.cpp's may be behind where ours is another than its best. Rounding activations to
/// 8 bits moves the distance of two logits of this model by 0.1 to 0.2, on either side.
const CLOSE: f32 = 0.5;

/// Tokens of a window of text; the second half is predicted.
const WINDOW: usize = 512;

/// Most that perplexities may differ, as a share. The tensor library that serves graphics cards rounds activations in ways
/// of its own.
const PERPLEXITY_SHARE: f64 = if cfg!(feature = "candle") {
    0.01
} else {
    0.005
};

/// The starter's file; says so where it is missing.
fn file() -> Option<PathBuf> {
    let named = std::env::var_os("DECENTRALGPT_STARTER").map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/SmolLM2-135M-Instruct.Q4_1.gguf")
    });
    if !path.is_file() {
        println!("skipped: the starter model is not at {}", path.display());
        return None;
    }
    Some(path.canonicalize().unwrap())
}

#[tokio::test]
async fn the_starter_answers_like_llama_cpp() {
    let Some(file) = file() else { return };
    let (record, chats) = (Record::read(NAME), Chats::read());
    assert_eq!(llama_cpp::sha256(&file), record.file_sha256);
    assert_eq!(record.conversations.len(), chats.all().len());
    let engine = engine(&file);
    let mut same = Vec::new();
    for (messages, expected) in chats.all().iter().zip(&record.conversations) {
        let question = &messages.last().unwrap().content;
        let prompt = engine.render(&file, &chat(messages)).await.unwrap();
        assert_eq!(
            first_difference(&prompt, &expected.prompt),
            None,
            "{question}: the prompt (index, ours, llama.cpp's)"
        );
        let request = GenerateRequest {
            max_out: TOKENS,
            ..GenerateRequest::new(&file, prompt)
        };
        let difference = first_difference(&greedy(&engine, request).await, &expected.greedy);
        same.push(difference.is_none());
        if let Some((index, ..)) = difference {
            let ahead = expected.gaps.get(index).copied().unwrap_or(f32::INFINITY);
            println!(
                "{question}: {difference:?} (index, ours, llama.cpp's); llama.cpp's was ahead by {ahead}"
            );
            assert!(ahead < CLOSE, "{question}: {ahead} is no close choice");
        }
    }
    let count = |same: &[bool]| same.iter().filter(|same| **same).count();
    let (sure, open) = same.split_at(chats.sure.len());
    println!(
        "the same: {} of {} sure answers, {} of {} others",
        count(sure),
        sure.len(),
        count(open),
        open.len()
    );
    assert!(count(sure) >= MUST_AGREE);
}

#[test]
fn the_starter_is_as_surprised_by_a_text_as_llama_cpp() {
    let Some(file) = file() else { return };
    let expected = Record::read(NAME).perplexity.unwrap();
    let plan = Plan::of(&Arc::new(ModelFile::open(&file).unwrap())).unwrap();
    let decoder: Decoder = Decoder::new(&plan, WINDOW as u32, &mut |_| Ok(())).unwrap();
    let mut pool = decoder.pool(Sizes::of(decoder.shape()).bytes(WINDOW as u32));
    let (mut total, mut count) = (0.0, 0);
    for window in expected.ids.chunks_exact(expected.window) {
        let half = window.len() / 2;
        let mut state = SequenceState::default();
        let span = Span {
            state: &mut state,
            ids: window,
            wanted: Wanted::From(half),
        };
        let step = decoder.step(&mut pool, &mut [span], &|| false).unwrap();
        let Step::Computed(rows) = step else {
            panic!("nobody interrupted")
        };
        pool.release(state);
        let rows = rows[0].chunks_exact(decoder.vocabulary());
        for (row, &next) in rows.zip(&window[half + 1..]) {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row
                .iter()
                .map(|logit| f64::from(logit - highest).exp())
                .sum();
            total += sum.ln() - f64::from(row[next as usize] - highest);
            count += 1;
        }
    }
    assert_eq!(count, expected.tokens);
    let ours = (total / count as f64).exp();
    println!("perplexity {ours:.4}, llama.cpp's {:.4}", expected.value);
    let share = (ours / expected.value - 1.0).abs();
    assert!(
        share <= PERPLEXITY_SHARE,
        "{ours} against {}",
        expected.value
    );
}

#[test]
fn the_starters_record_is_what_llama_cpp_says() {
    let (Some(file), Some(llama_cpp)) = (file(), LlamaCpp::find()) else {
        return;
    };
    let job = Job {
        file: file.clone(),
        context: 1024,
        tokens: TOKENS,
        stop: true,
        conversations: Chats::read().all(),
        text: Some(TEXT.to_owned()),
        window: Some(WINDOW),
    };
    let said = llama_cpp.ask(&[job]).remove(0);
    let said = Record {
        file_sha256: llama_cpp::sha256(&file),
        conversations: said.conversations,
        perplexity: said.perplexity,
    };
    llama_cpp::record(NAME, &said);
    let record = Record::read(NAME);
    let prompts = |record: &Record| -> Vec<Vec<u32>> {
        record
            .conversations
            .iter()
            .map(|said| said.prompt.clone())
            .collect()
    };
    assert_eq!(prompts(&said), prompts(&record));
    // Its kernels for another processor add in another order: close choices and last digits may move.
    let sure = said.conversations.iter().zip(&record.conversations);
    let same = sure
        .take(Chats::read().sure.len())
        .filter(|(said, recorded)| said.greedy == recorded.greedy)
        .count();
    assert!(same >= MUST_AGREE, "only {same} answers are as recorded");
    let (said, recorded) = (said.perplexity.unwrap(), record.perplexity.unwrap());
    assert_eq!(said.ids, recorded.ids);
    assert!((said.value / recorded.value - 1.0).abs() <= PERPLEXITY_SHARE);
}
