//! Where an answer is to be computed, and whom to ask.

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use futures::FutureExt as _;
use memory::{ChatSettings, ModelUsed};
use protocol::{ModelDigest, ModelRef, PeerId, offer::Offer};

use super::{
    elect::{Named, by_head},
    seek::Seek,
    session::Session,
};
use crate::{error::NodeError, models::Model, node::Inner};

/// Prefix of the id of a model that is in no catalogue and on no disk here, and known by its digest alone.
const BY_DIGEST: &str = "sha256:";

/// Where an answer goes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// To this computer.
    Here {
        /// With this model.
        model: Model,
        /// And this file.
        file: PathBuf,
    },
    /// To a peer; the chat has consented.
    Peers(Wanted),
}

/// What is wanted of peers.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The model, when one is chosen or preferred and known here.
    pub(crate) model: Option<Model>,
    /// The chat names its model: another one will not do.
    pub(crate) strict: Option<ModelDigest>,
    /// The peer to ask first.
    pub(crate) chosen: Option<PeerId>,
}

/// Who offers which file.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) model: ModelRef,
    pub(crate) name: String,
    pub(crate) used: ModelUsed,
    /// Offers of exactly this file and head, one per peer: the chosen peer's first, then those of connected peers, then the
    /// fastest.
    pub(crate) offers: Vec<Offer>,
    /// Other heads that are named for the file, the one to go by next first.
    pub(super) others: VecDeque<Named>,
    /// Further ones, as they are found.
    pub(crate) more: Seek,
    /// The model, when it can also be computed here.
    pub(crate) local: Option<Model>,
    /// The row here that names the file; else only the chat does.
    pub(crate) row: Option<Model>,
}

impl Found {
    /// Whether the row says what the file's head is, so that nobody else's word counts.
    pub(super) fn is_pinned(&self) -> bool {
        let pinned = self.row.as_ref().and_then(|row| row.reference);
        pinned.is_some()
    }

    /// Goes by the next head. False: there is none.
    pub(super) fn next_head(&mut self) -> bool {
        let Some(Named { model, offers }) = self.others.pop_front() else {
            return false;
        };
        self.more.only(model);
        (self.model, self.offers) = (model, offers);
        true
    }
}

impl Target {
    /// The model, where it is known already.
    pub(crate) fn model(&self) -> Option<&Model> {
        match self {
            Self::Here { model, .. } => Some(model),
            Self::Peers(wanted) => wanted.model.as_ref(),
        }
    }
}

impl Inner {
    /// The model that a chat uses: its own, else the settings' default, else the starter, else any that is here.
    pub(crate) fn preferred_model(&self, chosen: Option<&str>) -> Option<Model> {
        if let Some(id) = chosen {
            return self
                .models
                .find(id)
                .or_else(|| self.models.by_digest(&digest_of(id)?));
        }
        let default = self.settings.borrow().default_model.clone();
        if let Some(model) = default.and_then(|id| self.models.find(&id)) {
            return Some(model);
        }
        let all = self.models.all();
        let ready = |model: &&Model| model.file.is_some();
        let starter = all.iter().filter(ready).find(|model| model.starter);
        let any = || all.iter().find(ready);
        starter
            .or_else(any)
            .or_else(|| all.iter().find(|model| model.starter))
            .cloned()
    }

    /// # Errors
    /// [`NodeError::ModelUnknown`] for an id that names no row and no digest.
    pub(crate) fn known_model(&self, id: &str) -> Result<(), NodeError> {
        if self.models.find(id).is_some() || digest_of(id).is_some() {
            Ok(())
        } else {
            Err(NodeError::ModelUnknown { id: id.to_owned() })
        }
    }

    /// The text part of a chat's model, when it is on this computer as part of the whole file.
    pub(crate) fn text_at_hand(&self, settings: &ChatSettings) -> Option<(PathBuf, Model)> {
        let model = self.preferred_model(settings.model.as_deref())?;
        Some((model.file.clone()?, model))
    }

