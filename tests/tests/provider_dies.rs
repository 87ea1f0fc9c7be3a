//! A provider is lost in the middle of an answer, and another one is there: the answer goes on at the same token.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use decentralgpt_tests::{
    Folder, LONG_QUESTION, Running, SYSTEM, Serving, starter,
    wire::{self, Text},
};
use serde_json::Value;

/// The answer is cut when this many tokens have come: past the first checkpoint's worth of frames, well before the end.
const CUT_AFTER: u64 = 24;
/// Tokens of the whole answer: more than the asker can be given before it is cut.
const WHOLE: u32 = 300;

#[test]
fn a_killed_provider_is_replaced_at_the_same_token() {
    lose_a_provider(libc::SIGKILL);
}

#[test]
fn a_stopped_provider_is_replaced_at_the_same_token() {
    // Its connection stays open and its system acknowledges packets: only its silence tells.
    lose_a_provider(libc::SIGSTOP);
}

fn lose_a_provider(signal: libc::c_int) {
    let Some(starter) = starter() else { return };
    let providers = [Serving::start(&starter), Serving::start(&starter)];
    let asker = Folder::new();
    let whole = WHOLE.to_string();
    let mut chat = Running::start(asker.decentralgpt().args([
        "chat",
        "--json",
        "--peer",
        &providers[0].address,
        "--peer",
        &providers[1].address,
        "--system",
        SYSTEM,
        "--temperature",
        "0",
        "--max-out",
        &whole,
        LONG_QUESTION,
    ]));

    let mut told = Told::default();
    let mut lost: Option<usize> = None;
    while let Some(line) = chat.line() {
        told.hear(&line);
        if lost.is_none() && told.tokens >= CUT_AFTER {
            let from = told
                .provider
                .clone()
                .expect("no event named the provider before its text");
            let index = providers
                .iter()
                .position(|provider| provider.peer == from)
                .expect("a stranger answers");
            providers[index].program.signal(signal);
            lost = Some(index);
        }
    }
    let said = chat.wait();
    assert_eq!(said.code(), Some(0), "{}", said.err);
    let lost = lost.expect("the answer ended before it could be cut");
    let (from, to, index) = told.moved.clone().expect("the answer did not move");
    assert_eq!(from.as_deref(), Some(providers[lost].peer.as_str()));
    assert_eq!(to.as_deref(), Some(providers[1 - lost].peer.as_str()));
    assert!(
        u64::from(index) >= CUT_AFTER,
        "tokens that were shown came again: moved at {index}"
    );

    // One span per provider, in order, the second from the index on at which it moved.
    let message = &told.finished["message"];
    let spans = message["spans"].as_array().unwrap();
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert_eq!(
        (spans[0]["fromIndex"].as_u64(), spans[0]["peer"].as_str()),
        (Some(0), from.as_deref())
    );
    assert_eq!(
        (spans[1]["fromIndex"].as_u64(), spans[1]["peer"].as_str()),
        (Some(u64::from(index)), to.as_deref())
    );
    assert!(
        spans[1]["receipt"].is_string(),
        "the second provider's receipt is missing"
    );
    // What was shown is what is stored: nothing doubled, nothing missing.
    assert_eq!(
        message["content"].as_str().unwrap().trim(),
        told.text.trim()
    );
    assert_eq!(message["outputTokens"].as_u64(), Some(told.tokens));

    compare(&starter, &providers[1 - lost], &told, index);
}

/// Asks the second provider, token by token, for what it gives for the prompt and the tokens before the cut.
fn compare(starter: &std::path::Path, second: &Serving, told: &Told, index: u32) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let text = Text::new(starter);
        let network = wire::dialler().await;
        let peer = network.connect(&second.address).await.unwrap();
        let model = text.reference().await.digest;
        let prompt = text.prompt(SYSTEM, LONG_QUESTION).await;

        let undisturbed = wire::ask(&network, peer, model, &prompt, &[], WHOLE).await;
        let before = &undisturbed[..index as usize];
        let shown = text.say(before).await;
        assert!(
            told.text.starts_with(shown.trim_end_matches('\u{fffd}')),
            "the tokens before the cut changed:\n{}\n{shown}",
            told.text
        );

        let rest = wire::ask(&network, peer, model, &prompt, before, WHOLE - index).await;
        let both: Vec<u32> = before.iter().chain(&rest).copied().collect();
        assert_eq!(
            both.len() as u64,
            told.tokens,
            "a token is doubled or missing"
        );
        assert_eq!(
            text.say(&both).await.trim(),
            told.text.trim(),
            "the rest is not what the second provider gives"
        );
        println!(
            "moved at {index}; equal to the undisturbed answer: {}",
            if both == undisturbed {
                "yes"
            } else {
                "no (another engine state rounds otherwise)"
            }
        );
        network.shutdown().await;
        text.end().await;
    });
}

/// What the events said so far.
#[derive(Debug, Default)]
struct Told {
    text: String,
    tokens: u64,
    provider: Option<String>,
    placed: Option<Option<String>>,
    moved: Option<(Option<String>, Option<String>, u32)>,
    finished: Value,
}

impl Told {
    fn hear(&mut self, line: &str) {
        let event: Value = serde_json::from_str(line).unwrap();
        let string = |name: &str| event[name].as_str().map(str::to_owned);
        match event["kind"].as_str().unwrap() {
            "phase" => self.provider = string("peer").or(self.provider.take()),
            "text" => {
                self.text.push_str(event["append"].as_str().unwrap());
                let tokens = event["tokens"].as_u64().unwrap();
                assert!(
                    tokens >= self.tokens,
                    "the count of tokens went back from {} to {tokens}",
                    self.tokens
                );
                self.tokens = tokens;
            }
            "placed" => {
                let peer = string("peer");
                let Some(before) = self.placed.replace(peer.clone()) else {
                    return;
                };
                assert!(self.moved.is_none(), "moved twice: {line}");
                let index = u32::try_from(event["index"].as_u64().unwrap()).unwrap();
                assert_eq!(
                    u64::from(index),
                    self.tokens,
                    "the answer goes on at another token than the next one"
                );
                self.moved = Some((before, peer, index));
            }
            "finished" => self.finished = event,
            _ => {}
        }
    }
}
