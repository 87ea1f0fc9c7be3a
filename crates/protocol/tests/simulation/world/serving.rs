//! The providers' ends: their machines, their engines, their faults.

use super::*;

impl World {
    pub(super) fn provider_reads(&mut self, id: AttemptId, bytes: &[u8]) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.broken) else {
            return;
        };
        stream.to_provider.push(bytes);
        if !stream.opened {
            let Ok(Some(bytes)) = stream.to_provider.next_bytes(Cap::Open) else {
                return;
            };
            stream.opened = true;
            return self.first_frame(id, bytes);
        }
        while let Some(stream) = self.streams.get_mut(&id) {
            match stream.to_provider.next_frame(Cap::Client) {
                Ok(Some(frame)) => {
                    if let Some(number) = self.job_of(id) {
                        self.provider_step(number, provider::Event::Frame(frame));
                    }
                }
                Ok(None) => return,
                Err(error) => panic!("the client sent {error}"),
            }
        }
    }

    /// A job that is to be taken up goes to the machine that has it; everything else to a new one.
    fn first_frame(&mut self, id: AttemptId, bytes: bytes::Bytes) {
        let (from, peer) = (self.me, self.streams[&id].peer);
        let known = provider::resumes(&bytes).and_then(|job| {
            self.jobs.iter().position(|running| {
                running.peer == peer && !running.closed && running.machine.job() == Some(job)
            })
        });
        if let Some(number) = known {
            self.jobs[number].asking = Some(id);
            return self.provider_step(number, provider::Event::Resumed { from, bytes });
        }
        let number = self.new_job(id, peer);
        let quoted = self.scene.money.map(|money| Bound {
            terms: money.terms(),
            prefix: None,
        });
        self.provider_step(
            number,
            provider::Event::Open {
                from,
                bytes,
                welcome: Welcome::Yes,
                quoted,
            },
        );
    }

    fn new_job(&mut self, id: AttemptId, peer: usize) -> JobNumber {
        let config = provider::Config {
            signer: signer(peer),
            models: vec![Served {
                model: MODEL,
                vocab_size: VOCAB,
                ctx_max: CONTEXT,
                prices: self
                    .scene
                    .money
                    .map_or(Prices::FREE, |money| money.prices()),
                template: Some([6; 32]),
            }],
            max_out: 100,
            engine_build: "simulated 1".into(),
            numerics_class: "A32".into(),
            kv_type: "f32".into(),
            resume_grace_ms: self.scene.peers[peer].grace_ms,
            charging: self.scene.money.map(|money| charging(&money, peer)),
        };
        let number = self.jobs.len();
        self.jobs.push(Job {
            peer,
            machine: Provider::new(config, false, self.peer_clock(peer)),
            attached: Some(id),
            asking: None,
            engine: None,
            base: 0,
            computed: 0,
            prefilled_ms: 0,
            paused: false,
            owner_works: false,
            tongue: Tongue::default(),
            frames: 0,
            sent: 0,
            closed: false,
            stored: 0,
        });
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.job = Some(number);
        }
        for fault in self.scene.peers[peer].faults.clone() {
            match fault {
                Fault::OwnWork { at_ms, for_ms } => {
                    let work = |on| Event::Provider(number, provider::Event::OwnWork(on));
                    self.after(at_ms, work(true));
                    self.after(at_ms + for_ms, work(false));
                }
                Fault::Off { at_ms } => {
                    self.after(at_ms, Event::Provider(number, provider::Event::Off))
                }
                _ => {}
            }
        }
        number
    }

    /// The job that a stream is attached to.
    fn job_of(&self, id: AttemptId) -> Option<JobNumber> {
        self.streams
            .get(&id)?
            .job
            .filter(|&number| self.jobs[number].attached == Some(id))
    }

    pub(super) fn provider_loses(&mut self, id: AttemptId, why: CloseWhy) {
        if let Some(number) = self.job_of(id) {
            self.provider_step(number, provider::Event::Closed(why));
        }
    }

    /// Says whether there is a slot: now, and of one who lets the job wait, as those in front of it end.
    fn seek(&mut self, number: JobNumber, wanted: Wanted) {
        assert!(wanted.may_wait);
        let peer = self.jobs[number].peer;
        let said = &mut self.busy_said[peer];
        let mut say = vec![(0, Room::Free)];
        for fault in &self.scene.peers[peer].faults {
            match fault {
                Fault::Busy {
                    times,
                    retry_after_ms,
                } if *said < *times => {
                    *said += 1;
                    let full = Room::Full {
                        retry_after_ms: *retry_after_ms,
                        queue: 1,
                    };
                    say = vec![(0, full)];
                }
                Fault::Line { in_front, each_ms } => {
                    let place = |left: u32| match left {
                        0 => Room::Free,
                        left => Room::InLine { in_front: left - 1 },
                    };
                    let steps = (0..=*in_front).rev().zip(0u64..);
                    say = steps
                        .map(|(left, step)| (step * each_ms, place(left)))
                        .collect();
                }
                _ => {}
            }
        }
        for (ms, room) in say {
            self.after(ms, Event::Provider(number, provider::Event::Room(room)));
        }
    }

    pub(super) fn provider_step(&mut self, number: JobNumber, event: provider::Event) {
        let now = self.peer_clock(self.jobs[number].peer);
        let job = &mut self.jobs[number];
        if job.closed {
            return;
        }
        if let provider::Event::OwnWork(works) = event {
            // These engines compute nothing beside it.
            let goes_on = std::mem::replace(&mut job.owner_works, works) && !works;
            if goes_on {
                self.after(0, Event::EngineStep(number));
            }
        }
        let job = &mut self.jobs[number];
        let actions = job.machine.step(event, now);
        if let Some(deadline) = job.machine.deadline() {
            assert!(deadline > now.mono_ms, "a provider's deadline lies behind");
        }
        for action in actions {
            assert!(
                !self.jobs[number].closed,
                "a provider acts behind Close: {action:?}"
            );
            self.provider_acts(number, action);
        }
    }

    fn provider_acts(&mut self, number: JobNumber, action: provider::Action) {
        let job = &mut self.jobs[number];
        let profile = self.scene.peers[job.peer].clone();
        match action {
            provider::Action::Send(frame) => self.provider_sends(number, frame, &profile),
            provider::Action::Record { .. } => {
                let replay = profile
                    .faults
                    .iter()
                    .any(|fault| matches!(fault, Fault::Replay));
                let recorded = if replay {
                    Recorded::Seen
                } else {
                    Recorded::Fresh
                };
                self.after(
                    3,
                    Event::Provider(number, provider::Event::Recorded(recorded)),
                );
            }
            provider::Action::Start(start) => {
                job.base = start.resume.len() as u32;
                job.engine = Some(Engine::new(
                    start.prompt,
                    start.resume,
                    start.max_out,
                    start.ignore_eog,
                ));
                self.after(profile.prefill_ms.min(700), Event::EngineStep(number));
            }
            provider::Action::Seek(wanted) => self.seek(number, wanted),
            provider::Action::Admit { job, voucher, adds } => {
                self.admit(number, job, (voucher, adds))
            }
            provider::Action::HoldVoucher { voucher, .. } => self.hold(number, voucher),
            provider::Action::HoldReservation { reservation } => {
                self.hold_reservation(number, reservation)
            }
            provider::Action::Pause => job.paused = true,
            provider::Action::Resume => {
                job.paused = false;
                self.after(0, Event::EngineStep(number));
            }
            provider::Action::CancelEngine => job.engine = None,
            provider::Action::Park => {
                let gone = job.attached.take().expect("a job without a stream parks");
                self.hang_up(gone);
            }
            provider::Action::Attach => {
                let asking = job.asking.take();
                if let Some(gone) = std::mem::replace(&mut job.attached, asking) {
                    self.hang_up(gone);
                }
                if let Some(stream) = asking.and_then(|id| self.streams.get_mut(&id)) {
                    stream.job = Some(number);
                }
            }
            provider::Action::Decline(refuse) => {
                if let Some(id) = job.asking.take() {
                    let bytes = Frame::Refuse(refuse).to_delimited().to_vec();
                    self.after(profile.latency_ms, Event::ClientBytes(id, bytes));
                    self.hang_up(id);
                }
            }
            provider::Action::Store(receipt) => {
                job.stored += 1;
                assert_eq!(job.stored, 1, "two receipts of one job");
                receipt.provider_check().unwrap();
                assert!(receipt.client_check().is_none_or(|check| check.is_ok()));
                assert_eq!(receipt.receipt.totals.output, u64::from(job.sent));
                self.story.stored.push(*receipt);
            }
            provider::Action::Close(_) => {
                job.closed = true;
                job.engine = None;
                if let Some(id) = job.attached {
                    self.hang_up(id);
                }
            }
        }
    }

    /// The provider closes a stream; the client sees its end behind what was sent.
    fn hang_up(&mut self, id: AttemptId) {
        if self.streams.get(&id).is_some_and(|stream| stream.broken) {
            return;
        }
        let (attempt, why) = (id, CloseWhy::Ended);
        self.after(
            self.latency(id),
            Event::Client(client::Event::Closed { attempt, why }),
        );
    }

    fn provider_sends(&mut self, number: JobNumber, frame: Frame, profile: &Peer) {
        let job = &mut self.jobs[number];
        let id = job.attached.expect("a job without a stream sends");
        if let Frame::Progress(progress) = &frame {
            let unpaid = progress.phase() == protocol::frame::Phase::Unpaid && job.sent > 0;
            self.story.stalls += u32::from(unpaid);
        }
        if let Frame::Tokens(tokens) = &frame {
            assert!(
                tokens.first_index <= job.base + job.sent,
                "a token is left out"
            );
            let end = tokens.first_index + tokens.ids.len() as u32;
            job.sent = job.sent.max(end - job.base);
            assert!(
                job.sent <= 100.min(self.scene.max_out),
                "more tokens than allowed"
            );
        }
        let mut bytes = frame.to_delimited().to_vec();
        for fault in &profile.faults {
            match fault {
                Fault::Lies(lie) => {
                    let frames = job.tongue.twist(lie, frame.clone(), &signer(job.peer));
                    bytes = frames
                        .iter()
                        .flat_map(|frame| frame.to_delimited().to_vec())
                        .collect();
                }
                Fault::Garbage { at_frame } if *at_frame == job.frames => bytes = vec![0xff; 9],
                _ => {}
            }
        }
        job.frames += 1;
        self.after(profile.latency_ms, Event::ClientBytes(id, bytes));
    }

    pub(super) fn engine_step(&mut self, number: JobNumber) {
        let job = &mut self.jobs[number];
        let profile = self.scene.peers[job.peer].clone();
        let Some(engine) = &mut job.engine else {
            return;
        };
        if job.paused || job.owner_works {
            return;
        }
        if job.prefilled_ms < profile.prefill_ms {
            job.prefilled_ms += 700;
            let done = job.prefilled_ms.min(profile.prefill_ms) as u32;
            let event = EngineEvent::Prefill {
                done,
                total: profile.prefill_ms as u32,
            };
            self.after(700, Event::EngineStep(number));
            return self.provider_step(number, provider::Event::Engine(event));
        }
        let dies = profile.faults.iter().any(
            |fault| matches!(fault, Fault::EngineDies { at_token } if *at_token == job.computed),
        );
        let step = engine.step();
        if matches!(step, Step::Token { .. }) {
            self.may_compute(number);
        }
        let job = &mut self.jobs[number];
        let event = match step {
            _ if dies => EngineEvent::Failed("the driver is gone".into()),
            Step::Token { index, id } => EngineEvent::Tokens {
                first_index: index,
                ids: vec![id],
                logprobs: Vec::new(),
            },
            Step::Stop => EngineEvent::Finished(Finish::Stop),
            Step::Length => EngineEvent::Finished(Finish::Length),
        };
        job.computed += 1;
        if matches!(event, EngineEvent::Tokens { .. }) {
            self.after(profile.gap_ms, Event::EngineStep(number));
        } else {
            job.engine = None;
        }
        self.provider_step(number, provider::Event::Engine(event));
    }
}
