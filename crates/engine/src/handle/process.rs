//! One worker process and the tasks at its pipes.

use std::num::NonZeroUsize;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::child::driver_environment;
use super::locate::{WorkerKind, WorkerProgram};
use crate::EngineError;
use crate::wire::{self, FromWorker, ToWorker};

/// Frames that wait to be written. The worker's reader does nothing but read, so a full queue means that it is stuck.
const OUTBOX: usize = 1024;

/// Frames read and not yet handled by the actor.
const ARRIVALS: usize = 256;

/// How much of the worker's last words is kept for the error message, in bytes.
const LAST_WORDS: usize = 2048;

/// How long a process whose pipe closed may take to be gone before it is killed.
const GRACE: Duration = Duration::from_millis(500);

/// How long a killed process may take to be gone: what was promised to the owner who switches it off.
const OFF_WITHIN: Duration = Duration::from_secs(2);

/// What Rust's runtime writes when memory could not be had, before and after the number of bytes.
const NO_MEMORY: [&str; 2] = ["memory allocation of ", " bytes failed"];

/// What comes from the worker's pipe.
#[derive(Debug)]
pub(super) enum Arrival {
    Frame(FromWorker),
    /// The pipe ended or carried nonsense (then with the reason).
    End(Option<String>),
}

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    outbox: mpsc::Sender<ToWorker>,
    pub(super) arrivals: mpsc::Receiver<Arrival>,
    last_words: Arc<Mutex<Vec<u8>>>,
    stderr: JoinHandle<()>,
}

impl Process {
    /// Starts the program with an empty environment, but for what a card's driver is found by; what it needs to know comes with its first frame.
    pub(super) fn start(
        program: &WorkerProgram,
        threads: NonZeroUsize,
    ) -> Result<Self, EngineError> {
        let not_started = |cause: String| EngineError::WorkerNotStarted {
            program: program.path.clone(),
            cause,
        };
        let mut command = Command::new(&program.path);
        command
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // A Ctrl-C at the terminal is for the program: it stops an answer, and the model stays loaded.
        #[cfg(unix)]
        command.process_group(0);
        command.arg("--threads").arg(threads.to_string());
        if program.kind != WorkerKind::Processor {
            command.envs(driver_environment());
        }
        // Windows loads system libraries by it.
        if let Some(root) = std::env::var_os("SystemRoot") {
            command.env("SystemRoot", root);
        }
        let mut child = command
            .spawn()
            .map_err(|error| not_started(error.to_string()))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(not_started("its pipes are missing".to_owned()));
        };
        let (outbox, to_write) = mpsc::channel(OUTBOX);
        let (arrived, arrivals) = mpsc::channel(ARRIVALS);
        let last_words = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(write_frames(stdin, to_write));
        tokio::spawn(read_frames(stdout, arrived));
        let stderr = tokio::spawn(keep_last_words(stderr, last_words.clone()));
        Ok(Self {
            child,
            outbox,
            arrivals,
            last_words,
            stderr,
        })
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Queues a frame; false when the worker has stopped reading.
    pub(super) fn send(&self, frame: ToWorker) -> bool {
        self.outbox.try_send(frame).is_ok()
    }

    /// Ends the process, waits until it is gone and says how it went. `kill` does not wait for it to go by itself.
    pub(super) async fn end(mut self, kill: bool, reason: Option<String>) -> EngineError {
        if kill {
            self.child.start_kill().ok();
        }
        let pid = self.child.id();
        let status = match tokio::time::timeout(GRACE, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                self.child.start_kill().ok();
                match tokio::time::timeout(OFF_WITHIN, self.child.wait()).await {
                    Ok(status) => status.ok(),
                    Err(_) => {
                        return EngineError::WorkerStays {
                            pid: pid.unwrap_or(0),
                            after_ms: (GRACE + OFF_WITHIN).as_millis() as u64,
                        };
                    }
                }
            }
        };
        // The process is gone, so its error stream has ended as well, unless it was handed on.
        tokio::time::timeout(GRACE, &mut self.stderr).await.ok();
        let detail = match reason {
            Some(reason) => reason,
            None => {
                let words = self
                    .last_words
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                String::from_utf8_lossy(&words).trim().to_owned()
            }
        };
        if let Some(bytes) = memory_it_lacked(&detail) {
            return EngineError::OutOfMemory { bytes };
        }
        EngineError::WorkerDied {
            signal: status.and_then(signal),
            code: status.and_then(|status| status.code()),
            detail,
        }
    }
}

/// The allocation that failed, if that is what a worker's last words say.
fn memory_it_lacked(words: &str) -> Option<u64> {
    let (_, rest) = words.rsplit_once(NO_MEMORY[0])?;
    let (bytes, _) = rest.split_once(NO_MEMORY[1])?;
    bytes.parse().ok()
}

#[cfg(unix)]
pub(super) fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
pub(super) fn signal(_status: ExitStatus) -> Option<i32> {
    None
}

async fn write_frames(mut pipe: ChildStdin, mut frames: mpsc::Receiver<ToWorker>) {
    while let Some(frame) = frames.recv().await {
        // The actor checked that it encodes; a broken pipe is seen by the reader.
        let Ok(bytes) = wire::encode(&frame) else {
            continue;
        };
        if pipe.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn read_frames(pipe: ChildStdout, arrived: mpsc::Sender<Arrival>) {
    let mut pipe = BufReader::new(pipe);
    loop {
        let arrival = match wire::read_async::<FromWorker>(&mut pipe).await {
            Ok(Some(frame)) => Arrival::Frame(frame),
            Ok(None) | Err(wire::WireError::Pipe(_)) => Arrival::End(None),
            Err(error @ (wire::WireError::TooLong { .. } | wire::WireError::NoMessage { .. })) => {
                Arrival::End(Some(error.to_string()))
            }
        };
        let end = matches!(arrival, Arrival::End(_));
        if arrived.send(arrival).await.is_err() || end {
            return;
        }
    }
}

async fn keep_last_words(mut pipe: ChildStderr, last_words: Arc<Mutex<Vec<u8>>>) {
    let mut chunk = [0u8; 1024];
    while let Ok(n) = pipe.read(&mut chunk).await {
        if n == 0 {
            return;
        }
        tracing::debug!(target: "engine::worker", "{}", String::from_utf8_lossy(&chunk[..n]).trim_end());
        let mut words = last_words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(&chunk[..n]);
        let over = words.len().saturating_sub(LAST_WORDS);
        words.drain(..over);
    }
}

#[cfg(test)]
mod tests {
    use super::memory_it_lacked;

    #[test]
    fn a_failed_allocation_is_told_from_other_deaths() {
        assert_eq!(
            memory_it_lacked("x\nmemory allocation of 4096 bytes failed\n"),
            Some(4096)
        );
        assert_eq!(
            memory_it_lacked("memory allocation of much bytes failed"),
            None
        );
        assert_eq!(memory_it_lacked("panicked at a.rs:1:1"), None);
    }
}
