SELECT renew_lease(%(worker_id)s::uuid, %(role)s, %(hostname)s, %(pid)s::integer, %(threads)s::integer) AS stopped
