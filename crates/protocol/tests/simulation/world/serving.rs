//! The provider's end of a stream: its machine, its engine, its faults.

use super::*;

impl World {
    pub(super) fn provider_reads(&mut self, id: AttemptId, bytes: &[u8]) {
        let me = self.me;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.buffer.push(bytes);
        if !stream.opened {
            let Ok(Some(bytes)) = stream.buffer.next_bytes(Cap::Open) else {
                return;
            };
            stream.opened = true;
            let peer = stream.peer;
            let room = self.room(peer);
            return self.provider_step(
                id,
                provider::Event::Open {
                    from: me,
                    bytes,
                    room,
                },
            );
        }
        while let Some(stream) = self.streams.get_mut(&id) {
            match stream.buffer.next_frame(Cap::Client) {
                Ok(Some(frame)) => self.provider_step(id, provider::Event::Frame(frame)),
                Ok(None) => return,
                Err(error) => panic!("the client sent {error}"),
            }
        }
    }

    pub(super) fn room(&mut self, peer: usize) -> Room {
        let said = &mut self.busy_said[peer];
        for fault in &self.scene.peers[peer].faults {
            if let Fault::Busy {
                times,
                retry_after_ms,
            } = fault
                && *said < *times
            {
                *said += 1;
                return Room::Full {
                    retry_after_ms: *retry_after_ms,
                    queue: 1,
                };
            }
        }
        Room::Free
    }

    pub(super) fn provider_step(&mut self, id: AttemptId, event: provider::Event) {
        let now = self.clock();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let actions = stream.machine.step(event, now);
        assert!(
            !stream.closed || actions.is_empty(),
            "a provider acts behind Close: {actions:?}"
        );
        if let Some(deadline) = stream.machine.deadline() {
            assert!(deadline > now.mono_ms, "a provider's deadline lies behind");
        }
        for action in actions {
            self.provider_acts(id, action);
        }
    }

    pub(super) fn provider_acts(&mut self, id: AttemptId, action: provider::Action) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        assert!(!stream.closed, "a provider acts behind Close: {action:?}");
        let peer = stream.peer;
        let profile = self.scene.peers[peer].clone();
        match action {
            provider::Action::Send(frame) => self.provider_sends(id, frame, &profile),
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
                self.after(3, Event::Provider(id, provider::Event::Recorded(recorded)));
            }
            provider::Action::Start(start) => {
                stream.engine = Some(Engine::new(
                    start.prompt,
                    start.resume,
                    start.max_out,
                    start.ignore_eog,
                ));
                self.after(profile.prefill_ms.min(700), Event::EngineStep(id));
            }
            provider::Action::Pause => stream.paused = true,
            provider::Action::Resume => {
                stream.paused = false;
                self.after(0, Event::EngineStep(id));
            }
            provider::Action::CancelEngine => stream.engine = None,
            provider::Action::Store(receipt) => {
                stream.stored += 1;
                assert_eq!(stream.stored, 1, "two receipts of one job");
                receipt.provider_check().unwrap();
                assert!(receipt.client_check().is_none_or(|check| check.is_ok()));
                assert_eq!(receipt.receipt.totals.output, u64::from(stream.sent_tokens));
                self.story.stored.push(*receipt);
            }
            provider::Action::Close(_) => {
                stream.closed = true;
                stream.engine = None;
                let why = CloseWhy::Ended;
                self.after(
                    profile.latency_ms,
                    Event::Client(client::Event::Closed { attempt: id, why }),
                );
            }
        }
    }

    pub(super) fn provider_sends(&mut self, id: AttemptId, frame: Frame, profile: &Peer) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if let Frame::Tokens(tokens) = &frame {
            stream.sent_tokens += tokens.ids.len() as u32;
            assert!(
                stream.sent_tokens <= 100.min(self.scene.max_out),
                "more tokens than allowed"
            );
        }
        let mut bytes = frame.to_delimited().to_vec();
        for fault in &profile.faults {
            match fault {
                Fault::Lies(lie) => {
                    let frames = stream
                        .tongue
                        .twist(lie, frame.clone(), &signer(stream.peer));
                    bytes = frames
                        .iter()
                        .flat_map(|frame| frame.to_delimited().to_vec())
                        .collect();
                }
                Fault::Garbage { at_frame } if *at_frame == stream.frames => bytes = vec![0xff; 9],
                _ => {}
            }
        }
        stream.frames += 1;
        self.after(profile.latency_ms, Event::ClientBytes(id, bytes));
    }

    pub(super) fn engine_step(&mut self, id: AttemptId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let profile = self.scene.peers[stream.peer].clone();
        let Some(engine) = &mut stream.engine else {
            return;
        };
        if stream.paused {
            return;
        }
        if stream.prefilled_ms < profile.prefill_ms {
            stream.prefilled_ms += 700;
            let done = stream.prefilled_ms.min(profile.prefill_ms) as u32;
            let event = EngineEvent::Prefill {
                done,
                total: profile.prefill_ms as u32,
            };
            self.after(700, Event::EngineStep(id));
            return self.provider_step(id, provider::Event::Engine(event));
        }
        let dies = profile.faults.iter().any(
            |fault| matches!(fault, Fault::EngineDies { at_token } if *at_token == stream.computed),
        );
        let event = match engine.step() {
            _ if dies => EngineEvent::Failed("the driver is gone".into()),
            Step::Token { index, id } => EngineEvent::Tokens {
                first_index: index,
                ids: vec![id],
            },
            Step::Stop => EngineEvent::Finished(Finish::Stop),
            Step::Length => EngineEvent::Finished(Finish::Length),
        };
        stream.computed += 1;
        if matches!(event, EngineEvent::Tokens { .. }) {
            self.after(profile.gap_ms, Event::EngineStep(id));
        } else {
            stream.engine = None;
        }
        self.provider_step(id, provider::Event::Engine(event));
    }

    // ------------------------------------------------------------------------------------------- judgement
}
