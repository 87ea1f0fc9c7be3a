//! Conversations: what a shell does with them. How one answer is computed is in `ask`.

mod convert;
mod export;
mod open;
mod view;

use memory::{ChatId, ChatSettings, Memory, MessageId, NewMessage};
use tokio::sync::mpsc;

pub(crate) use convert::{message as message_view, summary};
pub use view::{
    AnswerEvent, ChatPatch, ChatSummary, ChatView, ContextUse, ExportFormat, Message, MessageState,
    MoveReason, OnFull, Phase, Place, Role, Sampling, SearchHit, Span,
};

use crate::{
    ask::{self, Ask, prompt},
    error::NodeError,
    node::Node,
};

/// The longest message a person may send. No context of today holds its tokens; it keeps a pasted film out of memory.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// What a new chat that starts from a summary shows as its first question.
const SUMMARY_QUESTION: &str =
    "Please summarise our earlier conversation, so that we can go on from here.";

/// What the model is told when it writes that summary.
const SUMMARY_INSTRUCTION: &str = "Summarise our conversation so far for somebody who goes on with it: the facts, names, \
     numbers, decisions and open questions, in a few short paragraphs. Leave out greetings.";

/// A chat, and the database it lies in.
#[derive(Debug, Clone)]
pub(crate) struct ChatRef {
    pub(crate) id: ChatId,
    pub(crate) memory: Memory,
    pub(crate) temporary: bool,
}

impl Node {
    /// All chats, pinned ones first, then the newest.
    ///
    /// # Errors
    /// [`NodeError::Memory`].
    pub async fn chats_list(&self) -> Result<Vec<ChatSummary>, NodeError> {
        Ok(self
            .inner
            .memory
            .chats()
            .await?
            .into_iter()
            .map(summary)
            .collect())
    }

    /// Places in all chats where every word is found.
    ///
    /// # Errors
    /// [`NodeError::Memory`].
    pub async fn chats_search(&self, query: &str) -> Result<Vec<SearchHit>, NodeError> {
        Ok(self
            .inner
            .memory
            .search(query)
            .await?
            .into_iter()
            .map(SearchHit::from)
            .collect())
    }

    /// A new chat with the place that the settings name. A temporary one is never stored and in no list.
    ///
    /// # Errors
    /// [`NodeError::Memory`].
    pub async fn chat_create(&self, temporary: bool) -> Result<ChatView, NodeError> {
        let inner = &self.inner;
        let settings = ChatSettings {
            place: inner.settings.borrow().place.into(),
            ..ChatSettings::default()
        };
        let chat = inner.create_chat(temporary, "", settings).await?;
        inner.chat_view(&chat).await
    }

    /// A chat with its active branch.
    ///
    /// # Errors
    /// [`NodeError::ChatMissing`], [`NodeError::Memory`].
    pub async fn chat_open(&self, chat: &str) -> Result<ChatView, NodeError> {
        let chat = self.inner.chat(chat)?;
        self.inner.chat_view(&chat).await
    }

    /// Gives a chat a title.
    ///
    /// # Errors
    /// [`NodeError::ChatMissing`], [`NodeError::Memory`].
    pub async fn chat_rename(&self, chat: &str, title: &str) -> Result<(), NodeError> {
        let chat = self.inner.chat(chat)?;
        chat.memory.rename(chat.id, title.trim()).await?;
        self.inner.chats_changed();
        Ok(())
    }

    /// Keeps a chat on top, or no longer.
    ///
    /// # Errors
    /// [`NodeError::ChatMissing`], [`NodeError::Memory`].
    pub async fn chat_pin(&self, chat: &str, pinned: bool) -> Result<(), NodeError> {
        let chat = self.inner.chat(chat)?;
        chat.memory.pin(chat.id, pinned).await?;
        self.inner.chats_changed();
        Ok(())
    }

    /// Deletes a chat, after stopping its answer. [`Node::chat_restore`] takes it back for ten minutes.
    ///
    /// # Errors
    /// [`NodeError::ChatMissing`], [`NodeError::Memory`].
    pub async fn chat_delete(&self, chat: &str) -> Result<(), NodeError> {
        let chat = self.inner.chat(chat)?;
        self.inner.answers.stop(chat.id);
        chat.memory.delete(chat.id).await?;
        self.inner.chats_changed();
        Ok(())
    }

