//! The sampler against the slow, obvious form of its definition, and against its published known answers.

use serde::Deserialize;

use super::filters::greatest;
use super::*;
use crate::MAX_LOGPROBS;

/// The definition without any shortcut: adjust, sort everything, filter, add the noise of every allowed token.
struct Obvious {
    /// Adjusted logits; −∞ or NaN where a token cannot be chosen.
    logits: Vec<f32>,
    /// The allowed set, the likeliest first.
    allowed: Vec<u32>,
    /// `y` of every token.
    sums: Vec<f64>,
}

impl Obvious {
    fn of(logits: &[f32], position: &Position<'_>) -> Self {
        let sampling = position.sampling;
        let mut logits = logits.to_vec();
        for &(id, bias) in &sampling.logit_bias {
            if (id as usize) < logits.len() {
                logits[id as usize] += bias;
            }
        }
        let window: Vec<u32> = position.before.iter().rev().take(256).copied().collect();
        for (id, logit) in (0u32..).zip(&mut logits) {
            let count = window.iter().filter(|&&seen| seen == id).count();
            if count > 0 {
                *logit = if *logit > 0.0 {
                    *logit / sampling.repeat_penalty
                } else {
                    *logit * sampling.repeat_penalty
                };
                *logit -= sampling.presence_penalty;
                *logit -= sampling.frequency_penalty * count as f32;
            }
            if position.mask.is_some_and(|mask| !mask.allows(id)) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let temperature = f64::from(sampling.temperature);
        let mut allowed: Vec<u32> = (0..logits.len() as u32)
            .filter(|&id| logits[id as usize].is_finite())
            .collect();
        allowed.sort_by(|&a, &b| {
            let (a_logit, b_logit) = (logits[a as usize], logits[b as usize]);
            b_logit.partial_cmp(&a_logit).unwrap().then(a.cmp(&b))
        });
        if temperature > 0.0 && !allowed.is_empty() {
            let best = f64::from(logits[allowed[0] as usize]);
            let weight = |id: u32| ((f64::from(logits[id as usize]) - best) / temperature).exp();
            if sampling.top_k > 0 {
                allowed.truncate(sampling.top_k as usize);
            }
            if sampling.top_p < 1.0 {
                let total: f64 = allowed.iter().map(|&id| weight(id)).sum();
                let mut sum = 0.0;
                let reached = allowed.iter().position(|&id| {
                    sum += weight(id);
                    sum >= f64::from(sampling.top_p) * total
                });
                allowed.truncate(reached.map_or(allowed.len(), |at| at + 1));
            }
            allowed.retain(|&id| weight(id) >= f64::from(sampling.min_p));
        }
        let noise = Noise::new(sampling.seed, position.index, sampling.temperature);
        let sums = (0..)
            .zip(&logits)
            .map(|(id, &logit)| noise.add(logit, id))
            .collect();
        Self {
            logits,
            allowed,
            sums,
        }
    }

    fn choose(&self) -> Option<(u32, f64)> {
        let mut order = self.allowed.clone();
        let sum = |id: &u32| self.sums[*id as usize];
        order.sort_by(|a, b| sum(b).total_cmp(&sum(a)).then(a.cmp(b)));
        let best = order.first()?;
        let second = order.get(1).map_or(f64::NEG_INFINITY, sum);
        Some((*best, (sum(best) - second).min(65_504.0)))
    }

    fn margin(&self, claimed: u32, tolerance: f32) -> Option<f64> {
        let (best, _) = self.choose()?;
        let lowest = self.allowed.iter().map(|&id| self.logits[id as usize]);
        let lowest = lowest.fold(f32::INFINITY, f32::min);
        let logit = self.logits.get(claimed as usize).copied();
        Some(match logit {
            Some(logit) if logit.is_finite() && logit >= lowest - tolerance => {
                (self.sums[best as usize] - self.sums[claimed as usize]).max(0.0)
            }
            _ => f64::INFINITY,
        })
    }
}

fn logprobs_obviously(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - f64::from(largest)).exp())
        .sum();
    logits
        .iter()
        .map(|&logit| f64::from(logit) - f64::from(largest) - sum.ln())
        .collect()
}

fn at<'a>(before: &'a [u32], index: u32, sampling: &'a Sampling) -> Position<'a> {
    Position {
        before,
        index,
        sampling,
        mask: None,
    }
}

