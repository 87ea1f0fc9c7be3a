//! One message there, one message back: offers and pieces of heads, both sides.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use libp2p::{
    PeerId,
    request_response::{
        Event, InboundFailure, Message, OutboundFailure, OutboundRequestId, ResponseChannel,
    },
};
use prost::Message as _;
use protocol::{
    Clock, ModelDigest,
    head::{HeadRequest as PieceRequest, HeadResponse, HeadStatus},
    offer::{Offer, OffersRequest, OffersResponse, SignedEnvelope},
};
use tokio::sync::{Semaphore, oneshot};

use super::{Loop, Note};
use crate::{
    error::NetworkError,
    heads, identity,
    limits::Kind,
    messages::{self, Exchange, Heads, Offers},
    peers,
};

/// Requests of ours under way, of each kind.
const REQUESTS: usize = 128;

type OffersReply = oneshot::Sender<Result<Vec<Offer>, NetworkError>>;
type PieceReply = oneshot::Sender<Result<HeadResponse, NetworkError>>;

/// Requests under way.
#[derive(Debug)]
pub(super) struct Requests {
    /// `None`: the loop's own pull, or a note that something changed.
    offers: HashMap<OutboundRequestId, (Asked, Option<OffersReply>)>,
    /// Peers whose offers changed while a pull was under way.
    again: BTreeSet<PeerId>,
    /// Peers whose offers are pulled when our own rate allows it again.
    later: BTreeSet<PeerId>,
    /// Peers that hear then that our own offers changed.
    untold: BTreeSet<PeerId>,
    /// Peers that said their offers changed, and have not said how. If they go before, nothing of it holds.
    unsure: BTreeSet<PeerId>,
    pieces: HashMap<OutboundRequestId, PieceReply>,
    reads: Arc<Semaphore>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            offers: HashMap::new(),
            again: BTreeSet::new(),
            later: BTreeSet::new(),
            untold: BTreeSet::new(),
            unsure: BTreeSet::new(),
            pieces: HashMap::new(),
            reads: Arc::new(Semaphore::new(heads::READS)),
        }
    }
}

/// What a message of `/decentralgpt/offers/1` was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Everything(PeerId),
    /// Offers of one model, of whomever.
    Model(PeerId),
    Changed,
}

