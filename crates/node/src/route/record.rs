//! What this computer saw of one peer with one model. First hand alone: nobody else's word counts.

/// Jobs after which what was seen before counts half.
pub const HALF_LIFE_JOBS: f64 = 20.0;

/// Time after which what was seen before counts half.
pub const HALF_LIFE_MS: u64 = 24 * 60 * 60 * 1000;

/// A weight below this is nothing: one job four days later.
const FORGOTTEN: f64 = 0.06;

/// The most that one first token may count as late: an hour says no more than ten minutes.
const MAX_LATE_MS: f64 = 600_000.0;

/// Faster than any machine writes for one person; a clock that stood still gives infinities.
const MAX_TPS: f64 = 10_000.0;

/// A mean whose older values fade.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mean {
    /// Weighted sum of the values.
    pub sum: f64,
    /// Sum of the weights: how many values it is worth.
    pub weight: f64,
}

impl Mean {
    /// The mean; `None` when nothing that counts was seen.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        (self.weight > FORGOTTEN).then(|| self.sum / self.weight)
    }

    fn fade(&mut self, factor: f64) {
        self.sum *= factor;
        self.weight *= factor;
    }

    fn add(&mut self, value: f64) {
        self.sum += value;
        self.weight += 1.0;
    }

    fn is_sane(&self) -> bool {
        self.sum.is_finite() && self.weight.is_finite() && self.weight >= 0.0
    }
}

/// How a job at a peer went, as far as the peer is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did its part to the end.
    Good,
    /// It broke off, fell silent, or could not be reached.
    Failed,
    /// What it sent or signed was a lie that was found out.
    Lied,
    /// It ended for reasons that are not the peer's.
    Neutral,
}

/// What one job showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// How it went.
    pub outcome: Outcome,
    /// Round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// How much later than promised the first token came, milliseconds; negative when it came earlier.
    pub late_ms: Option<f64>,
    /// Tokens per second from the first to the last.
    pub decode_tps: Option<f64>,
    /// Heartbeats came and nothing moved, so that somebody else was tried beside it.
    pub stalled: bool,
}

impl Observation {
    /// Nothing but how it went.
    #[must_use]
    pub fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            rtt_ms: None,
            late_ms: None,
            decode_tps: None,
            stalled: false,
        }
    }
}

/// What was seen of one peer with one model, faded by jobs and by time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Record {
    /// When it last changed, Unix milliseconds.
    pub updated_ms: u64,
    /// Round trip, milliseconds.
    pub rtt_ms: Mean,
    /// How much later than promised first tokens came, milliseconds.
    pub late_ms: Mean,
    /// Tokens written per second.
    pub decode_tps: Mean,
    /// Jobs that went well.
    pub successes: f64,
    /// Jobs that failed by its fault.
    pub failures: f64,
    /// Jobs in which it stood still for long.
    pub stalls: f64,
    /// Answers that were checked, lies included.
    pub checked: f64,
    /// Lies.
    pub lies: f64,
}

impl Record {
    /// The record as it counts at this time. A clock that went back fades nothing.
    #[must_use]
    pub fn at(mut self, now_ms: u64) -> Self {
        let age = now_ms.saturating_sub(self.updated_ms);
        if age > 0 && self.updated_ms > 0 {
            self.fade((-(age as f64) / HALF_LIFE_MS as f64).exp2());
            self.updated_ms = now_ms;
        }
        self
    }

    /// Adds what a job showed.
    pub fn observe(&mut self, seen: &Observation, now_ms: u64) {
        *self = self.at(now_ms);
        self.updated_ms = self.updated_ms.max(now_ms);
        self.fade((-1.0 / HALF_LIFE_JOBS).exp2());
        match seen.outcome {
            Outcome::Good => self.successes += 1.0,
            Outcome::Failed => self.failures += 1.0,
            Outcome::Lied => {
                self.failures += 1.0;
                self.checked += 1.0;
                self.lies += 1.0;
            }
            Outcome::Neutral => {}
        }
        if seen.stalled {
            self.stalls += 1.0;
        }
        let finite = |value: &f64| value.is_finite();
        if let Some(rtt) = seen.rtt_ms.filter(finite) {
            self.rtt_ms.add(rtt.clamp(0.0, MAX_LATE_MS));
        }
        if let Some(late) = seen.late_ms.filter(finite) {
            self.late_ms.add(late.clamp(-MAX_LATE_MS, MAX_LATE_MS));
        }
        if let Some(tps) = seen.decode_tps.filter(finite) {
            self.decode_tps.add(tps.clamp(0.0, MAX_TPS));
        }
    }

