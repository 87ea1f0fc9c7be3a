//! The compute thread: it owns the models and every sequence. It takes what is asked, starts what may be started
//! ([`super::admit`]), and computes what the scheduler says ([`super::batch`]).

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use super::controls::Controls;
use super::crash;
use super::gauge::Gauge;
use super::job::{Command, Job, What};
use super::loaded::Loaded;
use super::models::Models;
use super::outbox::Outbox;
use super::sequence::{Sequence, Work};
use super::texts::TextModels;
use super::watchdog::Watch;
use crate::scheduler::{Plan, Scheduler, room};
use crate::wire::{Drafts, Say, WorkerStats};
use crate::{BUILD, Benchmark, Class, EngineError, Finish, GenerateEvent, GenerateStats, Sharing};

/// Time between two reports of what the worker does.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// How often a constraint that is being compiled is looked after, when there is nothing else to do.
const COMPILE_LOOK: Duration = Duration::from_millis(2);

/// What all threads of the worker share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) outbox: Arc<Outbox>,
    pub(super) texts: Arc<TextModels>,
    pub(super) controls: Arc<Controls>,
    pub(super) watch: Arc<Watch>,
}

#[derive(Debug)]
pub(super) struct Compute {
    pub(super) shared: Shared,
    gauge: Gauge,
    /// What measurements are made on.
    pub(super) device: String,
    /// What files were measured at by this build on this device.
    pub(super) known: BTreeMap<PathBuf, Benchmark>,
    pub(super) models: Models,
    pub(super) sequences: Vec<Sequence>,
    /// Calls that wait for a model, in the order of their classes.
    pub(super) waiting: VecDeque<Job>,
    pub(super) scheduler: Scheduler,
    begun: Instant,
    /// Steps computed so far.
    pub(super) steps: u64,
    pub(super) speed: Speed,
    pub(super) drafts: Drafts,
    reported: Option<Instant>,
}

/// New tokens since the last report.
#[derive(Debug, Default)]
pub(super) struct Speed {
    pub(super) tokens: u32,
    pub(super) time: Duration,
    last: Option<f64>,
}

impl Compute {
    pub(super) fn new(
        shared: Shared,
        gauge: Gauge,
        device: String,
        memory_cap: Option<u64>,
        sharing: Sharing,
    ) -> Self {
        Self {
            shared,
            gauge,
            device,
            known: BTreeMap::new(),
            models: Models::new(memory_cap),
            sequences: Vec::new(),
            waiting: VecDeque::new(),
            scheduler: Scheduler::new(sharing, Duration::ZERO),
            begun: Instant::now(),
            steps: 0,
            speed: Speed::default(),
            drafts: Drafts::default(),
            reported: None,
        }
    }

