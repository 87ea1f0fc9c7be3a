//! One answer: where it is computed, its prompt, its text, its end.
//!
//! [`Ask`] gathers what is known before anything is stored, then [`Ask::begin`] spawns the one task that owns the
//! answer. Where a peer is to answer, it finds offers (`target`, `seek`). The task gets the head of the model's file
//! (`heads`, and `elect` where peers name several), renders the prompt (`prompt`), puts the peers in an order (`choose`), and drives the client machine of
//! `protocol` (`drive`), which says whom to connect to, when to move, and when it is over. What the machine emits becomes
//! text, is shown and stored (`output`, `events`, `keeping`), and is stopped where it goes round in circles for money (`looping`); what it shows of
//! the peers is noted (`watched`). All of it uses the swarm and the key of one day (`session`). While the person types, the way to the
//! peer (`warm`) and its quote (`held`) are made ready.

mod attempts;
pub(crate) mod choose;
mod drive;
pub(crate) mod elect;
mod events;
mod heads;
mod held;
mod keeping;
mod looping;
mod output;
mod pay;
pub(crate) mod prompt;
pub(crate) mod reasoning;
mod seek;
pub(crate) mod session;
mod spares;
mod target;
pub(crate) mod warm;
mod watched;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use memory::{ChatId, ChatSettings, MessageId, ModelUsed};
use protocol::{ModelRef, PeerId};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use target::{Target, digest_of, id_of};

use self::{
    choose::{Chosen, Question},
    drive::{Drive, Late, Work},
    events::Events,
    output::{End, Output},
    prompt::{Prompt, Room, Turn},
    session::Session,
};
use crate::{
    chat::{AnswerEvent, ChatRef, Phase, Sampling},
    community::told_by_a_stranger,
    error::NodeError,
    models::Model,
    node::Inner,
};

/// Answers that a person has running at once. The engine shares its steps among them; more would crawl.
const MAX_ANSWERS: usize = 8;

/// While the disk is full, the end of an answer is tried again this often.
const FINISH_RETRY: Duration = Duration::from_secs(3);

/// The answers that are being written.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    running: Mutex<BTreeMap<ChatId, CancellationToken>>,
    /// Answers that compute on this computer right now: they go before the work of others.
    own: watch::Sender<usize>,
    closing: AtomicBool,
    /// The tasks that write answers down.
    pub(crate) writers: TaskTracker,
}

impl Answers {
    /// Stops the answer of a chat, if there is one.
    pub(crate) fn stop(&self, chat: ChatId) {
        if let Some(stop) = self.running().get(&chat) {
            stop.cancel();
        }
    }

    /// Ends every answer because the node stops: they are kept as interrupted.
    pub(crate) fn stop_all(&self) {
        self.closing.store(true, Ordering::Release);
        for stop in self.running().values() {
            stop.cancel();
        }
    }

    /// How many answers compute here right now.
    pub(crate) fn own_work(&self) -> usize {
        *self.own.borrow()
    }

