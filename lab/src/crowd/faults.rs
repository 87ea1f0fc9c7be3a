//! What is done to whom, and when: a plan, one fault after the other, each in the middle of an answer. Where the answers under way do not
//! suffice for what is left of the plan, one more question is asked.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use decentralgpt_tests::{Folder, Serving, disk};

use super::{
    ASKING, TOKENS,
    pick::{Asking, Provider, acquaintances, reader, to_be_disturbed, victim},
};
use crate::{
    answer::{Asker, Progress, Question},
    error::LabError,
    process::{is_alive, signal},
    reference::Reference,
};

/// How often the answers are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a slow reader does not read: longer than a provider's patience with silence, shorter than with a blocked writer.
const NOT_READING: Duration = Duration::from_secs(5);
/// Providers that are broken and whose answers have not moved yet, at a time: with more, what is measured is a network that falls.
const AT_ONCE: usize = 2;
/// An answer that has not moved by then is not waited for before the next one is disturbed.
const MOVED: Duration = Duration::from_secs(10);
/// A run that takes longer hangs.
const WHOLE: Duration = Duration::from_secs(420);

/// What happens to a provider, or to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Kill,
    Stop,
    FullDisk,
    SlowReader,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::FullDisk => "full_disk",
            Self::SlowReader => "slow_reader",
        }
    }
}

/// In this order: each takes a provider whose answers are in the middle. What is killed or full stays so, and enough must be left whole.
pub(super) const PLAN: [Kind; 15] = [
    Kind::Kill,
    Kind::Stop,
    Kind::SlowReader,
    Kind::FullDisk,
    Kind::Kill,
    Kind::Stop,
    Kind::Kill,
    Kind::Stop,
    Kind::SlowReader,
    Kind::FullDisk,
    Kind::Kill,
    Kind::Stop,
    Kind::SlowReader,
    Kind::Kill,
    Kind::Stop,
];

/// A question that was asked.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) asker: Asker,
    /// Addresses of the providers that it knows.
    known: Vec<String>,
    /// What an undisturbed provider answers.
    pub(super) reference: &'a Reference,
}

/// Who serves, who asks, and what is still to happen.
#[derive(Debug)]
pub(super) struct Crowd<'a> {
    /// Each with whether its disk can be made full.
    pub(super) providers: Vec<(Serving, bool)>,
    pub(super) asks: Vec<Ask<'a>>,
    references: &'a [Reference],
    /// The next one last.
    plan: Vec<Kind>,
    /// The one that does not read, and since when.
    paused: Option<(usize, Instant)>,
    /// Those that read again and have shown nothing yet.
    reading: BTreeMap<usize, Instant>,
    pub(super) done: Done,
    /// The most programs that ran at a time, without their workers.
    pub(super) most: usize,
}

/// What was done to whom.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// In the order in which it was done.
    pub(super) broken: Vec<Broken>,
    /// Readers by their number, with how long after they read again the next text came.
    pub(super) readers: BTreeMap<usize, Duration>,
    /// Asking programs whose provider's disk became full in the middle of their answer.
    pub(super) on_full_disks: Vec<usize>,
}

/// What happened to a provider, and when.
#[derive(Debug)]
pub(super) struct Broken {
    /// Its id.
    pub(super) peer: String,
    pub(super) kind: Kind,
    pub(super) at: Instant,
    /// When it went on, if it was stopped.
    pub(super) until: Option<Instant>,
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
}

impl<'a> Crowd<'a> {
    /// Nothing was asked yet.
    pub(super) fn new(
        providers: Vec<(Serving, bool)>,
        references: &'a [Reference],
        mut plan: Vec<Kind>,
    ) -> Self {
        plan.reverse();
        Self {
            providers,
            asks: Vec::new(),
            references,
            plan,
            paused: None,
            reading: BTreeMap::new(),
            done: Done::default(),
            most: 0,
        }
    }

    /// Asks, does what is planned, and returns when every answer has ended.
    ///
    /// # Errors
    /// [`LabError`] when a program cannot be broken, or the run does not end.
    pub(super) fn disturb(&mut self) -> Result<(), LabError> {
        let begun = Instant::now();
        while self.asks.len() < ASKING {
            let progress = self.progress();
            self.ask_on(&progress);
        }
        eprintln!("{ASKING} programs ask");
        while !self.plan.is_empty() || self.asks.iter().any(|ask| !ask.asker.ended()) {
            if begun.elapsed() > WHOLE {
                return Err(LabError::Wrong("the run does not end".to_owned()));
            }
            std::thread::sleep(LOOK);
            self.most = self.most.max(self.running());
            let progress = self.progress();
            self.look(&progress);
            self.look_at_readers(&progress)?;
            let Some(kind) = self.plan.last().copied() else {
                continue;
            };
            if self.happens(kind, &progress)? {
                self.plan.pop();
            } else if self.asks.iter().filter(|ask| !ask.asker.ended()).count() < ASKING
                && to_be_disturbed(&self.serve(), &self.ask(&progress)) < self.plan.len()
            {
                self.ask_on(&progress);
            }
        }
        Ok(())
    }

