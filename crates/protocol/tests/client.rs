//! The client's machine, step by step: what the simulation does not single out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm
)]

use bytes::Bytes;
use protocol::{
    Clock, HeadDigest, ModelDigest, ModelRef, PeerId, Signer,
    frame::{
        Accept, Busy, Frame, Open, Phase, Ping, Pong, Progress, Refuse, RefuseCode, Sampling,
        Tokens,
    },
    job::{
        ACCEPT_MS, CloseWhy, Finish,
        client::{
            Action, AnswerPhase, AttemptEnd, Candidate, Client, Config, End, Event, GIVE_UP_MS,
            LOCAL_STALL_MS, Lie, Local, LocalEvent, MAX_CANDIDATES, OPEN_MS, PAUSE_PATIENCE_MS,
            Place, Request,
        },
    },
    price::{Price, Prices},
    tokens,
};

const UNIX_MS: u64 = 1_790_000_000_000;
const MODEL: ModelDigest = ModelDigest::new([3; 32]);

fn at(ms: u64) -> Clock {
    Clock {
        mono_ms: 1_000 + ms,
        unix_ms: UNIX_MS + ms,
    }
}

fn peer(number: u8) -> PeerId {
    Signer::from_seed([number; 32]).peer_id()
}

fn candidate(number: u8) -> Candidate {
    Candidate {
        peer: peer(number),
        ctx_max: 100,
        out_max: 50,
        prices: Prices::FREE,
    }
}

fn client(local: Local) -> Client {
    let config = Config {
        signer: Signer::from_seed([99; 32]),
        local,
        entropy: [5; 32],
    };
    let request = Request {
        model: ModelRef {
            digest: MODEL,
            head_len: 1,
            head_sha256: HeadDigest::new([4; 32]),
        },
        vocab_size: 1_000,
        eog: vec![2],
        prompt: vec![11, 12, 13],
        resume: vec![20, 21],
        sampling: Sampling {
            temperature: 0.5,
            seed: Some(7),
            ..Sampling::default()
        },
        max_out: 30,
        stop: Vec::new(),
        ignore_eog: false,
    };
    Client::new(config, request)
}

