SELECT recorded, given_up
  FROM fail_for_job(%(job)s::uuid, %(execution_id)s::uuid, %(created_at)s::timestamptz, %(error)s, %(tries)s::integer, %(lease)s)
