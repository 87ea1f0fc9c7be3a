//! Further offers of a model, as they are found, while an answer is being prepared and while it runs.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use network::VerifiedOffer;
use protocol::{ModelDigest, ModelRef, PeerId, offer::Offer};
use tokio::sync::mpsc;

use super::session::Session;
use crate::{node::Inner, route};

/// With so many offers there is a choice, and nobody is looked for.
const ENOUGH: usize = route::SHORTLIST;

/// A person waits for this: the search takes no longer before the answer says that nobody was found.
const FIRST_WAIT: Duration = Duration::from_secs(6);

/// Once there is somebody to ask, others have this long to turn up and be compared.
const GATHER: Duration = Duration::from_millis(300);

/// The routing table is not asked for the same model more often than this, while somebody to ask is known.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A search under way. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Seek {
    /// `None` where nobody is looked for.
    found: Option<mpsc::Receiver<VerifiedOffer>>,
    /// Peers whose offers are of no use: those that are known already, blocked ones, and this computer itself.
    not: BTreeSet<PeerId>,
    only: Option<ModelRef>,
}

impl Seek {
    /// The next offer; waits for ever once the search is over.
    pub(crate) async fn next(&mut self) -> Offer {
        match self.found_next().await {
            Some(offer) => offer,
            None => std::future::pending().await,
        }
    }

    /// The first offers: waits until there is one of a peer that can be asked, and then a little longer. Empty when nobody was found in
    /// time. What is at hand comes first, also of peers of which nobody knows where they are: they end no wait.
    pub(super) async fn first<'a>(
        &mut self,
        can_ask: impl Fn(PeerId) -> BoxFuture<'a, bool>,
    ) -> Vec<Offer> {
        let mut offers = Vec::new();
        let first = async {
            while let Some(offer) = self.found_next().await {
                let can_ask = can_ask(offer.peer).await;
                offers.push(offer);
                if can_ask {
                    break;
                }
            }
        };
        if tokio::time::timeout(FIRST_WAIT, first).await.is_err() {
            return offers;
        }
        let until = tokio::time::Instant::now() + GATHER;
        while offers.len() < ENOUGH
            && let Ok(Some(offer)) = tokio::time::timeout_at(until, self.found_next()).await
        {
            offers.push(offer);
        }
        offers
    }

    /// From here on only offers of exactly this file and head.
    pub(super) fn only(&mut self, model: ModelRef) {
        self.only = Some(model);
    }

    async fn found_next(&mut self) -> Option<Offer> {
        let found = self.found.as_mut()?;
        while let Some(VerifiedOffer { offer, .. }) = found.recv().await {
            let is_wanted = self.only.is_none_or(|only| only == offer.model);
            if is_wanted && self.not.insert(offer.peer) {
                return Some(offer);
            }
        }
        None
    }
}

impl Inner {
    /// Looks for offers of a model besides those that are known, unless there are enough or it was just done.
    pub(super) async fn seek(
        self: &Arc<Self>,
        session: &Session,
        model: ModelDigest,
        known: &[Offer],
    ) -> Seek {
        let needed = known.len() < ENOUGH
            && (session.may_search(model, AGAIN_AFTER, Instant::now()) || known.is_empty());
        let found = match needed {
            true => Some(session.network.find_offers(Some(model), ENOUGH).await),
            false => None,
        };
        let known = known.iter().map(|offer| offer.peer);
        let blocked = self.book().blocked();
        let not = known.chain(blocked).chain([self.identity.peer_id()]);
        Seek {
            found,
            not: not.collect(),
            only: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::offer::SignedEnvelope;

    use super::*;
    use crate::community::tests::offer;

    #[tokio::test]
    async fn an_offer_of_somebody_who_is_nowhere_ends_no_wait() {
        let (found, offers) = mpsc::channel(4);
        let mut seek = Seek {
            found: Some(offers),
            not: BTreeSet::new(),
            only: None,
        };
        let [gone, there] = [1, 2].map(|peer| offer(peer, [7; 32], 1));
        let there_id = there.peer;
        found.send(verified(gone.clone())).await.unwrap();
        let can_ask = |peer| Box::pin(std::future::ready(peer == there_id)) as BoxFuture<'_, bool>;
        let first = seek.first(can_ask);
        tokio::pin!(first);
        let early = tokio::time::timeout(GATHER * 2, &mut first).await;
        assert!(early.is_err(), "it waits for one that can be asked");
        found.send(verified(there.clone())).await.unwrap();
        let peers: Vec<PeerId> = first.await.iter().map(|offer| offer.peer).collect();
        assert_eq!(peers, [gone.peer, there.peer]);
    }

    fn verified(offer: Offer) -> VerifiedOffer {
        VerifiedOffer {
            learned_from: offer.peer,
            learned_unix_ms: 0,
            envelope: SignedEnvelope::default(),
            offer,
        }
    }
}
