CREATE TABLE audit (
    id INTEGER NOT NULL,
    problem VARCHAR NOT NULL,
    at VARCHAR NOT NULL,
    recorded_at VARCHAR NOT NULL,
    actor VARCHAR NOT NULL,
    action VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    from_version VARCHAR,
    to_version VARCHAR,
    evidence JSON NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX ix_audit_problem ON audit (problem);
CREATE TABLE leases (
    name VARCHAR NOT NULL,
    holder VARCHAR NOT NULL,
    token INTEGER NOT NULL,
    expires_at VARCHAR NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE outcomes (
    problem VARCHAR NOT NULL,
    id VARCHAR NOT NULL,
    value FLOAT NOT NULL,
    known_at VARCHAR NOT NULL,
    confirmed_at VARCHAR NOT NULL,
    recorded_at VARCHAR NOT NULL,
    corrected_at VARCHAR,
    PRIMARY KEY (problem, id)
);
CREATE TABLE passes (
    problem VARCHAR NOT NULL,
    window_end VARCHAR NOT NULL,
    window_start VARCHAR NOT NULL,
    at VARCHAR NOT NULL,
    recorded_at VARCHAR NOT NULL,
    version VARCHAR,
    cause VARCHAR NOT NULL,
    action VARCHAR NOT NULL,
    figures JSON NOT NULL,
    PRIMARY KEY (problem, window_end)
);
CREATE TABLE predictions (
    problem VARCHAR NOT NULL,
    id VARCHAR NOT NULL,
    arm VARCHAR NOT NULL,
    entity_id VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    at VARCHAR NOT NULL,
    recorded_at VARCHAR NOT NULL,
    record JSON NOT NULL,
    score FLOAT,
    error VARCHAR,
    latency_ms FLOAT NOT NULL,
    PRIMARY KEY (problem, id, arm)
);
CREATE INDEX predictions_by_time ON predictions (problem, at);
CREATE TABLE quarantine (
    problem VARCHAR NOT NULL,
    start VARCHAR NOT NULL,
    "end" VARCHAR NOT NULL,
    slice VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    at VARCHAR NOT NULL,
    lifted_at VARCHAR,
    PRIMARY KEY (problem, start, "end", slice)
);
CREATE TABLE replay (
    id INTEGER NOT NULL,
    now VARCHAR NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE rollouts (
    problem VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    share FLOAT NOT NULL,
    waiting VARCHAR,
    opened_at VARCHAR NOT NULL,
    since VARCHAR NOT NULL,
    evidence JSON NOT NULL,
    PRIMARY KEY (problem, version)
);
CREATE TABLE routes (
    problem VARCHAR NOT NULL,
    champion VARCHAR,
    challenger VARCHAR,
    mode VARCHAR,
    share FLOAT NOT NULL,
    previous VARCHAR,
    changed_at VARCHAR,
    PRIMARY KEY (problem)
);
CREATE TABLE tickets (
    problem VARCHAR NOT NULL,
    number INTEGER NOT NULL,
    incident VARCHAR NOT NULL,
    opened_at VARCHAR NOT NULL,
    updated_at VARCHAR NOT NULL,
    closed_at VARCHAR,
    seen INTEGER NOT NULL,
    window_end VARCHAR NOT NULL,
    title VARCHAR NOT NULL,
    body VARCHAR NOT NULL,
    PRIMARY KEY (problem, number)
);
CREATE UNIQUE INDEX one_open_ticket ON tickets (problem, incident) WHERE closed_at IS NULL;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
