SELECT leave_job(%(id)s::uuid, %(completed)s)
