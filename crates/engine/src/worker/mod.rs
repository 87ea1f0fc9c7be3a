//! The child process: it alone opens model files, renders templates and computes.
//!
//! Three threads. The **reader** (the process's first) takes frames from the pipe and hands them on; it sets the flags of
//! cancel and pause itself, so that they reach a step that is being computed. The **text** thread answers what needs no
//! weights, so that a render does not wait for a prompt of somebody else's. The **compute** thread owns the model and all
//! sequences. All of them write answers through one [`Outbox`].
//!
//! The process confines itself before it opens anything ([`crate::sandbox`]), and ends when its pipe does: however the app
//! went, no worker stays. (Linux could also kill it with the thread that started it; but that thread belongs to a pool and
//! may end long before the app does.)

pub mod bench;
mod compute;
mod gauge;
mod loaded;
mod sequence;
mod texts;

use std::collections::BTreeMap;
use std::io::{self, BufReader, Stdout};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::request::Class;
use crate::wire::{self, Ask, FromWorker, Say, ToWorker, WireError};
use crate::{EngineError, parallel, sandbox};
use compute::{Command, Compute};
use gauge::Gauge;
use texts::{TextCall, TextModels};

/// Calls that may wait for a thread. The handle keeps fewer open, so nothing ever waits to be queued.
const QUEUE: usize = 1024;

/// Stack of the text thread: templates and their parser recurse.
const TEXT_STACK: usize = 16 << 20;

/// Exit code after a panic, Rust's own.
const PANICKED: i32 = 101;

/// Runs the worker on this process's pipes until the app closes them.
pub fn run(threads: NonZeroUsize) -> Result<(), WireError> {
    end_with_a_panic();
    let mut pipe = BufReader::new(io::stdin());
    let Some(first) = wire::read::<ToWorker>(&mut pipe)? else {
        return Ok(());
    };
    let Ask::Configure {
        readable,
        memory_cap,
    } = first.ask
    else {
        return Err(
            io::Error::new(io::ErrorKind::InvalidData, "the first frame configures").into(),
        );
    };
    let gauge = Gauge::open();
    let isolation = sandbox::confine(&readable, memory_cap);
    let outbox = Arc::new(Outbox(Mutex::new(io::stdout())));
    outbox.say(
        0,
        Say::Ready {
            threads: u32::try_from(threads.get()).unwrap_or(u32::MAX),
            isolation,
        },
    );
    let texts = Arc::new(TextModels::default());
    let controls = Arc::new(Controls::default());
    let (text_calls, to_text) = sync_channel(QUEUE);
    let (commands, to_compute) = sync_channel(QUEUE);
    let text = texts::Texts::new(texts.clone(), outbox.clone());
    let compute = Compute::new(outbox, texts, controls.clone(), gauge, memory_cap);
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
        Ask::Load {
            file,
            context,
            available,
            class,
        } => {
            let command = Command::Load {
                call,
                file,
                context,
                available,
                class,
            };
            commands.send(command).is_ok()
        }
        Ask::Generate { request, available } => {
            controls.open(call, request.class);
            let command = Command::Generate {
                call,
                request: Box::new(request),
                available,
            };
            commands.send(command).is_ok()
        }
        Ask::Cancel { of } => {
            controls.set(of, |control| &control.cancelled, true)
                && commands.send(Command::Look).is_ok()
        }
        Ask::Pause { of } => {
            controls.set(of, |control| &control.paused, true)
                && commands.send(Command::Look).is_ok()
        }
        Ask::Resume { of } => {
            controls.set(of, |control| &control.paused, false)
                && commands.send(Command::Look).is_ok()
        }
    }
}

/// Ends the process from whichever thread. It owns nothing that outlives it: files are mapped to be read, and the pipes
/// close by themselves.
#[allow(clippy::disallowed_methods)]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}

/// A panic in any thread ends the process: what it left behind could not be trusted, and the app starts another.
fn end_with_a_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        leave(PANICKED)
    }));
}

/// The pipe to the app. A frame that cannot be written means that the app is gone.
#[derive(Debug)]
struct Outbox(Mutex<Stdout>);

impl Outbox {
    fn say(&self, call: u64, say: Say) {
        let mut pipe = lock(&self.0);
        match wire::write(&mut *pipe, &FromWorker { call, say }) {
            Ok(()) => {}
            Err(WireError::Pipe(_)) => leave(0),
            Err(error @ (WireError::TooLong { .. } | WireError::NoMessage(_))) => {
                let refusal = Say::Failed(EngineError::WorkerSpokeWrong {
                    detail: error.to_string(),
                });
                // A short frame; if even that fails, the reader is about to see the pipe's end.
                wire::write(&mut *pipe, &FromWorker { call, say: refusal }).ok();
            }
        }
    }

    fn answer(&self, call: u64, answer: Result<Say, EngineError>) {
        self.say(call, answer.unwrap_or_else(Say::Failed));
    }
}

/// What the app wants of a generate call, seen by a step while it computes.
#[derive(Debug, Default)]
struct Control {
    cancelled: AtomicBool,
    paused: AtomicBool,
}

/// The flags of every open generate call.
#[derive(Debug, Default)]
struct Controls {
    open: Mutex<BTreeMap<u64, Arc<Control>>>,
    /// Calls of the owner's that were not looked at yet: a step of the network's is given up for them.
    own_waiting: AtomicU32,
}

impl Controls {
    fn open(&self, call: u64, class: Class) {
        lock(&self.open).insert(call, Arc::default());
        if class == Class::Own {
            self.own_waiting.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A call of the owner's was looked at.
    fn own_seen(&self) {
        self.own_waiting.fetch_sub(1, Ordering::Relaxed);
    }

    fn own_waits(&self) -> bool {
        self.own_waiting.load(Ordering::Relaxed) > 0
    }

    fn of(&self, call: u64) -> Arc<Control> {
        lock(&self.open).get(&call).cloned().unwrap_or_default()
    }

    fn close(&self, call: u64) {
        lock(&self.open).remove(&call);
    }

    /// Sets a flag of a call, if it is still open. Always true, to be chained.
    fn set(&self, call: u64, flag: impl Fn(&Control) -> &AtomicBool, value: bool) -> bool {
        if let Some(control) = lock(&self.open).get(&call) {
            flag(control).store(value, Ordering::Relaxed);
        }
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the process, so nobody sees a poisoned lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
