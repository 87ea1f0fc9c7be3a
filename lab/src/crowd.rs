//! Thirty real programs on loopback: most of them serve, the others ask, and some of those that serve are broken in the middle of
//! an answer.

mod pick;

use std::{
    collections::BTreeMap,
    path::Path,
    thread::ScopedJoinHandle,
    time::{Duration, Instant},
};

use decentralgpt_tests::{Folder, Serving, disk};
use protocol::job::HEARTBEAT_DECODE_MS;

use crate::{
    answer::{Answer, Asker, Faults, Move, Progress, Question},
    error::LabError,
    figures::{Figures, Row, quantile},
    process::signal,
    ready::Ready,
    reference::{self, Reference},
    relayed,
};

use self::pick::{Asking, Provider, reader, victim};

/// Programs that serve. Each has two places for strangers: with those that are broken gone, there are still more places than
/// questions, so that a rescue waits for nobody's answer.
const SERVING: usize = 14;
/// Programs that ask.
const ASKING: usize = 16;
/// Providers that each asking program knows. A provider lets eight connections in from one address, and here all come from one:
/// this makes six to each.
const KNOWN: usize = 5;
/// Tokens of an answer: enough that the last of the plan finds it in its middle.
const TOKENS: u32 = 192;
/// Programs that start to serve at once.
const STARTING: usize = 2;
/// A provider that writes says something so often, a token or that it lives.
const BEAT: Duration = Duration::from_millis(HEARTBEAT_DECODE_MS);
/// How often the answers are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a slow reader does not read: longer than a provider's patience with silence, shorter than with a blocked writer.
const NOT_READING: Duration = Duration::from_secs(5);
/// Providers that are broken and whose answers have not moved yet, at a time: with more, what is measured is a network that falls.
const AT_ONCE: usize = 2;
/// An answer that has not moved by then is not waited for before the next one is disturbed.
const MOVED: Duration = Duration::from_secs(10);
/// A rescue that takes longer is told of, with what its program said meanwhile.
const GOAL: Duration = Duration::from_secs(3);
/// What a rescue is counted under that met a second broken provider: whoever was to go on was broken when it had been asked already.
const WITH_ITS_SPARE: &str = "with_its_spare";
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
const PLAN: [Kind; 12] = [
    Kind::Kill,
    Kind::Stop,
    Kind::SlowReader,
    Kind::FullDisk,
    Kind::Kill,
    Kind::Stop,
    Kind::Kill,
    Kind::Stop,
    Kind::Kill,
    Kind::Stop,
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
    let mut rescues: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
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
        for (name, seconds) in waits(&answer, &done.broken) {
            rescues.entry(name).or_default().push(seconds);
        }
        if let Some(gap) = slow {
            let slow_readers = rescues.entry(Kind::SlowReader.name()).or_default();
            slow_readers.push(gap.as_secs_f64());
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
    for (name, seconds) in &rescues {
        figures.push(count(&format!("rescues.{name}"), seconds.len()));
        // Two that fail one after the other have as long each.
        let goal = match *name {
            WITH_ITS_SPARE => "<= 6",
            _ => "<= 3",
        };
        if let Some(p95) = quantile(seconds, 0.95) {
            figures.push(Row::new(format!("rescue_p95.{name}"), "s", p95).goal(goal));
        }
    }
    if done
        .broken
        .iter()
        .any(|broken| broken.kind == Kind::FullDisk)
        && !rescues.contains_key(Kind::FullDisk.name())
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
    /// In the order in which it was done.
    broken: Vec<Broken>,
    /// Readers by their number, with how long after they read again the next text came.
    readers: BTreeMap<usize, Duration>,
    /// What found no answer to disturb.
    never: Vec<Kind>,
}

/// What happened to a provider, and when.
#[derive(Debug)]
struct Broken {
    /// Its id.
    peer: String,
    kind: Kind,
    at: Instant,
    /// When it went on, if it was stopped.
    until: Option<Instant>,
    /// The asking programs that it was answering, until they have moved.
    answering: Vec<usize>,
}

impl Done {
    fn is_broken(&self, peer: &str) -> bool {
        let still = |broken: &Broken| broken.peer == peer && broken.until.is_none();
        self.broken.iter().any(still)
    }

    /// Broken providers whose answers have not moved yet.
    fn pending(&self) -> usize {
        let pending =
            |broken: &&Broken| !broken.answering.is_empty() && broken.at.elapsed() < MOVED;
        self.broken.iter().filter(pending).count()
    }

    /// Notes which answers have moved, and lets those providers go on that were stopped and have none left.
    fn look(
        &mut self,
        providers: &[(Serving, bool)],
        askers: &[(Asker, Vec<String>, &Reference)],
        progress: &[Progress],
    ) {
        for broken in &mut self.broken {
            broken.answering.retain(|number| {
                let stays = progress[*number].provider.as_deref() == Some(broken.peer.as_str());
                stays && !askers[*number].0.ended()
            });
            let stopped = broken.kind == Kind::Stop && broken.until.is_none();
            let provider = providers
                .iter()
                .find(|(serving, _)| serving.peer == broken.peer);
            if let (true, true, Some((serving, _))) =
                (stopped, broken.answering.is_empty(), provider)
            {
                serving.program.signal(libc::SIGCONT);
                broken.until = Some(Instant::now());
            }
        }
    }
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
        done.look(providers, askers, &progress);
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
        if kind != Kind::SlowReader && done.pending() >= AT_ONCE {
            continue;
        }
        let serve: Vec<Provider<'_>> = providers
            .iter()
            .map(|(serving, small)| Provider {
                peer: &serving.peer,
                address: &serving.address,
                small: *small,
                broken: done.is_broken(&serving.peer),
            })
            .collect();
        let ask: Vec<Asking<'_>> = askers
            .iter()
            .zip(&progress)
            .enumerate()
            .map(|(number, ((asker, known, _), progress))| Asking {
                progress,
                known,
                ended: asker.ended(),
                stands: paused.is_some_and(|(paused, _)| paused == number)
                    || reading.contains_key(&number),
            })
            .collect();
        if kind == Kind::SlowReader {
            if let Some(number) = reader(&serve, &ask) {
                eprintln!("{}: asking program {number}", kind.name());
                signal(askers[number].0.id, libc::SIGSTOP)?;
                paused = Some((number, Instant::now()));
                plan.next();
            }
            continue;
        }
        let Some(victim) = victim(&serve, &ask, kind) else {
            continue;
        };
        let (serving, _) = &mut providers[victim];
        let answering = (0..askers.len()).filter(|number| {
            progress[*number].provider.as_deref() == Some(serving.peer.as_str())
                && !askers[*number].0.ended()
        });
        // On a full disk they go on.
        let answering: Vec<usize> = match kind {
            Kind::Kill | Kind::Stop => answering.collect(),
            Kind::FullDisk | Kind::SlowReader => Vec::new(),
        };
        eprintln!(
            "{}: provider {victim}, answering {answering:?}",
            kind.name()
        );
        match kind {
            Kind::Kill => serving.program.kill(),
            Kind::Stop => serving.program.signal(libc::SIGSTOP),
            Kind::FullDisk => disk::fill(serving.folder().path())
                .map_err(LabError::system("a disk cannot be filled"))?,
            Kind::SlowReader => {}
        }
        done.broken.push(Broken {
            peer: serving.peer.clone(),
            kind,
            at: Instant::now(),
            until: None,
            answering,
        });
        plan.next();
    }
    done.never.extend(plan);
    Ok(done)
}

