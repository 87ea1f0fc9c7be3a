//! The app's side: a cloneable handle to one actor task, which alone owns the worker process.
//!
//! Who sends to whom: handles put [`Message`](actor::Message)s into the actor's inbox; the actor writes calls to the
//! worker through a writer task, a reader task brings frames back; answers go to the waiting call. A running answer is a
//! shared [`Mailbox`](mailbox::Mailbox) that merges what was not fetched yet, so a slow reader never stalls the worker;
//! pause and cancel are a wish in that mailbox which the actor compares with what it told the worker.

mod actor;
mod child;
mod locate;
mod mailbox;
mod meter;
mod process;
mod survey;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::adapters::{Inventory, Rates};
use crate::request::Class;
use crate::wire::{Ask, Drafts, Say};
use crate::{
    Benchmark, ChatPrompt, EmbedRequest, Embeddings, EngineError, GenerateEvent, GenerateRequest,
    KnownPrefix, LoadProgress, ModelInfo, PrefixRequest, ScoreRequest, Sharing, TextInfo,
    TokenScore,
};
use actor::{Actor, Message, Waiter};
pub use locate::{WorkerKind, WorkerProgram, locate_worker};
use mailbox::{Mailbox, Wish};
pub use meter::CardMeter;
pub use survey::ProbedWorker;

/// Messages that wait for the actor. It never blocks, so more than a burst does not gather.
const INBOX: usize = 64;

/// Progress reports of a load that may wait for their reader; later ones are dropped, the next one says more.
const LOAD_REPORTS: usize = 8;

/// How the engine is to be run.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Folders in which the worker programs are looked for, in order.
    pub worker_dirs: Vec<PathBuf>,
    /// Threads to compute with; `None` takes the physical cores.
    pub threads: Option<NonZeroUsize>,
    /// Most bytes of memory that the worker may use.
    pub memory_cap: Option<u64>,
    /// How the device is shared between its owner and others.
    pub sharing: Sharing,
    /// Folders (or files) that the worker may read. Where the system can hold it to that, it can open nothing else.
    pub readable: Vec<PathBuf>,
}

/// What the worker can no longer do, as measured by itself after it confined itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// It tried to make a socket and was refused.
    pub network: bool,
    /// It tried to open files outside its folders and was refused.
    pub files: bool,
}

/// What the engine is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EnginePhase {
    /// No worker process.
    #[default]
    Off,
    /// The process was started and has not reported yet.
    Starting,
    /// It runs.
    Ready,
    /// It reads a model into memory.
    Loading(LoadProgress),
    /// It computes, or has paused or waiting answers.
    Busy,
}

/// A snapshot of the engine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineStats {
    /// What it is doing.
    pub phase: EnginePhase,
    /// Process id of the worker.
    pub worker_pid: Option<u32>,
    /// Which worker was started.
    pub worker: Option<WorkerKind>,
    /// The instruction set, or the card, that the worker computes with.
    pub kernels: Option<String>,
    /// Threads it computes with.
    pub threads: u32,
    /// File of the loaded model.
    pub model_file: Option<PathBuf>,
    /// Name of the loaded model.
    pub model_name: Option<String>,
    /// Context of the loaded model in tokens.
    pub context: Option<u32>,
    /// Sequences of the owner's: running, paused or waiting.
    pub own_sequences: u32,
    /// Sequences of the network's: running, paused or waiting.
    pub network_sequences: u32,
    /// New tokens per second over all sequences, as last measured.
    pub tokens_per_second: Option<f64>,
    /// Resident memory of the worker in bytes, where the system tells.
    pub rss_bytes: Option<u64>,
    /// Pages of keys and values that sequences hold.
    pub pages_in_use: u64,
    /// Tokens of context that the network's sequences may hold together with the loaded model.
    pub network_tokens: Option<u64>,
    /// What came of drafts since the worker started.
    pub drafts: Drafts,
    /// What the worker measured about itself.
    pub isolation: Isolation,
    /// How many workers have died unasked since the start.
    pub deaths: u64,
}

/// Text that became certain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPiece {
    /// The text, possibly empty.
    pub text: String,
    /// A stop string appeared: the text ends before it, and nothing more will come.
    pub stopped: bool,
}

