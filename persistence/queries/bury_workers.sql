SELECT worker_id FROM bury_workers(%(silence)s::double precision)
