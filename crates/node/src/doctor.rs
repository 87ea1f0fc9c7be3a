//! Is everything in order? Checks in the order in which one depends on the other, each with its fix.

mod computer;
mod network;
mod worker;

use serde::{Deserialize, Serialize};

use crate::{clock, error::NodeError, node::Node};

/// Clocks that differ by less are as good as equal for what is signed.
const CLOCK_BACK_MS: u64 = 2 * 60 * 1000;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// In order.
    Pass,
    /// Broken: something does not work because of it.
    Fail,
    /// It works, and could be better.
    Warn,
    /// Not looked at, because of what was found before or because it is switched off.
    Skip,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub state: CheckState,
    /// The facts.
    pub detail: String,
    /// What to do, when something is to be done, wherever it is read.
    pub fix: Option<String>,
    /// The command line that does it, where there is one.
    pub command: Option<String>,
    /// What this program can do about it, where a person says so.
    pub act: Option<CheckAct>,
}

/// What a button beside a check does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckAct {
    /// [`Node::forget_clock`].
    ForgetClock,
}

impl Check {
    fn new(name: &str, state: CheckState, detail: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            state,
            detail: detail.into(),
            fix: None,
            command: None,
            act: None,
        }
    }

    fn pass(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, CheckState::Pass, detail)
    }

    fn skip(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, CheckState::Skip, detail)
    }

    /// With the command line that does what is to be done.
    fn by(self, command: &str) -> Self {
        Self {
            command: Some(command.to_owned()),
            ..self
        }
    }

    fn warn(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..Self::new(name, CheckState::Warn, detail)
        }
    }

    fn fail(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..Self::new(name, CheckState::Fail, detail)
        }
    }
}

impl Node {
    /// Checks everything, in the order in which one thing depends on the other. Starts the engine's worker.
    pub async fn doctor(&self) -> Vec<Check> {
        let inner = &self.inner;
        let root = inner.data.root().to_owned();
        let disk = move || vec![computer::data_folder(&root), computer::disk(&root)];
        let mut checks = tokio::task::spawn_blocking(disk).await.unwrap_or_default();
        checks.push(computer::identity(inner));
        checks.push(computer::settings(inner).await);
        let program = worker::engine_program(inner);
        let found = program.state != CheckState::Fail;
        checks.push(program);
        let (graphics, device) = worker::devices(inner, found).await;
        checks.extend(graphics);
        checks.push(worker::meter(inner, device).await);
        checks.push(worker::model(inner));
        checks.extend(worker::engine_runs(inner, found).await);
        checks.push(network::listening(inner).await);
        checks.push(network::offered(inner));
        checks.push(network::peers(inner));
        let status = self.node_status();
        checks.push(network::reached(&status.reach));
        checks.extend(status.sources.iter().map(network::source));
        checks.push(computer::clock(inner).await);
        checks
    }

    /// Starts the clock of the list of jobs over, where it is ahead of this computer's: then it was once set wrong, and every job of
    /// others looks expired.
    ///
    /// What is given up: for ten minutes a job that was answered before could be asked again. None is taken for money until then; one
    /// that costs nothing may be computed twice.
    ///
    /// # Errors
    /// [`NodeError::ClockInOrder`] where there is nothing to forget, [`NodeError::ClockWrong`] where the network of money says that this
    /// computer's clock is the wrong one, [`NodeError::Ledger`].
    pub async fn forget_clock(&self) -> Result<(), NodeError> {
        let inner = &self.inner;
        let now_ms = clock::unix_ms();
        let highest_ms = inner.ledger.highest_clock_ms().await?;
        if highest_ms.saturating_sub(now_ms) <= CLOCK_BACK_MS {
            return Err(NodeError::ClockInOrder);
        }
        let chain_ms = inner.money.chain_time_ms().unwrap_or(0);
        let behind_ms = chain_ms.saturating_sub(now_ms);
        if behind_ms > CLOCK_BACK_MS {
            return Err(NodeError::ClockWrong {
                minutes: behind_ms / 60_000,
            });
        }
        inner.ledger.forget_clock(now_ms).await?;
        if let Some(till) = inner.money.till() {
            till.guarded_since(now_ms);
        }
        Ok(())
    }
}

fn bytes(bytes: u64) -> String {
    // A size for reading: one decimal is enough.
    format!("{:.1} GB", bytes as f64 / 1e9)
}
