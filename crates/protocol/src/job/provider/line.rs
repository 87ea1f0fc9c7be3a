//! The job's slot: sought once the job is found good and its payer is, and waited for in line where none is free.
//!
//! Nothing is computed, written down or paid for in line. Who stands there is told its place at every heartbeat, and is out of it
//! as soon as its stream is.

use super::{
    Action, Ended, Room,
    charge::Charge,
    judge::Taken,
    machine::{BLOCKED_DROP_MS, Link, Provider, State},
};
use crate::{
    Clock,
    frame::{Busy, Frame, Phase, Progress, RefuseCode},
    job::{CloseWhy, HEARTBEAT_BEFORE_MS},
};

/// The owner says whether there is a slot within this time.
pub const SEEK_MS: u64 = 10_000;

/// A job that is good, and has no slot.
#[derive(Debug)]
pub(super) struct Seeking {
    pub(super) taken: Box<Taken>,
    /// How it is paid, where it costs something.
    pub(super) charge: Option<Box<Charge>>,
    line: Option<Line>,
    /// Until when the owner is waited for; in line, when the job may no longer begin.
    until: u64,
}

/// A place in line.
#[derive(Clone, Copy, Debug)]
struct Line {
    in_front: u32,
    /// When the client was told of it; `None`: not yet.
    told_ms: Option<u64>,
}

impl Line {
    /// When the client is to be told of it.
    fn tell_at(self) -> u64 {
        self.told_ms
            .map_or(0, |told| told.saturating_add(HEARTBEAT_BEFORE_MS))
    }
}

impl Seeking {
    /// When something is due, as long as the client reads.
    pub(super) fn deadline(&self, link: &Link) -> u64 {
        let next = match (self.line, link) {
            (Some(line), Link::Flowing) => line.tell_at(),
            (Some(_), Link::Blocked(since)) => since.saturating_add(BLOCKED_DROP_MS),
            (Some(_), Link::Parked(_)) | (None, _) => u64::MAX,
        };
        next.min(self.until)
    }
}

impl Provider {
    /// Looks for a slot.
    pub(super) fn seek(
        &mut self,
        taken: Box<Taken>,
        charge: Option<Box<Charge>>,
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        out.push(Action::Seek(taken.wanted()));
        self.state = State::Seeking(Box::new(Seeking {
            taken,
            charge,
            line: None,
            until: now.mono_ms.saturating_add(SEEK_MS),
        }));
    }

    /// The owner says whether there is one.
    pub(super) fn room(&mut self, room: Room, now: Clock, out: &mut Vec<Action>) {
        let job = self.job();
        let State::Seeking(seeking) = &mut self.state else {
            return;
        };
        match room {
            Room::Free => {
                if let State::Seeking(seeking) =
                    std::mem::replace(&mut self.state, State::Ended { job })
                {
                    self.record(seeking.taken, seeking.charge, now, out);
                }
            }
            Room::InLine { in_front } => {
                if seeking.line.is_none() {
                    let left_ms = seeking.taken.expires_unix_ms.saturating_sub(now.unix_ms);
                    seeking.until = now.mono_ms.saturating_add(left_ms);
                }
                // Another place is told at once, the same one in its time.
                let same = seeking.line.filter(|line| line.in_front == in_front);
                let told_ms = same.and_then(|line| line.told_ms);
                seeking.line = Some(Line { in_front, told_ms });
            }
            Room::Full {
                retry_after_ms,
                queue,
            } => self.busy(retry_after_ms, queue, out),
        }
    }

    /// Tells a job in line its place, and ends what took too long.
    pub(super) fn overdue_seeking(&mut self, now: Clock, out: &mut Vec<Action>) {
        let State::Seeking(seeking) = &mut self.state else {
            return;
        };
        if now.mono_ms >= seeking.until {
            return match seeking.line {
                // It may ask anew at once: with another first frame.
                Some(line) => self.busy(0, line.in_front, out),
                None => self.refuse(RefuseCode::Internal, "no slot could be looked for", out),
            };
        }
        let Some(line) = &mut seeking.line else {
            return;
        };
        match &self.link {
            Link::Flowing if now.mono_ms >= line.tell_at() => {
                line.told_ms = Some(now.mono_ms);
                out.push(Action::Send(Frame::Progress(Progress {
                    phase: Phase::Queued.into(),
                    done: 0,
                    total: 0,
                    queue_pos: line.in_front,
                })));
            }
            Link::Blocked(since) if now.mono_ms >= since.saturating_add(BLOCKED_DROP_MS) => {
                self.leave(CloseWhy::Cut("it does not read".to_owned()), now, out);
            }
            Link::Flowing | Link::Blocked(_) | Link::Parked(_) => {}
        }
    }

    fn busy(&mut self, retry_after_ms: u32, queue: u32, out: &mut Vec<Action>) {
        if self.link.flows() {
            out.push(Action::Send(Frame::Busy(Busy {
                retry_after_ms,
                queue,
            })));
        }
        self.close(Ended::Busy, out);
    }
}
