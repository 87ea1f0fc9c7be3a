//! Whether a job is taken: one function per question, asked in the order of [`judge`]. What costs least comes first,
//! and nothing of the prompt is unpacked for somebody who would be turned away anyway.

use bytes::Bytes;

use super::{Config, Served, Wanted, Welcome};
use crate::{
    Clock, JobId, MAX_CLOCK_SKEW_MS, ModelDigest, PeerId,
    frame::{Cap, Frame, Grammar, GrammarKind, MAX_LOGPROBS, Open, RefuseCode, Sampling},
    job::{MAX_EXPIRY_MS, MAX_JOB_MS},
    price::{Prices, Terms},
    quote::{Bound, QUOTE_ID},
    tokens::{self, TokensError},
};

/// The hottest temperature that is sampled. Beyond it the output is noise.
const MAX_TEMPERATURE: f32 = 10.0;
/// The largest penalty in either direction; logits themselves rarely exceed 50.
const MAX_PENALTY: f32 = 10.0;

/// A job that may be recorded and begun.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) job: JobId,
    pub(super) client: PeerId,
    pub(super) served: Served,
    pub(super) terms: Terms,
    pub(super) nonce: [u8; 32],
    pub(super) expires_unix_ms: u64,
    pub(super) prompt: Vec<u32>,
    pub(super) resume: Vec<u32>,
    pub(super) sampling: Sampling,
    pub(super) max_out: u32,
    pub(super) stop: Vec<String>,
    pub(super) ignore_eog: bool,
    pub(super) grammar: Option<Grammar>,
    pub(super) logprobs: Option<u32>,
    /// How long the job may take.
    pub(super) deadline_ms: u64,
    /// Whether the client knows of lines.
    pub(super) may_wait: bool,
}

impl Taken {
    pub(super) fn wanted(&self) -> Wanted {
        let input = (self.prompt.len() + self.resume.len()) as u32;
        Wanted {
            model: self.served.model,
            tokens: input.saturating_add(self.max_out),
            goes_on: !self.resume.is_empty(),
            may_wait: self.may_wait,
        }
    }
}

/// Why a job is not taken: the code, and a word for a person.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) RefuseCode, pub(super) String);

impl From<RefuseCode> for Refusal {
    fn from(code: RefuseCode) -> Self {
        Refusal(code, String::new())
    }
}

/// A first frame, and what the owner knows about it.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    pub(super) from: PeerId,
    pub(super) bytes: &'a Bytes,
    pub(super) welcome: Welcome,
    /// What the quote that the frame names binds to.
    pub(super) quoted: Option<Bound>,
}

/// Asks all questions about a first frame.
pub(super) fn judge(config: &Config, opened: Opened<'_>, now: Clock) -> Result<Taken, Refusal> {
    let Opened {
        from,
        bytes,
        welcome,
        quoted,
    } = opened;
    willing(welcome)?;
    let open = decoded(bytes)?;
    addressed(&open, config)?;
    in_time(&open, now)?;
    let nonce = new_job(&open)?;
    let served = model(&open, config)?;
    let bound = bound(served, quoted)?;
    let sampling = sampling(&open)?;
    let grammar = grammar(&open)?;
    let logprobs = logprobs(&open)?;
    let (prompt, resume) = input(&open, served)?;
    begins(&bound, &prompt, &resume)?;
    let max_out = limit(&open, config, served, prompt.len() + resume.len())?;
    Ok(Taken {
        job: JobId::new(*blake3::hash(bytes).as_bytes()),
        client: from,
        served: served.clone(),
        terms: bound.terms,
        nonce,
        expires_unix_ms: open.expires_unix_ms,
        prompt,
        resume,
        sampling,
        max_out,
        stop: open
            .stop
            .iter()
            .filter(|stop| !stop.is_empty())
            .cloned()
            .collect(),
        ignore_eog: open.ignore_eog,
        grammar,
        logprobs,
        deadline_ms: match open.deadline_ms {
            0 => MAX_JOB_MS,
            ms => MAX_JOB_MS.min(ms.into()),
        },
        may_wait: open.may_wait,
    })
}

fn willing(welcome: Welcome) -> Result<(), Refusal> {
    match welcome {
        Welcome::Yes => Ok(()),
        Welcome::Off => Err(RefuseCode::NodeOff.into()),
        Welcome::NotAllowed => Err(RefuseCode::NotAllowed.into()),
    }
}

pub(super) fn decoded(bytes: &Bytes) -> Result<Box<Open>, Refusal> {
    match Frame::from_bytes(bytes, Cap::Open) {
        Ok(Some(Frame::Open(open))) => Ok(open),
        Ok(_) => Err(RefuseCode::BadOpen.into()),
        Err(error) => Err(Refusal(RefuseCode::BadOpen, error.to_string())),
    }
}

pub(super) fn addressed(open: &Open, config: &Config) -> Result<(), Refusal> {
    let me = config.signer.peer_id();
    if open.provider == me.as_bytes().as_slice() {
        Ok(())
    } else {
        Err(RefuseCode::WrongProvider.into())
    }
}

pub(super) fn in_time(open: &Open, now: Clock) -> Result<(), Refusal> {
    if open.expires_unix_ms <= now.unix_ms {
        return Err(RefuseCode::Expired.into());
    }
    let latest = now
        .unix_ms
        .saturating_add(MAX_EXPIRY_MS + MAX_CLOCK_SKEW_MS);
    if open.expires_unix_ms > latest {
        return Err(RefuseCode::ExpiryTooFar.into());
    }
    Ok(())
}

