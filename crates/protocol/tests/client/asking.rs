//! Whom it asks, what it sends, and when it does without.

use bytes::Bytes;
use protocol::{
    HeadDigest, ModelRef,
    frame::{Busy, Frame, Phase, Refuse, RefuseCode, Sampling},
    job::{
        ACCEPT_MS, Finish,
        client::{
            ANSWER_PATIENCE_MS, Action, AnswerPhase, AttemptEnd, Candidate, Client, End, Event,
            LOCAL_STALL_MS, Local, LocalEvent, MAX_CANDIDATES, OPEN_MS, Place, Request,
        },
    },
    price::{Price, Prices},
    tokens,
};

use crate::desk::*;

#[test]
fn an_open_names_what_the_job_is() {
    let mut client = client(Local::Never);
    let actions = client.step(Event::Start(vec![candidate(1), candidate(2)]), at(0));
    assert_eq!(connects(&actions), [peer(1)]);
    let open = connected(&mut client, 0, 5);
    assert_eq!(open.provider, peer(1).as_bytes().as_slice());
    assert_eq!(open.expires_unix_ms, UNIX_MS + 5 + 300_000);
    assert_eq!(tokens::unpack(&open.prompt_tokens, 9), Ok(vec![11, 12, 13]));
    assert_eq!(tokens::unpack(&open.resume_tokens, 9), Ok(vec![20, 21]));
    assert_eq!((open.max_out, open.nonce.len()), (30, 32));
    assert_eq!(
        open.sampling.unwrap().seed,
        None,
        "nobody chooses a remote seed"
    );
    let actions = say(
        &mut client,
        0,
        Frame::Busy(Busy {
            retry_after_ms: 9,
            queue: 1,
        }),
        9,
    );
    assert_eq!(connects(&actions), [peer(2)]);
    assert_ne!(connected(&mut client, 1, 10).nonce, open.nonce);
}

#[test]
fn a_peer_has_three_seconds_to_answer_and_five_to_be_reached() {
    let mut client = client(Local::Never);
    client.step(Event::Start(vec![candidate(1)]), at(0));
    assert_eq!(client.step(Event::Tick, at(OPEN_MS - 1)), []);
    let actions = client.step(Event::Tick, at(OPEN_MS));
    assert!(matches!(
        ended(&actions)[..],
        [AttemptEnd::ConnectFailed(_)]
    ));
    assert_eq!(connects(&actions), []);
    let actions = client.step(Event::Tick, at(5_900));
    assert_eq!(connects(&actions), [peer(1)]);
    connected(&mut client, 1, 6_000);
    let patience = client.deadline().unwrap();
    let (least, most) = (6_000 + ANSWER_PATIENCE_MS, 6_100 + ANSWER_PATIENCE_MS);
    assert!((at(least).mono_ms..at(most).mono_ms).contains(&patience));
    assert_eq!(client.step(Event::Tick, at(most)), []);
    let deadline = client.deadline().unwrap() - at(6_000).mono_ms;
    assert!(
        (ACCEPT_MS..ACCEPT_MS + 100).contains(&deadline),
        "{deadline}"
    );
    let actions = client.step(Event::Tick, at(6_000 + deadline));
    assert_eq!(ended(&actions), [AttemptEnd::NoAnswer]);
}

#[test]
fn who_says_nothing_keeps_its_chance_and_two_more_are_asked_beside_it_at_most() {
    let mut client = client(Local::Fallback);
    let four = (1..=4).map(candidate).collect();
    client.step(Event::Start(four), at(0));
    let actions = client.step(Event::Tick, at(ANSWER_PATIENCE_MS));
    assert_eq!(
        (connects(&actions), ended(&actions)),
        (vec![peer(2)], vec![])
    );
    // The first is reached at last: while one of them is still hoped for, nobody else is asked.
    connected(&mut client, 0, 3_000);
    assert_eq!(client.step(Event::Tick, at(4_500)), []);
    let actions = client.step(Event::Tick, at(5_100));
    assert_eq!(
        (connects(&actions), ended(&actions)),
        (vec![peer(3)], vec![])
    );
    let actions = client.step(Event::Tick, at(6_000));
    assert_eq!(connects(&actions), []);
    assert!(!client.is_finished());
}

#[test]
fn a_refusal_goes_to_the_next_and_never_back() {
    let mut client = client(Local::Never);
    client.step(Event::Start(vec![candidate(1)]), at(0));
    connected(&mut client, 0, 5);
    let refuse = Refuse {
        code: RefuseCode::ModelUnknown.into(),
        msg: "no".into(),
    };
    let actions = say(&mut client, 0, Frame::Refuse(refuse), 9);
    let why = AttemptEnd::Refused {
        code: RefuseCode::ModelUnknown,
        msg: "no".into(),
    };
    assert_eq!(finish(&actions), Some(&End::Failed(Some(why))));
    assert!(client.is_finished() && client.deadline().is_none());
    assert_eq!(
        client.step(Event::Candidates(vec![candidate(2)]), at(10)),
        []
    );
}

#[test]
fn who_asks_for_money_or_has_too_little_context_is_not_asked() {
    let mut client = client(Local::Never);
    let dear = Candidate {
        terms: Prices {
            output: Price::new(1),
            ..Prices::FREE
        }
        .into(),
        ..candidate(1)
    };
    let small = Candidate {
        ctx_max: 5,
        ..candidate(2)
    };
    let idle = Candidate {
        out_max: 0,
        ..candidate(3)
    };
    let actions = client.step(
        Event::Start(vec![dear, small, idle, candidate(4), candidate(4)]),
        at(0),
    );
    assert_eq!(connects(&actions), [peer(4)]);
}

