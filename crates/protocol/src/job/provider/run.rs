//! A job that is being computed: what was sent and signed for, what waits to be sent, and when something is due.

use bytes::Bytes;

use super::{Action, Config, Served, StartJob, charge::Charge, judge::Taken};
use crate::{
    ChainHash, Clock, JobId, PeerId, chain,
    frame::{
        Accept, Done, Frame, MAX_IDS_PER_FRAME, MAX_LOGPROB_IDS_PER_FRAME, Phase, Progress,
        TokenLogprobs, Tokens,
    },
    job::{Finish, HEARTBEAT_BEFORE_MS, HEARTBEAT_DECODE_MS},
    price::{self, Terms, Totals},
    receipt::{
        Checkpoint, Receipt, SAMPLER, SEED_FROM_JOB, SignedReceipt, prompt_hash, seed_of, work_of,
    },
    voucher::payee::{PREFILL_CHUNK, PREFILL_STEP},
};

/// Tokens wait this long for company before they are sent: below what a reader notices.
pub const FLUSH_MS: u64 = 40;
/// And are sent at once when this many are together.
pub const FLUSH_TOKENS: usize = 16;
/// A checkpoint covers at most this many tokens more than the last one.
pub const CHECKPOINT_TOKENS: u32 = 64;
/// And comes at most this long after tokens that none covers.
pub const CHECKPOINT_MS: u64 = 2_000;
/// A change of progress within a phase is not sent more often than this.
const PROGRESS_MS: u64 = 200;

/// One job between `Accept` and `Done`.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) job: JobId,
    pub(super) client: PeerId,
    served: Served,
    terms: Terms,
    pub(super) max_out: u32,
    pub(super) n_in: u32,
    first_index: u32,
    /// What the engine is to compute, until it was told.
    start: Option<Box<StartJob>>,
    /// How it is paid, where it costs something.
    pub(super) charge: Option<Box<Charge>>,
    prompt_hash: [u8; 32],
    /// The chain over the tokens that were sent.
    h: ChainHash,
    /// All tokens computed, so that those that a cut swallowed can be sent again.
    ids: Vec<u32>,
    /// One per token where they are asked for, otherwise none.
    logprobs: Vec<TokenLogprobs>,
    asked_logprobs: Option<u32>,
    /// How many of them were sent at least once.
    sent: u32,
    /// When the oldest one that was not must go.
    flush_at: Option<u64>,
    /// Input tokens that were computed or found in the cache, and how many of them the client was told of.
    pub(super) read: u32,
    told_read: u32,
    /// Tokens that the last checkpoint covers, and when it was.
    covered: u32,
    covered_ms: u64,
    /// When any frame was sent last, and what the last heartbeat said.
    spoke_ms: u64,
    phase: Phase,
    in_front: u32,
    done: u64,
    total: u64,
    began: Clock,
    deadline_ms: u64,
    first_token_ms: Option<u64>,
    /// Set when the engine is through; the end waits until all is sent.
    pub(super) over: Option<Finish>,
    /// Why the engine cannot go on, until the client may be told.
    pub(super) failed: Option<String>,
}

/// What the engine said and cannot be passed on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EngineFault {
    #[error("the engine gave index {got} instead of {expected}")]
    WrongIndex { expected: u32, got: u32 },
    #[error("the engine gave token {id}, which is outside the vocabulary")]
    OutsideVocabulary { id: u32 },
    #[error("the engine gave {got} log-probabilities for {expected} tokens")]
    WrongLogprobs { expected: usize, got: usize },
}

impl Run {
    /// A job that may be begun.
    pub(super) fn begin(taken: Taken, charge: Option<Box<Charge>>, now: Clock) -> Self {
        let (n_in, first_index) = (
            (taken.prompt.len() + taken.resume.len()) as u32,
            taken.resume.len() as u32,
        );
        let prompt_hash = prompt_hash(&taken.nonce, &taken.prompt, &taken.resume);
        let start = StartJob {
            job: taken.job,
            model: taken.served.model,
            prompt: taken.prompt,
            resume: taken.resume,
            sampling: taken.sampling,
            seed: seed_of(&taken.job),
            max_out: taken.max_out,
            stop: taken.stop,
            ignore_eog: taken.ignore_eog,
            grammar: taken.grammar,
            logprobs: taken.logprobs,
        };
        Self {
            job: taken.job,
            client: taken.client,
            max_out: taken.max_out,
            n_in,
            first_index,
            start: Some(Box::new(start)),
            charge,
            prompt_hash,
            h: chain::start(&taken.job),
            sent: 0,
            ids: Vec::new(),
            logprobs: Vec::new(),
            asked_logprobs: taken.logprobs,
            flush_at: None,
            read: 0,
            told_read: 0,
            covered: 0,
            covered_ms: now.mono_ms,
            spoke_ms: now.mono_ms,
            phase: Phase::Queued,
            in_front: 0,
            done: 0,
            total: 0,
            began: now,
            deadline_ms: taken.deadline_ms,
            first_token_ms: None,
            over: None,
            failed: None,
            served: taken.served,
            terms: taken.terms,
        }
    }

