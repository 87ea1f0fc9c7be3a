//! The tree: putting messages in, and reading branches out.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::store::{Store, now_ms, to_sql};
use crate::{
    Chat, ChatId, MAX_CONTENT_BYTES, MemoryError, Message, MessageId, NewMessage, OpenChat,
    PathMessage, Span, Stats,
};

/// Columns of a message in the order in which [`read_message`] reads them.
const COLUMNS: &str = "id, chat, parent, role, state, content, model, spans, prompt_tokens, output_tokens, first_token_ms, \
     tokens_per_second, reasoning_ms, error, created_ms";

impl Store {
    pub(crate) fn insert(&mut self, chat: ChatId, new: NewMessage) -> Result<Message, MemoryError> {
        if new.content.len() > MAX_CONTENT_BYTES {
            return Err(MemoryError::TooLarge {
                what: "a message",
                have: new.content.len(),
                limit: MAX_CONTENT_BYTES,
            });
        }
        self.chat(chat)?;
        if let Some(parent) = new.parent
            && self.chat_of(parent)? != chat
        {
            return Err(MemoryError::NoMessage(parent));
        }
        let now = now_ms();
        let message = Message {
            id: MessageId::fresh(),
            chat,
            parent: new.parent,
            role: new.role,
            content: new.content,
            state: new.state,
            model: new.model,
            spans: new.spans,
            stats: new.stats,
            error: new.error,
            created_ms: new.created_ms.unwrap_or(now),
        };
        let written = self.connection_mut().transaction().and_then(|transaction| {
            write(&transaction, &message)?;
            transaction.execute(
                "UPDATE chat SET leaf = ?2, updated_ms = ?3 WHERE id = ?1",
                params![chat.to_string(), message.id.to_string(), to_sql(now)],
            )?;
            transaction.commit()
        });
        written.map_err(|error| self.sqlite(error))?;
        Ok(message)
    }

    pub(crate) fn choose(&mut self, chat: ChatId, message: MessageId) -> Result<(), MemoryError> {
        self.chat(chat)?;
        if self.chat_of(message)? != chat {
            return Err(MemoryError::NoMessage(message));
        }
        let (links, _) = self.links(chat)?;
        let mut youngest: HashMap<MessageId, MessageId> = HashMap::new();
        for (id, parent) in links {
            if let Some(parent) = parent {
                youngest.insert(parent, id);
            }
        }
        let mut leaf = message;
        while let Some(child) = youngest.get(&leaf) {
            leaf = *child;
        }
        self.connection()
            .execute(
                "UPDATE chat SET leaf = ?2 WHERE id = ?1",
                params![chat.to_string(), leaf.to_string()],
            )
            .map_err(|error| self.sqlite(error))?;
        Ok(())
    }

    pub(crate) fn open_chat(&mut self, chat: ChatId) -> Result<OpenChat, MemoryError> {
        let chat = self.chat(chat)?;
        let (links, remote) = self.links(chat.id)?;
        let mut children: HashMap<Option<MessageId>, Vec<MessageId>> = HashMap::new();
        for (id, parent) in links {
            children.entry(parent).or_default().push(id);
        }
        let messages = match chat.leaf {
            Some(leaf) => self.branch(leaf)?,
            None => Vec::new(),
        };
        let path = messages
            .into_iter()
            .map(|message| {
                let siblings = children.get(&message.parent).cloned().unwrap_or_default();
                PathMessage { message, siblings }
            })
            .collect();
        Ok(OpenChat { chat, remote, path })
    }

