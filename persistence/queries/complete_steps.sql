SELECT step_id, execution_id, execution_status, ready_steps, ready_attempts,
       next_step, next_index, next_attempt, definition_hash, scope, retries_so_far, override, max_cost_nanos
  FROM complete_steps(%(records)s::jsonb, %(worker_id)s::uuid, %(timeout_ms)s::integer, %(again)s::boolean)
