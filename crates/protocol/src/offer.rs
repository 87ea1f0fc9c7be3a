//! Offers: what a provider says it serves, signed by itself, so that anybody may pass it on.
//!
//! An offer travels as a [`SignedEnvelope`] whose exact bytes are kept: it is verified first and decoded after.
//! What is in it is the provider's word alone.

mod pull;
mod wire;

pub use pull::{Bloom, OffersRequest, OffersResponse};

use bytes::Bytes;
use prost::Message as _;

use crate::{
    Clock, HeadDigest, MAX_CLOCK_SKEW_MS, ModelDigest, ModelRef, NetworkId, OfferId, PeerId,
    SignatureError, Signer,
    binding::{BindingError, MAX_BINDING, SignedBinding},
    head::MAX_HEAD,
    price::{Price, Prices},
    verify,
};

/// The libp2p protocol by which offers are asked for.
pub const PROTOCOL: &str = "/decentralgpt/offers/1";
/// Domain of an offer's signature.
pub const DOMAIN: &str = "decentralgpt/offer/1";
/// The major version of the job protocol that this program speaks, for `proto_min` and `proto_max`.
pub const PROTO: u32 = 1;

/// Feature of a provider that keeps a job whose stream was cut.
pub const FEATURE_RESUME: &str = "resume";
/// Feature of a provider that holds output to a form.
pub const FEATURE_GRAMMAR: &str = "grammar";
/// Feature of a provider that tells log-probabilities.
pub const FEATURE_LOGPROBS: &str = "logprobs";
/// Feature of a provider that counts what the voucher behind a first frame pays for.
pub const FEATURE_PREPAID: &str = "prepaid";

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
/// Bytes of an account or contract on a chain of the Ethereum kind.
pub const ACCOUNT: usize = 20;
/// Longest context that is believed: eight times the longest of today's open models.
pub const MAX_CONTEXT: u32 = 1 << 23;

/// Offers in one reply.
pub const MAX_OFFERS_PER_REPLY: usize = 32;
/// Bytes of one reply.
pub const MAX_REPLY: usize = 64 << 10;
/// Bytes of one request: sixteen digests and a filter take about 1,100.
pub const MAX_REQUEST: usize = 2 << 10;
/// Models that one request may name.
pub const MAX_DIGESTS_PER_REQUEST: usize = 16;

/// Derives an offer's id.
const ID_CONTEXT: &str = "decentralgpt/offer-id/1";

/// What a provider serves, on which terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The network that it belongs to.
    pub network: NetworkId,
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
    /// Names of what it can do beside the basics: [`FEATURE_RESUME`] and others. One that is not known means nothing.
    pub features: Vec<String>,
    /// Prices.
    pub prices: Prices,
    /// How it is paid. Without it all prices are zero.
    pub payment: Option<Payment>,
    /// Ties the peer to the account that is paid for it. Who takes money has one, on the chain of its payment.
    pub binding: Option<SignedBinding>,
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
    /// The lowest major version of the job protocol that it speaks.
    pub proto_min: u32,
    /// And the highest.
    pub proto_max: u32,
    /// The key that its seeds can be checked against, 32 bytes.
    pub vrf_key: Option<[u8; 32]>,
}

