//! The client's machine under any order of events: every index once and in order, nothing behind `Finish`, "complete" only
//! when somebody signed or this computer finished, and an end in every case.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use protocol::{
    Clock, HeadDigest, JobId, ModelDigest, ModelRef, PeerId, Signer, chain,
    frame::{Accept, Busy, Cap, Done, Frame, JobError, Open, Progress, Refuse, Sampling, TokenLogprobs, Tokens},
    job::{
        CloseWhy, Finish,
        client::{Action, AttemptId, Candidate, Client, Config, End, Event, Local, LocalEvent, Place, Quoted, Request},
    },
    price::{Price, Prices, Totals},
    receipt::{Checkpoint, Receipt, SAMPLER, SEED_FROM_JOB, prompt_hash, seed_of},
    tokens,
};

const UNIX_MS: u64 = 1_790_000_000_000;
const MODEL: ModelDigest = ModelDigest::new([3; 32]);
const VOCAB: u32 = 300;
const EOG: u32 = 2;
const PEERS: u8 = 4;

#[derive(Arbitrary, Debug)]
enum Step {
    Candidates(u8),
    Connected(u8),
    ConnectFailed(u8),
    Accept { attempt: u8, wrong: bool, max_out: u8, keeps: bool },
    Busy { attempt: u8, ms: u16 },
    Refuse { attempt: u8, code: u8 },
    Gave { attempt: u8, code: u8 },
    Progress { attempt: u8, phase: u8, done: u8 },
    Tokens { attempt: u8, shift: i8, count: u8, id: u16 },
    Checkpoint { attempt: u8, wrong: bool },
    Done { attempt: u8, finish: u8, wrong: u8 },
    FrameBytes { attempt: u8, bytes: Vec<u8> },
    Closed(u8),
    Local { attempt: u8, what: u8, count: u8 },
    Cancel,
    PathChanged,
    NotReached(u8),
    Sounded { peer: u8, dear: bool, queue_pos: u8 },
    ClockSet(i32),
    Wait(u16),
    Sleep,
}

#[derive(Arbitrary, Debug)]
struct Setting {
    local: bool,
    peers: u8,
    resume: u8,
    max_out: u8,
    stop: bool,
    ignore_eog: bool,
    logprobs: bool,
    hedge: bool,
    deadline: Option<u16>,
}

fuzz_target!(|data: &[u8]| {
    let mut source = Unstructured::new(data);
    let Ok(setting) = Setting::arbitrary(&mut source) else { return };
    let request = Request {
        model: ModelRef { digest: MODEL, head_len: 1, head_sha256: HeadDigest::new([4; 32]) },
        vocab_size: VOCAB,
        eog: vec![EOG],
        prompt: vec![10, 11, 12],
        resume: vec![5; usize::from(setting.resume % 4)],
        sampling: Sampling::default(),
        max_out: u32::from(setting.max_out),
        stop: if setting.stop { vec!["x".into()] } else { Vec::new() },
        ignore_eog: setting.ignore_eog,
        grammar: None,
        want_logprobs_k: setting.logprobs.then_some(1),
        deadline_ms: setting.deadline.map(u32::from),
        max_cost: None,
    };
    let me = Signer::from_seed([99; 32]);
    let local = if setting.local { Local::Fallback } else { Local::Never };
    let config = Config { signer: me.clone(), local, entropy: [5; 32], hedge: setting.hedge };
    let mut world = World {
        output: request.resume.clone(),
        client: Client::new(config, request.clone()),
        request,
        me: me.peer_id(),
        now: Clock { mono_ms: 1_000, unix_ms: UNIX_MS },
        mirrors: BTreeMap::new(),
        live: Vec::new(),
        jobs: BTreeMap::new(),
        signed: false,
        local_finished: false,
        finished: false,
    };
    world.step(Event::Start((0..setting.peers % (PEERS + 1)).map(candidate).collect()));
    while let Ok(step) = Step::arbitrary(&mut source) {
        if source.is_empty() {
            break;
        }
        if let Some(event) = world.event(step) {
            world.step(event);
        }
    }
    for _ in 0..2_000 {
        let Some(deadline) = world.client.deadline() else { break };
        world.sleep(deadline);
        world.step(Event::Tick);
    }
    assert!(world.client.is_finished(), "an answer that time does not end");
    assert!(world.live.is_empty(), "streams are left open");
});

fn signer(peer: u8) -> Signer {
    Signer::from_seed([peer + 1; 32])
}

fn candidate(peer: u8) -> Candidate {
    Candidate { peer: signer(peer).peer_id(), ctx_max: 200, out_max: 60, terms: Prices::FREE.into(), pay_to: None, quote_id: None, prepaid: false, first_token_p95_ms: Some(2_000) }
}

