-- The next ids of a table come after the ones that were put into it.
SELECT setval(pg_get_serial_sequence(%(table)s, 'id'), greatest(%(id)s::bigint, nextval(pg_get_serial_sequence(%(table)s, 'id'))))
