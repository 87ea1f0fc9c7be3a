//! The compute thread: it owns the model and every sequence, and decides who is computed next.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use super::gauge::Gauge;
use super::loaded::{Loaded, Room};
use super::sequence::{Sequence, Stepped};
use super::texts::TextModels;
use super::{Controls, Outbox};
use crate::cache::Asker;
use crate::wire::{Say, WorkerStats};
use crate::{Class, EngineError, Finish, GenerateEvent, GenerateRequest, GenerateStats, scheduler};

/// Answers that run or wait at once. Memory is admitted apart; this bounds the bookkeeping.
const MAX_SEQUENCES: usize = 64;

/// Time between two reports of what the worker does.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// What reaches the compute thread.
#[derive(Debug)]
pub(super) enum Command {
    Load {
        call: u64,
        file: PathBuf,
        context: Option<u32>,
        available: u64,
        class: Class,
    },
    Generate {
        call: u64,
        request: Box<GenerateRequest>,
        available: u64,
    },
    /// A flag changed.
    Look,
}

impl Command {
    fn class(&self) -> Class {
        match self {
            Command::Load { class, .. } => *class,
            Command::Generate { request, .. } => request.class,
            Command::Look => Class::Audit,
        }
    }

    fn file(&self) -> Option<&Path> {
        match self {
            Command::Load { file, .. } => Some(file),
            Command::Generate { request, .. } => Some(&request.file),
            Command::Look => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Compute {
    outbox: Arc<Outbox>,
    texts: Arc<TextModels>,
    controls: Arc<Controls>,
    gauge: Gauge,
    memory_cap: Option<u64>,
    loaded: Option<Loaded>,
    sequences: Vec<Sequence>,
    /// Calls that wait for a model, the owner's first.
    waiting: VecDeque<Command>,
    steps: u64,
    speed: Speed,
    reported: Option<Instant>,
}

/// New tokens since the last report.
#[derive(Debug, Default)]
struct Speed {
    tokens: u32,
    time: Duration,
    last: Option<f64>,
}

impl Compute {
    pub(super) fn new(
        outbox: Arc<Outbox>,
        texts: Arc<TextModels>,
        controls: Arc<Controls>,
        gauge: Gauge,
        memory_cap: Option<u64>,
    ) -> Self {
        Self {
            outbox,
            texts,
            controls,
            gauge,
            memory_cap,
            loaded: None,
            sequences: Vec::new(),
            waiting: VecDeque::new(),
            steps: 0,
            speed: Speed::default(),
            reported: None,
        }
    }

    /// Takes calls and computes until the reader is gone.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            loop {
                match commands.try_recv() {
                    Ok(command) => self.queue(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.sweep();
            self.admit();
            let runnable = |sequence: &Sequence| sequence.candidate().runnable;
            if self.sequences.iter().any(runnable) {
                self.step();
                self.report(false);
            } else if self.waiting.is_empty() || !self.sequences.is_empty() {
                // Everything stands still until something is asked or a flag changes.
                let Ok(command) = commands.recv() else { return };
                self.queue(command);
            }
        }
    }

    fn queue(&mut self, command: Command) {
        if let Command::Look = command {
            return;
        }
        let first_network = self
            .waiting
            .iter()
            .position(|waiting| waiting.class().is_network());
        match command.class() {
            Class::Own => self
                .waiting
                .insert(first_network.unwrap_or(self.waiting.len()), command),
            Class::Paid | Class::Free | Class::Audit => self.waiting.push_back(command),
        }
    }

    /// Ends what was cancelled.
    fn sweep(&mut self) {
        for at in (0..self.sequences.len()).rev() {
            if self.sequences[at].cancelled() {
                let mut sequence = self.sequences.remove(at);
                let (rest, end) = sequence.cancel();
                if let Some(rest) = rest {
                    self.outbox.say(sequence.call, Say::Event(rest));
                }
                self.close(sequence, Say::Event(end));
            }
        }
        let (outbox, controls) = (&self.outbox, &self.controls);
        self.waiting.retain(|command| {
            let Command::Generate { call, request, .. } = command else {
                return true;
            };
            let cancelled = controls
                .of(*call)
                .cancelled
                .load(std::sync::atomic::Ordering::Relaxed);
            if cancelled {
                let end = GenerateEvent::Finished {
                    finish: Finish::Cancelled,
                    stats: GenerateStats::default(),
                };
                outbox.say(*call, Say::Event(end));
                controls.close(*call);
                if request.class == Class::Own {
                    controls.own_seen();
                }
            }
            !cancelled
        });
    }

    /// Starts what can be started: the front of the queue, as long as its model is loaded or may be.
    fn admit(&mut self) {
        while let Some(front) = self.waiting.front() {
            let ready = match (&self.loaded, front.file()) {
                (Some(loaded), Some(file)) => loaded.is(file),
                _ => false,
            };
            let strangers = self
                .sequences
                .iter()
                .all(|sequence| sequence.request.class.is_network());
            if !ready && !self.sequences.is_empty() {
                if front.class().is_network() || !strangers {
                    return;
                }
                for sequence in std::mem::take(&mut self.sequences) {
                    self.close(sequence, Say::Failed(EngineError::Displaced));
                }
            }
            let Some(command) = self.waiting.pop_front() else {
                return;
            };
            self.start(command);
        }
    }

    fn start(&mut self, command: Command) {
        match command {
            Command::Load {
                call,
                file,
                context,
                available,
                ..
            } => {
                let loaded = self.load(call, &file, context, available);
                self.outbox.answer(call, loaded.map(Say::Loaded));
            }
            Command::Generate {
                call,
                request,
                available,
            } => {
                let class = request.class;
                let begun = self.begin(call, *request, available);
                if class == Class::Own {
                    self.controls.own_seen();
                }
                match begun {
                    Ok(sequence) => {
                        self.outbox.say(call, Say::Event(sequence.progress()));
                        self.sequences.push(sequence);
                    }
                    Err(error) => {
                        self.controls.close(call);
                        self.outbox.say(call, Say::Failed(error));
                    }
                }
            }
            Command::Look => {}
        }
        self.report(true);
    }

    fn load(
        &mut self,
        call: u64,
        file: &Path,
        context: Option<u32>,
        available: u64,
    ) -> Result<crate::ModelInfo, EngineError> {
        let room = Room {
            available,
            cap: self.memory_cap,
        };
        if let Some(loaded) = self.loaded.as_mut().filter(|loaded| loaded.is(file)) {
            loaded.widen(context, room)?;
            return Ok(crate::ModelInfo {
                load_ms: 0,
                ..loaded.info.clone()
            });
        }
        // The old one goes first: two at once may not fit.
        self.loaded = None;
        let mut report = |progress| self.outbox.say(call, Say::Loading(progress));
        let loaded = Loaded::open(file, context, room, &self.texts, &mut report)?;
        Ok(self.loaded.insert(loaded).info.clone())
    }

    fn begin(
        &mut self,
        call: u64,
        request: GenerateRequest,
        available: u64,
    ) -> Result<Sequence, EngineError> {
        if self.sequences.len() >= MAX_SEQUENCES {
            return Err(EngineError::TooManyCalls {
                limit: MAX_SEQUENCES as u32,
            });
        }
        self.load(call, &request.file, None, available)?;
        let Some(model) = &mut self.loaded else {
            return Err(EngineError::NoWeights { file: request.file });
        };
        let reserved: u64 = self
            .sequences
            .iter()
            .map(|sequence| sequence.reserved)
            .sum();
        let budget = model.cache_budget.saturating_sub(reserved);
        let control = self.controls.of(call);
        Sequence::new(call, request, control, model, budget)
    }

    fn step(&mut self) {
        let candidates: Vec<_> = self.sequences.iter().map(Sequence::candidate).collect();
        let Some(call) = scheduler::next(&candidates) else {
            return;
        };
        let (Some(model), Some(at)) = (
            &mut self.loaded,
            self.sequences
                .iter()
                .position(|sequence| sequence.call == call),
        ) else {
            return;
        };
        self.steps += 1;
        let begun = Instant::now();
        let stepped = self.sequences[at].step(model, self.steps, &self.controls);
        if let Ok(Stepped::On(GenerateEvent::Tokens { .. }) | Stepped::End(..)) = stepped {
            self.speed.tokens += 1;
        }
        self.speed.time += begun.elapsed();
        match stepped {
            Ok(Stepped::Nothing) => {}
            Ok(Stepped::On(event)) => self.outbox.say(call, Say::Event(event)),
            Ok(Stepped::End(event, finish)) => {
                self.outbox.say(call, Say::Event(event));
                let sequence = self.sequences.remove(at);
                let end = Say::Event(sequence.finished(finish));
                self.close(sequence, end);
            }
            Err(error) => {
                let sequence = self.sequences.remove(at);
                self.close(sequence, Say::Failed(error));
            }
        }
    }

    fn close(&mut self, sequence: Sequence, last: Say) {
        self.controls.close(sequence.call);
        self.outbox.say(sequence.call, last);
        if let Some(loaded) = &mut self.loaded {
            match sequence.request.class {
                Class::Own => loaded
                    .pool
                    .retire(&Asker::OWNER, &sequence.ids, sequence.state),
                Class::Paid | Class::Free | Class::Audit => loaded.pool.release(sequence.state),
            }
        }
        self.report(true);
    }

    /// Tells the app what goes on: at once when something began or ended, else a few times a second.
    fn report(&mut self, now: bool) {
        let due = self
            .reported
            .is_none_or(|reported| reported.elapsed() >= REPORT_EVERY);
        if !now && !due {
            return;
        }
        if self.speed.tokens > 0 && self.speed.time >= REPORT_EVERY / 2 {
            self.speed.last = Some(f64::from(self.speed.tokens) / self.speed.time.as_secs_f64());
            (self.speed.tokens, self.speed.time) = (0, Duration::ZERO);
        }
        self.reported = Some(Instant::now());
        let classes = || {
            let running = self.sequences.iter().map(|sequence| sequence.request.class);
            let waiting = self
                .waiting
                .iter()
                .filter(|command| matches!(command, Command::Generate { .. }));
            running.chain(waiting.map(Command::class))
        };
        let stats = WorkerStats {
            model: self.loaded.as_ref().map(|loaded| {
                (
                    loaded.path.clone(),
                    loaded.info.text.name.clone(),
                    loaded.info.context,
                )
            }),
            own: classes().filter(|class| *class == Class::Own).count() as u32,
            network: classes().filter(|class| class.is_network()).count() as u32,
            tokens_per_second: self.speed.last,
            rss_bytes: self.gauge.resident(),
        };
        self.outbox.say(0, Say::Stats(stats));
    }
}
