//! One provider's span of an answer: what it promised, what came, and whether what it signs agrees. Every check
//! compares with what this side computed itself.

use super::{Candidate, Lie, MAX_CUTS, Request, bill::Bill};
use crate::{
    ChainHash, Clock, JobId, PeerId, chain,
    frame::{Accept, Done, Phase, Progress, Signed, TokenLogprobs, Tokens},
    job::{Finish, RESUME_GRACE_MS},
    price::{self, Totals},
    receipt::{
        Checkpoint, Receipt, ReceiptError, SAMPLER, SEED_FROM_JOB, SignedReceipt, prompt_hash,
        seed_of,
    },
};

/// A provider that writes is silent when nothing came for this long, however even its pace was: it beats every half second
/// when it has no token, and a stall of the network that swallows two beats is not yet the end of it.
pub const MIN_SILENCE_MS: u64 = 1_200;
/// And no more than this, however slow: three beats in a row are missing then. A dropped provider costs its user three seconds at
/// most, and with the longest round trip there are 700 ms left for reaching the next one.
pub const MAX_WRITING_SILENCE_MS: u64 = 1_800;
/// Before the first token, when it beats once a second, a provider is silent when nothing came for this long.
pub const MAX_SILENCE_MS: u64 = 2_500;
/// Silence is the usual gap between two frames and so many times its usual deviation, as a lost packet is told from a late
/// one (RFC 6298).
const SILENT_DEVIATIONS: u64 = 4;
/// The first guess of that gap: a heartbeat before the first token.
const FIRST_GAP_MS: u64 = super::super::HEARTBEAT_BEFORE_MS;
/// Progress within a phase is passed on this often: a screen shows no more, whatever a provider floods.
const TELL_MS: u64 = 100;
/// The longest round trip that is believed, so that one that was measured in a busy moment cannot stretch the silence: around
/// the world and through a relay.
pub const MAX_RTT_MS: u64 = 500;

/// An accepted job.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) job: JobId,
    candidate: Candidate,
    /// Index of the job's first output token.
    pub(super) base: u32,
    n_in: u32,
    max_out: u32,
    prompt_hash: [u8; 32],
    h: ChainHash,
    /// Tokens that came, the held one included.
    pub(super) count: u32,
    /// The end token, until the receipt is here.
    held: New,
    pub(super) checkpoint: Option<Signed>,
    covered: u64,
    rtt_ms: u64,
    /// How long the provider keeps the job without a stream.
    grace_ms: u64,
    /// How often it was taken up since the last token.
    fruitless: u32,
    accepted_ms: u64,
    heard_ms: u64,
    /// Smoothed time between two frames, and how far it strays.
    gap_ms: u64,
    deviation_ms: u64,
    phase: Phase,
    /// Done, total, and jobs in front.
    at: (u64, u64, u32),
    /// When something last changed, not merely beat.
    moved_ms: u64,
    /// When progress was last passed on.
    told_ms: u64,
    paused_ms: Option<u64>,
    /// What is paid for it, where it costs something.
    pub(super) bill: Option<Box<Bill>>,
    /// All is here, and what is left to be paid is being signed, until then at most.
    pub(super) settling: Option<(Box<Finished>, u64)>,
}

/// What a finished job comes to.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) receipt: SignedReceipt,
    /// The end token, which now counts.
    pub(super) held: New,
}

/// Tokens that are new, and their log-probabilities: one per token where they are asked for, otherwise none.
#[derive(Clone, Debug, Default)]
pub(super) struct New {
    pub(super) ids: Vec<u32>,
    pub(super) logprobs: Vec<TokenLogprobs>,
}