    pub(crate) fn branch(&self, leaf: MessageId) -> Result<Vec<Message>, MemoryError> {
        let sql = format!(
            "WITH RECURSIVE path (id, up, depth) AS (
                SELECT id, parent, 0 FROM message WHERE id = ?1
                UNION ALL SELECT message.id, message.parent, depth + 1 FROM path JOIN message ON message.id = path.up
             )
             SELECT {} FROM path JOIN message USING (id) ORDER BY depth DESC",
            COLUMNS.split(", ").map(|column| format!("message.{column}")).collect::<Vec<_>>().join(", ")
        );
        let messages = self.messages(&sql, &leaf.to_string())?;
        if messages.is_empty() {
            Err(MemoryError::NoMessage(leaf))
        } else {
            Ok(messages)
        }
    }

    pub(crate) fn tree(&self, chat: ChatId) -> Result<Vec<Message>, MemoryError> {
        self.chat(chat)?;
        // A parent is always inserted before its children.
        self.messages(
            &format!("SELECT {COLUMNS} FROM message WHERE chat = ?1 ORDER BY n"),
            &chat.to_string(),
        )
    }

    pub(crate) fn message(&self, message: MessageId) -> Result<Message, MemoryError> {
        let found = self.messages(
            &format!("SELECT {COLUMNS} FROM message WHERE id = ?1"),
            &message.to_string(),
        )?;
        found
            .into_iter()
            .next()
            .ok_or(MemoryError::NoMessage(message))
    }

    fn messages(&self, sql: &str, key: &str) -> Result<Vec<Message>, MemoryError> {
        let mut statement = self
            .connection()
            .prepare_cached(sql)
            .map_err(|error| self.sqlite(error))?;
        let mut rows = statement.query([key]).map_err(|error| self.sqlite(error))?;
        let mut messages = Vec::new();
        while let Some(row) = rows.next().map_err(|error| self.sqlite(error))? {
            let mut message = read_message(row).map_err(|error| error.at(self.path()))?;
            message.content.push_str(self.pending_text(message.id));
            messages.push(message);
        }
        Ok(messages)
    }

    /// Every message of a chat with its parent, siblings oldest first, and whether any came from a peer.
    #[allow(clippy::type_complexity)]
    fn links(
        &self,
        chat: ChatId,
    ) -> Result<(Vec<(MessageId, Option<MessageId>)>, bool), MemoryError> {
        let mut statement = self
            .connection()
            .prepare_cached(
                "SELECT id, parent, remote FROM message WHERE chat = ?1 ORDER BY created_ms, n",
            )
            .map_err(|error| self.sqlite(error))?;
        let mut rows = statement
            .query([chat.to_string()])
            .map_err(|error| self.sqlite(error))?;
        let (mut links, mut any_remote) = (Vec::new(), false);
        while let Some(row) = rows.next().map_err(|error| self.sqlite(error))? {
            let id: String = row.get(0).map_err(|error| self.sqlite(error))?;
            let parent: Option<String> = row.get(1).map_err(|error| self.sqlite(error))?;
            let remote: bool = row.get(2).map_err(|error| self.sqlite(error))?;
            links.push((
                message_id(&id)?,
                parent.as_deref().map(message_id).transpose()?,
            ));
            any_remote |= remote;
        }
        Ok((links, any_remote))
    }

    /// A chat that is not deleted.
    fn chat(&self, chat: ChatId) -> Result<Chat, MemoryError> {
        let mut statement = self
            .connection()
            .prepare_cached(
                "SELECT id, title, pinned, created_ms, updated_ms, leaf, settings FROM chat WHERE id = ?1 AND deleted_ms IS NULL",
            )
            .map_err(|error| self.sqlite(error))?;
        let mut rows = statement
            .query([chat.to_string()])
            .map_err(|error| self.sqlite(error))?;
        match rows.next().map_err(|error| self.sqlite(error))? {
            Some(row) => read_chat(row).map_err(|error| error.at(self.path())),
            None => Err(MemoryError::NoChat(chat)),
        }
    }

    fn chat_of(&self, message: MessageId) -> Result<ChatId, MemoryError> {
        let chat: Option<String> = self
            .connection()
            .prepare_cached("SELECT chat FROM message WHERE id = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([message.to_string()], |row| row.get(0))
                    .optional()
            })
            .map_err(|error| self.sqlite(error))?;
        chat_id(&chat.ok_or(MemoryError::NoMessage(message))?)
    }
}