/// A cloneable handle to the engine. The worker starts at the first call and ends with the last handle.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    inbox: mpsc::Sender<Message>,
    stats: watch::Receiver<EngineStats>,
    sweep: Arc<Notify>,
    next_call: Arc<AtomicU64>,
    worker_dirs: Arc<[PathBuf]>,
}

impl EngineHandle {
    /// Starts the actor (and no process yet). Must be called inside a tokio runtime.
    pub fn new(options: EngineOptions) -> Self {
        let (inbox, messages) = mpsc::channel(INBOX);
        let (stats_sender, stats) = watch::channel(EngineStats::default());
        let sweep = Arc::new(Notify::new());
        let worker_dirs = options.worker_dirs.as_slice().into();
        tokio::spawn(Actor::new(options, messages, stats_sender, sweep.clone()).run());
        Self {
            inbox,
            stats,
            sweep,
            next_call: Arc::new(AtomicU64::new(1)),
            worker_dirs,
        }
    }

    /// Snapshots of what the engine is doing.
    pub fn stats(&self) -> watch::Receiver<EngineStats> {
        self.stats.clone()
    }

    /// Reads the header of a GGUF file, or of the head of one.
    pub async fn open_text(&self, file: &Path) -> Result<TextInfo, EngineError> {
        let said = self
            .ask(Ask::OpenText {
                file: file.to_owned(),
            })
            .await?;
        if let Say::Text(info) = said {
            Ok(info)
        } else {
            Err(unexpected(&said))
        }
    }

    /// Turns a chat into token ids with the file's own template and tokenizer.
    pub async fn render(&self, file: &Path, prompt: &ChatPrompt) -> Result<Vec<u32>, EngineError> {
        let ask = Ask::Render {
            file: file.to_owned(),
            prompt: prompt.clone(),
        };
        let say = self.ask(ask).await?;
        let Say::Ids(ids) = say else {
            return Err(unexpected(&say));
        };
        Ok(ids)
    }

    /// Opens a detokenizer for ids that come from elsewhere. `stop` are texts that end it.
    pub async fn text_stream(
        &self,
        file: &Path,
        stop: Vec<String>,
    ) -> Result<TextStream, EngineError> {
        TextStream::open(self.clone(), file.to_owned(), stop).await
    }

    /// Loads a model for the owner's work; at once when it is loaded. Others stay as long as there is room; of those that
    /// go, answers for the network are ended ([`EngineError::Displaced`]), and the owner's are waited for.
    pub async fn load(&self, file: &Path, context: Option<u32>) -> Result<Loading, EngineError> {
        self.load_for(file, context, Class::Own).await
    }

    /// The same for any class of work. Where there is no room, a load for the network waits for the answers on other models,
    /// and never takes the place of the one that the owner used last.
    pub async fn load_for(
        &self,
        file: &Path,
        context: Option<u32>,
        class: Class,
    ) -> Result<Loading, EngineError> {
        let (progress_sender, progress) = mpsc::channel(LOAD_REPORTS);
        let (done_sender, done) = oneshot::channel();
        let ask = Ask::Load {
            file: file.to_owned(),
            context,
            available: available_memory(),
            class,
        };
        let waiter = Waiter::Load {
            progress: progress_sender,
            done: done_sender,
        };
        self.send(self.number(), ask, waiter).await?;
        Ok(Loading { progress, done })
    }

    /// Begins an answer. Loads the model first if need be (call [`load`](Self::load) before to see its progress).
    pub async fn generate(&self, request: GenerateRequest) -> Result<Generation, EngineError> {
        request.check()?;
        let mailbox = Arc::new(Mailbox::new(self.sweep.clone()));
        let ask = Ask::Generate {
            request,
            available: available_memory(),
        };
        let call = self.number();
        self.send(call, ask, Waiter::Generate(mailbox.clone()))
            .await?;
        Ok(Generation {
            mailbox,
            _engine: self.clone(),
        })
    }

    /// Judges an answer: one entry per token of the output, in its order. Dropping the future cancels it.
    pub async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenScore>, EngineError> {
        request.check()?;
        let ask = Ask::Score {
            request,
            available: available_memory(),
        };
        let said = self.compute(ask).await?;
        if let Say::Scores(scores) = said {
            Ok(scores)
        } else {
            Err(unexpected(&said))
        }
    }