    fn progress(&self) -> Vec<Progress> {
        self.asks.iter().map(|ask| ask.asker.progress()).collect()
    }

    fn running(&self) -> usize {
        let serve = |(serving, _): &&(Serving, bool)| is_alive(serving.program.id());
        let ask = |ask: &&Ask<'_>| !ask.asker.ended();
        self.providers.iter().filter(serve).count() + self.asks.iter().filter(ask).count()
    }

    fn serve(&self) -> Vec<Provider<'_>> {
        self.providers
            .iter()
            .map(|(serving, small)| Provider {
                peer: &serving.peer,
                address: &serving.address,
                small: *small,
                broken: self.done.is_broken(&serving.peer),
            })
            .collect()
    }

    fn ask<'b>(&'b self, progress: &'b [Progress]) -> Vec<Asking<'b>> {
        self.asks
            .iter()
            .zip(progress)
            .enumerate()
            .map(|(number, (ask, progress))| Asking {
                progress,
                known: &ask.known,
                ended: ask.asker.ended(),
                stands: self.paused.is_some_and(|(paused, _)| paused == number)
                    || self.reading.contains_key(&number),
            })
            .collect()
    }

    /// One more program asks.
    fn ask_on(&mut self, progress: &[Progress]) {
        let known: Vec<String> = acquaintances(&self.serve(), &self.ask(progress))
            .into_iter()
            .map(|number| self.providers[number].0.address.clone())
            .collect();
        let reference = &self.references[self.asks.len() % self.references.len()];
        let question = Question {
            peers: &known,
            prompt: reference.question,
            tokens: TOKENS,
        };
        // Strangers, each with an address: those of one household have two places together, and nothing besides for a broken answer.
        let folder = Folder::new();
        let address = format!("/ip4/127.2.{}.1/udp/0/quic-v1", self.asks.len() + 1);
        folder.set(&[&address], "");
        self.asks.push(Ask {
            asker: Asker::start(folder, &question),
            known,
            reference,
        });
    }

    /// Notes which answers have moved, and lets those providers go on that were stopped and have none left.
    fn look(&mut self, progress: &[Progress]) {
        for broken in &mut self.done.broken {
            broken.answering.retain(|number| {
                let stays = progress[*number].provider.as_deref() == Some(broken.peer.as_str());
                stays && !self.asks[*number].asker.ended()
            });
            let stopped = broken.kind == Kind::Stop && broken.until.is_none();
            let provider = self
                .providers
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

    fn look_at_readers(&mut self, progress: &[Progress]) -> Result<(), LabError> {
        if let Some((number, since)) = self.paused
            && since.elapsed() >= NOT_READING
        {
            signal(self.asks[number].asker.id, libc::SIGCONT)?;
            self.reading.insert(number, Instant::now());
            self.paused = None;
        }
        let (asks, readers) = (&self.asks, &mut self.done.readers);
        self.reading
            .retain(|number, since| match progress[*number].last_text {
                Some(text) if text > *since => {
                    readers.insert(*number, text - *since);
                    false
                }
                Some(_) | None => !asks[*number].asker.ended(),
            });
        Ok(())
    }

    /// The next of the plan. False: whom it could meet is not there yet.
    fn happens(&mut self, kind: Kind, progress: &[Progress]) -> Result<bool, LabError> {
        let (serve, ask) = (self.serve(), self.ask(progress));
        if kind == Kind::SlowReader {
            let busy = self.paused.is_some() || !self.reading.is_empty();
            let Some(number) = reader(&serve, &ask).filter(|_| !busy) else {
                return Ok(false);
            };
            eprintln!("{}: asking program {number}", kind.name());
            signal(self.asks[number].asker.id, libc::SIGSTOP)?;
            self.paused = Some((number, Instant::now()));
            return Ok(true);
        }
        if self.done.pending() >= AT_ONCE {
            return Ok(false);
        }
        let Some(victim) = victim(&serve, &ask, kind) else {
            return Ok(false);
        };
        let peer = serve[victim].peer.to_owned();
        let answering: Vec<usize> = ask
            .iter()
            .enumerate()
            .filter(|(_, asking)| asking.is_answered_by(&serve[victim]) && !asking.ended)
            .map(|(number, _)| number)
            .collect();
        eprintln!(
            "{}: provider {victim}, answering {answering:?}",
            kind.name()
        );
        let (serving, _) = &mut self.providers[victim];
        match kind {
            Kind::Kill => serving.program.kill(),
            Kind::Stop => serving.program.signal(libc::SIGSTOP),
            Kind::FullDisk => disk::fill(serving.folder().path())
                .map_err(LabError::system("a disk cannot be filled"))?,
            Kind::SlowReader => {}
        }
        // On a full disk they go on.
        let answering = match kind {
            Kind::FullDisk => {
                self.done.on_full_disks.extend(answering);
                Vec::new()
            }
            Kind::Kill | Kind::Stop | Kind::SlowReader => answering,
        };
        self.done.broken.push(Broken {
            peer,
            kind,
            at: Instant::now(),
            until: None,
            answering,
        });
        Ok(true)
    }
}
