//! How a call becomes a sequence: its model in memory, its request checked, its pages promised.

use super::answer::Answer;
use super::benchmark;
use super::compute::{Compute, Shared};
use super::crash;
use super::embedding::Embedding;
use super::job::{Job, What};
use super::models::{Got, Wish};
use super::scoring::Scoring;
use super::sequence::{Identity, Sequence, Work};
use super::watchdog::LOAD_LIMIT;
use crate::EngineError;
use crate::cache::SequenceState;
use crate::scheduler::room::{self, Claim, NoRoom};
use crate::wire::Say;

/// Sequences that run or wait at once. Memory is admitted apart; this bounds the bookkeeping.
const MAX_SEQUENCES: usize = 64;

/// Of these, how many others leave to the owner.
const KEPT_FOR_OWN: usize = 16;

/// How a call went that was to be started.
enum Started {
    /// It is a sequence now.
    Running(Box<Sequence>),
    /// It is done already.
    Done(Say),
    /// Not yet: back to the front of its class, and nothing behind it starts.
    NotYet(Job),
}

impl Compute {
    /// Starts what can be started, from the front of the queue on. What has to wait holds up everything behind it: a model
    /// that somebody waits for is not kept busy by those who came later.
    pub(super) fn admit(&mut self) {
        while let Some(job) = self.waiting.pop_front() {
            let (call, class, looked_at) = (job.call, job.class, job.looked_at);
            let started = self.start(job);
            if !looked_at {
                self.shared.controls.seen(class);
            }
            if let Ok(Started::NotYet(job)) = started {
                let looked_at = true;
                self.waiting.push_front(Job { looked_at, ..job });
                return;
            }
            match started {
                Ok(Started::Running(sequence)) => {
                    if let Work::Answer(answer) = &sequence.work
                        && let Some(progress) = answer.progress(sequence.state.len())
                    {
                        self.shared.outbox.say(call, progress);
                    }
                    self.sequences.push(*sequence);
                }
                Ok(Started::Done(say)) => {
                    self.shared.controls.close(call);
                    self.shared.outbox.say(call, say);
                }
                Ok(Started::NotYet(_)) => {}
                Err(error) => {
                    self.shared.controls.close(call);
                    self.shared.outbox.say(call, Say::Failed(error));
                }
            }
            self.report(true);
        }
    }

    fn start(&mut self, job: Job) -> Result<Started, EngineError> {
        match &job.what {
            What::Generate(request) => request.check()?,
            What::Score(request) => request.check()?,
            What::Embed(request) => request.check()?,
            What::Load { .. } | What::Benchmark => {}
        }
        let (id, before) = match self.open(&job)? {
            Got::Loaded { id, before } => (id, before),
            Got::Wait | Got::GaveUp => return Ok(Started::NotYet(job)),
        };
        if let (false, Some(benchmark)) = (before, self.known.get(&job.file)) {
            self.scheduler.know(id, benchmark);
        }
        let Job {
            call, class, what, ..
        } = job;
        let sequence = match what {
            What::Load { .. } => {
                let model = self.models.get(id).ok_or(EngineError::Displaced)?;
                let mut info = model.info.clone();
                if before {
                    info.load_ms = 0;
                }
                return Ok(Started::Done(Say::Loaded(info)));
            }
            What::Benchmark => {
                let job = Job { what, ..job };
                return self.benchmark(id, job);
            }
            What::Generate(_) | What::Score(_) | What::Embed(_) => {
                self.sequence(call, class, id, what)?
            }
        };
        Ok(Started::Running(Box::new(sequence)))
    }

    /// The job's model, loaded.
    fn open(&mut self, job: &Job) -> Result<Got, EngineError> {
        let context = match job.what {
            What::Load { context } => context,
            What::Generate(_) | What::Score(_) | What::Embed(_) | What::Benchmark => None,
        };
        let wish = Wish {
            path: &job.file,
            context,
            class: job.class,
            produces: match job.what {
                What::Generate(_) | What::Score(_) | What::Benchmark => true,
                What::Load { .. } | What::Embed(_) => false,
            },
            available: job.available,
        };
        crash::phase("loading a model");
        let Shared {
            outbox,
            texts,
            controls,
            watch,
        } = &self.shared;
        let mut unloaded = Vec::new();
        let mut report = |progress| {
            watch.begin("loading a model".to_owned(), LOAD_LIMIT);
            outbox.say(job.call, Say::Loading(progress));
            !(job.class.is_network() && controls.own_waits())
        };
        watch.begin("opening a model".to_owned(), LOAD_LIMIT);
        let got = self.models.open(
            &wish,
            &self.sequences,
            texts,
            &mut |id| unloaded.push(id),
            &mut report,
        );
        watch.end();
        for id in unloaded {
            self.scheduler.forget_model(id);
            let (gone, on): (Vec<Sequence>, Vec<Sequence>) = std::mem::take(&mut self.sequences)
                .into_iter()
                .partition(|sequence| sequence.model == id);
            self.sequences = on;
            for sequence in gone {
                self.close(sequence, vec![Say::Failed(EngineError::Displaced)]);
            }
        }
        got
    }

