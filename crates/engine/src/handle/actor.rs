//! The task that owns the worker process. All that can wake it is: a message, a frame, a changed wish.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::locate::{WorkerKind, chosen_worker};
use super::mailbox::{Mailbox, Wish};
use super::process::{Arrival, Process};
use super::{EngineOptions, EnginePhase, EngineStats};
use crate::wire::{self, Ask, FromWorker, Say, ToWorker, WorkerStats};
use crate::{
    BUILD, Benchmark, Class, EngineError, GenerateEvent, LoadProgress, ModelInfo, Sharing,
};

/// Calls that may be open at once. An app has tens; more is a caller that has lost its way.
const MAX_CALLS: u32 = 256;

/// Of these, how many others leave to the owner.
const KEPT_FOR_OWN: u32 = 64;

/// Detokenizers that may be open at once, one per answer from elsewhere.
const MAX_STREAMS: usize = 256;

/// Measurements that are kept for workers to come: more models than a folder holds.
const MAX_KNOWN: usize = 256;

#[derive(Debug)]
pub(super) enum Message {
    Call {
        call: u64,
        ask: Box<Ask>,
        waiter: Waiter,
    },
    SetReadable {
        readable: Vec<PathBuf>,
        done: oneshot::Sender<()>,
    },
    SetThreads {
        threads: Option<NonZeroUsize>,
        done: oneshot::Sender<()>,
    },
    SetWorker {
        kind: WorkerKind,
        done: oneshot::Sender<()>,
    },
    SetSharing {
        sharing: Sharing,
        done: oneshot::Sender<()>,
    },
    Know {
        file: PathBuf,
        benchmark: Benchmark,
        done: oneshot::Sender<()>,
    },
    Unload {
        done: oneshot::Sender<Result<(), EngineError>>,
    },
    Shutdown {
        done: oneshot::Sender<()>,
    },
}

/// Who waits for a call.
#[derive(Debug)]
pub(super) enum Waiter {
    Once(oneshot::Sender<Result<Say, EngineError>>),
    Stream {
        alive: Weak<()>,
        done: oneshot::Sender<Result<Say, EngineError>>,
    },
    Load {
        progress: mpsc::Sender<LoadProgress>,
        done: oneshot::Sender<Result<ModelInfo, EngineError>>,
    },
    Generate(Arc<Mailbox>),
}

impl Waiter {
    /// What is wished for the call now.
    fn wanted(&self) -> Wish {
        match self {
            Waiter::Generate(mailbox) => mailbox.wanted(),
            Waiter::Once(done) if done.is_closed() => Wish::Cancel,
            Waiter::Once(_) | Waiter::Stream { .. } | Waiter::Load { .. } => Wish::Run,
        }
    }

    fn fail(self, error: EngineError) {
        // A receiver that is gone has stopped caring.
        match self {
            Waiter::Once(done) | Waiter::Stream { done, .. } => drop(done.send(Err(error))),
            Waiter::Load { done, .. } => drop(done.send(Err(error))),
            Waiter::Generate(mailbox) => mailbox.put(Err(error)),
        }
    }
}

#[derive(Debug)]
struct OpenCall {
    waiter: Waiter,
    /// What the worker was told last about it.
    told: Wish,
}

#[derive(Debug)]
struct Worker {
    process: Process,
    program: PathBuf,
    /// Why it ends, as it said itself.
    last_word: Option<EngineError>,
    calls: BTreeMap<u64, OpenCall>,
    streams: BTreeMap<u64, Weak<()>>,
}

pub(super) struct Actor {
    options: EngineOptions,
    messages: mpsc::Receiver<Message>,
    stats: watch::Sender<EngineStats>,
    sweep: Arc<Notify>,
    worker: Option<Worker>,
    /// The kind of worker to start.
    chosen: WorkerKind,
    /// What models were measured at, by their files.
    known: BTreeMap<PathBuf, Benchmark>,
    /// The options changed since the worker started: it is ended when it is idle.
    stale: bool,
}

enum Woken {
    Message(Option<Message>),
    Arrival(Arrival),
    Wish,
}