    /// Turns texts into vectors of length one, by the rule that the model's file names: the mean of the last states, or
    /// the last one. Dropping the future cancels it.
    pub async fn embed(&self, request: EmbedRequest) -> Result<Embeddings, EngineError> {
        request.check()?;
        let ask = Ask::Embed {
            request,
            available: available_memory(),
        };
        let said = self.compute(ask).await?;
        if let Say::Embeddings(embeddings) = said {
            Ok(embeddings)
        } else {
            Err(unexpected(&said))
        }
    }

    /// The longest of these beginnings that is known of what the asker had computed before; `None` also where the model is not in
    /// memory. Answered between two steps of whatever is computed. Cheap to give up: dropping the future is enough.
    pub async fn known_prefix(
        &self,
        request: PrefixRequest,
    ) -> Result<Option<KnownPrefix>, EngineError> {
        let said = self.ask(Ask::Prefix(request)).await?;
        if let Say::Prefix(known) = said {
            Ok(known)
        } else {
            Err(unexpected(&said))
        }
    }

    /// Measures a model on this device: some seconds, once nothing else is to be computed, and given up and begun again
    /// when something is. Dropping the future cancels it.
    pub async fn benchmark(&self, file: &Path) -> Result<Benchmark, EngineError> {
        let ask = Ask::Benchmark {
            file: file.to_owned(),
            available: available_memory(),
        };
        let said = self.compute(ask).await?;
        if let Say::Benchmark(benchmark) = said {
            // The processor's worker cannot see what the processor is called; a card's names its card.
            let device = match self.stats.borrow().worker {
                Some(WorkerKind::Cuda | WorkerKind::Metal) => benchmark.device,
                Some(WorkerKind::Processor) | None => {
                    format!("{}, {}", processor(), benchmark.device)
                }
            };
            let benchmark = Benchmark {
                device,
                ..benchmark
            };
            self.know(file, benchmark.clone()).await?;
            Ok(benchmark)
        } else {
            Err(unexpected(&said))
        }
    }

    /// Lets this worker and those to come plan their first steps with what a model was measured at. A measurement of
    /// another build or device is passed over.
    pub async fn know(&self, file: &Path, benchmark: Benchmark) -> Result<(), EngineError> {
        let file = file.to_owned();
        self.tell(|done| Message::Know {
            file,
            benchmark,
            done,
        })
        .await
    }

    /// What a benchmark that is made now begins its device with: the card, once a worker of one has told it, else the
    /// processor.
    pub fn benchmark_device(&self) -> String {
        let stats = self.stats.borrow();
        let on_card = !matches!(stats.worker, Some(WorkerKind::Processor) | None);
        let card = stats.kernels.clone().filter(|_| on_card);
        card.unwrap_or_else(processor)
    }

    /// Shares the device otherwise from now on.
    pub async fn set_sharing(&self, sharing: Sharing) -> Result<(), EngineError> {
        sharing.check()?;
        self.tell(|done| Message::SetSharing { sharing, done })
            .await
    }

    /// Changes the folders that the worker may read. A running worker cannot be given more, so an idle one is ended and
    /// the next call starts another; a busy one goes on with the old folders until it is idle.
    pub async fn set_readable(&self, readable: Vec<PathBuf>) -> Result<(), EngineError> {
        self.tell(|done| Message::SetReadable { readable, done })
            .await
    }

    /// Changes the number of threads, from the next start of the worker on (an idle one is ended for it).
    pub async fn set_threads(&self, threads: Option<NonZeroUsize>) -> Result<(), EngineError> {
        self.tell(|done| Message::SetThreads { threads, done })
            .await
    }

    /// Every graphics adapter of this machine with its memory. Each source is asked in a short-lived process of its own,
    /// so a driver that crashes is a reason in the answer and disturbs nobody.
    pub async fn adapters(&self) -> Result<Inventory, EngineError> {
        survey::adapters(&self.worker_dirs).await
    }

    /// Starts a process that reads what NVIDIA's cards count of their energy. It ends with the meter.
    pub fn card_meter(&self) -> Result<CardMeter, EngineError> {
        CardMeter::start(&locate_worker(&self.worker_dirs)?)
    }

    /// Every worker program that is installed, the processor's first, each started to check itself and ended.
    pub async fn workers(&self) -> Result<Vec<ProbedWorker>, EngineError> {
        survey::workers(&self.worker_dirs).await
    }

