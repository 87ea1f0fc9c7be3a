//! What the computer's own meters count while it computes for others.
//!
//! One task owns the meters. It looks at them whenever a job begins, waits, goes on or ends, and now and then in between, divides what was
//! counted ([`share`]), and books each job's part in the ledger when it ends, paid or not. Between jobs it learns what is drawn while nothing is
//! computed, which is no job's. Where no meter can be read, the person's own figure in watts stands in, and is named as that; without one
//! nothing is measured. Nothing is estimated.

mod meters;
mod share;

use std::{sync::Arc, time::Duration};

use engine::{EnginePhase, adapters::Device};
use ledger::JobEnergy;
use protocol::JobId;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};

pub(crate) use self::meters::Computes;
use self::{
    meters::{Counter, Meters, Packages, counted},
    share::{Idle, Power, SHORTEST_US, Shares, Taken},
};
use crate::{clock, money::settings::MoneySettings, node::Inner, status::ServingState};

/// A package's counter begins again after a hundred thousand joules or so: minutes at full load. It is looked at well before, and idle is
/// known after as long.
const LOOK: Duration = Duration::from_secs(10);

/// What jobs say and the task has not heard: each of the few that run may say some words at once. More is not measured.
const INBOX: usize = 64;

/// Milliwatts to a watt.
const MW_PER_W: f64 = 1000.0;

/// How the energy of jobs becomes known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterKind {
    /// Not at all.
    #[default]
    None,
    /// The computer's meters count it.
    Metered,
    /// It follows from the person's own figure.
    Stated,
}

/// What counts energy here, or why nothing does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeterView {
    /// How energy becomes known.
    pub kind: MeterKind,
    /// The meter that counts, or why none does: a sentence.
    pub detail: String,
    /// What would make a meter readable, where something would.
    pub fix: Option<String>,
    /// What is drawn while nothing is computed, in milliwatts; `None` before it was measured.
    pub idle_mw: Option<u64>,
    /// What is drawn now, in milliwatts: all that the meters count, or by the person's figure what answering takes more than idle. `None`
    /// where that is not measured.
    pub now_mw: Option<u64>,
}

/// A handle on the task.
#[derive(Debug)]
pub(crate) struct Energy {
    said: mpsc::Sender<Said>,
    computes: watch::Sender<Computes>,
    view: watch::Sender<MeterView>,
}

/// The other end, for [`keep`].
pub(crate) type Inbox = mpsc::Receiver<Said>;

/// What jobs say.
#[derive(Debug)]
pub(crate) enum Said {
    /// It is computed from now on.
    Begins { job: JobId },
    /// It waits, or goes on.
    Still { job: JobId, still: bool },
    /// It is over. `whole`: all that it said was heard.
    Ends { job: JobId, whole: bool },
}

impl Energy {
    /// Until it is known what else computes here, it is the processor.
    pub(crate) fn new(settings: &MoneySettings) -> (Self, Inbox) {
        let (said, inbox) = mpsc::channel(INBOX);
        let view = Desk::new(Computes::Processor).view(stated_mw(settings));
        let energy = Self {
            said,
            computes: watch::Sender::new(Computes::Processor),
            view: watch::Sender::new(view),
        };
        (energy, inbox)
    }

    /// What computes from now on.
    pub(crate) fn set_device(&self, device: &Device) {
        let computes = Computes::of(device);
        self.computes
            .send_if_modified(|now| std::mem::replace(now, computes.clone()) != computes);
    }

    pub(crate) fn view(&self) -> MeterView {
        self.view.borrow().clone()
    }

    /// The same, as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<MeterView> {
        self.view.subscribe()
    }

    /// Counts a job until what is returned is dropped. No job waits for it: `None` where the task is too busy to hear of it.
    pub(crate) fn count(&self, job: JobId) -> Option<Counting> {
        let end = self.said.clone().try_reserve_owned().ok()?;
        self.said.try_send(Said::Begins { job }).ok()?;
        Some(Counting {
            job,
            said: self.said.clone(),
            end: Some(end),
            whole: true,
        })
    }
}

/// A job that is counted.
#[derive(Debug)]
pub(crate) struct Counting {
    job: JobId,
    said: mpsc::Sender<Said>,
    /// Room for its end is kept from its beginning on, so that it is never counted for ever.
    end: Option<mpsc::OwnedPermit<Said>>,
    whole: bool,
}

