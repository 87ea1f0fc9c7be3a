//! The client's end: its machine, this computer's engine, and what must be true of every action.

use super::*;

impl World {
    pub(super) fn client_reads(&mut self, id: AttemptId, bytes: &[u8]) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.broken) else {
            return;
        };
        self.story.heard.insert(id, self.now);
        stream.to_client.push(bytes);
        while let Some(stream) = self.streams.get_mut(&id) {
            match stream.to_client.next_frame(Cap::Provider) {
                Ok(Some(frame)) => self.client_step(client::Event::Frame { attempt: id, frame }),
                Ok(None) => return,
                Err(error) => {
                    let why = CloseWhy::Violation(error);
                    self.client_step(client::Event::Closed { attempt: id, why });
                    return self.after(1, Event::ProviderLoses(id, CloseWhy::Cut("reset".into())));
                }
            }
        }
    }

    pub(super) fn client_step(&mut self, event: client::Event) {
        let cancelled = event == client::Event::Cancel;
        if let client::Event::Promised { promise, .. } | client::Event::NotPromised { promise, .. } =
            &event
            && !self.done
        {
            self.purse.signing.remove(promise);
        }
        if let client::Event::Frame {
            attempt,
            frame: Frame::Accept(accept),
        } = &event
        {
            self.was_accepted(*attempt, accept);
        }
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
            assert!(deadline > now.mono_ms, "a deadline that lies behind");
        }
        for action in actions {
            assert!(!self.done, "an action behind Finish: {action:?}");
            self.client_acts(action);
        }
    }

    fn client_acts(&mut self, action: Action) {
        match action {
            Action::Connect {
                attempt,
                candidate,
                wants_quote,
            } => {
                assert!(!wants_quote || self.scene.money.is_some());
                self.connect(attempt, &candidate, wants_quote);
            }
            Action::Send { attempt, frame } => self.client_sends(attempt, &frame),
            Action::Close { attempt } => {
                self.live.retain(|&live| live != attempt);
                let latency = self.latency(attempt);
                self.after(latency, Event::ProviderLoses(attempt, CloseWhy::Ended));
            }
            Action::Emit {
                attempt,
                place,
                first_index,
                ids,
                logprobs,
            } => {
                assert!(logprobs.is_empty());
                self.emitted(attempt, place, first_index, ids);
            }
            Action::StartLocal {
                attempt,
                prompt,
                resume,
                max_out,
            } => {
                self.live.push(attempt);
                assert!(self.live.len() <= 3);
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
            Action::Resumed { attempt, before } => {
                let (now, then) = (&self.streams[&attempt], &self.streams[&before]);
                assert_eq!((now.peer, now.id), (then.peer, then.id));
            }
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
            Action::Promise {
                promise,
                attempt,
                payee,
                add,
                work,
                ..
            } => self.sign((promise, attempt), payee, add, work),
            Action::Reserve {
                promise,
                payee,
                least,
                rest,
                ..
            } => self.sign_reservation(promise, payee, (least, rest)),
            Action::SoundOut { candidate } => self.sound_out(&candidate),
            Action::HeldMore { .. } => panic!("the books are what they were"),
            Action::SpanDone { attempt, receipt } => self.span_done(attempt, &receipt),
            Action::Finish(outcome) => {
                self.done = true;
                self.story.finished_ms = self.now;
                self.check_outcome(&outcome);
                self.story.outcome = outcome;
            }
        }
    }

    fn client_sends(&mut self, attempt: AttemptId, frame: &Frame) {
        assert!(
            self.live.contains(&attempt),
            "a frame to a stream that is closed"
        );
        let latency = self.latency(attempt);
        if let (Frame::Open(open), Some(stream)) = (frame, self.streams.get_mut(&attempt)) {
            stream.id = Some(match &open.resume_of {
                Some(resume) => JobId::from_bytes(&resume.job).unwrap(),
                None => {
                    let job = JobId::new(*blake3::hash(&frame.to_bytes()).as_bytes());
                    let n_in = self.scene.prompt.len() + self.story.output.len();
                    self.purse.n_in.insert(job, n_in as u32);
                    job
                }
            });
        }
        let bytes = frame.to_delimited().to_vec();
        self.after(latency, Event::ProviderBytes(attempt, bytes));
    }

    fn emitted(&mut self, attempt: AttemptId, place: Place, first_index: u32, ids: Vec<u32>) {
        assert_eq!(
            first_index as usize,
            self.story.output.len(),
            "a missing or doubled token"
        );
        assert!(!ids.is_empty());
        self.story.first_token_ms.get_or_insert(self.now);
        self.story.last_token_ms = self.now;
        let stopped = self.scene.cancel_at.is_some();
        let stream = self.streams.get(&attempt);
        assert_eq!(place == Place::Local, stream.is_none());
        let honest = stream.is_none_or(|stream| {
            let faults = &self.scene.peers[stream.peer].faults;
            !faults
                .iter()
                .any(|fault| matches!(fault, Fault::Lies(lie) if lie.changes_tokens(stopped)))
        });
        let job = stream.and_then(|stream| stream.id);
        for id in ids {
            if honest {
                let expected = next(&self.scene.prompt, &self.story.output);
                assert_eq!(id, expected, "a changed token");
            }
            self.story.output.push(id);
            if let Some(job) = job {
                self.emitted.entry(job).or_default().push(id);
            }
        }
    }

    pub(super) fn local_step(&mut self) {
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
                    logprobs: Vec::new(),
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
}
