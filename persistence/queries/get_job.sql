SELECT id, action, actor, reason, status, total, done, refused, created_at, updated_at
  FROM control_jobs
 WHERE id = %(id)s::uuid
