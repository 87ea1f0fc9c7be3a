//! What an answer leaves behind: its text in the memory and on the screen, its spans, its numbers, its end.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use engine::{EngineError, EngineHandle, TextStream};
use memory::{Memory, MessageId, ModelUsed, Outcome, Span, Stats};
use protocol::{
    PeerId,
    job::client::{AttemptId, Place},
};

use tokio_util::task::TaskTracker;

use super::{
    events::Events,
    keeping::Keeping,
    prompt::Prompt,
    reasoning::{self, Part, Splitter},
};
use crate::{
    chat::{AnswerEvent, MoveReason},
    error::{ErrorView, NodeError},
};

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It is whole.
    Complete,
    /// The limit was reached.
    Length,
    /// The person stopped it.
    Stopped,
    /// It broke off; nothing to say when the program itself ended it.
    Interrupted(Option<ErrorView>),
    /// Nothing came.
    Failed(ErrorView),
}

/// The text of one answer as it grows.
#[derive(Debug)]
pub(crate) struct Output {
    memory: Memory,
    answer: memory::Message,
    sent: Instant,
    text: Option<TextStream>,
    splitter: Splitter,
    content: String,
    tokens: u32,
    /// Tokens that the answer had before this went on with it.
    resumed: u32,
    prompt_tokens: Option<u32>,
    first: Option<Instant>,
    last: Instant,
    thinking: Option<Instant>,
    thought: Option<Duration>,
    /// Where each part was computed; the parts of an answer that is gone on with have no attempt here.
    spans: Vec<(Option<AttemptId>, Span)>,
    receipts: BTreeMap<AttemptId, String>,
    /// Base units paid for each attempt's job.
    paid: BTreeMap<AttemptId, u128>,
    /// The attempt that went on with the job of another.
    taken_up: BTreeMap<AttemptId, AttemptId>,
    model: Option<ModelUsed>,
    /// Writes down what comes, until the end.
    keeping: Option<Keeping>,
    /// The context of the model that answers, where it is a peer's.
    pub(crate) context_limit: u32,
}

impl Output {
    /// `resumed` tokens stand in the answer already. `writers` counts the task that writes it down.
    pub(crate) fn new(
        memory: Memory,
        answer: memory::Message,
        resumed: usize,
        sent: Instant,
        writers: &TaskTracker,
    ) -> Self {
        let resumed = u32::try_from(resumed).unwrap_or(u32::MAX);
        let keeping = Keeping::start(memory.clone(), answer.id, writers);
        Self {
            memory,
            sent,
            text: None,
            splitter: Splitter::new(false),
            content: answer.content.clone(),
            tokens: resumed,
            resumed,
            prompt_tokens: None,
            first: None,
            last: sent,
            thinking: None,
            thought: None,
            spans: answer
                .spans
                .iter()
                .map(|span| (None, span.clone()))
                .collect(),
            receipts: BTreeMap::new(),
            paid: BTreeMap::new(),
            taken_up: BTreeMap::new(),
            model: None,
            keeping: Some(keeping),
            context_limit: 0,
            answer,
        }
    }

    /// The model became known only now.
    pub(crate) fn set_model(&mut self, model: ModelUsed) {
        self.model = Some(model);
    }

    /// Gets ready to turn ids into text, behind those that the answer has already.
    pub(crate) async fn open(
        &mut self,
        engine: &EngineHandle,
        file: &Path,
        prompt: &Prompt,
        resume: &[u32],
    ) -> Result<(), NodeError> {
        self.prompt_tokens = u32::try_from(prompt.ids.len()).ok();
        let text = self
            .text
            .insert(engine.text_stream(file, Vec::new()).await?);
        if !resume.is_empty() {
            // Their text is shown and stored; both readers only have to stand behind it.
            text.push(resume).await?;
            self.splitter.push(&self.content);
            return Ok(());
        }
        self.splitter = Splitter::new(prompt.inside_reasoning);
        if prompt.inside_reasoning {
            // The template wrote the mark, so the output lacks it: it is stored so that the text can be split again.
            self.keep(reasoning::opening(), &[]).await;
        }
        Ok(())
    }

