//! Drives the client machine: its actions become streams, frames and work for the engine; what those say becomes its
//! events. One task per attempt reads or computes; this one alone steps the machine.

mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use engine::{Asker, Class, EngineError, GenerateRequest};
use network::FrameWriter;
use protocol::{
    ModelRef, PeerId,
    job::{
        Finish,
        client::{
            self, Action, AttemptEnd, AttemptId, Candidate, Client, Event, Local, LocalEvent,
            Outcome, Place,
        },
    },
    offer::Offer,
    quote::QuoteRequest,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    OwnWork,
    attempts::{Quoting, Report, compute, sound_out, talk},
    choose::{Chosen, random},
    events::Events,
    held::Heard,
    looping::Looping,
    output::{End, Output},
    pay::{Payer, Raise},
    seek::Seek,
    session::Session,
    spares,
    watched::{self, Attempts},
};
use crate::{
    chat::{MoveReason, Sampling},
    clock,
    error::{ErrorView, NodeError},
    models::Model,
    node::Inner,
    receipts,
    route::Want,
};

/// What attempts report and the machine has not taken yet. An attempt beyond it waits, and its peer with it.
const INBOX: usize = 64;

/// When this computer's connections ended because it slept or changed its network, the log says so within this time.
const TELLS_WITHIN: Duration = Duration::from_secs(1);

/// Everything an answer needs to begin.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) model: ModelRef,
    pub(crate) model_name: String,
    pub(crate) vocab_size: u32,
    pub(crate) eog: Vec<u32>,
    pub(crate) prompt: Vec<u32>,
    /// Output that the answer has already.
    pub(crate) resume: Vec<u32>,
    pub(crate) sampling: Sampling,
    pub(crate) max_out: u32,
    pub(super) chosen: Chosen,
    pub(super) late: Option<Late>,
    pub(crate) local: Option<Model>,
    /// The conversation, for the books of what it costs; `None`: it leaves no trace.
    pub(crate) chat: Option<[u8; 16]>,
}

/// Offers that turn up while the answer runs, and what they are judged by.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) want: Want,
    pub(super) more: Seek,
}

/// One answer under way.
#[derive(Debug)]
pub(crate) struct Drive<'a> {
    inner: &'a Arc<Inner>,
    session: Arc<Session>,
    work: Work,
    stop: &'a CancellationToken,
    output: &'a mut Output,
    events: &'a mut Events,
    reports: mpsc::Sender<Report>,
    inbox: mpsc::Receiver<Report>,
    attempts: BTreeMap<AttemptId, Attempt>,
    watched: Attempts,
    payer: Payer,
    late: Option<Late>,
    /// Makes connections beforehand, for the case that the first peer fails.
    _spares: AbortOnDropHandle<()>,
    /// Ask those who come next whether they are there.
    sounding: JoinSet<()>,
    /// Peers that did not answer on their connection.
    doubted: BTreeSet<PeerId>,
    /// Why the writer of before is no longer the writer.
    left: Option<MoveReason>,
    /// The engine's own word for why this computer failed: the machine only hears a text.
    engine_error: Option<EngineError>,
    /// Tokens come that cannot be turned into text any more.
    output_broken: bool,
    looping: Looping,
    /// Something of it was promised to a peer.
    costs: bool,
    /// A peer that is paid writes the same over and over.
    loops: bool,
    seed: u64,
    /// The input's ids.
    input: Vec<u32>,
}

/// A task that works for an attempt; gone when this is dropped.
#[derive(Debug)]
struct Attempt {
    _task: AbortOnDropHandle<()>,
    writer: Option<FrameWriter>,
    /// `None`: this computer.
    peer: Option<PeerId>,
}