impl Span {
    /// Takes a provider's `Accept` of a job that asked for `asked` tokens behind `output`.
    pub(super) fn accepted(
        accept: &Accept,
        job: JobId,
        candidate: &Candidate,
        (request, output, nonce): (&Request, &[u32], &[u8; 32]),
        asked: u32,
        rtt_ms: u64,
        now: Clock,
    ) -> Result<Self, Lie> {
        let n_in = (request.prompt.len() + output.len()) as u32;
        if accept.n_in != n_in {
            return Err(Lie::WrongInput {
                expected: n_in,
                got: accept.n_in,
            });
        }
        if accept.max_out == 0 || accept.max_out > asked {
            return Err(Lie::TooManyTokens { max_out: asked });
        }
        Ok(Self {
            job,
            candidate: candidate.clone(),
            base: output.len() as u32,
            n_in,
            max_out: accept.max_out,
            prompt_hash: prompt_hash(nonce, &request.prompt, output),
            h: chain::start(&job),
            count: 0,
            held: New::default(),
            checkpoint: None,
            covered: 0,
            rtt_ms: rtt_ms.min(MAX_RTT_MS),
            grace_ms: RESUME_GRACE_MS.min(u64::from(accept.resume_grace_s) * 1000),
            fruitless: 0,
            accepted_ms: now.mono_ms,
            heard_ms: now.mono_ms,
            gap_ms: FIRST_GAP_MS,
            deviation_ms: FIRST_GAP_MS / 2,
            phase: Phase::Queued,
            at: (0, 0, 0),
            moved_ms: now.mono_ms,
            told_ms: 0,
            paused_ms: None,
            bill: None,
            settling: None,
        })
    }

    /// Takes a provider's `Accept` of the same job on a new stream: it promises what it promised before.
    pub(super) fn resumed(&mut self, accept: &Accept, rtt_ms: u64, now: Clock) -> Result<(), Lie> {
        if accept.n_in != self.n_in {
            return Err(Lie::WrongInput {
                expected: self.n_in,
                got: accept.n_in,
            });
        }
        if accept.max_out != self.max_out {
            return Err(Lie::TooManyTokens {
                max_out: self.max_out,
            });
        }
        self.rtt_ms = rtt_ms.min(MAX_RTT_MS);
        self.fruitless += 1;
        (self.heard_ms, self.moved_ms, self.paused_ms) = (now.mono_ms, now.mono_ms, None);
        Ok(())
    }

    /// Whether it is worth asking for when its stream is cut.
    pub(super) fn is_resumable(&self) -> bool {
        self.grace_ms > 0 && self.fruitless < MAX_CUTS
    }

    pub(super) fn grace_ms(&self) -> u64 {
        self.grace_ms
    }

    /// Output tokens that were promised at most.
    pub(super) fn max_out(&self) -> u32 {
        self.max_out
    }

    /// Index of the next token that is missing, the held one being here.
    pub(super) fn next_index(&self) -> u32 {
        self.base + self.count
    }

    /// When the first token is later than it should be, and nothing has moved for `quiet_ms`. `None` when a token came, or
    /// when nobody knows how long this provider takes.
    pub(super) fn first_token_due_at(&self, quiet_ms: u64) -> Option<u64> {
        let p95 = self.candidate.first_token_p95_ms?;
        (self.count == 0).then(|| (self.accepted_ms + u64::from(p95)).max(self.moved_ms + quiet_ms))
    }

    /// Notes that a frame came.
    pub(super) fn heard(&mut self, now: Clock) {
        let gap = now
            .mono_ms
            .saturating_sub(self.heard_ms)
            .min(MAX_SILENCE_MS);
        self.deviation_ms = (3 * self.deviation_ms + gap.abs_diff(self.gap_ms)) / 4;
        self.gap_ms = (7 * self.gap_ms + gap) / 8;
        self.heard_ms = now.mono_ms;
    }

    /// Judges tokens. Gives those that are new and may be shown; `output` is what the answer has so far.
    pub(super) fn tokens(
        &mut self,
        tokens: &Tokens,
        request: &Request,
        output: &[u32],
        now: Clock,
    ) -> Result<New, Lie> {
        if tokens.ids.is_empty() {
            return Err(Lie::NoTokens);
        }
        logprobs(tokens, request.want_logprobs_k)?;
        let expected = self.base + self.count;
        if tokens.first_index > expected {
            return Err(Lie::WrongIndex {
                expected,
                got: tokens.first_index,
            });
        }
        let mut new = New::default();
        for (at, &id) in tokens.ids.iter().enumerate() {
            let index = u64::from(tokens.first_index) + at as u64;
            if index < u64::from(expected) {
                self.same(index, id, output)?;
                continue;
            }
            if id >= request.vocab_size {
                return Err(Lie::OutsideVocabulary {
                    id,
                    vocab: request.vocab_size,
                });
            }
            if !self.held.ids.is_empty() {
                return Err(Lie::BehindTheEnd);
            }
            if self.count == self.max_out {
                return Err(Lie::TooManyTokens {
                    max_out: self.max_out,
                });
            }
            self.h = chain::next(&self.h, id);
            self.count += 1;
            let goes_to = if !request.ignore_eog && request.eog.contains(&id) {
                &mut self.held
            } else {
                &mut new
            };
            goes_to.ids.push(id);
            if request.want_logprobs_k.is_some() {
                goes_to.logprobs.extend(tokens.logprobs.get(at).cloned());
            }
        }
        self.fruitless = 0;
        self.phase = Phase::Decode;
        self.paused_ms = None;
        self.moved_ms = now.mono_ms;
        Ok(new)
    }