    /// Takes a deletion back.
    ///
    /// # Errors
    /// [`NodeError::ChatMissing`] when it is too late, [`NodeError::Memory`].
    pub async fn chat_restore(&self, chat: &str) -> Result<(), NodeError> {
        let chat = self.inner.chat(chat)?;
        chat.memory.restore(chat.id).await?;
        self.inner.chats_changed();
        Ok(())
    }

    /// Changes what is set for a chat.
    ///
    /// # Errors
    /// [`NodeError::ModelUnknown`], [`NodeError::NotAPeer`], [`NodeError::Engine`] for sampling out of range, [`NodeError::ChatMissing`],
    /// [`NodeError::Memory`]; nothing is changed then.
    pub async fn chat_update(&self, chat: &str, patch: ChatPatch) -> Result<ChatView, NodeError> {
        let inner = &self.inner;
        let chat = inner.chat(chat)?;
        let mut settings = chat.memory.open_chat(chat.id).await?.chat.settings;
        let ChatPatch {
            model,
            place,
            peer,
            consented,
            system_prompt,
            sampling,
            on_full,
        } = patch;
        if let Some(model) = model {
            if let Some(id) = &model {
                inner.known_model(id)?;
            }
            settings.model = model;
        }
        if let Some(place) = place {
            settings.place = place.into();
        }
        if let Some(peer) = peer {
            if let Some(id) = &peer {
                id.parse::<protocol::PeerId>()
                    .map_err(|_| NodeError::NotAPeer { id: id.clone() })?;
            }
            settings.peer = peer;
        }
        if let Some(consented) = consented {
            settings.consented = consented;
        }
        if let Some(system_prompt) = system_prompt {
            settings.system_prompt = system_prompt;
        }
        if let Some(sampling) = sampling {
            sampling.check()?;
            settings.sampling = Some(sampling.into());
        }
        if let Some(on_full) = on_full {
            settings.on_full = on_full.into();
        }
        chat.memory.set_settings(chat.id, settings).await?;
        inner.chats_changed();
        inner.chat_view(&chat).await
    }

    /// Makes the branch through a message the active one.
    ///
    /// # Errors
    /// [`NodeError::ChatMissing`], [`NodeError::MessageMissing`], [`NodeError::Memory`].
    pub async fn chat_choose(&self, chat: &str, message: &str) -> Result<ChatView, NodeError> {
        let chat = self.inner.chat(chat)?;
        chat.memory.choose(chat.id, message_id(message)?).await?;
        self.inner.chat_view(&chat).await
    }

    /// Sends a message below `parent` and answers it; without a text, answers the message `parent` once more. Returns
    /// when the messages exist; what follows comes as events, of which [`AnswerEvent::Finished`] is the last. The answer
    /// is computed and kept also when nobody listens.
    ///
    /// # Errors
    /// Before anything is stored: [`NodeError::NothingToSend`], [`NodeError::TooLong`], [`NodeError::ChatBusy`],
    /// [`NodeError::TooManyAnswers`], [`NodeError::ConsentNeeded`], [`NodeError::NoModel`], [`NodeError::ModelMissing`],
    /// [`NodeError::ContextFull`], [`NodeError::MessageTooLong`], [`NodeError::Engine`], [`NodeError::Memory`].
    pub async fn chat_send(
        &self,
        chat: &str,
        parent: Option<&str>,
        text: Option<String>,
    ) -> Result<mpsc::Receiver<AnswerEvent>, NodeError> {
        let inner = &self.inner;
        let chat = inner.chat(chat)?;
        let parent = parent.map(message_id).transpose()?;
        if let Some(text) = &text {
            if text.trim().is_empty() {
                return Err(NodeError::NothingToSend);
            }
            if text.len() > MAX_MESSAGE_BYTES {
                return Err(NodeError::TooLong {
                    bytes: text.len(),
                    limit: MAX_MESSAGE_BYTES,
                });
            }
        }
        let slot = ask::Slot::take(inner, chat.id)?;
        let open = chat.memory.open_chat(chat.id).await?;
        let mut branch = match parent {
            Some(parent) => chat.memory.branch(parent).await?,
            None => Vec::new(),
        };
        if branch.first().is_some_and(|first| first.chat != chat.id) {
            return Err(NodeError::MessageMissing {
                message: parent.map(|id| id.to_string()).unwrap_or_default(),
            });
        }
        let question = match &text {
            Some(text) => Some(NewMessage::user(parent, text.clone())),
            None => match branch.last() {
                Some(last) if last.role == memory::Role::User => None,
                Some(_) | None => return Err(NodeError::NothingToSend),
            },
        };
        let settings = &open.chat.settings;
        let target = inner.target(settings)?;
        let mut turns = prompt::turns(std::mem::take(&mut branch));
        if let Some(text) = text {
            prompt::say(&mut turns, text);
        }
        let mut ask = Ask::new(slot, chat.clone(), settings, target, turns);
        // What can be known before anything is stored is said before: the composer keeps its text.
        ask.check_context().await?;

        let asked = match question {
            Some(question) => Some(chat.memory.insert(chat.id, question).await?.id),
            None => None,
        };
        let below = match (asked, parent) {
            (Some(id), _) | (None, Some(id)) => id,
            (None, None) => return Err(NodeError::NothingToSend),
        };
        let answer = chat
            .memory
            .insert(chat.id, NewMessage::answer(below, ask.model_used()))
            .await?;
        let title = match open.chat.title.is_empty() {
            true => inner.title_from_path(&chat).await?,
            false => None,
        };
        inner.chats_changed();
        Ok(ask.begin(asked, answer, title).await)
    }

