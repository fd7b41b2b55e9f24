SELECT step_id, attempt FROM take_steps(%(limit)s::integer)
