-- Energy of answers for nothing, a row for each day once they are old or many: strangers make as many as they like.
-- Rows of answers that were paid for stay as they are, like everything that money hangs on.

CREATE TABLE energy_day (
    n        INTEGER PRIMARY KEY,
    -- The first millisecond of the day, UTC.
    day_ms   INTEGER NOT NULL CHECK (day_ms % 86400000 = 0),
    -- Its name as shown; empty where the list of answers did not go back so far.
    model    TEXT    NOT NULL,
    source   TEXT    NOT NULL CHECK (source IN ('metered', 'stated')),
    jobs     INTEGER NOT NULL CHECK (jobs > 0),
    taken_mj INTEGER NOT NULL CHECK (taken_mj >= 0),
    UNIQUE (day_ms, model, source)
);

-- Rows of energy up to this number were looked at: of these, the ones of answers for nothing are in energy_day, and the others stay.
ALTER TABLE energy_total ADD COLUMN folded_to INTEGER NOT NULL DEFAULT 0;

CREATE INDEX energy_time ON energy (at_ms);

DROP TRIGGER energy_kept;
CREATE TRIGGER energy_kept BEFORE DELETE ON energy
WHEN OLD.n > (SELECT coalesce(max(folded_to), 0) FROM energy_total)
  OR EXISTS (SELECT 1 FROM paid_job WHERE side = 'payee' AND job = OLD.job)
BEGIN SELECT RAISE(ABORT, 'append-only'); END;

DROP TRIGGER energy_total_rises;
CREATE TRIGGER energy_total_rises BEFORE UPDATE ON energy_total
WHEN NEW.jobs < OLD.jobs OR NEW.taken_mj < OLD.taken_mj OR NEW.folded_to < OLD.folded_to
BEGIN SELECT RAISE(ABORT, 'what was taken never falls'); END;

CREATE TRIGGER energy_day_kept BEFORE DELETE ON energy_day BEGIN SELECT RAISE(ABORT, 'kept for good'); END;
CREATE TRIGGER energy_day_rises BEFORE UPDATE ON energy_day
WHEN NEW.jobs < OLD.jobs OR NEW.taken_mj < OLD.taken_mj
  OR NEW.n <> OLD.n OR NEW.day_ms <> OLD.day_ms OR NEW.model <> OLD.model OR NEW.source <> OLD.source
BEGIN SELECT RAISE(ABORT, 'what was taken never falls'); END;
