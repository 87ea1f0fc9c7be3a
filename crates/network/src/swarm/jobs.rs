//! Job streams: ours to open, theirs to admit.

use std::time::Duration;

use futures::AsyncWriteExt;
use protocol::frame::{Busy, Frame};
use tokio::sync::{mpsc::error::TrySendError, oneshot};

use super::Loop;
use crate::{
    address::Transport,
    error::NetworkError,
    identity,
    limits::{JobSlot, Kind},
    streams::{self, Event, IncomingJob, MAX_OPENS, OPEN_TIMEOUT, OpenError, RawStream},
    wire::{JobStream, Shared},
};

/// When a peer that found no place may ask again: jobs end every few seconds.
const RETRY: Duration = Duration::from_secs(2);
/// How long a refused peer has to take the refusal.
const REFUSAL: Duration = Duration::from_secs(5);

impl Loop {
    pub(super) fn open_job(
        &mut self,
        to: &protocol::PeerId,
        reply: oneshot::Sender<Result<JobStream, NetworkError>>,
    ) {
        let opened = identity::to_libp2p(to)
            .ok_or(OpenError::NotConnected)
            .and_then(|peer| {
                let speaks = self
                    .peers
                    .get(&peer)
                    .is_none_or(|connected| connected.may_speak(streams::PROTOCOL.as_ref()));
                if !speaks {
                    return Err(OpenError::Unsupported);
                }
                Ok((peer, self.swarm.behaviour_mut().streams.open(peer)?))
            });
        match opened {
            Ok((peer, id)) => {
                self.opens.insert(id, (peer, reply));
            }
            // A caller that is gone needs no answer, here and below.
            Err(error) => drop(reply.send(Err(open_failed(*to, error)))),
        }
    }

    pub(super) fn on_stream(&mut self, event: Event) {
        match event {
            Event::Inbound(stream) => self.admit(stream),
            Event::Overflow { peer } => {
                self.refusals.queue += 1;
                self.over_rate(peer);
            }
            Event::Opened { id, stream } => {
                let Some((_, reply)) = self.opens.remove(&id) else {
                    return;
                };
                // Whom we ask is worth a place, also when it comes to us.
                self.swarm.behaviour_mut().admission.value(stream.peer);
                let answer = self.job_stream(stream, None).ok_or(NetworkError::Closed);
                drop(reply.send(answer));
            }
            Event::Failed { id, error } => {
                let Some((peer, reply)) = self.opens.remove(&id) else {
                    return;
                };
                let answer = identity::to_protocol(&peer)
                    .map_or(NetworkError::Closed, |peer| open_failed(peer, error));
                drop(reply.send(Err(answer)));
            }
        }
    }

    /// A peer's stream goes to the node if its rate, its number and the queue allow; else the peer is told to come again.
    fn admit(&mut self, stream: RawStream) {
        let peer = stream.peer;
        if let Err(wait) = self.asks(peer, Kind::Job) {
            self.refusals.rate += 1;
            self.over_rate(peer);
            return self.refuse(stream.stream, wait);
        }
        let Some(slot) = self.slots.take(peer) else {
            self.refusals.queue += 1;
            self.over_rate(peer);
            return self.refuse(stream.stream, RETRY);
        };
        let Some(stream) = self.job_stream(stream, Some(slot)) else {
            return;
        };
        match self.jobs.try_send(IncomingJob { stream }) {
            Ok(()) => {}
            Err(TrySendError::Full(job) | TrySendError::Closed(job)) => {
                self.refusals.queue += 1;
                self.dirty = true;
                self.refuse(job.stream.stream, RETRY);
            }
        }
    }

    fn job_stream(&self, raw: RawStream, slot: Option<JobSlot>) -> Option<JobStream> {
        Some(JobStream {
            peer: identity::to_protocol(&raw.peer)?,
            remote_addr: raw.remote.to_string(),
            transport: Transport::of(&raw.remote),
            relayed: raw.relayed,
            connection: raw.connection.to_string(),
            stream: raw.stream,
            shared: Shared {
                peer: raw.peer,
                closed: raw.closed,
                runtime: self.runtime.clone(),
                notes: self.note.clone(),
            },
            slot,
        })
    }

    fn refuse(&self, mut stream: libp2p::Stream, retry_after: Duration) {
        // Without a permit the stream is dropped here, which resets it.
        let Ok(permit) = std::sync::Arc::clone(&self.refusing).try_acquire_owned() else {
            return;
        };
        let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
        let busy = Frame::Busy(Busy {
            retry_after_ms,
            queue: 0,
        })
        .to_delimited();
        self.runtime.spawn(async move {
            let said = async {
                stream.write_all(&busy).await?;
                stream.close().await
            };
            // A peer that does not take it is reset.
            let _ = tokio::time::timeout(REFUSAL, said).await;
            drop(permit);
        });
    }
}

fn open_failed(peer: protocol::PeerId, error: OpenError) -> NetworkError {
    match error {
        OpenError::NotConnected => NetworkError::NotConnected { peer },
        OpenError::Timeout => NetworkError::Timeout {
            what: "opening a stream",
            after: OPEN_TIMEOUT,
        },
        OpenError::Unsupported => NetworkError::Unsupported {
            peer,
            protocol: protocol::frame::PROTOCOL,
        },
        OpenError::ConnectionClosed => NetworkError::Broken {
            peer,
            reason: "the connection closed".to_owned(),
        },
        OpenError::Io(error) => NetworkError::Broken {
            peer,
            reason: error.to_string(),
        },
        OpenError::Busy => NetworkError::Busy { limit: MAX_OPENS },
    }
}
