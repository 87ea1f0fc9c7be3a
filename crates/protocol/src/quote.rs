//! `/decentralgpt/quote/1`: a client tells a provider the size of a job it may send, and gets a signed answer: when
//! the first token would come, how fast the rest, and at which prices.
//!
//! The prices bind the provider for [`QUOTE_LIFETIME_MS`]; everything else is its word alone. A request is bound to
//! its quote by its hash, and holds a nonce, so a quote that fits cannot be older than the request.

use bytes::Bytes;
use prost::Message as _;

use crate::{
    Clock, MAX_CLOCK_SKEW_MS, ModelDigest, PeerId, SignatureError, Signer,
    frame::Signed,
    price::{Price, Prices, Terms},
    verify,
};

/// The libp2p protocol name.
pub const PROTOCOL: &str = "/decentralgpt/quote/1";
/// Domain of a quote's signature.
pub const DOMAIN: &str = "decentralgpt/quote/1";
/// Bytes of a request, and of its answer.
pub const MAX_QUOTE: usize = 512;
/// A quote is answered within this time or not at all: it is asked on the way to a first token.
pub const QUOTE_TIMEOUT_MS: u64 = 2_000;
/// How long the prices bind. The client begins its job at once, so a connection's time and a pause are enough.
pub const QUOTE_LIFETIME_MS: u64 = 10_000;
/// Bytes of a nonce.
pub const NONCE: usize = 16;
/// Bytes of a quote's id.
pub const QUOTE_ID: usize = 16;
/// Prefixes that one request names.
pub const MAX_PREFIXES: usize = 4;

/// Context string of a request's hash.
const REQUEST_CONTEXT: &str = "decentralgpt/quote-request/1";
/// Context string of a prefix's hash.
pub const PREFIX_CONTEXT: &str = "decentralgpt/quote-prefix/1";

/// Why a request for a quote, or a quote, was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// Too large.
    #[error("a quote message of {len} bytes came where {MAX_QUOTE} are allowed")]
    TooLarge {
        /// Bytes that came.
        len: usize,
    },
    /// No such protobuf.
    #[error("the quote message cannot be decoded")]
    Undecodable,
    /// A field is of the wrong size or out of range.
    #[error("{0} in the quote message is malformed")]
    Malformed(&'static str),
    /// The signature does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A version that is not known here.
    #[error("quotes of version {0} are not known here")]
    Version(u32),
    /// It answers another request.
    #[error("the quote answers another request")]
    OtherRequest,
    /// Its time is over, even by a clock that is off as far as clocks may be.
    #[error("the quote expired {ago_ms} ms ago")]
    Expired {
        /// How long ago.
        ago_ms: u64,
    },
    /// It would bind for longer than quotes do.
    #[error("the quote ends {ahead_ms} ms from now, quotes live for {QUOTE_LIFETIME_MS}")]
    LivesTooLong {
        /// How far ahead its end is.
        ahead_ms: u64,
    },
}

/// A job that may come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteRequest {
    /// Random, so that the answer is to this request and no other.
    pub nonce: [u8; NONCE],
    /// The model.
    pub model: ModelDigest,
    /// Input tokens.
    pub n_in: u32,
    /// Output tokens at most.
    pub max_out: u32,
    /// [`prefix_hashes`] of the input, at most [`MAX_PREFIXES`]. To be told to nobody but the peer that wrote this chat's
    /// last answer: it has seen what they are hashes of.
    pub prefix_hashes: Vec<[u8; 32]>,
}

impl QuoteRequest {
    /// The request as it travels. The same request always gives the same bytes.
    pub fn encode(&self) -> Bytes {
        let wire = wire::QuoteRequest {
            nonce: Bytes::copy_from_slice(&self.nonce),
            model_digest: Bytes::copy_from_slice(self.model.as_bytes()),
            n_in: self.n_in,
            max_out: self.max_out,
            prefix_hashes: self
                .prefix_hashes
                .iter()
                .map(|hash| Bytes::copy_from_slice(hash))
                .collect(),
        };
        Bytes::from(wire.encode_to_vec())
    }

    /// Reads a request within its caps.
    pub fn decode(bytes: &[u8]) -> Result<Self, QuoteError> {
        if bytes.len() > MAX_QUOTE {
            return Err(QuoteError::TooLarge { len: bytes.len() });
        }
        let wire = wire::QuoteRequest::decode(bytes).map_err(|_| QuoteError::Undecodable)?;
        if wire.prefix_hashes.len() > MAX_PREFIXES {
            return Err(QuoteError::Malformed("prefix_hashes"));
        }
        if wire.n_in == 0 {
            return Err(QuoteError::Malformed("n_in"));
        }
        Ok(Self {
            nonce: array(&wire.nonce, "nonce")?,
            model: ModelDigest::from_bytes(&wire.model_digest)
                .map_err(|_| QuoteError::Malformed("model_digest"))?,
            n_in: wire.n_in,
            max_out: wire.max_out,
            prefix_hashes: wire
                .prefix_hashes
                .iter()
                .map(|hash| array(hash, "prefix_hashes"))
                .collect::<Result<_, _>>()?,
        })
    }

