//! What counts energy here, and what answers took of it.

use node::{energy, money};
use serde::Serialize;
use specta::Type;

use super::{maybe, number};

/// How the energy of jobs becomes known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MeterKind {
    None,
    Metered,
    Stated,
}

/// What counts energy here, or why nothing does.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meter {
    pub kind: MeterKind,
    /// The meter that counts, or why none does.
    pub detail: String,
    /// What would make a meter readable.
    pub fix: Option<String>,
    /// What is drawn while nothing is computed; null before it was measured.
    pub idle_mw: Option<f64>,
    /// What is drawn now: all that the meters count, or by the person's figure what answering takes more than idle. Null: not measured.
    pub now_mw: Option<f64>,
}

impl From<energy::MeterView> for Meter {
    fn from(meter: energy::MeterView) -> Self {
        Self {
            kind: match meter.kind {
                energy::MeterKind::None => MeterKind::None,
                energy::MeterKind::Metered => MeterKind::Metered,
                energy::MeterKind::Stated => MeterKind::Stated,
            },
            detail: meter.detail,
            fix: meter.fix,
            idle_mw: maybe(meter.idle_mw),
            now_mw: maybe(meter.now_mw),
        }
    }
}

/// What answering took in a stretch of time.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnergyUsed {
    /// Answers that were paid.
    pub paid: EnergyPart,
    /// Answers for nothing.
    pub free: EnergyPart,
}

/// A part of it.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnergyPart {
    /// Answers that meters counted.
    pub metered: f64,
    /// Answers that the person's own figure stands for.
    pub stated: f64,
    /// What these took; null where there is none.
    pub kwh: Option<f64>,
    /// In the person's own money; null where it cannot be said.
    pub cost: Option<f64>,
}

impl From<money::EnergyView> for EnergyUsed {
    fn from(used: money::EnergyView) -> Self {
        Self {
            paid: used.paid.into(),
            free: used.free.into(),
        }
    }
}

impl From<money::EnergyPart> for EnergyPart {
    fn from(part: money::EnergyPart) -> Self {
        Self {
            metered: number(part.metered),
            stated: number(part.stated),
            kwh: part.kwh,
            cost: part.cost,
        }
    }
}
