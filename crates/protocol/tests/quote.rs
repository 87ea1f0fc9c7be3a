//! Quotes: a request and its answer as bytes, and how each wrong one is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use protocol::{
    Clock, MAX_CLOCK_SKEW_MS, ModelDigest, PeerId, SignatureError, Signer,
    frame::Signed,
    price::{Price, Prices},
    quote::{DOMAIN, MAX_QUOTE, QUOTE_LIFETIME_MS, Quote, QuoteError, QuoteRequest, prefix_hashes},
};

const NOW: Clock = Clock {
    mono_ms: 5_000,
    unix_ms: 1_790_000_000_000,
};

fn signer() -> Signer {
    Signer::from_seed([1; 32])
}

fn request() -> QuoteRequest {
    QuoteRequest {
        nonce: [3; 16],
        model: ModelDigest::new([2; 32]),
        n_in: 1_000,
        max_out: 400,
        prefix_hashes: prefix_hashes(&[5; 1_000]),
    }
}

fn quote() -> Quote {
    Quote {
        request_hash: QuoteRequest::hash_of(&request().encode()),
        eta_first_token_ms: 250,
        decode_tps: 40,
        queue_pos: 1,
        prices: Prices {
            input: Price::new(5),
            cached: Price::FREE,
            output: Price::new(u128::MAX),
        },
        cached_prefix_tokens: 750,
        quote_id: [8; 16],
        expires_unix_ms: NOW.unix_ms + QUOTE_LIFETIME_MS,
    }
}

fn read(quote: &Quote) -> Result<Quote, QuoteError> {
    Quote::verify(&quote.sign(&signer()), &signer().peer_id(), &request(), NOW)
}

#[test]
fn the_largest_messages_fit_and_come_back() {
    let bytes = request().encode();
    assert_eq!(request().prefix_hashes.len(), 4);
    assert!(bytes.len() <= MAX_QUOTE, "{} bytes", bytes.len());
    assert_eq!(QuoteRequest::decode(&bytes), Ok(request()));
    let full = Quote {
        eta_first_token_ms: u32::MAX,
        decode_tps: u32::MAX,
        queue_pos: u32::MAX,
        cached_prefix_tokens: 1_000,
        prices: Prices {
            input: Price::new(u128::MAX),
            cached: Price::new(u128::MAX),
            output: Price::new(u128::MAX),
        },
        ..quote()
    };
    let signed = full.sign(&signer());
    assert!(signed.len() <= MAX_QUOTE, "{} bytes", signed.len());
    assert_eq!(read(&full), Ok(full.clone()));
}

#[test]
fn each_wrong_request_has_its_own_refusal() {
    let decode = |change: fn(&mut QuoteRequest)| {
        let mut request = request();
        change(&mut request);
        QuoteRequest::decode(&request.encode()).unwrap_err()
    };
    assert_eq!(
        decode(|request| request.n_in = 0),
        QuoteError::Malformed("n_in")
    );
    assert_eq!(
        decode(|request| request.prefix_hashes.push([1; 32])),
        QuoteError::Malformed("prefix_hashes")
    );
    assert_eq!(
        QuoteRequest::decode(&[0; MAX_QUOTE + 1]),
        Err(QuoteError::TooLarge { len: MAX_QUOTE + 1 })
    );
    assert_eq!(QuoteRequest::decode(&[0xff]), Err(QuoteError::Undecodable));
    // n_in alone, and with a nonce of 16 bytes in front.
    assert_eq!(
        QuoteRequest::decode(&[0x18, 0x05]),
        Err(QuoteError::Malformed("nonce"))
    );
    let mut no_model = vec![0x0a, 16];
    no_model.extend([3; 16]);
    no_model.extend([0x18, 0x05]);
    assert_eq!(
        QuoteRequest::decode(&no_model),
        Err(QuoteError::Malformed("model_digest"))
    );
}

