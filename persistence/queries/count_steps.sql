-- How far executions have come: `total`, and how many steps are done and failed, unless they are more than `limit`.
SELECT i.id, t.total,
       CASE WHEN t.total <= %(limit)s::integer THEN c.done END AS done,
       CASE WHEN t.total <= %(limit)s::integer THEN c.failed END AS failed
  FROM unnest(%(ids)s::uuid[]) AS i(id)
 CROSS JOIN LATERAL (SELECT coalesce(max(s.step_index) + 1, 0) AS total FROM workflow_steps s WHERE s.execution_id = i.id) t
 CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE l.status IN ('completed', 'skipped')) AS done,
                            count(*) FILTER (WHERE l.status = 'failed') AS failed
                       FROM (SELECT s.status FROM workflow_steps s
                              WHERE s.execution_id = i.id AND t.total <= %(limit)s::integer) l) c
