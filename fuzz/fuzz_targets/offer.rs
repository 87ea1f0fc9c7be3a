//! Offers, requests for them, and pieces of a head: refused or understood, never a panic.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use protocol::{
    Clock, HeadDigest, ModelDigest, ModelRef, NetworkId, Signer,
    frame::Signed,
    head::{HeadFetch, HeadRequest, HeadResponse},
    offer::{DOMAIN, Offer, OffersRequest, OffersResponse, SignedEnvelope},
    receipt::{CHECKPOINT_DOMAIN, Checkpoint, RECEIPT_DOMAIN, SignedReceipt},
};

const NOW: Clock = Clock { mono_ms: 1_000, unix_ms: 1_790_000_000_000 };

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(envelope) = SignedEnvelope::from_bytes(&bytes) {
        let _ = Offer::verify_then_decode(&envelope, &NetworkId::MAIN, NOW, |_, _| Some(3));
    }
    if let Ok(response) = OffersResponse::from_bytes(&bytes) {
        for envelope in &response.offers {
            let _ = Offer::verify_then_decode(envelope, &NetworkId::MAIN, NOW, |_, _| None);
        }
    }
    let _ = OffersRequest::from_bytes(&bytes);
    let _ = HeadRequest::from_bytes(&bytes);

    // The fuzzer cannot find a signature, so it is given one: what is signed by a hostile peer must hold as well.
    let signer = Signer::from_seed([7; 32]);
    let peer = signer.peer_id();
    let sealed = |domain: &str| Bytes::copy_from_slice(&signer.sign(domain, &bytes));
    let envelope = SignedEnvelope {
        payload: bytes.clone(),
        peer_id: Bytes::copy_from_slice(peer.as_bytes()),
        sig: sealed(DOMAIN),
    };
    if let Ok(offer) = Offer::verify_then_decode(&envelope, &NetworkId::MAIN, NOW, |_, _| None) {
        assert_eq!(offer.peer, peer);
        let again = Offer::verify_then_decode(&offer.sign(&signer), &NetworkId::MAIN, NOW, |_, _| None);
        assert_eq!(again.as_ref(), Ok(&offer));
    }
    let signed = Signed { payload: bytes.clone(), sig: sealed(CHECKPOINT_DOMAIN) };
    if let Ok(checkpoint) = Checkpoint::verify_then_decode(&signed, &peer) {
        let again = Checkpoint::verify_then_decode(&checkpoint.sign(&signer), &peer);
        assert_eq!(again, Ok(checkpoint));
    }
    let signed = Signed { payload: bytes.clone(), sig: sealed(RECEIPT_DOMAIN) };
    if let Ok(receipt) = SignedReceipt::verify_then_decode(&signed, &peer) {
        let again = receipt.receipt.sign(&signer);
        assert_eq!(SignedReceipt::verify_then_decode(&again.to_signed(), &peer).map(|r| r.receipt), Ok(receipt.receipt));
    }

    let model = ModelRef { digest: ModelDigest::new([1; 32]), head_len: 300, head_sha256: HeadDigest::new([2; 32]) };
    if let (Ok(response), Ok(mut fetch)) = (HeadResponse::from_bytes(&bytes), HeadFetch::new(model)) {
        let _ = fetch.take(&response);
        let (have, all) = fetch.progress();
        assert!(have < all);
    }
});
