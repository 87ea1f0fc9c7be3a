//! The network's share of the device's time: a bucket of seconds that refills at the rate of the share.

use std::time::Duration;

/// Most seconds of the device that are saved up, for a share of one: as much as makes up for who comes late for a burst.
const SAVED: f64 = 2.0 * BURST;

/// Seconds of the device, for a share of one, that a spent budget gathers before it is used again. The first step after a
/// pause is slower than those in a row, as threads sleep and caches are cold: computing in bursts gets more out of the same
/// share. A pause of a second is short beside a stranger's answer and beside what an asker waits before it thinks that a
/// provider is gone, and what the first step loses is little beside a burst.
const BURST: f64 = 1.0;

/// A refilled budget. It may be overdrawn by a step, which the next ones wait for: over time the share is kept exactly.
#[derive(Debug, Clone)]
pub struct Budget {
    share: f64,
    /// Seconds of the device, at `at`.
    level: f64,
    at: Duration,
    /// It was spent, and has not gathered enough for a burst yet.
    gathers: bool,
}

impl Budget {
    /// A budget of a share between 0 and 1, full.
    pub fn new(share: f32, now: Duration) -> Self {
        let share = f64::from(share).clamp(0.0, 1.0);
        Self {
            share,
            level: SAVED * share,
            at: now,
            gathers: false,
        }
    }

    /// Another share from now on. What was saved or overdrawn under the old one stays, up to what the new one may save.
    pub fn set_share(&mut self, share: f32, now: Duration) {
        self.level = self.level(now);
        self.at = now;
        self.share = f64::from(share).clamp(0.0, 1.0);
        self.level = self.level.min(SAVED * self.share);
    }

    /// Whether nothing is left, or not enough yet for another burst. A share of one is never spent, since nobody else may use the time.
    pub fn is_spent(&self, now: Duration) -> bool {
        self.share < 1.0 && self.level(now) <= self.enough()
    }

    /// How long until it can be used again; `None` for never.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        let short = self.enough() - self.level(now);
        if short < 0.0 {
            return Some(Duration::ZERO);
        }
        // A microsecond more, so that whoever waits that long finds something. A share next to nothing waits for ever.
        let wait = Duration::try_from_secs_f64(short / self.share + 1e-6);
        (self.share > 0.0).then(|| wait.unwrap_or(Duration::MAX))
    }

    /// Takes the seconds of the device that have just passed, or a part of them.
    pub fn spend(&mut self, seconds: f64, now: Duration) {
        let seconds = seconds.max(0.0);
        // What comes in while they pass is not lost to the bucket's size.
        let begun = now.saturating_sub(Duration::from_secs_f64(seconds));
        let level = self.level(begun);
        self.gathers &= level <= self.enough();
        self.level = level - seconds * (1.0 - self.share);
        self.gathers |= self.level <= 0.0;
        self.at = now;
    }

    /// More than this must be there before it is used.
    fn enough(&self) -> f64 {
        match self.gathers {
            true => BURST * self.share,
            false => 0.0,
        }
    }

    fn level(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        (self.level + passed * self.share).min(SAVED * self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(value: f64) -> Duration {
        Duration::from_secs_f64(value)
    }

    #[test]
    fn nothing_is_left_of_no_share_and_always_something_of_all() {
        let none = Budget::new(0.0, Duration::ZERO);
        assert!(none.is_spent(seconds(1e6)));
        assert_eq!(none.wait(seconds(1e6)), None);
        let mut least = Budget::new(f32::MIN_POSITIVE, Duration::ZERO);
        least.spend(1.0, seconds(1.0));
        assert_eq!(least.wait(seconds(1.0)), Some(Duration::MAX));
        let mut all = Budget::new(1.0, Duration::ZERO);
        all.spend(100.0, seconds(1.0));
        assert!(!all.is_spent(seconds(1.0)));
    }

    proptest::proptest! {
        /// Whoever computes whenever something is left, in steps of any length, gets the share.
        #[test]
        fn the_share_is_kept(share in 0.05f32..0.95, steps in proptest::collection::vec(0.001f64..0.2, 50..200)) {
            let mut budget = Budget::new(share, Duration::ZERO);
            let (mut now, mut used) = (0.0, 0.0);
            for step in &steps {
                if let Some(wait) = budget.wait(seconds(now)).filter(|_| budget.is_spent(seconds(now))) {
                    now += wait.as_secs_f64();
                    proptest::prop_assert!(!budget.is_spent(seconds(now)));
                }
                now += step;
                used += step;
                budget.spend(*step, seconds(now));
            }
            // Never more than the share, what was saved, and one step; and nothing is wasted but what is being gathered.
            let share = f64::from(share);
            let longest = steps.iter().copied().fold(0.0, f64::max);
            proptest::prop_assert!(used <= now * share + SAVED * share + longest + 1e-6);
            proptest::prop_assert!(used + longest + BURST * share >= now * share - 1e-3);
        }

        /// A pause is followed by as many steps as what was gathered pays for.
        #[test]
        fn steps_come_in_bursts(share in 0.05f32..0.95, step in 0.001f64..0.01) {
            let mut budget = Budget::new(share, Duration::ZERO);
            let (mut now, mut steps, mut pauses) = (0.0, 0, 0);
            while pauses < 20 {
                if budget.is_spent(seconds(now)) {
                    now += budget.wait(seconds(now)).unwrap().as_secs_f64();
                    pauses += 1;
                }
                now += step;
                steps += 1;
                budget.spend(step, seconds(now));
            }
            let share = f64::from(share);
            let paid = BURST * share / (step * (1.0 - share));
            proptest::prop_assert!(f64::from(steps) >= f64::from(pauses - 1) * paid.floor());
        }
    }
}
