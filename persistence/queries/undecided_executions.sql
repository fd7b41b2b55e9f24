-- Executions with a step that waits for a decision, as undecided_steps.sql tells it; by their ids downwards: of ours, the newest
-- first. Of the newest `candidates` steps whose outcome nobody knows; `cut`: there are more of those.
WITH candidates AS MATERIALIZED (
  SELECT c.execution_id, c.step_index, c.step_name, coalesce(c.completed_at, c.updated_at) AS failed_at
    FROM workflow_steps c
   WHERE c.error_kind = 'outcome_unknown' AND c.status = 'failed'
   ORDER BY c.execution_id DESC
   LIMIT %(candidates)s::integer + 1)
SELECT DISTINCT e.id, (SELECT count(*) FROM candidates) > %(candidates)s::integer AS cut
  FROM candidates s
  JOIN workflow_executions e ON e.id = s.execution_id
 WHERE e.definition_hash IS NOT NULL
   AND e.status IN ('paused', 'completed', 'failed', 'cancelled')
   AND NOT EXISTS (SELECT FROM workflow_events v
                    WHERE v.execution_id = e.id AND v.event = 'control' AND v.kind = 'decide'
                      AND v.detail ->> 'decision' = 'fail' AND v.detail ->> 'step' IN (s.step_name, s.step_index::text)
                      AND v.created_at > s.failed_at)
 ORDER BY e.id DESC
 LIMIT %(limit)s::integer