fn id(logits: &[f32], sampling: &Sampling) -> Option<u32> {
    let choice = at(&[], 0, sampling).choose(logits, None);
    choice.map(|choice| choice.id)
}

fn mask_of(allowed: &[bool]) -> Mask {
    let word = |bits: &[bool]| {
        (0..)
            .zip(bits)
            .fold(0, |word, (at, &bit)| word | u32::from(bit) << at)
    };
    Mask::new(allowed.chunks(32).map(word).collect())
}

#[test]
fn greedy_takes_the_lowest_id_of_equals_and_refuses_nonsense() {
    let greedy = Sampling::default();
    assert_eq!(id(&[1.0, 3.0, 3.0], &greedy), Some(1));
    assert_eq!(id(&[-0.0, 0.0], &greedy), Some(0));
    assert_eq!(id(&[f32::NAN, 2.0], &greedy), Some(1));
    for temperature in [0.0, 1.0] {
        let sampling = Sampling {
            temperature,
            ..Sampling::default()
        };
        assert_eq!(id(&[f32::NAN, f32::NAN], &sampling), None);
        assert_eq!(id(&[f32::INFINITY, 1.0], &sampling), None);
        assert_eq!(id(&[f32::NEG_INFINITY; 3], &sampling), None);
        assert_eq!(id(&[], &sampling), None);
    }
}

#[test]
fn top_k_keeps_exactly_k_and_the_lowest_ids_of_equals() {
    assert_eq!(greatest(&[1.0, 2.0, 2.0, 2.0, f32::NAN, 0.0], 3), [1, 2, 3]);
    assert_eq!(greatest(&[2.0; 100], 3), [0, 1, 2]);
    assert_eq!(greatest(&[0.0, -0.0, 0.0], 2), [0, 1]);
    assert_eq!(greatest(&[1.0, f32::NEG_INFINITY], 5), [0]);
    assert_eq!(greatest(&[1.0, 2.0], 0), [0u32; 0]);
}

#[test]
fn nothing_masked_is_chosen_however_likely() {
    let sampling = Sampling {
        temperature: 2.0,
        logit_bias: vec![(0, 100.0)],
        top_k: 5,
        ..Sampling::default()
    };
    let mask = Mask::new(vec![0b1010]);
    assert!(mask.allows(1) && !mask.allows(2) && !mask.allows(64));
    for index in 0..200 {
        let position = Position {
            mask: Some(&mask),
            ..at(&[], index, &sampling)
        };
        let logits = [9.0, -9.0, 9.0, -8.0, 9.0, 9.0, f32::INFINITY];
        let choice = position.choose(&logits, None).unwrap();
        assert!([1, 3].contains(&choice.id));
        assert_eq!(
            position.margin(&logits, 0, 100.0).unwrap().margin,
            f32::INFINITY
        );
    }
    let none = Mask::new(vec![0]);
    let position = Position {
        mask: Some(&none),
        ..at(&[], 0, &sampling)
    };
    assert_eq!(position.choose(&[1.0, 2.0], None), None);
}

#[test]
fn shares_come_out_as_the_softmax_says() {
    let sampling = Sampling {
        temperature: 1.0,
        seed: 7,
        ..Sampling::default()
    };
    let logits = [0.0f32, 1.0, 2.0];
    let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    let mut counts = [0u32; 3];
    const DRAWS: u32 = 20_000;
    for index in 0..DRAWS {
        let choice = at(&[], index, &sampling).choose(&logits, None).unwrap();
        counts[choice.id as usize] += 1;
    }
    for (count, logit) in counts.iter().zip(logits) {
        let expected = f64::from(logit).exp() / total;
        // Four standard deviations of the largest share.
        assert!(
            (f64::from(*count) / f64::from(DRAWS) - expected).abs() < 0.015,
            "{counts:?}"
        );
    }
}

#[test]
fn a_fingerprint_is_two_halves() {
    let sampling = Sampling {
        temperature: 0.0,
        ..Sampling::default()
    };
    let logits = [0.0f32, 1.5];
    let choice = at(&[], 0, &sampling).choose(&logits, Some(0)).unwrap();
    let half = |bytes: &[u8]| half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f64();
    let bytes = choice.fingerprint().unwrap();
    assert!((half(&bytes[..2]) - (1.0 / (1.0 + (-1.5f64).exp())).ln()).abs() < 1e-3);
    assert_eq!(half(&bytes[2..]), 1.5);
    let alone = at(&[], 0, &sampling).choose(&[1.0], Some(0)).unwrap();
    assert_eq!(half(&alone.fingerprint().unwrap()[2..]), 65_504.0);
    let unasked = at(&[], 0, &sampling).choose(&logits, None).unwrap();
    assert_eq!(unasked.fingerprint(), None);
}