    /// Measures a worker with a model file, beside whatever else runs: best while nothing does.
    pub async fn measure(
        &self,
        program: &WorkerProgram,
        file: &Path,
        threads: Option<NonZeroUsize>,
    ) -> Result<Rates, EngineError> {
        let threads = threads.unwrap_or_else(physical_cores);
        survey::measure(program, file, threads).await
    }

    /// Takes a worker program of another kind from its next start on (an idle one is ended for it); where that is not
    /// installed, the processor's.
    pub async fn set_worker(&self, kind: WorkerKind) -> Result<(), EngineError> {
        self.tell(|done| Message::SetWorker { kind, done }).await
    }

    /// Ends the worker process and returns when it is gone, its memory with it, whatever it was computing. Running answers
    /// end with [`EngineError::Cancelled`]; the next call starts another worker. [`EngineError::WorkerStays`] when the
    /// system did not let go of it in time.
    pub async fn unload(&self) -> Result<(), EngineError> {
        self.tell(|done| Message::Unload { done }).await?
    }

    /// Ends the worker for good: every later call of every clone is refused.
    pub async fn shutdown(&self) {
        // An error says that it was shut down before.
        self.tell(|done| Message::Shutdown { done }).await.ok();
    }

    fn number(&self) -> u64 {
        self.next_call.fetch_add(1, Ordering::Relaxed)
    }

    async fn send(&self, call: u64, ask: Ask, waiter: Waiter) -> Result<(), EngineError> {
        let ask = Box::new(ask);
        let message = Message::Call { call, ask, waiter };
        self.inbox
            .send(message)
            .await
            .map_err(|_| EngineError::ShutDown)
    }

    async fn ask(&self, ask: Ask) -> Result<Say, EngineError> {
        self.ask_numbered(self.number(), ask).await
    }

    async fn ask_numbered(&self, call: u64, ask: Ask) -> Result<Say, EngineError> {
        let (done, answer) = oneshot::channel();
        self.send(call, ask, Waiter::Once(done)).await?;
        answer.await.unwrap_or(Err(EngineError::ShutDown))
    }

    /// Asks for something that takes a while; cancelled when the future is dropped.
    async fn compute(&self, ask: Ask) -> Result<Say, EngineError> {
        let _watched = WakeOnDrop(self.sweep.clone());
        self.ask(ask).await
    }

    async fn tell<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, EngineError> {
        let (done, answer) = oneshot::channel();
        let sent = self.inbox.send(message(done)).await;
        sent.map_err(|_| EngineError::ShutDown)?;
        answer.await.map_err(|_| EngineError::ShutDown)
    }
}

