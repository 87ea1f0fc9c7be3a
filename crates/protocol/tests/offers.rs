//! Offers: what is signed, how each wrong one is refused, and the messages by which they are pulled.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use protocol::{
    Clock, HeadDigest, ModelDigest, ModelRef, NetworkId, OfferId, SignatureError, Signer,
    binding::{Binding, BindingError, OperatorSigner, SignedBinding},
    offer::{
        self, Bloom, MAX_ADDRS, MAX_ENVELOPE, MAX_LIFETIME_MS, MAX_REQUEST, Offer, OfferError,
        OffersRequest, OffersResponse, Payment, SignedEnvelope,
    },
    price::{Price, Prices},
};

const NOW: Clock = Clock {
    mono_ms: 5_000,
    unix_ms: 1_790_000_000_000,
};

fn offer() -> Offer {
    Offer {
        network: NetworkId::MAIN,
        peer: Signer::from_seed([1; 32]).peer_id(),
        addrs: vec![Bytes::from_static(&[4, 127, 0, 0, 1, 6, 0x0f, 0xa1])],
        model: ModelRef {
            digest: ModelDigest::new([2; 32]),
            head_len: 1_000_000,
            head_sha256: HeadDigest::new([3; 32]),
        },
        quant: "Q4_1".into(),
        ctx_max: 8_192,
        out_max: 512,
        parallel_slots: 2,
        features: vec!["resume".into()],
        prices: Prices::FREE,
        payment: None,
        binding: None,
        prefill_tps: 400,
        decode_tps: 90,
        queue_depth: 0,
        queue_max: 8,
        region: "eu".into(),
        software: "decentralgpt/0.1.0".into(),
        issued_unix_ms: NOW.unix_ms - 1_000,
        expires_unix_ms: NOW.unix_ms + 60_000,
        seq: 9,
        engine_class: "A32/f32".into(),
        free_tokens: 512,
        proto_min: 1,
        proto_max: 1,
        vrf_key: None,
    }
}

fn judged(offer: &Offer) -> Result<Offer, OfferError> {
    Offer::verify_then_decode(
        &offer.sign(&Signer::from_seed([1; 32])),
        &NetworkId::MAIN,
        NOW,
        |_, _| None,
    )
}

#[test]
fn an_offer_travels_unchanged_and_may_be_passed_on() {
    let envelope = offer().sign(&Signer::from_seed([1; 32]));
    let bytes = envelope.to_bytes();
    assert!(bytes.len() <= 600, "{} bytes", bytes.len());
    let passed_on = SignedEnvelope::from_bytes(&bytes).unwrap();
    assert_eq!(passed_on, envelope);
    assert_eq!(
        Offer::verify_then_decode(&passed_on, &NetworkId::MAIN, NOW, |_, _| None),
        Ok(offer())
    );
    let response = OffersResponse {
        offers: vec![envelope; 32],
    };
    assert_eq!(
        OffersResponse::from_bytes(&Bytes::from(response.encode_to_vec())),
        Ok(response)
    );
    let paid = Offer {
        prices: Prices {
            output: Price::new(1 << 90),
            ..Prices::FREE
        },
        payment: Some(payment()),
        binding: Some(bound(8453)),
        vrf_key: Some([6; 32]),
        proto_max: 3,
        ..offer()
    };
    assert_eq!(judged(&paid), Ok(paid.clone()));
}

#[test]
fn an_offer_means_nothing_in_another_network() {
    let lab = NetworkId::new("lab/7").unwrap();
    let signer = Signer::from_seed([1; 32]);
    let there = Offer {
        network: lab.clone(),
        ..offer()
    };
    assert_eq!(judged(&there), Err(OfferError::WrongNetwork));
    let here = Offer::verify_then_decode(&there.sign(&signer), &lab, NOW, |_, _| None);
    assert_eq!(here, Ok(there));
    assert!(NetworkId::new("").is_err());
    assert!(NetworkId::new("a b").is_err());
    assert!(NetworkId::new("x".repeat(65)).is_err());
    assert_eq!(NetworkId::MAIN.as_str(), "decentralgpt/1");
}

