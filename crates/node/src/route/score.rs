//! The score of a peer for a job: price, time, reliability and honesty, weighted by the preset. Lower is better.

use protocol::price::Prices;

use super::{Known, Preset, Want};

/// Measurements that a claim is worth.
const CLAIM_WEIGHT: f64 = 4.0;

/// What is believed of a claimed speed: people measure on a good day.
const CLAIM_DISCOUNT: f64 = 0.7;

/// A claimed speed counts for no more than this times what was measured of the same peer, or, before anything was, times
/// the median of all. A lie is worth this factor once, and nothing once a job has been timed.
const CLAIM_OVER_REFERENCE: f64 = 2.0;

/// Tokens per second of a peer that claims nothing while nobody else does: a slow computer.
const UNCLAIMED_DECODE_TPS: f64 = 10.0;

/// The same for reading.
const UNCLAIMED_PREFILL_TPS: f64 = 100.0;

/// The round trip to a peer that is not connected and never was, milliseconds: another continent.
const UNKNOWN_RTT_MS: f64 = 150.0;

/// No job is shorter: what takes less is not felt, and the logarithm needs a floor.
const LEAST_SECONDS: f64 = 0.05;

/// Below this price of a whole job two prices are as good as equal: a thousandth of a token with 18 decimals.
const LEAST_COST: f64 = 1e15;

/// The penalty of a lie rate of 1.
const LIE_PENALTY: f64 = 20.0;

/// The penalty of a peer whose answers nobody ever checked.
const UNCHECKED_PENALTY: f64 = 0.3;

/// What the peer of the chat's last answer gains: others must be clearly better to be worth the change of hands.
const STICKY_BONUS: f64 = 1.0;

/// How much each part of the score counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// The price.
    pub cost: f64,
    /// The time.
    pub time: f64,
    /// The chance that it goes well.
    pub reliability: f64,
    /// What is known of its honesty.
    pub honesty: f64,
}

impl From<Preset> for Weights {
    fn from(preset: Preset) -> Self {
        let (cost, time, reliability, honesty) = match preset {
            Preset::Cheap => (2.0, 0.5, 1.0, 1.0),
            Preset::Balanced => (1.0, 1.0, 1.0, 1.0),
            Preset::Fast => (0.3, 2.0, 1.0, 1.0),
        };
        Self {
            cost,
            time,
            reliability,
            honesty,
        }
    }
}

/// What a job at a peer is expected to take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// From asking to the first token, seconds.
    pub first_token_s: f64,
    /// Tokens per second after it.
    pub decode_tps: f64,
    /// The whole job, seconds.
    pub time_s: f64,
    /// Base units of the paying token.
    pub cost: f64,
}

/// What candidates are measured against: the middle of all of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yardstick {
    weights: Weights,
    decode_tps: f64,
    prefill_tps: f64,
    median_time_s: f64,
    median_cost: f64,
}

impl Yardstick {
    /// Takes the middle of these candidates.
    #[must_use]
    pub fn of(want: &Want, candidates: &[&Known]) -> Self {
        let decode = candidates.iter().filter_map(|known| {
            let claimed = f64::from(known.claims.decode_tps);
            known
                .record
                .decode_tps
                .value()
                .or((claimed > 0.0).then_some(claimed))
        });
        let prefill = candidates
            .iter()
            .map(|known| f64::from(known.claims.prefill_tps))
            .filter(|claimed| *claimed > 0.0);
        let mut yardstick = Self {
            weights: want.preset.into(),
            decode_tps: median(decode).unwrap_or(UNCLAIMED_DECODE_TPS),
            prefill_tps: median(prefill).unwrap_or(UNCLAIMED_PREFILL_TPS),
            median_time_s: LEAST_SECONDS,
            median_cost: 0.0,
        };
        let estimates: Vec<Estimate> = candidates
            .iter()
            .map(|known| yardstick.estimate(want, known))
            .collect();
        let times = estimates.iter().map(|estimate| estimate.time_s);
        let costs = estimates.iter().map(|estimate| estimate.cost);
        yardstick.median_time_s = median(times).unwrap_or(LEAST_SECONDS);
        yardstick.median_cost = median(costs).unwrap_or(0.0);
        yardstick
    }

    /// What a job is expected to take, by offer and record.
    #[must_use]
    pub fn estimate(&self, want: &Want, known: &Known) -> Estimate {
        let claims = &known.claims;
        let decode_tps = self.decode_tps_of(known, f64::from(claims.decode_tps));
        let prefill_tps = match f64::from(claims.prefill_tps) {
            claimed if claimed > 0.0 => claimed.min(CLAIM_OVER_REFERENCE * self.prefill_tps),
            _ => self.prefill_tps.min(UNCLAIMED_PREFILL_TPS),
        };
        let rtt_ms = known
            .rtt_ms
            .or_else(|| known.record.rtt_ms.value())
            .unwrap_or(UNKNOWN_RTT_MS);
        let writing_s = f64::from(want.expected_out) / decode_tps;
        let queue_s = f64::from(claims.queue_depth) / f64::from(claims.slots.max(1)) * writing_s;
        let cached = match want.sticky {
            Some((peer, cached)) if peer == known.peer => cached.min(want.n_in),
            Some(_) | None => 0,
        };
        let reading_s = f64::from(want.n_in - cached) / prefill_tps;
        let late_s = known.record.late_ms.value().unwrap_or(0.0) / 1000.0;
        let first_token_s = (rtt_ms / 1000.0 + queue_s + reading_s + late_s).max(0.0);
        Estimate {
            first_token_s,
            decode_tps,
            time_s: (first_token_s + writing_s).max(LEAST_SECONDS),
            cost: cost(want, &claims.prices, cached),
        }
    }