/// Lets the actor look whether somebody still waits for an answer.
#[derive(Debug)]
struct WakeOnDrop(Arc<Notify>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A load in progress. Dropping it lets the load go on.
#[derive(Debug)]
pub struct Loading {
    /// Reports while it goes on; ends when it is done or has failed.
    pub progress: mpsc::Receiver<LoadProgress>,
    done: oneshot::Receiver<Result<ModelInfo, EngineError>>,
}

impl Loading {
    /// Waits for its end.
    pub async fn finish(self) -> Result<ModelInfo, EngineError> {
        self.done.await.unwrap_or(Err(EngineError::ShutDown))
    }
}

/// A running answer. Dropping it cancels it.
#[derive(Debug)]
pub struct Generation {
    mailbox: Arc<Mailbox>,
    // Keeps the actor alive as long as an answer runs.
    _engine: EngineHandle,
}

impl Generation {
    /// The next event; what was not fetched yet is merged. `None` after the last one.
    pub async fn next(&mut self) -> Option<Result<GenerateEvent, EngineError>> {
        self.mailbox.next().await
    }

    /// Ends it within one step; its last event is then `Finished` with [`Finish::Cancelled`](crate::Finish).
    pub fn cancel(&self) {
        self.mailbox.wish(Wish::Cancel);
    }

    /// Lets it stand still after the step it is in. Nothing is lost.
    pub fn pause(&self) {
        self.mailbox.wish(Wish::Pause);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.mailbox.wish(Wish::Run);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// An incremental detokenizer for ids that come from elsewhere. It survives a death of the worker.
#[derive(Debug)]
pub struct TextStream {
    engine: EngineHandle,
    file: PathBuf,
    stop: Vec<String>,
    seen: Vec<u32>,
    stream: u64,
    /// The actor holds the other half and closes the stream when this one is gone.
    alive: Option<Arc<()>>,
}

impl TextStream {
    async fn open(
        engine: EngineHandle,
        file: PathBuf,
        stop: Vec<String>,
    ) -> Result<Self, EngineError> {
        let mut stream = Self {
            engine,
            file,
            stop,
            seen: Vec::new(),
            stream: 0,
            alive: None,
        };
        stream.reopen().await?;
        Ok(stream)
    }

    /// Takes the next ids and gives the text that became certain.
    pub async fn push(&mut self, ids: &[u32]) -> Result<TextPiece, EngineError> {
        let piece = self.advance(ids, false).await?;
        self.seen.extend_from_slice(ids);
        Ok(piece)
    }

    /// The rest: what was held back because it could have become a stop string, and a replacement sign for half a
    /// character.
    pub async fn finish(mut self) -> Result<TextPiece, EngineError> {
        self.advance(&[], true).await
    }

    async fn advance(&mut self, ids: &[u32], last: bool) -> Result<TextPiece, EngineError> {
        match self.push_once(ids, last).await {
            Err(EngineError::WorkerDied { .. } | EngineError::Cancelled) => {
                self.reopen().await?;
                self.push_once(ids, last).await
            }
            answer => answer,
        }
    }

    async fn push_once(&mut self, ids: &[u32], last: bool) -> Result<TextPiece, EngineError> {
        let ask = Ask::StreamPush {
            stream: self.stream,
            ids: ids.to_vec(),
            last,
        };
        let say = self.engine.ask(ask).await?;
        let Say::Piece(piece) = say else {
            return Err(unexpected(&say));
        };
        Ok(piece)
    }

    async fn reopen(&mut self) -> Result<(), EngineError> {
        self.stream = self.engine.number();
        let alive = Arc::new(());
        let (done, answer) = oneshot::channel();
        let ask = Ask::StreamOpen {
            file: self.file.clone(),
            stop: self.stop.clone(),
            seen: self.seen.clone(),
        };
        let waiter = Waiter::Stream {
            alive: Arc::downgrade(&alive),
            done,
        };
        self.engine.send(self.stream, ask, waiter).await?;
        let say = answer.await.unwrap_or(Err(EngineError::ShutDown))?;
        let Say::Piece(_) = say else {
            return Err(unexpected(&say));
        };
        self.alive = Some(alive);
        Ok(())
    }
}

impl Drop for TextStream {
    fn drop(&mut self) {
        self.alive = None;
        self.engine.sweep.notify_one();
    }
}

/// An answer of the wrong kind, by its name: what it holds may be somebody's text.
fn unexpected(say: &Say) -> EngineError {
    let told = format!("{say:?}");
    let kind = told.split(|sign: char| !sign.is_alphanumeric()).next();
    EngineError::WorkerSpokeWrong {
        detail: format!("an answer {}", kind.unwrap_or_default()),
    }
}

/// Threads where none are named: physical cores, as far as this process may use them. A second thread on a core computes
/// nothing faster and slows the window down.
pub fn physical_cores() -> NonZeroUsize {
    let usable = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let physical = sysinfo::System::physical_core_count()
        .ok()
        .and_then(NonZeroUsize::new);
    physical.map_or(usable, |physical| physical.min(usable))
}

/// What the processor calls itself, or its architecture where the system does not tell.
pub fn processor() -> String {
    let brand = sysinfo::System::new().ok().and_then(|mut system| {
        system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
        let brand = system
            .cpus()
            .first()
            .map(|cpu| cpu.brand().trim().to_owned());
        brand.filter(|brand| !brand.is_empty())
    });
    brand.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The worker's limit where its owner sets none: enough for any model that fits, too little to take the machine along
/// when a hostile template doubles a text until nothing is left.
fn most_memory() -> u64 {
    let Ok(mut system) = sysinfo::System::new() else {
        return u64::MAX;
    };
    system.refresh_memory();
    system.total_memory() / 8 * 7
}

/// Bytes that a process could take now without pushing others out; everything where the system does not tell.
fn available_memory() -> u64 {
    let Ok(mut system) = sysinfo::System::new() else {
        return u64::MAX;
    };
    system.refresh_memory();
    let free = system.available_memory();
    system
        .cgroup_limits()
        .map_or(free, |limits| free.min(limits.free_memory))
}
