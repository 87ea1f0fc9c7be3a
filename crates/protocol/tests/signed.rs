//! What is signed: ids, the hash chain, prices and receipts. Known answers come from other implementations
//! (BLAKE3 and Ed25519 of Python packages, whole numbers of any size).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use proptest::prelude::*;
use protocol::{
    ChainHash, Clock, IdError, JobId, ModelDigest, PeerId, SignatureError, Signer, chain,
    frame::Signed,
    job::Finish,
    price::{Price, Prices, Totals, due},
    receipt::{self, Checkpoint, Receipt, ReceiptError, SAMPLER, SEED_FROM_JOB, SignedReceipt},
    verify,
};

const NOW: Clock = Clock {
    mono_ms: 5_000,
    unix_ms: 1_790_000_000_000,
};

fn job() -> JobId {
    JobId::new(std::array::from_fn(|at| at as u8))
}

#[test]
fn a_peer_id_is_written_as_libp2p_writes_it() {
    let peer = Signer::from_seed([1; 32]).peer_id();
    let text = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5";
    assert_eq!(peer.to_string(), text);
    assert_eq!(text.parse::<PeerId>(), Ok(peer));
    assert_eq!(peer.short(), "SUKPH5");
    assert_eq!(PeerId::from_bytes(peer.as_bytes()), Ok(peer));
    assert_eq!(
        PeerId::from_bytes(&[0; 37]),
        Err(IdError::Length {
            expected: 38,
            got: 37
        })
    );
    assert_eq!(PeerId::from_bytes(&[0; 38]), Err(IdError::NotEd25519));
    let base58 = Err(IdError::Text { alphabet: "base58" });
    assert_eq!("12D3KooW0".parse::<PeerId>(), base58.clone());
    assert_eq!("z".repeat(2_000).parse::<PeerId>(), base58);
    assert!(
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
            .parse::<PeerId>()
            .is_err()
    );
}

#[test]
fn a_signature_holds_for_its_domain_and_bytes_alone() {
    let signer = Signer::from_seed([1; 32]);
    let sig = signer.sign("decentralgpt/test/1", b"hello");
    let known = "dab83e0e96a28eeed47789f05246ec7b6999bbc8701d447ab9c5414509858c39262603d86f85e1d7713c42078856aaac691748047b8e56aba904be5fa3bbee0c";
    assert_eq!(hex::encode(sig), known);
    let peer = signer.peer_id();
    assert_eq!(verify(&peer, "decentralgpt/test/1", b"hello", &sig), Ok(()));
    for (domain, bytes) in [
        ("decentralgpt/test/2", &b"hello"[..]),
        ("decentralgpt/test/1", b"hallo"),
        ("", b"hello"),
    ] {
        assert_eq!(
            verify(&peer, domain, bytes, &sig),
            Err(SignatureError::Mismatch)
        );
    }
    let other = Signer::from_seed([2; 32]).peer_id();
    assert_eq!(
        verify(&other, "decentralgpt/test/1", b"hello", &sig),
        Err(SignatureError::Mismatch)
    );
    assert_eq!(
        verify(&peer, "decentralgpt/test/1", b"hello", &sig[1..]),
        Err(SignatureError::Length { got: 63 })
    );
    assert!(!format!("{signer:?}").contains(&hex::encode([1; 32])));
}

#[test]
fn the_chain_is_the_known_one() {
    let mut h = chain::start(&job());
    assert_eq!(
        h.to_string(),
        "4b6031d4f7428e8c4212a702b270931c87672c33464c296103a52bdc481815d6"
    );
    let links = [
        (
            0,
            "93c57c6e61bd806fa9483ac057475ae91802136387b165b96e02851c13a36440",
        ),
        (
            1,
            "f01a3018d1c303cb58d343dd91423b15ef55385390c73da318b4121c79533279",
        ),
        (
            2,
            "3c9edefd978071e94cd690b291922cd48609dd8bdaebfc8f1d985fcf4d3029de",
        ),
        (
            151_643,
            "8b3f3a7d0f945b72b835c12419a6ae9516344753766c9610f73fadb36c5d5a8d",
        ),
        (
            u32::MAX,
            "cb5e507b618a64453ac6caf77199d3b2f9d96ee6d98166490cce5d43459f16d2",
        ),
    ];
    for (id, known) in links {
        h = chain::next(&h, id);
        assert_eq!(h, known.parse().unwrap());
    }
    assert_eq!(
        chain::extend(&chain::start(&job()), &[0, 1, 2, 151_643, u32::MAX]),
        h
    );
    assert_eq!(receipt::seed_of(&job()), 11_227_046_630_672_835_207);
    let prompt = "4ac332e2b05e52190011066f7149a8addb625f02bfb655898503ff0e98be7c4b";
    assert_eq!(
        hex::encode(receipt::prompt_hash(&[9; 32], &[1, 2, 3], &[4, 5])),
        prompt
    );
}

