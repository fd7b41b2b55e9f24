-- What the span of an execution that ended tells: from when, what it was made of, and how often a person let it go on after an end.
SELECT e.created_at, e.forked_from, e.cost_nanos, again.times::integer AS again, again.newest AS again_at
  FROM workflow_executions e,
       LATERAL (SELECT count(*) AS times, max(v.created_at) AS newest FROM workflow_events v
                 WHERE v.execution_id = e.id AND v.event = 'control'
                   AND v.detail ->> 'from' IN ('completed', 'failed', 'cancelled')) again
 WHERE e.id = %(id)s
