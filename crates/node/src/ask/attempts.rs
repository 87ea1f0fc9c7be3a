//! The tasks of one answer's attempts: one talks to a peer, or one computes here. What they learn goes to the drive.

use std::{path::PathBuf, sync::Arc, time::Duration};

use engine::{EngineError, GenerateEvent, GenerateRequest};
use network::{FrameWriter, JobStream, NetworkError, ReadError};
use protocol::{
    PeerId,
    frame::{Cap, RefuseCode},
    job::{
        CloseWhy,
        client::{self, AttemptEnd, AttemptId, Candidate, Event, LocalEvent},
    },
    quote::{Quote, QuoteRequest},
};
use tokio::sync::mpsc;

use super::session::Session;
use crate::{
    error::{ErrorView, NodeError, sentence},
    node::Inner,
};

/// What a task tells.
#[derive(Debug)]
pub(super) enum Report {
    Connected {
        attempt: AttemptId,
        rtt_ms: u64,
        writer: FrameWriter,
    },
    /// No stream came about.
    NoStream {
        attempt: AttemptId,
        why: String,
        /// This computer would not or could not, so that it says nothing about the peer.
        ours: bool,
    },
    LocalFailed {
        attempt: AttemptId,
        error: EngineError,
    },
    Event(Event),
    /// A promise was made, or not, that raises the line of an attempt's payee by so much.
    Signed {
        attempt: AttemptId,
        add: u128,
        event: Event,
    },
}

/// Whether a peer was not reached for a reason that lies here: a limit of this node, its settings, or an address that it
/// does not know.
pub(super) fn is_ours(error: &NodeError) -> bool {
    let NodeError::Network(error) = error else {
        return true;
    };
    matches!(
        error,
        NetworkError::TooManyConnections { .. }
            | NetworkError::Busy { .. }
            | NetworkError::Blocked { .. }
            | NetworkError::UnknownPeer { .. }
            | NetworkError::NameNotResolved { .. }
            | NetworkError::NotAnAddress { .. }
            | NetworkError::UnsupportedAddress { .. }
            | NetworkError::OwnAddress { .. }
            | NetworkError::Closed
    )
}

/// The quote that an attempt needs.
#[derive(Debug)]
pub(super) enum Quoting {
    /// It costs nothing, or there was one.
    None,
    /// It was given while the person typed.
    Held(Quote),
    /// To be asked for.
    Ask(QuoteRequest),
}

/// Connects to a candidate, asks it for a quote where one is wanted, opens a stream and reads it to its end. `doubted`: on the
/// connection that is there it did not answer.
pub(super) async fn talk(
    inner: Arc<Inner>,
    session: Arc<Session>,
    attempt: AttemptId,
    (candidate, quoting): (Candidate, Quoting),
    doubted: bool,
    reports: mpsc::Sender<Report>,
) {
    let peer = candidate.peer;
    let quoted = match quoting {
        Quoting::Ask(request) => quote(&inner, &session, &peer, &request).await.map(Some),
        Quoting::Held(quote) => Ok(Some(quote)),
        Quoting::None => Ok(None),
    };
    let opened = match quoted {
        Ok(quoted) => {
            if let Some(quoted) = quoted {
                // The drive is gone only when the answer is over.
                let quoted = Event::Quoted {
                    attempt,
                    terms: quoted.terms(),
                    quote_id: quoted.quote_id,
                    queue_pos: quoted.queue_pos,
                };
                let _ = reports.send(Report::Event(quoted)).await;
            }
            open(&inner, &session, &peer, doubted).await
        }
        Err(error) => Err(error),
    };
    let stream = match opened {
        Ok(stream) => stream,
        Err(error) => {
            let failed = Report::NoStream {
                attempt,
                why: sentence(&error),
                ours: is_ours(&error),
            };
            let _ = reports.send(failed).await;
            return;
        }
    };
    let status = session.network.status();
    let rtt_ms = status
        .borrow()
        .peers
        .iter()
        .find(|status| status.peer == peer)
        .and_then(|status| status.rtt_ms);
    let (mut reader, writer) = stream.split();
    let connected = Report::Connected {
        attempt,
        rtt_ms: rtt_ms.map_or(0, u64::from),
        writer,
    };
    if reports.send(connected).await.is_err() {
        return;
    }
    loop {
        let (event, over) = match reader.next(Cap::Provider).await {
            Ok(frame) => (Event::Frame { attempt, frame }, false),
            Err(ReadError::Closed) => (
                Event::Closed {
                    attempt,
                    why: CloseWhy::Ended,
                },
                true,
            ),
            Err(ReadError::Violation(error)) => (
                Event::Closed {
                    attempt,
                    why: CloseWhy::Violation(error),
                },
                true,
            ),
            Err(error @ ReadError::TooSlow { .. }) => (
                Event::Closed {
                    attempt,
                    why: CloseWhy::Cut(error.to_string()),
                },
                true,
            ),
        };
        if reports.send(Report::Event(event)).await.is_err() || over {
            return;
        }
    }
}