    /// A token that is here already may come again, if it is the same.
    fn same(&self, index: u64, id: u32, output: &[u32]) -> Result<(), Lie> {
        let have = usize::try_from(index)
            .ok()
            .and_then(|index| output.get(index).copied())
            .or(self.held.ids.first().copied());
        if have == Some(id) {
            Ok(())
        } else {
            Err(Lie::Contradiction {
                index: index as u32,
            })
        }
    }

    /// Takes a heartbeat. True when it says something new that is worth telling.
    pub(super) fn progress(&mut self, progress: &Progress, now: Clock) -> bool {
        let phase = progress.phase();
        let at = (progress.done, progress.total, progress.queue_pos);
        let news = (phase, at) != (self.phase, self.at);
        if let (Phase::Prefill, Some(bill)) = (phase, &mut self.bill) {
            bill.has_read(progress.done);
        }
        if matches!(phase, Phase::Paused | Phase::Unpaid) {
            self.paused_ms.get_or_insert(now.mono_ms);
        } else {
            self.paused_ms = None;
        }
        // Writing moves by tokens alone: a counter that says otherwise is only a claim.
        if news && phase != Phase::Decode {
            self.moved_ms = now.mono_ms;
        }
        let tell = phase != self.phase || (news && now.mono_ms >= self.told_ms + TELL_MS);
        if tell {
            self.told_ms = now.mono_ms;
        }
        (self.phase, self.at) = (phase, at);
        tell
    }

    /// Judges a checkpoint: it signs for exactly what came, and for more than the last one did.
    pub(super) fn checkpoint(&mut self, signed: Signed, provider: &PeerId) -> Result<(), Lie> {
        let checkpoint =
            Checkpoint::verify_then_decode(&signed, provider).map_err(Lie::BadSignature)?;
        if checkpoint.job != self.job {
            return Err(Lie::WrongStatement("job"));
        }
        if checkpoint.totals.output <= self.covered {
            return Err(Lie::OutOfTurn("Checkpoint"));
        }
        self.totals(&checkpoint.totals, &checkpoint.h, checkpoint.due)?;
        self.covered = checkpoint.totals.output;
        if let Some(bill) = &mut self.bill {
            bill.signed_for(&signed);
        }
        self.checkpoint = Some(signed);
        Ok(())
    }

    /// Judges the end.
    pub(super) fn done(
        &self,
        done: &Done,
        provider: &PeerId,
        client: &PeerId,
        request: &Request,
    ) -> Result<Finished, Lie> {
        let signed = done
            .receipt
            .as_ref()
            .ok_or(Lie::BadSignature(ReceiptError::Missing))?;
        let receipt =
            SignedReceipt::verify_then_decode(signed, provider).map_err(Lie::BadSignature)?;
        self.statement(&receipt.receipt, provider, client, request)?;
        self.totals(
            &receipt.receipt.totals,
            &receipt.receipt.h,
            receipt.receipt.due,
        )?;
        self.finish(receipt.receipt.finish, request)?;
        Ok(Finished {
            receipt,
            held: self.held.clone(),
        })
    }

    fn statement(
        &self,
        receipt: &Receipt,
        provider: &PeerId,
        client: &PeerId,
        request: &Request,
    ) -> Result<(), Lie> {
        let fields = [
            ("job", receipt.job == self.job),
            ("provider", receipt.provider == *provider),
            ("client", receipt.client == *client),
            ("model", receipt.model == request.model.digest),
            ("prompt", receipt.prompt_hash == self.prompt_hash),
            ("index", receipt.first_index == self.base),
            ("sampler", receipt.sampler == SAMPLER),
            (
                "seed",
                receipt.seed_source == SEED_FROM_JOB && receipt.seed == seed_of(&self.job),
            ),
        ];
        match fields.iter().find(|(_, holds)| !holds) {
            Some((name, _)) => Err(Lie::WrongStatement(name)),
            None => Ok(()),
        }
    }

