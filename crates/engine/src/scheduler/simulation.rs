//! The scheduler over virtual time: a made-up device computes what is planned, and the promises are counted up.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{Candidate, Plan, STEP_ROWS, STEP_TOKENS, Scheduler};
use crate::{Class, Sharing};

/// What the device truly takes, in seconds.
#[derive(Debug, Clone, Copy)]
struct Device {
    step: f64,
    row: f64,
    token: f64,
    /// How long a step goes on after the owner asked for the device.
    block: f64,
    /// How much longer the first step after a pause takes: threads sleep, and caches are cold.
    wake: f64,
}

/// A pause that threads fall asleep in, in seconds.
const PAUSE: f64 = 0.001;

/// A processor with a small model.
const SMALL: Device = Device {
    step: 0.003,
    row: 0.001,
    token: 0.0004,
    block: 0.002,
    wake: 0.004,
};

/// A processor with a model that its memory is slow for.
const LARGE: Device = Device {
    step: 0.25,
    row: 0.02,
    token: 0.02,
    block: 0.1,
    wake: 0.01,
};

/// A graphics card: one more row costs next to nothing.
const CARD: Device = Device {
    step: 0.01,
    row: 0.000_01,
    token: 0.000_05,
    block: 0.000_3,
    wake: 0.001,
};

#[derive(Debug, Clone)]
struct Job {
    at: f64,
    class: Class,
    asker: u64,
    weight: u16,
    model: u64,
    prompt: u32,
    output: u32,
    // How it went.
    read: u32,
    produced: u32,
    last_step: u64,
    first: Option<f64>,
    end: Option<f64>,
    device: f64,
}

fn job(at: f64, class: Class, asker: u64, prompt: u32, output: u32) -> Job {
    Job {
        at,
        class,
        asker,
        weight: 1,
        model: 0,
        prompt,
        output,
        read: 0,
        produced: 0,
        last_step: 0,
        first: None,
        end: None,
        device: 0.0,
    }
}

impl Job {
    fn candidate(&self, call: u64) -> Candidate {
        Candidate {
            call,
            class: self.class,
            asker: self.asker,
            weight: self.weight,
            model: self.model,
            left: self.prompt + self.produced - self.read,
            most: STEP_TOKENS,
            runnable: true,
            last_step: self.last_step,
        }
    }

    /// Seconds per token after the first.
    fn beat(&self) -> f64 {
        (self.end.unwrap() - self.first.unwrap()) / f64::from(self.output - 1)
    }

    fn first_after(&self) -> f64 {
        self.first.unwrap() - self.at
    }
}

/// Runs until `until`, or until nothing more can happen. Checks each step.
fn run(device: Device, sharing: Sharing, mut jobs: Vec<Job>, until: f64) -> (Vec<Job>, f64) {
    let seconds = Duration::from_secs_f64;
    let (mut now, mut number, mut network) = (0.0, 0, 0.0);
    let mut last_end = 0.0;
    let mut scheduler = Scheduler::new(sharing, Duration::ZERO);
    while now < until {
        let open: Vec<usize> = (0..jobs.len())
            .filter(|&at| jobs[at].at <= now && jobs[at].end.is_none())
            .collect();
        let candidates: Vec<Candidate> = open
            .iter()
            .map(|&at| jobs[at].candidate(at as u64))
            .collect();
        let arrival = |own: bool| {
            let later = jobs
                .iter()
                .filter(|job| job.at > now && (!own || job.class == Class::Own));
            later.map(|job| job.at).fold(f64::INFINITY, f64::min)
        };
        let plan = scheduler.plan(&candidates, seconds(now));
        check(&candidates, &plan);
        let chosen = match &plan {
            Plan::Step { chosen, .. } => chosen.clone(),
            Plan::Wait(wait) => {
                assert!(*wait > Duration::ZERO);
                now = (now + wait.as_secs_f64()).min(arrival(false));
                continue;
            }
            Plan::Nothing => {
                if !arrival(false).is_finite() {
                    break;
                }
                now = arrival(false);
                continue;
            }
        };
        let (mut rows, mut prefill) = (0.0, 0.0);
        for chosen in &chosen {
            let left = candidates
                .iter()
                .find(|candidate| candidate.call == chosen.call)
                .unwrap()
                .left;
            if left == 1 {
                rows += 1.0
            } else {
                prefill += f64::from(chosen.tokens)
            }
        }
        let fixed = if rows > 0.0 { device.step } else { 0.0 };
        let wake = match now - last_end > PAUSE {
            true => device.wake,
            false => 0.0,
        };
        let took = wake + fixed + device.row * rows + device.token * prefill;
        let own = chosen
            .iter()
            .any(|chosen| jobs[chosen.call as usize].class == Class::Own);
        if !own && arrival(true) < now + took - device.block {
            let took = arrival(true) + device.block - now;
            now += took;
            network += took;
            scheduler.gave_up(seconds(took), seconds(now));
            last_end = now;
            continue;
        }
        number += 1;
        now += took;
        last_end = now;
        if !own {
            network += took;
        }
        scheduler.done(&candidates, &plan, seconds(took), seconds(now));
        for chosen in chosen {
            let job = &mut jobs[chosen.call as usize];
            job.last_step = number;
            job.read += chosen.tokens;
            job.device += took / (rows + prefill) * f64::from(chosen.tokens);
            if job.read == job.prompt + job.produced {
                job.produced += 1;
                job.first.get_or_insert(now);
                if job.produced == job.output {
                    job.end = Some(now);
                }
            }
        }
    }
    (jobs, network / now)
}