impl<'a> Drive<'a> {
    pub(crate) fn new(
        inner: &'a Arc<Inner>,
        session: Arc<Session>,
        mut work: Work,
        stop: &'a CancellationToken,
        output: &'a mut Output,
        events: &'a mut Events,
    ) -> Self {
        let (reports, inbox) = mpsc::channel(INBOX);
        let spares = tokio::spawn(spares::connect(
            Arc::clone(inner),
            Arc::clone(&session),
            std::mem::take(&mut work.chosen.spares),
            reports.clone(),
        ));
        let input = [work.prompt.as_slice(), &work.resume].concat();
        let model = (work.model_name.clone(), *work.model.digest.as_bytes());
        let payer = Payer::new(inner, work.chat, model);
        Self {
            inner,
            session,
            payer,
            watched: Attempts::new(std::mem::take(&mut work.chosen.first_token_ms)),
            late: work.late.take(),
            _spares: AbortOnDropHandle::new(spares),
            sounding: JoinSet::new(),
            doubted: BTreeSet::new(),
            left: None,
            work,
            stop,
            output,
            events,
            reports,
            inbox,
            attempts: BTreeMap::new(),
            engine_error: None,
            output_broken: false,
            looping: Looping::default(),
            costs: false,
            loops: false,
            seed: 0,
            input,
        }
    }

    /// Runs the machine to its end.
    pub(crate) async fn run(mut self) -> End {
        let mut entropy = [0u8; 32];
        if let Err(error) = getrandom::fill(&mut entropy) {
            return End::Failed(ErrorView::new(
                "no_randomness",
                format!("The system gave no random bytes: {error}."),
                None,
            ));
        }
        // The seed of a remote job comes from its id; this one is for this computer alone.
        self.seed = u64::from_le_bytes(std::array::from_fn(|at| entropy[at])) ^ clock::unix_ms();
        let max_cost = self.payer.allowance(self.inner).await;
        let mut client = Client::new(
            client::Config {
                signer: self.session.signer(),
                local: if self.work.local.is_some() {
                    Local::Fallback
                } else {
                    Local::Never
                },
                entropy,
                hedge: self.inner.measured.may_hedge(),
            },
            self.request(max_cost),
        );
        self.output.context_limit = self
            .work
            .chosen
            .candidates
            .iter()
            .map(|candidate| candidate.ctx_max)
            .max()
            .unwrap_or(0);
        let candidates = std::mem::take(&mut self.work.chosen.candidates);
        tracing::debug!(candidates = candidates.len(), "an answer is begun");
        let mut actions = client.step(Event::Start(candidates), clock::now());
        let mut cancelled = false;
        loop {
            for action in actions {
                if let Some(outcome) = self.act(action).await {
                    self.remember(client.output());
                    self.hear_signed(outcome.signing).await;
                    return self.end(outcome);
                }
            }
            // Before anything more is heard: what the provider said must not be lost, or its receipt does not come.
            if (self.output_broken || self.loops) && !cancelled {
                cancelled = true;
                actions = client.step(Event::Cancel, clock::now());
                continue;
            }
            let stop = self.stop;
            let deadline = client.deadline();
            let event = tokio::select! {
                biased;
                () = stop.cancelled(), if !cancelled => {
                    cancelled = true;
                    Event::Cancel
                }
                Some(report) = self.inbox.recv() => match self.heard(report) {
                    Some(event) => event,
                    None => {
                        actions = Vec::new();
                        continue;
                    }
                },
                offer = next_of(&mut self.late) => match self.taken(&offer) {
                    Some(candidate) => {
                        tracing::debug!(peer = %candidate.peer, "one more may be asked");
                        Event::Candidates(vec![candidate])
                    }
                    None => {
                        actions = Vec::new();
                        continue;
                    }
                },
                () = sleep_until(deadline) => Event::Tick,
            };
            actions = client.step(event, clock::now());
        }
    }

    /// Who works on an attempt.
    fn peer_of(&self, attempt: AttemptId) -> Option<PeerId> {
        self.attempts.get(&attempt)?.peer
    }

    fn request(&mut self, max_cost: Option<u128>) -> client::Request {
        let sampling = &self.work.sampling;
        client::Request {
            model: self.work.model,
            vocab_size: self.work.vocab_size,
            eog: std::mem::take(&mut self.work.eog),
            prompt: std::mem::take(&mut self.work.prompt),
            resume: std::mem::take(&mut self.work.resume),
            sampling: protocol::frame::Sampling {
                temperature: sampling.temperature,
                top_k: sampling.top_k,
                top_p: sampling.top_p,
                min_p: sampling.min_p,
                repeat_penalty: sampling.repeat_penalty,
                presence_penalty: 0.0,
                frequency_penalty: 0.0,
                seed: None,
            },
            max_out: self.work.max_out,
            stop: Vec::new(),
            ignore_eog: false,
            grammar: None,
            want_logprobs_k: None,
            deadline_ms: None,
            max_cost,
        }
    }

