-- Which device a job found at its start: ids of rows are never given twice, names are.
ALTER TABLE device_job ADD COLUMN device INTEGER;
