//! The provider's machine under any order of events: it says nothing behind `Close`, sends every token once and none too
//! many, and never wakes itself for nothing.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use protocol::{
    Clock, ModelDigest, Signer,
    frame::{Cap, Frame, Grammar, Open, Phase, Ping, ResumeOf, Sampling, TokenLogprobs},
    job::{
        CloseWhy, Finish,
        provider::{Action, Config, EngineEvent, Event, MAX_WAITING, Provider, Recorded, Room, Served, Welcome},
    },
    price::Prices,
    tokens,
};

const UNIX_MS: u64 = 1_790_000_000_000;
const MODEL: ModelDigest = ModelDigest::new([3; 32]);
const MAX_OUT: u32 = 64;

#[derive(Arbitrary, Debug)]
enum Step {
    Open { welcome: u8, max_out: u8, prompt: u8, resume: u8, stop: bool, grammar: Option<u8>, logprobs: Option<u8>, deadline: u16 },
    Resumed { from_index: u8, stranger: bool, other_job: bool },
    ResumedBytes(Vec<u8>),
    Evicted,
    OpenBytes(Vec<u8>),
    Room(u8),
    Recorded(u8),
    Queued(u8),
    Loading(u8),
    Prefill(u8),
    Tokens { skip: bool, count: u8, id: u16 },
    Finished(u8),
    Failed(String),
    FrameBytes(Vec<u8>),
    Cancel,
    Ping(u64),
    OwnWork(bool),
    Off,
    WriteBlocked,
    Drained,
    Closed,
    Wait(u16),
    Sleep,
}

fuzz_target!(|data: &[u8]| {
    let mut source = Unstructured::new(data);
    let mut now = Clock { mono_ms: 1_000, unix_ms: UNIX_MS };
    let grace = u16::arbitrary(&mut source).unwrap_or(0);
    let mut provider = Provider::new(config(grace), bool::arbitrary(&mut source).unwrap_or(false), now);
    let mut watch = Watch { attached: true, ..Watch::default() };
    while let Ok(step) = Step::arbitrary(&mut source) {
        if source.is_empty() {
            break;
        }
        match step {
            Step::Wait(ms) => now = later(now, ms.into()),
            Step::Sleep => {
                if let Some(deadline) = provider.deadline() {
                    now = later(now, deadline.saturating_sub(now.mono_ms));
                }
            }
            step => {
                if let Some(event) = event(step, &watch, &provider) {
                    let resumed = matches!(event, Event::Resumed { .. });
                    watch.on_disk |= watch.recorded && event == Event::Recorded(Recorded::Fresh);
                    let actions = provider.step(event, now);
                    if resumed && !watch.closed {
                        assert!(matches!(actions.first(), Some(Action::Attach | Action::Decline(_))), "{actions:?}");
                    }
                    watch.see(actions, &provider, now);
                }
                continue;
            }
        }
        watch.see(provider.step(Event::Tick, now), &provider, now);
    }
    // Whatever happened, time alone ends it: half an hour, and the waits behind it.
    for _ in 0..20_000 {
        let Some(deadline) = provider.deadline() else { break };
        now = later(now, deadline.saturating_sub(now.mono_ms));
        watch.see(provider.step(Event::Tick, now), &provider, now);
    }
    assert!(provider.is_done(), "a job that time does not end");
});

fn later(now: Clock, ms: u64) -> Clock {
    Clock { mono_ms: now.mono_ms + ms, unix_ms: now.unix_ms + ms }
}

fn config(grace: u16) -> Config {
    Config {
        signer: Signer::from_seed([1; 32]),
        models: vec![Served { model: MODEL, vocab_size: 300, ctx_max: 128, prices: Prices::FREE, template: None }],
        max_out: MAX_OUT,
        engine_build: "fuzz".into(),
        numerics_class: "A32".into(),
        kv_type: "f32".into(),
        resume_grace_ms: u64::from(grace) * 2,
        charging: None,
    }
}

