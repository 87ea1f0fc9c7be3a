//! Offers: what a provider says it serves, signed by itself, so that anybody may pass it on.
//!
//! An offer travels as a [`SignedEnvelope`] whose exact bytes are kept: it is verified first and decoded after.
//! What is in it is the provider's word alone. Field numbers that the design gives to bindings, assets and vaults
//! are kept free.

use bytes::Bytes;
use prost::Message as _;

use crate::{
    Clock, HeadDigest, MAX_CLOCK_SKEW_MS, ModelDigest, ModelRef, PeerId, SignatureError, Signer,
    head::MAX_HEAD,
    price::{self, Price, Prices},
    verify,
};

/// The libp2p protocol by which offers are asked for.
pub const PROTOCOL: &str = "/decentralgpt/offers/1";
/// Domain of an offer's signature.
pub const DOMAIN: &str = "decentralgpt/offer/1";
/// Names the network that offers belong to; a lab uses another name.
pub const NETWORK_ID: &str = "decentralgpt/1";

/// Bytes of a whole envelope. Offers are kept by the thousand.
pub const MAX_ENVELOPE: usize = 2 << 10;
/// A provider that is gone disappears from every list within this time.
pub const MAX_LIFETIME_MS: u64 = 30 * 60 * 1000;
/// Addresses in an offer.
pub const MAX_ADDRS: usize = 8;
/// Bytes of one address: a circuit through a relay with two peer ids has about 150.
pub const MAX_ADDR_BYTES: usize = 256;
/// Features in an offer.
pub const MAX_FEATURES: usize = 16;
/// Bytes of a short text in an offer.
pub const MAX_TEXT: usize = 64;
/// Longest context that is believed: eight times the longest of today's open models.
pub const MAX_CONTEXT: u32 = 1 << 23;

/// Offers in one reply.
pub const MAX_OFFERS_PER_REPLY: usize = 32;
/// Bytes of one reply.
pub const MAX_REPLY: usize = 64 << 10;
/// Bytes of one request.
pub const MAX_REQUEST: usize = 1 << 10;
/// Models that one request may name.
pub const MAX_DIGESTS_PER_REQUEST: usize = 16;

/// What a provider serves, on which terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Who offers it, and signs.
    pub peer: PeerId,
    /// Binary multiaddrs at which the peer may be reached. Which of them may be dialled is the network's question.
    pub addrs: Vec<Bytes>,
    /// The model file and its head.
    pub model: ModelRef,
    /// Quantisation as the file names it, for example `Q4_1`.
    pub quant: String,
    /// Tokens of context served.
    pub ctx_max: u32,
    /// Output tokens per job at most.
    pub out_max: u32,
    /// Jobs at once.
    pub parallel_slots: u32,
    /// Names of what it can do beside the basics.
    pub features: Vec<String>,
    /// Prices; all zero for now.
    pub prices: Prices,
    /// Tokens read per second, own measurement; 0: not measured.
    pub prefill_tps: u32,
    /// Tokens written per second, own measurement; 0: not measured.
    pub decode_tps: u32,
    /// Jobs that wait now.
    pub queue_depth: u32,
    /// Jobs that may wait.
    pub queue_max: u32,
    /// Where it claims to be; nothing proves it.
    pub region: String,
    /// Program and version.
    pub software: String,
    /// When it was made, Unix milliseconds.
    pub issued_unix_ms: u64,
    /// When it ends, Unix milliseconds.
    pub expires_unix_ms: u64,
    /// Rises with each new offer of this peer and model.
    pub seq: u64,
    /// Numerics class, cache type and engine build, as in receipts.
    pub engine_class: String,
    /// Output tokens that a stranger gets for nothing; the same as `out_max` while all is free.
    pub free_tokens: u32,
}

