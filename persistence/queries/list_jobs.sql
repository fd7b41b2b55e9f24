-- One page of jobs, newest first.
SELECT id, action, actor, reason, status, total, done, refused, failed, cancelled_by, cancel_reason, created_at, updated_at
  FROM control_jobs
 WHERE (%(status)s::text IS NULL OR status = %(status)s)
   AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(id)s::uuid))
 ORDER BY created_at DESC, id DESC
 LIMIT %(limit)s::integer
