//! Days of strangers who come and go, in the time that there is: what a node that serves and one that asks keep of them.
//!
//! Two programs are looked at. Around them lives a small crowd of others that serve; one after the other it is taken away, as often by a
//! kill as politely, and another one with a new identity and a new folder comes in its place. It asks the provider, and the asker
//! asks it. As many come as in so many hours with [`CHURN`], however short the run: what a node keeps of each is seen, and what it does
//! by the clock alone is not, unless the run is as long as the hours.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use decentralgpt_tests::{Folder, Said, Serving};

use crate::{
    error::LabError,
    figures::{Figures, Row, quantile},
    process,
    ready::Ready,
    reference::QUESTIONS,
    remote::{Place, ask_for},
};

/// Others that serve at a time.
const CROWD: usize = 6;
/// The part of them that leaves in an hour.
const CHURN: f64 = 0.25;
/// Tokens of an answer: a job from its first frame to its receipt, and no more.
const TOKENS: u32 = 24;
/// How often memory and open files are read.
const LOOK: Duration = Duration::from_millis(500);
/// One thread each: they share the machine's cores anyway.
const SETTINGS: &str = "threads = 1\n";
const MIB: f64 = 1024.0 * 1024.0;

/// Runs for this long, with the churn of so many hours.
///
/// # Errors
/// [`LabError`] when a program does not start.
pub fn run(starter: &Path, time: Duration, hours: f64) -> Result<Figures, LabError> {
    let ready = Ready::of(starter)?;
    let provider = start("127.3.0.1", starter, &ready)?;
    let asker = start("127.3.0.2", starter, &ready)?;
    let mut crowd = Vec::new();
    for number in 0..CROWD as u32 {
        crowd.push(start(&stranger(number), starter, &ready)?);
    }
    let comings = ((hours * CHURN * CROWD as f64).ceil() as u32).max(1);
    let pace = time / comings;
    eprintln!("{comings} come and go, one in {:.1} s", pace.as_secs_f64());
    let (mut of_provider, mut of_asker) = (Kept::default(), Kept::default());
    let begun = Instant::now();
    let (mut came, mut answers, mut unanswered) = (0, 0_usize, 0_usize);
    while came < comings && begun.elapsed() < time {
        let gone = crowd.remove(0);
        if came % 2 == 0 {
            drop(gone.killed());
        } else {
            ended(gone)?;
        }
        let newcomer = start(&stranger(CROWD as u32 + came), starter, &ready)?;
        let question = QUESTIONS[came as usize % QUESTIONS.len()];
        for (folder, place) in [
            (newcomer.folder(), Place::At(&provider.address)),
            (asker.folder(), Place::At(&newcomer.address)),
        ] {
            match ask_for(folder, place, question, TOKENS) {
                Ok(_) => answers += 1,
                Err(error) => {
                    eprintln!("{error}");
                    unanswered += 1;
                }
            }
        }
        crowd.push(newcomer);
        came += 1;
        loop {
            of_provider.look(&provider, begun);
            of_asker.look(&asker, begun);
            if begun.elapsed() >= (pace * came).min(time) {
                break;
            }
            std::thread::sleep(LOOK);
        }
    }
    let took = begun.elapsed();
    drop(crowd);
    // What the run was worth, where it did not keep up.
    let hours = f64::from(came) / (CHURN * CROWD as f64);
    let mut figures = Figures::default();
    for (name, kept, serving) in [
        ("provider", of_provider, provider),
        ("asker", of_asker, asker),
    ] {
        kept.report(name, took, hours, &mut figures);
        let folder = size(serving.folder());
        let said = ended(serving)?;
        figures.push(Row::new(format!("{name}.folder"), "MiB", folder / MIB));
        let log = said.err.len() as f64 / MIB;
        figures.push(Row::new(format!("{name}.log"), "MiB", log).goal("<= 10"));
        let count = |work: &str, number: usize| {
            Row::new(format!("{name}.{work}"), "count", number as f64).goal("<= 0")
        };
        figures.push(count("panics", said.err.matches("panicked").count()));
        figures.push(count("ended_badly", usize::from(said.code() != Some(0))));
    }
    let count = |work: &str, number: f64| Row::new(work, "count", number);
    figures.push(count("comings", f64::from(came)));
    figures.push(count("answers", answers as f64));
    figures.push(count("unanswered", unanswered as f64).goal("<= 0"));
    figures.push(Row::new("churn", "h", hours));
    figures.push(Row::new("time", "s", took.as_secs_f64()));
    Ok(figures)
}