    /// Goes on with an answer that ended before its end: stopped, cut, or at the limit of tokens. The message stays as it
    /// is; beside it stands a longer one that begins with the same tokens, and the events are those of that one.
    ///
    /// # Errors
    /// [`NodeError::NothingToContinue`] when the answer is whole or its tokens are not known, [`NodeError::OtherModel`],
    /// and as [`Node::chat_send`].
    pub async fn chat_continue(
        &self,
        chat: &str,
        answer: &str,
    ) -> Result<mpsc::Receiver<AnswerEvent>, NodeError> {
        let inner = &self.inner;
        let chat = inner.chat(chat)?;
        let answer = message_id(answer)?;
        let slot = ask::Slot::take(inner, chat.id)?;
        let settings = chat.memory.open_chat(chat.id).await?.chat.settings;
        let mut branch = chat.memory.branch(answer).await?;
        let (Some(old), Some(question)) = (branch.pop(), branch.last().map(|asked| asked.id))
        else {
            return Err(NodeError::NothingToContinue);
        };
        if old.chat != chat.id {
            return Err(NodeError::MessageMissing {
                message: answer.to_string(),
            });
        }
        let cut = match old.state {
            memory::MessageState::Stopped
            | memory::MessageState::Interrupted
            | memory::MessageState::Length => true,
            memory::MessageState::Streaming
            | memory::MessageState::Complete
            | memory::MessageState::Failed => false,
        };
        let tokens = chat.memory.token_ids(old.id).await?;
        if !cut || tokens.is_empty() || old.role != memory::Role::Assistant {
            return Err(NodeError::NothingToContinue);
        }
        let target = inner.target(&settings)?;
        let mut ask = Ask::new(slot, chat.clone(), &settings, target, prompt::turns(branch))
            .resuming(tokens.clone(), old.model.clone())?;
        ask.check_context().await?;

        let longer = NewMessage {
            content: old.content,
            spans: old.spans,
            stats: memory::Stats {
                reasoning_ms: old.stats.reasoning_ms,
                ..memory::Stats::default()
            },
            ..NewMessage::answer(question, ask.model_used())
        };
        let answer = chat.memory.insert(chat.id, longer).await?;
        chat.memory.append(answer.id, "", &tokens).await?;
        inner.chats_changed();
        Ok(ask.begin(None, answer, None).await)
    }

    /// Stops the answer that is being written in a chat; what came is kept. Nothing happens when there is none.
    ///
    /// # Errors
    /// [`NodeError::ChatMissing`] when the id is none.
    pub fn chat_stop(&self, chat: &str) -> Result<(), NodeError> {
        let chat = self.inner.chat(chat)?;
        self.inner.answers.stop(chat.id);
        Ok(())
    }

