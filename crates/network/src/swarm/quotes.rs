//! Quotes: asked of providers, and asked of us.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use libp2p::{
    PeerId,
    request_response::{Event, Message, OutboundRequestId, ResponseChannel},
};
use protocol::quote::{PROTOCOL, Quote, QuoteError, QuoteRequest};
use tokio::sync::{Semaphore, oneshot};

use super::{Loop, Note};
use crate::{
    error::NetworkError,
    identity,
    limits::Kind,
    messages,
    quotes::{ANSWER, ASKED_AT_ONCE, QuoteAsked},
    swarm::requests::now,
};

pub(super) type Reply = oneshot::Sender<Result<Quote, NetworkError>>;

/// Quotes under way, in both directions.
#[derive(Debug)]
pub(super) struct Quotes {
    asked: HashMap<OutboundRequestId, (QuoteRequest, Reply)>,
    answering: Arc<Semaphore>,
}

impl Default for Quotes {
    fn default() -> Self {
        Self {
            asked: HashMap::new(),
            answering: Arc::new(Semaphore::new(ASKED_AT_ONCE)),
        }
    }
}

impl Loop {
    pub(super) fn ask_for_quote(
        &mut self,
        of: &protocol::PeerId,
        request: QuoteRequest,
        reply: Reply,
    ) {
        match self.askable(of, PROTOCOL, self.quotes.asked.len()) {
            Ok(peer) if !self.we_may_ask(peer, Kind::Quote) => {
                drop(reply.send(Err(NetworkError::Busy {
                    limit: Kind::Quote.rate().burst as usize,
                })));
            }
            Ok(peer) => {
                let id = self
                    .swarm
                    .behaviour_mut()
                    .quotes
                    .send_request(&peer, request.encode());
                self.quotes.asked.insert(id, (request, reply));
            }
            // A caller that is gone needs no answer, here and below.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn on_quotes(&mut self, event: messages::Event) {
        match event {
            Event::Message {
                peer,
                message:
                    Message::Request {
                        request, channel, ..
                    },
                ..
            } => self.on_quote_request(peer, &request, channel),
            Event::Message {
                peer,
                message:
                    Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => self.on_quote(peer, request_id, &response),
            Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                self.blame(peer, &error);
                let reply = self.quotes.asked.remove(&request_id);
                self.answer(
                    peer,
                    reply.map(|(_, reply)| reply),
                    PROTOCOL,
                    <messages::Quotes as messages::Exchange>::TIMEOUT,
                    &error,
                );
            }
            Event::InboundFailure { peer, error, .. } => self.on_inbound_failure(peer, &error),
            Event::ResponseSent { .. } => {}
        }
    }

    fn on_quote(&mut self, peer: PeerId, id: OutboundRequestId, response: &Bytes) {
        let Some((request, reply)) = self.quotes.asked.remove(&id) else {
            return;
        };
        let Some(from) = identity::to_protocol(&peer) else {
            return;
        };
        let answer = Quote::verify(response, &from, &request, now()).map_err(|error| {
            tracing::debug!(%peer, %error, "a quote is refused");
            // A clock that is wrong is no crime; everything else no honest peer sends.
            if !matches!(
                error,
                QuoteError::Expired { .. } | QuoteError::LivesTooLong { .. }
            ) {
                self.violation(peer);
            }
            NetworkError::Malformed {
                peer: from,
                what: "a quote",
            }
        });
        drop(reply.send(answer));
    }

    fn on_quote_request(&mut self, peer: PeerId, request: &Bytes, channel: ResponseChannel<Bytes>) {
        if self.asks(peer, Kind::Quote).is_err() {
            self.refusals.requests += 1;
            // Dropping the channel resets the stream, which is an answer.
            return self.over_rate(peer);
        }
        let (Ok(asked), Some(from)) = (QuoteRequest::decode(request), identity::to_protocol(&peer))
        else {
            return self.violation(peer);
        };
        let Ok(permit) = Arc::clone(&self.quotes.answering).try_acquire_owned() else {
            self.refusals.requests += 1;
            return;
        };
        let (reply, answer) = oneshot::channel();
        let asked = QuoteAsked {
            peer: from,
            request: asked,
            request_hash: QuoteRequest::hash_of(request),
            reply,
        };
        // A node that does not take the question gives no quote.
        if self.quotes_in.try_send(asked).is_err() {
            return;
        }
        let note = self.note.clone();
        self.runtime.spawn(async move {
            if let Ok(Ok(Some(quote))) = tokio::time::timeout(ANSWER, answer).await {
                // A loop that is gone has no peer to answer.
                let _ = note.send(Note::Quote { channel, quote }).await;
            }
            drop(permit);
        });
    }

    pub(super) fn send_quote(&mut self, channel: ResponseChannel<Bytes>, quote: Bytes) {
        // The peer may be gone.
        let _ = self
            .swarm
            .behaviour_mut()
            .quotes
            .send_response(channel, quote);
    }
}
