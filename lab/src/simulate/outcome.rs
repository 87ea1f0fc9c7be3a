//! What a scenario came to, as figures; and what several runs of one size say together.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use super::{ENOUGH, scenario::Scenario};
use crate::figures::quantile;

/// Searches of one node in an hour, for the cost of a node: a chat in a quarter of an hour.
pub const SEARCHES_PER_HOUR: f64 = 4.0;
/// A provider says where it stands every twenty minutes.
const PUBLICATIONS_PER_HOUR: f64 = 3.0;
/// How far model and nodes may be apart.
const AGREES: f64 = 0.2;

/// What one client found.
#[derive(Debug, Clone)]
pub struct Found {
    /// From the beginning to each offer.
    pub offers: Vec<Duration>,
    /// Whose they are.
    pub providers: HashSet<usize>,
}

/// One run of a scenario, by the model or by real nodes. The counts are of each machine: requests of the table that it got.
#[derive(Debug, Clone)]
pub struct Run {
    /// Of each client that wanted a few offers.
    pub found: Vec<Found>,
    /// Of each that wanted all.
    pub all: Vec<Found>,
    /// While providers published.
    pub publishing: Vec<u64>,
    /// While clients searched for a few.
    pub searching: Vec<u64>,
    /// While clients searched for all.
    pub searching_all: Vec<u64>,
}

/// A run in figures.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    first_p95_s: f64,
    enough_p95_s: f64,
    without: f64,
    share_of_one: f64,
    share_of_all: f64,
    hottest: f64,
    per_search: f64,
    per_publication: f64,
    per_node_hour: f64,
}

/// One figure of an outcome.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// Of what.
    pub unit: &'static str,
    /// For the large network.
    pub goal: Option<&'static str>,
    of: fn(&Outcome) -> f64,
}

const fn figure(name: &'static str, unit: &'static str, of: fn(&Outcome) -> f64) -> Figure {
    Figure {
        name,
        unit,
        goal: None,
        of,
    }
}

/// All figures, in the order of the table.
pub const FIGURES: [Figure; 9] = [
    Figure {
        goal: Some("<= 1.5"),
        ..figure("first_offers_p95", "s", |of| of.first_p95_s)
    },
    figure("enough_offers_p95", "s", |of| of.enough_p95_s),
    figure("searches_without_offers", "part", |of| of.without),
    figure("providers_found_by_one", "part", |of| of.share_of_one),
    figure("providers_ever_found", "part", |of| of.share_of_all),
    figure("load_hottest_over_mean", "x", |of| of.hottest),
    figure("requests_per_search", "req", |of| of.per_search),
    figure("requests_per_publication", "req", |of| of.per_publication),
    figure("requests_per_node_hour", "req/h", |of| of.per_node_hour),
];

impl Outcome {
    /// Of a run of this scenario.
    #[must_use]
    pub fn of(scenario: &Scenario, run: &Run) -> Self {
        let nth = |nth: usize| -> Vec<f64> {
            run.found
                .iter()
                .filter_map(|found| found.offers.get(nth))
                .map(Duration::as_secs_f64)
                .collect()
        };
        let (first, enough) = (nth(0), nth(ENOUGH - 1));
        let providers = scenario.providers.len().max(1) as f64;
        let searches = run.found.len().max(1) as f64;
        let sum = |asked: &[u64]| asked.iter().sum::<u64>() as f64;
        let of_one: usize = run.all.iter().map(|found| found.providers.len()).sum();
        let ever: BTreeSet<usize> = run
            .found
            .iter()
            .chain(&run.all)
            .flat_map(|found| found.providers.iter().copied())
            .collect();
        let alive = scenario
            .machines
            .iter()
            .filter(|machine| machine.alive && !machine.asks)
            .count()
            .max(1) as f64;
        // Over every search: one for a few asks so few that whoever is asked twice is the hottest.
        let asked: Vec<u64> = run
            .searching
            .iter()
            .zip(&run.searching_all)
            .map(|(few, all)| few + all)
            .collect();
        let (most, mean) = (
            asked.iter().max().copied().unwrap_or(0),
            sum(&asked) / alive,
        );
        let per_search = sum(&run.searching) / searches;
        let per_publication = sum(&run.publishing) / providers;
        Self {
            first_p95_s: quantile(&first, 0.95).unwrap_or(f64::NAN),
            enough_p95_s: quantile(&enough, 0.95).unwrap_or(f64::NAN),
            without: 1.0 - first.len() as f64 / searches,
            share_of_one: of_one as f64 / run.all.len().max(1) as f64 / providers,
            share_of_all: ever.len() as f64 / providers,
            hottest: most as f64 / mean.max(f64::MIN_POSITIVE),
            per_search,
            per_publication,
            per_node_hour: SEARCHES_PER_HOUR * per_search
                + PUBLICATIONS_PER_HOUR * per_publication * providers / alive,
        }
    }
}

/// Runs of one size, each with a seed of its own.
#[derive(Debug, Clone, Default)]
pub struct Runs(pub Vec<Outcome>);

impl Runs {
    /// The mean of a figure over the runs.
    #[must_use]
    pub fn mean(&self, figure: &Figure) -> f64 {
        self.0.iter().map(figure.of).sum::<f64>() / self.0.len() as f64
    }

    /// How far the runs lie apart: their standard deviation. `None` of one run alone.
    #[must_use]
    pub fn spread(&self, figure: &Figure) -> Option<f64> {
        let others = self.0.len().checked_sub(1).filter(|others| *others > 0)?;
        let mean = self.mean(figure);
        let squares: f64 = self
            .0
            .iter()
            .map(|of| ((figure.of)(of) - mean).powi(2))
            .sum();
        Some((squares / others as f64).sqrt())
    }
}

/// Whether two figures are near enough to each other.
#[must_use]
pub fn agrees(one: f64, other: f64) -> bool {
    // Two of nothing agree.
    (one - other).abs() <= AGREES * other.abs() || one.max(other) < 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_is_the_limit() {
        assert!(agrees(1.19, 1.0) && agrees(0.81, 1.0) && agrees(0.0, 0.0));
        assert!(!agrees(1.21, 1.0) && !agrees(0.79, 1.0) && !agrees(f64::NAN, 1.0));
    }

    #[test]
    fn runs_have_a_mean_and_a_spread() {
        let with = |hottest| Outcome {
            first_p95_s: 0.5,
            enough_p95_s: 0.5,
            without: 0.0,
            share_of_one: 1.0,
            share_of_all: 1.0,
            hottest,
            per_search: 9.0,
            per_publication: 100.0,
            per_node_hour: 50.0,
        };
        let hottest = FIGURES.iter().find(|figure| figure.unit == "x").unwrap();
        let runs = Runs(vec![with(6.0), with(8.0), with(10.0)]);
        assert_eq!((runs.mean(hottest), runs.spread(hottest)), (8.0, Some(2.0)));
        assert_eq!(Runs(vec![with(6.0)]).spread(hottest), None);
        assert_eq!(runs.spread(&FIGURES[0]), Some(0.0));
    }
}
