//! A provider, a client's words to it, and what its actions say.

use bytes::Bytes;
use protocol::{
    Clock, ModelDigest, Signer,
    frame::{Frame, Open, Phase, RefuseCode, Sampling, Tokens},
    job::{
        RESUME_GRACE_MS,
        provider::{
            Action, Config, Ended, EngineEvent, Event, Provider, Recorded, Room, Served, StartJob,
            Welcome,
        },
    },
    price::Prices,
    receipt::SignedReceipt,
    tokens,
};
pub(crate) const UNIX_MS: u64 = 1_790_000_000_000;
pub(crate) const MODEL: ModelDigest = ModelDigest::new([3; 32]);
pub(crate) const VOCAB: u32 = 1_000;
pub(crate) const CONTEXT: u32 = 256;

pub(crate) fn me() -> Signer {
    Signer::from_seed([1; 32])
}

pub(crate) fn client() -> Signer {
    Signer::from_seed([2; 32])
}

pub(crate) fn at(ms: u64) -> Clock {
    Clock {
        mono_ms: 1_000 + ms,
        unix_ms: UNIX_MS + ms,
    }
}

pub(crate) fn config() -> Config {
    Config {
        signer: me(),
        models: vec![Served {
            model: MODEL,
            vocab_size: VOCAB,
            ctx_max: CONTEXT,
            prices: Prices::FREE,
            template: None,
        }],
        max_out: 100,
        engine_build: "test 1".into(),
        numerics_class: "A32".into(),
        kv_type: "f32".into(),
        resume_grace_ms: 0,
        charging: None,
    }
}

pub(crate) fn open() -> Open {
    Open {
        provider: Bytes::copy_from_slice(me().peer_id().as_bytes()),
        nonce: Bytes::from(vec![9; 32]),
        expires_unix_ms: UNIX_MS + 60_000,
        model_digest: Bytes::copy_from_slice(MODEL.as_bytes()),
        prompt_tokens: tokens::pack(&[11, 12, 13]),
        resume_tokens: Bytes::new(),
        sampling: Some(Sampling {
            temperature: 0.7,
            top_p: 0.9,
            ..Sampling::default()
        }),
        max_out: 40,
        stop: vec!["END".into()],
        ..Open::default()
    }
}

pub(crate) fn opened(open: Open, welcome: Welcome) -> Event {
    Event::Open {
        from: client().peer_id(),
        bytes: Frame::Open(Box::new(open)).to_bytes(),
        welcome,
        quoted: None,
    }
}

/// What comes of a good job for which a slot is held at once.
pub(crate) fn seated(provider: &mut Provider, open: Open) -> Vec<Action> {
    let sought = provider.step(opened(open, Welcome::Yes), at(0));
    assert!(matches!(sought[..], [Action::Seek(_)]), "{sought:?}");
    provider.step(Event::Room(Room::Free), at(0))
}

/// A job that was accepted at 0 ms, and what it starts.
pub(crate) fn running() -> (Provider, StartJob) {
    running_with(open())
}

pub(crate) fn running_with(open: Open) -> (Provider, StartJob) {
    accepted(Provider::new(config(), false, at(0)), open)
}

/// As [`running`], at a provider that keeps jobs whose stream was cut.
pub(crate) fn resumable() -> (Provider, StartJob) {
    let config = Config {
        resume_grace_ms: RESUME_GRACE_MS,
        ..config()
    };
    accepted(Provider::new(config, false, at(0)), open())
}

pub(crate) fn accepted(mut provider: Provider, open: Open) -> (Provider, StartJob) {
    let actions = seated(&mut provider, open);
    let [Action::Start(start), Action::Record { .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    let start = StartJob::clone(start);
    let actions = provider.step(Event::Recorded(Recorded::Fresh), at(0));
    assert!(
        matches!(&actions[..], [Action::Send(Frame::Accept(_))]),
        "{actions:?}"
    );
    (provider, start)
}

pub(crate) fn engine(provider: &mut Provider, event: EngineEvent, ms: u64) -> Vec<Action> {
    provider.step(Event::Engine(event), at(ms))
}

pub(crate) fn write(provider: &mut Provider, first_index: u32, count: u32, ms: u64) -> Vec<Action> {
    engine(
        provider,
        EngineEvent::Tokens {
            first_index,
            ids: (100..100 + count).collect(),
            logprobs: Vec::new(),
        },
        ms,
    )
}

pub(crate) fn tokens_in(actions: &[Action]) -> Vec<u32> {
    let ids = actions.iter().filter_map(|action| match action {
        Action::Send(Frame::Tokens(Tokens { ids, .. })) => Some(ids.clone()),
        _ => None,
    });
    ids.flatten().collect()
}

pub(crate) fn phases_in(actions: &[Action]) -> Vec<Phase> {
    let phases = actions.iter().filter_map(|action| match action {
        Action::Send(Frame::Progress(progress)) => Some(progress.phase()),
        _ => None,
    });
    phases.collect()
}

pub(crate) fn done_in(actions: &[Action]) -> SignedReceipt {
    let done = actions.iter().find_map(|action| match action {
        Action::Send(Frame::Done(done)) => done.receipt.clone(),
        _ => None,
    });
    SignedReceipt::verify_then_decode(&done.expect("no Done"), &me().peer_id()).unwrap()
}

pub(crate) fn refusal(open: Open, welcome: Welcome) -> RefuseCode {
    let mut provider = Provider::new(config(), false, at(0));
    let actions = provider.step(opened(open, welcome), at(0));
    let [Action::Send(Frame::Refuse(refuse)), Action::Close(ended)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(*ended, Ended::Refused(refuse.code()));
    assert!(provider.is_done() && provider.deadline().is_none());
    refuse.code()
}