/// Asks a peer that may be needed in a moment whether it is there, and for what.
pub(super) async fn sound_out(
    inner: Arc<Inner>,
    session: Arc<Session>,
    (peer, request): (PeerId, QuoteRequest),
    reports: mpsc::Sender<Report>,
) {
    let quote = async {
        inner.reach(&session, &peer).await?;
        Ok(session.network.quote(&peer, &request).await?)
    };
    let event = match quote.await {
        Ok(quote) => Event::Sounded {
            peer,
            quote: client::Quoted {
                terms: quote.terms(),
                quote_id: quote.quote_id,
                queue_pos: quote.queue_pos,
            },
        },
        Err(error) => {
            tracing::debug!(%error, %peer, "a peer that may be needed does not answer");
            // Who does not speak of quotes, or gives none, is there.
            let there = matches!(
                error,
                NodeError::Network(NetworkError::Unsupported { .. } | NetworkError::Broken { .. })
            );
            if there {
                return;
            }
            Event::NotReached { peer }
        }
    };
    // The drive is gone only when the answer is over.
    let _ = reports.send(Report::Event(event)).await;
}

/// A new connection in place of a doubted one is made within this time; after that the old one has another chance.
const RENEW_WAIT: Duration = Duration::from_secs(2);

/// A stream on the connection that is there, unless it is doubted, or on one that is made.
async fn open(
    inner: &Inner,
    session: &Session,
    peer: &PeerId,
    doubted: bool,
) -> Result<JobStream, NodeError> {
    if inner.book().is_blocked(peer) {
        return Err(NetworkError::Blocked { peer: *peer }.into());
    }
    if doubted {
        match tokio::time::timeout(RENEW_WAIT, session.network.renew(peer)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, %peer, "no other connection to a silent peer")
            }
            Err(_) => tracing::debug!(%peer, "no other connection to a silent peer in time"),
        }
    }
    match session.network.open_job(peer).await {
        Err(NetworkError::NotConnected { .. }) => {
            inner.reach(session, peer).await?;
            Ok(session.network.open_job(peer).await?)
        }
        opened => Ok(opened?),
    }
}

