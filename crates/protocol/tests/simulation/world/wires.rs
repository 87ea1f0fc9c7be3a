//! Streams: how they come about, and the ways in which they break.

use super::*;

impl World {
    pub(super) fn connect(&mut self, attempt: AttemptId, candidate: &Candidate, wants_quote: bool) {
        let peer = self.number_of(candidate);
        let twice = self.live.iter().any(|live| {
            self.streams
                .get(live)
                .is_some_and(|stream| stream.peer == peer)
        });
        assert!(!twice, "the same peer is asked twice at once");
        self.live.push(attempt);
        assert!(self.live.len() <= 3, "more than two spares");
        self.story
            .connects
            .push((attempt, candidate.peer, self.now));
        self.first_ms[peer].get_or_insert(self.now);
        let latency = self.scene.peers[peer].latency_ms;
        let stream = Stream {
            peer,
            to_provider: FrameBuf::new(),
            to_client: FrameBuf::new(),
            opened: false,
            job: None,
            id: None,
            broken: false,
        };
        self.streams.insert(attempt, stream);
        if !self.faults_of_a_stream(attempt, peer) {
            if let (Some(money), true) = (self.scene.money, wants_quote) {
                let quoted = client::Event::Quoted {
                    attempt,
                    terms: money.terms(),
                    quote_id: [8; 16],
                    queue_pos: 0,
                };
                self.after(2 * latency, Event::Client(quoted));
            }
            self.after(2 * latency, Event::Arrives(attempt));
        }
    }

    fn number_of(&self, candidate: &Candidate) -> usize {
        (0..self.scene.peers.len())
            .find(|&peer| signer(peer).peer_id() == candidate.peer)
            .unwrap()
    }

    /// A peer that lives and can be reached gives its quote, and the dial to one that cannot fails.
    pub(super) fn sound_out(&mut self, candidate: &Candidate) {
        let peer = self.number_of(candidate);
        self.story.sounded.push((candidate.peer, self.now));
        self.first_ms[peer].get_or_insert(self.now);
        let not_reached = client::Event::NotReached {
            peer: candidate.peer,
        };
        for fault in self.scene.peers[peer].faults.clone() {
            match fault {
                Fault::Unreachable { after_ms } => {
                    return self.after(after_ms, Event::Client(not_reached));
                }
                Fault::NeverConnects => return,
                Fault::Outage { at_ms, for_ms }
                    if (1_000 + at_ms..1_000 + at_ms + for_ms).contains(&self.now) =>
                {
                    return self.after(50, Event::Client(not_reached));
                }
                _ => {}
            }
        }
        if self.wakes_at(peer) > self.now {
            return;
        }
        let quote = client::Quoted {
            terms: (self.scene.money).map_or_else(Terms::default, |money| money.terms()),
            quote_id: [8; 16],
            queue_pos: 0,
        };
        let sounded = client::Event::Sounded {
            peer: candidate.peer,
            quote,
        };
        let latency = self.scene.peers[peer].latency_ms;
        self.after(2 * latency, Event::Client(sounded));
    }

    /// What will go wrong with a new stream. True if it never comes about.
    fn faults_of_a_stream(&mut self, attempt: AttemptId, peer: usize) -> bool {
        let unreachable = || {
            Event::Client(client::Event::ConnectFailed {
                attempt,
                why: "unreachable".to_owned(),
            })
        };
        for fault in self.scene.peers[peer].faults.clone() {
            match fault {
                Fault::Unreachable { after_ms } => {
                    self.after(after_ms, unreachable());
                    return true;
                }
                Fault::NeverConnects => return true,
                Fault::Outage { at_ms, for_ms } => {
                    let (from, until) = (1_000 + at_ms, 1_000 + at_ms + for_ms);
                    if (from..until).contains(&self.now) {
                        self.after(50, unreachable());
                        return true;
                    }
                    if self.now < from {
                        self.breaks(from - self.now, attempt, 0, 0);
                    }
                }
                Fault::Cut { at_ms } => self.breaks(at_ms, attempt, 0, 0),
                Fault::RelayCut {
                    at_ms,
                    provider_after_ms,
                } => self.breaks(at_ms, attempt, 0, provider_after_ms),
                Fault::DeadPath {
                    at_ms,
                    client_after_ms,
                } => self.breaks(at_ms, attempt, client_after_ms, 0),
                Fault::Killed { at_ms } => self.after(at_ms, Event::Killed(attempt)),
                _ => {}
            }
        }
        false
    }

    fn breaks(
        &mut self,
        at_ms: u64,
        stream: AttemptId,
        client_after_ms: u64,
        provider_after_ms: u64,
    ) {
        self.after(
            at_ms,
            Event::StreamBreaks {
                stream,
                client_after_ms,
                provider_after_ms,
            },
        );
    }

    pub(super) fn arrives(&mut self, attempt: AttemptId) {
        if self
            .streams
            .get(&attempt)
            .is_none_or(|stream| stream.broken)
        {
            return;
        }
        let rtt_ms = 2 * self.latency(attempt);
        self.client_step(client::Event::Connected { attempt, rtt_ms });
    }

    pub(super) fn latency(&self, attempt: AttemptId) -> u64 {
        self.streams
            .get(&attempt)
            .map_or(0, |stream| self.scene.peers[stream.peer].latency_ms)
    }

    pub(super) fn stream_breaks(
        &mut self,
        attempt: AttemptId,
        client_after_ms: u64,
        provider_after_ms: u64,
    ) {
        let Some(stream) = self.streams.get_mut(&attempt) else {
            return;
        };
        if std::mem::replace(&mut stream.broken, true) {
            return;
        }
        let why = || CloseWhy::Cut("cut".into());
        self.after(
            client_after_ms,
            Event::Client(client::Event::Closed {
                attempt,
                why: why(),
            }),
        );
        self.after(provider_after_ms, Event::ProviderLoses(attempt, why()));
    }

    /// A process is gone and started again: its streams break, and it knows none of its jobs.
    pub(super) fn killed(&mut self, attempt: AttemptId) {
        // A stream that is over already tells no time any more.
        let lives = self.live.contains(&attempt);
        let Some(stream) = self.streams.get(&attempt).filter(|_| lives) else {
            return;
        };
        let peer = stream.peer;
        for job in self.jobs.iter_mut().filter(|job| job.peer == peer) {
            job.closed = true;
            job.engine = None;
        }
        let theirs: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.peer == peer)
            .map(|(id, _)| *id)
            .collect();
        for id in theirs {
            self.stream_breaks(id, 0, 0);
        }
    }
}
