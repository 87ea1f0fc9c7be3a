-- Money: what was promised, held, claimed, and the books over it.
-- Amounts are base units of the token as 16 bytes, the highest first: exact, and in the order in which SQLite compares blobs.
-- Addresses are 20 raw bytes, digests 32, compact signatures 64. Times end in _ms (since 1970) or in _s (of the chain).
-- What happened (paid_job, voucher, hold, chain_event, journal, audit) is only ever added. What stands now (signer, line, chain_head)
-- can be computed from it, and only moves forward.

-- One row: the vault whose books these are. Numbers of blocks and lines of another one would be mixed up with them.
CREATE TABLE vault (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    chain_id INTEGER NOT NULL,
    contract BLOB    NOT NULL CHECK (length(contract) = 20)
);

-- A session key of a payer, of this computer (own) or of somebody who pays it.
CREATE TABLE signer (
    id        INTEGER PRIMARY KEY,
    payer     BLOB    NOT NULL CHECK (length(payer) = 20),
    signer    BLOB    NOT NULL CHECK (length(signer) = 20),
    own       INTEGER NOT NULL CHECK (own IN (0, 1)),
    granted   BLOB    NOT NULL CHECK (length(granted) = 16),
    until_s   INTEGER NOT NULL,
    contested INTEGER NOT NULL DEFAULT 0 CHECK (contested IN (0, 1)),
    freed     INTEGER NOT NULL DEFAULT 0 CHECK (freed IN (0, 1)),
    -- Why nothing more is signed with it: its book is not the newest one.
    lost      TEXT,
    UNIQUE (payer, signer)
);

-- One (payer, signer, payee), as the side saw it that this computer is on; on a machine that asks itself, both.
CREATE TABLE line (
    id               INTEGER PRIMARY KEY,
    side             TEXT    NOT NULL CHECK (side IN ('payer', 'payee')),
    signer           INTEGER NOT NULL REFERENCES signer (id),
    payee            BLOB    NOT NULL CHECK (length(payee) = 20),
    -- The highest voucher.
    cumulative       BLOB    NOT NULL CHECK (length(cumulative) = 16),
    -- The level that final blocks paid, what overdrafts paid beside it, and what can never be paid any more.
    claimed          BLOB    NOT NULL CHECK (length(claimed) = 16),
    shared           BLOB    NOT NULL CHECK (length(shared) = 16),
    written_off      BLOB    NOT NULL CHECK (length(written_off) = 16),
    -- The reservation in final blocks.
    reserved_upto    BLOB    NOT NULL CHECK (length(reserved_upto) = 16),
    reserved_until_s INTEGER NOT NULL DEFAULT 0,
    -- The highest reservation signed or held, and the highest given up in final blocks.
    nonce            INTEGER NOT NULL DEFAULT 0,
    released         INTEGER NOT NULL DEFAULT 0,
    UNIQUE (side, signer, payee)
);
CREATE INDEX line_payee ON line (payee);

-- What vouchers are for.
CREATE TABLE paid_job (
    id           INTEGER PRIMARY KEY,
    side         TEXT    NOT NULL CHECK (side IN ('payer', 'payee')),
    job          BLOB    NOT NULL CHECK (length(job) = 32),
    at_ms        INTEGER NOT NULL,
    peer         TEXT    NOT NULL,
    model        TEXT    NOT NULL,
    model_digest BLOB    NOT NULL CHECK (length(model_digest) = 32),
    -- The conversation, on the payer's side.
    chat         BLOB    CHECK (length(chat) = 16),
    UNIQUE (side, job)
);
CREATE INDEX paid_job_chat ON paid_job (chat);

-- Every total that rose: signed here, held from a payer, or seen at somebody else's where it should have been signed here.
CREATE TABLE voucher (
    n             INTEGER PRIMARY KEY,
    line          INTEGER NOT NULL REFERENCES line (id),
    origin        TEXT    NOT NULL CHECK (origin IN ('signed', 'held', 'seen')),
    job           INTEGER REFERENCES paid_job (id),
    cumulative    BLOB    NOT NULL CHECK (length(cumulative) = 16),
    work          BLOB    NOT NULL CHECK (length(work) = 32),
    -- What is signed here can be signed again: the signature is a function of it.
    signature     BLOB    CHECK (length(signature) = 64),
    tokens_in     INTEGER NOT NULL,
    tokens_cached INTEGER NOT NULL,
    tokens_out    INTEGER NOT NULL,
    at_ms         INTEGER NOT NULL,
    CHECK ((job IS NULL) = (origin = 'seen')),
    CHECK ((signature IS NULL) = (origin = 'signed'))
);
CREATE INDEX voucher_line ON voucher (line, n);
CREATE INDEX voucher_job ON voucher (job);
CREATE INDEX voucher_time ON voucher (at_ms);

-- Reservations: signed here, or held from a payer.
CREATE TABLE hold (
    n         INTEGER PRIMARY KEY,
    line      INTEGER NOT NULL REFERENCES line (id),
    upto      BLOB    NOT NULL CHECK (length(upto) = 16),
    until_s   INTEGER NOT NULL,
    nonce     INTEGER NOT NULL,
    signature BLOB    CHECK (length(signature) = 64),
    at_ms     INTEGER NOT NULL,
    UNIQUE (line, nonce)
);

