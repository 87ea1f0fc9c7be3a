//! A network of 10,000 in virtual time, on the product's own decisions: which keys, which records are kept and named, in which steps a
//! search goes on, which peer gets a job. What is modelled is the walk through libp2p's table ([`walk`]) and what passes between two
//! nodes ([`world`]).
//!
//! A model is believed as far as it was held against the thing: the same scenarios, smaller, run with real nodes ([`real`]), and each figure
//! of the model stands beside theirs, both with how far they lie apart from seed to seed. Where the two differ by more than a fifth, the
//! figure for 10,000 is no better than a guess, and the table says so.

pub mod market;
pub mod outcome;
pub mod real;
pub mod scenario;
pub mod walk;
pub mod world;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use network::lab::SAID_AGAIN;

use self::{
    outcome::{FIGURES, Figure, Outcome, Run, Runs, agrees},
    scenario::{Scenario, Size},
    world::World,
};
use crate::{
    error::LabError,
    figures::{Figures, Row},
};

/// Offers that a search wants: as many as the product compares.
const ENOUGH: usize = node::route::SHORTLIST;
/// From one provider that says where it stands to the next.
const PUBLISH_EVERY: Duration = Duration::from_secs(15);
/// From one client that begins to look to the next.
const SEARCH_EVERY: Duration = Duration::from_secs(2);
/// As many as real nodes are run: with a quarter gone, 510 are there, clients not counted.
const SMALL: Size = Size {
    nodes: 680,
    stale: 0.25,
    providers: 24,
    clients: 60,
    sybils: 0.0,
    seed: 7,
};
/// A few dozen, for a machine that has other things to do.
const SHORT: Size = Size {
    nodes: 48,
    providers: 10,
    clients: 20,
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
/// How often each size is run, with another seed each time.
const SEEDS: u64 = 2;
/// The same for the large network, of which one run is many searches.
const SEEDS_LARGE: u64 = 2;

/// Runs both sizes, without and with attackers, and the sharing of jobs. `short`: a few dozen nodes and nothing else.
///
/// # Errors
/// [`LabError`] when the real nodes cannot be run.
pub fn run(short: bool) -> Result<Figures, LabError> {
    let mut figures = Figures::default();
    if short {
        compare(&mut figures, "", SHORT, None)?;
        return Ok(figures);
    }
    market::run(&mut figures);
    for (suffix, sybils) in [("", 0.0), (".sybils", SYBILS)] {
        let (small, large) = (Size { sybils, ..SMALL }, Size { sybils, ..LARGE });
        compare(&mut figures, suffix, small, Some(large))?;
    }
    Ok(figures)
}

/// Runs the small size by the model and with real nodes, and the large one by the model; each figure gets a row.
fn compare(
    figures: &mut Figures,
    suffix: &str,
    small: Size,
    large: Option<Size>,
) -> Result<(), LabError> {
    let (mut model, mut real, mut of_large) = (Runs::default(), Runs::default(), Runs::default());
    for size in large.iter().flat_map(|large| seeds(*large, SEEDS_LARGE)) {
        let scenario = Scenario::new(size, unix_ms())?;
        let run = simulate(&scenario);
        of_large.push(
            &format!("{} by the model{suffix}", size.nodes),
            &scenario,
            &run,
        );
    }
    for size in seeds(small, SEEDS) {
        let scenario = Scenario::new(size, unix_ms())?;
        let run = simulate(&scenario);
        model.push(
            &format!("{} by the model{suffix}", size.nodes),
            &scenario,
            &run,
        );
        let begun = std::time::Instant::now();
        let run = real::run(&scenario, ENOUGH)?;
        real.push(
            &format!("{} real ones{suffix}", size.nodes),
            &scenario,
            &run,
        );
        if begun.elapsed() > SAID_AGAIN {
            figures.skip(format!(
                "real nodes{suffix} (this machine took {} min for them, and by then records are said again: no yardstick)",
                begun.elapsed().as_secs() / 60
            ));
        }
    }
    let mut believed = 0;
    for figure in &FIGURES {
        let (of_model, of_real) = (model.mean(figure), real.mean(figure));
        let agree = agrees(of_model, of_real);
        let name = |nodes: usize| format!("{}{suffix}.{nodes}", figure.name);
        let beside = format!(
            "real nodes{}{}",
            if agree { "" } else { ", disagree" },
            apart(&model, &real, figure)
        );
        figures.push(Row::new(name(small.nodes), figure.unit, of_model).against(&beside, of_real));
        if let Some(large) = large {
            let row = Row::new(name(large.nodes), figure.unit, of_large.mean(figure));
            figures.push(match figure.goal.filter(|_| large.sybils == 0.0) {
                Some(goal) => row.goal(goal),
                None => row,
            });
        }
        if agree {
            believed += 1;
        } else {
            figures.skip(format!(
                "{} (the model says {of_model:.3} for {} nodes, the real ones {of_real:.3}: not believed)",
                name(large.unwrap_or(small).nodes),
                small.nodes
            ));
        }
    }
    let share = f64::from(believed) / FIGURES.len() as f64;
    let name = format!("figures_believed{suffix}.{}", small.nodes);
    figures.push(Row::new(name, "part", share).goal(">= 1"));
    Ok(())
}

/// This size with as many seeds.
fn seeds(size: Size, count: u64) -> impl Iterator<Item = Size> {
    (0..count).map(move |more| Size {
        seed: size.seed + more,
        ..size
    })
}

/// How far runs lie apart from seed to seed, in words for the table.
fn apart(model: &Runs, real: &Runs, figure: &Figure) -> String {
    match (model.spread(figure), real.spread(figure)) {
        (Some(of_model), Some(of_real)) => format!(" (+-{of_real:.2}, model +-{of_model:.2})"),
        (None, _) | (_, None) => String::new(),
    }
}

impl Runs {
    /// One more run; says what it came to, since the whole takes long.
    fn push(&mut self, what: &str, scenario: &Scenario, run: &Run) {
        let outcome = Outcome::of(scenario, run);
        eprintln!("{what}, seed {}: {outcome:?}", scenario.size.seed);
        self.0.push(outcome);
    }
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn simulate(scenario: &Scenario) -> Run {
    let mut world = World::new(scenario);
    let (few, greedy) = scenario.askers();
    world.publish();
    let publishing = world.take_asked();
    let found = world.search(few, ENOUGH);
    let searching = world.take_asked();
    let all = world.search(greedy, usize::MAX);
    Run {
        found,
        all,
        publishing,
        searching,
        searching_all: world.take_asked(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_scenario_gives_real_nodes_and_model_the_same_answers() {
        let size = Size {
            nodes: 40,
            stale: 0.0,
            providers: 10,
            clients: 5,
            sybils: 0.0,
            seed: 3,
        };
        let scenario = Scenario::new(size, unix_ms()).unwrap();
        for run in [real::run(&scenario, ENOUGH).unwrap(), simulate(&scenario)] {
            assert_eq!((run.found.len(), run.all.len()), (4, 1));
            for found in &run.found {
                assert_eq!(found.offers.len(), ENOUGH, "{found:?}");
            }
            // With everybody there, a walk under every key finds everybody, whoever walks.
            for found in &run.all {
                assert_eq!(found.providers.len(), 10, "{found:?}");
            }
        }
    }

    #[test]
    fn who_publishes_among_many_that_are_gone_is_found_all_the_same() {
        let size = Size {
            nodes: 160,
            stale: 0.7,
            providers: 10,
            clients: 5,
            sybils: 0.0,
            seed: 3,
        };
        let scenario = Scenario::new(size, unix_ms()).unwrap();
        for run in [real::run(&scenario, ENOUGH).unwrap(), simulate(&scenario)] {
            let found: HashSet<_> = run.all.iter().flat_map(|found| &found.providers).collect();
            assert_eq!(found.len(), 10);
        }
    }
}
