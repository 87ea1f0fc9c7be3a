//! The thread's state: the connection, what waits to be saved, what waits to be removed. Chats and streaming live here, the tree in
//! [`crate::tree`], words in [`crate::search`].

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, params};

use crate::autosave::Pending;
use crate::{
    Autosave, Chat, ChatId, ChatSettings, ChatSummary, MAX_CONTENT_BYTES, MAX_PENDING_BYTES,
    MAX_TITLE_CHARS, MemoryError, Message, MessageId, MessageState, Outcome, Span, connection,
    tree,
};

/// How long a deleted chat can be brought back. The window's "Undo" is gone long before; a restart ends it, too.
pub const UNDO_WINDOW: Duration = Duration::from_secs(10 * 60);

/// Largest system prompt, in bytes: settings are read with every list of chats.
const MAX_SETTINGS_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    path: PathBuf,
    pending: Pending,
    /// When the next deleted chat is due for removal.
    purge_due: Option<Instant>,
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Store, MemoryError> {
        let mut store = Store {
            connection: connection::open(path)?,
            path: path.to_path_buf(),
            pending: Pending::default(),
            purge_due: None,
        };
        let interrupted = store.interrupt_streaming()?;
        if interrupted > 0 {
            tracing::info!(interrupted, "answers that the last run left unfinished");
        }
        store.purge_deleted(None)?;
        Ok(store)
    }

    pub(crate) fn temporary() -> Result<Store, MemoryError> {
        let path = PathBuf::from(":memory:");
        Ok(Store {
            connection: connection::temporary()?,
            path,
            pending: Pending::default(),
            purge_due: None,
        })
    }

    // Chats.

    pub(crate) fn create_chat(
        &mut self,
        title: &str,
        settings: ChatSettings,
    ) -> Result<Chat, MemoryError> {
        let now = now_ms();
        let chat = Chat {
            id: ChatId::fresh(),
            title: clipped(title),
            pinned: false,
            created_ms: now,
            updated_ms: now,
            leaf: None,
            settings,
        };
        let settings = settings_json(&chat.settings)?;
        self.connection
            .execute(
                "INSERT INTO chat (id, title, created_ms, updated_ms, settings) VALUES (?1, ?2, ?3, ?3, ?4)",
                params![chat.id.to_string(), chat.title, to_sql(now), settings],
            )
            .map_err(|error| self.sqlite(error))?;
        Ok(chat)
    }

    pub(crate) fn chats(&mut self) -> Result<Vec<ChatSummary>, MemoryError> {
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT id, title, pinned, created_ms, updated_ms, leaf, settings,
                    EXISTS (SELECT 1 FROM message WHERE message.chat = chat.id AND remote = 1),
                    EXISTS (SELECT 1 FROM message WHERE message.chat = chat.id AND state = 'streaming'),
                    (SELECT count(*) FROM message WHERE message.chat = chat.id)
                 FROM chat WHERE deleted_ms IS NULL ORDER BY pinned DESC, updated_ms DESC, n DESC",
            )
            .map_err(|error| self.sqlite(error))?;
        let mut rows = statement.query([]).map_err(|error| self.sqlite(error))?;
        let mut chats = Vec::new();
        while let Some(row) = rows.next().map_err(|error| self.sqlite(error))? {
            let chat = tree::read_chat(row).map_err(|error| error.at(&self.path))?;
            let flag = |index| {
                row.get::<_, bool>(index)
                    .map_err(|error| self.sqlite(error))
            };
            let messages = row.get(9).map_err(|error| self.sqlite(error))?;
            chats.push(ChatSummary {
                chat,
                remote: flag(7)?,
                answering: flag(8)?,
                messages,
            });
        }
        Ok(chats)
    }

    pub(crate) fn rename(&mut self, chat: ChatId, title: &str) -> Result<(), MemoryError> {
        self.change(
            chat,
            "UPDATE chat SET title = ?2 WHERE id = ?1 AND deleted_ms IS NULL",
            &clipped(title),
        )
    }

    pub(crate) fn pin(&mut self, chat: ChatId, pinned: bool) -> Result<(), MemoryError> {
        self.change(
            chat,
            "UPDATE chat SET pinned = ?2 WHERE id = ?1 AND deleted_ms IS NULL",
            &pinned,
        )
    }

    pub(crate) fn set_settings(
        &mut self,
        chat: ChatId,
        settings: ChatSettings,
    ) -> Result<(), MemoryError> {
        let settings = settings_json(&settings)?;
        self.change(
            chat,
            "UPDATE chat SET settings = ?2 WHERE id = ?1 AND deleted_ms IS NULL",
            &settings,
        )
    }

    pub(crate) fn delete(&mut self, chat: ChatId) -> Result<(), MemoryError> {
        let now = to_sql(now_ms());
        self.change(
            chat,
            "UPDATE chat SET deleted_ms = ?2 WHERE id = ?1 AND deleted_ms IS NULL",
            &now,
        )?;
        self.purge_due
            .get_or_insert_with(|| Instant::now() + UNDO_WINDOW);
        Ok(())
    }

    pub(crate) fn restore(&mut self, chat: ChatId) -> Result<(), MemoryError> {
        self.change(
            chat,
            "UPDATE chat SET deleted_ms = NULL WHERE id = ?1 AND ?2",
            &true,
        )
    }

    fn change(
        &mut self,
        chat: ChatId,
        sql: &str,
        value: &dyn rusqlite::ToSql,
    ) -> Result<(), MemoryError> {
        let changed = self
            .connection
            .execute(sql, params![chat.to_string(), value])
            .map_err(|error| self.sqlite(error))?;
        if changed == 0 {
            Err(MemoryError::NoChat(chat))
        } else {
            Ok(())
        }
    }

    /// Removes chats that were deleted before `before` (all of them for none): rows, index, and what the log still holds.
    pub(crate) fn purge_deleted(&mut self, before: Option<u64>) -> Result<usize, MemoryError> {
        let before = before.map_or(i64::MAX, to_sql);
        let transaction = self
            .connection
            .transaction()
            .map_err(|error| MemoryError::from_sqlite(&self.path, error))?;
        let gone =
            purge_in(&transaction, before).and_then(|gone| transaction.commit().map(|()| gone));
        let gone = gone.map_err(|error| self.sqlite(error))?;
        if gone.chats > 0 {
            for message in &gone.streaming {
                if let Ok(message) = tree::message_id(message) {
                    self.pending.forget(message);
                }
            }
            // The log still holds pages with the text. A reader in another process can delay this; the next purge or close does it.
            let folded = self
                .connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                    row.get::<_, i64>(0)
                });
            match folded {
                Ok(0) => {}
                Ok(_) => tracing::warn!(
                    "another program reads the memory; deleted text leaves its log later"
                ),
                Err(error) => return Err(self.sqlite(error)),
            }
        }
        Ok(gone.chats)
    }

    // Streaming.

    pub(crate) fn append(
        &mut self,
        message: MessageId,
        text: &str,
        token_ids: &[u32],
    ) -> Result<Autosave, MemoryError> {
        let stored = self.stored_length(message)?;
        let have = stored + self.pending.text_of(message).len() + text.len();
        if have > MAX_CONTENT_BYTES {
            return Err(MemoryError::TooLarge {
                what: "an answer",
                have,
                limit: MAX_CONTENT_BYTES,
            });
        }
        if self.pending.bytes() + text.len() > MAX_PENDING_BYTES {
            // Only after many failed saves; one more try decides, and its error is the reason.
            self.flush()?;
        }
        self.pending.push(message, text, token_ids);
        if self.pending.is_large() {
            // A failure is kept in `pending`; the text stays and the answer goes on.
            let _ = self.flush();
        }
        Ok(self.pending.state())
    }

    pub(crate) fn token_ids(&self, message: MessageId) -> Result<Vec<u32>, MemoryError> {
        let stored: Option<String> = self
            .connection
            .query_row(
                "SELECT token_ids FROM message WHERE id = ?1",
                [message.to_string()],
                |row| row.get(0),
            )
            .optional()
            .map_err(|error| self.sqlite(error))?;
        let stored = stored.ok_or(MemoryError::NoMessage(message))?;
        let waiting = self.pending.token_ids_of(message);
        stored
            .split_ascii_whitespace()
            .chain(waiting.split_ascii_whitespace())
            .map(|id| {
                id.parse().map_err(|_| MemoryError::Unreadable {
                    what: "a token of an answer",
                    value: id.to_owned(),
                })
            })
            .collect()
    }

    pub(crate) fn set_spans(
        &mut self,
        message: MessageId,
        spans: Vec<Span>,
    ) -> Result<(), MemoryError> {
        self.stored_length(message)?;
        self.connection
            .execute(
                "UPDATE message SET spans = ?2, remote = ?3 WHERE id = ?1",
                params![
                    message.to_string(),
                    tree::json(&spans),
                    tree::is_remote(&spans)
                ],
            )
            .map_err(|error| self.sqlite(error))?;
        Ok(())
    }

    pub(crate) fn finish(
        &mut self,
        message: MessageId,
        outcome: Outcome,
    ) -> Result<Message, MemoryError> {
        if outcome.state == MessageState::Streaming {
            return Err(MemoryError::NoEnd);
        }
        self.stored_length(message)?;
        let id = message.to_string();
        let now = to_sql(now_ms());
        let written = self.connection.transaction().and_then(|transaction| {
            transaction.execute(
                "UPDATE message SET state = ?2, content = content || ?3, spans = coalesce(?4, spans), remote = coalesce(?5, remote),
                    model = coalesce(?6, model), prompt_tokens = ?7, output_tokens = ?8, first_token_ms = ?9, tokens_per_second = ?10,
                    reasoning_ms = ?11, error = ?12, token_ids = token_ids || ?13
                 WHERE id = ?1",
                params![
                    id,
                    outcome.state.as_str(),
                    self.pending.text_of(message),
                    outcome.spans.as_ref().map(tree::json),
                    outcome.spans.as_deref().map(tree::is_remote),
                    outcome.model.as_ref().map(tree::json),
                    outcome.stats.prompt_tokens,
                    outcome.stats.output_tokens,
                    outcome.stats.first_token_ms,
                    outcome.stats.tokens_per_second,
                    outcome.stats.reasoning_ms,
                    outcome.error.as_ref().map(tree::json),
                    self.pending.token_ids_of(message),
                ],
            )?;
            transaction.execute("UPDATE chat SET updated_ms = ?2 WHERE id = (SELECT chat FROM message WHERE id = ?1)", params![id, now])?;
            transaction.commit()
        });
        match written {
            Ok(()) => {
                self.pending.forget(message);
                self.message(message)
            }
            Err(error) => {
                self.pending.failed_if_any();
                Err(self.sqlite(error))
            }
        }
    }

    /// Writes what waits. On failure all of it still waits.
    pub(crate) fn flush(&mut self) -> Result<(), MemoryError> {
        if self.pending.bytes() == 0 {
            return Ok(());
        }
        let written = self.connection.transaction().and_then(|transaction| {
            {
                let mut statement = transaction.prepare_cached(
                    "UPDATE message SET content = content || ?2, token_ids = token_ids || ?3 WHERE id = ?1",
                )?;
                for (message, waiting) in self.pending.iter() {
                    statement.execute(params![
                        message.to_string(),
                        waiting.text,
                        waiting.token_ids
                    ])?;
                }
            }
            transaction.commit()
        });
        match written {
            Ok(()) => {
                self.pending.clear();
                Ok(())
            }
            Err(error) => {
                self.pending.failed();
                Err(self.sqlite(error))
            }
        }
    }

    /// Bytes stored of a message that streams; an error where it does not.
    fn stored_length(&self, message: MessageId) -> Result<usize, MemoryError> {
        let row: Option<(String, i64)> = self
            .connection
            .prepare_cached("SELECT state, octet_length(content) FROM message WHERE id = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([message.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .map_err(|error| self.sqlite(error))?;
        match row {
            None => Err(MemoryError::NoMessage(message)),
            Some((state, bytes)) if state == MessageState::Streaming.as_str() => {
                Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
            }
            Some(_) => Err(MemoryError::Finished(message)),
        }
    }

    /// What streamed when the last run ended is marked as such; its text stays.
    fn interrupt_streaming(&mut self) -> Result<usize, MemoryError> {
        self.connection
            .execute(
                "UPDATE message SET state = 'interrupted' WHERE state = 'streaming'",
                [],
            )
            .map_err(|error| self.sqlite(error))
    }

    // Housekeeping.

    /// When [`Store::housekeeping`] is next due.
    pub(crate) fn due(&self) -> Option<Instant> {
        match (self.pending.due(), self.purge_due) {
            (Some(save), Some(purge)) => Some(save.min(purge)),
            (save, purge) => save.or(purge),
        }
    }

    pub(crate) fn housekeeping(&mut self) {
        let now = Instant::now();
        if self.pending.due().is_some_and(|due| due <= now)
            && let Err(error) = self.flush()
        {
            tracing::warn!(%error, "answers could not be saved; tried again soon");
        }
        if self.purge_due.is_some_and(|due| due <= now) {
            self.purge_due = self.remove_old();
        }
    }

    /// Removes what was deleted long enough ago, and says when to look again.
    fn remove_old(&mut self) -> Option<Instant> {
        let window = u64::try_from(UNDO_WINDOW.as_millis()).unwrap_or(u64::MAX);
        if let Err(error) = self.purge_deleted(Some(now_ms().saturating_sub(window))) {
            tracing::warn!(%error, "deleted chats could not be removed; tried again later");
            return Some(Instant::now() + UNDO_WINDOW);
        }
        let left: bool = self
            .connection
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM chat WHERE deleted_ms IS NOT NULL)",
                [],
                |row| row.get(0),
            )
            .unwrap_or(true);
        left.then(|| Instant::now() + UNDO_WINDOW)
    }

    /// Saves, and closes the connection, which folds the log back into the file.
    pub(crate) fn close(mut self) -> Result<(), MemoryError> {
        let saved = self.flush();
        let path = self.path;
        let closed = self
            .connection
            .close()
            .map_err(|(_, error)| MemoryError::from_sqlite(&path, error));
        saved.and(closed)
    }

    // For the neighbours.

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub(crate) fn pending_text(&self, message: MessageId) -> &str {
        self.pending.text_of(message)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn sqlite(&self, error: rusqlite::Error) -> MemoryError {
        MemoryError::from_sqlite(&self.path, error)
    }
}

