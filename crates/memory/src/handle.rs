//! The handle that callers hold, and the thread that owns the connection.
//!
//! Callers send closures; the thread runs one after the other, and between them saves what streams ([`crate::AUTOSAVE_EVERY`]) and
//! removes what was deleted long enough ago. It ends when [`Memory::close`] is called or the last handle is dropped, and saves first.

use std::fmt;
use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot};

use crate::store::Store;
use crate::{
    Autosave, Chat, ChatId, ChatSettings, ChatSummary, MemoryError, Message, MessageId, NewMessage,
    OpenChat, Outcome, SearchHit, Span,
};

/// Pieces of work that may wait for the thread. More waiting callers than this wait in `send`: a person has one window and a few
/// answers at a time.
pub const QUEUE: usize = 64;

/// Stack of the database thread. SQLite's parser and FTS5 are content with far less.
const STACK_BYTES: usize = 2 * 1024 * 1024;

type Job = Box<dyn FnOnce(&mut Store) + Send>;

enum Work {
    Run(Job),
    Close(oneshot::Sender<Result<(), MemoryError>>),
}

/// A handle on the user's conversations. Clones share one connection.
#[derive(Clone)]
pub struct Memory {
    inbox: mpsc::Sender<Work>,
    path: PathBuf,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// Opens the file, makes it where there is none, migrates it where it is older, marks answers that a crash cut as
    /// [`crate::MessageState::Interrupted`], and finally removes chats that were deleted before.
    pub async fn open(path: impl AsRef<Path>) -> Result<Memory, MemoryError> {
        let path = path.as_ref().to_path_buf();
        Self::start(path.clone(), move || Store::open(&path)).await
    }

    /// A memory that is never stored, for temporary chats: the same operations, gone with the last handle, nothing on disk.
    pub async fn temporary() -> Result<Memory, MemoryError> {
        Self::start(PathBuf::from(":memory:"), Store::temporary).await
    }

