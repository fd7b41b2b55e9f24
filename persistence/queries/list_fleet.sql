-- The processes that hold a lease, those heard last first, with the steps that each runs.
SELECT w.id, w.role, w.hostname, w.pid, w.threads, w.started_at, w.heartbeat_at,
       greatest(extract(epoch FROM now() - w.heartbeat_at), 0)::double precision AS silent_seconds, coalesce(r.running, 0) AS running
  FROM workers w
  LEFT JOIN (SELECT s.worker_id, count(*) AS running FROM workflow_steps s WHERE s.worker_id IS NOT NULL GROUP BY 1) r
    ON r.worker_id = w.id
 ORDER BY w.heartbeat_at DESC, w.id LIMIT %(limit)s::integer
