-- The executions asked for, each with its steps changed since then, less an overlap in seconds: a row per step, or one row
-- if none changed. `since` null means now; a step that nothing has happened to is no change. No payloads.
WITH asked AS MATERIALIZED (
  SELECT w.id, w.steps, least(coalesce(w.since, now()), now()) - w.overlap * interval '1 second' AS since
    FROM unnest(%(ids)s::uuid[], %(since)s::timestamptz[], %(overlap)s::double precision[], %(steps)s::boolean[])
         w(id, since, overlap, steps)
), named AS MATERIALIZED (
  SELECT d.hash, d.definition ->> 'name' AS name FROM workflow_definitions d
   WHERE d.hash IN (SELECT e.definition_hash FROM asked a JOIN workflow_executions e ON e.id = a.id))
SELECT e.id, e.workflow_id, e.status, e.started_at, e.completed_at, left(e.error, 200) AS error, e.triggered_by,
       e.github_run_id, e.created_at, e.title, e.labels, e.cost_nanos, e.unpriced_calls, e.updated_at,
       (SELECT n.name FROM named n WHERE n.hash = e.definition_hash) AS workflow_name,
       s.id AS step_id, s.step_name, s.step_index, s.status AS step_status, s.started_at AS step_started_at,
       s.completed_at AS step_completed_at, s.duration_ms, left(s.error, 1000) AS step_error, s.error_kind, s.retry_count,
       s.cost_nanos AS step_cost_nanos, s.unpriced_calls AS step_unpriced_calls,
       s.tool, s.attempt, s.next_run_at, s.claimed_at, s.updated_at AS step_updated_at, now() AS read_at,
       coalesce(s.status = 'pending' AND s.needs_left = 0 AND s.next_run_at <= now() AND e.status = 'running', false) AS awaits_claim
  FROM asked a
  JOIN workflow_executions e ON e.id = a.id
  LEFT JOIN LATERAL (
    SELECT * FROM workflow_steps c
     WHERE a.steps AND c.execution_id = a.id AND c.updated_at >= a.since AND c.updated_at > c.created_at
     ORDER BY c.updated_at DESC LIMIT %(limit)s::integer) s ON true
