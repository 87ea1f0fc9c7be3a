//! An honest job beside peers that attack: its pace, the attacked program's memory, and whether it lives.
//!
//! The attackers hang on the switch at addresses of their own, as strangers would; each attack comes from a new identity, so that a ban
//! for one spares nobody the next. They run at the lowest priority: it is what they make the attacked program do that may slow it, and
//! not that they share its processor.

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use decentralgpt_tests::{
    SYSTEM,
    attacks::ATTACKS,
    wire::{self, Text},
};
use protocol::ModelDigest;

use crate::{
    error::LabError,
    figures::{Figures, Row, quantile},
    matrix::serve,
    process,
    ready::Ready,
    reference::QUESTIONS,
    remote::{Place, ask},
    switch::{Switch, link::Line},
};

const PROVIDER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const HONEST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// Addresses that attack at once, each in its own /24.
const ATTACKERS: u8 = 4;
/// Streams that a flooding peer opens at once: several times what one peer may have.
const FLOOD: usize = 200;
/// How long it holds those that it was given.
const HELD: Duration = Duration::from_secs(5);
/// Answers of the honest asker before the attack: their median is what the others are compared with.
const ALONE: usize = 7;
/// How often the memory is read.
const LOOK: Duration = Duration::from_millis(500);
/// The lowest priority.
const NICE: libc::c_int = 19;
const MIB: f64 = 1024.0 * 1024.0;

