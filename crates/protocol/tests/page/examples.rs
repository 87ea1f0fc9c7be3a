//! The messages of the page's examples, every field of each set.

use bytes::Bytes;
use protocol::{
    Clock, HeadDigest, JobId, ModelDigest, ModelRef, NetworkId, PeerId, Signer,
    binding::{Binding, OperatorSigner, SignedBinding},
    chain,
    frame::{
        Accept, Ack, Busy, Cancel, CancelReason, Done, Frame, Grammar, GrammarKind, JobError, Open,
        Pay, Phase, Ping, Pong, Progress, Refuse, RefuseCode, Reserve, Reserved, ResumeOf,
        Sampling, TokenLogprobs, Tokens,
    },
    head::{HeadRequest, HeadResponse, HeadStatus},
    job::Finish,
    lookup,
    offer::{
        Bloom, FEATURE_LOGPROBS, FEATURE_RESUME, Offer, OffersRequest, OffersResponse, Payment,
        SignedEnvelope,
    },
    price::{self, Price, Prices, Totals},
    quote::{Quote, QuoteRequest, prefix_hashes},
    receipt::{self, Checkpoint, Receipt, SAMPLER, SEED_FROM_JOB, SignedReceipt},
    tokens, verify,
    voucher::{
        Address, Reservation, SessionKey, Vault, Voucher,
        payer::{Book, Grant},
    },
};

use crate::page::fields_of;

const UNIX_MS: u64 = 1_790_000_000_000;
const ENDS: u64 = UNIX_MS + 60_000;
const NOW: Clock = Clock {
    mono_ms: 0,
    unix_ms: UNIX_MS,
};
const MODEL: ModelDigest = ModelDigest::new([0x22; 32]);
const NONCE: [u8; 32] = [0x77; 32];
const PROMPT: [u32; 3] = [11, 12, 13];
const RESUME: [u32; 2] = [5, 6];
const OUTPUT: [u32; 3] = [7, 8, 9];

fn provider() -> Signer {
    Signer::from_seed([1; 32])
}

fn client() -> Signer {
    Signer::from_seed([2; 32])
}

fn id_of(signer: &Signer) -> Bytes {
    Bytes::copy_from_slice(signer.peer_id().as_bytes())
}

/// All examples by name.
pub(crate) fn all() -> Vec<(&'static str, Bytes)> {
    let mut all = offers();
    all.extend(bindings());
    all.extend(quotes());
    all.extend(heads());
    all.extend(stream());
    all.extend(lookup());
    all
}

fn lookup() -> Vec<(&'static str, Bytes)> {
    let network = NetworkId::MAIN;
    let day = UNIX_MS / lookup::DAY_MS;
    let shard = lookup::shard(&provider().peer_id(), day);
    let key = lookup::provider_key(network.as_str(), Some(&MODEL), day, shard);
    let of_week = lookup::mainline_key(network.as_str(), UNIX_MS / lookup::WEEK_MS);
    vec![
        ("shard", Bytes::copy_from_slice(&[shard])),
        ("provider_key", Bytes::copy_from_slice(&key)),
        ("mainline_key", Bytes::copy_from_slice(&of_week)),
    ]
}

fn encoded(message: &impl prost::Message) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

fn offers() -> Vec<(&'static str, Bytes)> {
    let offer = Offer {
        network: NetworkId::MAIN,
        peer: provider().peer_id(),
        addrs: vec![Bytes::from_static(&[
            4, 198, 51, 100, 7, 0x91, 2, 0x0f, 0xa1, 0xcd, 3,
        ])],
        model: ModelRef {
            digest: MODEL,
            head_len: 1_700_000,
            head_sha256: HeadDigest::new([0x33; 32]),
        },
        quant: "Q4_1".into(),
        ctx_max: 8_192,
        out_max: 2_048,
        parallel_slots: 2,
        features: vec![FEATURE_RESUME.into(), FEATURE_LOGPROBS.into()],
        prices: Prices {
            input: Price::new(50_000),
            cached: Price::new(5_000),
            output: Price::new(200_000),
        },
        payment: Some(Payment {
            chain_id: 8453,
            asset: [0xaa; 20],
            vault: [0xbb; 20],
            stream_window: 128,
        }),
        binding: Some(binding()),
        prefill_tps: 1_200,
        decode_tps: 45,
        queue_depth: 1,
        queue_max: 8,
        region: "eu".into(),
        software: "decentralgpt/0.1.0".into(),
        issued_unix_ms: UNIX_MS,
        expires_unix_ms: ENDS,
        seq: 9,
        engine_class: "A8/f16/example 1".into(),
        free_tokens: 100,
        proto_min: 1,
        proto_max: 1,
        vrf_key: Some([0x44; 32]),
    };
    let envelope = offer.sign(&provider());
    let read = Offer::verify_then_decode(&envelope, &NetworkId::MAIN, NOW, |_, _| None);
    assert_eq!(read, Ok(offer.clone()));
    let mut bloom = Bloom::new(7);
    bloom.insert(&offer.id());
    let request = OffersRequest {
        model_digests: vec![Bytes::copy_from_slice(MODEL.as_bytes())],
        max: 32,
        changed: true,
        known: Some(bloom.clone()),
    };
    let response = OffersResponse {
        offers: vec![SignedEnvelope::clone(&envelope)],
    };
    vec![
        ("SignedEnvelope", envelope.to_bytes()),
        ("Offer", envelope.payload.clone()),
        ("OffersRequest", encoded(&request)),
        ("Bloom", encoded(&bloom)),
        ("OffersResponse", encoded(&response)),
    ]
}

