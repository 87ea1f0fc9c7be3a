-- Energy of jobs, paid or for nothing, as the computer's meters counted it, or as it follows from the person's own figure.
-- Energy is in millijoules, power in milliwatts. Rows of energy are only ever added; energy_total can be computed from them.

CREATE TABLE energy (
    n        INTEGER PRIMARY KEY,
    job      BLOB    NOT NULL UNIQUE CHECK (length(job) = 32),
    at_ms    INTEGER NOT NULL,
    source   TEXT    NOT NULL CHECK (source IN ('metered', 'stated')),
    -- Its part of the time: of n that were computed at once, each has an n-th.
    share_ms INTEGER NOT NULL CHECK (share_ms >= 0),
    -- Its part of what the meters counted in that time.
    drawn_mj INTEGER CHECK (drawn_mj >= 0),
    -- Metered: what they count while nothing is computed. Stated: the person's figure.
    power_mw INTEGER NOT NULL CHECK (power_mw >= 0),
    taken_mj INTEGER NOT NULL CHECK (taken_mj >= 0),
    CHECK ((drawn_mj IS NULL) = (source = 'stated'))
);

-- One row: what all of them come to, so that a lost or doubled row is seen.
CREATE TABLE energy_total (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    jobs     INTEGER NOT NULL,
    taken_mj INTEGER NOT NULL
);
INSERT INTO energy_total (one, jobs, taken_mj) VALUES (1, 0, 0);

CREATE TRIGGER energy_stays      BEFORE UPDATE ON energy       BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER energy_kept       BEFORE DELETE ON energy       BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER energy_total_kept BEFORE DELETE ON energy_total BEGIN SELECT RAISE(ABORT, 'kept for good'); END;
CREATE TRIGGER energy_total_rises BEFORE UPDATE ON energy_total
WHEN NEW.jobs < OLD.jobs OR NEW.taken_mj < OLD.taken_mj
BEGIN SELECT RAISE(ABORT, 'what was taken never falls'); END;
