-- Executions at rest that ended before %(older_than)s, oldest first, after the given one; with what tells whether they change.
SELECT e.id, e.completed_at, e.status, v.version, v.row_count, v.active_at, v.held OR is_wanted(e.id, e.status) AS wanted
  FROM (SELECT c.id, c.completed_at, c.status FROM workflow_executions c
         WHERE c.completed_at < %(older_than)s::timestamptz AND c.status IN ('completed', 'failed', 'cancelled')
           AND c.completed_at >= %(after_at)s::timestamptz  -- bounds the index, whatever the planner knows of the time
           AND (c.completed_at, c.id) > (%(after_at)s::timestamptz, %(after_id)s::uuid)
         ORDER BY c.completed_at, c.id LIMIT %(limit)s::integer) e, execution_version(e.id) v
 ORDER BY e.completed_at, e.id
