//! A job whose stream was cut: how long it waits, who may take it up, and what he is given.

use bytes::Bytes;

use super::{
    ACK_MS, Action,
    end::short,
    judge::{Refusal, addressed, decoded, in_time},
    machine::{Link, Provider, State},
};
use crate::{
    Clock, JobId, ModelDigest, PeerId,
    frame::{Cap, Frame, Open, Refuse, RefuseCode},
    job::{CloseWhy, Finish},
    quote::QUOTE_ID,
};

/// How often one job may be taken up. A phone on a train is cut often; a client that asks for the same tokens for ever
/// is refused.
pub const MAX_RESUMES: u32 = 32;

/// A job without a stream.
#[derive(Debug)]
pub(super) struct Parked {
    /// Until when it waits.
    pub(super) until: u64,
    /// How it lost its stream.
    why: CloseWhy,
}

/// The quote that a first frame names, and its model; `None` where it names none, or is no good frame.
pub fn quote_of(first_frame: &Bytes) -> Option<([u8; QUOTE_ID], ModelDigest)> {
    match Frame::from_bytes(first_frame, Cap::Open) {
        Ok(Some(Frame::Open(open))) => {
            let quote = open.quote_id.as_ref().try_into().ok()?;
            Some((quote, ModelDigest::from_bytes(&open.model_digest).ok()?))
        }
        Ok(_) | Err(_) => None,
    }
}

/// The job that a first frame asks to take up; `None` for a new job, or for no good frame at all.
pub fn resumes(first_frame: &Bytes) -> Option<JobId> {
    match Frame::from_bytes(first_frame, Cap::Open) {
        Ok(Some(Frame::Open(open))) => asked_for(&open).map(|(job, _)| job),
        Ok(_) | Err(_) => None,
    }
}

fn asked_for(open: &Open) -> Option<(JobId, u32)> {
    let resume = open.resume_of.as_ref()?;
    Some((JobId::from_bytes(&resume.job).ok()?, resume.from_index))
}

impl Provider {
    /// The stream is gone. A job that its client may come back for is parked, unless the client broke the protocol or
    /// wanted the end.
    pub(super) fn closed(&mut self, why: CloseWhy, now: Clock, out: &mut Vec<Action>) {
        let wanted = match &self.state {
            State::Running(run) => run.over != Some(Finish::Abort),
            State::Signing { receipt, .. } => receipt.receipt.finish != Finish::Abort,
            State::Waiting { .. }
            | State::Unvouched { .. }
            | State::Admitting { .. }
            | State::Seeking(_)
            | State::Recording { .. }
            | State::Ended { .. } => false,
        };
        let grace = self.config.grace_ms();
        if !wanted || grace == 0 || matches!(why, CloseWhy::Violation(_)) {
            return self.leave(why, now, out);
        }
        self.link = Link::Parked(Parked {
            until: now.mono_ms.saturating_add(grace),
            why,
        });
        out.push(Action::Park);
    }

    /// Nobody came back for a parked job.
    pub(super) fn give_up_waiting(&mut self, now: Clock, out: &mut Vec<Action>) {
        if let Link::Parked(Parked { why, .. }) = &self.link {
            self.leave(why.clone(), now, out);
        }
    }

    /// Somebody wants to take up the job on a new stream.
    pub(super) fn resumed(
        &mut self,
        from: PeerId,
        bytes: &Bytes,
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        let from_index = match self.may_resume(from, bytes, now) {
            Ok(from_index) => from_index,
            Err(refuse) => return out.push(Action::Decline(refuse)),
        };
        self.link = Link::Flowing;
        self.resumes += 1;
        out.push(Action::Attach);
        match &mut self.state {
            State::Running(run) => {
                let accept = run.accept(&self.config);
                run.say(Frame::Accept(accept), now, out);
                run.send_again(from_index, now, out);
                run.wait_for_payment_anew();
            }
            State::Signing {
                run,
                receipt,
                until,
            } => {
                let accept = run.accept(&self.config);
                run.say(Frame::Accept(accept), now, out);
                run.send_again(from_index, now, out);
                run.done(receipt, now, out);
                *until = now.mono_ms.saturating_add(ACK_MS);
            }
            State::Waiting { .. }
            | State::Unvouched { .. }
            | State::Admitting { .. }
            | State::Seeking(_)
            | State::Recording { .. }
            | State::Ended { .. } => {}
        }
    }

    /// The index at which the client goes on. Whoever is not this job's client learns no more than that there is no
    /// such job.
    fn may_resume(&self, from: PeerId, bytes: &Bytes, now: Clock) -> Result<u32, Refuse> {
        let unknown = || refuse(RefuseCode::ResumeUnknown, "");
        let open = decoded(bytes)
            .and_then(|open| addressed(&open, &self.config).map(|()| open))
            .and_then(|open| in_time(&open, now).map(|()| open))
            .map_err(|Refusal(code, msg)| refuse(code, &msg))?;
        let (job, from_index) = asked_for(&open).ok_or_else(unknown)?;
        let run = match &self.state {
            State::Running(run) | State::Signing { run, .. } => run,
            State::Waiting { .. }
            | State::Unvouched { .. }
            | State::Admitting { .. }
            | State::Seeking(_)
            | State::Recording { .. }
            | State::Ended { .. } => {
                return Err(unknown());
            }
        };
        if run.job != job || run.client != from || self.resumes >= MAX_RESUMES {
            return Err(unknown());
        }
        if !run.resumable().contains(&from_index) {
            return Err(refuse(
                RefuseCode::BadOpen,
                "the job was never at this index",
            ));
        }
        Ok(from_index)
    }
}

fn refuse(code: RefuseCode, msg: &str) -> Refuse {
    Refuse {
        code: code.into(),
        msg: short(msg),
    }
}
