SELECT id, action, actor, reason, status, total, done, refused, failed, errors, cancelled_by, cancel_reason, created_at, updated_at
  FROM control_jobs
 WHERE id = %(id)s::uuid
