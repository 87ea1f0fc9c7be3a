//! The handle that callers hold, and the thread that owns the connection.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::{Connection, Row};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Answered, AnsweredState, Job, JobRecord, LedgerError, Measured, NewAnswer, Receipt,
    ReceiptRole, Totals, answered, connection, measured, receipts, replay,
};

/// Pieces of work that may wait for the thread. A provider admits a few jobs at a time, each waiting for its own record.
pub const QUEUE: usize = 64;

/// Stack of the database thread.
const STACK_BYTES: usize = 1024 * 1024;

type Task = Box<dyn FnOnce(&mut Connection) + Send>;

enum Work {
    Run(Task),
    Close(oneshot::Sender<()>),
}

/// A handle on the books. Clones share one connection.
#[derive(Clone)]
pub struct Ledger {
    inbox: mpsc::Sender<Work>,
    path: PathBuf,
    /// Statements that are being written. They are read piece by piece, and no row may move from a piece to come into one that was read.
    statements: Arc<AtomicUsize>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens the file, makes it where there is none, migrates it where it is older, and marks jobs that a crash cut as ended. `now_ms` is
    /// the time a new file's guard starts at.
    pub async fn open(path: impl AsRef<Path>, now_ms: u64) -> Result<Ledger, LedgerError> {
        let path = path.as_ref().to_path_buf();
        let (inbox, work) = mpsc::channel(QUEUE);
        let (opened, answer) = oneshot::channel();
        let file = path.clone();
        std::thread::Builder::new()
            .name("ledger".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || match prepare(&file, now_ms) {
                Ok(connection) => {
                    if opened.send(Ok(())).is_ok() {
                        run(connection, work);
                    }
                }
                Err(error) => {
                    // A caller that went away has no use for the error.
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(|_| LedgerError::Closed)?;
        answer.await.map_err(|_| LedgerError::Closed)??;
        Ok(Ledger {
            inbox,
            path,
            statements: Arc::default(),
        })
    }

    /// The file behind it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Remembers a job until it expires, and says whether it is new. When this returns, the record is on disk: only then may the job be
    /// accepted. `expires_ms` comes from the Open frame, `now_ms` from this computer's clock.
    pub async fn record_job(
        &self,
        job: Job,
        expires_ms: u64,
        now_ms: u64,
    ) -> Result<JobRecord, LedgerError> {
        self.call(move |connection| {
            replay::record(connection, job, expires_ms, now_ms).map_err(LedgerError::Sqlite)
        })
        .await
    }

    /// The highest clock ever handed to [`Ledger::record_job`].
    pub async fn highest_clock_ms(&self) -> Result<u64, LedgerError> {
        self.clock("SELECT highest_ms FROM clock").await
    }

    /// Since when the guard remembers every job, in milliseconds since 1970; 0 where it always did. Younger than [`crate::MAX_EXPIRY_MS`],
    /// it may have forgotten some that can still be shown again: no paid job is accepted then.
    pub async fn guarded_since_ms(&self) -> Result<u64, LedgerError> {
        self.clock("SELECT since_ms FROM clock").await
    }

    /// Says that this file is as old as the name that jobs are addressed to: no job can have been accepted before it, so none was
    /// forgotten. From then on [`Ledger::guarded_since_ms`] is 0.
    pub async fn nothing_was_forgotten(&self) -> Result<(), LedgerError> {
        self.call(|connection| {
            connection
                .execute("UPDATE clock SET since_ms = 0", [])
                .map(|_| ())
                .map_err(LedgerError::Sqlite)
        })
        .await
    }

    /// Starts the guard's clock over, after the system clock once ran far ahead ([`JobRecord::ClockBehind`]).
    pub async fn forget_clock(&self, now_ms: u64) -> Result<(), LedgerError> {
        self.call(move |connection| {
            replay::forget_clock(connection, now_ms).map_err(LedgerError::Sqlite)
        })
        .await
    }

    /// A job is being answered from now on.
    pub async fn answer_started(&self, new: NewAnswer) -> Result<(), LedgerError> {
        self.call(move |connection| {
            answered::started(connection, &new).map_err(LedgerError::Sqlite)
        })
        .await
    }

    /// It ended, with these counts. A job that was never started is no error: there is nothing to write then.
    pub async fn answer_ended(
        &self,
        job: Job,
        tokens_in: u32,
        tokens_out: u32,
        finish: &str,
        state: AnsweredState,
    ) -> Result<(), LedgerError> {
        let finish = finish.to_owned();
        self.call(move |connection| {
            answered::ended(connection, job, tokens_in, tokens_out, &finish, state)
                .map_err(LedgerError::Sqlite)
        })
        .await
    }

    /// What was answered, newest first.
    pub async fn answered(&self, limit: u32) -> Result<Vec<Answered>, LedgerError> {
        self.call(move |connection| answered::list(connection, limit))
            .await
    }

    /// Sums of what was answered from `from_ms` on and before `until_ms`. "Today" begins where the caller's time zone says.
    pub async fn totals(&self, from_ms: u64, until_ms: u64) -> Result<Totals, LedgerError> {
        self.call(move |connection| {
            answered::totals(connection, from_ms, until_ms).map_err(LedgerError::Sqlite)
        })
        .await
    }

    /// Keeps a receipt. Storing it again with the client's signature completes it; one that says something else is refused.
    pub async fn store_receipt(&self, receipt: Receipt) -> Result<(), LedgerError> {
        self.call(move |connection| receipts::store(connection, &receipt))
            .await
    }

    /// The receipts of one job: one, or both sides' on a computer that asked itself.
    pub async fn receipts_of(&self, job: Job) -> Result<Vec<Receipt>, LedgerError> {
        self.call(move |connection| receipts::of_job(connection, job))
            .await
    }

    /// Receipts of one side from `from_ms` on and before `until_ms`, newest first.
    pub async fn receipts(
        &self,
        role: ReceiptRole,
        from_ms: u64,
        until_ms: u64,
        limit: u32,
    ) -> Result<Vec<Receipt>, LedgerError> {
        self.call(move |connection| receipts::list(connection, role, from_ms, until_ms, limit))
            .await
    }

    /// Keeps what was measured of a peer with a model, in place of what was kept before. When this returns, it is on disk.
    pub async fn store_measured(&self, numbers: Measured) -> Result<(), LedgerError> {
        self.call(move |connection| {
            measured::store(connection, &numbers).map_err(LedgerError::Sqlite)
        })
        .await
    }

    /// Everything that was measured of peers, the newest first; at most [`crate::MAX_MEASURED`].
    pub async fn measured(&self) -> Result<Vec<Measured>, LedgerError> {
        self.call(|connection| measured::list(connection)).await
    }

    /// Forgets what was measured of all peers.
    pub async fn forget_measured(&self) -> Result<(), LedgerError> {
        self.call(|connection| {
            measured::forget(connection)
                .map(|_| ())
                .map_err(LedgerError::Sqlite)
        })
        .await
    }

    /// Closes the file and ends the thread. Other handles answer [`LedgerError::Closed`] from then on.
    pub async fn close(&self) -> Result<(), LedgerError> {
        let (done, answer) = oneshot::channel();
        self.inbox
            .send(Work::Close(done))
            .await
            .map_err(|_| LedgerError::Closed)?;
        answer.await.map_err(|_| LedgerError::Closed)
    }

    /// A statement is being written until this is dropped.
    pub(crate) fn writes_statement(&self) -> WritesStatement {
        self.statements.fetch_add(1, Ordering::SeqCst);
        WritesStatement(Arc::clone(&self.statements))
    }

    /// Asked on the thread: whether any is being written.
    pub(crate) fn statements(&self) -> impl Fn() -> bool + Send + 'static {
        let statements = Arc::clone(&self.statements);
        move || statements.load(Ordering::SeqCst) > 0
    }

    async fn clock(&self, sql: &'static str) -> Result<u64, LedgerError> {
        self.call(move |connection| {
            connection
                .query_row(sql, [], |row| row.get(0))
                .map(from_sql)
                .map_err(LedgerError::Sqlite)
        })
        .await
    }

    /// Runs one piece of work on the thread. Its errors are sorted here, where the file's name is known.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Connection) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let task: Task = Box::new(move |connection| {
            // A caller that went away has no use for the answer; the work is done all the same.
            let _ = reply.send(task(connection));
        });
        self.inbox
            .send(Work::Run(task))
            .await
            .map_err(|_| LedgerError::Closed)?;
        match answer.await.map_err(|_| LedgerError::Closed)? {
            Err(LedgerError::Sqlite(error)) => Err(LedgerError::from_sqlite(&self.path, error)),
            other => other,
        }
    }
}

