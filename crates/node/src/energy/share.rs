//! Who took what: what the meters counted, given to the jobs that were computed meanwhile; what they count now, and while nothing is
//! computed.
//!
//! A stretch is the time between two looks at the meters. Everything that was computed in it has the same part of it: jobs of others, and
//! the owner's own answers, whose part is nobody's.

use std::collections::{BTreeMap, VecDeque};

use ledger::Drawn;
use protocol::JobId;

/// Quiet stretches that idle power is taken from: the last minutes of quiet, so that it follows a screen that goes dark.
const IDLE_STRETCHES: usize = 20;

/// A stretch that is shorter says little of power, in microseconds: counters move in steps.
pub(super) const SHORTEST_US: u64 = 2_000_000;

/// Jobs that are computed, and what each took so far.
#[derive(Debug, Default)]
pub(super) struct Shares(BTreeMap<JobId, Taking>);

/// One job.
#[derive(Debug, Default)]
struct Taking {
    still: bool,
    taken: Taken,
}

/// What a job took, before it is known what idle takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Its part of the time, in microseconds.
    pub(super) share_us: u64,
    /// Its part of what the meters counted, in microjoules.
    drawn_uj: u64,
    /// Stretches that meters counted, and others, are in it.
    metered: bool,
    unmetered: bool,
}

impl Taken {
    /// How its energy is known: by the meters where they counted all of it, by the person's figure where they counted none of it.
    pub(super) fn drawn(&self, idle_mw: Option<u64>, stated_mw: Option<u64>) -> Option<Drawn> {
        match (self.metered, self.unmetered) {
            (true, false) => Some(Drawn::Metered {
                drawn_mj: self.drawn_uj / 1000,
                idle_mw: idle_mw?,
            }),
            (false, true) => Some(Drawn::Stated {
                power_mw: stated_mw?,
            }),
            (true, true) | (false, false) => None,
        }
    }
}

impl Shares {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn begin(&mut self, job: JobId) {
        self.0.insert(job, Taking::default());
    }

    /// Whether any of them is computed, and not waiting.
    pub(super) fn compute(&self) -> bool {
        self.0.values().any(|taking| !taking.still)
    }

    /// It waits, or goes on.
    pub(super) fn set_still(&mut self, job: &JobId, still: bool) {
        if let Some(taking) = self.0.get_mut(job) {
            taking.still = still;
        }
    }

    /// What a job took in all.
    pub(super) fn end(&mut self, job: &JobId) -> Option<Taken> {
        Some(self.0.remove(job)?.taken)
    }

    /// Divides a stretch of so many microseconds. `counted_uj` is what the meters counted in it, `None` where they did not; `own` answers
    /// were computed beside the jobs.
    pub(super) fn divide(&mut self, stretch_us: u64, counted_uj: Option<u64>, own: usize) {
        let computed = self.0.values_mut().filter(|taking| !taking.still);
        let computed: Vec<&mut Taking> = computed.collect();
        let parts = (computed.len() + own).max(1) as u64;
        for Taking { taken, .. } in computed {
            taken.share_us = taken.share_us.saturating_add(stretch_us / parts);
            match counted_uj {
                Some(counted) => {
                    taken.metered = true;
                    taken.drawn_uj = taken.drawn_uj.saturating_add(counted / parts);
                }
                None => taken.unmetered = true,
            }
        }
    }
}

/// What the meters count while nothing is computed.
#[derive(Debug, Default)]
pub(super) struct Idle(VecDeque<u64>);

impl Idle {
    /// A quiet stretch in which they counted this much.
    pub(super) fn quiet(&mut self, stretch_us: u64, counted_uj: u64) {
        if self.0.len() == IDLE_STRETCHES {
            self.0.pop_front();
        }
        self.0.push_back(milliwatts(stretch_us, counted_uj));
    }

