//! What this node offers, and what it knows others to offer.
//!
//! Offers are pulled and certify themselves, so any peer may pass on those of others. An own answer of a provider is the last
//! word on what it offers: what is missing from it is withdrawn, and stays so although others may still pass it on.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use protocol::{
    Clock, ModelDigest, NetworkId, PeerId, SignatureError,
    binding::BindingError,
    offer::{
        Bloom, MAX_ENVELOPE, MAX_OFFERS_PER_REPLY, MAX_REPLY, Offer, OfferError, OffersRequest,
        OffersResponse, SignedEnvelope,
    },
};
use rand::seq::SliceRandom;

use crate::clocks;

/// Offers that a node publishes: half a reply, so that there is room for those of others.
pub const MAX_OWN_OFFERS: usize = MAX_OFFERS_PER_REPLY / 2;
/// Offers known of others. At 2 KiB each, 2 MiB.
const KNOWN: usize = 1024;
/// Offers known of one provider.
const KNOWN_PER_PROVIDER: usize = MAX_OWN_OFFERS;
/// Offers of others told to who asks for no model in particular: enough to hear of new providers from one another within
/// minutes, too few to hand out the whole cache. As many as Bitcoin's nodes gossip of addresses in one go.
const GOSSIP: usize = 8;
/// Bytes of the cache on disk: all that is known, each with its tag and length.
pub(crate) const MAX_CACHE: usize = KNOWN * (MAX_ENVELOPE + 4);

/// An offer whose signature held when it came.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedOffer {
    /// What is offered, by whom.
    pub offer: Offer,
    /// The bytes that certify it, as they are passed on.
    pub envelope: SignedEnvelope,
    /// Who brought it: the provider itself, a peer that passed it on, or this node out of what it kept on disk.
    pub learned_from: PeerId,
    /// When, Unix milliseconds.
    pub learned_unix_ms: u64,
}

impl VerifiedOffer {
    /// Whether its time is over at this Unix time in milliseconds.
    #[must_use]
    pub fn expired(&self, unix_ms: u64) -> bool {
        self.offer.expires_unix_ms <= unix_ms
    }
}

/// What came of one answer to a request for offers.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Offers of the answering peer itself.
    pub(crate) own: Vec<Offer>,
    /// Offers that were new and verified.
    pub(crate) new: usize,
    /// Offers that were dropped, for whatever reason.
    pub(crate) refused: u64,
    /// Offers that no honest peer passes on, since it would have verified them.
    pub(crate) forged: bool,
    /// Whether the set of known offers changed.
    pub(crate) changed: bool,
    /// What time it is at the answering peer by its newest offer, Unix milliseconds.
    pub(crate) clock_unix_ms: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Book {
    network: NetworkId,
    own: Vec<(Offer, SignedEnvelope)>,
    known: BTreeMap<(PeerId, ModelDigest), Entry>,
}

#[derive(Debug)]
struct Entry {
    seq: u64,
    /// When the offer, and with it the memory of its withdrawal, may be forgotten.
    expires_unix_ms: u64,
    /// `None`: withdrawn by its provider.
    offer: Option<VerifiedOffer>,
}

impl Book {
    /// A cache of the offers of one network.
    pub(crate) fn new(network: NetworkId) -> Self {
        Self {
            network,
            ..Self::default()
        }
    }

    /// Puts these in place of what was offered. Those that are not this node's own or do not verify are left out; returns how many.
    pub(crate) fn publish(
        &mut self,
        local: PeerId,
        offers: Vec<SignedEnvelope>,
        now: Clock,
    ) -> usize {
        let given = offers.len();
        self.own = offers
            .into_iter()
            .filter_map(|envelope| {
                Some((
                    Offer::verify_then_decode(&envelope, &self.network, now, |_, _| None).ok()?,
                    envelope,
                ))
            })
            .filter(|(offer, _)| offer.peer == local)
            .take(MAX_OWN_OFFERS)
            .collect();
        given - self.own.len()
    }

