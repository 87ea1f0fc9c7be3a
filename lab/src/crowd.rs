//! Thirty real programs on loopback: most of them serve, the others ask, and some of those that serve are broken in the middle of
//! an answer.

use std::{
    collections::BTreeMap,
    path::Path,
    thread::ScopedJoinHandle,
    time::{Duration, Instant},
};

use decentralgpt_tests::{Folder, Serving, disk};

use crate::{
    answer::{Answer, Asker, Faults, Progress, Question},
    error::LabError,
    figures::{Figures, Row, quantile},
    process::signal,
    ready::Ready,
    reference::{self, Reference},
    relayed,
};

/// Programs that serve. Each has two places for strangers: with those that are broken gone, there are still more places than
/// questions, so that a rescue waits for nobody's answer.
const SERVING: usize = 14;
/// Programs that ask.
const ASKING: usize = 16;
/// Providers that each asking program knows. A provider lets eight connections in from one address, and here all come from one:
/// this makes five to each.
const KNOWN: usize = 4;
/// Tokens of an answer.
const TOKENS: u32 = 128;
/// An answer is disturbed once this many of its tokens have come: past the first frames, well before the end.
const DISTURB_AFTER: u64 = 16;
/// And no later than this, so that there is something left to rescue.
const DISTURB_BEFORE: u64 = 96;
/// Programs that start to serve at once.
const STARTING: usize = 2;
/// How often the answers are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a slow reader does not read: longer than a provider's patience with silence, shorter than with a blocked writer.
const NOT_READING: Duration = Duration::from_secs(5);
/// A run that takes longer hangs.
const WHOLE: Duration = Duration::from_secs(420);

/// What happens to a provider, or to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Kill,
    Stop,
    FullDisk,
    SlowReader,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::FullDisk => "full_disk",
            Self::SlowReader => "slow_reader",
        }
    }
}

/// In this order: each takes a provider whose answers are in the middle.
const PLAN: [Kind; 6] = [
    Kind::Kill,
    Kind::Stop,
    Kind::SlowReader,
    Kind::FullDisk,
    Kind::Kill,
    Kind::Stop,
];

/// Runs it once. `small_disks` says whether a disk can be made full here.
///
/// # Errors
/// [`LabError`]: the run could not be made, or an answer was lost. Tokens that are not as they should be are figures.
pub fn run(starter: &Path, small_disks: bool) -> Result<Figures, LabError> {
    let ready = Ready::of(starter)?;
    std::thread::scope(|scope| {
        // Until a machine behind a router is reached, half a minute passes in which nothing is computed.
        let hidden = scope.spawn(|| relayed::hidden(starter, &ready));
        crowd(starter, small_disks, &ready, hidden)
    })
}

/// What becomes ready beside the others.
type Hidden<'a> = ScopedJoinHandle<'a, Result<Result<relayed::World, relayed::NotHere>, LabError>>;

