-- What goes on now, each counted up to `limit` in the order of an index: the cost does not grow with the table.
SELECT (SELECT count(*) FROM (SELECT FROM workflow_executions e WHERE e.status = 'pending'
                               ORDER BY e.created_at DESC, e.id DESC LIMIT %(limit)s::integer) p) AS pending,
       (SELECT count(*) FROM (SELECT FROM workflow_executions e WHERE e.status = 'running'
                               ORDER BY e.created_at DESC, e.id DESC LIMIT %(limit)s::integer) r) AS running,
       (SELECT count(*) FROM (SELECT FROM workflow_executions e WHERE e.status = 'paused'
                               ORDER BY e.created_at DESC, e.id DESC LIMIT %(limit)s::integer) w) AS paused,
       (SELECT count(*) FROM (SELECT FROM workflow_executions e
                               WHERE e.status = 'failed' AND e.created_at >= now() - interval '24 hours'
                               ORDER BY e.created_at DESC, e.id DESC LIMIT %(limit)s::integer) f) AS failed
