//! Where an answer is to be computed, and whom to ask.

use std::{path::PathBuf, sync::Arc, time::Duration};

use memory::{ChatSettings, ModelUsed};
use protocol::{ModelRef, PeerId, job::client::Candidate, offer::Offer};

use crate::{error::NodeError, models::Model, node::Inner};

/// Providers that are handed to the machine: it fails over three times, and passes over those that are busy.
const MAX_CANDIDATES: usize = 8;

/// Peers that are dialled because the routing table names them, when nobody who is connected offers the model.
const MAX_DIALLED: usize = 4;

/// A person waits for this: the routing table is asked no longer than this before the answer says that nobody was found.
const SEARCH_WAIT: Duration = Duration::from_secs(6);

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
    pub(crate) strict: Option<protocol::ModelDigest>,
    /// The peer to ask first.
    pub(crate) chosen: Option<PeerId>,
}

/// Whom to ask, for which file.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) model: ModelRef,
    pub(crate) name: String,
    pub(crate) used: ModelUsed,
    pub(crate) candidates: Vec<Candidate>,
    /// The model, when it can also be computed here.
    pub(crate) local: Option<Model>,
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
    /// [`NodeError::ConsentNeeded`], [`NodeError::NoModel`], [`NodeError::ModelMissing`], [`NodeError::ModelUnknown`].
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
                (None, Some(id)) => Err(NodeError::ModelMissing { model: id.clone() }),
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
                (Some(model), _) => Some(model.reference.map(|reference| reference.digest).ok_or(
                    NodeError::ModelNotPinned {
                        model: model.name.clone(),
                    },
                )?),
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

    /// Finds peers for what is wanted: the chosen one first, then others that offer the same file.
    ///
    /// # Errors
    /// [`NodeError::NoPeer`], [`NodeError::PeerOffersNothing`], [`NodeError::Network`] when the chosen peer cannot be
    /// reached and nobody else will do.
    pub(crate) async fn find(self: &Arc<Self>, wanted: &Wanted) -> Result<Found, NodeError> {
        let mut trouble = None;
        let mut of_chosen = Vec::new();
        if let Some(peer) = wanted.chosen {
            match self.offers_of(&peer).await {
                Ok(offers) if offers.is_empty() => {
                    trouble = Some(NodeError::PeerOffersNothing { peer: peer.short() })
                }
                Ok(offers) => of_chosen = offers,
                Err(error) => trouble = Some(error),
            }
        }
        let preferred = wanted
            .model
            .as_ref()
            .and_then(|model| model.reference)
            .map(|reference| reference.digest);
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
                    self.network
                        .known_offers()
                        .first()
                        .map(|known| known.offer.model.digest)
                }),
        };
        let Some(digest) = digest else {
            return Err(trouble.unwrap_or(NodeError::NoPeer {
                model: "a model".to_owned(),
            }));
        };
        of_chosen.retain(|offer| offer.model.digest == digest);
        let mut offers = of_chosen;
        self.add_known(&digest, &mut offers);
        if offers.is_empty() && trouble.is_none() {
            self.search(&digest).await;
            self.add_known(&digest, &mut offers);
        }
        let row = self.models.by_digest(&digest);
        // The catalogue's own pin outweighs what a peer says of the head.
        let pinned = row.as_ref().and_then(|row| row.reference);
        let Some(model) = pinned.or_else(|| offers.first().map(|offer| offer.model)) else {
            return Err(trouble.unwrap_or_else(|| NodeError::NoPeer {
                model: name_of(row.as_ref(), &digest),
            }));
        };
        let candidates: Vec<Candidate> = offers
            .into_iter()
            .filter(|offer| offer.model == model)
            .take(MAX_CANDIDATES)
            .map(|offer| Candidate {
                peer: offer.peer,
                ctx_max: offer.ctx_max,
                out_max: offer.out_max,
                prices: offer.prices,
                quote_id: None,
                first_token_p95_ms: None,
            })
            .collect();
        let local = row.clone().filter(|row| row.file.is_some());
        if candidates.is_empty() && local.is_none() {
            return Err(trouble.unwrap_or_else(|| NodeError::NoPeer {
                model: name_of(row.as_ref(), &digest),
            }));
        }
        let name = name_of(row.as_ref(), &digest);
        let id = row.map_or_else(|| format!("{BY_DIGEST}{digest}"), |row| row.id);
        let used = ModelUsed {
            id,
            name: name.clone(),
            digest: Some(digest.to_string()),
        };
        Ok(Found {
            model,
            name,
            used,
            candidates,
            local,
        })
    }

    /// The own offers of one peer, connecting to it first.
    async fn offers_of(self: &Arc<Self>, peer: &PeerId) -> Result<Vec<Offer>, NodeError> {
        self.reach(peer).await?;
        Ok(self.network.offers(peer).await?)
    }

    /// Adds offers that are known already, of peers that are not blocked: connected ones first, then the fastest.
    fn add_known(&self, digest: &protocol::ModelDigest, offers: &mut Vec<Offer>) {
        let status = self.network.status();
        let connected: Vec<PeerId> = status.borrow().peers.iter().map(|peer| peer.peer).collect();
        let mut more: Vec<Offer> = {
            let book = self.book();
            self.network
                .known_offers()
                .into_iter()
                .map(|known| known.offer)
                .filter(|offer| offer.model.digest == *digest && !book.is_blocked(&offer.peer))
                .collect()
        };
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

    /// Asks the routing table who has a model, and those for their offers.
    async fn search(self: &Arc<Self>, digest: &protocol::ModelDigest) {
        let search = async {
            let peers = self.network.find_providers(digest).await;
            let asked = peers
                .iter()
                .take(MAX_DIALLED)
                .map(|peer| self.offers_of(peer));
            for answer in futures::future::join_all(asked).await {
                if let Err(error) = answer {
                    tracing::debug!(%error, "a provider from the routing table gave no offers");
                }
            }
        };
        // Whatever came until then is in the cache.
        let _ = tokio::time::timeout(SEARCH_WAIT, search).await;
    }
}

fn digest_of(id: &str) -> Option<protocol::ModelDigest> {
    id.strip_prefix(BY_DIGEST)?.parse().ok()
}

fn name_of(row: Option<&Model>, digest: &protocol::ModelDigest) -> String {
    match row {
        Some(row) => row.name.clone(),
        None => format!("model {}", &digest.to_string()[..12]),
    }
}
