//! Frames as bytes: delimiting, caps, unknown kinds, packed tokens.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use protocol::{
    frame::{
        Accept, Ack, Busy, Cancel, Cap, Done, Envelope, Frame, FrameBuf, FrameError, Grammar,
        GrammarKind, JobError, MAX_CLIENT_FRAME, MAX_GRAMMAR, MAX_IDS_PER_FRAME,
        MAX_LOGPROB_IDS_PER_FRAME, MAX_LOGPROBS, MAX_OPEN, MAX_PROVIDER_FRAME, MAX_STOP_BYTES,
        MAX_STOP_STRINGS, MAX_SUM, MAX_TEXT, MAX_TOKENS_FRAME, MAX_VOUCHER, Open, PAD_TO, Pay,
        Ping, Pong, Progress, Refuse, Reserve, Reserved, ResumeOf, Sampling, Signed, TokenLogprobs,
        Tokens, delimit, open_frame_ms,
    },
    tokens::{self, TokensError},
};

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn any_sampling() -> impl Strategy<Value = Sampling> {
    let float = || -10.0f32..10.0;
    (
        float(),
        any::<u32>(),
        float(),
        float(),
        float(),
        float(),
        any::<Option<u64>>(),
    )
        .prop_map(
            |(temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty, seed)| Sampling {
                temperature,
                top_k,
                top_p,
                min_p,
                repeat_penalty,
                presence_penalty,
                frequency_penalty: 0.5,
                seed,
            },
        )
}

fn any_open() -> impl Strategy<Value = Frame> {
    (
        (
            bytes(40),
            bytes(40),
            any::<u64>(),
            bytes(40),
            bytes(500),
            bytes(100),
        ),
        (
            prop::option::of(any_sampling()),
            any::<[u32; 2]>(),
            any::<[bool; 2]>(),
            bytes(16),
            prop::option::of((0..4i32, "[a-z]{0,60}")),
            prop::option::of(any::<u32>()),
        ),
        prop::collection::vec("[a-z<|>]{0,20}", 0..=MAX_STOP_STRINGS),
        prop::option::of((bytes(40), any::<u32>())),
    )
        .prop_map(
            |(
                (provider, nonce, expires, model, prompt, resume),
                (
                    sampling,
                    [max_out, deadline_ms],
                    [eog, may_wait],
                    quote_id,
                    grammar,
                    want_logprobs_k,
                ),
                stop,
                of,
            )| {
                Frame::Open(Box::new(Open {
                    provider,
                    nonce,
                    expires_unix_ms: expires,
                    model_digest: model,
                    prompt_tokens: prompt,
                    resume_tokens: resume,
                    sampling,
                    max_out,
                    stop,
                    quote_id,
                    grammar: grammar.map(|(kind, text)| Grammar { kind, text }),
                    deadline_ms,
                    want_logprobs_k,
                    resume_of: of.map(|(job, from_index)| ResumeOf { job, from_index }),
                    ignore_eog: eog,
                    may_wait,
                }))
            },
        )
}

fn any_provider_frame() -> impl Strategy<Value = Frame> {
    let signed = || (bytes(600), bytes(64)).prop_map(|(payload, sig)| Signed { payload, sig });
    prop_oneof![
        (any::<[u32; 6]>(), bytes(MAX_VOUCHER), bytes(MAX_SUM)).prop_map(
            |(
                [
                    n_in,
                    heartbeat_ms,
                    resume_grace_s,
                    max_out,
                    stream_window,
                    chunk_tokens,
                ],
                voucher,
                paid,
            )| {
                Frame::Accept(Accept {
                    n_in,
                    stream_window,
                    chunk_tokens,
                    heartbeat_ms,
                    resume_grace_s,
                    last_voucher_held: voucher,
                    max_out,
                    paid,
                })
            }
        ),
        any::<[u32; 2]>().prop_map(|[retry_after_ms, queue]| Frame::Busy(Busy {
            retry_after_ms,
            queue
        })),
        (any::<i32>(), "[ -~]{0,200}").prop_map(|(code, msg)| Frame::Refuse(Refuse { code, msg })),
        (any::<i32>(), any::<[u64; 2]>(), any::<u32>()).prop_map(
            |(phase, [done, total], queue_pos)| {
                Frame::Progress(Progress {
                    phase,
                    done,
                    total,
                    queue_pos,
                })
            }
        ),
        (any::<u32>(), prop::collection::vec(any::<u32>(), 0..200))
            .prop_map(|(first_index, ids)| Frame::Tokens(Tokens::padded(first_index, &ids))),
        (any::<u32>(), prop::collection::vec(any_logprobs(), 0..=64)).prop_map(
            |(first_index, logprobs)| {
                let ids = vec![7; logprobs.len()];
                Frame::Tokens(Tokens::padded_with(first_index, &ids, logprobs))
            }
        ),
        signed().prop_map(Frame::Checkpoint),
        prop::option::of(signed()).prop_map(|receipt| Frame::Done(Done { receipt })),
        any::<u64>().prop_map(|nonce| Frame::Pong(Pong { nonce })),
        bytes(16).prop_map(|least| Frame::Reserve(Reserve { least })),
        (any::<i32>(), "[ -~]{0,200}", any::<u32>()).prop_map(|(code, msg, retry_after_ms)| {
            Frame::Error(JobError {
                code,
                msg,
                retry_after_ms,
            })
        }),
    ]
}