    /// Models that this node offers now.
    pub(crate) fn models(&self) -> Vec<ModelDigest> {
        let mut models: Vec<_> = self
            .own
            .iter()
            .map(|(offer, _)| offer.model.digest)
            .collect();
        models.sort_unstable();
        models.dedup();
        models
    }

    /// The reply to a peer's request: own offers first, then those of others that are fresh and that it does not know, in random
    /// order. Who asks for no model in particular hears of a few.
    pub(crate) fn reply(&self, to: PeerId, request: &OffersRequest, now_unix_ms: u64) -> Bytes {
        let mut response = OffersResponse::default();
        if request.changed {
            return Bytes::from(response.encode_to_vec());
        }
        let asked = usize::try_from(request.max).unwrap_or(usize::MAX);
        let max = if asked == 0 {
            MAX_OFFERS_PER_REPLY
        } else {
            asked.min(MAX_OFFERS_PER_REPLY)
        };
        let own = self
            .own
            .iter()
            .filter(|(offer, _)| {
                offer.expires_unix_ms > now_unix_ms && request.wants(&offer.model.digest)
            })
            .map(|(_, envelope)| envelope);
        let mut others: Vec<_> = self
            .offers()
            .filter(|known| {
                known.offer.peer != to
                    && !known.expired(now_unix_ms)
                    && request.wants(&known.offer.model.digest)
                    && !request.knows(&known.offer.id())
            })
            .collect();
        others.shuffle(&mut rand::rng());
        if request.model_digests.is_empty() {
            others.truncate(GOSSIP);
        }
        let mut room = MAX_REPLY;
        for envelope in own
            .chain(others.into_iter().map(|known| &known.envelope))
            .take(max)
        {
            // A tag and a length of two bytes stand in front of each.
            let len = envelope.encoded_len() + 4;
            if len > room {
                break;
            }
            room -= len;
            response.offers.push(envelope.clone());
        }
        Bytes::from(response.encode_to_vec())
    }

    /// What to say that we know of a model when we ask for it; `None`: nothing.
    pub(crate) fn known(&self, model: &ModelDigest) -> Option<Bloom> {
        let mut bloom = Bloom::new(rand::random());
        let mut any = false;
        for known in self
            .offers()
            .filter(|known| known.offer.model.digest == *model)
        {
            bloom.insert(&known.offer.id());
            any = true;
        }
        any.then_some(bloom)
    }

    /// The offers of others as they are kept on disk: an answer to a request for all of them.
    pub(crate) fn to_cache(&self, now_unix_ms: u64) -> Vec<u8> {
        let fresh = self.offers().filter(|known| !known.expired(now_unix_ms));
        let offers = fresh.map(|known| known.envelope.clone()).collect();
        OffersResponse { offers }.encode_to_vec()
    }

    /// Takes in what was kept on disk: every signature and time is looked at again, since a file is nobody's word. `None`: it is
    /// no such file.
    pub(crate) fn load_cache(&mut self, bytes: Bytes, local: PeerId, now: Clock) -> Option<Taken> {
        let response = OffersResponse::decode(bytes).ok()?;
        // Nobody in particular brought them: what this node is told of itself is dropped anyway.
        Some(self.take(local, local, response, false, now, || true))
    }

