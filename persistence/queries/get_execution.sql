SELECT id, workflow_id, status, input, output,
       CASE WHEN status IN ('pending', 'running', 'paused') AND definition_hash IS NOT NULL
            THEN execution_context(id) ELSE context END AS context,
       started_at, completed_at, error, triggered_by, github_run_id, created_at, updated_at, definition_hash, title,
       idempotency_key, continue_on_error, deadline_at, labels, paused_at, forked_from, max_cost_nanos,
       CASE WHEN composed.unpriced IS NULL THEN cost_nanos ELSE composed.cost END AS cost_nanos,
       coalesce(composed.unpriced, unpriced_calls) AS unpriced_calls,
       (SELECT d.definition ->> 'name' FROM workflow_definitions d WHERE d.hash = definition_hash) AS workflow_name
  FROM workflow_executions
  LEFT JOIN LATERAL execution_cost(id) AS composed(cost, unpriced, running)
    ON unpriced_calls IS NULL OR status NOT IN ('completed', 'failed', 'cancelled')
 WHERE id = %(id)s
