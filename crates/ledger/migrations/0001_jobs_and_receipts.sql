-- Jobs that must not run twice, jobs answered for others, and receipts of both sides.
-- Times are milliseconds since 1970. Jobs and digests are 32 raw bytes. No content of anybody's chat is ever stored here.

-- One row: the highest clock this table ever saw, and since when the table exists.
CREATE TABLE clock (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    highest_ms INTEGER NOT NULL,
    since_ms   INTEGER NOT NULL
);

-- The replay guard: a job id stays until its expiry has passed by the highest clock.
CREATE TABLE job_seen (
    job        BLOB    PRIMARY KEY CHECK (length(job) = 32),
    expires_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX job_seen_expiry ON job_seen (expires_ms);

-- What this computer answered for peers: counted, by model and time.
CREATE TABLE answered (
    n            INTEGER PRIMARY KEY,
    job          BLOB    NOT NULL UNIQUE CHECK (length(job) = 32),
    at_ms        INTEGER NOT NULL,
    peer         TEXT    NOT NULL,
    model        TEXT    NOT NULL,
    model_digest BLOB    NOT NULL CHECK (length(model_digest) = 32),
    tokens_in    INTEGER NOT NULL DEFAULT 0,
    tokens_out   INTEGER NOT NULL DEFAULT 0,
    finish       TEXT    NOT NULL DEFAULT '',
    state        TEXT    NOT NULL CHECK (state IN ('answering', 'signed', 'unsigned'))
);
CREATE INDEX answered_time ON answered (at_ms);

-- A job has at most one receipt on each side; on a machine that asks itself, both.
CREATE TABLE receipt (
    n                  INTEGER PRIMARY KEY,
    job                BLOB    NOT NULL CHECK (length(job) = 32),
    role               TEXT    NOT NULL CHECK (role IN ('provider', 'client')),
    peer               TEXT    NOT NULL,
    model              TEXT    NOT NULL,
    model_digest       BLOB    NOT NULL CHECK (length(model_digest) = 32),
    tokens_in          INTEGER NOT NULL,
    tokens_out         INTEGER NOT NULL,
    finish             TEXT    NOT NULL,
    at_ms              INTEGER NOT NULL,
    chain              BLOB    NOT NULL CHECK (length(chain) = 32),
    signed             BLOB    NOT NULL,
    provider_signature BLOB    NOT NULL CHECK (length(provider_signature) = 64),
    client_signature   BLOB    CHECK (length(client_signature) = 64),
    UNIQUE (job, role)
);
CREATE INDEX receipt_time ON receipt (at_ms);