    /// Takes in what `from` answered. `whole`: the request named no models, so what is missing of its own is withdrawn.
    /// `may_relay` is asked once per offer of somebody else that is not known already as it is.
    pub(crate) fn take(
        &mut self,
        from: PeerId,
        local: PeerId,
        response: OffersResponse,
        whole: bool,
        now: Clock,
        mut may_relay: impl FnMut() -> bool,
    ) -> Taken {
        let mut taken = Taken::default();
        let mut current = Vec::new();
        for envelope in response.offers {
            if let Some(known) = self
                .offers()
                .find(|known| known.envelope == envelope && !known.expired(now.unix_ms))
            {
                if known.offer.peer == from {
                    current.push(known.offer.model.digest);
                    taken.own.push(known.offer.clone());
                }
                continue;
            }
            let own = envelope.peer_id == from.as_bytes().as_slice();
            // Before its signatures are looked at: they are what a flood of offers costs.
            if !(own || may_relay()) {
                taken.refused += 1;
                continue;
            }
            let offer =
                match Offer::verify_then_decode(&envelope, &self.network, now, |peer, model| {
                    self.seen(from, peer, model)
                }) {
                    Ok(offer) => offer,
                    Err(error) => {
                        tracing::debug!(peer = %from, %error, "an offer was refused");
                        if own {
                            taken.clock_unix_ms =
                                taken.clock_unix_ms.max(clock_of(&error, now.unix_ms));
                        }
                        taken.forged |= is_forged(&error);
                        taken.refused += 1;
                        continue;
                    }
                };
            if offer.peer == local {
                continue;
            }
            if !self.room_for(&offer, now.unix_ms) {
                taken.refused += 1;
                continue;
            }
            if own {
                current.push(offer.model.digest);
                taken.clock_unix_ms = taken.clock_unix_ms.max(Some(offer.issued_unix_ms));
                taken.own.push(offer.clone());
            }
            taken.new += 1;
            taken.changed = true;
            self.known.insert(
                (offer.peer, offer.model.digest),
                Entry {
                    seq: offer.seq,
                    expires_unix_ms: offer.expires_unix_ms,
                    offer: Some(VerifiedOffer {
                        offer,
                        envelope,
                        learned_from: from,
                        learned_unix_ms: now.unix_ms,
                    }),
                },
            );
        }
        if whole {
            taken.changed |= self.withdraw(from, &current);
        }
        taken
    }

    /// Every offer of others that was not withdrawn, expired ones included.
    pub(crate) fn offers(&self) -> impl Iterator<Item = &VerifiedOffer> {
        self.known.values().filter_map(|entry| entry.offer.as_ref())
    }

    /// Models that this peer offers, as far as known.
    pub(crate) fn models_of(&self, peer: PeerId, now_unix_ms: u64) -> Vec<ModelDigest> {
        let of_peer = (peer, ModelDigest::new([0; 32]))..=(peer, ModelDigest::new([0xff; 32]));
        self.known
            .range(of_peer)
            .filter(|(_, entry)| {
                entry
                    .offer
                    .as_ref()
                    .is_some_and(|known| !known.expired(now_unix_ms))
            })
            .map(|((_, model), _)| *model)
            .collect()
    }

    /// Forgets what is over. True when a known offer went.
    pub(crate) fn expire(&mut self, now_unix_ms: u64) -> bool {
        let before = self.known.len();
        self.known
            .retain(|_, entry| entry.expires_unix_ms > now_unix_ms);
        self.own
            .retain(|(offer, _)| offer.expires_unix_ms > now_unix_ms);
        self.known.len() != before
    }

    /// The highest number that counts against an offer which `from` brings. A provider may offer again what it withdrew; nobody
    /// else may bring that back.
    fn seen(&self, from: PeerId, peer: &PeerId, model: &ModelDigest) -> Option<u64> {
        let entry = self.known.get(&(*peer, *model))?;
        if entry.offer.is_none() && *peer == from {
            entry.seq.checked_sub(1)
        } else {
            Some(entry.seq)
        }
    }

    fn room_for(&mut self, offer: &Offer, now_unix_ms: u64) -> bool {
        if self.known.contains_key(&(offer.peer, offer.model.digest)) {
            return true;
        }
        if self.models_of(offer.peer, now_unix_ms).len() >= KNOWN_PER_PROVIDER {
            return false;
        }
        if self.known.len() >= KNOWN {
            self.expire(now_unix_ms);
        }
        if self.known.len() >= KNOWN {
            // The one that would be forgotten first anyway.
            let first = self
                .known
                .iter()
                .min_by_key(|(_, entry)| entry.expires_unix_ms)
                .map(|(key, _)| *key);
            if let Some(first) = first {
                self.known.remove(&first);
            }
        }
        true
    }