fn any_logprobs() -> impl Strategy<Value = TokenLogprobs> {
    (
        -30.0f32..0.0,
        prop::collection::vec((any::<u32>(), -30.0f32..0.0), 0..=MAX_LOGPROBS as usize),
    )
        .prop_map(|(logprob, top)| {
            let (top_ids, top_logprobs) = top.into_iter().unzip();
            TokenLogprobs {
                logprob,
                top_ids,
                top_logprobs,
            }
        })
}

fn any_client_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (bytes(MAX_VOUCHER), bytes(MAX_SUM))
            .prop_map(|(voucher, adds)| Frame::Pay(Pay { voucher, adds })),
        bytes(MAX_VOUCHER).prop_map(|reservation| Frame::Reserved(Reserved { reservation })),
        bytes(64).prop_map(|countersignature| Frame::Ack(Ack { countersignature })),
        any::<i32>().prop_map(|reason| Frame::Cancel(Cancel { reason })),
        any::<u64>().prop_map(|nonce| Frame::Ping(Ping { nonce })),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        frame in prop_oneof![
            any_open().prop_map(|frame| (frame, Cap::Open)),
            any_provider_frame().prop_map(|frame| (frame, Cap::Provider)),
            any_client_frame().prop_map(|frame| (frame, Cap::Client)),
        ]
    ) {
        let (frame, cap) = frame;
        let bytes = frame.to_bytes();
        prop_assert_eq!(&bytes, &frame.to_bytes());
        prop_assert_eq!(Frame::from_bytes(&bytes, cap), Ok(Some(frame)));
    }

    #[test]
    fn no_bytes_panic(data in prop::collection::vec(any::<u8>(), 0..400), cap in 0usize..3) {
        let cap = [Cap::Open, Cap::Client, Cap::Provider][cap];
        let _ = Frame::from_bytes(&Bytes::from(data.clone()), cap);
        let mut buffer = FrameBuf::new();
        buffer.push(&data);
        while let Ok(Some(_)) = buffer.next_frame(cap) {}
        let _ = tokens::unpack(&data, 100);
    }

    #[test]
    fn tokens_pack_and_unpack(ids in prop::collection::vec(any::<u32>(), 0..5_000)) {
        let packed = tokens::pack(&ids);
        prop_assert_eq!(tokens::unpack(&packed, ids.len() as u32), Ok(ids.clone()));
        if let Some(less) = ids.len().checked_sub(1) {
            let got = ids.len() as u64;
            let max = less as u32;
            prop_assert_eq!(tokens::unpack(&packed, max), Err(TokensError::TooMany { got, max }));
        }
    }

    #[test]
    fn padding_hides_how_long_ids_are(index in any::<u32>(), ids in prop::collection::vec(any::<u32>(), 1..=16)) {
        let bare = Tokens { first_index: index, ids: ids.clone(), ..Tokens::default() };
        let size = |tokens: Tokens| Frame::Tokens(tokens).to_bytes().len();
        let padded = Tokens::padded(index, &ids);
        prop_assert_eq!(&padded.ids, &ids);
        prop_assert!(size(padded.clone()) <= PAD_TO && size(padded) >= PAD_TO - 4 , "{}", size(bare));
    }
}

