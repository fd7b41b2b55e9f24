SELECT step_id, attempt, dispatch_count FROM dispatch_steps(%(limit)s::integer)
