SELECT id, action, ids, filter, cursor_at, cursor_id
  FROM claim_job(%(lease)s)
