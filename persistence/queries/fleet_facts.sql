-- fleet_facts
-- Living workers and their slots; running steps that the reaper should have charged; steps of unknown outcome that nobody has
-- decided yet (1,000 at most); the newest migration.
SELECT alive.workers, alive.slots,
       (SELECT count(*) FROM workflow_steps s LEFT JOIN workers w ON w.id = s.worker_id
         WHERE s.worker_id IS NOT NULL AND s.status = 'running'
           AND (w.id IS NULL OR s.deadline_at < now()
                OR w.heartbeat_at < now() - %(lease)s::double precision * interval '1 second')) AS leases_expired,
       (SELECT count(*) FROM (
          SELECT FROM workflow_steps s JOIN workflow_executions e ON e.id = s.execution_id
           WHERE s.error_kind = 'outcome_unknown' AND s.status = 'failed' AND e.status <> 'cancelled'
             AND NOT EXISTS (SELECT FROM workflow_events v
                              WHERE v.execution_id = s.execution_id AND v.event = 'control' AND v.kind = 'decide'
                                AND v.detail ->> 'decision' = 'fail' AND v.created_at >= s.completed_at
                                AND v.detail ->> 'step' IN (s.step_name, s.step_index::text))
           LIMIT 1000) u) AS uncertain,
       (SELECT max(m.version) FROM afu9_migrations m) AS schema_version
  FROM (SELECT count(*) AS workers, coalesce(sum(w.threads), 0)::bigint AS slots FROM workers w
         WHERE w.role = 'worker' AND w.heartbeat_at > now() - %(lease)s::double precision * interval '1 second') alive