/// See [`Ledger::writes_statement`].
#[derive(Debug)]
pub(crate) struct WritesStatement(Arc<AtomicUsize>);

impl Drop for WritesStatement {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn prepare(path: &Path, now_ms: u64) -> Result<Connection, LedgerError> {
    let sqlite = |error| LedgerError::from_sqlite(path, error);
    let connection = connection::open(path)?;
    connection
        .execute(
            "INSERT INTO clock (one, highest_ms, since_ms) VALUES (1, ?1, ?1) ON CONFLICT (one) DO NOTHING",
            [to_sql(now_ms)],
        )
        .map_err(sqlite)?;
    let interrupted = answered::interrupt(&connection).map_err(sqlite)?;
    if interrupted > 0 {
        tracing::info!(interrupted, "jobs that the last run left unfinished");
    }
    Ok(connection)
}

fn run(mut connection: Connection, mut work: mpsc::Receiver<Work>) {
    while let Some(next) = work.blocking_recv() {
        match next {
            Work::Run(task) => task(&mut connection),
            Work::Close(done) => {
                work.close();
                drop(connection);
                let _ = done.send(());
                return;
            }
        }
    }
}

/// SQLite's integers are signed; times and counts are not.
pub(crate) fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn from_sql(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(crate) fn blob32(row: &Row<'_>, index: usize) -> Result<[u8; 32], LedgerError> {
    blob(row, index)
}

/// Reads a column of exactly `N` bytes.
pub(crate) fn blob<const N: usize>(row: &Row<'_>, index: usize) -> Result<[u8; N], LedgerError> {
    let bytes: Vec<u8> = row.get(index).map_err(LedgerError::Sqlite)?;
    <[u8; N]>::try_from(bytes).map_err(|bytes| LedgerError::Unreadable {
        what: "a digest or signature",
        value: format!("{} bytes", bytes.len()),
    })
}
