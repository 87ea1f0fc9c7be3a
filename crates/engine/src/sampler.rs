//! SSR-GM1, the canonical sampler and the only one there is.
//!
//! The noise of a token is a pure function of (seed, output index, token id): Gumbel noise out of Philox4x32-10 (Salmon
//! et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), added to the logits before taking the largest. That
//! samples exactly from the softmax, and anyone who knows the seed can check every choice.
//!
//! For output index `t`, logits `l` after penalties, temperature `T`:
//! `r = Philox(key = seed, counter = (t, v / 4, 0x44494652, 0))[v % 4]`, `u = (r + 1/2) / 2^32`,
//! `y_v = l_v − T · ln(−ln u)`, and the token is the allowed `v` with the largest `y_v`, the lowest id among equals.
//! At `T = 0` all tokens are allowed and the noise is zero.

use std::cmp::Ordering;

use crate::Sampling;

/// How many of the last ids (prompt and output) the penalties look at.
const PENALTY_WINDOW: usize = 256;

/// The Gumbel noise of a 32-bit uniform is at most 22.88: a logit that far below the best sum cannot win any more.
const LARGEST_NOISE: f64 = 22.9;

/// First guess of how far below the best a token can lie and still be among those that make up `top_p`, in units of the
/// temperature. When it is wrong, all tokens are sorted.
const LIKELY_SPAN: f64 = 12.0;

/// Chooses the token at output index `index`. `before` are the ids so far, prompt and output. Logits are changed by the
/// penalties. `None` when no logit is a number.
pub fn choose(logits: &mut [f32], before: &[u32], index: u32, sampling: &Sampling) -> Option<u32> {
    penalise(logits, before, sampling);
    let greedy = argmax(logits)?;
    if sampling.temperature == 0.0 {
        return Some(greedy);
    }
    let temperature = f64::from(sampling.temperature);
    let noise = Noise {
        seed: sampling.seed,
        index,
    };
    let allowed = allowed(logits, greedy, sampling);
    let mut best = (f64::NEG_INFINITY, u32::MAX);
    let mut consider = |id: u32| {
        let logit = f64::from(logits[id as usize]);
        if logit + temperature * LARGEST_NOISE < best.0 || logit.is_nan() {
            return;
        }
        let sum = logit + temperature * noise.gumbel(id);
        if sum > best.0 || (sum == best.0 && id < best.1) {
            best = (sum, id);
        }
    };
    // The likeliest first: it rules most others out before their noise is computed.
    consider(greedy);
    match allowed {
        Some(ids) => ids.into_iter().for_each(&mut consider),
        None => (0..logits.len() as u32).for_each(&mut consider),
    }
    Some(best.1).filter(|&id| id != u32::MAX)
}

/// The largest logit, the lowest id among equals; `None` when there is none that is a number above −∞.
fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best = (f32::NEG_INFINITY, None);
    for (id, &logit) in (0..).zip(logits) {
        if logit > best.0 {
            best = (logit, Some(id));
        }
    }
    best.1.filter(|_| best.0.is_finite())
}

fn penalise(logits: &mut [f32], before: &[u32], sampling: &Sampling) {
    let Sampling {
        repeat_penalty,
        presence_penalty,
        frequency_penalty,
        ..
    } = *sampling;
    if repeat_penalty == 1.0 && presence_penalty == 0.0 && frequency_penalty == 0.0 {
        return;
    }
    let mut window = before[before.len().saturating_sub(PENALTY_WINDOW)..].to_vec();
    window.sort_unstable();
    for same in window.chunk_by(|a, b| a == b) {
        if let Some(logit) = logits.get_mut(same[0] as usize) {
            *logit = if *logit > 0.0 {
                *logit / repeat_penalty
            } else {
                *logit * repeat_penalty
            };
            *logit -= presence_penalty + frequency_penalty * same.len() as f32;
        }
    }
}

/// The tokens that the filters leave; `None` for all.
fn allowed(logits: &[f32], greedy: u32, sampling: &Sampling) -> Option<Vec<u32>> {
    let top_k = match sampling.top_k as usize {
        0 => logits.len(),
        k => k.min(logits.len()),
    };
    let filters = top_k < logits.len() || sampling.top_p < 1.0 || sampling.min_p > 0.0;
    if !filters {
        return None;
    }
    let temperature = f64::from(sampling.temperature);
    let best = f64::from(logits[greedy as usize]);
    let weight = |id: u32| ((f64::from(logits[id as usize]) - best) / temperature).exp();
    let mut ids = likeliest(logits, best - temperature * LIKELY_SPAN);
    let enough = |ids: &[u32]| {
        // With top_k alone the weights of the rest do not matter; without it they are part of the sum.
        if ids.len() >= top_k {
            return true;
        }
        let all: f64 = (0..logits.len() as u32)
            .map(weight)
            .filter(|weight| !weight.is_nan())
            .sum();
        let here: f64 = ids.iter().map(|&id| weight(id)).sum();
        top_k == logits.len() && here >= f64::from(sampling.top_p) * all
    };
    if !enough(&ids) {
        ids = likeliest(logits, f64::NEG_INFINITY);
    }
    let total: f64 = if top_k < logits.len() {
        ids.truncate(top_k);
        ids.iter().map(|&id| weight(id)).sum()
    } else {
        (0..logits.len() as u32)
            .map(weight)
            .filter(|weight| !weight.is_nan())
            .sum()
    };
    if sampling.top_p < 1.0 {
        let mut sum = 0.0;
        let wanted = f64::from(sampling.top_p) * total;
        // At least one: the likeliest.
        let reached = ids.iter().position(|&id| {
            sum += weight(id);
            sum >= wanted
        });
        ids.truncate(reached.map_or(ids.len(), |at| at + 1));
    }
    // The likeliest token has the weight 1.
    ids.retain(|&id| weight(id) >= f64::from(sampling.min_p));
    Some(ids)
}

