-- Times are text, as documents show them, so that queries compare what clients see. `0001-01-01T00:00:00Z` is "never".

CREATE TABLE policy (
    name          TEXT PRIMARY KEY,
    rights        INTEGER NOT NULL,
    primary_key   BLOB NOT NULL,
    secondary_key BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- An identity, and what its connection does to it. Identities are never reused: a device made again gets a new id.
CREATE TABLE device (
    id                       INTEGER PRIMARY KEY AUTOINCREMENT,
    device_id                TEXT NOT NULL UNIQUE,
    generation_id            TEXT NOT NULL,
    etag                     TEXT NOT NULL,
    status                   TEXT NOT NULL CHECK (status IN ('enabled', 'disabled')),
    status_reason            TEXT,
    status_updated           TEXT NOT NULL,
    authentication_type      TEXT NOT NULL,
    primary_key              BLOB,
    secondary_key            BLOB,
    primary_thumbprint       TEXT,
    secondary_thumbprint     TEXT,
    connection_state         TEXT NOT NULL DEFAULT 'Disconnected' CHECK (connection_state IN ('Connected', 'Disconnected')),
    connection_state_updated TEXT NOT NULL,
    -- Which connection set the state: the end of one that was taken over says nothing about its successor.
    connection_epoch         INTEGER NOT NULL DEFAULT 0,
    last_activity            TEXT NOT NULL,
    -- The persistent session: its subscriptions as JSON; null when there is none.
    subscriptions            TEXT
) STRICT;

CREATE INDEX device_status ON device (status);
CREATE INDEX device_connection_state ON device (connection_state);

-- A twin, beside its identity so that a connect does not rewrite it.
CREATE TABLE twin (
    id                INTEGER PRIMARY KEY REFERENCES device (id) ON DELETE CASCADE,
    model_id          TEXT NOT NULL DEFAULT '',
    version           INTEGER NOT NULL,
    etag              INTEGER NOT NULL,
    tags              BLOB NOT NULL,
    desired           BLOB NOT NULL,
    desired_metadata  BLOB NOT NULL,
    desired_version   INTEGER NOT NULL,
    reported          BLOB NOT NULL,
    reported_metadata BLOB NOT NULL,
    reported_version  INTEGER NOT NULL
) STRICT;

-- The paths that fleets are divided by. The text must be exactly what store::query compiles a path to.
CREATE INDEX twin_desired_building ON twin (json_extract(desired, '$."building"'));
CREATE INDEX twin_desired_floor ON twin (json_extract(desired, '$."floor"'));
CREATE INDEX twin_reported_building ON twin (json_extract(reported, '$."building"."value"'));
CREATE INDEX twin_reported_floor ON twin (json_extract(reported, '$."floor"."value"'));
CREATE INDEX twin_tags_building ON twin (json_extract(tags, '$."building"'));
CREATE INDEX twin_tags_floor ON twin (json_extract(tags, '$."floor"'));

CREATE TABLE job (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id           TEXT NOT NULL UNIQUE,
    type             TEXT NOT NULL,
    status           TEXT NOT NULL,
    -- The method or the twin update, as its JSON document.
    action           TEXT NOT NULL,
    query_condition  TEXT NOT NULL,
    created          TEXT NOT NULL,
    start            TEXT NOT NULL,
    ended            TEXT,
    max_execution_s  INTEGER NOT NULL,
    failure_reason   TEXT,
    -- Kept with the rows below, in the same transactions.
    device_count     INTEGER NOT NULL DEFAULT 0,
    pending_count    INTEGER NOT NULL DEFAULT 0,
    running_count    INTEGER NOT NULL DEFAULT 0,
    succeeded_count  INTEGER NOT NULL DEFAULT 0,
    failed_count     INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX job_active ON job (id) WHERE status IN ('queued', 'scheduled', 'running');

-- What a job does to each device, numbered from 0 in the order it takes them.
CREATE TABLE device_job (
    job               INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    ordinal           INTEGER NOT NULL,
    device_id         TEXT NOT NULL,
    status            TEXT NOT NULL,
    created           TEXT NOT NULL,
    started           TEXT,
    ended             TEXT,
    updated           TEXT NOT NULL,
    response_status   INTEGER,
    response_payload  TEXT,
    error_code        TEXT,
    error_description TEXT,
    PRIMARY KEY (job, ordinal)
) STRICT, WITHOUT ROWID;

CREATE INDEX device_job_device ON device_job (device_id);

CREATE TABLE telemetry (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    device_id  TEXT NOT NULL,
    enqueued   TEXT NOT NULL,
    properties TEXT NOT NULL,
    body       BLOB NOT NULL,
    bytes      INTEGER NOT NULL
) STRICT;

-- One row: what telemetry holds, kept in the transactions that change it.
CREATE TABLE telemetry_total (
    rows  INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;

INSERT INTO telemetry_total VALUES (0, 0);
