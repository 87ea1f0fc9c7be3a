//! The one place where the file is opened: what a key will unlock one day is unlocked here, before the first statement.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::{MemoryError, schema};

/// "DGPM" in the header of the file: a database of this crate and of no other program.
const APPLICATION_ID: i32 = 0x4447_504d;

/// How long a statement waits for another process that holds the file (a backup program, a curious `sqlite3`).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The write-ahead log is cut back to this size after a checkpoint, so that one long import does not keep its space for ever.
const WAL_LIMIT_BYTES: u32 = 8 * 1024 * 1024;

/// Opens and migrates the file at `path`.
pub(crate) fn open(path: &Path) -> Result<Connection, MemoryError> {
    let sqlite = |error| MemoryError::from_sqlite(path, error);
    // A log that was not folded back means that the last run did not end by itself: then the pages are checked once.
    let unclean = wal_of(path).metadata().is_ok_and(|meta| meta.len() > 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    make_private(path);
    let mut connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
    // Until it is known to be ours nothing is written, not even by closing it again.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(sqlite)?;
    is_ours(&connection, path)?;
    if unclean {
        check_pages(&connection, path)?;
    }
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        .map_err(sqlite)?;
    prepare(&mut connection, path)?;
    Ok(connection)
}

/// A database that lives in memory alone, spilling nothing to temporary files.
pub(crate) fn temporary() -> Result<Connection, MemoryError> {
    let path = Path::new(":memory:");
    let mut connection =
        Connection::open_in_memory().map_err(|error| MemoryError::from_sqlite(path, error))?;
    prepare(&mut connection, path)?;
    Ok(connection)
}

/// A new file is readable by its owner alone; SQLite gives its log the same rights. Where it cannot be made, opening it says why.
fn make_private(path: &Path) {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let _ = options.open(path);
}

fn is_ours(connection: &Connection, path: &Path) -> Result<(), MemoryError> {
    let number = |pragma: &str| -> Result<i64, MemoryError> {
        connection
            .pragma_query_value(None, pragma, |row| row.get(0))
            .map_err(|error| MemoryError::from_sqlite(path, error))
    };
    let version = u32::try_from(number("user_version")?).unwrap_or(u32::MAX);
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| MemoryError::from_sqlite(path, error))?;
    if tables > 0 && number("application_id")? != i64::from(APPLICATION_ID) {
        return Err(MemoryError::NotAMemory {
            path: path.to_path_buf(),
        });
    }
    if version > schema::SCHEMA_VERSION {
        return Err(MemoryError::NewerDatabase {
            path: path.to_path_buf(),
            found: version,
            supported: schema::SCHEMA_VERSION,
        });
    }
    Ok(())
}

fn check_pages(connection: &Connection, path: &Path) -> Result<(), MemoryError> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| MemoryError::from_sqlite(path, error))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(MemoryError::Corrupt {
            path: path.to_path_buf(),
            detail: verdict,
        })
    }
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), MemoryError> {
    let sqlite = |error| MemoryError::from_sqlite(path, error);
    // The journal mode answers with a row (on a temporary database it stays "memory").
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
        .map_err(sqlite)?;
    connection
        .pragma_update_and_check(None, "journal_size_limit", WAL_LIMIT_BYTES, |_| Ok(()))
        .map_err(sqlite)?;
    // NORMAL: a power cut may cost the last commits, never the file; a crash of the program costs none.
    connection
        .pragma_update(None, "synchronous", "NORMAL")
        .map_err(sqlite)?;
    connection
        .pragma_update(None, "foreign_keys", true)
        .map_err(sqlite)?;
    // Freed pages are overwritten with zeros: deleting is deleting.
    connection
        .pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))
        .map_err(sqlite)?;
    connection
        .pragma_update(None, "temp_store", "MEMORY")
        .map_err(sqlite)?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)
        .map_err(sqlite)?;
    schema::migrate(connection, path, APPLICATION_ID)
}

fn wal_of(path: &Path) -> PathBuf {
    with_suffix(path, "-wal")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
