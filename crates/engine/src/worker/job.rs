//! What reaches the compute thread.

use std::path::PathBuf;

use crate::wire::Ask;
use crate::{
    Benchmark, Class, EmbedRequest, GenerateRequest, PrefixRequest, ScoreRequest, Sharing,
};

/// A message of the reader's.
#[derive(Debug)]
pub(super) enum Command {
    Work(Box<Job>),
    Share(Sharing),
    /// What a file was measured at before.
    Know(PathBuf, Benchmark),
    /// A question about what is known of a beginning, and its call.
    Prefix(u64, PrefixRequest),
    /// A flag changed.
    Look,
}

/// A call that needs a model.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) call: u64,
    pub(super) class: Class,
    pub(super) file: PathBuf,
    /// Bytes that were free on the machine when it was asked.
    pub(super) available: u64,
    /// It was looked at and could not be started yet: nobody need give up a step for it any more.
    pub(super) looked_at: bool,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Load { context: Option<u32> },
    Generate(GenerateRequest),
    Score(ScoreRequest),
    Embed(EmbedRequest),
    Benchmark,
}

impl Job {
    /// The job of an ask; `None` for one that needs no weights.
    pub(super) fn of(call: u64, ask: Ask) -> Option<Self> {
        let (class, file, available, what) = match ask {
            Ask::Load {
                file,
                context,
                available,
                class,
            } => (class, file, available, What::Load { context }),
            Ask::Generate { request, available } => (
                request.class,
                request.file.clone(),
                available,
                What::Generate(request),
            ),
            Ask::Score { request, available } => (
                request.class,
                request.file.clone(),
                available,
                What::Score(request),
            ),
            Ask::Embed { request, available } => (
                request.class,
                request.file.clone(),
                available,
                What::Embed(request),
            ),
            // It is the owner's wish, but nothing should wait for it.
            Ask::Benchmark { file, available } => (Class::Audit, file, available, What::Benchmark),
            Ask::Configure { .. }
            | Ask::Share(_)
            | Ask::Know { .. }
            | Ask::Prefix(_)
            | Ask::OpenText { .. }
            | Ask::Render { .. }
            | Ask::StreamOpen { .. }
            | Ask::StreamPush { .. }
            | Ask::StreamClose { .. }
            | Ask::Cancel { .. }
            | Ask::Pause { .. }
            | Ask::Resume { .. } => return None,
        };
        Some(Self {
            call,
            class,
            file,
            available,
            looked_at: false,
            what,
        })
    }
}