    /// Whether the last tokens came from this attempt.
    pub(crate) fn is_writer(&self, attempt: AttemptId) -> bool {
        let last = self.spans.last();
        last.is_some_and(|(last, _)| *last == Some(attempt))
    }

    /// The peer that wrote last, if it was one.
    pub(crate) fn last_writer(&self) -> Option<PeerId> {
        let (_, span) = self.spans.last()?;
        span.peer.as_ref()?.parse().ok()
    }

    /// Whether a part of it is reasoning.
    pub(crate) fn has_thought(&self) -> bool {
        self.thinking.is_some() || self.thought.is_some()
    }

    /// Notes where the tokens from `first_index` on come from, and why no longer from where they came before. Whether
    /// that is another place than before.
    pub(crate) async fn place(
        &mut self,
        attempt: AttemptId,
        place: Place,
        (first_index, why): (u32, Option<MoveReason>),
        events: &mut Events,
    ) -> bool {
        let peer = match place {
            Place::Local => None,
            Place::Peer(peer) => Some(peer.to_string()),
        };
        let same = self.spans.last().is_some_and(|(last, span)| {
            // This computer signs nothing, so that its parts need not be told apart.
            *last == Some(attempt) || (peer.is_none() && span.peer.is_none())
        });
        if same {
            return false;
        }
        let span = Span {
            from_index: first_index,
            peer: peer.clone(),
            receipt: self.receipts.get(&attempt).cloned(),
            why: why.map(|why| why.as_str().to_owned()),
            paid: self.paid.get(&attempt).map(u128::to_string),
            // The receipt says it.
            cached: None,
        };
        self.spans.push((Some(attempt), span));
        self.keep_spans().await;
        events.push(AnswerEvent::Placed {
            peer,
            index: first_index,
            why,
        });
        true
    }