/// How a provider is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The chain.
    pub chain_id: u64,
    /// The token's contract; prices are in its base units.
    pub asset: [u8; ACCOUNT],
    /// The contract that holds the payers' deposits.
    pub vault: [u8; ACCOUNT],
    /// Output tokens computed ahead of the last voucher at most.
    pub stream_window: u32,
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
    /// The binding in it does not hold.
    #[error(transparent)]
    Binding(#[from] BindingError),
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
    /// Names it: `BLAKE3.derive_key("decentralgpt/offer-id/1", peer ‖ model digest ‖ u64le seq)`. Two offers of one
    /// peer for one model with the same number are the same to everybody.
    pub fn id(&self) -> OfferId {
        let mut input = [0; PeerId::LEN + ModelDigest::LEN + 8];
        input[..PeerId::LEN].copy_from_slice(self.peer.as_bytes());
        input[PeerId::LEN..PeerId::LEN + ModelDigest::LEN]
            .copy_from_slice(self.model.digest.as_bytes());
        input[PeerId::LEN + ModelDigest::LEN..].copy_from_slice(&self.seq.to_le_bytes());
        OfferId::new(blake3::derive_key(ID_CONTEXT, &input))
    }

    /// Signs it. The offer's `peer` becomes the signer's.
    pub fn sign(&self, signer: &Signer) -> SignedEnvelope {
        let peer = signer.peer_id();
        let wire = wire::Offer {
            v: 1,
            network_id: self.network.as_str().to_owned(),
            peer_id: Bytes::copy_from_slice(peer.as_bytes()),
            binding: self
                .binding
                .as_ref()
                .map_or_else(Bytes::new, |binding| binding.as_bytes().clone()),
            addrs: self.addrs.clone(),
            model_digest: Bytes::copy_from_slice(self.model.digest.as_bytes()),
            head_len: self.model.head_len,
            head_sha256: Bytes::copy_from_slice(self.model.head_sha256.as_bytes()),
            quant: self.quant.clone(),
            ctx_max: self.ctx_max,
            out_max: self.out_max,
            parallel_slots: self.parallel_slots,
            features: self.features.clone(),
            price_in: self.prices.input.to_wire(),
            price_out: self.prices.output.to_wire(),
            price_cached: self.prices.cached.to_wire(),
            asset: self
                .payment
                .map_or_else(Bytes::new, |payment| Bytes::copy_from_slice(&payment.asset)),
            vault: self
                .payment
                .map_or_else(Bytes::new, |payment| Bytes::copy_from_slice(&payment.vault)),
            chain_id: self.payment.map_or(0, |payment| payment.chain_id),
            stream_window: self.payment.map_or(0, |payment| payment.stream_window),
            prefill_tps: self.prefill_tps,
            decode_tps: self.decode_tps,
            queue_depth: self.queue_depth,
            queue_max: self.queue_max,
            region: self.region.clone(),
            sw: self.software.clone(),
            proto_min: self.proto_min,
            proto_max: self.proto_max,
            issued_at: self.issued_unix_ms,
            expires_at: self.expires_unix_ms,
            seq: self.seq,
            engine_class: self.engine_class.clone(),
            free_tokens: self.free_tokens,
            vrf_key: self
                .vrf_key
                .map_or_else(Bytes::new, |key| Bytes::copy_from_slice(&key)),
        };
        let payload = wire.encode_to_vec();
        SignedEnvelope {
            sig: Bytes::copy_from_slice(&signer.sign(DOMAIN, &payload)),
            payload: Bytes::from(payload),
            peer_id: Bytes::copy_from_slice(peer.as_bytes()),
        }
    }

    /// Verifies an envelope, then decodes and judges the offer in it, for this network. `seen` is the highest `seq` that was taken from
    /// this peer for this model, if any; an equal one is refused as well. The caller looks it up with
    /// [`Offer::verify_then_decode`] and an always-`None` function when it has no such table.
    pub fn verify_then_decode(
        envelope: &SignedEnvelope,
        network: &NetworkId,
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
        if wire.network_id != network.as_str() {
            return Err(OfferError::WrongNetwork);
        }
        if wire.peer_id != signer.as_bytes().as_slice() {
            return Err(OfferError::SignerIsNotPeer);
        }
        times(&wire, now)?;
        sizes(&wire)?;
        let binding = binding(&wire, &signer, network, now)?;
        let offer = Self::from_wire(wire, network.clone(), signer, binding)?;
        match seen(&offer.peer, &offer.model.digest) {
            Some(seen) if offer.seq <= seen => Err(OfferError::NotNewer {
                seq: offer.seq,
                seen,
            }),
            Some(_) | None => Ok(offer),
        }
    }

    fn from_wire(
        wire: wire::Offer,
        network: NetworkId,
        peer: PeerId,
        binding: Option<SignedBinding>,
    ) -> Result<Self, OfferError> {
        if wire.head_len == 0 || wire.head_len as usize > MAX_HEAD {
            return Err(OfferError::Malformed("head_len"));
        }
        if wire.ctx_max == 0 || wire.ctx_max > MAX_CONTEXT {
            return Err(OfferError::Malformed("ctx_max"));
        }
        if wire.out_max == 0 {
            return Err(OfferError::Malformed("out_max"));
        }
        if wire.proto_min == 0 || wire.proto_min > wire.proto_max {
            return Err(OfferError::Malformed("proto_min"));
        }
        let prices = Prices {
            input: price_from_wire(&wire.price_in, "price_in")?,
            cached: price_from_wire(&wire.price_cached, "price_cached")?,
            output: price_from_wire(&wire.price_out, "price_out")?,
        };
        if !prices.favour_cached() {
            return Err(OfferError::Malformed("price_cached"));
        }
        let payment = payment(&wire)?;
        if payment.is_none() && !prices.is_free() {
            return Err(OfferError::Malformed("asset"));
        }
        let bound_to = binding.as_ref().map(|signed| signed.binding.chain_id);
        if payment.is_some_and(|payment| bound_to != Some(payment.chain_id)) {
            return Err(OfferError::Malformed("binding"));
        }
        Ok(Self {
            network,
            peer,
            payment,
            binding,
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
            prices,
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
            proto_min: wire.proto_min,
            proto_max: wire.proto_max,
            vrf_key: match wire.vrf_key.as_ref() {
                [] => None,
                key => Some(
                    key.try_into()
                        .map_err(|_| OfferError::Malformed("vrf_key"))?,
                ),
            },
        })
    }
}

fn binding(
    wire: &wire::Offer,
    peer: &PeerId,
    network: &NetworkId,
    now: Clock,
) -> Result<Option<SignedBinding>, BindingError> {
    if wire.binding.is_empty() {
        return Ok(None);
    }
    SignedBinding::verify_then_decode(&wire.binding, peer, network, now).map(Some)
}

/// The four fields of a payment stand together or not at all.
fn payment(wire: &wire::Offer) -> Result<Option<Payment>, OfferError> {
    let none = wire.asset.is_empty()
        && wire.vault.is_empty()
        && wire.chain_id == 0
        && wire.stream_window == 0;
    if none {
        return Ok(None);
    }
    if wire.chain_id == 0 {
        return Err(OfferError::Malformed("chain_id"));
    }
    if wire.stream_window == 0 {
        return Err(OfferError::Malformed("stream_window"));
    }
    Ok(Some(Payment {
        chain_id: wire.chain_id,
        asset: account(&wire.asset, "asset")?,
        vault: account(&wire.vault, "vault")?,
        stream_window: wire.stream_window,
    }))
}

fn account(bytes: &Bytes, name: &'static str) -> Result<[u8; ACCOUNT], OfferError> {
    bytes
        .as_ref()
        .try_into()
        .map_err(|_| OfferError::Malformed(name))
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
        ("binding", wire.binding.len() > MAX_BINDING),
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

fn price_from_wire(bytes: &Bytes, name: &'static str) -> Result<Price, OfferError> {
    Price::from_wire(bytes).ok_or(OfferError::Malformed(name))
}