    /// A sequence of a checked request, with what its asker computed before and the promise of its pages.
    fn sequence(
        &mut self,
        call: u64,
        class: crate::Class,
        id: u64,
        what: What,
    ) -> Result<Sequence, EngineError> {
        let limit = match class.is_network() {
            true => MAX_SEQUENCES - KEPT_FOR_OWN,
            false => MAX_SEQUENCES,
        };
        if self.sequences.len() >= limit {
            return Err(EngineError::TooManyCalls {
                limit: limit as u32,
            });
        }
        let control = self.shared.controls.of(call);
        let model = self.models.get_mut(id).ok_or(EngineError::Displaced)?;
        let (asker, weight, ids, longest, work) = match what {
            What::Generate(request) => {
                let (asker, weight) = (request.asker.clone(), request.weight);
                let (answer, ids) = Answer::new(request, model)?;
                let longest = answer.longest(model.info.context);
                (asker, weight, ids, longest, Work::Answer(Box::new(answer)))
            }
            What::Score(request) => {
                let asker = request.asker.clone();
                let (scoring, ids) = Scoring::new(request, model)?;
                let longest = ids.len() as u32;
                (asker, 1, ids, longest, Work::Scoring(Box::new(scoring)))
            }
            What::Embed(request) => {
                let (embedding, ids) = Embedding::new(&request, model)?;
                let longest = embedding.longest(&ids) as u32;
                let work = Work::Embedding(Box::new(embedding));
                (request.asker, 1, ids, longest, work)
            }
            What::Load { .. } | What::Benchmark => return Err(EngineError::Displaced),
        };
        let vocabulary = model.weights.vocabulary() as u32;
        if let Some(&id) = ids.iter().find(|&&id| id >= vocabulary) {
            return Err(EngineError::TokenOutside { id, vocabulary });
        }
        let mut sequence = Sequence {
            call,
            class,
            asker: Identity::of(&asker),
            weight,
            model: id,
            control,
            ids,
            state: SequenceState::default(),
            drafted: Vec::new(),
            bytes: model.promise(longest),
            aside: false,
            compiling: false,
            last_step: 0,
            work,
        };
        let of_model = self
            .sequences
            .iter()
            .filter(|sequence| sequence.model == id);
        let accepted: Vec<Claim> = of_model.map(Sequence::claim).collect();
        room::admit(&accepted, &sequence.claim(), model.capacity()).map_err(
            |NoRoom { have }| EngineError::NotEnoughMemory {
                need: sequence.bytes,
                have,
            },
        )?;
        sequence.state = model.adopt(&sequence.asker.key, sequence.adoptable());
        if let Work::Answer(answer) = &mut sequence.work {
            sequence.compiling = answer.is_compiling()?;
        }
        Ok(sequence)
    }

    /// Measures a model while nothing else is to be computed.
    fn benchmark(&mut self, id: u64, job: Job) -> Result<Started, EngineError> {
        let nobody = self.sequences.is_empty() && self.waiting.is_empty();
        let control = self.shared.controls.of(job.call);
        let controls = &self.shared.controls;
        let (Some(model), true) = (self.models.get_mut(id), nobody) else {
            return Ok(Started::NotYet(job));
        };
        crash::phase("measuring a model");
        // This call may be one of those that were not looked at.
        let this = u32::from(!job.looked_at);
        let go_on = || controls.waiting() <= this && !control.is_cancelled();
        let measured = benchmark::run(model, &self.device, &self.shared.watch, &go_on)?;
        Ok(match measured {
            Some(benchmark) => {
                self.scheduler.know(id, &benchmark);
                Started::Done(Say::Benchmark(benchmark))
            }
            None => Started::NotYet(job),
        })
    }
}

impl Sequence {
    /// The ids of which the beginning may come from what the asker computed before.
    pub(super) fn adoptable(&self) -> &[u32] {
        match &self.work {
            Work::Answer(_) => &self.ids,
            Work::Scoring(scoring) => scoring.adoptable(&self.ids),
            // Its states are wanted, all of them.
            Work::Embedding(_) => &[],
        }
    }
}