/// What the provider of an attempt knows. A job that is taken up is known by its new attempt, too.
struct Mirror {
    signer: Signer,
    open: Option<(JobId, Open)>,
    ids: Vec<u32>,
    logprobs: bool,
}

struct World {
    client: Client,
    request: Request,
    me: PeerId,
    now: Clock,
    output: Vec<u32>,
    mirrors: BTreeMap<AttemptId, Mirror>,
    live: Vec<AttemptId>,
    /// The attempt that opened each job.
    jobs: BTreeMap<JobId, AttemptId>,
    signed: bool,
    local_finished: bool,
    finished: bool,
}

impl World {
    fn sleep(&mut self, until: u64) {
        let ms = until.saturating_sub(self.now.mono_ms);
        self.now = Clock { mono_ms: self.now.mono_ms + ms, unix_ms: self.now.unix_ms + ms };
    }

    fn event(&mut self, step: Step) -> Option<Event> {
        Some(match step {
            Step::Candidates(peer) => Event::Candidates(vec![candidate(peer % PEERS)]),
            Step::Connected(at) => Event::Connected { attempt: self.pick(at)?, rtt_ms: 10 },
            Step::ConnectFailed(at) => Event::ConnectFailed { attempt: self.pick(at)?, why: String::new() },
            Step::Closed(at) => Event::Closed { attempt: self.pick(at)?, why: CloseWhy::Ended },
            Step::Cancel => Event::Cancel,
            Step::PathChanged => Event::PathChanged,
            Step::NotReached(peer) => Event::NotReached { peer: candidate(peer % PEERS).peer },
            Step::Sounded { peer, dear, queue_pos } => {
                let output = Price::new(u128::from(dear));
                let quote = Quoted { terms: Prices { output, ..Prices::FREE }.into(), quote_id: [peer; 16], queue_pos: queue_pos.into() };
                Event::Sounded { peer: candidate(peer % PEERS).peer, quote }
            }
            Step::ClockSet(by) => {
                self.now.unix_ms = self.now.unix_ms.saturating_add_signed(by.into());
                Event::Tick
            }
            Step::Wait(ms) => {
                self.sleep(self.now.mono_ms + u64::from(ms));
                Event::Tick
            }
            Step::Sleep => {
                self.sleep(self.client.deadline()?);
                Event::Tick
            }
            Step::Local { attempt, what, count } => {
                let attempt = self.pick(attempt)?;
                let first_index = self.output.len() as u32;
                let event = match what % 6 {
                    0 => LocalEvent::Failed(String::new()),
                    1 => LocalEvent::Finished(Finish::Stop),
                    2 => LocalEvent::Finished(Finish::Length),
                    3 => LocalEvent::Prefill { done: 1, total: 3 },
                    _ => LocalEvent::Tokens { first_index, ids: vec![7; usize::from(count % 20)], logprobs: Vec::new() },
                };
                let ends = matches!(event, LocalEvent::Finished(_) | LocalEvent::Failed(_));
                if ends && !self.mirrors.contains_key(&attempt) {
                    self.local_finished |= matches!(event, LocalEvent::Finished(_));
                    self.live.retain(|&live| live != attempt);
                }
                Event::Local { attempt, event }
            }
            Step::Accept { attempt, wrong, max_out, keeps } => {
                let (attempt, mirror) = self.mirror(attempt)?;
                let (_, open) = mirror.open.as_ref()?;
                let n_in = 3 + tokens::unpack(&open.resume_tokens, 500).ok()?.len() as u32 + u32::from(wrong);
                let max_out = if max_out == 0 { open.max_out } else { max_out.into() };
                let accept = Accept { n_in, heartbeat_ms: 1_000, max_out, resume_grace_s: if keeps { 60 } else { 0 }, ..Accept::default() };
                Event::Frame { attempt, frame: Frame::Accept(accept) }
            }
            Step::Busy { attempt, ms } => {
                let frame = Frame::Busy(Busy { retry_after_ms: ms.into(), queue: 1 });
                Event::Frame { attempt: self.pick(attempt)?, frame }
            }
            Step::Refuse { attempt, code } => {
                let frame = Frame::Refuse(Refuse { code: code.into(), msg: String::new() });
                Event::Frame { attempt: self.pick(attempt)?, frame }
            }
            Step::Gave { attempt, code } => {
                let frame = Frame::Error(JobError { code: code.into(), msg: String::new(), retry_after_ms: 0 });
                Event::Frame { attempt: self.pick(attempt)?, frame }
            }
            Step::Progress { attempt, phase, done } => {
                let progress = Progress { phase: (phase % 6).into(), done: done.into(), total: 9, queue_pos: done.into() };
                Event::Frame { attempt: self.pick(attempt)?, frame: Frame::Progress(progress) }
            }
            Step::Tokens { attempt, shift, count, id } => {
                let (attempt, mirror) = self.mirror(attempt)?;
                let base = mirror.open.as_ref().map_or(0, |(_, open)| resumed(open).len());
                let first_index = (base + mirror.ids.len()) as u32;
                let ids = vec![u32::from(id) % (VOCAB + 1); usize::from(count % 20)];
                mirror.ids.extend_from_slice(&ids);
                // Mostly the right index; now and then an earlier or later one.
                let shift = if shift % 8 == 0 { i32::from(shift / 8) } else { 0 };
                let log = TokenLogprobs { logprob: -1.0, ..TokenLogprobs::default() };
                let logprobs = if mirror.logprobs { vec![log; ids.len()] } else { Vec::new() };
                let tokens = Tokens::padded_with(first_index.saturating_add_signed(shift), &ids, logprobs);
                Event::Frame { attempt, frame: Frame::Tokens(tokens) }
            }
            Step::Checkpoint { attempt, wrong } => {
                let (attempt, mirror) = self.mirror(attempt)?;
                let (job, open) = mirror.open.as_ref()?;
                let totals = mirror.totals(open, wrong);
                let h = chain::extend(&chain::start(job), &mirror.ids);
                let checkpoint = Checkpoint { job: *job, totals, h, due: 0 };
                Event::Frame { attempt, frame: Frame::Checkpoint(checkpoint.sign(&mirror.signer)) }
            }
            Step::Done { attempt, finish, wrong } => self.done(attempt, finish, wrong)?,
            Step::FrameBytes { attempt, bytes } => {
                let attempt = self.pick(attempt)?;
                match Frame::from_bytes(&Bytes::from(bytes), Cap::Provider) {
                    Ok(Some(frame)) => Event::Frame { attempt, frame },
                    Ok(None) => return None,
                    Err(error) => Event::Closed { attempt, why: CloseWhy::Violation(error) },
                }
            }
        })
    }