#[test]
fn an_offers_id_changes_with_its_peer_model_and_number_alone() {
    let id = offer().id();
    let busier = Offer {
        queue_depth: 5,
        ..offer()
    };
    assert_eq!(busier.id(), id);
    let newer = Offer { seq: 10, ..offer() };
    let mut other_model = offer();
    other_model.model.digest = ModelDigest::new([9; 32]);
    let other_peer = Offer {
        peer: Signer::from_seed([2; 32]).peer_id(),
        ..offer()
    };
    for other in [newer, other_model, other_peer] {
        assert_ne!(other.id(), id);
    }
}

fn bound(chain_id: u64) -> SignedBinding {
    Binding {
        network: NetworkId::MAIN,
        peer: Signer::from_seed([9; 32]).peer_id(),
        chain_id,
        operator: [0; 20],
        not_before_unix_ms: NOW.unix_ms - 1_000,
        not_after_unix_ms: NOW.unix_ms + 1_000,
        serial: 1,
    }
    .sign(
        &Signer::from_seed([1; 32]),
        &OperatorSigner::from_secret(&[5; 32]).unwrap(),
    )
    .unwrap()
}

fn payment() -> Payment {
    Payment {
        chain_id: 8453,
        asset: [0xaa; 20],
        vault: [0xbb; 20],
        stream_window: 128,
    }
}