    async fn start(
        path: PathBuf,
        open: impl FnOnce() -> Result<Store, MemoryError> + Send + 'static,
    ) -> Result<Memory, MemoryError> {
        let (inbox, work) = mpsc::channel(QUEUE);
        let (opened, answer) = oneshot::channel();
        std::thread::Builder::new()
            .name("memory".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || match open() {
                Ok(store) => {
                    if opened.send(Ok(())).is_ok() {
                        run(store, work);
                    }
                }
                Err(error) => {
                    // A caller that went away has no use for the error.
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(|_| MemoryError::Closed)?;
        answer.await.map_err(|_| MemoryError::Closed)??;
        Ok(Memory { inbox, path })
    }

    /// The file behind it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new, empty chat.
    pub async fn create_chat(
        &self,
        title: &str,
        settings: ChatSettings,
    ) -> Result<Chat, MemoryError> {
        let title = title.to_owned();
        self.call(move |store| store.create_chat(&title, settings))
            .await
    }

    /// All chats that are not deleted: pinned ones first, then by last change, newest first.
    pub async fn chats(&self) -> Result<Vec<ChatSummary>, MemoryError> {
        self.call(|store| store.chats()).await
    }

    /// One chat with its chosen branch.
    pub async fn open_chat(&self, chat: ChatId) -> Result<OpenChat, MemoryError> {
        self.call(move |store| store.open_chat(chat)).await
    }

    /// All messages of a chat in all branches, parents before children.
    pub async fn tree(&self, chat: ChatId) -> Result<Vec<Message>, MemoryError> {
        self.call(move |store| store.tree(chat)).await
    }

    /// The branch that ends at `message`, root first, whether it is the chosen one or not: what a prompt is made of.
    pub async fn branch(&self, message: MessageId) -> Result<Vec<Message>, MemoryError> {
        self.call(move |store| store.branch(message)).await
    }

    /// One message.
    pub async fn message(&self, message: MessageId) -> Result<Message, MemoryError> {
        self.call(move |store| store.message(message)).await
    }

    /// Messages and titles that contain every word of `query` (the last one may be the start of a word), best first, at most
    /// [`crate::MAX_HITS`].
    pub async fn search(&self, query: &str) -> Result<Vec<SearchHit>, MemoryError> {
        let query = query.to_owned();
        self.call(move |store| store.search(&query)).await
    }

    /// Gives a chat a title, cut at [`crate::MAX_TITLE_CHARS`].
    pub async fn rename(&self, chat: ChatId, title: &str) -> Result<(), MemoryError> {
        let title = title.to_owned();
        self.call(move |store| store.rename(chat, &title)).await
    }

    /// Keeps a chat at the top of the list, or no longer.
    pub async fn pin(&self, chat: ChatId, pinned: bool) -> Result<(), MemoryError> {
        self.call(move |store| store.pin(chat, pinned)).await
    }

    /// Replaces what is set for a chat.
    pub async fn set_settings(
        &self,
        chat: ChatId,
        settings: ChatSettings,
    ) -> Result<(), MemoryError> {
        self.call(move |store| store.set_settings(chat, settings))
            .await
    }

    /// Deletes a chat. [`Memory::restore`] brings it back for [`crate::UNDO_WINDOW`]; after that, or at the next start, its text is
    /// removed from the file for good.
    pub async fn delete(&self, chat: ChatId) -> Result<(), MemoryError> {
        self.call(move |store| store.delete(chat)).await
    }

    /// Brings a deleted chat back.
    pub async fn restore(&self, chat: ChatId) -> Result<(), MemoryError> {
        self.call(move |store| store.restore(chat)).await
    }

    /// Removes all deleted chats for good, now.
    pub async fn purge(&self) -> Result<usize, MemoryError> {
        self.call(|store| store.purge_deleted(None)).await
    }

    /// Puts a message into the tree and makes it the end of the chosen branch. The one way a message comes to be: a question, an
    /// edited one (the parent of the old one), another answer (the same question), an import.
    pub async fn insert(&self, chat: ChatId, message: NewMessage) -> Result<Message, MemoryError> {
        self.call(move |store| store.insert(chat, message)).await
    }

    /// Adds text to a streaming message, and the output tokens it was made of. Both are on disk within
    /// [`crate::AUTOSAVE_EVERY`]; readers see them at once.
    pub async fn append(
        &self,
        message: MessageId,
        text: &str,
        token_ids: &[u32],
    ) -> Result<Autosave, MemoryError> {
        let (text, token_ids) = (text.to_owned(), token_ids.to_vec());
        self.call(move |store| store.append(message, &text, &token_ids))
            .await
    }

    /// The output tokens of an answer, in order; none where it was imported or nothing came.
    pub async fn token_ids(&self, message: MessageId) -> Result<Vec<u32>, MemoryError> {
        self.call(move |store| store.token_ids(message)).await
    }

    /// Says where the tokens of a streaming message are computed, as soon as it is known: after a crash it still stands there.
    pub async fn set_spans(&self, message: MessageId, spans: Vec<Span>) -> Result<(), MemoryError> {
        self.call(move |store| store.set_spans(message, spans))
            .await
    }

    /// Ends a streaming message; it never changes again. After an error (a full disk) it streams on, with all its text, and `finish`
    /// can be called again.
    pub async fn finish(
        &self,
        message: MessageId,
        outcome: Outcome,
    ) -> Result<Message, MemoryError> {
        self.call(move |store| store.finish(message, outcome)).await
    }

    /// Makes the branch through `message` the chosen one: below it, the youngest child at each step.
    pub async fn choose(&self, chat: ChatId, message: MessageId) -> Result<(), MemoryError> {
        self.call(move |store| store.choose(chat, message)).await
    }

    /// Writes all text that still waits for the autosave.
    pub async fn flush(&self) -> Result<(), MemoryError> {
        self.call(|store| store.flush()).await
    }

    /// Saves, closes the file, and ends the thread. Other handles answer [`MemoryError::Closed`] from then on.
    pub async fn close(&self) -> Result<(), MemoryError> {
        let (done, answer) = oneshot::channel();
        self.inbox
            .send(Work::Close(done))
            .await
            .map_err(|_| MemoryError::Closed)?;
        answer.await.map_err(|_| MemoryError::Closed)?
    }

    /// Runs one piece of work on the thread that owns the connection.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> Result<T, MemoryError> + Send + 'static,
    ) -> Result<T, MemoryError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            // A caller that went away has no use for the answer; the work is done all the same.
            let _ = reply.send(job(store));
        });
        self.inbox
            .send(Work::Run(job))
            .await
            .map_err(|_| MemoryError::Closed)?;
        answer.await.map_err(|_| MemoryError::Closed)?
    }
}

/// The thread: one piece of work after the other, housekeeping in between.
fn run(mut store: Store, mut work: mpsc::Receiver<Work>) {
    // A runtime of its own, for nothing but "receive, or wake at this moment".
    let timer = match tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
    {
        Ok(timer) => timer,
        Err(error) => {
            tracing::error!(%error, "the memory's thread has no timer and ends");
            return;
        }
    };
    loop {
        let next = match store.due() {
            Some(due) => match timer
                .block_on(async { tokio::time::timeout_at(due.into(), work.recv()).await })
            {
                Ok(next) => next,
                Err(_) => {
                    store.housekeeping();
                    continue;
                }
            },
            None => timer.block_on(work.recv()),
        };
        match next {
            Some(Work::Run(job)) => {
                job(&mut store);
                // A caller that never pauses must not starve the autosave.
                if store
                    .due()
                    .is_some_and(|due| due <= std::time::Instant::now())
                {
                    store.housekeeping();
                }
            }
            Some(Work::Close(done)) => {
                work.close();
                let _ = done.send(store.close());
                return;
            }
            None => {
                if let Err(error) = store.close() {
                    tracing::error!(%error, "the memory did not close cleanly");
                }
                return;
            }
        }
    }
}
