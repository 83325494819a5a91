-- The web page: sessions of policies that only read, which survive a restart, and plans of floors.

CREATE TABLE page_session (
    -- SHA-256 of the secrets.
    cookie BLOB PRIMARY KEY,
    token BLOB NOT NULL,
    policy TEXT NOT NULL,
    -- SHA-256 of the key with which it was begun.
    key BLOB NOT NULL,
    -- Seconds since 1970.
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE plan (
    id TEXT PRIMARY KEY,
    -- The media type.
    type TEXT NOT NULL,
    -- SHA-256 of the image in hexadecimal digits.
    etag TEXT NOT NULL,
    image BLOB NOT NULL
) STRICT;
