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
    job: JobId,
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
    /// Begins a job. `held` is the highest total that the payee holds of this line, with the voucher that came behind the job's
    /// first frame. That one pays for nothing: what it raises, others are about to be told.
    pub fn open(&mut self, job: JobId, held: u128) {
        if self.live.is_empty() {
            // Whatever was owed or overpaid before is over.
            self.raises.clear();
            self.floor = self.highest().max(held);
        } else if let Some(&(other, _)) = self.live.first() {
            self.take(&other, held);
        }
        if !self.live.iter().any(|(live, _)| *live == job) {
            self.live.push((job, 0));
        }
    }

    /// Takes a voucher that came on a job's stream.
    pub fn take(&mut self, job: &JobId, cumulative: u128) {
        if cumulative <= self.floor || !self.live.iter().any(|(live, _)| live == job) {
            return;
        }
        let at = self.raises.partition_point(|raise| raise.upto < cumulative);
        if self
            .raises
            .get(at)
            .is_some_and(|raise| raise.upto == cumulative)
        {
            return;
        }
        self.raises.insert(
            at,
            Raise {
                upto: cumulative,
                job: *job,
            },
        );
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
            if raise.job == *job {
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
            if let Some((_, settled)) = self.live.iter_mut().find(|(job, _)| *job == raise.job) {
                *settled += part;
            }
            self.floor = raise.upto;
        }
    }
}
