-- active_executions
-- Executions that are not at their end, by workflow and status, the most first; of each status the oldest `limit`.
SELECT coalesce(d.name, '') AS workflow, a.status, count(*) AS executions
  FROM ((SELECT e.definition_hash, e.status FROM workflow_executions e
          WHERE e.status = 'pending' ORDER BY e.created_at, e.id LIMIT %(limit)s::integer)
         UNION ALL
        (SELECT e.definition_hash, e.status FROM workflow_executions e
          WHERE e.status = 'running' ORDER BY e.created_at, e.id LIMIT %(limit)s::integer)
         UNION ALL
        (SELECT e.definition_hash, e.status FROM workflow_executions e
          WHERE e.status = 'paused' ORDER BY e.created_at, e.id LIMIT %(limit)s::integer)) a
  LEFT JOIN workflow_definitions d ON d.hash = a.definition_hash
 GROUP BY 1, 2 ORDER BY 3 DESC
