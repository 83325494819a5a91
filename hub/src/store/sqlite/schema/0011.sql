-- The model that the sender of a message had announced when it connected.

ALTER TABLE event ADD COLUMN model_id TEXT;