/// What holds for every step, whatever came before.
fn check(candidates: &[Candidate], plan: &Plan) {
    let Plan::Step { model, chosen } = plan else {
        return;
    };
    assert!(!chosen.is_empty());
    let of = |call: u64| {
        candidates
            .iter()
            .find(|candidate| candidate.call == call)
            .unwrap()
    };
    let mut calls: Vec<u64> = chosen.iter().map(|chosen| chosen.call).collect();
    calls.sort_unstable();
    calls.dedup();
    assert_eq!(calls.len(), chosen.len(), "nobody is in it twice");
    let last = chosen
        .iter()
        .map(|chosen| of(chosen.call).class)
        .max()
        .unwrap();
    for candidate in candidates.iter().filter(|candidate| candidate.runnable) {
        let inside = calls.contains(&candidate.call);
        assert!(
            inside || candidate.class >= last,
            "an earlier class is left out for a later one"
        );
    }
    let tokens: u32 = chosen.iter().map(|chosen| chosen.tokens).sum();
    assert!(tokens <= STEP_TOKENS);
    let rows = chosen
        .iter()
        .filter(|chosen| of(chosen.call).left == 1)
        .count();
    assert!(rows <= STEP_ROWS);
    for chosen in chosen {
        let candidate = of(chosen.call);
        assert!(candidate.runnable && candidate.model == *model);
        assert!(chosen.tokens >= 1 && chosen.tokens <= candidate.left.min(candidate.most));
    }
}

fn saturating(count: u64) -> Vec<Job> {
    (0..count)
        .map(|at| job(0.0, Class::Free, at + 1, 40, 100_000))
        .collect()
}

#[test]
fn the_owner_hardly_feels_a_saturating_network() {
    for (name, device) in [("small", SMALL), ("large", LARGE), ("card", CARD)] {
        let own = || {
            (0..4).map(|at| {
                job(
                    device.step * (300.0 + 700.0 * f64::from(at)),
                    Class::Own,
                    0,
                    300,
                    120,
                )
            })
        };
        let until = device.step * 100_000.0;
        let (alone, _) = run(device, Sharing::default(), own().collect(), until);
        let (beside, _) = run(
            device,
            Sharing::default(),
            own().chain(saturating(8)).collect(),
            until / 10.0,
        );
        for (alone, beside) in alone.iter().zip(&beside[..4]) {
            let (slower, later) = (
                alone.beat() / beside.beat(),
                beside.first_after() / alone.first_after(),
            );
            assert!(slower >= 0.97, "{name}: {slower}");
            assert!(later <= 1.10, "{name}: {later}");
        }
        let produced: u32 = beside[4..].iter().map(|job| job.produced).sum();
        assert!(
            produced > 1000,
            "{name}: and the network works in between: {produced}"
        );
    }
}