/// How long each move away from a broken provider took, by what had happened to it.
fn waits(answer: &Answer, broken: &[Broken]) -> Vec<(&'static str, f64)> {
    answer
        .rescues()
        .into_iter()
        .filter_map(|(moved, took)| {
            // One that had left before it was broken left for another reason, and so did one that left behind.
            let during = |broken: &&Broken| {
                broken.peer == moved.from
                    && broken.at < moved.lost + moved.gap
                    && broken.until.is_none_or(|until| moved.lost < until)
            };
            let Broken { kind, at, .. } = broken.iter().find(during)?;
            let name = match broken.iter().any(|broken| was_to_go_on(&moved, broken)) {
                true => WITH_ITS_SPARE,
                false => kind.name(),
            };
            // One that had shown no text for a while lived until it was broken, and said so: its last byte came then.
            let lived = at.saturating_duration_since(moved.lost).saturating_sub(BEAT);
            let took = took.saturating_sub(lived);
            eprintln!(
                "{name}: moved at token {}, {:.1} s from text to text, {:.1} s of them before it was broken, {:.1} s ours",
                moved.index,
                moved.gap.as_secs_f64(),
                lived.as_secs_f64(),
                took.as_secs_f64()
            );
            if took > GOAL {
                eprintln!("{}", answer.log.trim());
            }
            Some((name, took.as_secs_f64()))
        })
        .collect()
}

/// Whether this provider had been asked to go on with an answer when it was broken as well.
fn was_to_go_on(moved: &Move, broken: &Broken) -> bool {
    let asked = |(peer, asked): &(String, Instant)| *peer == broken.peer && *asked < broken.at;
    let fell_silent = matches!(broken.kind, Kind::Kill | Kind::Stop) && broken.peer != moved.from;
    fell_silent && broken.at < moved.lost + moved.gap && moved.asked.iter().any(asked)
}
