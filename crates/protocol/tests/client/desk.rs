//! A client, a provider's words to it, and what its actions say.

use protocol::{
    Clock, HeadDigest, ModelDigest, ModelRef, PeerId, Signer,
    frame::{Accept, Frame, Open, Sampling},
    job::client::{Action, AttemptEnd, Candidate, Client, Config, End, Event, Local, Request},
    price::Prices,
};

pub(crate) const UNIX_MS: u64 = 1_790_000_000_000;
pub(crate) const MODEL: ModelDigest = ModelDigest::new([3; 32]);

pub(crate) fn at(ms: u64) -> Clock {
    Clock {
        mono_ms: 1_000 + ms,
        unix_ms: UNIX_MS + ms,
    }
}

pub(crate) fn peer(number: u8) -> PeerId {
    Signer::from_seed([number; 32]).peer_id()
}

pub(crate) fn candidate(number: u8) -> Candidate {
    Candidate {
        peer: peer(number),
        ctx_max: 100,
        out_max: 50,
        terms: Prices::FREE.into(),
        pay_to: None,
        quote_id: None,
        prepaid: false,
        first_token_p95_ms: None,
    }
}

pub(crate) fn config(local: Local) -> Config {
    Config {
        signer: Signer::from_seed([99; 32]),
        local,
        entropy: [5; 32],
        hedge: false,
    }
}

pub(crate) fn request() -> Request {
    Request {
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
        grammar: None,
        want_logprobs_k: None,
        deadline_ms: None,
        max_cost: None,
    }
}

pub(crate) fn client(local: Local) -> Client {
    Client::new(config(local), request())
}

pub(crate) fn connected(client: &mut Client, attempt: u32, ms: u64) -> Open {
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

pub(crate) fn say(client: &mut Client, attempt: u32, frame: Frame, ms: u64) -> Vec<Action> {
    client.step(Event::Frame { attempt, frame }, at(ms))
}

pub(crate) fn accept(client: &mut Client, attempt: u32, n_in: u32, ms: u64) -> Vec<Action> {
    let accept = Accept {
        n_in,
        heartbeat_ms: 1_000,
        max_out: 30,
        ..Accept::default()
    };
    say(client, attempt, Frame::Accept(accept), ms)
}

/// An answer of one candidate whose job was accepted at 0 ms.
pub(crate) fn running(candidates: Vec<Candidate>, local: Local) -> Client {
    let mut client = client(local);
    client.step(Event::Start(candidates), at(0));
    connected(&mut client, 0, 0);
    accept(&mut client, 0, 5, 0);
    client
}

pub(crate) fn connects(actions: &[Action]) -> Vec<PeerId> {
    let peers = actions.iter().filter_map(|action| match action {
        Action::Connect { candidate, .. } => Some(candidate.peer),
        _ => None,
    });
    peers.collect()
}

pub(crate) fn ended(actions: &[Action]) -> Vec<AttemptEnd> {
    let ends = actions.iter().filter_map(|action| match action {
        Action::AttemptEnded { why, .. } => Some(why.clone()),
        _ => None,
    });
    ends.collect()
}

pub(crate) fn finish(actions: &[Action]) -> Option<&End> {
    match actions.last() {
        Some(Action::Finish(outcome)) => Some(&outcome.end),
        _ => None,
    }
}