    fn done(&mut self, attempt: u8, finish: u8, wrong: u8) -> Option<Event> {
        let (me, prompt) = (self.me, self.request.prompt.clone());
        let (attempt, mirror) = self.mirror(attempt)?;
        let (job, open) = mirror.open.as_ref()?;
        let resume = resumed(open);
        let receipt = Receipt {
            job: *job,
            provider: mirror.signer.peer_id(),
            client: if wrong == 1 { mirror.signer.peer_id() } else { me },
            model: MODEL,
            template: None,
            prompt_hash: prompt_hash(&open.nonce.as_ref().try_into().ok()?, &prompt, &resume),
            totals: mirror.totals(open, wrong == 2),
            first_index: resume.len() as u32,
            h: chain::extend(&chain::start(job), &mirror.ids),
            due: u128::from(wrong == 3),
            finish: [Finish::Stop, Finish::Length, Finish::StopString, Finish::Abort][usize::from(finish % 4)],
            engine_build: String::new(),
            numerics_class: String::new(),
            kv_type: String::new(),
            sampler: SAMPLER.into(),
            seed_source: SEED_FROM_JOB.into(),
            seed: seed_of(job) + u64::from(wrong == 4),
            accepted_unix_ms: 0,
            first_token_ms: 0,
            total_ms: 0,
        };
        let done = Done { receipt: Some(receipt.sign(&mirror.signer).to_signed()) };
        Some(Event::Frame { attempt, frame: Frame::Done(done) })
    }

    /// One of the live attempts, or now and then one that is gone.
    fn pick(&self, at: u8) -> Option<AttemptId> {
        if at == 255 {
            return self.mirrors.keys().next().copied();
        }
        self.live.get(usize::from(at) % self.live.len().max(1)).copied()
    }

    fn mirror(&mut self, at: u8) -> Option<(AttemptId, &mut Mirror)> {
        let attempt = self.pick(at)?;
        Some((attempt, self.mirrors.get_mut(&attempt)?))
    }

    fn step(&mut self, event: Event) {
        // A stream that reported its end is closed without our doing.
        if let Event::Closed { attempt, .. } | Event::ConnectFailed { attempt, .. } = &event {
            let gone = *attempt;
            let actions = self.client.step(event, self.now);
            if actions.iter().any(|action| matches!(action, Action::AttemptEnded { attempt, .. } if *attempt == gone)) {
                self.live.retain(|&live| live != gone);
            }
            return self.see(actions);
        }
        let actions = self.client.step(event, self.now);
        self.see(actions);
    }