fn connected(client: &mut Client, attempt: u32, ms: u64) -> Open {
    let actions = client.step(
        Event::Connected {
            attempt,
            rtt_ms: 10,
        },
        at(ms),
    );
    let [
        Action::Send {
            attempt: sent,
            frame: Frame::Open(open),
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(*sent, attempt);
    Open::clone(open)
}

fn say(client: &mut Client, attempt: u32, frame: Frame, ms: u64) -> Vec<Action> {
    client.step(Event::Frame { attempt, frame }, at(ms))
}

fn accept(client: &mut Client, attempt: u32, n_in: u32, ms: u64) -> Vec<Action> {
    let accept = Accept {
        n_in,
        heartbeat_ms: 1_000,
        max_out: 30,
        ..Accept::default()
    };
    say(client, attempt, Frame::Accept(accept), ms)
}

/// An answer of one candidate whose job was accepted at 0 ms.
fn running(candidates: Vec<Candidate>, local: Local) -> Client {
    let mut client = client(local);
    client.step(Event::Start(candidates), at(0));
    connected(&mut client, 0, 0);
    accept(&mut client, 0, 5, 0);
    client
}

fn connects(actions: &[Action]) -> Vec<PeerId> {
    let peers = actions.iter().filter_map(|action| match action {
        Action::Connect { candidate, .. } => Some(candidate.peer),
        _ => None,
    });
    peers.collect()
}

fn ended(actions: &[Action]) -> Vec<AttemptEnd> {
    let ends = actions.iter().filter_map(|action| match action {
        Action::AttemptEnded { why, .. } => Some(why.clone()),
        _ => None,
    });
    ends.collect()
}

fn finish(actions: &[Action]) -> Option<&End> {
    match actions.last() {
        Some(Action::Finish(outcome)) => Some(&outcome.end),
        _ => None,
    }
}

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
    client.step(
        Event::Start(vec![candidate(1), candidate(2), candidate(3)]),
        at(0),
    );
    assert_eq!(client.deadline(), Some(at(OPEN_MS).mono_ms));
    let actions = client.step(Event::Tick, at(OPEN_MS));
    assert!(matches!(
        ended(&actions)[..],
        [AttemptEnd::ConnectFailed(_)]
    ));
    assert_eq!(connects(&actions), [peer(2)]);
    connected(&mut client, 1, 6_000);
    let deadline = client.deadline().unwrap() - at(6_000).mono_ms;
    assert!(
        (ACCEPT_MS..ACCEPT_MS + 100).contains(&deadline),
        "{deadline}"
    );
    let actions = client.step(Event::Tick, at(6_000 + deadline));
    assert_eq!(ended(&actions), [AttemptEnd::NoAnswer]);
    assert_eq!(connects(&actions), [peer(3)]);
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
        prices: Prices {
            output: Price::new(1),
            ..Prices::FREE
        },
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
    let config = Config {
        signer: Signer::from_seed([99; 32]),
        local: Local::Never,
        entropy: [5; 32],
    };
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
        stop: Vec::new(),
        ignore_eog: false,
    };
    let mut client = Client::new(config, request);
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
fn a_ping_is_answered_and_strangers_are_not_heard() {
    let mut client = running(vec![candidate(1)], Local::Never);
    let actions = say(&mut client, 0, Frame::Ping(Ping { nonce: 4 }), 10);
    assert_eq!(
        actions,
        [Action::Send {
            attempt: 0,
            frame: Frame::Pong(Pong { nonce: 4 })
        }]
    );
    assert_eq!(
        say(&mut client, 7, Frame::Tokens(Tokens::padded(2, &[5])), 10),
        []
    );
    assert_eq!(
        client.step(
            Event::Closed {
                attempt: 7,
                why: CloseWhy::Ended
            },
            at(10)
        ),
        []
    );
    assert_eq!(
        client.step(
            Event::Local {
                attempt: 0,
                event: LocalEvent::Failed("x".into())
            },
            at(10)
        ),
        []
    );
}

#[test]
fn progress_is_passed_on_once_and_with_measure() {
    let mut client = running(vec![candidate(1)], Local::Never);
    let prefill = |done| {
        Frame::Progress(Progress {
            phase: Phase::Prefill.into(),
            done,
            total: 999,
            queue_pos: 0,
        })
    };
    let told = (0..200u64)
        .filter(|&ms| !say(&mut client, 0, prefill(ms), ms).is_empty())
        .count();
    assert!((2..=3).contains(&told), "{told}");
    assert_eq!(say(&mut client, 0, prefill(199), 1_000), []);
}

#[test]
fn tokens_before_accept_are_a_lie() {
    let mut client = client(Local::Never);
    client.step(Event::Start(vec![candidate(1)]), at(0));
    connected(&mut client, 0, 5);
    let actions = say(&mut client, 0, Frame::Tokens(Tokens::padded(2, &[5])), 9);
    assert_eq!(ended(&actions), [AttemptEnd::Lie(Lie::OutOfTurn("Tokens"))]);
}

#[test]
fn a_token_seen_may_come_again_and_only_the_new_ones_are_shown() {
    let mut client = running(vec![candidate(1)], Local::Never);
    say(
        &mut client,
        0,
        Frame::Tokens(Tokens::padded(2, &[5, 6])),
        10,
    );
    // Even the part that the message had before the job.
    let actions = say(
        &mut client,
        0,
        Frame::Tokens(Tokens::padded(0, &[20, 21, 5, 6, 7])),
        20,
    );
    let [
        Action::Emit {
            first_index: 4,
            ids,
            ..
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(ids, &[7]);
    let actions = say(&mut client, 0, Frame::Tokens(Tokens::padded(3, &[9])), 30);
    assert_eq!(
        ended(&actions),
        [AttemptEnd::Lie(Lie::Contradiction { index: 3 })]
    );
    assert_eq!(client.output(), [20, 21, 5, 6, 7], "what was shown stays");
}

#[test]
fn an_end_token_is_held_back_until_it_is_signed_for() {
    let mut client = running(vec![candidate(1), candidate(2)], Local::Never);
    let actions = say(
        &mut client,
        0,
        Frame::Tokens(Tokens::padded(2, &[5, 2])),
        10,
    );
    let [Action::Emit { ids, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(ids, &[5]);
    // Cut before Done: the next provider is asked to say the end again.
    let actions = client.step(
        Event::Closed {
            attempt: 0,
            why: CloseWhy::Ended,
        },
        at(20),
    );
    assert_eq!(connects(&actions), [peer(2)]);
    assert_eq!(
        tokens::unpack(&connected(&mut client, 1, 30).resume_tokens, 9),
        Ok(vec![20, 21, 5])
    );
}

#[test]
fn all_tokens_wanted_are_an_answer_even_if_the_receipt_never_comes() {
    let mut client = running(vec![candidate(1)], Local::Never);
    let ids: Vec<u32> = (100..130).collect();
    assert_eq!(
        finish(&say(
            &mut client,
            0,
            Frame::Tokens(Tokens::padded(2, &ids)),
            10
        )),
        None
    );
    let actions = client.step(
        Event::Closed {
            attempt: 0,
            why: CloseWhy::Ended,
        },
        at(20),
    );
    assert_eq!(finish(&actions), Some(&End::Length));
}

#[test]
fn a_silent_provider_without_a_spare_is_given_up_in_the_end() {
    let mut client = running(vec![candidate(1)], Local::Never);
    let mut actions = Vec::new();
    let mut ticks = 0;
    while let Some(deadline) = client.deadline() {
        let now = Clock {
            mono_ms: deadline,
            unix_ms: UNIX_MS,
        };
        actions.extend(client.step(Event::Tick, now));
        ticks += 1;
        if ended(&actions).contains(&AttemptEnd::Silent) {
            assert_eq!(deadline, at(GIVE_UP_MS).mono_ms);
            break;
        }
    }
    assert!(ticks < 10);
    // It is asked once more: there is nobody else.
    let actions = client.step(Event::Tick, at(GIVE_UP_MS + 600));
    assert_eq!(connects(&actions), [peer(1)]);
}

#[test]
fn a_candidate_found_late_becomes_the_spare_of_a_silent_provider() {
    let mut client = running(vec![candidate(1)], Local::Never);
    assert_eq!(connects(&client.step(Event::Tick, at(4_000))), []);
    let actions = client.step(Event::Candidates(vec![candidate(2)]), at(4_100));
    assert_eq!(connects(&actions), [peer(2)]);
}

#[test]
fn a_pause_is_borne_for_a_while() {
    let mut client = running(vec![candidate(1), candidate(2)], Local::Never);
    let paused = Frame::Progress(Progress {
        phase: Phase::Paused.into(),
        done: 0,
        total: 0,
        queue_pos: 0,
    });
    let mut moved_at = None;
    for ms in (500..10_000).step_by(500) {
        let actions = say(&mut client, 0, paused.clone(), ms);
        if !connects(&actions).is_empty() {
            moved_at.get_or_insert(ms);
        }
    }
    assert_eq!(moved_at, Some(500 + PAUSE_PATIENCE_MS));
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
        },
        LocalEvent::Tokens {
            first_index: 2,
            ids: vec![5_000],
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
