-- A job that was stopped while it ran: nothing more is sent, and it ends `cancelled` when what was sent has ended.
ALTER TABLE job ADD COLUMN stopped INTEGER NOT NULL DEFAULT 0;
