//! Between what `memory` stores and what a shell sees.

use engine::EngineError;
use protocol::ModelDigest;

use super::view;
use crate::{
    ask::{digest_of, reasoning},
    error::ErrorView,
};

impl From<view::Place> for memory::Place {
    fn from(place: view::Place) -> Self {
        match place {
            view::Place::Local => Self::Local,
            view::Place::Peer => Self::Peer,
            view::Place::Automatic => Self::Automatic,
        }
    }
}

impl From<memory::Place> for view::Place {
    fn from(place: memory::Place) -> Self {
        match place {
            memory::Place::Local => Self::Local,
            memory::Place::Peer => Self::Peer,
            memory::Place::Automatic => Self::Automatic,
        }
    }
}

impl From<view::OnFull> for memory::OnFull {
    fn from(on_full: view::OnFull) -> Self {
        match on_full {
            view::OnFull::Ask => Self::Ask,
            view::OnFull::DropOldest => Self::DropOldest,
        }
    }
}

impl From<memory::OnFull> for view::OnFull {
    fn from(on_full: memory::OnFull) -> Self {
        match on_full {
            memory::OnFull::Ask => Self::Ask,
            memory::OnFull::DropOldest => Self::DropOldest,
        }
    }
}

impl From<view::Sampling> for memory::Sampling {
    fn from(sampling: view::Sampling) -> Self {
        let view::Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            max_out,
            seed,
        } = sampling;
        Self {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            max_out,
            seed,
        }
    }
}

impl From<memory::Sampling> for view::Sampling {
    fn from(sampling: memory::Sampling) -> Self {
        let memory::Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            max_out,
            seed,
        } = sampling;
        Self {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            max_out,
            seed,
        }
    }
}

impl view::Sampling {
    /// Checks what a person or a file may have set.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let bad = |what: &str| {
            Err(EngineError::BadRequest {
                what: what.to_owned(),
            })
        };
        if !(0.0..=10.0).contains(&self.temperature) {
            return bad("the temperature must lie between 0 and 10");
        }
        if !(0.0..=1.0).contains(&self.top_p) || self.top_p == 0.0 {
            return bad("top-p must be above 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return bad("min-p must lie between 0 and 1");
        }
        if !(0.1..=10.0).contains(&self.repeat_penalty) {
            return bad("the repeat penalty must lie between 0.1 and 10");
        }
        if self.max_out == 0 {
            return bad("an answer needs at least one token");
        }
        if self
            .seed
            .as_ref()
            .is_some_and(|seed| seed.parse::<u64>().is_err())
        {
            return bad("the seed must be a whole number");
        }
        Ok(())
    }

    /// For this computer's engine. `seed` is used when the person set none.
    pub(crate) fn for_engine(&self, seed: u64) -> engine::Sampling {
        engine::Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            seed: self
                .seed
                .as_ref()
                .and_then(|seed| seed.parse().ok())
                .unwrap_or(seed),
            repeat_penalty: self.repeat_penalty,
            ..engine::Sampling::default()
        }
    }
}

impl From<memory::Role> for view::Role {
    fn from(role: memory::Role) -> Self {
        match role {
            memory::Role::User => Self::User,
            memory::Role::Assistant => Self::Assistant,
            memory::Role::System => Self::System,
        }
    }
}

impl From<memory::MessageState> for view::MessageState {
    fn from(state: memory::MessageState) -> Self {
        match state {
            memory::MessageState::Streaming => Self::Streaming,
            memory::MessageState::Complete => Self::Complete,
            memory::MessageState::Stopped => Self::Stopped,
            memory::MessageState::Interrupted => Self::Interrupted,
            memory::MessageState::Length => Self::Length,
            memory::MessageState::Failed => Self::Failed,
        }
    }
}

impl From<memory::Span> for view::Span {
    fn from(span: memory::Span) -> Self {
        let memory::Span {
            from_index,
            peer,
            receipt,
            why,
            paid,
            cached,
        } = span;
        Self {
            from_index,
            peer,
            receipt,
            why: why.as_deref().and_then(view::MoveReason::parse),
            paid,
            cached,
        }
    }
}

impl From<memory::StoredError> for ErrorView {
    fn from(error: memory::StoredError) -> Self {
        let memory::StoredError { code, message, fix } = error;
        Self::new(&code, message, fix)
    }
}

impl From<ErrorView> for memory::StoredError {
    fn from(error: ErrorView) -> Self {
        let ErrorView {
            code, message, fix, ..
        } = error;
        Self { code, message, fix }
    }
}

impl From<memory::SearchHit> for view::SearchHit {
    fn from(hit: memory::SearchHit) -> Self {
        let memory::SearchHit {
            chat,
            title,
            message,
            snippet,
        } = hit;
        Self {
            chat: chat.to_string(),
            title,
            message: message.map(|id| id.to_string()),
            snippet,
        }
    }
}

/// A stored message, with its reasoning split off. `is_listed`: whether a row here names a file.
pub(crate) fn message(
    stored: memory::Message,
    siblings: &[memory::MessageId],
    left_out: bool,
    is_listed: impl Fn(&ModelDigest) -> bool,
) -> view::Message {
    let (thought, content) = match stored.role {
        memory::Role::Assistant => reasoning::split(&stored.content),
        memory::Role::User | memory::Role::System => (None, stored.content),
    };
    view::Message {
        id: stored.id.to_string(),
        parent: stored.parent.map(|id| id.to_string()),
        role: stored.role.into(),
        content,
        reasoning: thought,
        reasoning_ms: stored.stats.reasoning_ms.map(u64::from),
        state: stored.state.into(),
        error: stored.error.map(ErrorView::from),
        unlisted: is_unlisted(stored.model.as_ref(), is_listed),
        model: stored.model.map(|model| model.name),
        spans: stored.spans.into_iter().map(view::Span::from).collect(),
        prompt_tokens: stored.stats.prompt_tokens,
        output_tokens: stored.stats.output_tokens,
        tokens_per_second: stored.stats.tokens_per_second,
        first_token_ms: stored.stats.first_token_ms.map(u64::from),
        created_ms: stored.created_ms,
        siblings: siblings.iter().map(ToString::to_string).collect(),
        left_out,
    }
}

/// Whether the model of an answer was known by its digest alone, and no row names the file now.
fn is_unlisted(
    model: Option<&memory::ModelUsed>,
    is_listed: impl Fn(&ModelDigest) -> bool,
) -> bool {
    let digest = model.and_then(|model| digest_of(&model.id));
    digest.is_some_and(|digest| !is_listed(&digest))
}

/// A line of the sidebar.
pub(crate) fn summary(stored: memory::ChatSummary) -> view::ChatSummary {
    view::ChatSummary {
        id: stored.chat.id.to_string(),
        title: stored.chat.title,
        pinned: stored.chat.pinned,
        created_ms: stored.chat.created_ms,
        updated_ms: stored.chat.updated_ms,
        remote: stored.remote,
        answering: stored.answering,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::id_of;

    #[test]
    fn an_answer_is_of_no_row_only_while_no_row_names_its_file() {
        let digest = ModelDigest::new([7; 32]);
        let used = |id: String| memory::ModelUsed {
            id,
            name: "Some Model".to_owned(),
            digest: Some(digest.to_string()),
        };
        let by_digest = used(id_of(&digest));
        assert!(is_unlisted(Some(&by_digest), |_| false));
        assert!(!is_unlisted(Some(&by_digest), |listed| *listed == digest));
        assert!(!is_unlisted(Some(&used("some-model".to_owned())), |_| {
            false
        }));
        assert!(!is_unlisted(None, |_| false));
    }
}
