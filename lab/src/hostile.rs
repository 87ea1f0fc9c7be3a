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
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use decentralgpt_tests::{
    SYSTEM,
    attacks::{ATTACKS, Attacker},
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
/// Answers of the honest asker each time the attackers rest: their median is what the others are compared with. They are spread over the
/// whole run, since whatever else this machine does changes with time.
const ALONE: usize = 3;
/// So long the attackers attack before each rest.
const ROUND: Duration = Duration::from_secs(45);
/// A rest begins when no attack is under way; the longest ends by the attacked program's own deadlines.
const DRAIN: Duration = Duration::from_secs(90);
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
    // The first one makes the connection.
    ask(honest.folder(), place, question(0))?;
    let id = provider.program.id();
    let rss_before = process::rss_bytes(id).unwrap_or(f64::NAN);

    let ring = Arc::new(Ring::default());
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
        let ring = Arc::clone(&ring);
        let thread = namespace
            .run(move || std::thread::spawn(move || attack(usize::from(number), &target, &ring)))
            .map_err(system())?;
        attackers.push((thread, namespace));
    }
    let highest = watch(id, Arc::clone(&ring));

    let mut attacked = Duration::ZERO;
    let (mut alone, mut beside, mut unanswered) = (Vec::new(), Vec::new(), 0_usize);
    while attacked < time {
        ring.rest()?;
        for number in 0..ALONE {
            let message = ask(honest.folder(), place, question(number))?;
            alone.extend(message["tokensPerSecond"].as_f64());
        }
        ring.open.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        while begun.elapsed() < ROUND && attacked + begun.elapsed() < time {
            match ask(honest.folder(), place, question(beside.len())) {
                Ok(message) => beside.extend(message["tokensPerSecond"].as_f64()),
                Err(error) => {
                    eprintln!("{error}");
                    unanswered += 1;
                }
            }
        }
        attacked += begun.elapsed();
    }
    ring.over.store(true, Ordering::SeqCst);
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
    figures.push(count("answers_alone", alone.len() as f64));
    for (work, number) in [
        ("attacks", &ring.attacks),
        ("attackers_refused", &ring.refused),
    ] {
        figures.push(count(work, number.load(Ordering::Relaxed) as f64));
    }
    figures.push(Row::new("time", "s", attacked.as_secs_f64()));
    if attackers_lost > 0 {
        return Err(LabError::Wrong(format!(
            "{attackers_lost} attackers ended early"
        )));
    }
    Ok(figures)
}

/// What the attackers share.
#[derive(Debug, Default)]
struct Ring {
    over: AtomicBool,
    /// Whether an attack may begin.
    open: AtomicBool,
    /// Attackers in the middle of an attack.
    busy: AtomicUsize,
    attacks: AtomicU64,
    refused: AtomicU64,
}

impl Ring {
    /// No attack begins from now on; returns when none is under way.
    fn rest(&self) -> Result<(), LabError> {
        self.open.store(false, Ordering::SeqCst);
        let begun = Instant::now();
        while self.busy.load(Ordering::SeqCst) > 0 {
            if begun.elapsed() > DRAIN {
                return Err(LabError::Wrong("an attack does not end".to_owned()));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
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

/// One attacker, until it is over. They begin far apart and go round, so that every attack is made in a short run too.
fn attack(number: usize, target: &Target, ring: &Ring) {
    lowest_priority();
    wire::block_on(async {
        let mut turn = number * ATTACKS.len() / usize::from(ATTACKERS);
        while !ring.over.load(Ordering::SeqCst) {
            // Busy before it looks whether it may: who waits for a rest misses nobody.
            ring.busy.fetch_add(1, Ordering::SeqCst);
            if ring.open.load(Ordering::SeqCst) {
                once(turn, target, ring).await;
                turn += 1;
            }
            ring.busy.fetch_sub(1, Ordering::SeqCst);
            if !ring.open.load(Ordering::SeqCst) {
                tokio::time::sleep(LOOK).await;
            }
        }
    });
}

/// One attack, from an identity of its own.
async fn once(turn: usize, target: &Target, ring: &Ring) {
    let (_, attack) = ATTACKS[turn % ATTACKS.len()];
    match Attacker::connect(&target.address, target.model, &target.prompt).await {
        Some(attacker) => {
            ring.attacks.fetch_add(1, Ordering::Relaxed);
            attack(&attacker).await;
            attacker.end().await;
        }
        None => {
            ring.refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(LOOK).await;
        }
    }
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
fn watch(id: u32, ring: Arc<Ring>) -> std::thread::JoinHandle<f64> {
    std::thread::spawn(move || {
        // The larger of a number and of none is the number.
        let mut highest = f64::NAN;
        while !ring.over.load(Ordering::SeqCst) {
            highest = process::rss_bytes(id).map_or(highest, |bytes| highest.max(bytes));
            std::thread::sleep(LOOK);
        }
        highest
    })
}
