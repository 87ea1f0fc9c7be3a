-- What was seen of peers that answered this computer, per peer and model: sums and weights that fade, never any content.
CREATE TABLE measured (
    peer       TEXT    NOT NULL,
    model      BLOB    NOT NULL CHECK (length(model) = 32),
    at_ms      INTEGER NOT NULL,
    rtt_sum    REAL    NOT NULL,
    rtt_weight REAL    NOT NULL,
    late_sum   REAL    NOT NULL,
    late_weight REAL   NOT NULL,
    tps_sum    REAL    NOT NULL,
    tps_weight REAL    NOT NULL,
    successes  REAL    NOT NULL,
    failures   REAL    NOT NULL,
    stalls     REAL    NOT NULL,
    checked    REAL    NOT NULL,
    lies       REAL    NOT NULL,
    PRIMARY KEY (peer, model)
) WITHOUT ROWID;
CREATE INDEX measured_time ON measured (at_ms);
