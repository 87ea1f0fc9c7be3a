//! Which device computes here: the adapters of this machine, the workers that are installed, what they were measured at,
//! and the choice that follows.
//!
//! The first answer of a new installation must not wait for a measurement, so the processor computes until another
//! device has passed its self-check and was measured beside it. Measuring waits until nobody asks anything. Rates are
//! kept in `DATA/devices.toml` by hardware, build and model: another card, driver or version is measured anew.

use std::{io, num::NonZeroUsize, path::Path, path::PathBuf, sync::Arc, time::Duration};

use engine::{
    EngineError, EnginePhase, ProbedWorker,
    adapters::{Candidate, Choice, Device, Inventory, Rates, choose},
};
use serde::{Deserialize, Serialize};

use crate::{
    data::{self, AtomicWrite},
    models::Graphics,
    node::Inner,
    status::ServingState,
};

/// Largest `devices.toml`, in bytes: a thousand measurements.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Measurements that are kept, the newest first: a few models on a few devices, over many versions.
const MAX_KEPT: usize = 200;

/// A start is busy enough without asking drivers.
const AFTER_START: Duration = Duration::from_secs(5);

/// How long nothing may have been computed before a measurement begins.
const QUIET: Duration = Duration::from_secs(30);

/// How often it is looked whether it is quiet.
const LOOK: Duration = Duration::from_secs(5);

/// What was found out about devices.
#[derive(Debug, Clone)]
pub(crate) struct Survey {
    pub(crate) inventory: Inventory,
    pub(crate) workers: Vec<ProbedWorker>,
    pub(crate) choice: Choice,
}

impl Survey {
    /// The worker that is to compute.
    fn chosen(&self) -> Option<&ProbedWorker> {
        self.workers.get(self.choice.candidate?)
    }

    /// What that worker computes on; `None` where none can.
    pub(crate) fn device(&self) -> Option<Device> {
        let greeting = self.chosen()?.greeting.as_ref().ok()?;
        Some(greeting.device.clone())
    }

    /// The adapters as the list of models sees them.
    fn graphics(&self) -> Vec<Graphics> {
        let chosen = self
            .chosen()
            .and_then(|worker| worker.greeting.as_ref().ok());
        let adapters = self.inventory.adapters.iter();
        adapters
            .filter(|adapter| adapter.can_serve())
            .map(|adapter| Graphics {
                name: adapter.name.clone(),
                memory_bytes: adapter.memory.map(|(memory, _)| memory.total),
                computes: chosen.is_some_and(|greeting| match &greeting.device {
                    Device::Processor => false,
                    Device::Adapter { name, .. } => *name == adapter.name,
                }),
            })
            .collect()
    }
}

/// After the start tells the engine what models were measured at, surveys, measures what was never measured, and tells the
/// engine which worker to take; and again when new chats get another model: a card that held the one may be too small for
/// the other.
pub(crate) async fn keep(inner: Arc<Inner>) {
    let survey = async {
        tokio::time::sleep(AFTER_START).await;
        tell_measurements(&inner).await?;
        let mut lists = inner.models.view();
        loop {
            let chosen_for = model_file(&inner);
            if !choose_worker(&inner).await? {
                return Ok(());
            }
            while model_file(&inner) == chosen_for {
                // The list ends with the node.
                if lists.changed().await.is_err() {
                    return Ok(());
                }
            }
        }
    };
    tokio::select! {
        () = inner.stop.cancelled() => {}
        result = survey => {
            let result: Result<(), EngineError> = result;
            if let Err(error) = result {
                tracing::warn!(%error, "the devices of this computer are not known");
            }
        }
    }
}

