//! A network in virtual time: one client machine, several providers with their jobs, and the wires between them. Frames
//! travel as bytes through the real framing. Nothing sleeps: the clock jumps to whatever is next.

mod asking;
mod checks;
mod clock;
mod money;
mod serving;
mod wires;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use protocol::{
    Clock, HeadDigest, JobId, ModelDigest, ModelRef, PeerId, Signer, chain,
    frame::{Cap, Frame, FrameBuf, Sampling},
    job::{
        CloseWhy, Finish,
        client::{
            self, Action, AttemptEnd, AttemptId, Candidate, Client, End, Local, LocalEvent,
            Outcome, Place,
        },
        provider::{self, EngineEvent, Provider, Recorded, Room, Served, Wanted, Welcome},
    },
    price::{Prices, Terms},
    quote::Bound,
    receipt::SignedReceipt,
};

use crate::{
    fault::{Fault, Tongue},
    model::{CONTEXT, EOG, Engine, Step, VOCAB, next},
};

pub(crate) use money::Money;
use money::{Purse, Till, charging, pay_to};

/// What the simulated network is like.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) prompt: Vec<u32>,
    pub(crate) resumed: usize,
    pub(crate) max_out: u32,
    pub(crate) ignore_eog: bool,
    pub(crate) peers: Vec<Peer>,
    pub(crate) local: Option<LocalPeer>,
    pub(crate) cancel_at: Option<u64>,
    /// The last candidate is found this late.
    pub(crate) found_late: Option<u64>,
    pub(crate) hedge: bool,
    pub(crate) deadline_ms: Option<u32>,
    /// The asking computer sleeps at this time for so long.
    pub(crate) sleep: Option<Sleep>,
    /// Its wall clock is set to another time.
    pub(crate) clock_set: Option<(u64, i64)>,
    /// What it costs; `None`: nothing.
    pub(crate) money: Option<Money>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Sleep {
    pub(crate) at_ms: u64,
    pub(crate) for_ms: u64,
    /// Whether the system tells the program when it wakes.
    pub(crate) told: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) latency_ms: u64,
    pub(crate) prefill_ms: u64,
    pub(crate) gap_ms: u64,
    pub(crate) out_max: u32,
    pub(crate) faults: Vec<Fault>,
    /// How long it keeps jobs whose stream was cut.
    pub(crate) grace_ms: u64,
    pub(crate) first_token_p95_ms: Option<u32>,
    /// How far its wall clock is off.
    pub(crate) clock_ahead_ms: i64,
    /// Whether it counts what a first frame's voucher pays for, and has given its quote beforehand.
    pub(crate) prepaid: bool,
    pub(crate) quoted: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct LocalPeer {
    pub(crate) load_ms: u64,
    pub(crate) gap_ms: u64,
    pub(crate) dies_at: Option<u32>,
}

/// What came of a scene.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) outcome: Outcome,
    pub(crate) finished_ms: u64,
    /// When the first token was shown.
    pub(crate) first_token_ms: Option<u64>,
    pub(crate) last_token_ms: u64,
    pub(crate) output: Vec<u32>,
    pub(crate) ends: Vec<(AttemptId, Place, AttemptEnd)>,
    pub(crate) moves: Vec<(Place, Place, u32)>,
    pub(crate) receipts: Vec<SignedReceipt>,
    pub(crate) stored: Vec<SignedReceipt>,
    /// When each attempt was begun, and when its last frame came.
    pub(crate) connects: Vec<(AttemptId, PeerId, u64)>,
    /// Who was asked whether it is there, and when.
    pub(crate) sounded: Vec<(PeerId, u64)>,
    pub(crate) heard: BTreeMap<AttemptId, u64>,
    /// The total of each provider's line in the end.
    pub(crate) held: Vec<u128>,
    /// How often a provider stood still for want of payment, once it had begun to write.
    pub(crate) stalls: u32,
}

const MODEL: ModelDigest = ModelDigest::new([3; 32]);
const UNIX_MS: u64 = 1_790_000_000_000;
/// Longer than the longest answer can take: four jobs of half an hour, and the waits between them.
const END_OF_TIME_MS: u64 = 4 * 3_600_000;
/// More steps than that is a machine that wakes itself for nothing.
const MAX_STEPS: u32 = 400_000;

/// Names a job of the world, in the order they began.
type JobNumber = usize;