impl Loop {
    pub(super) fn pull_offers(&mut self, from: &protocol::PeerId, reply: OffersReply) {
        match self.askable(from, protocol::offer::PROTOCOL, self.requests.offers.len()) {
            Ok(peer) if !self.we_may_ask(peer, Kind::Offers) => {
                let limit = Kind::Offers.rate().burst as usize;
                drop(reply.send(Err(NetworkError::Busy { limit })));
            }
            Ok(peer) => self.send_pull(peer, Some(reply)),
            // A caller that is gone needs no answer, here and below.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn ask_for_piece(
        &mut self,
        from: &protocol::PeerId,
        model: &ModelDigest,
        offset: u32,
        reply: PieceReply,
    ) {
        match self.askable(from, protocol::head::PROTOCOL, self.requests.pieces.len()) {
            // What it would say.
            Ok(peer) if !self.we_may_ask(peer, Kind::Head) => {
                drop(reply.send(Ok(HeadResponse::without(HeadStatus::Busy))));
            }
            Ok(peer) => {
                let request = PieceRequest {
                    model_digest: Bytes::copy_from_slice(model.as_bytes()),
                    offset,
                };
                let request = Bytes::from(request.encode_to_vec());
                let id = self
                    .swarm
                    .behaviour_mut()
                    .heads
                    .send_request(&peer, request);
                self.requests.pieces.insert(id, reply);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Whether we may ask a peer once more: no honest one grants more, and it would take us for a flood.
    pub(super) fn we_may_ask(&mut self, peer: PeerId, kind: Kind) -> bool {
        self.rates.we_ask(peer, kind, Instant::now()).is_ok()
    }

    /// What had to wait for our own rate.
    pub(super) fn requests_tick(&mut self) {
        for peer in std::mem::take(&mut self.requests.later) {
            self.refresh_offers(peer);
        }
        let untold = std::mem::take(&mut self.requests.untold);
        self.tell_changed(untold);
    }

    pub(super) fn askable(
        &self,
        peer: &protocol::PeerId,
        protocol: &'static str,
        under_way: usize,
    ) -> Result<PeerId, NetworkError> {
        let not_connected = || NetworkError::NotConnected { peer: *peer };
        let id = identity::to_libp2p(peer).ok_or_else(not_connected)?;
        let connected = self.peers.get(&id).ok_or_else(not_connected)?;
        if !connected.may_speak(protocol) {
            return Err(NetworkError::Unsupported {
                peer: *peer,
                protocol,
            });
        }
        if under_way >= REQUESTS {
            return Err(NetworkError::Busy { limit: REQUESTS });
        }
        Ok(id)
    }

    /// Asks a peer for its offers without anybody waiting. One at a time per peer.
    pub(super) fn refresh_offers(&mut self, peer: PeerId) {
        let speaks = self
            .peers
            .get(&peer)
            .is_some_and(|connected| connected.speaks(protocol::offer::PROTOCOL));
        if !speaks {
            return;
        }
        if self.requests.offers.len() >= REQUESTS {
            self.requests.later.insert(peer);
            return;
        }
        if self
            .requests
            .offers
            .values()
            .any(|(asked, _)| *asked == Asked::Everything(peer))
        {
            self.requests.again.insert(peer);
            return;
        }
        match self.we_may_ask(peer, Kind::Offers) {
            true => self.send_pull(peer, None),
            false => drop(self.requests.later.insert(peer)),
        }
    }

    /// Asks a peer for what a search seeks. False: it cannot be asked.
    pub(super) fn pull_some(&mut self, peer: PeerId, model: Option<ModelDigest>) -> bool {
        let speaks = self
            .peers
            .get(&peer)
            .is_some_and(|connected| connected.speaks(protocol::offer::PROTOCOL));
        if !speaks || self.requests.offers.len() >= REQUESTS {
            return false;
        }
        let Some(model) = model else {
            self.refresh_offers(peer);
            return true;
        };
        if !self.we_may_ask(peer, Kind::Offers) {
            return false;
        }
        let request = OffersRequest {
            model_digests: vec![Bytes::copy_from_slice(model.as_bytes())],
            max: protocol::offer::MAX_OFFERS_PER_REPLY as u32,
            known: self.book.known(&model),
            ..OffersRequest::default()
        };
        let id = self
            .swarm
            .behaviour_mut()
            .offers
            .send_request(&peer, Bytes::from(request.encode_to_vec()));
        self.requests.offers.insert(id, (Asked::Model(peer), None));
        true
    }

    fn send_pull(&mut self, peer: PeerId, reply: Option<OffersReply>) {
        let request = OffersRequest {
            max: protocol::offer::MAX_OFFERS_PER_REPLY as u32,
            ..OffersRequest::default()
        };
        let id = self
            .swarm
            .behaviour_mut()
            .offers
            .send_request(&peer, Bytes::from(request.encode_to_vec()));
        self.requests
            .offers
            .insert(id, (Asked::Everything(peer), reply));
    }

    /// Puts these in place of what was offered, in the Kademlia table too, and tells the connected peers.
    pub(super) fn set_offers(&mut self, offers: Vec<SignedEnvelope>) {
        let before = self.book.models();
        let left_out = self.book.publish(self.local, offers, now());
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "offers of this node are not published: not its own, malformed, over, or too many"
            );
        }
        let after = self.book.models();
        self.sources.forget();
        self.provide();
        if before.is_empty() && after.is_empty() {
            return;
        }
        let speak = |(peer, connected): (&PeerId, &peers::Connected)| {
            connected.speaks(protocol::offer::PROTOCOL).then_some(*peer)
        };
        let told: BTreeSet<_> = self.peers.iter().filter_map(speak).collect();
        self.tell_changed(told);
    }

    /// Tells these peers, where they are connected still, that our offers changed.
    fn tell_changed(&mut self, told: BTreeSet<PeerId>) {
        let changed = Bytes::from(
            OffersRequest {
                changed: true,
                ..OffersRequest::default()
            }
            .encode_to_vec(),
        );
        for peer in told {
            if self.peers.get(&peer).is_none() {
                continue;
            }
            if self.requests.offers.len() >= REQUESTS || !self.we_may_ask(peer, Kind::Offers) {
                self.requests.untold.insert(peer);
                continue;
            }
            let id = self
                .swarm
                .behaviour_mut()
                .offers
                .send_request(&peer, changed.clone());
            self.requests.offers.insert(id, (Asked::Changed, None));
        }
    }

    pub(super) fn on_offers(&mut self, event: messages::Event) {
        match event {
            Event::Message {
                peer,
                message:
                    Message::Request {
                        request, channel, ..
                    },
                ..
            } => {
                self.on_offers_request(peer, &request, channel);
            }
            Event::Message {
                peer,
                message:
                    Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => {
                self.on_offers_response(peer, request_id, &response);
            }
            Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                if let Some((asked, reply)) = self.requests.offers.remove(&request_id) {
                    self.blame(peer, &error);
                    self.answer(
                        peer,
                        reply,
                        protocol::offer::PROTOCOL,
                        Offers::TIMEOUT,
                        &error,
                    );
                    self.pull_failed(peer, asked);
                }
            }
            Event::InboundFailure { peer, error, .. } => self.on_inbound_failure(peer, &error),
            Event::ResponseSent { .. } => {}
        }
    }

    fn on_offers_request(
        &mut self,
        peer: PeerId,
        request: &Bytes,
        channel: ResponseChannel<Bytes>,
    ) {
        if self.asks(peer, Kind::Offers).is_err() {
            self.refusals.requests += 1;
            // Dropping the channel resets the stream, which is an answer.
            return self.over_rate(peer);
        }
        let (Ok(request), Some(to)) = (
            OffersRequest::from_bytes(request),
            identity::to_protocol(&peer),
        ) else {
            return self.violation(peer);
        };
        let reply = self.book.reply(to, &request, peers::unix_ms());
        // The peer may be gone.
        let _ = self
            .swarm
            .behaviour_mut()
            .offers
            .send_response(channel, reply);
        if request.changed {
            self.requests.unsure.insert(peer);
            self.refresh_offers(peer);
        }
    }

    fn on_offers_response(&mut self, peer: PeerId, id: OutboundRequestId, response: &Bytes) {
        let Some((asked, reply)) = self.requests.offers.remove(&id) else {
            return;
        };
        let answer = match (
            OffersResponse::from_bytes(response),
            identity::to_protocol(&peer),
        ) {
            (Ok(response), Some(from)) if asked != Asked::Changed => {
                let (rate, at) = (&mut self.offer_relay_rate, Instant::now());
                let whole = asked == Asked::Everything(peer);
                let taken = self
                    .book
                    .take(from, self.local, response, whole, now(), || {
                        rate.take(peer, at).is_ok()
                    });
                if !self.requests.again.contains(&peer) {
                    self.requests.unsure.remove(&peer);
                }
                if let Some(unix_ms) = taken.clock_unix_ms {
                    self.clocks.heard(peer, unix_ms, at);
                    self.dirty = true;
                }
                self.refusals.offers += taken.refused;
                self.dirty |= taken.refused > 0;
                if taken.forged {
                    self.violation(peer);
                }
                if taken.changed {
                    self.offers_changed();
                    self.learn_addresses(peer);
                }
                Ok(taken.own)
            }
            (Ok(_), _) => Ok(Vec::new()),
            (Err(_), from) => {
                self.violation(peer);
                Err(
                    from.map_or(NetworkError::Closed, |peer| NetworkError::Malformed {
                        peer,
                        what: "its offers",
                    }),
                )
            }
        };
        if let Some(reply) = reply {
            drop(reply.send(answer));
        }
        self.search_heard(&peer);
        self.pull_again(asked);
    }

    /// Whether peers are being told that our offers changed.
    pub(super) fn tells_changes(&self) -> bool {
        let mut asked = self.requests.offers.values();
        !self.requests.untold.is_empty() || asked.any(|(asked, _)| *asked == Asked::Changed)
    }

    fn pull_failed(&mut self, peer: PeerId, asked: Asked) {
        if asked == Asked::Everything(peer) && !self.requests.again.contains(&peer) {
            self.unsure_gone(&peer);
        }
        self.search_heard(&peer);
        self.pull_again(asked);
    }

    /// A peer cannot be asked any more. If it had said that its offers changed, they are taken as withdrawn.
    pub(super) fn unsure_gone(&mut self, peer: &PeerId) {
        let unsure = self.requests.unsure.remove(peer);
        let withdrawn =
            unsure && identity::to_protocol(peer).is_some_and(|peer| self.book.withdraw(peer, &[]));
        if withdrawn {
            self.offers_changed();
        }
    }

    fn pull_again(&mut self, asked: Asked) {
        if let Asked::Everything(peer) = asked
            && self.requests.again.remove(&peer)
        {
            self.refresh_offers(peer);
        }
        if asked == Asked::Changed && !self.tells_changes() {
            self.leave();
        }
    }

    pub(super) fn on_heads(&mut self, event: messages::Event) {
        match event {
            Event::Message {
                peer,
                message:
                    Message::Request {
                        request, channel, ..
                    },
                ..
            } => {
                self.on_piece_request(peer, &request, channel);
            }
            Event::Message {
                peer,
                message:
                    Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => {
                let Some(reply) = self.requests.pieces.remove(&request_id) else {
                    return;
                };
                let answer = HeadResponse::from_bytes(&response).map_err(|_| {
                    self.violation(peer);
                    identity::to_protocol(&peer).map_or(NetworkError::Closed, |peer| {
                        NetworkError::Malformed {
                            peer,
                            what: "a piece of a head",
                        }
                    })
                });
                drop(reply.send(answer));
            }
            Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                self.blame(peer, &error);
                let reply = self.requests.pieces.remove(&request_id);
                self.answer(
                    peer,
                    reply,
                    protocol::head::PROTOCOL,
                    Heads::TIMEOUT,
                    &error,
                );
            }
            Event::InboundFailure { peer, error, .. } => self.on_inbound_failure(peer, &error),
            Event::ResponseSent { .. } => {}
        }
    }

    fn on_piece_request(&mut self, peer: PeerId, request: &Bytes, channel: ResponseChannel<Bytes>) {
        if self.asks(peer, Kind::Head).is_err() {
            self.refusals.requests += 1;
            self.over_rate(peer);
            return self.on_piece(channel, &HeadResponse::without(HeadStatus::Busy));
        }
        let (Ok((request, model)), Some(from)) = (
            PieceRequest::from_bytes(request),
            identity::to_protocol(&peer),
        ) else {
            return self.violation(peer);
        };
        let Ok(permit) = Arc::clone(&self.requests.reads).try_acquire_owned() else {
            return self.on_piece(channel, &HeadResponse::without(HeadStatus::Busy));
        };
        let remembered = self.sources.get(&model, Instant::now());
        let (heads, note) = (self.heads.clone(), self.note.clone());
        self.runtime.spawn(async move {
            let source = match remembered {
                Some(source) => Some(source),
                None => {
                    let (reply, answer) = oneshot::channel();
                    // A node that does not take the question gives no head.
                    let _ = heads.try_send(heads::HeadRequest {
                        peer: from,
                        model,
                        reply,
                    });
                    let source = tokio::time::timeout(heads::ANSWER, answer)
                        .await
                        .ok()
                        .and_then(Result::ok)
                        .flatten();
                    if let Some(source) = source.clone() {
                        let _ = note.send(Note::Source { model, source }).await;
                    }
                    source
                }
            };
            let response = match source {
                Some(source) => {
                    tokio::task::spawn_blocking(move || heads::piece(&source, request.offset))
                        .await
                        .unwrap_or_else(|_| HeadResponse::without(HeadStatus::Unknown))
                }
                None => HeadResponse::without(HeadStatus::Unknown),
            };
            // A loop that is gone has no peer to answer.
            let _ = note.send(Note::Piece { channel, response }).await;
            drop(permit);
        });
    }

    pub(super) fn on_piece(&mut self, channel: ResponseChannel<Bytes>, response: &HeadResponse) {
        // The peer may be gone.
        let _ = self
            .swarm
            .behaviour_mut()
            .heads
            .send_response(channel, Bytes::from(response.encode_to_vec()));
    }

    /// A request that could not be read broke a cap or the form; everything else is the weather.
    pub(super) fn on_inbound_failure(&mut self, peer: PeerId, error: &InboundFailure) {
        tracing::debug!(%peer, %error, "a request came to nothing");
        if let InboundFailure::Io(error) = error
            && error.kind() == std::io::ErrorKind::InvalidData
        {
            self.violation(peer);
        }
    }

    /// The same for an answer.
    pub(super) fn blame(&mut self, peer: PeerId, error: &OutboundFailure) {
        if let OutboundFailure::Io(error) = error
            && error.kind() == std::io::ErrorKind::InvalidData
        {
            self.violation(peer);
        }
    }

    pub(super) fn answer<T>(
        &self,
        peer: PeerId,
        reply: Option<oneshot::Sender<Result<T, NetworkError>>>,
        protocol: &'static str,
        after: Duration,
        error: &OutboundFailure,
    ) {
        let Some(reply) = reply else { return };
        let answer = match (identity::to_protocol(&peer), error) {
            (None, _) => NetworkError::Closed,
            (Some(peer), OutboundFailure::DialFailure) => NetworkError::NotConnected { peer },
            (Some(_), OutboundFailure::Timeout) => NetworkError::Timeout {
                what: "an answer",
                after,
            },
            (Some(peer), OutboundFailure::UnsupportedProtocols) => {
                NetworkError::Unsupported { peer, protocol }
            }
            (Some(peer), OutboundFailure::ConnectionClosed) => NetworkError::Broken {
                peer,
                reason: "the connection closed".to_owned(),
            },
            (Some(peer), OutboundFailure::Io(error)) => NetworkError::Broken {
                peer,
                reason: error.to_string(),
            },
        };
        drop(reply.send(Err(answer)));
    }
}

/// The time, for judging offers. They carry wall-clock times only.
pub(super) fn now() -> Clock {
    Clock {
        mono_ms: 0,
        unix_ms: peers::unix_ms(),
    }
}
