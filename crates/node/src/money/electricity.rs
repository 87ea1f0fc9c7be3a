//! What energy cost the person and what is left of earnings after it, by their own figures alone: what a kilowatt-hour costs them, and what
//! a token is worth to them. With one of them missing, what would need it is not said.

use ledger::{Earnings, EnergySum};

use super::{rules::after_fee, settings::MoneySettings};

const MJ_PER_KWH: f64 = 3.6e9;
/// Base units of a token.
const UNITS: f64 = 1e18;

/// The person's figures, and what the network's fee takes of claims.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    /// Of a kilowatt-hour.
    tariff: Option<f64>,
    /// Of a token.
    worth: Option<f64>,
    fee_bps: u16,
}

impl Figures {
    pub(super) fn of(settings: &MoneySettings, fee_bps: u16) -> Self {
        Self {
            tariff: settings.tariff,
            worth: settings.worth,
            fee_bps,
        }
    }

    /// What the energy of so many jobs cost, in the person's money; `None` where the energy of any of them is not known.
    pub(super) fn cost(&self, jobs: u64, energy: &EnergySum) -> Option<f64> {
        let known = energy.known() >= jobs;
        Some(kilowatt_hours(energy.taken_mj) * self.tariff.filter(|_| known)?)
    }

    /// What is left of earnings after the network's fee and this cost, in the person's money. What can never be collected is none.
    pub(super) fn net(&self, earned: &Earnings, cost: Option<f64>) -> Option<f64> {
        let collectable = earned.vouchered().saturating_sub(earned.lost);
        let left = after_fee(collectable, self.fee_bps);
        Some(tokens(left) * self.worth? - cost?)
    }
}

/// A figure to read, and to reckon with other figures of the person's: no float is ever booked.
#[allow(
    clippy::cast_precision_loss,
    reason = "more digits than a person's own figures have"
)]
fn tokens(units: u128) -> f64 {
    units as f64 / UNITS
}

#[allow(
    clippy::cast_precision_loss,
    reason = "more digits than a person's own figures have"
)]
pub(super) fn kilowatt_hours(millijoules: u64) -> f64 {
    millijoules as f64 / MJ_PER_KWH
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: u128 = 1_000_000_000_000_000_000;

    fn figures(tariff: Option<f64>, worth: Option<f64>, fee_bps: u16) -> Figures {
        let settings = MoneySettings {
            tariff,
            worth,
            ..MoneySettings::default()
        };
        Figures::of(&settings, fee_bps)
    }

    /// 1.5 kWh for two jobs.
    const ENERGY: EnergySum = EnergySum {
        metered: 1,
        stated: 1,
        taken_mj: 5_400_000_000,
    };

    fn earned(paid_out: u128, lost: u128) -> Earnings {
        Earnings {
            paid_out,
            lost,
            ..Earnings::default()
        }
    }

    fn near(figure: Option<f64>, wanted: f64) {
        let figure = figure.unwrap();
        assert!((figure - wanted).abs() < 1e-9, "{figure} for {wanted}");
    }

    #[test]
    fn net_comes_from_the_persons_own_two_figures() {
        let own = figures(Some(0.31), Some(0.35), 0);
        let cost = own.cost(2, &ENERGY);
        near(cost, 0.465);
        near(own.net(&earned(2 * TOKEN, 0), cost), 0.235);
        // Lending may cost more than it brings, and says so.
        let dear = figures(Some(1.0), Some(0.35), 0);
        near(dear.net(&earned(2 * TOKEN, 0), dear.cost(2, &ENERGY)), -0.8);
        // What the fee takes, and what is never collected, is not the person's.
        let fee = figures(Some(0.31), Some(0.35), 1_000);
        near(fee.net(&earned(2 * TOKEN, 0), cost), 0.165);
        near(own.net(&earned(2 * TOKEN, 5 * TOKEN), cost), 0.235);
    }

    #[test]
    fn nothing_is_said_without_a_figure_or_a_measurement() {
        let own = figures(Some(0.31), Some(0.35), 0);
        // A third job was not measured.
        assert_eq!(own.cost(3, &ENERGY), None);
        assert_eq!(own.net(&earned(TOKEN, 0), None), None);
        assert_eq!(figures(None, Some(1.0), 0).cost(2, &ENERGY), None);
        let no_worth = figures(Some(0.31), None, 0);
        near(no_worth.cost(2, &ENERGY), 0.465);
        assert_eq!(no_worth.net(&earned(TOKEN, 0), Some(0.1)), None);
        // No job took nothing.
        near(own.cost(0, &EnergySum::default()), 0.0);
    }
}