#[test]
fn each_wrong_quote_has_its_own_refusal() {
    let with = |change: fn(&mut Quote)| {
        let mut quote = quote();
        change(&mut quote);
        read(&quote)
    };
    assert_eq!(
        with(|quote| quote.request_hash = [0; 32]),
        Err(QuoteError::OtherRequest)
    );
    assert_eq!(
        with(|quote| quote.cached_prefix_tokens = 1_001),
        Err(QuoteError::Malformed("cached_prefix_tokens"))
    );
    // A clock that is two minutes off does not lose quotes; a quote from another time is not taken.
    assert!(with(|quote| quote.expires_unix_ms = NOW.unix_ms - MAX_CLOCK_SKEW_MS + 1).is_ok());
    assert_eq!(
        with(|quote| quote.expires_unix_ms = NOW.unix_ms - MAX_CLOCK_SKEW_MS),
        Err(QuoteError::Expired {
            ago_ms: MAX_CLOCK_SKEW_MS
        })
    );
    assert!(with(|quote| quote.expires_unix_ms += MAX_CLOCK_SKEW_MS).is_ok());
    assert_eq!(
        with(|quote| quote.expires_unix_ms += MAX_CLOCK_SKEW_MS + 1),
        Err(QuoteError::LivesTooLong {
            ahead_ms: QUOTE_LIFETIME_MS + MAX_CLOCK_SKEW_MS + 1
        })
    );

    let verify = |bytes: &[u8], peer: &PeerId| Quote::verify(bytes, peer, &request(), NOW);
    let other = Signer::from_seed([2; 32]);
    assert_eq!(
        verify(&quote().sign(&other), &signer().peer_id()),
        Err(QuoteError::Signature(SignatureError::Mismatch))
    );
    assert_eq!(
        verify(&[0; MAX_QUOTE + 1], &signer().peer_id()),
        Err(QuoteError::TooLarge { len: MAX_QUOTE + 1 })
    );
    assert_eq!(
        verify(&[0xff], &signer().peer_id()),
        Err(QuoteError::Undecodable)
    );
    let sealed = |domain: &str, payload: &'static [u8]| {
        let signed = Signed {
            payload: Bytes::from_static(payload),
            sig: Bytes::copy_from_slice(&signer().sign(domain, payload)),
        };
        verify(&signed.encode_to_vec(), &signer().peer_id())
    };
    assert_eq!(sealed(DOMAIN, &[0xff]), Err(QuoteError::Undecodable));
    assert_eq!(sealed(DOMAIN, &[0x08, 0x02]), Err(QuoteError::Version(2)));
    assert_eq!(
        sealed(DOMAIN, &[0x08, 0x01]),
        Err(QuoteError::Malformed("request_hash"))
    );
    // What was signed as another kind of message is no quote.
    assert_eq!(
        sealed("decentralgpt/offer/1", &[0x08, 0x01]),
        Err(QuoteError::Signature(SignatureError::Mismatch))
    );
}

#[test]
fn what_is_cached_is_what_was_asked_for_and_never_dearer() {
    let silent = QuoteRequest {
        prefix_hashes: Vec::new(),
        ..request()
    };
    let answer = |cached| {
        let quote = Quote {
            request_hash: QuoteRequest::hash_of(&silent.encode()),
            cached_prefix_tokens: cached,
            ..quote()
        };
        Quote::verify(&quote.sign(&signer()), &signer().peer_id(), &silent, NOW)
    };
    assert!(answer(0).is_ok());
    // Nobody was told what the input begins with.
    let malformed = QuoteError::Malformed("cached_prefix_tokens");
    assert_eq!(answer(1), Err(malformed));
    let priced = |cached: u128| {
        let mut quote = quote();
        quote.prices.cached = Price::new(cached);
        read(&quote)
    };
    assert!(priced(5).is_ok());
    assert_eq!(priced(6), Err(QuoteError::Malformed("price_cached")));
}

#[test]
fn prefixes_are_known_by_their_length_and_hash() {
    let ids: Vec<u32> = (0..1_000).collect();
    let request = QuoteRequest {
        prefix_hashes: prefix_hashes(&ids),
        ..request()
    };
    let prefixes = request.prefixes();
    let lengths: Vec<u32> = prefixes.iter().map(|prefix| prefix.tokens).collect();
    assert_eq!(lengths, [1_000, 937, 750, 500]);
    // A chat that went on: the cache holds 950 of its ids and something else behind them.
    let mut cached = ids[..950].to_vec();
    cached.extend([7; 300]);
    let longest = |ids: &[u32]| {
        let begins = prefixes.iter().find(|prefix| prefix.begins(ids));
        begins.map_or(0, |prefix| prefix.tokens)
    };
    assert_eq!(longest(&ids), 1_000);
    assert_eq!(longest(&cached), 937);
    assert_eq!(longest(&ids[..800]), 750);
    assert_eq!(longest(&ids[..499]), 0);
    assert_eq!(longest(&[]), 0);
    assert_eq!(prefix_hashes(&[]).len(), 0);
    assert_eq!(prefix_hashes(&[1]).len(), 1);
    assert_eq!(prefix_hashes(&[1, 2]).len(), 2);
}

proptest! {
    #[test]
    fn no_bytes_panic(data in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = QuoteRequest::decode(&data);
        let _ = Quote::verify(&data, &signer().peer_id(), &request(), NOW);
    }
}
