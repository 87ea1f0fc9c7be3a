//! A worker process that reads the cards' energy counters, line for line.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::child::driver_environment;
use crate::EngineError;
use crate::adapters::Reading;

/// How long a reading may take. The first one loads the driver; a card that sleeps is awake within two seconds.
const READ: Duration = Duration::from_secs(10);

/// Bytes of a reading: 64 cards take about 10 KB.
const MAX_READING: u64 = 64 << 10;

/// Reads what cards count, as often as it is asked. The process ends when this is dropped.
#[derive(Debug)]
pub struct CardMeter {
    _child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl CardMeter {
    pub(super) fn start(program: &Path) -> Result<Self, EngineError> {
        let not_started = |cause: String| EngineError::WorkerNotStarted {
            program: program.to_owned(),
            cause,
        };
        let mut child = Command::new(program)
            .arg("--meter")
            .env_clear()
            .envs(driver_environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| not_started(error.to_string()))?;
        let (Some(asks), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(not_started("its pipes are missing".to_owned()));
        };
        Ok(Self {
            _child: child,
            asks,
            answers: BufReader::new(answers),
        })
    }

    /// What the cards count now.
    ///
    /// # Errors
    /// [`EngineError::WorkerDied`] when the process is gone or does not answer, [`EngineError::WorkerSpokeWrong`]: start another one.
    pub async fn read(&mut self) -> Result<Reading, EngineError> {
        let died = |detail: String| EngineError::WorkerDied {
            signal: None,
            code: None,
            detail,
        };
        let mut line = String::new();
        let read = tokio::time::timeout(READ, async {
            self.asks.write_all(b"\n").await?;
            self.asks.flush().await?;
            (&mut self.answers)
                .take(MAX_READING)
                .read_line(&mut line)
                .await
        });
        match read.await {
            Ok(Ok(0)) => Err(died("the process that reads the meter ended".to_owned())),
            Ok(Ok(_)) => {
                serde_json::from_str(&line).map_err(|error| EngineError::WorkerSpokeWrong {
                    detail: format!("the meter answered nonsense: {error}"),
                })
            }
            Ok(Err(error)) => Err(died(error.to_string())),
            Err(_) => Err(died(format!(
                "the meter did not answer within {} s",
                READ.as_secs()
            ))),
        }
    }
}
