//! The stream of a job: read by a task of its own, written by the job itself. A job that is parked has none.

use network::{Flow, FrameReader, FrameWriter, ReadError};
use protocol::{
    frame::{Cap, Frame},
    job::{CloseWhy, provider::EngineEvent},
};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::Job;

/// What the two tasks tell.
#[derive(Debug)]
pub(in crate::serve) enum Report {
    /// From the stream of this number: what comes late from a former one means nothing.
    Stream(u32, Said),
    Engine(EngineEvent),
}

/// What a stream brought.
#[derive(Debug)]
pub(in crate::serve) enum Said {
    Frame(Frame),
    Closed(CloseWhy),
}

/// The stream that a job has.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) number: u32,
    pub(super) writer: FrameWriter,
    flow: watch::Receiver<Flow>,
    /// The flow ended: it has nothing more to say.
    flow_over: bool,
    _reading: AbortOnDropHandle<()>,
}

impl Job {
    /// Gives the job a stream, in place of the one it had.
    pub(super) fn attach(&mut self, reader: FrameReader, writer: FrameWriter) {
        self.links += 1;
        let number = self.links;
        self.link = Some(Link {
            number,
            flow: writer.flow(),
            flow_over: false,
            writer,
            _reading: AbortOnDropHandle::new(tokio::spawn(read(
                number,
                reader,
                self.reports.clone(),
            ))),
        });
        if let Some(known) = &mut self.known {
            known.parked(false);
        }
    }
}

async fn read(number: u32, mut reader: FrameReader, reports: mpsc::Sender<Report>) {
    loop {
        let said = match reader.next(Cap::Client).await {
            Ok(frame) => Said::Frame(frame),
            Err(ReadError::Closed) => Said::Closed(CloseWhy::Ended),
            Err(ReadError::Violation(error)) => Said::Closed(CloseWhy::Violation(error)),
            Err(error @ ReadError::TooSlow { .. }) => {
                Said::Closed(CloseWhy::Cut(error.to_string()))
            }
        };
        let over = matches!(said, Said::Closed(_));
        if reports.send(Report::Stream(number, said)).await.is_err() || over {
            return;
        }
    }
}

/// How the stream takes what is written to it, when that changes.
pub(super) async fn flow_of(link: &mut Option<Link>) -> Flow {
    let Some(link) = link.as_mut().filter(|link| !link.flow_over) else {
        return std::future::pending().await;
    };
    let flow = match link.flow.changed().await {
        Ok(()) => *link.flow.borrow_and_update(),
        Err(_) => Flow::Closed,
    };
    link.flow_over = matches!(flow, Flow::Closed);
    flow
}
