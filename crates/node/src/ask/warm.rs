//! The way to the peer of a chat, made again while the person types: a connection that nobody uses ends after two minutes, and the next
//! answer would wait for several round trips. Where the peer asks for money its quote is at hand as well (`held`).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use memory::OpenChat;
use protocol::{PeerId, offer::Offer, quote::QuoteRequest};

use super::{
    choose::random,
    session::Session,
    target::{Target, Wanted},
};
use crate::{chat::Sampling, error::NodeError, node::Inner};

/// A peer that was dialled is not dialled again for this long, whatever came of it: a person types several keys a second.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Peers dialled within that time at most: a person writes in one chat, and looks into a few.
const MAX_DIALLED: usize = 4;

/// Peers that were dialled a moment ago, because somebody typed.
#[derive(Debug, Default)]
pub(crate) struct Warming(Mutex<BTreeMap<PeerId, Instant>>);

impl Warming {
    /// Whether this peer may be dialled now. Notes that it is.
    fn may_dial(&self, peer: PeerId, now: Instant) -> bool {
        let mut dialled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        dialled.retain(|_, at| now.saturating_duration_since(*at) < AGAIN_AFTER);
        if dialled.len() >= MAX_DIALLED || dialled.contains_key(&peer) {
            return false;
        }
        dialled.insert(peer, now);
        true
    }
}

impl Inner {
    /// Connects to the peer that gave the last answer of this chat, or was chosen for it, in the background, if the next one goes to
    /// peers; and has its quote at hand where it asks for money.
    pub(crate) fn warm(self: &Arc<Self>, open: &OpenChat) {
        let Ok(Target::Peers(wanted)) = self.target(&open.chat.settings) else {
            return;
        };
        let messages = open.path.iter().map(|step| &step.message);
        let last = messages
            .rev()
            .find_map(|message| message.spans.last()?.peer.as_ref()?.parse().ok());
        let Some(peer) = wanted.chosen.or(last) else {
            return;
        };
        let session = self.asking.now();
        if !session.is_outside() {
            return;
        }
        let reached = session.is_connected(&peer);
        if !reached && !self.warming.may_dial(peer, Instant::now()) {
            return;
        }
        let chat = open.chat.id.to_bytes();
        let (used, _) = self.context_of(open);
        let sampling = open.chat.settings.sampling.clone();
        let sampling = sampling.map(Sampling::from).unwrap_or_default();
        let size = (used.max(1), sampling.max_out);
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            let made = async {
                if !reached {
                    inner.reach(&session, &peer).await?;
                }
                inner.ask_ahead(&session, (peer, &wanted), chat, size).await
            };
            tokio::select! {
                () = inner.stop.cancelled() => {}
                made = made => if let Err(error) = made {
                    tracing::debug!(%error, %peer, "the peer of a chat is not at hand");
                }
            }
        });
    }

    /// Has a peer's quote for the next answer of a chat at hand, where it asks for money and can be paid. What it has read of the chat
    /// it is told, and nobody else.
    async fn ask_ahead(
        &self,
        session: &Session,
        (peer, wanted): (PeerId, &Wanted),
        chat: [u8; 16],
        (n_in, max_out): (u32, u32),
    ) -> Result<(), NodeError> {
        let offers = session.offers_held_of(&peer);
        let preferred = wanted.strict.or_else(|| wanted.model.as_ref()?.digest);
        let of_it = offers
            .iter()
            .find(|offer| Some(offer.model.digest) == preferred);
        let offer = match wanted.strict {
            Some(_) => of_it,
            // As the answer would: what no row here names is asked for by name alone.
            None => of_it.or_else(|| {
                offers
                    .iter()
                    .find(|offer| self.models.lists(&offer.model.digest))
            }),
        };
        let costs = |offer: &&Offer| !offer.prices.is_free() && self.pay_to(offer).is_some();
        let Some(offer) = offer.filter(costs) else {
            return Ok(());
        };
        let model = offer.model.digest;
        if !session.held.may_ask(peer, model, Instant::now()) {
            return Ok(());
        }
        let heard = session.held.heard(&chat, (&peer, &model));
        let (n_in, prefix_hashes) = match heard {
            Some(heard) => (heard.len, heard.hashes),
            None => (n_in, Vec::new()),
        };
        let request = QuoteRequest {
            nonce: random()?,
            model,
            n_in,
            max_out,
            prefix_hashes,
        };
        let quote = session.network.quote(&peer, &request).await?;
        session.held.keep(&peer, request, quote);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_typed_dial_once() {
        let (warming, now) = (Warming::default(), Instant::now());
        let peer = |byte| PeerId::from_public_key(&[byte; 32]);
        assert!(warming.may_dial(peer(1), now));
        assert!(!warming.may_dial(peer(1), now + AGAIN_AFTER / 2));
        for byte in 2..=4 {
            assert!(warming.may_dial(peer(byte), now + AGAIN_AFTER / 2));
        }
        assert!(!warming.may_dial(peer(5), now + AGAIN_AFTER / 2));
        assert!(warming.may_dial(peer(1), now + AGAIN_AFTER));
    }
}