#[test]
fn what_is_due_neither_overflows_nor_rounds_down() {
    let sum = |input: (u128, u64), cached: (u128, u64), output: (u128, u64)| {
        let prices = Prices {
            input: Price::new(input.0),
            cached: Price::new(cached.0),
            output: Price::new(output.0),
        };
        due(
            &prices,
            &Totals {
                input: input.1,
                cached: cached.1,
                output: output.1,
            },
        )
    };
    assert_eq!(sum((0, 0), (0, 0), (0, u64::MAX)), Some(0));
    assert_eq!(sum((1, 1), (0, 0), (0, 0)), Some(1));
    assert_eq!(sum((u128::MAX, 1_000_000), (0, 0), (0, 0)), Some(u128::MAX));
    assert_eq!(sum((u128::MAX, 1_000_000), (0, 0), (1, 1)), None);
    assert_eq!(
        sum(
            (u128::MAX, u64::MAX),
            (u128::MAX, u64::MAX),
            (u128::MAX, u64::MAX)
        ),
        None
    );
    assert_eq!(sum((3, 333_333), (7, 1), (11, 99)), Some(2));
    assert_eq!(
        sum(
            (1 << 127, 999_999),
            (1 << 100, 7),
            (12_345_678_901_234_567_890_123, 1 << 63)
        ),
        Some(170_254_882_108_848_279_723_669_584_963_157_105_509)
    );
}

proptest! {
    #[test]
    fn what_is_due_equals_the_slow_sum(prices in any::<[u64; 3]>(), tokens in any::<[u32; 3]>()) {
        let exact: u128 = prices.iter().zip(&tokens).map(|(&p, &t)| u128::from(p) * u128::from(t)).sum();
        let [input, cached, output] = prices.map(|price| Price::new(price.into()));
        let totals = Totals { input: tokens[0].into(), cached: tokens[1].into(), output: tokens[2].into() };
        prop_assert_eq!(due(&Prices { input, cached, output }, &totals), Some(exact.div_ceil(1_000_000)));
    }
}

// ---------------------------------------------------------------------------------------------- receipts

fn receipt() -> Receipt {
    Receipt {
        job: job(),
        provider: Signer::from_seed([1; 32]).peer_id(),
        client: Signer::from_seed([2; 32]).peer_id(),
        model: ModelDigest::new([3; 32]),
        template: Some([4; 32]),
        prompt_hash: receipt::prompt_hash(&[9; 32], &[1, 2], &[]),
        totals: Totals {
            input: 2,
            cached: 0,
            output: 3,
        },
        first_index: 0,
        h: chain::extend(&chain::start(&job()), &[7, 8, 9]),
        due: 0,
        finish: Finish::Stop,
        engine_build: "decentralgpt-engine 0.1.0".into(),
        numerics_class: "A8".into(),
        kv_type: "f32".into(),
        sampler: SAMPLER.into(),
        seed_source: SEED_FROM_JOB.into(),
        seed: receipt::seed_of(&job()),
        accepted_unix_ms: NOW.unix_ms,
        first_token_ms: 210,
        total_ms: 1_400,
    }
}

