//! The one place where the file is opened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::{LedgerError, schema};

/// "DGPL" in the header of the file: a database of this crate and of no other program.
const APPLICATION_ID: i32 = 0x4447_504c;

/// How long a statement waits for another process that holds the file. Shorter than a peer waits for Accept.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens and migrates the file at `path`.
pub(crate) fn open(path: &Path) -> Result<Connection, LedgerError> {
    let sqlite = |error| LedgerError::from_sqlite(path, error);
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
        let verdict: String = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(sqlite)?;
        if verdict != "ok" {
            return Err(LedgerError::Corrupt {
                path: path.to_path_buf(),
                detail: verdict,
            });
        }
    }
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        .map_err(sqlite)?;
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
        .map_err(sqlite)?;
    // FULL: a job that was accepted is on disk even when the power goes the next moment.
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(sqlite)?;
    connection
        .pragma_update(None, "foreign_keys", true)
        .map_err(sqlite)?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)
        .map_err(sqlite)?;
    schema::migrate(&mut connection, path, APPLICATION_ID)?;
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

fn is_ours(connection: &Connection, path: &Path) -> Result<(), LedgerError> {
    let sqlite = |error| LedgerError::from_sqlite(path, error);
    let number = |pragma: &str| -> Result<i64, LedgerError> {
        connection
            .pragma_query_value(None, pragma, |row| row.get(0))
            .map_err(sqlite)
    };
    let version = u32::try_from(number("user_version")?).unwrap_or(u32::MAX);
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(sqlite)?;
    if tables > 0 && number("application_id")? != i64::from(APPLICATION_ID) {
        return Err(LedgerError::NotALedger {
            path: path.to_path_buf(),
        });
    }
    if version > schema::SCHEMA_VERSION {
        return Err(LedgerError::NewerDatabase {
            path: path.to_path_buf(),
            found: version,
            supported: schema::SCHEMA_VERSION,
        });
    }
    Ok(())
}

fn wal_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}
