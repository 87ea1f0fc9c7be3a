//! Places in line: a provider without a free slot lets the job wait, and says at every heartbeat how many wait in front of it.
//!
//! Who waits in line has lost nothing and keeps looking: the next candidate is asked beside it, whoever takes the job first gets
//! it, and the other places are left at once. Of more places than [`MAX_LINES`] the one with most in front is given up.

use super::{
    Action, AnswerPhase, AttemptEnd, AttemptId, Lie, Progress as Said,
    end::Parting,
    machine::{Attempt, Client, State},
    span::{MAX_RTT_MS, MAX_SILENCE_MS},
};
use crate::{
    Clock,
    frame::{CancelReason, Phase, Progress},
    job::OPEN_EXPIRY_MS,
};

/// Places in line that one answer keeps: the shortest two that were found. With more, everybody's lines are full of people who stand
/// in several.
pub const MAX_LINES: usize = 2;
/// A line that was left for shorter ones, or in which the job could not begin in time, is looked at again after this long.
pub const LINE_AGAIN_MS: u32 = 5_000;
/// A change of the place is shown this often at most, whatever a provider floods.
const TELL_MS: u64 = 100;

/// A place in a provider's line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Jobs that wait in front of ours, as the provider says.
    in_front: u32,
    since_ms: u64,
}

impl Line {
    /// Until when the job may begin, by the first frame.
    fn holds_until(self) -> u64 {
        self.since_ms + OPEN_EXPIRY_MS
    }

    /// Why a place is given up of which nothing more was heard in time.
    pub(super) fn given_up(self, now_ms: u64) -> AttemptEnd {
        match now_ms >= self.holds_until() {
            true => again(),
            false => AttemptEnd::Silent,
        }
    }
}

/// The provider did nothing wrong, and may be asked anew.
fn again() -> AttemptEnd {
    AttemptEnd::Busy {
        retry_after_ms: LINE_AGAIN_MS,
    }
}

/// The place that was shown last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    attempt: AttemptId,
    in_front: u32,
    at_ms: u64,
}

impl Attempt {
    fn line(&self) -> Option<Line> {
        match &self.state {
            State::Opened { line, .. } => *line,
            State::Connecting { .. } | State::Running { .. } | State::Local { .. } => None,
        }
    }

    /// Whether it only waits.
    pub(super) fn is_in_line(&self) -> bool {
        self.line().is_some()
    }
}

impl Client {
    /// A job that was not accepted yet hears where it stands in line.
    pub(super) fn in_line(
        &mut self,
        at: usize,
        progress: &Progress,
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        let State::Opened {
            until,
            patient_until,
            rtt_ms,
            kept: None,
            line,
            ..
        } = &mut self.attempts[at].state
        else {
            // A job that is to be taken up runs, or is gone.
            return self.lied(at, Lie::OutOfTurn("Progress"), now, out);
        };
        if progress.phase() != Phase::Queued {
            return self.lied(at, Lie::OutOfTurn("Progress"), now, out);
        }
        let stands = Line {
            in_front: progress.queue_pos,
            since_ms: line.map_or(now.mono_ms, |line| line.since_ms),
        };
        *line = Some(stands);
        let silent_at = now.mono_ms + MAX_SILENCE_MS + (*rtt_ms).min(MAX_RTT_MS);
        *until = silent_at.min(stands.holds_until());
        *patient_until = (*patient_until).min(now.mono_ms);
        self.leave_longest(now, out);
        self.show_line(now, out);
    }

    /// Keeps the shortest lines.
    fn leave_longest(&mut self, now: Clock, out: &mut Vec<Action>) {
        let lines = self.attempts.iter().enumerate();
        let lines = lines.filter_map(|(at, attempt)| Some((at, attempt.line()?.in_front)));
        if lines.clone().count() <= MAX_LINES {
            return;
        }
        // Of equal ones the youngest: it waited least.
        if let Some((longest, _)) = lines.max_by_key(|&(at, in_front)| (in_front, at)) {
            let parting = Parting::Cancel(CancelReason::LostRace);
            self.end(longest, again(), parting, now, out);
        }
    }

    /// Somebody took the job: nobody else is waited for.
    pub(super) fn leave_lines(&mut self, now: Clock, out: &mut Vec<Action>) {
        while let Some(at) = self.attempts.iter().position(Attempt::is_in_line) {
            let parting = Parting::Cancel(CancelReason::LostRace);
            self.end(at, AttemptEnd::LostRace, parting, now, out);
        }
    }

    /// Shows the best place, where nothing but waiting is going on.
    fn show_line(&mut self, now: Clock, out: &mut Vec<Action>) {
        if !self.attempts.iter().all(Attempt::is_in_line) {
            return;
        }
        let lines = self.attempts.iter();
        let lines = lines.filter_map(|attempt| Some((attempt.line()?.in_front, attempt)));
        let Some((in_front, best)) =
            lines.min_by_key(|(in_front, attempt)| (*in_front, attempt.id))
        else {
            return;
        };
        let (attempt, place) = (best.id, best.place);
        let known = self.shown_line.is_some_and(|shown| {
            (shown.attempt, shown.in_front) == (attempt, in_front)
                || now.mono_ms < shown.at_ms + TELL_MS
        });
        if known {
            return;
        }
        self.shown_line = Some(Shown {
            attempt,
            in_front,
            at_ms: now.mono_ms,
        });
        out.push(Action::Progress(Said {
            attempt,
            place,
            phase: AnswerPhase::InLine,
            done: 0,
            total: 0,
            queue_pos: in_front,
        }));
    }
}