#[test]
fn a_stream_may_be_cut_at_every_byte() {
    let frames = [
        Frame::Accept(Accept {
            n_in: 5,
            heartbeat_ms: 1000,
            max_out: 7,
            ..Accept::default()
        }),
        Frame::Tokens(Tokens::padded(0, &[1, 2, 3])),
        Frame::Pong(Pong { nonce: 9 }),
    ];
    let stream: Vec<u8> = frames
        .iter()
        .flat_map(|frame| frame.to_delimited().to_vec())
        .collect();
    for first in 0..=stream.len() {
        for second in [first, (first + 1).min(stream.len()), stream.len()] {
            let mut buffer = FrameBuf::new();
            let mut got = Vec::new();
            for chunk in [&stream[..first], &stream[first..second], &stream[second..]] {
                buffer.push(chunk);
                while let Some(frame) = buffer.next_frame(Cap::Provider).unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, frames);
            assert!(buffer.is_empty());
        }
    }
}

#[test]
fn a_length_has_one_form_and_four_bytes_at_most() {
    for (prefix, error) in [
        (&[0x80, 0x00][..], FrameError::Length),
        (&[0xff, 0x80, 0x00][..], FrameError::Length),
        (&[0xff, 0xff, 0xff, 0xff][..], FrameError::Length),
        (&[0x80, 0x80, 0x80, 0x80, 0x01][..], FrameError::Length),
        (
            &[0xff, 0xff, 0xff, 0x7f][..],
            FrameError::TooLong {
                len: (1 << 28) - 1,
                cap: MAX_OPEN,
            },
        ),
    ] {
        let mut buffer = FrameBuf::new();
        buffer.push(prefix);
        assert_eq!(buffer.next_bytes(Cap::Open), Err(error), "{prefix:x?}");
        // It stays so, and keeps nothing.
        buffer.push(&[0; 100]);
        assert_eq!(buffer.next_bytes(Cap::Open), Err(error));
        assert_eq!(buffer.len(), 0);
    }
    let mut buffer = FrameBuf::new();
    buffer.push(&[0x80]);
    assert_eq!(buffer.next_bytes(Cap::Open), Ok(None));
    buffer.push(&[0x01]);
    assert_eq!(buffer.next_bytes(Cap::Open), Ok(None));
    buffer.push(&[7; 128]);
    assert_eq!(buffer.next_bytes(Cap::Open), Ok(Some(vec![7; 128].into())));
}

#[test]
fn a_length_is_refused_before_its_bytes_come() {
    for (cap, most) in [
        (Cap::Open, MAX_OPEN),
        (Cap::Client, MAX_CLIENT_FRAME),
        (Cap::Provider, MAX_TOKENS_FRAME),
    ] {
        let fits = delimit(&vec![0; most]);
        let mut buffer = FrameBuf::new();
        buffer.push(&fits[..4]);
        assert_eq!(buffer.next_bytes(cap), Ok(None));
        assert!(
            buffer.len() <= 4,
            "nothing is kept for bytes that did not come"
        );
        buffer.push(&fits[4..]);
        assert_eq!(buffer.next_bytes(cap).unwrap().unwrap().len(), most);

        let mut buffer = FrameBuf::new();
        buffer.push(&delimit(&vec![0; most + 1])[..4]);
        assert_eq!(
            buffer.next_bytes(cap),
            Err(FrameError::TooLong {
                len: most + 1,
                cap: most
            })
        );
    }
}

#[test]
fn only_tokens_may_fill_the_provider_s_cap() {
    let frame = Frame::Checkpoint(Signed {
        payload: Bytes::from(vec![1; MAX_PROVIDER_FRAME]),
        sig: Bytes::new(),
    });
    let bytes = frame.to_bytes();
    let error = FrameError::TooLong {
        len: bytes.len(),
        cap: MAX_PROVIDER_FRAME,
    };
    assert_eq!(Frame::from_bytes(&bytes, Cap::Provider), Err(error));
    let frame = Frame::Tokens(Tokens::padded(0, &vec![u32::MAX; MAX_IDS_PER_FRAME]));
    assert!(frame.to_bytes().len() > MAX_PROVIDER_FRAME);
    assert_eq!(
        Frame::from_bytes(&frame.to_bytes(), Cap::Provider),
        Ok(Some(frame))
    );
}