    /// Adds what was seen with another model, for a sum over all of a peer's.
    pub fn add(&mut self, other: &Self) {
        self.updated_ms = self.updated_ms.max(other.updated_ms);
        for (mean, more) in [
            (&mut self.rtt_ms, other.rtt_ms),
            (&mut self.late_ms, other.late_ms),
            (&mut self.decode_tps, other.decode_tps),
        ] {
            mean.sum += more.sum;
            mean.weight += more.weight;
        }
        for (count, more) in [
            (&mut self.successes, other.successes),
            (&mut self.failures, other.failures),
            (&mut self.stalls, other.stalls),
            (&mut self.checked, other.checked),
            (&mut self.lies, other.lies),
        ] {
            *count += more;
        }
    }

    /// Jobs that went well or failed, as far as they still count; at most about 29.
    #[must_use]
    pub fn jobs(&self) -> f64 {
        self.successes + self.failures
    }

    /// The probability with which a job here goes well, as the 5 % quantile of Beta(2 + successes, 1 + failures): a new
    /// peer has 0.22, and only many good jobs bring it near 1.
    #[must_use]
    pub fn p_ok(&self) -> f64 {
        super::beta::quantile(0.05, 2.0 + self.successes, 1.0 + self.failures)
    }

    /// The share of checked answers that were lies; `None` when nothing was ever checked.
    #[must_use]
    pub fn lie_rate(&self) -> Option<f64> {
        (self.checked > FORGOTTEN).then(|| (self.lies / self.checked).clamp(0.0, 1.0))
    }

    /// Whether all of it has faded away.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        let most = [
            self.rtt_ms.weight,
            self.successes,
            self.failures,
            self.stalls,
            self.checked,
        ];
        most.into_iter().all(|weight| weight <= FORGOTTEN)
    }

    /// Whether the numbers are ones that [`Record::observe`] can give: a file on the disk may hold anything.
    #[must_use]
    pub fn is_sane(&self) -> bool {
        let counts = [
            self.successes,
            self.failures,
            self.stalls,
            self.checked,
            self.lies,
        ];
        counts
            .into_iter()
            .all(|count| count.is_finite() && count >= 0.0)
            && [self.rtt_ms, self.late_ms, self.decode_tps]
                .iter()
                .all(Mean::is_sane)
    }

    fn fade(&mut self, factor: f64) {
        for mean in [&mut self.rtt_ms, &mut self.late_ms, &mut self.decode_tps] {
            mean.fade(factor);
        }
        for count in [
            &mut self.successes,
            &mut self.failures,
            &mut self.stalls,
            &mut self.checked,
            &mut self.lies,
        ] {
            *count *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::examples::NOW, *};

    #[test]
    fn half_after_twenty_jobs_and_half_after_a_day() {
        let mut record = Record::default();
        record.observe(&Observation::of(Outcome::Failed), NOW);
        for _ in 0..20 {
            record.observe(&Observation::of(Outcome::Good), NOW);
        }
        assert!((record.failures - 0.5).abs() < 1e-9, "{record:?}");
        let later = record.at(NOW + HALF_LIFE_MS);
        assert!((later.failures - 0.25).abs() < 1e-9);
        assert!((later.successes - record.successes / 2.0).abs() < 1e-9);
        assert_eq!(later.at(NOW), later, "a clock that goes back fades nothing");
    }

    #[test]
    fn a_new_peer_has_0_22_and_many_good_jobs_bring_it_near_1() {
        let mut record = Record::default();
        assert!((record.p_ok() - 0.2236).abs() < 1e-4);
        for _ in 0..200 {
            record.observe(&Observation::of(Outcome::Good), NOW);
        }
        assert!(record.p_ok() > 0.9, "{}", record.p_ok());
        record.observe(&Observation::of(Outcome::Failed), NOW);
        assert!(record.p_ok() < 0.88);
        assert!(!record.is_forgotten());
        assert!(record.at(NOW + 10 * HALF_LIFE_MS).is_forgotten());
    }

    #[test]
    fn a_lie_is_remembered_as_one() {
        let mut record = Record::default();
        assert_eq!(record.lie_rate(), None);
        record.observe(&Observation::of(Outcome::Lied), NOW);
        assert_eq!(record.lie_rate(), Some(1.0));
    }

    proptest! {
        #[test]
        fn whatever_is_observed_stays_sane_and_bounded(
            jobs in prop::collection::vec((0..4u8, any::<f64>(), any::<f64>(), any::<f64>(), any::<u64>()), 0..200)
        ) {
            let mut record = Record::default();
            for (outcome, rtt, late, tps, at) in jobs {
                let outcome = [Outcome::Good, Outcome::Failed, Outcome::Lied, Outcome::Neutral][usize::from(outcome)];
                let seen = Observation { outcome, rtt_ms: Some(rtt), late_ms: Some(late), decode_tps: Some(tps), stalled: true };
                record.observe(&seen, at);
                prop_assert!(record.is_sane());
                // The sum of a geometric series whose ratio is 2^(-1/20).
                prop_assert!(record.successes + record.failures <= 30.0);
                prop_assert!((0.0..=1.0).contains(&record.p_ok()));
            }
        }
    }
}