/// Computes here: loads, generates, reports.
pub(super) async fn compute(
    inner: &Inner,
    attempt: AttemptId,
    model: &str,
    file: PathBuf,
    request: GenerateRequest,
    reports: &mpsc::Sender<Report>,
) -> Result<(), EngineError> {
    let tell = async |event| {
        // The drive is gone only when the answer is over; this task is aborted then.
        let _ = reports
            .send(Report::Event(Event::Local { attempt, event }))
            .await;
    };
    let mut loading = inner.engine.load(&file, None).await?;
    while let Some(progress) = loading.progress.recv().await {
        tell(LocalEvent::Loading {
            done: progress.done,
            total: progress.total,
        })
        .await;
    }
    loading.finish().await?;
    let mut generation = inner.engine.generate(request).await?;
    while let Some(event) = generation.next().await {
        match event? {
            GenerateEvent::Prefill { done, total } => {
                tell(LocalEvent::Prefill { done, total }).await
            }
            // The text comes from the detokenizer that serves every place alike.
            GenerateEvent::Tokens {
                first_index,
                ids,
                text: _,
                logprobs: _,
            } => {
                if !ids.is_empty() {
                    tell(LocalEvent::Tokens {
                        first_index,
                        ids,
                        logprobs: Vec::new(),
                    })
                    .await;
                }
            }
            GenerateEvent::Finished { finish, stats } => {
                if let Some(decode) = stats.decode_tokens_per_second() {
                    inner
                        .models
                        .record_speed(model, stats.prefill_tokens_per_second(), decode);
                }
                tell(LocalEvent::Finished(crate::serve::finish_of(finish))).await;
            }
        }
    }
    Ok(())
}

/// Why the last attempt ended, as a screen shows it.
pub(super) fn error_of(why: AttemptEnd, engine: Option<EngineError>) -> ErrorView {
    let again = Some("Send it again: another peer, or this computer, may answer.".to_owned());
    let code = match &why {
        AttemptEnd::LocalFailed(_) => {
            return match engine {
                Some(error) => NodeError::from(error).view(),
                None => ErrorView::new("worker_died", sentence(&why), again),
            };
        }
        AttemptEnd::ConnectFailed(_) => "unreachable",
        AttemptEnd::NoAnswer | AttemptEnd::Silent | AttemptEnd::Stalled | AttemptEnd::TooLate => {
            "peer_silent"
        }
        AttemptEnd::Refused {
            code: RefuseCode::PromptTooLong,
            ..
        }
        | AttemptEnd::TooLarge { .. } => {
            let fix =
                "Leave out the oldest messages, or go on in a new chat that starts from a summary.";
            return ErrorView::new(
                "context_full",
                "The chat is longer than what this peer takes.",
                Some(fix.to_owned()),
            );
        }
        AttemptEnd::Refused {
            code: RefuseCode::NodeOff,
            ..
        }
        | AttemptEnd::Gave {
            code: RefuseCode::NodeOff,
            ..
        } => {
            return ErrorView::new("peer_off", "The peer's node was switched off.", again);
        }
        AttemptEnd::Refused { .. } => "peer_refused",
        AttemptEnd::Busy { .. } => "peer_busy",
        AttemptEnd::Closed(_) | AttemptEnd::PathChanged | AttemptEnd::BrokenOff => "peer_gone",
        AttemptEnd::Gave { .. } | AttemptEnd::TooLong => "peer_failed",
        AttemptEnd::Lie(_) => "peer_dishonest",
        AttemptEnd::NoQuote => "peer_silent",
        AttemptEnd::Dearer | AttemptEnd::TooDear { .. } => {
            let fix = "Ask a cheaper peer, or allow more in the settings.";
            return ErrorView::new("too_dear", sentence(&why), Some(fix.to_owned()));
        }
        AttemptEnd::Unpaid(_) => {
            let fix = "Look at the wallet: what may be spent is set and filled up there. Where the disk is full, make room first.";
            return ErrorView::new("not_paid", sentence(&why), Some(fix.to_owned()));
        }
        AttemptEnd::LostRace | AttemptEnd::Stopped => "answer_lost",
    };
    ErrorView::new(code, sentence(&why), again)
}

/// The quote by which a candidate's terms hold.
async fn quote(
    inner: &Inner,
    session: &Session,
    peer: &PeerId,
    request: &QuoteRequest,
) -> Result<Quote, NodeError> {
    // Whoever is connected is asked at once.
    if !session.is_connected(peer) || inner.book().is_blocked(peer) {
        inner.reach(session, peer).await?;
    }
    Ok(session.network.quote(peer, request).await?)
}