-- What final blocks say, each once.
CREATE TABLE chain_event (
    n          INTEGER PRIMARY KEY,
    block      INTEGER NOT NULL,
    at_s       INTEGER NOT NULL,
    tx         BLOB    NOT NULL CHECK (length(tx) = 32),
    log_index  INTEGER NOT NULL,
    mine_payer INTEGER NOT NULL CHECK (mine_payer IN (0, 1)),
    mine_payee INTEGER NOT NULL CHECK (mine_payee IN (0, 1)),
    body       TEXT    NOT NULL,
    UNIQUE (tx, log_index)
);

-- The last block that was read to its end.
CREATE TABLE chain_head (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    block INTEGER NOT NULL,
    hash  BLOB    NOT NULL CHECK (length(hash) = 32),
    at_s  INTEGER NOT NULL
);

CREATE TABLE account (
    id   INTEGER PRIMARY KEY,
    name TEXT    NOT NULL UNIQUE
);

-- The double entry: one row moves an amount from one account to another, so no row can be out of balance.
CREATE TABLE journal (
    n       INTEGER PRIMARY KEY,
    at_ms   INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    debit   INTEGER NOT NULL REFERENCES account (id),
    credit  INTEGER NOT NULL REFERENCES account (id),
    amount  BLOB    NOT NULL CHECK (length(amount) = 16 AND amount > zeroblob(16)),
    voucher INTEGER REFERENCES voucher (n),
    event   INTEGER REFERENCES chain_event (n),
    CHECK (debit <> credit),
    CHECK ((voucher IS NULL) <> (event IS NULL))
);
CREATE INDEX journal_debit ON journal (debit);
CREATE INDEX journal_credit ON journal (credit);
CREATE INDEX journal_voucher ON journal (voucher);
CREATE INDEX journal_event ON journal (event);
CREATE INDEX journal_time ON journal (at_ms);

CREATE TABLE audit (
    n     INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    body  TEXT    NOT NULL
);

CREATE TRIGGER paid_job_stays    BEFORE UPDATE ON paid_job    BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER paid_job_kept     BEFORE DELETE ON paid_job    BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER voucher_stays     BEFORE UPDATE ON voucher     BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER voucher_kept      BEFORE DELETE ON voucher     BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER hold_stays        BEFORE UPDATE ON hold        BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER hold_kept         BEFORE DELETE ON hold        BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER chain_event_stays BEFORE UPDATE ON chain_event BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER chain_event_kept  BEFORE DELETE ON chain_event BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER account_stays     BEFORE UPDATE ON account     BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER account_kept      BEFORE DELETE ON account     BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER journal_stays     BEFORE UPDATE ON journal     BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER journal_kept      BEFORE DELETE ON journal     BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER audit_stays       BEFORE UPDATE ON audit       BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER audit_kept        BEFORE DELETE ON audit       BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER vault_stays       BEFORE UPDATE ON vault       BEGIN SELECT RAISE(ABORT, 'kept for good'); END;
CREATE TRIGGER vault_kept        BEFORE DELETE ON vault       BEGIN SELECT RAISE(ABORT, 'kept for good'); END;
CREATE TRIGGER signer_kept       BEFORE DELETE ON signer      BEGIN SELECT RAISE(ABORT, 'kept for good'); END;
CREATE TRIGGER line_kept         BEFORE DELETE ON line        BEGIN SELECT RAISE(ABORT, 'kept for good'); END;
CREATE TRIGGER chain_head_kept   BEFORE DELETE ON chain_head  BEGIN SELECT RAISE(ABORT, 'kept for good'); END;

CREATE TRIGGER voucher_rises BEFORE INSERT ON voucher
WHEN NEW.cumulative <= (SELECT cumulative FROM line WHERE id = NEW.line)
BEGIN SELECT RAISE(ABORT, 'a voucher never says less'); END;

CREATE TRIGGER line_rises BEFORE UPDATE ON line
WHEN NEW.cumulative < OLD.cumulative OR NEW.claimed < OLD.claimed OR NEW.shared < OLD.shared
  OR NEW.written_off < OLD.written_off OR NEW.nonce < OLD.nonce OR NEW.released < OLD.released
  OR NEW.id <> OLD.id OR NEW.side <> OLD.side OR NEW.signer <> OLD.signer OR NEW.payee <> OLD.payee
BEGIN SELECT RAISE(ABORT, 'a line never falls'); END;

CREATE TRIGGER signer_rises BEFORE UPDATE ON signer
WHEN NEW.granted < OLD.granted OR NEW.freed < OLD.freed OR NEW.own < OLD.own OR (OLD.lost IS NOT NULL AND NEW.lost IS NOT OLD.lost)
  OR NEW.id <> OLD.id OR NEW.payer <> OLD.payer OR NEW.signer <> OLD.signer
BEGIN SELECT RAISE(ABORT, 'a signer never comes back'); END;

CREATE TRIGGER chain_head_rises BEFORE UPDATE ON chain_head
WHEN NEW.block < OLD.block OR NEW.at_s < OLD.at_s
BEGIN SELECT RAISE(ABORT, 'final blocks stay'); END;