    /// What a provider is told of a job before it says what it costs. The input may have grown by then; it still begins so.
    fn quote_request(&self, peer: &PeerId) -> Result<QuoteRequest, NodeError> {
        Ok(QuoteRequest {
            nonce: random()?,
            model: self.work.model.digest,
            n_in: u32::try_from(self.input.len()).unwrap_or(u32::MAX),
            max_out: self.work.max_out,
            prefix_hashes: self.work.chosen.told.to(peer),
        })
    }

    /// The quote of a peer: one that it gave while the person typed, or one to ask for.
    fn quoting(&self, peer: &PeerId) -> Quoting {
        let told = self.work.chosen.told.to(peer);
        let whose = (peer, &self.work.model.digest);
        let held = &self.session.held;
        match held.take(whose, (&self.input, &told), Instant::now()) {
            Some(quote) => Quoting::Held(quote),
            // Without random bytes none is asked for, and the machine asks nobody for money.
            None => (self.quote_request(peer)).map_or(Quoting::None, Quoting::Ask),
        }
    }

    /// What the last writer has read of the chat by now, for the next quote. What was thought does not come again.
    fn remember(&self, output: &[u32]) {
        let (Some(chat), Some(peer)) = (self.work.chat, self.output.last_writer()) else {
            return;
        };
        let said = match self.output.has_thought() {
            true => &[][..],
            false => output,
        };
        let resumed = self.work.resume.len();
        let prompt = &self.input[..self.input.len() - resumed];
        let read = [prompt, said].concat();
        let heard = Heard::new(peer, self.work.model.digest, &read);
        self.session.held.has_heard(chat, heard);
    }

    fn taken(&self, offer: &Offer) -> Option<Candidate> {
        let late = self.late.as_ref()?;
        self.inner.late(&self.session, &late.want, offer)
    }

    async fn note(&self, noted: Option<watched::Noted>) {
        if let Some(watched::Noted { peer, seen, ban }) = noted {
            self.inner
                .observe(&peer, &self.work.model.digest, &seen, ban)
                .await;
        }
    }