    /// The same, as it changes.
    pub(crate) fn watch_own_work(&self) -> watch::Receiver<usize> {
        self.own.subscribe()
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<ChatId, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to write one answer in a chat; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    inner: Arc<Inner>,
    chat: ChatId,
    stop: CancellationToken,
}

impl Slot {
    /// # Errors
    /// [`NodeError::ChatBusy`], [`NodeError::TooManyAnswers`], [`NodeError::Stopping`].
    pub(crate) fn take(inner: &Arc<Inner>, chat: ChatId) -> Result<Self, NodeError> {
        if inner.answers.closing.load(Ordering::Acquire) || inner.stop.is_cancelled() {
            return Err(NodeError::Stopping);
        }
        let mut running = inner.answers.running();
        if running.contains_key(&chat) {
            return Err(NodeError::ChatBusy);
        }
        if running.len() >= MAX_ANSWERS {
            return Err(NodeError::TooManyAnswers { limit: MAX_ANSWERS });
        }
        let stop = CancellationToken::new();
        running.insert(chat, stop.clone());
        Ok(Self {
            inner: Arc::clone(inner),
            chat,
            stop,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.inner.answers.running().remove(&self.chat);
    }
}

/// While it is held, an answer of the person's own computes here.
#[derive(Debug)]
pub(crate) struct OwnWork(Arc<Inner>);

impl OwnWork {
    pub(crate) fn begin(inner: &Arc<Inner>) -> Self {
        inner.answers.own.send_modify(|count| *count += 1);
        Self(Arc::clone(inner))
    }
}

impl Drop for OwnWork {
    fn drop(&mut self) {
        self.0
            .answers
            .own
            .send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// An answer that is about to be made.
#[derive(Debug)]
pub(crate) struct Ask {
    slot: Slot,
    /// The swarm and the key that this answer is asked with, to its end.
    session: Arc<Session>,
    chat: ChatRef,
    target: Target,
    turns: Vec<Turn>,
    system: Option<String>,
    sampling: Sampling,
    on_full: memory::OnFull,
    /// Output tokens that the answer has already, when it is gone on with, and the model that wrote them.
    resume: Vec<u32>,
    resumed_model: Option<ModelUsed>,
    prompt: Option<Prompt>,
    /// The peer that gave the answer before this one, and how many tokens it read and wrote.
    last: Option<(PeerId, u32)>,
    sent: Instant,
}

impl Ask {
    pub(crate) fn new(
        slot: Slot,
        chat: ChatRef,
        settings: &ChatSettings,
        target: Target,
        turns: Vec<Turn>,
    ) -> Self {
        Self {
            session: slot.inner.asking.now(),
            slot,
            chat,
            target,
            turns,
            system: settings.system_prompt.clone(),
            sampling: settings
                .sampling
                .clone()
                .map(Sampling::from)
                .unwrap_or_default(),
            on_full: settings.on_full,
            resume: Vec::new(),
            resumed_model: None,
            prompt: None,
            last: None,
            sent: Instant::now(),
        }
    }

    /// Goes on with an answer of which these tokens are there.
    ///
    /// # Errors
    /// [`NodeError::OtherModel`] where it is known already that another model would go on: its tokens mean other text.
    pub(crate) fn resuming(
        mut self,
        tokens: Vec<u32>,
        model: Option<ModelUsed>,
    ) -> Result<Self, NodeError> {
        self.resume = tokens;
        self.resumed_model = model;
        if let Some(used) = self.model_used() {
            self.check_model(&used)?;
        }
        Ok(self)
    }

    fn check_model(&self, used: &ModelUsed) -> Result<(), NodeError> {
        let Some(before) = &self.resumed_model else {
            return Ok(());
        };
        let same = match (&before.digest, &used.digest) {
            (Some(before), Some(used)) => before == used,
            (None, _) | (_, None) => before.id == used.id,
        };
        if same {
            return Ok(());
        }
        Err(NodeError::OtherModel {
            wrote: before.name.clone(),
            now: used.name.clone(),
        })
    }

    /// Renders the prompt when the model's text part is on this computer, so that a conversation that does not fit is
    /// refused before anything is stored.
    pub(crate) async fn check_context(&mut self) -> Result<(), NodeError> {
        self.sampling.check()?;
        let Some((model, file)) = self
            .target
            .model()
            .and_then(|model| Some((model.clone(), model.file.clone()?)))
        else {
            return Ok(());
        };
        let limit = self.slot.inner.context_limit(&model);
        self.prompt = Some(self.render(&file, Some(&model), &model.name, limit).await?);
        Ok(())
    }

    /// The model as it is stored with the answer; it may become known only later.
    pub(crate) fn model_used(&self) -> Option<ModelUsed> {
        self.target.model().map(model_used)
    }

    /// Spawns the task that owns the answer, whose messages are stored already.
    pub(crate) async fn begin(
        self,
        asked: Option<MessageId>,
        answer: memory::Message,
        title: Option<String>,
    ) -> mpsc::Receiver<AnswerEvent> {
        let (mut events, receiver) = Events::channel();
        let inner = Arc::clone(&self.slot.inner);
        let user = match asked {
            Some(id) => match self.chat.memory.message(id).await {
                Ok(message) => Some(inner.message_view(&self.chat, message).await),
                Err(_) => None,
            },
            None => None,
        };
        let shown = inner.message_view(&self.chat, answer.clone()).await;
        events.push(AnswerEvent::Started {
            chat: self.chat.id.to_string(),
            user,
            answer: shown,
        });
        if let Some(title) = title {
            events.push(AnswerEvent::Titled { title });
        }
        inner.tasks.spawn(self.run(answer, events));
        receiver
    }

    async fn run(mut self, answer: memory::Message, mut events: Events) {
        let inner = Arc::clone(&self.slot.inner);
        self.last = self.last_peer(answer.parent).await;
        let mut output = Output::new(
            self.chat.memory.clone(),
            answer,
            self.resume.len(),
            self.sent,
            &inner.answers.writers,
        );
        let end = match self.prepare(&mut output, &mut events).await {
            Ok(Some(work)) => {
                let session = Arc::clone(&self.session);
                Drive::new(
                    &inner,
                    session,
                    work,
                    &self.slot.stop,
                    &mut output,
                    &mut events,
                )
                .run()
                .await
            }
            Ok(None) => End::Stopped,
            Err(error) => End::Failed(error.view()),
        };
        let end = match &end {
            End::Stopped if inner.answers.closing.load(Ordering::Acquire) => End::Interrupted(None),
            End::Complete | End::Length | End::Stopped | End::Interrupted(_) | End::Failed(_) => {
                end
            }
        };
        self.finish(end, output, events).await;
    }

    /// Everything before the first attempt: whom to ask, the head, the prompt. `None` when it was stopped meanwhile.
    async fn prepare(
        &mut self,
        output: &mut Output,
        events: &mut Events,
    ) -> Result<Option<Work>, NodeError> {
        let stop = self.slot.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(None),
            work = self.prepare_unstopped(output, events) => work.map(Some),
        }
    }

    async fn prepare_unstopped(
        &mut self,
        output: &mut Output,
        events: &mut Events,
    ) -> Result<Work, NodeError> {
        let inner = Arc::clone(&self.slot.inner);
        let (file, info, reference, mut found, local, limit, mut name) = match &self.target {
            Target::Here { model, file } => {
                let limit = inner.context_limit(model);
                (
                    file.clone(),
                    inner.read_text(file).await?,
                    model.reference,
                    None,
                    Some(model.clone()),
                    limit,
                    model.name.clone(),
                )
            }
            Target::Peers(wanted) => {
                let chosen = wanted.chosen.map(|peer| peer.to_string());
                events.push(AnswerEvent::Phase {
                    phase: Phase::Connecting,
                    done: 0,
                    total: 0,
                    peer: chosen,
                });
                self.session = inner.outside().await?;
                let mut found = inner.find(&self.session, wanted).await?;
                let (file, info) = inner.readable_head(&self.session, &mut found).await?;
                self.check_model(&found.used)?;
                output.set_model(found.used.clone());
                let limits = found.offers.iter().map(|offer| offer.ctx_max);
                let limit = limits.max().unwrap_or(0);
                let (local, name) = (found.local.clone(), found.name.clone());
                (
                    file,
                    info,
                    Some(found.model),
                    Some((found, wanted.chosen)),
                    local,
                    limit,
                    name,
                )
            }
        };
        // What no row pins is written by a head that a stranger gave.
        let foreign = found.as_ref().filter(|(found, _)| !found.is_pinned());
        let foreign = foreign.map(|(found, _)| found.name.clone());
        let told = |error: NodeError| match &foreign {
            Some(name) => told_by_a_stranger(name, error),
            None => error,
        };
        if let Some((found, _)) = &mut found
            && found.row.is_none()
        {
            // Now its file can say what it calls itself.
            name = inner.hears(&found.model, &info, &file);
            found.name.clone_from(&name);
            found.used.name.clone_from(&name);
            output.set_model(found.used.clone());
        }
        let prompt = match self.prompt.take() {
            // Rendered with the same file, and it fits what the peers take.
            Some(prompt) if limit == 0 || prompt.ids.len() + self.resume.len() < limit as usize => {
                prompt
            }
            Some(_) | None => {
                let model = local.clone().or_else(|| self.target.model().cloned());
                let rendered = self.render(&file, model.as_ref(), &name, limit).await;
                rendered.map_err(told)?
            }
        };
        inner.set_cut(self.chat.id, prompt.first_seen);
        output
            .open(&inner.engine, &file, &prompt, &self.resume)
            .await?;
        // A file whose digest is not known yet can be computed with here; nobody else is asked for it.
        let reference = reference.unwrap_or(ModelRef {
            digest: protocol::ModelDigest::new([0; 32]),
            head_len: info.head_len,
            head_sha256: protocol::HeadDigest::new(info.head_sha256),
        });
        let (chosen, late) = match found {
            Some((found, wanted)) => self.choose(found, wanted, &prompt).await?,
            None => (Chosen::default(), None),
        };
        Ok(Work {
            model: reference,
            model_name: name,
            vocab_size: info.vocab_size,
            eog: info.eog_ids,
            prompt: prompt.ids,
            resume: std::mem::take(&mut self.resume),
            sampling: self.sampling.clone(),
            max_out: self.sampling.max_out,
            chosen,
            late,
            local,
            chat: (!self.chat.temporary).then(|| self.chat.id.to_bytes()),
        })
    }

    /// Puts the peers that were found in the order in which they are asked.
    async fn choose(
        &self,
        found: target::Found,
        wanted: Option<PeerId>,
        prompt: &Prompt,
    ) -> Result<(Chosen, Option<Late>), NodeError> {
        let inner = &self.slot.inner;
        let input: Vec<u32> = prompt.ids.iter().chain(&self.resume).copied().collect();
        let want = choose::want(
            &inner.settings.borrow(),
            (&found.used.id, found.model.digest),
            (input.len(), self.sampling.max_out),
            self.last,
            self.chat.temporary,
        );
        let question = Question {
            want: want.clone(),
            chosen: wanted,
            input: &input,
        };
        let chosen = inner
            .choose(&self.session, &found.offers, question, &found.name)
            .await;
        let chosen = match chosen {
            // Where nobody may be asked, this computer goes on if it can.
            Err(NodeError::NobodyFits { .. }) if found.local.is_some() => Chosen::default(),
            chosen => chosen?,
        };
        let late = Late {
            want,
            more: found.more,
        };
        Ok((chosen, Some(late)))
    }

    /// Who gave the answer above this message, where it went well: that peer may still hold what it read.
    async fn last_peer(&self, parent: Option<MessageId>) -> Option<(PeerId, u32)> {
        let branch = self.chat.memory.branch(parent?).await.ok()?;
        let mut answers = branch.iter().rev();
        let answer = answers.find(|message| message.role == memory::Role::Assistant)?;
        let went_well = match answer.state {
            memory::MessageState::Complete
            | memory::MessageState::Length
            | memory::MessageState::Stopped => true,
            memory::MessageState::Streaming
            | memory::MessageState::Interrupted
            | memory::MessageState::Failed => false,
        };
        let peer = answer.spans.last()?.peer.as_ref()?.parse().ok()?;
        let read = answer.stats.prompt_tokens.unwrap_or(0);
        let wrote = answer.stats.output_tokens.unwrap_or(0);
        went_well.then_some((peer, read.saturating_add(wrote)))
    }

    async fn render(
        &self,
        file: &Path,
        model: Option<&Model>,
        name: &str,
        limit: u32,
    ) -> Result<Prompt, NodeError> {
        let system = prompt::system(self.system.as_deref(), model);
        let room = Room {
            limit,
            resume: u32::try_from(self.resume.len()).unwrap_or(u32::MAX),
            max_out: self.sampling.max_out,
            on_full: self.on_full,
        };
        prompt::build(
            &self.slot.inner.engine,
            file,
            system,
            &self.turns,
            room,
            name,
        )
        .await
    }

    /// Stores how it ended, frees the chat, and says so.
    async fn finish(self, end: End, mut output: Output, mut events: Events) {
        let Self {
            slot, chat, target, ..
        } = self;
        let inner = Arc::clone(&slot.inner);
        output.flush(&mut events).await;
        let (stored, unsaved) = output.finish(end).await;
        if let Some((message, outcome)) = unsaved {
            inner.tasks.spawn(save_later(
                Arc::clone(&inner),
                chat.memory.clone(),
                message,
                outcome,
            ));
        }
        let used = stored
            .stats
            .prompt_tokens
            .unwrap_or(0)
            .saturating_add(stored.stats.output_tokens.unwrap_or(0));
        let limit = target
            .model()
            .map_or(output.context_limit, |model| inner.context_limit(model));
        let message = inner.message_view(&chat, stored).await;
        // The chat is free before its end is told: whoever hears of it may send at once.
        drop(slot);
        inner.chats_changed();
        events.push(AnswerEvent::Finished {
            message,
            context_used: used,
            context_limit: limit,
        });
        tokio::select! {
            () = events.drain() => {}
            () = inner.stop.cancelled() => events.drain_now(),
        }
    }
}

/// The end of an answer that the disk did not take is tried again until it does, or the node stops: then the next start
/// finds the answer with all the text that was saved, and marks it as interrupted.
async fn save_later(
    inner: Arc<Inner>,
    memory: memory::Memory,
    message: MessageId,
    outcome: memory::Outcome,
) {
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = tokio::time::sleep(FINISH_RETRY) => {}
        }
        match memory.finish(message, outcome.clone()).await {
            Ok(_) => return inner.chats_changed(),
            Err(
                memory::MemoryError::Finished(_)
                | memory::MemoryError::NoMessage(_)
                | memory::MemoryError::Closed,
            ) => return,
            Err(error) => tracing::debug!(%error, "an answer's end is not stored yet"),
        }
    }
}

/// A model as it is stored with an answer.
pub(crate) fn model_used(model: &Model) -> ModelUsed {
    ModelUsed {
        id: model.id.clone(),
        name: model.name.clone(),
        digest: model
            .reference
            .map(|reference| reference.digest.to_string()),
    }
}
