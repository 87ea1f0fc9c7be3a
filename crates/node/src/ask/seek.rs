//! Further offers of a model, as they are found, while an answer is being prepared and while it runs.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use protocol::{ModelDigest, ModelRef, PeerId, offer::Offer};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::session::Session;
use crate::{node::Inner, route};

/// With so many offers there is a choice, and nobody is looked for.
const ENOUGH: usize = route::SHORTLIST;

/// Peers that are dialled at once because the routing table names them.
const DIALLED_AT_ONCE: usize = 4;

/// A person waits for this: the search takes no longer before the answer says that nobody was found.
const FIRST_WAIT: Duration = Duration::from_secs(6);

/// Once there is somebody to ask, others have this long to turn up and be compared.
const GATHER: Duration = Duration::from_millis(300);

/// The routing table is not asked for the same model more often than this, while somebody to ask is known.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A search under way. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Seek {
    found: mpsc::Receiver<Offer>,
    only: Option<ModelRef>,
    _task: Option<AbortOnDropHandle<()>>,
}

impl Seek {
    /// The next offer; waits for ever once the search is over.
    pub(crate) async fn next(&mut self) -> Offer {
        loop {
            match self.found.recv().await {
                Some(offer) if self.only.is_none_or(|only| only == offer.model) => return offer,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// The first offers: waits until there is one, and then a little longer. Empty when nobody was found in time.
    pub(super) async fn first(&mut self) -> Vec<Offer> {
        let Ok(Some(first)) = tokio::time::timeout(FIRST_WAIT, self.found.recv()).await else {
            return Vec::new();
        };
        let mut offers = vec![first];
        let until = tokio::time::Instant::now() + GATHER;
        while offers.len() < ENOUGH
            && let Ok(Some(offer)) = tokio::time::timeout_at(until, self.found.recv()).await
        {
            offers.push(offer);
        }
        offers
    }

    /// From here on only offers of exactly this file and head.
    pub(super) fn only(&mut self, model: ModelRef) {
        self.only = Some(model);
    }
}

impl Inner {
    /// Looks for offers of a model besides those that are known, unless there are enough or it was just done.
    pub(super) fn seek(
        self: &Arc<Self>,
        session: &Arc<Session>,
        model: ModelDigest,
        known: &[Offer],
    ) -> Seek {
        let (sender, found) = mpsc::channel(ENOUGH);
        let needed = known.len() < ENOUGH
            && (session.may_search(model, AGAIN_AFTER, Instant::now()) || known.is_empty());
        let known = known.iter().map(|offer| offer.peer).collect();
        let task = needed.then(|| {
            let (inner, session) = (Arc::clone(self), Arc::clone(session));
            let search = async move { search(&inner, &session, model, known, sender).await };
            AbortOnDropHandle::new(tokio::spawn(search))
        });
        Seek {
            found,
            only: None,
            _task: task,
        }
    }
}

/// Asks the routing table who has a model, and those for their offers.
async fn search(
    inner: &Inner,
    session: &Session,
    model: ModelDigest,
    known: BTreeSet<PeerId>,
    sender: mpsc::Sender<Offer>,
) {
    let peers = session.network.find_providers(&model).await;
    let own = inner.identity.peer_id();
    let asked = peers
        .into_iter()
        .filter(|peer| *peer != own && !known.contains(peer))
        .map(|peer| async move { (peer, inner.offers_of(session, &peer).await) });
    let mut answers = futures::stream::iter(asked).buffer_unordered(DIALLED_AT_ONCE);
    while let Some((peer, answer)) = answers.next().await {
        match answer {
            Ok(offers) => {
                let wanted = offers.into_iter().find(|offer| offer.model.digest == model);
                if let Some(offer) = wanted
                    && sender.send(offer).await.is_err()
                {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, %peer, "a provider from the routing table gave no offers")
            }
        }
    }
}
