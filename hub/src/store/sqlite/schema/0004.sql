-- What happened, in the order in which it was stored: each row is in the transaction of what it tells. It takes the place of `telemetry`.
CREATE TABLE event (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Ticks of 100 ns since 1970, UTC: documents show seven digits.
    at            INTEGER NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('telemetry', 'connection', 'twin', 'device', 'job')),
    -- What was done (Azure's `opType`); null for telemetry.
    operation     TEXT,
    -- The device, or the job.
    subject       TEXT NOT NULL,
    -- Of a message: by what its sender proved itself, the identity it had, its properties as in its topic, its own id, and whether this
    -- sender has sent that id before.
    auth_method   TEXT,
    generation_id TEXT,
    properties    TEXT,
    message_id    TEXT,
    repeated      INTEGER NOT NULL DEFAULT 0,
    bytes         INTEGER NOT NULL,
    body          BLOB
) STRICT;

CREATE INDEX event_subject ON event (subject, id);
CREATE INDEX event_message ON event (subject, message_id) WHERE message_id IS NOT NULL;

-- One row: what `event` holds, kept in the transactions that change it.
CREATE TABLE event_total (
    rows  INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;

INSERT INTO event_total VALUES (0, 0);

CREATE TRIGGER event_added AFTER INSERT ON event BEGIN
    UPDATE event_total SET rows = rows + 1, bytes = bytes + NEW.bytes;
END;

CREATE TRIGGER event_dropped AFTER DELETE ON event BEGIN
    UPDATE event_total SET rows = rows - 1, bytes = bytes - OLD.bytes;
END;

INSERT INTO event (at, kind, subject, properties, bytes, body)
SELECT CAST(round(unixepoch(enqueued, 'subsec') * 1000) AS INTEGER) * 10000, 'telemetry', device_id, properties, bytes, body
FROM telemetry ORDER BY id;

DROP TABLE telemetry;
DROP TABLE telemetry_total;

-- Identities: a twin is made with its device, and is still there when the device is about to go. The etag is the twin's counter.
CREATE TRIGGER event_device_created AFTER INSERT ON twin BEGIN
    INSERT INTO event (at, kind, operation, subject, bytes, body)
    SELECT at, 'device', 'createDeviceIdentity', device_id, 64 + octet_length(body), CAST(body AS BLOB)
    FROM (
        SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 10000 AS at, device.device_id AS device_id, json_object(
            'deviceId', device.device_id, 'etag', NEW.etag, 'version', NEW.version, 'tags', json(NEW.tags),
            'properties', json_object(
                'desired', json_set(json(NEW.desired), '$."$metadata"', json(NEW.desired_metadata), '$."$version"', NEW.desired_version),
                'reported', json_set(json(NEW.reported), '$."$metadata"', json(NEW.reported_metadata), '$."$version"', NEW.reported_version)
            )
        ) AS body
        FROM device WHERE device.id = NEW.id
    );
END;

CREATE TRIGGER event_device_deleted BEFORE DELETE ON device BEGIN
    -- Its connection ends with it, and finds no device any more to say so of.
    INSERT INTO event (at, kind, operation, subject, bytes, body)
    SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 10000, 'connection', 'deviceDisconnected', OLD.device_id, 96,
        CAST('the device was deleted' AS BLOB)
    WHERE OLD.connection_state = 'Connected';
    INSERT INTO event (at, kind, operation, subject, bytes, body)
    SELECT at, 'device', 'deleteDeviceIdentity', OLD.device_id, 64 + octet_length(body), CAST(body AS BLOB)
    FROM (
        SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 10000 AS at, json_object(
            'deviceId', OLD.device_id, 'etag', twin.etag, 'version', twin.version, 'tags', json(twin.tags),
            'properties', json_object(
                'desired', json_set(json(twin.desired), '$."$metadata"', json(twin.desired_metadata), '$."$version"', twin.desired_version),
                'reported', json_set(json(twin.reported), '$."$metadata"', json(twin.reported_metadata), '$."$version"', twin.reported_version)
            )
        ) AS body
        FROM twin WHERE twin.id = OLD.id
    );
END;

-- Jobs: each change of status, and how far a job has come, four times a second at most.
CREATE TRIGGER event_job_created AFTER INSERT ON job BEGIN
    INSERT INTO event (at, kind, operation, subject, bytes, body)
    SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 10000, 'job', 'jobQueued', NEW.job_id, 64 + octet_length(body), CAST(body AS BLOB)
    FROM (SELECT json_object('jobId', NEW.job_id, 'type', NEW.type, 'status', NEW.status) AS body);
END;

CREATE TRIGGER event_job_changed AFTER UPDATE OF
    status, device_count, pending_count, running_count, succeeded_count, failed_count ON job
WHEN NEW.status IS NOT OLD.status
  OR (
    (NEW.pending_count, NEW.running_count, NEW.succeeded_count, NEW.failed_count)
        IS NOT (OLD.pending_count, OLD.running_count, OLD.succeeded_count, OLD.failed_count)
    AND coalesce((SELECT at FROM event WHERE subject = NEW.job_id AND kind = 'job' ORDER BY id DESC LIMIT 1), 0)
        NOT BETWEEN unixepoch('subsec') * 10000000 - 2500000 AND unixepoch('subsec') * 10000000
  )
BEGIN
    INSERT INTO event (at, kind, operation, subject, bytes, body)
    SELECT
        CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 10000, 'job',
        iif(NEW.status IS OLD.status, 'jobProgress', 'job' || upper(substr(NEW.status, 1, 1)) || substr(NEW.status, 2)),
        NEW.job_id, 64 + octet_length(body), CAST(body AS BLOB)
    FROM (
        SELECT json_object(
            'jobId', NEW.job_id, 'type', NEW.type, 'status', NEW.status, 'failureReason', NEW.failure_reason,
            'deviceJobStatistics', json_object(
                'deviceCount', NEW.device_count, 'pendingCount', NEW.pending_count, 'runningCount', NEW.running_count,
                'succeededCount', NEW.succeeded_count, 'failedCount', NEW.failed_count
            )
        ) AS body
    );
END;
