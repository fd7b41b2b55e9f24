SELECT redispatch_steps(%(limit)s::integer) AS count
