-- Of all processes that hold a lease, not only of those that are listed; and the steps that anybody runs.
SELECT count(*) FILTER (WHERE w.role = 'worker' AND w.heartbeat_at > now() - interval '30 seconds') AS alive,
       count(*) FILTER (WHERE w.heartbeat_at <= now() - interval '30 seconds') AS silent, count(*) AS listed,
       coalesce(sum(w.threads) FILTER (WHERE w.heartbeat_at > now() - interval '30 seconds'), 0)::bigint AS slots,
       (SELECT count(*) FROM (SELECT FROM workflow_steps s WHERE s.worker_id IS NOT NULL LIMIT %(limit)s::integer) x) AS running,
       (SELECT max(m.version) FROM afu9_migrations m) AS schema_version
  FROM workers w