    /// The same by its quote: the wait for the first token is its word, corrected by how late it usually is.
    #[must_use]
    pub fn estimate_quoted(&self, want: &Want, known: &Known, quote: &super::Quoted) -> Estimate {
        let decode_tps = self.decode_tps_of(known, f64::from(quote.decode_tps));
        let late_s = known.record.late_ms.value().unwrap_or(0.0) / 1000.0;
        let first_token_s = (f64::from(quote.eta_first_token_ms) / 1000.0 + late_s).max(0.0);
        Estimate {
            first_token_s,
            decode_tps,
            time_s: (first_token_s + f64::from(want.expected_out) / decode_tps).max(LEAST_SECONDS),
            cost: cost(
                want,
                &quote.prices,
                quote.cached_prefix_tokens.min(want.n_in),
            ),
        }
    }

    /// The score of a peer for which a job is expected to take this.
    #[must_use]
    pub fn score(&self, want: &Want, known: &Known, estimate: &Estimate) -> f64 {
        let Weights {
            cost,
            time,
            reliability,
            honesty,
        } = self.weights;
        let price = ((estimate.cost + LEAST_COST) / (self.median_cost + LEAST_COST)).ln();
        let slowness = (estimate.time_s / self.median_time_s).ln();
        let doubt = -known.record.p_ok().ln();
        let distrust = known
            .record
            .lie_rate()
            .map_or(UNCHECKED_PENALTY, |rate| LIE_PENALTY * rate);
        let bonus = match want.sticky {
            Some((peer, _)) if peer == known.peer => STICKY_BONUS,
            Some(_) | None => 0.0,
        };
        cost * price + time * slowness + reliability * doubt + honesty * distrust - bonus
    }

    /// `(4·0.7·claimed + Σ observed) / (4 + n)`, with a claim that no measurement contradicts by more than
    /// [`CLAIM_OVER_REFERENCE`].
    fn decode_tps_of(&self, known: &Known, claimed: f64) -> f64 {
        let seen = known.record.decode_tps;
        let reference = seen.value().unwrap_or(self.decode_tps);
        let claim = match claimed {
            claimed if claimed > 0.0 => claimed.min(CLAIM_OVER_REFERENCE * reference),
            _ => reference.min(UNCLAIMED_DECODE_TPS),
        };
        let tps = (CLAIM_WEIGHT * CLAIM_DISCOUNT * claim + seen.sum) / (CLAIM_WEIGHT + seen.weight);
        // A peer that never wrote a token is timed at a token in a hundred seconds, so that nothing is divided by zero.
        tps.max(0.01)
    }
}

