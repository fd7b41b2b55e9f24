-- An execution and its steps without payloads, in one reading, so that they agree: a row per step by its index, or one row
-- without a step. What is the execution's own begins with e_.
SELECT e.id AS e_id, e.workflow_id AS e_workflow_id, e.status AS e_status, e.title AS e_title, e.error AS e_error,
       e.created_at AS e_created_at, e.started_at AS e_started_at, e.completed_at AS e_completed_at,
       e.triggered_by AS e_triggered_by, e.definition_hash AS e_definition_hash, e.labels AS e_labels,
       e.paused_at AS e_paused_at, e.forked_from AS e_forked_from, e.max_cost_nanos AS e_max_cost_nanos,
       CASE WHEN composed.unpriced IS NULL THEN e.cost_nanos ELSE composed.cost END AS e_cost_nanos,
       coalesce(composed.unpriced, e.unpriced_calls) AS e_unpriced_calls, d.name AS e_workflow_name, now() AS e_now,
       s.id, s.step_name, s.step_index, s.status, s.tool, s.assign, s.started_at, s.completed_at, s.duration_ms, s.error,
       s.error_kind, s.retry_count, s.attempt, s.max_retries, s.next_run_at, s.claimed_at, s.created_at, s.successors,
       s.needs_left, s.lost_count, s.released_count, s.reused_from, s.retries_before, s.cost_nanos, s.unpriced_calls,
       s.override IS NOT NULL AS overridden
  FROM workflow_executions e
  LEFT JOIN workflow_definitions d ON d.hash = e.definition_hash
  LEFT JOIN LATERAL execution_cost(e.id) AS composed(cost, unpriced, running)
    ON e.unpriced_calls IS NULL OR e.status NOT IN ('completed', 'failed', 'cancelled')
  LEFT JOIN workflow_steps s ON s.execution_id = e.id
 WHERE e.id = %(id)s
 ORDER BY s.step_index