    /// Takes calls and computes until the reader is gone.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            crash::phase("taking calls");
            loop {
                match commands.try_recv() {
                    Ok(command) => self.queue(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.sweep();
            crash::phase("starting calls");
            self.admit();
            self.seat();
            let compiling = self.look_at_constraints();
            let candidates: Vec<_> = self.sequences.iter().map(Sequence::candidate).collect();
            let mut plan = self.scheduler.plan(&candidates, self.now());
            if compiling && plan == Plan::Nothing {
                plan = Plan::Wait(COMPILE_LOOK);
            }
            let command = match plan {
                plan @ Plan::Step { .. } => {
                    self.step(&candidates, &plan);
                    self.report(false);
                    continue;
                }
                Plan::Wait(wait) => match commands.recv_timeout(wait) {
                    Ok(command) => command,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
                // Nothing runs, so nothing is waited for: what could start has started.
                Plan::Nothing => match commands.recv() {
                    Ok(command) => command,
                    Err(_) => return,
                },
            };
            self.queue(command);
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn queue(&mut self, command: Command) {
        match command {
            Command::Look => {}
            Command::Share(sharing) => {
                let now = self.now();
                self.scheduler.set_sharing(sharing, now);
            }
            Command::Know(file, benchmark) => {
                // The app knows what the processor is called, and says so before what was measured on.
                if benchmark.build == BUILD && benchmark.device.ends_with(&self.device) {
                    self.known.insert(file, benchmark);
                }
            }
            Command::Prefix(call, request) => {
                let known = self.models.find(&request.file);
                let known = known.and_then(|id| self.models.get(id)?.known(&request));
                self.shared.outbox.say(call, Say::Prefix(known));
            }
            Command::Work(job) => {
                let behind = self
                    .waiting
                    .partition_point(|other| other.class <= job.class);
                self.waiting.insert(behind, *job);
            }
        }
    }

    /// Ends what was cancelled, running or waiting.
    fn sweep(&mut self) {
        for at in (0..self.sequences.len()).rev() {
            if self.sequences[at].control.is_cancelled() {
                let mut sequence = self.sequences.remove(at);
                let last = sequence.cancel();
                self.close(sequence, last);
            }
        }
        let Shared {
            outbox, controls, ..
        } = &self.shared;
        self.waiting.retain(|job| {
            let cancelled = controls.of(job.call).is_cancelled();
            if cancelled {
                let end = match job.what {
                    What::Generate(_) => Say::Event(GenerateEvent::Finished {
                        finish: Finish::Cancelled,
                        stats: GenerateStats::default(),
                    }),
                    What::Load { .. } | What::Score(_) | What::Embed(_) | What::Benchmark => {
                        Say::Failed(EngineError::Cancelled)
                    }
                };
                outbox.say(job.call, end);
                controls.close(job.call);
                if !job.looked_at {
                    controls.seen(job.class);
                }
            }
            !cancelled
        });
    }

    /// Lets sequences that stood aside begin again where the pages they were promised are theirs once more.
    fn seat(&mut self) {
        let standing: Vec<u64> = self
            .sequences
            .iter()
            .filter(|sequence| sequence.aside)
            .map(|sequence| sequence.model)
            .collect();
        for id in standing {
            let Some(model) = self.models.get_mut(id) else {
                continue;
            };
            let of_model = self
                .sequences
                .iter()
                .filter(|sequence| sequence.model == id);
            let claims: Vec<room::Claim> = of_model.map(Sequence::claim).collect();
            let aside = room::aside(&claims, model.capacity());
            for sequence in &mut self.sequences {
                if sequence.model == id && sequence.aside && !aside.contains(&sequence.call) {
                    sequence.aside = false;
                    sequence.state = model.adopt(&sequence.asker.key, sequence.adoptable());
                }
            }
        }
    }

    /// Lets answers run whose constraints are compiled, and ends those whose cannot be. Whether some still are.
    fn look_at_constraints(&mut self) -> bool {
        let mut failed = Vec::new();
        for sequence in self
            .sequences
            .iter_mut()
            .filter(|sequence| sequence.compiling)
        {
            if let Work::Answer(answer) = &mut sequence.work {
                match answer.is_compiling() {
                    Ok(compiling) => sequence.compiling = compiling,
                    Err(error) => failed.push((sequence.call, error)),
                }
            }
        }
        for (call, error) in failed {
            let at = self
                .sequences
                .iter()
                .position(|sequence| sequence.call == call);
            if let Some(at) = at {
                let sequence = self.sequences.remove(at);
                self.close(sequence, vec![Say::Failed(error)]);
            }
        }
        self.sequences.iter().any(|sequence| sequence.compiling)
    }

    /// Ends a sequence; what it computed stays findable for its asker as long as there is room.
    pub(super) fn close(&mut self, sequence: Sequence, last: Vec<Say>) {
        self.shared.controls.close(sequence.call);
        if let Some(model) = self.models.get_mut(sequence.model) {
            model.retire(&sequence.asker.key, &sequence.ids, sequence.state);
        }
        for say in last {
            self.shared.outbox.say(sequence.call, say);
        }
        self.report(true);
    }

    /// Tells the app what goes on: at once when something began or ended, else a few times a second.
    pub(super) fn report(&mut self, now: bool) {
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
        let count = |network: bool| {
            let running = self.sequences.iter().map(|sequence| sequence.class);
            let waiting = self
                .waiting
                .iter()
                .filter(|job| !matches!(job.what, What::Load { .. } | What::Benchmark));
            let classes = running.chain(waiting.map(|job| job.class));
            classes
                .filter(|class: &Class| class.is_network() == network)
                .count() as u32
        };
        let stats = WorkerStats {
            model: self.models.latest().map(|loaded| {
                (
                    loaded.path.clone(),
                    loaded.info.text.name.clone(),
                    loaded.info.context,
                )
            }),
            own: count(false),
            network: count(true),
            tokens_per_second: self.speed.last,
            rss_bytes: self.gauge.resident(),
            pages_in_use: self.models.pages_in_use(),
            network_tokens: self
                .models
                .latest()
                .and_then(|loaded| self.network_tokens(loaded)),
            drafts: self.drafts,
        };
        self.shared.outbox.say(0, Say::Stats(stats));
    }

    /// Tokens that the network's sequences may hold together, if they are long: what the owner's were promised is not there for them.
    fn network_tokens(&self, model: &Loaded) -> Option<u64> {
        let own = self
            .sequences
            .iter()
            .filter(|sequence| sequence.model == model.id && !sequence.class.is_network());
        let own: u64 = own.map(|sequence| sequence.bytes).sum();
        let left = u128::from(model.capacity().saturating_sub(own));
        let context = model.info.context;
        let tokens = left * u128::from(context) / u128::from(model.promise(context)).max(1);
        u64::try_from(tokens).ok()
    }
}
