SELECT step_id, attempt, reason, step_status, execution_id, execution_status, ready_steps, ready_attempts
  FROM reap_steps(%(silence)s::double precision, %(max_lost)s::integer, %(limit)s::integer)
