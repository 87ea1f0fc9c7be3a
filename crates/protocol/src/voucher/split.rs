//! Which part of a line's total each of its live jobs was paid.
//!
//! A line has one running total, however many jobs run on it. A payer raises it for one job at a time and tells each job's stream
//! its own raises, so a voucher's owner is known by the stream it came on, and what it raised by where the one before it ended.
//! Streams are not ordered among each other: a voucher that comes late ends inside a raise that seemed to be another job's, and
//! takes its part out of it.
//!
//! What a job has used is used: a payer that signs lower totals for one new job after another is served no more than its line rose.

use std::collections::VecDeque;

use crate::JobId;

/// Raises that a late voucher can still take its part out of. A voucher is late by a round trip; a payer signs a few in that time.
const OPEN_RAISES: usize = 64;

/// One raise: whose it is, and the total that it ended at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Raise {
    upto: u128,
    /// `None`: no voucher came that says so.
    job: Option<JobId>,
}

/// What the voucher behind a first frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The line's total.
    pub cumulative: u128,
    /// How much of it pays for the job; below that others' raises end.
    pub adds: u128,
}

/// A job of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Live {
    job: JobId,
    /// What raises below the floor paid it.
    settled: u128,
    /// The most that it was paid at any time.
    most: u128,
    /// What was computed for it comes to so much.
    due: u128,
}

impl Live {
    /// What it used of what it was paid. What it owes beyond that is no part of the line's total.
    fn used(&self) -> u128 {
        self.due.min(self.most)
    }
}

/// The parts of one line's total.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// The total at which the first of the jobs began that were there without a break.
    began: u128,
    /// What of the total beyond that jobs used that are over.
    gone: u128,
    /// Where the oldest open raise begins.
    floor: u128,
    /// By their ends, all above `floor`, no two alike.
    raises: VecDeque<Raise>,
    /// In the order in which they began.
    live: Vec<Live>,
}

impl Split {
    /// Begins a job. `before` is the highest total that the payee held of this line when its voucher came. What the line rose by
    /// beyond the job's own part is nobody's until a voucher says whose.
    pub fn open(&mut self, job: JobId, before: u128, opening: Opening) {
        if self.live.is_empty() {
            // Whatever was owed or overpaid before is over.
            self.floor = self.highest().max(before);
            self.raises.clear();
            (self.began, self.gone) = (self.floor, 0);
        }
        if self.of(&job).is_none() {
            self.live.push(Live {
                job,
                settled: 0,
                most: 0,
                due: 0,
            });
        }
        let Opening { cumulative, adds } = opening;
        self.raise(None, cumulative.saturating_sub(adds));
        if adds > 0 {
            self.raise(Some(job), cumulative);
        }
    }

    /// Takes a voucher that came on a job's stream.
    pub fn take(&mut self, job: &JobId, cumulative: u128) {
        if self.of(job).is_some() {
            self.raise(Some(*job), cumulative);
        }
    }

    /// What was computed for a job comes to so many base units by now.
    pub fn uses(&mut self, job: &JobId, due: u128) {
        let paid = self.paid(job);
        if let Some(live) = self.live.iter_mut().find(|live| live.job == *job) {
            live.due = live.due.max(due);
            live.most = live.most.max(paid);
        }
    }

    fn of(&self, job: &JobId) -> Option<&Live> {
        self.live.iter().find(|live| live.job == *job)
    }

    fn raise(&mut self, job: Option<JobId>, upto: u128) {
        if upto <= self.floor {
            return;
        }
        let at = self.raises.partition_point(|raise| raise.upto < upto);
        if let Some(known) = self.raises.get_mut(at).filter(|raise| raise.upto == upto) {
            known.job = known.job.or(job);
        } else {
            self.raises.insert(at, Raise { upto, job });
            if self.raises.len() > OPEN_RAISES {
                self.settle_oldest();
            }
        }
        let Some(job) = job else { return };
        let paid = self.paid(&job);
        if let Some(live) = self.live.iter_mut().find(|live| live.job == job) {
            live.most = live.most.max(paid);
        }
    }

    /// Ends a job.
    pub fn close(&mut self, job: &JobId) {
        self.gone += self.of(job).map_or(0, Live::used);
        self.live.retain(|live| live.job != *job);
    }

    /// Base units of the line's total that were paid for this job.
    pub fn paid(&self, job: &JobId) -> u128 {
        let others = self.live.iter().filter(|live| live.job != *job);
        let used = others.map(Live::used).fold(self.gone, u128::saturating_add);
        let left = (self.highest() - self.began).saturating_sub(used);
        self.part(job).min(left)
    }

    /// The part of the total that is this job's by its vouchers.
    fn part(&self, job: &JobId) -> u128 {
        let mut from = self.floor;
        let mut paid = self.of(job).map_or(0, |live| live.settled);
        for raise in &self.raises {
            if raise.job == Some(*job) {
                // Parts of one total, which fits.
                paid += raise.upto - from;
            }
            from = raise.upto;
        }
        paid
    }

    /// Whether no job lives on the line.
    pub fn is_idle(&self) -> bool {
        self.live.is_empty()
    }

    /// The highest total that came.
    fn highest(&self) -> u128 {
        self.raises.back().map_or(self.floor, |raise| raise.upto)
    }

    fn settle_oldest(&mut self) {
        if let Some(raise) = self.raises.pop_front() {
            let part = raise.upto - self.floor;
            let mut live = self.live.iter_mut();
            if let Some(live) = live.find(|live| Some(live.job) == raise.job) {
                live.settled += part;
            }
            self.floor = raise.upto;
        }
    }
}
