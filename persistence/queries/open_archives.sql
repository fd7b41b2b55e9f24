-- Runs that were interrupted, oldest first.
SELECT id, location, older_than, executions, created_at FROM workflow_archives WHERE finished_at IS NULL ORDER BY created_at
