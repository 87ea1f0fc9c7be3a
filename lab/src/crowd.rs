//! Thirty real programs on loopback: most of them serve, the others ask, and some of those that serve are broken in the middle of
//! an answer.

mod faults;
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
    answer::{Answer, Faults, Move},
    error::LabError,
    figures::{Figures, Row, quantile},
    ready::Ready,
    reference, relayed,
};

use self::faults::{Ask, Broken, Crowd, Done, Kind, PLAN};

/// Programs that serve. Each has two places for strangers: with those that are broken gone, there are still more places than
/// questions, so that a rescue waits for nobody's answer.
const SERVING: usize = 14;
/// Programs that ask at a time.
const ASKING: usize = 16;
/// Tokens of an answer: several seconds at the pace of a shared machine.
const TOKENS: u32 = 192;
/// Programs that start to serve at once.
const STARTING: usize = 2;
/// Relays that die, each with an answer on its way through it.
const RELAY_DEATHS: usize = 2;
/// A provider that writes says something so often, a token or that it lives.
const BEAT: Duration = Duration::from_millis(HEARTBEAT_DECODE_MS);
/// A rescue that takes longer is told of, with what its program said meanwhile.
const GOAL: Duration = Duration::from_secs(3);
/// What a rescue is counted under that met a second broken provider: whoever was to go on was broken when it had been asked already.
const WITH_ITS_SPARE: &str = "with_its_spare";

/// Runs it once. `small_disks` says whether a disk can be made full here.
///
/// # Errors
/// [`LabError`]: the run could not be made, or an answer was lost. Tokens that are not as they should be are figures.
pub fn run(starter: &Path, small_disks: bool) -> Result<Figures, LabError> {
    let ready = Ready::of(starter)?;
    std::thread::scope(|scope| {
        // Until a machine behind a router is reached, half a minute passes in which nothing is computed.
        let hidden = (0..RELAY_DEATHS)
            .map(|_| scope.spawn(|| relayed::hidden(starter, &ready)))
            .collect();
        crowd(starter, small_disks, &ready, hidden)
    })
}

/// What becomes ready beside the others.
type Hidden<'a> = ScopedJoinHandle<'a, Result<Result<relayed::World, relayed::NotHere>, LabError>>;

fn crowd(
    starter: &Path,
    small_disks: bool,
    ready: &Ready,
    hidden: Vec<Hidden<'_>>,
) -> Result<Figures, LabError> {
    let mut figures = Figures::default();
    let providers = providers(starter, ready, small_disks)?;
    eprintln!("{SERVING} programs serve");
    let last = providers.len() - 1;
    let references = reference::references(starter, &providers[last].0, TOKENS)?;
    let mut plan: Vec<Kind> = PLAN.to_vec();
    if !small_disks {
        plan.retain(|kind| *kind != Kind::FullDisk);
        figures.skip("full disk (no file system can be mounted here)");
    }

    let begun = Instant::now();
    let mut crowd = Crowd::new(providers, &references, plan);
    crowd.disturb()?;
    let Crowd {
        providers,
        asks,
        done,
        most,
        ..
    } = crowd;
    let asked = asks.len();
    let mut faults = judge(asks, &done, &mut figures)?;
    drop(providers);
    let worlds = hidden
        .into_iter()
        .map(|hidden| {
            hidden.join().map_err(|_| {
                LabError::Wrong("a provider behind a router does not start".to_owned())
            })?
        })
        .collect::<Result<Vec<_>, LabError>>()?;
    faults.add(relayed::short(worlds, &references, &mut figures)?);
    let count = |work: &str, number: usize| Row::new(work, "count", number as f64);
    figures.push(count("processes", most));
    figures.push(count("answers", asked));
    figures.push(count("tokens_wrong", faults.wrong).goal("<= 0"));
    figures.push(count("tokens_missing", faults.missing).goal("<= 0"));
    figures.push(count("tokens_doubled", faults.doubled).goal("<= 0"));
    figures.push(Row::new("run", "s", begun.elapsed().as_secs_f64()));
    Ok(figures)
}

/// Compares every answer with an undisturbed one, and times what became of those that were broken.
fn judge(asks: Vec<Ask<'_>>, done: &Done, figures: &mut Figures) -> Result<Faults, LabError> {
    let mut faults = Faults::default();
    let (mut tokens, mut lost, mut whole_on_full_disks) = (0, 0, 0);
    let mut rescues: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (
        number,
        Ask {
            asker, reference, ..
        },
    ) in asks.into_iter().enumerate()
    {
        let answer = match asker.answer() {
            Ok(answer) => answer,
            Err(error) => {
                eprintln!("asking program {number}: {error}");
                lost += 1;
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
        whole_on_full_disks += usize::from(found.none() && done.on_full_disks.contains(&number));
        for (name, seconds) in waits(&answer, &done.broken) {
            rescues.entry(name).or_default().push(seconds);
        }
        if let Some(gap) = done.readers.get(&number) {
            let slow_readers = rescues.entry(Kind::SlowReader.name()).or_default();
            slow_readers.push(gap.as_secs_f64());
        }
    }
    let count = |work: &str, number: usize| Row::new(work, "count", number as f64);
    figures.push(count("answers_lost", lost).goal("<= 0"));
    figures.push(count("tokens", tokens));
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
    if !done.on_full_disks.is_empty() {
        // Nothing has to be written down for the middle of a free answer: it goes on there, and needs no rescue.
        let met = done.on_full_disks.len();
        figures.push(count("answers_in_the_middle_on_a_full_disk", met));
        let broken = met - whole_on_full_disks;
        figures.push(count("answers_broken_by_a_full_disk", broken).goal("<= 0"));
    }
    Ok(faults)
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