#[test]
fn no_more_candidates_are_kept_than_can_be_asked() {
    let mut client = client(Local::Never);
    let candidates: Vec<Candidate> = (1..=40).map(candidate).collect();
    client.step(Event::Start(candidates), at(0));
    let mut asked = 1;
    for attempt in 0..100 {
        let refused = Event::ConnectFailed {
            attempt,
            why: "no".into(),
        };
        let actions = client.step(refused, at(0));
        asked += connects(&actions).len();
    }
    assert_eq!(asked, MAX_CANDIDATES);
}

#[test]
fn a_prompt_too_large_for_a_frame_is_told_apart() {
    // Ids without a pattern do not pack.
    let mut state = 1u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u32
    };
    let prompt: Vec<u32> = std::iter::repeat_with(&mut random).take(400_000).collect();
    let request = Request {
        model: ModelRef {
            digest: MODEL,
            head_len: 1,
            head_sha256: HeadDigest::new([4; 32]),
        },
        vocab_size: u32::MAX,
        eog: vec![2],
        prompt,
        resume: Vec::new(),
        sampling: Sampling::default(),
        max_out: 30,
        ..request()
    };
    let mut client = Client::new(config(Local::Never), request);
    client.step(
        Event::Start(vec![Candidate {
            ctx_max: 1 << 20,
            ..candidate(1)
        }]),
        at(0),
    );
    let actions = client.step(
        Event::Connected {
            attempt: 0,
            rtt_ms: 1,
        },
        at(1),
    );
    assert!(
        matches!(
            finish(&actions),
            Some(End::Failed(Some(AttemptEnd::TooLarge { .. })))
        ),
        "{actions:?}"
    );
}

#[test]
fn this_computer_answers_alone_when_there_is_nobody_else() {
    let mut client = client(Local::Fallback);
    let actions = client.step(Event::Start(Vec::new()), at(0));
    let [
        Action::StartLocal {
            attempt: 0,
            resume,
            max_out: 30,
            ..
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(resume, &[20, 21]);
    let local = |client: &mut Client, event| client.step(Event::Local { attempt: 0, event }, at(5));
    let actions = local(&mut client, LocalEvent::Prefill { done: 3, total: 5 });
    let [Action::Progress(progress)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (progress.place, progress.phase),
        (Place::Local, AnswerPhase::At(Phase::Prefill))
    );
    let actions = local(
        &mut client,
        LocalEvent::Tokens {
            first_index: 2,
            ids: vec![5, 2],
            logprobs: Vec::new(),
        },
    );
    assert!(matches!(
        &actions[..],
        [Action::Emit {
            place: Place::Local,
            first_index: 2,
            ..
        }]
    ));
    let actions = local(&mut client, LocalEvent::Finished(Finish::Stop));
    assert_eq!(finish(&actions), Some(&End::Complete(Finish::Stop)));
}

#[test]
fn an_engine_that_errs_or_stands_still_does_not_hang_the_answer() {
    for event in [
        LocalEvent::Failed("no memory".into()),
        LocalEvent::Finished(Finish::Abort),
        LocalEvent::Tokens {
            first_index: 9,
            ids: vec![5],
            logprobs: Vec::new(),
        },
        LocalEvent::Tokens {
            first_index: 2,
            ids: vec![5_000],
            logprobs: Vec::new(),
        },
    ] {
        let mut client = client(Local::Fallback);
        client.step(Event::Start(Vec::new()), at(0));
        let actions = client.step(Event::Local { attempt: 0, event }, at(5));
        assert!(
            matches!(
                finish(&actions),
                Some(End::Failed(Some(AttemptEnd::LocalFailed(_))))
            ),
            "{actions:?}"
        );
    }
    let mut client = client(Local::Fallback);
    client.step(Event::Start(Vec::new()), at(0));
    let actions = client.step(Event::Tick, at(LOCAL_STALL_MS));
    assert!(actions.contains(&Action::StopLocal { attempt: 0 }));
    assert!(finish(&actions).is_some());
}

#[test]
fn a_stop_before_anything_began_is_immediate() {
    for begun in [false, true] {
        let mut client = client(Local::Never);
        if begun {
            client.step(Event::Start(vec![candidate(1)]), at(0));
        }
        let actions = client.step(Event::Cancel, at(1));
        assert_eq!(finish(&actions), Some(&End::Stopped));
        assert_eq!(actions.contains(&Action::Close { attempt: 0 }), begun);
        assert_eq!(client.step(Event::Cancel, at(2)), []);
    }
}

#[test]
fn the_job_id_is_the_hash_of_the_frame_that_is_sent() {
    // The provider hashes the bytes that arrive; the client those it sends. A lie about the job would follow if they
    // differed, and no receipt would ever hold.
    let mut client = client(Local::Never);
    client.step(Event::Start(vec![candidate(1)]), at(0));
    let open = connected(&mut client, 0, 5);
    let frame = Frame::Open(Box::new(open));
    let sent = frame.to_delimited();
    let mut buffer = protocol::frame::FrameBuf::new();
    buffer.push(&sent);
    let arrived: Bytes = buffer
        .next_bytes(protocol::frame::Cap::Open)
        .unwrap()
        .unwrap();
    assert_eq!(arrived, frame.to_bytes());
}
