//! The messages by which offers are pulled from a peer, and the set by which one says which of them one has.

use bytes::Bytes;
use prost::Message as _;

use super::{
    MAX_DIGESTS_PER_REQUEST, MAX_OFFERS_PER_REPLY, MAX_REPLY, MAX_REQUEST, OfferError,
    SignedEnvelope,
};
use crate::{ModelDigest, OfferId};

/// Asks a peer for its own offers and those it knows.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OffersRequest {
    /// Only these models, 32 bytes each; none: any model.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub model_digests: Vec<Bytes>,
    /// Offers wanted at most.
    #[prost(uint32, tag = "2")]
    pub max: u32,
    /// Says that the sender's own offers changed or ended, so that the receiver asks anew. The reply is empty.
    #[prost(bool, tag = "3")]
    pub changed: bool,
    /// Offers that the sender knows: those of others that are in it are left out of the reply. The receiver's own
    /// are sent all the same, since what is missing of them counts as withdrawn.
    #[prost(message, optional, tag = "4")]
    pub known: Option<Bloom>,
}

/// Offers, each self-certifying. The sender's own come first.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OffersResponse {
    /// At most [`MAX_OFFERS_PER_REPLY`].
    #[prost(message, repeated, tag = "1")]
    pub offers: Vec<SignedEnvelope>,
}

impl OffersRequest {
    /// Reads a request within its caps.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, OfferError> {
        if bytes.len() > MAX_REQUEST {
            return Err(OfferError::TooLong("request"));
        }
        let request = Self::decode(bytes.clone()).map_err(|_| OfferError::Undecodable)?;
        if request.model_digests.len() > MAX_DIGESTS_PER_REQUEST {
            return Err(OfferError::TooLong("model_digests"));
        }
        if request
            .model_digests
            .iter()
            .any(|digest| digest.len() != ModelDigest::LEN)
        {
            return Err(OfferError::Malformed("model_digests"));
        }
        if request
            .known
            .as_ref()
            .is_some_and(|known| known.bits.len() != Bloom::BYTES)
        {
            return Err(OfferError::Malformed("known"));
        }
        Ok(request)
    }

    /// True if the sender says that it knows this offer.
    pub fn knows(&self, offer: &OfferId) -> bool {
        self.known
            .as_ref()
            .is_some_and(|known| known.contains(offer))
    }

    /// True if an offer for this model is asked for.
    pub fn wants(&self, model: &ModelDigest) -> bool {
        self.model_digests.is_empty()
            || self
                .model_digests
                .iter()
                .any(|digest| digest == model.as_bytes().as_slice())
    }
}

impl OffersResponse {
    /// Reads a reply within its caps. The offers in it are not verified yet.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, OfferError> {
        if bytes.len() > MAX_REPLY {
            return Err(OfferError::TooLong("reply"));
        }
        let response = Self::decode(bytes.clone()).map_err(|_| OfferError::Undecodable)?;
        if response.offers.len() > MAX_OFFERS_PER_REPLY {
            return Err(OfferError::TooLong("offers"));
        }
        Ok(response)
    }
}

/// Context string that derives the positions of an id in a [`Bloom`].
const BLOOM_CONTEXT: &str = "decentralgpt/known-offers/1";

/// A Bloom filter over offer ids: says of each "perhaps known" or "certainly not". With 256 ids in it, about one in
/// 700 others is taken for known; with 1,024 about one in five. The sender chooses another seed for every request,
/// so an offer that was hidden once shows the next time.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Bloom {
    /// Any number, new for every request.
    #[prost(fixed64, tag = "1")]
    pub seed: u64,
    /// [`Bloom::BYTES`] bytes; bit `p % 8` of byte `p / 8` is position `p`.
    #[prost(bytes = "vec", tag = "2")]
    pub bits: Vec<u8>,
}

impl Bloom {
    /// Bytes of every filter. One size, so that its length tells nothing.
    pub const BYTES: usize = 512;
    /// Positions per id: the best number for 512 ids.
    pub const POSITIONS: usize = 5;

    /// A filter with nothing in it.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            bits: vec![0; Self::BYTES],
        }
    }

    /// Puts an id in.
    pub fn insert(&mut self, offer: &OfferId) {
        for (byte, bit) in self.positions(offer) {
            if let Some(byte) = self.bits.get_mut(byte) {
                *byte |= bit;
            }
        }
    }

    /// Whether the id may be in it. Never false for one that was put in.
    pub fn contains(&self, offer: &OfferId) -> bool {
        self.positions(offer)
            .iter()
            .all(|&(byte, bit)| self.bits.get(byte).is_some_and(|have| have & bit != 0))
    }

    /// The first ten bytes of `BLAKE3.derive_key("decentralgpt/known-offers/1", u64le seed ‖ id)` as five u16
    /// little-endian, each modulo the number of bits: a byte's index and the bit in it.
    fn positions(&self, offer: &OfferId) -> [(usize, u8); Self::POSITIONS] {
        let mut input = [0; 8 + OfferId::LEN];
        input[..8].copy_from_slice(&self.seed.to_le_bytes());
        input[8..].copy_from_slice(offer.as_bytes());
        let hash = blake3::derive_key(BLOOM_CONTEXT, &input);
        std::array::from_fn(|at| {
            let position = usize::from(u16::from_le_bytes([hash[2 * at], hash[2 * at + 1]]))
                % (8 * Self::BYTES);
            (position / 8, 1 << (position % 8))
        })
    }
}
