//! A network of 10,000 in virtual time, on the product's own decisions: which keys, which records are kept and named, in which steps a
//! search goes on, which peer gets a job. What is modelled is the walk through libp2p's table ([`walk`]) and what passes between two
//! nodes ([`world`]).
//!
//! A model is believed as far as it was held against the thing: the same scenario, smaller, runs with real nodes ([`real`]), and each figure of
//! the model stands beside theirs. Where the two are further apart than a fifth, the figure for 10,000 is no better than a guess, and
//! the table says so.

pub mod market;
pub mod real;
pub mod scenario;
pub mod walk;
pub mod world;

use std::{
    collections::{BTreeSet, HashSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use self::{
    scenario::{Scenario, Size},
    world::World,
};
use crate::{
    error::LabError,
    figures::{Figures, Row, quantile},
};

/// Offers that a search wants: as many as the product compares.
const ENOUGH: usize = node::route::SHORTLIST;
/// From one provider that says where it stands to the next.
const PUBLISH_EVERY: Duration = Duration::from_secs(15);
/// From one client that begins to look to the next.
const SEARCH_EVERY: Duration = Duration::from_secs(2);
/// How far model and nodes may be apart.
const AGREES: f64 = 0.2;
/// As many as real nodes are run: with a quarter gone, 510 are there, clients not counted.
const SMALL: Size = Size {
    nodes: 680,
    stale: 0.25,
    providers: 24,
    clients: 50,
    sybils: 0.0,
    seed: 7,
};
/// A few dozen, for a machine that has other things to do.
const SHORT: Size = Size {
    nodes: 48,
    providers: 10,
    clients: 10,
    ..SMALL
};
/// The network that is meant.
const LARGE: Size = Size {
    nodes: 10_000,
    providers: 400,
    clients: 250,
    ..SMALL
};
/// Attackers around the model's keys, as a share of all.
const SYBILS: f64 = 0.2;
/// Searches of one node in an hour, for the cost of a node: a chat in a quarter of an hour.
const SEARCHES_PER_HOUR: f64 = 4.0;
/// A provider says where it stands every twenty minutes.
const PUBLICATIONS_PER_HOUR: f64 = 3.0;

/// What one client found.
#[derive(Debug, Clone)]
pub struct Found {
    /// From the beginning to each offer.
    pub offers: Vec<Duration>,
    /// Whose they are.
    pub providers: HashSet<usize>,
}

/// What a scenario came to.
#[derive(Debug, Clone, Copy)]
struct Outcome {
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

/// One figure of an outcome: its name, its unit, its goal for the large network, and where it stands.
type Figure = (
    &'static str,
    &'static str,
    Option<&'static str>,
    fn(&Outcome) -> f64,
);

const FIGURES: [Figure; 9] = [
    ("first_offers_p95", "s", Some("<= 1.5"), |of| of.first_p95_s),
    ("enough_offers_p95", "s", None, |of| of.enough_p95_s),
    ("searches_without_offers", "part", None, |of| of.without),
    ("providers_found_by_one", "part", None, |of| of.share_of_one),
    ("providers_ever_found", "part", None, |of| of.share_of_all),
    ("load_hottest_over_mean", "x", None, |of| of.hottest),
    ("requests_per_search", "req", None, |of| of.per_search),
    ("requests_per_publication", "req", None, |of| {
        of.per_publication
    }),
    ("requests_per_node_hour", "req/h", None, |of| {
        of.per_node_hour
    }),
];

/// Runs both sizes, without and with attackers, and the sharing of jobs. `short`: a few dozen nodes and nothing else.
///
/// # Errors
/// [`LabError`] when the real nodes cannot be run.
pub fn run(short: bool) -> Result<Figures, LabError> {
    let mut figures = Figures::default();
    let kinds = if short {
        &[("", 0.0)][..]
    } else {
        &[("", 0.0), (".sybils", SYBILS)]
    };
    if !short {
        market::run(&mut figures);
    }
    for (suffix, sybils) in kinds {
        compare(&mut figures, suffix, *sybils, short)?;
    }
    Ok(figures)
}

fn compare(figures: &mut Figures, suffix: &str, sybils: f64, short: bool) -> Result<(), LabError> {
    let size = if short { SHORT } else { SMALL };
    let large = if short {
        None
    } else {
        let large = Scenario::new(Size { sybils, ..LARGE }, unix_ms())?;
        eprintln!("{} simulated nodes{suffix}", large.machines.len());
        Some(simulate(&large))
    };
    if let Some(large) = &large {
        eprintln!("{large:?}");
    }
    let small = Scenario::new(Size { sybils, ..size }, unix_ms())?;
    let model = simulate(&small);
    eprintln!("{model:?}");
    let there = small.machines.iter().filter(|one| one.alive).count();
    eprintln!("{there} real nodes{suffix}");
    let (few, greedy) = small.clients.split_at(small.clients.len() - small.greedy());
    let real = real::run(&small, (few, ENOUGH), greedy)?;
    let real = outcome(
        &small,
        &real.found,
        &real.all,
        &real.publishing,
        &real.searching,
    );
    eprintln!("{real:?}");
    for (name, unit, goal, of) in FIGURES {
        let (of_model, of_real) = (of(&model), of(&real));
        let agree = agrees(of_model, of_real);
        let name_of = |nodes: usize| format!("{name}{suffix}.{nodes}");
        let beside = if agree {
            "real nodes"
        } else {
            "real nodes, disagree"
        };
        figures.push(Row::new(name_of(size.nodes), unit, of_model).against(beside, of_real));
        if let Some(large) = &large {
            let row = Row::new(name_of(LARGE.nodes), unit, of(large));
            figures.push(match goal.filter(|_| sybils == 0.0) {
                Some(goal) => row.goal(goal),
                None => row,
            });
        }
        if !agree {
            let believed = if short { size } else { LARGE };
            figures.skip(format!(
                "{} (the model says {of_model:.3} for {} nodes, the real ones {of_real:.3}: not believed)",
                name_of(believed.nodes),
                size.nodes
            ));
        }
    }
    Ok(())
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn agrees(one: f64, other: f64) -> bool {
    // Two of nothing agree.
    (one - other).abs() <= AGREES * other.abs() || one.max(other) < 1e-9
}

fn simulate(scenario: &Scenario) -> Outcome {
    let mut world = World::new(scenario);
    world.publish();
    let publishing = std::mem::replace(&mut world.asked, vec![0; scenario.machines.len()]);
    let (few, greedy) = scenario
        .clients
        .split_at(scenario.clients.len() - scenario.greedy());
    let found = world.search(few, ENOUGH);
    let searching = world.asked.clone();
    let all = world.search(greedy, usize::MAX);
    outcome(scenario, &found, &all, &publishing, &searching)
}

fn outcome(
    scenario: &Scenario,
    found: &[Found],
    all: &[Found],
    publishing: &[u64],
    searching: &[u64],
) -> Outcome {
    let nth = |nth: usize| -> Vec<f64> {
        found
            .iter()
            .filter_map(|found| found.offers.get(nth))
            .map(Duration::as_secs_f64)
            .collect()
    };
    let (first, enough) = (nth(0), nth(ENOUGH - 1));
    let providers = scenario.providers.len().max(1) as f64;
    let searches = found.len().max(1) as f64;
    let sum = |asked: &[u64]| asked.iter().sum::<u64>() as f64;
    let of_one: usize = all.iter().map(|found| found.providers.len()).sum();
    let ever: BTreeSet<usize> = found
        .iter()
        .chain(all)
        .flat_map(|found| found.providers.iter().copied())
        .collect();
    let alive = scenario
        .machines
        .iter()
        .filter(|machine| machine.alive && !machine.asks)
        .count()
        .max(1) as f64;
    let per_search = sum(searching) / searches;
    let per_publication = sum(publishing) / providers;
    let mean = sum(searching) / alive;
    Outcome {
        first_p95_s: quantile(&first, 0.95).unwrap_or(f64::NAN),
        enough_p95_s: quantile(&enough, 0.95).unwrap_or(f64::NAN),
        without: 1.0 - first.len() as f64 / searches,
        share_of_one: of_one as f64 / all.len().max(1) as f64 / providers,
        share_of_all: ever.len() as f64 / providers,
        hottest: searching.iter().max().copied().unwrap_or(0) as f64 / mean.max(f64::MIN_POSITIVE),
        per_search,
        per_publication,
        per_node_hour: SEARCHES_PER_HOUR * per_search
            + PUBLICATIONS_PER_HOUR * per_publication * providers / alive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_scenario_gives_real_nodes_and_model_the_same_answers() {
        let size = Size {
            nodes: 40,
            stale: 0.0,
            providers: 10,
            clients: 4,
            sybils: 0.0,
            seed: 3,
        };
        let scenario = Scenario::new(size, unix_ms()).unwrap();
        let (few, all) = scenario.clients.split_at(2);
        let real = real::run(&scenario, (few, 2), all).unwrap();
        let mut world = World::new(&scenario);
        world.publish();
        let found = world.search(few, 2);
        let everything = world.search(all, usize::MAX);
        for found in real.found.iter().chain(&found) {
            assert_eq!(found.offers.len(), 2, "{found:?}");
        }
        // With everybody there, a walk under every key finds everybody, whoever walks.
        for found in real.all.iter().chain(&everything) {
            assert_eq!(found.providers.len(), 10, "{found:?}");
        }
    }

    #[test]
    fn a_fifth_is_the_limit() {
        assert!(agrees(1.19, 1.0) && agrees(0.81, 1.0) && agrees(0.0, 0.0));
        assert!(!agrees(1.21, 1.0) && !agrees(0.79, 1.0) && !agrees(f64::NAN, 1.0));
    }
}
