-- How far the events have been delivered to each webhook.

CREATE TABLE webhook (
    name TEXT PRIMARY KEY,
    -- The last event that was delivered or did not match.
    event INTEGER NOT NULL
) STRICT;