    /// It is accepted now: from here its times count.
    pub(super) fn accepted(&mut self, now: Clock) {
        self.began = now;
        (self.covered_ms, self.spoke_ms) = (now.mono_ms, now.mono_ms);
    }

    /// Tells the engine to begin.
    pub(super) fn start(&mut self) -> Option<Action> {
        self.start.take().map(Action::Start)
    }

    pub(super) fn is_started(&self) -> bool {
        self.start.is_none()
    }

    /// Tells the engine to stop for good, if it computes.
    pub(super) fn cancel_engine(&self, out: &mut Vec<Action>) {
        if self.over.is_none() && self.is_started() {
            out.push(Action::CancelEngine);
        }
    }

    /// What the client is told when the job begins, and again when it takes the job up.
    pub(super) fn accept(&self, config: &Config) -> Accept {
        Accept {
            n_in: self.n_in,
            heartbeat_ms: HEARTBEAT_BEFORE_MS as u32,
            resume_grace_s: (config.grace_ms() / 1000) as u32,
            stream_window: self.charge.as_ref().map_or(0, |charge| charge.window()),
            chunk_tokens: self.charge.as_ref().map_or(0, |_| PREFILL_CHUNK),
            last_voucher_held: self
                .charge
                .as_ref()
                .map_or_else(Bytes::new, |charge| charge.last_held.clone()),
            max_out: self.max_out,
            paid: match self.charge.as_ref().map_or(0, |charge| charge.paid()) {
                0 => Bytes::new(),
                paid => Bytes::copy_from_slice(&price::to_bytes(paid)),
            },
        }
    }

    /// Output tokens computed.
    pub(super) fn written(&self) -> u32 {
        self.ids.len() as u32
    }

    pub(super) fn tokens_waiting(&self) -> usize {
        self.ids.len() - self.sent as usize
    }

    /// Output tokens that may have been sent by now: what an engine computed before it heard that it should stand still is kept
    /// until it is paid for.
    pub(super) fn sendable(&self) -> u32 {
        let limit = self.charge.as_ref().map_or(u32::MAX, |charge| {
            charge.output_limit(self.n_in, self.max_out)
        });
        limit.clamp(self.sent, self.written().max(self.sent))
    }

    fn ready(&self) -> usize {
        (self.sendable() - self.sent) as usize
    }

    /// Whether anything came of it that a receipt should tell of.
    pub(super) fn is_worth_a_receipt(&self) -> bool {
        self.sent > 0 || self.charge.as_ref().is_some_and(|charge| charge.paid() > 0)
    }

    /// Indices at which a client that lost its stream may go on: from the job's first to the next that it was not sent.
    pub(super) fn resumable(&self) -> std::ops::RangeInclusive<u32> {
        self.first_index..=self.first_index + self.sent
    }

    /// Takes note of the jobs in front of this one. True when it is worth a frame at once.
    pub(super) fn queued(&mut self, in_front: u32, now: Clock) -> bool {
        self.in_front = in_front;
        self.progress(Phase::Queued, 0, 0, now)
    }

    /// Takes the engine's word on where it is. True when it is worth a frame at once.
    pub(super) fn progress(&mut self, phase: Phase, done: u64, total: u64, now: Clock) -> bool {
        let changed = self.phase != phase;
        (self.phase, self.done, self.total) = (phase, done, total);
        if phase == Phase::Prefill {
            self.read = self
                .read
                .max(u32::try_from(done).unwrap_or(u32::MAX).min(self.n_in));
        }
        // A client pays for the next part of its prompt when it knows of the last.
        let must_tell = self.charge.is_some() && self.read >= self.told_read + PREFILL_STEP;
        changed || must_tell || now.mono_ms >= self.spoke_ms.saturating_add(PROGRESS_MS)
    }

