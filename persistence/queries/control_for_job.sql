SELECT recorded, done, ready_steps, ready_attempts
  FROM control_for_job(%(job)s::uuid, %(execution_id)s::uuid, %(created_at)s::timestamptz, %(lease)s)