/// Ids of logits from `floor` up, the largest first, the lowest id among equals.
fn likeliest(logits: &[f32], floor: f64) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..)
        .zip(logits)
        .filter(|(_, logit)| f64::from(**logit) >= floor)
        .map(|(id, _)| id)
        .collect();
    ids.sort_unstable_by(|&a, &b| {
        let by_logit = logits[b as usize]
            .partial_cmp(&logits[a as usize])
            .unwrap_or(Ordering::Equal);
        by_logit.then(a.cmp(&b))
    });
    ids
}

/// The noise of one output index.
struct Noise {
    seed: u64,
    index: u32,
}

impl Noise {
    fn gumbel(&self, id: u32) -> f64 {
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        let block = philox([self.index, id >> 2, 0x4449_4652, 0], key);
        let uniform = (f64::from(block[(id & 3) as usize]) + 0.5) / 4_294_967_296.0;
        -(-uniform.ln()).ln()
    }
}

/// Philox4x32 with ten rounds.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, without any shortcut: sort everything, filter, add the noise of every allowed token.
    fn obvious(logits: &[f32], before: &[u32], index: u32, sampling: &Sampling) -> Option<u32> {
        let mut logits = logits.to_vec();
        penalise(&mut logits, before, sampling);
        let temperature = f64::from(sampling.temperature);
        if temperature == 0.0 {
            return argmax(&logits);
        }
        let mut ids = likeliest(&logits, f64::NEG_INFINITY);
        if sampling.top_k > 0 {
            ids.truncate(sampling.top_k as usize);
        }
        let best = f64::from(logits[ids[0] as usize]);
        let weight = |id: u32| ((f64::from(logits[id as usize]) - best) / temperature).exp();
        // In the order of ids where all count, as the sampler sums.
        let mut summed = ids.clone();
        if sampling.top_k == 0 || sampling.top_k as usize >= logits.len() {
            summed.sort_unstable();
        }
        let total: f64 = summed.iter().map(|&id| weight(id)).sum();
        let mut kept = Vec::new();
        let mut sum = 0.0;
        for &id in &ids {
            kept.push(id);
            sum += weight(id);
            if sampling.top_p < 1.0 && sum >= f64::from(sampling.top_p) * total {
                break;
            }
        }
        kept.retain(|&id| weight(id) >= f64::from(sampling.min_p));
        let noise = Noise {
            seed: sampling.seed,
            index,
        };
        let sum = |id: u32| f64::from(logits[id as usize]) + temperature * noise.gumbel(id);
        kept.into_iter()
            .max_by(|&a, &b| sum(a).total_cmp(&sum(b)).then(b.cmp(&a)))
    }

    #[test]
    fn philox_gives_the_known_answers() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        // From the test vectors of the paper's library.
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn noise_stays_under_its_bound() {
        let largest = -(-((f64::from(u32::MAX) + 0.5) / 4_294_967_296.0).ln()).ln();
        assert!(largest < LARGEST_NOISE && largest > LARGEST_NOISE - 0.1);
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_equals_and_refuses_nonsense() {
        let sampling = Sampling::default();
        assert_eq!(choose(&mut [1.0, 3.0, 3.0], &[], 0, &sampling), Some(1));
        assert_eq!(choose(&mut [f32::NAN, 2.0], &[], 0, &sampling), Some(1));
        assert_eq!(choose(&mut [f32::NAN, f32::NAN], &[], 0, &sampling), None);
        assert_eq!(choose(&mut [f32::INFINITY, 1.0], &[], 0, &sampling), None);
        assert_eq!(choose(&mut [f32::NEG_INFINITY; 3], &[], 0, &sampling), None);
    }

    #[test]
    fn penalties_follow_the_definition() {
        let sampling = Sampling {
            repeat_penalty: 2.0,
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            ..Sampling::default()
        };
        let mut logits = [4.0, -1.0, 3.0];
        penalise(&mut logits, &[0, 0, 1, 99], &sampling);
        assert_eq!(logits, [2.0 - 0.5 - 0.5, -2.0 - 0.5 - 0.25, 3.0]);
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
            counts[choose(&mut logits.clone(), &[], index, &sampling).unwrap() as usize] += 1;
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

    proptest::proptest! {
        #[test]
        fn shortcuts_change_nothing(
            logits in proptest::collection::vec(-30.0f32..30.0, 1..200),
            before in proptest::collection::vec(0u32..220, 0..300),
            index in 0u32..5000,
            seed in proptest::num::u64::ANY,
            temperature in proptest::sample::select(vec![0.0f32, 0.3, 0.8, 1.0, 2.0]),
            top_k in 0u32..60,
            top_p in proptest::sample::select(vec![1.0f32, 0.95, 0.5, 0.01, 0.0]),
            min_p in proptest::sample::select(vec![0.0f32, 0.05, 0.5]),
            repeat_penalty in proptest::sample::select(vec![1.0f32, 1.1]),
        ) {
            let sampling = Sampling {
                temperature, top_k, top_p, min_p, seed, repeat_penalty, ..Sampling::default()
            };
            let expected = obvious(&logits, &before, index, &sampling);
            proptest::prop_assert_eq!(choose(&mut logits.clone(), &before, index, &sampling), expected);
        }
    }
}