    /// Where the next answer of a chat goes.
    ///
    /// # Errors
    /// [`NodeError::ConsentNeeded`], [`NodeError::NoModel`], [`NodeError::ModelMissing`], [`NodeError::UnlistedNotHere`],
    /// [`NodeError::ModelUnknown`].
    pub(crate) fn target(&self, settings: &ChatSettings) -> Result<Target, NodeError> {
        let model = self.preferred_model(settings.model.as_deref());
        let here = |model: &Model| {
            model.file.clone().map(|file| Target::Here {
                model: model.clone(),
                file,
            })
        };
        match settings.place {
            memory::Place::Local => match (&model, &settings.model) {
                (Some(model), _) => here(model).ok_or_else(|| NodeError::ModelMissing {
                    model: model.name.clone(),
                }),
                (None, Some(id)) => Err(match digest_of(id) {
                    Some(digest) => NodeError::UnlistedNotHere {
                        model: self.unlisted_name(&digest),
                    },
                    None => NodeError::ModelMissing { model: id.clone() },
                }),
                (None, None) => Err(NodeError::NoModel),
            },
            memory::Place::Automatic => {
                match model.as_ref().filter(|model| model.fits).and_then(here) {
                    Some(target) => Ok(target),
                    None => self.peers(settings, model),
                }
            }
            memory::Place::Peer => self.peers(settings, model),
        }
    }

    fn peers(&self, settings: &ChatSettings, model: Option<Model>) -> Result<Target, NodeError> {
        if !settings.consented {
            return Err(NodeError::ConsentNeeded);
        }
        let strict = match &settings.model {
            None => None,
            Some(id) => match (&model, digest_of(id)) {
                (Some(model), _) => Some(model.digest.ok_or(NodeError::ModelNotPinned {
                    model: model.name.clone(),
                })?),
                (None, Some(digest)) => Some(digest),
                (None, None) => return Err(NodeError::ModelUnknown { id: id.clone() }),
            },
        };
        let chosen = settings.peer.as_ref().and_then(|peer| peer.parse().ok());
        Ok(Target::Peers(Wanted {
            model,
            strict,
            chosen,
        }))
    }

    /// Finds peers for what is wanted: the chosen one first, then others that offer the same file. Comes back as soon as
    /// there is somebody to ask; the search goes on in [`Found::more`].
    ///
    /// # Errors
    /// [`NodeError::NoPeer`], [`NodeError::PeerOffersNothing`], [`NodeError::OnlyUnlisted`], [`NodeError::Network`] when the
    /// chosen peer cannot be reached and nobody else will do.
    pub(crate) async fn find(
        self: &Arc<Self>,
        session: &Arc<Session>,
        wanted: &Wanted,
    ) -> Result<Found, NodeError> {
        let (mut of_chosen, trouble) = match wanted.chosen {
            Some(peer) => {
                let offers = self.offers_of(session, &peer).await;
                of_chosen(wanted, peer, offers, |digest| self.models.lists(digest))
            }
            None => (Vec::new(), None),
        };
        let preferred = wanted.model.as_ref().and_then(|model| model.digest);
        let digest = match (wanted.strict, preferred) {
            (Some(digest), _) => Some(digest),
            // Nobody named a model: what the chosen peer has decides, the preferred one before others.
            (None, preferred) => preferred
                .filter(|digest| {
                    of_chosen.is_empty()
                        || of_chosen.iter().any(|offer| offer.model.digest == *digest)
                })
                .or_else(|| of_chosen.first().map(|offer| offer.model.digest))
                .or_else(|| {
                    let known = self.known_offers(session).into_iter();
                    let mut digests = known.map(|offer| offer.model.digest);
                    digests.find(|digest| self.models.lists(digest))
                }),
        };
        let Some(digest) = digest else {
            return Err(nobody(session, trouble, "a model".to_owned()));
        };
        of_chosen.retain(|offer| offer.model.digest == digest);
        let mut offers = of_chosen;
        self.add_known(session, &digest, &mut offers).await;
        let row = self.models.by_digest(&digest);
        if row.is_none() && wanted.strict.is_none() {
            // The row went while offers were looked at; what no row names is asked for by name alone.
            return Err(nobody(session, trouble, "a model".to_owned()));
        }
        // The catalogue's own pin outweighs what a peer says of the head: who names another one offers nothing, and holds up no search.
        let pinned = row.as_ref().and_then(|row| row.reference);
        if let Some(pinned) = pinned {
            offers.retain(|offer| offer.model == pinned);
        }
        let mut more = self.seek(session, digest, &offers).await;
        if let Some(pinned) = pinned {
            more.only(pinned);
        }
        if offers.is_empty() && trouble.is_none() {
            let can_ask = |peer| {
                let reached = self.in_reach(session, [peer].into());
                reached.map(|reached| !reached.is_empty()).boxed()
            };
            offers = more.first(can_ask).await;
        }
        let heads = match pinned {
            Some(pinned) => vec![pinned],
            None => self.heads_of(session, &offers, &self.places(session)),
        };
        // The chosen peer's own head comes first, unless it just failed.
        let now = Instant::now();
        let failed = |offer: &Offer| session.failed_lately(&offer.model.head_sha256, now);
        let chosen = wanted
            .chosen
            .filter(|_| !offers.first().is_some_and(failed));
        let mut others = by_head(offers, heads, chosen);
        let Some(Named { model, offers }) = others.pop_front() else {
            return Err(nobody(
                session,
                trouble,
                self.name_of(row.as_ref(), &digest),
            ));
        };
        more.only(model);
        let local = row.clone().filter(|row| row.file.is_some());
        if offers.is_empty() && local.is_none() {
            return Err(nobody(
                session,
                trouble,
                self.name_of(row.as_ref(), &digest),
            ));
        }
        let name = self.name_of(row.as_ref(), &digest);
        let id = row
            .as_ref()
            .map_or_else(|| id_of(&digest), |row| row.id.clone());
        let used = ModelUsed {
            id,
            name: name.clone(),
            digest: Some(digest.to_string()),
        };
        Ok(Found {
            model,
            name,
            used,
            offers,
            others,
            more,
            local,
            row,
        })
    }