    /// The median of the last quiet stretches in milliwatts: another program that wakes up now and then does not move it. `None` before
    /// the first one.
    pub(super) fn milliwatts(&self) -> Option<u64> {
        let mut sorted: Vec<u64> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

/// What the meters count now.
#[derive(Debug, Default)]
pub(super) struct Power {
    stretch_us: u64,
    counted_uj: u64,
    milliwatts: Option<u64>,
}

impl Power {
    /// A stretch in which they counted this much; `None` where they did not count.
    pub(super) fn counted(&mut self, stretch_us: u64, counted_uj: Option<u64>) {
        let Some(counted_uj) = counted_uj else {
            *self = Self::default();
            return;
        };
        self.stretch_us = self.stretch_us.saturating_add(stretch_us);
        self.counted_uj = self.counted_uj.saturating_add(counted_uj);
        if self.stretch_us >= SHORTEST_US {
            *self = Self {
                milliwatts: Some(milliwatts(self.stretch_us, self.counted_uj)),
                ..Self::default()
            };
        }
    }

    /// The mean of the last stretches that were long enough together, in milliwatts. `None` before the first ones, and where nothing
    /// counts.
    pub(super) fn milliwatts(&self) -> Option<u64> {
        self.milliwatts
    }
}

fn milliwatts(stretch_us: u64, counted_uj: u64) -> u64 {
    // Microjoules by microseconds are watts.
    let milliwatts = u128::from(counted_uj) * 1000 / u128::from(stretch_us.max(1));
    u64::try_from(milliwatts).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn job(number: u8) -> JobId {
        JobId::new([number; 32])
    }

    fn metered(drawn_mj: u64, idle_mw: u64) -> Option<Drawn> {
        Some(Drawn::Metered { drawn_mj, idle_mw })
    }

    #[test]
    fn what_is_computed_at_once_has_equal_parts_and_nothing_is_counted_twice() {
        let mut shares = Shares::default();
        shares.begin(job(1));
        shares.divide(SECOND, Some(10_000_000), 0);
        shares.begin(job(2));
        shares.divide(SECOND, Some(20_000_000), 0);
        let first = shares.end(&job(1)).unwrap();
        shares.divide(SECOND, Some(4_000_000), 0);
        let second = shares.end(&job(2)).unwrap();
        assert_eq!(first.drawn(Some(5), None), metered(20_000, 5));
        assert_eq!(first.share_us, SECOND * 3 / 2);
        assert_eq!(second.drawn(Some(5), None), metered(14_000, 5));
        assert_eq!(second.share_us, SECOND * 3 / 2);
        assert!(shares.is_empty());
    }

    #[test]
    fn the_owners_answers_carry_their_own_part() {
        let mut shares = Shares::default();
        shares.begin(job(1));
        shares.begin(job(2));
        shares.divide(SECOND, Some(9_000_000), 1);
        for number in [1, 2] {
            assert_eq!(
                shares.end(&job(number)).unwrap().drawn(Some(0), None),
                metered(3_000, 0)
            );
        }
        // A job that was never heard of.
        assert_eq!(shares.end(&job(3)), None);
    }

    #[test]
    fn a_job_that_waits_takes_nothing() {
        let mut shares = Shares::default();
        shares.begin(job(1));
        shares.divide(SECOND, Some(1_000_000), 0);
        shares.set_still(&job(1), true);
        assert!(!shares.compute());
        shares.divide(60 * SECOND, Some(60_000_000), 0);
        shares.set_still(&job(1), false);
        assert!(shares.compute());
        shares.divide(SECOND, Some(1_000_000), 0);
        let taken = shares.end(&job(1)).unwrap();
        assert_eq!(taken.drawn(Some(0), None), metered(2_000, 0));
        assert_eq!(taken.share_us, 2 * SECOND);
    }

    #[test]
    fn what_was_counted_in_part_or_without_idle_is_not_known() {
        let mut shares = Shares::default();
        shares.begin(job(1));
        shares.divide(SECOND, Some(1_000_000), 0);
        shares.begin(job(2));
        shares.divide(SECOND, None, 0);
        shares.divide(SECOND, Some(1_000_000), 0);
        for number in [1, 2] {
            let taken = shares.end(&job(number)).unwrap();
            assert_eq!(taken.drawn(Some(1), Some(1)), None);
        }
        shares.begin(job(3));
        shares.divide(SECOND, Some(1_000_000), 0);
        let taken = shares.end(&job(3)).unwrap();
        assert_eq!(taken.drawn(None, Some(1)), None);
        // A job that ended before anybody looked.
        shares.begin(job(4));
        assert_eq!(shares.end(&job(4)).unwrap().drawn(Some(1), Some(1)), None);
    }

    #[test]
    fn the_persons_figure_counts_where_no_meter_did_and_only_if_there_is_one() {
        let mut shares = Shares::default();
        shares.begin(job(1));
        shares.divide(SECOND, None, 0);
        let taken = shares.end(&job(1)).unwrap();
        assert_eq!(taken.drawn(None, None), None);
        assert_eq!(
            taken.drawn(Some(3), Some(65_000)),
            Some(Drawn::Stated { power_mw: 65_000 })
        );
    }

    #[test]
    fn power_is_that_of_the_last_stretches_and_of_nothing_where_nothing_counts() {
        let mut power = Power::default();
        power.counted(SECOND, Some(50_000_000));
        assert_eq!(power.milliwatts(), None, "too short");
        power.counted(SECOND, Some(70_000_000));
        assert_eq!(power.milliwatts(), Some(60_000));
        power.counted(SECOND, Some(0));
        assert_eq!(power.milliwatts(), Some(60_000));
        power.counted(9 * SECOND, Some(120_000_000));
        assert_eq!(power.milliwatts(), Some(12_000));
        power.counted(9 * SECOND, None);
        assert_eq!(power.milliwatts(), None);
    }

    #[test]
    fn idle_is_the_median_of_the_last_quiet_stretches() {
        let mut idle = Idle::default();
        assert_eq!(idle.milliwatts(), None);
        idle.quiet(2 * SECOND, 24_000_000);
        assert_eq!(idle.milliwatts(), Some(12_000));
        for watts in [12, 90, 13] {
            idle.quiet(SECOND, watts * SECOND);
        }
        assert_eq!(idle.milliwatts(), Some(13_000));
        for _ in 0..IDLE_STRETCHES {
            idle.quiet(SECOND, 7 * SECOND);
        }
        assert_eq!(idle.milliwatts(), Some(7_000));
        idle.quiet(0, 1);
    }
}