/// An address of its own for each: those of one household have few connections together.
fn stranger(number: u32) -> String {
    format!("127.4.{}.{}", number / 250 % 250, number % 250 + 1)
}

fn start(ip: &str, starter: &Path, ready: &Ready) -> Result<Serving, LabError> {
    let folder = Folder::new();
    folder.set(&[&format!("/ip4/{ip}/udp/0/quic-v1")], SETTINGS);
    ready.put_into(&folder)?;
    Ok(Serving::start_offering(folder, starter))
}

/// Ends a program as a person does.
fn ended(serving: Serving) -> Result<Said, LabError> {
    process::signal(serving.program.id(), libc::SIGINT)?;
    Ok(serving.program.wait())
}

/// Bytes of everything that a program keeps on disk.
fn size(folder: &Folder) -> f64 {
    let (mut bytes, mut folders) = (0, vec![folder.path().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(about) if about.is_dir() => folders.push(entry.path()),
                Ok(about) => bytes += about.len(),
                // It went while it was looked at.
                Err(_) => {}
            }
        }
    }
    bytes as f64
}

/// What a program held over the run, each with seconds since its beginning.
#[derive(Debug, Default)]
struct Kept {
    rss: Vec<(f64, f64)>,
    files: Vec<(f64, f64)>,
}

impl Kept {
    fn look(&mut self, serving: &Serving, begun: Instant) {
        let (id, at) = (serving.program.id(), begun.elapsed().as_secs_f64());
        self.rss.extend(process::rss_bytes(id).map(|rss| (at, rss)));
        self.files
            .extend(process::open_files(id).map(|files| (at, files as f64)));
    }

    /// Growth is that of the second half: in the first one buffers and caches fill up to their bounds.
    fn report(&self, name: &str, took: Duration, hours: f64, figures: &mut Figures) {
        let took = took.as_secs_f64();
        let per_hour = |values: &[(f64, f64)]| {
            let late: Vec<_> = values
                .iter()
                .filter(|(at, _)| *at >= took / 2.0)
                .copied()
                .collect();
            slope(&late).map_or(f64::NAN, |per_second| per_second * took / hours)
        };
        let highest = |values: &[(f64, f64)]| {
            let values: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
            quantile(&values, 1.0).unwrap_or(f64::NAN)
        };
        let row =
            |work: &str, unit: &str, value: f64| Row::new(format!("{name}.{work}"), unit, value);
        figures.push(row("memory_slope", "MiB/h", per_hour(&self.rss) / MIB).goal("<= 1"));
        figures.push(row("memory_highest", "MiB", highest(&self.rss) / MIB));
        figures.push(row("open_files_slope", "1/h", per_hour(&self.files)).goal("<= 0.1"));
        figures.push(row("open_files_highest", "files", highest(&self.files)));
    }
}

/// Of the line that lies nearest to the points, by least squares. `None` where they do not say one.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let along: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let across: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    (along > 0.0).then(|| across / along)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_the_line() {
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&[(1.0, 5.0), (1.0, 7.0)]), None);
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]), Some(2.0));
        let noisy = slope(&[(0.0, 1.0), (1.0, 0.0), (2.0, 1.0), (3.0, 0.0), (4.0, 1.0)]);
        assert_eq!(noisy, Some(0.0));
    }

    #[test]
    fn growth_is_that_of_the_second_half_in_an_hour_of_churn() {
        let grows = |at: u32| match at {
            0..=50 => 40.0 * MIB * f64::from(at),
            _ => 1950.0 * MIB + MIB * f64::from(at),
        };
        let kept = Kept {
            rss: (0..=100).map(|at| (f64::from(at), grows(at))).collect(),
            files: (0..=100).map(|at| (f64::from(at), 9.0)).collect(),
        };
        let mut figures = Figures::default();
        kept.report("it", Duration::from_secs(100), 50.0, &mut figures);
        let value = |work: &str| {
            figures
                .rows
                .iter()
                .find(|row| row.work == work)
                .unwrap()
                .ours
        };
        // One MiB in a second, of which an hour of churn has two.
        assert!((value("it.memory_slope") - 2.0).abs() < 0.1);
        assert!(value("it.open_files_slope").abs() < 1e-9);
        assert_eq!(value("it.open_files_highest"), 9.0);
    }
}