fn crowd(
    starter: &Path,
    small_disks: bool,
    ready: &Ready,
    hidden: Hidden<'_>,
) -> Result<Figures, LabError> {
    let mut figures = Figures::default();
    let mut providers = providers(starter, ready, small_disks)?;
    eprintln!("{SERVING} programs serve");
    let last = providers.len() - 1;
    let references = reference::references(starter, &providers[last].0, TOKENS)?;
    let mut plan: Vec<Kind> = PLAN.to_vec();
    if !small_disks {
        plan.retain(|kind| *kind != Kind::FullDisk);
        figures.skip("full disk (no file system can be mounted here)");
    }

    let addresses: Vec<String> = providers
        .iter()
        .map(|(serving, _)| serving.address.clone())
        .collect();
    let askers: Vec<(Asker, Vec<String>, &Reference)> = (0..ASKING)
        .map(|number| {
            let known: Vec<String> = (0..KNOWN)
                .map(|spare| addresses[(number + spare * 3) % addresses.len()].clone())
                .collect();
            let reference = &references[number % references.len()];
            let question = Question {
                peers: &known,
                prompt: reference.question,
                tokens: TOKENS,
            };
            (Asker::start(&question), known, reference)
        })
        .collect();
    eprintln!("{ASKING} programs ask");

    let begun = Instant::now();
    let done = disturb(&mut providers, &askers, plan, begun)?;
    for kind in &done.never {
        figures.skip(format!(
            "{} (no answer was in its middle any more)",
            kind.name()
        ));
    }

    let mut faults = Faults::default();
    let mut tokens = 0;
    let mut lost = Vec::new();
    let mut rescues: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
    for (number, (asker, _, reference)) in askers.into_iter().enumerate() {
        let slow = done.readers.get(&number);
        let answer = match asker.answer() {
            Ok(answer) => answer,
            Err(error) => {
                lost.push(format!("asking program {number}: {error}"));
                continue;
            }
        };
        let found = answer.check(reference)?;
        if !found.none() {
            eprintln!(
                "asking program {number}: {found:?}, {} moves",
                answer.progress.moves.len()
            );
        }
        faults.add(found);
        tokens += answer.ids.len();
        for (kind, seconds) in waits(&answer, &done.broken) {
            rescues.entry(kind).or_default().push(seconds);
        }
        if let Some(gap) = slow {
            rescues
                .entry(Kind::SlowReader)
                .or_default()
                .push(gap.as_secs_f64());
        }
    }
    for why in &lost {
        eprintln!("{why}");
    }
    drop(providers);
    let hidden = hidden
        .join()
        .map_err(|_| LabError::Wrong("a provider behind a router does not start".to_owned()))??;
    faults.add(relayed::short(hidden, &references, &mut figures)?);
    let count = |work: &str, number: usize| Row::new(work, "count", number as f64);
    figures.push(count("processes", SERVING + ASKING));
    figures.push(count("answers", ASKING - lost.len()));
    figures.push(count("answers_lost", lost.len()).goal("<= 0"));
    figures.push(count("tokens", tokens));
    figures.push(count("tokens_wrong", faults.wrong).goal("<= 0"));
    figures.push(count("tokens_missing", faults.missing).goal("<= 0"));
    figures.push(count("tokens_doubled", faults.doubled).goal("<= 0"));
    for (kind, seconds) in &rescues {
        let name = kind.name();
        figures.push(count(&format!("rescues.{name}"), seconds.len()));
        if let Some(p95) = quantile(seconds, 0.95) {
            figures.push(Row::new(format!("rescue_p95.{name}"), "s", p95).goal("<= 3"));
        }
    }
    if done
        .broken
        .values()
        .any(|(kind, _)| *kind == Kind::FullDisk)
        && !rescues.contains_key(&Kind::FullDisk)
    {
        figures
            .skip("rescue_p95.full_disk (the answers on the full disk went on to their end there)");
    }
    figures.push(Row::new("run", "s", begun.elapsed().as_secs_f64()));
    Ok(figures)
}

/// What was done to whom.
#[derive(Debug, Default)]
struct Done {
    /// Providers by their id: what happened, and when.
    broken: BTreeMap<String, (Kind, Instant)>,
    /// Readers by their number, with how long after they read again the next text came.
    readers: BTreeMap<usize, Duration>,
    /// What found no answer to disturb.
    never: Vec<Kind>,
}

fn providers(
    starter: &Path,
    ready: &Ready,
    small_disks: bool,
) -> Result<Vec<(Serving, bool)>, LabError> {
    let mut folders = Vec::new();
    for number in 0..SERVING {
        let folder = Folder::new();
        // Every other one, so that one of them is answering when its turn comes.
        let small = small_disks && number % 2 == 0 && number + 1 < SERVING;
        if small {
            disk::mount_small(folder.path())
                .map_err(LabError::system("a small disk cannot be mounted"))?;
        }
        // A thread each: they share the machine's cores anyway.
        folder.set(
            &[&format!("/ip4/127.1.{}.1/udp/0/quic-v1", number + 1)],
            "threads = 1\n",
        );
        ready.put_into(&folder)?;
        folders.push((folder, small));
    }
    // A few at a time: each starts a worker and has it look at the model.
    let mut providers = Vec::new();
    while !folders.is_empty() {
        let some: Vec<_> = folders.drain(..STARTING.min(folders.len())).collect();
        let started: Result<Vec<_>, LabError> = std::thread::scope(|scope| {
            let starting: Vec<_> = some
                .into_iter()
                .map(|(folder, small)| {
                    scope.spawn(move || (Serving::start_offering(folder, starter), small))
                })
                .collect();
            let serves = |thread: ScopedJoinHandle<'_, _>| {
                thread
                    .join()
                    .map_err(|_| LabError::Wrong("a program does not serve".to_owned()))
            };
            starting.into_iter().map(serves).collect()
        });
        providers.extend(started?);
    }
    Ok(providers)
}

