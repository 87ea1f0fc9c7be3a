//! Chats as they lie in the memory, and as they are shown.

use std::{
    collections::BTreeSet,
    sync::{MutexGuard, PoisonError},
};

use memory::{ChatId, ChatSettings, MessageId};

use super::{ChatRef, ChatView, Message, Sampling, message_view};
use crate::{ask::digest_of, error::NodeError, models::Model, node::Inner};

/// A title is one line of the sidebar.
const TITLE_CHARS: usize = 48;

impl Inner {
    /// The chat of an id that a shell gave.
    pub(crate) fn chat(&self, id: &str) -> Result<ChatRef, NodeError> {
        let id: ChatId = id.parse().map_err(|_| NodeError::ChatMissing {
            chat: id.to_owned(),
        })?;
        let temporary = self.temporary_chats().contains(&id);
        let memory = if temporary {
            self.temporary.clone()
        } else {
            self.memory.clone()
        };
        Ok(ChatRef {
            id,
            memory,
            temporary,
        })
    }

    pub(super) async fn create_chat(
        &self,
        temporary: bool,
        title: &str,
        settings: ChatSettings,
    ) -> Result<ChatRef, NodeError> {
        let memory = if temporary {
            self.temporary.clone()
        } else {
            self.memory.clone()
        };
        let chat = memory.create_chat(title, settings).await?;
        if temporary {
            self.temporary_chats().insert(chat.id);
        }
        self.chats_changed();
        Ok(ChatRef {
            id: chat.id,
            memory,
            temporary,
        })
    }

    fn temporary_chats(&self) -> MutexGuard<'_, BTreeSet<ChatId>> {
        self.temporary_chats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A chat as a shell sees it.
    pub(crate) async fn chat_view(&self, chat: &ChatRef) -> Result<ChatView, NodeError> {
        let open = chat.memory.open_chat(chat.id).await?;
        let (context_used, context_limit) = self.context_of(&open);
        let first_seen = self.cut_of(chat.id);
        let cut_at = first_seen
            .and_then(|id| open.path.iter().position(|step| step.message.id == id))
            .unwrap_or(0);
        let settings = open.chat.settings;
        Ok(ChatView {
            id: chat.id.to_string(),
            title: open.chat.title,
            pinned: open.chat.pinned,
            temporary: chat.temporary,
            unlisted: self.unlisted_model(settings.model.as_deref()),
            model: settings.model,
            place: settings.place.into(),
            peer: settings.peer,
            consented: settings.consented,
            system_prompt: settings.system_prompt,
            sampling: settings.sampling.map(Sampling::from).unwrap_or_default(),
            on_full: settings.on_full.into(),
            messages: open
                .path
                .into_iter()
                .enumerate()
                .map(|(at, step)| {
                    message_view(step.message, &step.siblings, at < cut_at, |digest| {
                        self.models.lists(digest)
                    })
                })
                .collect(),
            context_used,
            context_limit,
        })
    }

    /// What to call the model that a chat names, where no row here names it.
    fn unlisted_model(&self, chosen: Option<&str>) -> Option<String> {
        let digest = digest_of(chosen?)?;
        (!self.models.lists(&digest)).then(|| self.unlisted_name(&digest))
    }

    /// One message of the active branch as a shell sees it, with its siblings.
    pub(crate) async fn message_view(&self, chat: &ChatRef, message: memory::Message) -> Message {
        let siblings = match chat.memory.open_chat(chat.id).await {
            Ok(open) => open
                .path
                .into_iter()
                .find(|step| step.message.id == message.id)
                .map(|step| step.siblings),
            Err(_) => None,
        };
        let own = [message.id];
        let siblings = siblings.as_deref().unwrap_or(&own);
        message_view(message, siblings, false, |digest| self.models.lists(digest))
    }

    /// The first message that the model still saw at the last answer of this chat.
    pub(crate) fn cut_of(&self, chat: ChatId) -> Option<MessageId> {
        self.cuts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&chat)
            .copied()
    }

    /// Remembers where the context of a chat was cut.
    pub(crate) fn set_cut(&self, chat: ChatId, first_seen: Option<MessageId>) {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        match first_seen {
            Some(id) => cuts.insert(chat, id),
            None => cuts.remove(&chat),
        };
    }

    /// Tokens that the last answer of the active branch used, and what its model holds.
    pub(crate) fn context_of(&self, open: &memory::OpenChat) -> (u32, u32) {
        let last = open.path.iter().rev().find_map(|step| {
            let stats = &step.message.stats;
            Some(
                stats
                    .prompt_tokens?
                    .saturating_add(stats.output_tokens.unwrap_or(0)),
            )
        });
        let model = self.preferred_model(open.chat.settings.model.as_deref());
        (
            last.unwrap_or(0),
            model.map_or(0, |model| self.context_limit(&model)),
        )
    }

    /// The context of a model here: that of its load while it is loaded, else what it was trained for.
    pub(crate) fn context_limit(&self, model: &Model) -> u32 {
        let stats = self.engine.stats();
        let stats = stats.borrow();
        if model.file.is_some() && stats.model_file == model.file && stats.context.is_some() {
            stats.context.unwrap_or(0)
        } else {
            model.context_max.unwrap_or(0)
        }
    }

    pub(super) async fn title_from_path(
        &self,
        chat: &ChatRef,
    ) -> Result<Option<String>, NodeError> {
        let open = chat.memory.open_chat(chat.id).await?;
        let first = open
            .path
            .iter()
            .find(|step| step.message.role == memory::Role::User);
        let title = first
            .map(|step| title_of(&step.message.content))
            .filter(|title| !title.is_empty());
        if let Some(title) = &title {
            chat.memory.rename(chat.id, title).await?;
        }
        Ok(title)
    }
}

/// A title from the first message: its first line, cut between words.
fn title_of(text: &str) -> String {
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let line = line.trim_start_matches(['#', '>', '*', '-', ' ', '`']);
    let mut title = String::new();
    for word in line.split_whitespace() {
        let len = title.chars().count();
        let room = TITLE_CHARS.saturating_sub(len + usize::from(len > 0));
        if word.chars().count() > room {
            if title.is_empty() {
                title = word.chars().take(TITLE_CHARS).collect();
            }
            title.push('…');
            return title;
        }
        if len > 0 {
            title.push(' ');
        }
        title.push_str(word);
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_one_short_line() {
        assert_eq!(
            title_of("What is the capital of France?"),
            "What is the capital of France?"
        );
        assert_eq!(title_of("\n\n  # A heading  \nand more"), "A heading");
        assert_eq!(title_of(""), "");
        let long = "word ".repeat(40);
        let title = title_of(&long);
        assert!(
            title.ends_with("word…") && title.chars().count() <= TITLE_CHARS + 1,
            "{title}"
        );
        assert_eq!(title_of(&"ß".repeat(100)).chars().count(), TITLE_CHARS + 1);
    }
}
