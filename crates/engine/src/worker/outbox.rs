//! The pipe to the app, shared by all threads.

use std::io::{self, Stdout};
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use super::{leave, lock};
use crate::EngineError;
use crate::wire::{self, FromWorker, Say, WireError};

/// How often, and how long between, a worker that ends itself tries to say why: another thread may be writing.
const LAST_TRIES: usize = 20;
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// The pipe to the app. A frame that cannot be written means that the app is gone.
#[derive(Debug)]
pub(super) struct Outbox(Mutex<Stdout>);

impl Outbox {
    pub(super) fn new() -> Self {
        Self(Mutex::new(io::stdout()))
    }

    pub(super) fn say(&self, call: u64, say: Say) {
        let mut pipe = lock(&self.0);
        match wire::write(&mut *pipe, &FromWorker { call, say }) {
            Ok(()) => {}
            Err(WireError::Pipe(_)) => leave(0),
            Err(error @ (WireError::TooLong { .. } | WireError::NoMessage { .. })) => {
                let refusal = Say::Failed(EngineError::WorkerSpokeWrong {
                    detail: error.to_string(),
                });
                // A short frame; if even that fails, the reader is about to see the pipe's end.
                wire::write(&mut *pipe, &FromWorker { call, say: refusal }).ok();
            }
        }
    }

    pub(super) fn answer(&self, call: u64, answer: Result<Say, EngineError>) {
        self.say(call, answer.unwrap_or_else(Say::Failed));
    }

    /// Says why the worker itself fails, if the pipe can be had; it ends either way.
    pub(super) fn last_word(&self, error: EngineError) {
        for _ in 0..LAST_TRIES {
            let mut pipe = match self.0.try_lock() {
                Ok(pipe) => pipe,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(LAST_PAUSE);
                    continue;
                }
            };
            let frame = FromWorker {
                call: 0,
                say: Say::Failed(error),
            };
            // The process ends now, whether or not it was heard.
            wire::write(&mut *pipe, &frame).ok();
            return;
        }
    }
}