impl Actor {
    pub(super) fn new(
        options: EngineOptions,
        messages: mpsc::Receiver<Message>,
        stats: watch::Sender<EngineStats>,
        sweep: Arc<Notify>,
    ) -> Self {
        Self {
            options,
            messages,
            stats,
            sweep,
            worker: None,
            chosen: WorkerKind::Processor,
            known: BTreeMap::new(),
            stale: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.woken().await {
                Woken::Message(Some(Message::Call { call, ask, waiter })) => {
                    self.call(call, *ask, waiter).await
                }
                Woken::Message(Some(Message::SetReadable { readable, done })) => {
                    self.stale |= self.options.readable != readable;
                    self.options.readable = readable;
                    self.end_if_stale().await;
                    done.send(()).ok();
                }
                Woken::Message(Some(Message::SetThreads { threads, done })) => {
                    self.stale |= self.options.threads != threads;
                    self.options.threads = threads;
                    self.end_if_stale().await;
                    done.send(()).ok();
                }
                Woken::Message(Some(Message::SetWorker { kind, done })) => {
                    self.stale |= self.chosen != kind;
                    self.chosen = kind;
                    self.end_if_stale().await;
                    done.send(()).ok();
                }
                Woken::Message(Some(Message::SetSharing { sharing, done })) => {
                    self.options.sharing = sharing;
                    if let Some(worker) = &self.worker
                        && !worker.process.send(ToWorker {
                            call: 0,
                            ask: Ask::Share(sharing),
                        })
                    {
                        self.worker_stuck().await;
                    }
                    done.send(()).ok();
                }
                Woken::Message(Some(Message::Know {
                    file,
                    benchmark,
                    done,
                })) => {
                    self.know(file, benchmark).await;
                    done.send(()).ok();
                }
                Woken::Message(Some(Message::Unload { done })) => {
                    done.send(self.end_worker().await).ok();
                }
                Woken::Message(Some(Message::Shutdown { done })) => {
                    self.messages.close();
                    self.end_worker_or_tell().await;
                    done.send(()).ok();
                    return;
                }
                Woken::Message(None) => return self.end_worker_or_tell().await,
                Woken::Arrival(Arrival::Frame(frame)) => {
                    if let Err(refused) = self.frame(frame) {
                        self.refuse_worker(refused).await;
                    }
                    self.end_if_stale().await;
                }
                Woken::Arrival(Arrival::End(reason)) => self.worker_died(reason).await,
                Woken::Wish => self.tell_wishes().await,
            }
        }
    }

