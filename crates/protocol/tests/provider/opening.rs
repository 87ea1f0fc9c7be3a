//! Which jobs are taken, and what is said to the others.

use crate::desk::*;
use bytes::Bytes;
use protocol::{
    JobId,
    frame::{
        Frame, Grammar, GrammarKind, MAX_LOGPROBS, Open, Ping, RefuseCode, ResumeOf, Sampling,
    },
    job::provider::{
        Action, Ended, EngineEvent, Event, MAX_WAITING, Provider, RECORD_MS, Recorded, Room,
        Welcome,
    },
    receipt::seed_of,
    tokens,
};

#[test]
fn each_wrong_job_has_its_own_refusal() {
    let with = |change: fn(&mut Open)| {
        let mut open = open();
        change(&mut open);
        refusal(open, Welcome::Yes)
    };
    let sampling = |change: fn(&mut Sampling)| {
        let mut sampling = Sampling::default();
        change(&mut sampling);
        refusal(
            Open {
                sampling: Some(sampling),
                ..open()
            },
            Welcome::Yes,
        )
    };
    assert_eq!(refusal(open(), Welcome::Off), RefuseCode::NodeOff);
    assert_eq!(refusal(open(), Welcome::NotAllowed), RefuseCode::NotAllowed);
    assert_eq!(
        with(|open| open.provider = Bytes::from(vec![0; 38])),
        RefuseCode::WrongProvider
    );
    assert_eq!(
        with(|open| open.expires_unix_ms = UNIX_MS),
        RefuseCode::Expired
    );
    assert_eq!(
        with(|open| open.expires_unix_ms = UNIX_MS + 720_001),
        RefuseCode::ExpiryTooFar
    );
    assert_eq!(
        with(|open| open.nonce = Bytes::from(vec![0; 31])),
        RefuseCode::BadOpen
    );
    assert_eq!(
        with(|open| open.model_digest = Bytes::new()),
        RefuseCode::BadOpen
    );
    assert_eq!(
        with(|open| open.model_digest = Bytes::from(vec![0; 32])),
        RefuseCode::ModelUnknown
    );
    assert_eq!(
        with(|open| open.resume_of = Some(ResumeOf::default())),
        RefuseCode::ResumeUnknown
    );
    assert_eq!(
        with(|open| open.prompt_tokens = Bytes::new()),
        RefuseCode::BadOpen
    );
    assert_eq!(
        with(|open| open.prompt_tokens = Bytes::from_static(b"junk")),
        RefuseCode::BadOpen
    );
    assert_eq!(
        with(|open| open.prompt_tokens = tokens::pack(&[1; 256])),
        RefuseCode::PromptTooLong
    );
    assert_eq!(
        with(|open| open.prompt_tokens = tokens::pack(&[1; 9_000])),
        RefuseCode::PromptTooLong
    );
    assert_eq!(
        with(|open| open.resume_tokens = tokens::pack(&[1; 253])),
        RefuseCode::PromptTooLong
    );
    assert_eq!(
        with(|open| open.prompt_tokens = tokens::pack(&[1, 1_000])),
        RefuseCode::BadToken
    );
    assert_eq!(
        with(|open| open.resume_tokens = tokens::pack(&[u32::MAX])),
        RefuseCode::BadToken
    );
    assert_eq!(with(|open| open.max_out = 0), RefuseCode::BadOpen);
    assert_eq!(
        sampling(|sampling| sampling.seed = Some(0)),
        RefuseCode::SeedRefused
    );
    assert_eq!(
        sampling(|sampling| sampling.temperature = f32::NAN),
        RefuseCode::BadSampling
    );
    assert_eq!(
        sampling(|sampling| sampling.temperature = -0.1),
        RefuseCode::BadSampling
    );
    assert_eq!(
        sampling(|sampling| sampling.top_p = 1.5),
        RefuseCode::BadSampling
    );
    assert_eq!(
        sampling(|sampling| sampling.min_p = f32::INFINITY),
        RefuseCode::BadSampling
    );
    assert_eq!(
        sampling(|sampling| sampling.frequency_penalty = 11.0),
        RefuseCode::BadSampling
    );
}

#[test]
fn bytes_that_are_no_open_are_refused() {
    for bytes in [
        Bytes::from_static(&[0xff; 40]),
        Bytes::new(),
        Frame::Ping(Ping { nonce: 1 }).to_bytes(),
    ] {
        let mut provider = Provider::new(config(), false, at(0));
        let event = Event::Open {
            from: client().peer_id(),
            bytes,
            welcome: Welcome::Yes,
            quoted: None,
        };
        let actions = provider.step(event, at(0));
        assert_eq!(
            actions.last(),
            Some(&Action::Close(Ended::Refused(RefuseCode::BadOpen)))
        );
    }
}

