//! Further offers of a model, as they are found, while an answer is being prepared and while it runs.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

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

    /// The first offers: waits until there is one, and then a little longer. Empty when nobody was found in time.
    pub(super) async fn first(&mut self) -> Vec<Offer> {
        let Ok(Some(first)) = tokio::time::timeout(FIRST_WAIT, self.found_next()).await else {
            return Vec::new();
        };
        let mut offers = vec![first];
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
