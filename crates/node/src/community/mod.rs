//! Models that peers offer and no row here names, neither the catalogue's nor a file that the person added.
//!
//! They are listed apart, and only while the person's switch is on ([`Settings::community_models`](crate::Settings)): rows are made of the
//! verified offers that the swarms hold (`gather`), and a search looks for more providers. What such a file is can only be read in its
//! head, which is fetched when the person looks at it; that is the file's own word, cleaned (`foreign`) and kept (`said`).
//!
//! The switch is for looking. What is asked for is another matter: an answer goes to such a model only where its chat names it by its
//! digest, whatever the switch says, and never by chance (`ask::target`).

mod foreign;
mod gather;
mod said;
mod view;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use engine::TextInfo;
use protocol::{ModelDigest, ModelRef, PeerId};

pub use view::{CommunityModel, CommunityPrices, CommunityView, HeadSays, SpeedRange};

pub(crate) use self::foreign::told_by_a_stranger;
use self::{
    gather::{Offered, count, gather},
    said::Words,
};
use crate::{
    ask::{
        digest_of,
        elect::{MAX_HEADS, Places, is_of_head},
        id_of,
        session::Session,
    },
    error::NodeError,
    money::OfferPrice,
    node::{Inner, Node},
};

/// A search goes on for as long as it takes, and ends by itself when the table is through: what is at hand may be of the catalogue's models
/// alone, or of one who makes names. The book has room for so many offers.
const ENOUGH: usize = usize::MAX;

/// Providers are not looked for again sooner: who opens and closes the list asks others nothing more.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A file of which no offer is at hand is looked for this long before it is said that nobody offers it.
const FIND_FOR: Duration = Duration::from_secs(6);

/// Peers that are asked for a head, one after the other.
const MAX_ASKED: usize = 4;

/// What is known of such models beside their offers.
#[derive(Debug)]
pub(crate) struct Community {
    words: Mutex<Words>,
    search: Mutex<Search>,
}

#[derive(Debug, Default)]
struct Search {
    running: bool,
    begun: Option<Instant>,
}

impl Community {
    /// With what heads said before, kept in this file.
    pub(crate) fn open(path: PathBuf) -> Self {
        Self {
            words: Mutex::new(Words::open(path)),
            search: Mutex::default(),
        }
    }

    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn search(&self) -> MutexGuard<'_, Search> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A search under way, until it is dropped.
struct Searching(Arc<Inner>);

impl Searching {
    /// `None` where one is under way, or was a moment ago.
    fn begin(inner: &Arc<Inner>, now: Instant) -> Option<Self> {
        let mut search = inner.community.search();
        let lately = |begun: Instant| now.saturating_duration_since(begun) < AGAIN_AFTER;
        if search.running || search.begun.is_some_and(lately) {
            return None;
        }
        *search = Search {
            running: true,
            begun: Some(now),
        };
        Some(Self(Arc::clone(inner)))
    }
}

impl Drop for Searching {
    fn drop(&mut self) {
        self.0.community.search().running = false;
    }
}

impl Node {
    /// The models that peers offer and no row here names, as far as their offers are at hand and they can be asked. Nobody is. Without
    /// rows while the switch is off.
    pub async fn community_list(&self) -> CommunityView {
        let inner = &self.inner;
        if !inner.settings.borrow().community_models {
            return CommunityView {
                on: false,
                searching: false,
                rows: Vec::new(),
                left_out: 0,
            };
        }
        let session = inner.asking.now();
        let is_unlisted = |digest: &ModelDigest| !inner.models.lists(digest);
        let offers = inner.offers_in_reach(&session, is_unlisted).await;
        let places = inner.places(&session);
        let (rows, left_out) = gather(offers, &places.connected(), |offer| places.block(offer));
        let row = |row| inner.community_row(&session, row, &places);
        CommunityView {
            on: true,
            searching: inner.community.search().running,
            rows: rows.iter().map(row).collect(),
            left_out: count(left_out),
        }
    }