    /// Takes tokens from the engine. Returns true when it gave more than it was asked for: the rest is dropped.
    pub(super) fn computed(
        &mut self,
        first_index: u32,
        ids: &[u32],
        logprobs: Vec<TokenLogprobs>,
        now: Clock,
    ) -> Result<bool, EngineFault> {
        let have = self.ids.len() as u32;
        let expected = self.first_index + have;
        if first_index != expected {
            return Err(EngineFault::WrongIndex {
                expected,
                got: first_index,
            });
        }
        if let Some(&id) = ids.iter().find(|&&id| id >= self.served.vocab_size) {
            return Err(EngineFault::OutsideVocabulary { id });
        }
        if self.asked_logprobs.is_some() && logprobs.len() != ids.len() {
            return Err(EngineFault::WrongLogprobs {
                expected: ids.len(),
                got: logprobs.len(),
            });
        }
        let room = (self.max_out - have) as usize;
        self.ids.extend(ids.iter().take(room));
        if let Some(k) = self.asked_logprobs {
            let k = k as usize;
            self.logprobs
                .extend(logprobs.into_iter().take(room).map(|mut token| {
                    token.top_ids.truncate(k);
                    token.top_logprobs.truncate(k);
                    token
                }));
        }
        if self.tokens_waiting() > 0 {
            self.read = self.n_in;
            self.phase = Phase::Decode;
            self.flush_at.get_or_insert(now.mono_ms + FLUSH_MS);
        }
        Ok(ids.len() > room)
    }

    /// True when waiting tokens are to be sent now.
    pub(super) fn must_flush(&self, now: Clock) -> bool {
        self.ready() > 0
            && (self.sent == 0
                || self.ready() >= FLUSH_TOKENS
                || self.over.is_some()
                || self.flush_at.is_some_and(|at| now.mono_ms >= at))
    }

    /// Sends all waiting tokens that may be sent, and puts them into the chain.
    pub(super) fn flush(&mut self, now: Clock, out: &mut Vec<Action>) {
        let (from, upto) = (self.sent, self.sendable());
        if upto == from {
            return;
        }
        self.h = chain::extend(&self.h, &self.ids[from as usize..upto as usize]);
        self.sent = upto;
        self.flush_at = (self.tokens_waiting() > 0).then_some(now.mono_ms);
        self.first_token_ms
            .get_or_insert(now.mono_ms.saturating_sub(self.began.mono_ms));
        self.send_from(from, now, out);
    }

    /// Sends what was sent already, from this index of the message's output on, for a client that may have missed it.
    pub(super) fn send_again(&mut self, from_index: u32, now: Clock, out: &mut Vec<Action>) {
        self.send_from(from_index.saturating_sub(self.first_index), now, out);
    }

    /// Sends the job's tokens from number `from` up to the last one that counts as sent.
    fn send_from(&mut self, from: u32, now: Clock, out: &mut Vec<Action>) {
        let most = if self.asked_logprobs.is_some() {
            MAX_LOGPROB_IDS_PER_FRAME
        } else {
            MAX_IDS_PER_FRAME
        };
        let mut at = from as usize;
        while at < self.sent as usize {
            let end = (at + most).min(self.sent as usize);
            let logprobs = self.logprobs.get(at..end).unwrap_or_default().to_vec();
            let first_index = self.first_index + at as u32;
            let tokens = Tokens::padded_with(first_index, &self.ids[at..end], logprobs);
            self.say(Frame::Tokens(tokens), now, out);
            at = end;
        }
    }

    /// Drops what was computed and not sent: nobody is owed anything for it.
    pub(super) fn forget_waiting(&mut self) {
        self.ids.truncate(self.sent as usize);
        self.logprobs.truncate(self.sent as usize);
        self.flush_at = None;
    }

    pub(super) fn must_checkpoint(&self, now: Clock) -> bool {
        self.sent - self.covered >= CHECKPOINT_TOKENS
            || (self.sent > self.covered
                && now.mono_ms >= self.covered_ms.saturating_add(CHECKPOINT_MS))
    }

    /// Signs for all that was sent, unless a checkpoint does already.
    pub(super) fn checkpoint(&mut self, config: &Config, now: Clock, out: &mut Vec<Action>) {
        if self.sent == self.covered {
            return;
        }
        self.covered = self.sent;
        self.covered_ms = now.mono_ms;
        let checkpoint = Checkpoint {
            job: self.job,
            totals: self.totals(),
            h: self.h,
            due: self.due(),
        };
        let signed = checkpoint.sign(&config.signer);
        if let Some(charge) = &mut self.charge {
            charge.may_be_paid(work_of(&signed));
        }
        self.say(Frame::Checkpoint(signed), now, out);
    }

