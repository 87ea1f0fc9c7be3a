use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::MoneyError;

/// Why the books could not be read or written. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
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
    NotALedger {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged, or no database at all.
    #[error("{} is damaged: {detail}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },
    /// The disk is full.
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
    /// A receipt is larger than any that `protocol` makes.
    #[error("a receipt has {have} bytes; the limit is {limit}")]
    TooLarge {
        /// Its size in bytes.
        have: usize,
        /// The largest size in bytes.
        limit: usize,
    },
    /// A receipt of this job and side is kept already, and this one says something else.
    #[error("another receipt of this job is kept already")]
    OtherReceipt,
    /// A value in the file is none that this version writes.
    #[error("the file holds {value:?} where {what} is expected")]
    Unreadable {
        /// What was expected.
        what: &'static str,
        /// What stands there.
        value: String,
    },
    /// The entry breaks a rule of the books.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// A statement could not be written to where it should go.
    #[error("the statement could not be written")]
    Statement(#[source] std::io::Error),
    /// Any other failure of SQLite.
    #[error("the ledger failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The ledger was closed, or its thread has ended.
    #[error("the ledger is closed")]
    Closed,
}

impl LedgerError {
    /// Sorts what SQLite reported into what a caller can act on.
    pub(crate) fn from_sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        if is_disk_full(&error) {
            return LedgerError::DiskFull { path };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => LedgerError::Corrupt {
                path,
                detail: error.to_string(),
            },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LedgerError::Busy { path },
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::SystemIoFailure,
            ) => LedgerError::Access {
                path,
                source: error,
            },
            _ => LedgerError::Sqlite(error),
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