#[test]
fn a_full_house_says_when_to_come_again() {
    let mut provider = Provider::new(config(), false, at(0));
    provider.step(opened(open(), Welcome::Yes), at(0));
    let full = Room::Full {
        retry_after_ms: 700,
        queue: 3,
    };
    let actions = provider.step(Event::Room(full), at(0));
    let [Action::Send(Frame::Busy(busy)), Action::Close(Ended::Busy)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!((busy.retry_after_ms, busy.queue), (700, 3));
}

#[test]
fn a_job_is_on_disk_before_it_is_accepted() {
    let mut provider = Provider::new(config(), false, at(0));
    let job = JobId::new(*blake3::hash(&Frame::Open(Box::new(open())).to_bytes()).as_bytes());
    let actions = seated(&mut provider, open());
    let [
        Action::Start(start),
        Action::Record {
            job: recorded,
            expires_unix_ms,
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((*recorded, *expires_unix_ms), (job, UNIX_MS + 60_000));
    assert_eq!(provider.job(), Some(job));
    let actions = provider.step(Event::Recorded(Recorded::Fresh), at(5));
    let [Action::Send(Frame::Accept(accept))] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (accept.n_in, accept.max_out, accept.resume_grace_s),
        (3, 40, 0)
    );
    assert_eq!(
        (start.job, &start.prompt[..], start.max_out, start.seed),
        (job, &[11, 12, 13][..], 40, seed_of(&job))
    );
    assert_eq!(start.stop, ["END"]);
}

#[test]
fn what_is_computed_before_the_job_is_on_disk_stays_here_until_it_is() {
    let mut provider = Provider::new(config(), false, at(0));
    seated(&mut provider, open());
    assert!(provider.is_computing());
    let reading = EngineEvent::Prefill { done: 3, total: 3 };
    assert_eq!(engine(&mut provider, reading, 1), []);
    assert_eq!(write(&mut provider, 0, 3, 4), []);
    assert_eq!(provider.step(Event::Tick, at(3_000)), []);
    let actions = provider.step(Event::Recorded(Recorded::Fresh), at(3_001));
    assert!(matches!(
        &actions[..2],
        [
            Action::Send(Frame::Accept(_)),
            Action::Send(Frame::Tokens(_))
        ]
    ));
    assert_eq!(tokens_in(&actions), [100, 101, 102]);
}

#[test]
fn an_engine_waits_for_a_disk_that_hangs_and_stops_for_one_that_fails() {
    let mut config = config();
    config.max_out = 2_000;
    config.models[0].ctx_max = 4_000;
    let mut provider = Provider::new(config, false, at(0));
    let long = Open {
        max_out: 2_000,
        ..open()
    };
    seated(&mut provider, long);
    let waiting = MAX_WAITING as u32;
    assert_eq!(write(&mut provider, 0, waiting, 2), [Action::Pause]);
    let actions = provider.step(Event::Recorded(Recorded::Failed), at(3));
    let [
        Action::Send(Frame::Refuse(refuse)),
        Action::CancelEngine,
        Action::Close(_),
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(refuse.code(), RefuseCode::Internal);
}

#[test]
fn an_engine_that_fails_before_the_job_is_on_disk_is_told_of_behind_the_accept() {
    let mut provider = Provider::new(config(), false, at(0));
    seated(&mut provider, open());
    let failed = EngineEvent::Failed("no memory".to_owned());
    assert_eq!(engine(&mut provider, failed, 1), [Action::CancelEngine]);
    let actions = provider.step(Event::Recorded(Recorded::Fresh), at(5));
    let [
        Action::Send(Frame::Accept(_)),
        Action::CancelEngine,
        Action::Send(Frame::Error(error)),
        Action::Close(_),
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(error.code(), RefuseCode::EngineFailed);
}

#[test]
fn a_job_seen_before_or_not_written_down_is_refused() {
    for (recorded, code) in [
        (Recorded::Seen, RefuseCode::Replay),
        (Recorded::Failed, RefuseCode::Internal),
    ] {
        let mut provider = Provider::new(config(), false, at(0));
        seated(&mut provider, open());
        let actions = provider.step(Event::Recorded(recorded), at(1));
        assert_eq!(actions.last(), Some(&Action::Close(Ended::Refused(code))));
    }
    let mut provider = Provider::new(config(), false, at(0));
    seated(&mut provider, open());
    assert_eq!(provider.deadline(), Some(at(RECORD_MS).mono_ms));
    let actions = provider.step(Event::Tick, at(RECORD_MS));
    assert_eq!(
        actions.last(),
        Some(&Action::Close(Ended::Refused(RefuseCode::Internal)))
    );
}

#[test]
fn output_is_limited_by_owner_and_context() {
    assert_eq!(
        running_with(Open {
            max_out: 5_000,
            ..open()
        })
        .1
        .max_out,
        100
    );
    let resume_tokens = tokens::pack(&[5; 230]);
    let (_, start) = running_with(Open {
        max_out: 5_000,
        resume_tokens,
        ..open()
    });
    assert_eq!(start.max_out, CONTEXT - 233);
    assert_eq!(start.resume.len(), 230);
}

#[test]
fn forms_and_log_probabilities_have_their_own_refusals() {
    let grammar = |kind: i32, text: &str| {
        Some(Grammar {
            kind,
            text: text.into(),
        })
    };
    for (kind, text) in [(0, "a"), (9, "a"), (GrammarKind::Regex.into(), "")] {
        let wrong = Open {
            grammar: grammar(kind, text),
            ..open()
        };
        assert_eq!(refusal(wrong, Welcome::Yes), RefuseCode::BadGrammar);
    }
    let (_, start) = running_with(Open {
        grammar: grammar(GrammarKind::Lark.into(), "start: \"a\""),
        want_logprobs_k: Some(MAX_LOGPROBS),
        quote_id: Bytes::from(vec![8; 16]),
        ..open()
    });
    assert_eq!(
        start.grammar,
        grammar(GrammarKind::Lark.into(), "start: \"a\"")
    );
    let too_many = Open {
        want_logprobs_k: Some(MAX_LOGPROBS + 1),
        ..open()
    };
    assert_eq!(refusal(too_many, Welcome::Yes), RefuseCode::BadLogprobs);
    let no_quote = Open {
        quote_id: Bytes::from(vec![8; 15]),
        ..open()
    };
    assert_eq!(refusal(no_quote, Welcome::Yes), RefuseCode::BadOpen);
}
