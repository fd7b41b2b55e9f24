-- The steps in the outbox: those that wait for a worker, and those that are due later; of at most so many that are to be pushed
-- first, and as many that are to be pushed last. `more`: there are others between.
WITH first AS (SELECT s.id, s.next_run_at FROM workflow_steps s WHERE s.dispatch_after IS NOT NULL
                ORDER BY s.dispatch_after LIMIT %(limit)s::integer),
     last AS (SELECT s.id, s.next_run_at FROM workflow_steps s WHERE s.dispatch_after IS NOT NULL
               ORDER BY s.dispatch_after DESC LIMIT %(limit)s::integer)
SELECT count(*) FILTER (WHERE w.next_run_at <= now()) AS ready, count(*) FILTER (WHERE w.next_run_at > now()) AS delayed,
       extract(epoch FROM now() - min(w.next_run_at) FILTER (WHERE w.next_run_at <= now()))::double precision AS oldest_seconds,
       extract(epoch FROM min(w.next_run_at) FILTER (WHERE w.next_run_at > now()) - now())::double precision AS next_seconds,
       count(*) >= 2 * %(limit)s::integer AS more
  FROM (SELECT * FROM first UNION SELECT * FROM last) w