impl Counting {
    /// It waits, or goes on.
    pub(crate) fn set_still(&mut self, still: bool) {
        let job = self.job;
        self.whole &= self.said.try_send(Said::Still { job, still }).is_ok();
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end.send(Said::Ends {
                job: self.job,
                whole: self.whole,
            });
        }
    }
}

/// Which meter counts what computes on this device, asked now, whether this computer lends or not.
pub(crate) async fn probe(inner: &Inner, device: &Device) -> MeterView {
    let mut desk = Desk::new(Computes::of(device));
    desk.meters.read(&inner.engine, Instant::now()).await;
    desk.view(stated_mw(&inner.settings.borrow().money))
}

/// Owns the meters until the node stops.
pub(crate) async fn keep(inner: Arc<Inner>, mut inbox: Inbox) {
    let mut device = inner.energy.computes.subscribe();
    let mut settings = inner.settings.subscribe();
    let mut own_work = inner.answers.watch_own_work();
    let mut stats = inner.engine.stats();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut desk = Desk::new(device.borrow_and_update().clone());
    desk.own = *own_work.borrow_and_update();
    loop {
        desk.show(&inner);
        tokio::select! {
            () = inner.stop.cancelled() => break,
            Some(said) = inbox.recv() => desk.hear(&inner, said).await,
            Ok(()) = own_work.changed() => {
                desk.look(&inner).await;
                desk.own = *own_work.borrow_and_update();
                desk.quiet = false;
            }
            Ok(()) = stats.changed() => {
                desk.quiet &= !computes_now(stats.borrow_and_update().phase);
            }
            Ok(()) = device.changed() => {
                desk.look(&inner).await;
                let device = device.borrow_and_update().clone();
                desk = Desk { shares: desk.shares, own: desk.own, ..Desk::new(device) };
            }
            Ok(()) = settings.changed() => {
                settings.borrow_and_update();
            }
            _ = ticks.tick() => desk.tick(&inner).await,
        }
    }
    // Jobs that the stop has ended are still booked.
    while let Ok(said) = inbox.try_recv() {
        desk.hear(&inner, said).await;
    }
}

fn computes_now(phase: EnginePhase) -> bool {
    match phase {
        EnginePhase::Off | EnginePhase::Ready => false,
        EnginePhase::Starting | EnginePhase::Loading(_) | EnginePhase::Busy => true,
    }
}

/// What the task knows.
#[derive(Debug)]
struct Desk {
    meters: Meters,
    shares: Shares,
    idle: Idle,
    power: Power,
    /// Answers of the owner's that are computed.
    own: usize,
    /// The last look: when, and what was read.
    last: Option<(Instant, Option<Vec<Counter>>)>,
    /// Nothing was computed since then.
    quiet: bool,
}

impl Desk {
    fn new(computes: Computes) -> Self {
        Self {
            meters: Meters::of(computes, Packages::find()),
            shares: Shares::default(),
            idle: Idle::default(),
            power: Power::default(),
            own: 0,
            last: None,
            quiet: false,
        }
    }

    async fn hear(&mut self, inner: &Inner, said: Said) {
        self.look(inner).await;
        match said {
            Said::Begins { job } => self.shares.begin(job),
            Said::Still { job, still } => self.shares.set_still(&job, still),
            Said::Ends { job, whole } => {
                let taken = self.shares.end(&job).filter(|_| whole);
                if let Some(energy) = taken.and_then(|taken| self.energy(inner, &job, taken)) {
                    book(inner, energy).await;
                }
            }
        }
        self.quiet = self.shares.is_empty() && self.own == 0;
    }

    /// Looks while nothing happens: at jobs that run long, and at idle while this computer lends.
    async fn tick(&mut self, inner: &Inner) {
        let off = matches!(inner.serving.view().borrow().state, ServingState::Off);
        if off && self.shares.is_empty() {
            self.last = None;
            self.power = Power::default();
            self.meters.rest();
            return;
        }
        let was_quiet = self.quiet;
        let counted = self.look(inner).await;
        let now_quiet = self.shares.is_empty()
            && self.own == 0
            && !computes_now(inner.engine.stats().borrow().phase);
        if let Some((stretch, counted)) = counted.filter(|_| was_quiet && now_quiet)
            && stretch >= SHORTEST_US
        {
            self.idle.quiet(stretch, counted);
        }
        self.quiet = now_quiet;
    }

