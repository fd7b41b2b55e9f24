-- Executions with a step of which nobody knows whether its call took place, by their ids downwards: of ours, newest first.
SELECT DISTINCT s.execution_id AS id
  FROM workflow_steps s
 WHERE s.error_kind = 'outcome_unknown' AND s.status = 'failed'
 ORDER BY s.execution_id DESC
 LIMIT %(limit)s::integer