    /// The own offers of one peer. Those of a connected one are at hand; from another one they are pulled.
    pub(super) async fn offers_of(
        &self,
        session: &Session,
        peer: &PeerId,
    ) -> Result<Vec<Offer>, NodeError> {
        let held = session.offers_held_of(peer);
        if !held.is_empty() && !self.book().is_blocked(peer) {
            return Ok(held);
        }
        self.reach(session, peer).await?;
        Ok(session.network.offers(peer).await?)
    }

    /// Adds offers that are known already, one per peer: connected ones first, then the fastest.
    async fn add_known(&self, session: &Session, digest: &ModelDigest, offers: &mut Vec<Offer>) {
        let status = session.network.status();
        let connected: Vec<PeerId> = status.borrow().peers.iter().map(|peer| peer.peer).collect();
        let mut more = self
            .offers_in_reach(session, |offered| offered == digest)
            .await;
        more.sort_by_key(|offer| {
            (
                !connected.contains(&offer.peer),
                std::cmp::Reverse(offer.decode_tps),
            )
        });
        for offer in more {
            if offers.iter().all(|known| known.peer != offer.peer) {
                offers.push(offer);
            }
        }
    }

    /// Offers that are known here, of these files and of peers that can be asked. Others pass offers on, and of who made them there may
    /// be no address: such a one would only take a place from somebody who can be asked.
    pub(crate) async fn offers_in_reach(
        &self,
        session: &Session,
        of: impl Fn(&ModelDigest) -> bool,
    ) -> Vec<Offer> {
        let mut offers = self.known_offers(session);
        offers.retain(|offer| of(&offer.model.digest));
        let peers = offers.iter().map(|offer| offer.peer).collect();
        let reached = self.in_reach(session, peers).await;
        offers.retain(|offer| reached.contains(&offer.peer));
        offers
    }

    /// Those of these peers that can be asked: connected, or known to be somewhere.
    async fn in_reach(&self, session: &Session, peers: BTreeSet<PeerId>) -> BTreeSet<PeerId> {
        let asked = peers.iter().copied().collect();
        let reached = session.network.within_reach(asked).await;
        let met = peers.into_iter().filter(|peer| self.has_met(peer));
        reached.into_iter().chain(met).collect()
    }

    fn name_of(&self, row: Option<&Model>, digest: &ModelDigest) -> String {
        row.map_or_else(|| self.unlisted_name(digest), |row| row.name.clone())
    }