    async fn woken(&mut self) -> Woken {
        let arrival = async {
            match &mut self.worker {
                Some(worker) => worker
                    .process
                    .arrivals
                    .recv()
                    .await
                    .unwrap_or(Arrival::End(None)),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = self.messages.recv() => Woken::Message(message),
            arrival = arrival => Woken::Arrival(arrival),
            () = self.sweep.notified() => Woken::Wish,
        }
    }

    async fn call(&mut self, call: u64, ask: Ask, waiter: Waiter) {
        let frame = ToWorker { call, ask };
        if let Err(error) = wire::encode(&frame) {
            return waiter.fail(EngineError::BadRequest {
                what: error.to_string(),
            });
        }
        let worker = match self.worker() {
            Ok(worker) => worker,
            Err(error) => return waiter.fail(error),
        };
        if let Ask::StreamPush { stream, .. } = &frame.ask
            && !worker.streams.contains_key(stream)
        {
            // It went with an earlier worker; whoever holds it opens it again.
            return waiter.fail(EngineError::WorkerDied {
                signal: None,
                code: None,
                detail: String::new(),
            });
        }
        let limit = match frame.ask.class().is_some_and(Class::is_network) {
            true => MAX_CALLS - KEPT_FOR_OWN,
            false => MAX_CALLS,
        };
        let full = worker.calls.len() >= limit as usize;
        let too_many_streams =
            matches!(waiter, Waiter::Stream { .. }) && worker.streams.len() >= MAX_STREAMS;
        if full || too_many_streams {
            return waiter.fail(EngineError::TooManyCalls { limit });
        }
        let told = Wish::Run;
        worker.calls.insert(call, OpenCall { waiter, told });
        if !worker.process.send(frame) {
            return self.worker_stuck().await;
        }
        // It may have been cancelled before it was sent.
        self.tell_wishes().await;
    }

    /// Tells the worker what a model was measured at, and keeps it for the workers to come.
    async fn know(&mut self, file: PathBuf, benchmark: Benchmark) {
        if self.known.len() >= MAX_KNOWN && !self.known.contains_key(&file) {
            self.known.pop_first();
        }
        let frame = known(&file, &benchmark);
        self.known.insert(file, benchmark);
        if let Some(worker) = &self.worker
            && !worker.process.send(frame)
        {
            self.worker_stuck().await;
        }
    }

    /// The running worker, or a new one.
    fn worker(&mut self) -> Result<&mut Worker, EngineError> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => self.start_worker()?,
        };
        Ok(self.worker.insert(worker))
    }

    fn start_worker(&mut self) -> Result<Worker, EngineError> {
        let program = chosen_worker(&self.options.worker_dirs, self.chosen)?;
        let process = Process::start(
            &program,
            self.options.threads.unwrap_or_else(super::physical_cores),
        )?;
        self.stale = false;
        process.send(ToWorker {
            call: 0,
            ask: Ask::Configure {
                readable: self.options.readable.clone(),
                memory_cap: Some(self.options.memory_cap.unwrap_or_else(super::most_memory)),
                sharing: self.options.sharing,
                build: BUILD.to_owned(),
            },
        });
        for (file, benchmark) in &self.known {
            process.send(known(file, benchmark));
        }
        self.stats.send_modify(|stats| {
            *stats = EngineStats {
                phase: EnginePhase::Starting,
                worker_pid: process.id(),
                worker: Some(program.kind),
                deaths: stats.deaths,
                ..EngineStats::default()
            };
        });
        Ok(Worker {
            process,
            program: program.path,
            last_word: None,
            calls: BTreeMap::new(),
            streams: BTreeMap::new(),
        })
    }

    /// Takes what the worker says; an error when it is no worker of this app's.
    fn frame(&mut self, frame: FromWorker) -> Result<(), EngineError> {
        let Some(worker) = &mut self.worker else {
            return Ok(());
        };
        match frame.say {
            Say::Ready { build, .. } if build != BUILD => {
                return Err(EngineError::WorkerOtherBuild {
                    program: worker.program.clone(),
                    worker: build,
                    app: BUILD.to_owned(),
                });
            }
            Say::Ready {
                threads,
                isolation,
                kernels,
                ..
            } => self.stats.send_modify(|stats| {
                stats.kernels = Some(kernels);
                stats.threads = threads;
                stats.isolation = isolation;
                stats.phase = EnginePhase::Ready;
            }),
            Say::Stats(told) => self.stats.send_modify(|stats| take_stats(stats, told)),
            Say::Loading(progress) => {
                self.stats
                    .send_modify(|stats| stats.phase = EnginePhase::Loading(progress));
                if let Some(OpenCall {
                    waiter:
                        Waiter::Load {
                            progress: reports, ..
                        },
                    ..
                }) = worker.calls.get(&frame.call)
                {
                    // A full or closed channel: the next report says more, or nobody looks.
                    reports.try_send(progress).ok();
                }
            }
            Say::Event(event) => {
                let last = matches!(event, GenerateEvent::Finished { .. });
                if let Some(OpenCall {
                    waiter: Waiter::Generate(mailbox),
                    ..
                }) = worker.calls.get(&frame.call)
                {
                    mailbox.put(Ok(event));
                }
                if last {
                    worker.calls.remove(&frame.call);
                }
            }
            Say::Failed(error) if frame.call == 0 => worker.last_word = Some(error),
            Say::Failed(error) => {
                if let Some(open) = worker.calls.remove(&frame.call) {
                    open.waiter.fail(error);
                }
            }
            say @ (Say::Text(_)
            | Say::Ids(_)
            | Say::Piece(_)
            | Say::Loaded(_)
            | Say::Scores(_)
            | Say::Embeddings(_)
            | Say::Benchmark(_)
            | Say::Prefix(_)) => {
                if let Some(open) = worker.calls.remove(&frame.call) {
                    answer(worker, frame.call, open.waiter, say);
                }
            }
        }
        Ok(())
    }

    /// Tells the worker what changed of what the readers of answers and texts want.
    async fn tell_wishes(&mut self) {
        let Some(worker) = &mut self.worker else {
            return;
        };
        let mut frames = Vec::new();
        for (&of, open) in &mut worker.calls {
            let wanted = open.waiter.wanted();
            if wanted != open.told {
                open.told = wanted;
                frames.push(match wanted {
                    Wish::Run => Ask::Resume { of },
                    Wish::Pause => Ask::Pause { of },
                    Wish::Cancel => Ask::Cancel { of },
                });
            }
        }
        worker.streams.retain(|&stream, alive| {
            let open = alive.strong_count() > 0;
            if !open {
                frames.push(Ask::StreamClose { stream });
            }
            open
        });
        if !frames
            .into_iter()
            .all(|ask| worker.process.send(ToWorker { call: 0, ask }))
        {
            self.worker_stuck().await;
        }
    }

    async fn end_if_stale(&mut self) {
        let idle = self
            .worker
            .as_ref()
            .is_some_and(|worker| worker.calls.is_empty());
        if self.stale && idle {
            self.end_worker_or_tell().await;
        }
    }

    async fn end_worker(&mut self) -> Result<(), EngineError> {
        let Some(worker) = self.worker.take() else {
            return Ok(());
        };
        let ended = worker.process.end(true, None).await;
        self.gone(worker.calls, &EngineError::Cancelled, 0);
        if matches!(ended, EngineError::WorkerStays { .. }) {
            return Err(ended);
        }
        Ok(())
    }

    /// Ends the worker where nobody waits to hear how it went.
    async fn end_worker_or_tell(&mut self) {
        if let Err(error) = self.end_worker().await {
            tracing::warn!(%error, "the engine's worker is still there");
        }
    }

    async fn worker_died(&mut self, reason: Option<String>) {
        if let Some(worker) = self.worker.take() {
            let died = worker.process.end(reason.is_some(), reason).await;
            let error = worker.last_word.unwrap_or(died);
            tracing::warn!(%error, "the engine's worker is gone");
            self.gone(worker.calls, &error, 1);
        }
    }

    /// Ends a worker that does not belong to this app: nothing it says can be trusted to mean what it seems to.
    async fn refuse_worker(&mut self, error: EngineError) {
        if let Some(worker) = self.worker.take() {
            worker.process.end(true, None).await;
            tracing::warn!(%error, "the engine's worker is refused");
            self.gone(worker.calls, &error, 0);
        }
    }

    async fn worker_stuck(&mut self) {
        self.worker_died(Some("it stopped reading its pipe".to_owned()))
            .await;
    }

    fn gone(&mut self, calls: BTreeMap<u64, OpenCall>, error: &EngineError, deaths: u64) {
        // First the state, then the news: who hears of it sees the engine off.
        self.stats.send_modify(|stats| {
            *stats = EngineStats {
                deaths: stats.deaths + deaths,
                ..EngineStats::default()
            };
        });
        for open in calls.into_values() {
            open.waiter.fail(error.clone());
        }
    }
}