#[derive(Debug)]
enum Event {
    Client(client::Event),
    ClientBytes(AttemptId, Vec<u8>),
    Arrives(AttemptId),
    Provider(JobNumber, provider::Event),
    ProviderBytes(AttemptId, Vec<u8>),
    /// The provider's end of a stream is gone.
    ProviderLoses(AttemptId, CloseWhy),
    /// Nothing passes any more, and each side notices so much later.
    StreamBreaks {
        stream: AttemptId,
        client_after_ms: u64,
        provider_after_ms: u64,
    },
    /// The process behind a stream is killed, all its jobs with it.
    Killed(AttemptId),
    ConnectionsDie,
    EngineStep(JobNumber),
    LocalStep,
}

/// A stream between the client and a provider.
#[derive(Debug)]
struct Stream {
    peer: usize,
    to_provider: FrameBuf,
    to_client: FrameBuf,
    /// Whether the first frame has come.
    opened: bool,
    /// The job at the provider's end.
    job: Option<JobNumber>,
    /// The job's id as the client knows it.
    id: Option<JobId>,
    /// Whether bytes still pass.
    broken: bool,
}

/// A job at a provider, with the machine that serves it.
#[derive(Debug)]
struct Job {
    peer: usize,
    machine: Provider,
    /// The stream it writes to.
    attached: Option<AttemptId>,
    /// The stream that asks to take it up.
    asking: Option<AttemptId>,
    engine: Option<Engine>,
    base: u32,
    computed: u32,
    prefilled_ms: u64,
    paused: bool,
    owner_works: bool,
    tongue: Tongue,
    frames: u32,
    /// Tokens that were sent at least once.
    sent: u32,
    closed: bool,
    stored: u32,
}

#[derive(Debug)]
pub(crate) struct World {
    scene: Scene,
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    client: Client,
    me: PeerId,
    streams: BTreeMap<AttemptId, Stream>,
    jobs: Vec<Job>,
    /// When each peer was first connected to: its stops count from there.
    first_ms: Vec<Option<u64>>,
    busy_said: Vec<u32>,
    local: Option<(AttemptId, Engine, u32)>,
    local_finished: bool,
    /// What was shown of each job.
    emitted: BTreeMap<JobId, Vec<u32>>,
    live: Vec<AttemptId>,
    story: Story,
    done: bool,
    purse: Purse,
    tills: Vec<Till>,
}

pub(crate) fn signer(peer: usize) -> Signer {
    Signer::from_seed([peer as u8 + 10; 32])
}

impl World {
    pub(crate) fn play(scene: Scene) -> Story {
        let me = Signer::from_seed([1; 32]);
        let resume = (0..scene.resumed).fold(Vec::new(), |mut output: Vec<u32>, _| {
            let id = next(&scene.prompt, &output);
            output.push(if id == EOG { 3 } else { id });
            output
        });
        let request = client::Request {
            model: ModelRef {
                digest: MODEL,
                head_len: 1,
                head_sha256: HeadDigest::new([4; 32]),
            },
            vocab_size: VOCAB,
            eog: vec![EOG],
            prompt: scene.prompt.clone(),
            resume: resume.clone(),
            sampling: Sampling {
                seed: Some(7),
                ..Sampling::default()
            },
            max_out: scene.max_out,
            stop: Vec::new(),
            ignore_eog: scene.ignore_eog,
            grammar: None,
            want_logprobs_k: None,
            deadline_ms: scene.deadline_ms,
            max_cost: scene.money.and_then(|money| money.max_cost),
        };
        let config = client::Config {
            signer: me.clone(),
            local: if scene.local.is_some() {
                Local::Fallback
            } else {
                Local::Never
            },
            entropy: [5; 32],
            hedge: scene.hedge,
        };
        let candidates: Vec<Candidate> = (0..scene.peers.len())
            .map(|peer| candidate(&scene, peer))
            .collect();
        let mut world = Self {
            first_ms: vec![None; scene.peers.len()],
            busy_said: vec![0; scene.peers.len()],
            now: 1_000,
            order: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            client: Client::new(config, request),
            me: me.peer_id(),
            streams: BTreeMap::new(),
            jobs: Vec::new(),
            local: None,
            local_finished: false,
            emitted: BTreeMap::new(),
            live: Vec::new(),
            story: Story {
                outcome: Outcome {
                    end: End::Failed(None),
                    emitted: 0,
                    failovers: 0,
                    resumes: 0,
                    hedged: false,
                    paid: 0,
                    signing: 0,
                    capped: false,
                },
                finished_ms: 0,
                first_token_ms: None,
                last_token_ms: 0,
                output: resume,
                ends: Vec::new(),
                moves: Vec::new(),
                receipts: Vec::new(),
                stored: Vec::new(),
                connects: Vec::new(),
                sounded: Vec::new(),
                heard: BTreeMap::new(),
                held: Vec::new(),
                stalls: 0,
            },
            done: false,
            purse: Purse::new(scene.money.map_or(0, |money| money.granted)),
            tills: scene.peers.iter().map(|_| Till::default()).collect(),
            scene,
        };
        world.begin(candidates);
        world.run();
        world.check_the_end();
        world.check_money();
        world.story.held = world.tally();
        world.story
    }

