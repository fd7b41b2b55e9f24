-- fleet_facts
-- Living workers and their slots; running steps that the reaper should have charged; the newest migration.
SELECT alive.workers, alive.slots,
       (SELECT count(*) FROM workflow_steps s LEFT JOIN workers w ON w.id = s.worker_id
         WHERE s.worker_id IS NOT NULL AND s.status = 'running'
           AND (w.id IS NULL OR s.deadline_at < now()
                OR w.heartbeat_at < now() - %(lease)s::double precision * interval '1 second')) AS leases_expired,
       (SELECT max(m.version) FROM afu9_migrations m) AS schema_version
  FROM (SELECT count(*) AS workers, coalesce(sum(w.threads), 0)::bigint AS slots FROM workers w
         WHERE w.role = 'worker' AND w.heartbeat_at > now() - %(lease)s::double precision * interval '1 second') alive