    /// What a quote for the request with these bytes names it by. Taken over the bytes as they came, since a later
    /// version's request may hold what this one does not decode.
    pub fn hash_of(bytes: &[u8]) -> [u8; 32] {
        blake3::derive_key(REQUEST_CONTEXT, bytes)
    }

    /// The prefixes that it names, the longest first: what a provider looks for in what it has cached of this client.
    pub fn prefixes(&self) -> Vec<Prefix> {
        let hashes = self.prefix_hashes.iter();
        prefix_lengths(self.n_in)
            .zip(hashes)
            .map(|(tokens, &hash)| Prefix { tokens, hash })
            .collect()
    }
}

/// The beginning of an input, known by its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// How long it is.
    pub tokens: u32,
    /// Its hash, as [`prefix_hashes`] takes it.
    pub hash: [u8; 32],
}

impl Prefix {
    /// Whether an input begins with it.
    pub fn begins<'a>(&self, input: impl IntoIterator<Item = &'a u32>) -> bool {
        let mut tokens = 0;
        let beginning = input.into_iter().take(self.tokens as usize);
        let hash = hash_of_ids(beginning.inspect(|_| tokens += 1));
        tokens == self.tokens && hash == self.hash
    }
}

/// What a quote binds its provider to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The prices, and the tokens that count as cached.
    pub terms: Terms,
    /// What the input has to begin with, where some count as cached.
    pub prefix: Option<Prefix>,
}

impl From<Prices> for Bound {
    /// Prices alone.
    fn from(prices: Prices) -> Self {
        Self {
            terms: prices.into(),
            prefix: None,
        }
    }
}

/// What a provider says about a job that may come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// [`QuoteRequest::hash_of`] the request's bytes.
    pub request_hash: [u8; 32],
    /// Milliseconds from the job's arrival to its first token.
    pub eta_first_token_ms: u32,
    /// Tokens written per second.
    pub decode_tps: u32,
    /// Jobs in front of it.
    pub queue_pos: u32,
    /// What it costs.
    pub prices: Prices,
    /// Input tokens that are in the cache, and are charged as such.
    pub cached_prefix_tokens: u32,
    /// Names the quote in [`crate::frame::Open::quote_id`].
    pub quote_id: [u8; QUOTE_ID],
    /// When it ends, Unix milliseconds by the provider's clock, which alone judges whether a job came in time.
    pub expires_unix_ms: u64,
}

impl Quote {
    /// What a job is charged by that names it.
    pub fn terms(&self) -> Terms {
        Terms::new(self.prices, self.cached_prefix_tokens)
    }

    /// Signs it: the answer as it travels, at most [`MAX_QUOTE`] bytes.
    pub fn sign(&self, signer: &Signer) -> Bytes {
        let wire = wire::Quote {
            v: 1,
            request_hash: Bytes::copy_from_slice(&self.request_hash),
            eta_first_token_ms: self.eta_first_token_ms,
            decode_tps: self.decode_tps,
            queue_pos: self.queue_pos,
            price_in: self.prices.input.to_wire(),
            price_out: self.prices.output.to_wire(),
            price_cached: self.prices.cached.to_wire(),
            cached_prefix_tokens: self.cached_prefix_tokens,
            quote_id: Bytes::copy_from_slice(&self.quote_id),
            expires_at: self.expires_unix_ms,
        };
        let payload = wire.encode_to_vec();
        let signed = Signed {
            sig: Bytes::copy_from_slice(&signer.sign(DOMAIN, &payload)),
            payload: Bytes::from(payload),
        };
        Bytes::from(signed.encode_to_vec())
    }

