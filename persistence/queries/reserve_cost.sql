SELECT admitted, spent_nanos, max_nanos
  FROM reserve_cost(%(step_id)s::uuid, %(attempt)s::integer, %(nanos)s::bigint)