    /// Says where the job is, or as what it stands still.
    pub(super) fn heartbeat(
        &mut self,
        standstill: Option<Phase>,
        now: Clock,
        out: &mut Vec<Action>,
    ) {
        let (done, total) = match self.phase {
            Phase::Decode => (u64::from(self.sent), u64::from(self.max_out)),
            Phase::Queued | Phase::Loading | Phase::Prefill | Phase::Paused | Phase::Unpaid => {
                (self.done, self.total)
            }
        };
        self.told_read = self.read;
        let phase = standstill.unwrap_or(self.phase);
        let progress = Progress {
            phase: phase.into(),
            done,
            total,
            queue_pos: if phase == Phase::Queued {
                self.in_front
            } else {
                0
            },
        };
        self.say(Frame::Progress(progress), now, out);
    }

    pub(super) fn say(&mut self, frame: Frame, now: Clock, out: &mut Vec<Action>) {
        self.spoke_ms = now.mono_ms;
        out.push(Action::Send(frame));
    }

    pub(super) fn must_speak(&self, now: Clock) -> bool {
        now.mono_ms >= self.heartbeat_at()
    }

    fn heartbeat_at(&self) -> u64 {
        let every = if self.sent == 0 {
            HEARTBEAT_BEFORE_MS
        } else {
            HEARTBEAT_DECODE_MS
        };
        self.spoke_ms.saturating_add(every)
    }

    pub(super) fn too_long_at(&self) -> u64 {
        self.began.mono_ms.saturating_add(self.deadline_ms)
    }

    /// When something is to be sent next, if the client reads.
    pub(super) fn next_send_at(&self) -> u64 {
        let checkpoint =
            (self.sent > self.covered).then(|| self.covered_ms.saturating_add(CHECKPOINT_MS));
        let flush = self.flush_at.filter(|_| self.ready() > 0);
        [flush, checkpoint]
            .into_iter()
            .flatten()
            .fold(self.heartbeat_at(), u64::min)
    }

    /// Signs for the whole job. Without output the input counts as far as it was read.
    pub(super) fn receipt(&self, config: &Config, finish: Finish, now: Clock) -> SignedReceipt {
        Receipt {
            job: self.job,
            provider: config.signer.peer_id(),
            client: self.client,
            model: self.served.model,
            template: self.served.template,
            prompt_hash: self.prompt_hash,
            totals: self.totals(),
            first_index: self.first_index,
            h: self.h,
            due: self.due(),
            finish,
            engine_build: config.engine_build.clone(),
            numerics_class: config.numerics_class.clone(),
            kv_type: config.kv_type.clone(),
            sampler: SAMPLER.to_owned(),
            seed_source: SEED_FROM_JOB.to_owned(),
            seed: seed_of(&self.job),
            accepted_unix_ms: self.began.unix_ms,
            first_token_ms: self.first_token_ms.unwrap_or(0),
            total_ms: now.mono_ms.saturating_sub(self.began.mono_ms),
        }
        .sign(&config.signer)
    }

    /// The finish as it may be claimed: a length that is not the promised one is a job broken off.
    pub(super) fn honest(&self, finish: Finish) -> Finish {
        match finish {
            Finish::Length if self.sent < self.max_out => Finish::Abort,
            Finish::Stop | Finish::StopString if self.sent == 0 => Finish::Abort,
            Finish::Stop | Finish::Length | Finish::StopString | Finish::Abort => finish,
        }
    }

    pub(super) fn done(&mut self, receipt: &SignedReceipt, now: Clock, out: &mut Vec<Action>) {
        if let Some(charge) = &mut self.charge {
            charge.may_be_paid(work_of(&receipt.to_signed()));
        }
        self.say(
            Frame::Done(Done {
                receipt: Some(receipt.to_signed()),
            }),
            now,
            out,
        );
    }

    pub(super) fn totals(&self) -> Totals {
        self.terms.totals(self.read, self.sent)
    }

    /// What was computed comes to so much; 0 where nothing is paid for.
    pub(super) fn used(&self) -> u128 {
        match &self.charge {
            Some(_) => self.terms.due(self.read, self.written()),
            None => 0,
        }
    }

    /// Prices are bounded by their 16 bytes and tokens by the context, so a sum past 128 bits is a price nobody can
    /// pay: it is then stated as the largest there is, which no client signs.
    fn due(&self) -> u128 {
        self.terms.due(self.read, self.sent)
    }
}
