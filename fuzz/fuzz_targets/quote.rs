//! Requests for quotes and quotes: refused or understood, never a panic, and what is understood says the same again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use protocol::{
    Clock, ModelDigest, Signer,
    frame::Signed,
    quote::{DOMAIN, MAX_PREFIXES, MAX_QUOTE, Quote, QuoteRequest, prefix_hashes},
};

const NOW: Clock = Clock { mono_ms: 1_000, unix_ms: 1_790_000_000_000 };

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = QuoteRequest::decode(data) {
        assert!(request.prefix_hashes.len() <= MAX_PREFIXES);
        assert_eq!(QuoteRequest::decode(&request.encode()), Ok(request.clone()));
        assert!(request.prefixes().iter().all(|prefix| prefix.tokens <= request.n_in));
    }

    let signer = Signer::from_seed([7; 32]);
    let request = QuoteRequest {
        nonce: [1; 16],
        model: ModelDigest::new([2; 32]),
        n_in: 100,
        max_out: 10,
        prefix_hashes: prefix_hashes(&[5; 100]),
    };
    let _ = Quote::verify(data, &signer.peer_id(), &request, NOW);
    // The fuzzer cannot find a signature or a hash, so it is given both: a request hash in front, which a later
    // field of the same number replaces.
    let mut payload = vec![0x08, 1, 0x12, 32];
    payload.extend(QuoteRequest::hash_of(&request.encode()));
    payload.extend_from_slice(data);
    let signed = Signed {
        sig: Bytes::copy_from_slice(&signer.sign(DOMAIN, &payload)),
        payload: Bytes::from(payload),
    };
    let bytes = signed.encode_to_vec();
    if let Ok(quote) = Quote::verify(&bytes, &signer.peer_id(), &request, NOW) {
        assert!(bytes.len() <= MAX_QUOTE && quote.cached_prefix_tokens <= request.n_in);
        assert_eq!(Quote::verify(&quote.sign(&signer), &signer.peer_id(), &request, NOW), Ok(quote));
    }
});
