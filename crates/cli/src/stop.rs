//! Ctrl-C, and on Unix the polite signal of a system that shuts down.

use tokio::sync::watch;

use crate::failure::Failure;

/// Counts how often the person asked to stop.
#[derive(Debug)]
pub(crate) struct Stop {
    times: watch::Receiver<u32>,
}

impl Stop {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let (sender, times) = watch::channel(0);
        let mut signals = Signals::new().map_err(|error| {
            Failure::new(
                "no_signals",
                format!("This system does not tell the program when Ctrl-C is pressed: {error}."),
                "end the program by its window or process number.",
            )
        })?;
        tokio::spawn(async move {
            while signals.next().await {
                sender.send_modify(|times| *times += 1);
            }
        });
        Ok(Self { times })
    }

    /// How often it was asked so far.
    pub(crate) fn count(&self) -> u32 {
        *self.times.borrow()
    }

    /// Waits until it has been asked at all.
    pub(crate) async fn asked(&self) {
        self.asked_after(0).await;
    }

    /// Waits until it has been asked more often than this.
    pub(crate) async fn asked_after(&self, before: u32) {
        let mut times = self.times.clone();
        if times.wait_for(|times| *times > before).await.is_err() {
            // The listener is gone, and with it the runtime: nothing more will come.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> bool {
        tokio::select! {
            signal = self.interrupt.recv() => signal.is_some(),
            signal = self.terminate.recv() => signal.is_some(),
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) -> bool {
        self.0.recv().await.is_some()
    }
}
