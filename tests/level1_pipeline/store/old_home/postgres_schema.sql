CREATE TABLE audit (
    id SERIAL NOT NULL,
    problem VARCHAR NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
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
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE outcomes (
    problem VARCHAR NOT NULL,
    id VARCHAR NOT NULL,
    value FLOAT NOT NULL,
    known_at TIMESTAMP WITH TIME ZONE NOT NULL,
    confirmed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    corrected_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (problem, id)
);
CREATE TABLE passes (
    problem VARCHAR NOT NULL,
    window_end TIMESTAMP WITH TIME ZONE NOT NULL,
    window_start TIMESTAMP WITH TIME ZONE NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
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
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    record JSON NOT NULL,
    score FLOAT,
    error VARCHAR,
    latency_ms FLOAT NOT NULL,
    PRIMARY KEY (problem, id, arm)
);
CREATE INDEX predictions_by_time ON predictions (problem, at);
CREATE TABLE quarantine (
    problem VARCHAR NOT NULL,
    start TIMESTAMP WITH TIME ZONE NOT NULL,
    "end" TIMESTAMP WITH TIME ZONE NOT NULL,
    slice VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    lifted_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (problem, start, "end", slice)
);
CREATE TABLE replay (
    id SERIAL NOT NULL,
    now TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE rollouts (
    problem VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    share FLOAT NOT NULL,
    waiting VARCHAR,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
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
    changed_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (problem)
);
CREATE TABLE tickets (
    problem VARCHAR NOT NULL,
    number INTEGER NOT NULL,
    incident VARCHAR NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    closed_at TIMESTAMP WITH TIME ZONE,
    seen INTEGER NOT NULL,
    window_end TIMESTAMP WITH TIME ZONE NOT NULL,
    title VARCHAR NOT NULL,
    body VARCHAR NOT NULL,
    PRIMARY KEY (problem, number)
);
CREATE UNIQUE INDEX one_open_ticket ON tickets (problem, incident) WHERE closed_at IS NULL;
CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'audit is append-only'; END $$ LANGUAGE plpgsql;
CREATE OR REPLACE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE OR REPLACE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