/// A case of `ssr_gm1.json`, which `ssr_gm1.py` makes.
#[derive(Deserialize)]
struct Known {
    logits: Vec<f32>,
    before: Vec<u32>,
    index: u32,
    sampling: Sampling,
    mask: Option<Vec<u32>>,
    id: u32,
    gap: f64,
    logprob: f64,
    claimed: u32,
    tolerance: f32,
    /// Null for +∞.
    margin: Option<f64>,
}

#[test]
fn known_answers_hold() {
    let known: Vec<Known> = serde_json::from_str(include_str!("ssr_gm1.json")).unwrap();
    assert!(known.len() >= 100);
    for (number, case) in known.iter().enumerate() {
        let mask = case.mask.clone().map(Mask::new);
        let position = Position {
            before: &case.before,
            index: case.index,
            sampling: &case.sampling,
            mask: mask.as_ref(),
        };
        let choice = position.choose(&case.logits, Some(3)).unwrap();
        assert_eq!(choice.id, case.id, "case {number}");
        assert!(
            (f64::from(choice.gap) - case.gap).abs() <= 1e-6 * case.gap.max(1.0),
            "case {number}: {} {}",
            choice.gap,
            case.gap
        );
        let logprob = choice.logprobs.unwrap().logprob;
        assert!((f64::from(logprob) - case.logprob).abs() < 1e-5);
        let margin = position
            .margin(&case.logits, case.claimed, case.tolerance)
            .unwrap()
            .margin;
        match case.margin {
            None => assert_eq!(margin, f32::INFINITY, "case {number}"),
            Some(expected) => assert!(
                (f64::from(margin) - expected).abs() <= 1e-6 * expected.max(1.0),
                "case {number}: {margin} {expected}"
            ),
        }
    }
}

proptest::proptest! {
    #[test]
    fn shortcuts_change_nothing(
        logits in proptest::collection::vec(
            proptest::prop_oneof![
                8 => -30.0f32..30.0,
                1 => proptest::sample::select(vec![5.0f32, 5.0, -0.0, 0.0, f32::NAN, f32::NEG_INFINITY]),
            ],
            1..700,
        ),
        before in proptest::collection::vec(0u32..220, 0..300),
        index in 0u32..5000,
        seed in proptest::num::u64::ANY,
        temperature in proptest::sample::select(vec![0.0f32, 0.01, 0.3, 0.8, 1.0, 2.0, 10.0]),
        top_k in proptest::sample::select(vec![0u32, 1, 2, 7, 60, 10_000]),
        top_p in proptest::sample::select(vec![1.0f32, 0.99999, 0.95, 0.5, 0.01, 0.0]),
        min_p in proptest::sample::select(vec![0.0f32, 1e-6, 0.05, 0.5, 1.0]),
        penalties in proptest::sample::select(vec![(1.0f32, 0.0f32, 0.0f32), (1.1, 0.0, 0.0), (0.5, -0.3, 0.0), (1.3, 0.7, 0.1)]),
        logit_bias in proptest::collection::vec((0u32..720, -100.0f32..100.0), 0..4),
        masked in proptest::option::of(proptest::collection::vec(proptest::bool::weighted(0.3), 0..700)),
        claimed in 0u32..720,
        tolerance in proptest::sample::select(vec![0.0f32, 0.1, 3.0]),
    ) {
        let sampling = Sampling {
            temperature, top_k, top_p, min_p, seed, logit_bias,
            repeat_penalty: penalties.0, presence_penalty: penalties.1, frequency_penalty: penalties.2,
        };
        let mask = masked.map(|allowed| mask_of(&allowed));
        let position = Position { mask: mask.as_ref(), ..at(&before, index, &sampling) };
        let obvious = Obvious::of(&logits, &position);
        let choice = position.choose(&logits, None);
        let expected = obvious.choose().map(|(id, gap)| (id, gap as f32));
        proptest::prop_assert_eq!(choice.map(|choice| (choice.id, choice.gap)), expected);
        let margin = position.margin(&logits, claimed, tolerance).map(|margin| margin.margin);
        proptest::prop_assert_eq!(margin, obvious.margin(claimed, tolerance).map(|margin| margin as f32));
        if let Some((id, _)) = expected {
            let own = position.margin(&logits, id, 0.0).unwrap();
            proptest::prop_assert_eq!(own.margin, 0.0);
        }
    }

    #[test]
    fn logprobs_are_those_of_the_raw_logits(
        logits in proptest::collection::vec(-30.0f32..30.0, 1..300),
        top in 0u32..30,
        seed in proptest::num::u64::ANY,
    ) {
        let sampling = Sampling { temperature: 1.5, top_k: 3, repeat_penalty: 1.2, seed, ..Sampling::default() };
        let choice = at(&[0, 1, 2], 4, &sampling).choose(&logits, Some(top)).unwrap();
        let told = choice.logprobs.unwrap();
        let expected = logprobs_obviously(&logits);
        let near = |told: f32, id: u32| (f64::from(told) - expected[id as usize]).abs() < 1e-4;
        proptest::prop_assert!(near(told.logprob, choice.id));
        proptest::prop_assert_eq!(told.top.len(), (top.min(MAX_LOGPROBS) as usize).min(logits.len()));
        proptest::prop_assert!(told.top.iter().all(|&(id, logprob)| near(logprob, id)));
        let order: Vec<u32> = told.top.iter().map(|&(id, _)| id).collect();
        proptest::prop_assert_eq!(order, greatest(&logits, told.top.len()));
    }
}

