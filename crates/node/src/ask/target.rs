//! Where an answer is to be computed, and whom to ask.

use std::{path::PathBuf, sync::Arc};

use memory::{ChatSettings, ModelUsed};
use protocol::{ModelDigest, ModelRef, PeerId, offer::Offer};

use super::{seek::Seek, session::Session};
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
    /// Offers of exactly this file, one per peer: the chosen peer's first, then those of connected peers, then the
    /// fastest.
    pub(crate) offers: Vec<Offer>,
    /// Further ones, as they are found.
    pub(crate) more: Seek,
    /// The model, when it can also be computed here.
    pub(crate) local: Option<Model>,
    /// A row here names the file; else only the chat does.
    pub(crate) listed: bool,
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
        let mut trouble = None;
        let mut of_chosen = Vec::new();
        if let Some(peer) = wanted.chosen {
            match self.offers_of(session, &peer).await {
                Ok(offers) if offers.is_empty() => {
                    trouble = Some(NodeError::PeerOffersNothing { peer: peer.short() })
                }
                Ok(offers) => {
                    of_chosen = by_chance(wanted, peer, offers, |digest| self.models.lists(digest))?
                }
                Err(error) => trouble = Some(error),
            }
        }
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
        let mut more = self.seek(session, digest, &offers).await;
        if offers.is_empty() && trouble.is_none() {
            offers = more.first().await;
        }
        // The catalogue's own pin outweighs what a peer says of the head.
        let pinned = row.as_ref().and_then(|row| row.reference);
        let Some(model) = pinned.or_else(|| most_named(&offers, wanted.chosen)) else {
            return Err(nobody(
                session,
                trouble,
                self.name_of(row.as_ref(), &digest),
            ));
        };
        offers.retain(|offer| offer.model == model);
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
        let listed = row.is_some();
        let id = row.map_or_else(|| id_of(&digest), |row| row.id);
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
            more,
            local,
            listed,
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

    /// Adds offers that are known already, one per peer: connected ones first, then the fastest. Others pass offers on, and of who made
    /// them there may be no address: such a one would only take a place from somebody who can be asked.
    async fn add_known(&self, session: &Session, digest: &ModelDigest, offers: &mut Vec<Offer>) {
        let status = session.network.status();
        let connected: Vec<PeerId> = status.borrow().peers.iter().map(|peer| peer.peer).collect();
        let mut more = self.known_offers(session);
        more.retain(|offer| offer.model.digest == *digest);
        let peers = more.iter().map(|offer| offer.peer).collect();
        let reached = session.network.within_reach(peers).await;
        more.retain(|offer| reached.contains(&offer.peer) || self.has_met(&offer.peer));
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

/// What of a chosen peer's offers may answer: where nobody named a model, only what a row here names. What no row names is asked for by
/// name alone, and never because it is what there is.
fn by_chance(
    wanted: &Wanted,
    peer: PeerId,
    mut offers: Vec<Offer>,
    is_listed: impl Fn(&ModelDigest) -> bool,
) -> Result<Vec<Offer>, NodeError> {
    if wanted.strict.is_some() {
        return Ok(offers);
    }
    offers.retain(|offer| is_listed(&offer.model.digest));
    match offers.is_empty() {
        true => Err(NodeError::OnlyUnlisted { peer: peer.short() }),
        false => Ok(offers),
    }
}

/// The head that is gone by where no row pins one: the chosen peer's own, else the one that most peers name for this file.
fn most_named(offers: &[Offer], chosen: Option<PeerId>) -> Option<ModelRef> {
    let first = offers.first()?;
    if chosen == Some(first.peer) {
        return Some(first.model);
    }
    let named = |head: &ModelRef| offers.iter().filter(|offer| offer.model == *head).count();
    let heads = offers.iter().map(|offer| offer.model);
    // Of those that as many name, the first: offers are in the order in which their peers would be asked.
    heads.min_by_key(|head| std::cmp::Reverse(named(head)))
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

    fn chance(strict: Option<ModelDigest>, files: &[u8]) -> Result<Vec<u8>, NodeError> {
        let wanted = Wanted {
            model: None,
            strict,
            chosen: None,
        };
        let offers = files.iter().map(|file| offer(9, [*file; 32], 1));
        let peer = PeerId::from_public_key(&[9; 32]);
        let left = by_chance(&wanted, peer, offers.collect(), |digest| *digest == LISTED)?;
        let first = |offer: Offer| offer.model.digest.as_bytes()[0];
        Ok(left.into_iter().map(first).collect())
    }

    #[test]
    fn where_nobody_named_a_model_none_that_no_row_names_is_asked_for() {
        assert_eq!(chance(None, &[2, 1, 3]).unwrap(), [1]);
        let only = chance(None, &[2, 3]).unwrap_err();
        assert_eq!(only.code(), "only_unlisted");
        assert!(only.fix().is_some());
        let named = Some(ModelDigest::new([3; 32]));
        assert_eq!(chance(named, &[2, 3]).unwrap(), [2, 3]);
    }

    #[test]
    fn one_peer_that_names_another_head_turns_no_answer_to_it() {
        let of = |peer, head| offer(peer, [3; 32], head);
        let offers = [of(1, 9), of(2, 5), of(3, 5), of(4, 7)];
        let head = |offers: &[Offer], chosen: Option<u8>| {
            let chosen = chosen.map(|peer| PeerId::from_public_key(&[peer; 32]));
            most_named(offers, chosen).map(|model| model.head_sha256.as_bytes()[0])
        };
        assert_eq!(head(&offers, None), Some(5));
        assert_eq!(head(&offers, Some(1)), Some(9), "the person chose it");
        assert_eq!(head(&offers, Some(8)), Some(5), "one that offers nothing");
        assert_eq!(head(&offers[..2], None), Some(9), "the first of equals");
        assert_eq!(head(&[], None), None);
    }

    #[test]
    fn an_id_by_digest_is_read_back() {
        assert_eq!(digest_of(&id_of(&LISTED)), Some(LISTED));
        assert_eq!(digest_of("sha256:12"), None);
        assert_eq!(digest_of("smollm2"), None);
    }
}