/// The nonce of a new job.
fn new_job(open: &Open) -> Result<[u8; 32], Refusal> {
    if open.resume_of.is_some() {
        return Err(RefuseCode::ResumeUnknown.into());
    }
    let nonce = open
        .nonce
        .as_ref()
        .try_into()
        .map_err(|_| Refusal(RefuseCode::BadOpen, "the nonce has 32 bytes".into()))?;
    if ![0, QUOTE_ID].contains(&open.quote_id.len()) {
        return Err(Refusal(
            RefuseCode::BadOpen,
            format!("a quote's id has {QUOTE_ID} bytes"),
        ));
    }
    Ok(nonce)
}

fn model<'a>(open: &Open, config: &'a Config) -> Result<&'a Served, Refusal> {
    let digest = ModelDigest::from_bytes(&open.model_digest)
        .map_err(|_| Refusal(RefuseCode::BadOpen, "a model digest has 32 bytes".into()))?;
    config
        .models
        .iter()
        .find(|served| served.model == digest)
        .ok_or_else(|| RefuseCode::ModelUnknown.into())
}

/// What holds for the job: its quote. Nobody is bound to what an offer asked.
fn bound(served: &Served, quoted: Option<Bound>) -> Result<Bound, Refusal> {
    match quoted {
        Some(bound) => Ok(bound),
        None if served.prices.is_free() => Ok(Prices::FREE.into()),
        None => Err(RefuseCode::QuoteUnknown.into()),
    }
}

/// What counts as cached is what the quote was asked for. Another input would be computed at the price of the cache.
fn begins(bound: &Bound, prompt: &[u32], resume: &[u32]) -> Result<(), Refusal> {
    match &bound.prefix {
        Some(prefix) if !prefix.begins(prompt.iter().chain(resume)) => Err(Refusal(
            RefuseCode::QuoteUnknown,
            "the quote is for another input".into(),
        )),
        Some(_) | None => Ok(()),
    }
}

fn sampling(open: &Open) -> Result<Sampling, Refusal> {
    let sampling = open.sampling.unwrap_or_default();
    if sampling.seed.is_some() {
        return Err(RefuseCode::SeedRefused.into());
    }
    // Every comparison is false for a NaN, so none gets through.
    let share = 0.0..=1.0;
    let penalty = -MAX_PENALTY..=MAX_PENALTY;
    let sane = (0.0..=MAX_TEMPERATURE).contains(&sampling.temperature)
        && share.contains(&sampling.top_p)
        && share.contains(&sampling.min_p)
        && (0.0..=MAX_PENALTY).contains(&sampling.repeat_penalty)
        && penalty.contains(&sampling.presence_penalty)
        && penalty.contains(&sampling.frequency_penalty);
    if sane {
        Ok(sampling)
    } else {
        Err(RefuseCode::BadSampling.into())
    }
}

fn grammar(open: &Open) -> Result<Option<Grammar>, Refusal> {
    let Some(grammar) = &open.grammar else {
        return Ok(None);
    };
    if grammar.kind() == GrammarKind::Unspecified || grammar.text.is_empty() {
        return Err(RefuseCode::BadGrammar.into());
    }
    Ok(Some(grammar.clone()))
}

fn logprobs(open: &Open) -> Result<Option<u32>, Refusal> {
    match open.want_logprobs_k {
        Some(k) if k > MAX_LOGPROBS => Err(Refusal(
            RefuseCode::BadLogprobs,
            format!("{MAX_LOGPROBS} per token at most"),
        )),
        wanted => Ok(wanted),
    }
}

fn input(open: &Open, served: &Served) -> Result<(Vec<u32>, Vec<u32>), Refusal> {
    let prompt = unpacked(&open.prompt_tokens, served)?;
    let resume = unpacked(&open.resume_tokens, served)?;
    if prompt.is_empty() {
        return Err(Refusal(RefuseCode::BadOpen, "the prompt is empty".into()));
    }
    // One token of context must be left to write into.
    if prompt.len() + resume.len() >= served.ctx_max as usize {
        return Err(too_long(served));
    }
    match prompt
        .iter()
        .chain(&resume)
        .find(|&&id| id >= served.vocab_size)
    {
        Some(id) => Err(Refusal(
            RefuseCode::BadToken,
            format!("token {id} of {}", served.vocab_size),
        )),
        None => Ok((prompt, resume)),
    }
}

fn unpacked(packed: &[u8], served: &Served) -> Result<Vec<u32>, Refusal> {
    tokens::unpack(packed, served.ctx_max).map_err(|error| match error {
        TokensError::TooMany { .. } => too_long(served),
        TokensError::NoLength | TokensError::Damaged => {
            Refusal(RefuseCode::BadOpen, error.to_string())
        }
    })
}

fn too_long(served: &Served) -> Refusal {
    Refusal(
        RefuseCode::PromptTooLong,
        format!("the context holds {} tokens", served.ctx_max),
    )
}

fn limit(open: &Open, config: &Config, served: &Served, n_in: usize) -> Result<u32, Refusal> {
    let room = (served.ctx_max as usize).saturating_sub(n_in);
    let max_out = open
        .max_out
        .min(config.max_out)
        .min(u32::try_from(room).unwrap_or(u32::MAX));
    if max_out == 0 {
        return Err(Refusal(
            RefuseCode::BadOpen,
            "no output was asked for".into(),
        ));
    }
    Ok(max_out)
}