/// Why an offer was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The envelope is too large.
    #[error("an offer of {len} bytes came where {MAX_ENVELOPE} are allowed")]
    TooLarge {
        /// Bytes of the envelope.
        len: usize,
    },
    /// The envelope or its payload is no such protobuf.
    #[error("the offer cannot be decoded")]
    Undecodable,
    /// The envelope's peer id is none.
    #[error("the offer names no valid peer")]
    BadPeer,
    /// The signature does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The offer speaks for another peer than its signer.
    #[error("the offer speaks for another peer than the one who signed it")]
    SignerIsNotPeer,
    /// A version that is not known here.
    #[error("offers of version {0} are not known here")]
    Version(u32),
    /// It belongs to another network.
    #[error("the offer belongs to another network")]
    WrongNetwork,
    /// Its time is over.
    #[error("the offer expired {ago_ms} ms ago")]
    Expired {
        /// How long ago.
        ago_ms: u64,
    },
    /// It is valid for longer than an offer may be.
    #[error("the offer lives for {lifetime_ms} ms, {MAX_LIFETIME_MS} are allowed")]
    LivesTooLong {
        /// From issue to end.
        lifetime_ms: u64,
    },
    /// It was issued in the future: one of the two clocks is wrong.
    #[error("the offer comes from {ahead_ms} ms in the future")]
    FromTheFuture {
        /// How far ahead.
        ahead_ms: u64,
    },
    /// A newer one of the same peer and model was seen.
    #[error("offer {seq} is not newer than {seen}")]
    NotNewer {
        /// This one's number.
        seq: u64,
        /// The highest seen.
        seen: u64,
    },
    /// A list or text is longer than allowed.
    #[error("{0} in the offer is too long")]
    TooLong(&'static str),
    /// A field is missing, of the wrong size or out of range.
    #[error("{0} in the offer is malformed")]
    Malformed(&'static str),
}

/// A signed message together with whom it speaks for: the payload's exact bytes are what is signed and passed on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SignedEnvelope {
    /// The signed bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub payload: Bytes,
    /// Who signed, 38 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub peer_id: Bytes,
    /// The signature, 64 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub sig: Bytes,
}

impl SignedEnvelope {
    /// The envelope's bytes.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(self.encode_to_vec())
    }

    /// Reads an envelope of at most [`MAX_ENVELOPE`] bytes. Nothing in it is believed yet.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, OfferError> {
        if bytes.len() > MAX_ENVELOPE {
            return Err(OfferError::TooLarge { len: bytes.len() });
        }
        Self::decode(bytes.clone()).map_err(|_| OfferError::Undecodable)
    }
}

impl Offer {
    /// Signs it. The offer's `peer` becomes the signer's.
    pub fn sign(&self, signer: &Signer) -> SignedEnvelope {
        let peer = signer.peer_id();
        let wire = wire::Offer {
            v: 1,
            network_id: NETWORK_ID.to_owned(),
            peer_id: Bytes::copy_from_slice(peer.as_bytes()),
            addrs: self.addrs.clone(),
            model_digest: Bytes::copy_from_slice(self.model.digest.as_bytes()),
            head_len: self.model.head_len,
            head_sha256: Bytes::copy_from_slice(self.model.head_sha256.as_bytes()),
            quant: self.quant.clone(),
            ctx_max: self.ctx_max,
            out_max: self.out_max,
            parallel_slots: self.parallel_slots,
            features: self.features.clone(),
            price_in: price_to_wire(self.prices.input),
            price_out: price_to_wire(self.prices.output),
            price_cached: price_to_wire(self.prices.cached),
            prefill_tps: self.prefill_tps,
            decode_tps: self.decode_tps,
            queue_depth: self.queue_depth,
            queue_max: self.queue_max,
            region: self.region.clone(),
            sw: self.software.clone(),
            proto_min: 1,
            proto_max: 1,
            issued_at: self.issued_unix_ms,
            expires_at: self.expires_unix_ms,
            seq: self.seq,
            engine_class: self.engine_class.clone(),
            free_tokens: self.free_tokens,
        };
        let payload = wire.encode_to_vec();
        SignedEnvelope {
            sig: Bytes::copy_from_slice(&signer.sign(DOMAIN, &payload)),
            payload: Bytes::from(payload),
            peer_id: Bytes::copy_from_slice(peer.as_bytes()),
        }
    }

