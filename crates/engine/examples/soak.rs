//! Loads a real worker with everything at once for some minutes, and checks what must hold after hours: memory flat, no page
//! lost, no worker dead. In dev builds the worker itself checks that nobody is computed before somebody of an earlier class.
//!
//! `soak WORKER MODEL MINUTES`
#![allow(clippy::print_stdout)]

mod load;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::{
    Asker, Class, EmbedRequest, EngineError, EngineHandle, EnginePhase, GenerateEvent,
    GenerateRequest, ScoreRequest,
};
use load::{own, prompt, quantile, strangers};

/// Callers at once.
const CALLERS: u64 = 12;

/// Between two looks at the worker's memory.
const LOOK: Duration = Duration::from_secs(2);

/// How much of the first half's memory the second half may take: known prefixes fill what they may keep in the beginning.
const FLAT: f64 = 1.1;

/// Shorter runs than this many minutes end while that still goes on, and say nothing about flatness.
const SETTLED_MINUTES: f64 = 20.0;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [worker, file, minutes] = arguments.as_slice() else {
        return Err("soak WORKER MODEL MINUTES".into());
    };
    let minutes: f64 = minutes.to_str().unwrap_or_default().parse()?;
    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let workers = worker
        .parent()
        .ok_or("the worker has no folder")?
        .to_owned();
    let engine = load::engine(workers, file);
    engine.load(file, None).await?.finish().await?;
    let mut callers = tokio::task::JoinSet::new();
    for name in 0..CALLERS {
        let (engine, file) = (engine.clone(), file.to_owned());
        callers.spawn(async move {
            let (mut calls, mut refused) = (0u64, 0u64);
            while Instant::now() < until {
                calls += 1;
                match call(&engine, &file, name, name * 100_000 + calls).await {
                    Ok(()) => {}
                    Err(EngineError::NotEnoughMemory { .. } | EngineError::TooManyCalls { .. }) => {
                        refused += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok((calls, refused))
        });
    }
    let mut resident = Vec::new();
    while Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        resident.extend(engine.stats().borrow().rss_bytes.map(|bytes| bytes as f64));
    }
    let (mut calls, mut refused) = (0, 0);
    while let Some(outcome) = callers.join_next().await {
        let (made, turned_away) = outcome??;
        calls += made;
        refused += turned_away;
    }
    let mut stats = engine.stats();
    let rest = stats.wait_for(|stats| {
        stats.phase == EnginePhase::Ready && stats.own_sequences + stats.network_sequences == 0
    });
    let rest = rest.await?.clone();
    let (early, late) = resident.split_at(resident.len() / 2);
    let (early, late) = (quantile(early.to_vec(), 0.5), quantile(late.to_vec(), 0.5));
    println!(
        "{calls} calls, {refused} refused for want of room; resident {:.0} MB, then {:.0} MB; {} pages in use at the end; {} workers died",
        early / 1e6,
        late / 1e6,
        rest.pages_in_use,
        rest.deaths,
    );
    if rest.pages_in_use != 0
        || rest.deaths != 0
        || (minutes >= SETTLED_MINUTES && late > early * FLAT)
    {
        return Err("it does not hold".into());
    }
    Ok(())
}

/// One call of a mixed load: which, follows from its number.
async fn call(
    engine: &EngineHandle,
    file: &Path,
    name: u64,
    number: u64,
) -> Result<(), EngineError> {
    let class = Class::ALL[(number % 7).min(3) as usize];
    let length = 4 + (number * 37 % 300) as usize;
    let request = own(file, number, length, 1 + (number * 13 % 60) as u32);
    let request = match class {
        Class::Own => request,
        Class::Paid | Class::Free | Class::Audit => strangers(request, class, name),
    };
    match number % 11 {
        0 => {
            let request = ScoreRequest {
                class,
                asker: asker(class, name),
                ..ScoreRequest::new(file, request.prompt, prompt(number, 30))
            };
            engine.score(request).await.map(drop)
        }
        1 => {
            let request = EmbedRequest {
                class,
                asker: asker(class, name),
                ..EmbedRequest::new(file, vec!["the sea".into(), "a boat".into()])
            };
            engine.embed(request).await.map(drop)
        }
        _ => answer(engine, request, number).await,
    }
}

fn asker(class: Class, name: u64) -> Asker {
    match class {
        Class::Own => Asker::Owner,
        Class::Paid | Class::Free | Class::Audit => Asker::Peer(format!("peer {name}")),
    }
}

/// An answer that is read to its end, paused for a while, or left in its middle.
async fn answer(
    engine: &EngineHandle,
    request: GenerateRequest,
    number: u64,
) -> Result<(), EngineError> {
    let mut generation = engine.generate(request).await?;
    let mut seen = 0;
    while let Some(event) = generation.next().await {
        if let GenerateEvent::Tokens { .. } = event? {
            seen += 1;
        }
        match (number % 5, seen) {
            (0, 3) => return Ok(()),
            (1, 3) => {
                generation.pause();
                tokio::time::sleep(Duration::from_millis(20)).await;
                generation.resume();
                seen += 1;
            }
            _ => {}
        }
    }
    Ok(())
}