/// Tells the engine what was measured before, so that it plans with it from the first step on. It passes over what was
/// measured by another build or on another device.
async fn tell_measurements(inner: &Inner) -> Result<(), EngineError> {
    let rows = inner.models.view().borrow().rows.clone();
    for model in inner.models.all() {
        let row = rows.iter().find(|row| row.id == model.id);
        let benchmark = row.and_then(|row| row.measured.as_ref()?.benchmark.clone());
        if let (Some(file), Some(benchmark)) = (model.file, benchmark) {
            inner.engine.know(&file, benchmark).await?;
        }
    }
    Ok(())
}

/// Surveys, measures what was never measured, and tells the engine which worker to take. False where there is nothing to
/// choose: alone, the processor's worker needs no measuring.
async fn choose_worker(inner: &Inner) -> Result<bool, EngineError> {
    let mut found = survey(inner).await?;
    inner.models.set_graphics(found.graphics());
    let mut others = found.workers.iter().skip(1);
    if !others.any(|worker| worker.greeting.is_ok()) {
        return Ok(false);
    }
    measure_missing(inner, &found.workers).await;
    found = survey(inner).await?;
    inner.models.set_graphics(found.graphics());
    tracing::info!(reason = %found.choice.reason, "a device was chosen");
    if let Some(worker) = found.chosen() {
        inner.engine.set_worker(worker.program.kind).await?;
        if let Ok(greeting) = &worker.greeting {
            inner.energy.set_device(&greeting.device);
        }
    }
    Ok(true)
}

/// Asks every driver and every installed worker, and chooses with the rates that are kept.
///
/// # Errors
/// [`EngineError::WorkerMissing`] when no worker is installed at all.
pub(crate) async fn survey(inner: &Inner) -> Result<Survey, EngineError> {
    let inventory = inner.engine.adapters().await?;
    let workers = inner.engine.workers().await?;
    let kept = Kept::read(&inner.data.devices());
    let file = model_file(inner);
    let candidates: Vec<Candidate> = workers
        .iter()
        .map(|worker| {
            let key = file.as_deref().and_then(|file| Key::of(worker, file));
            worker.candidate(key.and_then(|key| kept.rates(&key)))
        })
        .collect();
    let need = file
        .as_deref()
        .and_then(|file| Some(std::fs::metadata(file).ok()?.len()));
    Ok(Survey {
        inventory,
        workers,
        choice: choose(&candidates, need),
    })
}

/// The file that devices are compared with: that of new chats.
fn model_file(inner: &Inner) -> Option<PathBuf> {
    inner.preferred_model(None)?.file
}

async fn measure_missing(inner: &Inner, workers: &[ProbedWorker]) {
    let path = inner.data.devices();
    for worker in workers {
        let Some(file) = model_file(inner) else {
            return;
        };
        let Some(key) = Key::of(worker, &file) else {
            continue;
        };
        if Kept::read(&path).rates(&key).is_some() {
            continue;
        }
        match measure_when_quiet(inner, worker, &file).await {
            Ok(rates) => {
                let mut kept = Kept::read(&path);
                kept.keep(key, rates);
                if let Err(error) = kept.write(&path) {
                    tracing::warn!(%error, "a measured rate could not be kept");
                }
            }
            Err(error) => {
                tracing::warn!(%error, worker = worker.program.kind.as_str(), "not measured")
            }
        }
    }
}

/// Waits until nothing is computed and measures; gives up a measurement for the first question, and waits again.
async fn measure_when_quiet(
    inner: &Inner,
    worker: &ProbedWorker,
    file: &Path,
) -> Result<Rates, EngineError> {
    let threads = inner.settings.borrow().threads.and_then(NonZeroUsize::new);
    loop {
        let mut quiet = Duration::ZERO;
        while quiet < QUIET {
            tokio::time::sleep(LOOK).await;
            quiet = if busy(inner) {
                Duration::ZERO
            } else {
                quiet + LOOK
            };
        }
        let asked = async {
            while !busy(inner) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            rates = inner.engine.measure(&worker.program, file, threads) => return rates,
            () = asked => {}
        }
    }
}

