-- Of the executions that select_executions.sql finds, at most `limit`: how many, and how many are ours and in one of the
-- statuses `takes`.
SELECT count(*) AS found, count(*) FILTER (WHERE f.ours AND f.status = ANY (%(takes)s::text[])) AS takes
  FROM (
SELECT e.status, e.definition_hash IS NOT NULL AS ours
  FROM workflow_executions e
 WHERE (%(ids)s::uuid[] IS NULL OR e.id = ANY (%(ids)s::uuid[]))
   AND (%(status)s::text IS NULL OR e.status = %(status)s)
   AND (%(statuses)s::text[] IS NULL OR e.status = ANY (%(statuses)s::text[]))
   AND (%(workflow_ids)s::uuid[] IS NULL OR e.workflow_id = ANY (%(workflow_ids)s::uuid[]))
   AND (%(triggered_by)s::text IS NULL OR e.triggered_by = %(triggered_by)s)
   AND (%(labels)s::jsonb IS NULL OR (e.labels @> %(labels)s::jsonb AND e.labels <> '{}'))
   AND (%(since)s::timestamptz IS NULL OR e.created_at >= %(since)s::timestamptz)
   AND (%(until)s::timestamptz IS NULL OR e.created_at < %(until)s::timestamptz)
 LIMIT %(limit)s::integer) f