#[test]
fn beside_the_owner_the_network_gets_what_costs_nothing() {
    // The owner's answer goes on and on: on a card the others are computed with it, on a processor next to nothing is.
    let rate = |device: Device| {
        let own = job(0.0, Class::Own, 0, 10, 1_000_000);
        let jobs: Vec<Job> = std::iter::once(own).chain(saturating(8)).collect();
        let (jobs, _) = run(device, Sharing::default(), jobs, device.step * 5_000.0);
        let network: u32 = jobs[1..].iter().map(|job| job.produced).sum();
        f64::from(network) / f64::from(jobs[0].produced)
    };
    assert!(rate(CARD) > 4.0, "{}", rate(CARD));
    let small = rate(SMALL);
    assert!(small > 0.0 && small < 0.2, "{small}");
}

#[test]
fn an_idle_device_computes_every_stranger_in_every_step() {
    let (jobs, network) = run(SMALL, Sharing::default(), saturating(8), 20.0);
    let produced: u32 = jobs.iter().map(|job| job.produced).sum();
    let limit = 8.0 / (SMALL.step + 8.0 * SMALL.row) * 20.0;
    assert!(f64::from(produced) >= 0.97 * limit, "{produced} of {limit}");
    assert!(network > 0.99);
}

#[test]
fn paid_work_is_not_held_up_by_unpaid_of_another_model() {
    let mut jobs = vec![
        job(0.0, Class::Paid, 1, 10, 200),
        job(0.0, Class::Free, 2, 10, 1000),
    ];
    jobs[1].model = 1;
    let (jobs, _) = run(SMALL, Sharing::default(), jobs, 60.0);
    assert!(jobs[1].first.unwrap() > jobs[0].end.unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_networks_share_is_kept(share in 0.1f32..0.9, count in 1u64..12, large in any::<bool>()) {
        let sharing = Sharing { network_share: share, ..Sharing::default() };
        let device = if large { LARGE } else { SMALL };
        let (_, network) = run(device, sharing, saturating(count), device.step * 40_000.0);
        let ratio = network / f64::from(share);
        prop_assert!((0.97..=1.03).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_share_of_the_time_is_that_share_of_the_tokens(share in 0.25f32..0.9, large in any::<bool>()) {
        let device = if large { LARGE } else { SMALL };
        let tokens = |network_share| {
            let sharing = Sharing { network_share, ..Sharing::default() };
            let (jobs, _) = run(device, sharing, saturating(8), device.step * 40_000.0);
            jobs.iter().map(|job| f64::from(job.produced)).sum::<f64>()
        };
        let ratio = tokens(share) / tokens(1.0) / f64::from(share);
        prop_assert!((0.97..=1.03).contains(&ratio), "{ratio}");
    }

    #[test]
    fn time_goes_by_weight_where_not_all_fit(weights in prop::collection::vec(1u16..5, 2..5)) {
        // More sequences than a step has rows, equally many of each asker.
        let mut jobs = Vec::new();
        for (asker, &weight) in weights.iter().enumerate() {
            for _ in 0..STEP_ROWS {
                jobs.push(Job { weight, ..job(0.0, Class::Paid, asker as u64, 4, 1_000_000) });
            }
        }
        let (jobs, _) = run(SMALL, Sharing::default(), jobs, 60.0);
        let mut had: BTreeMap<u64, f64> = BTreeMap::new();
        for job in &jobs {
            *had.entry(job.asker).or_default() += job.device / f64::from(job.weight);
        }
        let most = had.values().copied().fold(0.0, f64::max);
        let least = had.values().copied().fold(f64::INFINITY, f64::min);
        prop_assert!(least >= 0.9 * most, "{had:?} for {weights:?}");
    }

    #[test]
    fn everyone_of_the_running_class_gets_on(
        arrivals in prop::collection::vec(
            (0.0f64..5.0, prop::sample::select(Class::ALL.to_vec()), 1u64..4, 1u32..800, 1u32..40, 0u64..2),
            1..40,
        ),
    ) {
        let jobs: Vec<Job> = arrivals
            .into_iter()
            .map(|(at, class, asker, prompt, output, model)| Job { model, ..job(at, class, asker, prompt, output) })
            .collect();
        // Every step is checked inside; in the end everyone is done.
        let (jobs, _) = run(SMALL, Sharing::default(), jobs, 10_000.0);
        prop_assert!(jobs.iter().all(|job| job.end.is_some()));
    }
}