    fn see(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert!(!self.finished, "{action:?} behind Finish");
            match action {
                Action::Connect { attempt, candidate, wants_quote } => {
                    assert!(!wants_quote);
                    let peer = (0..PEERS).find(|&peer| signer(peer).peer_id() == candidate.peer);
                    let signer = signer(peer.expect("a candidate nobody named"));
                    let logprobs = self.request.want_logprobs_k.is_some();
                    self.mirrors.insert(attempt, Mirror { signer, open: None, ids: Vec::new(), logprobs });
                    self.begins(attempt);
                }
                Action::StartLocal { attempt, resume, max_out, .. } => {
                    assert_eq!(resume, self.output);
                    assert!(max_out > 0);
                    self.begins(attempt);
                }
                Action::Send { attempt, frame } => {
                    assert!(self.live.contains(&attempt), "a frame to a closed stream");
                    if let Frame::Open(open) = &frame {
                        self.opens(attempt, open, &frame);
                    } else {
                        assert!(Frame::from_bytes(&frame.to_bytes(), Cap::Client).is_ok());
                    }
                }
                Action::Close { attempt } | Action::StopLocal { attempt } => {
                    self.live.retain(|&live| live != attempt);
                }
                Action::Emit { place, first_index, ids, attempt, logprobs } => {
                    assert!(logprobs.is_empty() || logprobs.len() == ids.len());
                    assert_eq!(first_index as usize, self.output.len());
                    assert!(!ids.is_empty());
                    assert_eq!(place == Place::Local, !self.mirrors.contains_key(&attempt));
                    self.output.extend(ids);
                    assert!(self.output.len() <= self.request.resume.len() + self.request.max_out as usize);
                }
                Action::Progress(_) | Action::SoundOut { .. } => {}
                Action::Promise { .. } | Action::Reserve { .. } | Action::HeldMore { .. } => {
                    panic!("money for what costs nothing")
                }
                Action::Resumed { attempt, before } => assert!(self.live.contains(&attempt) && !self.live.contains(&before)),
                Action::Moved { from, to, index } => assert!(from != to && index as usize == self.output.len()),
                Action::AttemptEnded { attempt, place, .. } => {
                    if place == Place::Local {
                        self.live.retain(|&live| live != attempt);
                    }
                }
                Action::SpanDone { receipt, .. } => {
                    assert_eq!(receipt.provider_check(), Ok(()));
                    assert_eq!(receipt.client_check(), Some(Ok(())));
                    self.signed = true;
                }
                Action::Finish(outcome) => {
                    self.finished = true;
                    if let End::Complete(_) = outcome.end {
                        assert!(self.signed || self.local_finished, "complete without Done");
                    }
                    assert!(outcome.failovers <= 3);
                }
            }
        }
        assert_eq!(self.finished, self.client.is_finished());
        if let Some(deadline) = self.client.deadline() {
            assert!(deadline > self.now.mono_ms, "a deadline that lies behind");
        } else {
            assert!(self.finished, "nothing to wait for");
        }
    }

    /// A first frame: a job that is new, or one that is taken up at the same provider.
    fn opens(&mut self, attempt: AttemptId, open: &Open, frame: &Frame) {
        let Some(resume) = &open.resume_of else {
            let job = JobId::new(*blake3::hash(&frame.to_bytes()).as_bytes());
            self.jobs.insert(job, attempt);
            let mirror = self.mirrors.get_mut(&attempt).expect("a stream");
            mirror.open = Some((job, open.clone()));
            return;
        };
        let job = JobId::from_bytes(&resume.job).expect("32 bytes");
        let first = self.jobs.get(&job).expect("a job that was never opened");
        let before = &self.mirrors[first];
        let (known, mut ids) = (before.open.clone(), before.ids.clone());
        let (_, opened) = known.as_ref().expect("a job");
        // What it asks for lies within what may have been given.
        let base = resumed(opened).len() as u32;
        assert!(resume.from_index >= base);
        ids.truncate((resume.from_index - base) as usize);
        let mirror = self.mirrors.get_mut(&attempt).expect("a stream");
        assert_eq!(open.provider, mirror.signer.peer_id().as_bytes().as_slice());
        (mirror.open, mirror.ids) = (known, ids);
        self.jobs.insert(job, attempt);
    }

    fn begins(&mut self, attempt: AttemptId) {
        self.live.push(attempt);
        // One that writes or is to, a spare beside it, and a spare of that where it is silent too.
        assert!(self.live.len() <= 3, "more than two spares");
    }
}

impl Mirror {
    fn totals(&self, open: &Open, wrong: bool) -> Totals {
        let input = 3 + resumed(open).len() as u64;
        Totals { input, cached: 0, output: self.ids.len() as u64 + u64::from(wrong) }
    }
}

fn resumed(open: &Open) -> Vec<u32> {
    tokens::unpack(&open.resume_tokens, 500).unwrap_or_default()
}