#[test]
fn each_wrong_offer_has_its_own_refusal() {
    let day = 86_400_000;
    let with = |change: fn(&mut Offer)| {
        let mut offer = offer();
        change(&mut offer);
        judged(&offer).unwrap_err()
    };
    assert_eq!(
        with(|offer| offer.expires_unix_ms = NOW.unix_ms),
        OfferError::Expired { ago_ms: 0 }
    );
    assert_eq!(
        with(|offer| offer.expires_unix_ms = offer.issued_unix_ms + MAX_LIFETIME_MS + 1),
        OfferError::LivesTooLong {
            lifetime_ms: MAX_LIFETIME_MS + 1
        }
    );
    assert_eq!(
        with(|offer| (offer.issued_unix_ms, offer.expires_unix_ms) =
            (NOW.unix_ms + 120_001, NOW.unix_ms + 200_000)),
        OfferError::FromTheFuture { ahead_ms: 120_001 }
    );
    assert_eq!(
        with(|offer| offer.expires_unix_ms = 1),
        OfferError::Malformed("expires_at")
    );
    assert_eq!(
        with(|offer| offer.addrs = vec![Bytes::new(); MAX_ADDRS + 1]),
        OfferError::TooLong("addrs")
    );
    assert_eq!(
        with(|offer| offer.addrs = vec![Bytes::from(vec![0; 257])]),
        OfferError::TooLong("addrs")
    );
    assert_eq!(
        with(|offer| offer.region = "x".repeat(65)),
        OfferError::TooLong("region")
    );
    assert_eq!(
        with(|offer| offer.features = vec![String::new(); 17]),
        OfferError::TooLong("features")
    );
    assert_eq!(
        with(|offer| offer.ctx_max = 0),
        OfferError::Malformed("ctx_max")
    );
    assert_eq!(
        with(|offer| offer.ctx_max = u32::MAX),
        OfferError::Malformed("ctx_max")
    );
    assert_eq!(
        with(|offer| offer.out_max = 0),
        OfferError::Malformed("out_max")
    );
    assert_eq!(
        with(|offer| offer.model.head_len = (32 << 20) + 1),
        OfferError::Malformed("head_len")
    );
    assert_eq!(
        with(|offer| offer.prices.input = Price::new(1)),
        OfferError::Malformed("asset")
    );
    assert_eq!(
        with(|offer| offer.payment = Some(Payment {
            chain_id: 0,
            ..payment()
        })),
        OfferError::Malformed("chain_id")
    );
    assert_eq!(
        with(|offer| offer.payment = Some(Payment {
            stream_window: 0,
            ..payment()
        })),
        OfferError::Malformed("stream_window")
    );
    assert_eq!(
        with(|offer| (offer.payment, offer.binding) = (Some(payment()), None)),
        OfferError::Malformed("binding")
    );
    assert_eq!(
        with(|offer| (offer.payment, offer.binding) = (Some(payment()), Some(bound(1)))),
        OfferError::Malformed("binding")
    );
    assert_eq!(
        with(|offer| offer.proto_min = 0),
        OfferError::Malformed("proto_min")
    );
    assert_eq!(
        with(|offer| offer.proto_min = 2),
        OfferError::Malformed("proto_min")
    );
    let tall = with(|offer| offer.addrs = vec![Bytes::from(vec![0; 256]); 8]);
    assert!(
        matches!(tall, OfferError::TooLarge { len } if len > MAX_ENVELOPE),
        "{tall}"
    );

    let signer = Signer::from_seed([1; 32]);
    let envelope = offer().sign(&signer);
    let judge = |envelope: &SignedEnvelope| {
        Offer::verify_then_decode(envelope, &NetworkId::MAIN, NOW, |_, _| None).unwrap_err()
    };
    assert_eq!(
        judge(&SignedEnvelope {
            peer_id: Bytes::new(),
            ..envelope.clone()
        }),
        OfferError::BadPeer
    );
    let other = Signer::from_seed([2; 32]);
    let stolen = SignedEnvelope {
        peer_id: Bytes::copy_from_slice(other.peer_id().as_bytes()),
        ..envelope.clone()
    };
    assert_eq!(
        judge(&stolen),
        OfferError::Signature(SignatureError::Mismatch)
    );
    let resigned = SignedEnvelope {
        sig: Bytes::copy_from_slice(&other.sign(offer::DOMAIN, &envelope.payload)),
        ..stolen
    };
    assert_eq!(judge(&resigned), OfferError::SignerIsNotPeer);
    for at in (0..envelope.payload.len()).step_by(9) {
        let mut payload = envelope.payload.to_vec();
        payload[at] ^= 1;
        let changed = SignedEnvelope {
            payload: Bytes::from(payload),
            ..envelope.clone()
        };
        assert_eq!(
            judge(&changed),
            OfferError::Signature(SignatureError::Mismatch)
        );
    }
    let bound_elsewhere = Offer {
        peer: other.peer_id(),
        binding: Some(bound(8453)),
        ..offer()
    };
    assert_eq!(
        judge(&bound_elsewhere.sign(&other)),
        OfferError::Binding(BindingError::Node(SignatureError::Mismatch))
    );
    let signed = |payload: &'static [u8]| SignedEnvelope {
        payload: Bytes::from_static(payload),
        sig: Bytes::copy_from_slice(&signer.sign(offer::DOMAIN, payload)),
        ..envelope.clone()
    };
    assert_eq!(judge(&signed(&[0xff])), OfferError::Undecodable);
    assert_eq!(judge(&signed(&[0x08, 0x02])), OfferError::Version(2));
    assert_eq!(judge(&signed(&[0x08, 0x01])), OfferError::WrongNetwork);

    let seen =
        |seen| Offer::verify_then_decode(&envelope, &NetworkId::MAIN, NOW, |_, _| Some(seen));
    assert_eq!(seen(9), Err(OfferError::NotNewer { seq: 9, seen: 9 }));
    assert_eq!(seen(8), Ok(offer()));
    // Its clock stands still: a day later it is only expired.
    let later = Clock {
        unix_ms: NOW.unix_ms + day,
        ..NOW
    };
    let expired = Offer::verify_then_decode(&envelope, &NetworkId::MAIN, later, |_, _| None);
    assert_eq!(
        expired,
        Err(OfferError::Expired {
            ago_ms: day - 60_000
        })
    );
}

