-- Of the newest executions those changed since then, less an overlap in seconds; one row without an id if there are none.
-- `since` null means now. No payloads.
SELECT e.id, e.workflow_id, e.status, e.started_at, e.completed_at, left(e.error, 200) AS error, e.triggered_by,
       e.github_run_id, e.created_at, e.title, e.labels, e.cost_nanos, e.unpriced_calls, e.updated_at,
       (SELECT d.definition ->> 'name' FROM workflow_definitions d WHERE d.hash = e.definition_hash) AS workflow_name,
       n.read_at
  FROM (SELECT now() AS read_at) n
  LEFT JOIN (SELECT * FROM workflow_executions ORDER BY created_at DESC, id DESC LIMIT %(limit)s::integer) e
    ON e.updated_at >= least(coalesce(%(since)s::timestamptz, now()), now()) - %(overlap)s::double precision * interval '1 second'