    /// Verifies that `peer` signed it, decodes it, and checks that it answers this request and lives as long as
    /// quotes do. Both clocks may be off as far as [`MAX_CLOCK_SKEW_MS`]: it is the nonce that makes it fresh.
    pub fn verify(
        bytes: &[u8],
        peer: &PeerId,
        request: &QuoteRequest,
        now: Clock,
    ) -> Result<Self, QuoteError> {
        if bytes.len() > MAX_QUOTE {
            return Err(QuoteError::TooLarge { len: bytes.len() });
        }
        let signed = Signed::decode(bytes).map_err(|_| QuoteError::Undecodable)?;
        verify(peer, DOMAIN, &signed.payload, &signed.sig)?;
        let wire =
            wire::Quote::decode(signed.payload.as_ref()).map_err(|_| QuoteError::Undecodable)?;
        if wire.v != 1 {
            return Err(QuoteError::Version(wire.v));
        }
        let quote = Self {
            request_hash: array(&wire.request_hash, "request_hash")?,
            eta_first_token_ms: wire.eta_first_token_ms,
            decode_tps: wire.decode_tps,
            queue_pos: wire.queue_pos,
            prices: Prices {
                input: price_from_wire(&wire.price_in, "price_in")?,
                cached: price_from_wire(&wire.price_cached, "price_cached")?,
                output: price_from_wire(&wire.price_out, "price_out")?,
            },
            cached_prefix_tokens: wire.cached_prefix_tokens,
            quote_id: array(&wire.quote_id, "quote_id")?,
            expires_unix_ms: wire.expires_at,
        };
        if quote.request_hash != QuoteRequest::hash_of(&request.encode()) {
            return Err(QuoteError::OtherRequest);
        }
        // Who was told of no prefix cannot have found one.
        let most = request.prefixes().first().map_or(0, |prefix| prefix.tokens);
        if quote.cached_prefix_tokens > most {
            return Err(QuoteError::Malformed("cached_prefix_tokens"));
        }
        if !quote.prices.favour_cached() {
            return Err(QuoteError::Malformed("price_cached"));
        }
        let ends = quote.expires_unix_ms;
        if ends.saturating_add(MAX_CLOCK_SKEW_MS) <= now.unix_ms {
            return Err(QuoteError::Expired {
                ago_ms: now.unix_ms - ends,
            });
        }
        let ahead_ms = ends.saturating_sub(now.unix_ms);
        if ahead_ms > QUOTE_LIFETIME_MS + MAX_CLOCK_SKEW_MS {
            return Err(QuoteError::LivesTooLong { ahead_ms });
        }
        Ok(quote)
    }
}

/// Hashes of an input's prefixes, the longest first: of the whole, of fifteen sixteenths, three quarters and half of it, rounded
/// down; lengths of zero and repeated ones are left out. The whole is found when an answer is asked for once
/// more, the others when a chat goes on: what was said before is most of it.
///
/// `BLAKE3.derive_key("decentralgpt/quote-prefix/1", ids as u32le)`.
pub fn prefix_hashes(ids: &[u32]) -> Vec<[u8; 32]> {
    prefix_lengths(u32::try_from(ids.len()).unwrap_or(u32::MAX))
        .map(|len| hash_of_ids(&ids[..len as usize]))
        .collect()
}

/// The lengths that [`prefix_hashes`] of this many ids are taken at, the longest first.
fn prefix_lengths(n_in: u32) -> impl Iterator<Item = u32> {
    let n = u64::from(n_in);
    let mut last = 0;
    [n, n * 15 / 16, n * 3 / 4, n / 2]
        .into_iter()
        .map(|len| len as u32)
        .filter(move |&len| len != 0 && std::mem::replace(&mut last, len) != len)
}

fn hash_of_ids<'a>(ids: impl IntoIterator<Item = &'a u32>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(PREFIX_CONTEXT);
    for id in ids {
        hasher.update(&id.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

fn price_from_wire(bytes: &Bytes, name: &'static str) -> Result<Price, QuoteError> {
    Price::from_wire(bytes).ok_or(QuoteError::Malformed(name))
}

fn array<const N: usize>(bytes: &Bytes, name: &'static str) -> Result<[u8; N], QuoteError> {
    bytes
        .as_ref()
        .try_into()
        .map_err(|_| QuoteError::Malformed(name))
}

/// Field numbers.
mod wire {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct QuoteRequest {
        #[prost(bytes = "bytes", tag = "1")]
        pub(super) nonce: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub(super) model_digest: Bytes,
        #[prost(uint32, tag = "3")]
        pub(super) n_in: u32,
        #[prost(uint32, tag = "4")]
        pub(super) max_out: u32,
        #[prost(bytes = "bytes", repeated, tag = "5")]
        pub(super) prefix_hashes: Vec<Bytes>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Quote {
        #[prost(uint32, tag = "1")]
        pub(super) v: u32,
        #[prost(bytes = "bytes", tag = "2")]
        pub(super) request_hash: Bytes,
        #[prost(uint32, tag = "3")]
        pub(super) eta_first_token_ms: u32,
        #[prost(uint32, tag = "4")]
        pub(super) decode_tps: u32,
        #[prost(uint32, tag = "5")]
        pub(super) queue_pos: u32,
        #[prost(bytes = "bytes", tag = "6")]
        pub(super) price_in: Bytes,
        #[prost(bytes = "bytes", tag = "7")]
        pub(super) price_out: Bytes,
        #[prost(bytes = "bytes", tag = "8")]
        pub(super) price_cached: Bytes,
        #[prost(uint32, tag = "9")]
        pub(super) cached_prefix_tokens: u32,
        #[prost(bytes = "bytes", tag = "10")]
        pub(super) quote_id: Bytes,
        #[prost(uint64, tag = "11")]
        pub(super) expires_at: u64,
    }
}
