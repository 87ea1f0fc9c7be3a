//! Measures what drafts of repeated text are worth: the same answers with and without them, by turns; prints one line of
//! JSON. `cargo xtask bench engine` runs it and makes rows of it.
//!
//! `drafts WORKER MODEL ROUNDS`
//!
//! A stranger's answer is drafted for only while the owner wants nothing: one of the owner's that stands still turns drafts
//! off, and computes nothing.
#![allow(clippy::print_stdout)]

mod load;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::{ChatMessage, ChatPrompt, Class, EngineHandle, GenerateRequest, Role};
use load::{own, quantile, strangers, timed};
use serde::Serialize;

/// Tokens of an answer.
const OUTPUT: u32 = 160;

/// Nothing comes for so long of an answer that stands still.
const STANDS: Duration = Duration::from_millis(300);

/// A text that is to be said again.
const TEXT: &str = "The harbour of the small town lies between two hills. Every morning the boats leave before the sun is up, \
    and every evening they come back with fish, with rope, and with stories that nobody believes. On Sundays the boats stay \
    where they are, and the people of the town walk along the wall and look at the water.";

/// What an answer repeats of its prompt is drafted; of a new text little is.
const ASKED: [(&str, bool); 2] = [
    (
        "Repeat this text word by word, and say nothing else:\n\n",
        true,
    ),
    ("Explain how the tides of the sea come about.", false),
];

#[derive(Debug, Serialize)]
struct Figures {
    /// Tokens per second of answers that repeat their prompt.
    repeated: f64,
    repeated_without: f64,
    /// Tokens per second of answers that do not.
    new: f64,
    new_without: f64,
    /// Drafted tokens, and how many of them were the chosen ones.
    verified: u64,
    accepted: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [worker, file, rounds] = arguments.as_slice() else {
        return Err("drafts WORKER MODEL ROUNDS".into());
    };
    let rounds: u64 = rounds.to_str().unwrap_or_default().parse()?;
    let workers = worker.parent().ok_or("the worker has no folder")?;
    let engine = load::engine(workers.to_owned(), file);
    engine.load(file, None).await?.finish().await?;
    let mut medians = Vec::new();
    for (question, repeats) in ASKED {
        let text = if repeats { TEXT } else { "" };
        let (mut with, mut without) = (Vec::new(), Vec::new());
        let request = request(&engine, file, &format!("{question}{text}")).await?;
        // Once unmeasured, so that what steps take is known.
        for round in 0..=rounds {
            let drafted = timed(&engine, request.clone()).await?.rate;
            let mut standing = engine.generate(own(file, round, 8, OUTPUT)).await?;
            standing.pause();
            while tokio::time::timeout(STANDS, standing.next()).await.is_ok() {}
            let plain = timed(&engine, request.clone()).await?.rate;
            drop(standing);
            if round > 0 {
                with.push(drafted);
                without.push(plain);
            }
        }
        medians.extend([quantile(with, 0.5), quantile(without, 0.5)]);
    }
    let [repeated, repeated_without, new, new_without] = medians.as_slice() else {
        return Err("a question was not asked".into());
    };
    let drafts = engine.stats().borrow().drafts;
    let figures = Figures {
        repeated: *repeated,
        repeated_without: *repeated_without,
        new: *new,
        new_without: *new_without,
        verified: drafts.verified,
        accepted: drafts.accepted,
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// A stranger's question, whose answer is as long every time.
async fn request(
    engine: &EngineHandle,
    file: &Path,
    question: &str,
) -> Result<GenerateRequest, Box<dyn Error>> {
    let chat = ChatPrompt {
        messages: vec![
            ChatMessage::new(Role::System, "You are a helpful assistant."),
            ChatMessage::new(Role::User, question),
        ],
        ..ChatPrompt::default()
    };
    let request = GenerateRequest {
        prompt: engine.render(file, &chat).await?,
        ..own(file, 0, 1, OUTPUT)
    };
    Ok(strangers(request, Class::Free, 1))
}
