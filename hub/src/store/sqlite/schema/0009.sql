-- The reason that the caller gave.

ALTER TABLE audit ADD COLUMN reason TEXT;

DROP TRIGGER audit_is_completed_once;

CREATE TRIGGER audit_is_completed_once BEFORE UPDATE ON audit
WHEN OLD.status IS NOT NULL
  OR NEW.id IS NOT OLD.id OR NEW.at IS NOT OLD.at OR NEW.policy IS NOT OLD.policy OR NEW.peer IS NOT OLD.peer
  OR NEW.operation IS NOT OLD.operation OR NEW.target IS NOT OLD.target OR NEW.detail IS NOT OLD.detail
  OR NEW.reason IS NOT OLD.reason
BEGIN
    SELECT RAISE(ABORT, 'an audit row is not changed');
END;