/// Whether an answer is computed, or a job of another's may come at any moment.
fn busy(inner: &Inner) -> bool {
    let computes = match inner.engine.stats().borrow().phase {
        EnginePhase::Off | EnginePhase::Ready => false,
        EnginePhase::Starting | EnginePhase::Loading(_) | EnginePhase::Busy => true,
    };
    let serving = inner.serving.view();
    computes || !matches!(serving.borrow().state, ServingState::Off)
}

/// What a rate holds for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    /// The processor, or the card and its memory.
    hardware: String,
    /// Build and kind of the worker, and the size of its program: the same sources may be compiled for other cards.
    build: String,
    /// Name and size of the model file.
    model: String,
}

impl Key {
    /// `None` for a worker that does not run, and for files that are gone.
    fn of(worker: &ProbedWorker, file: &Path) -> Option<Self> {
        let greeting = worker.greeting.as_ref().ok()?;
        let hardware = match &greeting.device {
            Device::Processor => engine::processor(),
            Device::Adapter { name, memory, .. } => {
                let total = memory.map_or(0, |memory| memory.total);
                format!("{name} {total}")
            }
        };
        let size = |path: &Path| Some(std::fs::metadata(path).ok()?.len());
        let program = &worker.program;
        Some(Self {
            hardware,
            build: format!(
                "{} {} {}",
                greeting.build,
                program.kind.as_str(),
                size(&program.path)?
            ),
            model: format!("{} {}", file.file_name()?.to_string_lossy(), size(file)?),
        })
    }
}

/// `devices.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    measured: Vec<Measurement>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Measurement {
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    rates: Rates,
}

impl Kept {
    /// What is there; a file that cannot be understood is as good as none, since everything in it can be measured anew.
    fn read(path: &Path) -> Self {
        match data::read_capped(path, MAX_FILE_BYTES) {
            Ok(text) => toml::from_str(&text).unwrap_or_else(|error| {
                tracing::warn!(%error, "the measured rates are not understood");
                Self::default()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, "the measured rates cannot be read");
                }
                Self::default()
            }
        }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string_pretty(self)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        data::write_atomically(path, text.as_bytes(), AtomicWrite::Plain)
    }

    fn rates(&self, key: &Key) -> Option<Rates> {
        let mut measured = self.measured.iter();
        measured.find(|it| it.key == *key).map(|it| it.rates)
    }

    fn keep(&mut self, key: Key, rates: Rates) {
        self.measured.retain(|it| it.key != key);
        self.measured.insert(0, Measurement { key, rates });
        self.measured.truncate(MAX_KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(build: &str) -> Key {
        Key {
            hardware: "X".to_owned(),
            build: build.to_owned(),
            model: "m.gguf 5".to_owned(),
        }
    }

    #[test]
    fn rates_hold_for_one_build_and_survive_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devices.toml");
        assert_eq!(Kept::read(&path), Kept::default());
        let rates = Rates {
            prefill_tokens_per_second: 500.5,
            decode_tokens_per_second: 60.25,
        };
        let mut kept = Kept::default();
        kept.keep(key("1"), rates);
        kept.keep(key("1"), rates);
        assert_eq!(kept.measured.len(), 1);
        kept.write(&path).unwrap();
        let again = Kept::read(&path);
        assert_eq!(again.rates(&key("1")), Some(rates));
        assert_eq!(again.rates(&key("2")), None);
        std::fs::write(&path, "measured = 3").unwrap();
        assert_eq!(Kept::read(&path), Kept::default());
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let rates = Rates {
            prefill_tokens_per_second: 1.0,
            decode_tokens_per_second: 1.0,
        };
        let mut kept = Kept::default();
        for build in 0..MAX_KEPT + 10 {
            kept.keep(key(&build.to_string()), rates);
        }
        assert_eq!(kept.measured.len(), MAX_KEPT);
        assert_eq!(kept.rates(&key("0")), None);
        assert!(kept.rates(&key(&(MAX_KEPT + 9).to_string())).is_some());
    }
}
