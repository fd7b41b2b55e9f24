SELECT rolled_until, done, moved FROM roll_up(%(lag)s::double precision, %(seconds)s::integer)
