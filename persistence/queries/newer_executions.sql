-- The page of executions before a position: page_executions.sql the other way round, oldest first.
SELECT e.id, e.workflow_id, e.status, e.started_at, e.completed_at, left(e.error, 200) AS error, e.triggered_by,
       e.github_run_id, e.created_at, e.title, e.labels, e.cost_nanos, e.unpriced_calls,
       (SELECT d.name FROM workflow_definitions d WHERE d.hash = e.definition_hash) AS workflow_name
  FROM workflow_executions e
 WHERE (%(ids)s::uuid[] IS NULL OR e.id = ANY (%(ids)s::uuid[]))
   AND (%(status)s::text IS NULL OR e.status = %(status)s)
   AND (%(statuses)s::text[] IS NULL OR e.status = ANY (%(statuses)s))
   AND (%(workflow_ids)s::uuid[] IS NULL OR e.workflow_id = ANY (%(workflow_ids)s))
   AND (%(triggered_by)s::text IS NULL OR e.triggered_by = %(triggered_by)s)
   AND (%(labels)s::jsonb IS NULL OR (e.labels @> %(labels)s AND e.labels <> '{}'))
   AND (%(since)s::timestamptz IS NULL OR e.created_at >= %(since)s)
   AND (%(until)s::timestamptz IS NULL OR e.created_at < %(until)s)
   AND (%(text)s::text IS NULL OR e.title ILIKE %(text)s OR e.error ILIKE %(text)s OR e.triggered_by ILIKE %(text)s)
   AND (e.created_at, e.id) > (%(at)s::timestamptz, %(id)s::uuid)
 ORDER BY e.created_at, e.id
 LIMIT %(limit)s::integer
