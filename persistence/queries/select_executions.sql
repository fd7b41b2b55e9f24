-- Executions by what they have in common, newest first: what a job works off. Parameters that are null do not filter.
SELECT e.id, e.created_at
  FROM workflow_executions e
 WHERE (%(ids)s::uuid[] IS NULL OR e.id = ANY (%(ids)s::uuid[]))
   AND (%(status)s::text IS NULL OR e.status = %(status)s)
   AND (%(statuses)s::text[] IS NULL OR e.status = ANY (%(statuses)s::text[]))
   AND (%(workflow_ids)s::uuid[] IS NULL OR e.workflow_id = ANY (%(workflow_ids)s::uuid[]))
   AND (%(triggered_by)s::text IS NULL OR e.triggered_by = %(triggered_by)s)
   AND (%(labels)s::jsonb IS NULL OR (e.labels @> %(labels)s::jsonb AND e.labels <> '{}'))
   AND (%(since)s::timestamptz IS NULL OR e.created_at >= %(since)s::timestamptz)
   AND (%(until)s::timestamptz IS NULL OR e.created_at < %(until)s::timestamptz)
   AND (%(at)s::timestamptz IS NULL OR (e.created_at, e.id) < (%(at)s, %(id)s::uuid))
 ORDER BY e.created_at DESC, e.id DESC
 LIMIT %(limit)s::integer
