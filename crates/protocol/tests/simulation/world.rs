//! A network in virtual time: one client machine, several provider machines, and the wires between them. Frames travel
//! as bytes through the real framing. Nothing sleeps: the clock jumps to whatever is next.

mod checks;
mod serving;

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
        provider::{self, EngineEvent, Provider, Recorded, Room, Served},
    },
    price::Prices,
    receipt::SignedReceipt,
};

use crate::{
    fault::{Fault, Tongue},
    model::{CONTEXT, EOG, Engine, Step, VOCAB, next},
};

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
}

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) latency_ms: u64,
    pub(crate) prefill_ms: u64,
    pub(crate) gap_ms: u64,
    pub(crate) out_max: u32,
    pub(crate) faults: Vec<Fault>,
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
    pub(crate) output: Vec<u32>,
    pub(crate) ends: Vec<(AttemptId, Place, AttemptEnd)>,
    pub(crate) moves: Vec<(Place, Place, u32)>,
    pub(crate) receipts: Vec<SignedReceipt>,
    pub(crate) stored: Vec<SignedReceipt>,
    /// When each attempt was begun, and when its last frame came.
    pub(crate) connects: Vec<(AttemptId, PeerId, u64)>,
    pub(crate) heard: BTreeMap<AttemptId, u64>,
}

const MODEL: ModelDigest = ModelDigest::new([3; 32]);
const UNIX_MS: u64 = 1_790_000_000_000;
/// Longer than the longest answer can take: four jobs of half an hour, and the waits between them.
const END_OF_TIME_MS: u64 = 4 * 3_600_000;
/// More steps than that is a machine that wakes itself for nothing.
const MAX_STEPS: u32 = 400_000;

#[derive(Debug)]
enum Event {
    Client(client::Event),
    ClientBytes(AttemptId, Vec<u8>),
    Arrives(AttemptId),
    Provider(AttemptId, provider::Event),
    ProviderBytes(AttemptId, Vec<u8>),
    EngineStep(AttemptId),
    LocalStep,
}

