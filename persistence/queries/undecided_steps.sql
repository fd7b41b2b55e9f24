-- Steps whose outcome nobody knows and of which a person can still say what it was, newest execution first: their execution
-- rests or is paused, and nobody has decided yet that they failed. Of the newest `candidates` such steps.
SELECT e.id, e.title, e.status, d.name AS workflow_name, s.step_index, s.step_name, s.tool, left(s.error, 300) AS error,
       coalesce(s.completed_at, s.updated_at) AS failed_at
  FROM (SELECT c.* FROM workflow_steps c WHERE c.error_kind = 'outcome_unknown'
         ORDER BY c.execution_id DESC LIMIT %(candidates)s::integer) s
  JOIN workflow_executions e ON e.id = s.execution_id
  JOIN workflow_definitions d ON d.hash = e.definition_hash
 WHERE s.status = 'failed' AND e.status IN ('paused', 'completed', 'failed', 'cancelled')
   AND NOT EXISTS (SELECT FROM workflow_events v
                    WHERE v.execution_id = e.id AND v.event = 'control' AND v.kind = 'decide'
                      AND v.detail ->> 'decision' = 'fail' AND v.detail ->> 'step' IN (s.step_name, s.step_index::text)
                      AND v.created_at > coalesce(s.completed_at, s.updated_at))
 ORDER BY e.id DESC, s.step_index
 LIMIT %(limit)s::integer