#[test]
fn requests_for_offers_have_their_caps() {
    let request = |model_digests: Vec<Bytes>| OffersRequest {
        model_digests,
        max: 8,
        ..OffersRequest::default()
    };
    let read =
        |request: OffersRequest| OffersRequest::from_bytes(&Bytes::from(request.encode_to_vec()));
    let digest = Bytes::copy_from_slice(&[2; 32]);
    let good = request(vec![digest.clone(); 16]);
    assert_eq!(read(good.clone()), Ok(good.clone()));
    assert!(good.wants(&ModelDigest::new([2; 32])) && !good.wants(&ModelDigest::new([4; 32])));
    assert!(request(Vec::new()).wants(&ModelDigest::new([4; 32])));
    assert_eq!(
        read(request(vec![digest; 17])),
        Err(OfferError::TooLong("model_digests"))
    );
    assert_eq!(
        read(request(vec![Bytes::new()])),
        Err(OfferError::Malformed("model_digests"))
    );
    for len in [0, Bloom::BYTES - 1, Bloom::BYTES + 1] {
        let known = Some(Bloom {
            seed: 1,
            bits: vec![0; len],
        });
        let cut = OffersRequest {
            known,
            ..OffersRequest::default()
        };
        assert_eq!(read(cut), Err(OfferError::Malformed("known")));
    }
    let many = OffersResponse {
        offers: vec![SignedEnvelope::default(); 33],
    };
    let many = OffersResponse::from_bytes(&Bytes::from(many.encode_to_vec()));
    assert_eq!(many, Err(OfferError::TooLong("offers")));
    assert_eq!(
        OffersResponse::from_bytes(&Bytes::from(vec![0; 65_537])),
        Err(OfferError::TooLong("reply"))
    );
}

#[test]
fn a_full_request_is_within_its_cap_and_tells_what_is_known() {
    let mut known = Bloom::new(7);
    known.insert(&offer().id());
    let request = OffersRequest {
        model_digests: vec![Bytes::from(vec![2; 32]); 16],
        max: u32::MAX,
        changed: true,
        known: Some(known),
    };
    let bytes = Bytes::from(request.encode_to_vec());
    assert!(bytes.len() <= MAX_REQUEST, "{} bytes", bytes.len());
    let read = OffersRequest::from_bytes(&bytes).unwrap();
    assert_eq!(read, request);
    assert!(read.knows(&offer().id()));
    assert!(!read.knows(&OfferId::new([0; 32])));
    assert!(!OffersRequest::default().knows(&offer().id()));
}

proptest! {
    #[test]
    fn what_was_put_into_a_filter_is_found_in_it(seed in any::<u64>(), ids in prop::collection::vec(any::<[u8; 32]>(), 0..1024)) {
        let mut bloom = Bloom::new(seed);
        for id in &ids {
            bloom.insert(&OfferId::new(*id));
        }
        for id in &ids {
            prop_assert!(bloom.contains(&OfferId::new(*id)));
        }
    }
}

/// Of 20,000 ids that are not in it, as many are taken for known as the formula of a Bloom filter says, for every
/// seed others of them.
#[test]
fn a_filter_hides_few_offers_and_other_ones_each_time() {
    let id = |at: u32| OfferId::new(*blake3::hash(&at.to_le_bytes()).as_bytes());
    let hidden = |seed: u64, held: u32| -> Vec<u32> {
        let mut bloom = Bloom::new(seed);
        (0..held).for_each(|at| bloom.insert(&id(at)));
        (100_000..120_000)
            .filter(|&at| bloom.contains(&id(at)))
            .collect()
    };
    for held in [64, 256, 512, 1024] {
        let share = hidden(1, held).len() as f64 / 20_000.0;
        let positions = Bloom::POSITIONS as f64;
        let filled = 1.0 - (-positions * f64::from(held) / (8.0 * Bloom::BYTES as f64)).exp();
        let expected = filled.powf(positions);
        assert!(
            (share - expected).abs() < 0.2 * expected + 0.001,
            "{held}: {share} of {expected}"
        );
    }
    let (one, two) = (hidden(1, 512), hidden(2, 512));
    let both = one.iter().filter(|at| two.contains(at)).count();
    assert!(both < one.len() / 10, "{both} of {}", one.len());
}