    fn totals(&self, totals: &Totals, h: &ChainHash, due: u128) -> Result<(), Lie> {
        if totals.output != u64::from(self.count) {
            return Err(Lie::WrongTotals {
                expected: u64::from(self.count),
                got: totals.output,
            });
        }
        // Before the first token a provider may have read a part only.
        let read = totals.input.saturating_add(totals.cached);
        let read = u32::try_from(read).unwrap_or(u32::MAX);
        if read > self.n_in || (self.count > 0 && read != self.n_in) {
            return Err(Lie::WrongInput {
                expected: self.n_in,
                got: read,
            });
        }
        let expected = self.candidate.terms.totals(read, self.count).cached;
        if totals.cached != expected {
            return Err(Lie::WrongCached {
                expected,
                got: totals.cached,
            });
        }
        if *h != self.h {
            return Err(Lie::BrokenChain);
        }
        match price::due(&self.candidate.terms.prices, totals) {
            Some(expected) if expected != due => Err(Lie::WrongDue { expected, got: due }),
            None => Err(Lie::WrongDue {
                expected: u128::MAX,
                got: due,
            }),
            Some(_) => Ok(()),
        }
    }

    fn finish(&self, finish: Finish, request: &Request) -> Result<(), Lie> {
        // Who does not tell us the end tokens cannot be held to them; who was told to ignore them has none.
        let ends_by_token =
            !self.held.ids.is_empty() || (request.eog.is_empty() && !request.ignore_eog);
        let full = self.count == self.max_out || self.n_in + self.count >= self.candidate.ctx_max;
        let can_be = match finish {
            Finish::Stop => self.count > 0 && ends_by_token,
            Finish::Length => full,
            Finish::StopString => self.count > 0 && !request.stop.is_empty(),
            Finish::Abort => true,
        };
        if can_be {
            Ok(())
        } else {
            Err(Lie::WrongFinish(finish))
        }
    }

    /// When the provider counts as silent.
    pub(super) fn silent_at(&self) -> u64 {
        let patience = if self.phase == Phase::Decode {
            let late = self.gap_ms + SILENT_DEVIATIONS * self.deviation_ms;
            late.clamp(MIN_SILENCE_MS, MAX_WRITING_SILENCE_MS)
        } else {
            MAX_SILENCE_MS
        };
        self.heard_ms + patience + self.rtt_ms
    }

    /// When it is late enough to see who else would be there: half of the way to where it counts as silent.
    pub(super) fn doubted_at(&self) -> u64 {
        self.heard_ms.midpoint(self.silent_at())
    }

    /// When a provider that pauses has paused for long enough.
    pub(super) fn paused_until(&self) -> Option<u64> {
        self.paused_ms.map(|since| since + super::PAUSE_PATIENCE_MS)
    }

    /// When a provider that beats without moving stands still.
    pub(super) fn stalled_at(&self) -> u64 {
        self.moved_ms + super::STALL_MS
    }

    pub(super) fn heard_ms(&self) -> u64 {
        self.heard_ms
    }

    pub(super) fn accepted_ms(&self) -> u64 {
        self.accepted_ms
    }
}

/// Judges what comes beside tokens: one entry per token where they were asked for, each a logarithm of a probability.
fn logprobs(tokens: &Tokens, wanted: Option<u32>) -> Result<(), Lie> {
    let Some(k) = wanted else { return Ok(()) };
    let is_log = |value: &f32| value.is_finite() && *value <= 0.0;
    let bad = (0..tokens.ids.len()).find(|&at| {
        tokens.logprobs.get(at).is_none_or(|token| {
            token.top_ids.len() > k as usize
                || !is_log(&token.logprob)
                || !token.top_logprobs.iter().all(is_log)
        })
    });
    match bad {
        Some(at) => Err(Lie::BadLogprobs {
            index: tokens.first_index.saturating_add(at as u32),
        }),
        None => Ok(()),
    }
}