fn binding() -> SignedBinding {
    let operator = OperatorSigner::from_secret(&[2; 32]).unwrap();
    Binding {
        network: NetworkId::MAIN,
        peer: provider().peer_id(),
        chain_id: 8453,
        operator: operator.account(),
        not_before_unix_ms: UNIX_MS,
        not_after_unix_ms: ENDS,
        serial: 1,
    }
    .sign(&provider(), &operator)
    .unwrap()
}

fn bindings() -> Vec<(&'static str, Bytes)> {
    let signed = binding();
    let read = SignedBinding::verify_then_decode(
        signed.as_bytes(),
        &provider().peer_id(),
        &NetworkId::MAIN,
        NOW,
    );
    assert_eq!(read.as_ref(), Ok(&signed));
    let payload = fields_of(signed.as_bytes())[0].bytes.clone().unwrap();
    let digest = signed.binding.operator_digest();
    vec![
        ("SignedBinding", signed.as_bytes().clone()),
        ("operator_digest", Bytes::copy_from_slice(digest.as_slice())),
        ("Binding", payload),
    ]
}

fn quotes() -> Vec<(&'static str, Bytes)> {
    let request = QuoteRequest {
        nonce: [0x55; 16],
        model: MODEL,
        n_in: PROMPT.len() as u32,
        max_out: 100,
        prefix_hashes: prefix_hashes(&PROMPT),
    };
    let bytes = request.encode();
    assert_eq!(QuoteRequest::decode(&bytes), Ok(request.clone()));
    let quote = Quote {
        request_hash: QuoteRequest::hash_of(&bytes),
        eta_first_token_ms: 250,
        decode_tps: 45,
        queue_pos: 1,
        prices: Prices {
            input: Price::new(50_000),
            cached: Price::new(5_000),
            output: Price::new(200_000),
        },
        cached_prefix_tokens: 2,
        quote_id: [0x66; 16],
        expires_unix_ms: UNIX_MS + 10_000,
    };
    let signed = quote.sign(&provider());
    let read = Quote::verify(&signed, &provider().peer_id(), &request, NOW);
    assert_eq!(read, Ok(quote));
    let payload = fields_of(&signed)[0].bytes.clone().unwrap();
    vec![
        ("QuoteRequest", bytes),
        ("Quote", payload),
        ("SignedQuote", signed),
    ]
}

fn heads() -> Vec<(&'static str, Bytes)> {
    let request = HeadRequest {
        model_digest: Bytes::copy_from_slice(MODEL.as_bytes()),
        offset: 262_144,
    };
    let response = HeadResponse {
        status: HeadStatus::Piece.into(),
        total_len: 262_148,
        offset: 262_144,
        chunk: Bytes::from_static(&[1, 2, 3, 4]),
    };
    vec![
        ("HeadRequest", encoded(&request)),
        ("HeadResponse", encoded(&response)),
    ]
}

fn sampling() -> Sampling {
    Sampling {
        temperature: 0.75,
        top_k: 40,
        top_p: 0.5,
        min_p: 0.125,
        repeat_penalty: 1.25,
        presence_penalty: 0.5,
        frequency_penalty: -0.5,
        seed: Some(0),
    }
}

fn grammar() -> Grammar {
    Grammar {
        kind: GrammarKind::Regex.into(),
        text: "[a-z]+".into(),
    }
}