    /// Takes back what this peer offers, these models excepted. True when that was something.
    pub(crate) fn withdraw(&mut self, peer: PeerId, except: &[ModelDigest]) -> bool {
        let mut changed = false;
        for ((provider, model), entry) in &mut self.known {
            if *provider == peer && !except.contains(model) && entry.offer.take().is_some() {
                changed = true;
            }
        }
        changed
    }
}

/// What time it is where an offer was signed that was refused for its time alone.
fn clock_of(error: &OfferError, unix_ms: u64) -> Option<u64> {
    if let OfferError::FromTheFuture { ahead_ms } = error {
        Some(unix_ms.saturating_add(*ahead_ms))
    } else if let OfferError::Expired { ago_ms } = error {
        Some(clocks::of_expired(*ago_ms, unix_ms))
    } else {
        None
    }
}

/// Whether no honest peer could have passed this on: everybody checks form and signature. Times are another matter, since clocks differ.
fn is_forged(error: &OfferError) -> bool {
    match error {
        OfferError::TooLarge { .. }
        | OfferError::Undecodable
        | OfferError::BadPeer
        | OfferError::Signature(
            SignatureError::Length { .. } | SignatureError::Key | SignatureError::Mismatch,
        )
        | OfferError::SignerIsNotPeer
        | OfferError::Binding(
            BindingError::TooLarge { .. }
            | BindingError::Undecodable
            | BindingError::Node(_)
            | BindingError::Malformed(_)
            | BindingError::OtherPeer
            | BindingError::OtherNetwork
            | BindingError::LivesTooLong { .. }
            | BindingError::OperatorForm
            | BindingError::Operator,
        )
        | OfferError::LivesTooLong { .. }
        | OfferError::TooLong(_)
        | OfferError::Malformed(_) => true,
        OfferError::Version(_)
        | OfferError::WrongNetwork
        | OfferError::Binding(
            BindingError::Version(_) | BindingError::NotYet { .. } | BindingError::Expired { .. },
        )
        | OfferError::Expired { .. }
        | OfferError::FromTheFuture { .. }
        | OfferError::NotNewer { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use protocol::{HeadDigest, ModelRef, Signer, price::Prices};

    use super::*;

    const NOW: Clock = Clock {
        mono_ms: 0,
        unix_ms: 1_790_000_000_000,
    };

    fn signed(signer: u8, model: u8) -> SignedEnvelope {
        let signer = Signer::from_seed([signer; 32]);
        let offer = Offer {
            network: NetworkId::MAIN,
            peer: signer.peer_id(),
            addrs: Vec::new(),
            model: ModelRef {
                digest: ModelDigest::new([model; 32]),
                head_len: 1,
                head_sha256: HeadDigest::new([0; 32]),
            },
            quant: String::new(),
            ctx_max: 2048,
            out_max: 512,
            parallel_slots: 1,
            features: Vec::new(),
            prices: Prices::default(),
            payment: None,
            binding: None,
            prefill_tps: 0,
            decode_tps: 0,
            queue_depth: 0,
            queue_max: 1,
            region: String::new(),
            software: String::new(),
            issued_unix_ms: NOW.unix_ms,
            expires_unix_ms: NOW.unix_ms + 60_000,
            seq: 1,
            engine_class: String::new(),
            free_tokens: 512,
            proto_min: 1,
            proto_max: 1,
            vrf_key: None,
        };
        offer.sign(&signer)
    }

    /// A cache that knows the offers of providers 1 to 100, who all serve one model.
    fn full() -> (Book, PeerId) {
        let local = Signer::from_seed([200; 32]).peer_id();
        let mut book = Book::default();
        let offers = (1..=100).map(|signer| signed(signer, 1)).collect();
        let taken = book.take(local, local, OffersResponse { offers }, false, NOW, || true);
        assert_eq!((taken.new, taken.refused), (100, 0));
        (book, local)
    }

    fn asked(book: &Book, request: &OffersRequest) -> Vec<SignedEnvelope> {
        let to = Signer::from_seed([201; 32]).peer_id();
        OffersResponse::from_bytes(&book.reply(to, request, NOW.unix_ms))
            .unwrap()
            .offers
    }

    #[test]
    fn gossip_is_eight_at_random_and_a_named_model_fills_the_reply() {
        let (book, _) = full();
        let (one, other) = (
            asked(&book, &OffersRequest::default()),
            asked(&book, &OffersRequest::default()),
        );
        assert_eq!((one.len(), other.len()), (GOSSIP, GOSSIP));
        assert_ne!(one, other);
        let named = OffersRequest {
            model_digests: vec![vec![1; 32].into()],
            ..OffersRequest::default()
        };
        assert_eq!(asked(&book, &named).len(), MAX_OFFERS_PER_REPLY);
    }

    #[test]
    fn what_the_asker_knows_is_not_told_again_and_asking_on_yields_all() {
        let (book, local) = full();
        let mut asker = Book::default();
        for _ in 0..8 {
            let request = OffersRequest {
                model_digests: vec![vec![1; 32].into()],
                known: asker.known(&ModelDigest::new([1; 32])),
                ..OffersRequest::default()
            };
            let offers = asked(&book, &request);
            asker.take(local, local, OffersResponse { offers }, false, NOW, || true);
        }
        assert_eq!(asker.offers().count(), 100);
    }

    #[test]
    fn what_one_peer_brings_of_others_beyond_its_rate_is_not_even_verified() {
        let (from, local) = (
            Signer::from_seed([1; 32]).peer_id(),
            Signer::from_seed([200; 32]).peer_id(),
        );
        let mut forged = signed(2, 1);
        forged.sig = vec![0; 64].into();
        let offers = vec![signed(1, 1), signed(3, 1), forged];
        let mut book = Book::default();
        let taken = book.take(from, local, OffersResponse { offers }, true, NOW, || false);
        assert_eq!((taken.new, taken.refused, taken.forged), (1, 2, false));
        // What is known as it is costs nothing, and is not asked about.
        let offers = vec![signed(1, 1)];
        let taken = book.take(local, local, OffersResponse { offers }, false, NOW, || {
            panic!("it is known")
        });
        assert_eq!((taken.new, taken.refused), (0, 0));
    }

    #[test]
    fn the_cache_outlives_a_restart_and_is_not_believed() {
        let (book, local) = full();
        let kept = book.to_cache(NOW.unix_ms);
        assert!(kept.len() <= MAX_CACHE);
        let mut again = Book::default();
        let taken = again.load_cache(kept.clone().into(), local, NOW).unwrap();
        assert_eq!(taken.new, 100);
        let later = Clock {
            unix_ms: NOW.unix_ms + 60_000,
            ..NOW
        };
        let taken = Book::default().load_cache(kept.clone().into(), local, later);
        assert_eq!(taken.unwrap().new, 0, "they are over");
        let mut altered = kept;
        for at in (40..altered.len()).step_by(90) {
            altered[at] ^= 1;
        }
        let taken = Book::default().load_cache(altered.into(), local, NOW);
        assert!(taken.is_none_or(|taken| taken.new < 100));
        assert!(
            Book::default()
                .load_cache(vec![0xff; 100].into(), local, NOW)
                .is_none()
        );
        let elsewhere = NetworkId::new("decentralgpt/other").unwrap();
        let taken = Book::new(elsewhere).load_cache(book.to_cache(NOW.unix_ms).into(), local, NOW);
        assert_eq!(taken.unwrap().new, 0, "offers of another network");
    }
}
