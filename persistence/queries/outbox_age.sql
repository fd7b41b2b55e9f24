-- Seconds by which the oldest step to be dispatched is overdue; 0 when none is.
SELECT greatest(coalesce(extract(epoch FROM now() - min(s.dispatch_after)), 0), 0)::double precision AS seconds
  FROM workflow_steps s WHERE s.dispatch_after IS NOT NULL