    /// How full the context would be with this draft sent. Where the model's head is not at hand it is what the last
    /// answer used.
    ///
    /// # Errors
    /// [`NodeError::ChatMissing`], [`NodeError::Engine`], [`NodeError::Memory`].
    pub async fn chat_context(&self, chat: &str, draft: &str) -> Result<ContextUse, NodeError> {
        let inner = &self.inner;
        let chat = inner.chat(chat)?;
        let open = chat.memory.open_chat(chat.id).await?;
        // Who wants to know that is writing.
        inner.warm(&open);
        let (used, limit) = inner.context_of(&open);
        let Some((file, model)) = inner.text_at_hand(&open.chat.settings) else {
            return Ok(ContextUse { used, limit });
        };
        let mut turns = prompt::turns(open.path.into_iter().map(|step| step.message).collect());
        if !draft.trim().is_empty() && draft.len() <= MAX_MESSAGE_BYTES {
            prompt::say(&mut turns, draft.to_owned());
        }
        if turns.is_empty() {
            return Ok(ContextUse { used: 0, limit });
        }
        let system = prompt::system(open.chat.settings.system_prompt.as_deref(), Some(&model));
        let ids = prompt::render(&inner.engine, &file, system, &turns).await?;
        Ok(ContextUse {
            used: u32::try_from(ids.len()).unwrap_or(u32::MAX),
            limit,
        })
    }

    /// Starts a new chat from a summary of this one, written by its model at its place. Returns the new chat's id and
    /// the events of the summary.
    ///
    /// # Errors
    /// As [`Node::chat_send`].
    pub async fn chat_summarise(
        &self,
        chat: &str,
    ) -> Result<(String, mpsc::Receiver<AnswerEvent>), NodeError> {
        let inner = &self.inner;
        let old = inner.chat(chat)?;
        let open = old.memory.open_chat(old.id).await?;
        let mut turns = prompt::turns(open.path.into_iter().map(|step| step.message).collect());
        if turns.is_empty() {
            return Err(NodeError::NothingToSend);
        }
        prompt::say(&mut turns, SUMMARY_INSTRUCTION.to_owned());
        let mut settings = open.chat.settings;
        let target = inner.target(&settings)?;
        let title = match open.chat.title.is_empty() {
            true => "Summary".to_owned(),
            false => format!("{} (continued)", open.chat.title),
        };
        let new = inner
            .create_chat(old.temporary, &title, settings.clone())
            .await?;
        let slot = ask::Slot::take(inner, new.id)?;
        // The old chat is too long by nature: what does not fit is left out of the summary.
        settings.on_full = memory::OnFull::DropOldest;
        let mut ask = Ask::new(slot, new.clone(), &settings, target, turns);
        let prepared = match ask.check_context().await {
            Ok(()) => self.summary_messages(&new, &ask).await,
            Err(error) => Err(error),
        };
        match prepared {
            Ok((question, answer)) => {
                inner.chats_changed();
                Ok((
                    new.id.to_string(),
                    ask.begin(Some(question), answer, None).await,
                ))
            }
            Err(error) => {
                // Nobody has seen the new chat: an empty one is not left behind.
                new.memory.delete(new.id).await?;
                Err(error)
            }
        }
    }

    async fn summary_messages(
        &self,
        new: &ChatRef,
        ask: &Ask,
    ) -> Result<(MessageId, memory::Message), NodeError> {
        let question = new
            .memory
            .insert(new.id, NewMessage::user(None, SUMMARY_QUESTION))
            .await?;
        let answer = new
            .memory
            .insert(new.id, NewMessage::answer(question.id, ask.model_used()))
            .await?;
        Ok((question.id, answer))
    }

    /// A chat as a text to take away: the active branch as Markdown, or every branch as JSON.
    ///
    /// # Errors
    /// [`NodeError::ChatMissing`], [`NodeError::Memory`].
    pub async fn chat_export(&self, chat: &str, format: ExportFormat) -> Result<String, NodeError> {
        let chat = self.inner.chat(chat)?;
        let open = chat.memory.open_chat(chat.id).await?;
        match format {
            ExportFormat::Markdown => Ok(export::markdown(&open)),
            ExportFormat::Json => Ok(export::json(&open, &chat.memory.tree(chat.id).await?)),
        }
    }
}

fn message_id(id: &str) -> Result<MessageId, NodeError> {
    id.parse().map_err(|_| NodeError::MessageMissing {
        message: id.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_tells_null_from_absent() {
        let patch: ChatPatch = serde_json::from_str(r#"{"peer":null,"place":"peer"}"#).unwrap();
        assert_eq!(patch.peer, Some(None));
        assert_eq!(patch.model, None);
        let again: ChatPatch =
            serde_json::from_str(&serde_json::to_string(&patch).unwrap()).unwrap();
        assert_eq!(again, patch);
    }
}