/// Every field is set, `resume_of` and a seed too, which no real one has together with the rest.
fn full_open() -> Open {
    Open {
        provider: id_of(&provider()),
        nonce: Bytes::copy_from_slice(&NONCE),
        expires_unix_ms: ENDS,
        model_digest: Bytes::copy_from_slice(MODEL.as_bytes()),
        quote_id: Bytes::from(vec![0x66; 16]),
        prompt_tokens: tokens::pack(&PROMPT),
        resume_tokens: tokens::pack(&RESUME),
        sampling: Some(sampling()),
        grammar: Some(grammar()),
        max_out: 100,
        deadline_ms: 60_000,
        stop: vec!["END".into()],
        want_logprobs_k: Some(1),
        resume_of: Some(resume_of()),
        ignore_eog: true,
        may_wait: true,
    }
}

fn open_frame() -> Frame {
    Frame::Open(Box::new(full_open()))
}

fn job() -> JobId {
    JobId::new(*blake3::hash(&open_frame().to_bytes()).as_bytes())
}

fn resume_of() -> ResumeOf {
    ResumeOf {
        job: Bytes::from(vec![0x88; 32]),
        from_index: 4,
    }
}

fn logprobs() -> TokenLogprobs {
    TokenLogprobs {
        logprob: -0.5,
        top_ids: vec![7],
        top_logprobs: vec![-0.5],
    }
}

fn totals() -> Totals {
    Totals {
        input: 4,
        cached: 1,
        output: OUTPUT.len() as u64,
    }
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        job: job(),
        totals: totals(),
        h: chain::extend(&chain::start(&job()), &OUTPUT),
        due: 1,
    }
}

fn receipt_with(finish: Finish) -> SignedReceipt {
    Receipt {
        job: job(),
        provider: provider().peer_id(),
        client: client().peer_id(),
        model: MODEL,
        template: Some([0x99; 32]),
        prompt_hash: receipt::prompt_hash(&NONCE, &PROMPT, &RESUME),
        totals: totals(),
        first_index: RESUME.len() as u32,
        h: chain::extend(&chain::start(&job()), &OUTPUT),
        due: 1,
        finish,
        engine_build: "example 1".into(),
        numerics_class: "A8".into(),
        kv_type: "f16".into(),
        sampler: SAMPLER.into(),
        seed_source: SEED_FROM_JOB.into(),
        seed: receipt::seed_of(&job()),
        accepted_unix_ms: UNIX_MS,
        first_token_ms: 210,
        total_ms: 1_400,
    }
    .sign(&provider())
}

/// The finish whose number a receipt carries.
pub(crate) fn finish_of(number: i32) -> Option<String> {
    [
        Finish::Stop,
        Finish::Length,
        Finish::StopString,
        Finish::Abort,
    ]
    .into_iter()
    .find(|finish| {
        fields_of(&receipt_with(*finish).payload)
            .iter()
            .any(|field| field.number == 17 && field.varint == u64::try_from(number).ok())
    })
    .map(|finish| format!("{finish:?}"))
}

/// One frame of every kind, every field set.
pub(crate) fn frames() -> Vec<Frame> {
    let signed = receipt_with(Finish::Stop);
    let mut countersigned = signed.clone();
    countersigned.countersign(&client());
    vec![
        open_frame(),
        Frame::Accept(Accept {
            n_in: 5,
            stream_window: 128,
            chunk_tokens: 2_048,
            heartbeat_ms: 1_000,
            resume_grace_s: 60,
            last_voucher_held: Bytes::from_static(&[1, 2, 3]),
            max_out: 100,
            paid: Bytes::copy_from_slice(&price::to_bytes(2)),
        }),
        Frame::Busy(Busy {
            retry_after_ms: 2_000,
            queue: 3,
        }),
        Frame::Refuse(Refuse {
            code: RefuseCode::PromptTooLong.into(),
            msg: "the context holds 8192 tokens".into(),
        }),
        Frame::Progress(Progress {
            phase: Phase::Prefill.into(),
            done: 2,
            total: 5,
            queue_pos: 1,
        }),
        Frame::Tokens(Tokens::padded_with(
            RESUME.len() as u32,
            &OUTPUT,
            vec![logprobs(); OUTPUT.len()],
        )),
        Frame::Checkpoint(checkpoint().sign(&provider())),
        Frame::Done(Done {
            receipt: Some(signed.to_signed()),
        }),
        Frame::Ack(Ack {
            countersignature: countersigned.client_sig.unwrap(),
        }),
        Frame::Cancel(Cancel {
            reason: CancelReason::User.into(),
        }),
        Frame::Ping(Ping { nonce: 1 }),
        Frame::Pong(Pong { nonce: 1 }),
        Frame::Error(JobError {
            code: RefuseCode::EngineFailed.into(),
            msg: "the engine died".into(),
            retry_after_ms: 5_000,
        }),
        Frame::Pay(Pay {
            voucher: voucher(),
            adds: Bytes::copy_from_slice(&price::to_bytes(2)),
        }),
        Frame::Reserve(Reserve {
            least: Bytes::copy_from_slice(&price::to_bytes(2)),
        }),
        Frame::Reserved(Reserved {
            reservation: reservation(),
        }),
    ]
}