#[test]
fn a_receipt_is_signed_by_both_sides() {
    let (provider, client) = (Signer::from_seed([1; 32]), Signer::from_seed([2; 32]));
    let signed = receipt().sign(&provider);
    assert!(
        signed.payload.len() <= 450,
        "{} bytes",
        signed.payload.len()
    );
    let mut received =
        SignedReceipt::verify_then_decode(&signed.to_signed(), &provider.peer_id()).unwrap();
    assert_eq!(received.receipt, receipt());
    assert_eq!(received.client_check(), None);
    received.countersign(&client);
    assert_eq!(
        (received.provider_check(), received.client_check()),
        (Ok(()), Some(Ok(())))
    );

    let mut kept = signed.clone();
    let sig = received.client_sig.clone().unwrap();
    assert_eq!(
        kept.add_countersignature(&Bytes::from(vec![0; 64])),
        Err(SignatureError::Mismatch)
    );
    assert_eq!(
        kept.add_countersignature(&Bytes::new()),
        Err(SignatureError::Length { got: 0 })
    );
    assert_eq!(kept.client_sig, None);
    assert_eq!(kept.add_countersignature(&sig), Ok(()));
    assert_eq!(kept, received);
    let stored =
        SignedReceipt::from_parts(kept.payload.clone(), kept.provider_sig.clone(), Some(sig))
            .unwrap();
    assert_eq!(stored, received);

    // Neither signature passes for the other, nor for a checkpoint's.
    let swapped = SignedReceipt {
        client_sig: Some(signed.provider_sig.clone()),
        ..signed.clone()
    };
    assert_eq!(swapped.client_check(), Some(Err(SignatureError::Mismatch)));
    let mismatch = Err(ReceiptError::Signature(SignatureError::Mismatch));
    assert_eq!(
        Checkpoint::verify_then_decode(&signed.to_signed(), &provider.peer_id()),
        mismatch.clone()
    );
    assert_eq!(
        SignedReceipt::verify_then_decode(&signed.to_signed(), &client.peer_id()).map(|_| ()),
        mismatch.map(|_| ())
    );
}

#[test]
fn a_changed_receipt_does_not_hold() {
    let provider = Signer::from_seed([1; 32]);
    let signed = receipt().sign(&provider).to_signed();
    for at in (0..signed.payload.len()).step_by(9) {
        let mut payload = signed.payload.to_vec();
        payload[at] ^= 0x40;
        let changed = Signed {
            payload: Bytes::from(payload),
            ..signed.clone()
        };
        let error = SignedReceipt::verify_then_decode(&changed, &provider.peer_id()).unwrap_err();
        assert_eq!(error, ReceiptError::Signature(SignatureError::Mismatch));
    }
}

#[test]
fn a_signed_receipt_may_still_be_malformed() {
    let sealed = |payload: Vec<u8>, domain: &str| {
        let signer = Signer::from_seed([1; 32]);
        let sig = Bytes::copy_from_slice(&signer.sign(domain, &payload));
        (
            Signed {
                payload: Bytes::from(payload),
                sig,
            },
            signer.peer_id(),
        )
    };
    for (payload, error) in [
        (vec![0xff], ReceiptError::Malformed("protobuf")),
        (vec![], ReceiptError::Version(0)),
        (vec![0x08, 0x01], ReceiptError::Malformed("job")),
    ] {
        let (signed, peer) = sealed(payload.clone(), receipt::RECEIPT_DOMAIN);
        let read = SignedReceipt::verify_then_decode(&signed, &peer).unwrap_err();
        // The order of fields is the order of checks; a missing job is found first or second.
        assert!(
            read == error || read == ReceiptError::Malformed("job"),
            "{read}"
        );
        let (signed, peer) = sealed(payload, receipt::CHECKPOINT_DOMAIN);
        assert_eq!(Checkpoint::verify_then_decode(&signed, &peer), Err(error));
    }
    let mut long = receipt();
    long.engine_build = "x".repeat(65);
    let signer = Signer::from_seed([1; 32]);
    let signed = long.sign(&signer).to_signed();
    let read = SignedReceipt::verify_then_decode(&signed, &signer.peer_id()).unwrap_err();
    assert_eq!(read, ReceiptError::Malformed("name"));
}

#[test]
fn a_checkpoint_says_what_it_covers() {
    let signer = Signer::from_seed([1; 32]);
    let checkpoint = Checkpoint {
        job: job(),
        totals: Totals {
            input: 5,
            cached: 0,
            output: 64,
        },
        h: ChainHash::new([6; 32]),
        due: 1 << 100,
    };
    let signed = checkpoint.sign(&signer);
    assert_eq!(
        Checkpoint::verify_then_decode(&signed, &signer.peer_id()),
        Ok(checkpoint)
    );
}