    /// Offers of others that are known here, of peers that are not blocked: to the swarm that asks, and, while the node
    /// is on, to the one that serves.
    pub(crate) fn known_offers(&self, session: &Session) -> Vec<Offer> {
        let own = self.identity.peer_id();
        let serving = self.serving.network();
        let serving = serving.map(|network| network.known_offers());
        let book = self.book();
        session
            .network
            .known_offers()
            .into_iter()
            .chain(serving.into_iter().flatten())
            .map(|known| known.offer)
            .filter(|offer| offer.peer != own && !book.is_blocked(&offer.peer))
            .collect()
    }
}

/// Why there is nobody to ask: what was found out of the chosen peer, or, where offers came that are not of now, the clocks.
fn nobody(session: &Session, trouble: Option<NodeError>, model: String) -> NodeError {
    let clocks = session.network.status().borrow().clocks;
    match (trouble, clocks.ahead_ms) {
        (None | Some(NodeError::PeerOffersNothing { .. }), Some(ahead_ms)) => {
            NodeError::OtherTime {
                apart_ms: ahead_ms.unsigned_abs(),
                ahead: ahead_ms > 0,
                peers: clocks.peers,
            }
        }
        (Some(trouble), _) => trouble,
        (None, None) => NodeError::NoPeer { model },
    }
}

/// What of a chosen peer's offers may answer, and why none may: that is told where nobody else is found. Where nobody named a model, only
/// what a row here names may: what no row names is asked for by name alone, and never because it is what there is.
fn of_chosen(
    wanted: &Wanted,
    peer: PeerId,
    offers: Result<Vec<Offer>, NodeError>,
    is_listed: impl Fn(&ModelDigest) -> bool,
) -> (Vec<Offer>, Option<NodeError>) {
    let mut offers = match offers {
        Ok(offers) => offers,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let nothing = || NodeError::PeerOffersNothing { peer: peer.short() };
    if offers.is_empty() {
        return (offers, Some(nothing()));
    }
    if wanted.strict.is_none() {
        offers.retain(|offer| is_listed(&offer.model.digest));
    }
    let only_unlisted = || NodeError::OnlyUnlisted { peer: peer.short() };
    let trouble = offers.is_empty().then(only_unlisted);
    (offers, trouble)
}

/// The digest in the id of a model that is known by it alone.
pub(crate) fn digest_of(id: &str) -> Option<ModelDigest> {
    id.strip_prefix(BY_DIGEST)?.parse().ok()
}

/// The id of a model that is known by its digest alone.
pub(crate) fn id_of(digest: &ModelDigest) -> String {
    format!("{BY_DIGEST}{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::community::tests::offer;

    const LISTED: ModelDigest = ModelDigest::new([1; 32]);

    /// Of which files a chosen peer may be asked that offers these, and what is told where nobody else is found.
    fn chance(strict: Option<ModelDigest>, files: &[u8]) -> (Vec<u8>, Option<&'static str>) {
        let wanted = Wanted {
            model: None,
            strict,
            chosen: None,
        };
        let offers = files.iter().map(|file| offer(9, [*file; 32], 1)).collect();
        let peer = PeerId::from_public_key(&[9; 32]);
        let (left, why) = of_chosen(&wanted, peer, Ok(offers), |digest| *digest == LISTED);
        let first = |offer: Offer| offer.model.digest.as_bytes()[0];
        let files = left.into_iter().map(first).collect();
        (files, why.map(|why| why.code()))
    }

    #[test]
    fn where_nobody_named_a_model_none_that_no_row_names_is_asked_for() {
        assert_eq!(chance(None, &[2, 1, 3]), (vec![1], None));
        let named = Some(ModelDigest::new([3; 32]));
        assert_eq!(chance(named, &[2, 3]), (vec![2, 3], None));
    }

    #[test]
    fn a_chosen_peer_that_offers_nothing_of_use_leaves_the_answer_to_others() {
        assert_eq!(chance(None, &[2, 3]), (Vec::new(), Some("only_unlisted")));
        assert_eq!(chance(None, &[]), (Vec::new(), Some("no_peer")));
    }

    #[test]
    fn an_id_by_digest_is_read_back() {
        assert_eq!(digest_of(&id_of(&LISTED)), Some(LISTED));
        assert_eq!(digest_of("sha256:12"), None);
        assert_eq!(digest_of("smollm2"), None);
    }
}
