//! The child process: it alone opens model files, renders templates and computes.
//!
//! Four threads. The **reader** (the process's first) takes frames from the pipe and hands them on; it sets the flags of
//! cancel and pause itself, so that they reach a step that is being computed. The **text** thread answers what needs no
//! weights, so that a render does not wait for a prompt of somebody else's. The **compute** thread owns the models and all
//! sequences. The **watch** ends the process when a step hangs. All of them write answers through one [`Outbox`].
//!
//! The process confines itself before it opens anything ([`crate::sandbox`]), and ends when its pipe does: however the app
//! went, no worker stays. (Linux could also kill it with the thread that started it; but that thread belongs to a pool and
//! may end long before the app does.)

mod admit;
mod answer;
mod batch;
pub mod bench;
mod benchmark;
mod compute;
mod controls;
mod crash;
mod draft;
mod embedding;
mod gauge;
mod job;
mod loaded;
mod models;
mod need;
mod outbox;
mod residency;
mod scoring;
mod sequence;
#[cfg(debug_assertions)]
mod simulated;
mod speed;
mod texts;
mod watchdog;
mod weights;

use std::io::{self, BufReader};
use std::num::NonZeroUsize;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::wire::{self, Ask, Say, ToWorker, WireError};
use crate::{BUILD, parallel, sandbox};
use compute::{Compute, Shared};
use controls::Controls;
use gauge::Gauge;
use job::{Command, Job};
use outbox::Outbox;
use texts::{TextCall, TextModels};
use watchdog::Watch;

/// Calls that may wait for a thread. The handle keeps fewer open, so nothing ever waits to be queued.
const QUEUE: usize = 1024;

/// Bytes that the process may take beside what is admitted by the owner's cap, in which models and their pages are
/// counted: vocabularies, the text of prompts and templates, and what compiling constraints may take.
const BESIDE_MODELS: u64 = (256 << 20) + crate::grammar::COMPILING_BYTES;

/// Stack of the text thread: templates and their parser recurse.
const TEXT_STACK: usize = 16 << 20;

/// Opens and checks what computes, and names it. Before the doors close: a card's driver reads files that models have no
/// business with.
#[cfg(feature = "candle")]
fn open_device() -> Result<String, crate::EngineError> {
    crate::card::check().map(|device| device.name().to_owned())
}

/// Names the instruction set, which its own check has chosen.
#[cfg(not(feature = "candle"))]
fn open_device() -> Result<String, crate::EngineError> {
    Ok(crate::kernels::set().to_string())
}

/// What a measurement holds for, as far as the worker may see it: on another card it is to be made anew.
#[cfg(feature = "candle")]
fn measured_device(card: &str, _: NonZeroUsize) -> String {
    card.to_owned()
}

/// What a measurement holds for, as far as the worker may see it: with another instruction set or number of threads it is
/// to be made anew.
#[cfg(not(feature = "candle"))]
fn measured_device(kernels: &str, threads: NonZeroUsize) -> String {
    format!("{kernels}, {threads} threads")
}

/// Runs the worker on this process's pipes until the app closes them.
pub fn run(threads: NonZeroUsize) -> Result<(), WireError> {
    crash::end_with_a_panic();
    let mut pipe = BufReader::new(io::stdin());
    let Some(first) = wire::read::<ToWorker>(&mut pipe)? else {
        return Ok(());
    };
    let Ask::Configure {
        readable,
        memory_cap,
        sharing,
        build,
    } = first.ask
    else {
        return Err(
            io::Error::new(io::ErrorKind::InvalidData, "the first frame configures").into(),
        );
    };
    let gauge = Gauge::open();
    let computes_with = open_device().map_err(io::Error::other)?;
    let most = memory_cap.map(|cap| cap.saturating_add(BESIDE_MODELS));
    let isolation = sandbox::confine(&readable, most);
    let outbox = Arc::new(Outbox::new());
    outbox.say(
        0,
        Say::Ready {
            threads: u32::try_from(threads.get()).unwrap_or(u32::MAX),
            isolation,
            kernels: computes_with.clone(),
            build: BUILD.to_owned(),
        },
    );
    if build != BUILD {
        // The app sees it too, and says it better; nothing else it asks would be understood.
        return Err(io::Error::other(format!(
            "the app is of build {build}, this worker of {BUILD}"
        ))
        .into());
    }
    let texts = Arc::new(TextModels::default());
    let controls = Arc::new(Controls::default());
    let watch = Arc::new(Watch::default());
    let (text_calls, to_text) = sync_channel(QUEUE);
    let (commands, to_compute) = sync_channel(QUEUE);
    let text = texts::Texts::new(texts.clone(), outbox.clone());
    let shared = Shared {
        outbox: outbox.clone(),
        texts,
        controls: controls.clone(),
        watch: watch.clone(),
    };
    let device = measured_device(&computes_with, threads);
    let compute = Compute::new(shared, gauge, device, memory_cap, sharing);
    let spawn = |name: &str, stack: usize| {
        std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(stack)
    };
    spawn("text", TEXT_STACK).spawn(move || text.run(&to_text))?;
    spawn("compute", TEXT_STACK).spawn(move || {
        parallel::start(threads.get());
        compute.run(&to_compute);
    })?;
    std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || watchdog::run(&watch, &outbox))?;
    while let Some(frame) = wire::read::<ToWorker>(&mut pipe)? {
        if !dispatch(frame, &controls, &text_calls, &commands) {
            break;
        }
    }
    leave(0)
}

/// Hands a frame on; false when the thread it is for has ended.
fn dispatch(
    ToWorker { call, ask }: ToWorker,
    controls: &Controls,
    text_calls: &SyncSender<TextCall>,
    commands: &SyncSender<Command>,
) -> bool {
    match ask {
        // Once is enough; what the sandbox took cannot be given back.
        Ask::Configure { .. } => true,
        Ask::OpenText { .. }
        | Ask::Render { .. }
        | Ask::StreamOpen { .. }
        | Ask::StreamPush { .. }
        | Ask::StreamClose { .. } => text_calls.send(TextCall { call, ask }).is_ok(),
        Ask::Share(sharing) => commands.send(Command::Share(sharing)).is_ok(),
        Ask::Know { file, benchmark } => commands.send(Command::Know(file, benchmark)).is_ok(),
        Ask::Prefix(request) => commands.send(Command::Prefix(call, request)).is_ok(),
        Ask::Cancel { of } => {
            controls.cancel(of);
            commands.send(Command::Look).is_ok()
        }
        Ask::Pause { of } => {
            controls.pause(of, true);
            commands.send(Command::Look).is_ok()
        }
        Ask::Resume { of } => {
            controls.pause(of, false);
            commands.send(Command::Look).is_ok()
        }
        Ask::Load { .. }
        | Ask::Generate { .. }
        | Ask::Score { .. }
        | Ask::Embed { .. }
        | Ask::Benchmark { .. } => {
            let Some(job) = Job::of(call, ask) else {
                return true;
            };
            controls.open(call, job.class);
            commands.send(Command::Work(Box::new(job))).is_ok()
        }
    }
}

/// Ends the process from whichever thread. It owns nothing that outlives it: files are mapped to be read, and the pipes
/// close by themselves.
#[allow(clippy::disallowed_methods)]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the process, so nobody sees a poisoned lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
