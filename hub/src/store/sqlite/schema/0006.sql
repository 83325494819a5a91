-- The number of the last group transaction. After its commit it is written into hub.group, too: a
-- database whose number is lower than that of the file has lost something.
CREATE TABLE last_group (
    number INTEGER NOT NULL
) STRICT;

INSERT INTO last_group VALUES (0);