    /// The same for an end that may lie here. Streams end a moment before the network has told that it changed.
    fn note_later(&self, noted: watched::Noted) {
        let (inner, session) = (Arc::clone(self.inner), Arc::clone(&self.session));
        let model = self.work.model.digest;
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = inner.stop.cancelled() => return,
                () = tokio::time::sleep(TELLS_WITHIN) => {}
            }
            let noted = match session.path_changed_lately() {
                true => noted.not_blamed(),
                false => noted,
            };
            inner
                .observe(&noted.peer, &model, &noted.seen, noted.ban)
                .await;
        });
    }

    /// The answer is over; what was being signed for it then is still counted to it.
    async fn hear_signed(&mut self, mut signing: usize) {
        let within = Duration::from_millis(client::SETTLE_MS);
        let signed = async {
            while signing > 0 {
                match self.inbox.recv().await {
                    Some(Report::Signed {
                        attempt,
                        add,
                        event,
                    }) if add > 0 => {
                        signing -= 1;
                        if matches!(event, Event::Promised { .. }) {
                            self.output.paid(attempt, add);
                        }
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        };
        if tokio::time::timeout(within, signed).await.is_err() {
            tracing::warn!("the books took too long: the answer may have cost more than it says");
        }
    }

    /// What a task told, as an event of the machine. `None` when it concerns nobody any more.
    fn heard(&mut self, report: Report) -> Option<Event> {
        match report {
            Report::Event(event) => Some(event),
            Report::Signed {
                attempt,
                add,
                event,
            } => {
                if matches!(event, Event::Promised { .. }) {
                    self.output.paid(attempt, add);
                }
                Some(event)
            }
            Report::Connected {
                attempt,
                rtt_ms,
                writer,
            } => {
                tracing::debug!(attempt, rtt_ms, "a peer is reached");
                // Closed meanwhile: the writer is dropped, and the stream with it.
                self.attempts.get_mut(&attempt)?.writer = Some(writer);
                self.watched
                    .connected(attempt, rtt_ms, clock::now().mono_ms);
                Some(Event::Connected { attempt, rtt_ms })
            }
            Report::NoStream { attempt, why, ours } => {
                if ours {
                    self.watched.is_ours(attempt);
                }
                Some(Event::ConnectFailed { attempt, why })
            }
            Report::LocalFailed { attempt, error } => {
                let why = error.to_string();
                self.engine_error = Some(error);
                Some(Event::Local {
                    attempt,
                    event: LocalEvent::Failed(why),
                })
            }
        }
    }

    /// Carries out one action. The outcome, when it was the last.
    async fn act(&mut self, action: Action) -> Option<Outcome> {
        match action {
            Action::Connect {
                attempt,
                candidate,
                wants_quote,
            } => {
                let peer = candidate.peer;
                tracing::debug!(attempt, %peer, "asks a peer");
                self.watched.begun(attempt, peer);
                let doubted = self.doubted.remove(&candidate.peer);
                let quoting = match wants_quote {
                    true => self.quoting(&peer),
                    false => Quoting::None,
                };
                let task = tokio::spawn(talk(
                    Arc::clone(self.inner),
                    Arc::clone(&self.session),
                    attempt,
                    (candidate, quoting),
                    doubted,
                    self.reports.clone(),
                ));
                self.attempts.insert(
                    attempt,
                    Attempt {
                        _task: AbortOnDropHandle::new(task),
                        writer: None,
                        peer: Some(peer),
                    },
                );
            }
            Action::Send { attempt, frame } => {
                if let Some(writer) = self
                    .attempts
                    .get(&attempt)
                    .and_then(|attempt| attempt.writer.as_ref())
                    && let Err(error) = writer.send(&frame)
                {
                    // The reader of the same stream tells the machine.
                    tracing::debug!(%error, kind = frame.kind(), "a frame was not sent");
                }
            }
            Action::Close { attempt } => {
                if let Some(writer) = self
                    .attempts
                    .remove(&attempt)
                    .and_then(|attempt| attempt.writer)
                {
                    writer.finish();
                }
            }
            Action::Emit {
                attempt,
                place,
                first_index,
                ids,
                logprobs: _,
            } => {
                if self.output_broken {
                    return None;
                }
                self.watched
                    .tokens(attempt, ids.len(), clock::now().mono_ms);
                let why = self.left.take();
                if self
                    .output
                    .place(attempt, place, (first_index, why), self.events)
                    .await
                {
                    // The list of chats marks those that a peer reads.
                    self.inner.chats_changed();
                }
                let costs = self.costs && matches!(place, Place::Peer(_));
                self.loops |= self.looping.takes(&ids) && costs;
                if let Err(error) = self.output.tokens(&ids, self.events).await {
                    self.engine_error = Some(error);
                    self.output_broken = true;
                }
            }
            Action::StartLocal {
                attempt,
                prompt,
                resume,
                max_out,
            } => self.start_local(attempt, prompt, resume, max_out),
            Action::Promise {
                promise,
                attempt,
                job,
                payee,
                add,
                work,
                totals,
            } => {
                self.costs |= add > 0;
                let raise = Raise {
                    job,
                    payee,
                    add,
                    work,
                    totals,
                };
                if let Some(peer) = self.peer_of(attempt) {
                    let reports = self.reports.clone();
                    let whose = (attempt, peer);
                    self.payer
                        .promise(self.inner, promise, (whose, raise), reports);
                }
            }
            Action::Reserve {
                promise,
                attempt: _,
                payee,
                least,
                rest,
            } => {
                let reports = self.reports.clone();
                self.payer
                    .reserve(self.inner, promise, (payee, least, rest), reports);
            }
            Action::SoundOut { candidate } => {
                tracing::debug!(peer = %candidate.peer, "sounds a peer out");
                // Those of before have answered, or will not.
                while self.sounding.try_join_next().is_some() {}
                // Without random bytes nobody is asked beforehand.
                if let Ok(request) = self.quote_request(&candidate.peer) {
                    self.sounding.spawn(sound_out(
                        Arc::clone(self.inner),
                        Arc::clone(&self.session),
                        (candidate.peer, request),
                        self.reports.clone(),
                    ));
                }
            }
            Action::HeldMore {
                attempt: _,
                voucher,
            } => self.payer.held_more(self.inner, voucher),
            Action::StopLocal { attempt } => {
                self.attempts.remove(&attempt);
            }
            Action::Progress(progress) => self.progress(progress),
            Action::Resumed { attempt, before } => self.output.resumed(attempt, before),
            // The first tokens from there tell it, with the reason.
            Action::Moved { from, to, index } => {
                tracing::debug!(?from, ?to, index, why = ?self.left, "the answer goes on elsewhere");
            }
            Action::AttemptEnded {
                attempt,
                place,
                why,
                checkpoint,
            } => {
                let own_fault = self.session.path_changed_lately();
                if let (Place::Peer(peer), AttemptEnd::Silent | AttemptEnd::NoAnswer) =
                    (place, &why)
                {
                    self.doubted.insert(peer);
                }
                tracing::debug!(attempt, ?place, %why, own_fault, signed = checkpoint.is_some(), "an attempt ended");
                if self.output.is_writer(attempt) {
                    self.left = Some(watched::reason(&why, own_fault));
                }
                let noted = self.watched.ended(attempt, &why, own_fault);
                match noted {
                    Some(noted) if !own_fault && watched::may_be_ours(&why) => {
                        self.note_later(noted)
                    }
                    noted => self.note(noted).await,
                }
            }
            Action::SpanDone { attempt, receipt } => {
                // One that was broken off is judged by its end.
                if receipt.receipt.finish != Finish::Abort {
                    let noted = self.watched.finished(attempt);
                    self.note(noted).await;
                }
                let job = receipt.receipt.job.to_string();
                let kept = receipts::keep(
                    &self.inner.ledger,
                    ledger::ReceiptRole::Client,
                    &receipt,
                    &self.work.model_name,
                )
                .await;
                if let Err(error) = kept {
                    tracing::warn!(%error, "a receipt could not be kept");
                }
                let cached = receipt.receipt.totals.cached;
                self.output.receipt(attempt, job, cached).await;
            }
            Action::Finish(outcome) => {
                self.inner.measured.answer_ended(outcome.hedged);
                return Some(outcome);
            }
        }
        None
    }

    fn start_local(
        &mut self,
        attempt: AttemptId,
        prompt: Vec<u32>,
        resume: Vec<u32>,
        max_out: u32,
    ) {
        let Some((id, file)) = self
            .work
            .local
            .as_ref()
            .and_then(|model| Some((model.id.clone(), model.file.clone()?)))
        else {
            // The machine was told that this computer never takes part.
            return;
        };
        let request = GenerateRequest {
            file: file.clone(),
            prompt,
            max_out: max_out.saturating_add(u32::try_from(resume.len()).unwrap_or(u32::MAX)),
            resume,
            sampling: self.work.sampling.for_engine(self.seed),
            stop: Vec::new(),
            class: Class::Own,
            asker: Asker::Owner,
            weight: 1,
            ignore_eog: false,
            logprobs: None,
            constraint: None,
        };
        let (inner, reports) = (Arc::clone(self.inner), self.reports.clone());
        let task = tokio::spawn(async move {
            let _own = OwnWork::begin(&inner);
            if let Err(error) = compute(&inner, attempt, &id, file, request, &reports).await {
                // The drive is gone only when the answer is over.
                let _ = reports.send(Report::LocalFailed { attempt, error }).await;
            }
        });
        self.attempts.insert(
            attempt,
            Attempt {
                _task: AbortOnDropHandle::new(task),
                writer: None,
                peer: None,
            },
        );
    }
}

async fn next_of(late: &mut Option<Late>) -> Offer {
    match late {
        Some(late) => late.more.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(mono_ms: Option<u64>) {
    match mono_ms {
        Some(mono_ms) => tokio::time::sleep_until(clock::instant(mono_ms)).await,
        None => std::future::pending().await,
    }
}