fn event(step: Step, watch: &Watch, provider: &Provider) -> Option<Event> {
    let from = Signer::from_seed([2; 32]).peer_id();
    Some(match step {
        Step::Resumed { from_index, stranger, other_job } => Event::Resumed {
            from: if stranger { Signer::from_seed([3; 32]).peer_id() } else { from },
            bytes: resume(provider, from_index, other_job),
        },
        Step::ResumedBytes(bytes) => Event::Resumed { from, bytes: Bytes::from(bytes) },
        Step::Evicted => Event::Evicted,
        Step::Open { welcome, max_out, prompt, resume, stop, grammar, logprobs, deadline } => Event::Open {
            from,
            bytes: {
                let mut open = open(max_out, prompt, resume, stop);
                open.grammar = grammar.map(|kind| Grammar { kind: i32::from(kind % 5), text: "a".into() });
                open.want_logprobs_k = logprobs.map(|k| u32::from(k % 24));
                open.deadline_ms = deadline.into();
                Frame::Open(Box::new(open)).to_bytes()
            },
            welcome: match welcome % 8 {
                0 => Welcome::Off,
                1 => Welcome::NotAllowed,
                _ => Welcome::Yes,
            },
            quoted: None,
        },
        Step::OpenBytes(bytes) => Event::Open { from, bytes: Bytes::from(bytes), welcome: Welcome::Yes, quoted: None },
        Step::Room(room) => Event::Room(match room % 8 {
            0 => Room::Full { retry_after_ms: 5, queue: 1 },
            1..4 => Room::InLine { in_front: u32::from(room / 8) },
            _ => Room::Free,
        }),
        Step::Recorded(how) => Event::Recorded(match how % 8 {
            0 => Recorded::Seen,
            1 => Recorded::Failed,
            _ => Recorded::Fresh,
        }),
        Step::Queued(in_front) => Event::Engine(EngineEvent::Queued { in_front: in_front.into() }),
        Step::Loading(done) => Event::Engine(EngineEvent::Loading { done: done.into(), total: 255 }),
        Step::Prefill(done) => Event::Engine(EngineEvent::Prefill { done: done.into(), total: 255 }),
        Step::Tokens { skip, count, id } => Event::Engine(EngineEvent::Tokens {
            first_index: watch.next_computed() + u32::from(skip),
            ids: vec![u32::from(id) % 301; usize::from(count % 90)],
            // Whoever forgets them where they are asked for has its job ended.
            logprobs: vec![TokenLogprobs { logprob: -1.0, top_ids: vec![1; 20], top_logprobs: vec![-1.0; 20] }; if id % 50 == 3 { 0 } else { usize::from(count % 90) }],
        }),
        Step::Finished(how) => Event::Engine(EngineEvent::Finished(
            [Finish::Stop, Finish::Length, Finish::StopString, Finish::Abort][usize::from(how % 4)],
        )),
        Step::Failed(why) => Event::Engine(EngineEvent::Failed(why)),
        Step::FrameBytes(bytes) => match Frame::from_bytes(&Bytes::from(bytes), Cap::Client) {
            Ok(Some(frame)) => Event::Frame(frame),
            Ok(None) => return None,
            Err(error) => Event::Closed(CloseWhy::Violation(error)),
        },
        Step::Cancel => Event::Frame(Frame::Cancel(protocol::frame::Cancel { reason: 1 })),
        Step::Ping(nonce) => Event::Frame(Frame::Ping(Ping { nonce })),
        Step::OwnWork(on) => Event::OwnWork(on),
        Step::Off => Event::Off,
        Step::WriteBlocked => Event::WriteBlocked,
        Step::Drained => Event::Drained,
        Step::Closed => Event::Closed(CloseWhy::Ended),
        Step::Wait(_) | Step::Sleep => Event::Tick,
    })
}

fn resume(provider: &Provider, from_index: u8, other_job: bool) -> Bytes {
    let job = provider.job().filter(|_| !other_job).map_or([5; 32], |job| *job.as_bytes());
    let open = Open {
        provider: Bytes::copy_from_slice(Signer::from_seed([1; 32]).peer_id().as_bytes()),
        expires_unix_ms: UNIX_MS + 300_000,
        resume_of: Some(ResumeOf { job: Bytes::copy_from_slice(&job), from_index: from_index.into() }),
        ..Open::default()
    };
    Frame::Open(Box::new(open)).to_bytes()
}

