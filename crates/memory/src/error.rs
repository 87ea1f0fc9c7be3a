use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::{ChatId, MessageId};

/// Why an operation on the memory did not happen. Unless a variant says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file was written by a newer version of the program. It was not touched.
    #[error("{} has schema version {found}; this program knows versions up to {supported}", path.display())]
    NewerDatabase {
        /// The file.
        path: PathBuf,
        /// Version found in it.
        found: u32,
        /// Newest version that this program can read.
        supported: u32,
    },
    /// The file is a database of another program. It was not touched.
    #[error("{} is a database of another program", path.display())]
    NotAMemory {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged, or no database at all. It was not touched: a later tool may save what is in it.
    #[error("{} is damaged: {detail}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },
    /// The disk is full. What was already stored stays; text of a streaming answer is held in memory and written with the next
    /// successful save.
    #[error("the disk that holds {} is full", path.display())]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The file or its folder cannot be opened, read or written.
    #[error("{} cannot be opened or written", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: rusqlite::Error,
    },
    /// Another process held the file for longer than the busy timeout.
    #[error("{} is in use by another program", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// There is no such chat, or it was deleted.
    #[error("there is no chat {0}")]
    NoChat(ChatId),
    /// There is no such message in this chat.
    #[error("there is no message {0}")]
    NoMessage(MessageId),
    /// The message is finished: what a person has read never changes.
    #[error("message {0} is finished and cannot change")]
    Finished(MessageId),
    /// [`crate::Outcome`] says "streaming", which is no end.
    #[error("an answer cannot end as 'streaming'")]
    NoEnd,
    /// A text is larger than what one message or setting may hold.
    #[error("{what} has {have} bytes; the limit is {limit}")]
    TooLarge {
        /// Which text.
        what: &'static str,
        /// Its size in bytes.
        have: usize,
        /// The largest size in bytes.
        limit: usize,
    },
    /// A value in the file is none that this version writes.
    #[error("the file holds {value:?} where {what} is expected")]
    Unreadable {
        /// What was expected.
        what: &'static str,
        /// What stands there.
        value: String,
    },
    /// Any other failure of SQLite.
    #[error("the memory failed: {0}")]
    Sqlite(#[source] rusqlite::Error),
    /// The memory was closed, or its thread has ended.
    #[error("the memory is closed")]
    Closed,
}

impl MemoryError {
    /// Sorts what SQLite reported into what a caller can act on.
    pub(crate) fn from_sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        if is_disk_full(&error) {
            return MemoryError::DiskFull { path };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => MemoryError::Corrupt {
                path,
                detail: error.to_string(),
            },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => MemoryError::Busy { path },
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::SystemIoFailure,
            ) => MemoryError::Access {
                path,
                source: error,
            },
            _ => MemoryError::Sqlite(error),
        }
    }
}

/// A full disk has two faces: the file cannot grow, or the index beside its log cannot.
fn is_disk_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        error.code == ErrorCode::DiskFull
            || error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
    })
}