    /// Verifies an envelope, then decodes and judges the offer in it. `seen` is the highest `seq` that was taken from
    /// this peer for this model, if any; an equal one is refused as well. The caller looks it up with
    /// [`Offer::verify_then_decode`] and an always-`None` function when it has no such table.
    pub fn verify_then_decode(
        envelope: &SignedEnvelope,
        now: Clock,
        seen: impl FnOnce(&PeerId, &ModelDigest) -> Option<u64>,
    ) -> Result<Self, OfferError> {
        let len = envelope.encoded_len();
        if len > MAX_ENVELOPE {
            return Err(OfferError::TooLarge { len });
        }
        let signer = PeerId::from_bytes(&envelope.peer_id).map_err(|_| OfferError::BadPeer)?;
        verify(&signer, DOMAIN, &envelope.payload, &envelope.sig)?;
        let wire =
            wire::Offer::decode(envelope.payload.clone()).map_err(|_| OfferError::Undecodable)?;
        if wire.v != 1 {
            return Err(OfferError::Version(wire.v));
        }
        if wire.network_id != NETWORK_ID {
            return Err(OfferError::WrongNetwork);
        }
        if wire.peer_id != signer.as_bytes().as_slice() {
            return Err(OfferError::SignerIsNotPeer);
        }
        times(&wire, now)?;
        sizes(&wire)?;
        let offer = Self::from_wire(wire, signer)?;
        match seen(&offer.peer, &offer.model.digest) {
            Some(seen) if offer.seq <= seen => Err(OfferError::NotNewer {
                seq: offer.seq,
                seen,
            }),
            Some(_) | None => Ok(offer),
        }
    }

    fn from_wire(wire: wire::Offer, peer: PeerId) -> Result<Self, OfferError> {
        if wire.head_len == 0 || wire.head_len as usize > MAX_HEAD {
            return Err(OfferError::Malformed("head_len"));
        }
        if wire.ctx_max == 0 || wire.ctx_max > MAX_CONTEXT {
            return Err(OfferError::Malformed("ctx_max"));
        }
        if wire.out_max == 0 {
            return Err(OfferError::Malformed("out_max"));
        }
        Ok(Self {
            peer,
            addrs: wire.addrs,
            model: ModelRef {
                digest: ModelDigest::from_bytes(&wire.model_digest)
                    .map_err(|_| OfferError::Malformed("model_digest"))?,
                head_len: wire.head_len,
                head_sha256: HeadDigest::from_bytes(&wire.head_sha256)
                    .map_err(|_| OfferError::Malformed("head_sha256"))?,
            },
            quant: wire.quant,
            ctx_max: wire.ctx_max,
            out_max: wire.out_max,
            parallel_slots: wire.parallel_slots,
            features: wire.features,
            prices: Prices {
                input: price_from_wire(&wire.price_in, "price_in")?,
                cached: price_from_wire(&wire.price_cached, "price_cached")?,
                output: price_from_wire(&wire.price_out, "price_out")?,
            },
            prefill_tps: wire.prefill_tps,
            decode_tps: wire.decode_tps,
            queue_depth: wire.queue_depth,
            queue_max: wire.queue_max,
            region: wire.region,
            software: wire.sw,
            issued_unix_ms: wire.issued_at,
            expires_unix_ms: wire.expires_at,
            seq: wire.seq,
            engine_class: wire.engine_class,
            free_tokens: wire.free_tokens,
        })
    }
}

fn times(wire: &wire::Offer, now: Clock) -> Result<(), OfferError> {
    if wire.issued_at > now.unix_ms.saturating_add(MAX_CLOCK_SKEW_MS) {
        return Err(OfferError::FromTheFuture {
            ahead_ms: wire.issued_at - now.unix_ms,
        });
    }
    let lifetime_ms = wire
        .expires_at
        .checked_sub(wire.issued_at)
        .ok_or(OfferError::Malformed("expires_at"))?;
    if lifetime_ms > MAX_LIFETIME_MS {
        return Err(OfferError::LivesTooLong { lifetime_ms });
    }
    if wire.expires_at <= now.unix_ms {
        return Err(OfferError::Expired {
            ago_ms: now.unix_ms - wire.expires_at,
        });
    }
    Ok(())
}

