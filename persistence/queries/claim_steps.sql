SELECT step_id, attempt, execution_id, step_index, definition_hash, scope, retries_so_far, override, max_cost_nanos
  FROM claim_steps(%(step_ids)s::uuid[], %(attempts)s::integer[], %(worker_id)s::uuid, %(timeout_ms)s::integer)