fn open(max_out: u8, prompt: u8, resume: u8, stop: bool) -> Open {
    Open {
        provider: Bytes::copy_from_slice(Signer::from_seed([1; 32]).peer_id().as_bytes()),
        nonce: Bytes::from(vec![7; 32]),
        expires_unix_ms: UNIX_MS + 60_000,
        model_digest: Bytes::copy_from_slice(MODEL.as_bytes()),
        prompt_tokens: tokens::pack(&vec![5; usize::from(prompt)]),
        resume_tokens: tokens::pack(&vec![6; usize::from(resume % 64)]),
        sampling: Some(Sampling::default()),
        max_out: max_out.into(),
        stop: if stop { vec!["x".into()] } else { Vec::new() },
        ..Open::default()
    }
}

/// What an onlooker remembers.
#[derive(Default)]
struct Watch {
    attached: bool,
    closed: bool,
    sought: bool,
    recorded: bool,
    on_disk: bool,
    started: Option<(u32, u32)>,
    sent: u32,
    computed: u32,
    stored: bool,
    done: bool,
    paused: bool,
}

impl Watch {
    fn next_computed(&self) -> u32 {
        self.started.map_or(0, |(resume, _)| resume) + self.computed.max(self.sent)
    }

    fn see(&mut self, actions: Vec<Action>, provider: &Provider, now: Clock) {
        for action in actions {
            assert!(!self.closed, "{action:?} behind Close");
            match action {
                Action::Send(Frame::Tokens(tokens)) => {
                    let (resume, max_out) = self.started.expect("tokens of a job that was not started");
                    assert!(self.attached && self.on_disk, "tokens without a stream, or before the job is on disk");
                    // Those of a job that was taken up may come again, in order; none is left out.
                    assert!(tokens.first_index <= resume + self.sent);
                    self.sent = self.sent.max(tokens.first_index + tokens.ids.len() as u32 - resume);
                    assert!(tokens.logprobs.is_empty() || tokens.logprobs.len() == tokens.ids.len());
                    assert!(self.sent <= max_out && max_out <= MAX_OUT);
                }
                Action::Send(Frame::Done(_)) => {
                    assert!(self.attached && !std::mem::replace(&mut self.done, true), "Done twice on a stream");
                }
                Action::Park => assert!(std::mem::replace(&mut self.attached, false), "parked twice"),
                Action::Attach => (self.attached, self.done) = (true, false),
                Action::Decline(_) => {}
                Action::Send(frame) => {
                    assert!(self.attached, "{frame:?} without a stream");
                    let answer = matches!(frame, Frame::Refuse(_) | Frame::Busy(_) | Frame::Pong(_));
                    let place = matches!(&frame, Frame::Progress(progress) if !self.recorded && progress.phase() == Phase::Queued);
                    assert!(answer || place || self.on_disk, "{frame:?} before the job is on disk");
                    let bytes = frame.to_bytes();
                    assert_eq!(Frame::from_bytes(&bytes, Cap::Provider), Ok(Some(frame)));
                }
                Action::Seek(_) => assert!(!std::mem::replace(&mut self.sought, true), "a slot is sought twice"),
                Action::Record { .. } => assert!(self.sought && !std::mem::replace(&mut self.recorded, true)),
                Action::Start(start) => {
                    assert!(self.started.is_none());
                    self.started = Some((start.resume.len() as u32, start.max_out));
                }
                Action::Pause => assert!(!std::mem::replace(&mut self.paused, true)),
                Action::Resume => assert!(std::mem::replace(&mut self.paused, false)),
                Action::CancelEngine => {}
                Action::Admit { .. } | Action::HoldVoucher { .. } | Action::HoldReservation { .. } => {
                    panic!("money for what costs nothing")
                }
                Action::Store(receipt) => {
                    assert!(!std::mem::replace(&mut self.stored, true));
                    assert_eq!(receipt.receipt.totals.output, u64::from(self.sent));
                }
                Action::Close(_) => self.closed = true,
            }
        }
        assert_eq!(self.closed, provider.is_done());
        assert!(self.computed <= self.sent + MAX_WAITING as u32 + MAX_OUT);
        if let Some(deadline) = provider.deadline() {
            assert!(deadline > now.mono_ms, "a deadline that lies behind");
        }
    }
}
