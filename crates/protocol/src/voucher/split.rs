//! Which part of a line's total each of its live jobs was paid.
//!
//! A line has one running total, however many jobs run on it. A payer raises it for one job at a time and tells each job's stream
//! its own raises, so a voucher's owner is known by the stream it came on, and what it raised by where the one before it ended.
//! Streams are not ordered among each other: a voucher that comes late ends inside a raise that seemed to be another job's, and
//! takes its part out of it.

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

/// The parts of one line's total.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Where the oldest open raise begins.
    floor: u128,
    /// By their ends, all above `floor`, no two alike.
    raises: VecDeque<Raise>,
    /// What raises below `floor` paid each live job, in the order in which they began.
    live: Vec<(JobId, u128)>,
}

impl Split {
    /// Begins a job. `before` is the highest total that the payee held of this line when its voucher came. What the line rose by
    /// beyond the job's own part is nobody's until a voucher says whose.
    pub fn open(&mut self, job: JobId, before: u128, opening: Opening) {
        if self.live.is_empty() {
            // Whatever was owed or overpaid before is over.
            self.floor = self.highest().max(before);
            self.raises.clear();
        }
        if !self.live.iter().any(|(live, _)| *live == job) {
            self.live.push((job, 0));
        }
        let Opening { cumulative, adds } = opening;
        self.raise(None, cumulative.saturating_sub(adds));
        if adds > 0 {
            self.raise(Some(job), cumulative);
        }
    }

    /// Takes a voucher that came on a job's stream.
    pub fn take(&mut self, job: &JobId, cumulative: u128) {
        if self.live.iter().any(|(live, _)| live == job) {
            self.raise(Some(*job), cumulative);
        }
    }

    fn raise(&mut self, job: Option<JobId>, upto: u128) {
        if upto <= self.floor {
            return;
        }
        let at = self.raises.partition_point(|raise| raise.upto < upto);
        if let Some(known) = self.raises.get_mut(at).filter(|raise| raise.upto == upto) {
            known.job = known.job.or(job);
            return;
        }
        self.raises.insert(at, Raise { upto, job });
        if self.raises.len() > OPEN_RAISES {
            self.settle_oldest();
        }
    }

    /// Ends a job.
    pub fn close(&mut self, job: &JobId) {
        self.live.retain(|(live, _)| live != job);
    }

    /// Base units of the line's total that were paid for this job.
    pub fn paid(&self, job: &JobId) -> u128 {
        let settled = self
            .live
            .iter()
            .find(|(live, _)| live == job)
            .map_or(0, |(_, settled)| *settled);
        let mut from = self.floor;
        let mut paid = settled;
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
            if let Some((_, settled)) = live.find(|(job, _)| Some(*job) == raise.job) {
                *settled += part;
            }
            self.floor = raise.upto;
        }
    }
}