fn sizes(wire: &wire::Offer) -> Result<(), OfferError> {
    let lists = [
        ("addrs", wire.addrs.len() > MAX_ADDRS),
        (
            "addrs",
            wire.addrs.iter().any(|addr| addr.len() > MAX_ADDR_BYTES),
        ),
        ("features", wire.features.len() > MAX_FEATURES),
        (
            "features",
            wire.features.iter().any(|feature| feature.len() > MAX_TEXT),
        ),
        ("quant", wire.quant.len() > MAX_TEXT),
        ("region", wire.region.len() > MAX_TEXT),
        ("sw", wire.sw.len() > MAX_TEXT),
        ("engine_class", wire.engine_class.len() > MAX_TEXT),
    ];
    match lists.iter().find(|(_, too_long)| *too_long) {
        Some((name, _)) => Err(OfferError::TooLong(name)),
        None => Ok(()),
    }
}

fn price_to_wire(price: Price) -> Bytes {
    match price.base_units_per_mtok() {
        0 => Bytes::new(),
        units => Bytes::copy_from_slice(&price::to_bytes(units)),
    }
}

fn price_from_wire(bytes: &Bytes, name: &'static str) -> Result<Price, OfferError> {
    price::from_bytes(bytes)
        .map(Price::new)
        .ok_or(OfferError::Malformed(name))
}

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
        Ok(request)
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

/// Field numbers of the signed payload.
mod wire {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Offer {
        #[prost(uint32, tag = "1")]
        pub(super) v: u32,
        #[prost(string, tag = "2")]
        pub(super) network_id: String,
        // 3: offer_id, 5: binding.
        #[prost(bytes = "bytes", tag = "4")]
        pub(super) peer_id: Bytes,
        #[prost(bytes = "bytes", repeated, tag = "6")]
        pub(super) addrs: Vec<Bytes>,
        #[prost(bytes = "bytes", tag = "7")]
        pub(super) model_digest: Bytes,
        #[prost(string, tag = "8")]
        pub(super) quant: String,
        #[prost(uint32, tag = "9")]
        pub(super) ctx_max: u32,
        #[prost(uint32, tag = "10")]
        pub(super) out_max: u32,
        #[prost(uint32, tag = "11")]
        pub(super) parallel_slots: u32,
        #[prost(string, repeated, tag = "12")]
        pub(super) features: Vec<String>,
        #[prost(bytes = "bytes", tag = "13")]
        pub(super) price_in: Bytes,
        #[prost(bytes = "bytes", tag = "14")]
        pub(super) price_out: Bytes,
        #[prost(bytes = "bytes", tag = "15")]
        pub(super) price_cached: Bytes,
        // 16: asset, 17: vault.
        #[prost(uint32, tag = "18")]
        pub(super) prefill_tps: u32,
        #[prost(uint32, tag = "19")]
        pub(super) decode_tps: u32,
        #[prost(uint32, tag = "20")]
        pub(super) queue_depth: u32,
        #[prost(uint32, tag = "21")]
        pub(super) queue_max: u32,
        #[prost(string, tag = "22")]
        pub(super) region: String,
        #[prost(string, tag = "23")]
        pub(super) sw: String,
        #[prost(uint32, tag = "24")]
        pub(super) proto_min: u32,
        #[prost(uint32, tag = "25")]
        pub(super) proto_max: u32,
        #[prost(uint64, tag = "26")]
        pub(super) issued_at: u64,
        #[prost(uint64, tag = "27")]
        pub(super) expires_at: u64,
        #[prost(uint64, tag = "28")]
        pub(super) seq: u64,
        #[prost(string, tag = "29")]
        pub(super) engine_class: String,
        #[prost(uint32, tag = "30")]
        pub(super) free_tokens: u32,
        #[prost(uint32, tag = "31")]
        pub(super) head_len: u32,
        #[prost(bytes = "bytes", tag = "32")]
        pub(super) head_sha256: Bytes,
        // 33: chain_id, 34: stream_window, 35: vrf_key.
    }
}