    /// New tokens, in order.
    pub(crate) async fn tokens(
        &mut self,
        ids: &[u32],
        events: &mut Events,
    ) -> Result<(), EngineError> {
        let now = Instant::now();
        if self.first.is_none() {
            self.first = Some(now);
            self.thinking = self.splitter.is_inside().then_some(now);
        }
        self.last = now;
        self.tokens = self
            .tokens
            .saturating_add(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        let Some(text) = &mut self.text else {
            return Ok(());
        };
        let piece = text.push(ids).await?;
        self.write(&piece.text, ids, events).await;
        Ok(())
    }

    /// What comes from this attempt belongs to the span of an earlier one, whose stream was cut.
    pub(crate) fn resumed(&mut self, attempt: AttemptId, before: AttemptId) {
        for (of, _) in &mut self.spans {
            if *of == Some(before) {
                *of = Some(attempt);
            }
        }
        if let Some(paid) = self.paid.remove(&before) {
            self.paid.insert(attempt, paid);
        }
        self.taken_up.insert(before, attempt);
    }

    /// So much more was promised for an attempt's job.
    pub(crate) fn paid(&mut self, mut attempt: AttemptId, add: u128) {
        while let Some(later) = self.taken_up.get(&attempt) {
            attempt = *later;
        }
        if add == 0 {
            return;
        }
        let paid = self.paid.entry(attempt).or_default();
        *paid = paid.saturating_add(add);
        let paid = paid.to_string();
        for (of, span) in &mut self.spans {
            if *of == Some(attempt) {
                span.paid = Some(paid.clone());
            }
        }
    }

    /// A peer signed for its span, and for so many tokens of the prompt as cached.
    pub(crate) async fn receipt(&mut self, attempt: AttemptId, job: String, cached: u64) {
        for (of, span) in &mut self.spans {
            if *of == Some(attempt) {
                span.receipt = Some(job.clone());
                span.cached = (cached > 0).then_some(cached);
            }
        }
        self.receipts.insert(attempt, job);
        self.keep_spans().await;
    }

    /// Writes what was held back: the beginning of a mark. Half a character is left out: where the answer is gone on with,
    /// its other half comes.
    pub(crate) async fn flush(&mut self, events: &mut Events) {
        if let Some(text) = self.text.take() {
            match text.finish().await {
                Ok(piece) => {
                    let whole = piece.text.trim_end_matches(char::REPLACEMENT_CHARACTER);
                    self.write(whole, &[], events).await;
                }
                Err(error) => tracing::debug!(%error, "the last piece of text was not given"),
            }
        }
        let rest = self.splitter.finish();
        self.show(rest, events);
    }

    /// Stores the end. Where the disk does not take it, gives the message as it is, and what has to be stored later.
    pub(crate) async fn finish(
        &mut self,
        end: End,
    ) -> (memory::Message, Option<(MessageId, Outcome)>) {
        let lost = match self.keeping.take() {
            Some(keeping) => keeping.end().await,
            None => None,
        };
        let (state, error) = match end {
            End::Complete => (memory::MessageState::Complete, None),
            End::Length => (memory::MessageState::Length, None),
            End::Stopped => (memory::MessageState::Stopped, None),
            End::Interrupted(error) => (memory::MessageState::Interrupted, error),
            End::Failed(error) => (memory::MessageState::Failed, Some(error)),
        };
        let outcome = Outcome {
            state,
            spans: Some(self.spans()),
            model: self.model.clone(),
            stats: self.stats(),
            error: error.or(lost).map(memory::StoredError::from),
        };
        match self.memory.finish(self.answer.id, outcome.clone()).await {
            Ok(stored) => (stored, None),
            Err(problem) => {
                let problem = NodeError::from(problem).view();
                let error = outcome.error.clone().unwrap_or_else(|| problem.into());
                let message = memory::Message {
                    content: self.content.clone(),
                    state: outcome.state,
                    model: outcome.model.clone().or_else(|| self.answer.model.clone()),
                    spans: self.spans(),
                    stats: outcome.stats,
                    error: Some(error),
                    ..self.answer.clone()
                };
                (message, Some((self.answer.id, outcome)))
            }
        }
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.iter().map(|(_, span)| span.clone()).collect()
    }

    fn stats(&self) -> Stats {
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let stepped = f64::from((self.tokens - self.resumed).saturating_sub(1));
        let took = self
            .first
            .map(|first| (self.last - first).as_secs_f64())
            .filter(|took| *took > 0.0);
        Stats {
            prompt_tokens: self.prompt_tokens,
            output_tokens: Some(self.tokens),
            first_token_ms: self.first.map(|first| millis(first - self.sent)),
            tokens_per_second: took.filter(|_| stepped > 0.0).map(|took| stepped / took),
            reasoning_ms: self
                .thought
                .or_else(|| self.thinking.map(|since| self.last - since))
                .map(millis)
                .or(self.answer.stats.reasoning_ms),
        }
    }

    async fn write(&mut self, text: &str, ids: &[u32], events: &mut Events) {
        if text.is_empty() && ids.is_empty() {
            return;
        }
        self.keep(text, ids).await;
        let before = self.splitter.is_inside();
        let parts = self.splitter.push(text);
        match (before, self.splitter.is_inside()) {
            (false, true) => self.thinking = Some(self.first.unwrap_or(self.last)),
            (true, false) => self.thought = self.thinking.take().map(|since| self.last - since),
            (true, true) | (false, false) => {}
        }
        self.show(parts, events);
    }

    fn show(&self, parts: Vec<Part>, events: &mut Events) {
        for Part { text, reasoning } in parts {
            events.push(AnswerEvent::Text {
                append: text,
                reasoning,
                tokens: self.tokens,
            });
        }
    }

    async fn keep(&mut self, text: &str, ids: &[u32]) {
        self.content.push_str(text);
        if let Some(keeping) = &self.keeping {
            keeping.text(text, ids).await;
        }
    }

    async fn keep_spans(&self) {
        if let Some(keeping) = &self.keeping {
            keeping.spans(self.spans()).await;
        }
    }
}