fn known(file: &Path, benchmark: &Benchmark) -> ToWorker {
    ToWorker {
        call: 0,
        ask: Ask::Know {
            file: file.to_owned(),
            benchmark: benchmark.clone(),
        },
    }
}

fn answer(worker: &mut Worker, call: u64, waiter: Waiter, say: Say) {
    // A receiver that is gone has stopped caring.
    match (waiter, say) {
        (Waiter::Once(done), say) => drop(done.send(Ok(say))),
        (Waiter::Stream { alive, done }, say) => {
            worker.streams.insert(call, alive);
            drop(done.send(Ok(say)));
        }
        (Waiter::Load { done, .. }, Say::Loaded(info)) => drop(done.send(Ok(info))),
        (waiter, say) => waiter.fail(super::unexpected(&say)),
    }
}

fn take_stats(stats: &mut EngineStats, told: WorkerStats) {
    let WorkerStats {
        model,
        own,
        network,
        tokens_per_second,
        rss_bytes,
        pages_in_use,
        network_tokens,
        drafts,
    } = told;
    let (file, name, context) = match model {
        Some((file, name, context)) => (Some(file), Some(name), Some(context)),
        None => (None, None, None),
    };
    stats.model_file = file;
    stats.model_name = name;
    stats.context = context;
    stats.own_sequences = own;
    stats.network_sequences = network;
    stats.tokens_per_second = tokens_per_second.or(stats.tokens_per_second);
    stats.rss_bytes = rss_bytes;
    stats.pages_in_use = pages_in_use;
    stats.network_tokens = network_tokens;
    stats.drafts = drafts;
    stats.phase = if own + network > 0 {
        EnginePhase::Busy
    } else {
        EnginePhase::Ready
    };
}