/// Attacks for this long.
///
/// # Errors
/// [`LabError`] when a program does not start, or the honest asker gets no answer before the attack.
pub fn run(starter: &Path, time: Duration) -> Result<Figures, LabError> {
    let mut figures = Figures::default();
    let mut switch = Switch::new().map_err(LabError::system("no thread for the switch"))?;
    let (_, home) = match switch.attach(PROVIDER, Line::CLEAR, None) {
        Ok(attached) => attached,
        Err(error) => {
            figures.skip(format!(
                "the attack (no network namespace can be made here: {error})"
            ));
            return Ok(figures);
        }
    };
    let system = || LabError::system("no network namespace can be made here");
    let (_, other) = switch.attach(HONEST, Line::CLEAR, None).map_err(system())?;
    let ready = Ready::of(starter)?;
    let provider = serve(&home, PROVIDER, starter, &ready)?;
    let honest = serve(&other, HONEST, starter, &ready)?;
    let (model, prompt) = job(starter)?;
    let question = |number: usize| QUESTIONS[number % QUESTIONS.len()];
    let place = Place::At(&provider.address);
    let mut alone = Vec::new();
    ask(honest.folder(), place, question(0))?;
    for number in 0..ALONE {
        let message = ask(honest.folder(), place, question(number))?;
        alone.extend(message["tokensPerSecond"].as_f64());
    }
    let id = provider.program.id();
    let rss_before = process::rss_bytes(id).unwrap_or(f64::NAN);

    let over = Arc::new(AtomicBool::new(false));
    let counts = Arc::new(Counts::default());
    let mut attackers = Vec::new();
    for number in 0..ATTACKERS {
        let address = Ipv4Addr::new(198, 18, 100 + number, 1);
        let (_, namespace) = switch
            .attach(address, Line::CLEAR, None)
            .map_err(system())?;
        let target = Target {
            address: provider.address.clone(),
            model,
            prompt: prompt.clone(),
        };
        let (over, counts) = (Arc::clone(&over), Arc::clone(&counts));
        let thread = namespace
            .run(move || {
                std::thread::spawn(move || attack(usize::from(number), &target, &over, &counts))
            })
            .map_err(system())?;
        attackers.push((thread, namespace));
    }
    let highest = watch(id, Arc::clone(&over));

    let begun = Instant::now();
    let (mut beside, mut unanswered) = (Vec::new(), 0_usize);
    while begun.elapsed() < time {
        match ask(honest.folder(), place, question(beside.len())) {
            Ok(message) => beside.extend(message["tokensPerSecond"].as_f64()),
            Err(error) => {
                eprintln!("{error}");
                unanswered += 1;
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    let attackers_lost = attackers
        .into_iter()
        .filter_map(|(thread, _namespace)| thread.join().err())
        .count();
    let rss_highest = highest.join().unwrap_or(f64::NAN);
    provider.program.signal(libc::SIGINT);
    let said = provider.program.wait();
    let panics = said.err.matches("panicked").count();

    let count = |work: &str, number: f64| Row::new(work, "count", number);
    figures.push(count("panics", panics as f64).goal("<= 0"));
    figures.push(count("ended_by_itself", f64::from(said.code() != Some(0))).goal("<= 0"));
    let growth = (rss_highest - rss_before) / MIB;
    figures.push(Row::new("memory_growth", "MiB", growth).goal("<= 64"));
    let median = |values: &[f64]| quantile(values, 0.5).unwrap_or(f64::NAN);
    figures.push(
        Row::new("honest_tokens_per_second", "tok/s", median(&beside))
            .against("alone", median(&alone))
            .goal(">= 0.9"),
    );
    figures.push(count("honest_answers", beside.len() as f64));
    figures.push(count("honest_unanswered", unanswered as f64).goal("<= 0"));
    figures.push(count(
        "attacks",
        counts.attacks.load(Ordering::Relaxed) as f64,
    ));
    figures.push(count(
        "attackers_refused",
        counts.refused.load(Ordering::Relaxed) as f64,
    ));
    figures.push(count(
        "streams_opened",
        counts.held.load(Ordering::Relaxed) as f64,
    ));
    figures.push(Row::new("time", "s", begun.elapsed().as_secs_f64()));
    if attackers_lost > 0 {
        return Err(LabError::Wrong(format!(
            "{attackers_lost} attackers ended early"
        )));
    }
    Ok(figures)
}

#[derive(Debug, Default)]
struct Counts {
    attacks: AtomicU64,
    refused: AtomicU64,
    held: AtomicU64,
}

#[derive(Debug)]
struct Target {
    address: String,
    model: ModelDigest,
    prompt: Vec<u32>,
}

/// What the attackers ask for: a model that is there, and a prompt that is in order.
fn job(starter: &Path) -> Result<(ModelDigest, Vec<u32>), LabError> {
    let file = starter
        .canonicalize()
        .map_err(LabError::system("the starter cannot be found"))?;
    Ok(wire::block_on(async {
        let text = Text::new(&file);
        let prompt = text.prompt(SYSTEM, QUESTIONS[0]).await;
        let model = text.reference().await.digest;
        text.end().await;
        (model, prompt)
    }))
}

/// One attacker, until it is over. It begins with its own attack and goes round; the last of each round is a flood.
fn attack(number: usize, target: &Target, over: &AtomicBool, counts: &Counts) {
    lowest_priority();
    wire::block_on(async {
        for turn in number.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let network = wire::dialler().await;
            match network.connect(&target.address).await {
                Ok(peer) => {
                    counts.attacks.fetch_add(1, Ordering::Relaxed);
                    match ATTACKS.get(turn % (ATTACKS.len() + 1)) {
                        Some(attack) => {
                            attack(&network, peer, target.model, &target.prompt).await;
                        }
                        None => {
                            let held = flood(&network, &peer).await;
                            counts.held.fetch_add(held, Ordering::Relaxed);
                        }
                    }
                }
                Err(_) => {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(LOOK).await;
                }
            }
            network.shutdown().await;
        }
    });
}

async fn flood(network: &network::Network, peer: &protocol::PeerId) -> u64 {
    let mut held = Vec::new();
    for _ in 0..FLOOD {
        match network.open_job(peer).await {
            Ok(stream) => held.push(stream),
            Err(_) => break,
        }
    }
    tokio::time::sleep(HELD).await;
    held.len() as u64
}

/// Of the calling thread, and of those that it starts.
fn lowest_priority() {
    // SAFETY: changes a number of the calling thread; 0 names it.
    #[allow(unsafe_code)]
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if done != 0 {
        eprintln!("an attacker keeps its priority");
    }
}

/// The most memory that a program holds until it is over, in bytes.
fn watch(id: u32, over: Arc<AtomicBool>) -> std::thread::JoinHandle<f64> {
    std::thread::spawn(move || {
        // The larger of a number and of none is the number.
        let mut highest = f64::NAN;
        while !over.load(Ordering::Relaxed) {
            highest = process::rss_bytes(id).map_or(highest, |bytes| highest.max(bytes));
            std::thread::sleep(LOOK);
        }
        highest
    })
}
