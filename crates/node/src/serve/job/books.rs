//! A job in the books: its id before it is accepted, its beginning and its end in the list of answers.

use std::sync::Arc;

use ledger::{AnsweredState, JobRecord, NewAnswer};
use protocol::{
    JobId, ModelDigest,
    job::{
        Finish,
        provider::{Ended, Event, Recorded},
    },
};
use tokio::task::JoinHandle;

use super::Job;
use crate::clock;

/// A job that the engine began.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) job: JobId,
    pub(super) model: ModelDigest,
    /// Tokens of its input.
    pub(super) input: u32,
}

/// A job in the list of answers.
#[derive(Debug)]
pub(super) struct Entered {
    job: ledger::Job,
    input: u32,
    /// The task that writes down its beginning.
    noted: JoinHandle<()>,
}

impl Job {
    /// Writes the job id down.
    pub(super) async fn record(&mut self, job: JobId, expires_unix_ms: u64) -> Event {
        let ledger = &self.context.inner.ledger;
        let recorded = ledger
            .record_job(*job.as_bytes(), expires_unix_ms, clock::unix_ms())
            .await;
        let recorded = match recorded {
            Ok(record) => recorded_of(record),
            Err(error) => {
                tracing::warn!(%error, "a job could not be written down, and is refused");
                Recorded::Failed
            }
        };
        self.accepted = recorded == Recorded::Fresh;
        self.enter();
        Event::Recorded(recorded)
    }

    /// Puts a job into the books that was accepted and is begun, so that it can be taken up and is counted. Neither the engine nor the
    /// client waits for that.
    pub(super) fn enter(&mut self) {
        let Some(begun) = self.begun.take_if(|_| self.accepted) else {
            return;
        };
        let rooms = &self.context.rooms;
        let (known, calls) = rooms.started(&begun.job, self.peer);
        rooms.running.send_modify(|running| *running += 1);
        let new = NewAnswer {
            job: *begun.job.as_bytes(),
            at_ms: clock::unix_ms(),
            peer: self.peer.to_string(),
            model: self.name_of(&begun.model),
            model_digest: *begun.model.as_bytes(),
        };
        let inner = Arc::clone(&self.context.inner);
        let noted = self.context.inner.tasks.spawn(async move {
            if let Err(error) = inner.ledger.answer_started(new).await {
                tracing::warn!(%error, "a job is not in the list of answers");
            }
        });
        (self.known, self.calls) = (Some(known), Some(calls));
        self.entered = Some(Entered {
            job: *begun.job.as_bytes(),
            input: begun.input,
            noted,
        });
    }

    pub(super) fn name_of(&self, model: &ModelDigest) -> String {
        let served = self
            .context
            .served
            .iter()
            .find(|served| served.reference.digest == *model);
        served.map_or_else(|| model.to_string(), |served| served.name.clone())
    }

    pub(super) async fn over(self, ended: Ended) {
        tracing::debug!(peer = %self.peer, ?ended, "a job is over");
        let Self {
            context,
            link,
            computing,
            place,
            known,
            entered,
            sent,
            receipt,
            charge,
            ..
        } = self;
        drop((computing, known, charge));
        if let Some(link) = link {
            link.writer.finish();
        }
        if let Some(Entered { job, input, noted }) = entered {
            // Its end is written behind its beginning. A task that panicked wrote neither.
            let _ = noted.await;
            let (tokens_in, tokens_out, finish) = receipt.unwrap_or((input, sent, Finish::Abort));
            let state = match ended {
                Ended::Signed => AnsweredState::Signed,
                Ended::Unsigned
                | Ended::Refused(_)
                | Ended::Busy
                | Ended::Cancelled
                | Ended::ClientGone(_)
                | Ended::Failed(_) => AnsweredState::Unsigned,
            };
            let noted = context
                .inner
                .ledger
                .answer_ended(job, tokens_in, tokens_out, finish.name(), state)
                .await;
            if let Err(error) = noted {
                tracing::warn!(%error, "a job's end is not in the list of answers");
            }
            context
                .rooms
                .running
                .send_modify(|running| *running = running.saturating_sub(1));
        }
        drop(place);
    }
}

fn recorded_of(record: JobRecord) -> Recorded {
    match record {
        JobRecord::Fresh => Recorded::Fresh,
        JobRecord::Repeat | JobRecord::Expired { .. } => Recorded::Seen,
        JobRecord::TooLong | JobRecord::ClockBehind { .. } | JobRecord::Full => Recorded::Failed,
    }
}