fn write(connection: &Connection, message: &Message) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO message (id, chat, parent, role, state, content, model, spans, remote, prompt_tokens, output_tokens, first_token_ms,
            tokens_per_second, reasoning_ms, error, created_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    statement.execute(params![
        message.id.to_string(),
        message.chat.to_string(),
        message.parent.map(|parent| parent.to_string()),
        message.role.as_str(),
        message.state.as_str(),
        message.content,
        message.model.as_ref().map(json),
        json(&message.spans),
        is_remote(&message.spans),
        message.stats.prompt_tokens,
        message.stats.output_tokens,
        message.stats.first_token_ms,
        message.stats.tokens_per_second,
        message.stats.reasoning_ms,
        message.error.as_ref().map(json),
        to_sql(message.created_ms),
    ])?;
    Ok(())
}

/// Why a row could not be read, before the file's name is known.
pub(crate) enum RowError {
    Sqlite(rusqlite::Error),
    Value(MemoryError),
}

impl RowError {
    pub(crate) fn at(self, path: &Path) -> MemoryError {
        match self {
            RowError::Sqlite(error) => MemoryError::from_sqlite(path, error),
            RowError::Value(error) => error,
        }
    }
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        RowError::Sqlite(error)
    }
}

impl From<MemoryError> for RowError {
    fn from(error: MemoryError) -> Self {
        RowError::Value(error)
    }
}

/// Reads the columns `id, title, pinned, created_ms, updated_ms, leaf, settings`.
pub(crate) fn read_chat(row: &Row<'_>) -> Result<Chat, RowError> {
    let settings: String = row.get(6)?;
    Ok(Chat {
        id: chat_id(&row.get::<_, String>(0)?)?,
        title: row.get(1)?,
        pinned: row.get(2)?,
        created_ms: from_sql(row.get(3)?),
        updated_ms: from_sql(row.get(4)?),
        leaf: row
            .get::<_, Option<String>>(5)?
            .as_deref()
            .map(message_id)
            .transpose()?,
        settings: parsed(&settings, "the settings of a chat")?,
    })
}

fn read_message(row: &Row<'_>) -> Result<Message, RowError> {
    let spans: String = row.get(7)?;
    Ok(Message {
        id: message_id(&row.get::<_, String>(0)?)?,
        chat: chat_id(&row.get::<_, String>(1)?)?,
        parent: row
            .get::<_, Option<String>>(2)?
            .as_deref()
            .map(message_id)
            .transpose()?,
        role: row.get::<_, String>(3)?.parse()?,
        state: row.get::<_, String>(4)?.parse()?,
        content: row.get(5)?,
        model: row
            .get::<_, Option<String>>(6)?
            .map(|text| parsed(&text, "a model"))
            .transpose()?,
        spans: parsed(&spans, "the places of an answer")?,
        stats: Stats {
            prompt_tokens: row.get(8)?,
            output_tokens: row.get(9)?,
            first_token_ms: row.get(10)?,
            tokens_per_second: row.get(11)?,
            reasoning_ms: row.get(12)?,
        },
        error: row
            .get::<_, Option<String>>(13)?
            .map(|text| parsed(&text, "an error"))
            .transpose()?,
        created_ms: from_sql(row.get(14)?),
    })
}

pub(crate) fn is_remote(spans: &[Span]) -> bool {
    spans.iter().any(|span| span.peer.is_some())
}

/// Our own small structs as JSON. They hold no map with keys that are not text, so that this cannot fail; were it to, the row would be
/// empty rather than the program gone.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn parsed<T: serde::de::DeserializeOwned>(
    text: &str,
    what: &'static str,
) -> Result<T, MemoryError> {
    serde_json::from_str(text).map_err(|_| MemoryError::Unreadable {
        what,
        value: text.to_owned(),
    })
}

pub(crate) fn chat_id(text: &str) -> Result<ChatId, MemoryError> {
    text.parse().map_err(|_| MemoryError::Unreadable {
        what: "the id of a chat",
        value: text.to_owned(),
    })
}

pub(crate) fn message_id(text: &str) -> Result<MessageId, MemoryError> {
    text.parse().map_err(|_| MemoryError::Unreadable {
        what: "the id of a message",
        value: text.to_owned(),
    })
}

fn from_sql(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}
