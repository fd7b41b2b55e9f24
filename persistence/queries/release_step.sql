SELECT recorded, step_status, execution_id, execution_status, ready_steps, ready_attempts,
       CASE WHEN recorded AND %(unpriced)s::boolean THEN count_unpriced(%(step_id)s::uuid) END AS counted
  FROM release_step(%(step_id)s::uuid, %(attempt)s::integer, %(reason)s)