    fn begin(&mut self, mut candidates: Vec<Candidate>) {
        if let Some(late) = self.scene.found_late {
            let last: Vec<Candidate> = candidates.pop().into_iter().collect();
            self.after(late, Event::Client(client::Event::Candidates(last)));
        }
        self.after(0, Event::Client(client::Event::Start(candidates)));
        if let Some(at) = self.scene.cancel_at {
            self.after(at, Event::Client(client::Event::Cancel));
        }
        self.plan_sleep();
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.order += 1;
        self.events.push(Some(event));
        self.queue
            .push(Reverse((self.now + ms, self.order, self.events.len() - 1)));
    }

    fn run(&mut self) {
        for _ in 0..MAX_STEPS {
            let event = self.queue.peek().map(|Reverse((at, ..))| *at);
            let client = self.client.deadline().map(|at| self.client_wakes_at(at));
            let job = self.jobs.iter().enumerate().filter_map(|(number, job)| {
                let at = job.machine.deadline().filter(|_| !job.closed)?;
                Some((at.max(self.wakes_at(job.peer)), number))
            });
            let job = job.min();
            let times = [event, client, job.map(|(at, _)| at)];
            let Some(next) = times.into_iter().flatten().min() else {
                return;
            };
            assert!(next < END_OF_TIME_MS, "the answer never ends");
            self.now = self.now.max(next);
            if event == Some(next) {
                let Some(Reverse((_, _, event))) = self.queue.pop() else {
                    return;
                };
                if let Some(event) = self.events[event].take() {
                    self.happen(event);
                }
            } else if client == Some(next) {
                self.client_step(client::Event::Tick);
            } else if let Some((_, number)) = job {
                self.provider_step(number, provider::Event::Tick);
            }
        }
        panic!("a machine wakes itself for nothing");
    }

    /// Lets an event happen, or puts it off until the machine that it happens to is awake.
    fn happen(&mut self, event: Event) {
        let awake = match &event {
            Event::Client(_) | Event::ClientBytes(..) | Event::Arrives(_) | Event::LocalStep => {
                self.asleep_until()
            }
            Event::Provider(number, _) | Event::EngineStep(number) => {
                Some(self.wakes_at(self.jobs[*number].peer))
            }
            Event::ProviderBytes(id, _) | Event::ProviderLoses(id, _) => self
                .streams
                .get(id)
                .map(|stream| self.wakes_at(stream.peer)),
            Event::StreamBreaks { .. } | Event::Killed(_) | Event::ConnectionsDie => None,
        };
        if let Some(at) = awake.filter(|&at| at > self.now) {
            return self.after(at - self.now, event);
        }
        match event {
            Event::Client(event) => self.client_step(event),
            Event::ClientBytes(id, bytes) => self.client_reads(id, &bytes),
            Event::Arrives(id) => self.arrives(id),
            Event::LocalStep => self.local_step(),
            Event::Provider(number, event) => self.provider_step(number, event),
            Event::ProviderBytes(id, bytes) => self.provider_reads(id, &bytes),
            Event::ProviderLoses(id, why) => self.provider_loses(id, why),
            Event::StreamBreaks {
                stream,
                client_after_ms,
                provider_after_ms,
            } => self.stream_breaks(stream, client_after_ms, provider_after_ms),
            Event::Killed(id) => self.killed(id),
            Event::ConnectionsDie => self.connections_die(),
            Event::EngineStep(number) => self.engine_step(number),
        }
    }
}

fn candidate(scene: &Scene, peer: usize) -> Candidate {
    Candidate {
        peer: signer(peer).peer_id(),
        ctx_max: CONTEXT,
        out_max: scene.peers[peer].out_max,
        terms: (scene.money).map_or_else(Terms::default, |money| money.terms()),
        pay_to: scene.money.map(|_| pay_to(peer)),
        quote_id: scene.peers[peer].quoted.then_some([8; 16]),
        prepaid: scene.peers[peer].prepaid,
        first_token_p95_ms: scene.peers[peer].first_token_p95_ms,
    }
}