fn vault() -> Vault {
    Vault::new(8453, Address::repeat_byte(0xbb))
}

fn payee() -> Address {
    let operator = OperatorSigner::from_secret(&[2; 32]).unwrap();
    Address::from(operator.account())
}

/// A signer, and what it promised: nothing.
fn session() -> (SessionKey, Book) {
    let key = SessionKey::from_secret(&[3; 32]).unwrap();
    let grant = Grant {
        granted: 1_000,
        until: u64::MAX,
    };
    let book = Book::new(Address::repeat_byte(0x11), key.address(), grant);
    (key, book)
}

fn voucher() -> Bytes {
    let (key, mut book) = session();
    let promised = book
        .promise(payee(), 7, receipt::work_of_job(&job()), 0)
        .unwrap();
    let signed = key.sign(&vault(), promised).unwrap();
    let read = Voucher::decode(&signed.encode(), payee()).unwrap();
    assert_eq!(read.check(&vault()), Ok(signed));
    Bytes::copy_from_slice(&signed.encode())
}

fn reservation() -> Bytes {
    let (key, mut book) = session();
    let day = UNIX_MS / 1000 + 24 * 60 * 60;
    let held = book.hold(payee(), 9, day, 9, UNIX_MS / 1000).unwrap();
    let signed = key.sign_reservation(&vault(), held).unwrap();
    let read = Reservation::decode(&signed.encode(), payee()).unwrap();
    assert_eq!(read.check(&vault()), Ok(signed));
    Bytes::copy_from_slice(&signed.encode())
}

fn stream() -> Vec<(&'static str, Bytes)> {
    let mut all: Vec<(&'static str, Bytes)> = frames()
        .iter()
        .filter(|frame| !matches!(frame, Frame::Checkpoint(_)))
        .map(|frame| {
            // The message inside of the frame: its one field.
            let message = fields_of(&frame.to_bytes())[0].bytes.clone().unwrap();
            (frame.kind(), message)
        })
        .collect();
    let provider_id: PeerId = provider().peer_id();
    let signed = checkpoint().sign(&provider());
    assert_eq!(
        Checkpoint::verify_then_decode(&signed, &provider_id),
        Ok(checkpoint())
    );
    let receipt = receipt_with(Finish::Stop);
    let mut read = SignedReceipt::verify_then_decode(&receipt.to_signed(), &provider_id).unwrap();
    read.countersign(&client());
    let sig = read.client_sig.clone().unwrap();
    let domain = receipt::COUNTERSIGN_DOMAIN;
    assert_eq!(
        verify(&client().peer_id(), domain, &receipt.payload, &sig),
        Ok(())
    );
    let resume_open = Open {
        provider: id_of(&provider()),
        expires_unix_ms: ENDS,
        resume_of: Some(ResumeOf {
            job: Bytes::copy_from_slice(job().as_bytes()),
            from_index: 4,
        }),
        ..Open::default()
    };
    let start = chain::start(&job());
    let end = chain::extend(&start, &OUTPUT);
    all.extend([
        ("OpenFrame", open_frame().to_delimited()),
        ("job", Bytes::copy_from_slice(job().as_bytes())),
        ("Sampling", encoded(&sampling())),
        ("Grammar", encoded(&grammar())),
        ("ResumeOf", encoded(&resume_of())),
        ("TokenLogprobs", encoded(&logprobs())),
        ("Checkpoint", signed.payload),
        ("Receipt", receipt.payload),
        ("packed", tokens::pack(&PROMPT)),
        ("voucher", voucher()),
        ("reservation", reservation()),
        (
            "chain",
            Bytes::from([start.as_bytes().as_slice(), end.as_bytes()].concat()),
        ),
        (
            "ResumeOpen",
            Frame::Open(Box::new(resume_open)).to_delimited(),
        ),
    ]);
    all
}