#[test]
fn each_side_says_its_own_frames_in_their_place() {
    let tokens = Frame::Tokens(Tokens::padded(0, &[1]));
    let cancel = Frame::Cancel(Cancel { reason: 1 });
    let open = Frame::Open(Box::default());
    let ping = Frame::Ping(Ping { nonce: 1 });
    for (frame, open_here, client_here, provider_here) in [
        (tokens, false, false, true),
        (cancel, false, true, false),
        (open, true, false, false),
        (ping, false, true, true),
        (Frame::Pay(Pay::default()), false, true, false),
        (Frame::Reserve(Reserve::default()), false, false, true),
        (Frame::Reserved(Reserved::default()), false, true, false),
    ] {
        for (cap, here) in [
            (Cap::Open, open_here),
            (Cap::Client, client_here),
            (Cap::Provider, provider_here),
        ] {
            let read = Frame::from_bytes(&frame.to_bytes(), cap);
            let kind = frame.kind();
            let expected = if here {
                Ok(Some(frame.clone()))
            } else {
                Err(FrameError::Misplaced { kind })
            };
            assert_eq!(read, expected, "{kind} under {cap:?}");
        }
    }
}

#[test]
fn an_unknown_kind_is_skipped_unless_it_must_be_understood() {
    // Field 99 with two bytes in it, as a later version may send it.
    let later = [0x9a, 0x06, 0x02, 0x08, 0x01];
    assert_eq!(
        Frame::from_bytes(&Bytes::copy_from_slice(&later), Cap::Provider),
        Ok(None)
    );
    let mut critical = later.to_vec();
    critical.extend(
        Envelope {
            kind: None,
            crit: true,
        }
        .encode_to_vec(),
    );
    let critical = Bytes::from(critical);
    assert_eq!(
        Frame::from_bytes(&critical, Cap::Provider),
        Err(FrameError::UnknownCritical)
    );

    let ping = Frame::Ping(Ping { nonce: 3 });
    let mut buffer = FrameBuf::new();
    buffer.push(&delimit(&later));
    buffer.push(&ping.to_delimited());
    assert_eq!(buffer.next_frame(Cap::Provider), Ok(Some(ping)));
}

#[test]
fn lists_and_texts_have_their_caps() {
    let long = "x".repeat(MAX_TEXT + 1);
    let open = |stop: Vec<String>| {
        Frame::Open(Box::new(Open {
            stop,
            ..Open::default()
        }))
    };
    for (frame, cap, field) in [
        (
            open(vec![String::new(); MAX_STOP_STRINGS + 1]),
            Cap::Open,
            "stop",
        ),
        (
            open(vec!["x".repeat(MAX_STOP_BYTES + 1)]),
            Cap::Open,
            "stop",
        ),
        (
            Frame::Tokens(Tokens::padded(0, &[1; MAX_IDS_PER_FRAME + 1])),
            Cap::Provider,
            "ids",
        ),
        (
            Frame::Refuse(Refuse {
                code: 1,
                msg: long.clone(),
            }),
            Cap::Provider,
            "msg",
        ),
        (
            Frame::Error(JobError {
                code: 1,
                msg: long,
                retry_after_ms: 0,
            }),
            Cap::Client,
            "msg",
        ),
    ] {
        let error = FrameError::FieldTooLong {
            kind: frame.kind(),
            field,
        };
        assert_eq!(Frame::from_bytes(&frame.to_bytes(), cap), Err(error));
    }
}

#[test]
fn packed_tokens_do_not_unfold_into_more_than_they_may() {
    // A gigabyte of zeros: some 30 kB that promise 268 million ids.
    let bomb = zstd::bulk::compress(&vec![0; 1 << 30], 1).unwrap();
    assert!(bomb.len() < 200_000);
    let error = TokensError::TooMany {
        got: 1 << 28,
        max: 8_192,
    };
    assert_eq!(tokens::unpack(&bomb, 8_192), Err(error));
    // The same, lying about its size: the four bytes of the size field are overwritten with a small one.
    let mut liar = zstd::bulk::compress(&[7; 4_000], 1).unwrap();
    let size = liar
        .windows(2)
        .position(|two| u16::from_le_bytes([two[0], two[1]]) == 4_000 - 256)
        .unwrap();
    liar[size..size + 2].copy_from_slice(&(400u16 - 256).to_le_bytes());
    assert_eq!(tokens::unpack(&liar, 1_000), Err(TokensError::Damaged));
    // Two frames, one behind the other.
    let one = tokens::pack(&[1, 2, 3]);
    let two = [one.clone(), one].concat();
    assert_eq!(tokens::unpack(&two, 1_000), Err(TokensError::Damaged));
    // Three bytes are no id; and a frame that does not say its size is not inflated.
    assert_eq!(
        tokens::unpack(&zstd::bulk::compress(&[1, 2, 3], 1).unwrap(), 9),
        Err(TokensError::Damaged)
    );
    assert_eq!(
        tokens::unpack(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x01, 0x00], 9),
        Err(TokensError::NoLength)
    );
    assert_eq!(
        tokens::unpack(b"no zstd at all", 9),
        Err(TokensError::NoLength)
    );
    assert_eq!(tokens::unpack(&[], 0), Ok(Vec::new()));
}