    /// Reads the meters and divides what was counted since the last time; gives it, in microjoules, behind the microseconds it took.
    async fn look(&mut self, inner: &Inner) -> Option<(u64, u64)> {
        let read = self.meters.read(&inner.engine, Instant::now()).await;
        let now = Instant::now();
        let last = self.last.replace((now, read.clone()));
        let (then, before) = last?;
        let stretch = u64::try_from(now.duration_since(then).as_micros()).unwrap_or(u64::MAX);
        let counted = before
            .zip(read)
            .and_then(|(before, now)| counted(&before, &now, stretch));
        self.shares.divide(stretch, counted, self.own);
        self.power.counted(stretch, counted);
        Some((stretch, counted?))
    }

    fn energy(&self, inner: &Inner, job: &JobId, taken: Taken) -> Option<JobEnergy> {
        Some(JobEnergy {
            job: *job.as_bytes(),
            at_ms: clock::unix_ms(),
            share_ms: taken.share_us / 1000,
            drawn: taken.drawn(
                self.idle.milliwatts(),
                stated_mw(&inner.settings.borrow().money),
            )?,
        })
    }

    /// Shows what counts, where that changed.
    fn show(&self, inner: &Inner) {
        let view = self.view(stated_mw(&inner.settings.borrow().money));
        inner
            .energy
            .view
            .send_if_modified(|now| std::mem::replace(now, view.clone()) != view);
    }

    fn view(&self, stated_mw: Option<u64>) -> MeterView {
        let computes = self.shares.compute() || self.own > 0;
        let (kind, now_mw) = match (self.meters.counts(), stated_mw) {
            (true, _) => (MeterKind::Metered, self.power.milliwatts()),
            (false, Some(power_mw)) => {
                let now_mw = if computes { power_mw } else { 0 };
                (MeterKind::Stated, Some(now_mw))
            }
            (false, None) => (MeterKind::None, None),
        };
        let (detail, fix) = self.told();
        MeterView {
            kind,
            detail,
            fix: fix.map(str::to_owned),
            idle_mw: self.idle.milliwatts(),
            now_mw,
        }
    }

    fn told(&self) -> (String, Option<&'static str>) {
        let packages = &self.meters.packages;
        match (&self.meters.computes, packages) {
            (Computes::Processor, Packages::Read(_)) => {
                ("The processor's own meter counts (RAPL).".to_owned(), None)
            }
            (Computes::Processor, Packages::Locked) => (
                "The processor has a meter (RAPL), and only root may read it.".to_owned(),
                Some(UNLOCK),
            ),
            (Computes::Processor, Packages::Absent(why)) => {
                (format!("There is no meter: {why}."), None)
            }
            (Computes::Card(name), packages) => match self.meters.card_problem() {
                Some(why) => (format!("{name} is not counted: {why}."), None),
                None if !self.meters.counts() => (
                    format!("{name} is asked for its meter (NVML) while this computer lends."),
                    None,
                ),
                None => match packages {
                    Packages::Read(_) => (
                        format!("The meters of {name} (NVML) and of the processor (RAPL) count."),
                        None,
                    ),
                    Packages::Locked => (
                        format!(
                            "The meter of {name} counts (NVML); that of the processor beside it only root may read."
                        ),
                        Some(UNLOCK),
                    ),
                    Packages::Absent(_) => (
                        format!(
                            "The meter of {name} counts (NVML); the processor beside it has none."
                        ),
                        None,
                    ),
                },
            },
        }
    }
}

/// Linux locks the meter because of what can be guessed from it (CVE-2020-8694).
const UNLOCK: &str = "Let it be read until the next start: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj. Every program here \
can read it then, and from it guess at what others compute.";

/// The person's figure, in milliwatts.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the settings take no figure that does not fit"
)]
fn stated_mw(settings: &MoneySettings) -> Option<u64> {
    Some((settings.watts? * MW_PER_W) as u64)
}

async fn book(inner: &Inner, energy: JobEnergy) {
    if let Err(error) = inner.ledger.energy_counted(energy).await {
        tracing::warn!(%error, "what a job took was not booked, and counts as not measured");
    }
}