/// The price of a job in base units, as a number to compare and never to pay.
fn cost(want: &Want, prices: &Prices, cached: u32) -> f64 {
    let price = |price: protocol::price::Price| price.base_units_per_mtok() as f64 / 1e6;
    f64::from(want.n_in.saturating_sub(cached)) * price(prices.input)
        + f64::from(cached) * price(prices.cached)
        + f64::from(want.expected_out) * price(prices.output)
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => values.get(middle).copied(),
        _ => Some(0.5 * (values.get(middle - 1)? + values.get(middle)?)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::price::Price;

    use super::{
        super::{
            Observation, Outcome, Quoted,
            examples::{NOW, known, peer, want},
        },
        *,
    };

    fn score(want: &Want, all: &[Known], at: usize) -> f64 {
        let references: Vec<&Known> = all.iter().collect();
        let yardstick = Yardstick::of(want, &references);
        yardstick.score(want, &all[at], &yardstick.estimate(want, &all[at]))
    }

    #[test]
    fn the_formula_by_hand() {
        let all = [known(1), known(2)];
        let references: Vec<&Known> = all.iter().collect();
        let yardstick = Yardstick::of(&want(), &references);
        let estimate = yardstick.estimate(&want(), &all[0]);
        // Nothing measured: 0.7 of the claim of 30; 50 ms, 500 tokens at 1000/s, 300 at 21/s.
        assert!((estimate.decode_tps - 21.0).abs() < 1e-9);
        assert!((estimate.time_s - (0.05 + 0.5 + 300.0 / 21.0)).abs() < 1e-9);
        // In the middle in price and time; a new peer, never checked.
        let expected = -(0.05f64.sqrt().ln()) + 0.3;
        assert!((yardstick.score(&want(), &all[0], &estimate) - expected).abs() < 1e-9);
    }

    #[test]
    fn presets_prefer_what_they_say() {
        let mut cheap_slow = known(1);
        cheap_slow.claims.decode_tps = 15;
        cheap_slow.claims.prices.output = Price::new(10u128.pow(20));
        let mut dear_fast = known(2);
        dear_fast.claims.decode_tps = 45;
        dear_fast.claims.prices.output = Price::new(4 * 10u128.pow(20));
        let all = [cheap_slow, dear_fast];
        let better = |preset| {
            let want = Want { preset, ..want() };
            usize::from(score(&want, &all, 1) < score(&want, &all, 0))
        };
        assert_eq!(better(Preset::Cheap), 0);
        assert_eq!(better(Preset::Fast), 1);
    }

    #[test]
    fn a_lie_about_speed_is_worth_a_factor_of_two_until_the_first_job() {
        let mut liar = known(0);
        liar.claims.decode_tps = u32::MAX;
        let mut all: Vec<Known> = (1..8).map(known).collect();
        all.insert(0, liar);
        let references: Vec<&Known> = all.iter().collect();
        let yardstick = Yardstick::of(&want(), &references);
        assert!(
            yardstick.estimate(&want(), &all[0]).decode_tps
                <= 2.0 * yardstick.estimate(&want(), &all[1]).decode_tps
        );
        let seen = Observation {
            decode_tps: Some(3.0),
            ..Observation::of(Outcome::Good)
        };
        all[0].record.observe(&seen, NOW);
        assert!(yardstick.estimate(&want(), &all[0]).decode_tps < 4.5);
    }

    #[test]
    fn a_quote_that_is_never_kept_is_corrected_by_how_late_it_was() {
        let mut late = known(1);
        for _ in 0..5 {
            let seen = Observation {
                late_ms: Some(4000.0),
                ..Observation::of(Outcome::Good)
            };
            late.record.observe(&seen, NOW);
        }
        let yardstick = Yardstick::of(&want(), &[&late]);
        let quote = Quoted {
            eta_first_token_ms: 10,
            decode_tps: 30,
            prices: late.claims.prices,
            cached_prefix_tokens: 0,
        };
        assert!(
            (yardstick
                .estimate_quoted(&want(), &late, &quote)
                .first_token_s
                - 4.01)
                .abs()
                < 1e-6
        );
    }

    #[test]
    fn the_last_peer_reads_only_what_is_new() {
        let want = Want {
            n_in: 4000,
            sticky: Some((peer(1), 3900)),
            ..want()
        };
        let all = [known(1), known(2)];
        let yardstick = Yardstick::of(&want, &[&all[0], &all[1]]);
        let (first, second) = (
            yardstick.estimate(&want, &all[0]),
            yardstick.estimate(&want, &all[1]),
        );
        assert!((second.first_token_s - first.first_token_s - 3.9).abs() < 1e-9);
        assert!(score(&want, &all, 0) < score(&want, &all, 1) - STICKY_BONUS);
    }

    proptest! {
        #[test]
        fn whatever_is_claimed_the_score_is_a_number(
            claims in prop::collection::vec(any::<(u32, u32, u32, u32, u128)>(), 1..12),
            n_in in any::<u32>(), expected_out in any::<u32>(), cached in any::<u32>(), rtt in any::<f64>(),
        ) {
            let want = Want { n_in, expected_out, sticky: Some((peer(0), cached)), ..want() };
            let all: Vec<Known> = claims.iter().enumerate().map(|(at, (slots, queue, prefill, decode, price))| {
                let mut known = known(at as u32);
                known.claims.slots = *slots;
                known.claims.queue_depth = *queue;
                known.claims.prefill_tps = *prefill;
                known.claims.decode_tps = *decode;
                known.claims.prices.output = Price::new(*price);
                known.rtt_ms = Some(rtt).filter(|rtt| rtt.is_finite() && *rtt >= 0.0).map(|rtt| rtt.min(1e9));
                known
            }).collect();
            for at in 0..all.len() {
                prop_assert!(score(&want, &all, at).is_finite());
            }
        }

        #[test]
        fn cheaper_faster_and_more_reliable_is_never_worse(price in 0..u64::MAX, tps in 1..10_000u32, good in 0..20u32) {
            let mut better = known(1);
            better.claims.prices.output = Price::new(u128::from(price));
            better.claims.decode_tps = tps;
            let mut worse = better.clone();
            worse.peer = peer(2);
            worse.claims.prices.output = Price::new(u128::from(price) * 2);
            worse.claims.decode_tps = tps.div_ceil(2);
            for _ in 0..good {
                better.record.observe(&Observation::of(Outcome::Good), NOW);
                worse.record.observe(&Observation::of(Outcome::Failed), NOW);
            }
            for preset in [Preset::Cheap, Preset::Balanced, Preset::Fast] {
                let want = Want { preset, ..want() };
                let all = [better.clone(), worse.clone()];
                prop_assert!(score(&want, &all, 0) <= score(&want, &all, 1));
            }
        }
    }
}