/// One stream, with the provider's machine at its end.
#[derive(Debug)]
struct Stream {
    peer: usize,
    opened_ms: u64,
    machine: Provider,
    buffer: FrameBuf,
    back: FrameBuf,
    opened: bool,
    engine: Option<Engine>,
    computed: u32,
    prefilled_ms: u64,
    paused: bool,
    tongue: Tongue,
    frames: u32,
    sent_tokens: u32,
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
    busy_said: Vec<u32>,
    local: Option<(AttemptId, Engine, u32)>,
    local_finished: bool,
    emitted: BTreeMap<AttemptId, Vec<u32>>,
    live: Vec<AttemptId>,
    story: Story,
    done: bool,
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
        };
        let config = client::Config {
            signer: me.clone(),
            local: if scene.local.is_some() {
                Local::Fallback
            } else {
                Local::Never
            },
            entropy: [5; 32],
        };
        let candidates: Vec<Candidate> = (0..scene.peers.len())
            .map(|peer| candidate(&scene, peer))
            .collect();
        let mut world = Self {
            busy_said: vec![0; scene.peers.len()],
            now: 1_000,
            order: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            client: Client::new(config, request),
            me: me.peer_id(),
            streams: BTreeMap::new(),
            local: None,
            local_finished: false,
            emitted: BTreeMap::new(),
            live: Vec::new(),
            story: Story {
                outcome: Outcome {
                    end: End::Failed(None),
                    emitted: 0,
                    failovers: 0,
                },
                finished_ms: 0,
                output: resume,
                ends: Vec::new(),
                moves: Vec::new(),
                receipts: Vec::new(),
                stored: Vec::new(),
                connects: Vec::new(),
                heard: BTreeMap::new(),
            },
            done: false,
            scene,
        };
        world.begin(candidates);
        world.run();
        world.check_the_end();
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
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.order += 1;
        self.events.push(Some(event));
        self.queue
            .push(Reverse((self.now + ms, self.order, self.events.len() - 1)));
    }

    fn clock(&self) -> Clock {
        Clock {
            mono_ms: self.now,
            unix_ms: UNIX_MS + self.now,
        }
    }

    fn run(&mut self) {
        for _ in 0..MAX_STEPS {
            let event = self.queue.peek().map(|Reverse((at, ..))| *at);
            let client = self.client.deadline();
            let provider = self.streams.iter().filter_map(|(id, stream)| {
                let at = stream.machine.deadline()?;
                Some((at.max(self.wakes_at(*id)), *id))
            });
            let provider = provider.min();
            let times = [event, client, provider.map(|(at, _)| at)];
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
            } else if let Some((_, id)) = provider {
                self.provider_step(id, provider::Event::Tick);
            }
        }
        panic!("a machine wakes itself for nothing");
    }

    /// When a provider whose process is stopped goes on.
    fn wakes_at(&self, id: AttemptId) -> u64 {
        let Some(stream) = self.streams.get(&id) else {
            return self.now;
        };
        let since = self.now - stream.opened_ms;
        let stops = self.scene.peers[stream.peer]
            .faults
            .iter()
            .filter_map(|fault| match fault {
                Fault::Stopped { at_ms, for_ms } if (*at_ms..at_ms + for_ms).contains(&since) => {
                    Some(stream.opened_ms + at_ms + for_ms)
                }
                _ => None,
            });
        stops.max().unwrap_or(self.now)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Client(event) => self.client_step(event),
            Event::ClientBytes(id, bytes) => self.client_reads(id, &bytes),
            Event::Arrives(id) => self.arrives(id),
            Event::LocalStep => self.local_step(),
            Event::Provider(id, event) => match self.wakes_at(id) {
                at if at > self.now => self.after(at - self.now, Event::Provider(id, event)),
                _ => self.provider_step(id, event),
            },
            Event::ProviderBytes(id, bytes) => match self.wakes_at(id) {
                at if at > self.now => self.after(at - self.now, Event::ProviderBytes(id, bytes)),
                _ => self.provider_reads(id, &bytes),
            },
            Event::EngineStep(id) => match self.wakes_at(id) {
                at if at > self.now => self.after(at - self.now, Event::EngineStep(id)),
                _ => self.engine_step(id),
            },
        }
    }

    // ------------------------------------------------------------------------------------------- the client

    fn client_reads(&mut self, id: AttemptId, bytes: &[u8]) {
        self.story.heard.insert(id, self.now);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.back.push(bytes);
        loop {
            let Some(stream) = self.streams.get_mut(&id) else {
                return;
            };
            match stream.back.next_frame(Cap::Provider) {
                Ok(Some(frame)) => self.client_step(client::Event::Frame { attempt: id, frame }),
                Ok(None) => return,
                Err(error) => {
                    let why = CloseWhy::Violation(error);
                    self.client_step(client::Event::Closed { attempt: id, why });
                    self.after(
                        1,
                        Event::Provider(id, provider::Event::Closed(CloseWhy::Cut("reset".into()))),
                    );
                    return;
                }
            }
        }
    }

    fn client_step(&mut self, event: client::Event) {
        let cancelled = event == client::Event::Cancel;
        let now = self.clock();
        let actions = self.client.step(event, now);
        if cancelled && !self.done {
            self.scene.cancel_at = Some(self.now);
        }
        assert!(
            !self.done || actions.is_empty(),
            "an action behind the last one: {actions:?}"
        );
        if let Some(deadline) = self.client.deadline() {
            assert!(deadline > self.now, "a deadline that lies behind");
        }
        for action in actions {
            assert!(!self.done, "an action behind Finish: {action:?}");
            self.client_acts(action);
        }
    }

    fn client_acts(&mut self, action: Action) {
        match action {
            Action::Connect { attempt, candidate } => self.connect(attempt, &candidate),
            Action::Send { attempt, frame } => {
                assert!(
                    self.live.contains(&attempt),
                    "a frame to a stream that is closed"
                );
                let latency = self.latency(attempt);
                self.after(
                    latency,
                    Event::ProviderBytes(attempt, frame.to_delimited().to_vec()),
                );
            }
            Action::Close { attempt } => {
                self.live.retain(|&live| live != attempt);
                let latency = self.latency(attempt);
                self.after(
                    latency,
                    Event::Provider(attempt, provider::Event::Closed(CloseWhy::Ended)),
                );
            }
            Action::Emit {
                attempt,
                place,
                first_index,
                ids,
            } => {
                assert_eq!(
                    first_index as usize,
                    self.story.output.len(),
                    "a missing or doubled token"
                );
                assert!(!ids.is_empty());
                let honest = self.streams.get(&attempt).is_none_or(|stream| {
                    let faults = &self.scene.peers[stream.peer].faults;
                    !faults
                        .iter()
                        .any(|fault| matches!(fault, Fault::Lies(lie) if lie.changes_tokens(self.scene.cancel_at.is_some())))
                });
                assert_eq!(place == Place::Local, !self.streams.contains_key(&attempt));
                for id in ids {
                    if honest {
                        assert_eq!(
                            id,
                            next(&self.scene.prompt, &self.story.output),
                            "a changed token"
                        );
                    }
                    self.story.output.push(id);
                    self.emitted.entry(attempt).or_default().push(id);
                }
            }
            Action::StartLocal {
                attempt,
                prompt,
                resume,
                max_out,
            } => {
                self.live.push(attempt);
                assert!(self.live.len() <= 2);
                assert_eq!(resume, self.story.output);
                let engine = Engine::new(prompt, resume, max_out, self.scene.ignore_eog);
                self.local = Some((attempt, engine, 0));
                let load = self.scene.local.as_ref().map_or(0, |local| local.load_ms);
                self.after(load, Event::LocalStep);
            }
            Action::StopLocal { attempt } => {
                self.live.retain(|&live| live != attempt);
                self.local = None;
            }
            Action::Progress(_) => {}
            Action::Moved { from, to, index } => {
                assert_ne!(from, to);
                assert_eq!(index as usize, self.story.output.len());
                self.story.moves.push((from, to, index));
            }
            Action::AttemptEnded {
                attempt,
                place,
                why,
                ..
            } => {
                self.live.retain(|&live| live != attempt);
                self.story.ends.push((attempt, place, why));
            }
            Action::SpanDone { attempt, receipt } => self.span_done(attempt, &receipt),
            Action::Finish(outcome) => {
                self.done = true;
                self.story.finished_ms = self.now;
                self.check_outcome(&outcome);
                self.story.outcome = outcome;
            }
        }
    }

    fn connect(&mut self, attempt: AttemptId, candidate: &Candidate) {
        let peer = (0..self.scene.peers.len())
            .find(|&peer| signer(peer).peer_id() == candidate.peer)
            .unwrap();
        let twice = self.live.iter().any(|live| {
            self.streams
                .get(live)
                .is_some_and(|stream| stream.peer == peer)
        });
        assert!(!twice, "the same peer is asked twice at once");
        self.live.push(attempt);
        assert!(self.live.len() <= 2, "more than one spare");
        self.story
            .connects
            .push((attempt, candidate.peer, self.now));
        let faults = self.scene.peers[peer].faults.clone();
        let latency = self.scene.peers[peer].latency_ms;
        let config = provider::Config {
            signer: signer(peer),
            models: vec![Served {
                model: MODEL,
                vocab_size: VOCAB,
                ctx_max: CONTEXT,
                prices: Prices::FREE,
                template: Some([6; 32]),
            }],
            max_out: 100,
            engine_build: "simulated 1".into(),
            numerics_class: "A32".into(),
            kv_type: "f32".into(),
        };
        let stream = Stream {
            peer,
            opened_ms: self.now,
            machine: Provider::new(config, false, self.clock()),
            buffer: FrameBuf::new(),
            back: FrameBuf::new(),
            opened: false,
            engine: None,
            computed: 0,
            prefilled_ms: 0,
            paused: false,
            tongue: Tongue::default(),
            frames: 0,
            sent_tokens: 0,
            closed: false,
            stored: 0,
        };
        self.streams.insert(attempt, stream);
        for fault in faults {
            let closed = |why: &str| provider::Event::Closed(CloseWhy::Cut(why.into()));
            match fault {
                Fault::Unreachable { after_ms } => {
                    let why = "unreachable".to_owned();
                    self.after(
                        after_ms,
                        Event::Client(client::Event::ConnectFailed { attempt, why }),
                    );
                    return self.after(0, Event::Provider(attempt, closed("never")));
                }
                Fault::NeverConnects => {
                    return self.after(0, Event::Provider(attempt, closed("never")));
                }
                Fault::Cut { at_ms } => {
                    let why = CloseWhy::Cut("cut".into());
                    self.after(at_ms, Event::Client(client::Event::Closed { attempt, why }));
                    self.after(at_ms, Event::Provider(attempt, closed("cut")));
                }
                Fault::OwnWork { at_ms, for_ms } => {
                    self.after(
                        at_ms,
                        Event::Provider(attempt, provider::Event::OwnWork(true)),
                    );
                    self.after(
                        at_ms + for_ms,
                        Event::Provider(attempt, provider::Event::OwnWork(false)),
                    );
                }
                Fault::Off { at_ms } => {
                    self.after(at_ms, Event::Provider(attempt, provider::Event::Off))
                }
                _ => {}
            }
        }
        self.after(2 * latency, Event::Arrives(attempt));
    }

    fn arrives(&mut self, attempt: AttemptId) {
        let rtt_ms = 2 * self.latency(attempt);
        self.client_step(client::Event::Connected { attempt, rtt_ms });
    }

    fn latency(&self, attempt: AttemptId) -> u64 {
        self.streams
            .get(&attempt)
            .map_or(0, |stream| self.scene.peers[stream.peer].latency_ms)
    }

    fn local_step(&mut self) {
        let Some((attempt, engine, given)) = &mut self.local else {
            return;
        };
        let Some(profile) = self.scene.local.clone() else {
            return;
        };
        let attempt = *attempt;
        let event = match engine.step() {
            _ if profile.dies_at == Some(*given) => LocalEvent::Failed("died".into()),
            Step::Token { index, id } => {
                *given += 1;
                LocalEvent::Tokens {
                    first_index: index,
                    ids: vec![id],
                }
            }
            Step::Stop => LocalEvent::Finished(Finish::Stop),
            Step::Length => LocalEvent::Finished(Finish::Length),
        };
        match &event {
            LocalEvent::Tokens { .. } => self.after(profile.gap_ms, Event::LocalStep),
            LocalEvent::Finished(_) => {
                self.local_finished = true;
                self.live.retain(|&live| live != attempt);
            }
            _ => self.local = None,
        }
        self.client_step(client::Event::Local { attempt, event });
    }

    // ---------------------------------------------------------------------------------------- a provider
}

fn candidate(scene: &Scene, peer: usize) -> Candidate {
    Candidate {
        peer: signer(peer).peer_id(),
        ctx_max: CONTEXT,
        out_max: scene.peers[peer].out_max,
        prices: Prices::FREE,
    }
}