#[test]
fn a_first_frame_has_time_for_its_size() {
    assert_eq!(open_frame_ms(0), 10_000);
    assert_eq!(open_frame_ms(MAX_OPEN), 74_000);
}

#[test]
fn forms_log_probabilities_and_vouchers_have_their_caps() {
    let read = |frame: &Frame, cap| Frame::from_bytes(&frame.to_bytes(), cap);
    let too_long = |kind, field| Err(FrameError::FieldTooLong { kind, field });

    let open = |len: usize| {
        Frame::Open(Box::new(Open {
            grammar: Some(Grammar {
                kind: GrammarKind::Regex.into(),
                text: "a".repeat(len),
            }),
            ..Open::default()
        }))
    };
    assert!(read(&open(MAX_GRAMMAR), Cap::Open).is_ok());
    assert_eq!(
        read(&open(MAX_GRAMMAR + 1), Cap::Open),
        too_long("Open", "grammar")
    );

    let pay = |len: usize| {
        Frame::Pay(Pay {
            voucher: vec![1; len].into(),
            adds: vec![1; MAX_SUM].into(),
        })
    };
    assert!(read(&pay(MAX_VOUCHER), Cap::Client).is_ok());
    assert_eq!(
        read(&pay(MAX_VOUCHER + 1), Cap::Client),
        too_long("Pay", "voucher")
    );
    let adds = Frame::Pay(Pay {
        adds: vec![1; MAX_SUM + 1].into(),
        ..Pay::default()
    });
    assert_eq!(read(&adds, Cap::Client), too_long("Pay", "adds"));
    let paid = Frame::Accept(Accept {
        paid: vec![1; MAX_SUM + 1].into(),
        ..Accept::default()
    });
    assert_eq!(read(&paid, Cap::Provider), too_long("Accept", "paid"));
    let reserved = |len: usize| {
        Frame::Reserved(Reserved {
            reservation: vec![1; len].into(),
        })
    };
    assert!(read(&reserved(MAX_VOUCHER), Cap::Client).is_ok());
    assert_eq!(
        read(&reserved(MAX_VOUCHER + 1), Cap::Client),
        too_long("Reserved", "reservation")
    );
    let reserve = Frame::Reserve(Reserve {
        least: vec![1; 17].into(),
    });
    assert_eq!(read(&reserve, Cap::Provider), too_long("Reserve", "least"));
    let accept = Frame::Accept(Accept {
        last_voucher_held: vec![1; MAX_VOUCHER + 1].into(),
        ..Accept::default()
    });
    assert_eq!(
        read(&accept, Cap::Provider),
        too_long("Accept", "last_voucher_held")
    );

    let likely = |top: usize| TokenLogprobs {
        logprob: -1.5,
        top_ids: vec![u32::MAX; top],
        top_logprobs: vec![-1.5; top],
    };
    let tokens = |count: usize, likely: TokenLogprobs| {
        Frame::Tokens(Tokens::padded_with(
            u32::MAX,
            &vec![u32::MAX; count],
            vec![likely; count],
        ))
    };
    let top = MAX_LOGPROBS as usize;
    let fullest = tokens(MAX_LOGPROB_IDS_PER_FRAME, likely(top));
    assert_eq!(read(&fullest, Cap::Provider), Ok(Some(fullest)));
    assert_eq!(
        read(
            &tokens(MAX_LOGPROB_IDS_PER_FRAME + 1, likely(1)),
            Cap::Provider
        ),
        too_long("Tokens", "logprobs")
    );
    assert_eq!(
        read(&tokens(1, likely(top + 1)), Cap::Provider),
        too_long("Tokens", "logprobs")
    );
    let uneven = TokenLogprobs {
        top_logprobs: Vec::new(),
        ..likely(1)
    };
    assert_eq!(
        read(&tokens(1, uneven), Cap::Provider),
        too_long("Tokens", "logprobs")
    );
}
