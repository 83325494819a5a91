-- What limits a policy beside its rights, as its JSON document; null: nothing.

ALTER TABLE policy ADD COLUMN bounds TEXT;

-- The policy that created a job, and a copy of its bounds then. A job of before has no policy.

ALTER TABLE job ADD COLUMN policy TEXT;
ALTER TABLE job ADD COLUMN bounds TEXT;
