-- Who changed or commanded what. A row is written before the call is done, and completed once, when its result is known; it is never
-- changed after that, and only ever deleted from the old end.
CREATE TABLE audit (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Microseconds since 1970, UTC.
    at        INTEGER NOT NULL,
    policy    TEXT NOT NULL,
    peer      TEXT NOT NULL,
    operation TEXT NOT NULL,
    target    TEXT NOT NULL,
    detail    TEXT,
    -- The HTTP status, and the name of the error if it is one. Null until it is known.
    status    INTEGER,
    error     TEXT
) STRICT;

CREATE TRIGGER audit_is_completed_once BEFORE UPDATE ON audit
WHEN OLD.status IS NOT NULL
  OR NEW.id IS NOT OLD.id OR NEW.at IS NOT OLD.at OR NEW.policy IS NOT OLD.policy OR NEW.peer IS NOT OLD.peer
  OR NEW.operation IS NOT OLD.operation OR NEW.target IS NOT OLD.target OR NEW.detail IS NOT OLD.detail
BEGIN
    SELECT RAISE(ABORT, 'an audit row is not changed');
END;
