//! The task that computes a stranger's job, in the class of strangers.

use std::path::PathBuf;

use engine::{Asker, Class, Constraint, EngineError, GenerateEvent, GenerateRequest};
use protocol::{
    PeerId,
    frame::{Grammar, GrammarKind, TokenLogprobs},
    job::provider::{EngineEvent, StartJob},
};
use tokio::sync::{mpsc, watch};

use super::job::{Report, finish_of};
use crate::node::Inner;

/// What the computing task is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Run,
    Pause,
}

/// Whose job it is, and which file answers it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) file: PathBuf,
    pub(super) peer: PeerId,
    /// Whether it is paid for.
    pub(super) class: Class,
}

pub(super) async fn compute(
    inner: &Inner,
    Asked { file, peer, class }: Asked,
    job: StartJob,
    mut wishes: watch::Receiver<Wish>,
    reports: &mpsc::Sender<Report>,
) -> Result<(), EngineError> {
    // From the loading of its model to its end, however it ends.
    let mut counting = inner.energy.count(job.job);
    let tell = async |event| {
        // The job is over already, and this task about to be ended.
        let _ = reports.send(Report::Engine(event)).await;
    };
    let mut loading = inner.engine.load_for(&file, None, class).await?;
    while let Some(progress) = loading.progress.recv().await {
        tell(EngineEvent::Loading {
            done: progress.done,
            total: progress.total,
        })
        .await;
    }
    loading.finish().await?;
    let sampling = engine::Sampling {
        temperature: job.sampling.temperature,
        top_k: job.sampling.top_k,
        // On the wire 0 is "off", as an absent field reads.
        top_p: if job.sampling.top_p == 0.0 {
            1.0
        } else {
            job.sampling.top_p
        },
        min_p: job.sampling.min_p,
        seed: job.seed,
        repeat_penalty: if job.sampling.repeat_penalty == 0.0 {
            1.0
        } else {
            job.sampling.repeat_penalty
        },
        presence_penalty: job.sampling.presence_penalty,
        frequency_penalty: job.sampling.frequency_penalty,
        logit_bias: Vec::new(),
    };
    let mut generation = inner
        .engine
        .generate(GenerateRequest {
            file,
            prompt: job.prompt,
            max_out: job
                .max_out
                .saturating_add(u32::try_from(job.resume.len()).unwrap_or(u32::MAX)),
            resume: job.resume,
            sampling,
            stop: job.stop,
            class,
            asker: Asker::Peer(peer.to_string()),
            weight: 1,
            ignore_eog: job.ignore_eog,
            logprobs: job.logprobs,
            constraint: job.grammar.and_then(constraint),
        })
        .await?;
    let mut wished = Wish::Run;
    loop {
        let now = *wishes.borrow_and_update();
        if now != wished {
            match now {
                Wish::Run => generation.resume(),
                Wish::Pause => generation.pause(),
            }
            if let Some(counting) = &mut counting {
                counting.set_still(now == Wish::Pause);
            }
            wished = now;
        }
        let event = tokio::select! {
            event = generation.next() => event,
            changed = wishes.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Ok(()),
            },
        };
        let Some(event) = event else { return Ok(()) };
        match event? {
            GenerateEvent::Prefill { done, total } => {
                tell(EngineEvent::Prefill { done, total }).await
            }
            GenerateEvent::Tokens {
                first_index,
                ids,
                text: _,
                logprobs,
            } => {
                if !ids.is_empty() {
                    tell(EngineEvent::Tokens {
                        first_index,
                        ids,
                        logprobs: logprobs.into_iter().map(on_the_wire).collect(),
                    })
                    .await;
                }
            }
            GenerateEvent::Finished { finish, stats: _ } => {
                tell(EngineEvent::Finished(finish_of(finish))).await
            }
        }
    }
}

/// The form that a job asks for, in the engine's words. The machine lets no other kind through.
fn constraint(grammar: Grammar) -> Option<Constraint> {
    match grammar.kind() {
        GrammarKind::Unspecified => None,
        GrammarKind::JsonSchema => Some(Constraint::JsonSchema(grammar.text)),
        GrammarKind::Lark => Some(Constraint::Lark(grammar.text)),
        GrammarKind::Regex => Some(Constraint::Regex(grammar.text)),
    }
}

fn on_the_wire(token: engine::TokenLogprobs) -> TokenLogprobs {
    // A probability that rounds to more than one is one.
    let top = token.top.into_iter().map(|(id, log)| (id, log.min(0.0)));
    let (top_ids, top_logprobs) = top.unzip();
    TokenLogprobs {
        logprob: token.logprob.min(0.0),
        top_ids,
        top_logprobs,
    }
}
