-- The event of a deletion shows what of the twin can be shown.

DROP TRIGGER event_device_deleted;

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
            'deviceId', OLD.device_id, 'etag', twin.etag, 'version', twin.version,
            'tags', json(iif(json_valid(twin.tags, 8), twin.tags, '{}')),
            'properties', json_object(
                'desired', json_set(
                    json(iif(json_valid(twin.desired, 8), twin.desired, '{}')),
                    '$."$metadata"', json(iif(json_valid(twin.desired_metadata, 8), twin.desired_metadata, '{}')),
                    '$."$version"', twin.desired_version
                ),
                'reported', json_set(
                    json(iif(json_valid(twin.reported, 8), twin.reported, '{}')),
                    '$."$metadata"', json(iif(json_valid(twin.reported_metadata, 8), twin.reported_metadata, '{}')),
                    '$."$version"', twin.reported_version
                )
            )
        ) AS body
        FROM twin WHERE twin.id = OLD.id
    );
END;
