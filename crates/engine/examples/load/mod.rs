//! Strangers who ask one thing after another, and the owner who asks beside them: what benches and soaks load a worker with.
#![allow(dead_code)] // each example uses its part

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::{
    Asker, Class, EngineError, EngineHandle, EngineOptions, GenerateEvent, GenerateRequest,
};
use tokio::sync::watch;

/// An engine whose worker lies in `workers`.
pub(crate) fn engine(workers: PathBuf, file: &Path) -> EngineHandle {
    EngineHandle::new(EngineOptions {
        worker_dirs: vec![workers],
        readable: file.parent().map(Path::to_owned).into_iter().collect(),
        ..EngineOptions::default()
    })
}

/// Any ids, which begin differently for every seed: nothing of one prompt is known from another.
pub(crate) fn prompt(seed: u64, length: usize) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        // Above the control tokens, inside the smallest vocabulary in use.
        100 + (state >> 40) as u32 % 20_000
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// An answer of the owner's, of exactly so many tokens.
pub(crate) fn own(file: &Path, seed: u64, length: usize, output: u32) -> GenerateRequest {
    GenerateRequest {
        ignore_eog: true,
        max_out: output,
        ..GenerateRequest::new(file, prompt(seed, length))
    }
}

/// The same for a stranger.
pub(crate) fn strangers(request: GenerateRequest, class: Class, name: u64) -> GenerateRequest {
    GenerateRequest {
        class,
        asker: Asker::Peer(format!("peer {name}")),
        ..request
    }
}

/// How an answer of the owner's came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Came {
    /// From the question to the first token.
    pub(crate) first: Duration,
    /// Tokens per second after it.
    pub(crate) rate: f64,
}

pub(crate) async fn timed(
    engine: &EngineHandle,
    request: GenerateRequest,
) -> Result<Came, EngineError> {
    let asked = Instant::now();
    let mut generation = engine.generate(request).await?;
    let (mut first, mut last, mut tokens) = (None, asked, 0);
    while let Some(event) = generation.next().await {
        if let GenerateEvent::Tokens { ids, .. } = event? {
            if first.is_none() {
                first = Some(Instant::now());
            } else {
                tokens += ids.len();
            }
            last = Instant::now();
        }
    }
    let first = first.ok_or(EngineError::Cancelled)?;
    let rate = tokens as f64 / (last - first).as_secs_f64();
    Ok(Came {
        first: first - asked,
        rate,
    })
}

/// Strangers who never stop asking.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// Whether they run or stand still.
    runs: watch::Sender<bool>,
    tokens: Arc<AtomicU64>,
}

impl Crowd {
    pub(crate) fn gather(engine: &EngineHandle, file: &Path, count: u64, output: u32) -> Self {
        let (runs, look) = watch::channel(true);
        let tokens = Arc::new(AtomicU64::new(0));
        for name in 0..count {
            let (engine, file) = (engine.clone(), file.to_owned());
            let (look, tokens) = (look.clone(), tokens.clone());
            tokio::spawn(async move {
                for round in 0.. {
                    let request = own(&file, 1_000_000 + name * 1000 + round, 8, output);
                    let request = strangers(request, Class::Free, name);
                    if ask(&engine, request, look.clone(), &tokens).await.is_err() {
                        return;
                    }
                }
            });
        }
        Self { runs, tokens }
    }

    pub(crate) fn stand_still(&self) {
        self.runs.send_replace(false);
    }

    pub(crate) fn go_on(&self) {
        self.runs.send_replace(true);
    }

    /// Tokens per second over all of them, for so long from now on.
    pub(crate) async fn rate(&self, time: Duration) -> f64 {
        let (begun, before) = (Instant::now(), self.tokens.load(Ordering::Relaxed));
        tokio::time::sleep(time).await;
        let produced = self.tokens.load(Ordering::Relaxed) - before;
        produced as f64 / begun.elapsed().as_secs_f64()
    }

    /// The same where tokens come in bursts: from the beginning of one to the beginning of another, so that it does not
    /// matter how many bursts the time would cut. `None` where they do not come so.
    pub(crate) async fn rate_of_bursts(&self, time: Duration) -> Option<f64> {
        let (begun, before) = self.next_burst().await?;
        tokio::time::sleep(time).await;
        let (ended, after) = self.next_burst().await?;
        Some((after - before) as f64 / (ended - begun).as_secs_f64())
    }

    /// When the next burst begins, and the tokens before it.
    async fn next_burst(&self) -> Option<(Instant, u64)> {
        let begun = Instant::now();
        let (mut tokens, mut since) = (self.tokens.load(Ordering::Relaxed), begun);
        while begun.elapsed() < NO_BURST {
            tokio::time::sleep(LOOK_FOR_BURST).await;
            let now = self.tokens.load(Ordering::Relaxed);
            if now == tokens {
                continue;
            }
            if since.elapsed() >= PAUSE {
                return Some((Instant::now(), tokens));
            }
            (tokens, since) = (now, Instant::now());
        }
        None
    }
}

/// Silence that is a pause between two bursts, and not the time between two steps.
const PAUSE: Duration = Duration::from_millis(250);

/// How often the count is looked at while a burst is waited for.
const LOOK_FOR_BURST: Duration = Duration::from_millis(2);

/// No burst comes for so long: they stand still, or come without pauses.
const NO_BURST: Duration = Duration::from_secs(10);

async fn ask(
    engine: &EngineHandle,
    request: GenerateRequest,
    mut look: watch::Receiver<bool>,
    tokens: &AtomicU64,
) -> Result<(), EngineError> {
    // Nobody begins while all stand still.
    if look.wait_for(|runs| *runs).await.is_err() {
        return Err(EngineError::ShutDown);
    }
    let mut generation = engine.generate(request).await?;
    loop {
        tokio::select! {
            event = generation.next() => match event {
                Some(Ok(GenerateEvent::Tokens { ids, .. })) => {
                    tokens.fetch_add(ids.len() as u64, Ordering::Relaxed);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            changed = look.changed() => match changed {
                Ok(()) if *look.borrow_and_update() => generation.resume(),
                Ok(()) => generation.pause(),
                Err(_) => return Err(EngineError::ShutDown),
            },
        }
    }
}

/// The value below which that part of the values lies (nearest rank).
pub(crate) fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (part * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}