    /// Begins to look for providers of any model, unless that is being done or just was: what they offer is in the list as it comes
    /// ([`CommunityView::searching`] says how long). They learn that somebody looks, and not for what.
    ///
    /// # Errors
    /// [`NodeError::CommunityOff`] while the switch is off, [`NodeError::Network`].
    pub async fn community_search(&self) -> Result<(), NodeError> {
        let inner = &self.inner;
        self.community_is_on()?;
        let session = inner.outside().await?;
        let Some(searching) = Searching::begin(inner, Instant::now()) else {
            return Ok(());
        };
        let mut found = session.network.find_offers(None, ENOUGH).await;
        let stop = inner.stop.clone();
        inner.tasks.spawn(async move {
            let _searching = searching;
            // The swarm keeps what it finds; only the end is waited for.
            let drain = async { while found.recv().await.is_some() {} };
            tokio::select! {
                () = stop.cancelled() => {}
                () = drain => {}
            }
        });
        Ok(())
    }

    /// Looks at what a file says of itself: fetches its head (at most 32 MiB) from a peer that offers it, unless it is here already, and
    /// has the engine's worker read it. At most four such peers are asked for one head, two side by side where one is slow: each of them
    /// learns that somebody looks at this model. Where no offer is at hand, connected peers and the routing table are asked for this file,
    /// and learn the same. Where peers name different heads, it is the one that an answer would go by, or the next where that one cannot
    /// be had or read.
    ///
    /// # Errors
    /// [`NodeError::CommunityOff`], [`NodeError::ModelUnknown`] for an id that is no digest, [`NodeError::NoPeer`] where nobody offers
    /// it, [`NodeError::Head`] where nobody gives it, [`NodeError::HeadUnreadable`] where it is no head of a model.
    pub async fn community_look(&self, id: &str) -> Result<CommunityModel, NodeError> {
        let inner = &self.inner;
        self.community_is_on()?;
        let digest = digest_of(id)
            .or_else(|| id.parse().ok())
            .ok_or_else(|| NodeError::ModelUnknown { id: id.to_owned() })?;
        let session = inner.outside().await?;
        let nobody = || NodeError::NoPeer {
            model: inner.unlisted_name(&digest),
        };
        if inner.offered(&session, &digest).await.is_none() {
            let mut found = session.network.find_offers(Some(digest), ENOUGH).await;
            // What is at hand comes first, also of peers that are out of reach.
            let in_reach = async {
                while found.recv().await.is_some() {
                    if inner.offered(&session, &digest).await.is_some() {
                        return;
                    }
                }
            };
            let _ = tokio::time::timeout(FIND_FOR, in_reach).await;
        }
        let mut row = inner.offered(&session, &digest).await.ok_or_else(nobody)?;
        let heads = inner.heads_of(&session, &row.offers, &inner.places(&session));
        let mut first = None;
        for model in heads.into_iter().take(MAX_HEADS) {
            let mut peers = row.peers_of(&model);
            peers.truncate(MAX_ASKED);
            match inner.look(&session, &model, &peers).await {
                Ok(()) => {
                    row = inner.offered(&session, &digest).await.unwrap_or(row);
                    return Ok(inner.community_row(&session, &row, &inner.places(&session)));
                }
                Err(error) if is_of_head(&error) => {
                    session.head_failed(model.head_sha256, Instant::now());
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(first.unwrap_or_else(nobody))
    }

    fn community_is_on(&self) -> Result<(), NodeError> {
        match self.inner.settings.borrow().community_models {
            true => Ok(()),
            false => Err(NodeError::CommunityOff),
        }
    }
}

impl Inner {
    /// What to call a file that no row here names: by the name that it gives itself where its head was looked at.
    pub(crate) fn unlisted_name(&self, digest: &ModelDigest) -> String {
        let own = self.community.words().name(digest);
        own.unwrap_or_else(|| by_digest(digest))
    }

    /// Keeps what the head of a file says that no row here names, and gives the name to call it by.
    pub(crate) fn hears(&self, model: &ModelRef, info: &TextInfo, file: &Path) -> String {
        let says = said::says(info, file);
        let write = self.community.words().keep(model, says);
        if let Some(write) = write {
            // The newest stays, whichever thread comes first.
            self.tasks.spawn_blocking(move || write.write());
        }
        self.unlisted_name(&model.digest)
    }

    /// What peers ask for files that no row here names: what a chat that names one would cost is said before it is sent.
    pub(crate) fn unlisted_offers(&self, session: &Session) -> Vec<OfferPrice> {
        let mut offers = self.known_offers(session);
        offers.retain(|offer| !self.models.lists(&offer.model.digest));
        let places = self.places(session);
        let (rows, _) = gather(offers, &places.connected(), |offer| places.block(offer));
        let price = |row: &Offered| {
            let CommunityPrices {
                input_low,
                input_high,
                output_low,
                output_high,
                free: _,
            } = row.prices();
            OfferPrice {
                model: id_of(&row.digest),
                input_low,
                input_high,
                output_low,
                output_high,
                offers: count(row.offers.len()),
            }
        };
        rows.iter().map(price).collect()
    }

    /// What is offered of one file, whether or not it is among those that are listed.
    async fn offered(&self, session: &Session, digest: &ModelDigest) -> Option<Offered> {
        let offers = self.offers_in_reach(session, |of| of == digest).await;
        let places = self.places(session);
        let (rows, _) = gather(offers, &places.connected(), |offer| places.block(offer));
        rows.into_iter().next()
    }

    fn community_row(&self, session: &Session, row: &Offered, places: &Places) -> CommunityModel {
        let heads = self.heads_of(session, &row.offers, places);
        let words = self.community.words();
        let says = heads.first().and_then(|model| words.of(model));
        let own = says.as_ref().map(|says| says.name.clone());
        let name = own.filter(|name| !name.is_empty());
        CommunityModel {
            id: id_of(&row.digest),
            name: name.unwrap_or_else(|| by_digest(&row.digest)),
            digest: row.digest.to_string(),
            peers: count(row.offers.len()),
            connected: count(row.connected),
            context_max: row.context_max(),
            prices: row.prices(),
            quants: row.quants(),
            speed: row.speed(),
            heads: count(heads.len()),
            head_bytes: heads.first().map_or(0, |model| model.head_len),
            says,
        }
    }

    async fn look(
        &self,
        session: &Session,
        model: &ModelRef,
        peers: &[PeerId],
    ) -> Result<(), NodeError> {
        let name = by_digest(&model.digest);
        let fetching = self.head_in_time(session, model, &name, None, peers);
        let file = fetching.await?;
        let info = self.read_text(&file).await;
        let info = info.map_err(|error| told_by_a_stranger(&name, error.into()))?;
        self.hears(model, &info, &file);
        Ok(())
    }
}

/// A name made of the digest, where the file's own is not known.
fn by_digest(digest: &ModelDigest) -> String {
    format!("model {}", &digest.to_string()[..12])
}

#[cfg(test)]
pub(crate) mod tests {
    use protocol::{HeadDigest, NetworkId, offer::Offer, price::Prices};

    use super::*;

    /// An offer of this file by this peer, which names this head for it.
    pub(crate) fn offer(peer: u8, file: [u8; 32], head: u8) -> Offer {
        Offer {
            network: NetworkId::MAIN,
            peer: PeerId::from_public_key(&[peer; 32]),
            addrs: Vec::new(),
            model: ModelRef {
                digest: ModelDigest::new(file),
                head_len: 1000 + u32::from(head),
                head_sha256: HeadDigest::new([head; 32]),
            },
            quant: "Q4_1".to_owned(),
            ctx_max: 2048,
            out_max: 100,
            parallel_slots: 1,
            features: Vec::new(),
            prices: Prices::FREE,
            payment: None,
            binding: None,
            prefill_tps: 0,
            decode_tps: u32::from(peer),
            queue_depth: 0,
            queue_max: 0,
            region: String::new(),
            software: String::new(),
            issued_unix_ms: 0,
            expires_unix_ms: 0,
            seq: 1,
            engine_class: String::new(),
            free_tokens: 100,
            proto_min: 1,
            proto_max: 1,
            vrf_key: None,
        }
    }
}