struct Purged {
    chats: usize,
    streaming: Vec<String>,
}

fn purge_in(transaction: &rusqlite::Transaction<'_>, before: i64) -> rusqlite::Result<Purged> {
    let deleted = "SELECT id FROM chat WHERE deleted_ms IS NOT NULL AND deleted_ms <= ?1";
    let streaming = transaction
        .prepare(&format!(
            "SELECT id FROM message WHERE state = 'streaming' AND chat IN ({deleted})"
        ))?
        .query_map([before], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    transaction.execute(
        &format!("DELETE FROM message WHERE chat IN ({deleted})"),
        [before],
    )?;
    let chats = transaction.execute(
        "DELETE FROM chat WHERE deleted_ms IS NOT NULL AND deleted_ms <= ?1",
        [before],
    )?;
    Ok(Purged { chats, streaming })
}

fn settings_json(settings: &ChatSettings) -> Result<String, MemoryError> {
    let json = tree::json(settings);
    if json.len() > MAX_SETTINGS_BYTES {
        return Err(MemoryError::TooLarge {
            what: "the settings of a chat",
            have: json.len(),
            limit: MAX_SETTINGS_BYTES,
        });
    }
    Ok(json)
}

/// One line of at most [`MAX_TITLE_CHARS`].
fn clipped(title: &str) -> String {
    title
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_TITLE_CHARS)
        .collect()
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// SQLite's integers are signed; times are not.
pub(crate) fn to_sql(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