/// Time of one choice over a vocabulary of 151,936, for the record.
#[test]
#[ignore = "a measurement, not a check"]
fn time_of_a_choice() {
    const VOCABULARY: u32 = 151_936;
    const ROUNDS: u32 = 50;
    // Logits like a model's: a normal distribution of deviation 3, and a few that stick out.
    let model: Vec<f32> = (0..VOCABULARY)
        .map(|at| {
            let uniform = |salt: u32| {
                let mixed = (at ^ salt).wrapping_mul(0x9E37_79B9);
                let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x85EB_CA6B);
                f64::from(mixed ^ mixed >> 13) / f64::from(u32::MAX)
            };
            let normal = (0..12).map(|salt| uniform(salt * 77_777)).sum::<f64>() - 6.0;
            (normal * 3.0 + if at % 15_193 == 7 { 12.0 } else { 0.0 }) as f32
        })
        .collect();
    let flat: Vec<f32> = model.iter().map(|logit| logit * 1e-3).collect();
    let base = Sampling {
        temperature: 1.0,
        seed: 5,
        ..Sampling::default()
    };
    let settings = [
        ("greedy", Sampling::default()),
        ("T 1", base.clone()),
        (
            "T 0.8 top_k 40",
            Sampling {
                temperature: 0.8,
                top_k: 40,
                ..base.clone()
            },
        ),
        (
            "T 1 top_p 0.95",
            Sampling {
                top_p: 0.95,
                ..base.clone()
            },
        ),
        (
            "T 1 min_p 0.05",
            Sampling {
                min_p: 0.05,
                ..base.clone()
            },
        ),
        (
            "T 0.7 all",
            Sampling {
                temperature: 0.7,
                top_k: 40,
                top_p: 0.9,
                min_p: 0.05,
                repeat_penalty: 1.1,
                ..base.clone()
            },
        ),
    ];
    let before: Vec<u32> = (0..256).map(|at| at * 31 % VOCABULARY).collect();
    for (logits, kind) in [(&model, "like a model's"), (&flat, "flat")] {
        for (name, sampling) in &settings {
            for logprobs in [None, Some(5)] {
                let mut times: Vec<f64> = (0..ROUNDS)
                    .map(|index| {
                        let begun = std::time::Instant::now();
                        std::hint::black_box(at(&before, index, sampling).choose(logits, logprobs));
                        begun.elapsed().as_secs_f64() * 1e6
                    })
                    .collect();
                times.sort_by(f64::total_cmp);
                println!(
                    "{kind}, {name}, log-probabilities {logprobs:?}: median {:.0} µs",
                    times[ROUNDS as usize / 2]
                );
            }
        }
    }
}
