SELECT done, job_status
  FROM cancel_job(%(id)s::uuid, %(actor)s, %(reason)s)