fn disturb(
    providers: &mut [(Serving, bool)],
    askers: &[(Asker, Vec<String>, &Reference)],
    plan: Vec<Kind>,
    begun: Instant,
) -> Result<Done, LabError> {
    let mut done = Done::default();
    let mut plan = plan.into_iter().peekable();
    let mut paused: Option<(usize, Instant)> = None;
    let mut reading: BTreeMap<usize, Instant> = BTreeMap::new();
    while askers.iter().any(|(asker, ..)| !asker.ended()) {
        if begun.elapsed() > WHOLE {
            return Err(LabError::Wrong("the run does not end".to_owned()));
        }
        std::thread::sleep(LOOK);
        let progress: Vec<Progress> = askers.iter().map(|(asker, ..)| asker.progress()).collect();
        if let Some((number, since)) = paused
            && since.elapsed() >= NOT_READING
        {
            signal(askers[number].0.id, libc::SIGCONT)?;
            reading.insert(number, Instant::now());
            paused = None;
        }
        reading.retain(|number, since| match progress[*number].last_text {
            Some(text) if text > *since => {
                done.readers.insert(*number, text - *since);
                false
            }
            Some(_) | None => !askers[*number].0.ended(),
        });
        let Some(kind) = plan.peek().copied() else {
            continue;
        };
        if kind == Kind::SlowReader {
            let number = (0..askers.len()).find(|number| in_the_middle(&progress[*number]));
            if let Some(number) = number {
                signal(askers[number].0.id, libc::SIGSTOP)?;
                paused = Some((number, Instant::now()));
                plan.next();
            }
            continue;
        }
        let Some(victim) = victim(providers, askers, &progress, &done, kind) else {
            continue;
        };
        let (serving, _) = &mut providers[victim];
        eprintln!("{}: provider {victim}", kind.name());
        match kind {
            Kind::Kill => serving.program.kill(),
            Kind::Stop => serving.program.signal(libc::SIGSTOP),
            Kind::FullDisk => disk::fill(serving.folder().path())
                .map_err(LabError::system("a disk cannot be filled"))?,
            Kind::SlowReader => {}
        }
        done.broken
            .insert(serving.peer.clone(), (kind, Instant::now()));
        plan.next();
    }
    done.never.extend(plan);
    Ok(done)
}

fn in_the_middle(progress: &Progress) -> bool {
    (DISTURB_AFTER..DISTURB_BEFORE).contains(&progress.tokens) && progress.finished.is_none()
}

/// The provider with most answers in their middle, whose askers all know two others that are whole.
fn victim(
    providers: &[(Serving, bool)],
    askers: &[(Asker, Vec<String>, &Reference)],
    progress: &[Progress],
    done: &Done,
    kind: Kind,
) -> Option<usize> {
    let whole = |address: &String| {
        providers.iter().any(|(serving, _)| {
            serving.address == *address && !done.broken.contains_key(&serving.peer)
        })
    };
    let answers = |serving: &Serving| {
        progress
            .iter()
            .filter(|progress| progress.provider.as_deref() == Some(serving.peer.as_str()))
            .filter(|progress| in_the_middle(progress))
            .count()
    };
    let spared = |serving: &Serving| {
        askers.iter().all(|(asker, known, _)| {
            asker.ended()
                || !known.contains(&serving.address)
                || known.iter().filter(|address| whole(address)).count() > 2
        })
    };
    providers
        .iter()
        .enumerate()
        .filter(|(_, (_, small))| kind != Kind::FullDisk || *small)
        .filter(|(_, (serving, _))| !done.broken.contains_key(&serving.peer))
        .filter(|(_, (serving, _))| answers(serving) > 0 && spared(serving))
        .max_by_key(|(_, (serving, _))| answers(serving))
        .map(|(number, _)| number)
}

/// How long each move away from a broken provider took, by what had happened to it.
fn waits(answer: &Answer, broken: &BTreeMap<String, (Kind, Instant)>) -> Vec<(Kind, f64)> {
    answer
        .rescues()
        .into_iter()
        .filter_map(|(moved, took)| {
            let (kind, at) = broken.get(&moved.from)?;
            eprintln!(
                "{}: moved at token {}, {:.1} s from text to text, {:.1} s of them ours",
                kind.name(),
                moved.index,
                moved.gap.as_secs_f64(),
                took.as_secs_f64()
            );
            // One that had left before it was broken left for another reason.
            (moved.lost + moved.gap > *at).then_some((*kind, took.as_secs_f64()))
        })
        .collect()
}
